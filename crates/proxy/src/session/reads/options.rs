//! The settings `drover.read_from`, `drover.consistency` and `drover.replica_wait`, and hints in comments.

use std::time::Duration;

use super::super::settings::SettingsHistory;
use super::super::{Fault, limits};

/// Name of the setting that allows replicas.
pub(in super::super) const READ_FROM: &str = "drover.read_from";
/// Name of the setting that says how old what is read may be.
pub(in super::super) const CONSISTENCY: &str = "drover.consistency";
/// Name of the setting that bounds the waiting for a replica.
pub(in super::super) const REPLICA_WAIT: &str = "drover.replica_wait";
/// Name of the setting that says how long a statement waits for a server that is away, in milliseconds.
pub(in super::super) const BUFFER_MS: &str = "drover.failover_buffer_ms";
/// Name of the setting that says behind how many others it does so.
pub(in super::super) const BUFFER_STATEMENTS: &str = "drover.failover_buffer_statements";
/// Name of the setting by which a session takes over what another has seen.
pub(in super::super) const TOKEN: &str = "drover.consistency_token";

/// Name of the setting that says whether reads over several shards may see part of a commit.
pub(in super::super) const READ_SNAPSHOT: &str = "drover.read_snapshot";

/// How long a read waits for replicas that are behind, when the session does not say.
const WAIT_DEFAULT: Duration = Duration::from_millis(10);

/// The longest wait for a replica that can be asked for.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The longest wait for a server that is away that can be asked for.
const BUFFER_MAX: Duration = Duration::from_secs(10 * 60);

/// Statements that may be asked to wait for one; what the queue of the pool holds is less, as a rule.
const BUFFER_STATEMENTS_MAX: usize = 1_000_000;

/// The largest age that can be asked for.
const AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// `drover.read_from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ReadFrom {
    /// Every statement goes to the primary.
    #[default]
    Primary,
    /// Reads go to replicas as long as one will do.
    Replica,
    /// Reads go to any server; the primary takes its share.
    Any,
}

impl ReadFrom {
    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "primary" => Some(Self::Primary),
            "replica" => Some(Self::Replica),
            "any" => Some(Self::Any),
            _ => None,
        }
    }

    /// As the setting spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Any => "any",
        }
    }
}

/// `drover.consistency`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// Everything that was committed: the primary.
    Strong,
    /// Everything this session committed.
    ReadYourWrites,
    /// The same, and everything it has read.
    Monotonic,
    /// Everything that was committed so long ago, and what this session committed.
    Bounded(Duration),
    /// Whatever there is.
    Eventual,
}

impl Consistency {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if let Some(rest) = text.strip_prefix("bounded") {
            let age = rest.trim().trim_matches('\'').trim();
            let unit_given = age.ends_with(|last: char| last.is_ascii_alphabetic());
            return duration(age)
                .filter(|age| unit_given && *age <= AGE_MAX)
                .map(Self::Bounded);
        }
        match text.as_str() {
            "strong" => Some(Self::Strong),
            "read_your_writes" => Some(Self::ReadYourWrites),
            "monotonic" => Some(Self::Monotonic),
            "eventual" => Some(Self::Eventual),
            _ => None,
        }
    }

    /// As the setting spells it.
    pub fn text(self) -> String {
        match self {
            Self::Strong => "strong".to_owned(),
            Self::ReadYourWrites => "read_your_writes".to_owned(),
            Self::Monotonic => "monotonic".to_owned(),
            Self::Bounded(age) => format!("bounded {}", in_words(age)),
            Self::Eventual => "eventual".to_owned(),
        }
    }

    /// What this session has written counts.
    pub fn heeds_writes(self) -> bool {
        !matches!(self, Self::Eventual)
    }
}

/// What the settings come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct ReadOptions {
    pub from: ReadFrom,
    pub consistency: Consistency,
    /// Waiting for replicas that are behind, per statement.
    pub wait: Duration,
}

