//! The oracle: one PostgreSQL is right by definition, a cluster must answer alike or refuse.
//!
//! [`Oracle::run`] takes a [`CaseFile`] through every [`Mode`]. Data is set up afresh for each mode unless the file is
//! read-only. The cluster is asked first: what it refuses is not run on the oracle, so the two stay in step.

mod compare;
mod endpoint;
mod generate;
mod load;
mod names;
mod report;
mod reset;
mod shrink;
mod types;

pub use endpoint::Protocol;
pub use generate::{random_cases, random_writes};
pub use report::{CaseReport, Difference, Failure, FileReport, Outcome, Totals};

use crate::casefile::{Case, CaseFile, Flag, Item, Refusal, Side, Step};
use crate::client::{Answer, Client, ClientError, Target};
use compare::{View, compare};
use endpoint::{Endpoint, SETUP_SESSION};
use std::time::Duration;

/// SQLSTATE of a refusal.
const REFUSED: &str = "0A000";
/// Settings whose reported value must be the same on both sides after every case.
const SETTINGS_COMPARED: [&str; 7] = [
    "client_encoding",
    "DateStyle",
    "TimeZone",
    "IntervalStyle",
    "application_name",
    "standard_conforming_strings",
    "default_transaction_read_only",
];

/// A way to run every case of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mode {
    /// How statements are sent.
    pub protocol: Protocol,
    /// Whether each statement that is not in a transaction yet gets one of its own.
    pub transaction: bool,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Mode; 7] = [
        Mode {
            protocol: Protocol::Simple,
            transaction: false,
        },
        Mode {
            protocol: Protocol::Simple,
            transaction: true,
        },
        Mode {
            protocol: Protocol::ExtendedText,
            transaction: false,
        },
        Mode {
            protocol: Protocol::ExtendedText,
            transaction: true,
        },
        Mode {
            protocol: Protocol::ExtendedBinary,
            transaction: false,
        },
        Mode {
            protocol: Protocol::ExtendedBinary,
            transaction: true,
        },
        Mode {
            protocol: Protocol::ExtendedRows,
            transaction: false,
        },
    ];

    /// The mode's name in reports and on the command line.
    pub fn name(self) -> String {
        let protocol = match self.protocol {
            Protocol::Simple => "simple",
            Protocol::ExtendedText => "text",
            Protocol::ExtendedBinary => "binary",
            Protocol::ExtendedRows => "rows",
        };
        format!("{protocol}{}", if self.transaction { "-tx" } else { "" })
    }
}

/// How to compare.
#[derive(Debug, Clone)]
pub struct Options {
    /// The second target is a cluster and may refuse. Without it both are plain servers (to check the cases themselves).
    pub refusals: bool,
    /// Minor differences fail too.
    pub strict: bool,
    /// The cluster has one shard, which may answer what several cannot.
    pub one_shard: bool,
    /// Modes to run.
    pub modes: Vec<Mode>,
    /// How long one statement may take.
    pub timeout: Duration,
    /// Only cases whose `file:line` or text contains this are reported (all still run, for their effects).
    pub filter: Option<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            refusals: true,
            strict: false,
            one_shard: false,
            modes: Mode::ALL.to_vec(),
            timeout: Duration::from_secs(20),
            filter: None,
        }
    }
}

/// Why a file could not be run at all. Differences are not errors: they are in the [`FileReport`].
#[derive(Debug, thiserror::Error)]
pub enum OracleError {
    /// A connection failed outside a case.
    #[error("{place}: {side:?}: {source}")]
    Client {
        /// Where in the file.
        place: String,
        /// Which server.
        side: Side,
        /// The cause.
        source: ClientError,
    },
    /// A setup statement failed.
    #[error("{place}: {side:?}: setup failed: {error}\n  {sql}")]
    Setup {
        /// Where in the file.
        place: String,
        /// Which server.
        side: Side,
        /// The server's error.
        error: String,
        /// The statement.
        sql: String,
    },
}

/// Two servers to compare.
pub struct Oracle {
    oracle: Endpoint,
    drover: Endpoint,
    options: Options,
    session: String,
}

impl Oracle {
    /// Compares `drover` with the single PostgreSQL `oracle`. Both databases lose their contents when a file runs.
    pub fn new(oracle: Target, drover: Target, options: Options) -> Oracle {
        let timeout = options.timeout;
        Oracle {
            oracle: Endpoint::new(oracle, timeout),
            drover: Endpoint::new(drover, timeout),
            options,
            session: String::new(),
        }
    }

