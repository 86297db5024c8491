//! SET, RESET, SHOW and DISCARD.
//!
//! A setting is always tried on a server first: PostgreSQL says whether name and value are right, in its own words, at
//! the statement that gives them. What succeeded is remembered and follows the session.

use std::rc::Rc;

use sql::{DiscardTarget, SettingCommand, SettingScope, TransactionModes};
use wire::backend::encode;

use super::effects::PinReason;
use super::enlist::settle;
use super::settings::{Settings, is_own, quote_name};
use super::{Fault, Session};
use crate::exec::link;

/// Not a setting but an act: it seeds the random numbers of the process.
pub(super) const SEED: &str = "seed";

impl Session {
    /// Runs a settings statement.
    pub(super) async fn setting(&mut self, command: &SettingCommand, text: &str) -> Result<(), Fault> {
        match command {
            SettingCommand::Set {
                scope, name, values, ..
            } if is_own(name) => self.set_own(*scope, name, values),
            SettingCommand::Set { scope, name, sql, .. } => {
                let replay = match sql {
                    Some(value) => format!("SET {} TO {value}", quote_name(name)),
                    None => text.to_owned(),
                };
                self.set(*scope, name, replay, text).await
            }
            SettingCommand::SetDefault { name, .. } if is_own(name) => self.reset_own(name, "SET"),
            SettingCommand::Reset { name } if is_own(name) => self.reset_own(name, "RESET"),
            SettingCommand::SetDefault {
                scope: SettingScope::Local,
                ..
            } => self.set_local(text).await,
            SettingCommand::SetDefault { name, .. } => self.reset(name, "SET").await,
            SettingCommand::Reset { name } => self.reset(name, "RESET").await,
            SettingCommand::ResetAll => self.reset_all().await,
            SettingCommand::Show { name } if is_own(name) => Box::pin(self.show_own(name)).await,
            SettingCommand::Show { .. } | SettingCommand::SetFromCurrent { .. } => {
                self.relay_home(text).await
            }
            SettingCommand::Transaction(_) => self.set_local(text).await,
            SettingCommand::TransactionSnapshot(_) => self.set_snapshot(text).await,
            SettingCommand::SessionCharacteristics(modes) => self.set_characteristics(modes, text).await,
            SettingCommand::Discard(target) => self.discard(*target, text).await,
        }
    }

    async fn set(
        &mut self,
        scope: SettingScope,
        name: &str,
        replay: String,
        text: &str,
    ) -> Result<(), Fault> {
        // These name the transaction, not the session.
        if scope == SettingScope::Local || name.starts_with("transaction_") {
            return self.set_local(text).await;
        }
        self.try_setting(text).await?;
        if name.eq_ignore_ascii_case(SEED) {
            // Made again on another server, it would start the same numbers again.
            self.pin(PinReason::ProcessState);
            return self.complete("SET");
        }
        self.settings.set(name, replay);
        if name.eq_ignore_ascii_case("session_authorization") {
            // PostgreSQL gives up the role with it.
            self.settings.set("role", "SET role TO 'none'".to_owned());
        }
        self.settings_done("SET")
    }

    /// `SET LOCAL` and its like: lasts to the end of the block, on every server that takes part.
    async fn set_local(&mut self, text: &str) -> Result<(), Fault> {
        self.set_modes(text).await?;
        self.settings_done("SET")
    }

    /// The same without an answer.
    pub(super) async fn set_modes(&mut self, text: &str) -> Result<(), Fault> {
        self.try_setting(text).await?;
        self.settings.set_local(text.to_owned());
        Ok(())
    }

    async fn reset(&mut self, name: &str, tag: &str) -> Result<(), Fault> {
        let text = match self.settings.base().get(name) {
            Some(statement) => statement.to_owned(),
            None => format!("RESET {}", quote_name(name)),
        };
        self.try_setting(&text).await?;
        self.settings.reset(name);
        self.settings_done(tag)
    }

    async fn reset_all(&mut self) -> Result<(), Fault> {
        let base = self
            .settings
            .base()
            .difference(&Settings::default())
            .unwrap_or_default();
        self.try_setting(&format!("RESET ALL;{base}")).await?;
        self.behind = true;
        self.settings.reset_all(false);
        self.follow_read_settings(false);
        self.settings_done("RESET")
    }

    async fn set_characteristics(&mut self, modes: &TransactionModes, text: &str) -> Result<(), Fault> {
        self.try_setting(text).await?;
        let words = super::control::begin_text(modes);
        if let Some((_, rest)) = words.split_once("ISOLATION LEVEL ") {
            let level = [
                "READ UNCOMMITTED",
                "READ COMMITTED",
                "REPEATABLE READ",
                "SERIALIZABLE",
            ]
            .into_iter()
            .find(|level| rest.starts_with(level));
            if let Some(level) = level {
                self.remember("default_transaction_isolation", &level.to_ascii_lowercase());
            }
        }
        if let Some(read_only) = modes.read_only {
            self.remember(
                "default_transaction_read_only",
                if read_only { "on" } else { "off" },
            );
        }
        if let Some(deferrable) = modes.deferrable {
            self.remember(
                "default_transaction_deferrable",
                if deferrable { "on" } else { "off" },
            );
        }
        self.settings_done("SET")
    }

    fn remember(&mut self, name: &str, value: &str) {
        self.settings.set(name, format!("SET {name} TO '{value}'"));
    }

