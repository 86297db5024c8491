//! Line ends, quotes and the end marker of the text and CSV formats.

use super::{CopyError, Cut, Found};

/// How lines end; all must end like the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineEnd {
    Unknown,
    Newline,
    Return,
    ReturnNewline,
}

#[derive(Debug)]
pub(super) struct LineState {
    csv: Option<Quoting>,
    server_major: u16,
    line_end: LineEnd,
    /// How much of the current row was looked at; what is before it is not looked at again.
    scanned: usize,
    ended: bool,
}

#[derive(Debug)]
struct Quoting {
    quote: u8,
    /// `None` when it is the quote itself: a doubled quote then closes and opens, which comes to the same.
    escape: Option<u8>,
    in_quotes: bool,
    after_escape: bool,
}

/// What a `\.` turned out to be.
enum Marker {
    End,
    Data,
    More,
}

impl LineState {
    pub(super) fn text(server_major: u16) -> Self {
        LineState {
            csv: None,
            server_major,
            line_end: LineEnd::Unknown,
            scanned: 0,
            ended: false,
        }
    }

    pub(super) fn csv(quote: u8, escape: u8, server_major: u16) -> Self {
        let escape = Some(escape).filter(|e| *e != quote);
        let quoting = Quoting {
            quote,
            escape,
            in_quotes: false,
            after_escape: false,
        };
        LineState {
            csv: Some(quoting),
            ..Self::text(server_major)
        }
    }

    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Looks for the end of the row at the start of `rest`.
    pub(super) fn next(&mut self, rest: &[u8], finished: bool) -> Result<Found, CopyError> {
        if self.ended {
            return Ok(Found::Ended);
        }
        let found = if self.csv.is_some() {
            self.csv_row(rest, finished)
        } else {
            self.text_row(rest, finished)
        };
        if !matches!(found, Ok(Found::More)) {
            self.scanned = 0;
        }
        found
    }

    fn text_row(&mut self, rest: &[u8], finished: bool) -> Result<Found, CopyError> {
        loop {
            let Some(offset) = memchr::memchr3(b'\\', b'\n', b'\r', &rest[self.scanned..]) else {
                return Ok(self.at_buffer_end(rest, finished));
            };
            let at = self.scanned + offset;
            self.scanned = at;
            if rest[at] != b'\\' {
                return self.cut(rest, at, finished);
            }
            match rest.get(at + 1) {
                None if !finished => return Ok(Found::More),
                // A lone backslash at the very end stands for nothing. Left in, it would escape the line end
                // the row is sent on with.
                None => return Ok(self.last_row(at)),
                Some(b'.') => match self.marker(rest, at, finished)? {
                    Marker::More => return Ok(Found::More),
                    Marker::End if at == 0 => return Ok(self.end()),
                    Marker::End if self.server_major >= 18 => return Err(CopyError::MarkerNotAlone),
                    Marker::End => return Ok(self.last_row(at)),
                    Marker::Data => self.scanned = at + 2,
                },
                Some(_) => self.scanned = at + 2,
            }
        }
    }

    fn csv_row(&mut self, rest: &[u8], finished: bool) -> Result<Found, CopyError> {
        // A value may begin with `\.`, so only a whole line of it is the marker. From 18 on not even that.
        if self.scanned == 0 && self.server_major < 18 && rest.first() == Some(&b'\\') {
            match rest.get(1) {
                None if !finished => return Ok(Found::More),
                Some(b'.') => match self.marker(rest, 0, finished)? {
                    Marker::More => return Ok(Found::More),
                    Marker::End => return Ok(self.end()),
                    Marker::Data if rest.len() == 2 => return Err(CopyError::MarkerAsData),
                    Marker::Data => {}
                },
                _ => {}
            }
        }
        let end = self
            .csv
            .as_mut()
            .and_then(|quoting| quoting.line_end(rest, &mut self.scanned));
        match end {
            Some(at) => self.cut(rest, at, finished),
            None if finished && self.csv.as_ref().is_some_and(|q| q.in_quotes) => {
                Err(CopyError::UnterminatedQuote)
            }
            None => Ok(self.at_buffer_end(rest, finished)),
        }
    }

