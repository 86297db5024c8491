//! Servers that nobody configured: standbys that the primary says it streams to.
//!
//! Only where the operator allows it (`[replicas] discover`), because whoever may replicate from the primary decides by
//! its `application_name` where this proxy logs in. A standby is known by its address: its `application_name` if that reads
//! `host:port`, otherwise the address it connects from, with the primary's port.
//!
//! | a standby | |
//! |---|---|
//! | is listed by the primary and unknown | joins the shard, is watched, and gets reads when it is in rotation |
//! | is no longer listed and does not answer | is forgotten |
//! | is no longer listed but answers | stays: the primary may be gone, and this one its successor |
//! | is found to be a server that is known by another address (the same life of the same system) | is forgotten |
//!
//! The last rule is not cosmetic: two names of one server would look like two rivals once it is promoted.

use std::sync::Arc;

use replica::Position;
use topology::records::NodeRecord;

use super::load::Node;
use super::observe::{Change, Memory};
use super::view::{NodeView, Out, Role, Seen, ShardView, Standing};
use super::{NodeId, Nodes};
use crate::config::ReplicaConfig;
use crate::exec::link::TextRow;
use crate::server::Address;

/// Found servers per shard; more are not looked at.
const FOUND_MAX: usize = 32;

/// Asks a primary for its physical standbys.
pub(super) const STANDBYS: &str = "\
SELECT r.application_name, pg_catalog.host(r.client_addr) FROM pg_catalog.pg_stat_replication r \
WHERE r.state IN ('catchup', 'streaming') AND NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots s \
 WHERE s.active_pid = r.pid AND s.slot_type = 'logical') ORDER BY r.pid LIMIT 64";

/// The addresses in an answer to [`STANDBYS`]. `port`: the primary's own.
pub(super) fn standbys(rows: &[TextRow], port: u16) -> Vec<NodeRecord> {
    let mut found: Vec<NodeRecord> = Vec::new();
    for row in rows {
        let text = |at: usize| row.get(at).and_then(|value| value.as_deref());
        let named = text(0).and_then(address_in);
        let Some((host, port)) = named.or_else(|| Some((text(1)?, port))) else {
            continue;
        };
        let known = found.iter().any(|known| known.host == host && known.port == port);
        if !known && found.len() < FOUND_MAX {
            found.push(NodeRecord::new(host.to_owned(), port));
        }
    }
    found
}

/// `host:port`, or `[address]:port`.
fn address_in(name: &str) -> Option<(&str, u16)> {
    let (host, port) = name.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|host| host.contains(':'))?,
        None => host,
    };
    let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let valid = bare.chars().all(|c| in_name(c) || (bare != host && c == ':'));
    (!bare.is_empty() && valid).then_some((bare, port))
}

impl Nodes {
    /// A shard's primary streams to these standbys.
    pub(super) fn discover(&self, shard: u32, listed: &[NodeRecord]) -> Vec<Change> {
        let Some(view) = self.view(shard) else {
            return Vec::new();
        };
        if listed.iter().all(|record| view.knows(record))
            && !view.nodes.iter().any(|node| node.is_gone(listed))
        {
            return Vec::new();
        }
        self.update(shard, |view, memory, config| {
            memory.discover(view, listed, config);
            memory.conclude(view, config)
        })
    }
}

impl Memory {
    fn discover(&mut self, view: &mut ShardView, listed: &[NodeRecord], config: &ReplicaConfig) {
        let is_listed = |address: &Address| listed.iter().any(|record| is_at(address, record));
        self.aliases.retain(is_listed);
        let primary = view.primary.as_ref().ok().copied();
        let shard = &*view.name;
        view.nodes.retain(|node| {
            let gone = node.is_gone(listed) && primary != Some(node.id);
            if gone {
                let address = node.node.address();
                tracing::info!(shard, %address, "a standby that was found is gone");
            }
            !gone
        });
        for record in listed {
            let count = view.nodes.iter().filter(|node| node.found).count();
            let alias = self.aliases.iter().any(|address| is_at(address, record));
            if alias || view.knows(record) || count >= FOUND_MAX {
                continue;
            }
            let node = Arc::new(Node::new(record, config));
            let address = node.address();
            tracing::info!(shard = &*view.name, %address, "a standby was found");
            let id = NodeId(view.next_id);
            view.next_id = view.next_id.saturating_add(1);
            view.nodes.push(NodeView {
                id,
                node,
                role: Role::Unknown,
                seen: None,
                lineage: None,
                standing: Standing::Out(Out::Unknown),
                hangs: false,
                found: true,
            });
        }
    }

    /// A server that was found and turns out to be one that is known already, by another address, is forgotten.
    pub(super) fn drop_aliases(&mut self, view: &mut ShardView) {
        let same = |one: &Seen, other: &Seen| {
            let life = |seen: &Seen| {
                let Position { system, .. } = seen.position;
                (system, seen.incarnation)
            };
            life(one) == life(other)
        };
        let twin_of = |node: &NodeView| {
            let mut others = view.nodes.iter().filter(|other| other.id != node.id);
            let first = |other: &&NodeView| !other.found || other.id < node.id;
            let twin = others.find(|other| {
                first(other)
                    && matches!((&node.seen, &other.seen), (Some(one), Some(other)) if same(one, other))
            });
            twin.map(|twin| twin.id)
        };
        let found = view.nodes.iter().filter(|node| node.found);
        let pairs: Vec<(NodeId, NodeId)> = found.filter_map(|node| Some((node.id, twin_of(node)?))).collect();
        for (alias, twin) in pairs {
            if let Some(node) = view.node(alias) {
                self.aliases.push(node.node.address().clone());
            }
            view.nodes.retain(|node| node.id != alias);
            self.renamed(view, alias, twin);
        }
    }
}

fn is_at(address: &Address, record: &NodeRecord) -> bool {
    address.host == record.host && address.port == record.port
}

impl ShardView {
    fn knows(&self, record: &NodeRecord) -> bool {
        self.nodes.iter().any(|node| is_at(node.node.address(), record))
    }
}

impl NodeView {
    /// It was found, is not among these any more, and does not answer.
    fn is_gone(&self, listed: &[NodeRecord]) -> bool {
        let is_listed = || listed.iter().any(|record| is_at(self.node.address(), record));
        self.found && self.role == Role::Down && !is_listed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standbys_say_where_they_are() {
        let row = |name: &str, address: Option<&str>| vec![Some(name.to_owned()), address.map(str::to_owned)];
        let rows = [
            row("walreceiver", Some("10.0.0.2")),
            row("db3.example.com:5433", Some("10.0.0.3")),
            row("[fd00::7]:5434", Some("fd00::7")),
            row("walreceiver", Some("fd00::8")),
            row("walreceiver", None),
            row("shard_1/replica_1", Some("10.0.0.2")),
            row("a b:5432", Some("10.0.0.4")),
            row("db:0", Some("10.0.0.5")),
            row("fd00::9", Some("fd00::9")),
        ];
        let found: Vec<String> = standbys(&rows, 5432)
            .iter()
            .map(|record| format!("{} {}", record.host, record.port))
            .collect();
        let expected = [
            "10.0.0.2 5432",
            "db3.example.com 5433",
            "fd00::7 5434",
            "fd00::8 5432",
            "10.0.0.4 5432",
            "10.0.0.5 5432",
            "fd00::9 5432",
        ];
        assert_eq!(found, expected);
    }
}
