//! SHOW CLIENTS, SERVERS, SOCKETS and ACTIVE_SOCKETS.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cancel::CancelSlot;
use crate::console::table::Kind::{Int4, Text};
use crate::console::table::{ColumnSpec, Table, Value, row};
use crate::listing::{ServerRow, utc};
use crate::session::effects::{PinReason, Pins};
use crate::sockets::Peer;
use crate::worker::Shared;

const COLUMNS: &[ColumnSpec] = &[
    ("type", Text),
    ("user", Text),
    ("database", Text),
    ("replication", Text),
    ("state", Text),
    ("addr", Text),
    ("port", Int4),
    ("local_addr", Text),
    ("local_port", Int4),
    ("connect_time", Text),
    ("request_time", Text),
    ("wait", Int4),
    ("wait_us", Int4),
    ("close_needed", Int4),
    ("ptr", Text),
    ("link", Text),
    ("remote_pid", Int4),
    ("tls", Text),
    ("application_name", Text),
    ("prepared_statements", Int4),
    ("id", Int4),
];

/// Only of sockets: nothing is known here of a buffer's positions.
const SOCKET_COLUMNS: &[ColumnSpec] = &[
    ("recv_pos", Int4),
    ("pkt_pos", Int4),
    ("pkt_remain", Int4),
    ("send_pos", Int4),
    ("send_remain", Int4),
    ("pkt_avail", Int4),
    ("send_avail", Int4),
];

/// Our own.
const OWN_COLUMNS: &[ColumnSpec] = &[("worker", Int4), ("shard", Text), ("pinned", Text)];

pub(super) async fn clients(shared: &Arc<Shared>) -> Table {
    let servers = shared.servers().await;
    let mut table = Table::new(&[COLUMNS, OWN_COLUMNS].concat());
    for row in client_rows(shared, &servers) {
        table.push(row);
    }
    table
}

pub(super) async fn servers(shared: &Arc<Shared>) -> Table {
    let servers = shared.servers().await;
    let mut table = Table::new(&[COLUMNS, OWN_COLUMNS].concat());
    for server in &servers {
        table.push(server_row(shared, server));
    }
    table
}

/// Clients and servers; `active`: those that are at work.
pub(super) async fn sockets(shared: &Arc<Shared>, active: bool) -> Table {
    let servers = shared.servers().await;
    let mut table = Table::new(&[COLUMNS, SOCKET_COLUMNS, OWN_COLUMNS].concat());
    let mut rows = client_rows(shared, &servers);
    rows.extend(servers.iter().map(|server| server_row(shared, server)));
    let state = COLUMNS.iter().position(|(name, _)| *name == "state").unwrap_or(0);
    for mut row in rows {
        let is_active = row.get(state) == Some(&Value::from("active"));
        if active && !is_active {
            continue;
        }
        let zeros = std::iter::repeat_n(Value::from(0_u32), SOCKET_COLUMNS.len());
        row.splice(COLUMNS.len()..COLUMNS.len(), zeros);
        table.push(row);
    }
    table
}

fn client_rows(shared: &Shared, servers: &[ServerRow]) -> Vec<Vec<Value>> {
    let mut links: HashMap<u32, &ServerRow> = HashMap::new();
    for server in servers.iter().filter(|server| server.client != 0) {
        links.entry(server.client).or_insert(server);
    }
    let clients = shared.cancels.list();
    let rows = clients
        .iter()
        .filter_map(|slot| client_row(shared, slot, links.get(&slot.pid()).copied()));
    rows.collect()
}

fn client_row(shared: &Shared, slot: &CancelSlot, server: Option<&ServerRow>) -> Option<Vec<Value>> {
    let info = slot.mark.info()?;
    let wait = slot.mark.waits();
    let state = match (server, wait) {
        (Some(_), _) => "active",
        (None, Some(_)) => "waiting",
        (None, None) => "idle",
    };
    let (address, port, remote_pid) = match info.peer {
        Peer::Tcp(address) => (address.ip().to_string(), address.port(), 0),
        Peer::Unix { pid, .. } => ("unix".to_owned(), shared.config.listen.port(), pid.unwrap_or(0)),
    };
    let (local, local_port) = match info.local {
        Some((address, port)) => (address.to_string(), port),
        None => ("unix".to_owned(), shared.config.listen.port()),
    };
    let wait = wait.unwrap_or(Duration::ZERO);
    Some(row![
        "C",
        &*info.user,
        &*info.database,
        "none",
        state,
        address,
        port,
        local,
        local_port,
        utc(info.connected_s),
        utc(slot.mark.last_request_s()),
        wait.as_secs(),
        wait.subsec_micros(),
        0_u32,
        client_pointer(slot.pid()),
        server.map_or(String::new(), server_pointer),
        remote_pid,
        info.tls.as_deref().unwrap_or_default(),
        &*info.application_name,
        0_u32,
        slot.pid(),
        server.map(|server| server.worker),
        server.map(|server| shared.name_of(server.key.place)),
        reasons(slot.mark.pins()),
    ])
}

fn server_row(shared: &Shared, server: &ServerRow) -> Vec<Value> {
    let link = match server.client {
        0 => String::new(),
        pid => client_pointer(pid),
    };
    let address = if server.address.host.starts_with('/') {
        "unix"
    } else {
        &server.address.host
    };
    row![
        "S",
        &*server.key.user,
        &*server.key.database,
        "none",
        if server.lent { "active" } else { "idle" },
        address,
        server.address.port,
        Value::Null,
        Value::Null,
        utc(server.connected_s),
        utc(server.since_s),
        0_u32,
        0_u32,
        0_u32,
        server_pointer(server),
        link,
        server.pid,
        if server.encrypted { "TLS" } else { "" },
        "",
        server.prepared,
        server_id(server),
        server.worker,
        shared.name_of(server.key.place),
        Value::Null,
    ]
}

/// Why a session keeps its server; empty: it does not.
fn reasons(pins: Pins) -> String {
    let words: Vec<_> = pins.iter().map(PinReason::as_str).collect();
    words.join(", ")
}

/// Names that look like PgBouncer's pointers, and are as good for joining clients with their servers.
fn client_pointer(pid: u32) -> String {
    format!("0x{pid:x}")
}

fn server_pointer(server: &ServerRow) -> String {
    // Apart from clients', which have 31 bits.
    format!("0x{:x}", (1_u64 << 40) | server_id(server))
}

/// Unlike that of any other server of this proxy, and an `integer`.
fn server_id(server: &ServerRow) -> u64 {
    (server.id * 64 + server.worker as u64) & 0x7fff_ffff
}
