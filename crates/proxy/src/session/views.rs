//! The rows of the views in schema `drover`.

use crate::admin_api::PoolFigures;
use crate::cluster::InDoubt;
use crate::pools::Place;
use crate::rules::Rule;
use commit::recovery::Decision;
use movement::workflow::{Phase, Workflow};
use plan::DroverView;
use topology::records::{ClusterRecord, Scheme, TableKind, TableRecord, TableState};

/// A row of text, `None` = NULL.
type Row = Vec<Option<String>>;

/// Columns of `drover.transactions`.
pub(super) const TRANSACTION_COLUMNS: [&str; 6] =
    ["id", "owner", "decided_by", "decision", "prepared_on", "age_ms"];

/// Columns of `drover.rules` and SHOW RULES.
pub(crate) const RULES: [&str; 7] = ["name", "action", "mode", "database", "user", "statement", "hits"];

/// Rows of `drover.rules` and SHOW RULES.
pub(crate) fn rules<'r>(rules: impl Iterator<Item = &'r Rule>) -> Vec<Row> {
    let row = |rule: &Rule| {
        let config = &rule.config;
        vec![
            Some(config.name.clone()),
            Some(rule.action().to_owned()),
            Some(rule.mode().to_owned()),
            config.database.clone(),
            config.user.clone(),
            Some(rule.shape.clone()),
            Some(rule.hits().to_string()),
        ]
    };
    rules.map(row).collect()
}

/// The view's columns.
pub(super) fn columns(view: DroverView) -> &'static [&'static str] {
    match view {
        DroverView::Shards => &["shard", "role", "primary_host", "primary_port", "replicas"],
        DroverView::Nodes => super::node_rows::COLUMNS,
        DroverView::Tables => &["schema", "table", "kind", "key", "map", "state", "salt"],
        DroverView::ShardMap => super::map_rows::COLUMNS,
        DroverView::Pools => &[
            "database",
            "user",
            "shard",
            "mode",
            "active",
            "idle",
            "login",
            "waiting",
            "maxwait_us",
            "open",
            "pool_size",
            "min_pool_size",
            "reserve_pool",
            "paused",
            "server_database",
            "server_user",
        ],
        DroverView::Queries => super::queries::COLUMNS,
        DroverView::Transactions => &TRANSACTION_COLUMNS,
        DroverView::GlobalIndexes => &super::global_indexes::COLUMNS,
        DroverView::Rules => &RULES,
        DroverView::Reshardings => &[
            "id",
            "schema",
            "table",
            "statement",
            "phase",
            "attempt",
            "rows",
            "copied",
            "changes",
            "log_bytes",
            "lag_ms",
            "rows_per_second",
            "seconds_left",
            "pause_us",
            "cancelled",
            "reason",
        ],
    }
}

/// The view's rows as a session of `database` sees them.
pub(super) fn rows(view: DroverView, record: &ClusterRecord, database: &str) -> Vec<Row> {
    match view {
        DroverView::Shards => shards(record),
        // Observed, not recorded: see `node_rows`.
        DroverView::Nodes => Vec::new(),
        DroverView::Tables => {
            let here = record.tables.iter().filter(|table| table.database == database);
            here.map(|known| table(record, known)).collect()
        }
        DroverView::ShardMap => super::map_rows::rows(record),
        // Asked of the workers: see `pools`.
        DroverView::Pools => Vec::new(),
        // Asked of the servers: see `transactions`.
        DroverView::Transactions => Vec::new(),
        // Of no cluster record: see `queries`.
        DroverView::Queries => Vec::new(),
        // Asked of the home shard: see `global_indexes`.
        DroverView::GlobalIndexes | DroverView::Rules => Vec::new(),
        // Of records of their own: see `moves`.
        DroverView::Reshardings => Vec::new(),
    }
}

