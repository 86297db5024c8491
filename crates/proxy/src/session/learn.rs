//! A statement that is not in the cache: parse, triage, analyse, plan, keep.

use std::rc::Rc;

use super::many::formats::portable_in_binary;
use plan::{Analyzed, PrimaryOnly, PrimaryReason, ReadPlace, ResultColumn, SessionFacts, Triage};
use sql::{NormalisedBuf, ParseFailure, ParseOptions, RawStatement, StatementKind};
use wire::TransactionStatus;
use wire::backend::{Backend, RowDescription};

use super::block::BlockState;
use super::effects::{Effects, effects_of};
use super::listen::ListenCommand;
use super::{ConfigCalls, Fault, ReadHint, Session};
use crate::engine::PlanContext;
use crate::exec::analyze::{Analysis, AnalyzeError, analyze};
use crate::exec::statement::{Action, Literals, Planned, Statement, exact_keys, shared_keys};

/// Where a statement is kept for others.
enum Kept<'k> {
    /// It has to be learnt each time.
    Nowhere,
    /// For all texts of this normalised form; without one for this text.
    Under(Option<&'k NormalisedBuf>),
}

/// What a text turned out to be.
pub(super) enum Learned {
    /// One statement (or none: an empty text).
    One(Rc<Statement>),
    /// Several.
    Several(Vec<RawStatement>),
}

impl Session {
    /// Learns a text. `key` holds its normalised form, when it has one; `types` are the parameter types the client
    /// fixed.
    pub(super) async fn learn(
        &mut self,
        text: &str,
        types: &[u32],
        key: Option<&NormalisedBuf>,
    ) -> Result<Learned, Fault> {
        self.engine.metrics.plan_cache_misses.increment();
        let context = self.plan_context().await?;
        let raws = match parse(text, &context) {
            Ok(raws) => raws,
            Err(failure) => {
                let rule = self.rule_for(text, None, &context);
                let kind = StatementKind::OtherUtility("unknown");
                if let Some((rule, part)) = rule.clone().filter(|(rule, _)| rule.config.is_enforced) {
                    return Ok(Learned::One(self.ruled((rule, part), None, kind)));
                }
                let statement = self.unreadable(text, types, &context, failure).await?;
                return Ok(Learned::One(match rule {
                    Some(rule) => self.ruled(rule, Some(statement), kind),
                    None => statement,
                }));
            }
        };
        match raws.as_slice() {
            [] => Ok(Learned::One(self.statement(
                Action::Empty,
                Effects::default(),
                StatementKind::Select,
            ))),
            [raw] => {
                let statement = self.learn_one(text, raw, types, key, &context).await?;
                Ok(Learned::One(statement))
            }
            _ => Ok(Learned::Several(raws)),
        }
    }

    /// Whether learning this text needs no server: names alone tell what it is.
    pub(super) fn is_learnt_from_names(&self, text: &str, context: &PlanContext) -> bool {
        let temporary = self.may_have_temporary_objects();
        let facts = SessionFacts {
            in_transaction: self.block.is_open(),
            has_temp_objects: temporary,
            search_path: context.search_path.clone(),
        };
        match parse(text, context).as_deref() {
            // Whether a name means a temporary object is a question to the session's server.
            Ok([raw]) if temporary && raw.names.relations.iter().any(|name| name.schema.is_none()) => false,
            Ok([raw]) => !matches!(plan::triage(raw, &context.snapshot, &facts), Triage::Analyze),
            Ok(_) => true,
            Err(_) => false,
        }
    }

    /// Learns a text whose literals need PostgreSQL to be understood.
    pub(super) async fn learn_exact(&mut self, text: &str) -> Result<Rc<Statement>, Fault> {
        let context = self.plan_context().await?;
        if let Some(statement) = context.statements.find_exact(text) {
            return Ok(statement);
        }
        match self.learn(text, &[], None).await? {
            Learned::One(statement) => Ok(statement),
            Learned::Several(_) => Err(Fault::error("XX000", "a text changed its number of statements")),
        }
    }

