//! Figures per database and user, as consoles show them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Counter;

/// Pairs of database and user counted apart, per worker; further ones share the pair of empty names.
const PAIRS_MAX: usize = 10_000;

macro_rules! totals {
    ($( $(#[$doc:meta])* $field:ident; )*) => {
        /// What one worker counts for the sessions of one database and user. Only that worker writes.
        #[derive(Debug, Default)]
        pub struct PoolCounters {
            $( $(#[$doc])* pub $field: Counter, )*
        }

        /// The same figures, added up over workers.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct PoolTotals {
            $( $(#[$doc])* pub $field: u64, )*
        }

        impl PoolTotals {
            fn add(&mut self, counters: &PoolCounters) {
                $( self.$field = self.$field.wrapping_add(counters.$field.get()); )*
            }
        }

        impl std::ops::AddAssign for PoolTotals {
            fn add_assign(&mut self, other: Self) {
                $( self.$field = self.$field.wrapping_add(other.$field); )*
            }
        }
    };
}

totals! {
    /// Server connections taken from a pool.
    server_assignment_count;
    /// Transactions finished, statements outside a block included.
    xact_count;
    /// Requests finished that ran at least one statement.
    query_count;
    /// Bytes received from clients.
    bytes_received;
    /// Bytes sent to clients.
    bytes_sent;
    /// Time from a transaction's first request to its end, in microseconds.
    xact_time_us;
    /// Time requests took, in microseconds.
    query_time_us;
    /// Time requests waited for a server connection, in microseconds.
    wait_time_us;
    /// Parse messages of clients.
    client_parse_count;
    /// Parse messages sent to servers.
    server_parse_count;
    /// Bind messages of clients.
    bind_count;
    /// Logins that succeeded.
    client_login_count;
}

type Pair = (Arc<str>, Arc<str>);

/// One worker's counters by database and user.
#[derive(Debug, Default)]
pub struct WorkerTotals {
    pairs: Mutex<BTreeMap<Pair, Arc<PoolCounters>>>,
}

impl WorkerTotals {
    /// The counters for a session of this database and user, asked for once per session.
    pub fn of(&self, database: &Arc<str>, user: &Arc<str>) -> Arc<PoolCounters> {
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pair = (Arc::clone(database), Arc::clone(user));
        if pairs.len() >= PAIRS_MAX && !pairs.contains_key(&pair) {
            pair = (Arc::from(""), Arc::from(""));
        }
        Arc::clone(pairs.entry(pair).or_default())
    }

    /// Adds this worker's figures to `sums`.
    pub(super) fn add_to(&self, sums: &mut BTreeMap<Pair, PoolTotals>) {
        let pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        for (pair, counters) in pairs.iter() {
            sums.entry(pair.clone()).or_default().add(counters);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_beyond_the_bound_share_one() {
        let totals = WorkerTotals::default();
        let database: Arc<str> = Arc::from("d");
        for user in 0..PAIRS_MAX + 5 {
            totals
                .of(&database, &Arc::from(user.to_string()))
                .xact_count
                .increment();
        }
        totals.of(&database, &Arc::from("7")).xact_count.increment();
        let mut sums = BTreeMap::new();
        totals.add_to(&mut sums);
        assert_eq!(sums.len(), PAIRS_MAX + 1);
        assert_eq!(sums[&(Arc::from(""), Arc::from(""))].xact_count, 5);
        assert_eq!(sums[&(Arc::from("d"), Arc::from("7"))].xact_count, 2);
    }
}
