//! LISTEN for sessions that keep no server: one connection per database listens for all of them.
//!
//! A *hub* is a task with a connection to the home shard. It exists while some session of its database listens. It runs
//! `LISTEN` when a channel gets its first session and `UNLISTEN` when it loses its last one, and puts what arrives into
//! the [`Mailbox`] of each session concerned. Sessions of all workers use the same hub: it is reached by a channel of
//! [`Command`]s, and mailboxes are shared memory.
//!
//! * *Nothing is lost silently.* When the hub's connection is lost, every session that listens is ended, as the loss of
//!   its backend would end it. A mailbox that overflows ends its session. A silent connection is asked for a sign of
//!   life every [`SILENCE`].
//! * *Order.* The connection gives notifications in the order of their commits; each mailbox keeps it.
//! * *Whose notification.* While a session commits explicit NOTIFYs, the hub knows its server process by the client's
//!   number ([`Hub::name`]), until a [`Hub::barrier`] has made sure that they have arrived; nobody else uses that server
//!   in between.

mod hub;
mod mailbox;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::{mpsc, oneshot};
use wire::backend::ErrorFields;

pub(crate) use mailbox::{Ended, Mailbox, Notification};

use crate::cluster::Cluster;

/// A hub that has heard nothing for this long asks its server for a sign of life.
const SILENCE: Duration = Duration::from_secs(30);

/// How long a server may take to answer the hub.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Server process → the number its client knows.
type Names = Arc<Mutex<HashMap<u32, u32>>>;

/// All hubs of a proxy.
#[derive(Debug, Default)]
pub(crate) struct Notifications {
    hubs: Mutex<HashMap<Arc<str>, Hub>>,
    next_mailbox: AtomicU64,
}

/// What a hub is asked to do. There is no bound on the number of commands, but each session has at most two under way.
enum Command {
    /// Channels a session wants to hear from now on.
    Join {
        mailbox: Arc<Mailbox>,
        channels: Vec<String>,
        done: oneshot::Sender<Result<(), Box<ErrorFields>>>,
    },
    /// Channels a session no longer wants to hear; `None`: all.
    Leave {
        mailbox: u64,
        channels: Option<Vec<String>>,
    },
    /// Says when everything committed before has arrived.
    Barrier(oneshot::Sender<()>),
}

/// A way to a hub.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    commands: mpsc::UnboundedSender<Command>,
    names: Names,
    id: u64,
}

impl Notifications {
    /// A mailbox for a session.
    pub(crate) fn mailbox(&self) -> Arc<Mailbox> {
        Arc::new(Mailbox::new(self.next_mailbox.fetch_add(1, Ordering::Relaxed)))
    }

    /// The hub of a database, if somebody listens there.
    pub(crate) fn existing(&self, database: &str) -> Option<Hub> {
        self.lock().get(database).cloned()
    }

    /// Makes a session hear these channels. When it returns, what is committed from now on will arrive.
    ///
    /// Must be called on a worker: the hub's task runs on the worker of its first session.
    pub(crate) async fn join(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        database: &Arc<str>,
        mailbox: &Arc<Mailbox>,
        channels: &[String],
    ) -> Result<Hub, Box<ErrorFields>> {
        loop {
            let hub = self.hub(cluster, database);
            let (done, answer) = oneshot::channel();
            let command = Command::Join {
                mailbox: Arc::clone(mailbox),
                channels: channels.to_vec(),
                done,
            };
            if hub.commands.send(command).is_ok()
                && let Ok(result) = answer.await
            {
                return result.map(|()| hub);
            }
            // The hub ended in this moment, because nobody listened any more.
            self.forget(database, hub.id);
        }
    }

    fn hub(self: &Arc<Self>, cluster: &Arc<Cluster>, database: &Arc<str>) -> Hub {
        let mut hubs = self.lock();
        if let Some(hub) = hubs.get(database) {
            return hub.clone();
        }
        let (commands, receiver) = mpsc::unbounded_channel();
        let hub = Hub {
            commands,
            names: Names::default(),
            id: self.next_mailbox.fetch_add(1, Ordering::Relaxed),
        };
        hubs.insert(Arc::clone(database), hub.clone());
        drop(hubs);
        let task = hub::Task {
            all: Arc::clone(self),
            cluster: Arc::clone(cluster),
            database: Arc::clone(database),
            id: hub.id,
            names: Arc::clone(&hub.names),
        };
        tokio::task::spawn_local(task.run(receiver));
        hub
    }

    fn forget(&self, database: &str, id: u64) {
        let mut hubs = self.lock();
        if hubs.get(database).is_some_and(|hub| hub.id == id) {
            hubs.remove(database);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, Hub>> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// The session of this mailbox hears these channels no longer; `None`: none at all.
    pub(crate) fn leave(&self, mailbox: &Mailbox, channels: Option<Vec<String>>) {
        let mailbox = mailbox.id();
        let _ = self.commands.send(Command::Leave { mailbox, channels });
    }

    /// What this server process notifies from now on comes from the client of this number.
    pub(crate) fn name(&self, server: u32, client: u32) {
        lock_names(&self.names).insert(server, client);
    }

    /// From now on it is nobody's in particular.
    pub(crate) fn unname(&self, server: u32) {
        lock_names(&self.names).remove(&server);
    }

    /// Waits until everything committed before has reached the mailboxes, or the hub is gone.
    pub(crate) async fn barrier(&self) {
        let (done, answer) = oneshot::channel();
        if self.commands.send(Command::Barrier(done)).is_ok() {
            let _ = answer.await;
        }
    }
}

fn lock_names(names: &Names) -> std::sync::MutexGuard<'_, HashMap<u32, u32>> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}
