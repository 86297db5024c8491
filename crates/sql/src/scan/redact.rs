//! A statement's text for people: who reads a log or a statistic may not see data.

use super::token::{Scanner, Token, TokenKind};

/// What stands for a constant.
const CONSTANT: &str = "?";

/// What stands for more of the same, or for text that is not shown.
const MORE: &str = "…";

/// The text without constants: each becomes `?`, comments go, white space becomes one blank, `IN (?, ?, ?)` becomes
/// `IN (?, …)` and rows of VALUES that look like the first become `…`. Identifiers and parameters stay.
///
/// Unlike [`normalise`](super::normalise) it never keeps a constant, whatever it means, and its result is not meant to
/// be read by a parser. From the first byte that is no token on, nothing is shown; at most about `bytes_max` bytes are.
pub fn redact(text: &str, standard_conforming_strings: bool, bytes_max: usize) -> String {
    let mut scanner = Scanner::new(text, standard_conforming_strings);
    let mut redactor = Redactor {
        out: String::with_capacity(text.len().min(bytes_max)),
        open: Vec::new(),
        previous: Previous::Other,
        row: None,
    };
    loop {
        match scanner.next_token() {
            Ok(Some(token)) => redactor.token(text, token),
            Ok(None) => break,
            Err(_) => {
                redactor.more();
                break;
            }
        }
        if redactor.out.len() > bytes_max {
            redactor.cut(bytes_max);
            break;
        }
    }
    let end = redactor.out.trim_end_matches([';', ' ']).len();
    redactor.out.truncate(end);
    redactor.out
}

/// What stood before, as far as it matters for the next token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Previous {
    Constant,
    CommaAfterConstant,
    In,
    Values,
    Row,
    CommaAfterRow,
    Other,
}

/// What an open parenthesis encloses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    In,
    Row,
    Other,
}

struct Redactor {
    out: String,
    /// The open parentheses, with where each is in the output.
    open: Vec<(List, usize)>,
    previous: Previous,
    /// The last row of the VALUES at hand.
    row: Option<String>,
}

impl Redactor {
    fn token(&mut self, text: &str, token: Token) {
        if token.spaced && !self.out.is_empty() {
            self.out.push(' ');
        }
        let slice = text.get(token.start..token.end).unwrap_or(MORE);
        match token.kind {
            TokenKind::Integer | TokenKind::Decimal | TokenKind::OddNumber | TokenKind::String(_) => {
                self.constant();
            }
            TokenKind::Punct(b'(') => {
                let list = match self.previous {
                    Previous::In => List::In,
                    Previous::Values | Previous::CommaAfterRow => List::Row,
                    _ => List::Other,
                };
                self.open.push((list, self.out.len()));
                self.push(slice, Previous::Other);
            }
            TokenKind::Punct(b')') => self.close(),
            TokenKind::Punct(b',') => {
                let next = match self.previous {
                    Previous::Constant => Previous::CommaAfterConstant,
                    Previous::Row => Previous::CommaAfterRow,
                    _ => Previous::Other,
                };
                self.push(slice, next);
            }
            TokenKind::Ident if slice.eq_ignore_ascii_case("in") => self.push(slice, Previous::In),
            TokenKind::Ident if slice.eq_ignore_ascii_case("values") => {
                self.row = None;
                self.push(slice, Previous::Values);
            }
            _ => self.push(slice, Previous::Other),
        }
    }

    fn push(&mut self, text: &str, previous: Previous) {
        self.out.push_str(text);
        self.previous = previous;
    }

    fn constant(&mut self) {
        let in_list = matches!(self.open.last(), Some((List::In, _)));
        if in_list && self.previous == Previous::CommaAfterConstant {
            self.leave_out(self.out.len());
        } else {
            self.out.push_str(CONSTANT);
        }
        self.previous = Previous::Constant;
    }

    fn close(&mut self) {
        self.out.push(')');
        self.previous = Previous::Other;
        let Some((List::Row, start)) = self.open.pop() else {
            return;
        };
        self.previous = Previous::Row;
        let row = self.out.get(start..).unwrap_or_default();
        if self.row.as_deref() == Some(row) {
            self.leave_out(start);
        } else {
            self.row = Some(row.to_owned());
        }
    }

    /// Takes everything from `start` on away, with the comma before it, and says that there was more.
    fn leave_out(&mut self, start: usize) {
        self.out.truncate(start);
        let end = self.out.trim_end_matches([',', ' ']).len();
        self.out.truncate(end);
        if !self.out.ends_with(MORE) {
            self.out.push_str(", ");
            self.out.push_str(MORE);
        }
    }

    fn more(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with(' ') {
            self.out.push(' ');
        }
        self.out.push_str(MORE);
    }

    fn cut(&mut self, bytes_max: usize) {
        let mut end = bytes_max.min(self.out.len());
        while !self.out.is_char_boundary(end) {
            end -= 1;
        }
        self.out.truncate(end);
        self.out.push_str(MORE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(redact(text, true, 1000), expected, "{text}");
    }

    #[test]
    fn constants_become_marks() {
        check(
            "SELECT  a, lower('secret')\n FROM t /* c */ WHERE b = -12.5e3 AND c = $1; -- x",
            "SELECT a, lower(?) FROM t WHERE b = -? AND c = $1",
        );
        check(
            "select date '2020-01-01', E'a\\'b', b'01', U&'x', 0x1F LIMIT 5",
            "select date ?, ?, ?, ?, ? LIMIT ?",
        );
        check("ALTER ROLE r PASSWORD 'p''w'", "ALTER ROLE r PASSWORD ?");
        check("DO $x$ BEGIN PERFORM 'secret'; END $x$", "DO ?");
        check("SELECT \"Name 1\" FROM \"T\"", "SELECT \"Name 1\" FROM \"T\"");
    }

    #[test]
    fn repeated_constants_and_rows_are_one() {
        check(
            "SELECT f(1, 2) WHERE a IN (1, 2,3) AND b in ('x')",
            "SELECT f(?, ?) WHERE a IN (?, …) AND b in (?)",
        );
        check(
            "INSERT INTO t VALUES (1, 'a'), (2, 'b'),(3, 'c') RETURNING k",
            "INSERT INTO t VALUES (?, ?), … RETURNING k",
        );
        check(
            "INSERT INTO t VALUES (1, f(2)), (2, 3)",
            "INSERT INTO t VALUES (?, f(?)), (?, ?)",
        );
        check(
            "SELECT * FROM t WHERE (a, b) IN ((1, 2), (3, 4))",
            "SELECT * FROM t WHERE (a, b) IN ((?, ?), (?, ?))",
        );
    }

    #[test]
    fn nothing_is_shown_of_what_cannot_be_read() {
        check("SELECT 1, 'open", "SELECT ?, …");
        check("SELECT 'a' /* open secret", "SELECT ? …");
        assert_eq!(redact("SELECT aaaaéééé FROM t", true, 12), "SELECT aaaa…");
        // Without conforming strings the backslash keeps the quote from ending the constant.
        assert_eq!(redact(r"SELECT 'a\' secret', b", false, 100), "SELECT ?, b");
    }
}
