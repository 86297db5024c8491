//! What the commands say on standard error, and the signals that end them.

use std::error::Error;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A line on standard error. That it cannot be written (the terminal was closed, say) must not end a
/// cluster, and `eprintln!` would panic.
macro_rules! say {
    ($($argument:tt)*) => {{
        let text = format!($($argument)*);
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("drover: {text}\n"));
    }};
}
pub(crate) use say;

/// What a signal asks a proxy for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// To end (SIGINT, SIGTERM).
    End,
    /// To read its configuration again (SIGHUP).
    Reload,
}

/// The signals that end Drover. SIGHUP comes when the terminal is closed.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// From here on signals no longer end the process by themselves.
    pub fn new() -> io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one, for a command that reads its configuration again when the terminal's signal comes.
    pub async fn next_event(&mut self) -> Event {
        tokio::select! {
            _ = self.interrupt.recv() => Event::End,
            _ = self.terminate.recv() => Event::End,
            _ = self.hangup.recv() => Event::Reload,
        }
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => (),
            _ = self.terminate.recv() => (),
            _ = self.hangup.recv() => (),
        }
    }
}

/// An error with its causes.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
