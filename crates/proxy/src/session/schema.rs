//! DDL: where it runs, and what the rest of the cluster learns of it.
//!
//! The statements run like any write of several shards. What makes DDL special is that cached plans depend on it. At
//! the commit of a change that can give a name another meaning, all proxies hold their statements back until they
//! have loaded the new facts ([`SchemaChange::Barrier`]); other changes are only loaded everywhere before the client is
//! answered ([`SchemaChange::Publish`]).

use std::rc::Rc;
use std::time::Instant;

use catalog::ShardId;
use plan::{DdlPlace, DdlPlan, MetadataEffect};
use sql::StatementKind;
use topology::records::SchemaJournal;
use topology::{ChangeError, ChangeGuard, ChangeScope, ClusterRecord};
use wire::backend::ErrorFields;

use super::block::{SchemaChange, Wrote};
use super::{Fault, Session};
use crate::cluster::{change_deadline, facts};
use crate::engine::PlanContext;
use crate::exec::cache::StatementCache;
use crate::exec::link::{self, Reply};
use crate::exec::relay;
use crate::ops::{RecordChange, guards, resolve_effects_on};

/// How long a statement for which everybody was stopped waits for a lock, in milliseconds, before it lets them go on for
/// a moment and tries again. Then it waits without stopping anybody, and stops them at its commit.
const LOCK_TIMEOUTS_MS: [u32; 3] = [300, 700, 2_000];

/// How long everything goes on between two attempts.
const BETWEEN_LOCKS: std::time::Duration = std::time::Duration::from_millis(200);

/// A change of the cluster that is under way while a block commits.
pub(super) struct PendingChange {
    guard: Box<ChangeGuard>,
    /// Checked against the home shard inside the transaction, so that nothing can object after the commit.
    record: RecordChange,
    /// The record says that the change is under way.
    journaled: bool,
}

/// What the shards other than home are sent for the client's text.
fn text_elsewhere<'t>(plan: &DdlPlan, text: &'t str) -> Result<std::borrow::Cow<'t, str>, Fault> {
    if !plan.draws {
        return Ok(text.into());
    }
    let without = sql::without_sequence_defaults(text);
    without.map(Into::into).ok_or_else(|| {
        let what = "nextval that is not a whole DEFAULT";
        Fault::refused(&plan::Refusal::with(plan::RefusalCode::AlterAction, what))
    })
}

/// How far a statement came that cannot be part of a transaction.
#[derive(Default)]
struct OneByOne {
    /// The shards that have done it, by name.
    shards: Vec<String>,
    /// The home shard's answer.
    tag: String,
}

impl Session {
    /// Runs a DDL plan. The answer is complete but for ReadyForQuery.
    pub(super) async fn run_ddl(
        &mut self,
        plan: &DdlPlan,
        text: &str,
        kind: StatementKind,
    ) -> Result<(), Fault> {
        let stripped = plan.strips_options.then(|| sql::strip_drover_options(text));
        let text = stripped.as_deref().unwrap_or(text);
        if !plan.transactional {
            return self.run_outside_blocks(plan, text).await;
        }
        if self.block.is_open() || !pauses_first(plan, kind) {
            return self.run_in_block(plan, text, kind).await;
        }
        for wait in LOCK_TIMEOUTS_MS {
            self.open_for_ddl(kind)?;
            // Servers first: who holds them may have to wait for the change.
            for step in &plan.steps {
                for shard in self.places(step.place) {
                    self.enlist(shard).await?;
                }
            }
            self.block.lock_timeout_ms = Some(wait);
            self.block.paused = Some(Box::new(self.begin_alone(ChangeScope::Everything).await?));
            match self.run_in_block(plan, text, kind).await {
                Err(Fault::Statement(fields)) if fields.code == "55P03" => {
                    // Somebody holds a lock who may need others to go on before he can let go.
                    self.end_block(false).await?;
                    tokio::time::sleep(BETWEEN_LOCKS).await;
                }
                other => return other,
            }
        }
        self.run_in_block(plan, text, kind).await
    }

