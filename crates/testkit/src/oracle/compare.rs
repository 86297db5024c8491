//! Comparing two answers to the same statement.

use super::report::Difference;
use super::types::TypeBook;
use crate::casefile::{Case, Flag, RowCheck};
use crate::client::{Answer, Column, Diagnostic, Row, StatementResult};
use std::collections::BTreeMap;

/// Rows shown per side in a difference.
const ROWS_SHOWN: usize = 6;
/// Relative tolerance of float columns where the case asks for one.
const FLOAT_TOLERANCE: f64 = 1e-9;
/// Error fields whose difference does not fail a case unless the run is strict.
const MINOR_FIELDS: [(u8, &str); 9] = [
    (b'D', "detail"),
    (b'H', "hint"),
    (b'P', "position"),
    (b'W', "context"),
    (b's', "schema"),
    (b't', "table"),
    (b'c', "column"),
    (b'd', "data type"),
    (b'n', "constraint"),
];

/// An answer with the types of the server it came from.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) answer: &'a Answer,
    pub(super) types: &'a TypeBook,
}

/// Everything in which `drover` differs from `oracle`.
pub(super) fn compare(case: &Case, oracle: View<'_>, drover: View<'_>) -> Vec<Difference> {
    let mut found = Found::default();
    let by_text = !case.flags.contains(&Flag::AnyMessage);
    found.errors(&oracle.answer.errors, &drover.answer.errors, by_text);
    found.minor("notices", &notices(oracle.answer), &notices(drover.answer));
    found.equal("transaction status", &ready(oracle.answer), &ready(drover.answer));
    // Rows that are not compared may be more or fewer, which portions show.
    let rows_count = !matches!(case.rows, RowCheck::Shape);
    let (one, many) = (shape(oracle.answer, rows_count), shape(drover.answer, rows_count));
    if failing_bind(&one) == failing_bind(&many) {
        found.minor("message sequence", &one, &many);
    } else {
        found.equal("message sequence", &one, &many);
    }
    found.equal("parameter types", &parameters(oracle), &parameters(drover));
    let failed = oracle.answer.error().is_some();
    if failed || drover.answer.error().is_some() {
        // What arrived before an error depends on timing, also on one server.
        return found.list;
    }
    found.equal(
        "tags",
        &oracle.answer.tags().join("; "),
        &drover.answer.tags().join("; "),
    );
    let pairs = oracle.answer.results.iter().zip(&drover.answer.results);
    for (one, many) in pairs {
        found.result(
            case,
            Side {
                result: one,
                types: oracle.types,
            },
            Side {
                result: many,
                types: drover.types,
            },
        );
    }
    found.list
}

#[derive(Clone, Copy)]
struct Side<'a> {
    result: &'a StatementResult,
    types: &'a TypeBook,
}

#[derive(Default)]
struct Found {
    list: Vec<Difference>,
}

impl Found {
    fn push(&mut self, what: &str, oracle: String, drover: String, minor: bool) {
        self.list.push(Difference {
            what: what.to_string(),
            oracle,
            drover,
            minor,
        });
    }

    fn equal(&mut self, what: &str, oracle: &str, drover: &str) {
        if oracle != drover {
            self.push(what, oracle.to_string(), drover.to_string(), false);
        }
    }

    fn minor(&mut self, what: &str, oracle: &str, drover: &str) {
        if oracle != drover {
            self.push(what, oracle.to_string(), drover.to_string(), true);
        }
    }

    fn errors(&mut self, oracle: &[Diagnostic], drover: &[Diagnostic], by_text: bool) {
        let show = |list: &[Diagnostic]| {
            let lines: Vec<String> = list.iter().map(ToString::to_string).collect();
            if lines.is_empty() {
                "no error".to_string()
            } else {
                lines.join("\n")
            }
        };
        let core = |list: &[Diagnostic]| {
            let key = |error: &Diagnostic| {
                (
                    error.severity().to_string(),
                    error.sqlstate().to_string(),
                    error.message().to_string(),
                )
            };
            let key = |error: &Diagnostic| match (by_text, key(error)) {
                (true, key) => key,
                (false, (severity, sqlstate, _)) => (severity, sqlstate, String::new()),
            };
            list.iter().map(key).collect::<Vec<_>>()
        };
        if core(oracle) != core(drover) {
            self.push("error", show(oracle), show(drover), false);
            return;
        }
        for (one, many) in oracle.iter().zip(drover) {
            for (code, name) in MINOR_FIELDS {
                let (one, many) = (one.field(code).unwrap_or(""), many.field(code).unwrap_or(""));
                self.minor(&format!("error {name}"), one, many);
            }
        }
    }

