//! The newest timeline that each shard's primary was seen to write, by whichever proxy.
//!
//! A proxy acts on what it sees itself; this is for what it does *not* see. One that reaches only the old primary after a
//! failover, or is started then, would believe it: nothing in sight continues its timeline. The mark says that somebody has
//! seen the next one. It is only ever raised, except by an operator who chooses a server of an older timeline.
//!
//! Marks are kept per system identifier, so that a shard whose servers were made anew begins anew.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::{Listing, StoreError, TopologyStore, Write, WriteError};
use crate::{Key, ShardId};

/// What all keys of marks begin with.
pub const TIMELINES: &str = "timelines/";

/// Conflicts with other proxies that raise the same mark.
const TRIES: usize = 5;

/// That a shard's primary wrote a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimelineMark {
    /// The shard.
    pub shard: ShardId,
    /// Its system identifier.
    pub system: u64,
    /// The timeline.
    pub timeline: u32,
}

/// The stored form; shard and system identifier are in the key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "version", deny_unknown_fields)]
enum Record {
    #[serde(rename = "1")]
    V1 {
        /// The timeline.
        timeline: u32,
    },
}

/// Raises a mark to this timeline; one that is as high or higher stays. False: it stayed.
///
/// # Errors
/// The store does not work, or others changed the mark again and again.
pub async fn raise_timeline(store: &dyn TopologyStore, mark: TimelineMark) -> Result<bool, WriteError> {
    write(store, mark, |known| known < mark.timeline).await
}

/// Sets a mark to this timeline, whatever it was: an operator has chosen a server that writes it.
///
/// # Errors
/// The same.
pub async fn set_timeline(store: &dyn TopologyStore, mark: TimelineMark) -> Result<bool, WriteError> {
    write(store, mark, |known| known != mark.timeline).await
}

async fn write(
    store: &dyn TopologyStore,
    mark: TimelineMark,
    replaces: impl Fn(u32) -> bool,
) -> Result<bool, WriteError> {
    let Ok(key) = Key::parse(&format!("{TIMELINES}{}/{}", mark.shard.0, mark.system)) else {
        // Numbers make a good key.
        return Ok(false);
    };
    let mut tries = 1;
    loop {
        let stored = store.get(&key).await?;
        let expected = stored.as_ref().map(|stored| stored.version);
        // What cannot be read is written anew.
        let known = stored.and_then(|stored| decode(&stored.value));
        if known.is_some_and(|known| !replaces(known)) {
            return Ok(false);
        }
        match store
            .compare_and_swap(Write::new(key.clone(), expected, encode(mark.timeline)))
            .await
        {
            Ok(_) => return Ok(true),
            Err(WriteError::Conflict { .. }) if tries < TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// All marks.
///
/// # Errors
/// The store does not work.
pub async fn timelines(store: &dyn TopologyStore) -> Result<Vec<TimelineMark>, StoreError> {
    Ok(timelines_in(&*store.list(TIMELINES).await?))
}

/// The marks of a listing of [`TIMELINES`]; what is none is left out.
#[must_use]
pub fn timelines_in(listing: &Listing) -> Vec<TimelineMark> {
    let read = |(key, stored): (&Key, &crate::store::Versioned)| {
        let (shard, system) = key.as_str().strip_prefix(TIMELINES)?.split_once('/')?;
        Some(TimelineMark {
            shard: ShardId(shard.parse().ok()?),
            system: system.parse().ok()?,
            timeline: decode(&stored.value)?,
        })
    };
    listing.iter().filter_map(read).collect()
}

fn encode(timeline: u32) -> Value {
    serde_json::json!({ "version": "1", "timeline": timeline })
}

fn decode(value: &Value) -> Option<u32> {
    let Record::V1 { timeline } = Record::deserialize(value).ok()?;
    Some(timeline)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    #[test]
    fn the_stored_form_stays_readable() {
        let sample: Value = serde_json::from_str(r#"{"version":"1","timeline":7}"#).unwrap();
        assert_eq!(decode(&sample), Some(7));
        assert_eq!(encode(7), sample);
        for bad in [
            "{}",
            r#"{"version":"2","timeline":7}"#,
            r#"{"version":"1","timeline":-1}"#,
        ] {
            assert_eq!(decode(&serde_json::from_str(bad).unwrap()), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn marks_are_raised_and_only_an_operator_lowers_them() {
        let store = MemoryStore::new();
        let mark = |shard, system, timeline| TimelineMark {
            shard: ShardId(shard),
            system,
            timeline,
        };
        assert_eq!(timelines(&store).await.unwrap(), []);
        assert!(raise_timeline(&store, mark(1, 7, 3)).await.unwrap());
        assert!(!raise_timeline(&store, mark(1, 7, 3)).await.unwrap());
        assert!(!raise_timeline(&store, mark(1, 7, 2)).await.unwrap());
        assert!(raise_timeline(&store, mark(1, u64::MAX, 1)).await.unwrap());
        assert!(raise_timeline(&store, mark(2, 7, 9)).await.unwrap());
        assert!(raise_timeline(&store, mark(1, 7, 4)).await.unwrap());
        let all = [mark(1, u64::MAX, 1), mark(1, 7, 4), mark(2, 7, 9)];
        assert_eq!(timelines(&store).await.unwrap(), all);
        assert!(set_timeline(&store, mark(1, 7, 2)).await.unwrap());
        assert_eq!(timelines(&store).await.unwrap()[1], mark(1, 7, 2));
    }
}
