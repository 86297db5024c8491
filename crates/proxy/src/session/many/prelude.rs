//! Values computed before the statement itself: from the home shard, or the transaction's time.

use catalog::{KeyType, Oid};
use plan::{PreludeSource, PreludeValue};
use wire::FormatCode;

use super::super::block::Wrote;
use super::super::canonical::{hex_sql, text_varies, unhex};
use super::super::effects::Effects;
use super::super::enlist::HomeAccess;
use super::super::{Fault, Session};
use super::Extra;
use crate::exec::link;
use crate::ids::IdError;
use crate::server::SequenceOwner;

/// Values asked for at once: a result has at most 1,664 columns.
const QUESTIONS_MAX: usize = 1000;

impl Session {
    /// Computes the values that come from the home shard, with as few questions as possible, and those made here; they may
    /// decide the shards.
    pub(super) async fn prelude_values(
        &mut self,
        wanted: &[PreludeValue],
    ) -> Result<Vec<Option<Extra>>, Fault> {
        let mut values = Vec::new();
        values.resize_with(wanted.len(), || None);
        let mut asked = Vec::new();
        for (at, value) in wanted.iter().enumerate() {
            match &value.source {
                PreludeSource::HomeExpression { sql } | PreludeSource::HomeArray { sql } => {
                    asked.push((at, sql.as_str()));
                }
                PreludeSource::NextIds { count } => {
                    values[at] = Some(self.made_ids(*count, value.type_oid).await?);
                }
                PreludeSource::Now | PreludeSource::StatementTime => {}
            }
        }
        for part in asked.chunks(QUESTIONS_MAX) {
            let questions: Vec<(&str, u32)> = part
                .iter()
                .map(|(at, sql)| (*sql, wanted[*at].type_oid))
                .collect();
            let answers = self.values_from_home(&questions).await?;
            for ((at, _), (value, format)) in part.iter().zip(answers) {
                let wanted = &wanted[*at];
                let elements = match (&wanted.source, &value) {
                    (PreludeSource::HomeArray { .. }, Some(array)) => text_elements(array)
                        .ok_or_else(|| Fault::error("XX000", "unreadable array from the home shard"))?,
                    _ => Vec::new(),
                };
                // Only the elements of an array are used.
                let value = value.filter(|_| elements.is_empty());
                values[*at] = Some(Extra {
                    value,
                    format,
                    type_oid: wanted.type_oid,
                    elements,
                });
            }
        }
        Ok(values)
    }

    /// Values of `drover.next_id()`.
    async fn made_ids(&mut self, count: u32, type_oid: u32) -> Result<Extra, Fault> {
        let shared = std::sync::Arc::clone(&self.engine.shared);
        let cluster = std::sync::Arc::clone(&self.engine.cluster);
        let ids = shared.ids.next(&cluster, &self.database, count).await;
        let ids = ids.map_err(|error| match error {
            IdError::TooMany => Fault::error("54000", error.to_string()),
            IdError::NotLent(_) => Fault::error("08006", error.to_string()),
        })?;
        let texts: Vec<String> = ids.iter().map(i64::to_string).collect();
        let (value, elements) = match texts.as_slice() {
            [one] => (Some(one.clone().into_bytes()), Vec::new()),
            several => (
                None,
                several
                    .iter()
                    .map(|text| Some(text.clone().into_bytes()))
                    .collect(),
            ),
        };
        Ok(Extra {
            value,
            format: FormatCode::Text,
            type_oid,
            elements,
        })
    }

    /// Adds the times, which come from the transaction's first server.
    pub(super) async fn times(
        &mut self,
        wanted: &[PreludeValue],
        values: Vec<Option<Extra>>,
        first: usize,
    ) -> Result<Vec<Extra>, Fault> {
        let values = match values.is_empty() {
            true => self.prelude_values(wanted).await?,
            false => values,
        };
        let mut extras = Vec::with_capacity(wanted.len());
        for (value, known) in wanted.iter().zip(values) {
            extras.push(match (known, &value.source) {
                (Some(extra), _) => extra,
                (None, PreludeSource::Now) => self.time_of(first, "now", value.type_oid).await?,
                (None, PreludeSource::StatementTime) => {
                    self.time_of(first, "statement_timestamp", value.type_oid).await?
                }
                (None, _) => return Err(Fault::error("XX000", "a value was not computed")),
            });
        }
        Ok(extras)
    }

    async fn time_of(&mut self, index: usize, function: &str, type_oid: u32) -> Result<Extra, Fault> {
        let skip = self.begin_on(index).await?;
        let question =
            format!("SELECT pg_catalog.encode(pg_catalog.timestamptz_send(pg_catalog.{function}()), 'hex')");
        let name = self.shard_name(self.servers[index].shard);
        let lost = |error| Fault::lost(&error, &name);
        let server = &mut self.servers[index].lease;
        link::send_query(server, &question).map_err(lost)?;
        link::skip_replies(server, skip).await.map_err(lost)?;
        let reply = link::collect(server).await.map_err(lost)?;
        let hex = reply.single().map(str::to_owned);
        reply.into_rows().map_err(Fault::Statement)?;
        let value = hex
            .as_deref()
            .and_then(unhex)
            .ok_or_else(|| Fault::error("XX000", "unreadable time"))?;
        Ok(Extra {
            value: Some(value),
            format: FormatCode::Binary,
            type_oid,
            elements: Vec::new(),
        })
    }

