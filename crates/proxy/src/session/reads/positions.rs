//! What a session's reads must not miss, per shard.
//!
//! A *position* is a place in a shard's log at or behind which everything lies that the session has written, has read (when
//! it asks never to go backwards) or was told of by a token. Places are comparable along the history of the primary:
//! one that is part of no timeline of it is *lost*, with the writes it stands for, and that is an error, told once.
//!
//! A place that could not be taken, or was not worth the question, is *unknown*: before the next read that cares the
//! primary is asked, and where it is by then is at least as far.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use catalog::ShardId;
use hashbrown::HashMap;
use replica::{Place, Position};

use crate::nodes::ShardView;

/// Positions of one session.
#[derive(Debug)]
pub(super) struct Positions {
    shards: Vec<(ShardId, Required)>,
    /// Nothing is known of shards that are not listed.
    rest_unknown: bool,
}

#[derive(Debug, Default)]
struct Required {
    /// At most one of each timeline.
    known: Vec<Position>,
    /// Those of tokens, which count whatever the session's consistency is.
    told: Vec<Position>,
    unknown: bool,
}

/// What the positions of a shard come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// This place, or nothing.
    Place(Option<Position>),
    /// The primary has to be asked.
    Unknown,
    /// This one is part of no history any more.
    Lost(Position),
    /// The primary's history is not known far enough to say.
    Unclear,
}

impl Positions {
    /// None; `rest_unknown`: the session has written who knows what.
    pub(super) fn new(rest_unknown: bool) -> Self {
        Self {
            shards: Vec::new(),
            rest_unknown,
        }
    }

    /// The primary was here when everything up to now had happened.
    pub(super) fn covered(&mut self, shard: ShardId, position: Position) {
        let required = self.of(shard);
        required.unknown = false;
        add(&mut required.known, position);
    }

    /// A token says so.
    pub(super) fn told(&mut self, shard: ShardId, position: Position) {
        let required = self.of(shard);
        add(&mut required.known, position);
        add(&mut required.told, position);
    }

    /// Reads must not miss what lies before this.
    pub(super) fn at_least(&mut self, shard: ShardId, position: Position) {
        add(&mut self.of(shard).known, position);
    }

    /// Something happened on this shard at a place that is not known.
    pub(super) fn unknown(&mut self, shard: ShardId) {
        self.of(shard).unknown = true;
    }

    /// On every shard.
    pub(super) fn all_unknown(&mut self) {
        self.rest_unknown = true;
        for (_, required) in &mut self.shards {
            required.unknown = true;
        }
    }

    /// What is known of this shard is void: the client was told.
    pub(super) fn forget(&mut self, shard: ShardId) {
        let required = self.of(shard);
        required.known.clear();
        required.told.clear();
    }

    /// The places of a shard; `None`: there are unknown ones.
    pub(super) fn known(&self, shard: ShardId) -> Option<&[Position]> {
        match self.shards.iter().find(|(known, _)| *known == shard) {
            Some((_, required)) => (!required.unknown).then_some(&required.known),
            None => (!self.rest_unknown).then_some(&[]),
        }
    }

    /// Of the places of a shard the one that comes last in the primary's history.
    pub(super) fn demand(&self, shard: ShardId, view: &ShardView) -> Demand {
        let Some(known) = self.known(shard) else {
            return Demand::Unknown;
        };
        latest(known, view)
    }

    /// The same of those that tokens named.
    pub(super) fn demand_told(&self, shard: ShardId, view: &ShardView) -> Demand {
        let found = self.shards.iter().find(|(known, _)| *known == shard);
        let told = found.map_or(&[][..], |(_, required)| &required.told);
        latest(told, view)
    }

    fn of(&mut self, shard: ShardId) -> &mut Required {
        let unknown = self.rest_unknown;
        let at = match self.shards.iter().position(|(known, _)| *known == shard) {
            Some(at) => at,
            None => {
                let required = Required {
                    unknown,
                    ..Required::default()
                };
                self.shards.push((shard, required));
                self.shards.len() - 1
            }
        };
        &mut self.shards[at].1
    }
}

fn add(places: &mut Vec<Position>, position: Position) {
    let same = |known: &&mut Position| (known.system, known.timeline) == (position.system, position.timeline);
    match places.iter_mut().find(same) {
        Some(known) => known.lsn = known.lsn.max(position.lsn),
        None => places.push(position),
    }
}

/// The last of these places in a primary's history.
pub(super) fn latest(known: &[Position], view: &ShardView) -> Demand {
    let mut last: Option<Position> = None;
    for position in known {
        let (Some(system), Some(lineage)) = (view.system, view.lineage.as_deref()) else {
            return Demand::Unclear;
        };
        if system != position.system {
            return Demand::Lost(*position);
        }
        match lineage.place(position.timeline, position.lsn) {
            Place::Within => {}
            Place::Lost => return Demand::Lost(*position),
            Place::Later => return Demand::Unclear,
        }
        if last.is_none_or(|last| last.lsn < position.lsn) {
            last = Some(Position {
                timeline: lineage.timeline(),
                ..*position
            });
        }
    }
    Demand::Place(last)
}

/// For each database and shard, a place behind everything that statements planned with a version of its facts take for
/// granted. One worker's, backed by those of all workers: the sooner such a place is taken, the less it asks for.
#[derive(Debug, Default)]
pub struct Floors {
    own: RefCell<FloorMap>,
    all: Arc<Mutex<FloorMap>>,
}

/// See [`Floors`].
pub type FloorMap = HashMap<(Arc<str>, ShardId), (u64, Position)>;

impl Floors {
    /// One more worker's.
    pub fn of_worker(all: &Arc<Mutex<FloorMap>>) -> Self {
        Self {
            own: RefCell::default(),
            all: Arc::clone(all),
        }
    }

    /// The place for this version, when it is known.
    pub(super) fn get(&self, database: &Arc<str>, shard: ShardId, version: u64) -> Option<Position> {
        let key = (Arc::clone(database), shard);
        let of_version = |found: Option<&(u64, Position)>| {
            found
                .filter(|(known, _)| *known == version)
                .map(|(_, position)| *position)
        };
        if let Some(position) = of_version(self.own.borrow().get(&key)) {
            return Some(position);
        }
        let position = of_version(self.lock().get(&key))?;
        self.own.borrow_mut().insert(key, (version, position));
        Some(position)
    }

    pub(super) fn set(&self, database: &Arc<str>, shard: ShardId, version: u64, position: Position) {
        let key = (Arc::clone(database), shard);
        self.own.borrow_mut().insert(key.clone(), (version, position));
        self.lock().insert(key, (version, position));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, FloorMap> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
