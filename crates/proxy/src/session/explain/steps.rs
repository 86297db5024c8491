//! What an explained statement does, step by step, and how that is shown.
//!
//! [`Steps`] is a part of the observation of a request while `EXPLAIN ANALYZE` runs its statement over shards: whoever sends
//! something to servers for the statement adds a step. Nobody else has one, and pays a look for that.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use sql::Explain;

/// Options of EXPLAIN that PostgreSQL takes with ANALYZE only.
const ONLY_WITH_ANALYZE: [&str; 3] = ["timing", "wal", "serialize"];

/// How a plan is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Format {
    /// Lines for people.
    Text,
    /// A document.
    Json,
    /// One that is PostgreSQL's business.
    Other,
}

/// What EXPLAIN was asked for.
#[derive(Debug, Clone)]
pub(in crate::session) struct Wanted {
    pub(super) format: Format,
    /// Times are wanted.
    timing: bool,
    /// The time of the whole is wanted.
    pub(super) summary: bool,
    /// As the servers get them; with ANALYZE if that was asked for.
    pub(super) given: String,
    /// The same for what is only planned.
    planning: String,
}

impl Wanted {
    /// What a statement asks for.
    pub(super) fn of(explain: &Explain) -> Self {
        let format = match explain.format.as_deref() {
            None | Some("text") => Format::Text,
            Some("json") => Format::Json,
            Some(_) => Format::Other,
        };
        let is_analyze = |name: &str| matches!(name, "analyze" | "analyse");
        let value = |name: &str| {
            let mut all = explain.options.iter().rev();
            all.find(|(known, _)| known == name)
                .map(|(_, value)| value.as_deref())
        };
        let given = explain.options.iter().map(option);
        let planning = explain.options.iter().filter(|(name, _)| {
            !(is_analyze(name) || explain.analyze && ONLY_WITH_ANALYZE.contains(&name.as_str()))
        });
        Self {
            format,
            timing: value("timing").is_none_or(is_on),
            summary: value("summary").is_none_or(is_on),
            given: in_parentheses(given.collect()),
            planning: in_parentheses(planning.map(option).collect()),
        }
    }
}

fn is_on(value: Option<&str>) -> bool {
    value.is_none_or(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "off" | "0"))
}

fn option((name, value): &(String, Option<String>)) -> String {
    match value {
        None => sql::quote_ident(name),
        Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) && !number.is_empty() => {
            format!("{} {number}", sql::quote_ident(name))
        }
        Some(word) => format!("{} {}", sql::quote_ident(name), sql::quote_literal(word)),
    }
}

fn in_parentheses(options: Vec<String>) -> String {
    match options.is_empty() {
        true => String::new(),
        false => format!("({}) ", options.join(", ")),
    }
}

/// What was measured of a server's part in a step.
#[derive(Debug, Clone, Default)]
pub(in crate::session) struct Measured {
    /// Rows it sent, and their bytes.
    pub(in crate::session) rows: u64,
    pub(in crate::session) bytes: u64,
    /// From the moment when all servers had been sent their parts until its answer was complete.
    pub(in crate::session) time: Duration,
    /// Its command tag.
    pub(in crate::session) tag: Option<String>,
}

/// A server's part in a step.
#[derive(Debug, Clone)]
pub(in crate::session) struct Part {
    /// The shard's name.
    pub(in crate::session) shard: String,
    /// What it is sent.
    pub(in crate::session) sql: String,
    /// Bytes of parameters sent with it.
    pub(in crate::session) sent_bytes: usize,
    /// PostgreSQL's plan, a line each.
    pub(in crate::session) plan: Vec<String>,
    /// `None`: it did not run.
    pub(in crate::session) measured: Option<Measured>,
}

impl Part {
    /// Of a server that is asked for no plan.
    pub(in crate::session) fn unplanned(shard: String, sql: &str) -> Self {
        Self {
            shard,
            sql: sql.to_owned(),
            sent_bytes: 0,
            plan: Vec::new(),
            measured: None,
        }
    }
}

