//! A session's task: it can be ended from outside, and a panic in it ends nothing else.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use super::stop::Alive;
use super::{Stop, WorkerCtx};

/// What a client is counted by as long as it is there, and what its session is ended by.
pub struct Guard {
    stop: Rc<Stop>,
    /// The stop sign knows the task to wake.
    watched: bool,
    _alive: Alive,
    load: Load,
}

impl Guard {
    pub(super) fn new(stop: Rc<Stop>, alive: Alive, ctx: Rc<WorkerCtx>) -> Self {
        Self {
            stop,
            watched: false,
            _alive: alive,
            load: Load { ctx },
        }
    }

    /// Serves the client with this future, in a task of its own: thousands of idle sessions must not each carry the state
    /// of their login. Future and guard are one allocation.
    pub fn spawn(self, future: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(Guarded { future, guard: self });
    }
}

pin_project_lite::pin_project! {
    struct Guarded<F> {
        #[pin]
        future: F,
        guard: Guard,
    }
}

impl<F: Future<Output = ()>> Future for Guarded<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let guard = this.guard;
        if !std::mem::replace(&mut guard.watched, true) {
            guard.stop.set_waker(cx.waker());
        }
        if guard.stop.reason().is_cut() {
            return Poll::Ready(());
        }
        match catch_unwind(AssertUnwindSafe(|| this.future.poll(cx))) {
            Ok(outcome) => outcome,
            Err(_) => {
                report_panic(&guard.load.ctx);
                Poll::Ready(())
            }
        }
    }
}

/// A session's code panicked: it counts, and the log says so.
pub(super) fn report_panic(ctx: &WorkerCtx) {
    ctx.metrics.session_panics.increment();
    tracing::error!(worker = ctx.id, "a session panicked and was ended");
}

/// Takes the client off the worker's load when it is gone.
struct Load {
    ctx: Rc<WorkerCtx>,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ctx.metrics.clients.down();
        if let Some(load) = self.ctx.shared.loads.get(self.ctx.id) {
            load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
