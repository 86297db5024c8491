//! `SET`, `RESET` and `SHOW` of Drover's own settings, and consistency tokens.

use std::rc::Rc;

use catalog::ShardId;
use replica::Token;
use sql::SettingScope;
use wire::backend::ErrorFields;

use super::super::idle_times::IDLE_TIMES;
use super::super::limits::{self, FANOUT, GATHER_MAX, REQUIRE_LIMIT, STATEMENT_BUDGET, TRANSACTION_MODE};
use super::super::settings::{Settings, SettingsHistory, is_own};
use super::super::{Fault, Session};
use super::options::{
    BUFFER_MS, BUFFER_STATEMENTS, CONSISTENCY, READ_FROM, READ_SNAPSHOT, REPLICA_WAIT, TOKEN, checked,
    hold_of, shown,
};
use crate::exec::link::TextRow;
use crate::pools::Purpose;

/// Settings that are kept with the session's others.
const KEPT: [&str; 11] = [
    READ_FROM,
    CONSISTENCY,
    REPLICA_WAIT,
    BUFFER_MS,
    BUFFER_STATEMENTS,
    READ_SNAPSHOT,
    FANOUT,
    TRANSACTION_MODE,
    GATHER_MAX,
    REQUIRE_LIMIT,
    STATEMENT_BUDGET,
];

/// What ALTER ROLE and ALTER DATABASE have set of them, one row with a value for each; behind them the same of
/// [`IDLE_TIMES`], which older servers do not all have.
pub(in super::super) const ASK_DEFAULTS: &str = "SELECT pg_catalog.current_setting('drover.read_from', true), \
     pg_catalog.current_setting('drover.consistency', true), pg_catalog.current_setting('drover.replica_wait', true), \
     pg_catalog.current_setting('drover.failover_buffer_ms', true), \
     pg_catalog.current_setting('drover.failover_buffer_statements', true), \
     pg_catalog.current_setting('drover.read_snapshot', true), pg_catalog.current_setting('drover.fanout', true), \
     pg_catalog.current_setting('drover.transaction_mode', true), \
     pg_catalog.current_setting('drover.gather_max_bytes', true), \
     pg_catalog.current_setting('drover.require_limit', true), \
     pg_catalog.current_setting('drover.statement_budget', true), \
     (SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'idle_in_transaction_session_timeout'), \
     (SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'idle_session_timeout')";

impl Session {
    /// `SET drover.… = …`.
    pub(in super::super) fn set_own(
        &mut self,
        scope: SettingScope,
        name: &str,
        values: &[String],
    ) -> Result<(), Fault> {
        let local = scope == SettingScope::Local;
        if local && !self.block.is_open() {
            self.warn("25P01", "SET LOCAL can only be used in transaction blocks");
        }
        if name == TOKEN {
            if self.block.is_open() && self.servers.iter().any(|server| server.replica.is_some()) {
                // The block goes on where it is, which need not have what the token speaks of.
                return Err(Fault::refused_as(plan::RefusalCode::ReplicaTransaction));
            }
            self.take_token(&values.join(""))?;
        } else if KEPT.contains(&name) {
            let value = checked(name, values)?;
            if !local || self.block.is_open() {
                self.settings.set_own(name, &value, local);
                self.follow_own_settings();
            }
        } else {
            return Err(unknown(name));
        }
        self.complete("SET")
    }

    /// `set_config('drover.…', …, false)` has run on a server, which takes any value.
    pub(in super::super) fn adopt_own(&mut self, name: &str, value: &str) {
        // One that was for its transaction only, or for an older proxy.
        if value.is_empty() || !(KEPT.contains(&name) || name == TOKEN) {
            return;
        }
        let result = match name {
            TOKEN => self.take_token(value),
            _ => checked(name, &[value.to_owned()]).map(|value| {
                self.settings.set_own(name, &value, false);
                self.follow_own_settings();
            }),
        };
        if let Err(Fault::Statement(fields)) = result {
            self.warn("22023", &fields.message);
        }
    }

    /// `RESET drover.…` and `SET drover.… TO DEFAULT`, with their tags.
    pub(in super::super) fn reset_own(&mut self, name: &str, tag: &str) -> Result<(), Fault> {
        if KEPT.contains(&name) {
            self.settings.reset_own(name);
            self.follow_own_settings();
        } else if name != TOKEN {
            return Err(unknown(name));
        }
        self.complete(tag)
    }

    /// A setting of Drover's own has changed.
    fn follow_own_settings(&mut self) {
        self.follow_read_settings(false);
        self.follow_budget();
    }

