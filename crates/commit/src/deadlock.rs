//! Deadlocks that no server sees: the wait graphs of all shards, merged.
//!
//! Each server's own detector ends the circles that lie within it. A transaction over several shards waits with one backend
//! and holds its locks with others, so a circle can pass through several servers, each of which sees a chain that ends. Here
//! the backends of one transaction are one node, and the circle closes.
//!
//! A wait is for *all* of its blockers to go (they hold the lock, or stand before it in the queue), so every circle is a
//! deadlock, if its edges existed at one moment. They are not read at one moment: see [`Graph::confirms`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ShardId;

/// A backend of a server: its shard and its process number.
pub type Backend = (ShardId, u32);

/// A backend that waits for a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// Who waits.
    pub backend: Backend,
    /// Since when, in microseconds by its server's clock. A backend that waits again has another time.
    pub since_us: i64,
    /// Process numbers on the same server that it waits for: holders of the lock and those before it in the queue.
    pub blockers: Vec<u32>,
    /// What it waits for, in PostgreSQL's words: `ShareLock on transaction 740`.
    pub lock: String,
}

/// Names a transaction: its proxy, and a number that the proxy has given to no other.
pub type TransactionId = (String, u64);

/// A transaction over several shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Its name.
    pub id: TransactionId,
    /// When it began, in microseconds, by the clock of the shard that it began on. Clocks that differ change who is the
    /// youngest, and nothing else.
    pub began_us: i64,
    /// False: it is being committed.
    pub can_be_cancelled: bool,
    /// Its backends.
    pub backends: Vec<Backend>,
}

/// One wait of a circle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Who waits.
    pub waiter: Backend,
    /// The transaction it works for, if that has several shards.
    pub transaction: Option<TransactionId>,
    /// Since when; see [`Wait::since_us`].
    pub since_us: i64,
    /// What for.
    pub lock: String,
    /// Who is waited for, on the same server.
    pub blocker: u32,
    /// The transaction that the blocker works for.
    pub blocker_transaction: Option<TransactionId>,
}

/// A circle of waits through several servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlock {
    /// The youngest transaction over several shards in it that can be cancelled: the one to be.
    pub victim: TransactionId,
    /// The waits, the victim's first; each is for the backend, or the transaction, of the next.
    pub edges: Vec<Edge>,
}

/// The waits of all shards and the transactions known.
#[derive(Debug)]
pub struct Graph<'a> {
    waits: &'a [Wait],
    transactions: &'a [Transaction],
    /// Which transaction a backend works for.
    owners: BTreeMap<Backend, usize>,
    /// The waits of a node.
    of_node: BTreeMap<Node, Vec<usize>>,
}

/// Who can wait as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    /// A transaction over several shards, by its place.
    Transaction(usize),
    /// Any other backend.
    Backend(Backend),
}

/// A step from a node to one that it waits for: which wait, which of its blockers.
type Step = (usize, usize);

impl<'a> Graph<'a> {
    /// Merges them. A backend that two transactions claim (one list was made before the other) is given to none.
    pub fn new(waits: &'a [Wait], transactions: &'a [Transaction]) -> Self {
        let mut owners = BTreeMap::new();
        let mut disputed = Vec::new();
        for (place, transaction) in transactions.iter().enumerate() {
            for backend in &transaction.backends {
                if owners.insert(*backend, place).is_some_and(|other| other != place) {
                    disputed.push(*backend);
                }
            }
        }
        for backend in disputed {
            owners.remove(&backend);
        }
        let mut graph = Graph {
            waits,
            transactions,
            owners,
            of_node: BTreeMap::new(),
        };
        for (place, wait) in waits.iter().enumerate() {
            let node = graph.node(wait.backend);
            graph.of_node.entry(node).or_default().push(place);
        }
        graph
    }

    /// The circles that no server sees by itself, each with a victim of its own: without the victims there is none left
    /// among these. Whoever has the same waits and transactions finds the same victims.
    pub fn deadlocks(&self) -> Vec<Deadlock> {
        let mut alive = self.core();
        let mut youngest: Vec<usize> = (0..self.transactions.len())
            .filter(|place| self.transactions[*place].can_be_cancelled)
            .filter(|place| alive.contains(&Node::Transaction(*place)))
            .collect();
        youngest.sort_by(|a, b| {
            let age = |place: usize| {
                let transaction = &self.transactions[place];
                (transaction.began_us, &transaction.id)
            };
            age(*b).cmp(&age(*a))
        });
        let mut found = Vec::new();
        for place in youngest {
            if let Some(steps) = self.circle_through(place, &alive) {
                found.push(Deadlock {
                    victim: self.transactions[place].id.clone(),
                    edges: steps.into_iter().map(|step| self.edge(step)).collect(),
                });
                alive.remove(&Node::Transaction(place));
            }
        }
        found
    }

    /// Whether every wait of a circle that another graph showed is still there. If so, the circle existed at the moment
    /// between the two: none of its backends has done anything since before that moment but wait.
    pub fn confirms(&self, deadlock: &Deadlock) -> bool {
        deadlock.edges.iter().all(|edge| {
            self.waits.iter().any(|wait| {
                wait.backend == edge.waiter
                    && wait.since_us == edge.since_us
                    && wait.blockers.contains(&edge.blocker)
            }) && self.owner(edge.waiter) == edge.transaction.as_ref()
                && self.owner((edge.waiter.0, edge.blocker)) == edge.blocker_transaction.as_ref()
        })
    }

