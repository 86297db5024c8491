//! The ticket book of one proxy, shared by its workers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use pool::{Ticket, TicketAnswer, TicketBook, TicketEffect, TicketRequestId, Time};
use tokio::sync::oneshot;

use crate::cancel::{CancelSlot, CancelTarget};
use crate::pools::CheckoutError;

/// The tickets of one proxy.
#[derive(Debug)]
pub(crate) struct Tickets {
    state: Mutex<State>,
    timeout: Duration,
    origin: Instant,
}

#[derive(Debug)]
struct State {
    book: TicketBook,
    waiting: HashMap<TicketRequestId, oneshot::Sender<Option<Ticket>>>,
    /// Transactions that hold a ticket, by their numbers.
    holders: HashMap<u64, Holder>,
    /// The number given last.
    number: u64,
}

/// A transaction over several shards.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    /// Its client's servers and requests.
    pub(crate) slot: Arc<CancelSlot>,
    /// It is being committed, and nothing may disturb it.
    pub(crate) ending: Option<Arc<Ending>>,
}

/// A transaction over several shards that is being committed.
#[derive(Debug)]
pub(crate) struct Ending {
    /// Its servers, which no cancel reaches any more.
    pub(crate) targets: Vec<Arc<CancelTarget>>,
    /// Its name where it is prepared.
    pub(crate) gid: Option<commit::Gid>,
}

/// The right to enlist further shards until it is dropped, and the place in the list of those that have several.
#[derive(Debug)]
pub struct TicketGuard {
    ticket: Option<Ticket>,
    /// Of the transaction, among all of this proxy; 0: it is not listed.
    number: u64,
    tickets: Arc<Tickets>,
}

impl Tickets {
    /// `total` tickets, waits bounded by `timeout` and `queue_limit`.
    pub(crate) fn new(total: usize, queue_limit: usize, timeout: Duration) -> Self {
        let state = State {
            book: TicketBook::new(total, queue_limit, timeout),
            waiting: HashMap::new(),
            holders: HashMap::new(),
            number: 0,
        };
        Self {
            state: Mutex::new(state),
            timeout,
            origin: Instant::now(),
        }
    }

    /// Waits for a ticket. The second value says whether it had to wait. The transaction is listed as `slot`'s while it has
    /// the ticket.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        slot: Option<&Arc<CancelSlot>>,
    ) -> (Result<TicketGuard, CheckoutError>, bool) {
        let (id, mut answer) = {
            let mut state = self.lock();
            match state.book.request(self.now()) {
                TicketAnswer::Granted(ticket) => {
                    return (Ok(self.guard(ticket, slot, &mut state)), false);
                }
                TicketAnswer::QueueFull => return (Err(no_ticket("too many are waiting")), false),
                TicketAnswer::Queued(id) => {
                    let (sender, receiver) = oneshot::channel();
                    state.waiting.insert(id, sender);
                    (id, receiver)
                }
            }
        };
        // Dropped half-way (the session ended), the request leaves the queue, or its ticket goes back.
        let mut waiting = Waiting {
            tickets: self,
            id: Some(id),
            answer: &mut answer,
        };
        let outcome = tokio::time::timeout(self.timeout, &mut *waiting.answer).await;
        if outcome.is_err() {
            drop(waiting);
            return (Err(no_ticket("none became free in time")), true);
        }
        waiting.id = None;
        match outcome {
            Ok(Ok(Some(ticket))) => {
                let guard = self.guard(ticket, slot, &mut self.lock());
                (Ok(guard), true)
            }
            _ => (Err(no_ticket("none became free in time")), true),
        }
    }

    /// Multi-shard transactions waiting now.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().book.waiting()
    }

    /// Tickets nobody holds.
    pub(crate) fn free(&self) -> usize {
        self.lock().book.free()
    }

    /// Transactions that hold a ticket, with the number of each, which no other ever has.
    pub(crate) fn holders(&self) -> Vec<(u64, Holder)> {
        let state = self.lock();
        let holders = state.holders.iter();
        holders
            .map(|(number, holder)| (*number, holder.clone()))
            .collect()
    }

    fn guard(
        self: &Arc<Self>,
        ticket: Ticket,
        slot: Option<&Arc<CancelSlot>>,
        state: &mut State,
    ) -> TicketGuard {
        TicketGuard {
            ticket: Some(ticket),
            number: slot.map_or(0, |slot| state.list(slot)),
            tickets: Arc::clone(self),
        }
    }

    /// Lists a transaction that has no ticket.
    pub(crate) fn list(self: &Arc<Self>, slot: &Arc<CancelSlot>) -> TicketGuard {
        TicketGuard {
            ticket: None,
            number: self.lock().list(slot),
            tickets: Arc::clone(self),
        }
    }

    fn release(&self, ticket: Ticket, number: u64) {
        let mut state = self.lock();
        state.holders.remove(&number);
        state.book.release(ticket);
        let now = self.now();
        state.book.handle_timeout(now);
        while let Some(effect) = state.book.poll_effect() {
            let (request, ticket) = match effect {
                TicketEffect::Grant { request, ticket } => (request, Some(ticket)),
                TicketEffect::TimedOut { request } => (request, None),
            };
            let refused = match state.waiting.remove(&request) {
                Some(sender) => sender.send(ticket).err().flatten(),
                None => ticket,
            };
            if let Some(ticket) = refused {
                state.book.release(ticket);
            }
        }
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn list(&mut self, slot: &Arc<CancelSlot>) -> u64 {
        self.number += 1;
        let holder = Holder {
            slot: Arc::clone(slot),
            ending: None,
        };
        self.holders.insert(self.number, holder);
        self.number
    }
}

