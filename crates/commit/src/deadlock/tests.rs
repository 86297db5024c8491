use super::*;

/// `(shard, waiter, blockers)`.
fn wait((shard, pid, blockers): (u32, u32, &[u32])) -> Wait {
    Wait {
        backend: (ShardId(shard), pid),
        since_us: i64::from(shard * 1000 + pid),
        blockers: blockers.to_vec(),
        lock: format!("ShareLock on transaction {pid}"),
    }
}

/// Numbered as they are given, each younger than the one before.
fn transactions(all: &[&[(u32, u32)]]) -> Vec<Transaction> {
    let one = |(number, backends): (usize, &&[(u32, u32)])| Transaction {
        id: ("a".to_owned(), number as u64),
        began_us: number as i64,
        can_be_cancelled: true,
        backends: backends
            .iter()
            .map(|(shard, pid)| (ShardId(*shard), *pid))
            .collect(),
    };
    all.iter().enumerate().map(one).collect()
}

/// The numbers of the victims.
fn victims(waits: &[(u32, u32, &[u32])], all: &[&[(u32, u32)]]) -> Vec<u64> {
    let waits: Vec<Wait> = waits.iter().map(|known| wait(*known)).collect();
    let transactions = transactions(all);
    let found = Graph::new(&waits, &transactions).deadlocks();
    found.into_iter().map(|deadlock| deadlock.victim.1).collect()
}

#[test]
fn a_circle_through_two_shards_costs_the_youngest() {
    let two: &[&[(u32, u32)]] = &[&[(1, 11), (2, 21)], &[(1, 12), (2, 22)]];
    assert_eq!(victims(&[(1, 12, &[11]), (2, 21, &[22])], two), [1]);
    // Through a session of one shard, which is no victim although it is the last to have come.
    assert_eq!(
        victims(&[(1, 12, &[13]), (1, 13, &[11]), (2, 21, &[22])], two),
        [1]
    );
    // One of them is not known to have two shards: the chain ends.
    assert_eq!(
        victims(&[(1, 12, &[11]), (2, 21, &[22])], &two[..1]),
        Vec::<u64>::new()
    );
    assert_eq!(victims(&[(1, 12, &[11])], two), Vec::<u64>::new());
    assert_eq!(victims(&[(1, 12, &[11]), (2, 22, &[21])], two), Vec::<u64>::new());
}

#[test]
fn a_circle_within_a_server_is_left_to_it() {
    let two: &[&[(u32, u32)]] = &[&[(1, 11), (2, 21)], &[(1, 12), (2, 22)]];
    assert_eq!(victims(&[(1, 12, &[11]), (1, 11, &[12])], two), Vec::<u64>::new());
    // Beside one that is not.
    assert_eq!(
        victims(&[(1, 12, &[11]), (1, 11, &[12]), (2, 21, &[22])], two),
        [1]
    );
}

#[test]
fn who_commits_is_no_victim() {
    let waits = [wait((1, 12, &[11])), wait((2, 21, &[22]))];
    let mut all = transactions(&[&[(1, 11), (2, 21)], &[(1, 12), (2, 22)]]);
    all[1].can_be_cancelled = false;
    let found = Graph::new(&waits, &all).deadlocks();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].victim.1, 0);
    all[0].can_be_cancelled = false;
    assert!(Graph::new(&waits, &all).deadlocks().is_empty());
}

#[test]
fn a_transaction_can_be_in_its_own_way() {
    // Two backends of one transaction on one server, which takes them for strangers.
    let one: &[&[(u32, u32)]] = &[&[(1, 11), (1, 12), (2, 21)]];
    assert_eq!(victims(&[(1, 12, &[11])], one), [0]);
}

#[test]
fn circles_apart_have_victims_of_their_own_and_queues_have_none() {
    let all: &[&[(u32, u32)]] = &[
        &[(1, 11), (2, 21)],
        &[(1, 12), (2, 22)],
        &[(1, 13), (2, 23)],
        &[(1, 14), (2, 24)],
        &[(1, 15), (2, 25)],
    ];
    let mut waits: Vec<(u32, u32, &[u32])> = vec![
        (1, 12, &[11]),
        (2, 21, &[22]),
        (1, 14, &[13]),
        (2, 23, &[24]),
        // In the queue behind the first circle.
        (1, 15, &[11, 12]),
    ];
    assert_eq!(victims(&waits, all), [3, 1]);
    waits.truncate(2);
    waits.push((1, 15, &[11, 12]));
    assert_eq!(victims(&waits, all), [1]);
}

