//! Getting servers for a session, bringing them to its settings, and giving them back.

use std::any::Any;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::BytesMut;
use catalog::ShardId;
use sql::Isolation;
use wire::TransactionStatus;
use wire::backend::tag;

use super::ahead::{Way, settle_by};
use super::block::{BeganWith, BlockState, Enlisted, Wrote};
use super::effects::PinReason;
use super::settings::Settings;
use super::{Fault, Session};
use crate::engine::PlanContext;
use crate::exec::link;
use crate::pools::{Lease, Place, PoolKey, Purpose, ShardPool, TicketGuard};
use crate::server::{Applied, ServerConn};

/// Dead connections that a statement meets before it gives up.
const DEAD_SERVERS_MAX: usize = 5;

/// A home connection to ask something on.
pub(super) enum HomeAccess {
    /// One the session holds anyway.
    Held(usize),
    /// One borrowed for the question, and what lists it beside the session's own servers, where it has any.
    Lent(
        Box<Lease>,
        #[allow(dead_code, reason = "held as long as the connection")] Option<TicketGuard>,
    ),
}

/// What plans depend on besides the schema. A row per schema of the search path, and one if there is none.
const CONTEXT_SQL: &str = "SELECT pg_catalog.current_setting('standard_conforming_strings'), s, \
     pg_catalog.pg_client_encoding() \
     FROM (SELECT 1) one LEFT JOIN pg_catalog.unnest(pg_catalog.current_schemas(false)) s ON true";

impl Session {
    /// The index of the session's server for a shard; gets one if there is none.
    pub(super) async fn enlist(&mut self, shard: ShardId) -> Result<usize, Fault> {
        let index = self.enlist_with(shard, Way::Before).await?;
        if self.servers[index].ahead.is_some() && self.extended.open_on != Some(shard) {
            Box::pin(self.finish_ahead(index)).await?;
        }
        Ok(index)
    }

    /// The same for a statement that is sent at once: what brings a new server to the session's settings may be appended,
    /// to leave with it (see [`super::ahead`]). What follows must be that statement, or BEGIN and that statement.
    pub(super) async fn enlist_with(&mut self, shard: ShardId, way: Way) -> Result<usize, Fault> {
        self.enlist_from(None, shard, way).await
    }

