//! What operators ask of a running proxy: by signals, and at the admin console.

use std::time::Duration;

use proxy::console::Shutdown;
use proxy::operations::Request;
use proxy::worker::Shared;

use crate::terminal::Signals;

/// How often a proxy that waits for its clients counts them.
const COUNT_EVERY: Duration = Duration::from_millis(20);

/// Does what is asked until the process is to end, and says how.
pub async fn run(shared: &Shared, signals: &mut Signals) -> Shutdown {
    let mut requests = shared.operations.take_requests();
    loop {
        let request = async {
            match &mut requests {
                Some(requests) => requests.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = signals.next() => return Shutdown::WaitForServers,
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
