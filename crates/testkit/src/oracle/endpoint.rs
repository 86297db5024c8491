//! One of the two servers: its named sessions and what it calls its types.

use super::types::TypeBook;
use crate::casefile::{Case, ParameterText};
use crate::client::{Answer, Client, ClientError, Extended, Format, Parameter, Target};
use std::collections::HashMap;
use std::time::Duration;

/// How a statement is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// One Query message.
    Simple,
    /// Parse/Bind/Execute, parameters and results as text.
    ExtendedText,
    /// Parse/Bind/Execute, parameters (where the type is known to this kit) and results in binary.
    ExtendedBinary,
    /// As `ExtendedText`, fetching a few rows per Execute.
    ExtendedRows,
}

/// Rows per Execute in [`Protocol::ExtendedRows`].
const ROW_LIMIT: u32 = 3;

/// Session that runs the setup; a second proxy serves it when there is one.
pub(super) const SETUP_SESSION: &str = "@setup";

pub(super) struct Endpoint {
    /// One server, or several proxies over the same cluster.
    targets: Vec<Target>,
    turn: usize,
    timeout: Duration,
    sessions: HashMap<String, Client>,
    lookup: Option<Client>,
    pub(super) types: TypeBook,
}

impl Endpoint {
    pub(super) fn new(target: Target, timeout: Duration) -> Endpoint {
        Endpoint {
            targets: vec![target],
            turn: 0,
            timeout,
            sessions: HashMap::new(),
            lookup: None,
            types: TypeBook::default(),
        }
    }

    /// The session of this name, opened when first used.
    pub(super) fn session(&mut self, name: &str) -> Result<&mut Client, ClientError> {
        if !self.sessions.contains_key(name) {
            let target = if name == SETUP_SESSION {
                self.other()
            } else {
                self.current()
            };
            let mut client = Client::open(target)?;
            client.set_timeout(self.timeout);
            self.sessions.insert(name.to_string(), client);
        }
        // Just inserted when it was missing.
        self.sessions.get_mut(name).ok_or(ClientError::Closed(None))
    }

    /// Another proxy over the same cluster.
    pub(super) fn add(&mut self, target: Target) {
        self.targets.push(target);
    }

    /// Lets the proxies change places: what one served is served by the next.
    pub(super) fn next_turn(&mut self) {
        self.turn += 1;
    }

    fn current(&self) -> &Target {
        &self.targets[self.turn % self.targets.len()]
    }

    fn other(&self) -> &Target {
        &self.targets[(self.turn + 1) % self.targets.len()]
    }

    /// Closes all sessions, so that the next case starts clean.
    pub(super) fn disconnect(&mut self) {
        self.sessions.drain().for_each(|(_, client)| client.close());
        self.lookup = None;
    }

    /// Transaction status of a session.
    pub(super) fn status(&self, session: &str) -> u8 {
        self.sessions.get(session).map_or(b'I', Client::status)
    }

    /// Runs a case's statement.
    pub(super) fn execute(
        &mut self,
        session: &str,
        case: &Case,
        how: Protocol,
    ) -> Result<Answer, ClientError> {
        let answer = if how == Protocol::Simple {
            self.session(session)?
                .simple_copy(&case.step.sql, case.step.copy.as_deref())?
        } else {
            self.extended(session, case, how)?
        };
        self.learn(&answer)?;
        Ok(answer)
    }

    fn extended(&mut self, session: &str, case: &Case, how: Protocol) -> Result<Answer, ClientError> {
        let written = case.parameters.as_deref().unwrap_or_default();
        let types = self.declared(written)?;
        let parameters = match how {
            Protocol::ExtendedBinary if !written.is_empty() => {
                let asked = self.session(session)?.parameter_types(&case.step.sql, &types)?;
                if asked.error().is_some() {
                    return Ok(asked);
                }
                self.binary(written, asked.parameters.as_deref().unwrap_or_default())?
            }
            _ => written.iter().map(as_text).collect(),
        };
        let result = if how == Protocol::ExtendedBinary {
            Format::Binary
        } else {
            Format::Text
        };
        let row_limit = if how == Protocol::ExtendedRows {
            ROW_LIMIT
        } else {
            0
        };
        let run = Extended {
            sql: &case.step.sql,
            types: &types,
            parameters: &parameters,
            result,
            row_limit,
            copy: case.step.copy.as_deref(),
        };
        self.session(session)?.extended(&run)
    }

    fn declared(&mut self, written: &[ParameterText]) -> Result<Vec<u32>, ClientError> {
        let mut oids = Vec::with_capacity(written.len());
        for parameter in written {
            let oid = match &parameter.type_name {
                None => None,
                Some(name) => self.with_lookup(|types, client| types.oid(name, client))?,
            };
            oids.push(oid.unwrap_or(0));
        }
        Ok(oids)
    }

    fn binary(&mut self, written: &[ParameterText], oids: &[u32]) -> Result<Vec<Parameter>, ClientError> {
        if oids.iter().any(|oid| !self.types.knows(*oid, 0)) {
            self.with_lookup(|types, client| types.load(client))?;
        }
        let encode = |(at, parameter): (usize, &ParameterText)| match oids.get(at) {
            Some(oid) => self.types.encode(*oid, parameter.value.as_deref()),
            None => as_text(parameter),
        };
        Ok(written.iter().enumerate().map(encode).collect())
    }

    /// Makes sure the names of all types and relations in an answer are known.
    fn learn(&mut self, answer: &Answer) -> Result<(), ClientError> {
        let columns = answer
            .results
            .iter()
            .flat_map(|result| result.columns.iter().flatten());
        let mut wanted: Vec<(u32, u32)> = columns.map(|column| (column.type_oid, column.table)).collect();
        wanted.extend(answer.parameters.iter().flatten().map(|oid| (*oid, 0)));
        if wanted.iter().all(|(oid, table)| self.types.knows(*oid, *table)) {
            return Ok(());
        }
        self.with_lookup(|types, client| types.load(client))
    }

    fn with_lookup<T>(
        &mut self,
        ask: impl FnOnce(&mut TypeBook, &mut Client) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let mut client = match self.lookup.take() {
            Some(client) => client,
            None => Client::open(self.other())?,
        };
        client.set_timeout(self.timeout);
        let result = ask(&mut self.types, &mut client);
        if result.is_ok() {
            self.lookup = Some(client);
        }
        result
    }
}

fn as_text(parameter: &ParameterText) -> Parameter {
    parameter
        .value
        .as_ref()
        .map_or_else(Parameter::null, |text| Parameter::text(text.clone()))
}
