//! Statements that a rule is about: see [`crate::rules`].
//!
//! A rule is found when a statement is learnt. What is cached then for the statement is [`Action::Ruled`], so that nothing is looked
//! up again for it, and nothing at all for any other.
//!
//! | rule | Query | Parse | hits |
//! |---|---|---|---|
//! | blocks | the error | the error | each |
//! | rewrites | the other text runs, looked up like a client's | the other text is prepared under the client's name | each Query, each Execute |
//! | dry-run | the statement runs | the statement is prepared | the same |
//!
//! A rule also matches the statement within PREPARE, DECLARE, EXPLAIN and `COPY (query)`; hits are those of the statement around it.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use plan::{Refusal, RefusalCode};
use sql::{Cursor, Detail, NormalisedBuf, RawStatement, Shape};

use super::block::BlockState;
use super::effects::Effects;
use super::extended::Prepared;
use super::learn::Learned;
use super::simple::failed_block;
use super::{Fault, Session};
use crate::engine::PlanContext;
use crate::exec::cache::Found;
use crate::exec::statement::{Action, Literals, Statement};
use crate::rules::{Rule, RuleAction};

/// What a rule makes of a statement.
#[derive(Debug)]
pub struct Ruled {
    rule: Arc<Rule>,
    /// The part of the text that the rule is about; `None`: all of it.
    part: Option<Range<usize>>,
    /// What runs all the same.
    pub(super) runs: Option<Rc<Statement>>,
}

/// A statement that was prepared although, or because, there is a rule about it.
#[derive(Debug, Clone)]
pub(super) struct PreparedByRule {
    /// Execute counts as a hit.
    pub(super) rule: Arc<Rule>,
    /// The client's own text.
    pub(super) asked: Box<str>,
}

/// A rule for a statement, and for which part of it.
pub(super) type FoundRule = (Arc<Rule>, Option<Range<usize>>);

impl Ruled {
    /// The text that runs in the place of this one.
    fn rewritten(&self, text: &str, conforming: bool) -> Result<String, Fault> {
        let part = self.part.clone().unwrap_or(0..text.len());
        let statement = text.get(part.clone()).unwrap_or_default();
        let shape = sql::shape(statement, conforming).unwrap_or_default();
        let rewritten = self.rule.rewritten(statement, &shape, conforming);
        let rewritten = rewritten.map_err(|refusal| Fault::refused(&refusal))?;
        let (before, after) = (&text[..part.start], &text[part.end..]);
        Ok(match self.part {
            Some(_) => format!("{before}{rewritten}{after}"),
            None => rewritten,
        })
    }

    fn is_rewrite(&self) -> bool {
        self.runs.is_none() && matches!(self.rule.config.action, RuleAction::Rewrite { .. })
    }
}

impl Session {
    /// The rule for a statement, or for the statement in it.
    pub(super) fn rule_for(
        &self,
        text: &str,
        raw: Option<&RawStatement>,
        context: &PlanContext,
    ) -> Option<FoundRule> {
        let rules = self.engine.rules();
        if rules.is_empty() {
            return None;
        }
        let find = |part: &str| {
            let shape: Shape = sql::shape(part, context.conforming_strings)?;
            rules.find(&self.database, &self.user, &shape.text).cloned()
        };
        let inner = match raw.map(|raw| &raw.detail) {
            // A transaction has to end.
            Some(Detail::Transaction(_)) => return None,
            Some(Detail::Prepare { inner, .. }) => Some(inner),
            Some(Detail::Explain(explain)) => Some(&explain.inner),
            Some(Detail::Cursor(Cursor::Declare { query, .. })) => Some(query),
            Some(Detail::Copy(copy)) => copy.query.as_ref(),
            _ => None,
        };
        if let Some(rule) = find(text) {
            return Some((rule, None));
        }
        let inner = inner?;
        Some((find(text.get(inner.clone())?)?, Some(inner.clone())))
    }

    /// The same for one of several statements in a text, before it is looked at by itself: there may be one.
    pub(super) fn may_have_rule(&self, piece: &str, raw: &RawStatement, context: &PlanContext) -> bool {
        if self.engine.rules().is_empty() {
            return false;
        }
        let holds_another = matches!(
            raw.detail,
            Detail::Prepare { .. } | Detail::Explain(_) | Detail::Cursor(_) | Detail::Copy(_)
        );
        holds_another || self.rule_for(piece, Some(raw), context).is_some()
    }

