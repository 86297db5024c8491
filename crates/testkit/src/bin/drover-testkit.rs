//! The test kit on the command line: compare, check placement, hunt for leaks.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use testkit::TestCluster;
use testkit::campaign::Campaign;
use testkit::casefile::{CaseFile, Spread};
use testkit::chaos::{self, Blow, ChaosOptions};
use testkit::client::{Client, Target};
use testkit::dev::DroverDev;
use testkit::disturb::{self, DisturbOptions, Disturbance};
use testkit::failover::{FailoverOptions, Loss};
use testkit::isolation::{self, IsolationOptions};
use testkit::leak::{LeakOptions, hunt};
use testkit::oracle::{Mode, Options, Oracle, Outcome, Totals, random_cases};
use testkit::placement::{Layout, Shard, verify};

const USAGE: &str = "usage:
  drover-testkit oracle --oracle URL --drover URL [--second URL] [--plain] [--strict] [--minor] [--modes simple,text-tx,…]
                        [--filter TEXT] [--max-shown N] [--random SEED:COUNT] FILE-OR-FOLDER…
      runs case files on both; --second: another proxy over the same cluster takes turns; --plain: both are plain servers (checks the cases themselves).
      Both databases are emptied.
  drover-testkit placement --drover URL [--login USER:PASSWORD]
      checks that every row is on the shard its key belongs to. Asks the shards directly, at the addresses in
      drover.shards, with the URL's own user and password unless --login names others.
  drover-testkit leak --target URL [--seed N] [--seconds N] [--victims N] [--checkers N] [--sharded]
      cuts clients off at random bytes and watches whether others see anything of them.
  drover-testkit isolation (--target URL [--role NAME] | --binary PATH [--shards N] [--pool N])
                        [--clients N] [--seconds N] [--seed N] [--sharded]
      many clients whose every value is their own; nobody may see another's. --binary starts a cluster and a proxy with a
      small pool; --role is a role the user may SET ROLE to. A run that fails shows its seed.
  drover-testkit failover --binary PATH [--rounds N] [--shards N] [--losses planned,killed,stopped] [--writers N]
      promotes replicas of one shard under load, so many times in each way, and says what clients saw of it.
  drover-testkit disturb --binary PATH [--rounds N] [--shards N] [--replicas N] [--rate N] [--clients N] [--seconds N]
                        [--kinds quiet,killed,stopped,restarted,slow] [--config TOML]
      reads at a fixed rate while each replica of a shard is disturbed in each way, and says what clients saw of it.
  drover-testkit chaos --binary PATH [--kills N] [--seed N] [--writers N] [--shards N] [--blows killproxy,cut,…]
                        [--points Decide,Prepared,…] [--mutant NAME] [--promote]
      transfers over shards while proxies and servers are killed, stopped and cut off at the points of the commit protocol and at
      random; says what was half there, or not as clients were told. A debug build of drover only. --mutant breaks the protocol.
      --promote gives every shard two synchronous replicas, and kills the first one's primary, whose place a replica takes.
  drover-testkit all --binary PATH [--shards 1,2,4] [--modes …] [--random SEED:COUNT] [--writes SEED:COUNT] [--leak SECONDS]
                        [--spread written|one-shard|null-keys] [--refusals] FILE-OR-FOLDER…
      for each number of shards: starts that drover as `drover dev` and a plain PostgreSQL, then all of the above.
      --random: SELECTs, --writes: statements that write; --refusals: which codes were refused how often.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((verb, rest)) if verb == "oracle" => oracle(rest),
        Some((verb, rest)) if verb == "placement" => placement(rest),
        Some((verb, rest)) if verb == "leak" => leak(rest),
        Some((verb, rest)) if verb == "isolation" => isolation(rest),
        Some((verb, rest)) if verb == "failover" => failover(rest),
        Some((verb, rest)) if verb == "disturb" => disturb(rest),
        Some((verb, rest)) if verb == "chaos" => chaos(rest),
        Some((verb, rest)) if verb == "all" => all(rest),
        _ => Err(Failure::Usage(String::new())),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(Failure::Run(text)) => {
            eprintln!("{text}");
            ExitCode::from(1)
        }
        Err(Failure::Usage(text)) => {
            eprintln!("{text}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

enum Failure {
    Usage(String),
    Run(String),
}

fn run_error(error: impl std::fmt::Display) -> Failure {
    Failure::Run(error.to_string())
}

/// `--name value` and `--flag` arguments, and the rest.
struct Arguments {
    named: Vec<(String, String)>,
    rest: Vec<String>,
}

impl Arguments {
    fn parse(list: &[String], flags: &[&str], values: &[&str]) -> Result<Arguments, Failure> {
        let mut parsed = Arguments {
            named: Vec::new(),
            rest: Vec::new(),
        };
        let mut list = list.iter();
        while let Some(argument) = list.next() {
            if flags.contains(&argument.as_str()) {
                parsed.named.push((argument.clone(), String::new()));
            } else if values.contains(&argument.as_str()) {
                let value = list
                    .next()
                    .ok_or_else(|| Failure::Usage(format!("{argument} needs a value")))?;
                parsed.named.push((argument.clone(), value.clone()));
            } else if argument.starts_with("--") {
                return Err(Failure::Usage(format!("unknown option {argument}")));
            } else {
                parsed.rest.push(argument.clone());
            }
        }
        Ok(parsed)
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.named
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    fn target(&self, name: &str) -> Result<Target, Failure> {
        let url = self
            .value(name)
            .ok_or_else(|| Failure::Usage(format!("{name} is missing")))?;
        Target::parse(url).map_err(|error| Failure::Usage(error.to_string()))
    }

    fn number(&self, name: &str, default: u64) -> Result<u64, Failure> {
        let bad = |_| Failure::Usage(format!("{name} needs a number"));
        self.value(name)
            .map_or(Ok(default), |text| text.parse().map_err(bad))
    }
}

fn chaos(list: &[String]) -> Result<bool, Failure> {
    let values = [
        "--binary",
        "--kills",
        "--seed",
        "--writers",
        "--shards",
        "--blows",
        "--points",
        "--mutant",
    ];
    let arguments = Arguments::parse(list, &["--promote"], &values)?;
    let binary = arguments
        .value("--binary")
        .ok_or_else(|| Failure::Usage("--binary is missing".to_owned()))?;
    let small = |name: &str, default| {
        let number = arguments.number(name, default)?;
        u32::try_from(number).map_err(|_| Failure::Usage(format!("{name} is too large")))
    };
    let list = |name: &str| {
        let words = arguments.value(name).into_iter().flat_map(|text| text.split(','));
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    let unknown = |name: &String| Failure::Usage(format!("there is no {name}"));
    let blows = list("--blows");
    let blows = blows
        .iter()
        .map(|name| Blow::parse(name).ok_or_else(|| unknown(name)));
    let points = list("--points");
    if let Some(name) = points.iter().find(|name| !chaos::POINTS.contains(&name.as_str())) {
        return Err(unknown(name));
    }
    let options = ChaosOptions {
        kills: small("--kills", 100)?,
        seed: arguments.number("--seed", 1)?,
        writers: small("--writers", 16)?,
        shards: u16::try_from(small("--shards", 4)?).map_err(run_error)?,
        blows: blows.collect::<Result<_, _>>()?,
        points,
        mutant: arguments.value("--mutant").map(str::to_owned),
        promote: arguments.has("--promote"),
        progress: true,
    };
    let report = chaos::run(Path::new(binary), &options);
    println!("{}", report.text());
    Ok(report.wrong.is_empty())
}

fn failover(list: &[String]) -> Result<bool, Failure> {
    let values = ["--binary", "--rounds", "--shards", "--losses", "--writers"];
    let arguments = Arguments::parse(list, &[], &values)?;
    let binary = arguments
        .value("--binary")
        .ok_or_else(|| Failure::Usage("--binary is missing".to_owned()))?;
    let losses = arguments.value("--losses").unwrap_or("planned,killed,stopped");
    let losses = losses.split(',').map(|loss| match loss {
        "planned" => Ok(Loss::Planned),
        "killed" => Ok(Loss::Killed),
        "stopped" => Ok(Loss::Stopped),
        other => Err(Failure::Usage(format!("a primary is not lost by being {other}"))),
    });
    let small = |name: &str, default| {
        let number = arguments.number(name, default)?;
        u32::try_from(number).map_err(|_| Failure::Usage(format!("{name} is too large")))
    };
    let options = FailoverOptions {
        rounds: small("--rounds", 1)?,
        losses: losses.collect::<Result<_, _>>()?,
        shards: u16::try_from(small("--shards", 2)?).map_err(run_error)?,
        writers: small("--writers", 8)?,
        others: 2,
    };
    let report = testkit::failover::run(Path::new(binary), &options);
    println!("{}", report.table());
    let wrong = report.wrong();
    for line in &wrong {
        println!("WRONG: {line}");
    }
    Ok(wrong.is_empty())
}

fn disturb(list: &[String]) -> Result<bool, Failure> {
    let values = [
        "--binary",
        "--rounds",
        "--shards",
        "--replicas",
        "--rate",
        "--clients",
        "--seconds",
        "--kinds",
        "--config",
    ];
    let arguments = Arguments::parse(list, &[], &values)?;
    let binary = arguments
        .value("--binary")
        .ok_or_else(|| Failure::Usage("--binary is missing".to_owned()))?;
    let kinds = arguments
        .value("--kinds")
        .unwrap_or("quiet,killed,stopped,restarted,slow");
    let kinds = kinds.split(',').map(|name| {
        Disturbance::parse(name)
            .ok_or_else(|| Failure::Usage(format!("a replica is not disturbed by {name}")))
    });
    let small = |name: &str, default| {
        let number = arguments.number(name, default)?;
        u16::try_from(number).map_err(|_| Failure::Usage(format!("{name} is too large")))
    };
    let options = DisturbOptions {
        rounds: small("--rounds", 1)?.into(),
        kinds: kinds.collect::<Result<_, _>>()?,
        shards: small("--shards", 1)?,
        replicas: small("--replicas", 2)?,
        rate: small("--rate", 1000)?.into(),
        clients: small("--clients", 16)?.into(),
        lasts: std::time::Duration::from_secs(small("--seconds", 4)?.into()),
        config: arguments.value("--config").unwrap_or_default().to_owned(),
    };
    let report = disturb::run(Path::new(binary), &options);
    println!("{}", report.table());
    let wrong = report.wrong();
    for line in &wrong {
        println!("WRONG: {line}");
    }
    Ok(wrong.is_empty())
}

fn oracle(list: &[String]) -> Result<bool, Failure> {
    let flags = ["--plain", "--strict", "--minor"];
    let arguments = Arguments::parse(
        list,
        &flags,
        &[
            "--oracle",
            "--drover",
            "--second",
            "--modes",
            "--filter",
            "--max-shown",
            "--random",
        ],
    )?;
    let options = Options {
        refusals: !arguments.has("--plain"),
        strict: arguments.has("--strict"),
        modes: modes(arguments.value("--modes"))?,
        filter: arguments.value("--filter").map(ToString::to_string),
        ..Options::default()
    };
    let shown_max = arguments.number("--max-shown", 40)? as usize;
    let mut files = case_files(&arguments.rest)?;
    if let Some((seed, count)) = random(&arguments, "--random")? {
        files.push(random_cases(seed, count));
    }
    if files.is_empty() {
        return Err(Failure::Usage("no case files given".to_string()));
    }
    let mut oracle = Oracle::new(
        arguments.target("--oracle")?,
        arguments.target("--drover")?,
        options,
    );
    if arguments.has("--second") {
        oracle = oracle.with_second_proxy(arguments.target("--second")?);
    }
    let mut failed = 0;
    for file in files {
        let report = match oracle.run(&file) {
            Ok(report) => report,
            Err(error) => {
                println!("{}: NOT RUN: {error}", file.name);
                failed += 1;
                continue;
            }
        };
        let totals: Totals = report.totals();
        println!("{}: {totals}", report.name);
        let failures = report.grouped_failures();
        failures
            .iter()
            .take(shown_max)
            .for_each(|case| println!("{case}"));
        if failures.len() > shown_max {
            println!("… and {} more", failures.len() - shown_max);
        }
        if arguments.has("--minor") {
            report
                .minor()
                .filter(|case| case.outcome != Outcome::Skipped)
                .for_each(|case| println!("{case}"));
        }
        failed += totals.failed;
    }
    Ok(failed == 0)
}

fn placement(list: &[String]) -> Result<bool, Failure> {
    let arguments = Arguments::parse(list, &[], &["--drover", "--login"])?;
    let through = arguments.target("--drover")?;
    let mut client = Client::open(&through).map_err(run_error)?;
    let layout = Layout::read(&mut client).map_err(run_error)?;
    let (user, password) = match arguments.value("--login") {
        None => (through.user.clone(), through.password.clone()),
        Some(text) => match text.split_once(':') {
            Some((user, password)) => (user.to_string(), Some(password.to_string())),
            None => (text.to_string(), None),
        },
    };
    let mut shards = Vec::new();
    for primary in &layout.primaries {
        let (host, port) = (primary.host.clone(), primary.port);
        let (user, password) = (user.clone(), password.clone());
        let target = Target {
            host,
            port,
            user,
            password,
            options: Vec::new(),
            ..through.clone()
        };
        shards.push(Shard {
            name: primary.shard.clone(),
            target,
        });
    }
    let findings = verify(&layout, &shards).map_err(run_error)?;
    findings.iter().for_each(|finding| println!("{finding}"));
    let (sharded, reference) = (layout.sharded.len(), layout.reference.len());
    println!(
        "{sharded} sharded and {reference} reference tables on {} shards: {} findings",
        shards.len(),
        findings.len()
    );
    Ok(findings.is_empty())
}

fn leak(list: &[String]) -> Result<bool, Failure> {
    let values = ["--target", "--seed", "--seconds", "--victims", "--checkers"];
    let arguments = Arguments::parse(list, &["--sharded"], &values)?;
    let defaults = LeakOptions::new(arguments.target("--target")?);
    let options = LeakOptions {
        seed: arguments.number("--seed", defaults.seed)?,
        victims: arguments.number("--victims", defaults.victims as u64)? as usize,
        checkers: arguments.number("--checkers", defaults.checkers as u64)? as usize,
        duration: Duration::from_secs(arguments.number("--seconds", defaults.duration.as_secs())?),
        sharded: arguments.has("--sharded"),
        ..defaults
    };
    let report = hunt(&options).map_err(run_error)?;
    println!("{report}");
    Ok(report.violations.is_empty())
}

fn isolation(list: &[String]) -> Result<bool, Failure> {
    let values = [
        "--target",
        "--role",
        "--binary",
        "--shards",
        "--pool",
        "--clients",
        "--seconds",
        "--seed",
    ];
    let arguments = Arguments::parse(list, &["--sharded"], &values)?;
    let shards = u16::try_from(arguments.number("--shards", 2)?)
        .map_err(|_| Failure::Usage("--shards is too large".to_string()))?;
    let pool = arguments.number("--pool", 4)?;
    let site = arguments
        .value("--binary")
        .map(|binary| isolation::site(TestCluster::shared(shards), Path::new(binary), pool));
    let proxy = site.as_ref().map(|site| site.start("isolation"));
    let target = match &proxy {
        Some(proxy) => proxy.target().clone(),
        None => arguments.target("--target")?,
    };
    let defaults = IsolationOptions::new(target);
    let options = IsolationOptions {
        seed: arguments.number("--seed", defaults.seed)?,
        clients: arguments.number("--clients", defaults.clients as u64)? as usize,
        duration: Duration::from_secs(arguments.number("--seconds", defaults.duration.as_secs())?),
        sharded: arguments.has("--sharded"),
        role: match &proxy {
            Some(_) => Some(isolation::ROLE.to_string()),
            None => arguments.value("--role").map(ToString::to_string),
        },
        ..defaults
    };
    let report = isolation::isolate(&options).map_err(run_error)?;
    println!("{report}");
    for (name, count) in &report.exchanges {
        println!("  {count:>8} {name}");
    }
    Ok(report.violations.is_empty())
}

fn all(list: &[String]) -> Result<bool, Failure> {
    let values = [
        "--binary", "--shards", "--modes", "--random", "--writes", "--leak", "--filter", "--spread",
    ];
    let arguments = Arguments::parse(list, &["--strict", "--refusals"], &values)?;
    let binary = arguments
        .value("--binary")
        .ok_or_else(|| Failure::Usage("--binary is missing".to_string()))?;
    let files = spread(case_files(&arguments.rest)?, &arguments)?;
    let mut good = true;
    for shards in arguments.value("--shards").unwrap_or("1,2,4").split(',') {
        let count = shards
            .parse()
            .map_err(|_| Failure::Usage(format!("bad number of shards {shards}")))?;
        let drover = DroverDev::start(Path::new(binary), count, 0).map_err(run_error)?;
        println!("{shards} shards");
        let mut campaign = Campaign::new(drover.target().clone());
        campaign.options.one_shard = count == 1;
        campaign.options.strict = arguments.has("--strict");
        campaign.options.modes = modes(arguments.value("--modes"))?;
        campaign.options.filter = arguments.value("--filter").map(ToString::to_string);
        campaign.random = random(&arguments, "--random")?.unwrap_or(campaign.random);
        campaign.writes = random(&arguments, "--writes")?.unwrap_or(campaign.writes);
        campaign.tell_refusals = arguments.has("--refusals");
        campaign.leak = Duration::from_secs(arguments.number("--leak", campaign.leak.as_secs())?);
        let failures = campaign.run(files.clone(), |line| println!("  {line}"));
        failures.iter().for_each(|failure| println!("{failure}"));
        println!("{shards} shards: {} failures", failures.len());
        good &= failures.is_empty();
    }
    Ok(good)
}

/// `--spread NAME`
fn spread(files: Vec<CaseFile>, arguments: &Arguments) -> Result<Vec<CaseFile>, Failure> {
    let name = arguments.value("--spread").unwrap_or("written");
    let known = Spread::ALL.iter().find(|(known, _)| *known == name);
    let (_, spread) = known.ok_or_else(|| Failure::Usage(format!("unknown spread {name}")))?;
    let folder = arguments.rest.iter().map(Path::new).find(|path| path.is_dir());
    let folder = folder.unwrap_or(Path::new("tests/cases"));
    let spread = files.into_iter().map(|file| file.spread(*spread, folder));
    let spread: Result<Vec<Option<CaseFile>>, _> = spread.collect();
    Ok(spread.map_err(run_error)?.into_iter().flatten().collect())
}

/// `--random SEED:COUNT`, and the like
fn random(arguments: &Arguments, name: &str) -> Result<Option<(u64, u32)>, Failure> {
    let Some(text) = arguments.value(name) else {
        return Ok(None);
    };
    let parts = text
        .split_once(':')
        .and_then(|(seed, count)| Some((seed.parse().ok()?, count.parse().ok()?)));
    parts
        .map(Some)
        .ok_or_else(|| Failure::Usage(format!("{name} needs SEED:COUNT")))
}

fn modes(text: Option<&str>) -> Result<Vec<Mode>, Failure> {
    let Some(text) = text else {
        return Ok(Mode::ALL.to_vec());
    };
    let find = |name: &str| {
        let known = Mode::ALL.iter().copied().find(|mode| mode.name() == name);
        known.ok_or_else(|| Failure::Usage(format!("unknown mode {name}")))
    };
    text.split(',').map(find).collect()
}

fn case_files(paths: &[String]) -> Result<Vec<CaseFile>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        let path = Path::new(path);
        if path.is_dir() {
            files.extend(CaseFile::read_folder(path).map_err(run_error)?);
        } else {
            files.push(CaseFile::read(path).map_err(run_error)?);
        }
    }
    Ok(files)
}
