//! Tokens of PostgreSQL's lexical structure.
//!
//! Follows the rules of versions 15 to 18: what only some of these versions accept (numbers with a base prefix or
//! underscores) is a token kind of its own, so that callers can decline it.

/// Kind of a quoted constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StringKind {
    /// `'…'`.
    Plain,
    /// `E'…'`.
    Escape,
    /// `U&'…'`.
    Unicode,
    /// `B'…'` or `X'…'`.
    Bits,
    /// `N'…'`.
    National,
    /// `$tag$…$tag$`.
    Dollar,
}

/// Kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// Identifier or keyword without quotes.
    Ident,
    /// `"…"`.
    QuotedIdent,
    /// `U&"…"`.
    UnicodeIdent,
    /// Decimal digits only.
    Integer,
    /// Digits with a fraction or an exponent.
    Decimal,
    /// A number with a base prefix, underscores or trailing junk.
    OddNumber,
    /// A string constant.
    String(StringKind),
    /// `$n`.
    Param,
    /// An operator, including `<`, `=>`, `*` and the like.
    Operator,
    /// One of `( ) [ ] , ; . :`.
    Punct(u8),
    /// `::`.
    Cast,
    /// `:=`.
    Assign,
    /// `..`.
    DotDot,
}

/// A token's kind and place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Byte offset of its first byte.
    pub start: usize,
    /// Byte offset after its last byte.
    pub end: usize,
    /// White space or a comment precedes it.
    pub spaced: bool,
    /// A string constant that continues on another line.
    pub continued: bool,
}

/// Why scanning stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// A comment, string or quoted identifier does not end.
    #[error("unterminated token at byte {0}")]
    Unterminated(usize),
    /// A byte that starts no token.
    #[error("unexpected byte at {0}")]
    Unexpected(usize),
}

const SPACE: u8 = 1;
const IDENT_START: u8 = 2;
const IDENT_CONT: u8 = 4;
const DIGIT: u8 = 8;
const OPERATOR: u8 = 16;
const PUNCT: u8 = 32;

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        table[i] = match b {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => SPACE,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..=0xff => IDENT_START | IDENT_CONT,
            b'0'..=b'9' => DIGIT | IDENT_CONT,
            b'$' => IDENT_CONT,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'+' | b'-' | b'*' | b'/'
            | b'%' | b'<' | b'>' | b'=' => OPERATOR,
            b'(' | b')' | b'[' | b']' | b',' | b';' => PUNCT,
            _ => 0,
        };
        i += 1;
    }
    table
}

/// Scans a text from left to right.
#[derive(Debug, Clone)]
pub struct Scanner<'t> {
    text: &'t [u8],
    pos: usize,
    conforming: bool,
}

impl<'t> Scanner<'t> {
    /// A scanner at the start of `text`. `standard_conforming_strings` off makes plain strings take backslash escapes.
    #[inline]
    pub fn new(text: &'t str, standard_conforming_strings: bool) -> Self {
        Self {
            text: text.as_bytes(),
            pos: 0,
            conforming: standard_conforming_strings,
        }
    }

    /// Byte offset after the last token.
    #[inline]
    pub fn position(&self) -> usize {
        self.pos
    }

    /// The next token; `None` at the end.
    ///
    /// # Errors
    /// A token does not end, or a byte starts none.
    #[inline]
    pub fn next_token(&mut self) -> Result<Option<Token>, ScanError> {
        let from = self.pos;
        self.skip_space()?;
        let start = self.pos;
        let Some(&byte) = self.text.get(start) else {
            return Ok(None);
        };
        let class = CLASS[byte as usize];
        let mut continued = false;
        let kind = if class & IDENT_START != 0 {
            match self.prefixed_string(byte)? {
                Some(kind) => kind,
                None => {
                    self.pos = self.run(start + 1, IDENT_CONT);
                    TokenKind::Ident
                }
            }
        } else if class & PUNCT != 0 {
            self.pos = start + 1;
            TokenKind::Punct(byte)
        } else if class & OPERATOR != 0 {
            self.pos = self.operator_end(start);
            TokenKind::Operator
        } else if class & DIGIT != 0 {
            self.number(start)
        } else {
            self.other(byte, start, &mut continued)?
        };
        if matches!(kind, TokenKind::String(k) if k != StringKind::Dollar && k != StringKind::Plain) {
            continued = self.continue_string(start, kind == TokenKind::String(StringKind::Escape))?;
        }
        Ok(Some(Token {
            kind,
            start,
            end: self.pos,
            spaced: start > from,
            continued,
        }))
    }

