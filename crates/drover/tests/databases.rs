//! Databases that come, go and change with a reload, beside clients that must not notice.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testkit::TestCluster;
use testkit::client::{Client, Target};
use testkit::proxy::{DroverProxy, ProxySite};

const PATIENCE: Duration = Duration::from_secs(60);

struct Field {
    site: ProxySite,
    proxy: DroverProxy,
    base: String,
}

impl Field {
    /// A proxy whose console the application's user may use.
    fn new(shards: u16) -> Self {
        let kit = TestCluster::shared(shards);
        let site = ProxySite::new(kit, Path::new(env!("CARGO_BIN_EXE_drover")));
        let console = format!("[console]\nadmin_users = ['{}']\n[store]\n", kit.info().app_user);
        let base = site.config("one").replacen("[store]\n", &console, 1);
        let proxy = site.start_as("one", "one", &base, &[]);
        Self { site, proxy, base }
    }

    fn file(&self) -> PathBuf {
        self.site.directory().join("one.toml")
    }

    fn target(&self, database: &str) -> Target {
        self.proxy.target().clone().with_database(database)
    }

    fn open(&self, database: &str) -> Client {
        Client::open(&self.target(database)).expect("connects")
    }

    /// What a client that asks for this database is told.
    fn refusal(&self, database: &str) -> String {
        let refused = Client::open(&self.target(database));
        refused.err().map(|error| error.to_string()).unwrap_or_default()
    }

    /// Reads the configuration with these entries more; the answer of the console.
    fn reload(&self, entries: &str) -> Result<(), String> {
        std::fs::write(self.file(), format!("{}{entries}", self.base)).expect("the configuration");
        let mut console = self.open("drover");
        // It reads the schema of every new database, however busy the machine is.
        console.set_timeout(PATIENCE * 5);
        let answer = console.simple("RELOAD").expect("answers");
        match answer.error() {
            Some(error) => Err(error.to_string()),
            None => Ok(()),
        }
    }
}

fn entry(name: &str, dbname: &str) -> String {
    format!("[[databases]]\nname = '{name}'\ndbname = '{dbname}'\n")
}

#[track_caller]
fn value(client: &mut Client, sql: &str) -> String {
    let answer = client.simple(sql).expect("runs");
    answer
        .value()
        .unwrap_or_else(|| panic!("{sql}: {:?}", answer.error()))
}

const WHERE: &str = "SELECT current_database()";

/// The column `open` of `drover.pools`.
const OPEN: usize = 9;

/// The session was ended by the proxy.
#[track_caller]
fn is_ended(client: &mut Client) {
    let last = format!("{:?}", client.next_message());
    assert!(last.contains("57P01"), "{last}");
}

#[test]
fn databases_come_go_and_change_while_others_work() {
    let kit = TestCluster::shared(1);
    let (first, second) = (kit.create_database(), kit.create_database());
    let field = Field::new(1);
    let own = field.proxy.target().database.clone();
    let mut busy = field.open(&own);
    busy.simple("BEGIN").expect("runs");
    let pid = value(&mut busy, "SELECT pg_backend_pid()");
    assert!(field.refusal("more").contains("3D000"));

    // What a shard lacks is not taken over, nor is anything else of the file.
    let wrong = field.reload(&(entry("more", &first) + &entry("nowhere", "no_such_database")));
    let wrong = wrong.expect_err("no shard has it");
    assert!(wrong.contains("no_such_database"), "{wrong}");
    assert!(field.refusal("more").contains("3D000"));

    field.reload(&entry("more", &first)).expect("one more database");
    let mut idle = field.open("more");
    let mut inside = field.open("more");
    assert_eq!(value(&mut idle, WHERE), first);
    inside.simple("BEGIN").expect("runs");
    inside
        .simple("CREATE TABLE made_inside AS SELECT 1 AS a")
        .expect("runs");

    // It stands for another database now: who is in a transaction ends it where it began.
    field.reload(&entry("more", &second)).expect("another database");
    is_ended(&mut idle);
    assert_eq!(value(&mut field.open("more"), WHERE), second);
    assert_eq!(value(&mut inside, WHERE), first);
    assert_eq!(inside.simple("COMMIT").expect("answers").tags(), ["COMMIT"]);
    is_ended(&mut inside);

    // And back: what was committed is there.
    field.reload(&entry("more", &first)).expect("the first again");
    let mut back = field.open("more");
    assert_eq!(value(&mut back, "SELECT a FROM made_inside"), "1");

    field.reload("").expect("the entry is gone");
    is_ended(&mut back);
    assert!(field.refusal("more").contains("3D000"));

    assert_eq!(value(&mut busy, "SELECT pg_backend_pid()"), pid);
    assert_eq!(busy.simple("COMMIT").expect("answers").tags(), ["COMMIT"]);
    assert_eq!(value(&mut busy, WHERE), own);
}

