//! Time as the pool sees it: a number handed in by the caller, never read from a clock.

use std::time::Duration;

/// A moment, in microseconds since an origin chosen by the caller (the same one for every call).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// The moment `delay` later; saturates instead of wrapping, so `Duration::MAX` means "never".
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX)),
        )
    }

    /// How long `earlier` lies in the past; zero when it does not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}
