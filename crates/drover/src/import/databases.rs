//! Section `[databases]`: entries for databases, and the one server they are on.

use std::collections::BTreeMap;

use super::ini::{Entry, Ini, pairs};
use super::options::{DATABASE_OPTIONS, Fate};
use super::{Out, apply, text, translated};

/// Where Debian's and Red Hat's servers have their Unix sockets.
const SOCKET_DIRECTORY: &str = "/var/run/postgresql";

/// An entry with its connection string taken apart.
struct Database<'a> {
    entry: &'a Entry,
    options: Vec<(String, String)>,
    server: String,
}

/// Writes `[[databases]]` and `[[shards]]`.
pub(super) fn translate(ini: &Ini, out: &mut Out) {
    let mut databases: Vec<Database<'_>> = Vec::new();
    for entry in ini.section("databases") {
        let Some(options) = pairs(&entry.value) else {
            out.lost(entry, "this connection string cannot be read");
            continue;
        };
        let server = server(entry, &options, out);
        databases.push(Database {
            entry,
            options,
            server,
        });
    }
    let Some(chosen) = main_server(&databases) else {
        let note = "`[databases]` is empty: a database and a server that may not exist are written";
        out.lost.push(note.to_owned());
        out.repeated
            .push(("databases", vec![("name".to_owned(), text("postgres"))]));
        return shard("127.0.0.1:5432", out);
    };
    for database in &databases {
        if database.server == chosen {
            written(database, out);
        } else {
            let why = format!(
                "it is on {}, the others on {chosen}: a Drover serves one cluster, give this one its own",
                database.server
            );
            out.lost(database.entry, &why);
        }
    }
    shard(&chosen, out);
}

fn shard(primary: &str, out: &mut Out) {
    let options = vec![
        ("name".to_owned(), text("shard_1")),
        ("primary".to_owned(), text(primary)),
    ];
    out.repeated.push(("shards", options));
}

/// The server with most databases; the first of them when several have as many.
fn main_server(databases: &[Database<'_>]) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for database in databases {
        *counts.entry(&database.server).or_default() += 1;
    }
    let most = counts.values().max()?;
    let first = databases
        .iter()
        .find(|database| counts.get(database.server.as_str()) == Some(most));
    first.map(|database| database.server.clone())
}

fn server(entry: &Entry, options: &[(String, String)], out: &mut Out) -> String {
    let option = |key: &str| {
        let found = options.iter().rev().find(|(known, _)| known == key);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    };
    let host = option("host")
        .or_else(|| option("hostaddr"))
        .unwrap_or(SOCKET_DIRECTORY);
    let (host, others) = host
        .split_once(',')
        .map_or((host, None), |(host, others)| (host, Some(others)));
    if let Some(others) = others {
        out.lost(entry, &format!("one host can be given; left out: {others}"));
    }
    let port = option("port").unwrap_or("5432");
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn written(database: &Database<'_>, out: &mut Out) {
    let name = &database.entry.key;
    let mut options = vec![("name".to_owned(), text(name))];
    for (key, value) in &database.options {
        if matches!(key.as_str(), "host" | "hostaddr" | "port") || (key == "dbname" && value == name) {
            continue;
        }
        let entry = Entry {
            section: "databases".to_owned(),
            key: format!("{name}: {key}"),
            value: value.clone(),
            place: database.entry.place.clone(),
        };
        match DATABASE_OPTIONS.iter().find(|(known, _)| known == key) {
            Some((_, Fate::Becomes(section, key, how))) => match translated(section, key, *how, value) {
                Ok(Some(value)) => options.push(((*key).to_owned(), value)),
                Ok(None) => {}
                Err(why) => out.lost(&entry, &why),
            },
            Some((_, fate)) => apply(fate, &entry, out),
            None => out.lost(&entry, "PgBouncer 1.25 has no such option of a database"),
        }
    }
    out.repeated.push(("databases", options));
}
