//! Servers that answer nobody for a while.
//!
//! A server that is frozen closes no connection and refuses none: what is sent to it waits with it, and is lost when
//! another one takes its place. Whoever knows that from elsewhere says so with [`Pool::hold`]. From then on nothing is lent
//! and nothing is dialled: requests wait as for a server that is away, for as long and behind as many others.
//! Connections that are open stay: the server may go on as if nothing had been. [`Pool::let_go`] ends it.

use super::Pool;
use crate::time::Time;
use crate::types::{CLASSES, Class};

impl Pool {
    /// The server answers nobody from now on.
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// It does again, or another one has taken its place. Those who waited may wait their whole time again.
    pub fn let_go(&mut self, now: Time) {
        if !std::mem::take(&mut self.held) {
            return;
        }
        for class in CLASSES {
            self.wait_anew(class, now);
            for id in std::mem::take(&mut self.lanes[class as usize].idle) {
                self.place(id, class, now);
            }
        }
        for class in CLASSES {
            self.pump(class, now);
        }
    }

    /// Requests of this class are given nothing.
    pub(super) fn is_shut(&self, class: Class) -> bool {
        self.held || (self.paused && class == Class::First)
    }

    /// A server that could not be reached can be, or is another one. Those who were patient with it are patient anew: what
    /// they wait for now is a connection, which has a time-out of its own.
    pub(super) fn is_back(&mut self, now: Time) {
        if self.failing.take().is_some() {
            for class in CLASSES {
                self.wait_anew(class, now);
            }
        }
    }

    pub(super) fn wait_anew(&mut self, class: Class, now: Time) {
        for waiter in &mut self.lanes[class as usize].queue {
            waiter.since = now;
        }
    }
}