    async fn run_in_block(&mut self, plan: &DdlPlan, text: &str, kind: StatementKind) -> Result<(), Fault> {
        let tag = self.define_in_block(plan, text, kind).await?;
        self.complete(&tag)
    }

    /// The same without an answer: its tag.
    pub(super) async fn define_in_block(
        &mut self,
        plan: &DdlPlan,
        text: &str,
        kind: StatementKind,
    ) -> Result<String, Fault> {
        let elsewhere = text_elsewhere(plan, text)?;
        self.open_for_ddl(kind)?;
        // Event triggers, and expressions of indexes and defaults.
        self.block.inspect = true;
        let home = self.engine.cluster.home();
        let mut tag = String::new();
        for step in &plan.steps {
            for shard in self.places(step.place) {
                let sql = step
                    .sql
                    .as_deref()
                    .unwrap_or(if shard == home { text } else { &elsewhere });
                if let Some(wait) = self.block.lock_timeout_ms {
                    self.run_on(shard, &lock_timeout_sql(wait)).await?;
                }
                let answer = if step.place == DdlPlace::OthersIfPossible {
                    self.try_on(shard, sql, plan).await?
                } else {
                    self.run_on(shard, sql).await?
                };
                if tag.is_empty() {
                    self.client.conn.out().extend_from_slice(&answer.aside);
                    tag = answer.tags.last().cloned().unwrap_or_default();
                }
            }
        }
        if plan.changes_schema || !plan.effects.is_empty() {
            self.block.schema = self.block.schema.max(change_kind(plan, kind));
            self.block.effects.extend(plan.effects.iter().cloned());
            self.private_context = None;
        }
        Ok(tag)
    }

    fn open_for_ddl(&mut self, kind: StatementKind) -> Result<(), Fault> {
        if self.block.is_open() {
            return Ok(());
        }
        if kind == StatementKind::Lock {
            let text = "LOCK TABLE can only be used in transaction blocks";
            return Err(Fault::error("25P01", text));
        }
        self.block.open("BEGIN".to_owned(), true);
        self.settings.begin();
        Ok(())
    }

    /// Statements that PostgreSQL does not allow in a transaction block: one shard after the other.
    async fn run_outside_blocks(&mut self, plan: &DdlPlan, text: &str) -> Result<(), Fault> {
        if self.block.is_open() {
            let verb: String = text.split_whitespace().next().unwrap_or_default().to_uppercase();
            return Err(Fault::error(
                "25001",
                format!("{verb} cannot run inside a transaction block"),
            ));
        }
        let mut done = OneByOne::default();
        let result = self.run_one_by_one(plan, text, &mut done).await;
        self.release_servers();
        // Also when a shard failed: others have changed.
        if plan.changes_schema && !done.shards.is_empty() {
            self.block.schema = SchemaChange::Publish;
            let change = self.begin_schema_change().await;
            self.block.schema = SchemaChange::None;
            self.finish_schema_change(change?, true).await?;
        }
        result?;
        self.complete(&done.tag)
    }

    /// Runs a statement on its shards, one after the other, up to the first that fails. The error says how far it came.
    async fn run_one_by_one(&mut self, plan: &DdlPlan, text: &str, done: &mut OneByOne) -> Result<(), Fault> {
        for step in &plan.steps {
            let sql = step.sql.as_deref().unwrap_or(text);
            for shard in self.places(step.place) {
                let answer = self.run_on(shard, sql).await;
                self.inspect_all().await;
                let answer = match answer {
                    Err(Fault::Statement(mut fields)) if !done.shards.is_empty() => {
                        let failed = self.shard_name(shard);
                        let status = format!(
                            "It was done on {}, and failed on {failed}.",
                            done.shards.join(", ")
                        );
                        fields.detail = Some(match fields.detail.take() {
                            Some(detail) => format!("{detail} {status}"),
                            None => status,
                        });
                        let hint = "drover.schema_diff() says what is missing or invalid where; \
                                    undo the statement, or remove the cause and repeat it.";
                        fields.hint.get_or_insert_with(|| hint.to_owned());
                        return Err(Fault::Statement(fields));
                    }
                    other => other?,
                };
                self.client.conn.out().extend_from_slice(&answer.aside);
                if done.tag.is_empty() {
                    done.tag = answer.tags.last().cloned().unwrap_or_default();
                }
                done.shards.push(self.shard_name(shard));
            }
        }
        Ok(())
    }

