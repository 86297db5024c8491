//! COPY … TO STDOUT: rows as PostgreSQL writes them.
//!
//! Needed where the rows of a query come from several servers and no single one of them can write the stream. The rules are
//! those of PostgreSQL's `CopyOneRowTo`: what is escaped in text, what is quoted in CSV, the binary header and trailer.
//! Values come as their types' output (or binary send) functions made them.
//!
//! Text and CSV are escaped byte by byte, so values must be in an encoding whose multibyte characters contain no ASCII bytes.

use bytes::{BufMut, BytesMut};

use super::{CopyFormat, binary};
use crate::FormatCode;
use crate::backend::tag;

/// Writes rows as CopyData messages.
#[derive(Debug, Clone)]
pub struct RowWriter {
    format: CopyFormat,
    null: Vec<u8>,
    columns: usize,
    /// The binary header has been written.
    begun: bool,
    rows: u64,
}

impl RowWriter {
    /// Of rows with so many columns. `null` stands for NULL in text and CSV.
    pub fn new(format: CopyFormat, null: Vec<u8>, columns: usize) -> Self {
        RowWriter {
            format,
            null,
            columns,
            begun: false,
            rows: 0,
        }
    }

    /// The format that values must have.
    pub fn values(&self) -> FormatCode {
        match self.format {
            CopyFormat::Binary => FormatCode::Binary,
            _ => FormatCode::Text,
        }
    }

    /// Rows written, the header line not counted.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// CopyOutResponse.
    pub fn announce(&self, out: &mut BytesMut) {
        let code = u8::from(self.values() == FormatCode::Binary);
        message(out, tag::COPY_OUT, |out| {
            out.put_u8(code);
            let columns = u16::try_from(self.columns).unwrap_or(u16::MAX);
            out.put_u16(columns);
            for _ in 0..columns {
                out.put_u16(u16::from(code));
            }
        });
    }

    /// The line of column names; nothing in binary.
    pub fn names<'a>(&self, names: impl IntoIterator<Item = &'a [u8]>, out: &mut BytesMut) {
        if self.format == CopyFormat::Binary {
            return;
        }
        message(out, tag::COPY_DATA, |out| {
            for (at, name) in names.into_iter().enumerate() {
                self.separate(at, out);
                match &self.format {
                    CopyFormat::Csv { .. } => self.csv(name, out),
                    _ => self.text(name, out),
                }
            }
            out.put_u8(b'\n');
        });
    }

    /// One row.
    pub fn row<'a>(&mut self, values: impl IntoIterator<Item = Option<&'a [u8]>>, out: &mut BytesMut) {
        self.rows += 1;
        let begun = std::mem::replace(&mut self.begun, true);
        message(out, tag::COPY_DATA, |out| {
            if self.format == CopyFormat::Binary {
                if !begun {
                    out.extend_from_slice(binary::HEADER);
                }
                out.put_u16(u16::try_from(self.columns).unwrap_or(u16::MAX));
            }
            for (at, value) in values.into_iter().enumerate() {
                self.field(at, value, out);
            }
            if self.format != CopyFormat::Binary {
                out.put_u8(b'\n');
            }
        });
    }

    /// The binary trailer, and CopyDone.
    pub fn end(&mut self, out: &mut BytesMut) {
        if self.format == CopyFormat::Binary {
            let begun = std::mem::replace(&mut self.begun, true);
            message(out, tag::COPY_DATA, |out| {
                if !begun {
                    out.extend_from_slice(binary::HEADER);
                }
                out.extend_from_slice(binary::TRAILER);
            });
        }
        message(out, tag::COPY_DONE, |_| ());
    }

    fn field(&self, at: usize, value: Option<&[u8]>, out: &mut BytesMut) {
        if self.format == CopyFormat::Binary {
            match value {
                None => out.put_i32(-1),
                Some(value) => {
                    out.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
                    out.extend_from_slice(value);
                }
            }
            return;
        }
        self.separate(at, out);
        match (value, &self.format) {
            (None, _) => out.extend_from_slice(&self.null),
            (Some(value), CopyFormat::Csv { .. }) => self.csv(value, out),
            (Some(value), _) => self.text(value, out),
        }
    }

    fn separate(&self, at: usize, out: &mut BytesMut) {
        if let (1.., CopyFormat::Text { delimiter } | CopyFormat::Csv { delimiter, .. }) = (at, &self.format)
        {
            out.put_u8(*delimiter);
        }
    }

    fn text(&self, value: &[u8], out: &mut BytesMut) {
        let CopyFormat::Text { delimiter } = self.format else {
            return;
        };
        for byte in value {
            let letter = match byte {
                0x08 => b'b',
                0x0c => b'f',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0x0b => b'v',
                byte if *byte == b'\\' || *byte == delimiter => *byte,
                byte => {
                    out.put_u8(*byte);
                    continue;
                }
            };
            out.put_u8(b'\\');
            out.put_u8(letter);
        }
    }

    fn csv(&self, value: &[u8], out: &mut BytesMut) {
        let CopyFormat::Csv {
            delimiter,
            quote,
            escape,
        } = self.format
        else {
            return;
        };
        let special = |byte: &u8| [delimiter, quote, b'\n', b'\r'].contains(byte);
        // `\.` alone on a line would end the data.
        let ends = self.columns == 1 && value == b"\\.";
        if value != self.null && !ends && !value.iter().any(special) {
            out.extend_from_slice(value);
            return;
        }
        out.put_u8(quote);
        for byte in value {
            if *byte == quote || *byte == escape {
                out.put_u8(escape);
            }
            out.put_u8(*byte);
        }
        out.put_u8(quote);
    }
}

fn message(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let start = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
