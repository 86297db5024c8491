//! A statement without what may differ between its runs: what rules are looked up by.

use std::ops::Range;

use super::token::{Scanner, Token, TokenKind};

/// What stands for a constant or a parameter.
const PLACE: &str = "?";

/// What stands for more of the same.
const MORE: &str = "…";

/// The shape of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shape {
    /// Its words with one blank between them: constants and parameters are `?`, `IN (?, ?, ?)` is `IN (?, …)`, rows of VALUES
    /// that look like the one before are `…`; words without quotes are in lower case, comments and the semicolon at the end are
    /// gone.
    pub text: String,
    /// For each `?` what stands there, as bytes of the statement; of a list in IN all of it.
    pub places: Vec<Range<usize>>,
    /// Something was left out that no place stands for: rows of VALUES.
    pub is_cut: bool,
    /// Where the parameters are among the bytes of the statement.
    pub params: Vec<Range<usize>>,
}

/// The shape of a statement; `None`: it is not made of PostgreSQL's tokens.
///
/// The shape of a shape, and of what [`redact`](super::redact) makes of a statement, is the statement's: a `?` in a text stands for
/// itself, also within an operator.
pub fn shape(text: &str, standard_conforming_strings: bool) -> Option<Shape> {
    let mut scanner = Scanner::new(text, standard_conforming_strings);
    let mut shaper = Shaper::default();
    while let Some(token) = scanner.next_token().ok()? {
        shaper.token(text, token);
    }
    let mut shape = shaper.shape;
    while let Some(rest) = shape.text.strip_suffix(';') {
        shape.text.truncate(rest.trim_end().len());
    }
    Some(shape)
}

/// What stood before, as far as it matters for the next token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Previous {
    Place,
    CommaAfterPlace,
    In,
    Values,
    Row,
    CommaAfterRow,
    #[default]
    Other,
}

/// What an open parenthesis encloses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    In,
    Row,
    Other,
}

#[derive(Default)]
struct Shaper {
    shape: Shape,
    /// The open parentheses, with where each is in the shape, and how many places stand before it.
    open: Vec<(List, usize, usize)>,
    previous: Previous,
    /// The last row of the VALUES at hand.
    row: Option<String>,
}

impl Shaper {
    fn token(&mut self, text: &str, token: Token) {
        let slice = text.get(token.start..token.end).unwrap_or_default();
        let range = token.start..token.end;
        match token.kind {
            TokenKind::Integer | TokenKind::Decimal | TokenKind::OddNumber | TokenKind::String(_) => {
                self.place(range);
            }
            TokenKind::Param => {
                self.shape.params.push(range.clone());
                self.place(range);
            }
            TokenKind::Operator => self.operator(slice, token.start),
            TokenKind::Punct(b'(') => {
                let list = match self.previous {
                    Previous::In => List::In,
                    Previous::Values | Previous::CommaAfterRow => List::Row,
                    _ => List::Other,
                };
                self.word(slice, Previous::Other);
                let at = self.shape.text.len() - slice.len();
                self.open.push((list, at, self.shape.places.len()));
            }
            TokenKind::Punct(b')') => self.close(),
            TokenKind::Punct(b',') => {
                let next = match self.previous {
                    Previous::Place => Previous::CommaAfterPlace,
                    Previous::Row => Previous::CommaAfterRow,
                    _ => Previous::Other,
                };
                self.word(slice, next);
            }
            TokenKind::Ident => {
                let word = slice.to_ascii_lowercase();
                let next = match word.as_str() {
                    "in" => Previous::In,
                    "values" => {
                        self.row = None;
                        Previous::Values
                    }
                    _ => Previous::Other,
                };
                self.word(&word, next);
            }
            _ => self.word(slice, Previous::Other),
        }
    }

    fn word(&mut self, word: &str, previous: Previous) {
        if !self.shape.text.is_empty() {
            self.shape.text.push(' ');
        }
        self.shape.text.push_str(word);
        self.previous = previous;
    }

    fn place(&mut self, range: Range<usize>) {
        let in_list = matches!(self.open.last(), Some((List::In, ..)));
        if in_list && self.previous == Previous::CommaAfterPlace {
            if let Some(place) = self.shape.places.last_mut() {
                place.end = range.end;
            }
            self.leave_out(self.shape.text.len());
        } else {
            self.word(PLACE, Previous::Place);
            self.shape.places.push(range);
        }
        self.previous = Previous::Place;
    }

