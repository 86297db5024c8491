//! `xtask/waivers.txt`: known breaches, each with a date and a reason. The list may only shrink: a waiver that no
//! longer waives anything is itself a finding, and so is one more than [`WAIVERS_MAX`].

use std::path::{Path, PathBuf};

use super::Finding;

/// Lowered with every waiver that goes; never raised.
const WAIVERS_MAX: usize = 0;

const FILE: &str = "xtask/waivers.txt";

#[derive(Debug, PartialEq, Eq)]
struct Waiver {
    line: usize,
    rule: String,
    path: PathBuf,
}

/// Takes waived findings away and adds those about the list itself.
pub(super) fn apply(root: &Path, findings: Vec<Finding>) -> Result<Vec<Finding>, String> {
    let text = std::fs::read_to_string(root.join(FILE)).map_err(|error| format!("{FILE}: {error}"))?;
    Ok(apply_text(&text, WAIVERS_MAX, findings))
}

pub(super) fn apply_text(text: &str, most: usize, findings: Vec<Finding>) -> Vec<Finding> {
    let (waivers, mut left) = parse(text);
    if waivers.len() > most {
        let message = format!(
            "{} waivers; there may be {most}, and fewer from now on",
            waivers.len()
        );
        left.push(about_list(0, message));
    }
    for waiver in &waivers {
        if !findings.iter().any(|finding| waives(waiver, finding)) {
            left.push(about_list(
                waiver.line,
                "this waives nothing any more: remove it".to_owned(),
            ));
        }
    }
    left.extend(
        findings
            .into_iter()
            .filter(|finding| !waivers.iter().any(|waiver| waives(waiver, finding))),
    );
    left
}

fn waives(waiver: &Waiver, finding: &Finding) -> bool {
    waiver.rule == finding.rule && waiver.path == finding.path
}

/// `2026-11-21 function-length crates/x/src/y.rs reason…`
fn parse(text: &str) -> (Vec<Waiver>, Vec<Finding>) {
    let (mut waivers, mut wrong) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        let line_number = number + 1;
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            [date, rule, path, _, ..] if is_date(date) => waivers.push(Waiver {
                line: line_number,
                rule: (*rule).to_owned(),
                path: path.into(),
            }),
            _ => wrong.push(about_list(
                line_number,
                "write: date, rule, path, reason".to_owned(),
            )),
        }
    }
    (waivers, wrong)
}

fn is_date(text: &str) -> bool {
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    matches!(text.split('-').collect::<Vec<_>>().as_slice(), [y, m, d] if digits(y, 4) && digits(m, 2) && digits(d, 2))
}

fn about_list(line: usize, message: String) -> Finding {
    Finding {
        path: FILE.into(),
        line,
        rule: "waivers",
        message,
    }
}
