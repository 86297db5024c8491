//! `drover.toml`: what it may say, with every problem found in one go.
//!
//! Each option is declared once, in `sections`: its name, type, default and description. Parsing, defaults and
//! `docs/configuration.md` come from that.

use std::fmt;
use std::path::Path;

mod checks;
mod convert;
mod declare;
mod docs;
mod nearest;
mod sections;
#[cfg(test)]
mod tests;
mod tls;
mod tls_values;
mod values;

use declare::Reader;
pub use docs::page as documentation;
pub use sections::{
    AdminSection, ConsoleSection, DatabaseSection, LimitsSection, PoolSection, ProxySection, ShardSection,
    StoreKind, StoreSection, TlsSection, UserSection,
};
pub use values::{Bytes, FileMode, HostPort, Name, Password, Text};

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
    /// Databases clients may connect to; at least one.
    pub databases: Vec<DatabaseSection>,
    /// Who may log in; at least one.
    pub users: Vec<UserSection>,
    /// The shards; the first is the home shard; at least one.
    pub shards: Vec<ShardSection>,
}

/// Something wrong in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
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

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl Config {
    /// Reads and checks a file. A relative store path counts from the file's directory.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let size = std::fs::metadata(path).map_err(ConfigError::Read)?.len();
        if size > FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge);
        }
        let text = std::fs::read_to_string(path).map_err(ConfigError::Read)?;
        let mut config = Config::parse(&text)?;
        if let Some(directory) = path.parent() {
            config.store.path = directory.join(&config.store.path);
            tls::resolve(&mut config, directory);
            let socket = config.proxy.unix_socket_dir.take();
            config.proxy.unix_socket_dir = socket.map(|socket| directory.join(socket));
        }
        Ok(config)
    }

    /// Parses and checks a text.
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        let mut reader = Reader::new(text);
        let config = Config::read(&mut reader);
        match (config, reader.into_problems()) {
            (Some(config), problems) if problems.is_empty() => Ok(config),
            (_, problems) => Err(ConfigError::Wrong(problems)),
        }
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
        let databases = reader.sections::<DatabaseSection>(&document);
        let users = reader.sections::<UserSection>(&document);
        let shards = reader.sections::<ShardSection>(&document);
        checks::names(reader, &databases, &users, &shards);
        checks::forced_users(reader, &databases, &users);
        checks::nodes(reader, &shards);
        if let Some(console) = &console {
            checks::console(reader, console, &databases);
        }
        if let Some(proxy) = &proxy {
            checks::proxy(reader, proxy);
        }
        if let Some(pool) = &pool {
            checks::pool(reader, pool);
        }
        if let Some(tls) = &tls {
            tls::check(reader, tls, &shards);
        }
        Some(Config {
            proxy: proxy?.value,
            store: store?.value,
            admin: admin?.value,
            pool: pool?.value,
            limits: limits?.value,
            tls: tls?.value,
            console: console?.value,
            databases: values_of(databases),
            users: values_of(users),
            shards: values_of(shards),
        })
    }
}

fn values_of<T>(located: Vec<declare::Located<T>>) -> Vec<T> {
    located.into_iter().map(|located| located.value).collect()
}