    /// The shards of a step, home first.
    fn places(&self, place: DdlPlace) -> Vec<ShardId> {
        let home = self.engine.cluster.home();
        let record = self.engine.cluster.record();
        let others = record
            .shards
            .iter()
            .map(|shard| shard.id)
            .filter(|shard| *shard != home);
        match place {
            DdlPlace::Home => vec![home],
            DdlPlace::All => std::iter::once(home).chain(others).collect(),
            DdlPlace::Others | DdlPlace::OthersIfPossible => others.collect(),
        }
    }

    /// Runs a text on one shard, in the open block if there is one.
    pub(super) async fn run_on(&mut self, shard: ShardId, sql: &str) -> Result<Reply, Fault> {
        let index = self.enlist(shard).await?;
        let skip = self.begin_on(index).await?;
        let name = self.shard_name(shard);
        let lost = |error| Fault::lost(&error, &name);
        let server = &mut self.servers[index];
        server.wrote = server.wrote.max_with(Wrote::Yes);
        link::send_query(&mut server.lease, sql).map_err(lost)?;
        // It may wait for a lock for long: nobody wants what a client that is gone has asked for, and others may be waiting
        // for what it has locked.
        server.busy = true;
        let explained = self.observation.steps.is_some().then(Instant::now);
        let answered = async {
            link::skip_replies(&mut server.lease, skip).await?;
            link::collect(&mut server.lease).await
        };
        let answered = relay::beside_client(&mut self.client.conn, answered).await;
        let Some(answered) = answered else {
            return Err(Fault::ClientGone);
        };
        server.busy = false;
        if let (Some(began), Some(steps)) = (explained, &mut self.observation.steps) {
            steps.ran(name.clone(), sql, began);
        }
        let mut reply = answered.map_err(lost)?;
        match reply.error.take() {
            Some(mut error) => {
                if shard == self.engine.cluster.home() {
                    // The failure may have taken settings back, which the server reports.
                    self.client.conn.out().extend_from_slice(&reply.aside);
                } else {
                    error.position = None;
                }
                Err(Fault::Statement(error))
            }
            None => Ok(reply),
        }
    }

    /// The same where the object of the statement may not be: that is only logged. Every other error is the statement's.
    async fn try_on(&mut self, shard: ShardId, sql: &str, plan: &DdlPlan) -> Result<Reply, Fault> {
        self.run_on(
            shard,
            "SAVEPOINT drover_ddl; SET LOCAL check_function_bodies = off",
        )
        .await?;
        match self.run_on(shard, sql).await {
            Ok(reply) => {
                self.run_on(
                    shard,
                    "SET LOCAL check_function_bodies = on; RELEASE SAVEPOINT drover_ddl",
                )
                .await?;
                Ok(reply)
            }
            Err(Fault::Statement(fields)) if is_not_there(&fields) => {
                tracing::info!(shard = %shard, message = %fields.message, "an object exists on the home shard only");
                self.run_on(
                    shard,
                    "ROLLBACK TO SAVEPOINT drover_ddl; RELEASE SAVEPOINT drover_ddl",
                )
                .await?;
                self.leaves_nothing(shard, &fields, plan).await?;
                Ok(Reply::default())
            }
            Err(other) => Err(other),
        }
    }

    /// A shard that cannot run the statement must not keep what the statement replaces, nor lack one of several objects.
    async fn leaves_nothing(
        &mut self,
        shard: ShardId,
        missing: &ErrorFields,
        plan: &DdlPlan,
    ) -> Result<(), Fault> {
        let stale = match &plan.replaces {
            Some(function) => {
                let name = sql::quote_literal(function);
                let sql = format!("SELECT FROM pg_catalog.pg_proc WHERE proname = {name} LIMIT 1");
                let found = self.run_on(shard, &sql).await?;
                found.tags.last().is_some_and(|tag| tag != "SELECT 0")
            }
            None => false,
        };
        if stale || plan.names_several {
            let code = plan::RefusalCode::HomeOnlyObject;
            return Err(Fault::refused(&plan::Refusal::with(code, &missing.message)));
        }
        Ok(())
    }

