//! The pool machine.

use std::collections::VecDeque;
use std::time::Duration;

use crate::policy::Policy;
use crate::time::Time;
use crate::types::{Answer, CLASSES, Class, Effect, Hold, Refused, RequestId, ServerId, Stats};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Dialling,
    Idle { since: Time },
    Leased,
}

#[derive(Debug, Clone, Copy)]
struct Server {
    class: Class,
    state: State,
    /// Closed at the first release at or after this moment.
    expires: Time,
    /// Pools are recycled by raising the pool's number: connections with an older one are closed when they come back.
    generation: u32,
}

#[derive(Debug, Clone, Copy)]
struct Waiter {
    id: RequestId,
    since: Time,
    /// Its own patience with a server that is away.
    away_wait: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Failing {
    count: u32,
    since: Time,
    retry_at: Time,
    /// Waiting will not help (a wrong password), unlike with a server that is starting.
    lasting: bool,
}

/// What one class has.
#[derive(Debug, Default)]
struct Lane {
    /// Open or being dialled.
    open: usize,
    dialling: usize,
    /// Most recently used last: that one is taken first, so that the others can grow old and be closed.
    idle: Vec<ServerId>,
    queue: VecDeque<Waiter>,
    /// A shared limit said no; the next release, adoption or retry lifts it.
    denied_until: Time,
}

/// The pool of one (worker, shard, user, database).
#[derive(Debug)]
pub struct Pool {
    policy: Policy,
    servers: Vec<Option<Server>>,
    free: Vec<ServerId>,
    lanes: [Lane; 3],
    /// Some request that waits may have a patience of its own.
    own_waits: bool,
    failing: Option<Failing>,
    /// Ordinary requests wait, nothing stays idle.
    paused: bool,
    /// The server answers nobody: every request waits, as for one that is away.
    held: bool,
    /// The last time this machine was told, but not by [`Pool::take_idle`].
    clock: Time,
    /// Connections idle since then or longer must be checked before they are lent.
    suspect: Option<Time>,
    generation: u32,
    next_request: u64,
    effects: VecDeque<Effect>,
}

/// A shared limit is asked again after this long even when nobody said that something was given back.
const DENIED_PAUSE: Duration = Duration::from_millis(20);

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            servers: Vec::new(),
            free: Vec::new(),
            lanes: Default::default(),
            failing: None,
            paused: false,
            held: false,
            clock: Time(0),
            suspect: None,
            own_waits: false,
            generation: 0,
            next_request: 0,
            effects: VecDeque::new(),
        }
    }

    /// Other numbers hold from now on.
    pub fn set_policy(&mut self, policy: Policy, now: Time) {
        self.policy = policy;
        self.handle_timeout(now);
    }

    /// Asks for a connection. Drain [`Self::poll_effect`] afterwards unless it was granted.
    pub fn request(&mut self, class: Class, now: Time) -> Answer {
        self.request_held(class, Hold::default(), now)
    }

    /// The same with a patience of its own for a server that is away.
    pub fn request_held(&mut self, class: Class, hold: Hold, now: Time) -> Answer {
        self.clock = now;
        if let Some((lane, id)) = self.peek_idle(class) {
            let stale = self.is_stale(id);
            self.lend_idle(lane, id);
            return if stale {
                Answer::Check(id)
            } else {
                Answer::Granted(id)
            };
        }
        let waiting: usize = self.lanes.iter().map(|lane| lane.queue.len()).sum();
        let limit = if self.failing.is_some() || self.held {
            let away_queue = hold.queue.unwrap_or(self.policy.away_queue);
            self.policy.queue_limit.min(away_queue)
        } else {
            self.policy.queue_limit
        };
        if waiting >= limit {
            return Answer::Refused(Refused::QueueFull);
        }
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.own_waits |= hold.wait.is_some();
        self.lanes[class as usize].queue.push_back(Waiter {
            id,
            since: now,
            away_wait: hold.wait,
        });
        self.pump(class, now);
        if self.refuses_at_once(class, hold.wait, now) {
            self.lanes[class as usize].queue.pop_back();
            return Answer::Refused(Refused::Failing);
        }
        Answer::Queued(id)
    }

    /// An idle connection, if there is one that needs no check and nobody waits for it. Never emits an effect.
    pub fn take_idle(&mut self, class: Class) -> Option<ServerId> {
        let (lane, id) = self.peek_idle(class)?;
        if self.is_stale(id) {
            return None;
        }
        self.lend_idle(lane, id);
        Some(id)
    }

    /// The most recently used idle ordinary connection that `fits` and needs no check. Never emits an effect.
    pub fn take_idle_where(&mut self, mut fits: impl FnMut(ServerId) -> bool) -> Option<ServerId> {
        if self.is_shut(Class::First) {
            return None;
        }
        let idle = &self.lanes[Class::First as usize].idle;
        let at = idle.iter().rposition(|id| !self.is_stale(*id) && fits(*id))?;
        let id = self.lanes[Class::First as usize].idle.remove(at);
        if let Some(server) = self.server_mut(id) {
            server.state = State::Leased;
        }
        Some(id)
    }

    /// Ordinary requests wait from now on, however long, until [`Self::resume`]; idle connections are closed now,
    /// the others when they come back.
    pub fn pause(&mut self) {
        self.paused = true;
        self.close_idle();
    }

    /// Ends a pause. Those who waited may wait their whole time again.
    pub fn resume(&mut self, now: Time) {
        self.paused = false;
        self.wait_anew(Class::First, now);
        self.pump(Class::First, now);
    }

    /// A connection to the server broke in a way that may concern all: what is idle now is checked before it is lent.
    pub fn suspect(&mut self, now: Time) {
        self.clock = self.clock.max(now);
        self.suspect = Some(now);
    }

    /// A connection comes back in a state in which anybody may use it.
    pub fn release(&mut self, id: ServerId, now: Time) {
        self.clock = now;
        let (generation, paused) = (self.generation, self.paused);
        let Some(server) = self.server_mut(id) else { return };
        let class = server.class;
        if server.expires <= now || server.generation != generation || paused {
            self.forget(id);
            self.effects.push_back(Effect::Close { server: id });
            self.pump(class, now);
            return;
        }
        self.place(id, class, now);
    }

    /// A lent connection is gone (closed by the caller, broken, or in an unknown state).
    pub fn discard(&mut self, id: ServerId, now: Time) {
        if let Some(class) = self.forget(id) {
            self.pump(class, now);
        }
    }

    /// The login asked for by [`Effect::Dial`] succeeded. `jitter` (0 to 255, random) shortens the lifetime by up to a
    /// quarter, so that connections opened together are not closed together.
    pub fn dialled(&mut self, id: ServerId, now: Time, jitter: u8) {
        let (expires, generation) = (self.expiry(now, jitter), self.generation);
        let Some(server) = self.server_mut(id) else { return };
        server.expires = expires;
        let (class, stale) = (server.class, server.generation != generation);
        self.lanes[class as usize].dialling -= 1;
        if stale {
            // It may be connected to the server that was replaced meanwhile.
            self.forget(id);
            self.effects.push_back(Effect::Close { server: id });
        } else {
            self.is_back(now);
            self.place(id, class, now);
        }
        for class in CLASSES {
            self.pump(class, now);
        }
    }

    /// The login asked for by [`Effect::Dial`] failed. The pause before the next one grows, and is a random part
    /// (`jitter`, 0 to 255) of what it may be, so that pools do not knock all at once. `lasting`: waiting will not
    /// help, so those who wait are told soon.
    pub fn dial_failed(&mut self, id: ServerId, now: Time, jitter: u8, lasting: bool) {
        let Some(class) = self.forget(id) else { return };
        self.lanes[class as usize].dialling -= 1;
        let (count, since) = self
            .failing
            .map_or((1, now), |old| (old.count.saturating_add(1), old.since));
        let longest = self
            .policy
            .backoff_min
            .saturating_mul(1_u32 << (count - 1).min(20))
            .min(self.policy.backoff_max);
        let pause = (longest * u32::from(jitter) / 255).max(self.policy.backoff_min / 4);
        self.failing = Some(Failing {
            count,
            since,
            retry_at: now.after(pause),
            lasting,
        });
        self.refuse_failing(now);
    }

    /// The login asked for by [`Effect::Dial`] was given up because its server was replaced: others are begun where they
    /// are needed.
    pub fn dial_abandoned(&mut self, id: ServerId, now: Time) {
        let Some(class) = self.forget(id) else { return };
        self.lanes[class as usize].dialling -= 1;
        for class in CLASSES {
            self.pump(class, now);
        }
    }

    /// A limit shared with other pools does not allow the connection asked for by [`Effect::Dial`] now.
    pub fn dial_denied(&mut self, id: ServerId, now: Time) {
        let Some(class) = self.forget(id) else { return };
        let lane = &mut self.lanes[class as usize];
        lane.dialling -= 1;
        lane.denied_until = now.after(DENIED_PAUSE);
    }

    /// A limit shared with other pools may have room again.
    pub fn retry_denied(&mut self, class: Class, now: Time) {
        self.lanes[class as usize].denied_until = Time(0);
        self.pump(class, now);
    }

    /// Takes an idle ordinary connection out of the pool, for a pool elsewhere that shares the limit.
    pub fn give_away(&mut self) -> Option<ServerId> {
        let id = self.lanes[Class::First as usize].idle.pop()?;
        self.forget(id);
        Some(id)
    }

    /// Takes over an ordinary connection from a pool elsewhere; it is lent to a waiting request or becomes idle.
    pub fn adopt(&mut self, now: Time, jitter: u8) -> ServerId {
        let expires = self.expiry(now, jitter);
        let id = self.insert(Class::First, State::Leased, expires);
        // The one that was lacking is here. Whoever waits next asks the shared limit again, or no pool would learn of it.
        self.lanes[Class::First as usize].denied_until = Time(0);
        self.place(id, Class::First, now);
        id
    }

    /// The request is no longer wanted. False when it is not waiting any more: then its effect was already emitted.
    pub fn cancel(&mut self, request: RequestId) -> bool {
        for lane in &mut self.lanes {
            if let Some(at) = lane.queue.iter().position(|waiter| waiter.id == request) {
                lane.queue.remove(at);
                return true;
            }
        }
        false
    }

    /// The server behind the pool changed: nothing opened before this call is lent again.
    pub fn recycle(&mut self, now: Time) {
        self.generation = self.generation.wrapping_add(1);
        self.is_back(now);
        self.close_idle();
        for class in CLASSES {
            self.pump(class, now);
        }
    }

    /// Closes the ordinary connection that has been idle longest, for another pool that shares a limit with this
    /// one. False when none is idle.
    pub fn evict(&mut self) -> bool {
        let idle = &mut self.lanes[Class::First as usize].idle;
        if idle.is_empty() {
            return false;
        }
        let id = idle.remove(0);
        self.forget(id);
        self.effects.push_back(Effect::Close { server: id });
        true
    }

    /// It is later now: what has been idle for long is known to be when it is asked for next. Cheap.
    pub fn observe(&mut self, now: Time) {
        self.clock = now;
    }

    /// Does what time brings: refuses those who waited too long, closes the old and idle, dials again.
    pub fn handle_timeout(&mut self, now: Time) {
        self.clock = now;
        for class in CLASSES {
            self.time_out_waiters(class, now);
            self.reap(class, now);
            self.pump(class, now);
        }
        self.refuse_failing(now);
    }

    /// When [`Self::handle_timeout`] has something to do next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        let mut next: Option<Time> = None;
        let mut consider = |time: Time| next = Some(next.map_or(time, |old| old.min(time)));
        for lane in &self.lanes {
            if self.own_waits {
                for waiter in &lane.queue {
                    consider(waiter.since.after(self.patience(waiter.away_wait)));
                    if let Some(failing) = self.failing
                        && lane.dialling == 0
                        && lane.open == 0
                    {
                        consider(failing.since.after(self.failing_wait(failing, waiter.away_wait)));
                    }
                }
            }
            if let Some(waiter) = lane.queue.front() {
                consider(waiter.since.after(self.patience(waiter.away_wait)));
                if self.policy.extra > 0 {
                    consider(waiter.since.after(self.policy.extra_after));
                }
                if let Some(failing) = self.failing
                    && lane.dialling == 0
                {
                    consider(failing.retry_at);
                    consider(failing.since.after(self.failing_wait(failing, waiter.away_wait)));
                } else if lane.denied_until > Time(0) {
                    consider(lane.denied_until);
                }
            }
            for server in lane.idle.iter().filter_map(|id| self.server(*id)) {
                consider(self.idle_end(server));
            }
        }
        next
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Requests waiting in any class.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lanes.iter().map(|lane| lane.queue.len()).sum()
    }

    /// Ordinary requests waiting: what a connection given away elsewhere would make wait longer.
    #[must_use]
    pub fn waiting_first(&self) -> usize {
        self.lanes[Class::First as usize].queue.len()
    }

    /// Ordinary connections waiting for work.
    #[must_use]
    pub fn idle_first(&self) -> usize {
        self.lanes[Class::First as usize].idle.len()
    }

    /// The budget a connection was opened from.
    #[must_use]
    pub fn class_of(&self, id: ServerId) -> Option<Class> {
        self.server(id).map(|server| server.class)
    }

    /// Current figures.
    #[must_use]
    pub fn stats(&self, now: Time) -> Stats {
        let mut stats = Stats::default();
        for server in self.servers.iter().flatten() {
            match server.state {
                State::Dialling => stats.dialling += 1,
                State::Idle { .. } => stats.idle += 1,
                State::Leased => stats.leased += 1,
            }
            stats.outdated += usize::from(server.generation != self.generation);
        }
        for lane in &self.lanes {
            stats.waiting += lane.queue.len();
            if let Some(waiter) = lane.queue.front() {
                stats.longest_wait = stats.longest_wait.max(now.since(waiter.since));
            }
        }
        stats
    }

    fn server(&self, id: ServerId) -> Option<&Server> {
        self.servers.get(id.0 as usize)?.as_ref()
    }

    fn server_mut(&mut self, id: ServerId) -> Option<&mut Server> {
        self.servers.get_mut(id.0 as usize)?.as_mut()
    }

    /// An idle connection for this class, with the lane it is in.
    fn peek_idle(&self, class: Class) -> Option<(Class, ServerId)> {
        if self.is_shut(class) {
            return None;
        }
        // A further shard may borrow an idle ordinary connection: its transaction waits for nothing more, so it
        // gives the connection back without ever needing one that somebody else holds.
        match self.lanes[class as usize].idle.last() {
            Some(id) => Some((class, *id)),
            None if class == Class::Further => {
                let id = self.lanes[Class::First as usize].idle.last()?;
                Some((Class::First, *id))
            }
            None => None,
        }
    }

    fn lend_idle(&mut self, lane: Class, id: ServerId) {
        self.lanes[lane as usize].idle.pop();
        if let Some(server) = self.server_mut(id) {
            server.state = State::Leased;
        }
    }

    fn is_stale(&self, id: ServerId) -> bool {
        let Some(State::Idle { since }) = self.server(id).map(|server| server.state) else {
            return false;
        };
        let check_after = self.policy.check_after;
        self.suspect.is_some_and(|suspect| since <= suspect)
            || (!check_after.is_zero() && self.clock >= since.after(check_after))
    }

    fn close_idle(&mut self) {
        for class in CLASSES {
            for id in std::mem::take(&mut self.lanes[class as usize].idle) {
                self.forget(id);
                self.effects.push_back(Effect::Close { server: id });
            }
        }
    }

    /// The first in the queue has waited so long that the reserve may be used.
    fn wants_reserve(&self, now: Time) -> bool {
        let head = self.lanes[Class::First as usize].queue.front();
        self.policy.extra > 0 && head.is_some_and(|waiter| waiter.since.after(self.policy.extra_after) <= now)
    }

    fn limit(&self, class: Class, reserve: bool) -> usize {
        match class {
            Class::First if reserve => self.policy.size + self.policy.extra,
            Class::First => self.policy.size,
            Class::Further => self.policy.reserve,
            Class::Control => self.policy.control,
        }
    }

    fn expiry(&self, now: Time, jitter: u8) -> Time {
        let life = self.policy.max_lifetime;
        if life.is_zero() {
            return Time(u64::MAX);
        }
        now.after(life - life / 4 * u32::from(jitter) / 255)
    }

    fn idle_end(&self, server: &Server) -> Time {
        let State::Idle { since } = server.state else {
            return Time(u64::MAX);
        };
        if self.policy.idle_timeout.is_zero() {
            return server.expires;
        }
        since.after(self.policy.idle_timeout).min(server.expires)
    }

    fn insert(&mut self, class: Class, state: State, expires: Time) -> ServerId {
        let server = Server {
            class,
            state,
            expires,
            generation: self.generation,
        };
        self.lanes[class as usize].open += 1;
        if let Some(id) = self.free.pop() {
            self.servers[id.0 as usize] = Some(server);
            return id;
        }
        let id = ServerId(u32::try_from(self.servers.len()).unwrap_or(u32::MAX));
        self.servers.push(Some(server));
        id
    }

    /// Removes the connection from the books (not from an idle list) and says what it was opened for.
    fn forget(&mut self, id: ServerId) -> Option<Class> {
        let server = self.servers.get_mut(id.0 as usize)?.take()?;
        self.lanes[server.class as usize].open -= 1;
        self.free.push(id);
        Some(server.class)
    }

    /// Lends the connection to whoever waits for one of its class, or keeps it.
    fn place(&mut self, id: ServerId, class: Class, now: Time) {
        if self.paused && class == Class::First && self.lanes[Class::Further as usize].queue.is_empty() {
            self.forget(id);
            self.effects.push_back(Effect::Close { server: id });
            return;
        }
        if self.held {
            return self.rest(id, class, now);
        }
        let mut waiter = None;
        // Ticket holders first: they hold locks on other shards.
        if class != Class::Control {
            waiter = self.lanes[Class::Further as usize].queue.pop_front();
        }
        let waiter = waiter.or_else(|| self.lanes[class as usize].queue.pop_front());
        let Some(waiter) = waiter else {
            return self.rest(id, class, now);
        };
        if let Some(server) = self.server_mut(id) {
            server.state = State::Leased;
            self.effects.push_back(Effect::Grant {
                request: waiter.id,
                server: id,
            });
        }
    }

    /// Nobody is lent the connection now.
    fn rest(&mut self, id: ServerId, class: Class, now: Time) {
        if let Some(server) = self.server_mut(id) {
            server.state = State::Idle { since: now };
            self.lanes[class as usize].idle.push(id);
        }
    }

    /// Starts as many logins as the waiting requests (and the connections to keep) need and the limits allow.
    fn pump(&mut self, class: Class, now: Time) {
        let ordinary = class == Class::First;
        if self.lanes[class as usize].denied_until > now || self.is_shut(class) {
            return;
        }
        let reserve = ordinary && self.wants_reserve(now);
        let limit = self.limit(class, reserve);
        let floor = if ordinary { self.policy.min.min(limit) } else { 0 };
        let mut running: usize = self.lanes.iter().map(|lane| lane.dialling).sum();
        let parallel = match self.failing {
            Some(failing) if failing.retry_at > now => return,
            // One probe is enough to learn whether the server is back.
            Some(_) => 1,
            None => self.policy.dial_parallel,
        };
        loop {
            let lane = &mut self.lanes[class as usize];
            let needed = lane.queue.len() > lane.dialling || lane.open < floor;
            if !needed || lane.open >= limit || running >= parallel {
                return;
            }
            lane.dialling += 1;
            running += 1;
            let server = self.insert(class, State::Dialling, Time(u64::MAX));
            self.effects.push_back(Effect::Dial {
                server,
                class,
                reserve,
            });
        }
    }

    /// Logins have been failing for long enough, none is running, and nothing lent out will come back.
    fn refuses_at_once(&self, class: Class, own: Option<Duration>, now: Time) -> bool {
        let lane = &self.lanes[class as usize];
        let Some(failing) = self.failing else { return false };
        lane.dialling == 0 && lane.open == 0 && now >= failing.since.after(self.failing_wait(failing, own))
    }

    fn failing_wait(&self, failing: Failing, own: Option<Duration>) -> Duration {
        if failing.lasting {
            self.policy.failing_wait
        } else {
            // A server that is restarted comes back: a pause, not an error.
            own.unwrap_or_else(|| self.away_wait())
        }
    }

    /// How long a request waits.
    fn patience(&self, own: Option<Duration>) -> Duration {
        match self.failing {
            _ if self.held => own.unwrap_or_else(|| self.away_wait()),
            Some(failing) if !failing.lasting => own.unwrap_or_else(|| self.away_wait()),
            _ => self.policy.connection_timeout,
        }
    }

    fn away_wait(&self) -> Duration {
        self.policy.away_wait.unwrap_or(self.policy.connection_timeout)
    }

    fn refuse_failing(&mut self, now: Time) {
        for class in CLASSES {
            self.refuse_where(class, Refused::Failing, |pool, waiter| {
                pool.refuses_at_once(class, waiter.away_wait, now)
            });
        }
    }

    fn time_out_waiters(&mut self, class: Class, now: Time) {
        if self.paused && class == Class::First {
            return;
        }
        let reason = if self.failing.is_some() || self.held {
            Refused::Failing
        } else {
            Refused::TimedOut
        };
        self.refuse_where(class, reason, |pool, waiter| {
            waiter.since.after(pool.patience(waiter.away_wait)) <= now
        });
        self.own_waits &= self.waiting() > 0;
    }

    /// Refuses those who have waited for too long. Unless some have a patience of their own they come in order.
    fn refuse_where(&mut self, class: Class, reason: Refused, is_over: impl Fn(&Self, &Waiter) -> bool) {
        let mut at = 0;
        while let Some(waiter) = self.lanes[class as usize].queue.get(at).copied() {
            if is_over(self, &waiter) {
                self.lanes[class as usize].queue.remove(at);
                self.effects.push_back(Effect::Refuse {
                    request: waiter.id,
                    reason,
                });
            } else if self.own_waits {
                at += 1;
            } else {
                return;
            }
        }
    }

    fn reap(&mut self, class: Class, now: Time) {
        let mut at = 0;
        while let Some(id) = self.lanes[class as usize].idle.get(at).copied() {
            // Those to be kept are closed for age only.
            let kept = class == Class::First && self.lanes[class as usize].open <= self.policy.min;
            let due = self
                .server(id)
                .is_none_or(|server| server.expires <= now || (!kept && self.idle_end(server) <= now));
            if due {
                self.lanes[class as usize].idle.remove(at);
                self.forget(id);
                self.effects.push_back(Effect::Close { server: id });
            } else {
                at += 1;
            }
        }
    }
}

mod hold;

#[cfg(test)]
mod tests;
