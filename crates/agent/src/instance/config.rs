//! The text of `drover.conf`, the server's main configuration file.

use std::fmt::Write as _;
use std::path::Path;

use super::{Durability, InstanceSpec, Upstream};

/// What every server gets, whatever its role. Each line is here for the reason beside it.
const COMMON: &str = "\
# prepared transactions carry commits that span shards
max_prepared_transactions = 200
max_connections = 200
# resharding and change capture read the log logically
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
# a former primary can be rewound to follow its successor
wal_log_hints = on
# a replica that never comes back must not fill the disk
max_slot_wal_keep_size = 4GB
# between its start and its slot a base backup has no hold on the log, which the checkpoint of another one removes
wal_keep_size = 64MB
hot_standby = on
# several servers share this machine
shared_buffers = 64MB
logging_collector = off
log_line_prefix = '%m [%p] %u@%d '
";

/// For tests only: a crash of the machine corrupts the data, a crash of the server does not.
const UNSAFE: &str = "\
fsync = off
full_page_writes = off
";

/// The configuration of one server. It includes the file `initdb` wrote, so that what was chosen there
/// (locale, time zone) stays; `ALTER SYSTEM` still has the last word, except over the addresses, which
/// are given on the command line.
pub(super) fn drover_conf(spec: &InstanceSpec, data_dir: &str, upstream: Option<&Upstream>) -> String {
    let mut text =
        String::from("# Written by Drover at every start: changes made here are lost. Use ALTER SYSTEM.\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "include = {}",
        quote(&format!("{data_dir}/postgresql.conf"))
    );
    text.push_str(COMMON);
    let _ = writeln!(text, "cluster_name = {}", quote(&spec.name));
    if spec.durability == Durability::Unsafe {
        text.push_str(UNSAFE);
    }
    if let Some(upstream) = upstream {
        let _ = writeln!(
            text,
            "primary_conninfo = {}",
            quote(&conninfo(upstream, &spec.name))
        );
        let _ = writeln!(text, "primary_slot_name = {}", quote(&upstream.slot));
    }
    text
}

/// A list of one directory, as `unix_socket_directories` reads lists: quoted, since a path may hold a comma.
pub(super) fn directory_list(directory: &Path) -> String {
    format!("\"{}\"", directory.display().to_string().replace('"', "\"\""))
}

fn conninfo(upstream: &Upstream, name: &str) -> String {
    let part =
        |key: &str, value: &str| format!("{key}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
    [
        part("host", &upstream.host),
        part("port", &upstream.port.to_string()),
        part("user", &upstream.user),
        part("password", upstream.password.expose()),
        part("application_name", name),
    ]
    .join(" ")
}

/// A string in a configuration file.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_twice_where_they_are_read_twice() {
        let spec = InstanceSpec {
            name: "shard_1/replica_1".into(),
            dir: "/d".into(),
            socket_dir: "/s".into(),
            durability: Durability::Durable,
        };
        let upstream = Upstream {
            host: "127.0.0.1".into(),
            port: 5433,
            user: "it's".into(),
            password: crate::Secret::new("a\\b"),
            slot: "replica_1".into(),
        };
        let text = drover_conf(&spec, "/o'dir", Some(&upstream));
        assert!(text.contains("include = '/o''dir/postgresql.conf'"), "{text}");
        assert!(text.contains(r"user=''it\\''s''"), "{text}");
        assert!(text.contains(r"password=''a\\\\b''"), "{text}");
        assert!(!text.contains("fsync"));
        assert_eq!(directory_list(Path::new("/a,\"b")), "\"/a,\"\"b\"");
    }
}