    /// Before the commit of a block that changed the schema.
    pub(super) async fn begin_schema_change(&mut self) -> Result<Option<PendingChange>, Fault> {
        let scope = match self.block.schema {
            SchemaChange::None => return Ok(None),
            SchemaChange::Publish => ChangeScope::Nothing,
            SchemaChange::Barrier => ChangeScope::Everything,
        };
        let search_path = self.shared_context().await?.search_path.clone();
        let guard = match self.block.paused.take() {
            Some(guard) => *guard,
            None => self.begin_alone(scope).await?,
        };
        let record = self.effects_so_far(guard.cluster(), &search_path).await?;
        let mut change = PendingChange {
            guard: Box::new(guard),
            record,
            journaled: false,
        };
        if !change.record.is_empty() {
            Box::pin(self.announce(&mut change)).await?;
        }
        Ok(Some(change))
    }

    /// Writes into the record what it will be, and into the transaction what tells whether it was committed
    /// (`topology::records::SchemaJournal`).
    async fn announce(&mut self, change: &mut PendingChange) -> Result<(), Fault> {
        let home = self.engine.cluster.home();
        let secret = crate::cancel::random::<16>()
            .map(commit::Secret)
            .map_err(|_| Fault::error("XX000", "the system has no random numbers"))?;
        let gid = commit::Gid::new(commit::ShardId(home.0), secret);
        self.run_on(home, &commit::sql::decide(&gid, &[], secret)).await?;
        change.journaled = true;
        let (record, database) = (&change.record, &*self.database);
        let announced = change.guard.publish(|cluster| {
            let mut after = cluster.clone();
            record.apply(&mut after);
            cluster.journal = Some(SchemaJournal::between(cluster, &after, database, gid.to_string()));
        });
        announced.await.map(|_| ()).map_err(|error| not_changed(&error))
    }

    /// Takes the announcement of a change back that surely does not happen. If that fails, whoever finds it sees that it
    /// did not happen.
    async fn withdraw(&mut self, mut change: PendingChange) {
        let withdrawn = change.guard.publish(|record| record.journal = None).await;
        if let Err(error) = withdrawn {
            tracing::warn!(%error, "a schema change that was given up is still announced");
        }
        self.engine.running.leave();
        let finished = change.guard.finish(change_deadline()).await;
        self.engine.running.enter_anyway();
        if let Err(error) = finished {
            tracing::warn!(%error, "a proxy has not acknowledged that a schema change was given up");
        }
    }

    /// As [`Self::paused_for`], from within a statement: it is one of those that a change waits for, with the one that is
    /// under way before it.
    async fn begin_alone(&self, scope: ChangeScope) -> Result<ChangeGuard, Fault> {
        self.engine.running.leave();
        let guard = self.paused_for(scope).await;
        self.engine.running.enter_anyway();
        guard
    }

    /// A change of its own, when nothing that it concerns runs any more. A cancel ends the wait.
    async fn paused_for(&self, scope: ChangeScope) -> Result<ChangeGuard, Fault> {
        let slot = std::sync::Arc::clone(&self.cancel.slot);
        let begun = slot.until_cancelled(self.engine.cluster.change_alone(scope));
        match begun.await {
            Some(guard) => guard.map_err(|error| not_changed(&error)),
            None => Err(Fault::error("57014", crate::exec::relay::CANCELLED)),
        }
    }

