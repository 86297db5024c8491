//! The extended protocol: Parse, Bind, Describe, Execute, Close, Flush, Sync.
//!
//! Messages are taken in order. What a server has to do is appended to its connection, with a [`Step`] that says what
//! its answer means; what can be answered here becomes a step that only waits for its turn. See docs/decisions/0002.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use catalog::ShardId;
use hashbrown::HashMap;
use sql::NormalisedBuf;
use wire::Target;
use wire::backend::{ErrorFields, encode};
use wire::frame::Message;
use wire::frontend::{Bind, Frontend, Parse};

use super::block::{BlockState, Wrote};
use super::bound::args_of;
pub(super) use super::bound::{is_binary, no_portal, param_of};
use super::learn::Learned;
use super::many::Args;
use super::many::formats::check_formats;
use super::portal::Rest;
use super::ruled::PreparedByRule;
use super::simple::{ends_block, failed_block, wrote_by_kind};
use super::told::{Learnt, Telling};
use super::{Fault, Session};
use crate::engine::PlanContext;
use crate::exec::cache::Found;
use crate::exec::statement::{
    Action, KeyProblem, Literals, ParamValue, Planned, Shards, Statement, readable, resolve, tenant_of,
};
use crate::server::{Description, StatementId};
use crate::spare::Blank;

/// A statement the client prepared.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Names text and types on servers.
    pub id: StatementId,
    /// The text.
    pub text: String,
    /// Parameter types the client fixed.
    pub types: Vec<u32>,
    /// What to do with it.
    pub statement: Rc<Statement>,
    /// The literals of the text, when the statement is shared with other texts.
    pub literals: Vec<sql::Literal>,
    /// What it was planned with ([`PlanContext::id`](crate::engine::PlanContext)): another search path or catalog means
    /// another plan.
    pub context: u64,
    /// The client's encoding when it sent the text.
    pub encoding: Arc<str>,
    /// It has no name.
    pub unnamed: bool,
    /// What the client was told that it takes and gives; where the plan does not say it (see [`super::told`]).
    pub told: RefCell<Option<Arc<Description>>>,
    /// There is a rule about it.
    pub ruled: Option<Box<PreparedByRule>>,
}

/// A portal.
#[derive(Debug, Clone)]
pub(super) struct Portal {
    pub(super) prepared: Rc<Prepared>,
    pub(super) place: PortalPlace,
}

/// Where a portal runs.
#[derive(Debug, Clone)]
pub(super) enum PortalPlace {
    /// It exists on the session's server for this shard.
    Server(ShardId),
    /// It runs on several shards, or with values computed first.
    Many { shards: Vec<ShardId>, args: Rc<Args> },
    /// It is answered here.
    Local,
}

/// What an answer of the server at hand means.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing of the server: these bytes go to the client now.
    Local(BytesMut),
    /// ParseComplete of a statement that no server was asked about; it is forgotten if what comes before fails.
    LocalParse { name: Vec<u8> },
    /// ParseComplete of a statement; to be forgotten again if it does not come.
    Parse {
        pass: bool,
        forget: Option<Vec<u8>>,
        registered: Option<StatementId>,
    },
    /// BindComplete, of a statement with a name.
    Bind(Option<StatementId>),
    /// ParameterDescription (for statements) and RowDescription or NoData.
    Describe {
        columns: Option<Rc<Prepared>>,
        told: Option<Telling>,
    },
    /// The same, for nobody but us.
    Learn(Learnt),
    /// Rows up to CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute,
    /// CloseComplete.
    Close { pass: bool },
    /// An error provoked to undo what the pipeline did: swallowed.
    Doom,
    /// Changes of settings sent ahead: so many CommandComplete.
    Ahead(usize),
    /// ReadyForQuery of a BEGIN sent ahead.
    Skip,
    /// ReadyForQuery.
    Sync,
}

impl Step {
    /// It is answered here.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Local(_) | Self::LocalParse { .. })
    }
}

