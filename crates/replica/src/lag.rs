//! How old the data of a replica are.
//!
//! The primary's insert position is noted again and again together with the time at which it was asked. A replica that
//! has replayed up to a noted position has everything that was committed when the question was asked: its data are as
//! old as that question. So an idle primary makes no replica look late, and a replica that has heard nothing for an hour
//! never looks fresh: its position stays behind, or nothing is noted any more and all ages grow.

use std::collections::VecDeque;
use std::time::Duration;

use crate::position::Lsn;

/// The positions of one primary over time. Times count from any fixed origin.
#[derive(Debug, Clone)]
pub struct PrimaryClock {
    /// Oldest first; times and positions grow. Of equal positions only the latest time is kept.
    notes: VecDeque<Note>,
    notes_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Note {
    asked: Duration,
    lsn: Lsn,
}

impl PrimaryClock {
    /// Remembers this many positions at most (at least two); replicas further behind are older than the oldest.
    #[must_use]
    pub fn new(notes_max: usize) -> Self {
        Self {
            notes: VecDeque::new(),
            notes_max: notes_max.max(2),
        }
    }

    /// The primary, asked at the time `asked` (the moment the question left), answered `lsn`.
    pub fn note(&mut self, asked: Duration, lsn: Lsn) {
        let lsn = lsn.settled();
        while let Some(last) = self.notes.back() {
            if last.asked > asked || last.lsn > lsn {
                // An answer that was overtaken; or a log that begins anew, which the caller should have told by `clear`.
                return;
            }
            if last.lsn != lsn {
                break;
            }
            self.notes.pop_back();
        }
        self.notes.push_back(Note { asked, lsn });
        while self.notes.len() > self.notes_max {
            self.thin_out();
        }
    }

    /// Another primary: what was noted says nothing about its log.
    pub fn clear(&mut self) {
        self.notes.clear();
    }

    /// Since when the data of a server that has replayed up to `replayed` are out of date: it has everything that was
    /// committed at this time. `None`: it is further behind than anything noted.
    #[must_use]
    pub fn complete_at(&self, replayed: Lsn) -> Option<Duration> {
        let upto = self.notes.partition_point(|note| note.lsn <= replayed);
        let note = self.notes.get(upto.checked_sub(1)?)?;
        Some(note.asked)
    }

    /// Where the primary was last.
    #[must_use]
    pub fn latest(&self) -> Option<Lsn> {
        self.notes.back().map(|note| note.lsn)
    }

    /// When it was asked last.
    #[must_use]
    pub fn latest_at(&self) -> Option<Duration> {
        self.notes.back().map(|note| note.asked)
    }

    /// Drops every second one of the older half: the far past is remembered coarsely, which makes ages there only
    /// larger.
    fn thin_out(&mut self) {
        let half = self.notes.len() / 2;
        let mut at = 0;
        self.notes.retain(|_| {
            at += 1;
            at > half || at % 2 == 1
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_idle_primary_makes_nobody_late() {
        let mut clock = PrimaryClock::new(10);
        for second in 0..100 {
            clock.note(at(second), Lsn(500));
        }
        assert_eq!(clock.complete_at(Lsn(500)), Some(at(99)));
        assert_eq!(clock.complete_at(Lsn(499)), None);
    }

    #[test]
    fn a_replica_is_as_old_as_the_last_position_it_has_reached() {
        let mut clock = PrimaryClock::new(10);
        clock.note(at(1), Lsn(100));
        clock.note(at(2), Lsn(200));
        clock.note(at(3), Lsn(300));
        assert_eq!(clock.complete_at(Lsn(199)), Some(at(1)));
        assert_eq!(clock.complete_at(Lsn(200)), Some(at(2)));
        assert_eq!(
            clock.complete_at(Lsn(900)),
            Some(at(3)),
            "it is never said to be fresher"
        );
    }

    #[test]
    fn answers_that_were_overtaken_change_nothing() {
        let mut clock = PrimaryClock::new(10);
        clock.note(at(5), Lsn(500));
        clock.note(at(4), Lsn(600));
        clock.note(at(6), Lsn(400));
        assert_eq!(
            (clock.latest(), clock.complete_at(Lsn(700))),
            (Some(Lsn(500)), Some(at(5)))
        );
        clock.clear();
        clock.note(at(6), Lsn(400));
        assert_eq!(clock.latest(), Some(Lsn(400)));
    }

    #[test]
    fn memory_is_bounded_and_forgetting_makes_replicas_only_older() {
        let mut full = PrimaryClock::new(100_000);
        let mut small = PrimaryClock::new(50);
        for step in 0..5000 {
            full.note(at(step), Lsn(step * 10));
            small.note(at(step), Lsn(step * 10));
        }
        assert!(small.notes.len() <= 50);
        assert_eq!(small.complete_at(Lsn(49_990)), Some(at(4999)));
        for lsn in (0..50_000).step_by(37) {
            let exact = full.complete_at(Lsn(lsn)).expect("noted");
            assert!(small.complete_at(Lsn(lsn)).is_none_or(|coarse| coarse <= exact));
        }
    }
}