    /// A carriage return or newline at `at` ends the row, if it is the kind of line end this stream has.
    fn cut(&mut self, rest: &[u8], at: usize, finished: bool) -> Result<Found, CopyError> {
        let csv = self.csv.is_some();
        let returns = if csv {
            CopyError::UnquotedReturn
        } else {
            CopyError::LiteralReturn
        };
        let newlines = if csv {
            CopyError::UnquotedNewline
        } else {
            CopyError::LiteralNewline
        };
        let next = match (rest[at], self.line_end) {
            (b'\n', LineEnd::Return | LineEnd::ReturnNewline) => return Err(newlines),
            (b'\n', _) => {
                self.line_end = LineEnd::Newline;
                at + 1
            }
            (_, LineEnd::Newline) => return Err(returns),
            (_, LineEnd::Return) => at + 1,
            (_, LineEnd::Unknown | LineEnd::ReturnNewline) => match rest.get(at + 1) {
                None if !finished => return Ok(Found::More),
                Some(b'\n') => {
                    self.line_end = LineEnd::ReturnNewline;
                    at + 2
                }
                _ if self.line_end == LineEnd::ReturnNewline => return Err(returns),
                _ => {
                    self.line_end = LineEnd::Return;
                    at + 1
                }
            },
        };
        Ok(Found::Row(Cut { end: at, next }))
    }

    /// Looks at what follows the `\.` at `at`.
    fn marker(&mut self, rest: &[u8], at: usize, finished: bool) -> Result<Marker, CopyError> {
        // In CSV `\.` not alone in its line is a value, in text it is an error.
        let not_a_marker = |error| {
            if self.csv.is_some() {
                Ok(Marker::Data)
            } else {
                Err(error)
            }
        };
        let corrupt = if self.server_major < 18 {
            CopyError::MarkerCorrupt
        } else {
            CopyError::MarkerNotAlone
        };
        let mut after = at + 2;
        if self.line_end == LineEnd::ReturnNewline {
            match rest.get(after) {
                None if !finished => return Ok(Marker::More),
                Some(b'\n') => return not_a_marker(CopyError::MarkerStyle),
                Some(b'\r') => after += 1,
                _ => return not_a_marker(corrupt),
            }
        }
        let last = match rest.get(after) {
            None if !finished => return Ok(Marker::More),
            Some(last @ (b'\r' | b'\n')) => *last,
            _ => return not_a_marker(corrupt),
        };
        let matches = match self.line_end {
            LineEnd::Unknown => true,
            LineEnd::Newline | LineEnd::ReturnNewline => last == b'\n',
            LineEnd::Return => last == b'\r',
        };
        if matches {
            Ok(Marker::End)
        } else {
            Err(CopyError::MarkerStyle)
        }
    }

    /// No line end in sight: wait for more, or take what is left as the last row.
    fn at_buffer_end(&mut self, rest: &[u8], finished: bool) -> Found {
        self.scanned = rest.len();
        match rest.len() {
            _ if !finished => Found::More,
            0 => self.end(),
            len => self.last_row(len),
        }
    }

    /// The stream ends with a row of this length.
    pub(super) fn last_row(&mut self, end: usize) -> Found {
        self.ended = true;
        Found::LastRow(Cut { end, next: end })
    }

    fn end(&mut self) -> Found {
        self.ended = true;
        Found::Ended
    }
}

impl Quoting {
    /// The first line end outside quotes; moves `scanned` over what was looked at (not over the line end).
    fn line_end(&mut self, rest: &[u8], scanned: &mut usize) -> Option<usize> {
        loop {
            let tail = &rest[*scanned..];
            let found = match (self.in_quotes, self.escape) {
                (false, _) => memchr::memchr3(self.quote, b'\n', b'\r', tail),
                (true, None) => memchr::memchr(self.quote, tail),
                (true, Some(escape)) => memchr::memchr2(self.quote, escape, tail),
            };
            // An escape reaches no further than the next byte.
            self.after_escape &= found.unwrap_or(tail.len()) == 0;
            let at = *scanned + found?;
            let byte = rest[at];
            if !self.in_quotes && byte != self.quote {
                *scanned = at;
                return Some(at);
            }
            *scanned = at + 1;
            if self.in_quotes && Some(byte) == self.escape {
                self.after_escape = !self.after_escape;
            } else {
                if !self.after_escape {
                    self.in_quotes = !self.in_quotes;
                }
                self.after_escape = false;
            }
        }
    }
}
