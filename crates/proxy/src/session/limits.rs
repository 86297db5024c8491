//! What a session allows its own statements: `drover.fanout`, `drover.transaction_mode`, `drover.gather_max_bytes`,
//! `drover.require_limit`, `drover.statement_budget`.

use plan::{Plan, Refusal, RefusalCode};
use wire::backend::ErrorFields;

use super::reads::duration;
use super::settings::SettingsHistory;
use super::{Fault, Session};
use crate::exec::budget::BudgetLimits;

/// How many shards a statement may concern.
pub(super) const FANOUT: &str = "drover.fanout";
/// What a transaction over several shards is.
pub(super) const TRANSACTION_MODE: &str = "drover.transaction_mode";
/// How much of other servers' rows a statement may hold, in bytes.
pub(super) const GATHER_MAX: &str = "drover.gather_max_bytes";

/// Whether reads of several shards must say how many rows they want at most.
pub(super) const REQUIRE_LIMIT: &str = "drover.require_limit";
/// What a statement may use: rows, bytes, time.
pub(super) const STATEMENT_BUDGET: &str = "drover.statement_budget";

/// Units of [`GATHER_MAX`], as PostgreSQL and as the configuration write them.
const UNITS: [(&str, usize); 8] = [
    ("", 1),
    ("B", 1),
    ("kB", 1 << 10),
    ("KiB", 1 << 10),
    ("MB", 1 << 20),
    ("MiB", 1 << 20),
    ("GB", 1 << 30),
    ("GiB", 1 << 30),
];

/// A value for one of these settings, as it is kept and shown; `None`: the name is not one of them.
pub(super) fn checked(name: &str, text: &str) -> Option<Result<String, Fault>> {
    let (kept, hint) = match name {
        FANOUT => (
            one_of(text, &["single", "many", "all"]),
            "Available values: single, many, all.",
        ),
        TRANSACTION_MODE => (
            one_of(text, &["atomic", "single", "best_effort"]),
            "Available values: atomic, single, best_effort.",
        ),
        GATHER_MAX => (
            bytes(text).map(|bytes| bytes.to_string()),
            "A number of bytes, for instance 16MB; what the configuration says is never exceeded.",
        ),
        REQUIRE_LIMIT => (
            truth(text).map(|on| if on { "on" } else { "off" }.to_owned()),
            "Available values: on, off.",
        ),
        STATEMENT_BUDGET => (
            budget_text(text),
            "Limits of rows, bytes and time, for instance 'rows=1e6,bytes=64MB,time=5s'; or 'off'.",
        ),
        _ => return None,
    };
    Some(kept.ok_or_else(|| {
        let message = format!("invalid value for parameter \"{name}\": \"{text}\"");
        Fault::Statement(Box::new(ErrorFields::error("22023", message).with_hint(hint)))
    }))
}

/// What a setting is; `None`: the name is not one of these.
pub(super) fn shown(name: &str, settings: &SettingsHistory, gather_max: usize) -> Option<String> {
    Some(match name {
        FANOUT => settings.own(FANOUT).unwrap_or("all").to_owned(),
        TRANSACTION_MODE => settings.own(TRANSACTION_MODE).unwrap_or("atomic").to_owned(),
        GATHER_MAX => gather_limit(settings, gather_max).to_string(),
        REQUIRE_LIMIT => settings.own(REQUIRE_LIMIT).unwrap_or("off").to_owned(),
        STATEMENT_BUDGET => settings.own(STATEMENT_BUDGET).unwrap_or(OFF).to_owned(),
        _ => return None,
    })
}

/// No budget.
const OFF: &str = "off";

/// The longest time of a budget: what fits into the ticks of a watch, with room.
const TIME_MS_MAX: u128 = 30 * 24 * 3600 * 1000;

/// A boolean as PostgreSQL reads it.
fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" | "t" | "y" => Some(true),
        "off" | "false" | "no" | "0" | "f" | "n" => Some(false),
        _ => None,
    }
}

/// A budget as it is kept and shown.
fn budget_text(text: &str) -> Option<String> {
    if text.trim().eq_ignore_ascii_case(OFF) {
        return Some(OFF.to_owned());
    }
    let limits = budget_of(text)?;
    let rows = limits.rows.map(|rows| format!("rows={rows}"));
    let bytes = limits.bytes.map(|bytes| format!("bytes={bytes}"));
    let time = limits.time.map(|time| format!("time={}ms", time.as_millis()));
    let said: Vec<String> = [rows, bytes, time].into_iter().flatten().collect();
    Some(said.join(","))
}

