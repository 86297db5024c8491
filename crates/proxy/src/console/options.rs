//! SHOW CONFIG and SET: options under PgBouncer's names, and our own under theirs.

use std::time::Duration;

use super::table::Kind::Text;
use super::table::{Table, row};
use crate::config::{PoolConfig, PoolMode, Timeouts};
use crate::pools::PolicySource;
use crate::worker::Shared;

/// A value that can be changed while the proxy runs.
enum Value<'a> {
    Number(&'a mut usize),
    /// Whole or fractional seconds.
    Seconds(&'a mut Duration),
    Mode(&'a mut PoolMode),
    Text(&'a mut String),
}

/// An option that can be changed while the proxy runs.
struct Changeable {
    key: &'static str,
    value: fn(&mut PolicySource) -> Value<'_>,
}

const CHANGEABLE: &[Changeable] = &[
    Changeable {
        key: "pool_mode",
        value: |s| Value::Mode(&mut s.pool.mode),
    },
    Changeable {
        key: "default_pool_size",
        value: |s| Value::Number(&mut s.pool.size),
    },
    Changeable {
        key: "min_pool_size",
        value: |s| Value::Number(&mut s.pool.min_size),
    },
    Changeable {
        key: "reserve_pool_size",
        value: |s| Value::Number(&mut s.pool.reserve),
    },
    Changeable {
        key: "reserve_pool_timeout",
        value: |s| Value::Seconds(&mut s.pool.reserve_timeout),
    },
    Changeable {
        key: "queue_limit",
        value: |s| Value::Number(&mut s.pool.queue_limit),
    },
    Changeable {
        key: "max_server_connections",
        value: |s| Value::Number(&mut s.pool.max_servers),
    },
    Changeable {
        key: "max_db_connections",
        value: |s| Value::Number(&mut s.limits.max_database_servers),
    },
    Changeable {
        key: "max_db_client_connections",
        value: |s| Value::Number(&mut s.limits.max_database_clients),
    },
    Changeable {
        key: "max_user_connections",
        value: |s| Value::Number(&mut s.limits.max_user_servers),
    },
    Changeable {
        key: "max_user_client_connections",
        value: |s| Value::Number(&mut s.limits.max_user_clients),
    },
    Changeable {
        key: "query_timeout",
        value: |s| Value::Seconds(&mut s.timeouts.query),
    },
    Changeable {
        key: "transaction_timeout",
        value: |s| Value::Seconds(&mut s.timeouts.transaction),
    },
    Changeable {
        key: "idle_transaction_timeout",
        value: |s| Value::Seconds(&mut s.timeouts.idle_transaction),
    },
    Changeable {
        key: "client_idle_timeout",
        value: |s| Value::Seconds(&mut s.timeouts.client_idle),
    },
    Changeable {
        key: "query_wait_timeout",
        value: |s| Value::Seconds(&mut s.pool.connection_timeout),
    },
    Changeable {
        key: "server_idle_timeout",
        value: |s| Value::Seconds(&mut s.pool.idle_timeout),
    },
    Changeable {
        key: "server_lifetime",
        value: |s| Value::Seconds(&mut s.pool.max_lifetime),
    },
    Changeable {
        key: "server_check_delay",
        value: |s| Value::Seconds(&mut s.pool.check_delay),
    },
    Changeable {
        key: "server_check_query",
        value: |s| Value::Text(&mut s.pool.check_query),
    },
];

impl Value<'_> {
    fn show(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Seconds(time) if time.subsec_nanos() == 0 => time.as_secs().to_string(),
            Self::Seconds(time) => time.as_secs_f64().to_string(),
            Self::Mode(mode) => mode.as_str().to_owned(),
            Self::Text(text) => (**text).clone(),
        }
    }

    fn set(self, text: &str) -> Result<(), String> {
        let invalid = || format!("`{text}` is not a valid value");
        match self {
            Self::Number(number) => *number = text.parse::<u32>().map_err(|_| invalid())? as usize,
            Self::Seconds(time) => {
                let seconds: f64 = text.parse().map_err(|_| invalid())?;
                let valid = (0.0..=f64::from(u32::MAX)).contains(&seconds);
                *time = Duration::from_secs_f64(if valid { seconds } else { return Err(invalid()) });
            }
            Self::Mode(mode) => {
                *mode = match text.to_ascii_lowercase().as_str() {
                    "session" => PoolMode::Session,
                    "transaction" => PoolMode::Transaction,
                    "statement" => PoolMode::Statement,
                    _ => return Err(invalid()),
                }
            }
            Self::Text(old) => text.clone_into(old),
        }
        Ok(())
    }
}

/// `SET key = value`: until the next RELOAD or restart, as in PgBouncer.
pub(super) fn set(shared: &Shared, key: &str, value: &str) -> Result<(), String> {
    let option = CHANGEABLE.iter().find(|option| option.key == key);
    let Some(option) = option else {
        let known = config(shared)
            .rows
            .iter()
            .any(|row| row.first() == Some(&key.into()));
        return Err(if known {
            format!("`{key}` cannot be changed while the proxy runs")
        } else {
            format!("there is no option `{key}`, see SHOW CONFIG")
        });
    };
    let mut source = (*shared.policies.source()).clone();
    (option.value)(&mut source).set(value)?;
    if source.pool.size == 0 {
        return Err("a pool needs at least one connection".to_owned());
    }
    if source.pool.connection_timeout.is_zero() {
        return Err("`query_wait_timeout` must be longer than nothing".to_owned());
    }
    tracing::info!(key, value, "an option was changed at the console");
    shared.set_policies(source);
    Ok(())
}

/// SHOW CONFIG.
pub(super) fn config(shared: &Shared) -> Table {
    let mut table = Table::new(&[
        ("key", Text),
        ("value", Text),
        ("default", Text),
        ("changeable", Text),
    ]);
    let mut now = (*shared.policies.source()).clone();
    let mut fresh = now.clone();
    fresh.pool = PoolConfig::default();
    fresh.limits = crate::config::Limits::default();
    fresh.timeouts = Timeouts::default();
    for option in CHANGEABLE {
        let (value, default) = ((option.value)(&mut now).show(), (option.value)(&mut fresh).show());
        table.push(row![option.key, value, default, "yes"]);
    }
    for (key, value, default) in fixed(shared) {
        table.push(row![key, value, default, "no"]);
    }
    table.rows.sort_by_key(|row| match row.first() {
        Some(super::table::Value::Text(key)) => key.clone(),
        _ => String::new(),
    });
    table
}

/// What SET does not change. No secrets.
fn fixed(shared: &Shared) -> Vec<(&'static str, String, Option<String>)> {
    let config = &shared.config;
    // A reload changes some of them.
    let now = shared.policies.source();
    let limits = crate::config::Limits::default();
    let pool = PoolConfig::default();
    let seconds = |time: Duration| time.as_secs().to_string();
    let socket = config.unix_socket.as_ref();
    let empty = || Some(String::new());
    vec![
        ("admin_users", now.console.admin_users.join(","), empty()),
        ("stats_users", now.console.stats_users.join(","), empty()),
        ("listen_addr", config.listen.ip().to_string(), None),
        (
            "listen_port",
            config.listen.port().to_string(),
            Some("6432".to_owned()),
        ),
        (
            "unix_socket_dir",
            socket.map_or(String::new(), |socket| socket.directory.display().to_string()),
            empty(),
        ),
        (
            "max_client_conn",
            now.limits.max_clients.to_string(),
            Some(limits.max_clients.to_string()),
        ),
        (
            "client_login_timeout",
            seconds(now.limits.login_timeout),
            Some(seconds(limits.login_timeout)),
        ),
        (
            "server_connect_timeout",
            seconds(now.pool.connect_timeout),
            Some(seconds(pool.connect_timeout)),
        ),
        (
            "max_prepared_statements",
            now.pool.prepared_statements.to_string(),
            Some(pool.prepared_statements.to_string()),
        ),
        (
            "dns_max_ttl",
            seconds(now.pool.dns_max_ttl),
            Some(seconds(pool.dns_max_ttl)),
        ),
        (
            "max_packet_size",
            now.limits.max_message_bytes.to_string(),
            Some(limits.max_message_bytes.to_string()),
        ),
        (
            "multi_shard_pool",
            now.pool.multi_shard.to_string(),
            Some(pool.multi_shard.to_string()),
        ),
        ("workers", shared.mailboxes.len().to_string(), None),
        (
            "stats_period",
            super::show::PERIOD_S.to_string(),
            Some("60".to_owned()),
        ),
    ]
}
