//! What is recorded of a move, and what may follow what.
//!
//! ```text
//! preparing ─► streaming ◄─► cutting ─► cleaning ─► done
//!     ▲  │         │            │ (not decided)
//!     └──┴─ again ─┴────────────┤
//!                               └─► abandoning ─► failed
//! ```
//! The workflow never says that a move has happened: the home shard's decision does. `cutting` is the phase in which it
//! may have been made; whoever finds it asks the decision first.

use serde::{Deserialize, Serialize};

/// How often a move begins from its start before it is given up.
pub const ATTEMPTS_MAX: u32 = 3;

/// Longest text kept of a reason, in bytes.
const REASON_BYTES_MAX: usize = 1_000;

/// A move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workflow {
    /// Names it in the store and on the servers: lower-case letters and digits.
    pub id: String,
    /// Database of the table.
    pub database: String,
    /// Schema of the table.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The statement that asked for it, to be read again by whoever resumes it.
    pub statement: String,
    /// Where it is.
    pub phase: Phase,
    /// From 1; grows whenever it begins from its start. Servers refuse what an earlier attempt still sends.
    pub attempt: u32,
    /// Rows wait in staging tables until the cutover: the table has rows on several shards already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub staged: bool,
    /// The whole old row is wanted in the log.
    pub full_identity: bool,
    /// The table's replica identity before the move (`pg_class.relreplident`), where it was changed.
    pub identity_before: Option<char>,
    /// Of everything that the copies were made with.
    pub digest: Option<String>,
    /// The operator wants it to end.
    pub cancelled: bool,
    /// Why the last attempt ended, or all of it.
    pub reason: Option<String>,
    /// How far it is.
    pub progress: Progress,
}

/// How far a move is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Rows that leave, as counted or estimated when the copy began.
    pub rows: u64,
    /// Rows copied in this attempt.
    pub copied: u64,
    /// Changes streamed in this attempt.
    pub changes: u64,
    /// Bytes read from the sources' logs in this attempt.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub log_bytes: u64,
    /// How far the targets were behind the sources when that was last looked at, in milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lag_ms: u64,
    /// When this attempt began, in milliseconds since 1970.
    pub began_ms: u64,
    /// When the progress was noted, likewise.
    pub noted_ms: u64,
    /// How long statements waited for the cutover, in microseconds.
    pub pause_us: Option<u64>,
}

impl Progress {
    /// Rows copied in a second, of the time since the attempt began.
    pub fn rate(&self) -> u64 {
        let elapsed_ms = self.noted_ms.saturating_sub(self.began_ms).max(1);
        self.copied.saturating_mul(1_000) / elapsed_ms
    }

    /// Seconds until all rows are copied, at this rate.
    pub fn seconds_left(&self) -> u64 {
        self.rows.saturating_sub(self.copied) / self.rate().max(1)
    }
}

/// Where a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Copies are made.
    Preparing,
    /// Copies are there, changes follow.
    Streaming,
    /// The cutover may be under way, or have happened.
    Cutting,
    /// It has happened; tools of the move are left over.
    Cleaning,
    /// It will not happen; tools and copies are left over.
    Abandoning,
    /// It has happened.
    Done,
    /// It has not happened, and nothing of it is left.
    Failed,
}

