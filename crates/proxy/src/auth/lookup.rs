//! Looking users up on the home shard (`auth_query`).
//!
//! One thread per proxy runs the queries, one after the other on one connection; workers wait for the answer without
//! blocking. A user's answer is asked for once, however many logins wait for it. Between asking and answering the
//! configuration may change: the answer then goes to those who wait, but is not kept.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tokio::sync::{mpsc, oneshot};

use super::config::AuthQuery;
use super::link::{AskError, Asking, Target};
use super::thread::Thread;
use super::users::{Stored, User};
use crate::admin_link::AdminError;
use crate::exec::link::TextRow;
use crate::server::Address;
use crate::tls::ServerTls;

/// A connection that nobody has used for this long is closed.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// After a failure that concerns everybody, the next questions are answered at once for this long.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// A wrong password makes an answer be asked for again, but not oftener than this.
const REFRESH_MIN: Duration = Duration::from_secs(1);

/// Seconds until the role's password expires, for roles that exist; nothing: never. The catalogs say it whatever the
/// configured query looks at.
const EXPIRY: &str = "SELECT CASE rolvaliduntil WHEN 'infinity' THEN NULL WHEN '-infinity' THEN 0 \
     ELSE EXTRACT(EPOCH FROM rolvaliduntil - pg_catalog.clock_timestamp()) END, rolcanlogin \
     FROM pg_catalog.pg_roles WHERE rolname = $1";

/// Why a user could not be looked up. Not shown to clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("auth_query failed: {what}")]
pub(crate) struct LookupError {
    what: String,
    /// The server cannot be asked about anybody now. Everything else may be about this one name, which anybody can send:
    /// it must not keep the other users out.
    everybody: bool,
}

impl LookupError {
    fn of_one(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            everybody: false,
        }
    }

    fn of_everybody(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            everybody: true,
        }
    }
}

impl From<AskError> for LookupError {
    fn from(error: AskError) -> Self {
        let everybody = !matches!(error, AskError::Admin(AdminError::Server(_)));
        Self {
            what: error.to_string(),
            everybody,
        }
    }
}

/// Failures of the last moment: none floods the log, and a server that cannot be reached is not asked again at once.
#[derive(Default)]
struct Failures {
    logged: Option<Instant>,
    of_everybody: Option<(Instant, LookupError)>,
}

impl Failures {
    /// The answer to everybody until it is asked again.
    fn answer(&self) -> Option<LookupError> {
        let recent = self.of_everybody.as_ref();
        recent
            .filter(|(at, _)| at.elapsed() < FAILURE_PAUSE)
            .map(|(_, error)| error.clone())
    }

    /// Remembers one; true if it is to be logged.
    fn note(&mut self, error: &LookupError) -> bool {
        if error.everybody {
            self.of_everybody = Some((Instant::now(), error.clone()));
        }
        let logs = self.logged.is_none_or(|at| at.elapsed() >= FAILURE_PAUSE);
        if logs {
            self.logged = Some(Instant::now());
        }
        logs
    }
}

/// Where an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The configuration.
    Configured,
    /// Remembered.
    Cached,
    /// Asked just now.
    Asked,
}

type Answer = Result<Option<Arc<User>>, LookupError>;

/// The answers, and who waits for one.
#[derive(Default)]
pub(super) struct Lookups {
    state: Mutex<State>,
    thread: Thread<Job>,
}

#[derive(Default)]
struct State {
    /// Counts reloads.
    generation: u64,
    found: HashMap<Arc<str>, Found>,
    /// Users that do not exist, apart so that made-up names cannot push out the others.
    missing: HashMap<Arc<str>, Instant>,
    waiting: HashMap<Arc<str>, Vec<oneshot::Sender<Answer>>>,
}

struct Found {
    user: Arc<User>,
    asked: Instant,
    until: Instant,
}

/// At most one per user, and only while a login waits: bounded by `max_logins`.
struct Job {
    user: Arc<str>,
    query: Arc<AuthQuery>,
    address: Address,
    tls: Arc<ServerTls>,
    database: String,
    generation: u64,
}

/// The home shard now.
pub(super) struct Home<'a> {
    pub(super) address: Address,
    pub(super) tls: Arc<ServerTls>,
    /// Where to ask, unless the query's configuration names a database.
    pub(super) database: &'a str,
}