/// The session's side of the extended protocol.
#[derive(Debug)]
pub(super) struct Extended {
    pub(super) portals: ByName<Portal>,
    /// What portals that have run here still have to give.
    pub(super) rests: ByName<Rest>,
    /// Answers to come from the server at hand, in order.
    pub(super) steps: VecDeque<Step>,
    /// The shard whose server has messages that no Sync has ended.
    pub(super) open_on: Option<ShardId>,
    /// An error happened: everything up to Sync is ignored.
    pub(super) skipping: bool,
    /// Some of the open messages have left for the server.
    pub(super) flushed: bool,
    /// Something was executed among the open messages that may have written.
    pub(super) executed: bool,
    /// Effects of what was executed, applied after Sync.
    pub(super) effects: super::effects::Effects,
    /// The last answer that was relayed whole was an error.
    pub(super) relayed_error: bool,
    /// The client is being told what it does not know of a statement yet.
    pub(super) tells: bool,
}

/// Things by the names a client gave them.
type ByName<T> = HashMap<Vec<u8>, T, BuildHasherDefault<DefaultHasher>>;

/// What a client has prepared, by its names.
#[derive(Debug, Default)]
pub(super) struct Statements(HashMap<Vec<u8>, Rc<Prepared>>);

impl Extended {
    const NONE: Self = Self {
        portals: ByName::with_hasher(BuildHasherDefault::new()),
        rests: ByName::with_hasher(BuildHasherDefault::new()),
        steps: VecDeque::new(),
        open_on: None,
        skipping: false,
        flushed: false,
        executed: false,
        effects: super::effects::Effects::NONE,
        relayed_error: false,
        tells: false,
    };
}

impl Default for Extended {
    fn default() -> Self {
        Self::NONE
    }
}

impl Blank for Extended {
    const BLANK: &'static Self = &Self::NONE;

    fn is_blank(&self) -> bool {
        self.is_at_rest()
            && self.portals.is_empty()
            && self.rests.is_empty()
            && !(self.flushed || self.executed || self.relayed_error || self.tells)
            && self.effects == super::effects::Effects::NONE
    }
}

impl Extended {
    /// No pipeline is open.
    pub(super) fn is_at_rest(&self) -> bool {
        self.steps.is_empty() && self.open_on.is_none() && !self.skipping && self.effects.none()
    }

    /// True when a portal exists on this shard's server: it would not outlive a Sync.
    pub(super) fn has_portal_on(&self, shard: ShardId) -> bool {
        let here = |portal: &Portal| matches!(portal.place, PortalPlace::Server(on) if on == shard);
        self.portals.values().any(here)
    }

    /// Entries there is room for.
    pub(super) fn room(&self) -> usize {
        let names = self.portals.capacity().max(self.rests.capacity());
        names.max(self.steps.capacity())
    }

    pub(super) fn forget_portals(&mut self) {
        self.portals.clear();
        self.rests.clear();
    }
}

impl Statements {
    /// A statement the client prepared.
    pub(super) fn get(&self, name: &[u8]) -> Option<&Rc<Prepared>> {
        self.0.get(name)
    }

    /// There is one of this name from now on.
    pub(super) fn insert(&mut self, name: &[u8], prepared: Rc<Prepared>) {
        self.0.insert(name.to_vec(), prepared);
    }

    /// Forgets a statement; false when there is none.
    pub(super) fn forget(&mut self, name: &[u8]) -> bool {
        self.0.remove(name).is_some()
    }

    /// DISCARD ALL.
    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }

    /// DEALLOCATE ALL, which leaves the unnamed statement.
    pub(super) fn forget_named(&mut self) {
        self.0.retain(|name, _| name.is_empty());
    }
}

impl Session {
    /// Acts on one message of the extended protocol.
    pub(super) async fn extended_message(&mut self, kind: u8, message: &[u8]) -> Result<(), Fault> {
        let result = match &self.reads {
            None => {
                let result = self.extended_plainly(kind, message).await;
                self.outlive(kind, result).await
            }
            Some(_) => Box::pin(self.extended_reading(kind, message)).await,
        };
        match result {
            Err(Fault::Statement(fields)) => Box::pin(self.end_lost_pipeline(&fields)).await,
            other => other,
        }
    }

