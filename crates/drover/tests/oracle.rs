//! Every case file and a few hundred random statements, on one PostgreSQL and on `drover dev` with two shards: the two
//! agree, or Drover refuses, and every row ends up where it belongs.
//!
//! This is the part of the matrix that fits into every test run. CONTRIBUTING.md has the command for all of it.

// Only clippy's setting for unit tests covers unwrap; in these helpers it is as good as an assertion.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;
use testkit::campaign::Campaign;
use testkit::casefile::{CaseFile, Spread};
use testkit::dev::DroverDev;
use testkit::oracle::{Mode, Protocol};

/// Both protocols, both formats, with and without transactions around the statements.
const MODES: [Mode; 2] = [
    Mode {
        protocol: Protocol::Simple,
        transaction: false,
    },
    Mode {
        protocol: Protocol::ExtendedBinary,
        transaction: true,
    },
];
const SHARDS: u16 = 2;
const RANDOM_SEED: u64 = 20;
const RANDOM_COUNT: u32 = 200;
/// The files are shared out among this many clusters, so that the tests run side by side.
const PARTS: usize = 2;

fn case_files(spread: Spread) -> Vec<CaseFile> {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases");
    let files = CaseFile::read_folder(&folder).unwrap();
    assert!(files.len() > 10, "no cases in {}", folder.display());
    let spread = files.into_iter().map(|file| file.spread(spread, &folder));
    spread.filter_map(Result::unwrap).collect()
}

/// Runs the files and so many random statements; the failures, as text.
fn failures_of(files: Vec<CaseFile>, modes: &[Mode], random: u32) -> Vec<String> {
    let drover = DroverDev::start(Path::new(env!("CARGO_BIN_EXE_drover")), SHARDS, 0).unwrap();
    let mut campaign = Campaign::new(drover.target().clone());
    campaign.options.modes = modes.to_vec();
    campaign.random = (RANDOM_SEED, random);
    campaign.leak = Duration::ZERO;
    campaign.run(files, |line| println!("{line}"))
}

/// The same of every `PARTS`th file.
fn failures(part: usize, random: u32) -> Vec<String> {
    let files = case_files(Spread::Written);
    failures_of(
        files.into_iter().skip(part).step_by(PARTS).collect(),
        &MODES,
        random,
    )
}

#[test]
fn one_half_of_the_cases_agrees_with_postgresql() {
    let failures = failures(0, 0);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_other_half_and_random_statements_agree_with_postgresql() {
    let failures = failures(1, RANDOM_COUNT);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn rows_that_are_all_on_one_of_several_shards_give_the_same_answers() {
    let failures = failures_of(case_files(Spread::OneShard), &MODES[..1], 0);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn rows_without_a_key_give_the_same_answers() {
    let files = case_files(Spread::NullKeys);
    assert!(files.len() > 5);
    let failures = failures_of(files, &MODES[..1], 0);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
