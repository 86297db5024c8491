//! Comparing answers with the model.

use super::life::Life;
use super::model::REPORTED;
use super::wire::End;
use crate::client::Answer;

/// Errors that mean no room, not a leak.
const TURNED_DOWN: [&str; 3] = ["53300", "40001", "55P03"];

pub(super) type Row = Vec<Option<String>>;

/// A row of one value.
pub(super) fn one(value: impl Into<String>) -> Row {
    vec![Some(value.into())]
}

pub(super) fn violation<T>(text: impl Into<String>) -> Result<T, End> {
    Err(End::Violation(text.into()))
}

/// All rows of all results.
pub(super) fn all_rows(answer: &Answer) -> Vec<Row> {
    let text = |value: &Vec<u8>| String::from_utf8_lossy(value).into_owned();
    answer
        .results
        .iter()
        .flat_map(|result| &result.rows)
        .map(|row| row.iter().map(|value| value.as_ref().map(text)).collect())
        .collect()
}

impl Life<'_> {
    /// What holds of every answer: no error but the one expected, and nothing that came by itself is another's.
    pub(super) fn own(&self, answer: &Answer, expected: Option<&str>) -> Result<(), End> {
        for error in &answer.errors {
            if TURNED_DOWN.contains(&error.sqlstate()) {
                return Err(End::TurnedDown);
            }
            if Some(error.sqlstate()) != expected {
                return violation(format!("an error of its own making it is not: {error}"));
            }
        }
        if let Some(code) = expected
            && answer.errors.is_empty()
        {
            return violation(format!("no error {code}"));
        }
        for (channel, payload) in &answer.notifications {
            self.own_notification(channel, payload)?;
        }
        Ok(())
    }

    pub(super) fn own_notification(&self, channel: &str, payload: &str) -> Result<(), End> {
        if self.model.listening.contains(channel) && payload.starts_with(&self.model.nonce) {
            return Ok(());
        }
        violation(format!("a notification of another: {channel} {payload}"))
    }

    /// The rows of an answer without errors.
    pub(super) fn rows(&self, answer: &Answer, wanted: &[Row]) -> Result<(), End> {
        self.own(answer, None)?;
        let seen = all_rows(answer);
        if seen == wanted {
            return Ok(());
        }
        violation(format!("saw {seen:?} instead of {wanted:?}"))
    }

    /// Transaction state and reported settings, between exchanges.
    pub(super) fn at_rest(&self) -> Result<(), End> {
        if self.wire.status() != b'I' {
            let status = char::from(self.wire.status());
            return violation(format!("in a transaction it did not begin: {status}"));
        }
        let Some(reported) = self.wire.settings() else {
            return Ok(());
        };
        for name in REPORTED {
            let (seen, wanted) = (reported.get(name).map(String::as_str), self.model.value(name));
            if seen.unwrap_or_default() != wanted.unwrap_or_default() {
                return violation(format!("{name} was reported as {seen:?}, it is {wanted:?}"));
            }
        }
        Ok(())
    }
}