    /// Learns one statement of a text that has several, or the only one.
    pub(super) async fn learn_one(
        &mut self,
        text: &str,
        raw: &RawStatement,
        types: &[u32],
        key: Option<&NormalisedBuf>,
        context: &Rc<PlanContext>,
    ) -> Result<Rc<Statement>, Fault> {
        let rule = self.rule_for(text, Some(raw), context);
        if let Some((rule, part)) = rule.clone().filter(|(rule, _)| rule.config.is_enforced) {
            // A part has another place in another text of this shape.
            let whole = part.is_none() && !self.may_have_temporary_objects();
            let statement = self.ruled((rule, part), None, raw.kind);
            if whole {
                keep(context, text, types, key, &statement);
            }
            return Ok(statement);
        }
        let (mut statement, kept) = self.learn_raw(text, raw, types, key, context).await?;
        if statement.effects.sets_config
            && let Some(statement) = Rc::get_mut(&mut statement)
        {
            statement.configs = ConfigCalls::of(text);
        }
        if let Some(rule) = rule {
            statement = self.ruled(rule, Some(statement), raw.kind);
        }
        if let Kept::Under(key) = kept {
            keep(context, text, types, key, &statement);
        }
        Ok(statement)
    }

    /// A new statement, with what the raw tree says of where it may be read.
    fn statement_of(
        &self,
        action: Action,
        effects: Effects,
        raw: &RawStatement,
        text: &str,
        context: &PlanContext,
    ) -> Result<Rc<Statement>, Fault> {
        let hint = ReadHint::of(text)?;
        let mut statement = self.statement(action, effects, raw.kind);
        if let Some(statement) = Rc::get_mut(&mut statement) {
            let place = plan::read_place(raw, text, &context.search_path, &context.snapshot);
            // What has to be looked for on the server afterwards belongs to a session, and sessions share replicas.
            let stays = effects.inspect || effects.sets_config || effects.pin.is_some();
            statement.reading.place = match place {
                ReadPlace::Replica if stays => ReadPlace::Primary(Box::new(PrimaryOnly {
                    reason: PrimaryReason::Session,
                    what: None,
                })),
                place => place,
            };
            statement.reading.hint = hint;
        }
        Ok(statement)
    }

