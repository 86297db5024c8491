//! Reading `drover.toml` again while the proxy runs.
//!
//! The file, and every file it names, is read and checked first; if anything is wrong, nothing changes. What can change
//! at run time is then put in place at once: users, rules, secrets, pool settings, limits, who may use the console, what is
//! logged and counted. Clients stay connected;
//! sessions of users that are gone go on until they end, those of databases that are gone, or stand for another one, until
//! their transaction has ended. The rest (addresses, workers, store, shards) is
//! compared with what runs and named.
//!
//! New databases are prepared on the shards and added to the cluster before anything else changes; a shard that cannot be
//! reached, or lacks the database, makes the reload fail as a whole.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError, Weak};

use proxy::auth::Secrets;
use proxy::cluster::{ServeDatabases, ServeError};
use proxy::config::ProxyConfig;
use proxy::pools::PolicySource;
use proxy::reload::{ReloadError, ReloadReport, Reloader};
use proxy::worker::Shared;

use crate::config::{Config, LogLevel};

/// Options of the sections that apply at run time which do not.
const FIXED: [&str; 7] = [
    "[pool] multi_shard_pool",
    "[limits] max_message_bytes",
    "[limits] gather_max_bytes",
    "[log] format",
    "[tracing] otlp_endpoint",
    "[tracing] service_name",
    "[replicas] safe_functions",
];

/// Reads one file again for one proxy.
pub struct FileReloader {
    path: PathBuf,
    shared: Weak<Shared>,
    databases: ServeDatabases,
    /// What runs: the last configuration applied, with the sections of the start that a reload cannot change.
    running: Mutex<Config>,
    /// Changes the level of the log.
    set_level: SetLevel,
}

/// Changes the level of the log.
pub type SetLevel = Box<dyn Fn(LogLevel) + Send + Sync>;

impl FileReloader {
    /// `running`: what the proxy was started with, from this file.
    pub fn new(
        path: PathBuf,
        running: Config,
        shared: Weak<Shared>,
        databases: ServeDatabases,
        set_level: SetLevel,
    ) -> Self {
        Self {
            path,
            shared,
            databases,
            running: Mutex::new(running),
            set_level,
        }
    }
}

