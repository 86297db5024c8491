//! What a session left on a server, seen through a proxy with few server connections, on real servers.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests are tests"
)]

#[path = "sessions/ahead.rs"]
mod ahead;
#[path = "sessions/carried.rs"]
mod carried;
#[path = "sessions/copies.rs"]
mod copies;
#[path = "sessions/dead.rs"]
mod dead;
#[path = "sessions/fixture.rs"]
mod fixture;
#[path = "sessions/gather.rs"]
mod gather;
#[path = "sessions/global_indexes.rs"]
mod global_indexes;
#[path = "sessions/guards.rs"]
mod guards;
#[path = "sessions/leaks.rs"]
mod leaks;
#[path = "sessions/letters.rs"]
mod letters;
#[path = "sessions/limits.rs"]
mod limits;
#[path = "sessions/listening.rs"]
mod listening;
#[path = "sessions/movers.rs"]
mod movers;
#[path = "sessions/online_indexes.rs"]
mod online_indexes;
#[path = "sessions/outdated.rs"]
mod outdated;
#[path = "sessions/peers.rs"]
mod peers;
#[path = "sessions/pins.rs"]
mod pins;
#[path = "sessions/pipelines.rs"]
mod pipelines;
#[path = "sessions/plain_indexes.rs"]
mod plain_indexes;
#[path = "sessions/portions.rs"]
mod portions;
#[path = "sessions/residency.rs"]
mod residency;
#[path = "sessions/rights.rs"]
mod rights;
#[path = "sessions/sequences.rs"]
mod sequences;
#[path = "sessions/shards.rs"]
mod shards;
#[path = "sessions/stale.rs"]
mod stale;
#[path = "sessions/times.rs"]
mod times;
#[path = "sessions/told.rs"]
mod told;