    /// A second proxy over the same cluster: setup and DDL beside the cases then go through the other proxy than the
    /// cases, and the two change places in every mode.
    pub fn with_second_proxy(mut self, proxy: Target) -> Oracle {
        self.drover.add(proxy);
        self
    }

    /// Runs a file in every mode.
    pub fn run(&mut self, file: &CaseFile) -> Result<FileReport, OracleError> {
        let mut report = FileReport {
            name: file.name.clone(),
            cases: Vec::new(),
        };
        let modes = self.options.modes.clone();
        for (index, mode) in modes.into_iter().enumerate() {
            self.oracle.disconnect();
            self.drover.disconnect();
            let fresh = index == 0 || !file.readonly;
            if fresh {
                self.reset(file)?;
            }
            self.pass(file, mode, fresh, &mut report)?;
        }
        self.oracle.disconnect();
        self.drover.disconnect();
        Ok(report)
    }

    /// A shorter statement that fails as a case of this file did, which was the last to run. `None` for files that change their data,
    /// and for failures that are no wrong answers.
    pub fn shrink(&mut self, file: &CaseFile, failed: &CaseReport) -> Option<String> {
        let what = first_difference(&failed.outcome)?.to_owned();
        let mode = failed.mode.split(',').next()?;
        let mode = Mode::ALL.into_iter().find(|known| known.name() == mode)?;
        let case = file.cases().find(|case| case.step.place == failed.place)?;
        if !file.readonly {
            return None;
        }
        let mut smaller = case.clone();
        let mut fails = |sql: &str| {
            sql.clone_into(&mut smaller.step.sql);
            first_difference(&self.case(&smaller, mode)) == Some(&what)
        };
        Some(shrink::shrunk(&case.step.sql, &mut fails))
    }

    fn reset(&mut self, file: &CaseFile) -> Result<(), OracleError> {
        for side in [Side::Oracle, Side::Drover] {
            let place = file.name.clone();
            let client =
                self.client(side, "")
                    .map_err(|source| OracleError::Client { place, side, source })?;
            reset::reset(client).map_err(|error| OracleError::Setup {
                place: file.name.clone(),
                side,
                error,
                sql: "(dropping what an earlier file left)".to_string(),
            })?;
        }
        self.oracle.disconnect();
        self.drover.disconnect();
        Ok(())
    }

