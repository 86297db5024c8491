//! The rows of an `INSERT … VALUES` whose cells are all literals.
//!
//! Such a statement of a thousand rows says a thousand times the same. PostgreSQL analyses every row of VALUES for itself
//! (`transformInsertRow`: each cell is converted to the type of its column, other rows play no part), so what
//! is known of a row holds for all rows of its *shape*: the row without the values of its literals.

use super::normalise::integer_kind;
use super::token::{Scanner, StringKind, Token, TokenKind};
use super::{Literal, LiteralKind};

/// Statements with more shapes of rows than this are not taken apart.
const SHAPES_MAX: usize = 64;

/// The parts of an `INSERT … VALUES`. All places are byte offsets in its text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiteralRows {
    /// The rows, in order; the head of the statement is all that precedes the first.
    pub rows: Vec<LiteralRow>,
    /// What follows the rows (`ON CONFLICT …`, `RETURNING …`), without a semicolon.
    pub tail: std::ops::Range<usize>,
    /// The literals of all rows, in order.
    pub literals: Vec<Literal>,
    /// The different shapes.
    pub shapes: Vec<Vec<u8>>,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiteralRow {
    /// Its opening parenthesis.
    pub start: usize,
    /// After its closing parenthesis.
    pub end: usize,
    /// Its first literal, as an index.
    pub literals: usize,
    /// Its shape, as an index.
    pub shape: usize,
}

impl LiteralRows {
    /// The literals of a row.
    pub fn literals_of(&self, row: usize) -> &[Literal] {
        let from = self.rows.get(row).map_or(self.literals.len(), |row| row.literals);
        let to = self
            .rows
            .get(row + 1)
            .map_or(self.literals.len(), |row| row.literals);
        self.literals.get(from..to).unwrap_or_default()
    }
}

/// Takes an `INSERT … VALUES` of at least two rows apart. `None` when it is something else, or has anything in its rows beside plain
/// literals, numbers with a sign, NULL, TRUE, FALSE and DEFAULT; when it has a comment (which may be a hint), a parameter,
/// or anything after it; and when a literal may mean the time of its analysis (`'now'`), which is to be once for all rows.
pub fn literal_rows(text: &str, standard_conforming_strings: bool) -> Option<LiteralRows> {
    u32::try_from(text.len()).ok()?;
    let mut parts = Parts {
        text,
        scanner: Scanner::new(text, standard_conforming_strings),
        conforming: standard_conforming_strings,
        end: 0,
        found: LiteralRows::default(),
        shape: Vec::new(),
        columns: None,
    };
    parts.head()?;
    loop {
        parts.row()?;
        match parts.token()? {
            Some(token) if token.kind == TokenKind::Punct(b',') => {
                let open = parts.token()??;
                parts.begin_row(open)?;
            }
            next => {
                parts.tail(next)?;
                return (parts.found.rows.len() > 1).then_some(parts.found);
            }
        }
    }
}

struct Parts<'t> {
    text: &'t str,
    scanner: Scanner<'t>,
    conforming: bool,
    /// The end of the last token.
    end: usize,
    found: LiteralRows,
    /// The shape of the row that is read.
    shape: Vec<u8>,
    /// How many cells the first row has.
    columns: Option<usize>,
}

