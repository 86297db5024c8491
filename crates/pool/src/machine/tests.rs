use super::*;

fn at(ms: u64) -> Time {
    Time(ms * 1000)
}

fn policy() -> Policy {
    Policy {
        size: 2,
        reserve: 1,
        control: 1,
        queue_limit: 3,
        connection_timeout: Duration::from_millis(1000),
        idle_timeout: Duration::from_millis(5000),
        max_lifetime: Duration::from_millis(60_000),
        dial_parallel: 2,
        backoff_min: Duration::from_millis(50),
        backoff_max: Duration::from_millis(400),
        failing_wait: Duration::from_millis(200),
        ..Policy::default()
    }
}

/// A pool with a script of calls and a trace of what it decided.
struct Bench {
    pool: Pool,
}

impl Bench {
    fn new(policy: Policy) -> Self {
        Self {
            pool: Pool::new(policy),
        }
    }

    fn effects(&mut self) -> String {
        let mut trace = Vec::new();
        while let Some(effect) = self.pool.poll_effect() {
            trace.push(match effect {
                Effect::Grant { request, server } => format!("grant s{} to r{}", server.0, request.0),
                Effect::Refuse { request, reason } => format!("refuse r{} {reason:?}", request.0),
                Effect::Dial {
                    server,
                    class,
                    reserve,
                } => {
                    let reserve = if reserve { " reserve" } else { "" };
                    format!("dial s{} {class:?}{reserve}", server.0)
                }
                Effect::Close { server } => format!("close s{}", server.0),
            });
        }
        trace.join(", ")
    }

    fn request(&mut self, class: Class, now: Time) -> String {
        let answer = match self.pool.request(class, now) {
            Answer::Granted(server) => format!("s{}", server.0),
            Answer::Check(server) => format!("check s{}", server.0),
            Answer::Queued(request) => format!("r{}", request.0),
            Answer::Refused(reason) => format!("{reason:?}"),
        };
        let effects = self.effects();
        if effects.is_empty() {
            answer
        } else {
            format!("{answer}: {effects}")
        }
    }

    fn after(&mut self, call: impl FnOnce(&mut Pool)) -> String {
        call(&mut self.pool);
        self.effects()
    }
}

fn s(id: u32) -> ServerId {
    ServerId(id)
}

#[test]
fn dials_up_to_the_limit_then_queues_in_order() {
    let mut bench = Bench::new(policy());
    assert_eq!(bench.request(Class::First, at(0)), "r0: dial s0 First");
    assert_eq!(bench.request(Class::First, at(0)), "r1: dial s1 First");
    assert_eq!(bench.request(Class::First, at(0)), "r2");
    assert_eq!(bench.request(Class::First, at(0)), "QueueFull");
    assert_eq!(bench.after(|pool| pool.dialled(s(1), at(5), 0)), "grant s1 to r0");
    assert_eq!(bench.after(|pool| pool.dialled(s(0), at(6), 0)), "grant s0 to r1");
    assert_eq!(bench.after(|pool| pool.release(s(0), at(9))), "grant s0 to r2");
    assert_eq!(bench.after(|pool| pool.release(s(0), at(9))), "");
    assert_eq!(bench.request(Class::First, at(10)), "s0");
    let stats = bench.pool.stats(at(10));
    assert_eq!(
        (stats.leased, stats.idle, stats.dialling, stats.waiting),
        (2, 0, 0, 0)
    );
}

#[test]
fn a_freed_connection_may_make_the_dialled_one_idle() {
    let mut bench = Bench::new(policy());
    bench.request(Class::First, at(0));
    bench.pool.dialled(s(0), at(1), 0);
    assert_eq!(bench.effects(), "grant s0 to r0");
    assert_eq!(bench.request(Class::First, at(2)), "r1: dial s1 First");
    assert_eq!(bench.after(|pool| pool.release(s(0), at(3))), "grant s0 to r1");
    assert_eq!(bench.after(|pool| pool.dialled(s(1), at(4), 0)), "");
    assert_eq!(bench.request(Class::First, at(5)), "s1");
}

