//! One pool: the machine, the sockets, and those who wait.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hashbrown::HashMap;
use pool::{Class, Effect, Policy, Pool, Refused, RequestId, ServerId, Time};
use tokio::sync::Notify;

use super::lease::{Lease, Pooled};
use super::permits::{Denied, Permit, SharedLimit};
use super::policy::PoolPolicy;
use super::queue::Wait;
use super::{CheckoutError, PoolKey, PoolStats, Purpose, dial};
use crate::buffers::Buffers;
use crate::cancel::CancelSlot;
use crate::listing::{ServerMark, ServerMarks, ServerRow};
use crate::metrics::WorkerMetrics;
use crate::server::{Address, ServerConn};
use crate::worker::{Shared, Switch, WorkerMessage};

/// What all pools of one worker share.
pub(crate) struct WorkerPools {
    pub(super) shared: Arc<Shared>,
    pub(super) worker: usize,
    pub(super) metrics: Arc<WorkerMetrics>,
    pub(super) buffers: Buffers,
    pub(super) timer: Notify,
    pub(super) timer_is_slow: Cell<bool>,
    /// Seconds since 1970, as of the last tick.
    pub(super) seconds: Cell<u64>,
    next_mark: Cell<u64>,
    origin: Instant,
    seed: Cell<u64>,
}

impl WorkerPools {
    pub(super) fn new(
        shared: Arc<Shared>,
        worker: usize,
        metrics: Arc<WorkerMetrics>,
        buffers: Buffers,
    ) -> Self {
        // Without randomness lifetimes are only spread by the worker's number.
        let seed = crate::cancel::random().map_or(worker as u64, u64::from_ne_bytes);
        Self {
            shared,
            worker,
            metrics,
            buffers,
            timer: Notify::new(),
            timer_is_slow: Cell::new(false),
            seconds: Cell::new(crate::listing::seconds(SystemTime::now())),
            next_mark: Cell::new(1),
            origin: Instant::now(),
            seed: Cell::new(seed),
        }
    }

    /// A number for one more server.
    pub(super) fn next_mark(&self) -> u64 {
        let mark = self.next_mark.get();
        self.next_mark.set(mark + 1);
        mark
    }

    pub(super) fn now(&self) -> Time {
        self.time(Instant::now())
    }

    pub(super) fn time(&self, at: Instant) -> Time {
        let since = at.saturating_duration_since(self.origin);
        Time(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    /// Spreads lifetimes; not for secrets.
    pub(super) fn jitter(&self) -> u8 {
        let next = self
            .seed
            .get()
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.seed.set(next);
        next.to_be_bytes()[0]
    }
}

/// The worker that keeps the connections of `min_pool_size`.
pub(super) const KEEPER: usize = 0;

/// All workers are told at most this often that a shard's connections may be dead.
const SUSPECT_PAUSE: Duration = Duration::from_millis(100);

/// What one worker's machine is told.
fn machine_policy(worker: &WorkerPools, policy: &PoolPolicy) -> Policy {
    let source = worker.shared.policies.source();
    let pool = &source.pool;
    Policy {
        size: policy.size,
        min: if worker.worker == KEEPER {
            policy.min_size
        } else {
            0
        },
        extra: policy.reserve,
        extra_after: pool.reserve_timeout,
        check_after: pool.check_delay,
        reserve: pool.multi_shard,
        control: pool.control,
        queue_limit: pool.queue_limit,
        connection_timeout: pool.connection_timeout,
        away_wait: worker.shared.nodes.config().failover_buffer,
        away_queue: worker.shared.nodes.config().failover_buffer_statements,
        idle_timeout: pool.idle_timeout,
        max_lifetime: pool.max_lifetime,
        dial_parallel: pool.dial_parallel,
        ..Policy::default()
    }
}

/// What holds for a pool; true: it is one of an entry that stands for something else now, or is gone.
fn policy_of(shared: &Shared, key: &PoolKey) -> (PoolPolicy, bool) {
    let resolved = shared.policies.resolve(&key.user, &key.database);
    let retired = !resolved.as_ref().is_some_and(|policy| key.is_of(policy));
    let mut policy = resolved.unwrap_or_else(|| shared.policies.resolve_or_general(&key.user, &key.database));
    if retired {
        policy.server_user = Arc::clone(&key.server_user);
        policy.server_database = Arc::clone(&key.server_database);
        policy.min_size = 0;
    }
    (policy, retired)
}

/// The shard is paused, and this is a pool of its primary.
fn is_paused(shared: &Shared, key: &PoolKey) -> bool {
    key.place.node.is_none() && shared.nodes.is_paused(key.place.shard)
}

/// The shard's primary answers nobody, and this is one of its pools.
fn is_held(shared: &Shared, key: &PoolKey) -> bool {
    key.place.node.is_none() && shared.nodes.is_held(key.place.shard)
}

/// A connection being checked; dropped with it, it is closed.
struct UnderCheck<'a> {
    pool: &'a ShardPool,
    pooled: Option<Box<Pooled>>,
}

impl Drop for UnderCheck<'_> {
    fn drop(&mut self) {
        if let Some(pooled) = self.pooled.take() {
            self.pool.drop_lent(pooled);
        }
    }
}

