//! Case files: SQL that one PostgreSQL and a cluster must answer alike.
//!
//! The format is described in `tests/cases/README.md`; in short, a statement ends with `;` at the end of a line and
//! may be preceded by `@directives`. A plain line of SQL is a complete case.

mod scan;
mod spread;

pub use spread::Spread;

use scan::Source;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Includes may nest this deep; more is taken for a cycle.
const INCLUDE_DEPTH_MAX: usize = 8;

/// Why a case file was not understood.
#[derive(Debug, thiserror::Error)]
pub enum CaseFileError {
    /// The file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A line is wrong.
    #[error("{path}:{line}: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// A parsed case file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseFile {
    /// File name without folder and extension.
    pub name: String,
    /// No case changes data: one setup serves all modes.
    pub readonly: bool,
    /// Everything in order, includes expanded.
    pub items: Vec<Item>,
}

/// One step of a case file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A statement of the setup: must succeed on both sides, nothing is compared.
    Setup(Step),
    /// A statement for one side only; must succeed.
    Only(Side, Step),
    /// Random rows for a table of both sides.
    Load(Load),
    /// Later statements run in the session of this name.
    Session(String),
    /// A statement to compare.
    Case(Case),
}

/// One of the two servers being compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The single PostgreSQL that is right by definition.
    Oracle,
    /// The cluster under test.
    Drover,
}

/// A statement with its place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// `name:line`, for reports.
    pub place: String,
    /// The text without the final semicolon.
    pub sql: String,
    /// Data for COPY FROM STDIN.
    pub copy: Option<Vec<u8>>,
}

/// `@load table rows [seed]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// `name:line`, for reports.
    pub place: String,
    /// Table name as written.
    pub table: String,
    /// Rows to make.
    pub rows: u32,
    /// Seed; equal seeds make equal rows.
    pub seed: u64,
}

/// A statement to compare and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The statement.
    pub step: Step,
    /// Row order matters.
    pub ordered: bool,
    /// Whether the cluster may or must refuse.
    pub refusal: Refusal,
    /// SQLSTATE the oracle is expected to answer with.
    pub error: Option<String>,
    /// Parameters; such a case runs in the extended modes only.
    pub parameters: Option<Vec<ParameterText>>,
    /// How much of the rows is compared.
    pub rows: RowCheck,
    /// Further flags by name: `float`, `nowrap`, `simple`, `extended`, `any_message`, `many`.
    pub flags: BTreeSet<Flag>,
}

/// What the case says about refusal with `0A000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The cluster must answer.
    Never,
    /// Right or refused, with this code when one is given.
    May(Option<String>),
    /// Must be refused, with this code when one is given.
    Must(Option<String>),
}

/// How much of the rows is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowCheck {
    /// Every value.
    Values,
    /// Their number only (`LIMIT` without `ORDER BY`).
    Count,
    /// Not at all; columns and tags still are (`now()`, `random()`).
    Shape,
}

/// A yes-or-no property of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flag {
    /// Float columns are compared with a tolerance.
    Float,
    /// Never wrapped into a transaction by the runner.
    NoWrap,
    /// Simple protocol only.
    Simple,
    /// Extended protocol only.
    Extended,
    /// The text of an error is not compared, its SQLSTATE is: which of several bad rows is met first is nowhere said.
    AnyMessage,
    /// Refused only where there are several shards; a single one may answer.
    Many,
    /// Whatever error the oracle answers with, or none.
    AnyError,
}

/// A parameter as written: `7`, `'x'`, `NULL`, each with an optional `::type`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterText {
    /// The value, `None` for NULL.
    pub value: Option<String>,
    /// Declared type; without one the server infers it.
    pub type_name: Option<String>,
}

impl CaseFile {
    /// Reads a file and everything it includes.
    pub fn read(path: &Path) -> Result<CaseFile, CaseFileError> {
        let mut file = CaseFile {
            name: stem(path),
            readonly: false,
            items: Vec::new(),
        };
        file.append(path, 0, false)?;
        Ok(file)
    }

    /// Reads every `*.sql` of a folder in name order, leaving out names that begin with `_` (they are for including).
    pub fn read_folder(folder: &Path) -> Result<Vec<CaseFile>, CaseFileError> {
        let failed = |source| CaseFileError::Read {
            path: folder.to_path_buf(),
            source,
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let wanted = path.extension().is_some_and(|ext| ext == "sql") && !stem(&path).starts_with('_');
            if wanted {
                paths.push(path);
            }
        }
        paths.sort();
        paths.iter().map(|path| CaseFile::read(path)).collect()
    }

