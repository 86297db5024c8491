//! How far a move is, for people.

use std::time::{Duration, Instant};

/// At most one line in this time, and none before.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Counts moved rows and says so now and then.
pub(super) struct Progress<'a> {
    title: String,
    done: &'static str,
    total: u64,
    moved: u64,
    started: Instant,
    said: Instant,
    line: &'a mut dyn FnMut(&str),
}

impl<'a> Progress<'a> {
    /// Starts to count; `total` rows are to be moved.
    pub(super) fn new(title: String, total: u64, line: &'a mut dyn FnMut(&str)) -> Self {
        let now = Instant::now();
        Self {
            title,
            done: "moved",
            total,
            moved: 0,
            started: now,
            said: now,
            line,
        }
    }

    /// The same of rows that are not moved, but `done`.
    pub(super) fn saying(self, done: &'static str) -> Self {
        Self { done, ..self }
    }

    /// Rows have been moved.
    pub(super) fn add(&mut self, rows: u64) {
        self.moved += rows;
        if self.said.elapsed() >= LINE_EVERY {
            self.said = Instant::now();
            let text = text(
                &self.title,
                self.done,
                (self.moved, self.total),
                self.started.elapsed(),
            );
            self.say(&text);
        }
    }

    /// Says what is going on, if it has taken long enough for anybody to wonder.
    pub(super) fn phase(&mut self, what: &str) {
        if self.started.elapsed() >= LINE_EVERY {
            let text = format!("{}: {what}", self.title);
            self.say(&text);
        }
    }

    fn say(&mut self, text: &str) {
        tracing::info!("{text}");
        (self.line)(text);
    }
}

fn text(title: &str, done: &str, (moved, total): (u64, u64), elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let rate = moved as f64 / seconds;
    let left = total.saturating_sub(moved) as f64 / rate.max(1.0);
    let percent = (moved.min(total) * 100).checked_div(total).unwrap_or(100);
    format!("{title}: {moved} of {total} rows {done} ({percent} %), {rate:.0} rows/s, about {left:.0} s left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_rows_rate_and_time_left() {
        assert_eq!(
            text("shop.orders", "moved", (1_000, 5_000), Duration::from_secs(2)),
            "shop.orders: 1000 of 5000 rows moved (20 %), 500 rows/s, about 8 s left"
        );
        assert_eq!(
            text("t", "moved", (0, 0), Duration::ZERO),
            "t: 0 of 0 rows moved (100 %), 0 rows/s, about 0 s left"
        );
    }
}
