//! What becomes of each option of section `[pgbouncer]`.

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum As {
    /// A whole number.
    Number,
    /// Seconds; 0 means never in both.
    Seconds,
    /// Seconds; PgBouncer's 0 means never, and the option here has no such value.
    SecondsNotZero,
    /// Text.
    Text,
    /// A name of a file, which counts from PgBouncer's working directory.
    File,
    /// Names with commas between them.
    Names,
    /// Bytes.
    Bytes,
    /// 0 or 1.
    Flag,
}

/// What an option becomes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// This option here.
    Becomes(&'static str, &'static str, As),
    /// It is dealt with elsewhere.
    Special,
    /// Nothing is lost: why.
    NotNeeded(&'static str),
    /// There is no equivalent: why.
    Missing(&'static str),
    /// No equivalent unless it has this value, which is how it is here anyway.
    Only(&'static str, &'static str),
}

use As::{Bytes, File, Flag, Names, Number, Seconds, SecondsNotZero, Text};
use Fate::{Becomes, Missing, NotNeeded, Only, Special};

const OS: &str = "the operating system's settings hold";
const LOGS: &str =
    "log lines go to standard error, for the service manager to keep; DROVER_LOG says how many";
const PROCESS: &str = "the service manager's business, see packaging/drover.service";
const LDAP: &str = "there is no LDAP authentication";
const DNS: &str = "host names are looked up by the system's resolver";

/// Every option PgBouncer 1.25 knows.
pub(super) const OPTIONS: &[(&str, Fate)] = &[
    ("listen_addr", Special),
    ("listen_port", Special),
    ("unix_socket_dir", Special),
    ("unix_socket_mode", Becomes("proxy", "unix_socket_mode", Text)),
    (
        "unix_socket_group",
        Missing("the directory's group and mode decide who reaches the socket"),
    ),
    ("user", NotNeeded(PROCESS)),
    ("pidfile", NotNeeded(PROCESS)),
    ("logfile", NotNeeded(LOGS)),
    ("syslog", NotNeeded(LOGS)),
    ("syslog_ident", NotNeeded(LOGS)),
    ("syslog_facility", NotNeeded(LOGS)),
    ("log_connections", Becomes("log", "connections", Flag)),
    ("log_disconnections", Becomes("log", "disconnections", Flag)),
    ("log_pooler_errors", NotNeeded(LOGS)),
    (
        "log_stats",
        NotNeeded("statistics are at the console and at /metrics"),
    ),
    ("stats_period", Only("60", "averages are over 60 seconds")),
    ("verbose", NotNeeded(LOGS)),
    ("admin_users", Becomes("console", "admin_users", Names)),
    ("stats_users", Becomes("console", "stats_users", Names)),
    ("pool_mode", Becomes("pool", "pool_mode", Text)),
    ("max_client_conn", Becomes("limits", "max_clients", Number)),
    ("default_pool_size", Becomes("pool", "pool_size", Number)),
    ("min_pool_size", Becomes("pool", "min_pool_size", Number)),
    ("reserve_pool_size", Becomes("pool", "reserve_pool", Number)),
    (
        "reserve_pool_timeout",
        Becomes("pool", "reserve_pool_timeout", Seconds),
    ),
    (
        "max_db_connections",
        Becomes("limits", "max_db_connections", Number),
    ),
    (
        "max_db_client_connections",
        Becomes("limits", "max_db_client_connections", Number),
    ),
    (
        "max_user_connections",
        Becomes("limits", "max_user_connections", Number),
    ),
    (
        "max_user_client_connections",
        Becomes("limits", "max_user_client_connections", Number),
    ),
    ("max_prepared_statements", Special),
    (
        "server_round_robin",
        Only(
            "0",
            "the most recently used connection is taken first, so that others can be closed",
        ),
    ),
    (
        "track_extra_parameters",
        NotNeeded("every setting a client makes follows it"),
    ),
    (
        "ignore_startup_parameters",
        NotNeeded("settings in the startup packet are applied, as by a server"),
    ),
    (
        "disable_pqexec",
        Only("0", "several statements in one query are allowed"),
    ),
    (
        "application_name_add_host",
        Only("0", "application_name stays as the client said"),
    ),
    ("conffile", NotNeeded("the file is named on the command line")),
    ("service_name", NotNeeded(PROCESS)),
    ("job_name", NotNeeded(PROCESS)),
    (
        "peer_id",
        NotNeeded("proxies of one cluster find each other in its store"),
    ),
    ("auth_type", Special),
    ("auth_file", Special),
    ("auth_hba_file", Becomes("auth", "hba_file", File)),
    ("auth_ident_file", Becomes("auth", "ident_file", File)),
    ("auth_user", Special),
    ("auth_query", Special),
    ("auth_dbname", Becomes("auth", "auth_dbname", Text)),
    ("auth_ldap_parameter", Missing(LDAP)),
    ("auth_ldap_options", Missing(LDAP)),
    (
        "scram_iterations",
        NotNeeded("verifiers keep the iterations they were made with"),
    ),
    ("server_reset_query", Special),
    (
        "server_reset_query_always",
        NotNeeded("a connection is reset when something may be left on it, in every mode"),
    ),
    (
        "server_check_delay",
        Becomes("pool", "server_check_delay", Seconds),
    ),
    ("server_check_query", Special),
    (
        "server_fast_close",
        Missing("connections are closed when they are released"),
    ),
    ("server_lifetime", Becomes("pool", "max_lifetime", Seconds)),
    ("server_idle_timeout", Becomes("pool", "idle_timeout", Seconds)),
    (
        "server_connect_timeout",
        Becomes("pool", "connect_timeout", SecondsNotZero),
    ),
    (
        "server_login_retry",
        NotNeeded("pauses after failed logins grow from 50 ms to 5 s by themselves"),
    ),
    (
        "client_login_timeout",
        Becomes("limits", "login_timeout", SecondsNotZero),
    ),
    (
        "autodb_idle_timeout",
        NotNeeded("a database that nobody uses costs next to nothing"),
    ),
    ("dns_max_ttl", Becomes("pool", "dns_max_ttl", Seconds)),
    ("dns_nxdomain_ttl", NotNeeded(DNS)),
    ("dns_zone_check_period", NotNeeded(DNS)),
    ("resolv_conf", Missing(DNS)),
    ("client_tls_sslmode", Becomes("tls", "client_mode", Text)),
    ("client_tls_key_file", Becomes("tls", "client_key", File)),
    ("client_tls_cert_file", Becomes("tls", "client_cert", File)),
    ("client_tls_ca_file", Becomes("tls", "client_ca", File)),
    ("client_tls_protocols", Special),
    (
        "client_tls_ciphers",
        Missing("the TLS library's own list of strong ciphers holds"),
    ),
    (
        "client_tls13_ciphers",
        Missing("the TLS library's own list of strong ciphers holds"),
    ),
    (
        "client_tls_ecdhcurve",
        NotNeeded("the curve is agreed on with each client"),
    ),
    ("client_tls_dheparams", NotNeeded("elliptic curves only")),
    ("server_tls_sslmode", Becomes("tls", "server_mode", Text)),
    ("server_tls_ca_file", Becomes("tls", "server_ca", File)),
    ("server_tls_key_file", Becomes("tls", "server_key", File)),
    ("server_tls_cert_file", Becomes("tls", "server_cert", File)),
    ("server_tls_protocols", Special),
    (
        "server_tls_ciphers",
        Missing("the TLS library's own list of strong ciphers holds"),
    ),
    (
        "server_tls13_ciphers",
        Missing("the TLS library's own list of strong ciphers holds"),
    ),
    ("query_timeout", Becomes("limits", "query_timeout", Seconds)),
    (
        "query_wait_timeout",
        Becomes("pool", "connection_timeout", SecondsNotZero),
    ),
    ("cancel_wait_timeout", NotNeeded("cancels do not queue")),
    (
        "client_idle_timeout",
        Becomes("limits", "client_idle_timeout", Seconds),
    ),
    (
        "idle_transaction_timeout",
        Becomes("limits", "idle_transaction_timeout", Seconds),
    ),
    (
        "transaction_timeout",
        Becomes("limits", "transaction_timeout", Seconds),
    ),
    (
        "suspend_timeout",
        NotNeeded("a restart hands over the listening sockets, see `drover proxy --takeover`"),
    ),
    (
        "pkt_buf",
        NotNeeded("buffers grow as needed and are given up when empty"),
    ),
    ("max_packet_size", Becomes("limits", "max_message_bytes", Bytes)),
    ("listen_backlog", Missing(OS)),
    ("sbuf_loopcnt", NotNeeded("connections take turns")),
    ("so_reuseport", NotNeeded("one process uses all cores")),
    ("tcp_defer_accept", Missing(OS)),
    ("tcp_socket_buffer", Missing(OS)),
    ("tcp_keepalive", Only("1", "keepalive is always on")),
    ("tcp_keepcnt", Missing(OS)),
    ("tcp_keepidle", Missing(OS)),
    ("tcp_keepintvl", Missing(OS)),
    ("tcp_user_timeout", Missing(OS)),
];

/// What becomes of the parts of a `[databases]` entry that are no address.
pub(super) const DATABASE_OPTIONS: &[(&str, Fate)] = &[
    ("dbname", Becomes("databases", "dbname", Text)),
    ("user", Becomes("databases", "user", Text)),
    ("pool_size", Becomes("databases", "pool_size", Number)),
    ("min_pool_size", Becomes("databases", "min_pool_size", Number)),
    ("reserve_pool_size", Becomes("databases", "reserve_pool", Number)),
    ("reserve_pool", Becomes("databases", "reserve_pool", Number)),
    ("pool_mode", Becomes("databases", "pool_mode", Text)),
    (
        "max_db_connections",
        Becomes("databases", "max_connections", Number),
    ),
    (
        "max_db_client_connections",
        Becomes("databases", "max_client_connections", Number),
    ),
    (
        "password",
        Missing("servers get the password of the user, see `server_password` in [[users]]"),
    ),
    (
        "auth_user",
        Missing("one auth_user looks all users up, see [auth]"),
    ),
    (
        "auth_query",
        Missing("one auth_query looks all users up, see [auth]"),
    ),
    (
        "auth_dbname",
        Missing("users are looked up in one database, see [auth]"),
    ),
    (
        "connect_query",
        Missing("settings belong in ALTER ROLE or ALTER DATABASE, which hold everywhere"),
    ),
    ("load_balance_hosts", NotNeeded("there is one primary")),
    ("server_lifetime", Missing("one max_lifetime holds for all")),
    (
        "client_encoding",
        Missing("clients choose their own, or ALTER DATABASE … SET does"),
    ),
    (
        "datestyle",
        Missing("clients choose their own, or ALTER DATABASE … SET does"),
    ),
    (
        "timezone",
        Missing("clients choose their own, or ALTER DATABASE … SET does"),
    ),
    ("application_name", Missing("clients choose their own")),
    (
        "query_wait_notify",
        NotNeeded("waiting is at the console and at /metrics"),
    ),
];

/// What becomes of the parts of a `[users]` entry.
pub(super) const USER_OPTIONS: &[(&str, Fate)] = &[
    ("pool_mode", Becomes("users", "pool_mode", Text)),
    ("pool_size", Becomes("users", "pool_size", Number)),
    ("min_pool_size", Becomes("users", "min_pool_size", Number)),
    ("reserve_pool_size", Becomes("users", "reserve_pool", Number)),
    (
        "max_user_connections",
        Becomes("users", "max_user_connections", Number),
    ),
    (
        "max_user_client_connections",
        Becomes("users", "max_user_client_connections", Number),
    ),
    ("query_timeout", Becomes("users", "query_timeout", Seconds)),
    (
        "transaction_timeout",
        Becomes("users", "transaction_timeout", Seconds),
    ),
    (
        "idle_transaction_timeout",
        Becomes("users", "idle_transaction_timeout", Seconds),
    ),
    (
        "client_idle_timeout",
        Becomes("users", "client_idle_timeout", Seconds),
    ),
];
