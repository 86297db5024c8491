//! Commands that change something.

use std::sync::Arc;

use super::Failed;
use super::command::Command;
use crate::operations::Refused;
use crate::worker::Shared;

/// Does it; the result is the command's tag.
pub(super) async fn run(shared: &Arc<Shared>, command: Command) -> Result<&'static str, Failed> {
    match command {
        Command::Reload => {
            let reloading = Arc::clone(shared);
            // It reads files.
            let result = tokio::task::spawn_blocking(move || reloading.reload()).await;
            match result {
                Ok(Ok(_)) => Ok("RELOAD"),
                Ok(Err(error)) => Err(Failed::new("F0000", error.to_string())),
                Err(_) => Err(Failed::new("XX000", "the reload failed")),
            }
        }
        Command::Shutdown(how) => {
            shared.operations.shutdown(how).map_err(refused)?;
            Ok("SHUTDOWN")
        }
        other => Err(Failed::new("0A000", format!("not supported: {other:?}"))),
    }
}

fn refused(refused: Refused) -> Failed {
    let code = match refused {
        Refused::NotHere => "0A000",
        Refused::TooMany => "53000",
    };
    Failed::new(code, refused.to_string())
}