    #[inline]
    fn peek(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    #[inline]
    fn run(&self, mut at: usize, class: u8) -> usize {
        while at < self.text.len() && CLASS[self.text[at] as usize] & class != 0 {
            at += 1;
        }
        at
    }

    #[inline]
    fn skip_space(&mut self) -> Result<(), ScanError> {
        loop {
            self.pos = self.run(self.pos, SPACE);
            match self.peek(self.pos) {
                b'-' if self.peek(self.pos + 1) == b'-' => {
                    let rest = &self.text[self.pos..];
                    self.pos += memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                }
                b'/' if self.peek(self.pos + 1) == b'*' => self.skip_block_comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn skip_block_comment(&mut self) -> Result<(), ScanError> {
        let start = self.pos;
        let mut depth = 0usize;
        let mut at = start;
        while at < self.text.len() {
            match (self.text[at], self.peek(at + 1)) {
                (b'/', b'*') => {
                    depth += 1;
                    at += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        self.pos = at;
                        return Ok(());
                    }
                }
                _ => at += 1,
            }
        }
        Err(ScanError::Unterminated(start))
    }

    /// `e'`, `b'`, `x'`, `n'`, `u&'` and `u&"` at an identifier start.
    #[inline]
    fn prefixed_string(&mut self, byte: u8) -> Result<Option<TokenKind>, ScanError> {
        let next = self.peek(self.pos + 1);
        if next == b'\'' {
            let kind = match byte | 0x20 {
                b'e' => StringKind::Escape,
                b'b' | b'x' => StringKind::Bits,
                b'n' => StringKind::National,
                _ => return Ok(None),
            };
            let escapes = kind == StringKind::Escape || (kind == StringKind::National && !self.conforming);
            self.pos = self.quoted_end(self.pos + 1, b'\'', escapes)?;
            return Ok(Some(TokenKind::String(kind)));
        }
        if next == b'&' && byte | 0x20 == b'u' {
            let quote = self.peek(self.pos + 2);
            if quote == b'\'' || quote == b'"' {
                self.pos = self.quoted_end(self.pos + 2, quote, false)?;
                let string = TokenKind::String(StringKind::Unicode);
                return Ok(Some(if quote == b'"' {
                    TokenKind::UnicodeIdent
                } else {
                    string
                }));
            }
        }
        Ok(None)
    }

    /// The end of a quoted token whose opening quote is at `open`.
    fn quoted_end(&self, open: usize, quote: u8, escapes: bool) -> Result<usize, ScanError> {
        let mut at = open + 1;
        loop {
            let rest = self.text.get(at..).unwrap_or_default();
            let found = match escapes {
                true => memchr::memchr2(quote, b'\\', rest),
                false => memchr::memchr(quote, rest),
            };
            at += found.ok_or(ScanError::Unterminated(open))?;
            // A backslash takes the byte after it along, a quote may be doubled.
            if self.text[at] == b'\\' || self.peek(at + 1) == quote {
                at += 2;
            } else {
                return Ok(at + 1);
            }
        }
    }

    /// A string constant goes on when white space with a line break and another quote follow.
    fn continue_string(&mut self, start: usize, escapes: bool) -> Result<bool, ScanError> {
        let mut continued = false;
        while let Some(open) = self.continuation() {
            self.pos = self
                .quoted_end(open, b'\'', escapes)
                .map_err(|_| ScanError::Unterminated(start))?;
            continued = true;
        }
        Ok(continued)
    }

    fn continuation(&self) -> Option<usize> {
        let mut at = self.pos;
        let mut newline = false;
        loop {
            match self.peek(at) {
                b'\n' | b'\r' => newline = true,
                b'\'' => return newline.then_some(at),
                b'-' if self.peek(at + 1) == b'-' => {
                    let rest = &self.text[at..];
                    at += memchr::memchr2(b'\n', b'\r', rest)?;
                    continue;
                }
                b if CLASS[b as usize] & SPACE != 0 => {}
                _ => return None,
            }
            at += 1;
        }
    }

    #[inline]
    fn operator_end(&self, start: usize) -> usize {
        let mut end = start + 1;
        while end < self.text.len() && CLASS[self.text[end] as usize] & OPERATOR != 0 {
            let pair = (self.text[end], self.peek(end + 1));
            if pair == (b'/', b'*') || pair == (b'-', b'-') {
                break;
            }
            end += 1;
        }
        // A multi-character operator cannot end in + or - unless it holds one of these characters.
        let is_special = |b: &u8| {
            matches!(
                b,
                b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%'
            )
        };
        if end - start > 1 && !self.text[start..end].iter().any(is_special) {
            while end - start > 1 && matches!(self.text[end - 1], b'+' | b'-') {
                end -= 1;
            }
        }
        end
    }

    #[inline]
    fn number(&mut self, start: usize) -> TokenKind {
        let mut at = self.run(start, DIGIT);
        let mut kind = TokenKind::Integer;
        if self.peek(at) == b'.' && self.peek(at + 1) != b'.' {
            kind = TokenKind::Decimal;
            at = self.run(at + 1, DIGIT);
        }
        self.exponent(at, kind)
    }

    #[inline]
    fn exponent(&mut self, mut at: usize, mut kind: TokenKind) -> TokenKind {
        if self.peek(at) | 0x20 == b'e' {
            let digits = if matches!(self.peek(at + 1), b'+' | b'-') {
                at + 2
            } else {
                at + 1
            };
            let end = self.run(digits, DIGIT);
            if end > digits {
                kind = TokenKind::Decimal;
                at = end;
            }
        }
        let junk = self.run(at, IDENT_CONT);
        self.pos = junk;
        if junk > at { TokenKind::OddNumber } else { kind }
    }

    fn other(&mut self, byte: u8, start: usize, continued: &mut bool) -> Result<TokenKind, ScanError> {
        match byte {
            b'\'' => {
                self.pos = self.quoted_end(start, b'\'', !self.conforming)?;
                *continued = self.continue_string(start, !self.conforming)?;
                Ok(TokenKind::String(StringKind::Plain))
            }
            b'"' => {
                self.pos = self.quoted_end(start, b'"', false)?;
                Ok(TokenKind::QuotedIdent)
            }
            b'.' => Ok(self.dot(start)),
            b':' => {
                let (kind, len) = match self.peek(start + 1) {
                    b':' => (TokenKind::Cast, 2),
                    b'=' => (TokenKind::Assign, 2),
                    _ => (TokenKind::Punct(b':'), 1),
                };
                self.pos = start + len;
                Ok(kind)
            }
            b'$' => self.dollar(start),
            _ => Err(ScanError::Unexpected(start)),
        }
    }

    fn dot(&mut self, start: usize) -> TokenKind {
        let next = self.peek(start + 1);
        if CLASS[next as usize] & DIGIT != 0 {
            let at = self.run(start + 1, DIGIT);
            return self.exponent(at, TokenKind::Decimal);
        }
        self.pos = start + if next == b'.' { 2 } else { 1 };
        if next == b'.' {
            TokenKind::DotDot
        } else {
            TokenKind::Punct(b'.')
        }
    }

    fn dollar(&mut self, start: usize) -> Result<TokenKind, ScanError> {
        if CLASS[self.peek(start + 1) as usize] & DIGIT != 0 {
            let end = self.run(start + 1, DIGIT);
            let junk = self.run(end, IDENT_CONT);
            self.pos = junk;
            return Ok(if junk > end {
                TokenKind::OddNumber
            } else {
                TokenKind::Param
            });
        }
        let mut tag_end = start + 1;
        if CLASS[self.peek(tag_end) as usize] & IDENT_START != 0 {
            while self.peek(tag_end) != b'$' && CLASS[self.peek(tag_end) as usize] & IDENT_CONT != 0 {
                tag_end += 1;
            }
        }
        if self.peek(tag_end) != b'$' {
            return Err(ScanError::Unexpected(start));
        }
        let tag = &self.text[start..=tag_end];
        let body = &self.text[tag_end + 1..];
        let found = memchr::memmem::find(body, tag).ok_or(ScanError::Unterminated(start))?;
        self.pos = tag_end + 1 + found + tag.len();
        Ok(TokenKind::String(StringKind::Dollar))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[&str]) {
        let mut scanner = Scanner::new(text, true);
        let mut found = Vec::new();
        while let Some(t) = scanner.next_token().expect(text) {
            found.push(&text[t.start..t.end]);
        }
        assert_eq!(found, expect, "{text}");
    }

    #[test]
    fn splits_like_the_server() {
        check(
            "select a.b,c from t",
            &["select", "a", ".", "b", ",", "c", "from", "t"],
        );
        check(
            "a=-1 b<-c @-1 x+-y",
            &[
                "a", "=", "-", "1", "b", "<", "-", "c", "@-", "1", "x", "+", "-", "y",
            ],
        );
        check(
            "1..2 1.5 .5 1e5 1e 1.e3",
            &["1", "..", "2", "1.5", ".5", "1e5", "1e", "1.e3"],
        );
        check("/* a /* b */ c */ x -- y\n z", &["x", "z"]);
        check(
            "'it''s' E'a\\'b' $$ ' $$ $t$ $$ $t$",
            &["'it''s'", "E'a\\'b'", "$$ ' $$", "$t$ $$ $t$"],
        );
        check("'a' -- c\n 'b' 'c'", &["'a' -- c\n 'b'", "'c'"]);
        check(
            "$1::int \"a\"\"b\" u&\"x\" a$b",
            &["$1", "::", "int", "\"a\"\"b\"", "u&\"x\"", "a$b"],
        );
        check("a/*x*/b*/**/c", &["a", "b", "*", "c"]);
    }

    #[test]
    fn unterminated_tokens_are_errors() {
        for text in ["'a", "\"a", "/* /* */", "$a$ x", "E'\\'"] {
            assert!(Scanner::new(text, true).next_token().is_err(), "{text}");
        }
        assert!(Scanner::new("'a\\' b", true).next_token().is_ok());
        assert!(Scanner::new("'a\\' b", false).next_token().is_err());
    }
}