    fn result(&mut self, case: &Case, oracle: Side<'_>, drover: Side<'_>) {
        self.columns(oracle, drover);
        match case.rows {
            RowCheck::Shape => return,
            RowCheck::Count => {
                let count = |side: Side<'_>| format!("{} rows", side.result.rows.len());
                self.equal("row count", &count(oracle), &count(drover));
                return;
            }
            RowCheck::Values => {}
        }
        self.equal("portal suspensions", &suspensions(oracle), &suspensions(drover));
        self.copied(case, oracle.result, drover.result);
        let (one, many) = (lines(oracle), lines(drover));
        if case.ordered && case.flags.contains(&Flag::Float) {
            self.float_rows(oracle, drover);
        } else if case.ordered {
            self.ordered(&one, &many);
        } else if case.flags.contains(&Flag::Float) {
            self.float_rows(oracle.sorted(), drover.sorted());
        } else {
            self.multiset("rows", &one, &many);
        }
    }

    fn columns(&mut self, oracle: Side<'_>, drover: Side<'_>) {
        let show = |side: Side<'_>, one: &dyn Fn(&TypeBook, &Column) -> String| match &side.result.columns {
            None => "no row description".to_string(),
            Some(list) => list
                .iter()
                .map(|column| one(side.types, column))
                .collect::<Vec<_>>()
                .join(", "),
        };
        let main = |types: &TypeBook, column: &Column| {
            let Column {
                name,
                type_oid,
                type_len,
                type_modifier,
                format,
                ..
            } = column;
            format!(
                "{name} {} len {type_len} mod {type_modifier} format {format}",
                types.name(*type_oid)
            )
        };
        self.equal("columns", &show(oracle, &main), &show(drover, &main));
        let origin = |types: &TypeBook, column: &Column| {
            format!("{}.{}", types.relation(column.table), column.attribute)
        };
        self.minor("column origins", &show(oracle, &origin), &show(drover, &origin));
    }

    fn copied(&mut self, case: &Case, oracle: &StatementResult, drover: &StatementResult) {
        let split = |result: &StatementResult| -> Vec<String> {
            String::from_utf8_lossy(&result.copied)
                .lines()
                .map(ToString::to_string)
                .collect()
        };
        if oracle.copied.starts_with(b"PGCOPY") || case.ordered {
            self.ordered(&split(oracle), &split(drover));
        } else {
            self.multiset("copied lines", &split(oracle), &split(drover));
        }
    }

    fn ordered(&mut self, oracle: &[String], drover: &[String]) {
        let len = oracle.len().max(drover.len());
        let Some(at) = (0..len).find(|at| oracle.get(*at) != drover.get(*at)) else {
            return;
        };
        let from = at.saturating_sub(1);
        let show = |list: &[String]| excerpt(list.iter().skip(from), list.len());
        self.push(
            &format!("rows differ from row {}", at + 1),
            show(oracle),
            show(drover),
            false,
        );
    }

    fn multiset(&mut self, what: &str, oracle: &[String], drover: &[String]) {
        let mut counts: BTreeMap<&String, i64> = BTreeMap::new();
        oracle
            .iter()
            .for_each(|line| *counts.entry(line).or_default() += 1);
        drover
            .iter()
            .for_each(|line| *counts.entry(line).or_default() -= 1);
        let extra = |sign: i64| -> Vec<String> {
            let chosen = counts.iter().filter(|(_, count)| **count * sign > 0);
            chosen
                .map(|(line, count)| format!("{} × {line}", count.abs()))
                .collect()
        };
        let (one, many) = (extra(1), extra(-1));
        if !one.is_empty() || !many.is_empty() {
            let show = |list: &[String], total| format!("only here: {}", excerpt(list.iter(), total));
            self.push(what, show(&one, oracle.len()), show(&many, drover.len()), false);
        }
    }

    /// Rows in the order given; float columns may differ a little.
    fn float_rows<'a>(&mut self, oracle: impl Into<Rows<'a>>, drover: impl Into<Rows<'a>>) {
        let (oracle, drover) = (oracle.into(), drover.into());
        let same = |at: usize| match (oracle.rows.get(at), drover.rows.get(at)) {
            (Some(one), Some(many)) => close(&oracle, one, &drover, many),
            _ => false,
        };
        let len = oracle.rows.len().max(drover.rows.len());
        let Some(at) = (0..len).find(|at| !same(*at)) else {
            return;
        };
        let show = |rows: &Rows<'_>| {
            let lines: Vec<String> = rows.rows.iter().skip(at).map(|row| rows.line(row)).collect();
            excerpt(lines.iter(), rows.rows.len())
        };
        self.push(
            "rows (floats with tolerance)",
            show(&oracle),
            show(&drover),
            false,
        );
    }
}

/// Rows with what is needed to read them.
struct Rows<'a> {
    columns: &'a [Column],
    types: &'a TypeBook,
    rows: Vec<Row>,
}

