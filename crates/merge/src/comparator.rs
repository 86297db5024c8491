//! Sort keys. The values a row is ordered by are encoded once, when the row becomes the head of its source,
//! into one byte string whose byte order *is* the order asked for (type, direction, NULLs): a comparison is
//! then a comparison of bytes, whatever the number and type of the keys.

use wire::Values;

mod numeric;

/// One item of ORDER BY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SortKey {
    /// Column of the row, from 0. Its values are in binary format.
    pub column: usize,
    /// How values compare.
    pub comparator: Comparator,
    /// DESC.
    pub descending: bool,
    /// NULLS FIRST.
    pub nulls_first: bool,
}

/// How the binary values of a type compare in PostgreSQL's default btree order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparator {
    /// bool: false first.
    Bool,
    /// "char": one unsigned byte.
    Char,
    /// int2.
    Int2,
    /// int4.
    Int4,
    /// int8.
    Int8,
    /// oid: unsigned.
    Oid,
    /// float4: NaN is greatest and equals itself, -0 equals 0.
    Float4,
    /// float8: as float4.
    Float8,
    /// numeric: -Infinity, numbers, Infinity, NaN; display scale is ignored.
    Numeric,
    /// text, varchar and name under a bytewise collation; also bytea.
    Bytes,
    /// bpchar under a bytewise collation: trailing blanks are ignored.
    Bpchar,
    /// uuid.
    Uuid,
    /// date, infinities included.
    Date,
    /// time.
    Time,
    /// timestamp and timestamptz, infinities included.
    Timestamp,
    /// timetz: by instant, then by zone.
    TimeTz,
    /// interval: a month counts as 30 days, a day as 24 hours.
    Interval,
}

/// A value that is not a binary value of the expected type, or a column that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Wrong size or content.
    #[error("malformed binary value for {0:?}")]
    Malformed(Comparator),
    /// The row has no such column.
    #[error("row has no column {0}")]
    NoColumn(usize),
}

impl Comparator {
    /// The comparator of a type by its OID, `None` when the proxy cannot order it as PostgreSQL does.
    /// `collation_is_bytewise` says that the column's collation is deterministic and orders by bytes (C,
    /// POSIX, and `pg_c_utf8` or ICU-free `C.UTF-8` where the caller has proved it); it matters for text types
    /// only. `name` counts as text: it can carry an explicit COLLATE.
    pub fn for_type(type_oid: u32, collation_is_bytewise: bool) -> Option<Self> {
        Some(match type_oid {
            16 => Comparator::Bool,
            17 => Comparator::Bytes,
            18 => Comparator::Char,
            20 => Comparator::Int8,
            21 => Comparator::Int2,
            23 => Comparator::Int4,
            26 => Comparator::Oid,
            700 => Comparator::Float4,
            701 => Comparator::Float8,
            1082 => Comparator::Date,
            1083 => Comparator::Time,
            1114 | 1184 => Comparator::Timestamp,
            1186 => Comparator::Interval,
            1266 => Comparator::TimeTz,
            1700 => Comparator::Numeric,
            2950 => Comparator::Uuid,
            19 | 25 | 1043 if collation_is_bytewise => Comparator::Bytes,
            1042 if collation_is_bytewise => Comparator::Bpchar,
            _ => return None,
        })
    }

    /// Appends bytes whose order is the order of the values. The encoding of one value is never a prefix of
    /// another's, so keys can be concatenated and inverted.
    fn encode(self, value: &[u8], out: &mut Vec<u8>) -> Result<(), KeyError> {
        match self {
            Comparator::Bool | Comparator::Char => out.push(self.fixed::<1>(value)?[0]),
            Comparator::Int2 => {
                let raw = i16::from_be_bytes(self.fixed(value)?);
                out.extend_from_slice(&(raw as u16 ^ (1 << 15)).to_be_bytes());
            }
            Comparator::Int4 | Comparator::Date => {
                let raw = i32::from_be_bytes(self.fixed(value)?);
                out.extend_from_slice(&sortable_i32(raw));
            }
            Comparator::Int8 | Comparator::Time | Comparator::Timestamp => {
                let raw = i64::from_be_bytes(self.fixed(value)?);
                out.extend_from_slice(&sortable_i64(raw));
            }
            Comparator::Oid => out.extend_from_slice(&self.fixed::<4>(value)?),
            Comparator::Float4 => {
                let raw = f32::from_be_bytes(self.fixed(value)?);
                // Widening keeps order, NaN and the sign of zero.
                out.extend_from_slice(&sortable_f64(f64::from(raw)));
            }
            Comparator::Float8 => {
                out.extend_from_slice(&sortable_f64(f64::from_be_bytes(self.fixed(value)?)));
            }
            Comparator::Uuid => out.extend_from_slice(&self.fixed::<16>(value)?),
            Comparator::Bytes => put_bytes(value, out),
            Comparator::Bpchar => {
                let len = value.iter().rposition(|b| *b != b' ').map_or(0, |last| last + 1);
                put_bytes(&value[..len], out);
            }
            Comparator::TimeTz => self.timetz(value, out)?,
            Comparator::Interval => self.interval(value, out)?,
            Comparator::Numeric => numeric::encode(value, out).ok_or(KeyError::Malformed(self))?,
        }
        Ok(())
    }

