//! The file format of `pgbouncer.ini`: sections, `key = value` lines, comments, `%include`.

/// Files read for one configuration at most, `%include`d ones counted.
const FILES_MAX: usize = 64;

/// Entries at most.
const ENTRIES_MAX: usize = 100_000;

/// A `key = value` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The section it is in, in lower case.
    pub section: String,
    /// The key: an option in lower case, or a name as written.
    pub key: String,
    /// The value without the spaces around it.
    pub value: String,
    /// Where it stands, `file:line`.
    pub place: String,
}

/// All entries in their order, and the lines that are none.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ini {
    /// What could be read.
    pub entries: Vec<Entry>,
    /// What could not, with its place.
    pub problems: Vec<String>,
    files: usize,
    section: String,
}

/// Reads a file and those it includes. `open` gives the text of a file.
pub fn read(name: &str, open: &mut dyn FnMut(&str) -> Result<String, String>) -> Ini {
    let mut ini = Ini::default();
    ini.file(name, open);
    ini
}

impl Ini {
    fn file(&mut self, name: &str, open: &mut dyn FnMut(&str) -> Result<String, String>) {
        self.files += 1;
        if self.files > FILES_MAX {
            return self.problems.push(format!("{name}: more than {FILES_MAX} files"));
        }
        match open(name) {
            Ok(text) => {
                for (line, at) in text.lines().zip(1..) {
                    self.line(line.trim(), &format!("{name}:{at}"), open);
                }
            }
            Err(error) => self.problems.push(format!("{name}: {error}")),
        }
    }

    fn line(&mut self, line: &str, place: &str, open: &mut dyn FnMut(&str) -> Result<String, String>) {
        if line.is_empty() || line.starts_with([';', '#']) {
        } else if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            self.section = section.trim().to_ascii_lowercase();
        } else if let Some(file) = line.strip_prefix("%include") {
            self.file(file.trim(), open);
        } else if let Some((key, value)) = key_value(line)
            && !self.section.is_empty()
        {
            if self.entries.len() >= ENTRIES_MAX {
                return self
                    .problems
                    .push(format!("{place}: more than {ENTRIES_MAX} entries"));
            }
            self.entries.push(Entry {
                section: self.section.clone(),
                key,
                value,
                place: place.to_owned(),
            });
        } else {
            self.problems.push(format!("{place}: this line cannot be read"));
        }
    }

    /// The last value of an option in section `[pgbouncer]`.
    #[must_use]
    pub fn option(&self, key: &str) -> Option<&Entry> {
        self.section("pgbouncer").filter(|entry| entry.key == key).last()
    }

    /// The entries of a section.
    pub fn section(&self, section: &str) -> impl Iterator<Item = &Entry> {
        let section = section.to_owned();
        self.entries.iter().filter(move |entry| entry.section == section)
    }
}

fn key_value(line: &str) -> Option<(String, String)> {
    let (key, rest) = match line.strip_prefix('"') {
        Some(quoted) => take_quoted(quoted, '"')?,
        None => {
            let end = line.find(|c: char| c == '=' || c.is_whitespace())?;
            (line[..end].to_owned(), &line[end..])
        }
    };
    let value = rest.trim_start().strip_prefix('=')?.trim();
    (!key.is_empty()).then(|| (key, value.to_owned()))
}

/// Text up to a closing quote, doubled quotes standing for one, and what comes after.
fn take_quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut taken = String::new();
    let mut rest = text;
    loop {
        let at = rest.find(quote)?;
        taken.push_str(&rest[..at]);
        rest = &rest[at + quote.len_utf8()..];
        match rest.strip_prefix(quote) {
            Some(after) => {
                taken.push(quote);
                rest = after;
            }
            None => return Some((taken, rest)),
        }
    }
}

/// The `key=value` pairs of a connection string, values in single quotes or bare. `None`: it is none.
#[must_use]
pub fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, after) = match after.strip_prefix('\'') {
            Some(quoted) => take_quoted(quoted, '\'')?,
            None => {
                let end = after.find(char::is_whitespace).unwrap_or(after.len());
                (after[..end].to_owned(), &after[end..])
            }
        };
        pairs.push((key.trim().to_ascii_lowercase(), value));
        rest = after.trim_start();
    }
    Some(pairs)
}

/// The entries of an `auth_file`: `"user" "secret"` lines. Lines that are none are counted by their numbers.
#[must_use]
pub fn userlist(text: &str) -> (Vec<(String, String)>, Vec<usize>) {
    let (mut users, mut bad) = (Vec::new(), Vec::new());
    for (line, at) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        let user = line.strip_prefix('"').and_then(|rest| take_quoted(rest, '"'));
        let both = user.and_then(|(user, rest)| {
            let secret = rest.trim_start().strip_prefix('"')?;
            Some((user, take_quoted(secret, '"')?.0))
        });
        match both {
            Some(both) => users.push(both),
            None => bad.push(at),
        }
    }
    (users, bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Ini {
        read("a.ini", &mut |name| match name {
            "a.ini" => Ok(text.to_owned()),
            "b.ini" => Ok("pool_mode = session\n%include b.ini".to_owned()),
            _ => Err("no such file".to_owned()),
        })
    }

    #[test]
    fn lines_are_read_with_their_places() {
        let ini =
            of("[Databases]\n; c\n\"a \"\"b\"\" c\" = host=h\n* = \n[pgbouncer]\n  pool_mode=x \n# c\nbad\n");
        let seen: Vec<_> = ini
            .entries
            .iter()
            .map(|e| {
                (
                    e.section.as_str(),
                    e.key.as_str(),
                    e.value.as_str(),
                    e.place.as_str(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("databases", "a \"b\" c", "host=h", "a.ini:3"),
                ("databases", "*", "", "a.ini:4"),
                ("pgbouncer", "pool_mode", "x", "a.ini:6"),
            ]
        );
        assert_eq!(ini.problems, ["a.ini:8: this line cannot be read"]);
    }

    #[test]
    fn includes_are_bounded_and_the_last_value_counts() {
        let ini = of("[pgbouncer]\npool_mode = statement\n%include c.ini\n%include b.ini\n");
        assert_eq!(ini.option("pool_mode").map(|e| e.value.as_str()), Some("session"));
        assert!(ini.problems.contains(&"b.ini: more than 64 files".to_owned()));
        assert!(ini.problems.contains(&"c.ini: no such file".to_owned()));
    }

    #[test]
    fn connection_strings_and_user_lists_are_read() {
        let read = pairs("host=h  port = 1 password='a ''b'' c' x=").unwrap();
        let read: Vec<_> = read.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            read,
            [("host", "h"), ("port", "1"), ("password", "a 'b' c"), ("x", "")]
        );
        assert_eq!(pairs("host"), None);
        assert_eq!(pairs("a='b"), None);
        let (users, bad) = userlist("\"a\" \"x\"\n; c\n\"b\"\"c\" \"\" extra\n\"d\"\nfoo\n");
        let users: Vec<_> = users.iter().map(|(u, s)| (u.as_str(), s.as_str())).collect();
        assert_eq!((users, bad), (vec![("a", "x"), ("b\"c", "")], vec![4, 5]));
    }
}
