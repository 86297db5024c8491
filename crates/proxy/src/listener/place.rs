//! Which worker a new client goes to.
//!
//! A worker that serves several clients at a time finds several of them ready each time it asks the system, and goes to
//! sleep seldom. The same clients spread over many workers cost up to half as much CPU again. So clients are packed: the
//! first worker takes them until it has its share or its thread is busy, then the next one. Once every worker has its
//! share, the one with the fewest clients is next.
//!
//! A client stays where it is: clients that connect while nothing is busy and become busy later are spread by number
//! only.

use std::sync::atomic::Ordering;

use crate::worker::Shared;

/// A worker whose thread was busier than this, in thousandths of a core, gets no client as long as another is not.
const BUSY_MAX: u32 = 700;

/// The worker for the next client.
pub(super) fn choose(shared: &Shared) -> usize {
    let clients = shared.loads.iter().map(|load| load.load(Ordering::Relaxed));
    let busy = shared.busy.iter().map(|busy| busy.load(Ordering::Relaxed));
    place(clients.zip(busy), shared.config.clients_per_worker.max(1))
}

/// `workers` says of each how many clients it has and how busy it is.
fn place(workers: impl Iterator<Item = (usize, u32)> + Clone, share: usize) -> usize {
    let free = |(_, (clients, busy)): &(usize, (usize, u32))| *clients < share && *busy < BUSY_MAX;
    let emptiest = || {
        workers
            .clone()
            .enumerate()
            .min_by_key(|(_, (clients, _))| *clients)
    };
    workers
        .clone()
        .enumerate()
        .find(free)
        .or_else(emptiest)
        .map_or(0, |(worker, _)| worker)
}

#[cfg(test)]
mod tests {
    use super::place;

    fn check(workers: &[(usize, u32)], expect: usize) {
        assert_eq!(place(workers.iter().copied(), 10), expect, "{workers:?}");
    }

    #[test]
    fn a_worker_is_filled_before_the_next_one_is_used() {
        check(&[(0, 0), (0, 0)], 0);
        check(&[(9, 0), (0, 0)], 0);
        check(&[(10, 0), (0, 0)], 1);
        check(&[(10, 0), (10, 0), (9, 0)], 2);
        check(&[(8, 0), (10, 0)], 0);
    }

    #[test]
    fn full_workers_get_the_same_number() {
        check(&[(12, 0), (11, 0)], 1);
        check(&[(11, 0), (11, 0)], 0);
    }

    #[test]
    fn a_busy_worker_is_passed_over_unless_all_are() {
        check(&[(3, 700), (0, 0)], 1);
        check(&[(3, 699), (0, 0)], 0);
        check(&[(3, 900), (1, 900)], 1);
        check(&[], 0);
    }
}