pub(super) struct State {
    pub(super) key: PoolKey,
    pub(super) worker: Rc<WorkerPools>,
    pub(super) limit: Arc<SharedLimit>,
    policy: RefCell<Rc<PoolPolicy>>,
    /// The entry stands for something else now, or is gone: connections are closed as they come back.
    retired: Cell<bool>,
    pub(super) machine: RefCell<Pool>,
    /// Idle connections by [`ServerId`]; lent ones are with their [`Lease`].
    slots: RefCell<Vec<Option<Box<Pooled>>>>,
    pub(super) waits: RefCell<HashMap<RequestId, Wait, foldhash::fast::RandomState>>,
    last_error: RefCell<Option<CheckoutError>>,
    /// All connections, lent ones too, for listings.
    marks: ServerMarks,
    /// Which limit the last login was denied for.
    denied: Cell<Denied>,
    /// All workers were told that the server is down, and no login has succeeded since.
    down: Cell<bool>,
    /// All workers were last told then that connections may be dead.
    suspected: Cell<Option<Time>>,
    /// This worker told the others that it lacks a connection.
    pub(super) asked: Cell<bool>,
    pub(super) gave: Cell<Time>,
}

/// The pool of one (worker, shard, role, database). Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct ShardPool(pub(super) Rc<State>);

impl std::fmt::Debug for ShardPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ShardPool").field(&self.0.key).finish()
    }
}

impl ShardPool {
    pub(super) fn new(key: PoolKey, worker: Rc<WorkerPools>) -> Self {
        let shared = &worker.shared;
        let (policy, retired) = policy_of(shared, &key);
        let limit = shared.limiters.get(&key, &policy, &shared.entries);
        let mut machine = Pool::new(machine_policy(&worker, &policy));
        if limit.database().is_paused() || is_paused(shared, &key) {
            machine.pause();
        }
        if shared.shards.all().first().map(|home| home.id) == Some(key.place.shard) {
            // A user's first pool, mostly: connections are kept on the other shards as well.
            super::upkeep::warm_shards(shared, &key, &policy);
        }
        if is_held(shared, &key) {
            machine.hold();
        }
        if policy.min_size > 0 && worker.worker != KEEPER {
            let message = WorkerMessage::Warm { key: key.clone() };
            shared.mailboxes.send(KEEPER, message);
        }
        Self(Rc::new(State {
            key,
            limit,
            policy: RefCell::new(Rc::new(policy)),
            retired: Cell::new(retired),
            worker,
            machine: RefCell::new(machine),
            denied: Cell::new(Denied::Pool),
            down: Cell::new(false),
            suspected: Cell::new(None),
            slots: RefCell::default(),
            waits: RefCell::default(),
            last_error: RefCell::default(),
            marks: ServerMarks::default(),
            asked: Cell::new(false),
            gave: Cell::new(Time(0)),
        }))
    }

    /// Which pool this is.
    #[must_use]
    pub fn key(&self) -> &PoolKey {
        &self.0.key
    }

