//! `currval` and `lastval`: the value a session drew itself, or an error; never another session's.
//!
//! PostgreSQL keeps what `nextval` returned in the server process. A session that changes the process between
//! transactions would read what others drew. Three pieces of knowledge prevent that (docs/decisions/0013):
//!
//! * Each server connection knows whose values it holds ([`SequenceOwner`]): nobody's, exactly one session's, or those of
//!   several. Whatever is not proved to draw from no sequence counts as drawing.
//! * Each session knows whether it drew at all, and whether all of it happened on one connection that holds nothing else.
//! * The proxy remembers which (database, role) pairs ever asked for `currval` or `lastval` ([`SequenceReaders`]). Their
//!   sessions keep the connection on which they draw for the first time; it is freed of others' values before.
//!
//! A session that asks gets the connection that holds its values and nothing else. Where there is none, it gets one
//! that holds nothing: what `currval` returns there was drawn there. If it then says that nothing was drawn although
//! this session did draw somewhere, that would be wrong, and the statement is refused instead.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashSet;
use wire::backend::{ErrorFields, Fields, field};

use super::block::{Enlisted, Wrote};
use super::effects::{Effects, PinReason};
use super::enlist::settle;
use super::{Fault, Session};
use crate::exec::link;
use crate::server::SequenceOwner;

/// Pairs remembered; beyond this every session counts as one that asks.
const PAIRS_MAX: usize = 10_000;

/// Which (database, role) pairs ask for `currval` or `lastval`. Shared by all workers of a proxy, only ever grows.
#[derive(Debug, Default)]
pub(crate) struct SequenceReaders {
    pairs: Mutex<HashSet<(Arc<str>, Arc<str>)>>,
    /// Raised with each pair, so that a session looks into the set only when there is news.
    version: AtomicU64,
}

impl SequenceReaders {
    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn contains(&self, database: &Arc<str>, role: &Arc<str>) -> bool {
        let pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        pairs.len() >= PAIRS_MAX || pairs.contains(&(Arc::clone(database), Arc::clone(role)))
    }