    async fn learn_raw<'k>(
        &mut self,
        text: &str,
        raw: &RawStatement,
        types: &[u32],
        key: Option<&'k NormalisedBuf>,
        context: &Rc<PlanContext>,
    ) -> Result<(Rc<Statement>, Kept<'k>), Fault> {
        let not_kept = |statement| (statement, Kept::Nowhere);
        let effects = effects_of(raw, &context.snapshot);
        let facts = SessionFacts {
            in_transaction: self.block.is_open(),
            has_temp_objects: self.may_mean_temporary_objects(raw).await?,
            search_path: context.search_path.clone(),
        };
        self.check_prepared_name(&raw.detail)?;
        if let sql::Detail::Deallocate { name } = &raw.detail {
            let action = Action::Deallocate(name.clone());
            return self
                .statement_of(action, effects, raw, text, context)
                .map(not_kept);
        }
        if let Some(command) = listen_command(raw) {
            let statement = self.statement_of(Action::Listen(command), effects, raw, text, context);
            return statement.map(not_kept);
        }
        let triage = plan::triage(raw, &context.snapshot, &facts);
        let cacheable = !self.may_have_temporary_objects() && effects.none();
        let kept = |key| match cacheable {
            true => Kept::Under(key),
            false => Kept::Nowhere,
        };
        match triage {
            Triage::Home => {
                let statement = self.statement_of(Action::Home, effects, raw, text, context)?;
                Ok((statement, kept(key)))
            }
            Triage::Analyze => {
                let planned = self.plan_statement(text, raw, types, context).await?;
                let shared = key
                    .filter(|_| types.is_empty())
                    .and_then(|key| Some((key, shared_keys(&planned.plan, raw, literals(text, key))?)));
                let (key, planned) = match shared {
                    Some((key, keys)) => (Some(key), Planned { keys, ..planned }),
                    None => (None, planned),
                };
                let action = Action::Planned(Box::new(planned));
                let statement = self.statement_of(action, effects, raw, text, context)?;
                Ok((statement, kept(key)))
            }
            // SHOW is an ordinary statement of the home shard; what it shows of Drover is answered here.
            Triage::Setting(sql::SettingCommand::Show { name }) if !name.starts_with("drover.") => {
                let statement = self.statement_of(Action::Home, effects, raw, text, context);
                statement.map(not_kept)
            }
            // Transaction control is the same every time, and frequent.
            control @ Triage::Transaction(_) => {
                let action = Action::Other(Box::new(control));
                let statement = self.statement_of(action, effects, raw, text, context)?;
                Ok((statement, Kept::Under(None)))
            }
            other => {
                let action = Action::Other(Box::new(other));
                self.statement_of(action, effects, raw, text, context)
                    .map(not_kept)
            }
        }
    }

    /// Whether a name in a statement can mean a temporary object of this session; its own server knows.
    async fn may_mean_temporary_objects(&mut self, raw: &RawStatement) -> Result<bool, Fault> {
        if !self.may_have_temporary_objects() {
            return Ok(false);
        }
        let home = self.engine.cluster.home();
        let names: Vec<String> = (raw.names.relations.iter())
            .filter(|name| name.schema.is_none())
            .map(|name| sql::quote_literal(&name.name))
            .collect();
        let held = self.servers.iter().find(|server| server.shard == home);
        let can_ask = held.is_some_and(|server| server.lease.status != TransactionStatus::Failed);
        if names.is_empty() || !can_ask || self.block.state == BlockState::Failed {
            return Ok(true);
        }
        let question = format!(
            "SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema() AND relname IN ({})",
            names.join(", ")
        );
        let mut access = self.home_access(home).await?;
        let reply = crate::exec::link::query(self.asked(&mut access), &question).await;
        self.done_asking(access);
        let reply = reply.map_err(|error| Fault::lost(&error, "the home shard"))?;
        Ok(!reply.into_rows().map_err(Fault::Statement)?.is_empty())
    }

    /// Analyses and plans one statement.
    pub(super) async fn plan_statement(
        &mut self,
        text: &str,
        raw: &RawStatement,
        types: &[u32],
        context: &Rc<PlanContext>,
    ) -> Result<Planned, Fault> {
        let analysis = self.analyze_text(text, types, context).await?;
        let columns = analysis
            .columns
            .as_deref()
            .map(result_columns)
            .transpose()?
            .unwrap_or_default();
        let analyzed = Analyzed {
            text,
            raw,
            trees: &analysis.trees,
            param_types: &analysis.param_types,
            columns: &columns,
        };
        let plan = plan::plan(&analyzed, &context.snapshot).map_err(|refusal| Fault::refused(&refusal))?;
        let keys = exact_keys(&plan);
        let mut planned = Planned {
            plan,
            keys,
            param_types: analysis.param_types,
            columns: analysis.columns,
            source: None,
            rows_at: Vec::new(),
            holds_oids: false,
        };
        planned.holds_oids = holds_oids(&planned, &columns, &context.snapshot);
        if let plan::Many::Transfer(transfer) = &planned.plan.many {
            let source = self.plan_source(&transfer.source, &planned.param_types, context);
            planned.source = Some(Box::new(Box::pin(source).await?));
        }
        if let plan::Many::Relocate(relocate) = &planned.plan.many {
            planned.source = Some(Box::new(Planned {
                keys: exact_keys(&relocate.from),
                plan: (*relocate.from).clone(),
                param_types: planned.param_types.clone(),
                columns: None,
                source: None,
                rows_at: Vec::new(),
                holds_oids: false,
            }));
        }
        Ok(planned)
    }

    /// The query of a statement whose rows are carried elsewhere.
    async fn plan_source(
        &mut self,
        text: &str,
        types: &[u32],
        context: &Rc<PlanContext>,
    ) -> Result<Planned, Fault> {
        let raws = parse(text, context);
        match raws.as_deref() {
            Ok([raw]) => self.plan_statement(text, raw, types, context).await,
            _ => Err(Fault::refused_as(plan::RefusalCode::Unreadable)),
        }
    }

    async fn analyze_text(
        &mut self,
        text: &str,
        types: &[u32],
        context: &Rc<PlanContext>,
    ) -> Result<Analysis, Fault> {
        let mut access = self.home_access(context.snapshot.home()).await?;
        let local = match &access {
            super::enlist::HomeAccess::Held(_) => String::new(),
            super::enlist::HomeAccess::Lent(_, _) => self.settings.local_text(),
        };
        let server = self.asked(&mut access);
        let result = analyze(server, text.as_bytes(), types, &local).await;
        let broken = matches!(result, Err(AnalyzeError::Link(_)));
        if broken {
            match access {
                super::enlist::HomeAccess::Held(index) => self.drop_server(index),
                super::enlist::HomeAccess::Lent(lease, _) => lease.discard(),
            }
        } else {
            self.done_asking(access);
        }
        result.map_err(|error| match error {
            AnalyzeError::Rejected(fields) => Fault::Statement(fields),
            AnalyzeError::Unreadable(why) => {
                let code = plan::RefusalCode::UnknownNode;
                Fault::refused(&plan::Refusal::with(code, why))
            }
            AnalyzeError::Link(error) => Fault::lost(&error, "the home shard"),
        })
    }

    /// A text the grammar here does not read. Where nothing is sharded the server judges it; otherwise it is refused,
    /// unless the server rejects it as well (then its error is the answer).
    async fn unreadable(
        &mut self,
        text: &str,
        types: &[u32],
        context: &Rc<PlanContext>,
        failure: ParseFailure,
    ) -> Result<Rc<Statement>, Fault> {
        if !context.snapshot.has_sharded() {
            let effects = Effects {
                inspect: true,
                ..Effects::default()
            };
            return Ok(self.statement(Action::Home, effects, StatementKind::OtherUtility("unknown")));
        }
        self.analyze_text(text, types, context).await?;
        let code = plan::RefusalCode::Unreadable;
        Err(Fault::refused(&plan::Refusal::with(code, failure.to_string())))
    }

    /// A new statement.
    pub(super) fn statement(&self, action: Action, effects: Effects, kind: StatementKind) -> Rc<Statement> {
        Rc::new(Statement {
            id: self.engine.next_statement_id(),
            action,
            effects,
            configs: ConfigCalls::default(),
            kind,
            reading: Default::default(),
            digest: Default::default(),
        })
    }
}

