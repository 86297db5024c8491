//! Ending a client's session from outside: KILL_CLIENT, KILL.
//!
//! A session looks at its stop sign when it waits for its client. One whose statement runs is sent cancels until then, so
//! that its servers can be brought into order and used again; one that nothing moves is cut off, and its servers are closed.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{StopReason, WorkerCtx};
use crate::cancel::CancelSlot;

/// Between two cancels.
const PAUSE: Duration = Duration::from_millis(500);

/// Cancels for a statement before its session is cut off.
const CANCELS_MAX: u32 = 20;

/// Looks at a session that runs nothing that could be cancelled (it commits, or its client does not read) before it is cut
/// off.
const LOOKS_MAX: u32 = 120;

/// Ends one client's session, if it is on this worker.
pub(super) fn client(ctx: &Rc<WorkerCtx>, pid: u32) {
    let Some(stop) = ctx.sessions.kill(pid) else {
        return;
    };
    let Some(slot) = slots(ctx).find(|slot| slot.pid() == pid) else {
        return;
    };
    tokio::task::spawn_local(async move {
        let mut cancels = 0;
        for _ in 0..LOOKS_MAX {
            if stop.strong_count() == 0 {
                return;
            }
            if slot.cancel().await > 0 {
                cancels += 1;
            }
            if cancels > CANCELS_MAX {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        if let Some(stop) = stop.upgrade() {
            stop.set(StopReason::Abort);
        }
    });
}

/// Cuts off the sessions of a client database, or all. What they run is cancelled, not waited for.
pub(super) fn database(ctx: &Rc<WorkerCtx>, database: Option<&str>) {
    let concerns = |slot: &CancelSlot| {
        let info = slot.mark.info();
        info.is_some_and(|info| database.is_none_or(|name| *info.database == *name))
    };
    // Every worker is told: the first to come cancels for all, which does no harm twice.
    for slot in slots(ctx).filter(|slot| concerns(slot) && !slot.targets().is_empty()) {
        tokio::task::spawn_local(async move { slot.cancel().await });
    }
    ctx.sessions.kill_database(database);
}

fn slots(ctx: &WorkerCtx) -> impl Iterator<Item = Arc<CancelSlot>> {
    ctx.shared.cancels.list().into_iter()
}
