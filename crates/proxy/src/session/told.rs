//! What clients were told of their prepared statements, and that it stays true on every server.
//!
//! On PostgreSQL a prepared statement takes and gives for all its life what it took and gave when it was prepared: its
//! parameter types are fixed, and when its columns would change it is an error (`0A000`) as often as it is tried. Drivers
//! rely on that: they ask once and then send and read binary values. Here a statement exists once per server, and each of
//! those was prepared when a client first needed it there: before or after somebody changed a table. So
//!
//! * whoever describes a statement, or a portal, remembers what it was told ([`Prepared::told`]);
//! * a server's statement remembers what it is ([`Description`]), from the first time anybody asks; it never changes;
//! * a client that was told something gets a statement that is the same. Where that is not known yet, it is asked in
//!   front of the Bind: one round trip for each statement of a server connection. Other parameter types: it gets one that
//!   is prepared with the types it was told. Other columns: PostgreSQL's error, unless the client asks for the portal's
//!   description together with its Bind, and so knows what it gets.
//! * Who prepares a statement now must not be told what it was before: where the server has an older one, a description
//!   that fails because of that is made anew.
//!
//! When both objects are one (`Arc::ptr_eq`) there is nothing to compare; that is all the common case costs. Statements
//! with a plan need none of this: the plan knows types and columns, and is compared when it is made anew.

use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use wire::Target;
use wire::backend::{Backend, ErrorFields, encode, tag};
use wire::frontend::{self, Bind};

use super::batch::already_told;
use super::extended::{Prepared, Step};
use super::many::append_columns;
use super::stale::{changed, is_invalid_error};
use super::{Fault, Session};
use crate::exec::statement::Action;
use crate::server::Description;

/// A server's answer to Describe of a statement.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    /// Parameter types.
    pub params: Vec<u32>,
    /// Body of the RowDescription, if it returns rows.
    pub columns: Option<Vec<u8>>,
}

impl Learnt {
    /// Takes one message; true when it was the last.
    pub(super) fn hears(&mut self, kind: u8, body: &[u8]) -> bool {
        match kind {
            tag::PARAMETER_DESCRIPTION => {
                self.params = types_of(body);
                false
            }
            tag::ROW_DESCRIPTION => {
                self.columns = Some(body.to_vec());
                true
            }
            _ => true,
        }
    }

    /// The same in the form that is compared.
    pub(super) fn description(&self) -> Arc<Description> {
        Description::new(Some(&self.params), self.columns.as_deref())
    }
}

/// A description that a client is told.
#[derive(Debug)]
pub(super) struct Telling {
    prepared: Rc<Prepared>,
    params: Option<Vec<u32>>,
    /// Of a portal: the parameters are what was told before.
    portal: bool,
}

impl Telling {
    /// Describe of a statement.
    pub(super) fn of_statement(prepared: &Rc<Prepared>) -> Self {
        Self {
            prepared: Rc::clone(prepared),
            params: None,
            portal: false,
        }
    }

    /// The statement, if it has a name and is so shared.
    pub(super) fn named(&self) -> Option<crate::server::StatementId> {
        (!self.prepared.unnamed && !self.portal).then_some(self.prepared.id)
    }

    /// Takes one message; the last gives what was told.
    pub(super) fn hears(&mut self, kind: u8, body: &[u8]) -> Option<(Rc<Prepared>, Arc<Description>)> {
        let columns = match kind {
            tag::PARAMETER_DESCRIPTION => {
                self.params = Some(types_of(body));
                return None;
            }
            tag::ROW_DESCRIPTION => Some(body),
            _ => None,
        };
        let before = self.prepared.told.borrow();
        let before = before.as_ref().and_then(|told| told.params());
        let params = if self.portal {
            before
        } else {
            self.params.as_deref()
        };
        let description = Description::new(params, columns);
        Some((Rc::clone(&self.prepared), description))
    }
}

