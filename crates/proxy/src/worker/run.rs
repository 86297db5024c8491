//! A worker's thread.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::guard::{Guard, report_panic};
use super::stop::{Sessions, StopReason};
use super::{HandlerFactory, Session, SessionHandler, Shared, Switch, WorkerCtx, WorkerMessage};
use crate::buffers::Buffers;
use crate::client::{ClientConn, StartupInfo};
use crate::conn::Conn;
use crate::listing::ClientInfo;
use crate::login;
use crate::pools::{Pools, upkeep};
use crate::sockets::{Peer, Sockets};

/// How often a worker that shuts down looks whether its sessions have ended.
const STOP_TICK: Duration = Duration::from_millis(5);

/// Threads per worker for what would delay its clients: hash rounds of passwords, names of hosts.
const BLOCKING_THREADS_MAX: usize = 4;

/// The worker that accepts clients, also those of the others.
pub(crate) const ACCEPTING: usize = 0;

/// Starts the thread of one worker. `sockets`: it is the one that accepts clients.
pub(crate) fn spawn(
    id: usize,
    shared: Arc<Shared>,
    inbox: UnboundedReceiver<WorkerMessage>,
    factory: HandlerFactory,
    sockets: Option<Sockets>,
) -> io::Result<JoinHandle<()>> {
    let (ready, started) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new()
        .name(format!("worker-{id}"))
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .max_blocking_threads(BLOCKING_THREADS_MAX)
                .build_local(tokio::runtime::LocalOptions::default());
            match runtime {
                Ok(runtime) => {
                    let _ = ready.send(Ok(()));
                    runtime.block_on(main(id, shared, inbox, factory, sockets));
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        })?;
    started
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the worker ended at once")))?;
    Ok(thread)
}

async fn main(
    id: usize,
    shared: Arc<Shared>,
    mut inbox: UnboundedReceiver<WorkerMessage>,
    factory: HandlerFactory,
    sockets: Option<Sockets>,
) {
    let metrics = shared.metrics.add_worker();
    let buffers = Buffers::new();
    let ctx = Rc::new(WorkerCtx {
        id,
        pools: Pools::new(Arc::clone(&shared), id, Arc::clone(&metrics), buffers.clone()),
        shared,
        buffers,
        metrics,
        sessions: Sessions::default(),
        watches: Rc::default(),
        reconfigured: Default::default(),
    });
    let handler = factory(&ctx);
    let pools = ctx.pools.clone();
    tokio::task::spawn_local(async move { pools.run_timer().await });
    if id == 0 {
        upkeep::warm(&ctx.shared);
        tokio::task::spawn_local(upkeep::follow_names(Arc::clone(&ctx.shared)));
    }
    if let Some(sockets) = sockets {
        tokio::task::spawn_local(crate::listener::run(sockets, Arc::clone(&ctx.shared)));
    }
    if ctx.shared.busy.len() > 1 {
        tokio::task::spawn_local(super::busy::measure(Rc::clone(&ctx)));
    }
    while let Some(message) = inbox.recv().await {
        if handle(&ctx, &handler, message) {
            break;
        }
    }
    stop(&ctx, &handler, &mut inbox).await;
}

/// Does what the message asks for. True: the worker is to end.
fn handle(ctx: &Rc<WorkerCtx>, handler: &Rc<dyn SessionHandler>, message: WorkerMessage) -> bool {
    match message {
        WorkerMessage::Client(client) => {
            tokio::task::spawn_local(serve(Rc::clone(ctx), Rc::clone(handler), client));
        }
        WorkerMessage::Want { key } => ctx.pools.wanted(&key),
        WorkerMessage::Room { key } => ctx.pools.room(&key),
        WorkerMessage::Adopt {
            key,
            travelling,
            permit,
        } => ctx.pools.adopt(&key, *travelling, permit),
        WorkerMessage::Recycle { place } => ctx.pools.recycle(place),
        WorkerMessage::Cut { place } => ctx.pools.cut(place),
        WorkerMessage::Suspect { place } => ctx.pools.suspect(place),
        WorkerMessage::Evict { key, denied } => ctx.pools.evict(&key, denied),
        WorkerMessage::Switch { database, switch } => {
            if switch == Switch::Kill {
                super::kill::database(ctx, database.as_deref());
            } else {
                ctx.pools.switch(database.as_deref(), switch);
            }
        }
        WorkerMessage::SwitchShard { shard, switch } => ctx.pools.switch_shard(shard, switch),
        WorkerMessage::Reconfigure => {
            ctx.pools.reconfigure();
            for reconfigure in ctx.reconfigured.borrow().iter() {
                reconfigure();
            }
        }
        WorkerMessage::End { database } => ctx.sessions.end_database(&database),
        WorkerMessage::Warm { key } => {
            ctx.pools.pool_for(&key).warm();
        }
        WorkerMessage::Stats(sender) => {
            let _ = sender.send(ctx.pools.stats());
        }
        WorkerMessage::Servers(sender) => {
            let _ = sender.send(ctx.pools.servers());
        }
        WorkerMessage::KillClient { pid } => super::kill::client(ctx, pid),
        WorkerMessage::Shutdown => return true,
    }
    false
}