    fn insert(&self, database: &Arc<str>, role: &Arc<str>) {
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        if pairs.len() < PAIRS_MAX && pairs.insert((Arc::clone(database), Arc::clone(role))) {
            self.version.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// What a session knows of the values it drew.
#[derive(Debug, Default)]
pub(super) struct SequenceUse {
    /// Names the session in [`SequenceOwner`]; 0 until it is needed.
    id: u64,
    /// It ran something that may have drawn.
    touched: bool,
    /// Some of that is not on the connection that holds only this session's values.
    scattered: bool,
    /// Version of the [`SequenceReaders`] that `followed` is from.
    seen: u64,
    /// The session's pair is one that asks.
    followed: bool,
}

impl SequenceUse {
    /// An error that says "nothing was drawn" may be wrong.
    pub(super) fn unsure(&self) -> bool {
        self.scattered
    }

    /// `DISCARD SEQUENCES`: as if it had never drawn.
    pub(super) fn forget(&mut self) {
        self.touched = false;
        self.scattered = false;
    }
}

impl Session {
    /// Before a statement that asks for values gets a server: the idle one that holds this session's, if there is one.
    pub(super) async fn find_sequences(&mut self) -> Result<(), Fault> {
        let (id, known) = (
            self.sequences.id,
            self.sequences.touched && !self.sequences.scattered,
        );
        // A session that holds connections, in a block for one, cannot wish for another.
        if id == 0 || !known || !self.servers.is_empty() {
            return Ok(());
        }
        let home = self.engine.cluster.home();
        let pool = self.pool(home);
        let mine = SequenceOwner::Session(id);
        let found = pool.try_checkout_where(Some(&self.cancel.slot), |server| server.sequences == mine);
        if let Some(mut lease) = found {
            settle(&mut lease, self.settings.before_transaction()).await?;
            self.servers.push(Enlisted {
                shard: home,
                lease,
                begun: false,
                wrote: Wrote::No,
                busy: false,
                ahead: None,
                unpreparable: false,
                replica: None,
            });
        }
        Ok(())
    }

    /// Before a statement that draws, or asks what was drawn, runs on this home connection.
    pub(super) async fn before_sequences(&mut self, index: usize, effects: Effects) -> Result<(), Fault> {
        let follows = self.follows_sequences();
        let reads = effects.reads_sequence_state;
        let mine = SequenceOwner::Session(self.sequence_id());
        if reads {
            let readers = &self.engine.shared.sequence_readers;
            readers.insert(&self.database, &self.user);
        }
        let mut owner = self.servers[index].lease.sequences;
        let unseen = || {
            let context = self.context.as_ref();
            context.is_some_and(|(context, _)| context.snapshot.asks_for_drawn_values())
        };
        let foreign = owner != mine && owner != SequenceOwner::Nobody;
        // Of what this session drew on several connections, the latest need not be here.
        let stale = owner == mine && self.sequences.scattered && !self.pinned.contains(PinReason::Sequence);
        // Whoever draws for the first time may be about to ask for the first time. A pipeline is not stopped for that.
        let first = effects.touches_sequences && !self.sequences.touched && self.extended.open_on.is_none();
        if (foreign || stale) && (reads || follows || first || unseen()) {
            self.discard_sequences_on(index).await?;
            owner = SequenceOwner::Nobody;
        }
        if owner != mine {
            // What was drawn before was drawn elsewhere.
            self.sequences.scattered |= self.sequences.touched;
        }
        if effects.touches_sequences {
            self.sequences.touched = true;
            let clean = owner == mine || owner == SequenceOwner::Nobody;
            self.sequences.scattered |= !clean;
            self.servers[index].lease.sequences = if clean { mine } else { SequenceOwner::Several };
        }
        if self.sequences.touched && (reads || follows) {
            self.servers[index].lease.sequences = mine;
            self.pin(PinReason::Sequence);
        }
        Ok(())
    }

    /// A value was drawn on a connection this session does not keep.
    pub(super) fn drew_elsewhere(&mut self) {
        self.sequences.touched = true;
        self.sequences.scattered = true;
    }

    /// This session's pair asks for drawn values: it keeps the connection it draws on.
    pub(super) fn follows_sequences(&mut self) -> bool {
        let readers = &self.engine.shared.sequence_readers;
        let version = readers.version();
        if version != self.sequences.seen {
            self.sequences.seen = version;
            self.sequences.followed = readers.contains(&self.database, &self.user);
        }
        self.sequences.followed
    }

    /// Before a statement that runs at home by other ways than the common one.
    pub(super) async fn before_sequences_at_home(&mut self, effects: Effects) -> Result<(), Fault> {
        if effects.reads_sequence_state {
            self.find_sequences().await?;
        }
        let index = self.enlist(self.engine.cluster.home()).await?;
        self.before_sequences(index, effects).await
    }

    /// `DISCARD SEQUENCES`.
    pub(super) async fn discard_sequences(&mut self, text: &str) -> Result<(), Fault> {
        let home = self.engine.cluster.home();
        match self.servers.iter().position(|server| server.shard == home) {
            Some(index) => {
                self.relay_home(text).await?;
                if let Some(server) = self.servers.get_mut(index) {
                    server.lease.sequences = SequenceOwner::Nobody;
                }
            }
            None => self.complete("DISCARD SEQUENCES")?,
        }
        self.sequences.forget();
        self.unpin(PinReason::Sequence);
        Ok(())
    }

    fn sequence_id(&mut self) -> u64 {
        if self.sequences.id == 0 {
            self.sequences.id = self.engine.next_statement_id().0;
        }
        self.sequences.id
    }

    async fn discard_sequences_on(&mut self, index: usize) -> Result<(), Fault> {
        let home = self.engine.cluster.home();
        if self.extended.open_on == Some(home) {
            self.settle_batch_for_question().await?;
        }
        let name = self.shard_name(home);
        let server = &mut self.servers[index].lease;
        let reply = link::query(server, "DISCARD SEQUENCES")
            .await
            .map_err(|error| Fault::lost(&error, &name))?;
        reply.into_rows().map_err(Fault::Statement)?;
        self.servers[index].lease.sequences = SequenceOwner::Nobody;
        Ok(())
    }
}

/// The refusal that takes the place of "is not yet defined in this session", where that need not be true.
pub(super) fn instead_of(message: &[u8]) -> Option<ErrorFields> {
    let fields = Fields::decode(message.get(5..)?).ok()?;
    let text = fields.get(field::MESSAGE)?;
    let about = |word: &[u8]| text.windows(word.len()).any(|part| part == word);
    if fields.get(field::CODE) != Some(b"55000") || !(about(b"currval") || about(b"lastval")) {
        return None;
    }
    let why = "what this session drew from a sequence was drawn on another server connection";
    let mut refusal = plan::Refusal::with(plan::RefusalCode::Sequence, why);
    "use INSERT … RETURNING, or run both statements in one transaction; from now on sessions of this user keep the \
     connection they draw on, so a second try succeeds"
        .clone_into(&mut refusal.hint);
    Some(super::refusal_fields(&refusal))
}