/// The steps of the statement at hand, as they come.
#[derive(Debug)]
pub(in crate::session) struct Steps {
    pub(super) wanted: Wanted,
    /// The rows at hand are needed for a later step; otherwise they are for nobody.
    keeps_rows: bool,
    steps: Vec<Vec<Part>>,
}

impl Steps {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            keeps_rows: false,
            steps: Vec::new(),
        }
    }

    /// Whether the rows at hand are needed, from now on. The answer is what held before.
    pub(in crate::session) fn keep_rows(&mut self, keeps: bool) -> bool {
        std::mem::replace(&mut self.keeps_rows, keeps)
    }

    /// Whether the rows at hand are needed for a later step.
    pub(in crate::session) fn keeps_rows(&self) -> bool {
        self.keeps_rows
    }

    /// EXPLAIN, with the options for what a server is to plan and not to run.
    pub(in crate::session) fn planning(&self, sql: &str) -> String {
        format!("EXPLAIN {}{sql}", self.wanted.planning)
    }

    /// The same for what is to run.
    pub(in crate::session) fn running(&self, sql: &str) -> String {
        format!("EXPLAIN {}{sql}", self.wanted.given)
    }

    /// One more step.
    pub(in crate::session) fn push(&mut self, parts: Vec<Part>) {
        self.steps.push(parts);
    }

    /// A step of one server, which has been taken.
    pub(in crate::session) fn ran(&mut self, shard: String, sql: &str, since: Instant) {
        self.push(vec![Part {
            measured: Some(Measured {
                time: since.elapsed(),
                ..Measured::default()
            }),
            ..Part::unplanned(shard, sql)
        }]);
    }

    /// What came of the last step, for each server.
    pub(in crate::session) fn measured(&mut self, of_each: Vec<Measured>) {
        if let Some(parts) = self.steps.last_mut() {
            for (part, measured) in parts.iter_mut().zip(of_each) {
                part.measured = Some(measured);
            }
        }
    }

    /// Rows that all servers have sent.
    pub(super) fn rows(&self) -> u64 {
        let measured = |part: &Part| part.measured.as_ref().map_or(0, |measured| measured.rows);
        self.steps.iter().flatten().map(measured).sum()
    }

    /// As lines.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (number, parts) in (1..).zip(&self.steps) {
            let same = parts.iter().all(|part| part.sql == parts[0].sql);
            lines.push(match parts.first() {
                Some(first) if same => format!("Step {number}: {}", one_line(&first.sql)),
                _ => format!("Step {number}:"),
            });
            for part in parts {
                lines.push(format!("  {}", self.figures(part)));
                if !same {
                    lines.push(format!("    {}", one_line(&part.sql)));
                }
                lines.extend(part.plan.iter().map(|line| format!("    {line}")));
            }
        }
        lines
    }

    fn figures(&self, part: &Part) -> String {
        let mut figures = Vec::new();
        if let Some(measured) = &part.measured {
            if measured.rows > 0
                || measured
                    .tag
                    .as_deref()
                    .is_some_and(|tag| tag.starts_with("SELECT"))
            {
                figures.push(format!("{} rows", measured.rows));
                figures.push(format!("{} bytes", measured.bytes));
            }
            let tag = measured.tag.iter().filter(|tag| !tag.starts_with("SELECT"));
            figures.extend(tag.cloned());
        }
        if part.sent_bytes > 0 {
            figures.push(format!("{} bytes sent", part.sent_bytes));
        }
        if let (Some(measured), true) = (&part.measured, self.wanted.timing) {
            figures.push(format!("{:.3} ms", millis(measured.time)));
        }
        match figures.is_empty() {
            true => part.shard.clone(),
            false => format!("{}: {}", part.shard, figures.join(", ")),
        }
    }

    /// As a document.
    pub(super) fn document(&self) -> Value {
        let step = |parts: &Vec<Part>| {
            let servers: Vec<Value> = parts.iter().map(|part| self.part(part)).collect();
            json!({ "Servers": servers })
        };
        self.steps.iter().map(step).collect()
    }

    fn part(&self, part: &Part) -> Value {
        let mut out = Map::new();
        out.insert("Shard".to_owned(), json!(part.shard));
        out.insert("SQL".to_owned(), json!(part.sql));
        if part.sent_bytes > 0 {
            out.insert("Bytes Sent".to_owned(), json!(part.sent_bytes));
        }
        if let Some(measured) = &part.measured {
            out.insert("Rows".to_owned(), json!(measured.rows));
            out.insert("Bytes".to_owned(), json!(measured.bytes));
            if let Some(tag) = &measured.tag {
                out.insert("Command".to_owned(), json!(tag));
            }
            if self.wanted.timing {
                out.insert("Time".to_owned(), json!(millis(measured.time)));
            }
        }
        if !part.plan.is_empty() {
            let text = part.plan.join("\n");
            let plan = serde_json::from_str(&text).unwrap_or(Value::String(text));
            out.insert("Explain".to_owned(), plan);
        }
        Value::Object(out)
    }
}

