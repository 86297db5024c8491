//! Plan-cache keys: a statement's text without its literals.

use super::token::{Scanner, StringKind, Token, TokenKind};
use super::{Literal, LiteralKind, NormalisedBuf};

/// Computes the plan-cache key of a statement. `false` means: not normalised, use the whole text as the key.
///
/// Two texts with the same key have the same raw parse tree up to the values of the literals listed, and each
/// literal starts at the location PostgreSQL gives its constant. A literal stays in the key when its value can
/// change what the statement means: ordinals, LIMIT, type modifiers, typed literals (`date '…'`), strings that may name
/// a table (arguments of functions, casts) and whatever is not known to be an ordinary constant. A plan made for one text of a key that *contains* literal values (rewritten
/// SQL) is only good for texts with the same literals.
///
/// Does not allocate once `buf` has grown to the size of the text.
pub fn normalise(text: &str, buf: &mut NormalisedBuf, standard_conforming_strings: bool) -> bool {
    buf.key.clear();
    buf.literals.clear();
    if u32::try_from(text.len()).is_err() {
        return false;
    }
    let mut n = Normaliser {
        text,
        buf,
        conforming: standard_conforming_strings,
        prev: Prev::Other,
        before_name: Prev::Other,
        in_type: false,
        depth: 0,
        verbatim_from: u32::MAX,
        distinct_on: false,
        distinct_depth: None,
        calls: 0,
        introduces: false,
    };
    n.run().is_some()
}

/// What the previous token was, as far as it matters for the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prev {
    /// An operand must follow: an operator, `(`, `,` or a keyword like WHERE.
    Operand,
    /// A name or keyword after which no plain literal is expected.
    Name,
    /// A keyword that may directly precede `(` without making it an argument list.
    OpenKeyword,
    /// `.`.
    Dot,
    /// A minus sign that PostgreSQL may fold into the constant after it.
    Minus,
    /// The certain end of an operand: `)`, `]`, a parameter or a literal that stays.
    Ended,
    /// A literal that was taken out.
    Taken,
    /// `::` or AS: a type may follow.
    TypeNext,
    /// Anything else.
    Other,
}

struct Normaliser<'a> {
    text: &'a str,
    buf: &'a mut NormalisedBuf,
    conforming: bool,
    prev: Prev,
    /// What stood before the name (with its qualifiers) that `prev` is.
    before_name: Prev,
    /// Within a type name that followed `::` or AS.
    in_type: bool,
    depth: u32,
    /// Literals at this depth and deeper stay in the key; `u32::MAX` for none.
    verbatim_from: u32,
    /// DISTINCT was the previous word.
    distinct_on: bool,
    /// Depth at which DISTINCT ON was met and its list has not ended.
    distinct_depth: Option<u32>,
    /// One bit per open parenthesis, the innermost lowest: it encloses the arguments of a call.
    calls: u64,
    /// The previous word is one that introduces an operand, like VARIADIC.
    introduces: bool,
}

