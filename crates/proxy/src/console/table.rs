//! An answer of the console: columns with types, and rows of text.

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

    /// Appends the row description and the rows.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        self.encode_description(out);
        for row in &self.rows {
            let values = row.iter().map(|value| match value {
                Value::Null => None,
                Value::Text(text) => Some(text.as_bytes()),
            });
            // Too long for a message: no value here comes near.
            let _ = encode::data_row(out, values);
        }
    }

    fn encode_description(&self, out: &mut BytesMut) {
        let columns = self.columns.iter().map(|(name, kind)| {
            let (type_oid, typlen) = kind.type_of();
            Column {
                name: name.as_bytes(),
                table_oid: 0,
                attnum: 0,
                type_oid,
                typlen,
                typmod: -1,
                format: FormatCode::Text,
            }
        });
        let _ = encode::row_description(out, columns);
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