/// What a budget says, if it says anything and can be read.
pub(super) fn budget_of(text: &str) -> Option<BudgetLimits> {
    let mut limits = BudgetLimits::default();
    for part in text.split([',', ' ']).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=')?;
        let fresh = match name.to_ascii_lowercase().as_str() {
            "rows" => limits.rows.replace(count(value)?).is_none(),
            "bytes" => {
                let bytes = u64::try_from(bytes(value)?).ok()?;
                limits.bytes.replace(bytes).is_none()
            }
            "time" => {
                let time = duration(value).filter(|time| (1..=TIME_MS_MAX).contains(&time.as_millis()))?;
                limits.time.replace(time).is_none()
            }
            _ => false,
        };
        // What is said twice would hide one of the two.
        if !fresh {
            return None;
        }
    }
    (limits != BudgetLimits::default()).then_some(limits)
}

/// A number of rows: `1000000` or `1e6`.
fn count(text: &str) -> Option<u64> {
    if let Ok(count) = text.parse() {
        return Some(count);
    }
    let (digits, exponent) = text.split_once(['e', 'E'])?;
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(10_u64.checked_pow(exponent.parse().ok()?)?)
}

fn one_of(text: &str, known: &[&str]) -> Option<String> {
    let mut known = known.iter();
    known
        .find(|known| known.eq_ignore_ascii_case(text))
        .map(|known| (*known).to_owned())
}

fn bytes(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: usize = text.get(..digits)?.parse().ok()?;
    let unit = text.get(digits..)?.trim();
    let (_, factor) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.checked_mul(*factor)
}

fn gather_limit(settings: &SettingsHistory, most: usize) -> usize {
    settings
        .own(GATHER_MAX)
        .and_then(bytes)
        .map_or(most, |wanted| wanted.min(most))
}

impl Session {
    /// How many bytes of rows a statement may hold here.
    pub(super) fn gather_limit(&self) -> usize {
        gather_limit(&self.settings, self.engine.cluster.gather_bytes_max())
    }

    /// Before a statement that concerns so many shards, and `writes` there.
    pub(super) fn check_reach(&self, shards: usize, plan: &Plan, writes: bool) -> Result<(), Fault> {
        if shards < 2 {
            return Ok(());
        }
        if plan.unbounded && self.settings.own(REQUIRE_LIMIT) == Some("on") {
            return Err(Fault::refused_as(RefusalCode::RequireLimit));
        }
        let too_many = match self.settings.own(FANOUT) {
            Some("single") => true,
            Some("many") => shards >= self.engine.cluster.record().shards.len(),
            _ => false,
        };
        if too_many {
            let what = format!("{shards} of them");
            return Err(Fault::refused(&Refusal::with(RefusalCode::Fanout, what)));
        }
        match self.is_single() && (writes || self.block.is_open()) {
            true => Err(Fault::refused_as(RefusalCode::SecondShard)),
            false => Ok(()),
        }
    }

    /// Before a further shard takes part in the transaction.
    pub(super) fn check_further_shard(&self) -> Result<(), Fault> {
        let further = self.block.is_open() && self.servers.iter().any(|server| server.begun);
        match further && self.is_single() {
            true => Err(Fault::refused_as(RefusalCode::SecondShard)),
            false => Ok(()),
        }
    }

    /// Transactions over several shards may end half there.
    pub(super) fn is_best_effort(&self) -> bool {
        self.settings.own(TRANSACTION_MODE) == Some("best_effort")
    }

    fn is_single(&self) -> bool {
        self.settings.own(TRANSACTION_MODE) == Some("single")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, expect) in [
            ("1000", Some(1000)),
            ("16MB", Some(16 << 20)),
            ("2 kb", Some(2048)),
            ("1GiB", Some(1 << 30)),
            ("", None),
            ("-1", None),
            ("5TB", None),
            ("99999999999999999999", None),
            ("18446744073709551615GB", None),
        ] {
            assert_eq!(bytes(text), expect, "{text}");
        }
    }

    #[test]
    fn budgets_are_read_and_shown_in_one_way() {
        for (text, expect) in [
            (
                "rows=1e6,bytes=64MB,time=5s",
                Some("rows=1000000,bytes=67108864,time=5000ms"),
            ),
            ("TIME=250ms", Some("time=250ms")),
            ("time=100", Some("time=100ms")),
            ("bytes=10 rows=0", Some("rows=0,bytes=10")),
            ("Off", Some("off")),
            ("", None),
            ("rows", None),
            ("rows=1,rows=2", None),
            ("rows=-1", None),
            ("rows=1e30", None),
            ("time=0", None),
            ("time=99999h", None),
            ("memory=1", None),
        ] {
            assert_eq!(budget_text(text).as_deref(), expect, "{text}");
        }
        for text in ["rows=1000000,bytes=67108864,time=5000ms", "off"] {
            assert_eq!(budget_text(text).as_deref(), Some(text));
        }
        assert_eq!(budget_of("off"), None);
    }
}
