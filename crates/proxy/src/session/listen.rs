//! LISTEN, UNLISTEN and NOTIFY of a session that keeps no server. The listening is done by [`crate::notify`].
//!
//! | moment | what happens | if it fails |
//! |---|---|---|
//! | LISTEN, UNLISTEN in a block | noted | – |
//! | before COMMIT | channels the block adds are established at the hub | the block is rolled back, the error is the answer |
//! | COMMIT succeeded | the session's channels are the new ones; those given up are left | – |
//! | COMMIT failed, ROLLBACK | what was established is left again | – |
//! | ROLLBACK TO | what was noted after the savepoint is forgotten | – |
//! | the client is idle outside a block, or about to be told so | waiting notifications are sent | the session ends |
//!
//! Outside a block a statement is a block of its own. A function that runs LISTEN inside is found by looking at the
//! server afterwards and pins the session; from then on its server does all its listening.

use std::collections::BTreeSet;
use std::sync::Arc;

use wire::backend::{ErrorFields, encode};

use super::effects::PinReason;
use super::{Fault, Session};
use crate::exec::link;
use crate::notify::{Ended, Hub, Mailbox};

/// Channels one session may listen to.
const CHANNELS_MAX: usize = 10_000;

/// A LISTEN or UNLISTEN statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenCommand {
    /// LISTEN.
    Listen(String),
    /// UNLISTEN; `None`: `*`.
    Unlisten(Option<String>),
}

/// What a session that listens, or notifies, remembers of it.
#[derive(Debug, Default)]
pub(super) struct Listening {
    mailbox: Option<Arc<Mailbox>>,
    hub: Option<Hub>,
    /// Channels the session listens to.
    channels: BTreeSet<String>,
    /// What the open block did, with the number of savepoints around it.
    noted: Vec<(usize, ListenCommand)>,
    /// The channels after the commit that is under way.
    wanted: Option<BTreeSet<String>>,
    /// A server process known to the hub by this client's number.
    named: Option<(Hub, u32)>,
}

impl Listening {
    fn after_block(&self) -> BTreeSet<String> {
        let mut channels = self.channels.clone();
        for (_, command) in &self.noted {
            match command {
                ListenCommand::Listen(channel) => {
                    channels.insert(channel.clone());
                }
                ListenCommand::Unlisten(Some(channel)) => {
                    channels.remove(channel);
                }
                ListenCommand::Unlisten(None) => channels.clear(),
            }
        }
        channels
    }

    fn leave(&self, channels: Vec<String>) {
        if let (Some(hub), Some(mailbox), false) = (&self.hub, &self.mailbox, channels.is_empty()) {
            hub.leave(mailbox, Some(channels));
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let (Some(hub), Some(mailbox)) = (&self.hub, &self.mailbox) {
            hub.leave(mailbox, None);
        }
        if let Some((hub, server)) = &self.named {
            hub.unname(*server);
        }
    }
}

impl Session {
    /// Runs LISTEN or UNLISTEN.
    pub(super) async fn listen(&mut self, command: &ListenCommand, text: &str) -> Result<(), Fault> {
        let by_server = [PinReason::Listen, PinReason::SessionMode];
        if by_server.iter().any(|reason| self.pinned.contains(*reason)) {
            self.recheck_pins = true;
            return self.relay_home(text).await;
        }
        let depth = self.settings.savepoints();
        let listening = self.listening.get_or_insert_default();
        listening.noted.push((depth, command.clone()));
        if !self.block.is_open() {
            let established = self.establish_listens().await;
            self.finish_listens(established.is_ok());
            established?;
        }
        self.complete(match command {
            ListenCommand::Listen(_) => "LISTEN",
            ListenCommand::Unlisten(_) => "UNLISTEN",
        })
    }

    /// Something is noted that the end of the block decides.
    pub(super) fn has_noted_listens(&self) -> bool {
        self.listening
            .as_ref()
            .is_some_and(|listening| !listening.noted.is_empty())
    }

    /// Before a commit: the channels it adds are heard from now on.
    pub(super) async fn establish_listens(&mut self) -> Result<(), Fault> {
        let Some(listening) = &mut self.listening else {
            return Ok(());
        };
        if listening.noted.is_empty() {
            return Ok(());
        }
        let wanted = listening.after_block();
        if wanted.len() > CHANNELS_MAX {
            let text = format!("a session can listen to {CHANNELS_MAX} channels");
            return Err(Fault::error("54000", text));
        }
        let added: Vec<String> = wanted.difference(&listening.channels).cloned().collect();
        listening.wanted = Some(wanted);
        if added.is_empty() {
            return Ok(());
        }
        let notifications = &self.engine.shared.notifications;
        if listening.channels.is_empty() {
            // The old one may have ended with a connection nobody needed any more.
            listening.mailbox = None;
        }
        let mailbox = listening.mailbox.get_or_insert_with(|| notifications.mailbox());
        let hub = notifications
            .join(&self.engine.cluster, &self.database, mailbox, &added)
            .await
            .map_err(Fault::Statement)?;
        listening.hub = Some(hub);
        Ok(())
    }

