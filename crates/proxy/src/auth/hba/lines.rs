//! Lines, fields and tokens of the file.
//!
//! A field ends at a blank; commas separate the tokens of one field. Quotes take away a word's special meaning and let
//! it hold blanks and commas; two quotes inside stand for one. A backslash at a line's end joins the next line.

/// A line, continuation lines included.
pub(super) struct Line {
    /// Number of its first line, from 1.
    pub(super) number: usize,
    text: String,
}

/// The tokens between two blanks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field(pub(super) Vec<Token>);

/// A word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    /// It began with a quote: never a keyword.
    pub(super) quoted: bool,
}

/// The lines of a text.
pub(super) fn split(text: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut joining = false;
    for (index, line) in text.lines().enumerate() {
        let (line, continues) = match line.strip_suffix('\\') {
            Some(line) => (line, true),
            None => (line, false),
        };
        match lines.last_mut() {
            Some(open) if joining => open.text.push_str(line),
            _ => lines.push(Line {
                number: index + 1,
                text: line.to_owned(),
            }),
        }
        joining = continues;
    }
    lines
}

impl Line {
    /// Its fields; none if it is empty or a comment.
    pub(super) fn fields(&self) -> Result<Vec<Field>, String> {
        let mut scanner = Scanner {
            rest: self.text.chars().peekable(),
        };
        let mut fields = Vec::new();
        let mut tokens = Vec::new();
        while let Some((token, more)) = scanner.token()? {
            tokens.push(token);
            if !more {
                fields.push(Field(std::mem::take(&mut tokens)));
            }
        }
        // A list may end in a comma.
        if !tokens.is_empty() {
            fields.push(Field(tokens));
        }
        Ok(fields)
    }
}

struct Scanner<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
}

impl Scanner<'_> {
    /// The next token, and whether a comma says that its field goes on. `None` at the line's end.
    fn token(&mut self) -> Result<Option<(Token, bool)>, String> {
        while self.rest.next_if(|c| is_blank(*c) || *c == ',').is_some() {}
        let quoted = self.rest.peek() == Some(&'"');
        let mut text = String::new();
        let mut in_quotes = false;
        let mut more = false;
        while let Some(c) = self.rest.next() {
            match c {
                '"' if in_quotes && self.rest.next_if_eq(&'"').is_some() => text.push('"'),
                '"' => in_quotes = !in_quotes,
                _ if in_quotes => text.push(c),
                '#' => {
                    self.rest.by_ref().for_each(drop);
                    break;
                }
                ',' => {
                    more = true;
                    break;
                }
                c if is_blank(c) => break,
                c => text.push(c),
            }
        }
        if in_quotes {
            return Err("a quote is not closed".to_owned());
        }
        if text.is_empty() && !quoted {
            return Ok(None);
        }
        Ok(Some((Token { text, quoted }, more)))
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r')
}

/// Text from the file for a message: short, and without control characters.
pub(super) fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    text.chars()
        .take(CHARS_MAX)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}
