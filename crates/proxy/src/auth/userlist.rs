//! Users and their secrets in PgBouncer's `auth_file` format: `"user" "secret"` on each line.
//!
//! Two quotes inside quotes stand for one. A secret is a password, `md5` with 32 hexadecimal digits, or a SCRAM
//! verifier. What follows the secret on its line is ignored, as are empty lines and lines that begin with `;`.

use super::hba::Problem;

/// The largest file, in bytes.
pub const FILE_BYTES_MAX: usize = 64 << 20;

/// Longest user name in PostgreSQL, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// Longest secret accepted, in bytes.
const SECRET_BYTES_MAX: usize = 2048;

/// The most problems reported at once.
const PROBLEMS_MAX: usize = 100;

/// One user of the file. Its secret is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Line, from 1.
    pub line: usize,
    /// Name.
    pub user: String,
    /// As in the file; empty: the user has no password.
    pub secret: String,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("line", &self.line)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Reads a file's text. All problems are found at once; none shows a secret.
pub fn parse(text: &str) -> Result<Vec<Entry>, Vec<Problem>> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let mut problems = Vec::new();
    let lines = text
        .lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.trim_start()));
    for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with(';')) {
        let entry = entry(number, line).and_then(|entry| {
            let new = seen.insert(entry.user.clone());
            new.then_some(entry).ok_or("this user is there twice")
        });
        match entry {
            Ok(entry) => entries.push(entry),
            Err(message) => problems.push(Problem {
                line: number,
                message: message.to_owned(),
            }),
        }
        if problems.len() >= PROBLEMS_MAX {
            break;
        }
    }
    if problems.is_empty() {
        Ok(entries)
    } else {
        Err(problems)
    }
}

fn entry(line: usize, text: &str) -> Result<Entry, &'static str> {
    let (user, rest) = quoted(text)?;
    let (secret, _) = quoted(rest.trim_start())?;
    if user.is_empty() || user.len() > NAME_BYTES_MAX || user.contains('\0') {
        return Err("a user name has 1 to 63 bytes");
    }
    if secret.len() > SECRET_BYTES_MAX || secret.contains('\0') {
        return Err("the secret is too long, or has a zero byte");
    }
    Ok(Entry { line, user, secret })
}

/// A quoted text at the front, and what follows it.
fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    const EXPECTED: &str = "expected: \"user\" \"secret\", both in quotes";
    let mut rest = text.strip_prefix('"').ok_or(EXPECTED)?;
    let mut value = String::new();
    loop {
        let end = rest.find('"').ok_or("a quote is not closed")?;
        value.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                value.push('"');
                rest = after;
            }
            None => return Ok((value, rest)),
        }
    }
}

/// Body of the fuzz target: parses any bytes; what was parsed parses the same when it is written again.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(entries) = parse(&text) else {
        return;
    };
    let double = |text: &str| text.replace('"', "\"\"");
    let lines = entries
        .iter()
        .map(|entry| format!("\"{}\" \"{}\"\n", double(&entry.user), double(&entry.secret)));
    let again = parse(&lines.collect::<String>()).expect("written as it was read");
    let plain = |entries: &[Entry]| -> Vec<(String, String)> {
        entries
            .iter()
            .map(|entry| (entry.user.clone(), entry.secret.clone()))
            .collect()
    };
    assert_eq!(plain(&again), plain(&entries));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_secrets() {
        let text = "; comment\n\"alice\" \"secret\"\n\n  \"a \"\"b\"\"\"   \"\" trailing\r\n";
        let entries = parse(text).expect("a good file");
        let found: Vec<_> = entries
            .iter()
            .map(|entry| (entry.line, entry.user.as_str(), entry.secret.as_str()))
            .collect();
        assert_eq!(found, [(2, "alice", "secret"), (4, "a \"b\"", "")]);
        assert!(!format!("{entries:?}").contains("secret"));
    }

    #[test]
    fn problems_have_lines_and_show_no_secret() {
        let text = "alice secret\n\"a\" \"hunter2\n\"a\"\n\"a\" \"1\"\n\"a\" \"2\"\n\"\" \"3\"\n";
        let problems = parse(text).expect_err("wrong");
        let lines: Vec<usize> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [1, 2, 3, 5, 6]);
        assert!(!format!("{problems:?}").contains("hunter2"));
    }
}
