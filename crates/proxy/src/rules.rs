//! Rules: statements that are blocked or rewritten by their shape (docs/decisions/0045).
//!
//! Compiled from the configuration, looked up by [`sql::shape`] when a statement is learnt, which is once for all statements
//! that differ in their constants only. Whoever knows a statement knows the rule with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use plan::{Refusal, RefusalCode};
use sql::{ParseOptions, Shape};
use wire::backend::ErrorFields;

/// A rule as the configuration has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleConfig {
    /// What it is called.
    pub name: String,
    /// A statement like those that it is about, with constants or `?`.
    pub matches: String,
    /// Only statements of this role.
    pub user: Option<String>,
    /// Only statements in this database.
    pub database: Option<String>,
    /// What becomes of them.
    pub action: RuleAction,
    /// Otherwise hits are counted and nothing else happens.
    pub is_enforced: bool,
}

/// What becomes of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleAction {
    /// It is answered with an error.
    Block {
        /// Instead of `0A000`.
        sqlstate: Option<String>,
        /// Instead of the general words.
        message: Option<String>,
    },
    /// Another one runs in its place.
    Rewrite {
        /// It; `$n` is what stands in the n-th place of the statement that matched.
        text: String,
    },
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleProblem {
    /// Which rule, from 0.
    pub rule: usize,
    /// In which option.
    pub option: &'static str,
    /// What.
    pub message: String,
}

/// A rule.
#[derive(Debug)]
pub struct Rule {
    /// As it was configured.
    pub config: RuleConfig,
    /// Of the statements that it is about.
    pub shape: String,
    /// Of a rewrite.
    pieces: Vec<Piece>,
    hits: Arc<AtomicU64>,
}

/// A part of the text of a rewrite.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// What stands in this place, from 0.
    Place(usize),
}

/// All rules, in their order.
#[derive(Debug, Default)]
pub struct Rules {
    all: Vec<Arc<Rule>>,
    by_shape: HashMap<String, Vec<usize>>,
}

/// First words of statements that no rule may keep from the servers: a transaction has to end.
const CONTROL: [&str; 8] = [
    "begin",
    "start",
    "commit",
    "end",
    "rollback",
    "abort",
    "savepoint",
    "release",
];

impl Rule {
    fn new(config: &RuleConfig) -> Result<Rule, (&'static str, String)> {
        let wrong = |message: &str| ("statement", message.to_owned());
        let shape = sql::shape(&config.matches, true).ok_or_else(|| wrong("it is no SQL"))?;
        let first = shape.text.split(' ').next().unwrap_or_default();
        if first.is_empty() {
            return Err(wrong("there is no statement in it"));
        }
        if CONTROL.contains(&first) {
            return Err(wrong("statements that control transactions have no rules"));
        }
        if shape.text.split(' ').any(|word| word == ";") {
            return Err(wrong(
                "it has more than one statement; each is looked at by itself",
            ));
        }
        let pieces = match &config.action {
            RuleAction::Block { sqlstate, .. } => {
                if sqlstate.as_deref().is_some_and(|code| !is_error(code)) {
                    let message = "five digits and capital letters are needed, which are an error's";
                    return Err(("sqlstate", message.to_owned()));
                }
                Vec::new()
            }
            RuleAction::Rewrite { text } => {
                if shape.is_cut || shape.text.contains(") , …") {
                    return Err(wrong("rows of VALUES cannot be carried into a rewrite"));
                }
                pieces(text, shape.places.len()).map_err(|message| ("rewrite", message))?
            }
        };
        Ok(Rule {
            config: config.clone(),
            shape: shape.text,
            pieces,
            hits: Arc::default(),
        })
    }

    /// One more statement is the rule's.
    pub fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// What is told of a statement that is blocked.
    #[must_use]
    pub fn error(&self) -> Box<ErrorFields> {
        let name = &self.config.name;
        let refusal = Refusal::with(RefusalCode::RuleBlocks, format!("\"{name}\""));
        let mut fields = crate::session::refusal_fields(&refusal);
        if let RuleAction::Block { sqlstate, message } = &self.config.action {
            if let Some(code) = sqlstate {
                fields.code.clone_from(code);
            }
            if let Some(message) = message {
                fields.message.clone_from(message);
            }
        }
        Box::new(fields)
    }

    /// What runs in the place of a statement of this shape. `conforming`: the session's `standard_conforming_strings`.
    pub fn rewritten(&self, statement: &str, shape: &Shape, conforming: bool) -> Result<String, Refusal> {
        let refused = |why: String| {
            let name = &self.config.name;
            Refusal::with(RefusalCode::RuleRewrites, format!("\"{name}\" {why}"))
        };
        let mut text = String::with_capacity(statement.len() * 2);
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Place(place) => {
                    let range = shape.places.get(*place).cloned();
                    let stands = range.and_then(|range| statement.get(range));
                    let stands = stands.ok_or_else(|| refused(format!("has no place {}", place + 1)))?;
                    // Whatever stands beside it, it stays a word of its own.
                    text.push(' ');
                    text.push_str(stands);
                    text.push(' ');
                }
            }
        }
        let now = sql::shape(&text, conforming).unwrap_or_default();
        let used: Vec<&str> = now
            .params
            .iter()
            .filter_map(|range| text.get(range.clone()))
            .collect();
        let own = shape
            .params
            .iter()
            .filter_map(|range| statement.get(range.clone()));
        if let Some(lost) = own.into_iter().find(|param| !used.contains(param)) {
            return Err(refused(format!("leaves out the parameter {lost}")));
        }
        Ok(text)
    }

    /// As people are told what it does.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self.config.action {
            RuleAction::Block { .. } => "block",
            RuleAction::Rewrite { .. } => "rewrite",
        }
    }

    /// As people are told whether it does it.
    #[must_use]
    pub fn mode(&self) -> &'static str {
        match self.config.is_enforced {
            true => "enforce",
            false => "dry-run",
        }
    }

    /// Whether it is about statements of this role in this database.
    #[must_use]
    pub fn is_for(&self, database: &str, user: &str) -> bool {
        let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        fits(&self.config.database, database) && fits(&self.config.user, user)
    }
}

