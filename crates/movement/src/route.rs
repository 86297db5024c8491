//! Which targets a change of the source concerns.
//!
//! Rows that stay on the source are of no interest. A row whose new key is another shard's is deleted where it was and
//! inserted where it goes; that takes all its values, of which those stored outside of the row are not in the log unless
//! they changed or the replica identity is FULL.

use crate::pgoutput::{Row, Value};

/// A change for one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<'a> {
    /// A new row; no value of it is [`Value::Unchanged`].
    Insert(Row<'a>),
    /// A row changed and stays on the shard.
    Update {
        /// Identity before; values that are not part of it mean nothing.
        old: Row<'a>,
        /// Values now.
        new: Row<'a>,
    },
    /// A row is gone from the shard.
    Delete(Row<'a>),
}

/// The log has not all values of a row that goes to another shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeedsFullIdentity;

/// Where a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<S> {
    /// It stays on the source.
    Stays,
    /// It belongs to this target.
    Target(S),
}

/// An UPDATE, for each target that it concerns (at most two). `places`: before and after.
pub fn update<'a, S: Copy + PartialEq>(
    old: Option<Row<'a>>,
    new: Row<'a>,
    places: (Place<S>, Place<S>),
) -> Result<Vec<(S, Change<'a>)>, NeedsFullIdentity> {
    let before = old.unwrap_or_else(|| new.clone());
    let (from, to) = match places {
        (Place::Stays, Place::Stays) => return Ok(Vec::new()),
        (Place::Target(from), Place::Target(to)) if from == to => {
            return Ok(vec![(from, Change::Update { old: before, new })]);
        }
        (from, to) => (from, to),
    };
    let mut changes = Vec::new();
    if let Place::Target(to) = to {
        changes.push((to, Change::Insert(complete(new, &before)?)));
    }
    if let Place::Target(from) = from {
        changes.push((from, Change::Delete(before)));
    }
    Ok(changes)
}

/// Takes values that did not change from what the row was.
fn complete<'a>(mut new: Row<'a>, before: &Row<'a>) -> Result<Row<'a>, NeedsFullIdentity> {
    for (value, old) in new.iter_mut().zip(before) {
        if *value == Value::Unchanged {
            match old {
                // NULL stands for "not in the identity" as well, and a NULL is never stored outside of its row.
                Value::Text(_) => *value = *old,
                Value::Null | Value::Unchanged => return Err(NeedsFullIdentity),
            }
        }
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: [Value<'static>; 3] = [Value::Text(b"1"), Value::Null, Value::Null];
    const NEW: [Value<'static>; 3] = [Value::Text(b"2"), Value::Text(b"x"), Value::Null];

    fn moved(places: (Place<u8>, Place<u8>)) -> Vec<(u8, Change<'static>)> {
        update(Some(OLD.to_vec()), NEW.to_vec(), places).unwrap()
    }

    #[test]
    fn a_row_goes_where_its_key_goes() {
        use Place::{Stays, Target};
        let insert = || Change::Insert(NEW.to_vec());
        let delete = || Change::Delete(OLD.to_vec());
        assert_eq!(moved((Stays, Stays)), []);
        assert_eq!(moved((Stays, Target(1))), [(1, insert())]);
        assert_eq!(moved((Target(1), Stays)), [(1, delete())]);
        assert_eq!(moved((Target(1), Target(2))), [(2, insert()), (1, delete())]);
        let both = Change::Update {
            old: OLD.to_vec(),
            new: NEW.to_vec(),
        };
        assert_eq!(moved((Target(1), Target(1))), [(1, both)]);
    }

    #[test]
    fn values_that_are_not_in_the_log_are_never_taken_for_null() {
        let new = vec![Value::Text(b"2"), Value::Unchanged, Value::Null];
        let places = (Place::Target(1), Place::Target(2));
        let key_only = Some(OLD.to_vec());
        assert_eq!(update(key_only, new.clone(), places), Err(NeedsFullIdentity));
        assert_eq!(update(None, new.clone(), places), Err(NeedsFullIdentity));
        let full = Some(vec![Value::Text(b"1"), Value::Text(b"long"), Value::Null]);
        let changes = update(full, new, places).unwrap();
        let complete = vec![Value::Text(b"2"), Value::Text(b"long"), Value::Null];
        assert_eq!(changes[0], (2, Change::Insert(complete)));
    }
}
