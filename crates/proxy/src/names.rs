//! Names of servers: which addresses they have, and what was found last.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Addresses of a name, when they are known.
pub type Found<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Looks names up. The system's resolver, unless somebody knows better.
pub trait Lookup: Send + Sync {
    /// The addresses of a host.
    fn addresses<'a>(&'a self, host: &'a str, port: u16) -> Found<'a>;
}

struct System;

impl Lookup for System {
    fn addresses<'a>(&'a self, host: &'a str, port: u16) -> Found<'a> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// What is known of the servers' names.
pub struct Names {
    lookup: OnceLock<Arc<dyn Lookup>>,
    known: Mutex<BTreeMap<(String, u16), Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    addresses: BTreeSet<IpAddr>,
    at: Instant,
}

/// A name as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameRow {
    /// The name.
    pub host: String,
    /// Time since it was looked up.
    pub age: Duration,
    /// What it stood for.
    pub addresses: BTreeSet<IpAddr>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            lookup: OnceLock::new(),
            known: Mutex::default(),
        }
    }
}

impl Names {
    /// Asks somebody else than the system. Only the first call counts.
    pub fn set_lookup(&self, lookup: Arc<dyn Lookup>) {
        let _ = self.lookup.set(lookup);
    }

    /// Looks a host up. True: addresses it had before are gone. A lookup that fails says nothing about the server.
    pub async fn look(&self, host: &str, port: u16) -> bool {
        if !is_name(host) {
            return false;
        }
        let found = match self.lookup.get() {
            Some(lookup) => lookup.addresses(host, port).await,
            None => System.addresses(host, port).await,
        };
        let Ok(found) = found else { return false };
        let found: BTreeSet<IpAddr> = found.into_iter().map(|address| address.ip()).collect();
        let now = Known {
            addresses: found.clone(),
            at: Instant::now(),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.insert((host.to_owned(), port), now);
        moved(before.as_ref().map(|before| &before.addresses), &found)
    }

    /// Forgets names that no server has any more.
    pub fn keep(&self, used: &[(String, u16)]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|name, _| used.contains(name));
    }

    /// What was found last.
    #[must_use]
    pub fn rows(&self) -> Vec<NameRow> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows: Vec<NameRow> = Vec::new();
        for ((host, _), known) in known.iter() {
            match rows.last_mut().filter(|row| row.host == *host) {
                Some(row) => {
                    row.addresses.extend(&known.addresses);
                    row.age = row.age.max(known.at.elapsed());
                }
                None => rows.push(NameRow {
                    host: host.clone(),
                    age: known.at.elapsed(),
                    addresses: known.addresses.clone(),
                }),
            }
        }
        rows
    }
}

/// Addresses were known, and none or not all of them are left. A new one beside them concerns new connections only.
fn moved(before: Option<&BTreeSet<IpAddr>>, now: &BTreeSet<IpAddr>) -> bool {
    before.is_some_and(|before| !now.is_empty() && !before.is_subset(now))
}

fn is_name(host: &str) -> bool {
    !host.starts_with('/') && host.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_moved_when_an_address_is_gone() {
        let set = |list: &[[u8; 4]]| {
            list.iter()
                .map(|bytes| IpAddr::from(*bytes))
                .collect::<BTreeSet<_>>()
        };
        let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        assert!(!moved(None, &set(&[a])), "nothing is known yet");
        assert!(!moved(Some(&set(&[a])), &set(&[a, b])), "one more");
        assert!(!moved(Some(&set(&[a, b])), &set(&[b, a])), "in another order");
        assert!(moved(Some(&set(&[a, b])), &set(&[b])));
        assert!(moved(Some(&set(&[a])), &set(&[b])));
        assert!(!moved(Some(&set(&[a])), &set(&[])), "no answer is no move");
    }

    #[test]
    fn only_names_are_looked_up() {
        assert!(is_name("db1.example.com") && is_name("localhost"));
        assert!(!is_name("127.0.0.1") && !is_name("::1") && !is_name("/run/postgresql"));
    }
}
