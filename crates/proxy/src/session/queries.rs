//! The rows of `drover.queries`.

use crate::digest::{DigestRow, id_of};
use crate::metrics::Registry;

/// The view's columns. Times of runs are in milliseconds, as `pg_stat_statements` has them.
pub(super) const COLUMNS: &[&str] = &[
    "database",
    "user",
    "queryid",
    "query",
    "calls",
    "total_time",
    "min_time",
    "max_time",
    "mean_time",
    "rows",
    "shards",
    "bytes",
    "errors",
    "first_seen",
    "last_seen",
    "moved_rows",
    "moved_bytes",
];

/// The view's rows, those with most time first; of one database and user unless `only` is `None`.
pub(super) fn rows(metrics: &Registry, only: Option<(&str, &str)>) -> Vec<Vec<Option<String>>> {
    let mut digests: Vec<_> = metrics
        .digests()
        .into_iter()
        .filter(|((database, user, _), _)| {
            only.is_none_or(|(own_database, own_user)| **database == *own_database && **user == *own_user)
        })
        .collect();
    digests.sort_by_key(|(_, row)| std::cmp::Reverse(row.total_us));
    digests
        .iter()
        .map(|((database, user, text), row)| {
            let names = [
                database.to_string(),
                user.to_string(),
                id_of(text),
                text.to_string(),
            ];
            names.into_iter().chain(figures(row)).map(Some).collect()
        })
        .collect()
}

fn figures(row: &DigestRow) -> [String; 13] {
    [
        row.calls.to_string(),
        millis(row.total_us as f64),
        millis(row.min_us as f64),
        millis(row.max_us as f64),
        millis(row.total_us as f64 / row.calls.max(1) as f64),
        row.rows.to_string(),
        row.shards.to_string(),
        row.bytes.to_string(),
        row.errors.to_string(),
        moment(row.first_us),
        moment(row.last_us),
        row.moved_rows.to_string(),
        row.moved_bytes.to_string(),
    ]
}

fn millis(us: f64) -> String {
    format!("{:.3}", us / 1e3)
}

/// A moment as PostgreSQL shows a timestamp with time zone in UTC.
fn moment(unix_us: u64) -> String {
    let days = i64::try_from(unix_us / 86_400_000_000).unwrap_or_default();
    let (year, month, day) = date_of(days);
    let in_day = unix_us % 86_400_000_000;
    let (second, micro) = (in_day / 1_000_000, in_day % 1_000_000);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{micro:06}+00",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar (years begin in March while counting,
/// so that leap days come last).
fn date_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates() {
        assert_eq!(moment(0), "1970-01-01 00:00:00.000000+00");
        assert_eq!(moment(951_782_400_000_001), "2000-02-29 00:00:00.000001+00");
        assert_eq!(moment(1_709_251_199_000_000), "2024-02-29 23:59:59.000000+00");
        assert_eq!(moment(4_107_542_400_000_000), "2100-03-01 00:00:00.000000+00");
    }
}