    /// A statement that a rule is about. `runs`: what runs nevertheless.
    pub(super) fn ruled(
        &self,
        (rule, part): FoundRule,
        runs: Option<Rc<Statement>>,
        kind: sql::StatementKind,
    ) -> Rc<Statement> {
        let ruled = Ruled { rule, part, runs };
        self.statement(Action::Ruled(Box::new(ruled)), Effects::default(), kind)
    }

    /// A statement of a Query that a rule is about.
    pub(super) async fn run_ruled(
        &mut self,
        ruled: &Ruled,
        statement: &Rc<Statement>,
        text: &str,
        literals: Literals<'_>,
        (last, offset): (bool, usize),
    ) -> Result<bool, Fault> {
        if let Some(statement) = &ruled.runs {
            ruled.rule.hit();
            return self.run_simple(statement, text, literals, last, offset).await;
        }
        if !ruled.is_rewrite() {
            self.begin_statement(statement);
            self.observe_statement(statement, text, false);
            if self.block.state == BlockState::Failed {
                return Err(failed_block());
            }
            ruled.rule.hit();
            return Err(Fault::Statement(ruled.rule.error()));
        }
        if self.block.state == BlockState::Failed {
            return Err(failed_block());
        }
        ruled.rule.hit();
        let context = self.plan_context().await?;
        let text = ruled.rewritten(text, context.conforming_strings)?;
        let mut scratch = NormalisedBuf::default();
        let found = match self.may_have_temporary_objects() {
            true => Found::Unknown { normalised: false },
            false => context
                .statements
                .find(&text, &mut scratch, context.conforming_strings),
        };
        let statement = match found {
            Found::Statement(statement) => statement,
            Found::Unknown { normalised } => {
                let key = normalised.then_some(&scratch);
                match self.learn(&text, &[], key).await? {
                    Learned::One(statement) => statement,
                    Learned::Several(_) => return Err(not_once(&ruled.rule)),
                }
            }
        };
        check_once(&ruled.rule, &statement)?;
        let literals = Literals {
            text: &text,
            literals: &scratch.literals,
        };
        self.run_simple(&statement, &text, literals, last, 0).await
    }

    /// A statement of a Parse, if a rule is about it.
    pub(super) async fn prepare_by_rule(&mut self, prepared: Prepared) -> Result<Prepared, Fault> {
        let statement = Rc::clone(&prepared.statement);
        let Action::Ruled(ruled) = &statement.action else {
            return Ok(prepared);
        };
        let by = PreparedByRule {
            rule: Arc::clone(&ruled.rule),
            asked: prepared.text.as_str().into(),
        };
        if !ruled.is_rewrite() {
            let prepared = unless_blocked(prepared)?;
            let ruled = Some(Box::new(by));
            return Ok(Prepared { ruled, ..prepared });
        }
        let conforming = self.plan_context().await?.conforming_strings;
        let text = ruled.rewritten(&prepared.text, conforming)?;
        let rewritten = self
            .prepare_as_asked(&text, prepared.types, prepared.unnamed)
            .await?;
        check_once(&ruled.rule, &rewritten.statement)?;
        let rewritten = unless_blocked(rewritten)?;
        Ok(Prepared {
            ruled: Some(Box::new(by)),
            ..rewritten
        })
    }
}

/// A statement whose rule does not rewrite it, as it runs.
fn unless_blocked(prepared: Prepared) -> Result<Prepared, Fault> {
    let statement = match &prepared.statement.action {
        Action::Ruled(ruled) => match &ruled.runs {
            Some(statement) => Rc::clone(statement),
            None => {
                ruled.rule.hit();
                return Err(Fault::Statement(ruled.rule.error()));
            }
        },
        _ => return Ok(prepared),
    };
    Ok(Prepared {
        statement,
        ..prepared
    })
}

/// What a rule has made of a statement is not rewritten again.
fn check_once(rule: &Rule, statement: &Statement) -> Result<(), Fault> {
    match &statement.action {
        Action::Ruled(other) if other.is_rewrite() => Err(not_once(rule)),
        _ => Ok(()),
    }
}

fn not_once(rule: &Rule) -> Fault {
    let why = format!(
        "\"{}\" gives a statement that is rewritten again, or several",
        rule.config.name
    );
    Fault::refused(&Refusal::with(RefusalCode::RuleRewrites, why))
}