/// How what a client was told compares with a server's statement.
enum Compared {
    Same,
    Columns,
    Params,
    Unknown,
}

fn compare(told: &Arc<Description>, copy: &Arc<Description>) -> Compared {
    if Arc::ptr_eq(told, copy) {
        return Compared::Same;
    }
    match told.takes_the_same(copy) {
        None => Compared::Unknown,
        Some(false) => Compared::Params,
        Some(true) if told.gives_the_same(copy) => Compared::Same,
        Some(true) => Compared::Columns,
    }
}

impl Session {
    /// A description of a portal, if the client is to remember it and does not know it yet.
    pub(super) fn telling_of_portal(&self, index: usize, prepared: &Rc<Prepared>) -> Option<Telling> {
        let home = matches!(prepared.statement.action, Action::Home);
        if !home || prepared.unnamed || self.is_known(index, prepared) {
            return None;
        }
        Some(Telling {
            portal: true,
            ..Telling::of_statement(prepared)
        })
    }

    /// The client was told what this server's statement is.
    fn is_known(&self, index: usize, prepared: &Prepared) -> bool {
        let copy = self.servers[index].lease.prepared.described(prepared.id);
        // Mostly one and the same; another server may have an equal one of its own.
        copy.is_some() && prepared.told.borrow().as_ref() == copy
    }

    /// Notes what the client was told of a statement by this server.
    pub(super) fn note_told(&mut self, index: usize, prepared: &Prepared, description: Arc<Description>) {
        let known = if prepared.unnamed {
            description
        } else {
            let server = &mut self.servers[index].lease;
            server.prepared.describe(prepared.id, description)
        };
        *prepared.told.borrow_mut() = Some(known);
    }

    /// The same of a portal, from an answer that is passed on as it is.
    pub(super) fn note_told_of_portal(&mut self, prepared: &Rc<Prepared>) {
        let Some(mut telling) = self.telling_of_portal(0, prepared) else {
            return;
        };
        let mut rest = self.servers[0].lease.conn.unread();
        let mut told = None;
        while let Ok(Some(frame)) = wire::frame::peek(rest, usize::MAX) {
            if matches!(frame.tag, tag::ROW_DESCRIPTION | tag::NO_DATA) {
                let body = rest.get(5..frame.len).unwrap_or_default();
                told = telling.hears(frame.tag, body);
                break;
            }
            if !matches!(frame.tag, tag::BIND_COMPLETE | tag::PARSE_COMPLETE) {
                break;
            }
            rest = rest.get(frame.len..).unwrap_or_default();
        }
        if let Some((prepared, description)) = told {
            self.note_told(0, &prepared, description);
        }
    }

    /// Before a Bind: the statement with which this server does what the client was told.
    pub(super) async fn as_told(
        &mut self,
        bind: &Bind<'_>,
        mut prepared: Rc<Prepared>,
    ) -> Result<Rc<Prepared>, Fault> {
        let home = self.engine.cluster.home();
        let asks = self.asks_next(bind.portal);
        for _ in 0..2 {
            let Some(told) = prepared.told.borrow().clone() else {
                return Ok(prepared);
            };
            if asks && told.params().is_none() {
                return Ok(prepared);
            }
            let index = self.open_server(home).await?;
            let server = &self.servers[index].lease;
            if prepared.unnamed && server.unnamed == Some(prepared.id) {
                return Ok(prepared);
            }
            let known = server.prepared.described(prepared.id).map(Arc::clone);
            let known = known.filter(|copy| !matches!(compare(&told, copy), Compared::Unknown));
            let copy = match known {
                Some(copy) => copy,
                None => self.learn_copy(index, &prepared).await?.description(),
            };
            match compare(&told, &copy) {
                Compared::Same => {
                    let index = self.open_server(home).await?;
                    self.note_told(index, &prepared, copy);
                    return Ok(prepared);
                }
                Compared::Columns if asks => return Ok(prepared),
                Compared::Columns | Compared::Unknown => break,
                Compared::Params => prepared = self.retype(bind.statement, &prepared, &told).await?,
            }
        }
        Err(Fault::Statement(Box::new(changed())))
    }

