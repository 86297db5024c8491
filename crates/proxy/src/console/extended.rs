//! The extended query protocol on the console: drivers that know no other way get their answers too.
//!
//! Statements have no parameters. A portal runs when it is first executed, and lives until Sync, as everything here is a
//! transaction of its own. Names, errors and SQLSTATEs are PostgreSQL's.

use std::collections::HashMap;

use wire::FormatCode;
use wire::Target;
use wire::backend::encode;
use wire::frontend::{Bind, Frontend, Parse};

use super::command::Command;
use super::table::Table;
use super::{Failed, Outcome, Talk, read};

/// Statements, and portals, that one session can have at a time.
const NAMES_MAX: usize = 256;

/// What Parse and Bind have made.
#[derive(Default)]
pub(super) struct Prepared {
    statements: HashMap<Vec<u8>, Command>,
    portals: HashMap<Vec<u8>, Portal>,
}

impl Prepared {
    /// The transaction is over.
    pub(super) fn end_portals(&mut self) {
        self.portals.clear();
    }
}

struct Portal {
    command: Command,
    formats: Vec<FormatCode>,
    ran: Ran,
}

enum Ran {
    NotYet,
    /// Rows up to `next` are with the client.
    Rows {
        table: Table,
        tag: &'static str,
        next: usize,
    },
    /// It cannot run again.
    Done,
}

impl Talk {
    /// Acts on a message between two Syncs.
    pub(super) async fn extended(&mut self, kind: u8, body: &[u8]) -> Result<(), Failed> {
        let message =
            Frontend::decode_body(kind, body).map_err(|error| Failed::new("08P01", error.to_string()))?;
        match message {
            Frontend::Parse(parse) => self.parse(&parse),
            Frontend::Bind(bind) => self.bind(&bind),
            Frontend::Describe { target, name } => self.describe(target, name).await,
            Frontend::Execute { portal, max_rows } => self.execute(portal, max_rows).await,
            Frontend::Close { target, name } => {
                match target {
                    Target::Statement => drop(self.prepared.statements.remove(name)),
                    Target::Portal => drop(self.prepared.portals.remove(name)),
                }
                encode::close_complete(self.session.client.conn.out());
                Ok(())
            }
            // The caller passes on nothing else.
            _ => Ok(()),
        }
    }

    fn parse(&mut self, parse: &Parse<'_>) -> Result<(), Failed> {
        let statements = &mut self.prepared.statements;
        if !parse.name.is_empty() && statements.contains_key(parse.name) {
            let name = String::from_utf8_lossy(parse.name);
            let text = format!("prepared statement \"{name}\" already exists");
            return Err(Failed::new("42P05", text));
        }
        if statements.len() >= NAMES_MAX && !statements.contains_key(parse.name) {
            return Err(too_many("prepared statements"));
        }
        statements.insert(parse.name.to_vec(), read(parse.sql)?);
        encode::parse_complete(self.session.client.conn.out());
        Ok(())
    }

    fn bind(&mut self, bind: &Bind<'_>) -> Result<(), Failed> {
        let command = self.statement(bind.statement)?.clone();
        if !bind.params.is_empty() {
            let name = String::from_utf8_lossy(bind.statement);
            let text = format!(
                "bind message supplies {} parameters, but prepared statement \"{name}\" requires 0",
                bind.params.len()
            );
            return Err(Failed::new("08P01", text));
        }
        let portals = &mut self.prepared.portals;
        if !bind.portal.is_empty() && portals.contains_key(bind.portal) {
            let name = String::from_utf8_lossy(bind.portal);
            return Err(Failed::new("42P03", format!("cursor \"{name}\" already exists")));
        }
        if portals.len() >= NAMES_MAX && !portals.contains_key(bind.portal) {
            return Err(too_many("portals"));
        }
        let portal = Portal {
            command,
            formats: bind.result_formats.iter().collect(),
            ran: Ran::NotYet,
        };
        portals.insert(bind.portal.to_vec(), portal);
        encode::bind_complete(self.session.client.conn.out());
        Ok(())
    }

