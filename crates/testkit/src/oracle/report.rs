//! What a comparison found, for people.

use std::fmt;

/// Characters of a statement shown in a report.
const SQL_SHOWN: usize = 600;

/// One observable that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What was compared: `rows`, `columns`, `tag`, …
    pub what: String,
    /// The oracle's side.
    pub oracle: String,
    /// The cluster's side.
    pub drover: String,
    /// Worth reading, but not a failure unless the run is strict.
    pub minor: bool,
}

/// How one case ended in one mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Both sides agree; minor differences may remain.
    Match(Vec<Difference>),
    /// The cluster refused where it may, with this code.
    Refused(String),
    /// Not run in this mode.
    Skipped,
    /// A wrong answer, an unexpected refusal, a broken case or a broken connection.
    Failed(Failure),
}

/// Why a case failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The answers differ.
    Mismatch(Vec<Difference>),
    /// Refused although the case does not allow it: the cluster's error.
    Refused(String),
    /// Answered although the case says it must be refused (or with another code).
    NotRefused(String),
    /// The oracle's own answer is not what the case says, so the case is wrong.
    Case(String),
    /// A connection failed or timed out.
    Broken(String),
}

/// One case in one mode.
#[derive(Debug, Clone)]
pub struct CaseReport {
    /// `file:line`
    pub place: String,
    /// Statement text.
    pub sql: String,
    /// Mode name.
    pub mode: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// All cases of one file in all modes.
#[derive(Debug, Clone, Default)]
pub struct FileReport {
    /// File name.
    pub name: String,
    /// Every case.
    pub cases: Vec<CaseReport>,
}

/// Totals of a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Agreed.
    pub matched: usize,
    /// Refused where allowed.
    pub refused: usize,
    /// Not run.
    pub skipped: usize,
    /// Failed.
    pub failed: usize,
}

impl FileReport {
    /// Counts by outcome.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for case in &self.cases {
            match case.outcome {
                Outcome::Match(_) => totals.matched += 1,
                Outcome::Refused(_) => totals.refused += 1,
                Outcome::Skipped => totals.skipped += 1,
                Outcome::Failed(_) => totals.failed += 1,
            }
        }
        totals
    }

    /// How often the cluster refused with each code, the most frequent first, and the first statement it refused so.
    pub fn refusals(&self) -> Vec<(&str, usize, &str)> {
        let mut codes: Vec<(&str, usize, &str)> = Vec::new();
        for case in &self.cases {
            let Outcome::Refused(code) = &case.outcome else {
                continue;
            };
            match codes.iter_mut().find(|(known, ..)| known == code) {
                Some((_, count, _)) => *count += 1,
                None => codes.push((code, 1, &case.sql)),
            }
        }
        codes.sort_by_key(|(_, count, _)| std::cmp::Reverse(*count));
        codes
    }

    /// The failed cases.
    pub fn failures(&self) -> impl Iterator<Item = &CaseReport> {
        self.cases
            .iter()
            .filter(|case| matches!(case.outcome, Outcome::Failed(_)))
    }

    /// The failed cases, those that fail alike in several modes as one.
    pub fn grouped_failures(&self) -> Vec<CaseReport> {
        let mut groups: Vec<CaseReport> = Vec::new();
        for case in self.failures() {
            let same = groups
                .iter_mut()
                .find(|group| group.place == case.place && group.outcome == case.outcome);
            match same {
                Some(group) => group.mode = format!("{},{}", group.mode, case.mode),
                None => groups.push(case.clone()),
            }
        }
        groups
    }

    /// The cases that agree but for something minor.
    pub fn minor(&self) -> impl Iterator<Item = &CaseReport> {
        let minor = |case: &&CaseReport| matches!(&case.outcome, Outcome::Match(list) if !list.is_empty());
        self.cases.iter().filter(minor)
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals {
            matched,
            refused,
            skipped,
            failed,
        } = self;
        write!(
            f,
            "{matched} match, {refused} refused, {failed} failed, {skipped} skipped"
        )
    }
}

impl fmt::Display for CaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sql: String = self.sql.chars().take(SQL_SHOWN).collect();
        writeln!(
            f,
            "{} [{}] {}",
            self.place,
            self.mode,
            sql.replace('\n', "\n    ")
        )?;
        match &self.outcome {
            Outcome::Skipped => writeln!(f, "  skipped"),
            Outcome::Refused(code) => writeln!(f, "  refused {code}"),
            Outcome::Match(list) => list.iter().try_for_each(|difference| write!(f, "{difference}")),
            Outcome::Failed(failure) => write!(f, "{failure}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Mismatch(list) => list.iter().try_for_each(|difference| write!(f, "{difference}")),
            Failure::Refused(error) => writeln!(f, "  refused, but the case does not allow it: {error}"),
            Failure::NotRefused(text) => writeln!(f, "  must be refused, but: {text}"),
            Failure::Case(text) => writeln!(f, "  the case is wrong: {text}"),
            Failure::Broken(text) => writeln!(f, "  broken: {text}"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let note = if self.minor { " (minor)" } else { "" };
        writeln!(f, "  {}{note}", self.what)?;
        for (label, text) in [("oracle", &self.oracle), ("drover", &self.drover)] {
            let mut lines = text.lines();
            writeln!(f, "    {label}: {}", lines.next().unwrap_or(""))?;
            lines.try_for_each(|line| writeln!(f, "            {line}"))?;
        }
        Ok(())
    }
}
