//! The task that listens for all sessions of a database.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use hashbrown::HashMap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use wire::backend::{Backend, ErrorFields, tag};

use super::{ANSWER_TIMEOUT, Command, Mailbox, Names, Notification, Notifications, SILENCE, lock_names};
use crate::admin_link::AdminLink;
use crate::cluster::Cluster;
use crate::exec::link::{self, Reply};
use crate::server::Address;

/// The longest message an idle server may send, in bytes; a notification has less than 8,192.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The hub of one database before it is connected.
pub(super) struct Task {
    pub(super) all: Arc<Notifications>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) database: Arc<str>,
    pub(super) id: u64,
    pub(super) names: Names,
}

/// The hub at work.
struct Listener {
    link: AdminLink,
    names: Names,
    /// Who hears which channel.
    channels: HashMap<String, Vec<Arc<Mailbox>>>,
}

/// The connection is of no use any more.
struct Lost;

enum Event {
    Command(Command),
    Input,
    Lost,
}

impl Task {
    pub(super) async fn run(self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let home = self.cluster.home();
        match self.cluster.admin_link(home, &self.database).await {
            Ok(link) => {
                let mut listener = Listener {
                    link,
                    names: self.names,
                    channels: HashMap::new(),
                };
                let address = Arc::clone(&listener.link.server.address);
                let lost = tokio::select! {
                    done = listener.work(&mut commands) => done.is_err(),
                    // The old primary may live on, and nobody notifies there any more.
                    () = moved(&self.cluster, &address) => true,
                };
                self.all.forget(&self.database, self.id);
                if lost {
                    tracing::warn!(database = &*self.database, "the listening connection was lost");
                }
                // Empty unless the connection was lost.
                for mailbox in listener.channels.into_values().flatten() {
                    mailbox.end();
                }
            }
            Err(error) => {
                self.all.forget(&self.database, self.id);
                commands.close();
                while let Some(command) = commands.recv().await {
                    if let Command::Join { done, .. } = command {
                        let text = format!("cannot listen: {error}");
                        let _ = done.send(Err(Box::new(ErrorFields::error("08006", text))));
                    }
                }
            }
        }
    }
}