impl Parts<'_> {
    /// The next token, with nothing but white space before it.
    fn token(&mut self) -> Option<Option<Token>> {
        let token = self.scanner.next_token().ok()?;
        let start = token.map_or(self.text.len(), |token| token.start);
        let gap = self.text.as_bytes().get(self.end..start)?;
        if !gap
            .iter()
            .all(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c))
        {
            return None;
        }
        self.end = token.map_or(start, |token| token.end);
        Some(token)
    }

    fn slice(&self, token: Token) -> &[u8] {
        self.text
            .as_bytes()
            .get(token.start..token.end)
            .unwrap_or_default()
    }

    fn is(&self, token: Token, word: &str) -> bool {
        token.kind == TokenKind::Ident && self.slice(token).eq_ignore_ascii_case(word.as_bytes())
    }

    /// Names, and at last VALUES and the parenthesis of the first row.
    fn head(&mut self) -> Option<()> {
        let first = self.token()??;
        if !self.is(first, "insert") {
            return None;
        }
        let mut depth = 0;
        loop {
            let token = self.token()??;
            match token.kind {
                TokenKind::Punct(b'(') => depth += 1,
                TokenKind::Punct(b')') => depth -= 1,
                TokenKind::Punct(b',' | b'.') | TokenKind::QuotedIdent => {}
                TokenKind::Ident if depth == 0 && self.is(token, "values") => {
                    let open = self.token()??;
                    return self.begin_row(open);
                }
                TokenKind::Ident => {}
                _ => return None,
            }
        }
    }

    fn begin_row(&mut self, open: Token) -> Option<()> {
        if open.kind != TokenKind::Punct(b'(') {
            return None;
        }
        self.shape.clear();
        self.found.rows.push(LiteralRow {
            start: open.start,
            end: open.end,
            literals: self.found.literals.len(),
            shape: 0,
        });
        Some(())
    }

    /// The cells of a row and its closing parenthesis.
    fn row(&mut self) -> Option<()> {
        let mut cells = 0;
        loop {
            cells += 1;
            let token = self.token()??;
            self.cell(token)?;
            let next = self.token()??;
            match next.kind {
                TokenKind::Punct(b',') => self.shape.push(b','),
                TokenKind::Punct(b')') => return self.end_row(next, cells),
                _ => return None,
            }
        }
    }

    fn cell(&mut self, token: Token) -> Option<()> {
        match token.kind {
            TokenKind::Operator if matches!(self.slice(token), b"-" | b"+") => {
                self.shape.push(self.slice(token)[0]);
                let number = self.token()??;
                matches!(number.kind, TokenKind::Integer | TokenKind::Decimal).then_some(())?;
                self.cell(number)
            }
            TokenKind::Integer => {
                let kind = integer_kind(self.slice(token));
                self.literal(token, kind);
                Some(())
            }
            TokenKind::Decimal => {
                self.literal(token, LiteralKind::Numeric);
                Some(())
            }
            TokenKind::String(StringKind::Plain) if !token.continued => {
                let escapes = !self.conforming && memchr::memchr(b'\\', self.slice(token)).is_some();
                if escapes || may_mean_now(self.slice(token)) {
                    return None;
                }
                self.literal(token, LiteralKind::Text);
                Some(())
            }
            TokenKind::Ident => {
                let words: [(&[u8], u8); 4] = [
                    (b"null", b'N'),
                    (b"true", b'T'),
                    (b"false", b'F'),
                    (b"default", b'D'),
                ];
                let word = words
                    .iter()
                    .find(|(word, _)| self.slice(token).eq_ignore_ascii_case(word))?;
                self.shape.push(word.1);
                Some(())
            }
            _ => None,
        }
    }

    fn literal(&mut self, token: Token, kind: LiteralKind) {
        self.shape.push(match kind {
            LiteralKind::Int4 => b'4',
            LiteralKind::Int8 => b'8',
            LiteralKind::Numeric => b'n',
            LiteralKind::Text => b't',
        });
        // The length of the text fits, so these do.
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        self.found.literals.push(Literal {
            start: place(token.start),
            len: place(token.end - token.start),
            kind,
        });
    }

    fn end_row(&mut self, close: Token, cells: usize) -> Option<()> {
        if *self.columns.get_or_insert(cells) != cells {
            return None;
        }
        let shapes = &mut self.found.shapes;
        let last = self.found.rows.len().checked_sub(2);
        let last = last.and_then(|at| self.found.rows.get(at)).map(|row| row.shape);
        let same = |at: &usize| shapes.get(*at) == Some(&self.shape);
        let known = last
            .filter(same)
            .or_else(|| shapes.iter().position(|shape| *shape == self.shape));
        let shape = match known {
            Some(at) => at,
            None if shapes.len() < SHAPES_MAX => {
                shapes.push(self.shape.clone());
                shapes.len() - 1
            }
            None => return None,
        };
        let row = self.found.rows.last_mut()?;
        (row.end, row.shape) = (close.end, shape);
        Some(())
    }

    /// Whatever follows, as long as it is of the same statement.
    fn tail(&mut self, first: Option<Token>) -> Option<()> {
        let from = self.found.rows.last()?.end;
        let mut next = first;
        let mut to = from;
        while let Some(token) = next {
            match token.kind {
                TokenKind::Punct(b';') => {
                    self.found.tail = from..to;
                    return self.token()?.is_none().then_some(());
                }
                TokenKind::Param => return None,
                _ => to = token.end,
            }
            next = self.token()?;
        }
        self.found.tail = from..to;
        Some(())
    }
}

