use std::fmt;

/// The tag of CommandComplete taken apart: `INSERT 0 5` is verb `INSERT`, 5 rows; `CREATE TABLE` has no count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandTag<'a> {
    /// One or more words in capitals, without the counts.
    pub verb: &'a str,
    /// Rows affected or returned, for the verbs that count.
    pub rows: Option<u64>,
}

impl<'a> CommandTag<'a> {
    /// Takes a tag apart. `None` when it is not UTF-8 or empty. A tag this does not understand becomes a verb
    /// without a count, so printing it again gives the same text.
    pub fn parse(tag: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(tag).ok().filter(|t| !t.is_empty())?;
        let whole = CommandTag {
            verb: text,
            rows: None,
        };
        let Some((head, last)) = text.rsplit_once(' ') else {
            return Some(whole);
        };
        let Some(rows) = plain_number(last) else {
            return Some(whole);
        };
        match head {
            "INSERT 0" => Some(CommandTag {
                verb: "INSERT",
                rows: Some(rows),
            }),
            // INSERT with an OID comes only from servers older than any supported one.
            "INSERT" => Some(whole),
            _ if head.contains(|c: char| c.is_ascii_digit()) => Some(whole),
            _ => Some(CommandTag {
                verb: head,
                rows: Some(rows),
            }),
        }
    }
}

/// A decimal number exactly as PostgreSQL prints it: no sign, no leading zeros.
fn plain_number(text: &str) -> Option<u64> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

impl fmt::Display for CommandTag<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rows {
            None => f.write_str(self.verb),
            Some(rows) if self.verb == "INSERT" => write!(f, "INSERT 0 {rows}"),
            Some(rows) => write!(f, "{} {rows}", self.verb),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_tags_apart_and_prints_them_again() {
        for (text, verb, rows) in [
            ("INSERT 0 5", "INSERT", Some(5)),
            ("SELECT 0", "SELECT", Some(0)),
            ("CREATE TABLE", "CREATE TABLE", None),
            ("PREPARE TRANSACTION", "PREPARE TRANSACTION", None),
            ("COPY 18446744073709551615", "COPY", Some(u64::MAX)),
            ("COPY 18446744073709551616", "COPY 18446744073709551616", None),
            ("SELECT 007", "SELECT 007", None),
            ("INSERT 5", "INSERT 5", None),
            ("INSERT 17 1", "INSERT 17 1", None),
            ("BEGIN", "BEGIN", None),
            ("MOVE +1", "MOVE +1", None),
        ] {
            let tag = CommandTag::parse(text.as_bytes()).unwrap();
            assert_eq!(tag, CommandTag { verb, rows }, "{text}");
            assert_eq!(tag.to_string(), text);
        }
        assert_eq!(CommandTag::parse(b""), None);
        assert_eq!(CommandTag::parse(b"\xff"), None);
    }
}
