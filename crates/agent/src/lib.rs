//! Supervises real PostgreSQL servers on this machine: finds the binaries, runs `initdb`, starts,
//! copies and stops servers, and builds the whole cluster of `drover dev`.
//!
//! Entry points: [`DevCluster::start`] for a cluster, [`Instance`] for one server.
//!
//! What this crate does not do: it knows no SQL beyond creating roles and databases, nothing about
//! sharding, and it never touches a process or a file it cannot show to be its own.

pub mod binaries;
pub mod cluster;
pub mod instance;
pub mod leftovers;
pub mod ports;
pub mod secret;
pub mod service_user;
mod tool;

pub use binaries::{Binaries, BinariesError};
pub use cluster::{
    ClusterError, ClusterInfo, ClusterOptions, DeadNode, DevCluster, NodeInfo, Phase, ProgressEvent,
    ShardInfo,
};
pub use instance::{Durability, Host, Instance, InstanceError, InstanceSpec, Upstream};
pub use secret::Secret;
pub use service_user::{ServiceUser, ServiceUserError};
pub use tool::ToolError;