    /// After a commit or rollback: keeps what holds and gives up the rest.
    pub(super) fn finish_listens(&mut self, committed: bool) {
        let Some(listening) = &mut self.listening else {
            return;
        };
        listening.noted.clear();
        let Some(wanted) = listening.wanted.take() else {
            return;
        };
        let old = match committed {
            true => std::mem::replace(&mut listening.channels, wanted),
            false => wanted,
        };
        listening.leave(old.difference(&listening.channels).cloned().collect());
    }

    /// `ROLLBACK TO` a savepoint with so many around it.
    pub(super) fn roll_back_listens(&mut self, depth: usize) {
        if let Some(listening) = &mut self.listening {
            listening.noted.retain(|(within, _)| *within <= depth);
        }
    }

    /// `RELEASE` of a savepoint with so many around it.
    pub(super) fn release_listens(&mut self, depth: usize) {
        if let Some(listening) = &mut self.listening {
            for (within, _) in &mut listening.noted {
                *within = (*within).min(depth);
            }
        }
    }

    /// Before an explicit NOTIFY takes effect on this server: it is this client's.
    pub(super) fn before_notify(&mut self, index: usize) {
        let Some(hub) = self.engine.shared.notifications.existing(&self.database) else {
            return;
        };
        let server = self.servers[index].lease.target.key.pid;
        hub.name(server, self.cancel.key.pid);
        self.listening.get_or_insert_default().named = Some((hub, server));
    }

    /// After it took effect, or did not; the server is still this session's.
    pub(super) async fn after_notify(&mut self) {
        let named = self
            .listening
            .as_mut()
            .and_then(|listening| listening.named.take());
        if let Some((hub, server)) = named {
            hub.barrier().await;
            hub.unname(server);
        }
    }

    /// Sends what is waiting, if the client is at rest.
    pub(super) fn deliver_notifications(&mut self) -> Result<(), Fault> {
        let at_rest = !self.block.is_open()
            && self.extended.open_on.is_none()
            && self.extended.steps.is_empty()
            && !self.extended.skipping;
        let Some(listening) = self.listening.as_ref().filter(|_| at_rest) else {
            return Ok(());
        };
        let Some(mailbox) = &listening.mailbox else {
            return Ok(());
        };
        loop {
            match mailbox.take() {
                Ok(None) => return Ok(()),
                Ok(Some(notification)) => {
                    // It may have been given up while this one was on its way.
                    if listening.channels.contains(&*notification.channel) {
                        let channel = notification.channel.as_bytes();
                        let out = self.client.conn.out();
                        let _ = encode::notification(out, notification.pid, channel, &notification.payload);
                    }
                }
                // Nobody else speaks for channels that are given up.
                Err(_) if listening.channels.is_empty() => return Ok(()),
                Err(Ended::Lost) => return Err(super::stopped(crate::worker::StopReason::Shutdown)),
                Err(Ended::Overflow) => {
                    let fields = ErrorFields::fatal("53400", "too many notifications wait for this client")
                        .with_hint(
                            "Read notifications faster, and keep transactions of listening sessions short.",
                        );
                    return Err(Fault::Fatal(Box::new(fields)));
                }
            }
        }
    }

    /// Waits for the client beside notifications. The result is that of waiting for the client; true also when there
    /// are news to deliver.
    pub(super) async fn wait_listening(&mut self) -> Result<bool, Fault> {
        let mailbox = self
            .listening
            .as_ref()
            .and_then(|listening| listening.mailbox.clone())
            .filter(|_| !self.block.is_open());
        let Some(mailbox) = mailbox else {
            return self.wait_plainly().await;
        };
        tokio::select! {
            biased;
            heard = self.wait_plainly() => heard,
            () = mailbox.news() => Ok(true),
        }
    }

    /// Before a statement that asks which channels the session listens to: its server listens from now on.
    pub(super) async fn listen_on_server(&mut self) -> Result<(), Fault> {
        let channels = match &self.listening {
            Some(listening) => listening.channels.clone(),
            None => return Ok(()),
        };
        if channels.is_empty() && !self.has_noted_listens() {
            return Ok(());
        }
        if self.block.is_open() {
            return Err(Fault::refused_as(plan::RefusalCode::ListeningChannels));
        }
        let home = self.engine.cluster.home();
        self.settle_batch_for_question().await?;
        let index = self.enlist(home).await?;
        let text: String = channels
            .iter()
            .map(|channel| format!("LISTEN {};", sql::quote_ident(channel)))
            .collect();
        let name = self.shard_name(home);
        let reply = link::query(&mut self.servers[index].lease, &text)
            .await
            .map_err(|error| Fault::lost(&error, &name))?;
        self.client.conn.out().extend_from_slice(&reply.aside);
        reply.into_rows().map_err(Fault::Statement)?;
        self.deliver_notifications()?;
        self.listening = None;
        self.pin(PinReason::Listen);
        self.servers[index].unpreparable = true;
        Ok(())
    }
}