    /// What the block's DDL means for the cluster's record, as the home shard sees the block.
    async fn effects_so_far(
        &mut self,
        record: &ClusterRecord,
        search_path: &[String],
    ) -> Result<RecordChange, Fault> {
        if self.block.effects.is_empty() {
            return Ok(RecordChange::default());
        }
        let effects = self.block.effects.clone();
        let mut access = self.home_access(self.engine.cluster.home()).await?;
        let database = std::sync::Arc::clone(&self.database);
        let server = self.asked(&mut access);
        let resolved = resolve_effects_on(server, record, &database, search_path, &effects).await;
        self.done_asking(access);
        resolved.map_err(|fields| Fault::Statement(Box::new(fields)))
    }

    /// After a COMMIT whose outcome is not known: the schema may have changed, so everybody looks again. A change of the
    /// record that was announced is left to [`crate::ops::repair`], which finds out; until then no statement runs.
    pub(super) async fn publish_unknown(&mut self, change: Option<PendingChange>) {
        let Some(mut change) = change else { return };
        if change.journaled {
            return;
        }
        if let Err(error) = change.guard.publish(|record| record.schema_version += 1).await {
            tracing::warn!(%error, "a schema change of unknown outcome could not be made known");
            return;
        }
        self.engine.running.leave();
        let finished = change.guard.finish(change_deadline()).await;
        self.engine.running.enter_anyway();
        if let Err(error) = finished {
            tracing::warn!(%error, "a proxy has not acknowledged a schema change");
        }
    }

    /// After the commit: everybody loads the new facts before the client is answered.
    pub(super) async fn finish_schema_change(
        &mut self,
        change: Option<PendingChange>,
        committed: bool,
    ) -> Result<(), Fault> {
        let Some(mut change) = change else { return Ok(()) };
        if !committed {
            if change.journaled {
                self.withdraw(change).await;
            }
            return Ok(());
        }
        if change.record.makes_tables() {
            self.guard_new_tables(&change).await;
        }
        self.publish(&mut change)
            .await
            .map_err(|error| committed_but_unknown(&error))?;
        // The pause ends with the new epoch: this statement must not hold the others up meanwhile.
        self.engine.running.leave();
        let finished = change.guard.finish(change_deadline()).await;
        self.engine.running.enter_anyway();
        if let Err(error) = finished {
            tracing::warn!(%error, "a proxy has not acknowledged a schema change");
        }
        Ok(())
    }

    /// Makes a committed change known. A proxy that was cut off from the cluster for a moment has lost the right to, and asks
    /// for it again: the others have gone on with what was true before, and must not for longer than need be.
    async fn publish(&self, change: &mut PendingChange) -> Result<(), ChangeError> {
        let PendingChange {
            guard,
            record,
            journaled,
        } = change;
        let apply = |cluster: &mut ClusterRecord| {
            cluster.schema_version += 1;
            if *journaled && cluster.journal.is_none() {
                // Somebody else has brought it to its end.
                return;
            }
            record.apply(cluster);
            cluster.journal = None;
        };
        match guard.publish(apply).await {
            Err(ChangeError::Lost) => {}
            other => return other.map(|_| ()),
        }
        let cluster = &self.engine.cluster;
        self.engine.running.leave();
        let again = match cluster.regains_touch().await {
            true => cluster.change(ChangeScope::Nothing).await,
            false => Err(ChangeError::Lost),
        };
        self.engine.running.enter_anyway();
        **guard = again?;
        guard.publish(apply).await.map(|_| ())
    }

    /// Before anybody writes to them. What fails here is made up for from time to time.
    async fn guard_new_tables(&self, change: &PendingChange) {
        let mut record = change.guard.cluster().clone();
        change.record.apply(&mut record);
        let made = guards::ensure(&self.engine.cluster, &record, &self.database).await;
        if let Err(error) = made {
            tracing::warn!(%error, "a new table has no guard yet");
        }
    }

