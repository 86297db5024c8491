//! Drover: testkit.

pub mod campaign;
pub mod casefile;
pub mod chaos;
pub mod client;
pub mod cluster;
pub mod consistency;
pub mod dev;
pub mod disturb;
pub mod failover;
pub mod isolation;
pub mod leak;
pub mod oracle;
pub mod placement;
pub mod postgres;
pub mod proxy;
pub mod random;
pub mod read_cases;
pub mod reaper;

pub use cluster::{TestCluster, TestOptions};
pub use postgres::TestPostgres;