    async fn set_snapshot(&mut self, text: &str) -> Result<(), Fault> {
        let home = self.engine.cluster.home();
        if self.servers.iter().any(|server| server.shard != home) {
            return Err(Fault::refused_as(plan::RefusalCode::SnapshotOverShards));
        }
        self.relay_home(text).await
    }

    /// Runs a settings text where it has to hold: on every server of the open block, or on the home shard.
    async fn try_setting(&mut self, text: &str) -> Result<(), Fault> {
        let mut first = None;
        if self.servers.iter().all(|server| !server.begun) {
            let home = self.engine.cluster.home();
            first = Some(self.enlist(home).await?);
        }
        // A transaction with one snapshot has begun everywhere now.
        let others =
            (0..self.servers.len()).filter(|index| self.servers[*index].begun && first != Some(*index));
        let indexes: Vec<usize> = first.into_iter().chain(others).collect();
        for (turn, index) in indexes.into_iter().enumerate() {
            let skip = self.begin_on(index).await?;
            let name = self.shard_name(self.servers[index].shard);
            let lost = |error| Fault::lost(&error, &name);
            let server = &mut self.servers[index].lease;
            link::send_query(server, text).map_err(lost)?;
            link::skip_replies(server, skip).await.map_err(lost)?;
            let reply = link::collect(server).await.map_err(lost)?;
            if turn == 0 {
                self.client.conn.out().extend_from_slice(&reply.aside);
            }
            reply.into_rows().map_err(Fault::Statement)?;
        }
        Ok(())
    }

    /// After a change: outside a block the server at hand has the new settings already.
    fn settings_done(&mut self, tag: &str) -> Result<(), Fault> {
        if !self.block.is_open() {
            let current = Rc::clone(self.settings.current());
            for server in &mut self.servers {
                server.lease.applied =
                    crate::server::Applied::Known(Rc::clone(&current) as Rc<dyn std::any::Any>);
            }
        }
        self.complete(tag)
    }

    async fn discard(&mut self, target: DiscardTarget, text: &str) -> Result<(), Fault> {
        match target {
            DiscardTarget::All => self.discard_all().await,
            DiscardTarget::Sequences => self.discard_sequences(text).await,
            DiscardTarget::Temp if !self.pinned.is_empty() => {
                self.recheck_pins = true;
                self.relay_home(text).await
            }
            DiscardTarget::Plans => self.complete("DISCARD PLANS"),
            DiscardTarget::Temp => self.complete("DISCARD TEMP"),
        }
    }

    /// Forgets what was prepared by Parse; what was prepared by PREPARE is on the server the session is pinned to.
    pub(super) async fn deallocate(&mut self, name: Option<&str>, text: &str) -> Result<(), Fault> {
        let Some(name) = name else {
            self.statements.forget_named();
            self.recheck_pins = true;
            if !self.pinned.is_empty() {
                let home = self.engine.cluster.home();
                self.relay_home(text).await?;
                if let Some(server) = self.servers.iter_mut().find(|server| server.shard == home) {
                    server.lease.prepared.clear();
                }
                return Ok(());
            }
            return self.complete("DEALLOCATE ALL");
        };
        self.recheck_pins = true;
        if self.statements.forget(name.as_bytes()) {
            return self.complete("DEALLOCATE");
        }
        if !self.pinned.is_empty() {
            return self.relay_home(text).await;
        }
        Err(Fault::error(
            "26000",
            format!("prepared statement \"{name}\" does not exist"),
        ))
    }

    async fn discard_all(&mut self) -> Result<(), Fault> {
        if self.block.is_open() {
            return Err(Fault::error(
                "25001",
                "DISCARD ALL cannot run inside a transaction block",
            ));
        }
        self.empty_pinned_servers().await;
        self.set_pinned(super::effects::Pins::of_mode(self.mode));
        self.sequences.forget();
        self.listening = None;
        self.statements.forget_all();
        self.extended.forget_portals();
        let before = Rc::clone(self.settings.current());
        self.settings.reset_all(true);
        self.reads = None;
        self.follow_read_settings(true);
        if before != *self.settings.current() {
            // A server that goes the same way reports what changes for the client.
            let home = self.engine.cluster.home();
            let key = self.pool_key(home);
            let mut lease = self
                .engine
                .pools
                .checkout(&key, crate::pools::Purpose::First, None)
                .await?;
            settle(&mut lease, &before).await?;
            let aside = settle(&mut lease, &Rc::clone(self.settings.current())).await?;
            self.client.conn.out().extend_from_slice(&aside);
            lease.release();
        }
        self.complete("DISCARD ALL")
    }

    /// A small result made here: text columns, text format.
    pub(super) fn text_rows(
        &mut self,
        names: &[&str],
        rows: &[Vec<Option<String>>],
        tag: &str,
    ) -> Result<(), Fault> {
        const TEXT_OID: u32 = 25;
        let columns = names.iter().map(|name| wire::backend::Column {
            name: name.as_bytes(),
            table_oid: 0,
            attnum: 0,
            type_oid: TEXT_OID,
            typlen: -1,
            typmod: -1,
            format: wire::FormatCode::Text,
        });
        let out = self.client.conn.out();
        let too_long = |_| Fault::error("54000", "result too long");
        if self.announce_columns {
            encode::row_description(out, columns).map_err(too_long)?;
        }
        for row in rows {
            encode::data_row(out, row.iter().map(|value| value.as_deref().map(str::as_bytes)))
                .map_err(too_long)?;
        }
        self.complete(tag)
    }
}
