//! `drover.next_id()`: 64-bit ids that sort by time, unique in their database over all shards and proxies, made without
//! asking anybody (docs/decisions/0024).
//!
//! ```text
//! 0 | 41 bits: milliseconds since 2024-01-01 00:00 UTC | 10 bits: generator | 12 bits: count within the millisecond
//! ```
//! A *generator* is whoever makes ids: each shard's primary is one, numbered as the shard, for statements and triggers that run
//! there; proxies are the others, for values that must be known before it is known which shard they belong to. Each makes every
//! pair of millisecond and count at most once:
//!
//! * A shard keeps the last pair in a sequence, under a lock that is held for microseconds, and never goes back.
//! * A proxy borrows a generator's number *for a window of ids' time* from the home shard, where the end of each number's last
//!   window is stored and only grows. What matters is the time in the ids and not the time at which they are made, so a
//!   proxy that was stopped, or whose clock is wrong, still makes only ids of its own windows.
//!
//! Clocks that go back make ids go on from the last one. Clocks that disagree make ids of different generators sort as the
//! clocks do, and nothing else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use catalog::ShardId;
use hashbrown::HashMap;

use crate::admin_link::AdminError;
use crate::cluster::Cluster;

/// 2024-01-01 00:00 UTC, in milliseconds of Unix time.
const EPOCH_MS: u64 = 1_704_067_200_000;

/// Bits of the count within a millisecond.
const COUNT_BITS: u32 = 12;

/// Bits of the generator's number.
const GENERATOR_BITS: u32 = 10;

/// Numbers from here on are lent to proxies; those below are the shards'.
const FIRST_LENT: u32 = 512;

/// How much of ids' time is borrowed at once: one round trip per minute for a proxy that makes ids all the time.
const WINDOW_MS: u64 = 60_000;

/// Ids of one statement: more would not fit into a window.
const IDS_MAX: u32 = 10_000_000;

/// What every shard needs, by the role that owns Drover's objects; repeating it changes nothing.
pub(crate) fn bootstrap(shard: ShardId) -> Vec<String> {
    vec![
        "CREATE SCHEMA IF NOT EXISTS drover".to_owned(),
        "GRANT USAGE ON SCHEMA drover TO PUBLIC".to_owned(),
        "CREATE SEQUENCE IF NOT EXISTS drover_internal.last_id MINVALUE 0".to_owned(),
        "CREATE TABLE IF NOT EXISTS drover_internal.id_windows \
         (generator int PRIMARY KEY, until_ms bigint NOT NULL)"
            .to_owned(),
        format!(
            "INSERT INTO drover_internal.id_windows SELECT g, 0 \
             FROM pg_catalog.generate_series({FIRST_LENT}, {}) g ON CONFLICT DO NOTHING",
            (1 << GENERATOR_BITS) - 1
        ),
        // pg_dump reads every table and every sequence. Reading proves nothing and decides nothing.
        "REVOKE ALL ON drover_internal.id_windows, drover_internal.last_id FROM PUBLIC".to_owned(),
        "GRANT SELECT ON drover_internal.id_windows, drover_internal.last_id TO PUBLIC".to_owned(),
        function_sql(shard),
        "GRANT EXECUTE ON FUNCTION drover.next_id() TO PUBLIC".to_owned(),
        ROLE_OF_THAT_NAME.to_owned(),
    ]
}

/// A role named drover, such as that of `drover dev`, would find the reserved schema as `"$user"` and make its tables there.
const ROLE_OF_THAT_NAME: &str = "DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'drover' AND NOT EXISTS
            (SELECT FROM pg_catalog.unnest(rolconfig) AS c WHERE c LIKE 'search_path=%')) THEN
        ALTER ROLE drover SET search_path = public;
    END IF;
-- Roles are the server's, and somebody who makes the objects of another database may be doing the same.
EXCEPTION WHEN internal_error OR unique_violation THEN NULL;
END $$";