impl Lookups {
    /// The user, or that there is none.
    pub(super) async fn user(
        self: &Arc<Self>,
        name: &str,
        query: &Arc<AuthQuery>,
        home: Home<'_>,
    ) -> (Answer, Source) {
        let (waiting, job) = {
            let mut state = self.lock();
            if let Some(known) = state.known(name, Instant::now()) {
                return (Ok(known), Source::Cached);
            }
            let (answer, waiting) = oneshot::channel();
            let generation = state.generation;
            let name: Arc<str> = name.into();
            let all = state.waiting.entry(Arc::clone(&name)).or_default();
            all.push(answer);
            let job = (all.len() == 1).then(|| Job {
                user: name,
                query: Arc::clone(query),
                address: home.address,
                tls: home.tls,
                database: query.database.clone().unwrap_or_else(|| home.database.to_owned()),
                generation,
            });
            (waiting, job)
        };
        if let Some(job) = job {
            self.submit(job);
        }
        let gone = || Err(LookupError::of_everybody("the thread that asks has ended"));
        (waiting.await.unwrap_or_else(|_| gone()), Source::Asked)
    }

    /// A password did not fit: if the answer it was compared with is not quite new, the next login asks again.
    /// True if it was forgotten.
    pub(super) fn doubt(&self, name: &str) -> bool {
        let mut state = self.lock();
        let old = state
            .found
            .get(name)
            .is_some_and(|found| found.asked.elapsed() >= REFRESH_MIN);
        if old {
            state.found.remove(name);
        }
        old
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        let mut state = self.lock();
        state.generation += 1;
        state.found.clear();
        state.missing.clear();
    }

    fn submit(self: &Arc<Self>, job: Job) {
        let all = Arc::downgrade(self);
        if let Err(job) = self.thread.send(job, |jobs| serve(jobs, all)) {
            let error = LookupError::of_everybody("no thread to ask on");
            self.finish(&job, Err(error));
        }
    }