#[test]
fn a_circle_counts_only_while_nobody_in_it_has_moved() {
    let all = transactions(&[&[(1, 11), (2, 21)], &[(1, 12), (2, 22)]]);
    let waits = [wait((1, 12, &[11])), wait((2, 21, &[22]))];
    let found = Graph::new(&waits, &all).deadlocks();
    let [deadlock] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(
        deadlock.detail(|shard| format!("shard_{}", shard.0)),
        "Process 12 of shard_1 waits for ShareLock on transaction 12; blocked by process 11.\n\
         Process 21 of shard_2 waits for ShareLock on transaction 21; blocked by process 22."
    );
    assert!(Graph::new(&waits, &all).confirms(deadlock));
    // It waits again, for the same.
    let mut again = waits.clone();
    again[1].since_us += 1;
    assert!(!Graph::new(&again, &all).confirms(deadlock));
    // For another.
    let mut other = waits.clone();
    other[1].blockers = vec![23];
    assert!(!Graph::new(&other, &all).confirms(deadlock));
    // The backend works for another transaction now.
    let mut lent = all.clone();
    lent[0].id.1 = 7;
    assert!(!Graph::new(&waits, &lent).confirms(deadlock));
    assert!(!Graph::new(&waits[..1], &all).confirms(deadlock));
}

/// Random graphs against a plain search for any circle.
#[test]
fn victims_break_every_circle_that_no_server_sees() {
    let mut seed = 7_u64;
    let mut random = move |below: u32| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % u64::from(below)) as u32
    };
    let mut with_victims = 0;
    for _ in 0..3000 {
        let (shards, count) = (1 + random(3), 2 + random(5));
        let all: Vec<Vec<(u32, u32)>> = (0..count)
            .map(|number| {
                let on = |shard: &u32| number % 2 == 0 || shard % 2 == number % 3;
                (0..shards)
                    .filter(on)
                    .map(|shard| (shard, 100 + number))
                    .collect()
            })
            .collect();
        let borrowed: Vec<&[(u32, u32)]> = all.iter().map(Vec::as_slice).collect();
        let transactions = transactions(&borrowed);
        let mut waits: Vec<Wait> = Vec::new();
        for shard in 0..shards {
            for number in 0..count {
                if random(3) == 0 {
                    let blockers: Vec<u32> = (0..count)
                        .filter(|other| *other != number && random(4) == 0)
                        .map(|other| 100 + other)
                        .collect();
                    waits.push(wait((shard, 100 + number, &blockers)));
                }
            }
        }
        let graph = Graph::new(&waits, &transactions);
        let found = graph.deadlocks();
        assert_eq!(found, Graph::new(&waits, &transactions).deadlocks());
        with_victims += usize::from(!found.is_empty());
        let cancelled = |backend: Backend| {
            let owner = graph.owner(backend);
            owner.is_some_and(|id| found.iter().any(|deadlock| deadlock.victim == *id))
        };
        for deadlock in &found {
            assert!(graph.confirms(deadlock));
            let first = &deadlock.edges[0];
            assert_eq!(first.transaction.as_ref(), Some(&deadlock.victim));
            for (edge, next) in deadlock.edges.iter().zip(deadlock.edges.iter().cycle().skip(1)) {
                let blocker = (edge.waiter.0, edge.blocker);
                assert_eq!(graph.node(blocker), graph.node(next.waiter), "{deadlock:?}");
            }
        }
        // Without the victims, and the waits that are within a server, what is left has no circle that crosses servers:
        // every circle of transactions that is left is one of backends.
        let left: Vec<Wait> = waits
            .iter()
            .filter(|wait| !cancelled(wait.backend))
            .cloned()
            .collect();
        let left: Vec<Wait> = left
            .into_iter()
            .map(|mut wait| {
                wait.blockers.retain(|pid| !cancelled((wait.backend.0, *pid)));
                wait
            })
            .collect();
        let again = Graph::new(&left, &transactions).deadlocks();
        assert!(again.is_empty(), "{waits:?}: {found:?}, then {again:?}");
    }
    assert!(with_victims > 100, "{with_victims}");
}