/// The function of a shard. `setval` lasts whatever becomes of the transaction, and leaves `lastval()` alone; the lock lasts
/// until the inner block is left, which an exception does at once. A cancel or an error in between leaves neither a lock nor
/// a value that was given away twice.
fn function_sql(shard: ShardId) -> String {
    let body = if shard.0 < FIRST_LENT {
        format!(
            "DECLARE
    tick bigint;
BEGIN
    BEGIN
        PERFORM pg_advisory_xact_lock(7237954639025860965);
        SELECT greatest(s.last_value + 1,
                        (trunc(extract(epoch FROM clock_timestamp()) * 1000)::bigint - {EPOCH_MS}) << {COUNT_BITS})
            INTO STRICT tick FROM drover_internal.last_id AS s;
        PERFORM setval('drover_internal.last_id', tick);
        RAISE EXCEPTION USING ERRCODE = 'DRVID';
    EXCEPTION WHEN SQLSTATE 'DRVID' THEN
        NULL;
    END;
    RETURN ((tick >> {COUNT_BITS}) << {}) | ({}::bigint << {COUNT_BITS}) | (tick & {});
END",
            COUNT_BITS + GENERATOR_BITS,
            shard.0,
            (1 << COUNT_BITS) - 1
        )
    } else {
        format!(
            "BEGIN
    RAISE EXCEPTION 'shard {shard} cannot make ids: only shards below {FIRST_LENT} can'
        USING ERRCODE = 'feature_not_supported';
END"
        )
    };
    format!(
        "CREATE OR REPLACE FUNCTION drover.next_id() RETURNS bigint LANGUAGE plpgsql VOLATILE STRICT \
         SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$\n{body}\n$body$"
    )
}

/// Milliseconds of ids' time.
fn now_ms() -> u64 {
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    u64::try_from(unix.as_millis())
        .unwrap_or(u64::MAX)
        .saturating_sub(EPOCH_MS)
}

/// A generator's number, lent for ids of this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    generator: u32,
    /// First millisecond.
    from_ms: u64,
    /// Last millisecond.
    until_ms: u64,
}

/// What one database's ids are made from.
#[derive(Debug, Default)]
struct Source {
    window: Option<Window>,
    /// The last pair given away: milliseconds and count.
    last: u64,
}

impl Source {
    fn lend(&mut self, window: Window) {
        // Where the number changes, the count of the current millisecond says nothing any more.
        self.last |= (1 << COUNT_BITS) - 1;
        self.window = Some(window);
    }

    /// So many ids, ascending; `None` when they do not fit into the window.
    fn take(&mut self, count: u32, now_ms: u64) -> Option<Vec<i64>> {
        let window = self.window?;
        let earliest = now_ms.max(window.from_ms) << COUNT_BITS;
        let first = earliest.max(self.last + 1);
        let last = first + u64::from(count.max(1)) - 1;
        if last >> COUNT_BITS > window.until_ms {
            return None;
        }
        self.last = last;
        let id = |tick: u64| {
            let time = (tick >> COUNT_BITS) << (COUNT_BITS + GENERATOR_BITS);
            let id = time | u64::from(window.generator) << COUNT_BITS | (tick & ((1 << COUNT_BITS) - 1));
            id.cast_signed()
        };
        Some((first..=last).map(id).take(count as usize).collect())
    }
}

/// Why there are no ids.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdError {
    /// More than a statement may ask for.
    #[error("a statement can have at most {IDS_MAX} values of drover.next_id()")]
    TooMany,
    /// The home shard did not lend a window.
    #[error("no ids can be made: {0}")]
    NotLent(#[from] AdminError),
}

/// The ids that this proxy makes, by database. Shared by all workers.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    sources: Mutex<HashMap<Arc<str>, Source>>,
}

