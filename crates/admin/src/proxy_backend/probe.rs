//! Whether the shards' primaries answer.
//!
//! A probe is the first message of a login and the first byte of the answer: it shows that the server takes
//! connections, needs no password, and leaves nothing in the server's log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::ShardId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use topology::ClusterRecord;
use topology::records::NodeRecord;

/// How long a server may take to answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// How old an answer may be for a readiness check; also bounds how often servers are asked.
const AGE_MAX: Duration = Duration::from_secs(1);

/// How old an answer may be where it is only shown.
const AGE_MAX_SHOWN: Duration = Duration::from_secs(5);

/// Bytes of an error that are looked at.
const ERROR_BYTES_MAX: u64 = 4096;

/// Each shard and whether its primary answers, or why not.
pub(super) type Answers = Arc<Vec<(ShardId, Result<(), String>)>>;

/// Asks the servers, not more often than needed.
pub(super) struct Probes {
    startup: Arc<[u8]>,
    last: Mutex<Option<(Instant, Answers)>>,
}

impl Probes {
    pub(super) fn new(user: &str, database: &str) -> Self {
        Self {
            startup: startup_message(user, database).into(),
            last: Mutex::default(),
        }
    }

    /// As of about now.
    pub(super) async fn now(&self, cluster: &ClusterRecord) -> Answers {
        self.not_older(AGE_MAX, cluster).await
    }

    /// As of a moment ago.
    pub(super) async fn recent(&self, cluster: &ClusterRecord) -> Answers {
        self.not_older(AGE_MAX_SHOWN, cluster).await
    }

    async fn not_older(&self, age_max: Duration, cluster: &ClusterRecord) -> Answers {
        // Held while asking: who comes meanwhile gets the same answers.
        let mut last = self.last.lock().await;
        if let Some((at, answers)) = last.as_ref()
            && at.elapsed() <= age_max
            && answers
                .iter()
                .map(|(shard, _)| *shard)
                .eq(cluster.shards.iter().map(|shard| shard.id))
        {
            return Arc::clone(answers);
        }
        let answers = Arc::new(self.ask_all(cluster).await);
        *last = Some((Instant::now(), Arc::clone(&answers)));
        answers
    }

    async fn ask_all(&self, cluster: &ClusterRecord) -> Vec<(ShardId, Result<(), String>)> {
        let mut asking = JoinSet::new();
        for shard in &cluster.shards {
            let (id, node, startup) = (shard.id, shard.primary.clone(), Arc::clone(&self.startup));
            asking.spawn(async move {
                let answer = tokio::time::timeout(PROBE_TIMEOUT, ask(&node, &startup)).await;
                (
                    id,
                    answer.unwrap_or_else(|_| Err("the primary does not answer".to_owned())),
                )
            });
        }
        let found = asking.join_all().await;
        let answer = |id| found.iter().find(|(found, _)| *found == id).cloned();
        cluster
            .shards
            .iter()
            .filter_map(|shard| answer(shard.id))
            .collect()
    }
}

async fn ask(node: &NodeRecord, startup: &[u8]) -> Result<(), String> {
    let unreachable = |_| "the primary cannot be reached".to_owned();
    if node.host.starts_with('/') {
        let path = format!("{}/.s.PGSQL.{}", node.host, node.port);
        greet(UnixStream::connect(path).await.map_err(unreachable)?, startup).await
    } else {
        let address = (node.host.as_str(), node.port);
        greet(TcpStream::connect(address).await.map_err(unreachable)?, startup).await
    }
}

async fn greet(mut server: impl AsyncRead + AsyncWrite + Unpin, startup: &[u8]) -> Result<(), String> {
    let broken = |_| "the primary closed the connection".to_owned();
    server.write_all(startup).await.map_err(broken)?;
    match server.read_u8().await.map_err(broken)? {
        b'R' => Ok(()),
        b'E' => {
            let mut error = Vec::new();
            server
                .take(ERROR_BYTES_MAX)
                .read_to_end(&mut error)
                .await
                .map_err(broken)?;
            // Starting, stopping or recovering; any other error is the answer of a server at work.
            match error.windows(5).any(|code| code == b"C57P0") {
                true => Err("the primary takes no connections now".to_owned()),
                false => Ok(()),
            }
        }
        _ => Err("the primary is not a PostgreSQL server".to_owned()),
    }
}

/// Protocol 3.0: length, version, names and values, a zero byte.
fn startup_message(user: &str, database: &str) -> Vec<u8> {
    const VERSION: [u8; 4] = [0, 3, 0, 0];
    let mut body = VERSION.to_vec();
    for text in ["user", user, "database", database] {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &body].concat()
}
