//! Places in the commit protocol where a test kills, stops or cuts off what it likes, and ways to break the protocol on purpose.
//!
//! Only builds with debug assertions have them: elsewhere [`FailPoints`] is empty and its functions do nothing. A test names a Unix
//! socket; a process that reaches a point says so there, and goes on when the socket is closed. The answer `cut` makes it lose the
//! connection that the point is about.

use std::path::PathBuf;
use std::time::Duration;

/// A point of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// COMMIT of the only part is about to be sent.
    CommitOne,
    /// It was answered.
    CommittedOne,
    /// A PREPARE TRANSACTION is about to be sent.
    Prepare,
    /// It was answered; others may not have been.
    Prepared,
    /// All have voted; the decision is about to be sent.
    Decide,
    /// It was sent.
    DecisionSent,
    /// It was answered.
    Decided,
    /// A COMMIT PREPARED is about to be sent.
    CommitPrepared,
    /// It was answered.
    CommittedPrepared,
    /// A ROLLBACK or ROLLBACK PREPARED is about to be sent.
    RollBack,
    /// Everything is done; the client is about to be told.
    Answer,
    /// A prepared transaction was found.
    RecoveryFound,
    /// Its decision was looked up.
    RecoveryLookedUp,
    /// An abort was recorded, or met a decision.
    RecoveryExcluded,
    /// It was finished.
    RecoveryFinished,
}

/// A way to break the protocol; each must be found by the checker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The client is told before the decision.
    AnswersEarly,
    /// Recovery takes a missing decision for an abort, after a time.
    GuessesAbort,
    /// One participant is not prepared, and its part is lost.
    ForgetsOne,
    /// The deciding shard commits without recording the decision.
    NoDecisionRow,
    /// A decision whose answer is lost is taken for an abort.
    LostIsAbort,
    /// Prepared parts are committed before the decision.
    CommitsEarly,
}

/// What a test wants of this process.
#[derive(Debug, Clone, Default)]
pub struct FailPoints {
    /// Where points are told.
    #[cfg(debug_assertions)]
    pub socket: Option<PathBuf>,
    /// How the protocol is broken.
    #[cfg(debug_assertions)]
    pub mutant: Option<Mutant>,
    /// The age at which recovery gives up on a proxy.
    #[cfg(debug_assertions)]
    pub grace: Option<Duration>,
    /// How long outcomes of transactions are kept.
    #[cfg(debug_assertions)]
    pub retention: Option<Duration>,
}

impl FailPoints {
    /// As variables of the environment say, which `get` reads. An unknown mutant is an error, in builds that know any.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        #[cfg(debug_assertions)]
        let milliseconds = |name| {
            let number = get(name).and_then(|text: String| text.parse().ok());
            number.map(Duration::from_millis)
        };
        #[cfg(debug_assertions)]
        return Ok(Self {
            socket: get("DROVER_TEST_POINTS").map(PathBuf::from),
            mutant: get("DROVER_TEST_MUTANT")
                .map(|name| Mutant::named(&name).ok_or_else(|| format!("there is no mutant \"{name}\"")))
                .transpose()?,
            grace: milliseconds("DROVER_TEST_GRACE_MS"),
            retention: milliseconds("DROVER_TEST_RETENTION_MS"),
        });
        #[cfg(not(debug_assertions))]
        {
            let _ = (get, Mutant::named, None::<(PathBuf, Duration)>);
            Ok(Self::default())
        }
    }

    /// To be called at each point. True: the connection is to be lost here.
    #[cfg(debug_assertions)]
    pub(crate) async fn reached(&self, point: Point, shard: u32) -> bool {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let Some(path) = &self.socket else { return false };
        // Whoever wanted to know is gone.
        let Ok(mut stream) = tokio::net::UnixStream::connect(path).await else {
            return false;
        };
        let line = format!("{} {point:?} {shard}\n", std::process::id());
        let mut answer = Vec::new();
        stream.write_all(line.as_bytes()).await.is_ok()
            && stream.read_to_end(&mut answer).await.is_ok()
            && answer == b"cut"
    }

    /// To be called at each point. True: the connection is to be lost here.
    #[cfg(not(debug_assertions))]
    #[inline]
    #[allow(clippy::unused_async, reason = "it waits in test builds")]
    pub(crate) async fn reached(&self, _point: Point, _shard: u32) -> bool {
        false
    }

    /// Whether the protocol is broken in this way.
    #[inline]
    pub(crate) fn broken(&self, mutant: Mutant) -> bool {
        #[cfg(debug_assertions)]
        return self.mutant == Some(mutant);
        #[cfg(not(debug_assertions))]
        {
            let _ = mutant;
            false
        }
    }

    /// The age at which recovery gives up on a proxy, where it is `usual` without a test.
    pub(crate) fn grace(&self, usual: Duration) -> Duration {
        #[cfg(debug_assertions)]
        return self.grace.unwrap_or(usual);
        #[cfg(not(debug_assertions))]
        usual
    }
}

impl FailPoints {
    /// How long outcomes of transactions are kept, if a test says so.
    pub(crate) fn retention(&self) -> Option<Duration> {
        #[cfg(debug_assertions)]
        return self.retention;
        #[cfg(not(debug_assertions))]
        None
    }
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 6] = [
        Self::AnswersEarly,
        Self::GuessesAbort,
        Self::ForgetsOne,
        Self::NoDecisionRow,
        Self::LostIsAbort,
        Self::CommitsEarly,
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutant| format!("{mutant:?}") == name)
    }
}
