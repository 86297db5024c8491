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
use crate::server::SequenceOwner;

impl Session {
    /// Computes the values that come from the home shard; they may decide the shards.
    pub(super) async fn prelude_values(
        &mut self,
        wanted: &[PreludeValue],
    ) -> Result<Vec<Option<Extra>>, Fault> {
        let mut values = Vec::with_capacity(wanted.len());
        for value in wanted {
            values.push(match &value.source {
                PreludeSource::HomeExpression { sql } => Some(self.home_value(sql, value.type_oid).await?),
                PreludeSource::Now | PreludeSource::StatementTime => None,
            });
        }
        Ok(values)
    }

    /// Adds the times, which come from the transaction's first server.
    pub(super) async fn times(
        &mut self,
        wanted: &[PreludeValue],
        values: Vec<Option<Extra>>,
        first: usize,
    ) -> Result<Vec<Extra>, Fault> {
        let mut extras = Vec::with_capacity(wanted.len());
        let known = values.into_iter().chain(std::iter::repeat_with(|| None));
        for (value, known) in wanted.iter().zip(known) {
            extras.push(match (known, &value.source) {
                (Some(extra), _) => extra,
                (None, PreludeSource::Now) => self.time_of(first, "now", value.type_oid).await?,
                (None, PreludeSource::StatementTime) => {
                    self.time_of(first, "statement_timestamp", value.type_oid).await?
                }
                (None, PreludeSource::HomeExpression { sql }) => self.home_value(sql, value.type_oid).await?,
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
        })
    }

    /// One value of the home shard. Sequences are not transactional, so a server outside the client's transaction will
    /// do, unless the home shard takes part in it anyway.
    async fn home_value(&mut self, sql: &str, type_oid: u32) -> Result<Extra, Fault> {
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
        if let HomeAccess::Lent(lease) = &mut access {
            lease.sequences = SequenceOwner::Several;
            self.drew_elsewhere();
        }
        let server = self.asked(&mut access);
        // The text of a number or a time would depend on how the session prints it.
        let exact = KeyType::from_base_oid(Oid(type_oid)).filter(|known| text_varies(*known));
        let question = match exact {
            Some(known) => format!("SELECT {}", hex_sql(known, &format!("({sql})"))),
            None => format!("SELECT ({sql})::pg_catalog.text"),
        };
        let reply = link::query(server, &question).await;
        self.done_asking(access);
        let reply = reply.map_err(|error| Fault::lost(&error, "the home shard"))?;
        let answer = reply.single().map(str::to_owned);
        reply.into_rows().map_err(Fault::Statement)?;
        let (value, format) = match (exact, answer) {
            (Some(_), Some(hex)) => {
                let bytes = unhex(&hex).ok_or_else(|| Fault::error("XX000", "unreadable value"))?;
                (Some(bytes), FormatCode::Binary)
            }
            (_, answer) => (answer.map(String::into_bytes), FormatCode::Text),
        };
        Ok(Extra {
            value,
            format,
            type_oid,
        })
    }
}
