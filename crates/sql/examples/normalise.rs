//! Time of one normalisation, in nanoseconds: `cargo run --release -p sql --example normalise`.

use sql::{NormalisedBuf, normalise};
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: u32 = 2_000_000;

fn main() {
    let texts = [
        "SELECT abalance FROM pgbench_accounts WHERE aid = 12345",
        "UPDATE pgbench_accounts SET abalance = abalance + -1234 WHERE aid = 12345",
        "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 2, 3, 4, CURRENT_TIMESTAMP)",
    ];
    let mut buf = NormalisedBuf::default();
    for text in texts {
        let mut best = f64::MAX;
        for _ in 0..5 {
            let start = Instant::now();
            for _ in 0..ROUNDS / 5 {
                assert!(normalise(black_box(text), &mut buf, true));
                black_box(&buf);
            }
            best = best.min(start.elapsed().as_nanos() as f64 / f64::from(ROUNDS / 5));
        }
        println!("{best:7.1} ns  {text}");
    }
}
