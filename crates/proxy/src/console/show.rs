//! SHOW: the tables.

use std::sync::Arc;

mod connections;
mod peers;
mod pools;
mod stats;

use super::Failed;
use super::command::{SETTINGS, SHOW_WORDS, Show};
use super::table::{Kind, Table, Value, row};
use crate::session::{node_rows, views};
use crate::worker::Shared;
use stats::Which;
pub(crate) use stats::{PERIOD, Periods};

/// The period of averages, in seconds.
pub(super) const PERIOD_S: u64 = PERIOD.as_secs();

/// What SHOW HELP says.
pub(super) fn help() -> String {
    format!(
        "\n\tSHOW {}\n\tSET key = value\n\tRELOAD\n\tPAUSE [<db>]\n\tRESUME [<db>]\n\tPAUSE SHARD <shard>\n\t\
         RESUME SHARD <shard>\n\tCHOOSE_PRIMARY <shard> <host:port>\n\tDISABLE <db>\n\t\
         ENABLE <db>\n\tRECONNECT [<db>]\n\tKILL [<db>]\n\tKILL_CLIENT <id>\n\tSUSPEND\n\tSHUTDOWN\n\t\
         SHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS\n\tWAIT_CLOSE [<db>]",
        SHOW_WORDS.join("|")
    )
}

/// The servers of all shards.
fn nodes(shared: &Shared) -> Table {
    texts(node_rows::COLUMNS, node_rows::rows(&shared.nodes))
}

/// What is blocked or rewritten, and how often.
fn rules(shared: &Shared) -> Table {
    let source = shared.policies.source();
    let rules = source.rules.iter().map(|rule| &**rule);
    texts(&views::RULES, views::rules(rules))
}

fn texts(names: &[&'static str], rows: Vec<Vec<Option<String>>>) -> Table {
    let columns: Vec<_> = names.iter().map(|name| (*name, Kind::Text)).collect();
    let mut table = Table::new(&columns);
    for row in rows {
        let value = |text: Option<String>| text.map_or(Value::Null, Value::Text);
        table.push(row.into_iter().map(value).collect());
    }
    table
}

/// The table asked for.
pub(super) async fn table(shared: &Arc<Shared>, what: &Show) -> Result<Table, Failed> {
    Ok(match what {
        Show::Help => Table::default(),
        Show::Setting(name) => setting(name),
        Show::One => {
            let mut table = Table::new(&[("?column?", Kind::Int4)]);
            table.push(row![1_u32]);
            table
        }
        Show::Version => {
            let mut table = Table::new(&[("version", Kind::Text)]);
            let text = format!(
                "PgBouncer {} (Drover {})",
                super::FOLLOWS,
                env!("CARGO_PKG_VERSION")
            );
            table.push(row![text]);
            table
        }
        Show::State => state(shared),
        Show::Peers => peers::peers(shared).await?,
        Show::PeerPools => peers::peer_pools(shared).await?,
        // Zones are not watched: each name is looked up by itself.
        Show::DnsZones => Table::new(&[
            ("zonename", Kind::Text),
            ("serial", Kind::Int8),
            ("count", Kind::Int4),
        ]),
        Show::Fds => {
            return Err(Failed::new(
                "0A000",
                "SHOW FDS is not supported: a restart hands over the listening sockets, not the connections; see \
                 `drover proxy --takeover`",
            ));
        }
        Show::DnsHosts => peers::names(shared),
        Show::Nodes => nodes(shared),
        Show::Rules => rules(shared),
        Show::Config => super::options::config(shared),
        Show::Mem => memory(shared),
        Show::Databases => pools::databases(shared),
        Show::Pools => pools::pools(shared).await,
        Show::Users => pools::users(shared),
        Show::Lists => pools::lists(shared).await,
        Show::Clients => connections::clients(shared).await,
        Show::Servers => connections::servers(shared).await,
        Show::Sockets => connections::sockets(shared, false).await,
        Show::ActiveSockets => connections::sockets(shared, true).await,
        Show::Stats => statistics(shared, Which::Both),
        Show::StatsTotals => statistics(shared, Which::Totals),
        Show::StatsAverages => statistics(shared, Which::Averages),
        Show::Totals => stats::totals(&shared.metrics, &shared.periods),
    })
}

fn statistics(shared: &Shared, which: Which) -> Table {
    let databases: Vec<_> = shared
        .entries
        .databases()
        .iter()
        .map(|database| Arc::clone(&database.name))
        .collect();
    stats::stats(&shared.metrics, &shared.periods, &databases, which)
}

/// What is known of memory: things and their number. Buffers are lent by each worker and not counted.
fn memory(shared: &Shared) -> Table {
    let mut table = Table::new(&[
        ("name", Kind::Text),
        ("size", Kind::Int4),
        ("used", Kind::Int4),
        ("free", Kind::Int4),
        ("memtotal", Kind::Int4),
    ]);
    let database = size_of::<crate::pools::DatabaseState>();
    let user = size_of::<crate::pools::UserState>();
    let client = size_of::<crate::cancel::CancelSlot>() + size_of::<crate::listing::ClientInfo>();
    let counts = [
        ("client_cache", client, shared.cancels.len()),
        ("db_cache", database, shared.entries.databases().len()),
        ("user_cache", user, shared.entries.users().len()),
    ];
    for (name, size, used) in counts {
        table.push(row![name, size, used, 0_u32, size * used]);
    }
    table
}

fn setting(name: &'static str) -> Table {
    let mut table = Table::new(&[(name, Kind::Text)]);
    let value = SETTINGS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| *value);
    table.push(vec![Value::from(value)]);
    table
}

fn state(shared: &Shared) -> Table {
    let mut table = Table::new(&[("key", Kind::Text), ("value", Kind::Text)]);
    let yes = |flag: bool| if flag { "yes" } else { "no" };
    let active = !shared.is_stopping();
    let databases = shared.entries.databases();
    let paused = !databases.is_empty() && databases.iter().all(|database| database.is_paused());
    let suspended = shared.is_suspended();
    table.push(row!["active", yes(active && !paused && !suspended)]);
    table.push(row!["paused", yes(paused)]);
    table.push(row!["suspended", yes(suspended)]);
    table
}