    /// What its first server is wanted for, with the session's own patience if it has one.
    pub(in super::super) fn first_purpose(&self) -> Purpose<'static> {
        let hold = hold_of(&self.settings);
        if hold == pool::Hold::default() {
            Purpose::First
        } else {
            Purpose::Held(hold)
        }
    }

    /// How the session's statements wait for a server that is away.
    fn hold(&self) -> pool::Hold {
        let own = hold_of(&self.settings);
        let shared = &self.engine.shared;
        let config = shared.nodes.config();
        let source = shared.policies.source();
        pool::Hold {
            wait: own
                .wait
                .or(config.failover_buffer)
                .or(Some(source.pool.connection_timeout)),
            queue: own.queue.or(Some(config.failover_buffer_statements)),
        }
    }

    /// `SHOW drover.…`.
    pub(in super::super) async fn show_own(&mut self, name: &str) -> Result<(), Fault> {
        let value = if name == TOKEN {
            self.consistency_token().await?
        } else if KEPT.contains(&name) {
            let limit = limits::shown(name, &self.settings, self.engine.cluster.gather_bytes_max());
            limit.unwrap_or_else(|| shown(name, &self.settings, self.hold()))
        } else {
            return Err(unknown(name));
        };
        self.text_rows(&[name], &[vec![Some(value)]], "SHOW")
    }

    /// Answers `SELECT drover.consistency_token()`.
    pub(in super::super) async fn tell_token(&mut self) -> Result<(), Fault> {
        let token = self.consistency_token().await?;
        self.text_rows(&["consistency_token"], &[vec![Some(token)]], "SELECT 1")
    }

    /// Checks the settings of a start-up packet, and follows them.
    pub(in super::super) fn start_own_settings(&mut self) -> Result<(), Fault> {
        let given: Vec<(String, String)> = self.settings.current().own_values().collect();
        for (name, value) in given {
            if name == TOKEN {
                self.take_token(&value)?;
            } else if KEPT.contains(&name.as_str()) {
                checked(&name, &[value])?;
            } else {
                return Err(unknown(&name));
            }
        }
        self.follow_read_settings(true);
        Ok(())
    }

    /// The positions of this session as a text: what it has committed, and what it was told of or, where its
    /// consistency is `monotonic`, has read. Positions that were not taken are those of the primaries now.
    pub(in super::super) async fn consistency_token(&mut self) -> Result<String, Fault> {
        let record = self.engine.cluster.record();
        let shards: Vec<ShardId> = record.shards.iter().map(|shard| shard.id).collect();
        let mut positions = Vec::with_capacity(shards.len());
        for shard in shards {
            let known = self.reads.as_ref().and_then(|reads| reads.positions.known(shard));
            match known {
                Some(known) => positions.extend(known.iter().map(|position| (shard.0, *position))),
                None => {
                    let position = self.primary_position(shard).await?;
                    if let Some(reads) = &mut self.reads {
                        reads.positions.covered(shard, position);
                    }
                    positions.push((shard.0, position));
                }
            }
        }
        let token = Token {
            epoch: record.epoch.0,
            positions,
        };
        Ok(token.to_text())
    }

    /// From now on this session's reads see at least what a token stands for.
    fn take_token(&mut self, text: &str) -> Result<(), Fault> {
        if text.is_empty() {
            return Ok(());
        }
        let token = Token::parse(text).map_err(|error| {
            let message = format!("invalid value for parameter \"{TOKEN}\": {error}");
            let fields = ErrorFields::error("22023", message)
                .with_hint("A token is what drover.consistency_token() gives, unchanged.");
            Fault::Statement(Box::new(fields))
        })?;
        if self.reads.is_none() {
            self.start_reads(false);
        }
        let same_epoch = token.epoch == self.engine.cluster.record().epoch.0;
        if let Some(reads) = &mut self.reads {
            if !same_epoch {
                // The shard map has changed, or will have: rows may be on other shards than those named.
                reads.positions.all_unknown();
            }
            for (shard, position) in token.positions {
                reads.positions.told(ShardId(shard), position);
            }
        }
        Ok(())
    }

    /// What ALTER ROLE and ALTER DATABASE say is what the session starts with, where the client said nothing itself.
    pub(in super::super) fn start_with_defaults(&mut self) {
        let Some(defaults) = self.engine.own_defaults(&self.database, &self.user) else {
            return;
        };
        let base = self.settings.base();
        let own = defaults.iter().filter(|(name, _)| is_own(name));
        let missing = own.filter(|(name, _)| base.get(name).is_none());
        let missing: Vec<&(String, String)> = missing.collect();
        if missing.is_empty() {
            return;
        }
        let mut settings = Settings::clone(base);
        for (name, value) in missing {
            settings.set(name, value.clone());
        }
        let settings = self.engine.shared_settings(settings);
        self.settings = SettingsHistory::new(settings);
        self.follow_read_settings(true);
    }

    /// Reads the answer to [`ASK_DEFAULTS`].
    pub(in super::super) fn read_defaults(row: Option<&TextRow>) -> Rc<[(String, String)]> {
        let values = row.map(Vec::as_slice).unwrap_or_default();
        let given = KEPT.iter().zip(values).filter_map(|(name, value)| {
            let value = value.as_deref().filter(|value| !value.is_empty())?;
            // What is wrong there must not keep a role from connecting: it counts as not said.
            let value = checked(name, &[value.to_owned()]).ok()?;
            Some(((*name).to_owned(), value))
        });
        let times = values.iter().skip(KEPT.len());
        let times = IDLE_TIMES.iter().zip(times).filter_map(|(name, value)| {
            let value = value.as_deref().filter(|value| *value != "0")?;
            Some(((*name).to_owned(), format!("SET {name} TO {value}")))
        });
        given.chain(times).collect()
    }
}

fn unknown(name: &str) -> Fault {
    let known: Vec<&str> = KEPT.into_iter().chain([TOKEN]).collect();
    let fields = ErrorFields::error(
        "42704",
        format!("unrecognized configuration parameter \"{name}\""),
    )
    .with_hint(format!("Drover knows {}.", known.join(", ")));
    Fault::Statement(Box::new(fields))
}