impl Normaliser<'_> {
    fn run(&mut self) -> Option<()> {
        let mut scanner = Scanner::new(self.text, self.conforming);
        let first = scanner.next_token().ok()??;
        self.keeps_no_comment(0, first.start)?;
        if first.kind != TokenKind::Ident || !starts_normalised(self.slice(first)) {
            return None;
        }
        self.copy(first);
        if !self.slice(first).eq_ignore_ascii_case(b"with") {
            self.word(first)?;
        }
        let mut end = first.end;
        while let Some(token) = scanner.next_token().ok()? {
            if token.spaced {
                self.keeps_no_comment(end, token.start)?;
                self.buf.key.push(b' ');
            }
            end = token.end;
            if token.kind == TokenKind::Punct(b';') {
                let rest = scanner.next_token().ok()?.is_none();
                self.keeps_no_comment(end, self.text.len())?;
                if self.buf.key.last() == Some(&b' ') {
                    self.buf.key.pop();
                }
                return rest.then_some(());
            }
            self.token(token, &mut scanner, &mut end)?;
        }
        self.keeps_no_comment(end, self.text.len())
    }

    #[inline]
    fn slice(&self, t: Token) -> &[u8] {
        &self.text.as_bytes()[t.start..t.end]
    }

    #[inline]
    fn copy(&mut self, t: Token) {
        let bytes = &self.text.as_bytes()[t.start..t.end];
        self.buf.key.extend_from_slice(bytes);
    }

    /// White space may hold comments; one that mentions Drover is a hint, and such a text has no key.
    #[inline]
    fn keeps_no_comment(&self, from: usize, to: usize) -> Option<()> {
        if to - from < 2 {
            return Some(());
        }
        let gap = &self.text.as_bytes()[from..to];
        let hint = gap.len() >= 6 && gap.windows(6).any(|w| w.eq_ignore_ascii_case(b"drover"));
        (!hint).then_some(())
    }

    #[inline]
    fn token(&mut self, t: Token, scanner: &mut Scanner<'_>, end: &mut usize) -> Option<()> {
        match t.kind {
            TokenKind::Ident => {
                self.copy(t);
                self.word(t)?;
            }
            TokenKind::QuotedIdent => {
                self.copy(t);
                self.name(false);
            }
            TokenKind::Punct(p) => {
                self.copy(t);
                self.punct(p);
            }
            TokenKind::Operator => return self.operator(t, scanner, end),
            TokenKind::Integer | TokenKind::Decimal => self.number(t, t.start),
            TokenKind::String(StringKind::Plain) => self.string(t)?,
            TokenKind::String(StringKind::Unicode) | TokenKind::UnicodeIdent | TokenKind::OddNumber => {
                return None;
            }
            TokenKind::String(_) if t.continued => return None,
            TokenKind::Cast => {
                self.copy(t);
                self.prev = Prev::TypeNext;
                self.in_type = true;
            }
            TokenKind::String(_) | TokenKind::Param => {
                self.copy(t);
                self.leave_type(Prev::Ended);
            }
            TokenKind::Assign | TokenKind::DotDot => {
                self.copy(t);
                self.leave_type(Prev::Other);
            }
        }
        Some(())
    }

    #[inline]
    fn leave_type(&mut self, prev: Prev) {
        self.in_type = false;
        self.prev = prev;
    }

    #[inline]
    fn name(&mut self, introduces: bool) {
        self.introduces = introduces;
        if self.prev != Prev::Dot {
            self.before_name = self.prev;
        }
        self.prev = Prev::Name;
        self.distinct_on = false;
    }

    #[inline]
    fn word(&mut self, t: Token) -> Option<()> {
        let keyword = if self.prev == Prev::Dot {
            Keyword::None
        } else {
            keyword(self.slice(t))
        };
        match keyword {
            Keyword::None | Keyword::Introduces => {
                self.name(keyword == Keyword::Introduces);
                return Some(());
            }
            Keyword::Operator => return None,
            // Where an operand is expected this is a column of that name.
            Keyword::Between if matches!(self.prev, Prev::Operand | Prev::Minus) => {
                self.name(false);
                return Some(());
            }
            Keyword::Between => self.leave_type(Prev::Operand),
            // RETURNING WITH (…) is followed by a list, any other WITH is not.
            Keyword::With if self.prev == Prev::Operand && self.before_last(t) != Some(b'(') => return None,
            Keyword::With => self.name(false),
            Keyword::Operand => self.leave_type(Prev::Operand),
            Keyword::On => {
                self.leave_type(Prev::Operand);
                if self.distinct_on {
                    self.verbatim_from = self.verbatim_from.min(self.depth + 1);
                    self.distinct_depth = Some(self.depth);
                }
            }
            Keyword::Open => self.leave_type(Prev::OpenKeyword),
            Keyword::Distinct => {
                self.leave_type(Prev::Other);
                self.distinct_on = true;
                return Some(());
            }
            Keyword::As => {
                self.in_type = true;
                self.prev = Prev::TypeNext;
            }
            Keyword::Verbatim => {
                self.leave_type(Prev::Other);
                self.verbatim_from = self.verbatim_from.min(self.depth);
            }
            Keyword::EndVerbatim => {
                self.leave_type(Prev::Operand);
                if self.verbatim_from == self.depth {
                    self.verbatim_from = u32::MAX;
                }
            }
        }
        self.distinct_on = false;
        Some(())
    }

    /// The last byte before a word that is no white space; the word has been copied to the key.
    fn before_last(&self, t: Token) -> Option<u8> {
        let head = self.buf.key.len().checked_sub(t.end - t.start)?;
        self.buf.key[..head].iter().rfind(|b| **b != b' ').copied()
    }

    #[inline]
    fn punct(&mut self, p: u8) {
        match p {
            b'(' => {
                self.depth += 1;
                // Parentheses around an argument change nothing.
                let call = self.prev == Prev::Name || self.calls & 1 == 1;
                self.calls = self.calls << 1 | u64::from(call);
                let arguments_of_type = self.prev == Prev::Name
                    && (self.in_type
                        || matches!(
                            self.before_name,
                            Prev::Name | Prev::Other | Prev::Ended | Prev::Taken
                        )
                        || self.ends_in_type_name());
                if arguments_of_type && self.verbatim_from > self.depth {
                    self.verbatim_from = self.depth;
                }
                self.leave_type(Prev::Operand);
            }
            b')' => {
                self.depth = self.depth.saturating_sub(1);
                self.calls >>= 1;
                if self.verbatim_from != u32::MAX && self.depth < self.verbatim_from {
                    self.verbatim_from = u32::MAX;
                }
                // After DISTINCT ON (…) the select list begins.
                let list_begins = self.distinct_depth == Some(self.depth);
                if list_begins {
                    self.distinct_depth = None;
                }
                self.leave_type(if list_begins { Prev::Operand } else { Prev::Ended });
            }
            b']' => self.leave_type(Prev::Ended),
            b',' => self.leave_type(Prev::Operand),
            b'.' => self.prev = Prev::Dot,
            _ => self.leave_type(Prev::Other),
        }
    }

    /// The key ends in `name(`; is it a built-in type, or a keyword like CURRENT_TIME, that takes modifiers?
    fn ends_in_type_name(&self) -> bool {
        let key = &self.buf.key;
        let Some((_, head)) = key.split_last() else {
            return false;
        };
        let head = head.trim_ascii_end();
        let start = head
            .iter()
            .rposition(|b| !b.is_ascii_alphanumeric() && *b != b'_')
            .map_or(0, |p| p + 1);
        let name = &head[start..];
        const TYPES: [&[u8]; 19] = [
            b"numeric",
            b"decimal",
            b"dec",
            b"varchar",
            b"char",
            b"character",
            b"varying",
            b"bpchar",
            b"nchar",
            b"bit",
            b"time",
            b"timestamp",
            b"interval",
            b"float",
            b"second",
            b"current_time",
            b"current_timestamp",
            b"localtime",
            b"localtimestamp",
        ];
        TYPES.iter().any(|t| name.eq_ignore_ascii_case(t))
    }

    /// An operator; a minus sign where an operand is expected belongs to the number that follows it.
    #[inline]
    fn operator(&mut self, t: Token, scanner: &mut Scanner<'_>, end: &mut usize) -> Option<()> {
        let bytes = self.text.as_bytes();
        let sign = t.end - t.start == 1 && bytes[t.start] == b'-' && self.prev == Prev::Operand;
        if sign && bytes.get(t.end).is_some_and(u8::is_ascii_digit) {
            let number = scanner.next_token().ok()??;
            *end = number.end;
            match number.kind {
                TokenKind::Integer | TokenKind::Decimal => {
                    // A cast or subscript binds tighter than the sign, and then the sign is an operator.
                    if binds_tighter(&bytes[number.end..]) {
                        self.copy(Token {
                            start: t.start,
                            ..number
                        });
                        self.leave_type(Prev::Other);
                    } else {
                        self.number(number, t.start);
                    }
                }
                _ => return None,
            }
            return Some(());
        }
        self.copy(t);
        let star = bytes[t.start] == b'*' && self.prev == Prev::Dot;
        let minus = t.end - t.start == 1 && bytes[t.start] == b'-';
        let folds = minus && !self.operand_ended();
        self.leave_type(if star {
            Prev::Other
        } else if folds {
            Prev::Minus
        } else {
            Prev::Operand
        });
        Some(())
    }

    /// Is the previous token surely the end of an operand, so that a minus sign is the binary operator?
    #[inline]
    fn operand_ended(&self) -> bool {
        match self.prev {
            Prev::Ended | Prev::Taken => true,
            // A word where an operand is expected is one, except for those that introduce one themselves.
            Prev::Name => matches!(self.before_name, Prev::Operand | Prev::Minus) && !self.introduces,
            _ => false,
        }
    }

    #[inline]
    fn takes_literal(&self) -> bool {
        self.prev == Prev::Operand && self.depth < self.verbatim_from
    }

    #[inline]
    fn number(&mut self, t: Token, start: usize) {
        let t = Token { start, ..t };
        if !self.takes_literal() {
            self.copy(t);
            return self.leave_type(Prev::Ended);
        }
        let kind = if t.kind == TokenKind::Decimal {
            LiteralKind::Numeric
        } else {
            integer_kind(self.slice(t))
        };
        self.take(t, kind);
    }

    #[inline]
    fn string(&mut self, t: Token) -> Option<()> {
        if t.continued || self.prev == Prev::Taken {
            return None;
        }
        // As an argument or before a cast, a string may be the name of a table (nextval, regclass), and then it
        // decides where the statement belongs. Bits of parentheses beyond the 64 innermost are lost: keep those too.
        let may_name = self.calls & 1 == 1 || self.depth > u64::BITS;
        let cast = || may_be_cast(&self.text.as_bytes()[t.end..]);
        if !self.takes_literal() || may_name || cast() {
            self.copy(t);
            self.leave_type(Prev::Ended);
            return Some(());
        }
        // With escapes in plain strings, the value is not what the quotes enclose.
        if !self.conforming && memchr::memchr(b'\\', self.slice(t)).is_some() {
            return None;
        }
        self.take(t, LiteralKind::Text);
        Some(())
    }

    #[inline]
    fn take(&mut self, t: Token, kind: LiteralKind) {
        // No statement can hold these bytes outside of quotes, so a placeholder cannot be mistaken for anything.
        let mark = match kind {
            LiteralKind::Int4 => 1,
            LiteralKind::Int8 => 2,
            LiteralKind::Numeric => 3,
            LiteralKind::Text => 4,
        };
        self.buf.key.push(mark);
        self.buf.literals.push(Literal {
            start: t.start as u32,
            len: (t.end - t.start) as u32,
            kind,
        });
        self.leave_type(Prev::Taken);
    }
}

