//! What a session allows its own statements: `drover.fanout`, `drover.transaction_mode`, `drover.gather_max_bytes`.

use plan::{Refusal, RefusalCode};
use wire::backend::ErrorFields;

use super::settings::SettingsHistory;
use super::{Fault, Session};

/// How many shards a statement may concern.
pub(super) const FANOUT: &str = "drover.fanout";
/// What a transaction over several shards is.
pub(super) const TRANSACTION_MODE: &str = "drover.transaction_mode";
/// How much of other servers' rows a statement may hold, in bytes.
pub(super) const GATHER_MAX: &str = "drover.gather_max_bytes";

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
        TRANSACTION_MODE if text.eq_ignore_ascii_case("best_effort") => {
            let what = "drover.transaction_mode can only be 'atomic' or 'single'";
            return Some(Err(Fault::refused(&Refusal::with(
                RefusalCode::DroverSetting,
                what,
            ))));
        }
        TRANSACTION_MODE => (
            one_of(text, &["atomic", "single"]),
            "Available values: atomic, single.",
        ),
        GATHER_MAX => (
            bytes(text).map(|bytes| bytes.to_string()),
            "A number of bytes, for instance 16MB; what the configuration says is never exceeded.",
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
        _ => return None,
    })
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

    /// Before a statement that concerns so many shards.
    pub(super) fn check_reach(&self, shards: usize, writes: bool) -> Result<(), Fault> {
        if shards < 2 {
            return Ok(());
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
}
