//! A thread that is started when there is something for it to do, and ends when its owner is gone.

use std::future::Future;
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The way to the thread.
pub(super) struct Thread<J> {
    sender: Mutex<Option<UnboundedSender<J>>>,
}

impl<J> Default for Thread<J> {
    fn default() -> Self {
        Self {
            sender: Mutex::default(),
        }
    }
}

impl<J: Send + 'static> Thread<J> {
    /// Sends a job; `serve` is the thread's life, for when it does not run yet. Gives the job back if there is no thread
    /// to be had.
    pub(super) fn send<F: Future<Output = ()>>(
        &self,
        job: J,
        serve: impl FnOnce(UnboundedReceiver<J>) -> F + Send + 'static,
    ) -> Result<(), J> {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let job = match sender.as_ref() {
            Some(running) => match running.send(job) {
                Ok(()) => return Ok(()),
                Err(unsent) => unsent.0,
            },
            None => job,
        };
        let (new, jobs) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let started = runtime.and_then(|runtime| {
            std::thread::Builder::new()
                .name("auth".to_owned())
                .spawn(move || runtime.block_on(serve(jobs)))
        });
        match started {
            Ok(_) => {
                let sent = new.send(job).map_err(|unsent| unsent.0);
                *sender = Some(new);
                sent
            }
            Err(error) => {
                tracing::error!(%error, "no thread to look users up on");
                Err(job)
            }
        }
    }
}
