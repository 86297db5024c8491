//! `drover import`: a `pgbouncer.ini` becomes a `drover.toml`, and everything that has no equivalent is listed.
//!
//! Nothing is dropped in silence: each option is translated, or noted as needless, or listed with the reason why it
//! cannot be translated. PgBouncer's defaults that differ from ours are written out, so that what was left out keeps
//! its meaning. [`translate`] does it without touching a file.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use drover::config::has_option;
use ini::{Entry, Ini};
use options::{As, Fate, OPTIONS};

mod databases;
mod ini;
mod options;
mod users;

#[cfg(test)]
mod tests;

/// Stands for a password that the reader has to fill in.
pub const FILL_IN: &str = "CHANGE ME";

/// What a translation gives.
#[derive(Debug, Default)]
pub struct Translation {
    /// The configuration.
    pub toml: String,
    /// What is lost or must be looked at, a line each.
    pub lost: Vec<String>,
    /// What needs no equivalent, a line each.
    pub needless: Vec<String>,
}

/// Translates the file `name`. `open` gives the text of a file named in it.
pub fn translate(name: &str, open: &mut dyn FnMut(&str) -> Result<String, String>) -> Translation {
    let ini = ini::read(name, open);
    let mut out = Out::default();
    out.lost.clone_from(&ini.problems);
    for entry in &ini.entries {
        match entry.section.as_str() {
            "pgbouncer" => global(&ini, entry, &mut out),
            "databases" | "users" => {}
            "peers" => out.needless(entry, "proxies of one cluster find each other in its store"),
            other => out.lost(entry, &format!("there is no section [{other}] in PgBouncer")),
        }
    }
    defaults(&ini, &mut out);
    listen(&ini, &mut out);
    databases::translate(&ini, &mut out);
    users::translate(&ini, open, &mut out);
    admin(&mut out);
    let toml = out.toml(name);
    Translation {
        toml,
        lost: out.lost,
        needless: out.needless,
    }
}

/// What is being written.
#[derive(Debug, Default)]
struct Out {
    /// Options by section, each `key = value`.
    sections: BTreeMap<&'static str, Vec<(String, String)>>,
    /// The repeated sections in their order.
    repeated: Vec<(&'static str, Vec<(String, String)>)>,
    lost: Vec<String>,
    needless: Vec<String>,
}

/// The sections, in the order of the documentation.
const ORDER: [&str; 9] = [
    "proxy", "store", "admin", "auth", "tls", "pool", "limits", "console", "log",
];

impl Out {
    fn lost(&mut self, entry: &Entry, why: &str) {
        self.lost.push(format!("{}: `{}`: {why}", entry.place, entry.key));
    }

    fn needless(&mut self, entry: &Entry, why: &str) {
        self.needless
            .push(format!("{}: `{}`: {why}", entry.place, entry.key));
    }

    /// Sets an option of a section that is there once; the last value counts.
    fn set(&mut self, section: &'static str, key: &str, value: String) {
        let options = self.sections.entry(section).or_default();
        options.retain(|(known, _)| known != key);
        options.push((key.to_owned(), value));
    }

