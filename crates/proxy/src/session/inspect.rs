//! A look at a server after code ran there that could have changed the session: what it left behind is found and kept.

use std::borrow::Cow;
use std::rc::Rc;

use super::effects::{Effects, PinReason};
use super::settings::{Settings, is_own};
use super::{Fault, Session};
use crate::exec::link;
use crate::server::ServerConn;
use crate::spare::Spare;

/// A row for each thing that is there: `(NULL, its place in` [`SEEN`]`)`. Locks of an open transaction are not told from
/// those of the session: ask outside of blocks.
macro_rules! look {
    () => {
        "SELECT NULL AS name, '0' AS setting WHERE pg_catalog.pg_my_temp_schema() <> 0 AND \
           (EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema()) OR \
            EXISTS (SELECT FROM pg_catalog.pg_type WHERE typnamespace = pg_catalog.pg_my_temp_schema()) OR \
            EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace = pg_catalog.pg_my_temp_schema())) \
         UNION ALL SELECT NULL, '1' WHERE EXISTS \
           (SELECT FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'advisory') \
         UNION ALL SELECT NULL, '2' WHERE EXISTS (SELECT FROM pg_catalog.pg_listening_channels()) \
         UNION ALL SELECT NULL, '3' WHERE EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable) \
         UNION ALL SELECT NULL, '4' WHERE EXISTS \
           (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)"
    };
}

const LOOK: &str = look!();

/// The same, and a row `(name, value)` for each setting that the session has made.
const LOOK_WITH_SETTINGS: &str = concat!(
    look!(),
    " UNION ALL SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session' \
     UNION ALL SELECT 'role', pg_catalog.current_setting('role') WHERE pg_catalog.current_setting('role') <> 'none' \
     UNION ALL SELECT NULL, 'user' WHERE session_user <> \
       (SELECT r.rolname FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) a \
        JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid)"
);

/// Where [`LOOK_WITH_SETTINGS`] says that the session's user is not the one who logged in.
const USER: &str = "user";

/// What a look at a server shows.
const SEEN: [PinReason; 5] = [
    PinReason::TemporaryObject,
    PinReason::AdvisoryLock,
    PinReason::Listen,
    PinReason::HeldCursor,
    PinReason::SqlPrepare,
];

/// Emptying a server may take this long; one that takes longer is closed.
const EMPTY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

impl Session {
    /// Looks at a server and pins the session to it when it holds something of the session.
    pub(super) async fn inspect(&mut self, index: usize) -> Result<(), Fault> {
        let name = self.shard_name(self.servers[index].shard);
        let is_home = self.servers[index].shard == self.engine.cluster.home();
        let server = &mut self.servers[index].lease;
        if server.status == wire::TransactionStatus::Failed {
            return Ok(());
        }
        let lost = |error| Fault::lost(&error, &name);
        let question = with_custom(LOOK_WITH_SETTINGS, self.settings.current());
        let reply = link::query(server, &question).await.map_err(lost)?;
        let rows = reply.into_rows().map_err(Fault::Statement)?;
        let found = reasons(&rows);
        // Another shard has what was brought to it, which may be older than what the block made at home.
        if is_home {
            self.follow_settings(&rows);
        }
        // What the code did beyond what can be seen (custom settings, for one) must not meet the next session.
        self.servers[index].lease.applied = crate::server::Applied::Unknown;
        for reason in found {
            self.keep_server(index, reason, is_home);
        }
        Ok(())
    }

    /// Takes over what code made of the settings: new ones, changed ones, and those that are back at their start.
    fn follow_settings(&mut self, rows: &[link::TextRow]) {
        let mut there: Vec<String> = Vec::new();
        for row in rows {
            match row.as_slice() {
                [Some(name), Some(value)] => {
                    self.adopt_setting(name, value);
                    there.push(name.to_ascii_lowercase());
                }
                [None, Some(place)] if place == USER => there.push("session_authorization".to_owned()),
                _ => {}
            }
        }
        let current = Rc::clone(self.settings.current());
        // Servers know nothing of Drover's own.
        let named = current.names().filter(|name| !is_own(name));
        for name in named.filter(|name| !there.iter().any(|n| n == name)) {
            self.settings.reset(name);
        }
    }

    /// Before a statement that runs where nobody looks afterwards (on several shards, or on all): when it runs code that
    /// was not proved, a block around it sees to it that its servers are looked at when it ends.
    pub(super) fn look_after(&mut self, effects: Effects) {
        if !effects.inspect {
            return;
        }
        if !self.block.is_open() {
            self.block.open("BEGIN".to_owned(), true);
            self.settings.begin();
        }
        self.block.inspect = true;
    }

    /// What a statement that ran on this server did to the session.
    pub(super) async fn after_effects(
        &mut self,
        index: usize,
        effects: Effects,
        failed: bool,
    ) -> Result<(), Fault> {
        if effects.notifies && !self.block.is_open() {
            Box::pin(self.after_notify()).await;
        }
        if let Some(reason) = effects.pin.filter(|reason| !failed || reason.survives_errors()) {
            self.pin(reason);
            self.servers[index].unpreparable = true;
        }
        if effects.sets_config && !self.block.is_open() {
            match failed {
                true => self.configs = Spare::absent(),
                false => Box::pin(self.follow_configs(index)).await?,
            }
        }
        if self.block.is_open() && !failed && (effects.sets_config || effects.inspect) {
            Box::pin(self.spread_settings(index, effects)).await?;
        }
        // What a block makes may be gone at its end; what failed need not have made anything.
        let may_end = effects.may_unpin || (effects.pin.is_some() && (failed || self.block.is_open()));
        self.recheck_pins |= may_end && !self.pinned.is_empty();
        if effects.inspect && self.block.is_open() {
            // What lasts beyond the block is seen at its end.
            self.block.inspect = true;
        } else if effects.inspect {
            self.inspect(index).await?;
        }
        Ok(())
    }