impl ReadOptions {
    /// Of a session's settings; values that were not checked when they were set count as not set.
    pub(in super::super) fn of(settings: &SettingsHistory) -> Self {
        let from = settings
            .own(READ_FROM)
            .and_then(ReadFrom::parse)
            .unwrap_or_default();
        let chosen = settings.own(CONSISTENCY).and_then(Consistency::parse);
        let wait = settings.own(REPLICA_WAIT).and_then(duration);
        Self {
            from,
            consistency: chosen.unwrap_or_else(|| Consistency::default_of(from)),
            wait: wait.unwrap_or(WAIT_DEFAULT).min(WAIT_MAX),
        }
    }

    /// Reads may leave the primary.
    pub(in super::super) fn leaves_primary(&self) -> bool {
        self.from != ReadFrom::Primary && self.consistency != Consistency::Strong
    }
}

impl Consistency {
    /// When the session does not say.
    fn default_of(from: ReadFrom) -> Self {
        match from {
            ReadFrom::Primary => Self::Strong,
            ReadFrom::Replica | ReadFrom::Any => Self::ReadYourWrites,
        }
    }
}

/// Checks a value for one of these settings; the result is how it is kept and shown.
pub(in super::super) fn checked(name: &str, values: &[String]) -> Result<String, Fault> {
    let text = values.join(" ");
    if let Some(limit) = limits::checked(name, &text) {
        return limit;
    }
    let (kept, hint) = match name {
        READ_FROM => (
            ReadFrom::parse(&text).map(|from| from.as_str().to_owned()),
            "Available values: primary, replica, any.",
        ),
        CONSISTENCY => (
            Consistency::parse(&text).map(Consistency::text),
            "Available values: strong, read_your_writes, monotonic, bounded followed by an age such as 5s, eventual.",
        ),
        READ_SNAPSHOT => (
            ["shard", "cluster"]
                .iter()
                .find(|known| known.eq_ignore_ascii_case(&text))
                .map(|known| (*known).to_owned()),
            "Available values: shard, cluster.",
        ),
        BUFFER_MS => (
            duration(&text)
                .filter(|wait| *wait <= BUFFER_MAX)
                .map(|wait| wait.as_millis().to_string()),
            "A time in milliseconds, up to 600000.",
        ),
        BUFFER_STATEMENTS => (
            statements(&text).map(|count| count.to_string()),
            "A number up to 1000000.",
        ),
        _ => (
            duration(&text).filter(|wait| *wait <= WAIT_MAX).map(in_words),
            "A time up to 60s, for instance 50ms.",
        ),
    };
    kept.ok_or_else(|| {
        let message = format!("invalid value for parameter \"{name}\": \"{text}\"");
        let fields = wire::backend::ErrorFields::error("22023", message).with_hint(hint);
        Fault::Statement(Box::new(fields))
    })
}

/// What a setting is when nothing is said.
pub(in super::super) fn shown(name: &str, settings: &SettingsHistory, hold: pool::Hold) -> String {
    let options = ReadOptions::of(settings);
    match name {
        READ_FROM => options.from.as_str().to_owned(),
        CONSISTENCY => options.consistency.text(),
        READ_SNAPSHOT => settings.own(READ_SNAPSHOT).unwrap_or("shard").to_owned(),
        BUFFER_MS => hold.wait.unwrap_or_default().as_millis().to_string(),
        BUFFER_STATEMENTS => hold.queue.unwrap_or_default().to_string(),
        _ => in_words(options.wait),
    }
}

/// `Some`: reads over several shards want a snapshot of the cluster. Whether they are from primaries, as they must be.
pub(in super::super) fn snapshot_of_cluster(settings: &SettingsHistory) -> Option<bool> {
    let wanted = settings.own(READ_SNAPSHOT) == Some("cluster");
    wanted.then(|| is_from_primaries(settings))
}

/// Whether reads outside of transactions go to primaries only.
pub(in super::super) fn is_from_primaries(settings: &SettingsHistory) -> bool {
    ReadOptions::of(settings).from == ReadFrom::Primary
}

