//! A look at a server after code ran there that could have changed the session: what it left behind is found and kept.

use super::effects::PinReason;
use super::{Fault, Session};
use crate::exec::link;

/// One row: temporary objects, session advisory locks, listening, held cursors, SQL-prepared statements; then the
/// settings that are not the login's.
const LOOK: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema()), \
     EXISTS (SELECT FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'advisory'), \
     EXISTS (SELECT FROM pg_catalog.pg_listening_channels()), \
     EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable), \
     EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)";

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
        let found = link::query(server, LOOK)
            .await
            .map_err(lost)?
            .into_rows()
            .map_err(Fault::Statement)?;
        let reasons = [
            PinReason::TemporaryObject,
            PinReason::AdvisoryLock,
            PinReason::Listen,
            PinReason::HeldCursor,
            PinReason::SqlPrepare,
        ];
        let reason = found.first().and_then(|row| {
            row.iter()
                .zip(reasons)
                .find(|(value, _)| value.as_deref() == Some("t"))
                .map(|(_, reason)| reason)
        });
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
        if let Some(reason) = reason {
            self.keep_server(index, reason, is_home)?;
        } else if unknown {
            self.keep_server(index, PinReason::ProcessState, is_home)?;
        }
        Ok(())
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
    fn adopt_setting(&mut self, name: &str, value: &str) {
        if is_incidental(name) {
            return;
        }
        let statement = format!(
            "SET {} TO {}",
            super::settings::quote_name(name),
            setting_literal(name, value)
        );
        if self.settings.current().get(&name.to_ascii_lowercase()) != Some(statement.as_str()) {
            self.settings.set(name, statement);
        }
    }

    fn keep_server(&mut self, index: usize, reason: PinReason, is_home: bool) -> Result<(), Fault> {
        if !is_home {
            // A function on another shard left something of the session there; nobody else may get that server.
            self.servers[index].lease.dirty = true;
            return Ok(());
        }
        self.pin(reason);
        self.servers[index].unpreparable |= reason != PinReason::AdvisoryLock;
        Ok(())
    }
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

/// List-valued settings come as the list's text, which must not be quoted as a whole.
fn setting_literal(name: &str, value: &str) -> String {
    const LISTS: [&str; 4] = [
        "search_path",
        "temp_tablespaces",
        "session_preload_libraries",
        "local_preload_libraries",
    ];
    if LISTS.contains(&name) && !value.trim().is_empty() {
        value.to_owned()
    } else {
        sql::quote_literal(value)
    }
}