impl Reloader for FileReloader {
    fn reload(&self) -> Result<ReloadReport, ReloadError> {
        // Held throughout: two reloads at once take turns.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = self.shared.upgrade().ok_or(ReloadError::NoConfiguration)?;
        let new = Config::load(&self.path)
            .map_err(|error| ReloadError::Wrong(error.lines(&self.path.display().to_string())))?;
        let report = compare(&running, &new);
        let mut proxy = new.to_proxy();
        keep_collector(&mut proxy, &running);
        proxy.limits.max_message_bytes = running.limits.max_message_bytes.0;
        proxy.pool.multi_shard = running.pool.multi_shard_pool;
        // Everything that can still be wrong comes before anything changes; the last to fail is encryption, whose
        // files are read here.
        let wrong = |error: &dyn std::error::Error| ReloadError::Wrong(vec![chain(error)]);
        Secrets::check(&proxy.users, &proxy.auth).map_err(|error| wrong(&error))?;
        let added = serve_databases(&self.databases, &proxy).map_err(|error| wrong(&error))?;
        if !added.is_empty() {
            tracing::info!(databases = ?added, "databases were added to the cluster");
        }
        shared
            .tls
            .replace(proxy.tls.clone())
            .map_err(|error| wrong(&error))?;
        shared
            .secrets
            .replace(&proxy.users, proxy.auth.clone())
            .map_err(|error| wrong(&error))?;
        // What may be read on replicas is part of the facts that were loaded.
        proxy.replicas.safe_functions = shared.nodes.config().safe_functions.clone();
        shared.nodes.set_config(proxy.replicas.clone());
        shared.set_policies(PolicySource::new(&proxy));
        shared.secrets.check_agreement(&shared.reach());
        (self.set_level)(new.log.level);
        *running = merged(&running, new);
        Ok(report)
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Prepares those databases of the configuration that the cluster does not serve yet; the names of these.
fn serve_databases(databases: &ServeDatabases, proxy: &ProxyConfig) -> Result<Vec<String>, ServeError> {
    let named = proxy.databases.iter().filter(|entry| !entry.is_wildcard());
    let names = named.map(|entry| entry.server_name().to_owned()).collect();
    let all = proxy.databases.iter().any(|entry| entry.is_wildcard());
    databases.serve(names, all)
}

/// The connection to the collector of spans is made at the start; what is sent to it may change.
fn keep_collector(proxy: &mut ProxyConfig, running: &Config) {
    let ratio = proxy.observe.traces.as_ref().map(|traces| traces.sample_ratio);
    proxy.observe.traces = running.to_proxy().observe.traces;
    if let (Some(traces), Some(ratio)) = (&mut proxy.observe.traces, ratio) {
        traces.sample_ratio = ratio;
    }
}

/// What differs, apart by what becomes of it.
fn compare(running: &Config, new: &Config) -> ReloadReport {
    let (needs_restart, applied) = running
        .changed(new)
        .into_iter()
        .partition(|option| is_fixed(option));
    ReloadReport {
        applied,
        needs_restart,
        warnings: new.warnings.clone(),
    }
}

fn is_fixed(option: &str) -> bool {
    let section = option.split(' ').next().unwrap_or_default();
    let sections = ["[proxy]", "[store]", "[admin]", "[[shards]]"];
    sections.contains(&section) || FIXED.contains(&option)
}

/// What runs after a reload. What needs a restart stays as it was, so that the next reload names it again.
fn merged(running: &Config, new: Config) -> Config {
    let mut merged = Config {
        proxy: running.proxy.clone(),
        store: running.store.clone(),
        admin: running.admin.clone(),
        shards: running.shards.clone(),
        ..new
    };
    merged
        .replicas
        .safe_functions
        .clone_from(&running.replicas.safe_functions);
    merged.pool.multi_shard_pool = running.pool.multi_shard_pool;
    merged.limits.max_message_bytes = running.limits.max_message_bytes;
    merged.limits.gather_max_bytes = running.limits.gather_max_bytes;
    merged.log.format = running.log.format;
    merged.tracing.otlp_endpoint = running.tracing.otlp_endpoint.clone();
    merged.tracing.service_name = running.tracing.service_name.clone();
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[admin]\nuser = 'a'\npassword = 'x'\n[[databases]]\nname = 'd'\n[[users]]\nname = 'u'\n\
                        password = 'p'\n[[shards]]\nname = 's'\nprimary = 'h:1'\n";

    fn config(text: &str) -> Config {
        Config::parse(text).expect("a good configuration")
    }

    #[test]
    fn what_applies_and_what_does_not() {
        let changed = format!(
            "{}\n[pool]\npool_size = 7\nmulti_shard_pool = 3\n[proxy]\nworkers = 3\n[auth]\nmethod = 'md5'\n",
            TEXT.replace("'p'", "'q'").replace("h:1", "h:2")
        );
        let report = compare(&config(TEXT), &config(&changed));
        assert_eq!(report.applied, ["[pool] pool_size", "[[users]]", "[auth] method"]);
        assert_eq!(
            report.needs_restart,
            ["[proxy] workers", "[pool] multi_shard_pool", "[[shards]]"]
        );
        let after = merged(&config(TEXT), config(&changed));
        let again = compare(&after, &config(&changed));
        assert_eq!((again.applied.len(), again.needs_restart.len()), (0, 3));
    }

    #[test]
    fn databases_come_go_and_change_without_a_restart() {
        let more = TEXT.replace("[[users]]", "[[databases]]\nname = 'e'\n[[users]]");
        let report = compare(&config(TEXT), &config(&more));
        assert_eq!(report.applied, ["[[databases]]"]);
        let report = compare(&config(&more), &config(TEXT));
        assert_eq!(report.applied, ["[[databases]] e"]);
        let sized = TEXT.replace("name = 'd'", "name = 'd'\npool_size = 3");
        let report = compare(&config(TEXT), &config(&sized));
        assert_eq!(report.applied, ["[[databases]] d"]);
        assert!(report.needs_restart.is_empty());
    }
}