impl Phase {
    /// The name people see.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Preparing => "copying",
            Phase::Streaming => "streaming",
            Phase::Cutting => "cutting over",
            Phase::Cleaning => "cleaning up",
            Phase::Abandoning => "giving up",
            Phase::Done => "done",
            Phase::Failed => "failed",
        }
    }

    /// Nobody has to do anything any more.
    pub fn is_over(self) -> bool {
        matches!(self, Phase::Done | Phase::Failed)
    }
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Remove what an earlier attempt left, then copy: [`Event::Prepared`].
    Prepare,
    /// Apply changes, compare, cut over: [`Event::Cutting`], then [`Event::Decided`] or [`Event::NotCut`].
    Stream,
    /// Ask whether the cutover was decided: [`Event::Decided`] or [`Event::NotCut`].
    Settle,
    /// Remove the tools: [`Event::Cleaned`].
    Clean,
    /// Remove tools and copies: [`Event::Cleaned`].
    Abandon,
    /// Nothing.
    Nothing,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Every target has its copy.
    Prepared {
        /// Of what they were made with.
        digest: String,
    },
    /// The cutover begins.
    Cutting,
    /// It was not decided and never will be; the move goes on.
    NotCut,
    /// It was decided.
    Decided,
    /// Copies are of no use any more. Never of a cutover that may be decided.
    Again {
        /// Why.
        reason: String,
        /// The log lacked values.
        full_identity: bool,
    },
    /// It cannot be done, or the operator does not want it. Never of a cutover that may be decided.
    GiveUp {
        /// Why.
        reason: String,
    },
    /// What was left over is removed.
    Cleaned,
}

/// An event that cannot come now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a move that is {} cannot go on with {event}", .phase.name())]
pub struct WrongEvent {
    /// Where the move is.
    pub phase: Phase,
    /// The event.
    pub event: String,
}

/// The move is past the point where it can be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the move is {} and cannot be cancelled any more", .0.name())]
pub struct TooLate(pub Phase);

impl Workflow {
    /// A move that nobody has begun to carry out.
    pub fn new(
        id: String,
        (database, schema, table): (&str, &str, &str),
        statement: String,
        now_ms: u64,
    ) -> Self {
        Self {
            id,
            database: database.to_owned(),
            schema: schema.to_owned(),
            table: table.to_owned(),
            statement,
            phase: Phase::Preparing,
            attempt: 1,
            staged: false,
            full_identity: false,
            identity_before: None,
            digest: None,
            cancelled: false,
            reason: None,
            progress: Progress {
                began_ms: now_ms,
                noted_ms: now_ms,
                ..Progress::default()
            },
        }
    }

    /// What whoever takes it over has to do.
    pub fn task(&self) -> Task {
        match self.phase {
            Phase::Preparing => Task::Prepare,
            Phase::Streaming => Task::Stream,
            Phase::Cutting => Task::Settle,
            Phase::Cleaning => Task::Clean,
            Phase::Abandoning => Task::Abandon,
            Phase::Done | Phase::Failed => Task::Nothing,
        }
    }

    /// Goes on. An event that cannot come leaves it as it was.
    pub fn advance(&mut self, event: &Event, now_ms: u64) -> Result<(), WrongEvent> {
        let next = match (self.phase, event) {
            (Phase::Preparing, Event::Prepared { digest }) => {
                self.digest = Some(digest.clone());
                Phase::Streaming
            }
            (Phase::Streaming, Event::Cutting) => Phase::Cutting,
            (Phase::Cutting, Event::NotCut) => Phase::Streaming,
            (Phase::Cutting, Event::Decided) => Phase::Cleaning,
            (Phase::Cleaning, Event::Cleaned) => Phase::Done,
            (Phase::Abandoning, Event::Cleaned) => Phase::Failed,
            (
                Phase::Preparing | Phase::Streaming,
                Event::Again {
                    reason,
                    full_identity,
                },
            ) => self.again(reason, *full_identity, now_ms),
            (Phase::Preparing | Phase::Streaming, Event::GiveUp { reason }) => {
                self.reason = Some(cut(reason));
                Phase::Abandoning
            }
            (phase, event) => {
                return Err(WrongEvent {
                    phase,
                    event: format!("{event:?}").chars().take(100).collect(),
                });
            }
        };
        self.phase = next;
        Ok(())
    }

    fn again(&mut self, reason: &str, full_identity: bool, now_ms: u64) -> Phase {
        self.reason = Some(cut(reason));
        if self.attempt >= ATTEMPTS_MAX {
            return Phase::Abandoning;
        }
        self.attempt += 1;
        self.full_identity |= full_identity;
        self.digest = None;
        self.progress = Progress {
            began_ms: now_ms,
            noted_ms: now_ms,
            ..Progress::default()
        };
        Phase::Preparing
    }