    /// Whether the next message, if it is here already, asks for the description of this portal.
    fn asks_next(&self, portal: &[u8]) -> bool {
        let unread = self.client.conn.unread();
        let Ok(Some(frame)) = wire::frame::peek(unread, usize::MAX) else {
            return false;
        };
        let body = unread.get(5..frame.len).unwrap_or_default();
        frame.tag == frontend::tag::DESCRIBE
            && body
                .split_first()
                .is_some_and(|(kind, name)| *kind == b'P' && name.split_last() == Some((&0, portal)))
    }

    /// The statement with the parameter types that the client was told, from now on under its name.
    async fn retype(
        &mut self,
        name: &[u8],
        prepared: &Rc<Prepared>,
        told: &Arc<Description>,
    ) -> Result<Rc<Prepared>, Fault> {
        let context = self.plan_context().await?;
        let types = told.params().unwrap_or_default().to_vec();
        let typed = Rc::new(Prepared {
            id: self.engine.prepared_id(&prepared.text, &types, &context),
            text: prepared.text.clone(),
            types,
            statement: Rc::clone(&prepared.statement),
            literals: prepared.literals.clone(),
            context: prepared.context,
            encoding: Arc::clone(&prepared.encoding),
            unnamed: prepared.unnamed,
            told: Some(Arc::clone(told)).into(),
            ruled: prepared.ruled.clone(),
        });
        self.statements.insert(name, Rc::clone(&typed));
        Ok(typed)
    }

    /// A statement's plan is made anew, because what it depends on has changed: for the types it was prepared for, and
    /// not if it gives other columns.
    pub(super) async fn prepare_again(&mut self, prepared: &Rc<Prepared>) -> Result<Prepared, Fault> {
        let before = match &prepared.statement.action {
            Action::Planned(old) => Some(Description::new(Some(&old.param_types), old.columns.as_deref())),
            _ => prepared.told.borrow().clone(),
        };
        let asked = prepared.ruled.as_ref().map(|by| &*by.asked);
        let (text, unnamed) = (asked.unwrap_or(&prepared.text), prepared.unnamed);
        let mut fresh = self.prepare(text, prepared.types.clone(), unnamed).await?;
        let Some(before) = before else {
            return Ok(fresh);
        };
        if let (Some(types), Action::Planned(new)) = (before.params(), &fresh.statement.action)
            && new.param_types != types
        {
            fresh = self.prepare(text, types.to_vec(), unnamed).await?;
        }
        match &fresh.statement.action {
            Action::Planned(new) => {
                let now = Description::new(None, new.columns.as_deref());
                if !before.gives_the_same(&now) {
                    return Err(Fault::Statement(Box::new(changed())));
                }
            }
            _ => fresh.told = Some(before).into(),
        }
        Ok(fresh)
    }

    /// A description of what this server has may be older than the client's statement, or not what it was told before.
    pub(super) fn is_doubtful(&mut self, index: usize, prepared: &Prepared) -> bool {
        let shard = self.servers[index].shard;
        if prepared.unnamed || self.extended.executed || self.extended.has_portal_on(shard) {
            return false;
        }
        let ours =
            |step: &Step| matches!(step, Step::Parse { registered: Some(id), .. } if *id == prepared.id);
        let new = self.extended.steps.iter().any(ours);
        let there = self.servers[index].lease.prepared.get(prepared.id).is_some();
        prepared.told.borrow().is_some() || (there && !new)
    }

