//! `drover dev`: a whole cluster on this machine, until Ctrl-C.

mod display;
mod serving;

use std::cell::RefCell;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use agent::{ClusterError, ClusterInfo, ClusterOptions, DevCluster, Durability};
use clap::Args;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::serve::{ServeError, Serving};
use crate::terminal::{Signals, chain, say};
use display::Display;

/// The spinner turns this often.
const SPINNER_INTERVAL: Duration = Duration::from_millis(100);
/// Servers are looked after this often.
const SUPERVISION_INTERVAL: Duration = Duration::from_millis(500);

/// Arguments of `drover dev`.
#[derive(Debug, Clone, Args)]
pub struct DevArgs {
    /// Number of shards [default: 4, or as many as the directory holds]
    #[arg(long, value_name = "N")]
    pub shards: Option<u16>,
    /// Streaming replicas of each shard [default: 1, or as the directory holds]
    #[arg(long, value_name = "N")]
    pub replicas: Option<u16>,
    /// Where the data is kept; created if missing
    #[arg(long, value_name = "PATH", default_value = "./drover-data")]
    pub dir: PathBuf,
    /// Where PostgreSQL clients connect
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6432")]
    pub listen: SocketAddr,
    /// Where the HTTP API, metrics and health checks are
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6480")]
    pub http: SocketAddr,
    /// Delete all data of an earlier run first
    #[arg(long)]
    pub fresh: bool,
}

