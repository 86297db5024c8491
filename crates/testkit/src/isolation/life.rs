//! A client: one life after the other.

use super::Shared;
use super::model::{Model, Values};
use super::wire::{End, Wire};
use crate::random::Random;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Exchanges of one life.
const EXCHANGES_MAX: u64 = 24;
/// Where swept cuts begin again: beyond what most lives send.
const SWEEP_BYTES: u64 = 5_000;
/// Exchanges shown in a violation, and characters of each.
const TRACE_MAX: usize = 12;
const TRACE_LEN_MAX: usize = 80;

/// One connection with its model.
pub(super) struct Life<'a> {
    pub(super) shared: &'a Shared,
    pub(super) wire: Wire,
    pub(super) model: Model,
    /// No other life ever has this number.
    pub(super) id: u64,
    /// Transactions so far.
    pub(super) transactions: u64,
    pub(super) random: &'a mut Random,
    /// What it did last, for reports.
    pub(super) trace: Vec<String>,
}

/// Lives until the run is over.
pub(super) fn client(shared: &Shared, number: u64) {
    let seed = shared.options.seed.wrapping_mul(1_000_003).wrapping_add(number);
    let mut random = Random::new(seed);
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut life = 0;
    while shared.running() {
        life += 1;
        match live(shared, number, life, &mut random, &mut counts) {
            Ok(()) => _ = shared.ended.fetch_add(1, Ordering::Relaxed),
            Err(End::Killed) => _ = shared.killed.fetch_add(1, Ordering::Relaxed),
            Err(End::TurnedDown) => {
                shared.turned_down.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20 + random.below(200)));
            }
            Err(End::Violation(text)) => shared.violation(&text),
        }
    }
    shared.merge(counts);
}

fn live(
    shared: &Shared,
    number: u64,
    life: u64,
    random: &mut Random,
    counts: &mut BTreeMap<&'static str, u64>,
) -> Result<(), End> {
    let nonce = format!("n{}c{number}l{life}x", shared.options.seed);
    let start = start_values(shared, &nonce, random);
    let mut target = shared.options.target.clone();
    for (name, value) in &start {
        if let Some(value) = value
            && shared.defaults.values.get(name) != Some(&Some(value.clone()))
        {
            target = target.with_option(name, value);
        }
    }
    // Thousands of clients wait for a few servers, several times in one pipeline.
    let patience = Duration::from_millis(200 * shared.options.clients as u64);
    let wire = Wire::open(&target, patience, budget(shared, random))?;
    let mut life = Life {
        shared,
        wire,
        model: Model::new(nonce, start, &shared.defaults.user),
        id: number * 1_000_000 + life,
        transactions: 0,
        random,
        trace: Vec::new(),
    };
    let result = life.exchanges(counts);
    let Life {
        wire,
        model,
        trace,
        random,
        ..
    } = life;
    match result {
        Ok(()) => {
            wire.leave(random);
            Ok(())
        }
        Err(End::Violation(text)) => {
            let seed = shared.options.seed;
            let last = trace.join(" · ");
            Err(End::Violation(format!(
                "seed {seed}, client {number}, {}: {text}\n    after {last}",
                model.nonce
            )))
        }
        Err(other) => Err(other),
    }
}

/// Some lives ask for settings in their start-up packet; RESET goes back to those.
fn start_values(shared: &Shared, nonce: &str, random: &mut Random) -> Values {
    let mut start = shared.defaults.values.clone();
    if random.below(2) == 0 {
        start.insert("application_name", Some(format!("{nonce}start")));
    }
    if random.below(4) == 0 {
        start.insert("TimeZone", Some("Europe/Berlin".to_string()));
    }
    if random.below(4) == 0 {
        start.insert("DateStyle", Some("Postgres, DMY".to_string()));
    }
    if random.below(6) == 0 {
        start.insert("search_path", Some("iso_b, public".to_string()));
    }
    start
}

/// How many bytes a life may send after its login.
fn budget(shared: &Shared, random: &mut Random) -> Option<u64> {
    match random.below(4) {
        0 => Some(shared.sweep.fetch_add(1, Ordering::Relaxed) % SWEEP_BYTES),
        1 => Some(random.below(SWEEP_BYTES)),
        _ => None,
    }
}

impl Life<'_> {
    /// Notes what is done, for reports.
    pub(super) fn trace(&mut self, what: &str) {
        if self.trace.len() >= TRACE_MAX {
            self.trace.remove(0);
        }
        self.trace.push(what.chars().take(TRACE_LEN_MAX).collect());
    }

    fn exchanges(&mut self, counts: &mut BTreeMap<&'static str, u64>) -> Result<(), End> {
        for _ in 0..1 + self.random.below(EXCHANGES_MAX) {
            if !self.shared.running() {
                break;
            }
            let name = self.exchange()?;
            *counts.entry(name).or_default() += 1;
            self.at_rest()?;
        }
        // What follows is a word that the whole session is still its own.
        self.state()
    }

    fn exchange(&mut self) -> Result<&'static str, End> {
        type Step = fn(&mut Life<'_>) -> Result<(), End>;
        const STEPS: [(u64, &str, Step); 23] = [
            (6, "echo", |life| life.echo()),
            (4, "state", |life| life.state()),
            (4, "fresh", |life| life.fresh()),
            (6, "set", |life| life.set()),
            (3, "reset", |life| life.reset()),
            (1, "discard", |life| life.discard()),
            (3, "settings in a transaction", |life| life.set_in_transaction()),
            (2, "role", |life| life.role()),
            (5, "prepare", |life| life.prepare()),
            (6, "prepared", |life| life.prepared()),
            (1, "deallocate", |life| life.deallocate()),
            (1, "sql prepare", |life| life.sql_prepare()),
            (4, "pipelined", |life| life.pipelined()),
            (3, "partial", |life| life.partial()),
            (3, "portal", |life| life.portal()),
            (3, "error", |life| life.error()),
            (5, "transaction", |life| life.transaction()),
            (2, "copy", |life| life.copy()),
            (4, "own rows", |life| life.own_rows()),
            (2, "cancel", |life| life.cancel()),
            (1, "temp", |life| life.temp()),
            (2, "lock or listen", |life| life.lock_or_listen()),
            (2, "code not named", |life| life.unnamed()),
        ];
        let total: u64 = STEPS.iter().map(|(weight, ..)| weight).sum();
        let mut at = self.random.below(total);
        for (weight, name, step) in STEPS {
            if at < weight {
                self.trace(name);
                step(self)?;
                return Ok(name);
            }
            at -= weight;
        }
        Ok("none")
    }
}