impl Ids {
    /// So many ids, ascending.
    pub(crate) async fn next(
        &self,
        cluster: &Cluster,
        database: &Arc<str>,
        count: u32,
    ) -> Result<Vec<i64>, IdError> {
        if count > IDS_MAX {
            return Err(IdError::TooMany);
        }
        loop {
            if let Some(ids) = self.with(database, |source| source.take(count, now_ms())) {
                return Ok(ids);
            }
            let window = borrow(cluster, database).await?;
            self.with(database, |source| source.lend(window));
        }
    }

    fn with<T>(&self, database: &Arc<str>, act: impl FnOnce(&mut Source) -> T) -> T {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        act(sources.entry(Arc::clone(database)).or_default())
    }
}

/// Borrows the number that nobody has had for longest. The answer counts once the home shard has it on disk.
async fn borrow(cluster: &Cluster, database: &str) -> Result<Window, AdminError> {
    let mut link = cluster.admin_link(cluster.home(), database).await?;
    link.run("SET synchronous_commit = on").await?;
    let sql = format!(
        "UPDATE drover_internal.id_windows w SET until_ms = greatest(w.until_ms, {now}) + {WINDOW_MS} \
         FROM (SELECT generator FROM drover_internal.id_windows ORDER BY until_ms, generator LIMIT 1 \
               FOR UPDATE SKIP LOCKED) free \
         WHERE w.generator = free.generator RETURNING w.generator, w.until_ms",
        now = now_ms()
    );
    let rows = link.rows(&sql).await?;
    let unreadable = || AdminError::State("the home shard has no generator to lend".to_owned());
    let Some([Some(generator), Some(until)]) = rows.first().map(Vec::as_slice) else {
        return Err(unreadable());
    };
    let generator = generator.parse().map_err(|_| unreadable())?;
    let until_ms: u64 = until.parse().map_err(|_| unreadable())?;
    if !(FIRST_LENT..1 << GENERATOR_BITS).contains(&generator) || until_ms >= 1 << 41 {
        return Err(unreadable());
    }
    Ok(Window {
        generator,
        from_ms: until_ms - WINDOW_MS + 1,
        until_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(generator: u32, from_ms: u64, until_ms: u64) -> Window {
        Window {
            generator,
            from_ms,
            until_ms,
        }
    }

    fn parts(id: i64) -> (i64, i64, i64) {
        (id >> 22, (id >> 12) & 1023, id & 4095)
    }

    #[test]
    fn ids_ascend_whatever_the_clock_does() {
        let mut source = Source::default();
        assert_eq!(source.take(1, 50), None);
        source.lend(window(600, 100, 200));
        let first = source.take(2, 150).unwrap();
        assert_eq!(
            first.iter().map(|id| parts(*id)).collect::<Vec<_>>(),
            [(150, 600, 0), (150, 600, 1)]
        );
        // Back, and before the window.
        assert_eq!(parts(source.take(1, 20).unwrap()[0]), (150, 600, 2));
        // More than a millisecond has.
        let many = source.take(5000, 150).unwrap();
        assert_eq!(parts(many[4999]), (151, 600, 906));
        assert!(many.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(parts(source.take(1, 160).unwrap()[0]), (160, 600, 0));
    }

    #[test]
    fn only_ids_of_the_window_are_made() {
        let mut source = Source::default();
        source.lend(window(600, 100, 110));
        assert_eq!(parts(source.take(1, 10).unwrap()[0]), (100, 600, 0));
        assert_eq!(source.take(1, 111), None);
        assert_eq!(source.take(4096 * 11, 100), None);
        assert_eq!(
            source.take(4096 * 11 - 1, 100).map(|ids| ids.len()),
            Some(4096 * 11 - 1)
        );
        assert_eq!(source.take(1, 110), None);
        // Another number: later than everything before, even within the same millisecond.
        source.lend(window(513, 105, 150));
        assert_eq!(parts(source.take(1, 110).unwrap()[0]), (111, 513, 0));
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        let mut source = Source::default();
        source.lend(window(600, 100, 110));
        assert_eq!(source.take(0, 100), Some(Vec::new()));
    }
}