    /// The same, where an error is an error.
    pub(super) async fn extended_plainly(&mut self, kind: u8, message: &[u8]) -> Result<(), Fault> {
        if self.extended.skipping && kind != wire::frontend::tag::SYNC {
            return Ok(());
        }
        let Some(whole) = Message::whole(message) else {
            return Err(Fault::fatal("08P01", "invalid message"));
        };
        let decoded = Frontend::decode(whole)
            .map_err(|error| Fault::fatal("08P01", format!("invalid message format: {error}")))?;
        let result = match decoded {
            Frontend::Parse(parse) => self.parse(&parse).await,
            Frontend::Bind(bind) => self.bind(whole, &bind).await,
            Frontend::Describe { target, name } => self.describe(whole, target, name).await,
            Frontend::Execute { portal, max_rows } => self.execute(whole, portal, max_rows).await,
            Frontend::Close {
                target: Target::Statement,
                name,
            } => {
                // The servers keep theirs: another client may have prepared the same.
                self.statements.forget(name);
                self.answer(encode::close_complete)
            }
            Frontend::Close { name, .. } => self.close_portal(name).await,
            Frontend::Flush => self.flush_batch().await,
            Frontend::Sync => return self.sync().await,
            _ => Ok(()),
        };
        match result {
            Err(Fault::Statement(fields)) => self.batch_error(&fields).await,
            other => other,
        }
    }