/// Whether a literal has a word that dates and times read as a moment relative to the clock. Longer ones are no dates.
///
/// Within arrays, ranges and composite values a word may have quotes and backslashes between its letters, so texts of any length
/// count that have such.
pub(crate) fn may_mean_now(literal: &[u8]) -> bool {
    const DATE_BYTES_MAX: usize = 256;
    let words: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];
    let holds = |text: &[u8]| {
        text.split(|byte| !byte.is_ascii_alphabetic())
            .any(|word| words.iter().any(|now| word.eq_ignore_ascii_case(now)))
    };
    let quoted = |byte: &u8| matches!(byte, b'"' | b'\\');
    if literal.iter().any(quoted) {
        let plain: Vec<u8> = literal.iter().copied().filter(|byte| !quoted(byte)).collect();
        return holds(&plain) || holds(literal);
    }
    // An array of dates may be long.
    let single = literal
        .get(1)
        .is_none_or(|first| !matches!(first, b'{' | b'[' | b'(' | b' '));
    !(single && literal.len() > DATE_BYTES_MAX) && holds(literal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> Option<(Vec<&str>, Vec<usize>, &str)> {
        let found = literal_rows(text, true)?;
        let rows = found.rows.iter();
        Some((
            rows.clone().map(|row| &text[row.start..row.end]).collect(),
            rows.map(|row| row.shape).collect(),
            &text[found.tail],
        ))
    }

    #[test]
    fn rows_are_found_with_their_shapes() {
        let text =
            "INSERT INTO s.\"t\" (a, b) VALUES (1, 'x'), ( -2 , NULL),(3,'y;)') ON CONFLICT DO NOTHING ;";
        let expected = (
            vec!["(1, 'x')", "( -2 , NULL)", "(3,'y;)')"],
            vec![0, 1, 0],
            " ON CONFLICT DO NOTHING",
        );
        assert_eq!(taken(text), Some(expected));
        let found = literal_rows(text, true).unwrap();
        let values = |row| -> Vec<_> { found.literals_of(row).iter().map(|l| l.value(text)).collect() };
        assert_eq!(
            (values(0), values(1), values(2)),
            (
                vec!["1".into(), "x".into()],
                vec!["2".into()],
                vec!["3".into(), "y;)".into()]
            )
        );
    }

    #[test]
    fn numbers_of_different_types_are_different_shapes() {
        let text = "insert into t values (1), (5000000000), (1.5), (DEFAULT), (true), (+1)";
        assert_eq!(taken(text).unwrap().1, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn anything_else_is_left_alone() {
        for text in [
            "INSERT INTO t VALUES (1)",
            "INSERT INTO t VALUES (1), (2, 3)",
            "INSERT INTO t VALUES (1), (1 + 1)",
            "INSERT INTO t VALUES (1), (f(1))",
            "INSERT INTO t VALUES (1), ($1)",
            "INSERT INTO t VALUES (1), (2) RETURNING $1",
            "INSERT INTO t VALUES (1), /* drover: x */ (2)",
            "INSERT INTO t VALUES (1), (2) -- end",
            "INSERT INTO t VALUES (1), (2); SELECT 1",
            "INSERT INTO t VALUES ('now'), ('x')",
            "INSERT INTO t VALUES ('x'), ('TODAY 10:00')",
            "INSERT INTO t VALUES ('x'), ('[2020-01-01,n\\ow]')",
            "INSERT INTO t VALUES ('x'), ('(n\"\"ow,1)')",
            "INSERT INTO t VALUES ('1'::int), ('2')",
            "INSERT INTO t VALUES (date '2020-01-01'), ('2')",
            "INSERT INTO t VALUES (E'a'), ('2')",
            "INSERT INTO t VALUES (1), (- - 2)",
            "INSERT INTO t VALUES (1), ('a' 'b')",
            "INSERT INTO t SELECT * FROM (VALUES (1), (2)) x",
            "WITH x AS (SELECT 1) INSERT INTO t VALUES (1), (2)",
            "VALUES (1), (2)",
            "INSERT INTO t VALUES (1), (2",
            "",
        ] {
            assert_eq!(taken(text), None, "{text}");
        }
        assert!(taken("INSERT INTO t VALUES ('I know'), ('x')").is_some());
        assert!(literal_rows("INSERT INTO t VALUES ('a\\'), ('b')", false).is_none());
    }
}
