//! SCRAM pass-through needs the same verifier everywhere: the keys a client's login shows open only those servers that
//! store what the proxy checked them against.
//!
//! A difference would otherwise show as a password error on some later statement that happens to need that shard. So
//! the shards are asked (as Drover's own role, which may read `pg_authid`) when such a user logs in, and for configured
//! users also at the start. A shard that cannot be asked now does not keep anybody out: logging in to it will fail by
//! itself if it must.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tokio::sync::{mpsc, oneshot};
use wire::scram::Verifier;

use super::link::{AskError, Asking, Target};
use super::thread::Thread;
use crate::admin_link::AdminError;
use crate::config::{AdminConfig, ShardConfig};
use crate::exec::link::TextRow;
use crate::server::Address;
use crate::tls::ServerTls;

/// How long agreement is believed.
const AGREED_FOR: Duration = Duration::from_secs(300);

/// How long everything else is: it may be mended at any time.
const OTHERWISE_FOR: Duration = Duration::from_secs(2);

/// The longest one shard may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Users remembered.
const USERS_MAX: usize = 10_000;

const STORED: &str = "SELECT rolpassword, rolvaliduntil <= pg_catalog.clock_timestamp() \
                      FROM pg_catalog.pg_authid WHERE rolname = $1";

/// Why a user cannot be passed through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Disagreement {
    /// The shard's name.
    pub(crate) shard: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Differs,
    Expired,
    NoRole,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shard = &self.shard;
        match self.kind {
            Kind::Differs => write!(f, "the password verifier on \"{shard}\" is another one"),
            Kind::Expired => write!(f, "the password has expired on \"{shard}\""),
            Kind::NoRole => write!(f, "the role does not exist on \"{shard}\""),
        }
    }
}

/// Where to ask, and as whom.
#[derive(Clone)]
pub(super) struct Where {
    pub(super) shards: Vec<(ShardConfig, Arc<ServerTls>)>,
    pub(super) admin: AdminConfig,
    pub(super) database: String,
}

/// What is known about who agrees.
#[derive(Default)]
pub(super) struct Agreement {
    checked: Mutex<HashMap<String, Known>>,
    thread: Thread<Job>,
}

struct Known {
    verifier: Verifier,
    result: Result<(), Disagreement>,
    until: Instant,
}

struct Job {
    user: String,
    verifier: Verifier,
    ask: Where,
    answer: Option<oneshot::Sender<Outcome>>,
}

#[derive(Clone)]
struct Outcome {
    result: Result<(), Disagreement>,
    until: Instant,
}

impl Agreement {
    /// Whether all shards store this verifier for the user.
    pub(super) async fn check(
        &self,
        user: &str,
        verifier: &Verifier,
        ask: impl FnOnce() -> Where,
    ) -> Result<(), Disagreement> {
        if let Some(known) = self.lock().get(user)
            && known.verifier == *verifier
            && Instant::now() < known.until
        {
            return known.result.clone();
        }
        let (answer, outcome) = oneshot::channel();
        self.submit(Job {
            user: user.to_owned(),
            verifier: verifier.clone(),
            ask: ask(),
            answer: Some(answer),
        });
        // Without a thread nothing can be said against the user.
        let Ok(Outcome { result, until }) = outcome.await else {
            return Ok(());
        };
        let mut checked = self.lock();
        if checked.len() >= USERS_MAX {
            checked.clear();
        }
        let known = Known {
            verifier: verifier.clone(),
            result: result.clone(),
            until,
        };
        checked.insert(user.to_owned(), known);
        result
    }