#[test]
fn a_wildcard_finds_databases_at_every_reload() {
    let field = Field::new(1);
    let before = TestCluster::shared(1).create_database();
    field
        .reload("[[databases]]\nname = '*'\n")
        .expect("every database");
    assert_eq!(value(&mut field.open(&before), WHERE), before);
    let after = TestCluster::shared(1).create_database();
    let refusal = field.refusal(&after);
    assert!(refusal.contains("3D000"), "{refusal}");
    field.reload("[[databases]]\nname = '*'\n").expect("once more");
    let mut client = field.open(&after);
    assert_eq!(value(&mut client, WHERE), after);
    // An entry of its own that says the same changes nothing for who is connected.
    let own = format!("[[databases]]\nname = '*'\n[[databases]]\nname = '{after}'\n");
    field.reload(&own).expect("an entry of its own");
    assert_eq!(value(&mut client, WHERE), after);
}

/// Another proxy of the cluster learns of the database, and serves it as soon as its own configuration names it.
#[test]
fn all_proxies_of_the_cluster_know_the_database() {
    let more = TestCluster::shared(2).create_database();
    let field = Field::new(2);
    let other = field.site.start("two");
    let mut there = other.client();
    field.reload(&entry("more", &more)).expect("one more database");
    let mut here = field.open("more");
    for sql in [
        "CREATE TABLE t (a int PRIMARY KEY)",
        "SELECT drover.shard_table('t', 'a')",
        "INSERT INTO t VALUES (1), (2), (3), (4), (5)",
    ] {
        let answer = here.simple(sql).expect("answers");
        assert!(answer.error().is_none(), "{sql}: {:?}", answer.error());
    }
    assert_eq!(value(&mut here, "SELECT count(*) FROM t"), "5");
    assert_eq!(value(&mut there, "SELECT 1"), "1");
    assert!(Client::open(&other.target().clone().with_database("more")).is_err());
}

/// A database that was dropped on the servers keeps nobody from being served in the others, now or after a restart.
#[test]
fn a_dropped_database_is_not_missed_by_the_others() {
    // Not the servers of the test with a wildcard, which would find it and see it dropped.
    let kit = TestCluster::shared(2);
    let gone = kit.create_database();
    let field = Field::new(2);
    let own = field.proxy.target().database.clone();
    field.reload(&entry("more", &gone)).expect("one more database");
    let mut there = field.open("more");
    assert_eq!(value(&mut there, WHERE), gone);
    field.reload("").expect("the entry is gone");
    let mut client = field.open(&own);
    let info = kit.info();
    let (user, password) = (&info.admin_user, info.admin_password.expose());
    for shard in &info.shards {
        let (host, port) = (&shard.primary.host, shard.primary.port);
        let url = format!("postgresql://{user}:{password}@{host}:{port}/postgres");
        let mut server = Client::connect(&url).expect("the server");
        let sql = format!("DROP DATABASE {gone} WITH (FORCE)");
        let dropped = server.simple(&sql).expect("answers");
        assert!(dropped.error().is_none(), "{dropped:?}");
    }
    // This makes every proxy read every schema again.
    let made = client.simple("CREATE TABLE t (a int)").expect("answers");
    assert!(made.error().is_none(), "{made:?}");
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), "0");
    let again = field.site.start("two");
    assert_eq!(value(&mut again.client(), "SELECT count(*) FROM t"), "0");
    // What is configured has to be there.
    assert!(field.reload(&entry("more", &gone)).is_err());
}

/// Connections are kept on every shard, in the name of every user and database that wants them, before a client came,
/// and after a reload asked for them.
#[test]
fn kept_connections_are_opened_on_every_shard() {
    let more = TestCluster::shared(2).create_database();
    let field = Field::new(2);
    let mut client = field.proxy.client();
    let mut wait_for = |database: &str, each: &str| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let rows = client
                .simple("SELECT * FROM drover.pools")
                .expect("runs")
                .text_rows();
            let of_it = rows.iter().filter(|row| row[0].as_deref() == Some(database));
            let rows: Vec<&str> = of_it.filter_map(|row| row[OPEN].as_deref()).collect();
            if rows == [each; 2] {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{rows:?} instead of {each}\n{}",
                field.proxy.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let kept = entry("more", &more) + "min_pool_size = 3\n";
    field.reload(&kept).expect("one more database");
    wait_for("more", "3");
    let fewer = entry("more", &more) + "min_pool_size = 3\n" + &entry("again", &more) + "min_pool_size = 1\n";
    field.reload(&fewer).expect("the same under two names");
    wait_for("again", "1");
    wait_for("more", "3");
}
