//! `drover.toml`: what it may say, with every problem found in one go.
//!
//! Each option is declared once, in `sections`: its name, type, default and description. Parsing, defaults and
//! `docs/configuration.md` come from that.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proxy::auth::hba::Hba;
use proxy::auth::userlist;
use proxy::login::ident::IdentMaps;

mod checks;
mod convert;
mod declare;
mod docs;
mod files;
mod log_values;
mod nearest;
mod node_values;
mod rule_values;
mod sections;
#[cfg(test)]
mod tests;
mod tls;
mod tls_values;
mod values;

pub use declare::has_option;
use declare::{Reader, Section as _};
pub use docs::page as documentation;
pub use log_values::{LogFormat, LogLevel, Otlp, Ratio};
pub use node_values::Node;
pub use rule_values::{RuleDo, RuleMode};
pub use sections::{
    AdminSection, AuthSection, ConsoleSection, CredentialSection, DatabaseSection, LimitsSection, LogSection,
    PoolSection, ProxySection, ReplicasSection, RuleSection, ShardSection, StatisticsSection, StoreKind,
    StoreSection, TlsSection, TracingSection, UserSection,
};
pub use values::{AuthMethod, Bytes, FileMode, HostPort, Name, Password, Sql, Text};

/// The largest configuration file, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the proxy listens, and how it runs.
    pub proxy: ProxySection,
    /// Where cluster state is kept.
    pub store: StoreSection,
    /// Drover's own role on the servers.
    pub admin: AdminSection,
    /// Server connections.
    pub pool: PoolSection,
    /// Bounds.
    pub limits: LimitsSection,
    /// Encryption.
    pub tls: TlsSection,
    /// The admin console.
    pub console: ConsoleSection,
    /// What is logged.
    pub log: LogSection,
    /// Statistics of statements.
    pub statistics: StatisticsSection,
    /// Traces.
    pub tracing: TracingSection,
    /// Watching servers, and reads from replicas.
    pub replicas: ReplicasSection,
    /// Databases clients may connect to; at least one.
    pub databases: Vec<DatabaseSection>,
    /// Who may log in.
    pub users: Vec<UserSection>,
    /// How clients prove who they are.
    pub auth: AuthSection,
    /// What single shards are shown.
    pub credentials: Vec<CredentialSection>,
    /// What is blocked or rewritten.
    pub rules: Vec<RuleSection>,
    /// The rules of `hba_file`.
    pub hba: Option<Arc<Hba>>,
    /// The maps of `ident_file`.
    pub ident: Option<Arc<IdentMaps>>,
    /// The users of `auth_file`.
    pub listed_users: Vec<userlist::Entry>,
    /// The shards; the first is the home shard; at least one.
    pub shards: Vec<ShardSection>,
    /// What is odd and not wrong.
    pub warnings: Vec<String>,
}

/// Something wrong in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Another file than the configuration itself, which names it.
    pub file: Option<PathBuf>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong and, where that is known, what to write instead. Never shows a password.
    pub message: String,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read it")]
    Read(#[source] std::io::Error),
    /// The file is far too large.
    #[error("it has more than {FILE_BYTES_MAX} bytes")]
    TooLarge,
    /// It can be read and is wrong. All problems, in the order of the file; at least one.
    #[error("{} found", if .0.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", .0.len()) })]
    Wrong(Vec<Problem>),
}

impl ConfigError {
    /// Every problem on a line of its own, as compilers do it; `path` names the configuration.
    pub fn lines(&self, path: &str) -> Vec<String> {
        match self {
            ConfigError::Wrong(problems) => problems
                .iter()
                .map(|problem| match &problem.file {
                    Some(file) => format!("{}:{problem}", file.display()),
                    None => format!("{path}:{problem}"),
                })
                .collect(),
            ConfigError::Read(source) => vec![format!("{path}: {self}: {source}")],
            ConfigError::TooLarge => vec![format!("{path}: {self}")],
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl Config {
    /// Reads and checks a file and those it names. Relative paths count from the file's directory.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let size = std::fs::metadata(path).map_err(ConfigError::Read)?.len();
        if size > FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge);
        }
        let text = std::fs::read_to_string(path).map_err(ConfigError::Read)?;
        Config::parse_in(&text, path.parent().unwrap_or(Path::new("")))
    }

