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
use proxy::failpoint::FailPoints;
use proxy::sockets::Sockets;
use tokio::sync::mpsc;

use crate::cli::describe;
use crate::handover::{Control, Link, Replaced, Taken, TakeoverError};
use crate::operate;
use crate::operate::End;
use crate::serve::{Handed, Plan, ServeError, Serving};
use crate::systemd::{self, Notify};
use crate::terminal::{Signals, chain, say};

/// Arguments of `drover proxy`.
#[derive(Debug, Clone, Args)]
pub struct ProxyArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Take the sockets over from the running proxy of this configuration, which then ends when its clients have gone
    #[arg(long)]
    pub takeover: bool,
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
    /// The sockets of the service manager cannot be used.
    #[error("the sockets of the service manager cannot be used")]
    Inherited(#[source] io::Error),
    /// The running proxy did not hand over.
    #[error("cannot take over")]
    Takeover(#[from] TakeoverError),
    /// What was handed over does not suffice.
    #[error("the proxy did not start")]
    Listen(#[from] proxy::worker::StartError),
    /// A signal came before everything was ready.
    #[error("stopped before it was ready")]
    Interrupted,
    /// A test wants something that there is not.
    #[error("{0}")]
    FailPoints(String),
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
    let set_level = crate::log::start(config.log.format, config.log.level);
    let mut signals = Signals::new().map_err(ProxyError::Signals)?;
    let notify = Notify::from_environment();
    let (handed, taken) = sockets(args, &config).await?;
    let plan = plan_of(&config, handed, taken.is_some())?;
    let mut serving = tokio::select! {
        result = Serving::start(plan) => result?,
        () = signals.next() => return Err(ProxyError::Interrupted),
    };
    if let Some(link) = taken {
        tell_predecessor(link).await;
    }
    let (control, mut events) = open_control(&config, &mut serving).await;
    let addresses: Vec<_> = serving.addresses().iter().map(ToString::to_string).collect();
    let text = format!(
        "listening on {}, http on {}\n",
        addresses.join(" and "),
        serving.http()
    );
    // Whoever reads standard output may have gone away; the proxy runs on.
    let _ = io::stdout()
        .write_all(text.as_bytes())
        .and_then(|()| io::stdout().flush());
    notify.ready();
    let shared = Arc::clone(serving.shared());
    let drain_timeout = config.proxy.drain_timeout;
    let reloader = FileReloader::new(
        args.config.clone(),
        config,
        Arc::downgrade(&shared),
        serving.databases(),
        set_level,
    );
    shared.set_reloader(Arc::new(reloader));
    match operate::run(&shared, &notify, &mut signals, &mut events).await {
        End::Replaced(replaced) => {
            shared.leave_listening();
            serving.leave_http();
            replaced.draining();
            say!("another process serves clients now; stopping when the clients here have gone");
            operate::drain(&serving, drain_timeout, &mut signals).await;
        }
        End::Told(how) => {
            notify.stopping();
            if let Some(control) = control {
                control.remove();
            }
            shared.end_listening();
            if how == Shutdown::Now {
                return Ok(());
            }
            if how == Shutdown::WaitForClients {
                say!("stopping when the clients have gone; a signal stops sooner");
                operate::drain(&serving, drain_timeout, &mut signals).await;
            }
        }
    }
    say!("stopping when the open transactions have ended; again to stop at once");
    tokio::select! {
        () = serving.shutdown() => Ok(()),
        () = signals.next() => Err(ProxyError::Forced),
    }
}

/// Sockets that are open already: of the proxy that is replaced, or of the service manager.
async fn sockets(args: &ProxyArgs, config: &Config) -> Result<(Handed, Option<Link>), ProxyError> {
    if !args.takeover {
        let inherited = systemd::inherited(config.proxy.http).map_err(ProxyError::Inherited)?;
        let given = !inherited.sockets.tcp.is_empty() || !inherited.sockets.unix.is_empty();
        let handed = Handed {
            sockets: given.then_some(inherited.sockets),
            http: inherited.http,
        };
        return Ok((handed, None));
    }
    let path = config.control_socket();
    let asking = tokio::task::spawn_blocking(move || Taken::ask(&path));
    let taken = asking.await.map_err(|_| ProxyError::Interrupted)??;
    let sockets = Sockets::adopt(taken.sockets, &config.to_proxy())?;
    let wanted = config.proxy.http;
    let http = taken.http.filter(|socket| {
        let is = |at: std::net::SocketAddr| at.ip() == wanted.ip() && (wanted.port() == 0 || at == wanted);
        socket.local_addr().is_ok_and(is)
    });
    let handed = Handed {
        sockets: Some(sockets),
        http,
    };
    Ok((handed, Some(taken.link)))
}

/// Clients are served here. That the old proxy does not answer is no reason to stop: it may have died.
async fn tell_predecessor(link: Link) {
    match tokio::task::spawn_blocking(|| link.ready()).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => say!("the proxy that was replaced did not answer: {error}"),
    }
}

/// Without a control socket the proxy serves all the same; it just cannot be replaced.
async fn open_control(
    config: &Config,
    serving: &mut Serving,
) -> (Option<Control>, mpsc::UnboundedReceiver<Replaced>) {
    let (sender, events) = mpsc::unbounded_channel();
    let path = config.control_socket();
    let (shared, http) = (Arc::clone(serving.shared()), serving.take_http_socket());
    let shown = path.display().to_string();
    match tokio::task::spawn_blocking(move || Control::listen(&path, shared, http, sender)).await {
        Ok(Ok(control)) => (Some(control), events),
        Ok(Err(error)) => {
            say!("no control socket at {shown}: {error}; this proxy cannot hand its sockets over");
            (None, events)
        }
        Err(_) => (None, events),
    }
}

fn plan_of(config: &Config, handed: Handed, successor: bool) -> Result<Plan, ProxyError> {
    let id = config.proxy_id(successor);
    let mut proxy = config.to_proxy();
    proxy.fail_points =
        FailPoints::from_variables(|name| std::env::var(name).ok()).map_err(ProxyError::FailPoints)?;
    Ok(Plan {
        proxy,
        store: config.open_store()?,
        cluster: config.to_cluster(id.as_str())?,
        id,
        gather_bytes_max: config.limits.gather_max_bytes.0,
        http: config.proxy.http,
        handed,
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