    /// Asks for its end. The leader finds it before the cutover, or not at all.
    pub fn cancel(&mut self) -> Result<(), TooLate> {
        match self.phase {
            Phase::Preparing | Phase::Streaming | Phase::Cutting | Phase::Abandoning => {
                self.cancelled = true;
                Ok(())
            }
            late => Err(TooLate(late)),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn cut(reason: &str) -> String {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 7] = [
        Phase::Preparing,
        Phase::Streaming,
        Phase::Cutting,
        Phase::Cleaning,
        Phase::Abandoning,
        Phase::Done,
        Phase::Failed,
    ];

    fn events() -> [Event; 7] {
        [
            Event::Prepared { digest: "d".into() },
            Event::Cutting,
            Event::NotCut,
            Event::Decided,
            Event::Again {
                reason: "r".into(),
                full_identity: true,
            },
            Event::GiveUp { reason: "r".into() },
            Event::Cleaned,
        ]
    }

    fn at(phase: Phase) -> Workflow {
        let mut workflow = Workflow::new("m1".into(), ("app", "public", "t"), "SELECT 1".into(), 5);
        workflow.phase = phase;
        workflow
    }

    /// From every phase with every event.
    #[test]
    fn what_may_follow_what() {
        let mut steps = Vec::new();
        for phase in PHASES {
            for event in events() {
                let mut workflow = at(phase);
                match workflow.advance(&event, 9) {
                    Ok(()) => steps.push((phase, workflow.phase)),
                    Err(wrong) => assert_eq!((wrong.phase, &workflow), (phase, &at(phase))),
                }
            }
        }
        use Phase::*;
        assert_eq!(
            steps,
            [
                (Preparing, Streaming),
                (Preparing, Preparing),
                (Preparing, Abandoning),
                (Streaming, Cutting),
                (Streaming, Preparing),
                (Streaming, Abandoning),
                (Cutting, Streaming),
                (Cutting, Cleaning),
                (Cleaning, Done),
                (Abandoning, Failed),
            ]
        );
    }

    /// What may be decided is neither begun again nor given up.
    #[test]
    fn the_way_out_of_a_cutover_is_its_decision() {
        for event in events() {
            let mut workflow = at(Phase::Cutting);
            let decides = matches!(event, Event::NotCut | Event::Decided);
            assert_eq!(workflow.advance(&event, 0).is_ok(), decides, "{event:?}");
        }
        assert_eq!(at(Phase::Cutting).task(), Task::Settle);
    }

    #[test]
    fn attempts_are_counted_and_end() {
        let mut workflow = at(Phase::Streaming);
        let again = Event::Again {
            reason: "é".repeat(1_000),
            full_identity: true,
        };
        workflow.progress.copied = 7;
        for attempt in 2..=ATTEMPTS_MAX {
            workflow.advance(&again, 9).unwrap();
            assert_eq!((workflow.attempt, workflow.phase), (attempt, Phase::Preparing));
        }
        assert!(workflow.full_identity && workflow.progress.copied == 0);
        workflow.advance(&again, 9).unwrap();
        assert_eq!(workflow.phase, Phase::Abandoning);
        assert!(
            workflow
                .reason
                .is_some_and(|reason| reason.len() <= REASON_BYTES_MAX)
        );
    }

    #[test]
    fn what_has_happened_cannot_be_cancelled() {
        for phase in PHASES {
            let late = matches!(phase, Phase::Cleaning | Phase::Done | Phase::Failed);
            assert_eq!(at(phase).cancel().is_err(), late, "{phase:?}");
        }
    }

    #[test]
    fn rate_and_time_left() {
        let progress = Progress {
            rows: 5_000,
            copied: 1_000,
            began_ms: 1_000,
            noted_ms: 3_000,
            ..Progress::default()
        };
        assert_eq!((progress.rate(), progress.seconds_left()), (500, 8));
        assert_eq!(Progress::default().seconds_left(), 0);
    }
}
