//! `drover simulate`: what each sharding scheme would make of keys.
//!
//! Keys come from a distribution, or from a column of real data as `COPY … TO STDOUT` or a CSV file gives it. The report has
//! every scheme side by side: rows per shard, skew, and what part of the rows moves when shards are added.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use catalog::{KeyError, KeyShape, KeyType, SUB_KEYS_MAX, Salt, ShardMapError};
use clap::{Args, ValueEnum};

mod distribution;
mod input;
mod keys;
mod report;
mod schemes;
#[cfg(test)]
mod tests;

use keys::Keys;

/// How often the progress line is written.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// How the keys of rows are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Distribution {
    /// One row per key, keys counted up
    Sequential,
    /// Each row has any of the keys
    Uniform,
    /// The n-th key has a share of 1/n^s of the rows: few keys have most
    Zipf,
}

/// Arguments of `drover simulate`.
#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    /// Shards at first
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub shards: u32,
    /// Shards added then
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1024))]
    pub add: u32,
    /// Type of the key: bigint, text, uuid, date, timestamptz, numeric …; of a key of several columns one each: bigint,text
    #[arg(long = "type", value_name = "TYPE", default_value = "bigint", value_parser = key_shape)]
    pub shape: KeyShape,
    /// A key that has a place of its own under every scheme, as KEY=SHARD with the number of a shard; may be repeated
    #[arg(long, value_name = "KEY=SHARD", value_parser = pin)]
    pub pin: Vec<Pin>,
    /// Also shows the rows of each key spread over so many sub-keys (a power of two), as evenly as a primary key does it
    #[arg(long, value_name = "N", value_parser = sub_keys)]
    pub salt: Option<u32>,
    /// Make up keys like this
    #[arg(long, value_enum, default_value_t = Distribution::Sequential, conflicts_with = "input")]
    pub distribution: Distribution,
    /// Rows to make up
    #[arg(long, value_name = "N", default_value_t = 1_000_000, conflicts_with = "input",
          value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    pub rows: u64,
    /// Different keys to make them of; as many as rows if left out, at most 10,000,000
    #[arg(long, value_name = "N", conflicts_with = "input", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub keys: Option<u64>,
    /// The s of zipf
    #[arg(long, value_name = "S", default_value_t = 1.0, conflicts_with = "input")]
    pub exponent: f64,
    /// Makes up the same keys again
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "input")]
    pub seed: u64,
    /// Read keys from this file, `-` for standard input, in the format of COPY
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// The input is CSV
    #[arg(long, requires = "input")]
    pub csv: bool,
    /// Which column has the key: its number from 1, or its name in the first line; of a key of several columns one each: 2,5
    #[arg(long, value_name = "COLUMN", default_value = "1", requires = "input")]
    pub column: String,
    /// The report as JSON
    #[arg(long)]
    pub json: bool,
}

fn sub_keys(text: &str) -> Result<u32, String> {
    let number = text.parse().ok();
    let number = number.filter(|number| Salt::new(1, *number).is_some());
    number.ok_or_else(|| format!("a power of two from 2 to {SUB_KEYS_MAX}"))
}

