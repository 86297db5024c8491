//! Partial rows as PostgreSQL array parameters.
//!
//! A *finish* statement reads the shards' rows through `unnest($n::type[], …)`. The values come from the shards in
//! binary form and go into the arrays untouched: an array's binary form is a header followed by its elements, each
//! with its length, which is exactly how a DataRow carries its columns.

use bytes::{BufMut, Bytes, BytesMut};

/// The arrays did not fit into the bound of the statement.
#[derive(Debug, thiserror::Error)]
#[error("the partial rows of the shards exceed {limit_bytes} bytes")]
pub struct TooLarge {
    /// The bound that was passed.
    pub limit_bytes: usize,
}

/// Size of the header of a one-dimensional array: dimensions, null flag, element type, length, lower bound.
const HEADER_BYTES: usize = 20;

/// One array under construction.
struct Column {
    element_oid: u32,
    has_null: bool,
    bytes: BytesMut,
}

/// The columns of a set of rows, as arrays of equal length.
pub struct ArrayColumns {
    columns: Vec<Column>,
    rows: u32,
    bytes: usize,
    limit_bytes: usize,
}

impl ArrayColumns {
    /// Empty arrays of the given element types; all of them together may take `limit_bytes`.
    pub fn new(element_oids: impl Iterator<Item = u32>, limit_bytes: usize) -> Self {
        let columns = element_oids
            .map(|element_oid| {
                let mut bytes = BytesMut::new();
                bytes.put_bytes(0, HEADER_BYTES);
                Column {
                    element_oid,
                    has_null: false,
                    bytes,
                }
            })
            .collect();
        Self {
            columns,
            rows: 0,
            bytes: 0,
            limit_bytes,
        }
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// Number of rows so far.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Bytes of their values so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends one row; columns beyond [`width`](Self::width) are ignored, missing ones are NULL.
    pub fn push<'a>(&mut self, mut values: impl Iterator<Item = Option<&'a [u8]>>) -> Result<(), TooLarge> {
        for column in &mut self.columns {
            match values.next().flatten() {
                Some(value) => {
                    // A value came out of a message whose length was an i32, so it fits one.
                    column.bytes.put_i32(value.len() as i32);
                    column.bytes.put_slice(value);
                    self.bytes += 4 + value.len();
                }
                None => {
                    column.has_null = true;
                    column.bytes.put_i32(-1);
                    self.bytes += 4;
                }
            }
        }
        self.rows += 1;
        if self.bytes > self.limit_bytes {
            Err(TooLarge {
                limit_bytes: self.limit_bytes,
            })
        } else {
            Ok(())
        }
    }

    /// The different values of a column without NULL, as an array in PostgreSQL's binary form.
    pub fn distinct(&self, column: usize) -> Option<Bytes> {
        let column = self.columns.get(column)?;
        let mut values = column.bytes.get(HEADER_BYTES..)?;
        let mut seen = std::collections::HashSet::new();
        let mut found = ArrayColumns::new(std::iter::once(column.element_oid), usize::MAX);
        while let Some((len, rest)) = values.split_at_checked(4) {
            let len = i32::from_be_bytes(len.try_into().ok()?);
            values = rest;
            let Ok(len) = usize::try_from(len) else {
                continue;
            };
            let (value, rest) = values.split_at_checked(len)?;
            values = rest;
            if seen.insert(value) {
                found.push(std::iter::once(Some(value))).ok()?;
            }
        }
        found.finish().pop()
    }

    /// The arrays in PostgreSQL's binary form.
    pub fn finish(self) -> Vec<Bytes> {
        let rows = self.rows;
        self.columns
            .into_iter()
            .map(|column| {
                let mut bytes = column.bytes;
                let dimensions = u32::from(rows > 0);
                bytes[0..4].copy_from_slice(&dimensions.to_be_bytes());
                bytes[4..8].copy_from_slice(&u32::from(column.has_null).to_be_bytes());
                bytes[8..12].copy_from_slice(&column.element_oid.to_be_bytes());
                bytes[12..16].copy_from_slice(&rows.to_be_bytes());
                bytes[16..20].copy_from_slice(&1u32.to_be_bytes());
                if rows == 0 {
                    // An empty array has no dimension entries.
                    bytes.truncate(12);
                }
                bytes.freeze()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_array_has_no_dimensions() {
        let arrays = ArrayColumns::new([20].into_iter(), 100).finish();
        assert_eq!(&arrays[0][..], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20]);
    }

    #[test]
    fn values_and_nulls_keep_their_order() {
        let mut columns = ArrayColumns::new([23, 25].into_iter(), 100);
        columns.push([Some(&[0, 0, 0, 7][..]), None].into_iter()).unwrap();
        let arrays = columns.finish();
        assert_eq!(
            &arrays[0][..],
            &[
                0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 7
            ]
        );
        assert_eq!(&arrays[1][20..], &[255, 255, 255, 255]);
        assert_eq!(arrays[1][7], 1);
    }

    #[test]
    fn values_are_there_once() {
        let mut columns = ArrayColumns::new([25].into_iter(), 100);
        for value in [Some(&b"b"[..]), None, Some(b"a"), Some(b"b"), Some(b"")] {
            columns.push(std::iter::once(value)).unwrap();
        }
        let mut expected = ArrayColumns::new([25].into_iter(), 100);
        for value in [&b"b"[..], b"a", b""] {
            expected.push(std::iter::once(Some(value))).unwrap();
        }
        assert_eq!(columns.distinct(0), expected.finish().pop());
        assert_eq!(columns.distinct(1), None);
        let none = ArrayColumns::new([25].into_iter(), 100);
        assert_eq!(none.distinct(0).unwrap().len(), 12);
    }

    #[test]
    fn the_bound_is_kept() {
        let mut columns = ArrayColumns::new([25].into_iter(), 10);
        assert!(columns.push([Some(&b"1234567890"[..])].into_iter()).is_err());
    }
}