/// What a session says of how its statements wait for a server that is away.
pub(in super::super) fn hold_of(settings: &SettingsHistory) -> pool::Hold {
    pool::Hold {
        wait: settings.own(BUFFER_MS).and_then(duration),
        queue: settings.own(BUFFER_STATEMENTS).and_then(statements),
    }
}

fn statements(text: &str) -> Option<usize> {
    let count = text.trim().parse().ok()?;
    (count <= BUFFER_STATEMENTS_MAX).then_some(count)
}

/// A number with a unit; without one, milliseconds, like PostgreSQL's own time-outs.
pub(in super::super) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text.get(..digits)?.parse().ok()?;
    let ms = match text.get(digits..)?.trim() {
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(ms).map(Duration::from_millis)
}

fn in_words(time: Duration) -> String {
    let ms = time.as_millis();
    match ms % 1000 {
        0 if ms > 0 => format!("{}s", ms / 1000),
        _ => format!("{ms}ms"),
    }
}

/// What a comment of a statement says about where it is read: `/* drover.read_from='replica' */`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadHint {
    from: Option<ReadFrom>,
    consistency: Option<Consistency>,
}

impl ReadHint {
    /// Reads the comment at the end or the start of a text.
    ///
    /// # Errors
    /// A value that the setting would not take.
    pub(in super::super) fn of(text: &str) -> Result<Self, Fault> {
        let mut hint = Self::default();
        for (key, value) in crate::trace::comment::hints(text) {
            let values = [value.into_owned()];
            match key {
                READ_FROM => hint.from = ReadFrom::parse(&checked(key, &values)?),
                CONSISTENCY => hint.consistency = Consistency::parse(&checked(key, &values)?),
                _ => {}
            }
        }
        Ok(hint)
    }

    /// It says nothing.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The options of this statement.
    pub(in super::super) fn over(&self, options: ReadOptions) -> ReadOptions {
        let from = self.from.unwrap_or(options.from);
        let consistency = match (self.consistency, self.from) {
            (Some(consistency), _) => consistency,
            (None, Some(from)) if options.consistency == Consistency::default_of(options.from) => {
                Consistency::default_of(from)
            }
            (None, _) => options.consistency,
        };
        ReadOptions {
            from,
            consistency,
            ..options
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_as_they_are_shown() {
        let kept = |name: &str, values: &[&str]| {
            let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
            checked(name, &values).ok()
        };
        assert_eq!(kept(READ_FROM, &["Replica"]).as_deref(), Some("replica"));
        assert_eq!(kept(READ_FROM, &["standby"]), None);
        for (values, shown) in [
            (&["bounded 5s"][..], "bounded 5s"),
            (&["bounded '1500ms'"], "bounded 1500ms"),
            (&["bounded", "2min"], "bounded 120s"),
            (&["MONOTONIC"], "monotonic"),
        ] {
            assert_eq!(kept(CONSISTENCY, values).as_deref(), Some(shown));
            assert_eq!(kept(CONSISTENCY, &[shown]).as_deref(), Some(shown));
        }
        for wrong in ["bounded", "bounded 5", "bounded 30h", "bounded -1s", "stale", ""] {
            assert_eq!(kept(CONSISTENCY, &[wrong]), None, "{wrong}");
        }
        assert_eq!(kept(REPLICA_WAIT, &["250"]).as_deref(), Some("250ms"));
        assert_eq!(kept(REPLICA_WAIT, &["61s"]), None);
    }

    #[test]
    fn a_hint_counts_for_its_statement() {
        let base = ReadOptions::of(&SettingsHistory::new(std::rc::Rc::default()));
        assert!(!base.leaves_primary());
        let hint = ReadHint::of("SELECT 1 /* drover.read_from='any' */")
            .ok()
            .unwrap_or_default();
        let over = hint.over(base);
        assert_eq!(
            (over.from, over.consistency),
            (ReadFrom::Any, Consistency::ReadYourWrites)
        );
        assert!(ReadHint::of("SELECT 1 /* drover.read_from='nowhere' */").is_err());
        assert!(ReadHint::of("SELECT 1 /*traceparent='x'*/").is_ok_and(|hint| hint.is_none()));
    }
}
