//! A running proxy asked over the PostgreSQL protocol, as psql would: what operators' commands stand on.

use std::time::Duration;

use proxy::admin_link::{AdminError, AdminLink};
use proxy::config::{AdminConfig, TlsConfig};
use proxy::server::Address;
use proxy::tls::Tls;

/// Where `drover dev` listens.
pub const DEFAULT_URL: &str = "postgresql://drover:drover@127.0.0.1:6432/app";

/// A statement that compares or repairs large tables may take this long.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// A row of text, `None` = NULL.
pub type Row = Vec<Option<String>>;

/// Why an answer is missing. The text is for people.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The URL.
    #[error("{0}")]
    Url(String),
    /// The proxy cannot be reached, or does not let this role in.
    #[error("{0}")]
    Connect(String),
    /// It said no.
    #[error("{0}")]
    Refused(String),
}

/// A session of one proxy.
pub struct Session {
    link: AdminLink,
}

/// The parts of `postgresql://user:password@host:port/database`.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    user: String,
    password: Option<String>,
    host: String,
    port: u16,
    database: String,
}

impl Session {
    /// Connects; a password that is not in the URL is taken from `PGPASSWORD`.
    pub async fn connect(url: &str) -> Result<Session, AskError> {
        let url = parse(url).map_err(AskError::Url)?;
        let tls = Tls::load(&TlsConfig::default()).map_err(|error| AskError::Connect(error.to_string()))?;
        let admin = AdminConfig {
            user: url.user,
            password: url.password.or_else(|| std::env::var("PGPASSWORD").ok()),
        };
        let address = Address {
            host: url.host,
            port: url.port,
        };
        let place = address.to_string();
        let link = AdminLink::connect(address, tls.server(""), &admin, &url.database).await;
        let link = link.map_err(|error| AskError::Connect(format!("{place}: {error}")))?;
        Ok(Session { link })
    }

    /// A transaction block is open.
    pub fn in_transaction(&self) -> bool {
        self.link.server.status != wire::TransactionStatus::Idle
    }

    /// The rows of one statement.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<Row>, AskError> {
        let rows = tokio::time::timeout(PATIENCE, self.link.rows(sql)).await;
        let rows = rows.map_err(|_| AskError::Refused("there was no answer".to_owned()))?;
        rows.map_err(|error| {
            AskError::Refused(match error {
                AdminError::Server(fields) => {
                    let more = [&fields.detail, &fields.hint];
                    let more: String = more
                        .into_iter()
                        .flatten()
                        .map(|text| format!("\n  {text}"))
                        .collect();
                    format!("{} (SQLSTATE {}){more}", fields.message, fields.code)
                }
                other => other.to_string(),
            })
        })
    }
}

/// Rows as a JSON array of objects; NULL is null.
pub fn json(names: &[&str], rows: &[Row]) -> String {
    let mut out = String::from("[");
    for (at, row) in rows.iter().enumerate() {
        out.push_str(if at == 0 { "\n  {" } else { ",\n  {" });
        for (at, (name, value)) in names.iter().zip(row).enumerate() {
            out.push_str(if at == 0 { "" } else { ", " });
            proxy::json::push_string(&mut out, name);
            out.push_str(": ");
            match value {
                Some(value) => proxy::json::push_string(&mut out, value),
                None => out.push_str("null"),
            }
        }
        out.push('}');
    }
    out.push_str(if rows.is_empty() { "]\n" } else { "\n]\n" });
    out
}

fn parse(url: &str) -> Result<Url, String> {
    let wrong =
        |what: &str| format!("the URL {what}: postgresql://user:password@host:port/database is expected");
    let rest = url
        .strip_prefix("postgresql://")
        .or_else(|| url.strip_prefix("postgres://"))
        .ok_or_else(|| wrong("has another scheme"))?;
    let (rest, _) = rest.split_once('?').unwrap_or((rest, ""));
    let (who, place) = rest.rsplit_once('@').ok_or_else(|| wrong("names no user"))?;
    let (place, database) = place.split_once('/').ok_or_else(|| wrong("names no database"))?;
    let (user, password) = match who.split_once(':') {
        Some((user, password)) => (
            user,
            Some(decode(password).ok_or_else(|| wrong("cannot be read"))?),
        ),
        None => (who, None),
    };
    let (host, port) = match place.strip_prefix('[').and_then(|place| place.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match place.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = port
        .map_or(Ok(5432), str::parse)
        .map_err(|_| wrong("has no such port"))?;
    let text = |text: &str| {
        decode(text)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| wrong("cannot be read"))
    };
    Ok(Url {
        user: text(user)?,
        password,
        host: text(host)?,
        port,
        database: text(database)?,
    })
}

/// Without percent-encoding.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = parse("postgresql://a%40b:p%3Aw@[::1]:6432/app?x=y").unwrap();
        let expected = Url {
            user: "a@b".to_owned(),
            password: Some("p:w".to_owned()),
            host: "::1".to_owned(),
            port: 6432,
            database: "app".to_owned(),
        };
        assert_eq!(url, expected);
        let url = parse("postgres://u@%2Frun%2Fpg/d").unwrap();
        assert_eq!(
            (url.host.as_str(), url.port, url.password),
            ("/run/pg", 5432, None)
        );
        for bad in [
            "",
            "http://u@h/d",
            "postgres://h/d",
            "postgres://u@h",
            "postgres://u@h:x/d",
            "postgres://u%zz@h/d",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rows_are_objects() {
        let rows = [vec![Some("a\"".to_owned()), None]];
        assert_eq!(
            json(&["x", "y"], &rows),
            "[\n  {\"x\": \"a\\\"\", \"y\": null}\n]\n"
        );
        assert_eq!(json(&["x"], &[]), "[]\n");
    }
}
