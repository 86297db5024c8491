//! The proxies and servers, and what is done to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::points::{Hit, Points};
use super::{ChaosOptions, POINTS};
use crate::TestCluster;
use crate::client::{Client, ClientError, Target};
use crate::failover::Loss;
use crate::failover::servers::Servers;
use crate::proxy::{DroverProxy, ProxySite};
use crate::random::Random;

/// Proxies over the cluster.
const PROXIES: usize = 2;

/// How long a point may let itself be waited for.
const POINT_WITHIN: Duration = Duration::from_secs(2);

/// How long servers may take to be there again, and what is in doubt to be none.
const PATIENCE: Duration = Duration::from_secs(60);

/// Something that is done to a process or a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// `kill -9` of a proxy, which is started again.
    KillProxy,
    /// A proxy is stopped for longer than its registration lasts and recovery waits for it, or for a moment.
    StopProxy,
    /// `kill -9` of all processes of a server, which is started again.
    KillServer,
    /// `kill -9` of one of its processes: it ends all others and recovers.
    CrashServer,
    /// All processes of a server are stopped for a while.
    StopServer,
    /// The server ends all connections.
    EndConnections,
    /// The proxy loses the connection that a point is about.
    Cut,
    /// `kill -9` of the first shard's primary, of which a replica takes the place; it comes back as a replica.
    Promote,
}

impl Blow {
    /// All of them but [`Blow::Promote`], which takes replicas.
    pub const ALL: [Blow; 7] = [
        Self::KillProxy,
        Self::StopProxy,
        Self::KillServer,
        Self::CrashServer,
        Self::StopServer,
        Self::EndConnections,
        Self::Cut,
    ];

    /// By its name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .chain([Self::Promote])
            .find(|blow| format!("{blow:?}").eq_ignore_ascii_case(name))
    }
}

/// Where proxies listen now.
pub(super) type Doors = Arc<Mutex<Vec<Target>>>;

/// The proxies and servers.
pub(super) struct Stage<'a> {
    site: ProxySite,
    points: &'a Points,
    servers: Servers,
    /// The servers of the first shard, if it has replicas.
    first: Option<Servers>,
    shards: usize,
    admin: Vec<Target>,
    proxies: Vec<DroverProxy>,
    doors: Doors,
    started: u32,
}

impl<'a> Stage<'a> {
    pub(super) fn new(
        cluster: &'static TestCluster,
        site: ProxySite,
        points: &'a Points,
        promote: bool,
    ) -> Self {
        let first = promote.then(|| Servers::new(cluster));
        if let Some(first) = &first {
            first.replicate_synchronously();
        }
        let info = cluster.info();
        let (user, password) = (&info.admin_user, info.admin_password.expose());
        let admin = info.shards.iter().map(|shard| {
            let (host, port) = (&shard.primary.host, shard.primary.port);
            let url = format!("postgresql://{user}:{password}@{host}:{port}/{}", site.database());
            Target::parse(&url).expect("a URL")
        });
        let admin = admin.collect();
        Self {
            site,
            points,
            servers: Servers::primaries(cluster),
            first,
            shards: info.shards.len(),
            admin,
            proxies: Vec::new(),
            doors: Arc::default(),
            started: 0,
        }
    }

    /// Starts the proxies.
    pub(super) fn open(&mut self, mutant: Option<&str>) {
        if let Some(mutant) = mutant {
            self.site.set_variable("DROVER_TEST_MUTANT", mutant);
        }
        for at in 0..PROXIES {
            let proxy = self.start(at);
            self.doors.lock().expect("no panic").push(proxy.target().clone());
            self.proxies.push(proxy);
        }
    }

    pub(super) fn doors(&self) -> Doors {
        Arc::clone(&self.doors)
    }

    pub(super) fn shards(&self) -> usize {
        self.shards
    }

    /// A proxy to prepare everything with, which does as it should.
    pub(super) fn preparer(&self) -> DroverProxy {
        self.site.start("preparer")
    }

    /// A connection past the proxies.
    pub(super) fn direct(&self, shard: usize) -> Result<Client, ClientError> {
        Client::open(&self.admin[shard])
    }

    /// What the proxies said, for whoever looks for a reason.
    pub(super) fn directory(&self) -> String {
        self.site.directory().display().to_string()
    }

    fn start(&mut self, at: usize) -> DroverProxy {
        self.started += 1;
        // Its registration outlives a killed one for a while.
        let id = format!("proxy_{at}_{}", self.started);
        // They notice soon that another one is gone.
        let config = self
            .site
            .config(&id)
            .replace("[store]\n", "[store]\nlease_ttl = '1s'\n");
        self.site.start_as(&id, &id, &config, &[])
    }

