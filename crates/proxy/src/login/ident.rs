//! User name maps: which names the system or a certificate knows somebody by may log in as which role.
//!
//! The format is that of PostgreSQL's `pg_ident.conf`:
//!
//! ```text
//! # map      name outside              role
//! certs      alice@example.com         alice
//! certs      /^(.*)@example\.com$      \1
//! "a map"    "a name"                  all
//! ```
//! A name that begins with `/` is a regular expression, searched for anywhere in the name unless it is anchored; `\1` in
//! the role is what its first group matched. A role that begins with `/` is a regular expression too, and `all` stands for
//! every role (PostgreSQL 16); in quotes `all` and `\1` are ordinary text. `+role`, PostgreSQL's membership test, is an error: Drover does not know
//! who is a member. Expressions are those of the `regex` crate: what
//! PostgreSQL's have and they do not (back references, look-around) is an error when the map is read, never a name that
//! matches differently, and no expression can take more than linear time.

use regex::{Regex, RegexBuilder};

/// Lines of a map file that are kept; more are an error.
const LINES_MAX: usize = 10_000;

/// Memory of one compiled expression, in bytes.
const EXPRESSION_BYTES_MAX: usize = 1 << 20;

/// The lines of a map file.
#[derive(Debug, Clone, Default)]
pub struct IdentMaps {
    lines: Vec<Line>,
}

#[derive(Debug, Clone)]
struct Line {
    map: String,
    outside: Outside,
    role: Role,
}

#[derive(Debug, Clone)]
enum Outside {
    Name(String),
    Matches(Regex),
}

#[derive(Debug, Clone)]
enum Role {
    Name(String),
    /// Has `\1`, to be replaced by what the first group matched.
    Group(String),
    Matches(Regex),
    All,
}

/// What is wrong with a map file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct IdentError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// A word of a line.
struct Word {
    text: String,
    /// Its beginning was quoted: no special meaning.
    quoted: bool,
}

impl IdentMaps {
    /// Reads the text of a map file.
    pub fn parse(text: &str) -> Result<Self, IdentError> {
        let mut lines = Vec::new();
        let mut continued = String::new();
        for (at, line) in text.lines().enumerate() {
            // A backslash at the end of a line continues it.
            if let Some(part) = line.strip_suffix('\\') {
                continued.push_str(part);
                continue;
            }
            let whole = std::mem::take(&mut continued) + line;
            let wrong = |problem: String| IdentError {
                line: at + 1,
                problem,
            };
            let words = words(&whole).map_err(wrong)?;
            if words.is_empty() {
                continue;
            }
            if lines.len() == LINES_MAX {
                return Err(wrong(format!("more than {LINES_MAX} entries")));
            }
            lines.push(entry(words).map_err(wrong)?);
        }
        Ok(Self { lines })
    }

    /// Whether there is a map of this name.
    #[must_use]
    pub fn has(&self, map: &str) -> bool {
        self.lines.iter().any(|line| line.map == map)
    }

    /// Whether somebody known outside by `name` may log in as `role`. Without a map the two must be equal.
    #[must_use]
    pub fn allows(&self, map: Option<&str>, name: &str, role: &str) -> bool {
        match map {
            None | Some("") => name == role,
            Some(map) => self
                .lines
                .iter()
                .any(|line| line.map == map && line.allows(name, role)),
        }
    }
}

impl Line {
    fn allows(&self, name: &str, role: &str) -> bool {
        let group = match &self.outside {
            Outside::Name(expected) if expected == name => None,
            Outside::Name(_) => return false,
            Outside::Matches(expression) => match expression.captures(name) {
                Some(found) => found.get(1).map(|group| group.as_str().to_owned()),
                None => return false,
            },
        };
        match (&self.role, group) {
            (Role::All, _) => true,
            (Role::Name(expected), _) => expected == role,
            (Role::Matches(expression), _) => expression.is_match(role),
            (Role::Group(pattern), Some(group)) => pattern.replacen("\\1", &group, 1) == role,
            // The group took no part in the match.
            (Role::Group(pattern), None) => pattern.replacen("\\1", "", 1) == role,
        }
    }
}

