//! The clock of leases.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Milliseconds since some moment of this boot; the same for all processes of the host, never set back.
pub(super) fn now_ms() -> u64 {
    // The clock exists on every system this is built for; 0 would make leases live on, never end early.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Names this boot of the host.
pub(super) fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}