    /// The cases alone.
    pub fn cases(&self) -> impl Iterator<Item = &Case> {
        self.items.iter().filter_map(|item| match item {
            Item::Case(case) => Some(case),
            _ => None,
        })
    }

    fn append(&mut self, path: &Path, depth: usize, mut setup: bool) -> Result<(), CaseFileError> {
        let text = std::fs::read_to_string(path).map_err(|source| CaseFileError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        let mut source = Source::new(&text);
        while let Some(entry) = source.next_entry() {
            let failed = |reason: String| CaseFileError::Syntax {
                path: path.to_path_buf(),
                line: entry.line,
                reason,
            };
            if depth > INCLUDE_DEPTH_MAX {
                return Err(failed("includes nest too deep".to_string()));
            }
            let place = format!("{}:{}", stem(path), entry.line);
            match entry.words().as_slice() {
                ["@setup"] => setup = true,
                ["@cases"] => setup = false,
                ["@readonly"] => self.readonly = true,
                ["@include", name] => {
                    let inner = path.parent().unwrap_or(Path::new(".")).join(name);
                    self.append(&inner, depth + 1, setup)?;
                }
                ["@session", name] => self.items.push(Item::Session((*name).to_string())),
                ["@load", table, rows, seed @ ..] => {
                    let rows = rows
                        .parse()
                        .map_err(|_| failed(format!("bad row count {rows}")))?;
                    let seed = seed.first().map_or(Ok(1), |seed| seed.parse());
                    let seed = seed.map_err(|_| failed("bad seed".to_string()))?;
                    self.items.push(Item::Load(Load {
                        place,
                        table: (*table).to_string(),
                        rows,
                        seed,
                    }));
                }
                _ => self
                    .items
                    .push(item(&entry.text, entry.copy, place, setup).map_err(failed)?),
            }
        }
        Ok(())
    }
}

/// Reads the directives in front of a statement.
fn item(text: &str, copy: Option<Vec<u8>>, place: String, setup: bool) -> Result<Item, String> {
    let mut case = Case {
        step: Step {
            place,
            sql: String::new(),
            copy,
        },
        ordered: false,
        refusal: Refusal::Never,
        error: None,
        parameters: None,
        rows: RowCheck::Values,
        flags: BTreeSet::new(),
    };
    let mut only = None;
    let mut rest = text.trim_start();
    while let Some(directive) = rest.strip_prefix('@') {
        // An empty statement is a statement too.
        let end = directive.find(char::is_whitespace).unwrap_or(directive.len());
        let (word, tail) = directive.split_at(end);
        rest = tail.trim_start();
        match word {
            "ordered" => case.ordered = true,
            "refused" => case.refusal = Refusal::Must(take_word(&mut rest, is_refusal_code)),
            "may_refuse" => case.refusal = Refusal::May(take_word(&mut rest, is_refusal_code)),
            "error" => case.error = Some(take_word(&mut rest, is_sqlstate).ok_or("@error needs a SQLSTATE")?),
            "params" => case.parameters = Some(scan::parameters(&mut rest)?),
            "count" => case.rows = RowCheck::Count,
            "shape" => case.rows = RowCheck::Shape,
            "float" => drop(case.flags.insert(Flag::Float)),
            "nowrap" => drop(case.flags.insert(Flag::NoWrap)),
            "simple" => drop(case.flags.insert(Flag::Simple)),
            "many" => drop(case.flags.insert(Flag::Many)),
            "any_message" => drop(case.flags.insert(Flag::AnyMessage)),
            "extended" => drop(case.flags.insert(Flag::Extended)),
            "oracle" => only = Some(Side::Oracle),
            "drover" => only = Some(Side::Drover),
            other => return Err(format!("unknown directive @{other}")),
        }
    }
    case.step.sql = rest.to_string();
    Ok(match (only, setup) {
        (Some(side), _) => Item::Only(side, case.step),
        (None, true) => Item::Setup(case.step),
        (None, false) => Item::Case(case),
    })
}

fn take_word(rest: &mut &str, accept: fn(&str) -> bool) -> Option<String> {
    let end = rest.find(char::is_whitespace)?;
    let (word, tail) = rest.split_at(end);
    if !accept(word) {
        return None;
    }
    *rest = tail.trim_start();
    Some(word.to_string())
}

fn is_refusal_code(word: &str) -> bool {
    word.strip_prefix("DRV")
        .is_some_and(|digits| digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn is_sqlstate(word: &str) -> bool {
    word.len() == 5
        && word
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