#[test]
fn waits_are_bounded_and_cancelled_waits_are_forgotten() {
    let mut bench = Bench::new(policy());
    bench.request(Class::First, at(0));
    bench.request(Class::First, at(100));
    assert_eq!(bench.request(Class::First, at(200)), "r2");
    assert!(bench.pool.cancel(RequestId(1)));
    assert!(!bench.pool.cancel(RequestId(1)));
    assert_eq!(bench.pool.next_timeout(), Some(at(1000)));
    assert_eq!(bench.after(|pool| pool.handle_timeout(at(999))), "");
    assert_eq!(
        bench.after(|pool| pool.handle_timeout(at(1000))),
        "refuse r0 TimedOut"
    );
    assert_eq!(
        bench.after(|pool| pool.handle_timeout(at(1200))),
        "refuse r2 TimedOut"
    );
    // The logins still end somewhere.
    assert_eq!(bench.after(|pool| pool.dialled(s(0), at(1300), 0)), "");
    assert_eq!(bench.pool.stats(at(1300)).idle, 1);
}

#[test]
fn the_reserve_is_not_for_first_shards_but_may_borrow_from_them() {
    let mut bench = Bench::new(policy());
    for id in 0..2 {
        bench.request(Class::First, at(0));
        bench.pool.dialled(s(id), at(1), 0);
        bench.effects();
    }
    assert_eq!(bench.request(Class::First, at(2)), "r2");
    assert_eq!(bench.request(Class::Further, at(2)), "r3: dial s2 Further");
    assert_eq!(bench.after(|pool| pool.dialled(s(2), at(3), 0)), "grant s2 to r3");
    assert_eq!(
        bench.after(|pool| pool.release(s(2), at(4))),
        "",
        "the reserve stays free for ticket holders"
    );
    assert_eq!(bench.request(Class::Further, at(5)), "s2");
    // An ordinary connection that comes back serves a ticket holder first: it may hold locks elsewhere.
    assert_eq!(bench.request(Class::Further, at(6)), "r4");
    assert_eq!(bench.after(|pool| pool.release(s(0), at(7))), "grant s0 to r4");
    assert_eq!(bench.after(|pool| pool.release(s(0), at(8))), "grant s0 to r2");
    assert_eq!(bench.after(|pool| pool.release(s(1), at(9))), "");
    assert_eq!(bench.request(Class::Further, at(10)), "s1");
}

#[test]
fn control_connections_are_apart() {
    let mut bench = Bench::new(policy());
    for _ in 0..3 {
        bench.request(Class::First, at(0));
    }
    assert_eq!(bench.request(Class::First, at(0)), "QueueFull");
    bench.pool.dialled(s(0), at(1), 0);
    bench.pool.dialled(s(1), at(1), 0);
    assert_eq!(bench.effects(), "grant s0 to r0, grant s1 to r1");
    assert_eq!(bench.request(Class::Control, at(2)), "r3: dial s2 Control");
    assert_eq!(bench.after(|pool| pool.release(s(0), at(3))), "grant s0 to r2");
    assert_eq!(bench.after(|pool| pool.dialled(s(2), at(4), 0)), "grant s2 to r3");
}

#[test]
fn logins_that_fail_are_paused_and_waiters_hear_of_it() {
    let mut bench = Bench::new(policy());
    assert_eq!(bench.request(Class::First, at(0)), "r0: dial s0 First");
    assert_eq!(bench.after(|pool| pool.dial_failed(s(0), at(10), 255, true)), "");
    assert_eq!(bench.pool.next_timeout(), Some(at(60)));
    assert_eq!(bench.after(|pool| pool.handle_timeout(at(59))), "");
    assert_eq!(bench.after(|pool| pool.handle_timeout(at(60))), "dial s0 First");
    assert_eq!(
        bench.after(|pool| pool.dial_failed(s(0), at(70), 255, true)),
        "",
        "100 ms pause, 200 ms not over yet"
    );
    assert_eq!(bench.after(|pool| pool.handle_timeout(at(170))), "dial s0 First");
    assert_eq!(bench.request(Class::First, at(171)), "r1", "one probe at a time");
    assert_eq!(
        bench.after(|pool| pool.dial_failed(s(0), at(210), 255, true)),
        "refuse r0 Failing, refuse r1 Failing"
    );
    assert_eq!(
        bench.request(Class::First, at(211)),
        "Failing",
        "at once while nothing is tried"
    );
    assert_eq!(
        bench.request(Class::First, at(500)),
        "r3: dial s0 First",
        "the next request after the pause tries"
    );
    assert_eq!(
        bench.after(|pool| pool.dialled(s(0), at(501), 0)),
        "grant s0 to r3"
    );
    assert_eq!(bench.request(Class::First, at(502)), "r4: dial s1 First");
}