    fn toml(&self, name: &str) -> String {
        let mut text = format!("# Made from {name} by `drover import`.\n");
        let write = |text: &mut String, options: &[(String, String)]| {
            for (key, value) in options {
                let _ = writeln!(text, "{key} = {value}");
            }
        };
        for section in ORDER {
            if let Some(options) = self.sections.get(section) {
                let _ = writeln!(text, "\n[{section}]");
                write(&mut text, options);
            }
        }
        for (section, options) in &self.repeated {
            let _ = writeln!(text, "\n[[{section}]]");
            write(&mut text, options);
        }
        text
    }
}

/// An option of `[pgbouncer]`.
fn global(ini: &Ini, entry: &Entry, out: &mut Out) {
    if ini.option(&entry.key).is_some_and(|last| last != entry) {
        return out.needless(entry, "a later line says otherwise");
    }
    match OPTIONS.iter().find(|(key, _)| *key == entry.key) {
        Some((_, Fate::Special)) => special(entry, out),
        Some((_, Fate::Becomes(section, key, how))) => match translated(section, key, *how, &entry.value) {
            Ok(Some(value)) => out.set(section, key, value),
            Ok(None) => {}
            Err(why) => out.lost(entry, &why),
        },
        Some((_, fate)) => apply(fate, entry, out),
        None => out.lost(entry, "PgBouncer 1.25 has no such option"),
    }
}

/// What has no option here.
fn apply(fate: &Fate, entry: &Entry, out: &mut Out) {
    match fate {
        Fate::Missing(why) => out.lost(entry, why),
        Fate::NotNeeded(why) => out.needless(entry, why),
        Fate::Only(value, why) if entry.value == *value => out.needless(entry, why),
        Fate::Only(_, why) => out.lost(entry, &format!("{} cannot be had: {why}", entry.value)),
        Fate::Becomes(..) | Fate::Special => {}
    }
}

/// The value as TOML; `None`: nothing needs to be said.
fn translated(section: &str, key: &str, how: As, value: &str) -> Result<Option<String>, String> {
    if !has_option(section, key) {
        return Err(format!("[{section}] has no `{key}`"));
    }
    match how {
        As::Text if value.is_empty() => Ok(None),
        As::Text | As::File => Ok(Some(text(value))),
        As::Flag => match value {
            "0" => Ok(Some("false".to_owned())),
            "1" => Ok(Some("true".to_owned())),
            _ => Err(format!("`{value}` is neither 0 nor 1")),
        },
        As::Number => match value.parse::<u32>() {
            Ok(number) => Ok(Some(number.to_string())),
            Err(_) => Err(format!("`{value}` is not a number")),
        },
        As::Seconds | As::SecondsNotZero => seconds(value, how == As::Seconds).map(Some),
        As::Names => {
            let names = value
                .split([',', ' '])
                .map(str::trim)
                .filter(|name| !name.is_empty());
            let names: Vec<String> = names.map(|name| text(name.trim_matches('"'))).collect();
            Ok((!names.is_empty()).then(|| format!("[{}]", names.join(", "))))
        }
        As::Bytes => match value.parse::<u64>() {
            // More than PostgreSQL itself takes; so is the default.
            Ok(bytes) if bytes > 1023 << 20 => Ok(None),
            Ok(bytes) => Ok(Some(bytes.to_string())),
            Err(_) => Err(format!("`{value}` is not a number of bytes")),
        },
    }
}

fn seconds(value: &str, zero: bool) -> Result<String, String> {
    let seconds: f64 = value
        .parse()
        .map_err(|_| format!("`{value}` is not a number of seconds"))?;
    if !(0.0..=4_000_000.0).contains(&seconds) {
        return Err(format!("`{value}` seconds is out of range"));
    }
    if seconds == 0.0 && !zero {
        return Err("0 (no limit) cannot be had; the default holds".to_owned());
    }
    Ok(if seconds.fract() == 0.0 {
        format!("\"{seconds}s\"")
    } else {
        format!("\"{}ms\"", (seconds * 1000.0).round())
    })
}

/// A TOML string.
fn text(value: &str) -> String {
    let mut quoted = String::from('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Options whose value decides what becomes of them, unless another function looks at them.
fn special(entry: &Entry, out: &mut Out) {
    let value = entry.value.as_str();
    match entry.key.as_str() {
        "max_prepared_statements" => {
            out.needless(entry, "prepared statements always work, in every pool mode");
        }
        "server_reset_query" => match value.trim_end_matches(';').to_ascii_uppercase().as_str() {
            "" | "DISCARD ALL" => out.needless(entry, "what a client leaves behind is always cleaned up"),
            _ => out.lost(
                entry,
                "connections are cleaned up by Drover itself, by what was left on them",
            ),
        },
        "server_check_query" => {
            let query = if value == "<empty>" { "" } else { value };
            if has_option("pool", "server_check_query") {
                out.set("pool", "server_check_query", text(query));
            } else {
                out.lost(entry, "[pool] has no `server_check_query`");
            }
        }
        "client_tls_protocols" | "server_tls_protocols" => match value {
            "" | "secure" | "default" => out.needless(entry, "TLS 1.2 and 1.3, as here"),
            "tlsv1.3" if entry.key == "client_tls_protocols" && has_option("tls", "client_min_version") => {
                out.set("tls", "client_min_version", text("1.3"));
            }
            _ => out.lost(entry, "TLS 1.2 and 1.3 are spoken, nothing older"),
        },
        _ => {}
    }
}

/// PgBouncer's defaults that are not ours.
fn defaults(ini: &Ini, out: &mut Out) {
    let defaults = [
        ("pool_mode", "session"),
        ("max_client_conn", "100"),
        ("query_wait_timeout", "120"),
        ("server_connect_timeout", "15"),
    ];
    for (key, value) in defaults {
        if ini.option(key).is_none() {
            let entry = Entry {
                section: "pgbouncer".to_owned(),
                key: key.to_owned(),
                value: value.to_owned(),
                place: "PgBouncer's default".to_owned(),
            };
            global(ini, &entry, out);
        }
    }
}

/// Addresses, ports and the Unix socket.
fn listen(ini: &Ini, out: &mut Out) {
    let port = ini
        .option("listen_port")
        .map_or("6432", |entry| entry.value.as_str());
    let port: u16 = match port.parse() {
        Ok(port) if port != 0 => port,
        _ => {
            out.lost
                .push(format!("`listen_port`: `{port}` is not a port; 6432 is written"));
            6432
        }
    };
    let entry = ini.option("listen_addr");
    let addresses: Vec<&str> = entry
        .map_or("", |entry| entry.value.as_str())
        .split(',')
        .map(str::trim)
        .filter(|address| !address.is_empty())
        .collect();
    let mut listen: Vec<String> = Vec::new();
    for address in &addresses {
        let ip = match *address {
            "*" => "0.0.0.0".to_owned(),
            "localhost" => "127.0.0.1".to_owned(),
            address => match address.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
                Ok(ip) => ip.to_string(),
                Err(_) => {
                    out.lost.push(format!(
                        "`listen_addr`: `{address}` is not an IP address and is left out"
                    ));
                    continue;
                }
            },
        };
        let ip = if ip.contains(':') { format!("[{ip}]") } else { ip };
        let value = text(&format!("{ip}:{port}"));
        if !listen.contains(&value) {
            listen.push(value);
        }
    }
    if listen.is_empty() {
        if addresses.is_empty() {
            let note = "`listen_addr`: PgBouncer without it serves its Unix socket only; Drover also listens on 127.0.0.1";
            out.lost.push(note.to_owned());
        }
        listen.push(text(&format!("127.0.0.1:{port}")));
    }
    let value = match listen.as_slice() {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    };
    out.set("proxy", "listen", value);
    let directory = ini
        .option("unix_socket_dir")
        .map_or("/tmp", |entry| entry.value.as_str());
    if let Some(name) = directory.strip_prefix('@') {
        out.lost.push(format!(
            "`unix_socket_dir`: abstract sockets (`@{name}`) cannot be listened on"
        ));
    } else if !directory.is_empty() {
        out.set("proxy", "unix_socket_dir", text(directory));
    }
}

/// What Drover needs and PgBouncer does not have.
fn admin(out: &mut Out) {
    out.set("admin", "user", text("postgres"));
    out.set("admin", "password", text(FILL_IN));
    let note = "`[admin]`: Drover reads schemas with a role of its own, a superuser; fill in its password";
    out.lost.push(note.to_owned());
}