    async fn parse(&mut self, parse: &Parse<'_>) -> Result<(), Fault> {
        let text = std::str::from_utf8(parse.sql)
            .map_err(|_| Fault::error("22021", "invalid byte sequence for encoding \"UTF8\""))?;
        if !parse.name.is_empty() && self.statements.get(parse.name).is_some() {
            let name = String::from_utf8_lossy(parse.name);
            return Err(Fault::error(
                "42P05",
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        self.check_names_left(parse.name, &self.statements.0)?;
        let mut types: Vec<u32> = parse.types.iter().collect();
        let declared = types.len();
        if types.iter().all(|oid| *oid == 0) {
            types.clear();
        }
        self.account.totals.client_parse_count.increment();
        let prepared = self.prepare(text, types, parse.name.is_empty()).await?;
        if let Action::Planned(planned) = &prepared.statement.action
            && declared > planned.param_types.len()
        {
            let number = planned.param_types.len() + 1;
            let text = format!("could not determine data type of parameter ${number}");
            return Err(Fault::error("42P18", text));
        }
        if self.block.state == BlockState::Failed && !ends_block(&prepared.statement) {
            return Err(failed_block());
        }
        self.check_letters(&prepared.statement, text).await?;
        let prepared = Rc::new(prepared);
        self.place_read_in_pipeline(&prepared.statement).await?;
        // PostgreSQL judges a statement at Parse; a plan means that it has done so.
        if matches!(prepared.statement.action, Action::Home) {
            let home = self.engine.cluster.home();
            let index = self.open_server(home).await?;
            let forget = Some(parse.name.to_vec());
            self.parse_on(index, &prepared, true, forget)?;
        } else if self.extended.steps.is_empty() {
            encode::parse_complete(self.client.conn.out());
        } else {
            let name = parse.name.to_vec();
            self.extended.steps.push_back(Step::LocalParse { name });
        }
        self.statements.insert(parse.name, prepared);
        Ok(())
    }

    /// What a client may name is bounded: each named statement, and each named portal, costs the proxy memory.
    fn check_names_left<T, S>(&self, name: &[u8], taken: &HashMap<Vec<u8>, T, S>) -> Result<(), Fault>
    where
        S: BuildHasher,
    {
        if name.is_empty() {
            return Ok(());
        }
        let taken = taken.len() - usize::from(taken.contains_key([].as_slice()));
        let limit = self.engine.shared.policies.source().limits.max_client_statements;
        if limit == 0 || taken < limit {
            return Ok(());
        }
        let text = format!("a client can name {limit} prepared statements and as many portals");
        let hint = "The limit is limits.max_client_statements. Close those that are not needed any more.";
        let fields = ErrorFields::error("53400", text).with_hint(hint);
        Err(Fault::Statement(Box::new(fields)))
    }

    /// What was learnt of a text before, by whichever session.
    fn find_known(
        &self,
        context: &PlanContext,
        text: &str,
        types: &[u32],
        scratch: &mut NormalisedBuf,
    ) -> Found {
        if !self.may_have_temporary_objects() && types.is_empty() {
            return context.statements.find(text, scratch, context.conforming_strings);
        }
        scratch.literals.clear();
        let known = if self.may_have_temporary_objects() {
            None
        } else {
            let key = super::learn::typed_key(text, types);
            context.statements.find_exact(&key)
        };
        known.map_or(Found::Unknown { normalised: false }, Found::Statement)
    }

    /// Finds or learns what a text is, and does what a rule about it says.
    pub(super) async fn prepare(
        &mut self,
        text: &str,
        types: Vec<u32>,
        unnamed: bool,
    ) -> Result<Prepared, Fault> {
        let prepared = self.prepare_as_asked(text, types, unnamed).await?;
        match &prepared.statement.action {
            Action::Ruled(_) => Box::pin(self.prepare_by_rule(prepared)).await,
            _ => Ok(prepared),
        }
    }

    /// Finds or learns what a text is.
    pub(super) async fn prepare_as_asked(
        &mut self,
        text: &str,
        types: Vec<u32>,
        unnamed: bool,
    ) -> Result<Prepared, Fault> {
        let context = self.plan_context().await?;
        let mut scratch = std::mem::take(&mut self.scratch);
        let found = self.find_known(&context, text, &types, &mut scratch);
        let learned = match found {
            Found::Statement(statement) => {
                self.engine.metrics.plan_cache_hits.increment();
                Ok(statement)
            }
            Found::Unknown { normalised } => {
                // Learning may have to ask a server, which must not be in the middle of a batch.
                let key = normalised.then_some(&*scratch);
                let open = self.extended.open_on.is_some();
                let settled = if open && self.is_learnt_from_names(text, &context) {
                    Ok(())
                } else {
                    self.settle_batch_for_question().await
                };
                match settled {
                    Ok(()) => match Box::pin(self.learn(text, &types, key)).await {
                        Ok(Learned::One(statement)) => Ok(statement),
                        Ok(Learned::Several(_)) => Err(Fault::error(
                            "42601",
                            "cannot insert multiple commands into a prepared statement",
                        )),
                        Err(fault) => Err(fault),
                    },
                    Err(fault) => Err(fault),
                }
            }
        };
        let literals = scratch.literals.clone();
        self.scratch = scratch;
        let mut statement = learned?;
        if let Action::Planned(planned) = &statement.action
            && !readable(
                planned,
                Literals {
                    text,
                    literals: &literals,
                },
            )
        {
            self.settle_batch_for_question().await?;
            statement = Box::pin(self.learn_exact(text)).await?;
        }
        let id = self.engine.prepared_id(text, &types, &context);
        Ok(Prepared {
            id,
            text: text.to_owned(),
            types,
            statement,
            literals,
            context: context.id(),
            encoding: Arc::clone(&context.encoding),
            unnamed,
            told: RefCell::default(),
            ruled: None,
        })
    }

    /// A prepared statement as it is to be run now: planned again if the catalog has changed since.
    pub(super) async fn current(&mut self, name: &[u8]) -> Result<Rc<Prepared>, Fault> {
        let Some(prepared) = self.statements.get(name).map(Rc::clone) else {
            let message = if name.is_empty() {
                "unnamed prepared statement does not exist".to_owned()
            } else {
                format!(
                    "prepared statement \"{}\" does not exist",
                    String::from_utf8_lossy(name)
                )
            };
            return Err(Fault::error("26000", message));
        };
        let context = self.plan_context().await?;
        if prepared.context == context.id() {
            return Ok(prepared);
        }
        // A server would read its letters as those of the encoding that holds now.
        if prepared.encoding != context.encoding && !prepared.text.is_ascii() {
            return Err(Fault::refused_as(plan::RefusalCode::ClientEncoding));
        }
        let fresh = Box::pin(self.prepare_again(&prepared)).await?;
        let fresh = Rc::new(fresh);
        self.statements.insert(name, Rc::clone(&fresh));
        Ok(fresh)
    }

    async fn bind(&mut self, whole: Message<'_>, bind: &Bind<'_>) -> Result<(), Fault> {
        self.account.totals.bind_count.increment();
        let prepared = self.current(bind.statement).await?;
        if self.block.state == BlockState::Failed && !ends_block(&prepared.statement) {
            return Err(failed_block());
        }
        self.check_sql_prepared(&prepared.statement, &prepared.text)
            .await?;
        if !bind.portal.is_empty() && self.extended.portals.contains_key(bind.portal) {
            let name = String::from_utf8_lossy(bind.portal);
            return Err(Fault::error("42P03", format!("cursor \"{name}\" already exists")));
        }
        self.check_names_left(bind.portal, &self.extended.portals)?;
        self.place_read_in_pipeline(&prepared.statement).await?;
        let mut prepared = prepared;
        if prepared.told.borrow().is_some() && matches!(prepared.statement.action, Action::Home) {
            prepared = Box::pin(self.as_told(bind, prepared)).await?;
        }
        let place = match &prepared.statement.action {
            Action::Home => PortalPlace::Server(self.engine.cluster.home()),
            Action::Planned(planned) => self.place(planned, &prepared, bind).await?,
            Action::Other(triage) if matches!(**triage, plan::Triage::Explain(_)) => PortalPlace::Many {
                shards: Vec::new(),
                args: Rc::new(args_of(bind)),
            },
            Action::Empty
            | Action::Deallocate(_)
            | Action::Listen(_)
            | Action::Other(_)
            | Action::Ruled(_) => PortalPlace::Local,
        };
        if let PortalPlace::Server(shard) = place {
            self.bind_on(shard, &prepared, whole).await?;
        } else {
            self.answer(encode::bind_complete)?;
        }
        self.extended.rests.remove(bind.portal);
        self.extended
            .portals
            .insert(bind.portal.to_vec(), Portal { prepared, place });
        Ok(())
    }

    /// Decides where a planned statement runs with these parameters.
    async fn place(
        &mut self,
        planned: &Planned,
        prepared: &Rc<Prepared>,
        bind: &Bind<'_>,
    ) -> Result<PortalPlace, Fault> {
        if bind.params.len() != planned.param_types.len() {
            let text = format!(
                "bind message supplies {} parameters, but prepared statement \"\" requires {}",
                bind.params.len(),
                planned.param_types.len()
            );
            return Err(Fault::error("08P01", text));
        }
        let context = self.plan_context().await?;
        if !context.utf8 {
            let param = |index: usize| param_of(bind, index);
            super::letters::check_params(planned, bind.params.len(), param)?;
        }
        if planned.keys_are_computed() {
            return Ok(PortalPlace::Many {
                shards: Vec::new(),
                args: Rc::new(args_of(bind)),
            });
        }
        let literals = Literals {
            text: &prepared.text,
            literals: &prepared.literals,
        };
        let param = |index: usize| param_of(bind, index);
        if self.engine.observer.wants().tenants {
            self.observation.tenant(tenant_of(planned, literals, param));
        }
        let shards = match resolve(planned, &context.snapshot, literals, param) {
            Ok(shards) => shards,
            Err(KeyProblem::Literal | KeyProblem::Param) => {
                self.doubtful_place(planned, bind, &context).await?
            }
        };
        let shard = match shards {
            Shards::One(shard) => shard,
            Shards::Any => self.extended.open_on.unwrap_or_else(|| self.any_shard()),
            Shards::Many(shards) => {
                return Ok(PortalPlace::Many {
                    shards,
                    args: Rc::new(args_of(bind)),
                });
            }
        };
        if planned.plan.takes_steps() {
            return Ok(PortalPlace::Many {
                shards: vec![shard],
                args: Rc::new(args_of(bind)),
            });
        }
        if planned.holds_oids {
            check_formats(planned, &args_of(bind), &[shard], &context.snapshot)?;
        }
        Ok(PortalPlace::Server(shard))
    }

    /// A key in a form only PostgreSQL can read. The home shard's own reading would be right for one shard, which is
    /// not known; the statement is refused, unless the value is plainly wrong and every shard says so.
    async fn doubtful_place(
        &mut self,
        planned: &Planned,
        bind: &Bind<'_>,
        context: &Rc<crate::engine::PlanContext>,
    ) -> Result<Shards, Fault> {
        let canonical = self.canonical_params(planned, bind).await?;
        let param = |index: usize| {
            let value = canonical.get(index)?;
            Some(ParamValue {
                value: value.as_deref(),
                binary: true,
            })
        };
        resolve(
            planned,
            &context.snapshot,
            Literals {
                text: "",
                literals: &[],
            },
            param,
        )
        .map_err(Fault::key_problem)
    }

    /// Prepares and binds on one server.
    async fn bind_on(
        &mut self,
        shard: ShardId,
        prepared: &Rc<Prepared>,
        whole: Message<'_>,
    ) -> Result<(), Fault> {
        let effects = prepared.statement.effects;
        if effects.lists_channels {
            Box::pin(self.listen_on_server()).await?;
        }
        if effects.concerns_sequences() && shard == self.engine.cluster.home() {
            self.before_sequences_at_home(effects).await?;
        }
        let index = self.open_server(shard).await?;
        let name = self.prepare_on(index, prepared)?;
        let out = self.servers[index].lease.conn.out();
        wire::frontend::rename::bind(out, whole, None, name.as_bytes())
            .map_err(|_| Fault::error("54000", "the message is too long"))?;
        let named = (!prepared.unnamed).then_some(prepared.id);
        self.extended.steps.push_back(Step::Bind(named));
        self.extended.effects = self.extended.effects.and(effects.of_planning());
        Ok(())
    }

    /// Makes sure that a server has a statement, and returns its name there.
    pub(super) fn prepare_on(&mut self, index: usize, prepared: &Rc<Prepared>) -> Result<String, Fault> {
        if prepared.unnamed {
            if self.servers[index].lease.unnamed != Some(prepared.id) {
                self.parse_on(index, prepared, false, None)?;
            }
            return Ok(String::new());
        }
        if let Some(name) = self.servers[index].lease.prepared.get(prepared.id) {
            self.engine.metrics.prepared_hits.increment();
            return Ok(name.to_string());
        }
        self.parse_on(index, prepared, false, None)?;
        let name = self.servers[index].lease.prepared.get(prepared.id);
        name.map(|name| name.to_string())
            .ok_or_else(|| Fault::error("XX000", "a statement was not registered"))
    }

    /// Appends a Parse unless the server has the statement. `pass`: the client waits for the answer.
    fn parse_on(
        &mut self,
        index: usize,
        prepared: &Rc<Prepared>,
        pass: bool,
        forget: Option<Vec<u8>>,
    ) -> Result<(), Fault> {
        let home = self.servers[index].shard == self.engine.cluster.home();
        let server = &mut self.servers[index];
        let mut registered = None;
        let name = if prepared.unnamed {
            server.lease.unnamed = Some(prepared.id);
            String::new()
        } else {
            if server.lease.prepared.get(prepared.id).is_some() {
                if pass {
                    self.answer(encode::parse_complete)?;
                }
                return Ok(());
            }
            let added = server.lease.prepared.add(prepared.id);
            registered = Some(prepared.id);
            let condemned = server.lease.prepared.take_condemned();
            for evicted in condemned.into_iter().chain(added.evicted) {
                let out = server.lease.conn.out();
                let _ = wire::frontend::encode::close(out, Target::Statement, evicted.to_string().as_bytes());
                self.extended.steps.push_back(Step::Close { pass: false });
            }
            added.name.to_string()
        };
        let types: Vec<u32> = match &prepared.statement.action {
            Action::Planned(planned) => planned.server_types(home).collect(),
            _ => prepared.types.clone(),
        };
        self.account.totals.server_parse_count.increment();
        let out = self.servers[index].lease.conn.out();
        wire::frontend::encode::parse(
            out,
            name.as_bytes(),
            prepared.text.as_bytes(),
            types.iter().copied(),
        )
        .map_err(|_| Fault::error("54000", "the statement is too long"))?;
        self.extended.steps.push_back(Step::Parse {
            pass,
            forget,
            registered,
        });
        Ok(())
    }

    async fn execute(&mut self, whole: Message<'_>, name: &[u8], max_rows: i32) -> Result<(), Fault> {
        let Some(portal) = self.extended.portals.get(name).cloned() else {
            return self.cursor_message(whole.bytes, name, Step::Execute).await;
        };
        let statement = Rc::clone(&portal.prepared.statement);
        self.engine.metrics.statements.increment();
        if let Some(by) = &portal.prepared.ruled {
            by.rule.hit();
        }
        let awaited = matches!(portal.place, PortalPlace::Server(_));
        self.observe_statement(&statement, &portal.prepared.text, awaited);
        self.budget.iter().for_each(|budget| budget.begin());
        if let PortalPlace::Server(shard) = portal.place {
            self.observation.over(&[shard]);
        }
        if self.block.state == BlockState::Failed && !ends_block(&statement) {
            return Err(failed_block());
        }
        match &portal.place {
            PortalPlace::Server(shard) => {
                let index = self.open_server(*shard).await?;
                let wrote = match &statement.action {
                    _ if self.servers[index].replica.is_some() => Wrote::No,
                    Action::Planned(planned) if planned.plan.writes => Wrote::Yes,
                    Action::Planned(_) => Wrote::No,
                    _ => wrote_by_kind(statement.kind),
                };
                if statement.effects.sets_config {
                    self.add_configs(&statement.configs)?;
                }
                if statement.effects.notifies {
                    match self.block.is_open() {
                        true => self.block.notifies = true,
                        false => self.before_notify(index),
                    }
                }
                let server = &mut self.servers[index];
                server.wrote = server.wrote.max_with(wrote);
                server.lease.conn.out().extend_from_slice(whole.bytes);
                let reads = statement.reading.place == plan::ReadPlace::Replica;
                self.extended.executed |= wrote != Wrote::No && !reads;
                self.extended.effects = self.extended.effects.and(statement.effects);
                self.extended.steps.push_back(Step::Execute);
                // What the client sends next may be the data already.
                match statement.kind == sql::StatementKind::Copy || self.counts_rows() {
                    true => Box::pin(self.settle_budget()).await,
                    false => Ok(()),
                }
            }
            PortalPlace::Many { .. } | PortalPlace::Local => {
                Box::pin(self.execute_here(name, &portal, max_rows)).await
            }
        }
    }

    /// An answer given here, in its turn.
    pub(super) fn answer(&mut self, append: impl FnOnce(&mut BytesMut)) -> Result<(), Fault> {
        if self.extended.steps.is_empty() {
            append(self.client.conn.out());
        } else {
            let mut bytes = BytesMut::new();
            append(&mut bytes);
            self.extended.steps.push_back(Step::Local(bytes));
        }
        Ok(())
    }

    pub(super) fn answer_bytes(&mut self, bytes: BytesMut) {
        if self.extended.steps.is_empty() {
            self.client.conn.out().extend_from_slice(&bytes);
        } else {
            self.extended.steps.push_back(Step::Local(bytes));
        }
    }

    /// Closes the portals of a transaction that has ended.
    pub(super) fn forget_portals(&mut self) {
        self.extended.forget_portals();
    }
}