impl<'a> From<Side<'a>> for Rows<'a> {
    fn from(side: Side<'a>) -> Rows<'a> {
        let columns = side.result.columns.as_deref().unwrap_or_default();
        Rows {
            columns,
            types: side.types,
            rows: side.result.rows.clone(),
        }
    }
}

impl<'a> Side<'a> {
    /// Rows sorted by their exact columns first, so that near-equal floats stay in step.
    fn sorted(self) -> Rows<'a> {
        let mut rows = Rows::from(self);
        let mut keyed: Vec<(String, Vec<f64>, Row)> = Vec::new();
        for row in std::mem::take(&mut rows.rows) {
            let (mut exact, mut floats) = (String::new(), Vec::new());
            for (column, value) in rows.columns.iter().zip(&row) {
                match value
                    .as_deref()
                    .and_then(|v| rows.types.float(column.type_oid, column.format, v))
                {
                    Some(float) => floats.push(float),
                    None => exact.push_str(&rows.cell(column, value.as_deref())),
                }
                exact.push('|');
            }
            keyed.push((exact, floats, row));
        }
        keyed.sort_by(|a, b| {
            let floats =
                a.1.iter()
                    .zip(&b.1)
                    .map(|(x, y)| x.total_cmp(y))
                    .find(|order| order.is_ne());
            a.0.cmp(&b.0).then(floats.unwrap_or(std::cmp::Ordering::Equal))
        });
        rows.rows = keyed.into_iter().map(|(_, _, row)| row).collect();
        rows
    }
}

impl Rows<'_> {
    fn cell(&self, column: &Column, value: Option<&[u8]>) -> String {
        let clean = value.map(|bytes| match column.format {
            0 => bytes.to_vec(),
            _ => self.types.without_oids(column.type_oid, bytes),
        });
        self.types.show(column.type_oid, column.format, clean.as_deref())
    }

    fn line(&self, row: &Row) -> String {
        let cell = |(at, value): (usize, &Option<Vec<u8>>)| match self.columns.get(at) {
            Some(column) => self.cell(column, value.as_deref()),
            None => format!("{value:?}"),
        };
        row.iter().enumerate().map(cell).collect::<Vec<_>>().join(" | ")
    }
}

fn close(oracle: &Rows<'_>, one: &Row, drover: &Rows<'_>, many: &Row) -> bool {
    let float = |rows: &Rows<'_>, at: usize, row: &Row| {
        let column = rows.columns.get(at)?;
        rows.types
            .float(column.type_oid, column.format, row.get(at)?.as_deref()?)
    };
    let same = |at: usize| match (float(oracle, at, one), float(drover, at, many)) {
        (Some(x), Some(y)) => {
            x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= FLOAT_TOLERANCE * x.abs().max(y.abs())
        }
        _ => match (oracle.columns.get(at), drover.columns.get(at)) {
            (Some(a), Some(b)) => oracle.cell(a, one[at].as_deref()) == drover.cell(b, many[at].as_deref()),
            _ => one[at] == many[at],
        },
    };
    one.len() == many.len() && (0..one.len()).all(same)
}

fn lines(side: Side<'_>) -> Vec<String> {
    let rows = Rows::from(side);
    rows.rows.iter().map(|row| rows.line(row)).collect()
}

fn excerpt<'a>(lines: impl Iterator<Item = &'a String>, total: usize) -> String {
    let mut lines = lines.peekable();
    let shown: Vec<&str> = lines.by_ref().take(ROWS_SHOWN).map(String::as_str).collect();
    let more = if lines.peek().is_some() { "\n…" } else { "" };
    format!("({total} in all)\n{}{more}", shown.join("\n"))
}

fn notices(answer: &Answer) -> String {
    let show = |notice: &Diagnostic| {
        format!(
            "{} {}: {}",
            notice.severity(),
            notice.sqlstate(),
            notice.message()
        )
    };
    answer.notices.iter().map(show).collect::<Vec<_>>().join("\n")
}

fn ready(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.ready).into_owned()
}

fn shape(answer: &Answer, rows_count: bool) -> String {
    if answer.errors.is_empty() && rows_count {
        answer.shape.clone()
    } else {
        answer.shape.replace(['D', 'd', 's'], "")
    }
}

/// One server plans at Bind, where constants are computed and may fail; several are asked at Execute.
fn failing_bind(shape: &str) -> String {
    let done = ["2TE", "2nE", "2E", "TE"];
    done.iter()
        .fold(shape.to_string(), |shape, done| shape.replace(done, "E"))
}

fn parameters(view: View<'_>) -> String {
    let types = view.answer.parameters.as_deref().unwrap_or_default();
    types
        .iter()
        .map(|oid| view.types.name(*oid))
        .collect::<Vec<_>>()
        .join(", ")
}

fn suspensions(side: Side<'_>) -> String {
    side.result.suspensions.to_string()
}
