//! SHOW: the tables.

use std::sync::Arc;

use super::Failed;
use super::command::{SETTINGS, SHOW_WORDS, Show};
use super::table::{Kind, Table, Value, row};
use crate::worker::Shared;

/// What SHOW HELP says.
pub(super) fn help() -> String {
    format!(
        "Console usage\n\tSHOW {}\n\tSET key = value\n\tRELOAD\n\tPAUSE [<db>]\n\tRESUME [<db>]\n\tDISABLE <db>\n\t\
         ENABLE <db>\n\tRECONNECT [<db>]\n\tKILL [<db>]\n\tKILL_CLIENT <id>\n\tSUSPEND\n\tSHUTDOWN\n\t\
         SHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS\n\tWAIT_CLOSE [<db>]",
        SHOW_WORDS.join("|")
    )
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
        Show::Peers => Table::new(&[
            ("peer_id", Kind::Int4),
            ("host", Kind::Text),
            ("port", Kind::Int4),
            ("pool_size", Kind::Int4),
        ]),
        Show::PeerPools => Table::new(&[
            ("peer_id", Kind::Int4),
            ("cl_active_cancel_req", Kind::Int4),
            ("cl_waiting_cancel_req", Kind::Int4),
            ("sv_active_cancel", Kind::Int4),
            ("sv_login", Kind::Int4),
        ]),
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
        other => return Err(Failed::new("0A000", format!("not supported: SHOW {other:?}"))),
    })
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
    table.push(row!["active", yes(active)]);
    table.push(row!["paused", yes(false)]);
    table.push(row!["suspended", yes(false)]);
    table
}
