//! Rules about single files.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Finding;
use super::scan::scan;

/// Lines of a file, tests not counted: more are noted.
const LINES_SOFT: usize = 500;
/// More are an error.
const LINES_HARD: usize = 800;
/// Lines of a function, tests not counted.
const FUNCTION_LINES_MAX: usize = 70;
/// Larger files are data.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// All files of the repository: what git tracks, and what it would track.
pub(super) fn tracked(root: &Path) -> Result<Vec<PathBuf>, String> {
    let mut command = Command::new("git");
    command
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root);
    let output = command.output().map_err(|error| format!("git: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "git ls-files: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let listed = String::from_utf8(output.stdout).map_err(|_| "a file name is not UTF-8".to_owned())?;
    let names = listed
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(PathBuf::from);
    Ok(names.filter(|name| root.join(name).is_file()).collect())
}

/// Checks one file. Soft limits go to `notes`.
pub(super) fn check(root: &Path, path: &Path, notes: &mut Vec<String>) -> Result<Vec<Finding>, String> {
    let full = root.join(path);
    let size = std::fs::metadata(&full)
        .map_err(|error| format!("{}: {error}", path.display()))?
        .len();
    let bytes = if size > TEXT_BYTES_MAX {
        Vec::new()
    } else {
        read(&full)?
    };
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return Ok(Vec::new());
    };
    let mut findings = words(path, text);
    if path.extension().is_some_and(|extension| extension == "rs") {
        findings.extend(rust(path, text, notes));
    }
    Ok(findings)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Rules for any text. The words are put together here so that this file does not break its own rule.
pub(super) fn words(path: &Path, text: &str) -> Vec<Finding> {
    let unfinished = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["XX", "X:"].concat(),
    ];
    let machine = [
        ["/ho", "me/"].concat(),
        ["/ro", "ot/"].concat(),
        ["/wo", "rk/"].concat(),
        ["/Use", "rs/"].concat(),
    ];
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut add = |rule, message: String| {
            let path = path.to_owned();
            let line = number + 1;
            findings.push(Finding {
                path,
                line,
                rule,
                message,
            });
        };
        if let Some(word) = unfinished.iter().find(|word| has_word(line, word)) {
            add("unfinished", format!("`{word}`: do it, or open an issue"));
        }
        if let Some(word) = machine.iter().find(|word| starts_a_path(line, word)) {
            add("machine-path", format!("`{word}…` is a path of one machine"));
        }
    }
    findings
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at]
            .chars()
            .next_back()
            .is_none_or(|c| !c.is_alphanumeric());
        let after = line[at + word.len()..]
            .chars()
            .next()
            .is_none_or(|c| !c.is_alphanumeric());
        before && after
    })
}

/// Not inside a longer path, such as a URL's.
fn starts_a_path(line: &str, start: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || matches!(c, '.' | '/' | '_' | '-' | '}' | ')');
    line.match_indices(start)
        .any(|(at, _)| line[..at].chars().next_back().is_none_or(|c| !inside(c)))
}

/// Rules for Rust.
pub(super) fn rust(path: &Path, text: &str, notes: &mut Vec<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |line, rule, message| {
        let path = path.to_owned();
        findings.push(Finding {
            path,
            line,
            rule,
            message,
        });
    };
    if path.file_name().is_some_and(|name| name == "mod.rs") {
        add(0, "mod-rs", "write foo.rs beside foo/, not foo/mod.rs".to_owned());
    }
    if is_test(path) {
        return findings;
    }
    let scan = scan(text);
    if scan.lines > LINES_HARD {
        add(
            0,
            "file-length",
            format!("{} lines without tests; at most {LINES_HARD}", scan.lines),
        );
    } else if scan.lines > LINES_SOFT {
        notes.push(format!(
            "{}: {} lines without tests; {LINES_SOFT} are enough",
            path.display(),
            scan.lines
        ));
    }
    for function in scan
        .functions
        .iter()
        .filter(|function| function.lines > FUNCTION_LINES_MAX)
    {
        let message = format!(
            "`{}` has {} lines; at most {FUNCTION_LINES_MAX}",
            function.name, function.lines
        );
        add(function.line, "function-length", message);
    }
    findings
}

fn is_test(path: &Path) -> bool {
    let named = path
        .file_stem()
        .is_some_and(|stem| stem == "tests" || stem == "testing");
    named || path.components().any(|part| part.as_os_str() == "tests")
}