/// A key with a place of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The key as PostgreSQL prints it.
    pub key: String,
    /// Its shard, from 1.
    pub shard: u32,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The input cannot be read.
    #[error("cannot read {name}: {error}")]
    Read {
        /// What.
        name: String,
        /// Why.
        error: std::io::Error,
    },
    /// It is not what COPY writes.
    #[error("{name}: {error}")]
    Format {
        /// What.
        name: String,
        /// Why.
        error: wire::copy::CopyError,
    },
    /// The first line has no such column.
    #[error("the first line has no column \"{0}\"")]
    Column(String),
    /// There was no key in it.
    #[error("there are no rows to look at ({0} could not be read as the type of the key)")]
    Empty(u64),
    /// Keys of this type are not made up.
    #[error("keys of type {0} cannot be made up: use --type bigint, text or uuid, or --input")]
    MadeUp(&'static str),
    /// There are not as many columns as types.
    #[error("the key has {types} columns by --type and {columns} by --column")]
    Columns {
        /// Types.
        types: usize,
        /// Columns.
        columns: usize,
    },
    /// A pin is not one.
    #[error("--pin {key}={shard}: {why}")]
    Pin {
        /// The key.
        key: String,
        /// The shard.
        shard: u32,
        /// Why.
        why: String,
    },
    /// The exponent is no number that makes sense.
    #[error("--exponent must be from 0 to 20")]
    Exponent,
    /// A map cannot be made.
    #[error(transparent)]
    Map(#[from] ShardMapError),
}

/// Names as SQL and as `pg_type` have them.
fn key_type(name: &str) -> Result<KeyType, String> {
    let name = name.trim().to_ascii_lowercase();
    let known = match name.as_str() {
        "smallint" => Some(KeyType::Int2),
        "int" | "integer" => Some(KeyType::Int4),
        "bigint" => Some(KeyType::Int8),
        "character varying" => Some(KeyType::Varchar),
        "char" | "character" => Some(KeyType::Bpchar),
        "boolean" => Some(KeyType::Bool),
        "real" => Some(KeyType::Float4),
        "double precision" => Some(KeyType::Float8),
        "decimal" => Some(KeyType::Numeric),
        other => KeyType::named(other),
    };
    known.ok_or_else(|| {
        let all: Vec<&str> = KeyType::ALL.iter().map(|known| known.name()).collect();
        format!("keys can be {}", all.join(", "))
    })
}

/// The types of the columns of a key, separated by commas.
fn key_shape(names: &str) -> Result<KeyShape, String> {
    let types: Vec<KeyType> = names.split(',').map(key_type).collect::<Result<_, _>>()?;
    KeyShape::new(types).map_err(|error| error.to_string())
}

/// The key may contain `=`, the number does not.
fn pin(text: &str) -> Result<Pin, String> {
    let parts = text.rsplit_once('=');
    let parts = parts.and_then(|(key, shard)| Some((key, shard.trim().parse().ok()?)));
    let (key, shard) = parts.ok_or("a pin is written KEY=SHARD, with the number of a shard: acme=2")?;
    Ok(Pin {
        key: key.to_owned(),
        shard,
    })
}

/// `drover simulate`: the report on standard output, progress and errors on standard error.
pub fn run(args: &SimulateArgs) -> ExitCode {
    let (text, code) = match simulate(args) {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "drover: {error}");
            return match error {
                SimulateError::MadeUp(_)
                | SimulateError::Exponent
                | SimulateError::Columns { .. }
                | SimulateError::Pin { .. } => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            };
        }
    };
    // Nobody may be reading any more.
    let _ = std::io::stdout().write_all(text.as_bytes());
    code
}

fn simulate(args: &SimulateArgs) -> Result<String, SimulateError> {
    let pins = pins(args)?;
    let mut progress = Progress::new(std::io::stderr().is_terminal());
    let keys = match &args.input {
        Some(path) => input::read(path, args.csv, &args.column, &args.shape, &mut progress)?,
        None => distribution::make(args, &mut progress)?,
    };
    progress.finish();
    let outcomes = schemes::all(&keys, args, &pins)?;
    Ok(match args.json {
        true => report::json(args, &keys, &outcomes),
        false => report::text(args, &keys, &outcomes),
    })
}

/// The pinned keys, with the places of their shards.
fn pins(args: &SimulateArgs) -> Result<schemes::Pins, SimulateError> {
    let read = |pin: &Pin| {
        let wrong = |why: String| SimulateError::Pin {
            key: pin.key.clone(),
            shard: pin.shard,
            why,
        };
        if !(1..=args.shards).contains(&pin.shard) {
            return Err(wrong(format!("shards are numbered from 1 to {}", args.shards)));
        }
        let key = args.shape.from_text(pin.key.as_bytes());
        let key = key.map_err(|error: KeyError| wrong(error.to_string()))?;
        Ok((key, pin.shard as usize - 1))
    };
    args.pin.iter().map(read).collect()
}

/// A line on standard error about how far the reading is, once a second.
pub(crate) struct Progress {
    start: Instant,
    next: Duration,
    /// The line is written over; otherwise each is a line of its own.
    terminal: bool,
    written: bool,
}

impl Progress {
    fn new(terminal: bool) -> Progress {
        Progress {
            start: Instant::now(),
            next: PROGRESS_EVERY,
            terminal,
            written: false,
        }
    }

    /// `rows` so far; `done` of `all` says how far that is, in any unit.
    fn tick(&mut self, rows: u64, done: u64, all: Option<u64>) {
        let elapsed = self.start.elapsed();
        if elapsed < self.next {
            return;
        }
        self.next = elapsed + PROGRESS_EVERY;
        let line = progress_line(rows, elapsed, done, all);
        let mut out = std::io::stderr();
        let _ = match self.terminal {
            true => write!(out, "\r{line}\x1b[K"),
            false => writeln!(out, "{line}"),
        };
        self.written = true;
    }

    fn finish(&mut self) {
        if self.written && self.terminal {
            let _ = writeln!(std::io::stderr());
        }
    }
}

/// What the line says: rows, rate, and when the end is known, the part done and the time left.
fn progress_line(rows: u64, elapsed: Duration, done: u64, all: Option<u64>) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let mut line = format!(
        "{} rows, {} per second",
        report::number(rows),
        report::number((rows as f64 / seconds) as u64)
    );
    if let Some(all) = all.filter(|all| *all > 0) {
        let part = (done as f64 / all as f64).min(1.0);
        line += &format!(", {:.0} %", part * 100.0);
        if part > 0.0 {
            let left = seconds / part - seconds;
            line += &format!(", about {left:.0} s left");
        }
    }
    line
}
