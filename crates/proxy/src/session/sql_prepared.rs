//! Statements prepared with SQL's PREPARE.
//!
//! They live on the session's server and were found to be the home shard's business when they were prepared. A later
//! change of the schema, by whomever, can make that wrong, and PostgreSQL on its own would go on with what is left at
//! home.

use sql::{Detail, StatementKind};

use super::learn::Learned;
use super::{Fault, Session};
use crate::exec::statement::{Action, Statement};
use crate::spare::Blank;

/// Texts kept for one session; also bounds what an EXECUTE after a change of the schema costs.
const TEXTS_MAX: usize = 1000;

/// What a session has prepared with PREPARE.
#[derive(Debug, Default)]
pub(super) struct SqlPrepared {
    /// The whole statements, PREPARE included. DEALLOCATE and DISCARD leave them: at worst EXECUTE is refused too often.
    texts: Vec<String>,
    /// Version of the facts by which all of them are the home shard's business.
    version: u64,
}

impl Blank for SqlPrepared {
    const BLANK: &'static Self = &Self {
        texts: Vec::new(),
        version: 0,
    };

    fn is_blank(&self) -> bool {
        self.texts.is_empty()
    }
}

impl Session {
    /// Before a statement runs: remembers what PREPARE prepares, and looks at it again before EXECUTE if the schema has
    /// changed since.
    pub(super) async fn check_sql_prepared(
        &mut self,
        statement: &Statement,
        text: &str,
    ) -> Result<(), Fault> {
        match statement.kind {
            StatementKind::Prepare => self.remember_sql_prepared(text),
            StatementKind::Execute => self.recheck_sql_prepared().await,
            // CREATE TABLE … AS EXECUTE and EXPLAIN EXECUTE; a word too many only costs a look.
            StatementKind::CreateTableAs | StatementKind::Explain if has_word_execute(text) => {
                self.recheck_sql_prepared().await
            }
            _ => Ok(()),
        }
    }

    /// SQL and the protocol have one set of names in PostgreSQL. What Parse prepared is on many servers under other names,
    /// so that a statement in SQL must not run past it.
    pub(super) fn check_prepared_name(&self, detail: &Detail) -> Result<(), Fault> {
        let known = |name: &str| self.statements.get(name.as_bytes()).is_some();
        match detail {
            Detail::Prepare { name, .. } if known(name) => {
                let text = format!("prepared statement \"{name}\" already exists");
                Err(Fault::error("42P05", text))
            }
            Detail::Execute { name } if known(name) => {
                Err(Fault::refused_as(plan::RefusalCode::ExecuteOfParsed))
            }
            _ => Ok(()),
        }
    }

    fn remember_sql_prepared(&mut self, text: &str) -> Result<(), Fault> {
        let prepared = &mut self.sql_prepared;
        if prepared.texts.is_empty() {
            prepared.version = self.engine.cluster.version(&self.database);
        }
        if prepared.texts.iter().any(|known| known == text) {
            return Ok(());
        }
        if prepared.texts.len() >= TEXTS_MAX {
            let text = format!("a session can prepare {TEXTS_MAX} different statements with PREPARE");
            return Err(Fault::error("54000", text));
        }
        prepared.texts.push(text.to_owned());
        Ok(())
    }

    async fn recheck_sql_prepared(&mut self) -> Result<(), Fault> {
        let version = self.engine.cluster.version(&self.database);
        if self.sql_prepared.is_blank() || self.sql_prepared.version == version {
            return Ok(());
        }
        for text in self.sql_prepared.texts.clone() {
            let learned = Box::pin(self.learn(&text, &[], None)).await;
            let at_home = |again: &Statement| match &again.action {
                Action::Ruled(ruled) => ruled
                    .runs
                    .as_ref()
                    .is_some_and(|it| matches!(it.action, Action::Home)),
                action => matches!(action, Action::Home),
            };
            if !matches!(learned, Ok(Learned::One(again)) if at_home(&again)) {
                let refusal = plan::Refusal::new(plan::RefusalCode::PrepareSql);
                return Err(Fault::refused(&refusal));
            }
        }
        self.sql_prepared.version = version;
        Ok(())
    }
}

fn has_word_execute(text: &str) -> bool {
    text.as_bytes()
        .windows(7)
        .any(|word| word.eq_ignore_ascii_case(b"execute"))
}
