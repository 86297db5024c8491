//! A look at a server after code ran there that could have changed the session: what it left behind is found and kept.

use super::effects::{Effects, PinReason};
use super::{Fault, Session};
use crate::exec::link;
use crate::server::ServerConn;

/// One row: temporary objects, session advisory locks, listening, held cursors, SQL-prepared statements; in the order of
/// [`SEEN`]. Locks of an open transaction are not told from those of the session: ask outside of blocks.
const LOOK: &str = "SELECT pg_catalog.pg_my_temp_schema() <> 0 AND \
       (EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema()) OR \
        EXISTS (SELECT FROM pg_catalog.pg_type WHERE typnamespace = pg_catalog.pg_my_temp_schema()) OR \
        EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace = pg_catalog.pg_my_temp_schema())), \
     EXISTS (SELECT FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'advisory'), \
     EXISTS (SELECT FROM pg_catalog.pg_listening_channels()), \
     EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable), \
     EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)";

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

const SETTINGS: &str = "SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session'";

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
        let reply = link::query(server, LOOK).await.map_err(lost)?;
        let found = reasons(&reply.into_rows().map_err(Fault::Statement)?);
        let settings = link::query(server, SETTINGS)
            .await
            .map_err(lost)?
            .into_rows()
            .map_err(Fault::Statement)?;
        let unknown = settings.iter().any(|row| {
            let name = row.first().and_then(|name| name.as_deref()).unwrap_or_default();
            self.settings.current().get(&name.to_ascii_lowercase()).is_none() && !is_incidental(name)
        });
        for row in &settings {
            if let [Some(name), Some(value)] = row.as_slice() {
                self.adopt_setting(name, value);
            }
        }
        // What the code did beyond what can be seen (custom settings, for one) must not meet the next session.
        self.servers[index].lease.applied = crate::server::Applied::Unknown;
        for reason in found {
            self.keep_server(index, reason, is_home);
        }
        if unknown {
            self.keep_server(index, PinReason::ProcessState, is_home);
        }
        Ok(())
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
                true => self.configs = super::ConfigCalls::default(),
                false => Box::pin(self.follow_configs(index)).await?,
            }
        }
        // What a block makes may be gone at its end.
        let may_end = effects.may_unpin || (effects.pin.is_some() && self.block.is_open());
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
            if self.servers[index].begun && self.inspect(index).await.is_err() {
                self.servers[index].lease.dirty = true;
            }
        }
    }

    /// A setting made by a function: followed like one made by SET.
    pub(super) fn adopt_setting(&mut self, name: &str, value: &str) {
        if is_incidental(name) {
            return;
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

fn reasons(rows: &[link::TextRow]) -> Vec<PinReason> {
    let row = rows.first().map(Vec::as_slice).unwrap_or_default();
    row.iter()
        .zip(SEEN)
        .filter(|(value, _)| value.as_deref() == Some("t"))
        .map(|(_, reason)| reason)
        .collect()
}

/// Settings that a session has without anybody having set them.
fn is_incidental(name: &str) -> bool {
    matches!(
        name,
        "session_authorization"
            | "is_superuser"
            | "transaction_isolation"
            | "transaction_read_only"
            | "transaction_deferrable"
            | "client_encoding"
    )
}