fn holds_oids(planned: &Planned, columns: &[ResultColumn], snapshot: &catalog::Snapshot) -> bool {
    let columns = columns.iter().map(|column| column.type_oid);
    let mut types = columns.chain(planned.param_types.iter().copied());
    types.any(|oid| !portable_in_binary(oid, snapshot))
}

fn listen_command(raw: &RawStatement) -> Option<ListenCommand> {
    match (&raw.detail, raw.kind) {
        (sql::Detail::Channel { name: Some(name) }, StatementKind::Listen) => {
            Some(ListenCommand::Listen(name.clone()))
        }
        (sql::Detail::Channel { name }, StatementKind::Unlisten) => {
            Some(ListenCommand::Unlisten(name.clone()))
        }
        _ => None,
    }
}

/// Parses with the session's lexical settings.
pub(super) fn parse(text: &str, context: &PlanContext) -> Result<Vec<RawStatement>, ParseFailure> {
    let options = ParseOptions {
        standard_conforming_strings: context.conforming_strings,
        ..ParseOptions::default()
    };
    sql::parse(text, &options)
}

fn literals<'a>(text: &'a str, key: &'a NormalisedBuf) -> Literals<'a> {
    Literals {
        text,
        literals: &key.literals,
    }
}

fn keep(
    context: &PlanContext,
    text: &str,
    types: &[u32],
    key: Option<&NormalisedBuf>,
    statement: &Rc<Statement>,
) {
    match key {
        Some(key) if types.is_empty() => context.statements.keep_normalised(&key.key, Rc::clone(statement)),
        _ if types.is_empty() => context.statements.keep_exact(text, Rc::clone(statement)),
        _ => context
            .statements
            .keep_exact(&typed_key(text, types), Rc::clone(statement)),
    }
}

/// The key of a text whose client fixed parameter types.
pub(super) fn typed_key(text: &str, types: &[u32]) -> String {
    let text = crate::trace::comment::without(text);
    let mut key = String::with_capacity(text.len() + 1 + types.len() * 6);
    key.push_str(text);
    key.push('\0');
    for oid in types {
        key.push_str(&oid.to_string());
        key.push(',');
    }
    key
}

/// The columns of a RowDescription body.
pub(super) fn result_columns(body: &[u8]) -> Result<Vec<ResultColumn>, Fault> {
    let described =
        decode_columns(body).ok_or_else(|| Fault::error("XX000", "unreadable row description"))?;
    Ok(described
        .iter()
        .map(|column| ResultColumn {
            name: String::from_utf8_lossy(column.name).into_owned(),
            type_oid: column.type_oid,
            type_modifier: column.typmod,
        })
        .collect())
}

/// Decodes a RowDescription body.
pub(super) fn decode_columns(body: &[u8]) -> Option<RowDescription<'_>> {
    match Backend::decode_body(wire::backend::tag::ROW_DESCRIPTION, body) {
        Ok(Backend::RowDescription(columns)) => Some(columns),
        _ => None,
    }
}
