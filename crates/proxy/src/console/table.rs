//! An answer of the console: columns with types, and rows of text.

use std::borrow::Cow;

use bytes::BytesMut;
use wire::FormatCode;
use wire::backend::{Column, encode};

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `text`.
    Text,
    /// `integer`.
    Int4,
    /// `bigint`.
    Int8,
    /// `numeric`.
    Numeric,
}

impl Kind {
    /// The type's OID and size in PostgreSQL.
    fn type_of(self) -> (u32, i16) {
        match self {
            Self::Text => (25, -1),
            Self::Int4 => (23, 4),
            Self::Int8 => (20, 8),
            Self::Numeric => (1700, -1),
        }
    }

    /// The value in the type's binary form. Numbers here are whole; one that does not fit its type is the nearest
    /// that does.
    fn binary(self, text: &str) -> Cow<'_, [u8]> {
        let number = || text.parse::<i128>().unwrap_or_default();
        match self {
            Self::Text => Cow::Borrowed(text.as_bytes()),
            Self::Int4 => {
                let number = number().clamp(i32::MIN.into(), i32::MAX.into()) as i32;
                Cow::Owned(number.to_be_bytes().to_vec())
            }
            Self::Int8 => {
                let number = number().clamp(i64::MIN.into(), i64::MAX.into()) as i64;
                Cow::Owned(number.to_be_bytes().to_vec())
            }
            Self::Numeric => Cow::Owned(binary_numeric(number())),
        }
    }
}

/// `numeric` in binary: number of digits, weight of the first, sign, decimals, then digits of base 10,000.
fn binary_numeric(number: i128) -> Vec<u8> {
    let mut rest = number.unsigned_abs();
    let mut digits = Vec::new();
    while rest > 0 {
        digits.push((rest % 10_000) as u16);
        rest /= 10_000;
    }
    let weight = digits.len().saturating_sub(1) as u16;
    let sign = if number < 0 { 0x4000 } else { 0 };
    let words = [digits.len() as u16, weight, sign, 0];
    let words = words.into_iter().chain(digits.into_iter().rev());
    words.flat_map(u16::to_be_bytes).collect()
}

/// A column: name and type.
pub(crate) type ColumnSpec = (&'static str, Kind);

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// NULL.
    Null,
    /// As PostgreSQL writes it.
    Text(String),
}

/// A table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) columns: Vec<ColumnSpec>,
    pub(crate) rows: Vec<Vec<Value>>,
}

impl Table {
    /// No rows yet.
    pub(crate) fn new(columns: &[ColumnSpec]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// One more row.
    pub(crate) fn push(&mut self, row: Vec<Value>) {
        debug_assert_eq!(row.len(), self.columns.len(), "{:?}", self.columns);
        self.rows.push(row);
    }

    /// Appends the row description and the rows, as text.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        self.encode_description(out, |_| FormatCode::Text);
        for row in 0..self.rows.len() {
            self.encode_row(out, row, |_| FormatCode::Text);
        }
    }

    /// Appends the row description.
    pub(crate) fn encode_description(&self, out: &mut BytesMut, format: impl Fn(usize) -> FormatCode) {
        let columns = self.columns.iter().enumerate().map(|(index, (name, kind))| {
            let (type_oid, typlen) = kind.type_of();
            Column {
                name: name.as_bytes(),
                table_oid: 0,
                attnum: 0,
                type_oid,
                typlen,
                typmod: -1,
                format: format(index),
            }
        });
        let _ = encode::row_description(out, columns);
    }

    /// Appends one row, if there is such a row.
    pub(crate) fn encode_row(&self, out: &mut BytesMut, row: usize, format: impl Fn(usize) -> FormatCode) {
        let Some(row) = self.rows.get(row) else { return };
        let cells = row.iter().zip(&self.columns).enumerate();
        let values: Vec<Option<Cow<'_, [u8]>>> = cells
            .map(|(index, (value, (_, kind)))| match value {
                Value::Null => None,
                Value::Text(text) if format(index) == FormatCode::Text => {
                    Some(Cow::Borrowed(text.as_bytes()))
                }
                Value::Text(text) => Some(kind.binary(text)),
            })
            .collect();
        // Too long for a message: no value here comes near.
        let _ = encode::data_row(out, values.iter().map(Option::as_deref));
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        // A zero byte would end the value early for readers in C.
        Self::Text(text.replace('\0', ""))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

macro_rules! numbers {
    ($($kind:ty),*) => { $(
        impl From<$kind> for Value {
            fn from(number: $kind) -> Self {
                Self::Text(number.to_string())
            }
        }
    )* };
}
numbers!(u16, u32, u64, u128, usize, i32, i64);

impl From<bool> for Value {
    /// 0 or 1, as PgBouncer shows flags.
    fn from(flag: bool) -> Self {
        Self::Text(u8::from(flag).to_string())
    }
}

/// A row from values of any kind.
macro_rules! row {
    ($($value:expr),* $(,)?) => { vec![$($crate::console::table::Value::from($value)),*] };
}
pub(super) use row;