/// Gives sessions time to end, then ends them.
async fn stop(
    ctx: &Rc<WorkerCtx>,
    handler: &Rc<dyn SessionHandler>,
    inbox: &mut UnboundedReceiver<WorkerMessage>,
) {
    ctx.sessions.stop_all(StopReason::Shutdown);
    let deadline = Instant::now() + ctx.shared.config.limits.shutdown_timeout;
    while ctx.sessions.live() > 0 && Instant::now() < deadline {
        let message = tokio::time::timeout(STOP_TICK, inbox.recv()).await;
        if let Ok(Some(message)) = message {
            // Clients accepted in the last moment are told too; connections still change hands between workers.
            handle(ctx, handler, message);
            ctx.sessions.stop_all(StopReason::Shutdown);
        }
    }
    ctx.sessions.stop_all(StopReason::Abort);
    ctx.pools.close_all();
    let deadline = Instant::now() + Duration::from_millis(200);
    while ctx.sessions.live() > 0 && Instant::now() < deadline {
        tokio::time::sleep(STOP_TICK).await;
    }
}

/// A client's login; the session that follows is another task.
async fn serve(ctx: Rc<WorkerCtx>, handler: Rc<dyn SessionHandler>, client: login::Accepted) {
    let (stop, alive) = ctx.sessions.add();
    let guard = Guard::new(Rc::clone(&stop), alive, Rc::clone(&ctx));
    ctx.metrics.clients.up();
    ctx.metrics.clients_accepted.increment();
    let login::Accepted {
        socket,
        peer,
        local,
        permit,
    } = client;
    let Ok(socket) = socket.into_socket() else {
        return;
    };
    let conn = Conn::new(socket, Buffers::with_size(login::BUFFER_BYTES));
    let mut login = std::pin::pin!(login::admit(conn, peer, Rc::clone(&ctx), Rc::clone(&stop)));
    let admitted = poll_fn(|cx| {
        stop.set_waker(cx.waker());
        // A peer that may be silent for a minute must not delay a shutdown.
        if stop.is_set() {
            Poll::Ready(None)
        } else {
            login.as_mut().poll(cx)
        }
    })
    .await;
    drop(permit);
    let Some((mut conn, info, cancel, admission)) = admitted else {
        return;
    };
    cancel.slot.mark.introduce(client_info(&info, peer, local));
    stop.set_pid(cancel.slot.pid());
    let console = ctx.shared.policies.source().console.serves(&info.database);
    if !console {
        // KILL is for clients, not for operators.
        stop.set_database(Arc::clone(&info.database));
    }
    conn.set_buffers(ctx.buffers.clone());
    ctx.metrics.logins.increment();
    let session = Session {
        client: ClientConn::new(conn, Rc::clone(&stop), Arc::clone(&ctx.metrics)),
        info,
        cancel,
        admission,
        stop: Rc::clone(&stop),
        ctx: Rc::clone(&ctx),
    };
    let handler: Rc<dyn SessionHandler> = if console {
        Rc::new(crate::console::Console)
    } else {
        handler
    };
    // The handler's own code may panic before its first await.
    if catch_unwind(AssertUnwindSafe(|| handler.run(session, guard))).is_err() {
        report_panic(&ctx);
    }
}

/// What operators see of a client.
fn client_info(info: &StartupInfo, peer: Peer, local: Option<SocketAddr>) -> ClientInfo {
    ClientInfo {
        user: Arc::clone(&info.user),
        database: Arc::clone(&info.database),
        peer,
        local: local.map(|address| (address.ip(), address.port())),
        connected_s: crate::listing::seconds(std::time::SystemTime::now()),
        application_name: info.param("application_name").unwrap_or_default().into(),
        tls: info.tls.clone(),
    }
}
