//! Pools seen by their clients and by an operator, on real servers: modes, sizes, limits, time-outs, clients that die,
//! servers that stop, die and come back.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests are tests"
)]

#[path = "pools/care.rs"]
mod care;
#[path = "pools/door.rs"]
mod door;
#[path = "pools/limits.rs"]
mod limits;
#[path = "pools/modes.rs"]
mod modes;
#[path = "pools/outage.rs"]
mod outage;
#[path = "pools/site.rs"]
mod site;
#[path = "pools/switches.rs"]
mod switches;
#[path = "pools/timeouts.rs"]
mod timeouts;
#[path = "pools/upkeep.rs"]
mod upkeep;
