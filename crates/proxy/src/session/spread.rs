//! Settings that code made inside a block, on the other shards of the block.
//!
//! `set_config`, DO and functions change the settings of the server they run on. Inside a block the other shards have to
//! follow at once (row-level security reads `current_setting` on every shard): what the server has now is read from it and
//! made with SET LOCAL on the servers that take part, and on those that join later. What lasts beyond the block is found at
//! its end, as for one server. Where settings may have been made that nobody can read, another shard is refused
//! ([`plan::RefusalCode::HiddenSettings`]).

use super::effects::{Effects, PinReason};
use super::set::SEED;
use super::settings::{is_own, quote_name, value_for_set};
use super::{Fault, Session};
use crate::exec::link;

impl Session {
    /// After a statement of the open block that ran on this server and may have changed settings there.
    pub(super) async fn spread_settings(&mut self, index: usize, effects: Effects) -> Result<(), Fault> {
        if self.engine.cluster.record().shards.len() < 2
            || self.servers[index].lease.status == wire::TransactionStatus::Failed
        {
            return Ok(());
        }
        let seeded = self.configs.names().any(|name| name.eq_ignore_ascii_case(SEED));
        if self.configs.is_computed() || seeded {
            self.pin(PinReason::ProcessState);
        }
        let local = self.settings.local_names();
        let question = self.question(&local, effects.inspect);
        let name = self.shard_name(self.servers[index].shard);
        let reply = link::query(&mut self.servers[index].lease, &question)
            .await
            .map_err(|error| Fault::lost(&error, &name))?;
        let rows = reply.into_rows().map_err(Fault::Statement)?;
        let mut there = Vec::new();
        let mut statements = Vec::new();
        for row in &rows {
            let [Some(name), Some(value)] = row.as_slice() else {
                continue;
            };
            let name = name.to_ascii_lowercase();
            let is_self = name == "role" && value == "none" && self.settings.current().get("role").is_none();
            if is_self || super::inspect::is_incidental(&name) || is_own(&name) || there.contains(&name) {
                continue;
            }
            let value = value_for_set(&name, value);
            // What the block has set before hides what the session has.
            let known = format!("SET {} TO {value}", quote_name(&name));
            if !local.is_empty() || self.settings.current().get(&name) != Some(known.as_str()) {
                statements.push(format!("SET LOCAL {} TO {value}", quote_name(&name)));
            }
            there.push(name);
        }
        if effects.inspect {
            // Back at their start.
            let lost = self
                .settings
                .current()
                .names()
                .chain(local.iter().map(String::as_str));
            let lost = lost.filter(|name| !is_unlisted(name) && !there.iter().any(|known| known == name));
            let base = self.settings.base();
            statements.extend(lost.map(|name| match base.get(name) {
                Some(statement) => statement.replacen("SET ", "SET LOCAL ", 1),
                None => format!("SET LOCAL {} TO DEFAULT", quote_name(name)),
            }));
        }
        self.make_local(index, statements).await
    }

    /// What the server has now: the settings that calls named, and with `all` those that any code may have made.
    fn question(&self, local: &[String], all: bool) -> String {
        let called = self
            .configs
            .names()
            .filter(|name| !name.eq_ignore_ascii_case(SEED));
        let mut names: Vec<String> = called.map(sql::quote_literal).collect();
        let mut listed = "";
        if all {
            listed = "SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session' UNION ALL ";
            let known = self
                .settings
                .current()
                .names()
                .chain(local.iter().map(String::as_str));
            names.extend(
                known
                    .filter(|name| name.contains('.') && !is_own(name))
                    .map(sql::quote_literal),
            );
            names.push("'role'".to_owned());
        }
        format!(
            "{listed}SELECT n, pg_catalog.current_setting(n, true) FROM pg_catalog.unnest(ARRAY[{}]::pg_catalog.text[]) n",
            names.join(", ")
        )
    }

    /// Makes settings on all servers of the block but one, and on those that join it.
    async fn make_local(&mut self, except: usize, statements: Vec<String>) -> Result<(), Fault> {
        if statements.is_empty() {
            return Ok(());
        }
        let text = statements.join(";");
        for statement in statements {
            self.settings.set_local(statement);
        }
        for index in 0..self.servers.len() {
            if index == except || !self.servers[index].begun {
                continue;
            }
            let name = self.shard_name(self.servers[index].shard);
            let reply = link::query(&mut self.servers[index].lease, &text)
                .await
                .map_err(|error| Fault::lost(&error, &name))?;
            reply.into_rows().map_err(Fault::Statement)?;
        }
        Ok(())
    }
}

/// Settings that `pg_settings` does not list: their absence says nothing.
fn is_unlisted(name: &str) -> bool {
    name.contains('.') || matches!(name, "role" | "session_authorization")
}
