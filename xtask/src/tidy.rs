//! The rules of this repository that neither the compiler nor clippy knows.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod crates;
mod files;
mod scan;
#[cfg(test)]
mod tests;
mod waivers;

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Relative to the workspace.
    pub path: PathBuf,
    /// From 1; 0: the whole file.
    pub line: usize,
    /// The rule's name, by which it can be waived.
    pub rule: &'static str,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {} [{}]",
            self.path.display(),
            self.line,
            self.message,
            self.rule
        )
    }
}

/// Checks everything; 1 if any rule is broken and not waived.
pub fn run(root: &Path) -> ExitCode {
    match check(root) {
        Ok((findings, notes)) => {
            for note in &notes {
                println!("note: {note}");
            }
            for finding in &findings {
                println!("{finding}");
            }
            if findings.is_empty() {
                println!("tidy: {} files noted, nothing wrong", notes.len());
                ExitCode::SUCCESS
            } else {
                println!("tidy: {} findings", findings.len());
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("tidy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check(root: &Path) -> Result<(Vec<Finding>, Vec<String>), String> {
    let mut notes = Vec::new();
    let mut findings = crates::check(root)?;
    for path in files::tracked(root)? {
        findings.extend(files::check(root, &path, &mut notes)?);
    }
    let mut findings = waivers::apply(root, findings)?;
    findings.sort();
    Ok((findings, notes))
}