    /// Each `?` of an operator stands alone.
    fn operator(&mut self, slice: &str, start: usize) {
        let mut at = start;
        for piece in slice.split_inclusive('?') {
            let plain = piece.trim_end_matches('?');
            self.plain_operator(plain);
            if plain.len() < piece.len() {
                let mark = at + plain.len();
                self.word(PLACE, Previous::Other);
                self.shape.places.push(mark..mark + 1);
            }
            at += piece.len();
        }
    }

    /// Signs at the end of an operator without odd characters are operators of their own; a `?` behind them hid that.
    fn plain_operator(&mut self, plain: &str) {
        let odd = plain.bytes().any(|byte| b"~!@#%^&|`".contains(&byte));
        let head = match odd {
            true => plain,
            false => plain.trim_end_matches(['+', '-']),
        };
        if !head.is_empty() {
            self.word(head, Previous::Other);
        }
        for (at, _) in plain[head.len()..].char_indices() {
            let at = head.len() + at;
            self.word(&plain[at..=at], Previous::Other);
        }
    }

    fn close(&mut self) {
        self.word(")", Previous::Other);
        let Some((List::Row, start, places)) = self.open.pop() else {
            return;
        };
        self.previous = Previous::Row;
        let row = self.shape.text.get(start..).unwrap_or_default();
        if self.row.as_deref() == Some(row) {
            self.leave_out(start);
            self.shape.places.truncate(places);
            self.shape.is_cut = true;
        } else {
            self.row = Some(row.to_owned());
        }
    }

    /// Takes everything from `start` on away, with the comma before it, and says that there was more.
    fn leave_out(&mut self, start: usize) {
        let text = &mut self.shape.text;
        text.truncate(start);
        let end = text.trim_end_matches([',', ' ']).len();
        text.truncate(end);
        if !text.ends_with(MORE) {
            text.push_str(" , ");
            text.push_str(MORE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str, places: &[&str]) {
        let found = shape(text, true).unwrap();
        assert_eq!(found.text, expected, "{text}");
        let stands: Vec<&str> = found.places.iter().map(|place| &text[place.clone()]).collect();
        assert_eq!(stands, places, "{text}");
        // What is shown of a statement finds what the statement finds.
        for shown in [found.text.clone(), crate::redact(text, true, 10_000)] {
            assert_eq!(shape(&shown, true).unwrap().text, found.text, "{shown} of {text}");
        }
    }

    #[test]
    fn what_differs_between_runs_goes() {
        check(
            "SELECT  a\n FROM t /* c */ WHERE B=-12.5e3 AND c = 'x' AND \"D\" = $2; -- x",
            "select a from t where b = - ? and c = ? and \"D\" = ?",
            &["12.5e3", "'x'", "$2"],
        );
        check("select 1 limit 5 ;;", "select ? limit ?", &["1", "5"]);
        check("select t.a::int from t", "select t . a :: int from t", &[]);
    }

    #[test]
    fn lists_and_rows_are_one() {
        check(
            "SELECT * FROM t WHERE a IN (1, 2,3) AND b in ('x')",
            "select * from t where a in ( ? , … ) and b in ( ? )",
            &["1, 2,3", "'x'"],
        );
        check(
            "INSERT INTO t VALUES (1, 'a'), (2, 'b'),(3, 'c') RETURNING 7",
            "insert into t values ( ? , ? ) , … returning ?",
            &["1", "'a'", "7"],
        );
        assert!(shape("VALUES (1), (2)", true).unwrap().is_cut);
        assert!(!shape("VALUES (1), (f(2))", true).unwrap().is_cut);
        assert_eq!(shape("SELECT $1, 2, $3", true).unwrap().params.len(), 2);
    }

    #[test]
    fn question_marks_of_operators_are_places() {
        check(
            "SELECT a FROM t WHERE a=5 AND d ?| e AND d ? 'k' AND d @? p",
            "select a from t where a = ? and d ? | e and d ? ? and d @ ? p",
            &["5", "?", "?", "'k'", "?"],
        );
        assert_eq!(shape("SELECT 'open", true), None);
    }
}