    /// The context inside a block that changed the schema: facts as this block sees them.
    pub(super) async fn load_private_context(&mut self) -> Result<Rc<PlanContext>, Fault> {
        let shared = self.engine.cluster.snapshot(&self.database).await?;
        let home = shared.home();
        let base = self.shared_context().await?;
        let mut record = (*self.engine.cluster.record()).clone();
        self.effects_so_far(&record, &base.search_path)
            .await?
            .apply(&mut record);
        let input = record
            .sharding_input(&self.database)
            .map_err(|error| Fault::error("XX000", format!("the cluster record makes no sense: {error}")))?;
        let index = self.enlist(home).await?;
        let skip = self.begin_on(index).await?;
        let server = &mut self.servers[index].lease;
        let lost = |error| Fault::lost(&error, "the home shard");
        server
            .conn
            .flush()
            .await
            .map_err(|_| Fault::error("08006", "the home shard was lost"))?;
        link::skip_replies(server, skip).await.map_err(lost)?;
        let snapshot = facts::load_in_block(server, &input)
            .await
            .map_err(|error| Fault::error("XX000", error.to_string()))?;
        let context = self.engine.new_context(PlanContext {
            snapshot: std::sync::Arc::new(snapshot),
            version: base.version,
            search_path: base.search_path.clone(),
            conforming_strings: base.conforming_strings,
            utf8: base.utf8,
            encoding: std::sync::Arc::clone(&base.encoding),
            statements: StatementCache::default(),
            id: self.engine.next_statement_id().0.into(),
        });
        self.private_context = Some(Rc::clone(&context));
        Ok(context)
    }
}

/// Whether an error says that something does not exist which may be on the home shard only. Roles are on every shard.
fn is_not_there(fields: &ErrorFields) -> bool {
    // undefined_object, undefined_function, undefined_table, invalid_schema_name
    let missing = matches!(fields.code.as_str(), "42704" | "42883" | "42P01" | "3F000");
    // The field R, which is never translated: the function of the server that found it out.
    let role = fields
        .other
        .iter()
        .any(|(field, text)| *field == b'R' && text.contains("role"));
    missing && !role
}

/// Whether everybody is stopped before the statement runs, not only before it is committed. It takes a lock that others
/// wait for, and who waits for a lock is a statement that runs: the change would wait for them, and they for it.
fn pauses_first(plan: &DdlPlan, kind: StatementKind) -> bool {
    let locks = matches!(
        kind,
        StatementKind::Rename
            | StatementKind::SetSchema
            | StatementKind::Rule
            | StatementKind::Trigger
            | StatementKind::Policy
    );
    let partitions = |effect: &MetadataEffect| matches!(effect, MetadataEffect::Partitioned { .. });
    (locks || plan.effects.iter().any(partitions)) && change_kind(plan, kind) == SchemaChange::Barrier
}

/// Bounds waits for locks on this server, unless the client does so more narrowly, to the end of the block.
fn lock_timeout_sql(wait_ms: u32) -> String {
    format!(
        "SELECT pg_catalog.set_config(name, '{wait_ms}', true) FROM pg_catalog.pg_settings \
         WHERE name = 'lock_timeout' AND setting::pg_catalog.int8 NOT BETWEEN 1 AND {wait_ms}"
    )
}

/// What a plan needs at its commit.
fn change_kind(plan: &DdlPlan, kind: StatementKind) -> SchemaChange {
    let creates = plan
        .effects
        .iter()
        .any(|effect| !matches!(effect, MetadataEffect::Drop { .. }));
    let gives_meaning = matches!(
        kind,
        StatementKind::View
            | StatementKind::Function
            | StatementKind::Rule
            | StatementKind::Trigger
            | StatementKind::Policy
            | StatementKind::Rename
            | StatementKind::SetSchema
            | StatementKind::Type
            | StatementKind::Extension
            | StatementKind::OtherUtility(_)
    );
    if creates || gives_meaning {
        SchemaChange::Barrier
    } else {
        SchemaChange::Publish
    }
}

fn not_changed(error: &topology::ChangeError) -> Fault {
    Fault::error(
        "55P03",
        format!("the schema change could not be made known to all proxies: {error}"),
    )
}

/// The servers have the change, the store has not. This proxy cannot go on as if nothing had happened.
fn committed_but_unknown(error: &topology::ChangeError) -> Fault {
    let text = format!("the schema change is committed, but could not be made known to the proxies: {error}");
    Fault::fatal("58030", text)
}