    /// One walk through the file.
    fn pass(
        &mut self,
        file: &CaseFile,
        mode: Mode,
        fresh: bool,
        report: &mut FileReport,
    ) -> Result<(), OracleError> {
        self.session.clear();
        self.drover.next_turn();
        for item in &file.items {
            match item {
                Item::Setup(step) if fresh => {
                    self.setup(Side::Oracle, step)?;
                    self.setup(Side::Drover, step)?;
                }
                // Between two plain servers both are oracles.
                Item::Only(Side::Drover, _) if !self.options.refusals => {}
                Item::Only(Side::Oracle, step) if fresh && !self.options.refusals => {
                    self.setup(Side::Oracle, step)?;
                    self.setup(Side::Drover, step)?;
                }
                Item::Only(side, step) if fresh => self.setup(*side, step)?,
                Item::Load(load) if fresh => self.load(load)?,
                Item::Setup(_) | Item::Only(..) | Item::Load(_) => {}
                Item::Session(name) => self.session.clone_from(name),
                Item::Case(case) => {
                    let outcome = self.case(case, mode);
                    if self.wanted(case) {
                        report.cases.push(CaseReport {
                            place: case.step.place.clone(),
                            sql: case.step.sql.clone(),
                            mode: mode.name(),
                            outcome,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn wanted(&self, case: &Case) -> bool {
        let Some(filter) = &self.options.filter else {
            return true;
        };
        case.step.place.contains(filter.as_str()) || case.step.sql.contains(filter.as_str())
    }

    fn client(&mut self, side: Side, session: &str) -> Result<&mut Client, ClientError> {
        match side {
            Side::Oracle => self.oracle.session(session),
            Side::Drover => self.drover.session(session),
        }
    }

    fn setup(&mut self, side: Side, step: &Step) -> Result<(), OracleError> {
        let broken = |source| OracleError::Client {
            place: step.place.clone(),
            side,
            source,
        };
        let client = self.client(side, SETUP_SESSION).map_err(broken)?;
        let sql = match side {
            Side::Oracle => step.sql.clone(),
            Side::Drover => names::fill(client, &step.sql).map_err(broken)?,
        };
        let answer = client.simple_copy(&sql, step.copy.as_deref()).map_err(broken)?;
        match answer.error() {
            None => Ok(()),
            Some(error) => Err(OracleError::Setup {
                place: step.place.clone(),
                side,
                error: error.to_string(),
                sql: step.sql.clone(),
            }),
        }
    }

    fn load(&mut self, load: &crate::casefile::Load) -> Result<(), OracleError> {
        let place = || load.place.clone();
        let client = self
            .client(Side::Oracle, SETUP_SESSION)
            .map_err(|source| OracleError::Client {
                place: place(),
                side: Side::Oracle,
                source,
            })?;
        let step = load::rows(client, load).map_err(|error| OracleError::Setup {
            place: place(),
            side: Side::Oracle,
            error,
            sql: format!("@load {}", load.table),
        })?;
        self.setup(Side::Oracle, &step)?;
        self.setup(Side::Drover, &step)
    }

    fn case(&mut self, case: &Case, mode: Mode) -> Outcome {
        let simple = mode.protocol == Protocol::Simple;
        let skip = (simple && (case.parameters.is_some() || case.flags.contains(&Flag::Extended)))
            || (!simple && case.flags.contains(&Flag::Simple));
        if skip {
            return Outcome::Skipped;
        }
        match self.compare_case(case, mode) {
            Ok(outcome) => outcome,
            Err(error) => {
                // Nothing is known about these connections any more.
                self.oracle.disconnect();
                self.drover.disconnect();
                Outcome::Failed(Failure::Broken(error))
            }
        }
    }

    fn compare_case(&mut self, case: &Case, mode: Mode) -> Result<Outcome, String> {
        let wrap = mode.transaction && self.may_wrap(case);
        if wrap {
            self.control("BEGIN")?;
        }
        let outcome = self.ask_both(case, mode)?;
        if wrap {
            let ends = if self.drover.status(&self.session) == b'E' {
                "ROLLBACK"
            } else {
                "COMMIT"
            };
            self.control(ends)?;
        }
        Ok(outcome)
    }

    fn ask_both(&mut self, case: &Case, mode: Mode) -> Result<Outcome, String> {
        if !self.options.refusals && matches!(case.refusal, Refusal::Must(_)) {
            self.stand_in_for_refusal()?;
            return Ok(Outcome::Skipped);
        }
        let session = self.session.clone();
        let drover = self
            .drover
            .execute(&session, case, mode.protocol)
            .map_err(|e| format!("drover: {e}"))?;
        if self.options.refusals
            && let Some(code) = refusal(&drover)
            && case.error.as_deref() != Some(REFUSED)
        {
            self.follow_refusal()?;
            return Ok(judge_refusal(case, &code, &drover));
        }
        let oracle = self
            .oracle
            .execute(&session, case, mode.protocol)
            .map_err(|e| format!("oracle: {e}"))?;
        if let Some(problem) = case_problem(case, &oracle) {
            return Ok(Outcome::Failed(Failure::Case(problem)));
        }
        if self.options.refusals
            && let Refusal::Must(_) = case.refusal
            && !(self.options.one_shard && case.flags.contains(&Flag::Many))
        {
            let answer = drover
                .error()
                .map_or_else(|| drover.tags().join("; "), ToString::to_string);
            return Ok(Outcome::Failed(Failure::NotRefused(format!("answered {answer}"))));
        }
        let mut list = compare(
            case,
            View {
                answer: &oracle,
                types: &self.oracle.types,
            },
            View {
                answer: &drover,
                types: &self.drover.types,
            },
        );
        list.extend(self.settings(&session)?);
        let fails = list
            .iter()
            .any(|difference| self.options.strict || !difference.minor);
        Ok(if fails {
            Outcome::Failed(Failure::Mismatch(list))
        } else {
            Outcome::Match(list)
        })
    }

    /// Settings the two sides report differently.
    fn settings(&mut self, session: &str) -> Result<Vec<Difference>, String> {
        let read = |client: &Client| SETTINGS_COMPARED.map(|name| client.settings().get(name).cloned());
        let oracle = read(self.oracle.session(session).map_err(|e| e.to_string())?);
        let drover = read(self.drover.session(session).map_err(|e| e.to_string())?);
        let pairs = SETTINGS_COMPARED.iter().zip(oracle.into_iter().zip(drover));
        let differing = pairs.filter(|(_, (one, many))| one != many);
        let show = |value: Option<String>| value.unwrap_or_else(|| "not reported".to_string());
        Ok(differing
            .map(|(name, (one, many))| Difference {
                what: format!("reported setting {name}"),
                oracle: show(one),
                drover: show(many),
                minor: false,
            })
            .collect())
    }

    /// Brings the oracle where a refusal left the cluster: a refusal fails an open transaction, like any error.
    fn follow_refusal(&mut self) -> Result<(), String> {
        let session = self.session.clone();
        if self.drover.status(&session) == b'E' && self.oracle.status(&session) == b'T' {
            let client = self.oracle.session(&session).map_err(|e| e.to_string())?;
            client.simple("SELECT 1/0").map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Between plain servers nothing refuses, and later cases count on no effects of what must be refused.
    fn stand_in_for_refusal(&mut self) -> Result<(), String> {
        for side in [&mut self.oracle, &mut self.drover] {
            if side.status(&self.session) == b'T' {
                let client = side.session(&self.session).map_err(|e| e.to_string())?;
                client.simple("SELECT 1/0").map_err(|e| e.to_string())?;
            }
        }
        Ok(())
    }

    fn control(&mut self, sql: &str) -> Result<(), String> {
        let session = self.session.clone();
        for side in [Side::Oracle, Side::Drover] {
            let client = self.client(side, &session).map_err(|e| e.to_string())?;
            let answer = client.simple(sql).map_err(|e| e.to_string())?;
            if let Some(error) = answer.error() {
                return Err(format!("{side:?}: {sql}: {error}"));
            }
        }
        Ok(())
    }

    fn may_wrap(&mut self, case: &Case) -> bool {
        let first = case
            .step
            .sql
            .split_whitespace()
            .next()
            .unwrap_or("")
            .to_uppercase();
        let own_control = ["BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "VACUUM"];
        let idle = self.oracle.status(&self.session) == b'I' && self.drover.status(&self.session) == b'I';
        idle && !case.flags.contains(&Flag::NoWrap) && !own_control.contains(&first.trim_end_matches(';'))
    }
}

/// What differs first in a wrong answer.
fn first_difference(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Failed(Failure::Mismatch(list)) => {
            let mut major = list.iter().filter(|difference| !difference.minor);
            major.next().map(|difference| difference.what.as_str())
        }
        _ => None,
    }
}

/// The code of a refusal (`0A000`), `DRV????` when it names none.
fn refusal(answer: &Answer) -> Option<String> {
    let error = answer.error().filter(|error| error.sqlstate() == REFUSED)?;
    let text = format!("{} {}", error.detail().unwrap_or(""), error.message());
    let code = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .find(|word| word.starts_with("DRV"));
    Some(code.unwrap_or("DRV????").to_string())
}

fn judge_refusal(case: &Case, code: &str, answer: &Answer) -> Outcome {
    let shown = answer.error().map(ToString::to_string).unwrap_or_default();
    let wanted = match &case.refusal {
        Refusal::Never => return Outcome::Failed(Failure::Refused(shown)),
        Refusal::May(wanted) | Refusal::Must(wanted) => wanted,
    };
    if code == "DRV????" {
        return Outcome::Failed(Failure::NotRefused(format!(
            "0A000 without a refusal code: {shown}"
        )));
    }
    match wanted {
        Some(wanted) if wanted != code => Outcome::Failed(Failure::NotRefused(format!(
            "refused with {code}, not {wanted}: {shown}"
        ))),
        _ => Outcome::Refused(code.to_string()),
    }
}

/// The oracle must do what the case says; otherwise a typing mistake would pass for agreement.
fn case_problem(case: &Case, oracle: &Answer) -> Option<String> {
    if case.flags.contains(&Flag::AnyError) {
        return None;
    }
    match (&case.error, oracle.error()) {
        (None, Some(error)) => Some(format!("the oracle answers {error}; add @error if that is meant")),
        (Some(wanted), None) => Some(format!("the oracle answers without the error {wanted}")),
        (Some(wanted), Some(error)) if wanted != error.sqlstate() => {
            Some(format!("the oracle answers {error}, not {wanted}"))
        }
        _ => None,
    }
}
