//! COPY … FROM STDIN: cutting a stream into rows and reading the fields that decide where a row goes.
//!
//! The rules are PostgreSQL's own, byte for byte: what ends a line (and that line ends may not be mixed), the
//! end marker `\.`, quotes with newlines in them, the binary header and trailer. The splitter only cuts; what
//! is wrong *inside* a field is found by the server the row is sent to.
//!
//! Two duties of the caller:
//! - **Encoding.** PostgreSQL converts the stream before it looks for line ends. Bytes mean the same before and
//!   after only in encodings whose multibyte characters contain no ASCII bytes: UTF-8, LATINn, EUC; not SJIS,
//!   BIG5, GBK, GB18030, UHC, JOHAB.
//! - **Row ends.** Rows come without their line end. Send each followed by `\n` (text, CSV), or framed by
//!   [`binary::HEADER`] and [`binary::TRAILER`]: that means the same to the server whatever the client used.

pub mod binary;
mod field;
mod lines;
mod write;

pub use field::{Field, FieldRules, field};
pub use write::RowWriter;

use lines::LineState;

/// How the stream is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyFormat {
    /// Lines with backslash escapes.
    Text {
        /// `DELIMITER`, a tab by default.
        delimiter: u8,
    },
    /// Comma-separated values.
    Csv {
        /// `DELIMITER`, a comma by default.
        delimiter: u8,
        /// `QUOTE`, `"` by default.
        quote: u8,
        /// `ESCAPE`, the quote by default.
        escape: u8,
    },
    /// PostgreSQL's binary format.
    Binary,
}

/// The options of a COPY statement that matter for reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOptions {
    /// How the stream is written.
    pub format: CopyFormat,
    /// `NULL`: `\N` in text, empty in CSV by default. Unused in binary.
    pub null: Vec<u8>,
    /// `DEFAULT` (PostgreSQL 16): the text that stands for a column's default.
    pub default: Option<Vec<u8>>,
    /// The first line is a header (`HEADER true` or `HEADER MATCH`).
    pub header: bool,
    /// Major version of the servers. Before 18 `\.` ended CSV too, and could follow data in its line.
    pub server_major: u16,
    /// Longest row accepted, in bytes. PostgreSQL's own limit is 1 GB.
    pub row_max: usize,
}

/// [`CopyOptions::row_max`] unless configured: as much as the proxy will hold for one row.
pub const ROW_MAX_DEFAULT: usize = 64 << 20;

impl CopyOptions {
    /// Text format with PostgreSQL's defaults.
    pub fn text(server_major: u16) -> Self {
        Self::with(CopyFormat::Text { delimiter: b'\t' }, b"\\N", server_major)
    }

    /// CSV format with PostgreSQL's defaults.
    pub fn csv(server_major: u16) -> Self {
        Self::with(
            CopyFormat::Csv {
                delimiter: b',',
                quote: b'"',
                escape: b'"',
            },
            b"",
            server_major,
        )
    }

    /// Binary format.
    pub fn binary(server_major: u16) -> Self {
        Self::with(CopyFormat::Binary, b"", server_major)
    }

    fn with(format: CopyFormat, null: &[u8], server_major: u16) -> Self {
        let null = null.to_vec();
        CopyOptions {
            format,
            null,
            default: None,
            header: false,
            server_major,
            row_max: ROW_MAX_DEFAULT,
        }
    }
}

/// What is wrong with a stream. The texts and the SQLSTATE (`22P04` unless said otherwise) are PostgreSQL's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// A carriage return in a text stream with other line ends.
    #[error("literal carriage return found in data")]
    LiteralReturn,
    /// A carriage return outside quotes in a CSV stream with other line ends.
    #[error("unquoted carriage return found in data")]
    UnquotedReturn,
    /// A newline in a text stream with other line ends.
    #[error("literal newline found in data")]
    LiteralNewline,
    /// A newline outside quotes in a CSV stream with other line ends.
    #[error("unquoted newline found in data")]
    UnquotedNewline,
    /// `\.` followed by something else (up to PostgreSQL 17).
    #[error("end-of-copy marker corrupt")]
    MarkerCorrupt,
    /// `\.` followed by another line end than the lines before.
    #[error("end-of-copy marker does not match previous newline style")]
    MarkerStyle,
    /// `\.` with something else in its line (from PostgreSQL 18 on).
    #[error("end-of-copy marker is not alone on its line")]
    MarkerNotAlone,
    /// A CSV stream ends with `\.` without a line end: a value to PostgreSQL up to 17, but sent on with a line
    /// end it would become the end marker. Refused (`0A000`).
    #[error("end-of-copy marker without a line end")]
    MarkerAsData,
    /// The stream ends inside quotes.
    #[error("unterminated CSV quoted field")]
    UnterminatedQuote,
    /// No binary signature at the start.
    #[error("COPY file signature not recognized")]
    BadSignature,
    /// The header ends early or its length is negative.
    #[error("invalid COPY file header")]
    BadHeader,
    /// The header has flags that must be understood and are not.
    #[error("unrecognized critical flags in COPY file header")]
    CriticalFlags,
    /// The header announces OIDs.
    #[error("invalid COPY file header (WITH OIDS)")]
    WithOids,
    /// A negative number of fields other than the trailer.
    #[error("invalid row field count {0}")]
    FieldCount(i16),
    /// A negative field size other than NULL.
    #[error("invalid field size")]
    FieldSize,
    /// The stream ends inside a row.
    #[error("unexpected EOF in COPY data")]
    UnexpectedEnd,
    /// Data after the binary trailer.
    #[error("received copy data after EOF marker")]
    AfterTrailer,
    /// A row longer than [`CopyOptions::row_max`] (`54000`).
    #[error("COPY row is longer than {limit} bytes")]
    RowTooLong {
        /// The limit, in bytes.
        limit: usize,
    },
}

