//! Getting a connection where it may have to be waited for.
//!
//! A request stands in the machine's queue from [`ShardPool::wait_for`] on, and in the pool's `waits` from then until its
//! task has taken the result ([`Wait`]). Whoever gives up in between leaves both ([`Waiting`]'s drop), and hands on a
//! connection that was granted meanwhile.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use pool::{Answer, Refused, RequestId};

use super::lease::{Lease, Pooled};
use super::state::ShardPool;
use super::{CheckoutError, Purpose};
use crate::cancel::CancelSlot;

/// How far a queued request is.
pub(super) enum Wait {
    /// It waits; the task to be woken.
    Waiting(Option<Waker>),
    /// It was decided.
    Done(Result<Box<Pooled>, Refused>),
}

impl ShardPool {
    /// A connection, waiting at most `connection_timeout` for it.
    pub async fn checkout(
        &self,
        purpose: Purpose<'_>,
        slot: Option<&Arc<CancelSlot>>,
    ) -> Result<Lease, CheckoutError> {
        if let Some(lease) = self.try_checkout(purpose, slot) {
            return Ok(lease);
        }
        self.wait_for(purpose, slot, Instant::now()).await
    }

    /// The same for somebody who has found none idle at `since`, which is just now.
    pub(crate) async fn wait_for(
        &self,
        purpose: Purpose<'_>,
        slot: Option<&Arc<CancelSlot>>,
        since: Instant,
    ) -> Result<Lease, CheckoutError> {
        let waiting = slot.map(|slot| slot.mark.begin_wait());
        let mut since = since;
        let result = loop {
            let now = self.0.worker.time(since);
            let answer = (self.0.machine.borrow_mut()).request_held(purpose.class(), purpose.hold(), now);
            match answer {
                Answer::Granted(id) => match self.take_slot(id).map(|pooled| self.current(pooled)) {
                    Some(Some(pooled)) => break Ok(pooled),
                    Some(None) => since = Instant::now(),
                    None => break Err(Refused::TimedOut),
                },
                Answer::Refused(reason) => break Err(reason),
                Answer::Queued(id) => match self.queued(id, slot, since).await {
                    Some(Ok(pooled)) => match self.current(pooled) {
                        Some(pooled) => break Ok(pooled),
                        None => since = Instant::now(),
                    },
                    Some(refused) => break refused,
                    None => {
                        self.run_effects();
                        return Err(CheckoutError::cancelled());
                    }
                },
                Answer::Check(id) => {
                    let Some(pooled) = self.take_slot(id) else {
                        break Err(Refused::TimedOut);
                    };
                    let checked = Box::pin(self.checked(pooled)).await;
                    if let Some(pooled) = checked.and_then(|pooled| self.current(pooled)) {
                        break Ok(pooled);
                    }
                    since = Instant::now();
                }
            }
        };
        drop(waiting);
        let metrics = &self.0.worker.metrics;
        match result {
            Ok(pooled) => {
                metrics.checkouts.increment();
                Ok(Lease::new(pooled, self.clone(), slot))
            }
            Err(reason) => {
                self.run_effects();
                metrics.checkouts_refused.increment();
                Err(self.explain(reason))
            }
        }
    }

    /// The connection, unless it was made before rows changed hands; then it is closed.
    fn current(&self, pooled: Box<Pooled>) -> Option<Box<Pooled>> {
        if self.is_outdated(&pooled) {
            self.drop_lent(pooled);
            return None;
        }
        Some(pooled)
    }

    /// Waits for the turn of a request. `None`: its client cancelled it.
    async fn queued(
        &self,
        id: RequestId,
        slot: Option<&Arc<CancelSlot>>,
        since: Instant,
    ) -> Option<Result<Box<Pooled>, Refused>> {
        let worker = &self.0.worker;
        self.0.waits.borrow_mut().insert(id, Wait::Waiting(None));
        let waiting = Waiting { pool: self, id };
        if worker.timer_is_slow.get() {
            worker.timer.notify_one();
        }
        self.run_effects();
        worker.metrics.checkout_waits.increment();
        let watched = slot.map(|slot| slot.watch());
        let result = poll_fn(|cx| {
            if watched.as_ref().is_some_and(|watched| watched.is_cancelled(cx)) {
                return Poll::Ready(None);
            }
            waiting.poll(cx).map(Some)
        })
        .await?;
        let waited = since.elapsed().as_micros();
        worker
            .metrics
            .checkout_wait_us
            .add(u64::try_from(waited).unwrap_or(u64::MAX));
        Some(result)
    }
}

/// A queued request; dropping it gives the request up, or the connection back.
struct Waiting<'a> {
    pool: &'a ShardPool,
    id: RequestId,
}

impl Waiting<'_> {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Box<Pooled>, Refused>> {
        let mut waits = self.pool.0.waits.borrow_mut();
        match waits.get_mut(&self.id) {
            Some(Wait::Waiting(waker)) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(Wait::Done(_)) => match waits.remove(&self.id) {
                Some(Wait::Done(result)) => Poll::Ready(result),
                _ => Poll::Ready(Err(Refused::TimedOut)),
            },
            None => Poll::Ready(Err(Refused::TimedOut)),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let wait = self.pool.0.waits.borrow_mut().remove(&self.id);
        match wait {
            None => {}
            Some(Wait::Waiting(_)) => {
                self.pool.0.machine.borrow_mut().cancel(self.id);
            }
            Some(Wait::Done(Ok(pooled))) => self.pool.put_back(pooled, None),
            Some(Wait::Done(Err(_))) => {}
        }
    }
}