    /// The settings in force.
    #[must_use]
    pub fn policy(&self) -> Rc<PoolPolicy> {
        Rc::clone(&self.0.policy.borrow())
    }

    /// An idle connection, if there is one and nobody waits. `slot` is the client whose cancels go to it from now on.
    pub fn try_checkout(&self, purpose: Purpose<'_>, slot: Option<&Arc<CancelSlot>>) -> Option<Lease> {
        loop {
            let id = self.0.machine.borrow_mut().take_idle(purpose.class())?;
            let mut pooled = self.take_slot(id)?;
            if pooled.conn.is_broken_hint() && !pooled.conn.survives_idle_input() {
                self.found_dead(pooled);
                continue;
            }
            if self.is_outdated(&pooled) {
                self.drop_lent(pooled);
                continue;
            }
            self.0.worker.metrics.checkouts.increment();
            return Some(Lease::new(pooled, self.clone(), slot));
        }
    }

    /// The idle ordinary connection that `fits`, if there is one.
    pub fn try_checkout_where(
        &self,
        slot: Option<&Arc<CancelSlot>>,
        fits: impl Fn(&ServerConn) -> bool,
    ) -> Option<Lease> {
        let id = {
            let slots = self.0.slots.borrow();
            let is_fit = |id: ServerId| {
                let pooled = slots.get(id.0 as usize).and_then(Option::as_ref);
                pooled.is_some_and(|pooled| fits(&pooled.conn))
            };
            self.0.machine.borrow_mut().take_idle_where(is_fit)?
        };
        let mut pooled = self.take_slot(id)?;
        let dead = pooled.conn.is_broken_hint() && !pooled.conn.survives_idle_input();
        if dead || self.is_outdated(&pooled) {
            self.drop_lent(pooled);
            return None;
        }
        self.0.worker.metrics.checkouts.increment();
        Some(Lease::new(pooled, self.clone(), slot))
    }

    /// Rows have changed hands since its login: shards would take it for one of a proxy that does not know.
    pub(super) fn is_outdated(&self, pooled: &Pooled) -> bool {
        pooled.conn.epoch < self.0.worker.shared.nodes.fence()
    }

    /// A mark for a new connection.
    pub(super) fn mark(&self, conn: &ServerConn) -> Rc<ServerMark> {
        let worker = &self.0.worker;
        self.0.marks.add(conn, worker.next_mark(), worker.seconds.get())
    }

    /// Appends a row per connection.
    pub(super) fn list(&self, rows: &mut Vec<ServerRow>) {
        self.0.marks.rows(&self.0.key, self.0.worker.worker, rows);
    }

