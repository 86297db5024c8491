//! Commands that change something.

use std::sync::Arc;
use std::time::Duration;

use super::Failed;
use super::command::Command;
use super::options;
use crate::admin_api::{PoolAdmin, PoolCommandError};
use crate::operations::Refused;
use crate::worker::Shared;

/// The longest PAUSE and WAIT_CLOSE wait; a pause stays in force afterwards.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Does it; the result is the command's tag.
pub(super) async fn run(shared: &Arc<Shared>, command: Command) -> Result<&'static str, Failed> {
    let pools = PoolAdmin::new(Arc::clone(shared));
    match command {
        Command::Reload => reload(shared).await,
        Command::Shutdown(how) => {
            shared.operations.shutdown(how).map_err(|error| refused(&error))?;
            Ok("SHUTDOWN")
        }
        Command::Pause(database) => {
            pools
                .pause(database.as_deref(), PATIENCE)
                .await
                .map_err(|error| failed(&error))?;
            Ok("PAUSE")
        }
        Command::Resume(database) => resume(shared, &pools, database.as_deref()),
        Command::PauseShard(shard) => {
            let paused = pools.pause_shard(&shard, PATIENCE).await;
            paused.map_err(|error| failed(&error))?;
            Ok("PAUSE")
        }
        Command::ResumeShard(shard) => {
            let resumed = pools.resume_shard(&shard).await;
            resumed.map_err(|error| failed(&error))?;
            Ok("RESUME")
        }
        Command::ChoosePrimary { shard, server } => {
            let chosen = pools.choose_primary(&shard, &server).await;
            chosen.map_err(|error| failed(&error))?;
            Ok("CHOOSE_PRIMARY")
        }
        Command::Kill(database) => {
            pools.kill(database.as_deref()).map_err(|error| failed(&error))?;
            Ok("KILL")
        }
        Command::Reconnect(database) => {
            pools
                .reconnect(database.as_deref())
                .map_err(|error| failed(&error))?;
            Ok("RECONNECT")
        }
        Command::WaitClose(database) => {
            let closing = pools.wait_close(database.as_deref(), PATIENCE);
            closing.await.map_err(|error| failed(&error))?;
            Ok("WAIT_CLOSE")
        }
        Command::Enable(database) => {
            pools.enable(&database).map_err(|error| failed(&error))?;
            Ok("ENABLE")
        }
        Command::Disable(database) => {
            pools.disable(&database).map_err(|error| failed(&error))?;
            Ok("DISABLE")
        }
        Command::KillClient(id) => kill_client(shared, &id),
        Command::Suspend => suspend(shared, &pools).await,
        Command::Set { key, value } => {
            options::set(shared, &key, &value).map_err(|message| Failed::new("22023", message))?;
            Ok("SET")
        }
        // These are answered before.
        Command::Nothing | Command::Show(_) => Ok(""),
    }
}

fn resume(shared: &Arc<Shared>, pools: &PoolAdmin, database: Option<&str>) -> Result<&'static str, Failed> {
    // SUSPEND stops accepting; RESUME without a name ends that too.
    let suspended = database.is_none() && shared.resume_accepting();
    match pools.resume(database) {
        Err(PoolCommandError::NotPaused(_)) if suspended => {}
        result => result.map_err(|error| failed(&error))?,
    }
    Ok("RESUME")
}

async fn suspend(shared: &Arc<Shared>, pools: &PoolAdmin) -> Result<&'static str, Failed> {
    shared.pause_accepting();
    match pools.pause(None, PATIENCE).await {
        Ok(()) | Err(PoolCommandError::Already(_)) => Ok("SUSPEND"),
        Err(error) => Err(failed(&error)),
    }
}

fn kill_client(shared: &Arc<Shared>, id: &str) -> Result<&'static str, Failed> {
    let pid = client_id(id).ok_or_else(|| Failed::new("22023", format!("`{id}` is no client id")))?;
    if !shared.kill_client(pid) {
        return Err(Failed::new("42704", format!("there is no client {id}")));
    }
    Ok("KILL_CLIENT")
}

/// The column `id` of SHOW CLIENTS, or the column `ptr`.
fn client_id(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok(),
        None => text.parse().ok(),
    }
}

async fn reload(shared: &Arc<Shared>) -> Result<&'static str, Failed> {
    let reloading = Arc::clone(shared);
    // It reads files.
    match tokio::task::spawn_blocking(move || reloading.reload()).await {
        Ok(Ok(_)) => Ok("RELOAD"),
        Ok(Err(error)) => Err(Failed::new("F0000", error.to_string())),
        Err(_) => Err(Failed::new("XX000", "the reload failed")),
    }
}

fn failed(error: &PoolCommandError) -> Failed {
    let code = match error {
        PoolCommandError::NoDatabase(_) => "3D000",
        PoolCommandError::NoShard(_) | PoolCommandError::NoServer(_) => "42704",
        PoolCommandError::Already(_) | PoolCommandError::NotPaused(_) => "55000",
        PoolCommandError::TimedOut => "57014",
    };
    Failed::new(code, error.to_string())
}

fn refused(refused: &Refused) -> Failed {
    let code = match refused {
        Refused::NotHere => "0A000",
        Refused::TooMany => "53000",
    };
    Failed::new(code, refused.to_string())
}
