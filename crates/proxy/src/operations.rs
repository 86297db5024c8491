//! What operators ask of the process a proxy runs in: to end it. The proxy itself cannot; whoever started it takes the
//! requests from here.

use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::console::Shutdown;

/// Requests waiting at once; one more is refused.
const REQUESTS_MAX: usize = 16;

/// What is asked for.
#[derive(Debug)]
pub enum Request {
    /// End the process.
    Shutdown(Shutdown),
}

/// Why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody takes requests: this proxy is part of another program, or is ending.
    #[error("this proxy is not run by a process that takes such commands")]
    NotHere,
    /// Many requests wait already.
    #[error("too many commands at once")]
    TooMany,
}

/// The requests of one proxy.
#[derive(Debug)]
pub struct Operations {
    sender: mpsc::Sender<Request>,
    receiver: Mutex<Option<mpsc::Receiver<Request>>>,
}

impl Default for Operations {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
        }
    }
}

impl Operations {
    /// The requests, for the one who will act on them; `None` when somebody has taken them.
    pub fn take_requests(&self) -> Option<mpsc::Receiver<Request>> {
        self.receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Asks for the end of the process.
    pub fn shutdown(&self, how: Shutdown) -> Result<(), Refused> {
        self.ask(Request::Shutdown(how))
    }

    fn ask(&self, request: Request) -> Result<(), Refused> {
        let taken = self
            .receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none();
        if !taken {
            return Err(Refused::NotHere);
        }
        self.sender.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::TooMany,
            mpsc::error::TrySendError::Closed(_) => Refused::NotHere,
        })
    }
}