#[test]
fn the_pause_doubles_up_to_its_bound() {
    let mut bench = Bench::new(policy());
    let mut now = 0;
    let mut pauses = Vec::new();
    for _ in 0..5 {
        assert!(bench.request(Class::First, at(now)).contains("dial"));
        bench.pool.dial_failed(s(0), at(now), 255, true);
        bench.effects();
        let failing = bench.pool.failing.expect("failing");
        pauses.push(failing.retry_at.since(at(now)).as_millis());
        now += 1000;
    }
    assert_eq!(pauses, [50, 100, 200, 400, 400]);
}

#[test]
fn a_full_server_does_not_fail_those_who_can_wait_for_a_release() {
    let mut bench = Bench::new(policy());
    bench.request(Class::First, at(0));
    bench.pool.dialled(s(0), at(1), 0);
    bench.effects();
    assert_eq!(bench.request(Class::First, at(2)), "r1: dial s1 First");
    assert_eq!(bench.after(|pool| pool.dial_failed(s(1), at(3), 255, true)), "");
    assert_eq!(bench.after(|pool| pool.handle_timeout(at(300))), "dial s1 First");
    assert_eq!(
        bench.after(|pool| pool.dial_failed(s(1), at(301), 255, true)),
        "",
        "s0 will come back"
    );
    assert_eq!(bench.after(|pool| pool.release(s(0), at(302))), "grant s0 to r1");
}

#[test]
fn idle_and_old_connections_are_closed() {
    let mut bench = Bench::new(policy());
    for id in 0..2 {
        bench.request(Class::First, at(0));
        bench.pool.dialled(s(id), at(0), 255);
    }
    bench.effects();
    bench.pool.release(s(0), at(1000));
    bench.pool.release(s(1), at(2000));
    assert_eq!(bench.pool.next_timeout(), Some(at(6000)));
    assert_eq!(bench.after(|pool| pool.handle_timeout(at(5999))), "");
    assert_eq!(bench.after(|pool| pool.handle_timeout(at(6000))), "close s0");
    assert_eq!(bench.request(Class::First, at(6001)), "s1");
    // Jitter 255 took a quarter of the lifetime.
    assert_eq!(bench.after(|pool| pool.release(s(1), at(44_999))), "");
    assert_eq!(bench.request(Class::First, at(45_000)), "s1");
    assert_eq!(bench.after(|pool| pool.release(s(1), at(45_000))), "close s1");
    assert_eq!(bench.pool.stats(at(45_000)), Stats::default());
}

#[test]
fn recycling_closes_what_was_opened_before() {
    let mut bench = Bench::new(policy());
    bench.request(Class::First, at(0));
    bench.pool.dialled(s(0), at(0), 0);
    bench.effects();
    bench.pool.release(s(0), at(1));
    bench.request(Class::First, at(1));
    assert_eq!(bench.request(Class::First, at(1)), "r1: dial s1 First");
    assert_eq!(bench.after(|pool| pool.recycle(at(2))), "");
    assert_eq!(
        bench.after(|pool| pool.dialled(s(1), at(3), 0)),
        "close s1, dial s1 First",
        "its login began before"
    );
    assert_eq!(bench.after(|pool| pool.dialled(s(1), at(4), 0)), "grant s1 to r1");
    assert_eq!(bench.after(|pool| pool.release(s(0), at(5))), "close s0");
    assert_eq!(bench.after(|pool| pool.release(s(1), at(5))), "");
    assert_eq!(bench.after(|pool| pool.recycle(at(6))), "close s1");
}

