//! Places in a statement's text that the grammar's tree does not record.

use super::types::ObjectKind;
use crate::scan::{Scanner, Token, TokenKind};
use std::ops::Range;

/// The tokens of a part of a text.
pub(super) struct Tokens<'t> {
    text: &'t str,
    list: Vec<Token>,
}

impl<'t> Tokens<'t> {
    /// Tokens of `range`; `None` when it cannot be scanned.
    pub(super) fn new(text: &'t str, range: Range<usize>) -> Option<Self> {
        let part = text.get(range.clone())?;
        let mut scanner = Scanner::new(part, true);
        let mut list = Vec::new();
        while let Some(mut token) = scanner.next_token().ok()? {
            token.start += range.start;
            token.end += range.start;
            list.push(token);
        }
        Some(Self { text, list })
    }

    pub(super) fn get(&self, i: usize) -> Option<Token> {
        self.list.get(i).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn text_of(&self, i: usize) -> &'t str {
        self.list
            .get(i)
            .and_then(|t| self.text.get(t.start..t.end))
            .unwrap_or_default()
    }

    pub(super) fn is_word(&self, i: usize, word: &str) -> bool {
        self.get(i).is_some_and(|t| t.kind == TokenKind::Ident) && self.text_of(i).eq_ignore_ascii_case(word)
    }

    pub(super) fn is_punct(&self, i: usize, p: u8) -> bool {
        self.get(i).is_some_and(|t| t.kind == TokenKind::Punct(p))
    }

    /// Is the token an identifier, quoted or not, that reads as `name`?
    pub(super) fn is_name(&self, i: usize, name: &str) -> bool {
        match self.get(i).map(|t| t.kind) {
            Some(TokenKind::Ident) => self.text_of(i).eq_ignore_ascii_case(name),
            Some(TokenKind::QuotedIdent) => self.text_of(i).trim_matches('"') == name,
            _ => false,
        }
    }

