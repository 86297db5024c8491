//! The ticket book of one proxy, shared by its workers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use pool::{Ticket, TicketAnswer, TicketBook, TicketEffect, TicketRequestId, Time};
use tokio::sync::oneshot;

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
}

/// The right to enlist further shards until it is dropped.
#[derive(Debug)]
pub struct TicketGuard {
    ticket: Option<Ticket>,
    tickets: Arc<Tickets>,
}

impl Tickets {
    /// `total` tickets, waits bounded by `timeout` and `queue_limit`.
    pub(crate) fn new(total: usize, queue_limit: usize, timeout: Duration) -> Self {
        let state = State {
            book: TicketBook::new(total, queue_limit, timeout),
            waiting: HashMap::new(),
        };
        Self {
            state: Mutex::new(state),
            timeout,
            origin: Instant::now(),
        }
    }

    /// Waits for a ticket. The second value says whether it had to wait.
    pub(crate) async fn acquire(self: &Arc<Self>) -> (Result<TicketGuard, CheckoutError>, bool) {
        let (id, mut answer) = {
            let mut state = self.lock();
            match state.book.request(self.now()) {
                TicketAnswer::Granted(ticket) => return (Ok(self.guard(ticket)), false),
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
            Ok(Ok(Some(ticket))) => (Ok(self.guard(ticket)), true),
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

    fn guard(self: &Arc<Self>, ticket: Ticket) -> TicketGuard {
        TicketGuard {
            ticket: Some(ticket),
            tickets: Arc::clone(self),
        }
    }

    fn release(&self, ticket: Ticket) {
        let mut state = self.lock();
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
            self.tickets.release(ticket);
        }
    }
}

impl Drop for TicketGuard {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.tickets.release(ticket);
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
        let (first, waited) = tickets.acquire().await;
        assert!(!waited);
        let error = tickets.acquire().await.0.expect_err("must time out");
        assert_eq!(error.sqlstate, "40001");
        assert_eq!((tickets.waiting(), tickets.free()), (0, 0));
        let mut waiter = Box::pin(tickets.acquire());
        assert!(
            std::future::poll_fn(|cx| std::task::Poll::Ready(waiter.as_mut().poll(cx).is_pending())).await
        );
        drop(first);
        // Granted, but the waiter goes away before it looks.
        drop(waiter);
        assert_eq!((tickets.waiting(), tickets.free()), (0, 1));
        let mut waiter = Box::pin(tickets.acquire());
        assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(waiter.as_mut().poll(cx).is_ready())).await);
        assert_eq!(tickets.free(), 1, "an unobserved result gives its ticket back");
    }
}