#[test]
fn a_denied_permit_is_asked_for_again() {
    let mut bench = Bench::new(policy());
    assert_eq!(bench.request(Class::First, at(100)), "r0: dial s0 First");
    assert_eq!(bench.after(|pool| pool.dial_denied(s(0), at(100))), "");
    assert_eq!(
        bench.request(Class::First, at(101)),
        "r1",
        "not asked again at once"
    );
    assert_eq!(bench.pool.next_timeout(), Some(at(120)));
    assert_eq!(
        bench.after(|pool| pool.handle_timeout(at(120))),
        "dial s0 First, dial s1 First"
    );
    bench.pool.dial_denied(s(0), at(120));
    bench.pool.dial_denied(s(1), at(120));
    assert_eq!(
        bench.after(|pool| pool.retry_denied(Class::First, at(121))),
        "dial s1 First, dial s0 First"
    );
    bench.pool.dial_denied(s(0), at(122));
    bench.pool.dial_denied(s(1), at(122));
    assert_eq!(
        bench.after(|pool| assert_eq!(pool.adopt(at(123), 0), s(1))),
        "grant s1 to r0"
    );
    assert_eq!(bench.after(|pool| pool.release(s(1), at(124))), "grant s1 to r1");
    bench.pool.release(s(1), at(125));
    assert_eq!(bench.pool.give_away(), Some(s(1)));
    assert_eq!(bench.pool.stats(at(125)), Stats::default());
    assert_eq!(
        bench.request(Class::First, at(126)),
        "r2: dial s1 First",
        "what was lacking had come: it is asked at once"
    );
}

