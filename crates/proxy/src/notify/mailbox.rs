//! Notifications on their way to one session.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Notifications that may wait for one session (it is in a transaction, or its client reads slowly), in bytes of their
/// channels and payloads. PostgreSQL's own queue is larger, but shared by all.
pub(super) const WAITING_BYTES_MAX: usize = 8 << 20;

/// What one notification costs beside its texts.
const OVERHEAD_BYTES: usize = 64;

/// One notification.
#[derive(Debug)]
pub(crate) struct Notification {
    /// The process that notified, as the listening client should see it.
    pub(crate) pid: u32,
    /// The channel.
    pub(crate) channel: Box<str>,
    /// The payload.
    pub(crate) payload: Box<[u8]>,
}

/// Why no more notifications will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The connection that listened is gone.
    Lost,
    /// Too many were waiting.
    Overflow,
}

/// The notifications waiting for one session.
#[derive(Debug)]
pub(crate) struct Mailbox {
    id: u64,
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<Notification>>,
    bytes: usize,
    ended: Option<Ended>,
}

impl Mailbox {
    pub(super) fn new(id: u64) -> Self {
        Self {
            id,
            state: Mutex::default(),
            news: Notify::new(),
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// One more. After too many nothing is kept: the session will end.
    pub(super) fn put(&self, notification: &Arc<Notification>) {
        let mut state = self.lock();
        if state.ended.is_some() {
            return;
        }
        state.bytes += size_of(notification);
        if state.bytes > WAITING_BYTES_MAX {
            state.waiting = VecDeque::new();
            state.ended = Some(Ended::Overflow);
        } else {
            state.waiting.push_back(Arc::clone(notification));
        }
        drop(state);
        self.news.notify_one();
    }

    pub(super) fn end(&self) {
        self.lock().ended.get_or_insert(Ended::Lost);
        self.news.notify_one();
    }

    /// The oldest one; an error when there are no more and none will come.
    pub(crate) fn take(&self) -> Result<Option<Arc<Notification>>, Ended> {
        let mut state = self.lock();
        match state.waiting.pop_front() {
            Some(notification) => {
                state.bytes -= size_of(&notification);
                Ok(Some(notification))
            }
            None => state.ended.map_or(Ok(None), Err),
        }
    }

    /// Waits for news since the last call. Cancel safe.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size_of(notification: &Notification) -> usize {
    notification.channel.len() + notification.payload.len() + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(payload: usize) -> Arc<Notification> {
        Arc::new(Notification {
            pid: 1,
            channel: "c".into(),
            payload: vec![0; payload].into(),
        })
    }

    #[test]
    fn what_does_not_fit_ends_the_session_and_is_not_lost_silently() {
        let mailbox = Mailbox::new(1);
        mailbox.put(&notification(10));
        assert!(mailbox.take().is_ok_and(|found| found.is_some()));
        assert_eq!(mailbox.take().map(|found| found.is_none()), Ok(true));
        let large = notification(7000);
        for _ in 0..WAITING_BYTES_MAX / 7000 + 1 {
            mailbox.put(&large);
        }
        assert_eq!(mailbox.take().err(), Some(Ended::Overflow));
    }

    #[test]
    fn what_arrived_before_the_loss_is_delivered() {
        let mailbox = Mailbox::new(1);
        mailbox.put(&notification(10));
        mailbox.end();
        assert!(mailbox.take().is_ok_and(|found| found.is_some()));
        assert_eq!(mailbox.take().err(), Some(Ended::Lost));
    }
}
