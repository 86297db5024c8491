//! Durations in buckets of fixed bounds.
//!
//! Log-linear: each power of two of microseconds is cut into four equal parts, so that a quantile read from the buckets
//! is off by less than a fifth. Adding a value is one load and store of its bucket and one of the sum.

use std::fmt::Write as _;

use super::Counter;

/// Parts of each power of two, as a power of two.
const PART_BITS: u32 = 2;

/// Values below this many microseconds have a bucket each.
const EXACT: u64 = 1 << PART_BITS;

/// Values of this power of two and above share the last bucket: about 134 seconds.
const LAST_POWER: u32 = 27;

/// Number of buckets, the last one for everything beyond.
const BUCKETS: usize = ((LAST_POWER - PART_BITS) as usize + 1) * (1 << PART_BITS) + 1;

/// The first power of two that has its own bound in the exposition: below it (64 µs) nothing interesting happens.
const FIRST_SHOWN_POWER: u32 = 6;

/// A histogram of durations. Written by one thread, read by any.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[Counter; BUCKETS]>,
    sum_us: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: Box::new(std::array::from_fn(|_| Counter::default())),
            sum_us: Counter::default(),
        }
    }
}

impl Histogram {
    /// Adds a duration in microseconds. Only the owning worker may call this.
    pub fn observe(&self, us: u64) {
        if let Some(bucket) = self.buckets.get(bucket_of(us)) {
            bucket.increment();
        }
        self.sum_us.add(us);
    }

    /// Durations added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets
            .iter()
            .fold(0, |sum, bucket| bucket.get().wrapping_add(sum))
    }
}

fn bucket_of(us: u64) -> usize {
    if us < EXACT {
        return us as usize;
    }
    let power = us.ilog2();
    if power >= LAST_POWER {
        return BUCKETS - 1;
    }
    let part = (us >> (power - PART_BITS)) & (EXACT - 1);
    (((power - PART_BITS + 1) << PART_BITS) as u64 + part) as usize
}

/// The first bucket that holds only values of at least this power of two.
fn first_bucket_of(power: u32) -> usize {
    ((power - PART_BITS + 1) << PART_BITS) as usize
}

/// Appends the sum of several workers' histograms in Prometheus' text format; nothing when it is empty. `labels` is
/// empty or `name="value",…`.
pub(super) fn expose<'a>(
    workers: impl Iterator<Item = &'a Histogram>,
    name: &str,
    labels: &str,
    out: &mut String,
) {
    let mut counts = [0_u64; BUCKETS];
    let mut sum_us = 0_u64;
    for worker in workers {
        for (sum, bucket) in counts.iter_mut().zip(worker.buckets.iter()) {
            *sum = sum.wrapping_add(bucket.get());
        }
        sum_us = sum_us.wrapping_add(worker.sum_us.get());
    }
    let total: u64 = counts.iter().sum();
    if total == 0 && !labels.is_empty() {
        return;
    }
    let comma = if labels.is_empty() { "" } else { "," };
    let mut below = 0;
    let mut from = 0;
    for power in FIRST_SHOWN_POWER..=LAST_POWER {
        // Halves of a power of two are enough for readers; the finer buckets add up to them.
        for half in 0..2 {
            if power == LAST_POWER && half == 1 {
                break;
            }
            let to = first_bucket_of(power) + half * 2;
            below += counts[from..to].iter().sum::<u64>();
            from = to;
            let bound_us = (1_u64 << power) + half as u64 * (1 << (power - 1));
            let bound = bound_us as f64 / 1e6;
            let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}");
        }
    }
    let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {total}");
    let braces = if labels.is_empty() {
        String::new()
    } else {
        format!("{{{labels}}}")
    };
    let _ = writeln!(out, "{name}_sum{braces} {}", sum_us as f64 / 1e6);
    let _ = writeln!(out, "{name}_count{braces} {total}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        let mut last = 0;
        for us in 0..(1_u64 << 18) {
            let bucket = bucket_of(us);
            assert!(
                bucket == last || bucket == last + 1,
                "{us} is in {bucket} after {last}"
            );
            last = bucket;
        }
        for us in [1 << 26, (1 << 27) - 1, 1 << 27, u64::MAX] {
            assert!(bucket_of(us) < BUCKETS, "{us}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket_of((1 << 27) - 1), BUCKETS - 2);
        for power in 3..LAST_POWER {
            assert_eq!(bucket_of(1 << power), first_bucket_of(power));
        }
    }

    #[test]
    fn a_bound_counts_exactly_what_is_below_it() {
        let (a, b) = (Histogram::default(), Histogram::default());
        for us in [0, 63, 64, 95, 96, 1_000_000] {
            a.observe(us);
        }
        b.observe(u64::MAX >> 20);
        let mut text = String::new();
        expose([&a, &b].into_iter(), "x_seconds", "k=\"v\"", &mut text);
        for line in [
            "x_seconds_bucket{k=\"v\",le=\"0.000064\"} 2\n",
            "x_seconds_bucket{k=\"v\",le=\"0.000096\"} 4\n",
            "x_seconds_bucket{k=\"v\",le=\"0.000128\"} 5\n",
            "x_seconds_bucket{k=\"v\",le=\"1.048576\"} 6\n",
            "x_seconds_bucket{k=\"v\",le=\"+Inf\"} 7\n",
            "x_seconds_count{k=\"v\"} 7\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
