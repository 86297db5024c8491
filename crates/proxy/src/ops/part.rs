//! The part of a move on one shard: a connection with an open transaction.

use catalog::ShardId;
use catalog::load::PREAMBLE;
use wire::TransactionStatus;

use super::OpError;
use crate::admin_link::{AdminError, AdminLink};
use crate::cluster::Cluster;
use crate::exec::link::{self, Reply, TextRow};

/// What every part sets besides the catalog's own settings. Triggers and foreign keys do not fire while rows are moved;
/// nothing ends the transaction while it waits for other shards; row security fails instead of hiding rows.
const SETTINGS: &str = "SET LOCAL session_replication_role = replica; SET LOCAL row_security = off; \
    SET LOCAL client_min_messages = error; SET LOCAL lc_monetary = 'C'; SET LOCAL xmloption = content; \
    SET LOCAL check_function_bodies = off; SET LOCAL default_tablespace = ''; \
    SELECT pg_catalog.set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name IN ('statement_timeout', \
    'idle_in_transaction_session_timeout', 'transaction_timeout', 'lock_timeout')";

/// One shard's part of a move.
pub(super) struct Part {
    /// Which shard.
    pub(super) shard: ShardId,
    /// Its name.
    pub(super) name: String,
    /// The connection.
    pub(super) link: AdminLink,
    /// In the middle of COPY: only closing the connection gets out of it.
    pub(super) copying: bool,
}

impl Part {
    /// Connects and opens the transaction.
    pub(super) async fn begin(cluster: &Cluster, shard: ShardId, database: &str) -> Result<Part, OpError> {
        let name = shard_name(cluster, shard);
        let link = cluster
            .admin_link(shard, database)
            .await
            .map_err(OpError::on(&name))?;
        let mut part = Part {
            shard,
            name,
            link,
            copying: false,
        };
        // The catalog's settings, which fix how values are printed, without its BEGIN.
        let settings = PREAMBLE.split_once(';').map_or("", |(_, rest)| rest);
        let begin = format!("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {settings}; {SETTINGS}");
        part.run(&begin).await?;
        Ok(part)
    }

    /// Connects and opens a transaction that reads what there is now, as long as it is open.
    pub(super) async fn begin_reading(
        cluster: &Cluster,
        shard: ShardId,
        database: &str,
        table: &str,
    ) -> Result<Part, OpError> {
        let mut part = Part::begin(cluster, shard, database).await?;
        // A table that is rewritten would be empty to a snapshot from before: the lock keeps it from being so. Who waits for
        // a stronger lock may itself wait for whoever asks for this one, where no server sees it.
        let settings = PREAMBLE.split_once(';').map_or("", |(_, rest)| rest);
        let begin = format!(
            "ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {settings}; {SETTINGS}; SET LOCAL lock_timeout = {}; \
             LOCK TABLE {table} IN ACCESS SHARE MODE; SET LOCAL lock_timeout = 0",
            super::LOCK_TIMEOUT.as_millis()
        );
        part.run(&begin).await?;
        Ok(part)
    }

    /// Connects and opens a transaction that reads what an exported snapshot sees.
    pub(super) async fn begin_at(
        cluster: &Cluster,
        shard: ShardId,
        database: &str,
        snapshot: &str,
    ) -> Result<Part, OpError> {
        let name = shard_name(cluster, shard);
        let link = cluster
            .admin_link(shard, database)
            .await
            .map_err(OpError::on(&name))?;
        let mut part = Part {
            shard,
            name,
            link,
            copying: false,
        };
        let settings = PREAMBLE.split_once(';').map_or("", |(_, rest)| rest);
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}; {settings}; {SETTINGS}",
            sql::quote_literal(snapshot)
        );
        part.run(&begin).await?;
        Ok(part)
    }

    /// Runs a text and gives its rows.
    pub(super) async fn rows(&mut self, sql: &str) -> Result<Vec<TextRow>, OpError> {
        self.link.rows(sql).await.map_err(OpError::on(&self.name))
    }

    /// Runs a text for its effect.
    pub(super) async fn run(&mut self, sql: &str) -> Result<(), OpError> {
        self.rows(sql).await.map(|_| ())
    }

    /// Runs a text and gives all of the answer; an error in it is an error here.
    pub(super) async fn reply(&mut self, sql: &str) -> Result<Reply, OpError> {
        let reply = link::query(&mut self.link.server, sql).await;
        let mut reply = reply.map_err(|error| self.failed(AdminError::Link(error)))?;
        match reply.error.take() {
            Some(error) => Err(self.failed(AdminError::Server(error))),
            None => Ok(reply),
        }
    }

    /// Runs a text and gives the last command tag.
    pub(super) async fn tag(&mut self, sql: &str) -> Result<String, OpError> {
        Ok(self.reply(sql).await?.tags.pop().unwrap_or_default())
    }

    /// Runs a text that gives one row of numbers.
    pub(super) async fn counts<const N: usize>(&mut self, sql: &str) -> Result<[u64; N], OpError> {
        let rows = self.rows(sql).await?;
        let numbers = rows
            .first()
            .map(|row| row.iter().map(|value| value.as_deref()?.parse().ok()).collect());
        numbers
            .flatten()
            .and_then(|numbers: Vec<u64>| numbers.try_into().ok())
            .ok_or_else(|| self.failed(AdminError::State("a count cannot be read".to_owned())))
    }

    /// Ends the transaction as well as can be; what cannot be rolled back ends with the connection.
    pub(super) async fn roll_back(mut self) {
        let open = self.link.server.status != TransactionStatus::Idle;
        if open && !self.copying && !self.link.server.dirty {
            // A lost connection has rolled back as well.
            let _ = self.link.run("ROLLBACK").await;
        }
    }

    /// A failure on this shard.
    pub(super) fn failed(&self, source: AdminError) -> OpError {
        OpError::Shard {
            shard: self.name.clone(),
            source,
        }
    }
}

/// What people call a shard.
pub(super) fn shard_name(cluster: &Cluster, shard: ShardId) -> String {
    cluster
        .record()
        .shard(shard)
        .map_or_else(|| format!("shard {shard}"), |shard| shard.name.clone())
}

/// The number at the end of a command tag.
pub(super) fn tag_count(tag: &str) -> Option<u64> {
    tag.rsplit(' ').next()?.parse().ok()
}
