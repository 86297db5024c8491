//! The shards a transaction has touched, kept while it runs.

use crate::ShardId;

/// Whether a shard's part of the transaction has an xid. A SELECT can write (functions, row locks), so only
/// the server knows; a proxy may know from what it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Writes {
    /// It certainly has one.
    Yes,
    /// It certainly has none.
    No,
    /// The server must be asked before the commit.
    Unknown,
}

/// One shard's part of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Participant {
    /// The shard.
    pub shard: ShardId,
    /// Whether it wrote.
    pub writes: Writes,
    /// Whether PREPARE TRANSACTION can succeed there: no temporary objects, NOTIFY, LISTEN, held cursors,
    /// exported snapshots.
    pub preparable: bool,
}

/// Why a statement must be refused before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnlistError {
    /// Only one writer of a transaction can be committed without being prepared.
    #[error("shards {first} and {second} would both have to commit without being prepared")]
    SecondUnpreparable {
        /// The one that already is.
        first: ShardId,
        /// The one that would become so.
        second: ShardId,
    },
}

/// The shards a transaction has touched, in the order they were enlisted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Participants {
    list: Vec<Participant>,
    /// The shard whose part records the outcome, even if it is the only one that writes.
    named: Option<ShardId>,
}

impl Participants {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a shard, or merges what is now known about it: a write stays a write, unpreparable stays so.
    /// `Unknown` replaces `No`, because it means that something new ran there.
    ///
    /// Call it *before* the statement runs: an error means that the statement must be refused and leaves the
    /// list as it was.
    pub fn enlist(&mut self, shard: ShardId, writes: Writes, preparable: bool) -> Result<(), EnlistError> {
        let known = self.list.iter().position(|p| p.shard == shard);
        let mut merged = known.map_or(
            Participant {
                shard,
                writes,
                preparable,
            },
            |at| self.list[at],
        );
        merged.preparable &= preparable;
        merged.writes = match (merged.writes, writes) {
            (Writes::Yes, _) | (_, Writes::Yes) => Writes::Yes,
            (Writes::No, Writes::No) => Writes::No,
            _ => Writes::Unknown,
        };
        if let Some(first) = self.conflicting(merged) {
            return Err(EnlistError::SecondUnpreparable { first, second: shard });
        }
        match known {
            Some(at) => self.list[at] = merged,
            None => self.list.push(merged),
        }
        Ok(())
    }

    /// The transaction was given a name that says which shard decides: this one. It will write its decision there, so
    /// nobody else can commit without being prepared. An error leaves the list as it was.
    pub fn name(&mut self, decider: ShardId) -> Result<(), EnlistError> {
        self.enlist(decider, Writes::Yes, false)?;
        self.named = Some(decider);
        Ok(())
    }

    /// The shard that decides by the name of the transaction, if it has one already.
    pub fn named(&self) -> Option<ShardId> {
        self.named
    }

    /// Another shard that may write and cannot be prepared, if `candidate` is one too.
    fn conflicting(&self, candidate: Participant) -> Option<ShardId> {
        let bound = |p: &Participant| !p.preparable && p.writes != Writes::No;
        let others = self.list.iter().filter(|p| p.shard != candidate.shard);
        if bound(&candidate) {
            others.copied().find(bound).map(|p| p.shard)
        } else {
            None
        }
    }

    /// What is known about a shard.
    pub fn get(&self, shard: ShardId) -> Option<&Participant> {
        self.list.iter().find(|p| p.shard == shard)
    }

    /// All, in the order they were enlisted.
    pub fn as_slice(&self) -> &[Participant] {
        &self.list
    }

    /// The transaction is over.
    pub fn clear(&mut self) {
        self.list.clear();
        self.named = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ShardId = ShardId(1);
    const B: ShardId = ShardId(2);

    #[test]
    fn merges_what_is_known() {
        let mut list = Participants::new();
        list.enlist(A, Writes::No, true).unwrap();
        list.enlist(A, Writes::Unknown, true).unwrap();
        assert_eq!(list.get(A).unwrap().writes, Writes::Unknown);
        list.enlist(A, Writes::Yes, false).unwrap();
        list.enlist(A, Writes::No, true).unwrap();
        let expect = Participant {
            shard: A,
            writes: Writes::Yes,
            preparable: false,
        };
        assert_eq!(list.as_slice(), [expect]);
    }

    #[test]
    fn a_name_makes_a_writer_that_decides() {
        let mut list = Participants::new();
        list.enlist(A, Writes::No, true).unwrap();
        list.enlist(B, Writes::Unknown, false).unwrap();
        let error = EnlistError::SecondUnpreparable { first: B, second: A };
        assert_eq!(list.name(A), Err(error));
        assert_eq!(list.named(), None);
        list.name(B).unwrap();
        assert_eq!(list.named(), Some(B));
        let expect = Participant {
            shard: B,
            writes: Writes::Yes,
            preparable: false,
        };
        assert_eq!(list.get(B), Some(&expect));
    }

    #[test]
    fn refuses_a_second_unpreparable_writer_and_keeps_the_list() {
        let mut list = Participants::new();
        list.enlist(A, Writes::Yes, false).unwrap();
        list.enlist(B, Writes::Yes, true).unwrap();
        let before = list.clone();
        let error = EnlistError::SecondUnpreparable { first: A, second: B };
        assert_eq!(list.enlist(B, Writes::Unknown, false), Err(error));
        assert_eq!(list, before);
        // A reader need not be prepared, whatever it holds.
        list.enlist(ShardId(3), Writes::No, false).unwrap();
        assert!(list.enlist(ShardId(3), Writes::Unknown, true).is_err());
    }
}
