//! Which prepared statements one server connection holds.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use super::description::Description;

/// Names a statement (its text and parameter types) independently of clients and servers. Ids are unique in the
/// whole proxy, because a server connection may change the worker: take them from
/// [`crate::worker::Shared::next_statement_id`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatementId(pub u64);

/// The number in the statement's name on the server, `drover_<n>`. Never reused on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerStatement(pub u64);

impl std::fmt::Display for ServerStatement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "drover_{}", self.0)
    }
}

#[derive(Debug)]
struct Entry {
    name: ServerStatement,
    used: u64,
    /// What it takes and gives, as far as anybody asked.
    described: Option<Arc<Description>>,
}

/// The statements prepared on one server connection, least recently used first out.
#[derive(Debug)]
pub struct Prepared {
    entries: HashMap<StatementId, Entry, foldhash::fast::RandomState>,
    /// (statement, `used` at that time) in order of use; stale pairs are skipped.
    order: VecDeque<(StatementId, u64)>,
    limit: usize,
    next_name: u64,
    clock: u64,
    /// Forgotten, and not closed on the server yet.
    condemned: Vec<ServerStatement>,
}

/// The answer to [`Prepared::add`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added {
    /// The name to use in Parse.
    pub name: ServerStatement,
    /// The caller must also send Close for this one, and expect its CloseComplete.
    pub evicted: Option<ServerStatement>,
}

impl Prepared {
    /// Keeps at most `limit` statements (at least one).
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            entries: HashMap::default(),
            order: VecDeque::new(),
            limit: limit.max(1),
            next_name: 0,
            clock: 0,
            condemned: Vec::new(),
        }
    }

    /// The statement's name on this server, if it is prepared there. Marks it as used.
    pub fn get(&mut self, id: StatementId) -> Option<ServerStatement> {
        self.get_as(id, |_| true).map(|(name, _)| name)
    }

    /// The same, together with what `judge` says of its description.
    pub fn get_as(
        &mut self,
        id: StatementId,
        judge: impl FnOnce(Option<&Arc<Description>>) -> bool,
    ) -> Option<(ServerStatement, bool)> {
        let entry = self.entries.get_mut(&id)?;
        let judged = judge(entry.described.as_ref());
        // The one used last needs no new mark: the common case of one statement in a loop stays a single look-up.
        if entry.used != self.clock {
            self.clock += 1;
            entry.used = self.clock;
            let (name, used) = (entry.name, entry.used);
            self.order.push_back((id, used));
            self.trim();
            return Some((name, judged));
        }
        Some((entry.name, judged))
    }

    /// Registers a statement that the caller is about to Parse. When the Parse fails, call [`Self::remove`].
    pub fn add(&mut self, id: StatementId) -> Added {
        let name = ServerStatement(self.next_name);
        self.next_name += 1;
        let evicted = if self.entries.len() >= self.limit {
            self.pop_oldest()
        } else {
            None
        };
        self.clock += 1;
        self.entries.insert(
            id,
            Entry {
                name,
                used: self.clock,
                described: None,
            },
        );
        self.order.push_back((id, self.clock));
        self.trim();
        Added { name, evicted }
    }

    /// Forgets a statement: its Parse failed, or it was closed on the server. Returns the name it had.
    pub fn remove(&mut self, id: StatementId) -> Option<ServerStatement> {
        self.entries.remove(&id).map(|entry| entry.name)
    }

    /// Forgets a statement that is of no use any more; [`Self::take_condemned`] says when it has to be closed.
    pub fn condemn(&mut self, id: StatementId) {
        let name = self.remove(id);
        self.condemned.extend(name);
    }

    /// What the caller must send Close for, before it prepares something else.
    pub fn take_condemned(&mut self) -> Vec<ServerStatement> {
        std::mem::take(&mut self.condemned)
    }

    /// What a statement takes and gives here, as far as it is known. It never changes as long as the statement lives.
    #[must_use]
    pub fn described(&self, id: StatementId) -> Option<&Arc<Description>> {
        self.entries.get(&id)?.described.as_ref()
    }

    /// Notes what a statement takes and gives here. The answer says the same, and is the one to keep.
    pub fn describe(&mut self, id: StatementId, description: Arc<Description>) -> Arc<Description> {
        let Some(entry) = self.entries.get_mut(&id) else {
            return description;
        };
        match &entry.described {
            Some(known) if known.covers(&description) => Arc::clone(known),
            _ => {
                entry.described = Some(Arc::clone(&description));
                description
            }
        }
    }

    /// The statement was prepared anew under its name, and is this now.
    pub fn redescribe(&mut self, id: StatementId, description: Arc<Description>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.described = Some(description);
        }
    }

    /// Forgets all: the server ran DISCARD ALL or DEALLOCATE ALL. Names are still not reused.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
        self.condemned.clear();
    }

    /// Statements registered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Nothing is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn pop_oldest(&mut self) -> Option<ServerStatement> {
        while let Some((id, used)) = self.order.pop_front() {
            if self.entries.get(&id).is_some_and(|entry| entry.used == used) {
                return self.remove(id);
            }
        }
        None
    }

    /// Drops stale marks once they outnumber the statements, so that `order` stays bounded.
    fn trim(&mut self) {
        if self.order.len() > 2 * self.limit + 16 {
            let entries = &self.entries;
            self.order
                .retain(|(id, used)| entries.get(id).is_some_and(|entry| entry.used == *used));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_recently_used_goes_first() {
        let mut prepared = Prepared::new(2);
        let [a, b, c] = [1, 2, 3].map(StatementId);
        assert_eq!(
            prepared.add(a),
            Added {
                name: ServerStatement(0),
                evicted: None
            }
        );
        assert_eq!(
            prepared.add(b),
            Added {
                name: ServerStatement(1),
                evicted: None
            }
        );
        assert_eq!(prepared.get(a), Some(ServerStatement(0)));
        assert_eq!(
            prepared.add(c),
            Added {
                name: ServerStatement(2),
                evicted: Some(ServerStatement(1))
            }
        );
        assert_eq!(prepared.get(b), None);
        assert_eq!(
            prepared.get(a).map(|name| name.to_string()).as_deref(),
            Some("drover_0")
        );
    }

    #[test]
    fn names_are_never_reused_and_marks_stay_bounded() {
        let mut prepared = Prepared::new(4);
        for n in 0..4 {
            prepared.add(StatementId(n));
        }
        for n in 0..10_000 {
            assert!(prepared.get(StatementId(n % 4)).is_some());
        }
        assert!(prepared.order.len() <= 2 * 4 + 17);
        prepared.clear();
        assert!(prepared.is_empty());
        assert_eq!(prepared.add(StatementId(9)).name, ServerStatement(4));
        assert_eq!(prepared.remove(StatementId(9)), Some(ServerStatement(4)));
        assert_eq!(prepared.len(), 0);
    }
}
