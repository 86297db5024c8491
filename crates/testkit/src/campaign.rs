//! Everything this kit checks, against one cluster: the case files with placement checked after each, random
//! statements, and the hunt for leaks.

use crate::TestPostgres;
use crate::casefile::CaseFile;
use crate::client::{Client, Target};
use crate::leak::{LeakOptions, hunt};
use crate::oracle::{FileReport, Options, Oracle, Totals, random_cases, random_writes};
use crate::placement::{Layout, Shard, verify};
use std::time::Duration;

/// So many failures of random statements are made shorter.
const SHRUNK_MAX: usize = 5;

/// What to run.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// The proxy.
    pub drover: Target,
    /// Another proxy over the same cluster.
    pub second: Option<Target>,
    /// How to compare.
    pub options: Options,
    /// Seed and number of random SELECTs; 0 for none.
    pub random: (u64, u32),
    /// Seed and number of random statements that write; 0 for none.
    pub writes: (u64, u32),
    /// Whether to tell, file by file, which codes the cluster refused with.
    pub tell_refusals: bool,
    /// How long to hunt for leaks; zero for not at all.
    pub leak: Duration,
}

impl Campaign {
    /// All modes, 300 random statements, five seconds of leak hunting.
    pub fn new(drover: Target) -> Campaign {
        let options = Options::default();
        Campaign {
            drover,
            second: None,
            options,
            random: (1, 300),
            writes: (1, 0),
            tell_refusals: false,
            leak: Duration::from_secs(5),
        }
    }

    /// Runs it; `tell` hears of each part as it ends. The result is every failure, as text.
    pub fn run(&self, mut files: Vec<CaseFile>, mut tell: impl FnMut(&str)) -> Vec<String> {
        let (seed, count) = self.random;
        if count > 0 {
            files.push(random_cases(seed, count));
        }
        let (seed, count) = self.writes;
        if count > 0 {
            files.push(random_writes(seed, count));
        }
        let server = TestPostgres::shared();
        let plain = match Target::parse(&server.url(&server.create_database())) {
            Ok(target) => target,
            Err(error) => return vec![error.to_string()],
        };
        let mut oracle = Oracle::new(plain, self.drover.clone(), self.options.clone());
        if let Some(second) = &self.second {
            oracle = oracle.with_second_proxy(second.clone());
        }
        let mut failures = Vec::new();
        for file in files {
            match oracle.run(&file) {
                Ok(report) => {
                    failures.extend(told(&report, &mut tell));
                    failures.extend(shrunk(&mut oracle, &file, &report));
                    if self.tell_refusals {
                        tell_refusals(&report, &mut tell);
                    }
                }
                Err(error) => {
                    tell(&format!("{}: NOT RUN", file.name));
                    failures.push(format!("{}: {error}\n", file.name));
                }
            }
            failures.extend(
                misplaced(&self.drover)
                    .into_iter()
                    .map(|text| format!("{}: {text}\n", file.name)),
            );
        }
        failures.extend(self.hunt(&mut tell));
        failures
    }

    fn hunt(&self, tell: &mut impl FnMut(&str)) -> Vec<String> {
        if self.leak.is_zero() {
            return Vec::new();
        }
        let target = self.drover.clone();
        let options = LeakOptions {
            duration: self.leak,
            sharded: true,
            ..LeakOptions::new(target)
        };
        match hunt(&options) {
            Ok(report) => {
                tell(&format!(
                    "leak: {}",
                    report.to_string().lines().next().unwrap_or_default()
                ));
                report
                    .violations
                    .iter()
                    .map(|text| format!("leak: {text}\n"))
                    .collect()
            }
            Err(error) => vec![format!("leak: {error}\n")],
        }
    }
}

fn told(report: &FileReport, tell: &mut impl FnMut(&str)) -> Vec<String> {
    let totals: Totals = report.totals();
    tell(&format!("{}: {totals}", report.name));
    report
        .grouped_failures()
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// Shorter statements that fail as the first random ones did.
fn shrunk(oracle: &mut Oracle, file: &CaseFile, report: &FileReport) -> Vec<String> {
    if !file.name.starts_with("random-") {
        return Vec::new();
    }
    let failures = report.grouped_failures();
    let shorter = failures.iter().take(SHRUNK_MAX).filter_map(|case| {
        let sql = oracle.shrink(file, case)?;
        Some(format!(
            "{} as a case, over the tables of {}:\n{sql};\n",
            case.place, file.name
        ))
    });
    shorter.collect()
}

fn tell_refusals(report: &FileReport, tell: &mut impl FnMut(&str)) {
    for (code, count, sql) in report.refusals() {
        tell(&format!("  refused {count} × {code}, first: {sql}"));
    }
}

/// What is not where it belongs. The shards' primaries are reached with the proxy's own login.
pub fn misplaced(drover: &Target) -> Vec<String> {
    let layout = Client::open(drover).map_err(|error| error.to_string());
    let layout = layout.and_then(|mut client| Layout::read(&mut client).map_err(|error| error.to_string()));
    let layout = match layout {
        Ok(layout) => layout,
        Err(error) => return vec![format!("placement: {error}")],
    };
    let shard = |primary: &crate::placement::Primary| {
        let (host, port) = (primary.host.clone(), primary.port);
        let target = Target {
            host,
            port,
            options: Vec::new(),
            ..drover.clone()
        };
        Shard {
            name: primary.shard.clone(),
            target,
        }
    };
    let shards: Vec<Shard> = layout.primaries.iter().map(shard).collect();
    match verify(&layout, &shards) {
        Ok(findings) => findings
            .iter()
            .map(|finding| format!("placement: {finding}"))
            .collect(),
        Err(error) => vec![format!("placement: {error}")],
    }
}