/// Whether a text is a SQLSTATE that an error may have.
fn is_error(code: &str) -> bool {
    let plain = code
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    code.len() == 5 && plain && !["00", "01", "02"].contains(&&code[..2])
}

/// The parts of a rewrite, for statements with so many places.
fn pieces(text: &str, places: usize) -> Result<Vec<Piece>, String> {
    let shape = sql::shape(text, true).ok_or("it is no SQL")?;
    match sql::parse(text, &ParseOptions::default()) {
        Ok(statements) if statements.len() == 1 => {}
        Ok(_) => return Err("it has to be one statement".to_owned()),
        Err(error) => return Err(error.to_string()),
    }
    if shape
        .text
        .split(' ')
        .next()
        .is_some_and(|word| CONTROL.contains(&word))
    {
        return Err("it controls transactions".to_owned());
    }
    let (mut pieces, mut from) = (Vec::new(), 0);
    for param in shape.params {
        let number = text.get(param.start + 1..param.end).unwrap_or_default();
        let number: usize = number.parse().unwrap_or(0);
        if number == 0 || number > places {
            return Err(format!(
                "${number} is none of the {places} constants of `statement`"
            ));
        }
        pieces.push(Piece::Text(
            text.get(from..param.start).unwrap_or_default().to_owned(),
        ));
        pieces.push(Piece::Place(number - 1));
        from = param.end;
    }
    let rest = text
        .get(from..)
        .unwrap_or_default()
        .trim_end()
        .trim_end_matches(';');
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

impl Rules {
    /// Compiles them.
    pub fn new(configs: &[RuleConfig]) -> Result<Rules, Vec<RuleProblem>> {
        let (mut rules, mut problems) = (Rules::default(), Vec::new());
        for (number, config) in configs.iter().enumerate() {
            let problem = |(option, message)| RuleProblem {
                rule: number,
                option,
                message,
            };
            if configs[..number].iter().any(|other| other.name == config.name) {
                let message = format!("rule `{}` is there twice", config.name);
                problems.push(problem(("name", message)));
            }
            match Rule::new(config) {
                Ok(rule) => {
                    rules
                        .by_shape
                        .entry(rule.shape.clone())
                        .or_default()
                        .push(rules.all.len());
                    rules.all.push(Arc::new(rule));
                }
                Err(wrong) => problems.push(problem(wrong)),
            }
        }
        for (number, config) in configs.iter().enumerate() {
            if let RuleAction::Rewrite { text } = &config.action
                && let Some(other) = rules.rewrites(text)
            {
                let message = format!("what it says is rewritten by the rule `{}`", other.config.name);
                problems.push(RuleProblem {
                    rule: number,
                    option: "rewrite",
                    message,
                });
            }
        }
        problems.sort_by_key(|problem| problem.rule);
        match problems.is_empty() {
            true => Ok(rules),
            false => Err(problems),
        }
    }

    /// A rule that rewrites such statements.
    fn rewrites(&self, text: &str) -> Option<&Rule> {
        let shape = sql::shape(text, true)?;
        let numbers = self.by_shape.get(&shape.text)?;
        let rules = numbers.iter().filter_map(|number| self.all.get(*number));
        let mut rewrites = rules.filter(|rule| matches!(rule.config.action, RuleAction::Rewrite { .. }));
        rewrites.next().map(|rule| &**rule)
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.all.iter()
    }

    /// The first rule for statements of this shape.
    #[must_use]
    pub fn find(&self, database: &str, user: &str, shape: &str) -> Option<&Arc<Rule>> {
        let numbers = self.by_shape.get(shape)?;
        let mut rules = numbers.iter().filter_map(|number| self.all.get(*number));
        rules.find(|rule| rule.is_for(database, user))
    }

    /// These rules, with the hits of those that were there before. Where nothing is different, those from before.
    #[must_use]
    pub fn after(self: Arc<Self>, before: &Arc<Self>) -> Arc<Self> {
        let same = |(new, old): (&Arc<Rule>, &Arc<Rule>)| new.config == old.config;
        if self.all.len() == before.all.len() && self.all.iter().zip(&before.all).all(same) {
            return Arc::clone(before);
        }
        let counted = |rule: &Arc<Rule>| {
            let known = before.all.iter().find(|known| known.config == rule.config);
            known.map_or_else(|| Arc::clone(rule), Arc::clone)
        };
        Arc::new(Rules {
            all: self.all.iter().map(counted).collect(),
            by_shape: self.by_shape.clone(),
        })
    }
}

#[cfg(test)]
mod tests;
