//! Connections that move between the workers' pools for one key, so that a limit on the whole proxy is not split into
//! shares that lie idle on one worker while requests wait on another.

use std::time::Duration;

use pool::{Class, ServerId, Time};

use super::lease::Pooled;
use super::permits::Permit;
use super::state::ShardPool;
use crate::server::{ServerConn, Travelling};
use crate::worker::WorkerMessage;

/// With requests of its own waiting, a worker gives its last connections to another at most this often.
const GIVE_PAUSE: Duration = Duration::from_millis(5);

impl ShardPool {
    /// Takes over a connection from another worker.
    pub(super) fn adopt(&self, travelling: Travelling, mut permit: Permit) {
        permit.move_to(self.0.worker.worker);
        let Ok(conn) = ServerConn::arrive(travelling, self.0.worker.buffers.clone()) else {
            return;
        };
        self.0.asked.set(false);
        self.0.worker.metrics.servers.up();
        let now = self.0.worker.now();
        // The machine speaks of the connection before its name is known here: the slot is filled in between.
        let id = self.0.machine.borrow_mut().adopt(now, self.0.worker.jitter());
        let mark = self.mark(&conn);
        self.set_slot(
            id,
            Box::new(Pooled {
                conn,
                permit: Some(permit),
                id,
                mark,
                traffic: (0, 0),
            }),
        );
        self.run_effects();
        if self.0.machine.borrow().waiting_first() > 0 {
            self.ask();
        }
    }

    /// Another worker lacks a connection: it gets an idle one.
    pub(super) fn give_idle_away(&self) {
        let me = self.0.worker.worker;
        while let Some(other) = self.0.limit.hungry_other(me) {
            let Some(id) = self.0.machine.borrow_mut().give_away() else {
                return;
            };
            let Some(pooled) = self.take_slot(id) else { return };
            if !self.0.limit.claim(other) {
                // Somebody was faster. What cannot be lent again under its old name is adopted under a new one.
                let id = self
                    .0
                    .machine
                    .borrow_mut()
                    .adopt(self.0.worker.now(), self.0.worker.jitter());
                self.set_slot(id, Box::new(Pooled { id, ..*pooled }));
                self.run_effects();
                return;
            }
            self.send_to(other, pooled);
        }
    }

    /// Whether a connection that comes back is better used by worker `other`; then that worker counts as served.
    pub(super) fn should_give(&self, other: usize, id: ServerId, now: Time) -> bool {
        let machine = self.0.machine.borrow();
        // Only ordinary connections are counted and shared.
        if machine.class_of(id) != Some(Class::First) {
            return false;
        }
        let (mine, theirs) = (self.0.limit.held(self.0.worker.worker), self.0.limit.held(other));
        let give = if machine.waiting() == 0 {
            mine >= theirs || machine.idle_first() > 0
        } else {
            mine > theirs + 1 || (theirs == 0 && now.since(self.0.gave.get()) >= GIVE_PAUSE)
        };
        give && self.0.limit.claim(other)
    }

    pub(super) fn send_to(&self, other: usize, pooled: Box<Pooled>) {
        let Pooled { conn, permit, .. } = *pooled;
        self.0.worker.metrics.servers.down();
        let (Some(travelling), Some(permit)) = (conn.depart(), permit) else {
            return;
        };
        self.0.worker.metrics.servers_moved.increment();
        let message = WorkerMessage::Adopt {
            key: self.0.key.clone(),
            travelling: Box::new(travelling),
            permit,
        };
        self.0.worker.shared.mailboxes.send(other, message);
    }

    /// Tells the other workers that this one lacks a connection.
    pub(super) fn ask(&self) {
        self.0.asked.set(true);
        self.0.limit.ask(self.0.worker.worker);
    }
}