    /// Current figures.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        PoolStats {
            key: self.0.key.clone(),
            worker: self.0.worker.worker,
            stats: self.0.machine.borrow().stats(self.0.worker.now()),
            policy: self.0.policy.borrow().as_ref().clone(),
            open: self.0.limit.open(),
            paused: self.is_paused(),
        }
    }

    /// A lent connection in a state in which anybody may use it. `now` saves a look at the clock.
    pub(super) fn put_back(&self, mut pooled: Box<Pooled>, now: Option<Instant>) {
        let worker = &self.0.worker;
        let now = worker.time(now.unwrap_or_else(Instant::now));
        let prepared = pooled.conn.prepared.len();
        pooled.mark.give_back(prepared, self.0.worker.seconds.get());
        pooled.conn.conn.give_up_buffers();
        pooled.conn.watch = None;
        pooled.conn.budget = None;
        let id = pooled.id;
        self.set_slot(id, pooled);
        if let Some(other) = self.0.limit.hungry_other(self.0.worker.worker)
            && self.should_give(other, id, now)
        {
            self.0.gave.set(now);
            let pooled = self.take_slot(id);
            self.0.machine.borrow_mut().discard(id, now);
            if let Some(pooled) = pooled {
                self.send_to(other, pooled);
            }
        } else {
            self.0.machine.borrow_mut().release(id, now);
        }
        self.run_effects();
    }

    /// A lent connection nobody may use any more.
    pub(super) fn drop_lent(&self, pooled: Box<Pooled>) {
        self.0.worker.metrics.servers_discarded.increment();
        self.0
            .machine
            .borrow_mut()
            .discard(pooled.id, self.0.worker.now());
        self.close(pooled);
        self.run_effects();
    }

    pub(super) fn dialled(&self, id: ServerId, conn: ServerConn, permit: Option<Permit>) {
        self.0.last_error.replace(None);
        self.0.down.set(false);
        self.0.worker.metrics.servers.up();
        let mark = self.mark(&conn);
        self.set_slot(
            id,
            Box::new(Pooled {
                conn,
                permit,
                id,
                mark,
                traffic: (0, 0),
            }),
        );
        self.0
            .machine
            .borrow_mut()
            .dialled(id, self.0.worker.now(), self.0.worker.jitter());
        self.run_effects();
    }

    pub(super) fn dial_failed(&self, id: ServerId, error: CheckoutError, lasting: bool) {
        self.0.last_error.replace(Some(error));
        let (now, jitter) = (self.0.worker.now(), self.0.worker.jitter());
        self.0.machine.borrow_mut().dial_failed(id, now, jitter, lasting);
        self.run_effects();
    }

    pub(super) fn dial_abandoned(&self, id: ServerId) {
        self.0
            .machine
            .borrow_mut()
            .dial_abandoned(id, self.0.worker.now());
        self.run_effects();
    }

    /// A login showed that connections made before are dead: all workers close those that are idle.
    pub(super) fn server_is_down(&self) {
        if !self.0.down.replace(true) {
            self.0.worker.shared.recycle(self.0.key.place);
        }
    }

    /// A connection is gone for a reason that may concern all: those idle now are checked before they are lent.
    pub(super) fn server_is_suspect(&self) {
        let now = self.0.worker.now();
        let recently = self.0.suspected.get();
        if recently.is_some_and(|then| now.since(then) < SUSPECT_PAUSE) {
            return;
        }
        self.0.suspected.set(Some(now));
        self.0.worker.shared.nodes.look_now(self.0.key.place.shard);
        self.0.worker.shared.suspect(self.0.key.place);
    }

    /// Cuts the connections that are in use and lead anywhere else than to `good`.
    pub(super) fn cut(&self, good: Option<&Address>) {
        let cut = self.0.marks.cut(good);
        self.0.worker.metrics.servers_cut.add(cut);
    }

    pub(super) fn suspect(&self) {
        self.0.machine.borrow_mut().suspect(self.0.worker.now());
    }

    /// New transactions wait.
    fn is_paused(&self) -> bool {
        self.0.limit.database().is_paused() || is_paused(&self.0.worker.shared, &self.0.key)
    }

    fn is_held(&self) -> bool {
        is_held(&self.0.worker.shared, &self.0.key)
    }

    pub(super) fn switch(&self, switch: Switch) {
        let now = self.0.worker.now();
        match switch {
            Switch::Pause => self.0.machine.borrow_mut().pause(),
            // Another pause may still hold.
            Switch::Resume if self.is_paused() => {}
            Switch::Resume => self.0.machine.borrow_mut().resume(now),
            Switch::Recycle => self.0.machine.borrow_mut().recycle(now),
            Switch::Kill => {}
            // What is known by now counts.
            Switch::Hold | Switch::LetGo if self.is_held() => self.0.machine.borrow_mut().hold(),
            Switch::Hold | Switch::LetGo => self.0.machine.borrow_mut().let_go(now),
        }
        if self.0.worker.timer_is_slow.get() {
            self.0.worker.timer.notify_one();
        }
        self.run_effects();
    }

    pub(super) fn reconfigure(&self) {
        let worker = &self.0.worker;
        let (policy, retired) = policy_of(&worker.shared, &self.0.key);
        let machine = machine_policy(worker, &policy);
        self.0.policy.replace(Rc::new(policy));
        self.0.machine.borrow_mut().set_policy(machine, worker.now());
        self.0.retired.set(retired);
        if retired {
            self.0.machine.borrow_mut().recycle(worker.now());
        }
        self.run_effects();
    }

    /// No client can get it any more, nobody holds it, and it has no connection. What has come back is closed.
    pub(super) fn is_over(&self) -> bool {
        if !self.0.retired.get() {
            return false;
        }
        self.recycle();
        let stats = self.0.machine.borrow().stats(self.0.worker.now());
        Rc::strong_count(&self.0) == 1 && stats.leased + stats.idle + stats.dialling + stats.waiting == 0
    }

    /// Opens the connections that are to be kept, where this worker is the one that keeps them.
    pub(crate) fn warm(&self) {
        self.0.machine.borrow_mut().handle_timeout(self.0.worker.now());
        self.run_effects();
    }

    /// Closes the connection that was idle longest.
    pub(super) fn evict(&self) {
        if self.0.machine.borrow_mut().evict() {
            self.run_effects();
        }
    }

    pub(super) fn idle(&self) -> usize {
        self.0.machine.borrow().idle_first()
    }

    /// An idle connection that turned out to be dead.
    fn found_dead(&self, pooled: Box<Pooled>) {
        if !pooled.conn.ended_alone {
            self.server_is_suspect();
        }
        self.drop_lent(pooled);
    }

    /// Asks a connection that was idle for long whether it still works. `None`: it does not, and is closed.
    pub(super) async fn checked(&self, mut pooled: Box<Pooled>) -> Option<Box<Pooled>> {
        let source = self.0.worker.shared.policies.source();
        self.0.worker.metrics.server_checks.increment();
        // Dropped half-way, the connection must leave the books.
        let mut under_check = UnderCheck {
            pool: self,
            pooled: None,
        };
        let conn = &mut under_check.pooled.insert(pooled).conn;
        let query = crate::exec::link::query(conn, &source.pool.check_query);
        let answer = tokio::time::timeout(source.pool.connect_timeout, query).await;
        pooled = under_check.pooled.take()?;
        match answer {
            Ok(Ok(reply)) if reply.error.is_none() && pooled.conn.is_quiet() => Some(pooled),
            answer => {
                self.0.worker.metrics.server_checks_failed.increment();
                if answer.is_err() {
                    // Silence costs a client this long: the others are not asked one by one.
                    self.0.worker.shared.recycle(self.0.key.place);
                }
                self.drop_lent(pooled);
                None
            }
        }
    }

    pub(super) fn retry_denied(&self) {
        self.0
            .machine
            .borrow_mut()
            .retry_denied(Class::First, self.0.worker.now());
        self.run_effects();
    }

    pub(super) fn recycle(&self) {
        self.0.machine.borrow_mut().recycle(self.0.worker.now());
        self.run_effects();
    }

    /// Lets time pass. True when requests are waiting.
    pub(super) fn tick(&self) -> bool {
        let now = self.0.worker.now();
        self.0.machine.borrow_mut().observe(now);
        let due = self
            .0
            .machine
            .borrow()
            .next_timeout()
            .is_some_and(|next| next <= now);
        if due {
            self.0.machine.borrow_mut().handle_timeout(now);
            self.run_effects();
        }
        let waiting = self.0.machine.borrow().waiting() > 0;
        if !waiting && self.0.asked.replace(false) {
            self.0.limit.satisfied(self.0.worker.worker);
        }
        waiting
    }

    /// Does what the machine decided, in its order.
    pub(super) fn run_effects(&self) {
        loop {
            let Some(effect) = self.0.machine.borrow_mut().poll_effect() else {
                return;
            };
            match effect {
                Effect::Grant { request, server } => self.grant(request, server),
                Effect::Refuse { request, reason } => self.finish(request, Err(reason)),
                Effect::Dial {
                    server,
                    class,
                    reserve,
                } => self.dial(server, class, reserve),
                Effect::Close { server } => {
                    if let Some(pooled) = self.take_slot(server) {
                        self.0.worker.metrics.servers_reaped.increment();
                        self.close(pooled);
                    }
                }
            }
        }
    }

    fn grant(&self, request: RequestId, server: ServerId) {
        let Some(pooled) = self.take_slot(server) else {
            return;
        };
        self.finish(request, Ok(pooled));
    }

    fn finish(&self, request: RequestId, result: Result<Box<Pooled>, Refused>) {
        let mut waits = self.0.waits.borrow_mut();
        match waits.get_mut(&request) {
            Some(wait) => {
                if let Wait::Waiting(Some(waker)) = std::mem::replace(wait, Wait::Done(result)) {
                    waker.wake();
                }
            }
            // The request was given up while its effect was on the way.
            None => {
                drop(waits);
                if let Ok(pooled) = result {
                    let id = pooled.id;
                    self.set_slot(id, pooled);
                    self.0.machine.borrow_mut().release(id, self.0.worker.now());
                }
            }
        }
    }

    fn dial(&self, server: ServerId, class: Class, reserve: bool) {
        let permit = match class {
            Class::First => match self.0.limit.acquire(self.0.worker.worker, reserve) {
                Ok(permit) => Some(permit),
                Err(denied) => return self.denied(server, denied),
            },
            Class::Further | Class::Control => None,
        };
        tokio::task::spawn_local(dial::run(self.clone(), server, permit));
    }

    fn denied(&self, server: ServerId, denied: Denied) {
        let now = self.0.worker.now();
        self.0.machine.borrow_mut().dial_denied(server, now);
        self.0.denied.set(denied);
        // Connections to be kept take nothing from others.
        if self.0.machine.borrow().waiting_first() == 0 {
            return;
        }
        if denied != Denied::Pool {
            self.0.limit.ask_eviction(denied);
        }
        self.ask();
    }

    fn close(&self, pooled: Box<Pooled>) {
        self.0.worker.metrics.servers.down();
        pooled.conn.close();
    }

    pub(super) fn explain(&self, reason: Refused) -> CheckoutError {
        let shard = self.0.worker.shared.name_of(self.0.key.place);
        let limit = |message: String| CheckoutError {
            sqlstate: "53300".into(),
            message,
            hint: None,
        };
        match reason {
            Refused::QueueFull => limit(format!(
                "too many transactions are waiting for a connection to \"{shard}\""
            )),
            Refused::TimedOut => CheckoutError {
                hint: self.limit_in_the_way(),
                ..limit(format!("no connection to \"{shard}\" became free in time"))
            },
            Refused::Failing if self.is_held() => CheckoutError {
                sqlstate: "08006".into(),
                message: format!("\"{shard}\" does not answer"),
                hint: None,
            },
            Refused::Failing => self
                .0
                .last_error
                .borrow()
                .clone()
                .unwrap_or_else(|| CheckoutError {
                    sqlstate: "08006".into(),
                    message: format!("\"{shard}\" cannot be reached"),
                    hint: None,
                }),
        }
    }

    /// The server said goodbye on a connection that was in use, with this SQLSTATE.
    pub(crate) fn server_ended(&self, sqlstate: &str) {
        match sqlstate {
            // One backend may have been ended, or all of them.
            "57P01" => self.server_is_suspect(),
            "57P02" | "57P03" => self.0.worker.shared.recycle(self.0.key.place),
            _ => {}
        }
    }

    fn limit_in_the_way(&self) -> Option<String> {
        let key = &self.0.key;
        let text = match self.0.denied.get() {
            Denied::Pool => return None,
            Denied::Database => format!("The limit is max_connections of database \"{}\".", key.database),
            Denied::User => format!("The limit is max_user_connections of user \"{}\".", key.user),
            Denied::Total => "The limit is max_server_connections of the proxy.".to_owned(),
        };
        Some(text)
    }

    pub(super) fn take_slot(&self, id: ServerId) -> Option<Box<Pooled>> {
        self.0.slots.borrow_mut().get_mut(id.0 as usize)?.take()
    }

    pub(super) fn set_slot(&self, id: ServerId, pooled: Box<Pooled>) {
        let mut slots = self.0.slots.borrow_mut();
        let at = id.0 as usize;
        if slots.len() <= at {
            slots.resize_with(at + 1, || None);
        }
        slots[at] = Some(pooled);
    }
}
