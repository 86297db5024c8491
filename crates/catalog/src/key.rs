//! Sharding key types and values.

use crate::{Oid, hash};

mod datetime;
mod numeric;
mod parse;
mod shape;
mod sql;
mod step;
#[cfg(test)]
mod tests;

pub use numeric::Numeric;
pub use shape::{KEY_COLUMNS_MAX, KeyShape, ShapeError, record_fields, record_text};
pub(crate) use sql::{columns_hash_sql, columns_order_sql};
pub use sql::{hash_sql, key_literal_sql, literal_sql, record_hash_sql};
pub use step::KeyStep;

/// The pseudo-type that stands for every enum.
const ANYENUM: Oid = Oid(3500);

/// The type of a sharding key column. Domains are resolved to their base type first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `text`
    Text,
    /// `character varying`, any length
    Varchar,
    /// `character`, any length: trailing blanks mean nothing
    Bpchar,
    /// `uuid`
    Uuid,
    /// `boolean`
    Bool,
    /// `date`
    Date,
    /// `timestamp without time zone`
    Timestamp,
    /// `timestamp with time zone`
    Timestamptz,
    /// `bytea`
    Bytea,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `numeric`
    Numeric,
    /// Any enum. Its values' OIDs differ from server to server, so a value is its label.
    Enum,
}

/// Values of which types compare equal, and hash equal, across types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyFamily {
    /// int2, int4, int8
    Integer,
    /// text, varchar
    Text,
    /// character: comparing it with text goes through a cast, so it is a family of its own
    Bpchar,
    /// uuid
    Uuid,
    /// boolean
    Bool,
    /// date
    Date,
    /// timestamp
    Timestamp,
    /// timestamptz: comparing it with a timestamp depends on the time zone
    Timestamptz,
    /// bytea
    Bytea,
    /// float4, float8
    Float,
    /// numeric
    Numeric,
    /// An enum; two enums compare only when they are the same type.
    Enum,
}

/// A column of a sharding key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyColumn {
    /// Column number (`pg_attribute.attnum`) on the home shard.
    pub attnum: i16,
    /// Its type, domains resolved.
    pub key_type: KeyType,
}

/// A value of a sharding key column, or of a key of several columns, in the one form in which equal values are equal bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyValue {
    /// SQL NULL. It has a fixed place: see [`NULL_KEY_HASH`](crate::NULL_KEY_HASH).
    Null,
    /// Any integer key.
    Int(i64),
    /// text and varchar as they are; character with its trailing blanks removed; an enum's label. Always UTF-8.
    Text(Box<[u8]>),
    /// The 16 bytes of a uuid.
    Uuid([u8; 16]),
    /// boolean
    Bool(bool),
    /// Days since 2000-01-01; the lowest and highest number are the infinities.
    Date(i32),
    /// Microseconds since 2000-01-01, in UTC for a timestamptz; the lowest and highest number are the infinities.
    Time(i64),
    /// The bits of a float8, with one zero and one NaN.
    Float(u64),
    /// numeric
    Numeric(Box<Numeric>),
    /// bytea
    Bytes(Box<[u8]>),
    /// The values of a key of several columns, in the order of the key; never records themselves.
    Record(Box<[KeyValue]>),
}