    /// Parses and checks a text. Relative paths count from the working directory.
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse_in(text, Path::new(""))
    }

    fn parse_in(text: &str, directory: &Path) -> Result<Config, ConfigError> {
        let mut reader = Reader::new(text, directory);
        let config = Config::read(&mut reader);
        let mut problems = reader.into_problems();
        let Some(mut config) = config else {
            return Err(ConfigError::Wrong(problems));
        };
        config.store.path = directory.join(&config.store.path);
        let control = config.proxy.control_socket.take();
        config.proxy.control_socket = control.map(|control| directory.join(control));
        let socket = config.proxy.unix_socket_dir.take();
        config.proxy.unix_socket_dir = socket.map(|socket| directory.join(socket));
        tls::resolve(&mut config, directory);
        config.read_files(directory, &mut problems);
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Wrong(problems))
        }
    }

    /// Reads the files that the configuration names.
    fn read_files(&mut self, directory: &Path, problems: &mut Vec<Problem>) {
        if let Some(file) = &self.auth.hba_file {
            self.hba = files::hba(&directory.join(file), problems).map(Arc::new);
        }
        if let Some(file) = &self.auth.ident_file {
            self.ident = files::ident(&directory.join(file), problems).map(Arc::new);
        }
        if let (Some(file), Some(hba)) = (&self.auth.hba_file, &self.hba) {
            files::check_maps(&directory.join(file), hba, self.ident.as_deref(), problems);
        }
        if let Some(file) = &self.auth.auth_file {
            let (users, warning) = files::users(&directory.join(file), problems);
            self.listed_users = users;
            self.warnings.extend(warning);
        }
    }

    /// Options in which another configuration differs, in the order of the documentation, as `[section] option`.
    /// `[[databases]]` alone means that there are other ones; with a name, that this one is different.
    pub fn changed(&self, new: &Config) -> Vec<String> {
        let mut changed = Vec::new();
        let mut section = |name: &str, options: Vec<&str>| {
            changed.extend(options.iter().map(|option| format!("[{name}] {option}")));
        };
        section("proxy", self.proxy.changed(&new.proxy));
        section("store", self.store.changed(&new.store));
        section("admin", self.admin.changed(&new.admin));
        section("pool", self.pool.changed(&new.pool));
        section("limits", self.limits.changed(&new.limits));
        section("tls", self.tls.changed(&new.tls));
        section("console", self.console.changed(&new.console));
        section("log", self.log.changed(&new.log));
        section("statistics", self.statistics.changed(&new.statistics));
        section("tracing", self.tracing.changed(&new.tracing));
        section("replicas", self.replicas.changed(&new.replicas));
        let names = |config: &Config| -> BTreeSet<Name> {
            config
                .databases
                .iter()
                .map(|database| database.name.clone())
                .collect()
        };
        if !names(new).is_subset(&names(self)) {
            changed.push("[[databases]]".to_owned());
        }
        for old in &self.databases {
            let same = new.databases.iter().find(|new| new.name == old.name);
            if same != Some(old) {
                changed.push(format!("[[databases]] {}", old.name));
            }
        }
        if self.users != new.users || self.listed_users != new.listed_users {
            changed.push("[[users]]".to_owned());
        }
        let mut auth = self.auth.changed(&new.auth);
        if self.hba != new.hba && !auth.contains(&"hba_file") {
            auth.push("hba_file");
        }
        changed.extend(auth.iter().map(|option| format!("[auth] {option}")));
        if self.credentials != new.credentials {
            changed.push("[[credentials]]".to_owned());
        }
        if self.rules != new.rules {
            changed.push("[[rules]]".to_owned());
        }
        if self.shards != new.shards {
            changed.push("[[shards]]".to_owned());
        }
        changed
    }

    /// Where this proxy is asked to hand over its sockets.
    #[must_use]
    pub fn control_socket(&self) -> std::path::PathBuf {
        if let Some(path) = &self.proxy.control_socket {
            return path.clone();
        }
        let name = match &self.proxy.id {
            Some(id) => id.0.clone(),
            None => self.proxy.listen.first.port().to_string(),
        };
        self.store.path.join(format!("control-{name}.sock"))
    }

    fn read(reader: &mut Reader<'_>) -> Option<Config> {
        let document = reader.document();
        reader.check_sections(&document);
        // All of them before the first `?`, so that every problem is found.
        let proxy = reader.section::<ProxySection>(&document);
        let store = reader.section::<StoreSection>(&document);
        let admin = reader.section::<AdminSection>(&document);
        let pool = reader.section::<PoolSection>(&document);
        let limits = reader.section::<LimitsSection>(&document);
        let tls = reader.section::<TlsSection>(&document);
        let console = reader.section::<ConsoleSection>(&document);
        let log = reader.section::<LogSection>(&document);
        let statistics = reader.section::<StatisticsSection>(&document);
        let tracing = reader.section::<TracingSection>(&document);
        let replicas = reader.section::<ReplicasSection>(&document);
        let databases = reader.sections::<DatabaseSection>(&document);
        let users = reader.any_sections::<UserSection>(&document);
        let auth = reader.section::<AuthSection>(&document);
        let credentials = reader.any_sections::<CredentialSection>(&document);
        let rules = reader.any_sections::<RuleSection>(&document);
        let shards = reader.sections::<ShardSection>(&document);
        checks::names(reader, &databases, &users, &shards);
        checks::forced_users(reader, &databases, &users);
        checks::nodes(reader, &shards);
        rule_values::check(reader, &rules);
        if let Some(console) = &console {
            checks::console(reader, console, &databases);
        }
        store.iter().for_each(|store| checks::store(reader, store));
        limits.iter().for_each(|limits| checks::limits(reader, limits));
        if let Some(proxy) = &proxy {
            checks::proxy(reader, proxy);
        }
        if let Some(auth) = &auth {
            checks::auth(reader, auth, &users);
        }
        checks::credentials(reader, &credentials, &users, &shards);
        if let Some(replicas) = &replicas {
            checks::replicas(reader, replicas);
        }
        pool.iter().for_each(|pool| checks::pool(reader, pool));
        if let Some(tls) = &tls {
            tls::check(reader, tls, &shards);
        }
        let warnings = reader.take_warnings();
        Some(Config {
            proxy: proxy?.value,
            store: store?.value,
            admin: admin?.value,
            pool: pool?.value,
            limits: limits?.value,
            tls: tls?.value,
            console: console?.value,
            log: log?.value,
            statistics: statistics?.value,
            tracing: tracing?.value,
            replicas: replicas?.value,
            databases: values_of(databases),
            users: values_of(users),
            auth: auth?.value,
            credentials: values_of(credentials),
            rules: values_of(rules),
            hba: None,
            ident: None,
            listed_users: Vec::new(),
            warnings,
            shards: values_of(shards),
        })
    }
}

fn values_of<T>(located: Vec<declare::Located<T>>) -> Vec<T> {
    located.into_iter().map(|located| located.value).collect()
}