impl CopyError {
    /// The SQLSTATE it is reported with.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            CopyError::MarkerAsData => "0A000",
            CopyError::RowTooLong { .. } => "54000",
            _ => "22P04",
        }
    }
}

/// One row of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// Its bytes: a line without its line end, or a binary tuple from its field count on.
    pub bytes: &'a [u8],
    /// It is the header line: to be dropped, or to be sent to every server that shall check it.
    pub header: bool,
}

/// Cuts a stream into rows, wherever it is cut into chunks.
///
/// [`Splitter::feed`] each chunk, then take rows until `None`; after [`Splitter::finish`] the last rows come.
/// Holds at most one incomplete row and the last chunk.
#[derive(Debug)]
pub struct Splitter {
    buf: Buffer,
    parser: Parser,
    header: bool,
    row_max: usize,
}

#[derive(Debug)]
enum Parser {
    Lines(LineState),
    Binary(binary::BinaryState),
}

/// The bytes not handed out yet.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Where the current row starts.
    start: usize,
    /// Nothing follows `bytes`.
    finished: bool,
}

/// A row found in the buffer, as offsets from its start: the row ends at `end`, the next begins at `next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    end: usize,
    next: usize,
}

/// What a parser found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Row(Cut),
    /// The rest of the stream carries no rows and is dropped.
    Ended,
    /// A row before the end.
    LastRow(Cut),
    /// The row is not complete.
    More,
    /// These bytes are no row (the binary header).
    Skip(usize),
}

impl Splitter {
    /// A splitter at the start of a stream.
    pub fn new(options: &CopyOptions) -> Self {
        let parser = match options.format {
            CopyFormat::Text { .. } => Parser::Lines(LineState::text(options.server_major)),
            CopyFormat::Csv { quote, escape, .. } => {
                Parser::Lines(LineState::csv(quote, escape, options.server_major))
            }
            CopyFormat::Binary => Parser::Binary(binary::BinaryState::default()),
        };
        let header = options.header && options.format != CopyFormat::Binary;
        Splitter {
            buf: Buffer::default(),
            parser,
            header,
            row_max: options.row_max,
        }
    }

    /// The body of the next CopyData.
    pub fn feed(&mut self, data: &[u8]) {
        if self.parser.ended() && matches!(self.parser, Parser::Lines(_)) {
            return; // everything after the end marker is ignored
        }
        if self.buf.start > 0 {
            self.buf.bytes.drain(..self.buf.start);
            self.buf.start = 0;
        }
        self.buf.bytes.extend_from_slice(data);
    }

    /// The stream is complete (CopyDone).
    pub fn finish(&mut self) {
        self.buf.finished = true;
    }

    /// Bytes held.
    pub fn buffered_bytes(&self) -> usize {
        self.buf.bytes.len() - self.buf.start
    }

    /// The next complete row; `None` until more is fed, or at the end after [`Splitter::finish`]. After an
    /// error the stream must be given up.
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>, CopyError> {
        loop {
            let rest = &self.buf.bytes[self.buf.start..];
            let found = match &mut self.parser {
                Parser::Lines(state) => match state.next(rest, self.buf.finished) {
                    // PostgreSQL drops a header without looking at its quotes.
                    Err(CopyError::UnterminatedQuote) if self.header => state.last_row(rest.len()),
                    found => found?,
                },
                Parser::Binary(state) => state.next(rest, self.buf.finished, self.row_max)?,
            };
            let cut = match found {
                Found::Row(cut) | Found::LastRow(cut) => cut,
                Found::Skip(len) => {
                    self.buf.start += len;
                    continue;
                }
                Found::Ended => {
                    self.buf.start = self.buf.bytes.len();
                    return Ok(None);
                }
                Found::More if rest.len() > self.row_max => return Err(self.too_long()),
                Found::More => return Ok(None),
            };
            if cut.end > self.row_max {
                return Err(self.too_long());
            }
            let start = self.buf.start;
            self.buf.start = if matches!(found, Found::LastRow(_)) {
                self.buf.bytes.len()
            } else {
                start + cut.next
            };
            let header = std::mem::take(&mut self.header);
            return Ok(Some(Row {
                bytes: &self.buf.bytes[start..start + cut.end],
                header,
            }));
        }
    }

    fn too_long(&self) -> CopyError {
        CopyError::RowTooLong { limit: self.row_max }
    }
}

impl Parser {
    fn ended(&self) -> bool {
        match self {
            Parser::Lines(state) => state.ended(),
            Parser::Binary(state) => state.ended(),
        }
    }
}

#[cfg(test)]
mod tests;