/// A [`KeyValue`] that belongs to somebody else. The order is that of the type in PostgreSQL for the families with
/// [`KeyFamily::has_order`], text by its bytes (`COLLATE "C"`); NULL comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyRef<'a> {
    /// See [`KeyValue::Null`].
    Null,
    /// See [`KeyValue::Int`].
    Int(i64),
    /// See [`KeyValue::Text`].
    Text(&'a [u8]),
    /// See [`KeyValue::Uuid`].
    Uuid(&'a [u8; 16]),
    /// See [`KeyValue::Bool`].
    Bool(bool),
    /// See [`KeyValue::Date`].
    Date(i32),
    /// See [`KeyValue::Time`].
    Time(i64),
    /// See [`KeyValue::Float`].
    Float(u64),
    /// See [`KeyValue::Numeric`].
    Numeric(&'a Numeric),
    /// See [`KeyValue::Bytes`].
    Bytes(&'a [u8]),
    /// See [`KeyValue::Record`].
    Record(&'a [KeyValue]),
}

/// Why bytes are not taken as a key value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Possibly a valid value, but not in the form PostgreSQL itself prints: a server has to read it.
    #[error("key value is not in canonical form")]
    NotCanonical,
    /// No column of this type can hold the value.
    #[error("key value is out of range for its type")]
    OutOfRange,
    /// The bytes are not a value of this type in this format.
    #[error("key value is malformed")]
    Malformed,
}

impl KeyType {
    /// All of them.
    pub const ALL: [KeyType; 16] = [
        KeyType::Int2,
        KeyType::Int4,
        KeyType::Int8,
        KeyType::Text,
        KeyType::Varchar,
        KeyType::Bpchar,
        KeyType::Uuid,
        KeyType::Bool,
        KeyType::Date,
        KeyType::Timestamp,
        KeyType::Timestamptz,
        KeyType::Bytea,
        KeyType::Float4,
        KeyType::Float8,
        KeyType::Numeric,
        KeyType::Enum,
    ];

    /// The type of this [`KeyType::name`].
    pub fn named(name: &str) -> Option<KeyType> {
        KeyType::ALL.into_iter().find(|known| known.name() == name)
    }

    /// The key type of a *base* type (resolve domains with [`Snapshot::base_type`](crate::Snapshot::base_type)). An enum's
    /// OID is its own: see [`Snapshot::key_type`](crate::Snapshot::key_type).
    pub fn from_base_oid(oid: Oid) -> Option<KeyType> {
        KeyType::ALL
            .into_iter()
            .find(|known| *known != KeyType::Enum && known.oid() == oid)
    }

    /// The key type that an operator with this declared operand type compares; `anyenum` stands for every enum.
    pub fn of_operand(oid: Oid) -> Option<KeyType> {
        match oid {
            ANYENUM => Some(KeyType::Enum),
            oid => KeyType::from_base_oid(oid),
        }
    }

    /// The declared operand type of operators that compare this type: varchar compares through text, enums through
    /// `anyenum`.
    pub fn operand(self) -> Oid {
        match self {
            KeyType::Varchar => KeyType::Text.oid(),
            KeyType::Enum => ANYENUM,
            other => other.oid(),
        }
    }

    /// OID of the type, the same on every server; [`Oid::INVALID`] for an enum.
    pub fn oid(self) -> Oid {
        Oid(match self {
            KeyType::Int2 => 21,
            KeyType::Int4 => 23,
            KeyType::Int8 => 20,
            KeyType::Text => 25,
            KeyType::Varchar => 1043,
            KeyType::Bpchar => 1042,
            KeyType::Uuid => 2950,
            KeyType::Bool => 16,
            KeyType::Date => 1082,
            KeyType::Timestamp => 1114,
            KeyType::Timestamptz => 1184,
            KeyType::Bytea => 17,
            KeyType::Float4 => 700,
            KeyType::Float8 => 701,
            KeyType::Numeric => 1700,
            KeyType::Enum => return Oid::INVALID,
        })
    }

    /// Name of the type in `pg_catalog`; `enum` for any enum.
    pub fn name(self) -> &'static str {
        match self {
            KeyType::Int2 => "int2",
            KeyType::Int4 => "int4",
            KeyType::Int8 => "int8",
            KeyType::Text => "text",
            KeyType::Varchar => "varchar",
            KeyType::Bpchar => "bpchar",
            KeyType::Uuid => "uuid",
            KeyType::Bool => "bool",
            KeyType::Date => "date",
            KeyType::Timestamp => "timestamp",
            KeyType::Timestamptz => "timestamptz",
            KeyType::Bytea => "bytea",
            KeyType::Float4 => "float4",
            KeyType::Float8 => "float8",
            KeyType::Numeric => "numeric",
            KeyType::Enum => "enum",
        }
    }

    /// Types of one family may share a shard map: equal values are placed equally.
    pub fn family(self) -> KeyFamily {
        match self {
            KeyType::Int2 | KeyType::Int4 | KeyType::Int8 => KeyFamily::Integer,
            KeyType::Text | KeyType::Varchar => KeyFamily::Text,
            KeyType::Bpchar => KeyFamily::Bpchar,
            KeyType::Uuid => KeyFamily::Uuid,
            KeyType::Bool => KeyFamily::Bool,
            KeyType::Date => KeyFamily::Date,
            KeyType::Timestamp => KeyFamily::Timestamp,
            KeyType::Timestamptz => KeyFamily::Timestamptz,
            KeyType::Bytea => KeyFamily::Bytea,
            KeyType::Float4 | KeyType::Float8 => KeyFamily::Float,
            KeyType::Numeric => KeyFamily::Numeric,
            KeyType::Enum => KeyFamily::Enum,
        }
    }

    /// A value in PostgreSQL's binary format (a Bind parameter, a binary COPY field).
    pub fn from_binary(self, bytes: &[u8]) -> Result<KeyValue, KeyError> {
        parse::from_binary(self, bytes)
    }

    /// A value in text format, given in UTF-8.
    ///
    /// Only canonical forms: what PostgreSQL would print for the value. `007`, ` 7`, `+7`, an uppercase uuid
    /// are [`KeyError::NotCanonical`]. Length limits of varchar(n) and character(n) are not known here.
    pub fn from_text(self, bytes: &[u8]) -> Result<KeyValue, KeyError> {
        parse::from_text(self, bytes)
    }

    /// The value of a non-null Const node of this type, from the bytes which `nodeToString` prints between
    /// brackets after `:constvalue`.
    ///
    /// Servers are little-endian and 64-bit: pass-by-value types are 8 bytes, text is a varlena with a 4-byte
    /// (`length << 2`) or 1-byte (`length << 1 | 1`) header, uuid is 16 bytes. Compressed or external varlenas
    /// are [`KeyError::NotCanonical`].
    pub fn from_datum(self, bytes: &[u8]) -> Result<KeyValue, KeyError> {
        parse::from_datum(self, bytes)
    }

    /// An integer known from elsewhere, checked against the range of this type.
    pub fn from_i64(self, value: i64) -> Result<KeyValue, KeyError> {
        parse::from_i64(self, value)
    }

    /// Brings a value of a type of the same family into the form of this one (integers are range checked).
    pub fn coerce(self, value: &KeyValue) -> Result<KeyValue, KeyError> {
        match (self.family(), value) {
            (_, KeyValue::Null) => Ok(KeyValue::Null),
            (KeyFamily::Integer, KeyValue::Int(i)) => parse::from_i64(self, *i),
            (KeyFamily::Bpchar, KeyValue::Text(t)) => Ok(KeyValue::Text(parse::strip_blanks(t).into())),
            (KeyFamily::Text | KeyFamily::Enum, KeyValue::Text(_))
            | (KeyFamily::Uuid, KeyValue::Uuid(_))
            | (KeyFamily::Bool, KeyValue::Bool(_))
            | (KeyFamily::Date, KeyValue::Date(_))
            | (KeyFamily::Timestamp | KeyFamily::Timestamptz, KeyValue::Time(_))
            | (KeyFamily::Bytea, KeyValue::Bytes(_))
            | (KeyFamily::Float, KeyValue::Float(_))
            | (KeyFamily::Numeric, KeyValue::Numeric(_)) => Ok(value.clone()),
            _ => Err(KeyError::Malformed),
        }
    }
}

impl KeyFamily {
    /// Whether [`KeyRef`]s of the family are ordered as PostgreSQL orders the type, text by its bytes: whether keys can be
    /// placed by `range`.
    pub fn has_order(self) -> bool {
        !matches!(
            self,
            KeyFamily::Float | KeyFamily::Numeric | KeyFamily::Enum | KeyFamily::Bool
        )
    }

    /// The type in which any value of the family can be written.
    pub fn widest(self) -> KeyType {
        match self {
            KeyFamily::Integer => KeyType::Int8,
            KeyFamily::Text => KeyType::Text,
            KeyFamily::Bpchar => KeyType::Bpchar,
            KeyFamily::Uuid => KeyType::Uuid,
            KeyFamily::Bool => KeyType::Bool,
            KeyFamily::Date => KeyType::Date,
            KeyFamily::Timestamp => KeyType::Timestamp,
            KeyFamily::Timestamptz => KeyType::Timestamptz,
            KeyFamily::Bytea => KeyType::Bytea,
            KeyFamily::Float => KeyType::Float8,
            KeyFamily::Numeric => KeyType::Numeric,
            KeyFamily::Enum => KeyType::Enum,
        }
    }
}

impl KeyValue {
    /// The same value, borrowed.
    #[inline]
    pub fn borrowed(&self) -> KeyRef<'_> {
        match self {
            KeyValue::Null => KeyRef::Null,
            KeyValue::Int(i) => KeyRef::Int(*i),
            KeyValue::Text(t) => KeyRef::Text(t),
            KeyValue::Uuid(u) => KeyRef::Uuid(u),
            KeyValue::Bool(b) => KeyRef::Bool(*b),
            KeyValue::Date(d) => KeyRef::Date(*d),
            KeyValue::Time(t) => KeyRef::Time(*t),
            KeyValue::Float(f) => KeyRef::Float(*f),
            KeyValue::Numeric(n) => KeyRef::Numeric(n),
            KeyValue::Bytes(b) => KeyRef::Bytes(b),
            KeyValue::Record(values) => KeyRef::Record(values),
        }
    }

    /// The value of a key with these columns: the only one itself, or the record of several.
    pub fn of_columns(mut values: Vec<KeyValue>) -> KeyValue {
        match values.len() {
            1 => values.swap_remove(0),
            _ => KeyValue::Record(values.into()),
        }
    }

    /// The values of the columns: one, or those of a record.
    pub fn columns(&self) -> &[KeyValue] {
        match self {
            KeyValue::Record(values) => values,
            one => std::slice::from_ref(one),
        }
    }

    /// Whether a column is NULL: no comparison by `=` is true of it.
    #[inline]
    pub fn has_null(&self) -> bool {
        match self {
            KeyValue::Null => true,
            KeyValue::Record(values) => values.contains(&KeyValue::Null),
            _ => false,
        }
    }

    /// Where the value is in the hash space. [`hash_sql`] computes the same on a server.
    #[inline]
    pub fn hash(&self) -> i64 {
        self.borrowed().hash()
    }
}

impl KeyRef<'_> {
    /// The same value, owned.
    pub fn to_value(self) -> KeyValue {
        match self {
            KeyRef::Null => KeyValue::Null,
            KeyRef::Int(i) => KeyValue::Int(i),
            KeyRef::Text(t) => KeyValue::Text(t.into()),
            KeyRef::Uuid(u) => KeyValue::Uuid(*u),
            KeyRef::Bool(b) => KeyValue::Bool(b),
            KeyRef::Date(d) => KeyValue::Date(d),
            KeyRef::Time(t) => KeyValue::Time(t),
            KeyRef::Float(f) => KeyValue::Float(f),
            KeyRef::Numeric(n) => KeyValue::Numeric(Box::new(n.clone())),
            KeyRef::Bytes(b) => KeyValue::Bytes(b.into()),
            KeyRef::Record(values) => KeyValue::Record(values.into()),
        }
    }

    /// As [`KeyValue::hash`].
    #[inline]
    pub fn hash(self) -> i64 {
        match self {
            KeyRef::Null => crate::NULL_KEY_HASH,
            KeyRef::Int(i) | KeyRef::Time(i) => hash::int8(i),
            KeyRef::Text(t) | KeyRef::Bytes(t) => hash::bytes(t),
            KeyRef::Uuid(u) => hash::bytes(u),
            KeyRef::Bool(b) => hash::uint32(b.into()),
            KeyRef::Date(d) => hash::uint32(d as u32),
            KeyRef::Float(bits) => hash::float8(bits),
            KeyRef::Numeric(n) => n.hash(),
            KeyRef::Record(values) => hash_of_columns(values),
        }
    }
}

/// Not inlined into the hash of a single column, which is what a key usually is.
fn hash_of_columns(values: &[KeyValue]) -> i64 {
    record_hash(values.iter().map(KeyValue::borrowed))
}

/// Where a key of several columns is in the hash space; [`record_hash_sql`] computes the same on a server. With a single
/// column it is that column's own hash.
pub fn record_hash<'a>(values: impl IntoIterator<Item = KeyRef<'a>>) -> i64 {
    values.into_iter().fold(0_i64, |hash, value| {
        hash.wrapping_mul(31).wrapping_add(value.hash())
    })
}