    /// Index of the parenthesis that closes the one at `open`.
    pub(super) fn closing(&self, open: usize) -> Option<usize> {
        let mut depth = 0usize;
        for i in open..self.len() {
            match self.list[i].kind {
                TokenKind::Punct(b'(' | b'[') => depth += 1,
                TokenKind::Punct(b')' | b']') => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        return Some(i);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Index of the first `word` from `from` on that is not within parentheses.
    pub(super) fn find_word(&self, from: usize, word: &str) -> Option<usize> {
        let mut i = from;
        while i < self.len() {
            if self.is_punct(i, b'(') {
                i = self.closing(i)?;
            } else if self.is_word(i, word) && !(i > 0 && self.is_punct(i - 1, b'.')) {
                return Some(i);
            }
            i += 1;
        }
        None
    }

    /// Bytes from token `i` to the last token.
    pub(super) fn range_from(&self, i: usize) -> Option<Range<usize>> {
        Some(self.get(i)?.start..self.list.last()?.end)
    }

    /// Bytes from token `a` to token `b`, both included.
    pub(super) fn range(&self, a: usize, b: usize) -> Option<Range<usize>> {
        Some(self.get(a)?.start..self.get(b)?.end)
    }
}

/// The DROP statement of `range` with IF EXISTS, which it does not have; `None` when its beginning is not as expected.
pub(super) fn with_if_exists(text: &str, range: Range<usize>, object: ObjectKind) -> Option<String> {
    let t = Tokens::new(text, range.clone())?;
    // The words between DROP and the names.
    let words = match object {
        ObjectKind::TextSearchConfiguration
        | ObjectKind::TextSearchDictionary
        | ObjectKind::TextSearchParser
        | ObjectKind::TextSearchTemplate
        | ObjectKind::ForeignDataWrapper => 3,
        ObjectKind::AccessMethod
        | ObjectKind::EventTrigger
        | ObjectKind::ForeignTable
        | ObjectKind::MaterializedView
        | ObjectKind::OperatorClass
        | ObjectKind::OperatorFamily => 2,
        // DROP PROCEDURAL LANGUAGE.
        ObjectKind::Language if t.is_word(1, "procedural") => 2,
        _ => 1,
    };
    let last = t.get(words)?.end;
    Some(format!(
        "{} IF EXISTS{}",
        text.get(range.start..last)?,
        text.get(last..range.end)?
    ))
}

/// The statement after EXPLAIN and its options.
pub(super) fn explained(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let t = Tokens::new(text, range)?;
    let mut i = 1;
    if t.is_punct(1, b'(') {
        let starts_query = ["select", "values", "with", "table"]
            .iter()
            .any(|w| t.is_word(2, w));
        if !starts_query && !t.is_punct(2, b'(') {
            i = t.closing(1)? + 1;
        }
    } else {
        if t.is_word(i, "analyze") || t.is_word(i, "analyse") {
            i += 1;
        }
        if t.is_word(i, "verbose") {
            i += 1;
        }
    }
    t.range_from(i)
}

/// The statement after `PREPARE name [(types)] AS`.
pub(super) fn prepared(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let t = Tokens::new(text, range)?;
    t.range_from(t.find_word(2, "as")? + 1)
}

/// The query after `DECLARE name … CURSOR … FOR`.
pub(super) fn declared(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let t = Tokens::new(text, range)?;
    let cursor = t.find_word(2, "cursor")?;
    t.range_from(t.find_word(cursor, "for")? + 1)
}

/// The query within `COPY (query)`.
pub(super) fn copied(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let t = Tokens::new(text, range)?;
    if !t.is_punct(1, b'(') {
        return None;
    }
    t.range(2, t.closing(1)?.checked_sub(1)?)
}

/// The query of CREATE TABLE … AS, without WITH [NO] DATA.
pub(super) fn created_as(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let t = Tokens::new(text, range)?;
    let first = t.find_word(1, "as")? + 1;
    let mut last = t.len().checked_sub(1)?;
    if t.is_word(last, "data") {
        let with = if t.is_word(last.checked_sub(1)?, "no") {
            last.checked_sub(2)?
        } else {
            last - 1
        };
        if t.is_word(with, "with") {
            last = with.checked_sub(1)?;
        }
    }
    t.range(first, last)
}

/// The clause INTO of a SELECT, whose table is named at byte `table`.
pub(super) fn into_clause(text: &str, range: Range<usize>, table: usize) -> Option<Range<usize>> {
    let t = Tokens::new(text, range)?;
    let name = (0..t.len()).find(|i| t.get(*i).is_some_and(|token| token.start == table))?;
    let mut last = name;
    while t.is_punct(last + 1, b'.') {
        last += 2;
    }
    let mut first = name.checked_sub(1)?;
    let words = ["table", "unlogged", "temp", "temporary", "local", "global"];
    while words.iter().any(|word| t.is_word(first, word)) {
        first = first.checked_sub(1)?;
    }
    t.is_word(first, "into").then(|| t.range(first, last))?
}

/// The rows of `VALUES (…), …` of an INSERT whose target is named at byte `target`: the range of each row.
pub(super) fn values_rows(text: &str, range: Range<usize>, target: usize) -> Option<Vec<Range<usize>>> {
    let t = Tokens::new(text, target..range.end)?;
    let mut i = 1;
    while t.is_punct(i, b'.') {
        i += 2;
    }
    if t.is_word(i, "as") {
        i += 2;
    }
    let mut i = t.find_word(i, "values")? + 1;
    let mut rows = Vec::new();
    loop {
        if !t.is_punct(i, b'(') {
            return None;
        }
        let close = t.closing(i)?;
        rows.push(t.range(i, close)?);
        if !t.is_punct(close + 1, b',') {
            return Some(rows);
        }
        i = close + 2;
    }
}

/// The bytes of the constant at `location`, with the sign of a negative number.
pub(super) fn constant_at(text: &str, location: usize) -> Option<Range<usize>> {
    let mut scanner = Scanner::new(text.get(location..)?, true);
    let mut token = scanner.next_token().ok()??;
    if token.kind == TokenKind::Operator && text.as_bytes().get(location) == Some(&b'-') {
        token = scanner.next_token().ok()??;
    }
    Some(location..location + token.end)
}

/// The text of a CREATE TABLE, CREATE TABLE AS or ALTER TABLE without its options in namespace `drover`.
///
/// Everything else is byte for byte the same. An option list that becomes empty is removed with its keyword (`WITH`;
/// for ALTER TABLE `SET` or `RESET`, which may leave a statement without an action: look at its actions first). Text
/// in which nothing can be removed with certainty is returned unchanged.
pub fn strip_drover_options(text: &str) -> String {
    let Some(tokens) = Tokens::new(text, 0..text.len()) else {
        return text.to_owned();
    };
    let mut cuts: Vec<Range<usize>> = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let opens = tokens.is_punct(i + 1, b'(');
        let keyword = ["with", "set", "reset"].iter().any(|w| tokens.is_word(i, w));
        if opens
            && keyword
            && let Some(close) = tokens.closing(i + 1)
        {
            cut_group(&tokens, i, close, &mut cuts);
            i = close;
        } else if tokens.is_punct(i, b'(') {
            i = tokens.closing(i).unwrap_or(i);
        }
        i += 1;
    }
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for cut in cuts {
        out.push_str(&text[from..cut.start]);
        from = cut.end;
    }
    out.push_str(&text[from..]);
    out
}

/// The text of a CREATE or ALTER TABLE for servers that lack the sequences it draws from: `DEFAULT nextval(…)` becomes
/// `DEFAULT NULL`, which PostgreSQL takes for no default.
///
/// `None`: `nextval` also stands elsewhere, or within a larger expression.
pub fn without_sequence_defaults(text: &str) -> Option<String> {
    let tokens = Tokens::new(text, 0..text.len())?;
    let mut out = String::with_capacity(text.len());
    let (mut from, mut i) = (0, 0);
    while i < tokens.len() {
        if tokens.is_name(i, "nextval") {
            let qualified = i > 1 && tokens.is_punct(i - 1, b'.') && tokens.is_name(i - 2, "pg_catalog");
            let first = if qualified { i - 2 } else { i };
            let close = tokens.is_punct(i + 1, b'(').then(|| tokens.closing(i + 1))??;
            let whole = first > 0 && tokens.is_word(first - 1, "default") && ends_default(&tokens, close + 1);
            if !whole {
                return None;
            }
            out.push_str(&text[from..tokens.get(first)?.start]);
            out.push_str("NULL");
            from = tokens.get(close)?.end;
            i = close;
        }
        i += 1;
    }
    out.push_str(&text[from..]);
    Some(out)
}

/// Whether no operator or cast goes on with an expression at token `i`.
fn ends_default(tokens: &Tokens<'_>, i: usize) -> bool {
    let Some(token) = tokens.get(i) else {
        return true;
    };
    let ends = [b',', b')', b';'].iter().any(|punct| tokens.is_punct(i, *punct));
    ends || token.kind == TokenKind::Ident
}

/// Cuts Drover's items out of the group whose keyword is token `keyword` and whose last token is `close`.
fn cut_group(tokens: &Tokens<'_>, keyword: usize, close: usize, cuts: &mut Vec<Range<usize>>) {
    let mut items: Vec<(usize, usize)> = Vec::new();
    let mut first = keyword + 2;
    let mut i = first;
    while i < close {
        if tokens.is_punct(i, b'(') {
            i = tokens.closing(i).unwrap_or(close);
        } else if tokens.is_punct(i, b',') {
            items.push((first, i));
            first = i + 1;
        }
        i += 1;
    }
    items.push((first, close));
    let ours = |&(a, _): &(usize, usize)| tokens.is_name(a, "drover") && tokens.is_punct(a + 1, b'.');
    let count = items.iter().filter(|i| ours(i)).count();
    if count == 0 {
        return;
    }
    let start_of = |i: usize| tokens.get(i).map_or(0, |t| t.start);
    if count == items.len() {
        // Also the white space before the keyword.
        let before = keyword
            .checked_sub(1)
            .and_then(|i| tokens.get(i))
            .map_or(0, |t| t.end);
        let end = tokens.get(close).map_or(before, |t| t.end);
        cuts.push(before..end);
        return;
    }
    // An item goes with the comma after it; the last ones with the comma before them.
    let mut kept = false;
    for (n, item) in items.iter().enumerate() {
        if !ours(item) {
            kept = true;
            continue;
        }
        let later_kept = items[n + 1..].iter().any(|i| !ours(i));
        if later_kept {
            cuts.push(start_of(item.0)..start_of(item.1 + 1));
        } else if kept {
            cuts.push(start_of(item.0 - 1)..start_of(item.1));
        }
    }
}
