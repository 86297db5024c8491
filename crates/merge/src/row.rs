//! Removing the columns a plan added behind the client's.

use bytes::{BufMut, BytesMut};
use wire::backend::{DataRow, tag};
use wire::frame::Message;

/// Why a row cannot be cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// Not a DataRow message, or a malformed one.
    #[error("malformed row")]
    Malformed,
    /// Fewer columns than the client expects.
    #[error("row has {found} columns, at least {expected} expected")]
    TooFew {
        /// Columns in the row.
        found: usize,
        /// Columns the client expects.
        expected: usize,
    },
}

/// Appends `row` (a whole DataRow message) to `out` with only its first `visible` columns.
pub fn truncate_columns(row: &[u8], visible: usize, out: &mut BytesMut) -> Result<(), RowError> {
    let message = Message::whole(row)
        .filter(|m| m.tag == tag::DATA_ROW)
        .ok_or(RowError::Malformed)?;
    let decoded = DataRow::decode(message.body()).map_err(|_| RowError::Malformed)?;
    let found = decoded.len();
    if found < visible {
        return Err(RowError::TooFew {
            found,
            expected: visible,
        });
    }
    if found == visible {
        out.put_slice(row);
        return Ok(());
    }
    let values: usize = decoded
        .columns
        .iter()
        .take(visible)
        .map(|v| 4 + v.map_or(0, <[u8]>::len))
        .sum();
    out.reserve(7 + values);
    out.put_u8(tag::DATA_ROW);
    // Both fit: they are not larger than the numbers of the row itself.
    out.put_u32((6 + values) as u32);
    out.put_u16(visible as u16);
    out.put_slice(&decoded.columns.as_bytes()[..values]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::backend::encode::data_row;

    #[test]
    fn keeps_the_first_columns() {
        let columns: [Option<&[u8]>; 4] = [Some(b"ab"), None, Some(b""), Some(b"xyz")];
        let mut row = BytesMut::new();
        data_row(&mut row, columns).unwrap();
        for visible in 0..=4 {
            let (mut cut, mut expect) = (BytesMut::new(), BytesMut::new());
            truncate_columns(&row, visible, &mut cut).unwrap();
            data_row(&mut expect, columns[..visible].iter().copied()).unwrap();
            assert_eq!(cut, expect);
        }
        let mut out = BytesMut::new();
        assert_eq!(
            truncate_columns(&row, 5, &mut out),
            Err(RowError::TooFew {
                found: 4,
                expected: 5
            })
        );
        assert_eq!(truncate_columns(&row[..9], 1, &mut out), Err(RowError::Malformed));
        assert!(out.is_empty());
    }
}