/// The rows of `drover.reshardings` as a session of `database` sees them.
pub(super) fn moves(moves: &[Workflow], database: &str) -> Vec<Row> {
    let row = |workflow: &Workflow| {
        let progress = &workflow.progress;
        let copying = (workflow.phase == Phase::Preparing).then(|| progress.seconds_left().to_string());
        vec![
            Some(workflow.id.clone()),
            Some(workflow.schema.clone()),
            Some(workflow.table.clone()),
            Some(workflow.statement.clone()),
            Some(workflow.phase.name().to_owned()),
            Some(workflow.attempt.to_string()),
            Some(progress.rows.to_string()),
            Some(progress.copied.to_string()),
            Some(progress.changes.to_string()),
            Some(progress.log_bytes.to_string()),
            Some(progress.lag_ms.to_string()),
            Some(progress.rate().to_string()),
            copying,
            progress.pause_us.map(|pause| pause.to_string()),
            Some(workflow.cancelled.to_string()),
            workflow.reason.clone(),
        ]
    };
    let here = moves.iter().filter(|workflow| workflow.database == database);
    here.map(row).collect()
}

/// A row of `drover.transactions`.
pub(super) fn transaction(one: &InDoubt, name: impl Fn(u32) -> String) -> Row {
    let places: Vec<String> = one.prepared_on.iter().map(|shard| name(*shard)).collect();
    let decision = match one.decision {
        Some(Decision::Commit) => Some("committed"),
        Some(Decision::Abort) => Some("aborted"),
        Some(_) if one.too_old => Some("too old"),
        Some(_) => Some("none"),
        None => None,
    };
    vec![
        Some(one.gid.to_string()),
        Some(one.owner.clone()),
        Some(name(one.gid.decider().0)),
        decision.map(str::to_owned),
        Some(places.join(", ")),
        Some(one.age_ms.to_string()),
    ]
}

/// The rows of `drover.pools`.
pub(super) fn pools(pools: &[PoolFigures], name: impl Fn(Place) -> String) -> Vec<Row> {
    let number = |n: usize| Some(n.to_string());
    let row = |pool: &PoolFigures| {
        vec![
            Some(pool.key.database.to_string()),
            Some(pool.key.user.to_string()),
            Some(name(pool.key.place)),
            Some(pool.mode.as_str().to_owned()),
            number(pool.active),
            number(pool.idle),
            number(pool.login),
            number(pool.waiting),
            Some(pool.longest_wait.as_micros().to_string()),
            number(pool.open),
            number(pool.size),
            number(pool.min_size),
            number(pool.reserve),
            Some(pool.paused.to_string()),
            Some(pool.server.0.to_string()),
            Some(pool.server.1.to_string()),
        ]
    };
    pools.iter().map(row).collect()
}

fn shards(record: &ClusterRecord) -> Vec<Row> {
    let shard = |shard: &topology::records::ShardRecord| {
        let role = if shard.id == record.home { "home" } else { "shard" };
        vec![
            Some(shard.name.clone()),
            Some(role.to_owned()),
            Some(shard.primary.host.clone()),
            Some(shard.primary.port.to_string()),
            Some(shard.replicas.len().to_string()),
        ]
    };
    record.shards.iter().map(shard).collect()
}

fn table(record: &ClusterRecord, table: &TableRecord) -> Row {
    let (kind, key, map, salt) = match &table.kind {
        TableKind::Sharded { columns, map, .. } if columns.is_empty() => {
            ("placed", None, Some(map.0.to_string()), None)
        }
        TableKind::Sharded { columns, map, .. } => {
            let salt = match record.map(*map).map(|map| &map.scheme) {
                Some(Scheme::Salted {
                    key_columns,
                    sub_keys,
                    ..
                }) => columns
                    .get(*key_columns..)
                    .map(|by| format!("{sub_keys} by {}", by.join(", "))),
                _ => None,
            };
            ("sharded", Some(columns.join(", ")), Some(map.0.to_string()), salt)
        }
        TableKind::Reference => ("reference", None, None, None),
    };
    let state = match &table.state {
        TableState::Active => "active",
        TableState::Pending { .. } => "pending",
    };
    vec![
        Some(table.schema.clone()),
        Some(table.name.clone()),
        Some(kind.to_owned()),
        key,
        map,
        Some(state.to_owned()),
        salt,
    ]
}