#[test]
fn random_histories_keep_the_books() {
    // A small generator instead of a dependency: the same histories every time.
    let mut seed = 42_u64;
    let mut random = move |bound: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    let mut bench = Bench::new(Policy {
        queue_limit: 8,
        ..policy()
    });
    let (mut leased, mut dialling, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    let mut now = 0;
    for _ in 0..200_000 {
        now += random(40);
        match random(12) {
            0..=3 => {
                let class = CLASSES[random(3) as usize];
                match bench.pool.request(class, at(now)) {
                    Answer::Granted(id) | Answer::Check(id) => leased.push(id),
                    Answer::Queued(id) => waiting.push(id),
                    Answer::Refused(_) => {}
                }
            }
            4..=6 if !leased.is_empty() => {
                let id = leased.swap_remove(random(leased.len() as u64) as usize);
                bench.pool.release(id, at(now));
            }
            7 if !leased.is_empty() => {
                let id = leased.swap_remove(random(leased.len() as u64) as usize);
                bench.pool.discard(id, at(now));
            }
            8 | 9 if !dialling.is_empty() => {
                let id = dialling.swap_remove(random(dialling.len() as u64) as usize);
                match random(6) {
                    0 => bench.pool.dial_failed(id, at(now), 255, now % 2 == 0),
                    1 => bench.pool.dial_denied(id, at(now)),
                    _ => bench.pool.dialled(id, at(now), random(256) as u8),
                }
            }
            10 if !waiting.is_empty() => {
                let id = waiting.swap_remove(random(waiting.len() as u64) as usize);
                assert!(bench.pool.cancel(id));
            }
            11 if random(500) == 0 => bench.pool.recycle(at(now)),
            _ => bench.pool.handle_timeout(at(now)),
        }
        while let Some(effect) = bench.pool.poll_effect() {
            match effect {
                Effect::Grant { request, server } => {
                    assert!(waiting.contains(&request) && !leased.contains(&server));
                    waiting.retain(|id| *id != request);
                    leased.push(server);
                }
                Effect::Refuse { request, .. } => {
                    assert!(waiting.contains(&request));
                    waiting.retain(|id| *id != request);
                }
                Effect::Dial { server, .. } => {
                    assert!(!leased.contains(&server) && !dialling.contains(&server));
                    dialling.push(server);
                }
                Effect::Close { server } => assert!(!leased.contains(&server)),
            }
        }
        let stats = bench.pool.stats(at(now));
        assert_eq!(
            (stats.leased, stats.dialling, stats.waiting),
            (leased.len(), dialling.len(), waiting.len())
        );
        assert!(
            stats.leased + stats.idle + stats.dialling <= 2 + 1 + 1,
            "limits hold: {stats:?}"
        );
        assert!(
            stats.waiting == 0 || bench.pool.next_timeout().is_some(),
            "nobody waits for ever"
        );
        // An idle connection and a request it could serve never coexist.
        for class in CLASSES {
            let lane = &bench.pool.lanes[class as usize];
            assert!(lane.idle.is_empty() || lane.queue.is_empty());
        }
    }
}

fn open(bench: &mut Bench, servers: u32, now: Time) {
    for id in 0..servers {
        bench.request(Class::First, now);
        bench.pool.dialled(s(id), now, 0);
        bench.effects();
    }
}

#[test]
fn the_reserve_is_for_the_head_of_the_queue_after_its_wait() {
    let mut bench = Bench::new(Policy {
        extra: 1,
        extra_after: Duration::from_millis(300),
        ..policy()
    });
    open(&mut bench, 2, at(0));
    assert_eq!(bench.request(Class::First, at(10)), "r2");
    assert_eq!(bench.request(Class::First, at(20)), "r3");
    assert_eq!(bench.pool.next_timeout(), Some(at(310)));
    assert_eq!(bench.after(|pool| pool.handle_timeout(at(309))), "");
    assert_eq!(
        bench.after(|pool| pool.handle_timeout(at(310))),
        "dial s2 First reserve"
    );
    assert_eq!(
        bench.after(|pool| pool.dialled(s(2), at(311), 0)),
        "grant s2 to r2"
    );
    assert_eq!(
        bench.after(|pool| pool.handle_timeout(at(400))),
        "",
        "one, not more"
    );
    assert_eq!(bench.after(|pool| pool.release(s(0), at(401))), "grant s0 to r3");
}

#[test]
fn a_floor_is_dialled_kept_and_replaced() {
    let mut bench = Bench::new(Policy {
        min: 2,
        max_lifetime: Duration::from_millis(20_000),
        ..policy()
    });
    assert_eq!(
        bench.after(|pool| pool.handle_timeout(at(0))),
        "dial s0 First, dial s1 First"
    );
    bench.pool.dialled(s(0), at(1), 0);
    bench.pool.dialled(s(1), at(2), 0);
    assert_eq!(bench.effects(), "");
    assert_eq!(
        bench.after(|pool| pool.handle_timeout(at(6000))),
        "",
        "idle and kept"
    );
    assert_eq!(
        bench.after(|pool| pool.handle_timeout(at(20_001))),
        "close s0, dial s0 First",
        "too old, and replaced"
    );
}

#[test]
fn a_pause_closes_what_is_idle_and_keeps_everybody_waiting() {
    let mut bench = Bench::new(policy());
    open(&mut bench, 2, at(0));
    bench.pool.release(s(0), at(1));
    assert_eq!(bench.after(Pool::pause), "close s0");
    assert_eq!(bench.request(Class::First, at(2)), "r2", "nothing is dialled");
    assert_eq!(bench.pool.take_idle(Class::First), None);
    assert_eq!(bench.after(|pool| pool.release(s(1), at(3))), "close s1");
    assert_eq!(
        bench.after(|pool| pool.handle_timeout(at(9000))),
        "",
        "no time-out"
    );
    assert_eq!(
        bench.request(Class::Further, at(9001)),
        "r3: dial s1 Further",
        "transactions that have begun go on"
    );
    assert_eq!(
        bench.after(|pool| pool.dialled(s(1), at(9001), 0)),
        "grant s1 to r3"
    );
    assert_eq!(bench.after(|pool| pool.resume(at(9002))), "dial s0 First");
    assert_eq!(
        bench.after(|pool| pool.handle_timeout(at(9500))),
        "",
        "a new wait"
    );
    assert_eq!(
        bench.after(|pool| pool.dialled(s(0), at(9501), 0)),
        "grant s0 to r2"
    );
}

#[test]
fn what_was_idle_for_long_or_is_suspect_is_checked() {
    let mut bench = Bench::new(Policy {
        check_after: Duration::from_millis(2000),
        ..policy()
    });
    open(&mut bench, 1, at(0));
    bench.pool.release(s(0), at(10));
    assert_eq!(bench.pool.take_idle(Class::First), Some(s(0)));
    bench.pool.release(s(0), at(20));
    bench.pool.observe(at(2020));
    assert_eq!(bench.pool.take_idle(Class::First), None, "not without a check");
    assert_eq!(bench.request(Class::First, at(2021)), "check s0");
    bench.pool.release(s(0), at(2030));
    bench.pool.suspect(at(2031));
    assert_eq!(bench.request(Class::First, at(2032)), "check s0");
    bench.pool.release(s(0), at(2040));
    assert_eq!(
        bench.pool.take_idle(Class::First),
        Some(s(0)),
        "it was used since"
    );
}

#[test]
fn a_server_that_is_down_is_waited_for() {
    let mut bench = Bench::new(policy());
    assert_eq!(bench.request(Class::First, at(0)), "r0: dial s0 First");
    let mut now = 0;
    while now < 800 {
        now += 20;
        bench.pool.dial_failed(s(0), at(now), 255, false);
        assert_eq!(bench.effects(), "", "no refusal while there is time");
        now += 400;
        assert_eq!(bench.after(|pool| pool.handle_timeout(at(now))), "dial s0 First");
    }
    assert_eq!(
        bench.after(|pool| pool.dialled(s(0), at(now), 0)),
        "grant s0 to r0"
    );
    bench.pool.discard(s(0), at(now));
    assert_eq!(bench.request(Class::First, at(now)), "r1: dial s0 First");
    bench.pool.dial_failed(s(0), at(now), 255, false);
    assert_eq!(
        bench.after(|pool| pool.handle_timeout(at(now + 1000))),
        "refuse r1 Failing",
        "its time is over"
    );
}

#[test]
fn a_connection_is_given_up_for_another_pool() {
    let mut bench = Bench::new(policy());
    open(&mut bench, 2, at(0));
    assert!(!bench.pool.evict(), "none is idle");
    bench.pool.release(s(1), at(1));
    bench.pool.release(s(0), at(2));
    assert!(bench.pool.evict());
    assert_eq!(bench.effects(), "close s1", "the one idle longest");
}

#[test]
fn who_waits_for_a_server_that_is_away_has_limits_of_their_own() {
    let policy = Policy {
        away_wait: Some(Duration::from_millis(5000)),
        away_queue: 2,
        connection_timeout: Duration::from_millis(1000),
        ..Policy::default()
    };
    let mut pool = Pool::new(policy);
    let Answer::Queued(first) = pool.request(Class::First, Time(0)) else {
        panic!("there is no connection yet")
    };
    let Some(Effect::Dial { server, .. }) = pool.poll_effect() else {
        panic!("it is dialled")
    };
    pool.dial_failed(server, Time(1000), 0, false);
    assert!(matches!(
        pool.request(Class::First, Time(2000)),
        Answer::Queued(_)
    ));
    assert_eq!(
        pool.request(Class::First, Time(3000)),
        Answer::Refused(Refused::QueueFull)
    );
    // Longer than a connection is waited for, and then it is over.
    pool.handle_timeout(Time(4_900_000));
    let refused = |pool: &mut Pool| {
        std::iter::from_fn(|| pool.poll_effect())
            .any(|effect| matches!(effect, Effect::Refuse { request, .. } if request == first))
    };
    assert!(!refused(&mut pool));
    pool.handle_timeout(Time(5_100_000));
    assert!(refused(&mut pool));
}

#[test]
fn a_request_may_have_a_patience_of_its_own() {
    let mut bench = Bench::new(Policy {
        away_wait: Some(Duration::from_millis(800)),
        ..policy()
    });
    let held = |bench: &mut Bench, ms: u64, now: Time| {
        let hold = Hold {
            wait: Some(Duration::from_millis(ms)),
            queue: None,
        };
        let _ = bench.pool.request_held(Class::First, hold, now);
        bench.effects()
    };
    assert_eq!(bench.request(Class::First, at(0)), "r0: dial s0 First");
    assert_eq!(held(&mut bench, 100, at(0)), "dial s1 First");
    held(&mut bench, 2000, at(0));
    // It is not over while nobody knows that the server is away.
    assert_eq!(bench.after(|pool| pool.handle_timeout(at(150))), "");
    bench.pool.dial_failed(s(0), at(160), 0, false);
    bench.pool.dial_failed(s(1), at(160), 0, false);
    bench.effects();
    // Behind a queue that is too long for it.
    let hold = Hold {
        wait: None,
        queue: Some(2),
    };
    let answer = bench.pool.request_held(Class::First, hold, at(161));
    assert_eq!(answer, Answer::Refused(Refused::QueueFull));
    let mut refused = Vec::new();
    for ms in 161..3000 {
        if bench.pool.next_timeout().is_some_and(|due| due <= at(ms)) {
            bench.pool.handle_timeout(at(ms));
        }
        while let Some(effect) = bench.pool.poll_effect() {
            match effect {
                Effect::Refuse { request, .. } => refused.push((request.0, ms)),
                Effect::Dial { server, .. } => bench.pool.dial_failed(server, at(ms), 0, false),
                _ => {}
            }
        }
    }
    assert_eq!(refused, [(1, 161), (0, 800), (2, 2000)]);
}

#[test]
fn nothing_goes_to_a_server_that_answers_nobody() {
    let mut bench = Bench::new(Policy {
        away_wait: Some(Duration::from_millis(3000)),
        ..policy()
    });
    assert_eq!(bench.request(Class::First, at(0)), "r0: dial s0 First");
    bench.pool.dialled(s(0), at(1), 0);
    assert_eq!(bench.effects(), "grant s0 to r0");
    bench.pool.hold();
    // Neither the connection that comes back nor a new one, for any class.
    bench.pool.release(s(0), at(2));
    assert_eq!(bench.pool.take_idle(Class::First), None);
    assert_eq!(bench.pool.take_idle_where(|_| true), None);
    assert_eq!(bench.request(Class::First, at(10)), "r1");
    assert_eq!(bench.request(Class::Further, at(10)), "r2");
    assert_eq!(bench.request(Class::Control, at(10)), "r3");
    // As long as for a server that is away, and no longer.
    bench.pool.handle_timeout(at(2000));
    assert_eq!(bench.effects(), "");
    bench.pool.let_go(at(2500));
    assert_eq!(bench.effects(), "grant s0 to r2, dial s1 First, dial s2 Control");
    bench.pool.dialled(s(1), at(2600), 0);
    bench.pool.dialled(s(2), at(2600), 0);
    assert_eq!(bench.effects(), "grant s1 to r1, grant s2 to r3");
    bench.pool.hold();
    assert_eq!(bench.request(Class::First, at(3000)), "r4");
    bench.pool.handle_timeout(at(6000));
    assert_eq!(bench.effects(), "refuse r4 Failing");
}

/// Patience with a server that was away ends with its absence, not with what waited for it.
#[test]
fn who_was_patient_with_a_server_gets_a_connection_of_its_successor() {
    let mut bench = Bench::new(Policy {
        away_wait: Some(Duration::from_millis(60_000)),
        ..policy()
    });
    bench.request(Class::First, at(0));
    bench.pool.dial_failed(s(0), at(1), 0, false);
    bench.request(Class::First, at(2));
    bench.effects();
    // Far longer than a connection is waited for.
    bench.pool.recycle(at(30_000));
    assert_eq!(bench.effects(), "dial s0 First, dial s1 First");
    bench.pool.handle_timeout(at(30_500));
    assert_eq!(bench.effects(), "");
    bench.pool.dialled(s(0), at(30_600), 0);
    bench.pool.dialled(s(1), at(30_600), 0);
    assert_eq!(bench.effects(), "grant s0 to r0, grant s1 to r1");
}