    fn owner(&self, backend: Backend) -> Option<&TransactionId> {
        let place = self.owners.get(&backend)?;
        Some(&self.transactions[*place].id)
    }

    fn node(&self, backend: Backend) -> Node {
        match self.owners.get(&backend) {
            Some(place) => Node::Transaction(*place),
            None => Node::Backend(backend),
        }
    }

    fn blocker(&self, (wait, at): Step) -> Backend {
        let wait = &self.waits[wait];
        (wait.backend.0, wait.blockers[at])
    }

    fn steps(&self, node: Node) -> impl Iterator<Item = Step> + '_ {
        let waits = self.of_node.get(&node).into_iter().flatten();
        waits.flat_map(|wait| (0..self.waits[*wait].blockers.len()).map(|at| (*wait, at)))
    }

    /// The nodes left when those that nobody waits for, or that wait for nobody, are taken away until none is: all circles
    /// are among them.
    fn core(&self) -> BTreeSet<Node> {
        let mut incoming: BTreeMap<Node, usize> = BTreeMap::new();
        let mut outgoing: BTreeMap<Node, usize> = BTreeMap::new();
        let mut waiters: BTreeMap<Node, Vec<Node>> = BTreeMap::new();
        for node in self.of_node.keys() {
            for step in self.steps(*node) {
                let to = self.node(self.blocker(step));
                *outgoing.entry(*node).or_default() += 1;
                *incoming.entry(to).or_default() += 1;
                waiters.entry(to).or_default().push(*node);
            }
        }
        let mut alive: BTreeSet<Node> = outgoing
            .keys()
            .filter(|node| incoming.contains_key(node))
            .copied()
            .collect();
        let mut gone: Vec<Node> = incoming
            .keys()
            .chain(outgoing.keys())
            .filter(|node| !alive.contains(node))
            .copied()
            .collect();
        while let Some(node) = gone.pop() {
            for waiter in waiters.get(&node).into_iter().flatten() {
                let left = outgoing.entry(*waiter).or_default();
                *left = left.saturating_sub(1);
                if *left == 0 && alive.remove(waiter) {
                    gone.push(*waiter);
                }
            }
            for step in self.steps(node) {
                let to = self.node(self.blocker(step));
                let left = incoming.entry(to).or_default();
                *left = left.saturating_sub(1);
                if *left == 0 && alive.remove(&to) {
                    gone.push(to);
                }
            }
        }
        alive
    }

    /// A circle through this transaction that no server sees, a shortest one for its first step.
    fn circle_through(&self, place: usize, alive: &BTreeSet<Node>) -> Option<Vec<Step>> {
        let start = Node::Transaction(place);
        let circles = self
            .steps(start)
            .filter_map(|first| self.path(first, start, alive));
        circles.min_by_key(Vec::len)
    }

    /// The shortest way that begins with this step, ends at `goal`, and is not one of backends alone, each waiting for the
    /// next: such a circle is within a server, which ends it.
    fn path(&self, first: Step, goal: Node, alive: &BTreeSet<Node>) -> Option<Vec<Step>> {
        // Who is waited for, and whether somebody on the way waits with another backend than is waited for.
        type Place = (Backend, bool);
        let begin: Place = (self.blocker(first), false);
        let mut came_from: BTreeMap<Place, (Place, Step)> = BTreeMap::new();
        let mut queue = VecDeque::from([begin]);
        while let Some(place) = queue.pop_front() {
            let (backend, crossed) = place;
            let node = self.node(backend);
            if node == goal {
                if !crossed && backend == self.waits[first.0].backend {
                    continue;
                }
                let mut way = Vec::new();
                let mut at = place;
                while let Some((before, step)) = came_from.get(&at) {
                    way.push(*step);
                    at = *before;
                }
                way.push(first);
                way.reverse();
                return Some(way);
            }
            if !alive.contains(&node) {
                continue;
            }
            for step in self.steps(node) {
                let crossed = crossed || self.waits[step.0].backend != backend;
                let next = (self.blocker(step), crossed);
                if next != begin && !came_from.contains_key(&next) {
                    came_from.insert(next, (place, step));
                    queue.push_back(next);
                }
            }
        }
        None
    }

    fn edge(&self, step: Step) -> Edge {
        let wait = &self.waits[step.0];
        let blocker = self.blocker(step);
        Edge {
            waiter: wait.backend,
            transaction: self.owner(wait.backend).cloned(),
            since_us: wait.since_us,
            lock: wait.lock.clone(),
            blocker: blocker.1,
            blocker_transaction: self.owner(blocker).cloned(),
        }
    }
}

impl Deadlock {
    /// The error's DETAIL, a line per wait, as PostgreSQL writes it, with the shards' names.
    pub fn detail(&self, shard_name: impl Fn(ShardId) -> String) -> String {
        let line = |edge: &Edge| {
            format!(
                "Process {} of {} waits for {}; blocked by process {}.",
                edge.waiter.1,
                shard_name(edge.waiter.0),
                edge.lock,
                edge.blocker
            )
        };
        self.edges.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests;
