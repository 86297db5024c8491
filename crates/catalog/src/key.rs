//! Sharding key types and values.

use crate::{Oid, hash};

mod parse;
#[cfg(test)]
mod tests;

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
}

/// A column of a sharding key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyColumn {
    /// Column number (`pg_attribute.attnum`) on the home shard.
    pub attnum: i16,
    /// Its type, domains resolved.
    pub key_type: KeyType,
}

/// A value of a sharding key column, in the one form in which equal values are equal bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyValue {
    /// SQL NULL. It has a fixed place: see [`NULL_KEY_HASH`](crate::NULL_KEY_HASH).
    Null,
    /// Any integer key.
    Int(i64),
    /// text and varchar as they are; character with its trailing blanks removed. Always UTF-8.
    Text(Box<[u8]>),
    /// The 16 bytes of a uuid.
    Uuid([u8; 16]),
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
    /// The key type of a *base* type (resolve domains with [`Snapshot::base_type`](crate::Snapshot::base_type)).
    pub fn from_base_oid(oid: Oid) -> Option<KeyType> {
        Some(match oid.0 {
            21 => KeyType::Int2,
            23 => KeyType::Int4,
            20 => KeyType::Int8,
            25 => KeyType::Text,
            1043 => KeyType::Varchar,
            1042 => KeyType::Bpchar,
            2950 => KeyType::Uuid,
            _ => return None,
        })
    }

    /// OID of the type, the same on every server.
    pub fn oid(self) -> Oid {
        Oid(match self {
            KeyType::Int2 => 21,
            KeyType::Int4 => 23,
            KeyType::Int8 => 20,
            KeyType::Text => 25,
            KeyType::Varchar => 1043,
            KeyType::Bpchar => 1042,
            KeyType::Uuid => 2950,
        })
    }

    /// Name of the type in `pg_catalog`.
    pub fn name(self) -> &'static str {
        match self {
            KeyType::Int2 => "int2",
            KeyType::Int4 => "int4",
            KeyType::Int8 => "int8",
            KeyType::Text => "text",
            KeyType::Varchar => "varchar",
            KeyType::Bpchar => "bpchar",
            KeyType::Uuid => "uuid",
        }
    }

    /// Types of one family may share a shard map: equal values are placed equally.
    pub fn family(self) -> KeyFamily {
        match self {
            KeyType::Int2 | KeyType::Int4 | KeyType::Int8 => KeyFamily::Integer,
            KeyType::Text | KeyType::Varchar => KeyFamily::Text,
            KeyType::Bpchar => KeyFamily::Bpchar,
            KeyType::Uuid => KeyFamily::Uuid,
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
            (KeyFamily::Text, KeyValue::Text(_)) | (KeyFamily::Uuid, KeyValue::Uuid(_)) => Ok(value.clone()),
            (KeyFamily::Bpchar, KeyValue::Text(t)) => Ok(KeyValue::Text(parse::strip_blanks(t).into())),
            _ => Err(KeyError::Malformed),
        }
    }
}

impl KeyValue {
    /// Where the value is in the hash space. [`hash_sql`] computes the same on a server.
    pub fn hash(&self) -> i64 {
        match self {
            KeyValue::Null => crate::NULL_KEY_HASH,
            KeyValue::Int(i) => hash::int8(*i),
            KeyValue::Text(t) => hash::bytes(t),
            KeyValue::Uuid(u) => hash::bytes(u),
        }
    }
}

/// SQL text of the hash of a key column, so that a filter on a server agrees with [`KeyValue::hash`].
///
/// `column_expr` is SQL text (a quoted column name, possibly qualified). The expression is never NULL, is
/// immutable, independent of `search_path`, and accepted in publication row filters.
pub fn hash_sql(key_type: KeyType, column_expr: &str) -> String {
    let inner = match key_type.family() {
        KeyFamily::Integer => format!("pg_catalog.hashint8extended(({column_expr})::pg_catalog.int8, 0)"),
        // Every deterministic collation hashes the bytes; naming one keeps user-defined ones out of row filters.
        KeyFamily::Text => format!(
            "pg_catalog.hashtextextended(({column_expr})::pg_catalog.text COLLATE pg_catalog.\"C\", 0)"
        ),
        KeyFamily::Bpchar => format!(
            "pg_catalog.hashbpcharextended(({column_expr})::pg_catalog.bpchar COLLATE pg_catalog.\"C\", 0)"
        ),
        KeyFamily::Uuid => format!("pg_catalog.uuid_hash_extended(({column_expr})::pg_catalog.uuid, 0)"),
    };
    format!("coalesce({inner}, {}::pg_catalog.int8)", crate::NULL_KEY_HASH)
}