    /// Values that travel as text have to mean to their reader what they meant to who printed them: NULL in an array would be read as
    /// a string, xml that is no document not at all.
    pub(super) async fn check_reading(&mut self, index: usize) -> Result<(), Fault> {
        const QUESTION: &str = "SELECT pg_catalog.current_setting('array_nulls') OPERATOR(pg_catalog.=) 'on' \
                                AND pg_catalog.current_setting('xmloption') OPERATOR(pg_catalog.=) 'content'";
        let skip = self.begin_on(index).await?;
        let name = self.shard_name(self.servers[index].shard);
        let lost = |error| Fault::lost(&error, &name);
        let server = &mut self.servers[index].lease;
        link::send_query(server, QUESTION).map_err(lost)?;
        link::skip_replies(server, skip).await.map_err(lost)?;
        let reply = link::collect(server).await.map_err(lost)?;
        let usual = reply.single() == Some("t");
        reply.into_rows().map_err(Fault::Statement)?;
        match usual {
            true => Ok(()),
            false => {
                let what =
                    "an array, a composite type or xml while array_nulls is off or xmloption is document";
                Err(Fault::refused(&plan::Refusal::with(
                    plan::RefusalCode::CarriedType,
                    what,
                )))
            }
        }
    }

    /// Values of the home shard, each an expression and its type. Sequences are not transactional, so a server outside the client's transaction
    /// will do, unless the home shard takes part in it anyway.
    async fn values_from_home(
        &mut self,
        questions: &[(&str, u32)],
    ) -> Result<Vec<(Option<Vec<u8>>, FormatCode)>, Fault> {
        let home = self.engine.cluster.home();
        let draws = Effects {
            touches_sequences: true,
            ..Effects::default()
        };
        let held = self.servers.iter().any(|server| server.shard == home);
        if held || self.follows_sequences() {
            // A session that may ask for the value keeps the connection that drew it.
            self.before_sequences_at_home(draws).await?;
        }
        let mut access = self.home_access(home).await?;
        if let HomeAccess::Held(index) = &access {
            let server = &mut self.servers[*index];
            server.wrote = server.wrote.max_with(Wrote::Unknown);
        }
        if let HomeAccess::Lent(lease, _) = &mut access {
            lease.sequences = SequenceOwner::Several;
            self.drew_elsewhere();
        }
        let server = self.asked(&mut access);
        // The text of a number or a time would depend on how the session prints it.
        let column = |(sql, type_oid): &(&str, u32)| match exact(*type_oid) {
            Some(known) => hex_sql(known, &format!("({sql})")),
            None => format!("({sql})::pg_catalog.text"),
        };
        let columns: Vec<String> = questions.iter().map(column).collect();
        let reply = link::query(server, &format!("SELECT {}", columns.join(", "))).await;
        self.done_asking(access);
        let reply = reply.map_err(|error| Fault::lost(&error, "the home shard"))?;
        let rows = reply.into_rows().map_err(Fault::Statement)?;
        let row = rows.into_iter().next().unwrap_or_default();
        if row.len() != questions.len() {
            return Err(Fault::error(
                "XX000",
                "the home shard gave another number of values",
            ));
        }
        let read = |(text, (_, type_oid)): (Option<String>, &(&str, u32))| match (exact(*type_oid), text) {
            (Some(_), Some(hex)) => {
                let bytes = unhex(&hex).ok_or_else(|| Fault::error("XX000", "unreadable value"))?;
                Ok((Some(bytes), FormatCode::Binary))
            }
            (_, text) => Ok((text.map(String::into_bytes), FormatCode::Text)),
        };
        row.into_iter().zip(questions).map(read).collect()
    }
}

/// The key type of values that have to travel in binary form.
fn exact(type_oid: u32) -> Option<KeyType> {
    KeyType::from_base_oid(Oid(type_oid)).filter(|known| text_varies(*known))
}

/// The elements of a one-dimensional array in PostgreSQL's text form.
fn text_elements(array: &[u8]) -> Option<Vec<Option<Vec<u8>>>> {
    let mut rest = array.strip_prefix(b"{")?.strip_suffix(b"}")?;
    let mut elements = Vec::new();
    while !rest.is_empty() {
        let mut element = Vec::new();
        let quoted = rest[0] == b'"';
        let mut at = usize::from(quoted);
        loop {
            match rest.get(at) {
                Some(b'\\') => {
                    element.push(*rest.get(at + 1)?);
                    at += 2;
                }
                Some(b'"') if quoted => break,
                Some(b',') | None if !quoted => break,
                Some(byte) => {
                    element.push(*byte);
                    at += 1;
                }
                None => return None,
            }
        }
        rest = rest.get(at + usize::from(quoted)..)?;
        elements.push((quoted || element != b"NULL").then_some(element));
        match rest.split_first() {
            Some((b',', more)) if !more.is_empty() => rest = more,
            None => {}
            Some(_) => return None,
        }
    }
    Some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_arrays_are_read() {
        let check = |text: &str, expect: Option<&[Option<&str>]>| {
            let found = text_elements(text.as_bytes());
            let expect: Option<Vec<_>> =
                expect.map(|list| list.iter().map(|e| e.map(|e| e.as_bytes().to_vec())).collect());
            assert_eq!(found, expect, "{text}");
        };
        check("{}", Some(&[]));
        check("{1,-2,NULL}", Some(&[Some("1"), Some("-2"), None]));
        check(
            r#"{"a,b","NULL","q\"\\",é}"#,
            Some(&[Some("a,b"), Some("NULL"), Some("q\"\\"), Some("é")]),
        );
        check("{1,}", None);
        check("{\"a}", None);
        check("1", None);
    }
}