/// Does what follows a number bind tighter than a sign before it? Says yes when a comment hides the answer.
fn binds_tighter(rest: &[u8]) -> bool {
    let rest = rest.trim_ascii_start();
    matches!(
        rest,
        [b':' | b'[' | b'(' | b'.' | 0x0b, ..] | [b'-', b'-', ..] | [b'/', b'*', ..]
    )
}

/// May a constant be cast by what follows it, perhaps after closing parentheses? Says yes when a comment hides it.
fn may_be_cast(mut rest: &[u8]) -> bool {
    while let [b')' | b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, tail @ ..] = rest {
        rest = tail;
    }
    matches!(rest, [b':', ..] | [b'-', b'-', ..] | [b'/', b'*', ..])
}

/// The type PostgreSQL gives an integer constant with an optional sign.
#[inline]
pub(super) fn integer_kind(digits: &[u8]) -> LiteralKind {
    if digits.len() <= 9 {
        return LiteralKind::Int4;
    }
    let value = std::str::from_utf8(digits)
        .ok()
        .and_then(|s| s.parse::<i64>().ok());
    match value {
        Some(v) if i32::try_from(v).is_ok() => LiteralKind::Int4,
        Some(_) => LiteralKind::Int8,
        None => LiteralKind::Numeric,
    }
}

