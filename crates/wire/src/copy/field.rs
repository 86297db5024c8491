//! Reading one field of a row.

use super::{CopyError, CopyFormat, CopyOptions};
use std::borrow::Cow;

/// One field of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field<'a> {
    /// NULL.
    Null,
    /// The column's default is asked for (`DEFAULT` option).
    Default,
    /// The value: unescaped text (text, CSV) or the type's binary form.
    Value(Cow<'a, [u8]>),
}

/// `FORCE_NOT_NULL` and `FORCE_NULL` as they apply to one column; CSV only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FieldRules {
    /// The NULL text is a value.
    pub force_not_null: bool,
    /// The NULL text is NULL even in quotes.
    pub force_null: bool,
}

/// Field `index` (from 0) of a row cut by [`super::Splitter`]; `None` if the row has fewer.
pub fn field<'a>(
    options: &CopyOptions,
    rules: FieldRules,
    row: &'a [u8],
    index: usize,
) -> Result<Option<Field<'a>>, CopyError> {
    match options.format {
        CopyFormat::Text { delimiter } => Ok(text_field(options, delimiter, row, index)),
        CopyFormat::Csv {
            delimiter,
            quote,
            escape,
        } => {
            let Some(mut value) = csv_field([delimiter, quote, escape], row, index)? else {
                return Ok(None);
            };
            Ok(Some(value.interpret(options, rules)))
        }
        CopyFormat::Binary => binary_field(row, index),
    }
}

fn text_field<'a>(options: &CopyOptions, delimiter: u8, row: &'a [u8], index: usize) -> Option<Field<'a>> {
    let mut rest = row;
    for _ in 0..index {
        rest = &rest[raw_end(delimiter, rest).filter(|end| *end < rest.len())? + 1..];
    }
    let raw = &rest[..raw_end(delimiter, rest).unwrap_or(rest.len())];
    // Both compare what stands in the line, not what it means.
    Some(if options.default.as_deref() == Some(raw) {
        Field::Default
    } else if raw == options.null {
        Field::Null
    } else {
        Field::Value(unescape(raw))
    })
}

/// Where the field at the start of `rest` ends: at a delimiter that is not escaped; `None` = not in this row.
fn raw_end(delimiter: u8, rest: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(delimiter, b'\\', rest.get(at..)?)?;
        if rest[at] == delimiter {
            return Some(at);
        }
        at += 2;
    }
}

fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'\\', raw) else {
        return Cow::Borrowed(raw);
    };
    let mut out = raw[..first].to_vec();
    let mut rest = &raw[first..];
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some((&escaped, tail)) = rest.split_first() else {
            break; // a lone backslash at the end stands for nothing
        };
        rest = tail;
        let digits = |radix: u32, most: usize| {
            tail.iter()
                .take(most)
                .take_while(|b| char::from(**b).is_digit(radix))
                .count()
        };
        let number = |text: &[u8], radix: u32| {
            text.iter().fold(0u32, |n, b| {
                n * radix + char::from(*b).to_digit(radix).unwrap_or(0)
            }) as u8
        };
        out.push(match escaped {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            b'0'..=b'7' => {
                let more = digits(8, 2);
                rest = &tail[more..];
                // Three digits can exceed a byte; PostgreSQL keeps the low one.
                number(&tail[..more], 8)
                    .wrapping_add((escaped - b'0').wrapping_mul(8u8.wrapping_pow(more as u32)))
            }
            b'x' if digits(16, 2) > 0 => {
                let more = digits(16, 2);
                rest = &tail[more..];
                number(&tail[..more], 16)
            }
            other => other,
        });
    }
    Cow::Owned(out)
}

/// A CSV field before NULL and DEFAULT are looked for.
struct CsvField<'a> {
    value: Cow<'a, [u8]>,
    quoted: bool,
}

impl<'a> CsvField<'a> {
    fn interpret(&mut self, options: &CopyOptions, rules: FieldRules) -> Field<'a> {
        let is = |text: &[u8]| *self.value == *text;
        if !self.quoted && options.default.as_deref().is_some_and(is) {
            return Field::Default;
        }
        // A forced value compares as text, quoted or not.
        let null = match self.quoted {
            false => is(&options.null) && !rules.force_not_null,
            true => is(&options.null) && rules.force_null,
        };
        if null {
            Field::Null
        } else {
            Field::Value(std::mem::take(&mut self.value))
        }
    }
}

fn csv_field<'a>(
    [delimiter, quote, escape]: [u8; 3],
    row: &'a [u8],
    index: usize,
) -> Result<Option<CsvField<'a>>, CopyError> {
    let mut at = 0;
    for _ in 0..index {
        at = csv_field_end([delimiter, quote, escape], row, at, None)?;
        if at >= row.len() {
            return Ok(None);
        }
        at += 1;
    }
    let mut out = Vec::new();
    let end = csv_field_end([delimiter, quote, escape], row, at, Some(&mut out))?;
    let raw = &row[at..end];
    let quoted = memchr::memchr(quote, raw).is_some();
    let value = if quoted {
        Cow::Owned(out)
    } else {
        Cow::Borrowed(raw)
    };
    Ok(Some(CsvField { value, quoted }))
}

/// Where the field that starts at `at` ends; its meaning is appended to `out`.
fn csv_field_end(
    [delimiter, quote, escape]: [u8; 3],
    row: &[u8],
    mut at: usize,
    mut out: Option<&mut Vec<u8>>,
) -> Result<usize, CopyError> {
    let mut in_quotes = false;
    while let Some(&byte) = row.get(at) {
        let mut value = Some(byte);
        if !in_quotes {
            if byte == delimiter {
                return Ok(at);
            }
            if byte == quote {
                in_quotes = true;
                value = None;
            }
        } else if let (true, Some(&next)) = (
            byte == escape,
            row.get(at + 1).filter(|n| **n == escape || **n == quote),
        ) {
            at += 1;
            value = Some(next);
        } else if byte == quote {
            in_quotes = false;
            value = None;
        }
        if let (Some(value), Some(out)) = (value, out.as_deref_mut()) {
            out.push(value);
        }
        at += 1;
    }
    if in_quotes {
        Err(CopyError::UnterminatedQuote)
    } else {
        Ok(at)
    }
}

fn binary_field(row: &[u8], index: usize) -> Result<Option<Field<'_>>, CopyError> {
    let (count, mut rest) = row.split_first_chunk::<2>().ok_or(CopyError::UnexpectedEnd)?;
    if index >= usize::from(u16::from_be_bytes(*count)) {
        return Ok(None);
    }
    for at in 0..=index {
        let (size, tail) = rest.split_first_chunk::<4>().ok_or(CopyError::UnexpectedEnd)?;
        let size = match i32::from_be_bytes(*size) {
            -1 => None,
            size => Some(usize::try_from(size).map_err(|_| CopyError::FieldSize)?),
        };
        let (value, tail) = tail
            .split_at_checked(size.unwrap_or(0))
            .ok_or(CopyError::UnexpectedEnd)?;
        if at == index {
            return Ok(Some(
                size.map_or(Field::Null, |_| Field::Value(Cow::Borrowed(value))),
            ));
        }
        rest = tail;
    }
    Ok(None)
}