/// Milliseconds, to three digits.
pub(super) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

fn one_line(sql: &str) -> String {
    let words: Vec<&str> = sql
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(text: &str) -> Wanted {
        let raws = sql::parse(text, &sql::ParseOptions::default()).unwrap();
        match &raws[0].detail {
            sql::Detail::Explain(explain) => Wanted::of(explain),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_go_to_the_servers_with_or_without_what_needs_to_run() {
        let all = wanted(
            "EXPLAIN (ANALYZE, VERBOSE, COSTS off, TIMING 0, WAL, FORMAT json, BUFFERS true) SELECT 1",
        );
        assert_eq!(
            all.given,
            r#"("analyze", "verbose", "costs" 'off', "timing" 0, "wal", "format" 'json', "buffers" 'true') "#
        );
        assert_eq!(
            all.planning,
            r#"("verbose", "costs" 'off', "format" 'json', "buffers" 'true') "#
        );
        assert_eq!((all.format, all.timing, all.summary), (Format::Json, false, true));
        let plain = wanted("EXPLAIN SELECT 1");
        assert_eq!((plain.given.as_str(), plain.planning.as_str()), ("", ""));
        // PostgreSQL says that it needs ANALYZE.
        assert_eq!(wanted("EXPLAIN (TIMING) SELECT 1").planning, r#"("timing") "#);
        let old = wanted("EXPLAIN ANALYZE VERBOSE SELECT 1");
        assert_eq!(
            (old.given.as_str(), old.planning.as_str()),
            (r#"("analyze", "verbose") "#, r#"("verbose") "#)
        );
    }

    #[test]
    fn what_is_the_same_for_all_servers_is_said_once() {
        let part = |shard: &str, sql: &str, rows| Part {
            shard: shard.to_owned(),
            sql: sql.to_owned(),
            sent_bytes: 0,
            plan: vec!["Seq Scan on t".to_owned()],
            measured: Some(Measured {
                rows,
                bytes: 10 * rows,
                time: Duration::from_micros(1500),
                tag: Some(format!("SELECT {rows}")),
            }),
        };
        let mut steps = Steps::new(wanted("EXPLAIN ANALYZE SELECT 1"));
        steps.push(vec![
            part("shard_1", "SELECT\n 1", 2),
            part("shard_2", "SELECT\n 1", 0),
        ]);
        steps.push(vec![part("shard_1", "a", 1), part("shard_2", "b", 1)]);
        let lines = steps.lines();
        assert_eq!(lines[0], "Step 1: SELECT 1");
        assert_eq!(lines[1], "  shard_1: 2 rows, 20 bytes, 1.500 ms");
        assert_eq!(lines[2], "    Seq Scan on t");
        assert_eq!(lines[3], "  shard_2: 0 rows, 0 bytes, 1.500 ms");
        assert_eq!(
            lines[5..8],
            ["Step 2:", "  shard_1: 1 rows, 10 bytes, 1.500 ms", "    a"]
        );
        assert_eq!(steps.rows(), 4);
        assert_eq!(steps.document()[1]["Servers"][1]["SQL"], "b");
    }
}