    /// The same; the first connection to be tried was obtained already.
    pub(super) async fn enlist_from(
        &mut self,
        mut obtained: Option<Enlisted>,
        shard: ShardId,
        way: Way,
    ) -> Result<usize, Fault> {
        if self.cancel.slot.is_cancelled() {
            return Err(Fault::error("57014", crate::exec::relay::CANCELLED));
        }
        // What the home connection has and nothing can carry over.
        if self.pinned.contains(PinReason::ProcessState) && shard != self.engine.cluster.home() {
            return Err(Fault::refused_as(plan::RefusalCode::HiddenSettings));
        }
        if let Some(index) = self.servers.iter().position(|server| server.shard == shard) {
            return Ok(index);
        }
        self.check_further_shard()?;
        if self.block.is_open() {
            match self.isolation() {
                Isolation::Serializable if !self.servers.is_empty() => return Err(serializable()),
                Isolation::RepeatableRead if !self.block.snapshots && self.has_sharded() => {
                    return Box::pin(self.take_snapshots(shard)).await;
                }
                _ => {}
            }
        }
        let mut attempts = 1;
        loop {
            let ready = match &self.reads {
                Some(_) if obtained.is_none() && !self.block.cluster_snapshot => {
                    Box::pin(self.obtain_replica(shard)).await?
                }
                _ => obtained.take(),
            };
            let mut enlisted = match ready {
                Some(enlisted) => enlisted,
                None => self.obtain(shard).await?,
            };
            let wanted = if self.block.is_open() {
                self.settings.before_transaction()
            } else {
                self.settings.current()
            };
            // More than BEGIN is asked for by itself.
            let plainly = !self.block.is_open() || self.settings.joins_plainly();
            let way = if plainly { way } else { Way::Before };
            match settle_by(way, &mut enlisted.lease, wanted).await {
                Ok(ahead) => {
                    enlisted.ahead = ahead;
                    self.servers.push(enlisted);
                    return Ok(self.servers.len() - 1);
                }
                // It died while it was idle; nothing of the client's has been sent.
                Err(fault) if fault.is_lost() && attempts < DEAD_SERVERS_MAX => {
                    attempts += 1;
                    enlisted.lease.discard();
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// A server from the pool of a shard's primary, not yet settled.
    async fn obtain(&mut self, shard: ShardId) -> Result<Enlisted, Fault> {
        let pool = self.pool(shard);
        let lease = self.lease_from(&pool).await?;
        Ok(self.enlisted(shard, lease))
    }

    /// A connection of a pool: from its ordinary ones for the first shard, from those set aside for any further one.
    pub(super) async fn lease_from(&mut self, pool: &ShardPool) -> Result<Lease, Fault> {
        let lease = if self.servers.is_empty() {
            match pool.try_checkout(Purpose::First, Some(&self.cancel.slot)) {
                Some(lease) => lease,
                None => {
                    let since = std::time::Instant::now();
                    let purpose = self.first_purpose();
                    let lease = pool.checkout(purpose, Some(&self.cancel.slot)).await;
                    self.observation.waited(since, &self.engine.metrics);
                    lease?
                }
            }
        } else {
            if self.block.ticket.is_none() {
                self.block.ticket = Some(self.engine.pools.ticket(Some(&self.cancel.slot)).await?);
            }
            let Some(ticket) = &self.block.ticket else {
                return Err(Fault::error("XX000", "no ticket"));
            };
            pool.checkout(Purpose::Further(ticket), Some(&self.cancel.slot))
                .await?
        };
        self.check_fence()?;
        Ok(lease)
    }

    /// A connection as one of the session's own.
    pub(super) fn enlisted(&mut self, shard: ShardId, mut lease: Lease) -> Enlisted {
        self.account.totals.server_assignment_count.increment();
        if let Some(watch) = &self.watch {
            lease.watch = Some(Rc::clone(watch));
        }
        lease.budget.clone_from(&self.budget);
        Enlisted {
            shard,
            lease,
            begun: false,
            wrote: Wrote::No,
            busy: false,
            ahead: None,
            unpreparable: false,
            replica: None,
        }
    }

    /// Enlists the first server of a transaction without waiting, if one is idle and has the session's settings. One that
    /// has not is the error, if any is idle at all.
    pub(super) fn enlist_at_once(&mut self, shard: ShardId) -> Result<(), Option<Enlisted>> {
        if self.cancel.slot.is_cancelled() {
            return Err(None);
        }
        let at = self.pool_at(shard);
        let pool = &self.pools[at].1;
        let lease = pool.try_checkout(Purpose::First, Some(&self.cancel.slot));
        let enlisted = self.enlisted(shard, lease.ok_or(None)?);
        if !is_settled(&enlisted.lease, self.settings.current()) {
            return Err(Some(enlisted));
        }
        self.servers.push(enlisted);
        Ok(())
    }

    /// Several shards at once, in the order given (home first where the caller cares).
    pub(super) async fn enlist_all(&mut self, shards: &[ShardId]) -> Result<Vec<usize>, Fault> {
        let mut indexes = Vec::with_capacity(shards.len());
        for shard in shards {
            indexes.push(self.enlist(*shard).await?);
        }
        Ok(indexes)
    }

    /// All shards begin a REPEATABLE READ block at its first statement: a shard that joined later would show what was
    /// committed meanwhile.
    async fn take_snapshots(&mut self, wanted: ShardId) -> Result<usize, Fault> {
        self.block.snapshots = true;
        let record = self.engine.cluster.record();
        let shards: Vec<ShardId> = record.shards.iter().map(|shard| shard.id).collect();
        let indexes = self.enlist_all(&shards).await?;
        let held = self.hold_decisions().await?;
        let mut skips = Vec::with_capacity(indexes.len());
        for index in &indexes {
            skips.push(self.begin_on(*index).await?);
            let server = &mut self.servers[*index].lease;
            link::send_query(server, "SELECT 1").map_err(|error| Fault::lost(&error, "a shard"))?;
            server.conn.try_flush();
        }
        for (index, skip) in indexes.iter().zip(skips) {
            let name = self.shard_name(self.servers[*index].shard);
            let lost = |error| Fault::lost(&error, &name);
            let server = &mut self.servers[*index].lease;
            link::skip_replies(server, skip).await.map_err(lost)?;
            let reply = link::collect(server).await.map_err(lost)?;
            reply.into_rows().map_err(Fault::Statement)?;
        }
        Self::check_held(held)?;
        self.enlist(wanted).await
    }

    pub(super) fn has_sharded(&self) -> bool {
        let record = self.engine.cluster.record();
        record
            .tables
            .iter()
            .any(|table| *table.database == *self.database)
    }

    /// The isolation level of the open block, as far as the session chose it.
    pub(super) fn isolation(&self) -> Isolation {
        let default = self
            .settings
            .before_transaction()
            .get("default_transaction_isolation")
            .unwrap_or_default();
        let chosen =
            format!("{default} {} {}", self.block.begin, self.settings.local_modes()).to_ascii_lowercase();
        let last = |level: &str| chosen.rfind(level);
        let levels = [
            (last("serializable"), Isolation::Serializable),
            (last("repeatable read"), Isolation::RepeatableRead),
            (
                last("read committed").max(last("read uncommitted")),
                Isolation::ReadCommitted,
            ),
        ];
        // The one said last counts.
        let chosen = levels
            .into_iter()
            .filter_map(|(at, level)| Some((at?, level)))
            .max_by_key(|(at, _)| *at);
        chosen.map_or(Isolation::ReadCommitted, |(_, level)| level)
    }

    /// The pool of a shard; looked up once per session.
    pub(super) fn pool(&mut self, shard: ShardId) -> ShardPool {
        let at = self.pool_at(shard);
        self.pools[at].1.clone()
    }

    /// Where the pool of a shard is among the session's own handles.
    pub(super) fn pool_at(&mut self, shard: ShardId) -> usize {
        if let Some(at) = self.pools.iter().position(|(known, _)| *known == shard) {
            return at;
        }
        let pool = self.engine.pools.pool_for(&self.pool_key(shard));
        // Mostly it is the only one.
        self.pools.reserve_exact(1);
        self.pools.push((shard, pool));
        self.pools.len() - 1
    }

    pub(super) fn pool_key(&self, shard: ShardId) -> PoolKey {
        self.pool_key_at(Place::primary(shard.0))
    }

    /// The pool of this session's connections to a server.
    pub(super) fn pool_key_at(&self, place: Place) -> PoolKey {
        PoolKey {
            place,
            user: Arc::clone(&self.admission.user.name),
            database: Arc::clone(&self.admission.database.name),
            server_user: Arc::clone(&self.user),
            server_database: Arc::clone(&self.database),
        }
    }

    /// Opens the session's block on a server if that was not done yet. A plain `BEGIN` is only appended, to leave with
    /// the statement that follows; the result is the number of answers to skip before that statement's own.
    pub(super) async fn begin_on(&mut self, index: usize) -> Result<usize, Fault> {
        if !self.block.is_open() {
            return Ok(0);
        }
        self.check_began()?;
        if self.servers[index].begun {
            return Ok(0);
        }
        let text = self.settings.joining(&self.block.begin);
        let plain = text.len() == self.block.begin.len() + 1;
        let name = self.shard_name(self.servers[index].shard);
        let server = &mut self.servers[index];
        server.begun = true;
        if plain {
            link::send_query(&mut server.lease, &self.block.begin)
                .map_err(|error| Fault::lost(&error, &name))?;
            return Ok(1);
        }
        let reply = link::query(&mut server.lease, &text)
            .await
            .map_err(|error| Fault::lost(&error, &name))?;
        match reply.error {
            Some(error) => Err(Fault::Statement(error)),
            None => Ok(0),
        }
    }

    /// Refuses to go on with a transaction whose snapshots may be older than a table's move.
    fn check_began(&mut self) -> Result<(), Fault> {
        let cluster = &self.engine.cluster;
        let version = cluster.version(&self.database);
        match &self.block.began_with {
            Some(began) if began.version == version => return Ok(()),
            Some(began) => {
                let record = cluster.record();
                if let Some(table) = began.moved(&record, &self.database) {
                    let text =
                        format!("table \"{table}\" was moved to other shards since this transaction began");
                    return Err(Fault::error("40001", text));
                }
                // Snapshots of the whole transaction show where rows were, whatever their tables are called now.
                if self.isolation() != Isolation::ReadCommitted && began.outdated(&record, &self.database) {
                    let text = "rows were moved to other shards since this transaction began";
                    return Err(Fault::error("40001", text));
                }
            }
            None => {
                self.block.began_with = self.known_now();
                return Ok(());
            }
        }
        if let Some(began) = &mut self.block.began_with {
            began.version = version;
        }
        Ok(())
    }

    /// What is known at this moment, for a block that begins to look at data now.
    pub(super) fn known_now(&self) -> Option<BeganWith> {
        let cluster = &self.engine.cluster;
        let version = cluster.version(&self.database);
        let facts = cluster.facts(&self.database)?;
        Some(BeganWith {
            version,
            record: cluster.record(),
            facts,
        })
    }

    /// A home connection with the session's settings, to ask something that has no effect.
    pub(super) async fn home_access(&mut self, home: ShardId) -> Result<HomeAccess, Fault> {
        if self.extended.open_on == Some(home) {
            // A question in the middle of a pipeline would take the pipeline's answers for its own.
            self.settle_batch_for_question().await?;
        }
        let held = self.servers.iter().position(|server| server.shard == home);
        if let Some(index) = held
            && self.servers[index].lease.status != TransactionStatus::Failed
        {
            if self.servers[index].ahead.is_some() {
                Box::pin(self.finish_ahead(index)).await?;
            }
            let skip = if self.servers[index].begun {
                0
            } else {
                self.begin_for_question(index).await?
            };
            if skip > 0 {
                let name = self.shard_name(home);
                let lost = |error| Fault::lost(&error, &name);
                link::skip_replies(&mut self.servers[index].lease, skip)
                    .await
                    .map_err(lost)?;
            }
            return Ok(HomeAccess::Held(index));
        }
        self.lent_home(home).await
    }

    /// The same for what does not depend on anything the session has under way: where the session's own connection is
    /// in the middle of a pipeline that cannot be ended early, another is asked.
    async fn home_access_for_settings(&mut self, home: ShardId) -> Result<HomeAccess, Fault> {
        if self.extended.open_on == Some(home) && self.extended.flushed {
            return self.lent_home(home).await;
        }
        self.home_access(home).await
    }

    async fn lent_home(&mut self, home: ShardId) -> Result<HomeAccess, Fault> {
        let key = self.pool_key(home);
        let mut lease = self
            .engine
            .pools
            .checkout(&key, Purpose::Control, Some(&self.cancel.slot))
            .await?;
        // What it is asked may wait for a lock, while others wait for what the session has locked elsewhere.
        let listed = match self.servers.is_empty() || self.block.ticket.is_some() {
            true => None,
            false => Some(self.engine.pools.listed(&self.cancel.slot)),
        };
        settle(&mut lease, self.settings.current()).await?;
        Ok(HomeAccess::Lent(Box::new(lease), listed))
    }

    /// A held server that has not begun the open block must begin it before it is asked anything.
    async fn begin_for_question(&mut self, index: usize) -> Result<usize, Fault> {
        let skip = self.begin_on(index).await?;
        if skip > 0 {
            self.servers[index]
                .lease
                .conn
                .flush()
                .await
                .map_err(|_| Fault::error("08006", "a shard was lost"))?;
        }
        Ok(skip)
    }

    /// Puts back what [`Self::home_access`] lent.
    pub(super) fn done_asking(&mut self, access: HomeAccess) {
        if let HomeAccess::Lent(lease, _) = access {
            lease.release();
        }
    }

    /// After a statement outside any block, or at the end of one: gives the servers back, except a pinned one.
    pub(super) fn release_servers(&mut self) {
        if !self.servers.is_empty() {
            self.engine.metrics.transactions.increment();
        }
        if self.reads.is_some() {
            self.forget_positions();
        }
        self.block.ticket = None;
        let now = self.observation.answered;
        if self.pinned.is_empty() {
            while let Some(server) = self.servers.pop() {
                give_back(server, now);
            }
            return;
        }
        let home = self.engine.cluster.home();
        for mut server in std::mem::take(&mut self.servers) {
            if server.shard == home && server.replica.is_none() {
                server.begun = false;
                server.wrote = Wrote::No;
                self.servers.push(server);
            } else {
                give_back(server, now);
            }
        }
    }

    /// The session keeps its home connection from now on.
    pub(super) fn pin(&mut self, reason: PinReason) {
        let mut pins = self.pinned;
        pins.insert(reason);
        self.set_pinned(pins);
    }

    /// This reason is over; a session without any gives its home connection back after the statement.
    pub(super) fn unpin(&mut self, reason: PinReason) {
        let mut pins = self.pinned;
        pins.remove(reason);
        self.set_pinned(pins);
    }

    /// A name may mean a temporary object of this session.
    pub(super) fn may_have_temporary_objects(&self) -> bool {
        let unseen = self.extended.effects.pin == Some(PinReason::TemporaryObject);
        unseen || self.pinned.contains(PinReason::TemporaryObject)
    }

    /// Removes one server that is gone; a pinned session that loses its own cannot go on: [`Self::pins_lost`] ends it.
    pub(super) fn drop_server(&mut self, index: usize) {
        if index < self.servers.len() {
            let mut server = self.servers.remove(index);
            self.note_dropped(&server);
            match &mut server.replica {
                Some(replica) => replica.end(crate::nodes::Outcome::Gone),
                None => self.shard_position_unknown(server.shard),
            }
        }
    }

    /// Closes the servers whose answers were not read to the end.
    pub(super) fn drop_busy_servers(&mut self) {
        for index in (0..self.servers.len()).rev() {
            if self.servers[index].busy {
                let server = self.servers.remove(index);
                self.note_dropped(&server);
            }
        }
    }

    /// Lets the servers go that did not answer a question of the proxy's own. A session that kept one would ask it again and
    /// again, and its ROLLBACK would fail like everything else.
    fn drop_lost_servers(&mut self) {
        for index in (0..self.servers.len()).rev() {
            if self.servers[index].lease.lost {
                self.drop_server(index);
            }
        }
    }

    /// What goes with a server.
    fn note_dropped(&mut self, server: &Enlisted) {
        self.block.lost |= server.begun && self.block.is_open();
        let home = server.shard == self.engine.cluster.home() && server.replica.is_none();
        self.pins_lost |= home && !self.pinned.is_empty();
    }

    /// The plan context of the session's settings as they are now.
    pub(super) async fn plan_context(&mut self) -> Result<Rc<PlanContext>, Fault> {
        if let Some(private) = &self.private_context {
            return Ok(Rc::clone(private));
        }
        if self.block.schema == super::block::SchemaChange::Barrier && self.block.state == BlockState::Open {
            return Box::pin(self.load_private_context()).await;
        }
        self.shared_context().await
    }

    /// The context that other sessions with the same settings share.
    pub(super) async fn shared_context(&mut self) -> Result<Rc<PlanContext>, Fault> {
        let version = self.engine.cluster.version(&self.database);
        if let Some((context, settings)) = &self.context
            && context.version == version
            && Rc::ptr_eq(settings, self.settings.current())
            && self.settings.is_planned_plainly()
        {
            return Ok(Rc::clone(context));
        }
        let local = self.settings.local_text();
        let fingerprint = self.settings.current().plan_fingerprint() + &local;
        let found = self
            .engine
            .context(&self.database, &self.user, &fingerprint, version);
        let context = match found {
            Some(context) => context,
            None => {
                let context = Box::pin(self.make_context(version, &local)).await?;
                self.engine
                    .keep_context(&self.database, &self.user, fingerprint, &context);
                context
            }
        };
        if local.is_empty() {
            self.context = Some((Rc::clone(&context), Rc::clone(self.settings.current())));
        } else {
            self.context = None;
        }
        Ok(context)
    }

    async fn make_context(&mut self, version: u64, local: &str) -> Result<Rc<PlanContext>, Fault> {
        let snapshot = self.engine.cluster.snapshot(&self.database).await?;
        let home = snapshot.home();
        let mut access = self.home_access_for_settings(home).await?;
        let server = self.asked(&mut access);
        let question = format!("BEGIN READ ONLY; {local} {CONTEXT_SQL}; ROLLBACK");
        let question = if server.status == TransactionStatus::Idle {
            question
        } else {
            CONTEXT_SQL.to_owned()
        };
        let reply = link::query(server, &question)
            .await
            .map_err(|error| Fault::lost(&error, "the home shard"))?;
        self.done_asking(access);
        let rows = reply.into_rows().map_err(Fault::Statement)?;
        let conforming_strings = rows
            .first()
            .and_then(|row| row.first()?.as_deref())
            .is_none_or(|on| on == "on");
        let encoding = rows.first().and_then(|row| row.get(2)?.as_deref());
        let encoding: Arc<str> = encoding.unwrap_or_default().into();
        let utf8 = matches!(&*encoding, "UTF8" | "SQL_ASCII");
        let search_path = rows
            .into_iter()
            .filter_map(|row| row.into_iter().nth(1).flatten())
            .collect();
        Ok(self.engine.new_context(PlanContext {
            snapshot,
            version,
            search_path,
            conforming_strings,
            utf8,
            encoding,
            statements: crate::exec::cache::StatementCache::default(),
            id: self.engine.next_statement_id().0.into(),
        }))
    }

    /// The connection behind a [`HomeAccess`].
    pub(super) fn asked<'a>(&'a mut self, access: &'a mut HomeAccess) -> &'a mut ServerConn {
        match access {
            HomeAccess::Held(index) => &mut self.servers[*index].lease,
            HomeAccess::Lent(lease, _) => lease,
        }
    }

    /// A shard's name for people.
    pub(super) fn shard_name(&self, shard: ShardId) -> String {
        self.engine.shared.shards.name(shard.0)
    }

    /// A statement failed. So has the open block: nothing but its end is accepted.
    pub(super) fn fail_block(&mut self) {
        self.drop_lost_servers();
        if self.block.is_open() {
            self.block.state = BlockState::Failed;
        }
    }

    /// Waits for the client while the session holds servers: notifications of a pinned server pass, and a server that
    /// dies meanwhile ends the session, as the death of a backend would.
    pub(super) async fn wait_beside_servers(&mut self) -> Result<bool, Fault> {
        let client = &mut self.client.conn;
        let servers = &mut self.servers;
        let (stop, in_block) = (&self.stop, self.block.is_open());
        let outcome = poll_fn(|cx| {
            let reason = stop.reason();
            // A shutdown lets a transaction end.
            if stop.is_set() && !(in_block && reason == crate::worker::StopReason::Shutdown) {
                return Poll::Ready(Err(super::stopped(reason)));
            }
            match client.poll_fill(cx) {
                Poll::Ready(Ok(n)) => return Poll::Ready(Ok(n > 0)),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Fault::ClientGone)),
                Poll::Pending => {}
            }
            for server in servers.iter_mut() {
                match server.lease.conn.poll_fill(cx) {
                    Poll::Ready(Ok(n)) if n > 0 => {
                        if let Some(fault) = pass_idle_messages(&mut server.lease, client) {
                            return Poll::Ready(Err(fault));
                        }
                        if let Poll::Ready(Err(_)) = client.poll_flush(cx) {
                            return Poll::Ready(Err(Fault::ClientGone));
                        }
                        cx.waker().wake_by_ref();
                    }
                    Poll::Ready(_) => {
                        return Poll::Ready(Err(Fault::fatal("08006", "the connection to a shard was lost")));
                    }
                    Poll::Pending => {}
                }
            }
            Poll::Pending
        });
        outcome.await
    }
}

fn serializable() -> Fault {
    Fault::refused(&plan::Refusal::new(plan::RefusalCode::SerializableOverShards))
}

/// Returns a server to its pool; one with an answer outstanding is closed.
pub(super) fn give_back(mut server: Enlisted, now: Option<Instant>) {
    server.lease.unnamed = None;
    if let Some(replica) = &mut server.replica {
        replica.end(crate::nodes::Outcome::Answered);
    }
    // Messages that have not left would be the next session's first.
    if server.busy || server.lease.conn.pending_out() > 0 {
        server.lease.discard();
    } else {
        server.lease.release_at(now);
    }
}

/// Forwards what an idle server may say by itself. An error there ends the session.
fn pass_idle_messages(server: &mut ServerConn, client: &mut crate::conn::Conn) -> Option<Fault> {
    while let Ok(Some(message)) = server.conn.message(1 << 20) {
        let len = message.bytes.len();
        match message.tag {
            tag::NOTIFICATION | tag::NOTICE => client.out().extend_from_slice(message.bytes),
            tag::PARAMETER_STATUS => {
                client.out().extend_from_slice(message.bytes);
                link::note_parameter(server, len, tag::PARAMETER_STATUS);
            }
            tag::ERROR => {
                let fields = match wire::backend::Backend::decode(message) {
                    Ok(wire::backend::Backend::Error(fields)) => fields.to_owned(),
                    _ => wire::backend::ErrorFields::fatal("08006", "the connection to a shard was lost"),
                };
                return Some(Fault::Fatal(Box::new(fields)));
            }
            _ => return Some(Fault::fatal("08P01", "a shard sent an unexpected message")),
        }
        server.conn.consume(len);
    }
    None
}

/// A server has the wanted settings, at a glance: they are the very same object.
pub(super) fn is_settled(server: &ServerConn, wanted: &Rc<Settings>) -> bool {
    matches!(&server.applied, Applied::Known(applied) if std::ptr::addr_eq(Rc::as_ptr(applied), Rc::as_ptr(wanted)))
}

/// Brings a server that is in no transaction to the wanted settings. The result is what the server reported about
/// them, for a client that asked for the change.
pub(super) async fn settle(server: &mut ServerConn, wanted: &Rc<Settings>) -> Result<BytesMut, Fault> {
    let text = match &server.applied {
        Applied::Known(_) if is_settled(server, wanted) => return Ok(BytesMut::new()),
        Applied::Known(applied) => match applied.downcast_ref::<Settings>() {
            Some(applied) => wanted.difference(applied),
            None => wanted.difference(&Settings::default()),
        },
        Applied::Fresh => wanted.difference(&Settings::default()),
        Applied::Unknown => {
            let lost = |error| Fault::lost(&error, "a shard");
            let reply = link::query(server, "DISCARD ALL").await.map_err(lost)?;
            reply.into_rows().map_err(Fault::Statement)?;
            server.prepared.clear();
            server.sequences = crate::server::SequenceOwner::Nobody;
            wanted.difference(&Settings::default())
        }
    };
    let mut aside = BytesMut::new();
    if let Some(text) = text {
        server.applied = Applied::Unknown;
        let mut reply = link::query(server, &text)
            .await
            .map_err(|error| Fault::lost(&error, "a shard"))?;
        aside = std::mem::take(&mut reply.aside);
        reply.into_rows().map_err(Fault::Statement)?;
    }
    let wanted: Rc<dyn Any> = Rc::clone(wanted) as Rc<dyn Any>;
    server.applied = Applied::Known(wanted);
    Ok(aside)
}
