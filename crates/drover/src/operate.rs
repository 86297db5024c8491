//! What operators ask of a running proxy: by signals, and at the admin console.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use proxy::console::Shutdown;
use proxy::operations::Request;
use proxy::reload::ReloadError;
use proxy::worker::Shared;

use crate::terminal::{Event, Signals, say};

/// How often a proxy that waits for its clients counts them.
const COUNT_EVERY: Duration = Duration::from_millis(20);

/// Does what is asked until the process is to end, and says how.
pub async fn run(shared: &Arc<Shared>, signals: &mut Signals) -> Shutdown {
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
                Event::End => return Shutdown::WaitForServers,
                Event::Reload => reload(Arc::clone(shared)).await,
            },
            request = request => match request {
                Some(Request::Shutdown(how)) => return how,
                None => requests = None,
            }
        }
    }
}

/// Waits until the last client, operators aside, has gone.
pub async fn clients_gone(shared: &Shared) {
    while shared.ordinary_clients() > 0 {
        tokio::time::sleep(COUNT_EVERY).await;
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
