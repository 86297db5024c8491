//! Timelines: which ones a server's history consists of, and where it left each.
//!
//! A promotion begins a new timeline and writes a *history file*: one line per earlier timeline with the place where it
//! was left. What an old primary wrote beyond that place is in no history: it is lost, and must be called so.

use crate::position::{Lsn, Timeline};

/// Timelines of one history file at most; every promotion adds one.
const ANCESTORS_MAX: usize = 10_000;

/// The history of one timeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lineage {
    timeline: Timeline,
    /// Earlier timelines and where each was left, oldest first; both grow.
    ancestors: Vec<(Timeline, Lsn)>,
}

/// Where a place stands to a line of timelines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is part of it: positions compare.
    Within,
    /// It was written beyond the point at which its timeline was left, or on a timeline this line does not come from:
    /// whatever was written there is lost.
    Lost,
    /// On a timeline that began later than this line: it may continue it, nobody knows here.
    Later,
}

/// Not a history file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the history of timeline {timeline} makes no sense")]
pub struct LineageError {
    /// Whose history.
    pub timeline: Timeline,
    /// Line, from 1.
    pub line: usize,
}

impl Lineage {
    /// A timeline without a history: the first one.
    #[must_use]
    pub fn first(timeline: Timeline) -> Self {
        Self {
            timeline,
            ancestors: Vec::new(),
        }
    }

    /// From the text of the timeline's history file.
    pub fn parse(timeline: Timeline, history: &str) -> Result<Self, LineageError> {
        let mut ancestors: Vec<(Timeline, Lsn)> = Vec::new();
        for (at, line) in history.lines().enumerate() {
            let wrong = LineageError {
                timeline,
                line: at + 1,
            };
            let mut words = line.split_whitespace();
            let Some(first) = words.next().filter(|word| !word.starts_with('#')) else {
                continue;
            };
            let number: u32 = first.parse().map_err(|_| wrong.clone())?;
            let left: Lsn = words
                .next()
                .and_then(|word| word.parse().ok())
                .ok_or_else(|| wrong.clone())?;
            let grows = ancestors
                .last()
                .is_none_or(|(before, place)| before.0 < number && *place <= left);
            if !grows || number >= timeline.0 || ancestors.len() >= ANCESTORS_MAX {
                return Err(wrong);
            }
            ancestors.push((Timeline(number), left));
        }
        Ok(Self { timeline, ancestors })
    }

    /// The timeline whose history this is.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// Where an earlier timeline was left.
    #[must_use]
    pub fn left(&self, timeline: Timeline) -> Option<Lsn> {
        let found = self.ancestors.iter().find(|(known, _)| *known == timeline);
        found.map(|(_, left)| *left)
    }

    /// This line comes from that timeline, or is it.
    #[must_use]
    pub fn descends_from(&self, timeline: Timeline) -> bool {
        timeline == self.timeline || self.left(timeline).is_some()
    }

    /// Where a place taken on `timeline` stands to this line.
    #[must_use]
    pub fn place(&self, timeline: Timeline, lsn: Lsn) -> Place {
        if timeline == self.timeline {
            return Place::Within;
        }
        match self.left(timeline) {
            Some(left) if lsn.settled() <= left => Place::Within,
            Some(_) => Place::Lost,
            None if timeline > self.timeline => Place::Later,
            None => Place::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTORY: &str =
        "1\t0/3000000\tno recovery target specified\n\n2\t0/5000000\tno recovery target specified\n";

    #[test]
    fn a_history_says_where_each_timeline_was_left() {
        let line = Lineage::parse(Timeline(3), HISTORY).expect("a history");
        assert_eq!(line.left(Timeline(2)), Some(Lsn(0x500_0000)));
        assert!(line.descends_from(Timeline(1)) && line.descends_from(Timeline(3)));
        assert!(!line.descends_from(Timeline(4)));
        assert_eq!(line.place(Timeline(1), Lsn(0x300_0000)), Place::Within);
        assert_eq!(line.place(Timeline(1), Lsn(0x300_0028)), Place::Lost);
        assert_eq!(line.place(Timeline(3), Lsn(u64::MAX)), Place::Within);
        assert_eq!(line.place(Timeline(4), Lsn(0)), Place::Later);
        let other = Lineage::parse(Timeline(3), "1\t0/3000000\tx\n").expect("a history");
        assert_eq!(other.place(Timeline(2), Lsn(0)), Place::Lost, "a branch given up");
    }

    #[test]
    fn what_is_no_history_is_refused() {
        for text in [
            "x",
            "1",
            "1\tx",
            "3\t0/1\t",
            "2\t0/5\n1\t0/6",
            "1\t0/5\n2\t0/4",
            "1\t0/5\n1\t0/6",
        ] {
            assert!(Lineage::parse(Timeline(3), text).is_err(), "{text}");
        }
        assert_eq!(Lineage::parse(Timeline(1), ""), Ok(Lineage::first(Timeline(1))));
        assert!(Lineage::parse(Timeline(2), "# a comment\n1\t0/5").is_ok());
    }
}