fn starts_normalised(word: &[u8]) -> bool {
    [&b"select"[..], b"insert", b"update", b"delete", b"with"]
        .iter()
        .any(|w| word.eq_ignore_ascii_case(w))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keyword {
    None,
    /// An operand follows.
    Operand,
    /// JOIN … ON, or DISTINCT ON.
    On,
    /// May precede a parenthesis that is no argument list.
    Open,
    Distinct,
    As,
    /// Literals stay from here on.
    Verbatim,
    /// Ends a clause in which literals stay.
    EndVerbatim,
    /// A word that may stand where an operand is expected and introduces one.
    Introduces,
    With,
    Between,
    /// OPERATOR(…).
    Operator,
}

/// Classifies a word; only words that matter here.
#[inline]
fn keyword(word: &[u8]) -> Keyword {
    use Keyword::*;
    let is = |k: &[u8]| word.eq_ignore_ascii_case(k);
    let Some(first) = word.first() else { return None };
    match (word.len(), first | 0x20) {
        (2, b'o') if is(b"or") => Operand,
        (2, b'o') if is(b"on") => On,
        (2, b'i') if is(b"in") => Open,
        (2, b'a') if is(b"as") => As,
        (2, b'b') if is(b"by") => Verbatim,
        (3, b'a') if is(b"and") => Operand,
        (3, b'a') if is(b"any") || is(b"all") => Open,
        (3, b'n') if is(b"not") => Operand,
        (4, b'w') if is(b"when") => Operand,
        (4, b't') if is(b"then") => Operand,
        (4, b'e') if is(b"else") => Operand,
        (4, b'l') if is(b"like") => Operand,
        (4, b's') if is(b"some") => Open,
        (4, b'c') if is(b"case") => Operand,
        (4, b'j') if is(b"join") => Open,
        (4, b'f') if is(b"from") => Open,
        (4, b'w') if is(b"with") => With,
        (4, b'b') if is(b"both") => Introduces,
        (4, b'r') if is(b"rows") => Introduces,
        (3, b'k') if is(b"key") => Introduces,
        (5, b'v') if is(b"value") => Introduces,
        (5, b'r') if is(b"range") => Introduces,
        (6, b'g') if is(b"groups") => Introduces,
        (7, b'l') if is(b"leading") => Introduces,
        (7, b'c') if is(b"content") => Introduces,
        (7, b'v') if is(b"version") => Introduces,
        (8, b't') if is(b"trailing") => Introduces,
        (8, b'v') if is(b"variadic") => Introduces,
        (8, b'd') if is(b"document") => Introduces,
        (8, b'o') if is(b"operator") => Operator,
        (9, b's') if is(b"symmetric") => Introduces,
        (10, b'a') if is(b"asymmetric") => Introduces,
        (5, b'w') if is(b"where") => Operand,
        (5, b'i') if is(b"ilike") => Operand,
        (5, b'l') if is(b"limit") => Verbatim,
        (5, b'f') if is(b"fetch") => Verbatim,
        (5, b'u') if is(b"union") => EndVerbatim,
        (5, b'u') if is(b"using") => Open,
        (6, b'o') if is(b"offset") => Verbatim,
        (6, b'h') if is(b"having") => EndVerbatim,
        (6, b'e') if is(b"except") => EndVerbatim,
        (6, b'e') if is(b"exists") => Open,
        (6, b's') if is(b"select") => Operand,
        (6, b'v') if is(b"values") => Open,
        (7, b'b') if is(b"between") => Between,
        (8, b'd') if is(b"distinct") => Distinct,
        (9, b'i') if is(b"intersect") => EndVerbatim,
        (9, b'r') if is(b"returning") => Operand,
        _ => None,
    }
}

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