    async fn describe(&mut self, target: Target, name: &[u8]) -> Result<(), Failed> {
        let (command, formats) = match target {
            Target::Statement => (self.statement(name)?.clone(), Vec::new()),
            Target::Portal => {
                let portal = self.prepared.portals.get(name).ok_or_else(|| no_portal(name))?;
                (portal.command.clone(), portal.formats.clone())
            }
        };
        // To know its columns a table has to be made; only looking is done here, whatever the command is.
        let table = match &command {
            Command::Show(_) => match self.run_command(command).await? {
                Outcome::Table(table, _) => Some(table),
                _ => None,
            },
            _ => None,
        };
        if let Some(table) = &table {
            check_formats(&formats, table)?;
        }
        let out = self.session.client.conn.out();
        if target == Target::Statement {
            let _ = encode::parameter_description(out, std::iter::empty());
        }
        match table {
            Some(table) => table.encode_description(out, |index| format_of(&formats, index)),
            None => encode::no_data(out),
        }
        Ok(())
    }

    async fn execute(&mut self, name: &[u8], max_rows: i32) -> Result<(), Failed> {
        let mut portal = self
            .prepared
            .portals
            .remove(name)
            .ok_or_else(|| no_portal(name))?;
        if matches!(portal.ran, Ran::NotYet) {
            match self.run_command(portal.command.clone()).await? {
                Outcome::Table(table, tag) => {
                    check_formats(&portal.formats, &table)?;
                    portal.ran = Ran::Rows { table, tag, next: 0 };
                }
                other => {
                    self.say_done(&other);
                    portal.ran = Ran::Done;
                    self.prepared.portals.insert(name.to_vec(), portal);
                    return Ok(());
                }
            }
        }
        match &mut portal.ran {
            Ran::Rows { table, tag, next } => {
                let wanted = usize::try_from(max_rows).ok().filter(|rows| *rows > 0);
                let left = table.rows.len() - *next;
                let count = wanted.map_or(left, |wanted| wanted.min(left));
                let out = self.session.client.conn.out();
                for row in *next..*next + count {
                    table.encode_row(out, row, |index| format_of(&portal.formats, index));
                }
                *next += count;
                // As PostgreSQL: exactly as many rows as asked for are not known to be the last.
                match wanted == Some(count) {
                    true => encode::portal_suspended(out),
                    false => self.done(tag),
                }
            }
            _ => {
                let name = String::from_utf8_lossy(name);
                return Err(Failed::new("55000", format!("portal \"{name}\" cannot be run")));
            }
        }
        self.prepared.portals.insert(name.to_vec(), portal);
        Ok(())
    }

    fn statement(&self, name: &[u8]) -> Result<&Command, Failed> {
        self.prepared.statements.get(name).ok_or_else(|| {
            let text = match name {
                b"" => "unnamed prepared statement does not exist".to_owned(),
                name => format!(
                    "prepared statement \"{}\" does not exist",
                    String::from_utf8_lossy(name)
                ),
            };
            Failed::new("26000", text)
        })
    }
}

fn no_portal(name: &[u8]) -> Failed {
    let name = String::from_utf8_lossy(name);
    Failed::new("34000", format!("portal \"{name}\" does not exist"))
}

fn too_many(what: &str) -> Failed {
    let text = format!("a session of the admin console has at most {NAMES_MAX} {what}");
    Failed::new("54000", text)
}

/// None, one for all, or one each.
fn check_formats(formats: &[FormatCode], table: &Table) -> Result<(), Failed> {
    let columns = table.columns.len();
    if formats.len() <= 1 || formats.len() == columns {
        return Ok(());
    }
    let text = format!(
        "bind message has {} result formats but query has {columns} columns",
        formats.len()
    );
    Err(Failed::new("08P01", text))
}

fn format_of(formats: &[FormatCode], index: usize) -> FormatCode {
    let format = match formats {
        [one] => Some(one),
        several => several.get(index),
    };
    format.copied().unwrap_or(FormatCode::Text)
}