    fn fixed<const N: usize>(self, value: &[u8]) -> Result<[u8; N], KeyError> {
        value.try_into().map_err(|_| KeyError::Malformed(self))
    }

    /// Microseconds of local time, then the zone in seconds west of Greenwich.
    fn timetz(self, value: &[u8], out: &mut Vec<u8>) -> Result<(), KeyError> {
        let (time, zone) = value.split_first_chunk::<8>().ok_or(KeyError::Malformed(self))?;
        let zone = i32::from_be_bytes(self.fixed(zone)?);
        let instant = i64::from_be_bytes(*time).wrapping_add(i64::from(zone) * 1_000_000);
        out.extend_from_slice(&sortable_i64(instant));
        out.extend_from_slice(&sortable_i32(zone));
        Ok(())
    }

    /// Microseconds, days, months. Infinite intervals (PostgreSQL 17) hold the extreme of every field and so
    /// sort first and last by themselves.
    fn interval(self, value: &[u8], out: &mut Vec<u8>) -> Result<(), KeyError> {
        const DAY_MICROS: i128 = 86_400_000_000;
        let (micros, rest) = value.split_first_chunk::<8>().ok_or(KeyError::Malformed(self))?;
        let (days, rest) = rest.split_first_chunk::<4>().ok_or(KeyError::Malformed(self))?;
        let months = i32::from_be_bytes(self.fixed(rest)?);
        let days = i128::from(months) * 30 + i128::from(i32::from_be_bytes(*days));
        let span = days * DAY_MICROS + i128::from(i64::from_be_bytes(*micros));
        out.extend_from_slice(&(span as u128 ^ (1 << 127)).to_be_bytes());
        Ok(())
    }
}

fn sortable_i32(value: i32) -> [u8; 4] {
    (value as u32 ^ (1 << 31)).to_be_bytes()
}

fn sortable_i64(value: i64) -> [u8; 8] {
    (value as u64 ^ (1 << 63)).to_be_bytes()
}

fn sortable_f64(value: f64) -> [u8; 8] {
    if value.is_nan() {
        return [0xff; 8]; // above +Infinity, whatever its sign and payload
    }
    let bits = (value + 0.0).to_bits(); // -0 + 0 = +0
    let ordered = if bits >> 63 == 1 { !bits } else { bits | (1 << 63) };
    ordered.to_be_bytes()
}

/// Bytes, zero escaped as `00 FF`, ended by `00 00`: shorter strings sort before their extensions.
fn put_bytes(value: &[u8], out: &mut Vec<u8>) {
    out.reserve(value.len() + 2);
    for (n, part) in value.split(|b| *b == 0).enumerate() {
        if n > 0 {
            out.extend_from_slice(&[0, 0xff]);
        }
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&[0, 0]);
}

/// Replaces `out` by the byte-comparable key of a row.
pub(crate) fn encode_row(keys: &[SortKey], row: Values<'_>, out: &mut Vec<u8>) -> Result<(), KeyError> {
    out.clear();
    for key in keys {
        match row.get(key.column).ok_or(KeyError::NoColumn(key.column))? {
            None => out.push(if key.nulls_first { 0 } else { 2 }),
            Some(value) => {
                out.push(1);
                let start = out.len();
                key.comparator.encode(value, out)?;
                if key.descending {
                    out[start..].iter_mut().for_each(|b| *b = !*b);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
