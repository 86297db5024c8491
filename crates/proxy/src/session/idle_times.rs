//! `idle_in_transaction_session_timeout` and `idle_session_timeout`: how long a client lets itself be silent.
//!
//! To a server a session is idle whenever a pool has its connection, so its timers mean nothing to clients of a pooler. The
//! proxy knows when a client is silent and ends its session as PostgreSQL would, with `25P03` or `57P05`, by the same watch
//! that sees to the configured time-outs ([`crate::worker::Watch`]). The settings are looked at when they may have changed,
//! not for each statement; a session that limits nothing has no watch.
//!
//! The servers are told the settings all the same, because `SHOW` and `current_setting` read them there. A server that ends its
//! connection for them costs a connection: the session's end is the proxy's.

use std::time::Duration;

use super::Session;
use crate::config::Timeouts;

/// The settings, in the order in which they are asked for.
pub(super) const IDLE_TIMES: [&str; 2] = ["idle_in_transaction_session_timeout", "idle_session_timeout"];

impl Session {
    /// Takes over what the session's settings say now.
    #[cold]
    pub(super) fn follow_idle_times(&mut self) {
        let defaults = self.engine.own_defaults(&self.database, &self.user);
        let [transaction, session] = IDLE_TIMES.map(|name| {
            let default = defaults.as_deref().and_then(|defaults| {
                let (_, statement) = defaults.iter().find(|(known, _)| known == name)?;
                Some(statement.as_str())
            });
            let said = self.settings.in_force(name);
            said.and_then(|statement| time_of(name, statement))
                .or_else(|| time_of(name, default?))
                .unwrap_or_default()
        });
        if self.watch.is_none() {
            if transaction.is_zero() && session.is_zero() {
                return;
            }
            let nothing = Timeouts::default();
            let (slot, metrics) = (&self.cancel.slot, &self.engine.metrics);
            let watch = self
                .engine
                .watches
                .watch_always(&nothing, &self.stop, slot, metrics);
            self.watch = Some(watch);
        }
        if let Some(watch) = &self.watch {
            watch.set_own(transaction, session);
        }
    }
}

/// The time that a `SET` of `name` gives, as PostgreSQL reads it: milliseconds unless there is a unit. `None`: the
/// default.
fn time_of(name: &str, statement: &str) -> Option<Duration> {
    let at = statement.to_ascii_lowercase().find(name)?;
    let rest = statement.get(at + name.len()..)?;
    let rest = rest.trim_start_matches('"').trim_start();
    let value = match rest.strip_prefix('=') {
        Some(value) => value,
        None => rest.get(2..)?,
    };
    let value = value
        .trim()
        .trim_end_matches(';')
        .trim()
        .trim_start_matches(['E', 'e'])
        .trim_matches('\'')
        .trim();
    let digits = value
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+')))
        .unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let micros = match unit.trim() {
        "us" => 1.0,
        "" | "ms" => 1e3,
        "s" => 1e6,
        "min" => 60e6,
        "h" => 3600e6,
        "d" => 86_400e6,
        _ => return None,
    };
    // What PostgreSQL has taken is neither negative nor longer than 25 days.
    Duration::try_from_secs_f64(number * micros / 1e6).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_postgresql_reads_them() {
        let name = IDLE_TIMES[1];
        let check = |statement: &str, expected: Option<u64>| {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(time_of(name, statement), expected, "{statement}");
        };
        check("SET idle_session_timeout TO 1500", Some(1500));
        check("SET idle_session_timeout TO '1500'", Some(1500));
        check("set local IDLE_SESSION_TIMEOUT='1.5s';", Some(1500));
        check("SET \"idle_session_timeout\" = '2 min'", Some(120_000));
        check("SET SESSION idle_session_timeout = E'1h'", Some(3_600_000));
        check("SET idle_session_timeout TO '1d'", Some(86_400_000));
        check("SET idle_session_timeout TO 0", Some(0));
        check("SET idle_session_timeout TO DEFAULT", None);
        check("SET idle_session_timeout", None);
    }
}