/// Completes when the home shard's primary is another server than this.
async fn moved(cluster: &Cluster, address: &Address) {
    let mut changes = cluster.nodes.changes();
    loop {
        if let Ok(now) = cluster.nodes.primary(cluster.home().0)
            && now != *address
        {
            return;
        }
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

impl Listener {
    /// Works until nobody listens any more, or the connection is lost.
    async fn work(&mut self, commands: &mut mpsc::UnboundedReceiver<Command>) -> Result<(), Lost> {
        let mut joined = false;
        while !joined || !self.channels.is_empty() {
            match timeout(SILENCE, self.next(commands)).await {
                Ok(Event::Command(command)) => {
                    joined |= matches!(command, Command::Join { .. });
                    self.act(command).await?;
                }
                Ok(Event::Input) => {}
                Ok(Event::Lost) => return Err(Lost),
                Err(_) => self.look().await?,
            }
            // Also behind an answer: a notification may have been read together with its end.
            self.hear()?;
        }
        Ok(())
    }

    /// Commands go first: a name is given before what is to carry it can arrive.
    async fn next(&mut self, commands: &mut mpsc::UnboundedReceiver<Command>) -> Event {
        poll_fn(|cx| {
            match commands.poll_recv(cx) {
                Poll::Ready(Some(command)) => return Poll::Ready(Event::Command(command)),
                Poll::Ready(None) => return Poll::Ready(Event::Lost),
                Poll::Pending => {}
            }
            match self.link.server.conn.poll_fill(cx) {
                Poll::Ready(Ok(n)) if n > 0 => Poll::Ready(Event::Input),
                Poll::Ready(_) => Poll::Ready(Event::Lost),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    async fn act(&mut self, command: Command) -> Result<(), Lost> {
        match command {
            Command::Join {
                mailbox,
                channels,
                done,
            } => self.join(&mailbox, channels, done).await,
            Command::Leave { mailbox, channels } => self.leave(mailbox, channels).await,
            Command::Barrier(done) => {
                // Before the server is ready again it sends what its process was told of, and a commit tells it.
                self.ask("").await?;
                let _ = done.send(());
                Ok(())
            }
        }
    }

    async fn join(
        &mut self,
        mailbox: &Arc<Mailbox>,
        channels: Vec<String>,
        done: oneshot::Sender<Result<(), Box<ErrorFields>>>,
    ) -> Result<(), Lost> {
        let mut text = String::new();
        for channel in &channels {
            let hearers = self.channels.entry(channel.clone()).or_default();
            if hearers.is_empty() {
                text.push_str(&format!("LISTEN {};", sql::quote_ident(channel)));
            }
            if !hearers.iter().any(|known| known.id() == mailbox.id()) {
                hearers.push(Arc::clone(mailbox));
            }
        }
        if !text.is_empty()
            && let Some(error) = self.ask(&text).await?.error
        {
            self.leave(mailbox.id(), Some(channels)).await?;
            let _ = done.send(Err(error));
            return Ok(());
        }
        let _ = done.send(Ok(()));
        Ok(())
    }

    async fn leave(&mut self, mailbox: u64, channels: Option<Vec<String>>) -> Result<(), Lost> {
        let channels = channels.unwrap_or_else(|| self.channels.keys().cloned().collect());
        let mut text = String::new();
        for channel in channels {
            let Some(hearers) = self.channels.get_mut(&channel) else {
                continue;
            };
            hearers.retain(|known| known.id() != mailbox);
            if hearers.is_empty() {
                self.channels.remove(&channel);
                text.push_str(&format!("UNLISTEN {};", sql::quote_ident(&channel)));
            }
        }
        if !text.is_empty() {
            self.ask(&text).await?;
        }
        Ok(())
    }

    /// A sign of life, and that this is still a primary: nothing is notified on a standby.
    async fn look(&mut self) -> Result<(), Lost> {
        let reply = self.ask("SELECT pg_catalog.pg_is_in_recovery()").await?;
        match reply.single() {
            Some("f") => Ok(()),
            _ => Err(Lost),
        }
    }

    async fn ask(&mut self, text: &str) -> Result<Reply, Lost> {
        match timeout(ANSWER_TIMEOUT, link::query(&mut self.link.server, text)).await {
            Ok(Ok(reply)) => {
                self.hear_aside(&reply.aside);
                Ok(reply)
            }
            _ => Err(Lost),
        }
    }

    /// Takes what the server said by itself.
    fn hear(&mut self) -> Result<(), Lost> {
        loop {
            let heard = match self.link.server.conn.message(MESSAGE_BYTES_MAX) {
                Ok(None) => return Ok(()),
                Ok(Some(message)) if matches!(message.tag, tag::NOTICE | tag::PARAMETER_STATUS) => {
                    (message.bytes.len(), None)
                }
                Ok(Some(message)) => (message.bytes.len(), Some(self.notification(message).ok_or(Lost)?)),
                Err(_) => return Err(Lost),
            };
            self.link.server.conn.consume(heard.0);
            if let Some(notification) = heard.1 {
                self.deliver(notification);
            }
        }
    }

    /// The same for what came with an answer.
    fn hear_aside(&mut self, mut bytes: &[u8]) {
        while let Some(length) = bytes.get(1..5).and_then(|length| length.first_chunk::<4>()) {
            let total = 1 + u32::from_be_bytes(*length) as usize;
            let Some(message) = bytes.get(..total).and_then(wire::frame::Message::whole) else {
                return;
            };
            if let Some(notification) = self.notification(message) {
                self.deliver(notification);
            }
            bytes = &bytes[total..];
        }
    }

    fn notification(&self, message: wire::frame::Message<'_>) -> Option<Notification> {
        let Ok(Backend::Notification {
            pid,
            channel,
            payload,
        }) = Backend::decode(message)
        else {
            return None;
        };
        let pid = lock_names(&self.names).get(&pid).copied().unwrap_or(pid);
        Some(Notification {
            pid,
            channel: String::from_utf8_lossy(channel).into(),
            payload: payload.into(),
        })
    }

    fn deliver(&self, notification: Notification) {
        let notification = Arc::new(notification);
        for mailbox in self.channels.get(&*notification.channel).into_iter().flatten() {
            mailbox.put(&notification);
        }
    }
}