    /// Asks without waiting; what is wrong goes to the log.
    pub(super) fn check_later(&self, user: &str, verifier: &Verifier, ask: Where) {
        self.submit(Job {
            user: user.to_owned(),
            verifier: verifier.clone(),
            ask,
            answer: None,
        });
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn submit(&self, job: Job) {
        // An unsent job drops its answer, which the asker notices.
        let _ = self.thread.send(job, serve);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(mut jobs: mpsc::UnboundedReceiver<Job>) {
    let mut links: HashMap<Address, Asking> = HashMap::new();
    // The last answer: a crowd of logins of one user asks once.
    let mut last: Option<(String, Verifier, Outcome)> = None;
    loop {
        let job = match tokio::time::timeout(AGREED_FOR, jobs.recv()).await {
            Ok(Some(job)) => job,
            Ok(None) => break,
            Err(_) => {
                links.drain().for_each(|(_, mut link)| link.close());
                continue;
            }
        };
        let outcome = match &last {
            Some((user, verifier, outcome))
                if *user == job.user && *verifier == job.verifier && Instant::now() < outcome.until =>
            {
                outcome.clone()
            }
            _ => ask_all(&mut links, &job).await,
        };
        if let Some(answer) = job.answer {
            let _ = answer.send(outcome.clone());
        }
        last = Some((job.user, job.verifier, outcome));
    }
    links.drain().for_each(|(_, mut link)| link.close());
}

async fn ask_all(links: &mut HashMap<Address, Asking>, job: &Job) -> Outcome {
    let mut all_asked = true;
    for (shard, tls) in &job.ask.shards {
        let target = Target {
            address: Address {
                host: shard.host.clone(),
                port: shard.port,
            },
            tls: Arc::clone(tls),
            user: job.ask.admin.user.clone(),
            password: job.ask.admin.password.clone(),
            database: job.ask.database.clone(),
        };
        let link = links.entry(target.address.clone()).or_default();
        match link.rows(&target, STORED, &job.user, TIMEOUT).await {
            Ok(rows) => {
                if let Some(kind) = compare(&rows, &job.verifier) {
                    let shard = shard.name.clone();
                    let found = Disagreement { shard, kind };
                    tracing::error!(
                        user = &*job.user,
                        "cannot pass the user's own keys through: {found}"
                    );
                    return Outcome {
                        result: Err(found),
                        until: Instant::now() + OTHERWISE_FOR,
                    };
                }
            }
            Err(error) => {
                all_asked = false;
                match error {
                    AskError::Admin(AdminError::Server(fields)) => {
                        tracing::warn!(shard = %shard.name, message = %fields.message, "verifiers cannot be compared");
                    }
                    error => tracing::warn!(shard = %shard.name, %error, "verifiers cannot be compared now"),
                }
            }
        }
    }
    Outcome {
        result: Ok(()),
        until: Instant::now() + if all_asked { AGREED_FOR } else { OTHERWISE_FOR },
    }
}

/// What is wrong with a shard's answer. A role without a password is let in there by other means.
fn compare(rows: &[TextRow], verifier: &Verifier) -> Option<Kind> {
    let Some([stored, expired]) = rows.first().map(Vec::as_slice) else {
        return Some(Kind::NoRole);
    };
    let stored = stored.as_deref()?;
    if expired.as_deref() == Some("t") {
        return Some(Kind::Expired);
    }
    let same = stored.parse::<Verifier>().is_ok_and(|stored| stored == *verifier);
    (!same).then_some(Kind::Differs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_a_shard() {
        let make = |salt: &[u8]| Verifier::from_password(b"x", salt, 16).expect("made");
        let (ours, other) = (make(b"1"), make(b"2"));
        let answer = |stored: Option<String>, expired: Option<&str>| {
            compare(&[vec![stored, expired.map(str::to_owned)]], &ours)
        };
        assert_eq!(compare(&[], &ours), Some(Kind::NoRole));
        assert_eq!(answer(None, None), None);
        assert_eq!(answer(Some(ours.to_string()), Some("f")), None);
        assert_eq!(answer(Some(ours.to_string()), Some("t")), Some(Kind::Expired));
        assert_eq!(answer(Some(other.to_string()), None), Some(Kind::Differs));
        assert_eq!(
            answer(Some("md5".to_owned() + &"0".repeat(32)), None),
            Some(Kind::Differs)
        );
    }
}