    /// One blow; what it was.
    pub(super) fn strike(&mut self, options: &ChaosOptions, random: &mut Random) -> String {
        let mut blows = options.blows.clone();
        if blows.is_empty() {
            blows.extend(Blow::ALL);
            // As often as all others.
            let promotions = if options.promote { Blow::ALL.len() } else { 0 };
            blows.extend(std::iter::repeat_n(Blow::Promote, promotions));
        }
        let blow = *random.pick(&blows).expect("there are some");
        let names: Vec<&str> = match options.points.as_slice() {
            [] => POINTS.to_vec(),
            some => some.iter().map(String::as_str).collect(),
        };
        let aimed = !options.points.is_empty() || blow == Blow::Cut || random.below(4) > 0;
        let point = *random.pick(&names).expect("there are some");
        let before = random.below(12);
        let (proxy, server) = (
            random.below(PROXIES as u64) as usize,
            random.below(self.shards as u64) as usize,
        );
        let pause = Duration::from_millis(random.below(300));
        // What is broken on purpose shows when recovery takes a stopped one for gone.
        let lasts = if options.mutant.is_some() {
            2
        } else {
            random.below(3)
        };
        let hit = if aimed {
            self.points.wait(point, before, POINT_WITHIN)
        } else {
            std::thread::sleep(pause);
            None
        };
        let place = hit.as_ref().map_or("any time", |_| point);
        let what = format!("{blow:?} at {place}");
        let at_proxy = hit.as_ref().and_then(|hit| {
            self.proxies
                .iter()
                .position(|proxy| proxy.process_id() == hit.pid)
        });
        let at_server = hit.as_ref().map(|hit| hit.shard as usize - 1);
        let proxy = at_proxy.unwrap_or(proxy);
        let server = at_server.filter(|at| *at < self.shards).unwrap_or(server);
        self.do_it(blow, hit, proxy, server, lasts);
        what
    }

    fn do_it(&mut self, blow: Blow, hit: Option<Hit>, proxy: usize, server: usize, lasts: u64) {
        match blow {
            Blow::KillProxy => {
                self.proxies[proxy].signal("KILL");
                drop(hit);
                let _ = self.proxies[proxy].exit_code();
                let started = self.start(proxy);
                self.doors.lock().expect("no panic")[proxy] = started.target().clone();
                self.proxies[proxy] = started;
            }
            Blow::StopProxy => {
                self.proxies[proxy].signal("STOP");
                drop(hit);
                std::thread::sleep(Duration::from_millis([200, 2500, 3500][lasts as usize % 3]));
                self.proxies[proxy].signal("CONT");
            }
            Blow::KillServer => {
                let (servers, at) = self.servers_of(server);
                servers.kill(at);
                drop(hit);
                servers.start_again(at);
            }
            Blow::CrashServer => {
                let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' \
                     AND pid <> pg_backend_pid() AND datname = current_database() ORDER BY random() LIMIT 1";
                let pid = self
                    .direct(server)
                    .ok()
                    .and_then(|mut client| client.simple(sql).ok()?.value());
                if let Some(pid) = pid {
                    let _ = std::process::Command::new("kill").args(["-KILL", &pid]).status();
                }
                drop(hit);
                self.await_server(server);
            }
            Blow::StopServer => {
                let (servers, at) = self.servers_of(server);
                servers.signal(at, "STOP");
                drop(hit);
                std::thread::sleep(Duration::from_millis([50, 400, 1500][lasts as usize % 3]));
                servers.signal(at, "CONT");
            }
            Blow::EndConnections => {
                let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
                     AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
                if let Ok(mut client) = self.direct(server) {
                    let _ = client.simple(sql);
                }
                drop(hit);
            }
            Blow::Cut => {
                if let Some(hit) = hit {
                    hit.cut();
                }
            }
            Blow::Promote => self.promote(hit),
        }
    }

    /// A replica of the first shard takes the place of its primary, which dies.
    fn promote(&mut self, hit: Option<Hit>) {
        let Some(first) = &mut self.first else { return };
        first.kill_primary();
        drop(hit);
        let old = first.promote();
        let primary = first.node(0);
        self.admin[0].host.clone_from(&primary.host);
        self.admin[0].port = primary.port;
        first.bring_back(old, Loss::Killed);
    }

    /// The primary of a shard.
    fn servers_of(&mut self, shard: usize) -> (&mut Servers, usize) {
        match &mut self.first {
            Some(first) if shard == 0 => (first, 0),
            _ => (&mut self.servers, shard),
        }
    }

    fn await_server(&self, server: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.direct(server).is_err() {
            assert!(Instant::now() < deadline, "server {server} does not come back");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until no server has a prepared transaction.
    pub(super) fn await_nothing_in_doubt(&self, wrong: &mut Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut left = BTreeMap::new();
            for shard in 0..self.shards {
                self.await_server(shard);
                let gids = self.column(shard, "SELECT gid FROM pg_prepared_xacts");
                if !gids.is_empty() {
                    left.insert(shard + 1, gids);
                }
            }
            if left.is_empty() {
                return;
            }
            if Instant::now() > deadline {
                wrong.push(format!("still in doubt, by shard: {left:?}"));
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The rows of a statement on one server, columns joined by blanks.
    pub(super) fn column(&self, shard: usize, sql: &str) -> Vec<String> {
        let mut client = self.direct(shard).expect("the server is there");
        let answer = crate::failover::must(&mut client, sql);
        let row = |row: Vec<Option<String>>| row.into_iter().flatten().collect::<Vec<_>>().join(" ");
        answer.text_rows().into_iter().map(row).collect()
    }
}