fn entry(words: Vec<Word>) -> Result<Line, String> {
    let Ok([map, outside, role]) = <[Word; 3]>::try_from(words) else {
        return Err("an entry has a map's name, a name outside and a role".to_owned());
    };
    let outside = match outside.text.strip_prefix('/') {
        Some(expression) => Outside::Matches(compile(expression)?),
        _ => Outside::Name(outside.text),
    };
    let role = match (role.text.strip_prefix('/'), &outside) {
        (Some(expression), _) => Role::Matches(compile(expression)?),
        _ if role.quoted => Role::Name(role.text),
        _ if role.text == "all" => Role::All,
        _ if role.text.starts_with('+') => {
            return Err("membership of roles (\"+\") is not known here".to_owned());
        }
        (_, Outside::Matches(expression)) if role.text.contains("\\1") => {
            if expression.captures_len() < 2 {
                return Err("the role has \\1, but the expression has no group".to_owned());
            }
            Role::Group(role.text)
        }
        _ => Role::Name(role.text),
    };
    Ok(Line {
        map: map.text,
        outside,
        role,
    })
}

fn compile(expression: &str) -> Result<Regex, String> {
    RegexBuilder::new(expression)
        .size_limit(EXPRESSION_BYTES_MAX)
        .build()
        .map_err(|error| format!("the expression \"{expression}\" cannot be used: {error}"))
}

/// Words are separated by blanks; quotes keep blanks, commas and `#` together, two of them within are one.
fn words(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = line.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(&first) = rest.peek() else { break };
        if first == '#' {
            break;
        }
        let mut word = Word {
            text: String::new(),
            quoted: first == '"',
        };
        let mut inside = false;
        while let Some(c) = rest.next_if(|c| inside || !(c.is_whitespace() || *c == '#')) {
            match c {
                '"' if inside && rest.next_if_eq(&'"').is_some() => word.text.push('"'),
                '"' => inside = !inside,
                c => word.text.push(c),
            }
        }
        if inside {
            return Err("a quoted word has no end".to_owned());
        }
        words.push(word);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, name: &str, role: &str, expected: bool) {
        let maps = IdentMaps::parse(text).expect("readable");
        assert_eq!(
            maps.allows(Some("m"), name, role),
            expected,
            "{text}: {name} as {role}"
        );
    }

    #[test]
    fn names_are_mapped() {
        check("m alice bob", "alice", "bob", true);
        check("m alice bob", "alice", "alice", false);
        check("n alice bob", "alice", "bob", false);
        check("# m alice bob", "alice", "bob", false);
        check("m alice bob # m x y", "alice", "bob", true);
        check("m \"al ice\" \"b\"\"ob\"", "al ice", "b\"ob", true);
        check("m x y\nm alice bob", "alice", "bob", true);
        check("m alice \\\n bob", "alice", "bob", true);
        check("m CN=alice,O=x bob", "CN=alice,O=x", "bob", true);
    }

    #[test]
    fn expressions_are_mapped() {
        let text = r"m /^(.*)@example\.com$ \1";
        check(text, "alice@example.com", "alice", true);
        check(text, "alice@example.com", "bob", false);
        check(text, "alice@exampleXcom", "alice", false);
        check(text, "alice@example.com.evil", "alice", false);
        check(r"m /^(.*)@x$ u_\1", "alice@x", "u_alice", true);
        check(r"m /^a|(b)$ \1x", "a", "x", true);
        check("m /lic guest", "alice", "guest", true);
        check(r#"m "/^(.*)$" \1"#, "alice", "alice", true);
        check(r#"m /^(.*)$ "\1""#, "alice", "alice", false);
        check("m /^a /^(b|c)$", "alice", "c", true);
        check("m /^a /^(b|c)$", "alice", "d", false);
        check("m alice all", "alice", "anybody", true);
        check("m alice \"all\"", "alice", "anybody", false);
        // What a group matched is a name, never an expression.
        check(r"m /^(.*)@x$ \1", ".*@x", "root", false);
    }

    #[test]
    fn without_a_map_names_are_equal() {
        let maps = IdentMaps::parse("m alice bob").expect("readable");
        assert!(maps.allows(None, "bob", "bob") && !maps.allows(None, "alice", "bob"));
        assert!(maps.has("m") && !maps.has("n"));
        assert!(
            !maps.allows(Some("n"), "bob", "bob"),
            "a map that is not there allows nobody"
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, expected) in [
            ("\nm alice", "line 2: an entry has"),
            ("m a b c", "line 1: an entry has"),
            ("m \"a b", "line 1: a quoted word has no end"),
            (r"m /a \1", "no group"),
            (r"m /(a)\1 b", "cannot be used"),
            (r"m /( b", "cannot be used"),
            ("m a +admins", "membership of roles"),
        ] {
            let error = IdentMaps::parse(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
