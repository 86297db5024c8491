//! Tickets for multi-shard transactions.
//!
//! A transaction takes one ticket before it enlists its second shard and keeps it to its end. There are as many
//! tickets as every shard has reserve connections, so a ticket holder always finds one: only the wait for the ticket
//! itself can block, it holds nothing that another ticket waiter needs, and it is bounded.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Time;

/// The right to enlist further shards. Give it back with [`TicketBook::release`].
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Ticket(());

/// Names one waiting request for a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TicketRequestId(pub u64);

/// What the caller has to tell a waiting transaction.
#[derive(Debug, PartialEq, Eq)]
pub enum TicketEffect {
    /// The request has its ticket.
    Grant {
        /// Who asked.
        request: TicketRequestId,
        /// What it got.
        ticket: Ticket,
    },
    /// The request waited `connection_timeout` in vain (40001 to the client).
    TimedOut {
        /// Who asked.
        request: TicketRequestId,
    },
}

/// M tickets and a fair, bounded queue for them.
#[derive(Debug)]
pub struct TicketBook {
    free: usize,
    total: usize,
    queue_limit: usize,
    timeout: Duration,
    queue: VecDeque<(TicketRequestId, Time)>,
    next_request: u64,
    effects: VecDeque<TicketEffect>,
}

/// The answer to [`TicketBook::request`].
#[derive(Debug, PartialEq, Eq)]
pub enum TicketAnswer {
    /// Here it is.
    Granted(Ticket),
    /// A [`TicketEffect`] will name this request later.
    Queued(TicketRequestId),
    /// Too many are waiting already (40001 to the client).
    QueueFull,
}

impl TicketBook {
    /// A book of `total` tickets; a wait lasts at most `timeout`, at most `queue_limit` wait.
    #[must_use]
    pub fn new(total: usize, queue_limit: usize, timeout: Duration) -> Self {
        Self {
            free: total,
            total,
            queue_limit,
            timeout,
            queue: VecDeque::new(),
            next_request: 0,
            effects: VecDeque::new(),
        }
    }

    /// Asks for a ticket.
    pub fn request(&mut self, now: Time) -> TicketAnswer {
        if self.free > 0 && self.queue.is_empty() {
            self.free -= 1;
            return TicketAnswer::Granted(Ticket(()));
        }
        if self.queue.len() >= self.queue_limit {
            return TicketAnswer::QueueFull;
        }
        let id = TicketRequestId(self.next_request);
        self.next_request += 1;
        self.queue.push_back((id, now));
        TicketAnswer::Queued(id)
    }

    /// Gives a ticket back; the longest waiting request gets it.
    pub fn release(&mut self, ticket: Ticket) {
        match self.queue.pop_front() {
            Some((request, _)) => self.effects.push_back(TicketEffect::Grant { request, ticket }),
            None => self.free += 1,
        }
        debug_assert!(
            self.free <= self.total,
            "more tickets came back than were given out"
        );
    }

    /// The request is no longer wanted. False when it is not waiting any more: then its effect was already emitted.
    pub fn cancel(&mut self, request: TicketRequestId) -> bool {
        let before = self.queue.len();
        self.queue.retain(|(id, _)| *id != request);
        before != self.queue.len()
    }

    /// Lets requests time out.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some((request, since)) = self.queue.front().copied() {
            if since.after(self.timeout) > now {
                break;
            }
            self.queue.pop_front();
            self.effects.push_back(TicketEffect::TimedOut { request });
        }
    }

    /// When [`Self::handle_timeout`] has something to do next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        self.queue.front().map(|(_, since)| since.after(self.timeout))
    }

    /// The next thing to tell somebody.
    pub fn poll_effect(&mut self) -> Option<TicketEffect> {
        self.effects.pop_front()
    }

    /// Requests waiting now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Tickets nobody holds.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time(ms * 1000)
    }

    fn granted(answer: TicketAnswer) -> Ticket {
        match answer {
            TicketAnswer::Granted(ticket) => ticket,
            other => panic!("expected a ticket, got {other:?}"),
        }
    }

    #[test]
    fn tickets_go_out_in_order_and_waits_are_bounded() {
        let mut book = TicketBook::new(1, 2, Duration::from_millis(100));
        let first = granted(book.request(at(0)));
        let a = book.request(at(10));
        let b = book.request(at(20));
        assert_eq!(book.request(at(21)), TicketAnswer::QueueFull);
        assert_eq!(
            (a, b),
            (
                TicketAnswer::Queued(TicketRequestId(0)),
                TicketAnswer::Queued(TicketRequestId(1))
            )
        );
        assert_eq!(book.next_timeout(), Some(at(110)));
        book.handle_timeout(at(109));
        assert_eq!(book.poll_effect(), None);
        book.handle_timeout(at(110));
        assert_eq!(
            book.poll_effect(),
            Some(TicketEffect::TimedOut {
                request: TicketRequestId(0)
            })
        );
        book.release(first);
        let Some(TicketEffect::Grant { request, ticket }) = book.poll_effect() else {
            panic!("the second waiter gets the ticket")
        };
        assert_eq!(request, TicketRequestId(1));
        assert_eq!(book.free(), 0);
        book.release(ticket);
        assert_eq!((book.free(), book.waiting()), (1, 0));
    }

    #[test]
    fn a_cancelled_wait_is_forgotten() {
        let mut book = TicketBook::new(1, 2, Duration::from_millis(100));
        let first = granted(book.request(at(0)));
        let TicketAnswer::Queued(id) = book.request(at(0)) else {
            panic!("must queue")
        };
        assert!(book.cancel(id));
        assert!(!book.cancel(id));
        book.release(first);
        assert_eq!((book.free(), book.poll_effect()), (1, None));
    }
}