    /// Between transactions: looks whether what pins the session is still there, gives back what is not needed, and
    /// delivers notifications. A server that is let go is emptied before anybody else uses it.
    pub(super) async fn at_rest(&mut self) -> Result<(), Fault> {
        if self.recheck_pins {
            self.recheck_pins = false;
            if SEEN.iter().any(|reason| self.pinned.contains(*reason)) {
                Box::pin(self.recheck()).await?;
            }
        }
        if self.reads.is_some() && !self.servers.is_empty() && !self.block.is_open() {
            Box::pin(self.note_held_servers()).await;
        }
        self.release_servers();
        if self.listening.is_some() {
            self.deliver_notifications()?;
        }
        Ok(())
    }

    async fn recheck(&mut self) -> Result<(), Fault> {
        let home = self.engine.cluster.home();
        let Some(index) = self.servers.iter().position(|server| server.shard == home) else {
            return Ok(());
        };
        let name = self.shard_name(home);
        let reply = link::query(&mut self.servers[index].lease, LOOK)
            .await
            .map_err(|error| Fault::lost(&error, &name))?;
        self.client.conn.out().extend_from_slice(&reply.aside);
        let found = reasons(&reply.into_rows().map_err(Fault::Statement)?);
        for reason in SEEN {
            if !found.contains(&reason) {
                self.unpin(reason);
            }
        }
        if !self.pinned.hold_state() {
            self.servers[index].unpreparable = false;
            self.servers[index].lease.applied = crate::server::Applied::Unknown;
        }
        Ok(())
    }

    /// DISCARD ALL: the session's server is emptied, or closed where that is not enough.
    pub(super) async fn empty_pinned_servers(&mut self) {
        let process_state = self.pinned.contains(PinReason::ProcessState);
        for mut server in std::mem::take(&mut self.servers) {
            if !process_state && !server.busy && empty_server(&mut server.lease).await {
                match self.pinned.contains(PinReason::SessionMode) {
                    true => self.servers.push(server),
                    false => server.lease.release(),
                }
            }
        }
    }

    /// Looks at every server of a block that has just ended; one that cannot be looked at is not reused.
    pub(super) async fn inspect_all(&mut self) {
        for index in 0..self.servers.len() {
            let used = self.servers[index].begun || !self.block.is_open();
            if used && self.inspect(index).await.is_err() {
                self.servers[index].lease.dirty = true;
            }
        }
    }

    /// A setting made by a function: followed like one made by SET.
    pub(super) fn adopt_setting(&mut self, name: &str, value: &str) {
        if is_incidental(name) {
            return;
        }
        if is_own(&name.to_ascii_lowercase()) {
            return self.adopt_own(&name.to_ascii_lowercase(), value);
        }
        let statement = format!(
            "SET {} TO {}",
            super::settings::quote_name(name),
            super::settings::value_for_set(name, value)
        );
        if self.settings.current().get(&name.to_ascii_lowercase()) != Some(statement.as_str()) {
            self.settings.set(name, statement);
        }
    }

    fn keep_server(&mut self, index: usize, reason: PinReason, is_home: bool) {
        if !is_home {
            // A function on another shard left something of the session there; nobody else may get that server.
            self.servers[index].lease.dirty = true;
            return;
        }
        self.pin(reason);
        self.servers[index].unpreparable |= reason != PinReason::AdvisoryLock;
    }
}

/// Makes a server in no transaction as good as new. False: close it.
pub(super) async fn empty_server(server: &mut ServerConn) -> bool {
    let emptied = tokio::time::timeout(EMPTY_TIMEOUT, link::query(server, "DISCARD ALL")).await;
    if !matches!(emptied, Ok(Ok(reply)) if reply.error.is_none()) {
        server.dirty = true;
        return false;
    }
    server.prepared.clear();
    server.unnamed = None;
    server.sequences = crate::server::SequenceOwner::Nobody;
    server.applied = crate::server::Applied::Fresh;
    true
}

/// The question, and the custom settings that the session is known to have: no view lists those.
fn with_custom(question: &'static str, settings: &Settings) -> Cow<'static, str> {
    let custom: Vec<String> = settings
        .names()
        .filter(|name| name.contains('.') && !is_own(name))
        .map(sql::quote_literal)
        .collect();
    if custom.is_empty() {
        return Cow::Borrowed(question);
    }
    Cow::Owned(format!(
        "{question} UNION ALL SELECT n, pg_catalog.current_setting(n, true) FROM pg_catalog.unnest(ARRAY[{}]::pg_catalog.text[]) n",
        custom.join(", ")
    ))
}

fn reasons(rows: &[link::TextRow]) -> Vec<PinReason> {
    let found = rows.iter().filter_map(|row| match row.as_slice() {
        // SET SESSION AUTHORIZATION.
        [None, Some(place)] if place == USER => Some(PinReason::ProcessState),
        [None, Some(place)] => SEEN.get(place.parse::<usize>().ok()?).copied(),
        _ => None,
    });
    found.collect()
}

/// Settings that a session has without anybody having set them.
pub(super) fn is_incidental(name: &str) -> bool {
    matches!(
        name,
        "session_authorization"
            | "is_superuser"
            | "transaction_isolation"
            | "transaction_read_only"
            | "transaction_deferrable"
    )
}