/// Why `drover dev` ended with an error.
#[derive(Debug, Error)]
pub enum DevError {
    /// A port is taken, or the address is not this machine's.
    #[error("cannot listen on {address}{}", if *.taken { format!(": another program does; choose another address with {option}") } else { String::new() })]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The option that names it.
        option: &'static str,
        /// Whether somebody else uses it.
        taken: bool,
        /// The system's reason.
        source: io::Error,
    },
    /// Signals cannot be received.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// The servers did not start.
    #[error("the cluster did not start")]
    Cluster(#[from] ClusterError),
    /// The proxy did not start.
    #[error("the proxy did not start")]
    Serve(#[from] ServeError),
    /// The store does not work, or the servers make no cluster.
    #[error(transparent)]
    Plan(#[from] serving::PlanError),
    /// A signal came before everything was ready.
    #[error("stopped before it was ready")]
    Interrupted,
}

/// Runs until SIGINT or SIGTERM and stops everything it started. Messages go to standard error, the
/// connection URL to standard output.
pub async fn run(args: DevArgs) -> ExitCode {
    match run_until_signal(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run_until_signal(args: &DevArgs) -> Result<(), DevError> {
    // Before the servers, which take seconds.
    for (address, option) in [(args.listen, "--listen"), (args.http, "--http")] {
        check_listen(address, option)?;
    }
    let mut signals = Signals::new().map_err(DevError::Signals)?;
    let display = RefCell::new(Display::new());
    let mut cluster = start(args, &display, &mut signals).await?;

    let info = cluster.info().clone();
    let state_dir = cluster.state_dir();
    let (stop, stopping) = watch::channel(false);
    let ready = |listen, http| announce(args, &info, &display, listen, http);
    let served = {
        let serving = serve(&info, &state_dir, args, ready, stopping);
        let mut serving = std::pin::pin!(serving);
        tokio::select! {
            result = &mut serving => result,
            never = supervise(&mut cluster) => match never {},
            () = signals.next() => {
                say!("stopping; again to stop at once");
                // It has ended already if nobody listens.
                let _ = stop.send(true);
                tokio::select! {
                    result = &mut serving => result,
                    () = signals.next() => Ok(()),
                }
            }
        }
    };
    tokio::select! {
        forced = cluster.shutdown() => {
            for node in forced {
                say!("{node} did not stop when asked and was killed");
            }
        }
        () = signals.next() => say!("stopping at once"),
    }
    served
}

/// Serves clients over the running servers: proxy, controller, HTTP. Calls `ready` with the addresses it
/// listens on, and returns when `stopping` turns true and the clients are gone, or when it fails.
async fn serve(
    cluster: &ClusterInfo,
    state_dir: &Path,
    args: &DevArgs,
    ready: impl FnOnce(SocketAddr, SocketAddr),
    mut stopping: watch::Receiver<bool>,
) -> Result<(), DevError> {
    let plan = serving::plan(cluster, state_dir, args.listen, args.http)?;
    let serving = Serving::start(plan).await?;
    ready(serving.address(), serving.http());
    // An error means that the sender is gone, which asks for the same.
    let _ = stopping.wait_for(|stop| *stop).await;
    serving.shutdown().await;
    Ok(())
}

/// Starts the servers, showing progress. A signal ends it, and with it what was started.
async fn start(
    args: &DevArgs,
    display: &RefCell<Display>,
    signals: &mut Signals,
) -> Result<DevCluster, DevError> {
    let options = ClusterOptions {
        shards: args.shards,
        replicas: args.replicas,
        dir: args.dir.clone(),
        fresh: args.fresh,
        durability: Durability::Durable,
        oid_skew: 0,
        binaries: None,
    };
    let turning = async {
        let mut ticks = interval(SPINNER_INTERVAL);
        loop {
            ticks.tick().await;
            display.borrow_mut().turn();
        }
    };
    let result = tokio::select! {
        result = DevCluster::start(options, |event| display.borrow_mut().show(&event)) => {
            result.map_err(DevError::from)
        }
        () = turning => unreachable!("the spinner turns for ever"),
        () = signals.next() => Err(DevError::Interrupted),
    };
    display.borrow_mut().clear();
    result
}

/// Starts servers again that end by themselves, for ever.
async fn supervise(cluster: &mut DevCluster) -> std::convert::Infallible {
    let mut ticks = interval(SUPERVISION_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut down: Vec<String> = Vec::new();
    loop {
        ticks.tick().await;
        for dead in cluster.dead_nodes() {
            say!("{} ended ({}); starting it again", dead.name, dead.status);
            down.push(dead.name);
        }
        let mut still_down = Vec::new();
        for node in down {
            if let Err(error) = cluster.restart_node(&node).await {
                say!("{}", chain(&error));
                still_down.push(node);
            }
        }
        down = still_down;
    }
}

fn announce(
    args: &DevArgs,
    info: &ClusterInfo,
    display: &RefCell<Display>,
    listen: SocketAddr,
    http: SocketAddr,
) {
    let replicas = info.shards.first().map_or(0, |shard| shard.replicas.len());
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    say!(
        "ready after {:.1} s: {} with {} each, PostgreSQL {}; the data is in {}; Ctrl-C stops it",
        display.borrow().elapsed().as_secs_f64(),
        count(info.shards.len(), "shard"),
        count(replicas, "replica"),
        info.server_major,
        args.dir.display()
    );
    let (user, password) = (&info.app_user, info.app_password.expose());
    // Whoever reads standard output may have gone away; the cluster runs on.
    let _ = writeln!(
        io::stdout(),
        "postgresql://{user}:{password}@{}/{}\nhttp://{}",
        reachable(listen),
        info.database,
        reachable(http)
    );
}

/// The address to connect to somebody who listens on `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
        _ => address,
    }
}

fn check_listen(address: SocketAddr, option: &'static str) -> Result<(), DevError> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(source) => {
            let taken = source.kind() == io::ErrorKind::AddrInUse;
            Err(DevError::Listen {
                address,
                option,
                taken,
                source,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_said_with_the_option_that_changes_it() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = taken.local_addr().unwrap();
        let error = check_listen(address, "--http").unwrap_err();
        assert!(
            error.to_string().contains("choose another address with --http"),
            "{error}"
        );
        drop(taken);
        check_listen(address, "--http").unwrap();
    }

    #[test]
    fn urls_name_addresses_one_can_connect_to() {
        assert_eq!(
            reachable("0.0.0.0:6432".parse().unwrap()).to_string(),
            "127.0.0.1:6432"
        );
        assert_eq!(reachable("[::1]:6432".parse().unwrap()).to_string(), "[::1]:6432");
    }
}