struct Waiting<'a> {
    tickets: &'a Tickets,
    id: Option<TicketRequestId>,
    answer: &'a mut oneshot::Receiver<Option<Ticket>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        {
            let mut state = self.tickets.lock();
            state.book.cancel(id);
            state.waiting.remove(&id);
        }
        if let Ok(Some(ticket)) = self.answer.try_recv() {
            self.tickets.release(ticket, 0);
        }
    }
}

impl TicketGuard {
    /// The transaction is being committed from now on.
    pub(crate) fn ends(&self, ending: Ending) {
        let ending = Arc::new(ending);
        if let Some(holder) = self.tickets.lock().holders.get_mut(&self.number) {
            holder.ending = Some(ending);
        }
    }
}

impl Drop for TicketGuard {
    fn drop(&mut self) {
        match self.ticket.take() {
            Some(ticket) => self.tickets.release(ticket, self.number),
            None => {
                self.tickets.lock().holders.remove(&self.number);
            }
        }
    }
}

fn no_ticket(why: &str) -> CheckoutError {
    CheckoutError {
        sqlstate: "40001".into(),
        message: format!(
            "cannot enlist another shard: all tickets for multi-shard transactions are taken, {why}"
        ),
        hint: Some("Retry the transaction.".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ticket_goes_to_the_waiter_or_back() {
        let tickets = Arc::new(Tickets::new(1, 10, Duration::from_millis(50)));
        let (first, waited) = tickets.acquire(None).await;
        assert!(!waited);
        let error = tickets.acquire(None).await.0.expect_err("must time out");
        assert_eq!(error.sqlstate, "40001");
        assert_eq!((tickets.waiting(), tickets.free()), (0, 0));
        let mut waiter = Box::pin(tickets.acquire(None));
        assert!(
            std::future::poll_fn(|cx| std::task::Poll::Ready(waiter.as_mut().poll(cx).is_pending())).await
        );
        drop(first);
        // Granted, but the waiter goes away before it looks.
        drop(waiter);
        assert_eq!((tickets.waiting(), tickets.free()), (0, 1));
        let mut waiter = Box::pin(tickets.acquire(None));
        assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(waiter.as_mut().poll(cx).is_ready())).await);
        assert_eq!(tickets.free(), 1, "an unobserved result gives its ticket back");
    }
}
