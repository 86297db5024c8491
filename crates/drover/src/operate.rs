//! What a running proxy is asked: by signals, at the admin console, and by the proxy that replaces it.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use proxy::console::Shutdown;
use proxy::operations::Request;
use proxy::reload::ReloadError;
use proxy::worker::Shared;
use tokio::sync::mpsc;

use crate::handover::Replaced;
use crate::serve::Serving;
use crate::systemd::Notify;
use crate::terminal::{Event, Signals, say};

/// How often a proxy that waits for its clients counts them.
const COUNT_EVERY: Duration = Duration::from_millis(20);

/// Why the proxy is to end.
pub enum End {
    /// It was told to.
    Told(Shutdown),
    /// Another process serves clients now.
    Replaced(Replaced),
}

/// Does what is asked until the process is to end.
pub async fn run(
    shared: &Arc<Shared>,
    notify: &Notify,
    signals: &mut Signals,
    events: &mut mpsc::UnboundedReceiver<Replaced>,
) -> End {
    let mut requests = shared.operations.take_requests();
    loop {
        let request = async {
            match &mut requests {
                Some(requests) => requests.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = signals.next_event() => match event {
                Event::End => return End::Told(Shutdown::WaitForServers),
                Event::Reload => {
                    notify.reloading();
                    reload(Arc::clone(shared)).await;
                    notify.ready();
                }
            },
            request = request => match request {
                Some(Request::Shutdown(how)) => return End::Told(how),
                None => requests = None,
            },
            replaced = next(events) => return End::Replaced(replaced),
        }
    }
}

/// Waits until no client is left, `patience` is over (zero: never), or a signal comes.
pub async fn drain(serving: &Serving, patience: Duration, signals: &mut Signals) {
    let shared = serving.shared();
    let gone = async {
        while shared.ordinary_clients() > 0 {
            tokio::time::sleep(COUNT_EVERY).await;
        }
    };
    let over = async {
        if patience.is_zero() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(patience).await;
    };
    tokio::select! {
        () = gone => {}
        () = over => say!("clients are left after {} s", patience.as_secs()),
        () = signals.next() => {}
    }
}

/// The proxy that replaces this one; never, once nobody can.
async fn next(events: &mut mpsc::UnboundedReceiver<Replaced>) -> Replaced {
    match events.recv().await {
        Some(replaced) => replaced,
        None => std::future::pending().await,
    }
}

/// What came of it is in the log; what is wrong also on standard error, as at the start.
async fn reload(shared: Arc<Shared>) {
    match tokio::task::spawn_blocking(move || shared.reload()).await {
        Ok(Ok(report)) => {
            say!("configuration reloaded");
            for option in report.needs_restart {
                say!("{option}: the change needs a restart");
            }
            for warning in report.warnings {
                say!("warning: {warning}");
            }
        }
        Ok(Err(ReloadError::Wrong(problems))) => {
            let lines: String = problems.iter().map(|line| format!("{line}\n")).collect();
            let _ = io::stderr().write_all(lines.as_bytes());
            say!("the configuration was not reloaded");
        }
        Ok(Err(error)) => say!("{error}"),
        Err(_) => say!("the reload was interrupted"),
    }
}
