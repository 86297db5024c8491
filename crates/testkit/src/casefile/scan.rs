//! Cutting a case file into entries: directive lines, and statements that end with `;` at the end of a line.

use super::ParameterText;

/// A directive line or a statement.
pub(super) struct Entry {
    /// First line, from 1.
    pub(super) line: usize,
    /// Text without the final semicolon.
    pub(super) text: String,
    /// COPY data that followed, up to `\.`.
    pub(super) copy: Option<Vec<u8>>,
}

impl Entry {
    /// Words, if this may be a directive line of its own.
    pub(super) fn words(&self) -> Vec<&str> {
        self.text.split_whitespace().collect()
    }
}

/// Directives that stand alone on their line, without a semicolon.
const STANDALONE: [&str; 6] = ["@setup", "@cases", "@readonly", "@include", "@session", "@load"];

pub(super) struct Source<'a> {
    lines: std::iter::Enumerate<std::str::Lines<'a>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str) -> Source<'a> {
        Source {
            lines: text.lines().enumerate(),
        }
    }

    /// The next entry; a statement cut off by the end of the file counts as one.
    pub(super) fn next_entry(&mut self) -> Option<Entry> {
        let mut lexer = Lexer::default();
        let mut text = String::new();
        let mut start = 0;
        for (index, line) in self.lines.by_ref() {
            let bare = line.trim();
            if text.is_empty() {
                if bare.is_empty() || bare.starts_with("--") {
                    continue;
                }
                start = index + 1;
                if STANDALONE.contains(&bare.split_whitespace().next().unwrap_or("")) {
                    let text = bare.trim_end_matches(';').to_string();
                    return Some(Entry {
                        line: start,
                        text,
                        copy: None,
                    });
                }
            }
            text.push_str(line);
            if lexer.ends_statement(line) {
                let end = text.rfind(';').unwrap_or(text.len());
                text.truncate(end);
                let copy = wants_copy_data(&text).then(|| self.copy_data());
                return Some(Entry {
                    line: start,
                    text: text.trim().to_string(),
                    copy,
                });
            }
            text.push('\n');
        }
        (!text.trim().is_empty()).then(|| Entry {
            line: start,
            text: text.trim().to_string(),
            copy: None,
        })
    }

    fn copy_data(&mut self) -> Vec<u8> {
        let mut data = Vec::new();
        for (_, line) in self.lines.by_ref().take_while(|(_, line)| *line != "\\.") {
            data.extend(line.as_bytes());
            data.push(b'\n');
        }
        data
    }
}

fn wants_copy_data(text: &str) -> bool {
    let upper = text.to_uppercase();
    let words: Vec<&str> = upper.split_whitespace().collect();
    // In front of COPY there may be directives and their codes (`@error 23505`), all of which hold a digit or an `@`.
    let code = |word: &&&str| word.starts_with('@') || word.contains(|c: char| c.is_ascii_digit());
    words.iter().find(|word| !code(word)) == Some(&"COPY")
        && words
            .windows(2)
            .any(|pair| pair[0] == "FROM" && pair[1].starts_with("STDIN"))
}

/// Enough of SQL's lexer to know whether a semicolon at the end of a line is inside quotes.
#[derive(Default)]
struct Lexer {
    inside: Option<Quote>,
}

enum Quote {
    Plain(u8),
    /// `E'…'`, where a backslash escapes the quote.
    Escape,
    Dollar(String),
    Comment,
}

impl Lexer {
    /// Consumes a line; true if it ends a statement.
    fn ends_statement(&mut self, line: &str) -> bool {
        let bytes = line.as_bytes();
        let mut at = 0;
        let mut last = 0;
        while at < bytes.len() {
            at += match &self.inside {
                Some(quote) => {
                    let (end, len) = match quote {
                        Quote::Escape if bytes[at] == b'\\' => {
                            at += 2;
                            continue;
                        }
                        Quote::Escape => (bytes[at] == b'\'', 1),
                        Quote::Plain(byte) => (bytes[at] == *byte, 1),
                        Quote::Dollar(tag) => (line[at..].starts_with(tag.as_str()), tag.len()),
                        Quote::Comment => (bytes[at..].starts_with(b"*/"), 2),
                    };
                    if end {
                        self.inside = None;
                        len
                    } else {
                        char_len(line, at)
                    }
                }
                None if bytes[at..].starts_with(b"--") => break,
                None => {
                    if !bytes[at].is_ascii_whitespace() {
                        last = bytes[at];
                    }
                    self.open(line, at)
                }
            };
        }
        self.inside.is_none() && last == b';'
    }

    /// Enters a quote if one starts at `at`; returns how many bytes to skip.
    fn open(&mut self, line: &str, at: usize) -> usize {
        let bytes = line.as_bytes();
        match bytes[at] {
            b'\'' if is_escape_prefix(&bytes[..at]) => self.inside = Some(Quote::Escape),
            quote @ (b'\'' | b'"') => self.inside = Some(Quote::Plain(quote)),
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                self.inside = Some(Quote::Comment);
                return 2;
            }
            b'$' => {
                let tag = &line[at + 1..];
                let len = tag
                    .find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(tag.len());
                let digit = tag.starts_with(|c: char| c.is_ascii_digit());
                if tag[len..].starts_with('$') && !digit {
                    self.inside = Some(Quote::Dollar(format!("${}$", &tag[..len])));
                    return len + 2;
                }
            }
            _ => {}
        }
        char_len(line, at)
    }
}

/// Whether the text so far ends in a lone `E`.
fn is_escape_prefix(before: &[u8]) -> bool {
    match before {
        [.., other, b'e' | b'E'] => !other.is_ascii_alphanumeric() && *other != b'_',
        [b'e' | b'E'] => true,
        _ => false,
    }
}

fn char_len(line: &str, at: usize) -> usize {
    line[at..].chars().next().map_or(1, char::len_utf8)
}

/// Reads `(7, 'it''s', NULL::int8)` from the front of `rest`.
pub(super) fn parameters(rest: &mut &str) -> Result<Vec<ParameterText>, String> {
    let mut text = rest.strip_prefix('(').ok_or("@params needs (…)")?.trim_start();
    let mut list = Vec::new();
    while !text.starts_with(')') {
        let (value, tail) = one_value(text)?;
        let (type_name, tail) = match tail.strip_prefix("::") {
            Some(tail) => {
                let end = tail.find([',', ')']).ok_or("@params is not closed")?;
                (Some(tail[..end].trim().to_string()), &tail[end..])
            }
            None => (None, tail),
        };
        list.push(ParameterText { value, type_name });
        text = tail.trim_start();
        text = text.strip_prefix(',').unwrap_or(text).trim_start();
        if text.is_empty() {
            return Err("@params is not closed".to_string());
        }
    }
    *rest = text[1..].trim_start();
    Ok(list)
}

fn one_value(text: &str) -> Result<(Option<String>, &str), String> {
    if let Some(mut tail) = text.strip_prefix('\'') {
        let mut value = String::new();
        loop {
            let end = tail.find('\'').ok_or("a quote is not closed")?;
            value.push_str(&tail[..end]);
            tail = &tail[end + 1..];
            match tail.strip_prefix('\'') {
                Some(more) => {
                    value.push('\'');
                    tail = more;
                }
                None => return Ok((Some(value), tail)),
            }
        }
    }
    let end = text
        .find(|c: char| c == ',' || c == ')' || c == ':' || c.is_whitespace())
        .unwrap_or(text.len());
    let (word, tail) = text.split_at(end);
    let value = (!word.eq_ignore_ascii_case("null")).then(|| word.to_string());
    Ok((value, tail.trim_start()))
}
