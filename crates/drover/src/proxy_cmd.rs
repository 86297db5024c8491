//! `drover proxy`: one proxy of a cluster, until a signal.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use admin::{HttpConfig, Role, Token};
use clap::Args;
use drover::config::{Config, ConfigError, Password};
use drover::reload::FileReloader;
use proxy::console::Shutdown;

use crate::cli::describe;
use crate::operate;
use crate::serve::{Plan, ServeError, Serving};
use crate::terminal::{Signals, chain, say};

/// Arguments of `drover proxy`.
#[derive(Debug, Clone, Args)]
pub struct ProxyArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Why `drover proxy` ended with an error.
#[derive(Debug, thiserror::Error)]
enum ProxyError {
    /// The configuration is wrong.
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    /// Signals cannot be received.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// The store does not work.
    #[error("the topology store cannot be used")]
    Store(#[from] topology::StoreError),
    /// The configured shards make no cluster.
    #[error("the configured shards do not make a cluster")]
    Cluster(#[from] topology::records::ClusterRecordError),
    /// The proxy did not start.
    #[error("the proxy did not start")]
    Serve(#[from] ServeError),
    /// A signal came before everything was ready.
    #[error("stopped before it was ready")]
    Interrupted,
    /// A second signal came.
    #[error("stopped at once: transactions that were open have been rolled back")]
    Forced,
}

/// Runs until SIGINT or SIGTERM; SIGHUP makes it read its configuration again. The first lets open transactions end, the second does not. Where it listens goes to
/// standard output, everything else to standard error.
pub async fn run(args: ProxyArgs) -> ExitCode {
    match run_until_signal(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(ProxyError::Config(error)) => {
            let problems = describe(&args.config.display().to_string(), &error);
            let _ = io::stderr().write_all(problems.as_bytes());
            ExitCode::FAILURE
        }
        Err(error) => {
            say!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run_until_signal(args: &ProxyArgs) -> Result<(), ProxyError> {
    let config = Config::load(&args.config)?;
    for warning in &config.warnings {
        say!("warning: {warning}");
    }
    crate::log::start(config.log.format, config.log.level);
    let mut signals = Signals::new().map_err(ProxyError::Signals)?;
    let plan = plan_of(&config)?;
    let serving = tokio::select! {
        result = Serving::start(plan) => result?,
        () = signals.next() => return Err(ProxyError::Interrupted),
    };
    let text = format!("listening on {}, http on {}\n", serving.address(), serving.http());
    // Whoever reads standard output may have gone away; the proxy runs on.
    let _ = io::stdout()
        .write_all(text.as_bytes())
        .and_then(|()| io::stdout().flush());
    let shared = Arc::clone(serving.shared());
    let reloader = FileReloader::new(args.config.clone(), config, Arc::downgrade(&shared));
    shared.set_reloader(Arc::new(reloader));
    match operate::run(&shared, &mut signals).await {
        Shutdown::Now => {
            shared.end_listening();
            return Ok(());
        }
        Shutdown::WaitForServers => {}
        Shutdown::WaitForClients => {
            shared.end_listening();
            say!("stopping when the clients have gone; a signal stops sooner");
            tokio::select! {
                () = operate::clients_gone(&shared) => {}
                () = signals.next() => {}
            }
        }
    }
    say!("stopping when the open transactions have ended; again to stop at once");
    tokio::select! {
        () = serving.shutdown() => Ok(()),
        () = signals.next() => Err(ProxyError::Forced),
    }
}

fn plan_of(config: &Config) -> Result<Plan, ProxyError> {
    let id = config.proxy_id();
    Ok(Plan {
        proxy: config.to_proxy(),
        store: config.open_store()?,
        cluster: config.to_cluster(id.as_str())?,
        id,
        gather_bytes_max: config.limits.gather_max_bytes.0,
        http: config.proxy.http,
        http_access: http_access(config),
    })
}

/// Whoever has the token, or is on this host when there is no token, reads rows in the name of the first user.
fn http_access(config: &Config) -> HttpConfig {
    let role = config.users.first().map(|user| Role {
        user: user.name.0.clone(),
        password: match &user.password {
            Some(Password::Clear(password)) => Some(password.expose().to_owned()),
            // Nobody can log in with what is stored alone; such rows are refused by the proxy.
            _ => None,
        },
    });
    match (&config.proxy.http_token, role) {
        (Some(token), Some(role)) => HttpConfig {
            tokens: vec![Token::new(token.expose(), role)],
            ..HttpConfig::default()
        },
        (_, default_role) => HttpConfig {
            default_role,
            ..HttpConfig::default()
        },
    }
}