    /// Answers Describe of a statement, whatever the server's own has become.
    pub(super) async fn describe_surely(
        &mut self,
        name: &[u8],
        prepared: &Rc<Prepared>,
    ) -> Result<(), Fault> {
        let home = self.engine.cluster.home();
        let mut prepared = Rc::clone(prepared);
        for _ in 0..2 {
            let index = self.open_server(home).await?;
            let learnt = self.learn_copy(index, &prepared).await?;
            let now = learnt.description();
            let told = prepared.told.borrow().clone();
            match told.as_ref().map_or(Compared::Same, |told| compare(told, &now)) {
                Compared::Same => {
                    if let Some(index) = self.servers.iter().position(|server| server.shard == home) {
                        self.note_told(index, &prepared, now);
                    }
                    return self.tell_learnt(&learnt);
                }
                Compared::Columns | Compared::Unknown => break,
                Compared::Params => {
                    if let Some(told) = &told {
                        prepared = self.retype(name, &prepared, told).await?;
                    }
                }
            }
        }
        Err(Fault::Statement(Box::new(changed())))
    }

    fn tell_learnt(&mut self, learnt: &Learnt) -> Result<(), Fault> {
        let mut answer = BytesMut::new();
        encode::parameter_description(&mut answer, learnt.params.iter().copied())
            .map_err(|_| Fault::error("54000", "too many parameters"))?;
        match &learnt.columns {
            Some(columns) => append_columns(&mut answer, columns),
            None => encode::no_data(&mut answer),
        }
        self.answer_bytes(answer);
        Ok(())
    }

    /// Asks what this server's statement takes and gives; prepares it first where it is missing, and anew where it has
    /// become invalid and nothing is lost by that. Ends the open part of the pipeline where it has done nothing yet.
    async fn learn_copy(&mut self, index: usize, prepared: &Rc<Prepared>) -> Result<Learnt, Fault> {
        let shard = self.servers[index].shard;
        let ends = !self.extended.executed && !self.extended.has_portal_on(shard);
        let name = self.prepare_on(index, prepared)?;
        let out = self.servers[index].lease.conn.out();
        frontend::encode::describe(out, Target::Statement, name.as_bytes())
            .map_err(|_| Fault::error("54000", "the name is too long"))?;
        self.extended.steps.push_back(Step::Learn(Learnt::default()));
        let out = self.servers[index].lease.conn.out();
        if ends {
            frontend::encode::sync(out);
            self.extended.steps.push_back(Step::Sync);
        } else {
            frontend::encode::flush(out);
            self.extended.flushed = true;
        }
        let mut read = self.read_steps(index, false).await?;
        let learnt = read.learnt.take();
        if ends {
            self.after_sync(index, &read).await?;
        }
        match learnt {
            Some(Ok(learnt)) => {
                let server = &mut self.servers[index].lease;
                server.prepared.describe(prepared.id, learnt.description());
                Ok(learnt)
            }
            Some(Err(fields)) => self.learn_anew(index, prepared, fields, ends).await,
            None => {
                self.extended.skipping = true;
                Err(Fault::Statement(Box::new(already_told())))
            }
        }
    }

    /// The server refused to say it.
    async fn learn_anew(
        &mut self,
        index: usize,
        prepared: &Rc<Prepared>,
        fields: Box<ErrorFields>,
        ended: bool,
    ) -> Result<Learnt, Fault> {
        let there = self.servers[index].lease.prepared.get(prepared.id).is_some();
        let invalid = !prepared.unnamed && there && is_invalid_error(&fields);
        if invalid && ended && !self.block.is_open() {
            self.engine.metrics.statements_retried.increment();
            return self.renew(index, prepared).await;
        }
        if invalid {
            self.servers[index].lease.prepared.condemn(prepared.id);
        }
        if ended {
            return Err(Fault::Statement(fields));
        }
        // The server ignores everything up to Sync.
        self.tell(&fields);
        self.fail_block();
        Err(Fault::Statement(Box::new(already_told())))
    }
}

fn types_of(body: &[u8]) -> Vec<u32> {
    match Backend::decode_body(tag::PARAMETER_DESCRIPTION, body) {
        Ok(Backend::ParameterDescription(types)) => types.iter().collect(),
        _ => Vec::new(),
    }
}