    /// Tells those who wait, and remembers the answer if the configuration is still the one that asked.
    fn finish(&self, job: &Job, answer: Result<Option<Found>, LookupError>) {
        let user = answer
            .as_ref()
            .map(|found| found.as_ref().map(|found| Arc::clone(&found.user)))
            .map_err(Clone::clone);
        let waiting = {
            let mut state = self.lock();
            if let Ok(found) = answer
                && state.generation == job.generation
            {
                state.remember(job, found);
            }
            state.waiting.remove(&job.user).unwrap_or_default()
        };
        for waiting in waiting {
            // A login that was broken off no longer listens.
            let _ = waiting.send(user.clone());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A remembered answer that is still good: the user, or that there is none.
    fn known(&self, name: &str, now: Instant) -> Option<Option<Arc<User>>> {
        if let Some(found) = self.found.get(name)
            && now < found.until
        {
            return Some(Some(Arc::clone(&found.user)));
        }
        let until = self.missing.get(name)?;
        (now < *until).then_some(None)
    }

    fn remember(&mut self, job: &Job, found: Option<Found>) {
        let now = Instant::now();
        self.found.remove(&job.user);
        self.missing.remove(&job.user);
        match found {
            Some(found) => {
                if self.found.len() >= job.query.entries_max {
                    self.found.retain(|_, found| now < found.until);
                }
                if self.found.len() < job.query.entries_max {
                    self.found.insert(Arc::clone(&job.user), found);
                }
            }
            None => {
                if self.missing.len() >= job.query.entries_max {
                    self.missing.clear();
                }
                self.missing
                    .insert(Arc::clone(&job.user), now + job.query.negative_ttl);
            }
        }
    }
}

/// The thread's life: it ends with the proxy.
async fn serve(mut jobs: mpsc::UnboundedReceiver<Job>, all: Weak<Lookups>) {
    let mut asking = Asking::default();
    let mut failures = Failures::default();
    loop {
        let job = match tokio::time::timeout(IDLE_MAX, jobs.recv()).await {
            Ok(Some(job)) => job,
            Ok(None) => break,
            Err(_) => {
                asking.close();
                continue;
            }
        };
        let answer = match failures.answer() {
            Some(error) => Err(error),
            None => {
                let answer = ask(&mut asking, &job).await;
                if let Err(error) = &answer
                    && failures.note(error)
                {
                    tracing::error!(user = &*job.user, "{error}");
                }
                answer
            }
        };
        let Some(all) = all.upgrade() else {
            break;
        };
        all.finish(&job, answer);
    }
    asking.close();
}

async fn ask(asking: &mut Asking, job: &Job) -> Result<Option<Found>, LookupError> {
    let query = &job.query;
    let target = Target {
        address: job.address.clone(),
        tls: Arc::clone(&job.tls),
        user: query.user.clone(),
        password: query.password.clone(),
        database: job.database.clone(),
    };
    let rows = asking.rows(&target, &query.sql, &job.user, query.timeout).await?;
    let Some(stored) = secret_of(&job.user, rows)? else {
        return Ok(None);
    };
    let rows = asking.rows(&target, EXPIRY, &job.user, query.timeout).await?;
    let asked = Instant::now();
    let (may_log_in, left) = limits_of(&rows);
    if !may_log_in {
        return Ok(None);
    }
    // As in PostgreSQL, after its time a password is none.
    let stored = stored.filter(|_| left.is_none_or(|left| !left.is_zero()));
    let until = asked
        + left
            .filter(|left| !left.is_zero())
            .map_or(query.ttl, |left| left.min(query.ttl));
    Ok(Some(Found {
        user: Arc::new(User::new(&job.user, stored)),
        asked,
        until,
    }))
}

/// What the query says about a user: `None`, it does not exist; `Some(None)`, no password fits.
fn secret_of(name: &str, rows: Vec<TextRow>) -> Result<Option<Option<Stored>>, LookupError> {
    let wrong = |what: &str| Err(LookupError::of_one(what));
    let mut rows = rows.into_iter();
    let Some(row) = rows.next() else {
        return Ok(None);
    };
    if rows.next().is_some() {
        return wrong("it gives more than one row");
    }
    let mut columns = row.into_iter();
    let (Some(found), Some(secret)) = (columns.next(), columns.next()) else {
        return wrong("it must give two columns, the user's name and its secret");
    };
    if found.as_deref() != Some(name) {
        return wrong("it gives another user than the one asked for");
    }
    match secret.filter(|secret| !secret.is_empty()) {
        None => Ok(Some(None)),
        Some(secret) => Stored::parse(&secret)
            .map(|stored| Some(Some(stored)))
            .map_err(|error| LookupError::of_one(error.to_string())),
    }
}

/// Whether the catalog lets the role log in, and how long its password lives. A user that is no role is the query's
/// business alone.
fn limits_of(rows: &[TextRow]) -> (bool, Option<Duration>) {
    let Some([left, may_log_in]) = rows.first().map(Vec::as_slice) else {
        return (true, None);
    };
    let left = left
        .as_deref()
        .and_then(|seconds| seconds.parse::<f64>().ok())
        .map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX));
    (may_log_in.as_deref() == Some("t"), left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(columns: &[Option<&str>]) -> TextRow {
        columns.iter().map(|text| text.map(str::to_owned)).collect()
    }

    #[test]
    fn only_one_row_about_the_right_user_is_an_answer() {
        let good = row(&[Some("a"), Some("secret")]);
        assert!(matches!(secret_of("a", vec![]), Ok(None)));
        assert!(matches!(
            secret_of("a", vec![good.clone()]),
            Ok(Some(Some(Stored::Clear(_))))
        ));
        assert!(matches!(
            secret_of("a", vec![row(&[Some("a"), None])]),
            Ok(Some(None))
        ));
        assert!(secret_of("b", vec![good.clone()]).is_err());
        assert!(secret_of("a", vec![good.clone(), good]).is_err());
        assert!(secret_of("a", vec![row(&[Some("a")])]).is_err());
    }

    #[test]
    fn passwords_expire() {
        let left = |seconds| limits_of(&[row(&[seconds, Some("t")])]);
        assert_eq!(left(None), (true, None));
        assert_eq!(left(Some("-3.5")), (true, Some(Duration::ZERO)));
        assert_eq!(left(Some("2.5")), (true, Some(Duration::from_millis(2500))));
        assert_eq!(limits_of(&[row(&[None, Some("f")])]), (false, None));
        assert_eq!(limits_of(&[]), (true, None));
    }

    #[test]
    fn made_up_names_do_not_push_out_users() {
        let query = Arc::new(AuthQuery {
            sql: String::new(),
            user: String::new(),
            password: None,
            database: None,
            ttl: Duration::from_secs(60),
            negative_ttl: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            entries_max: 2,
        });
        let lookups = Lookups::default();
        let job = |name: &str, generation| Job {
            user: name.into(),
            query: Arc::clone(&query),
            address: Address {
                host: String::new(),
                port: 1,
            },
            tls: Arc::default(),
            database: String::new(),
            generation,
        };
        let found = |name| {
            let asked = Instant::now();
            Ok(Some(Found {
                user: Arc::new(User::new(name, None)),
                asked,
                until: asked + Duration::from_secs(60),
            }))
        };
        lookups.finish(&job("a", 0), found("a"));
        for made_up in 0..10 {
            lookups.finish(&job(&format!("x{made_up}"), 0), Ok(None));
        }
        let known = |name| {
            lookups
                .lock()
                .known(name, Instant::now())
                .map(|user| user.is_some())
        };
        assert_eq!(
            (known("a"), known("x9"), known("b")),
            (Some(true), Some(false), None)
        );
        assert!(lookups.lock().missing.len() <= 2);
        lookups.clear();
        lookups.finish(&job("a", 0), found("a"));
        assert_eq!(known("a"), None, "an answer from before the reload is not kept");
    }
}
