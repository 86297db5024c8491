//! How busy a worker's thread is.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::WorkerCtx;

/// How often the thread's CPU time is looked at. New clients are placed by what was seen last.
const EVERY: Duration = Duration::from_millis(250);

/// The same for a thread that has next to nothing to do, which should sleep.
const EVERY_QUIET: Duration = Duration::from_secs(2);

/// Up to here, in thousandths of a core, it has next to nothing to do.
const QUIET_MAX: u32 = 20;

/// Measures this thread for ever.
pub(super) async fn measure(ctx: Rc<WorkerCtx>) {
    let Some(busy) = ctx.shared.busy.get(ctx.id) else {
        return;
    };
    let mut last = (Instant::now(), cpu_time());
    let mut pause = EVERY;
    loop {
        tokio::time::sleep(pause).await;
        let now = (Instant::now(), cpu_time());
        let share = share(now.0 - last.0, now.1.saturating_sub(last.1));
        busy.store(share, Ordering::Relaxed);
        pause = if share > QUIET_MAX { EVERY } else { EVERY_QUIET };
        last = now;
    }
}

/// CPU time of this thread so far. The process's own clock, not another process's: this thread is not charged for
/// waiting until others let it run.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Thousandths of a core.
fn share(passed: Duration, used: Duration) -> u32 {
    let passed = passed.as_micros().max(1);
    u32::try_from((used.as_micros() * 1000 / passed).min(1000)).unwrap_or(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_thread_s_work_counts() {
        assert_eq!(share(Duration::from_millis(10), Duration::from_millis(7)), 700);
        assert_eq!(share(Duration::ZERO, Duration::from_secs(1)), 1000);
        let before = cpu_time();
        while cpu_time() - before < Duration::from_millis(1) {
            std::hint::spin_loop();
        }
    }
}
