//! What one worker's sessions share: pools, plan contexts, and the cluster's state as all workers see it.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use catalog::Snapshot;
use hashbrown::{HashMap, HashSet};

use crate::cluster::{Cluster, Running};
use crate::exec::cache::StatementCache;
use crate::metrics::WorkerMetrics;
use crate::observer::Observer;
use crate::pools::Pools;
use crate::rules::Rules;
use crate::server::{Parameters, StatementId};
use crate::session::Floors;
use crate::session::Workspaces;
use crate::session::settings::Settings;
use crate::worker::{Shared, Watches, WorkerCtx};

/// Everything that plans depend on: sessions that agree on it share one cache of statements.
pub struct PlanContext {
    /// Schema facts and sharding metadata.
    pub snapshot: Arc<Snapshot>,
    /// The version of the snapshot ([`crate::cluster::Database::version`]); another version means another context.
    pub version: u64,
    /// Schemas an unqualified name is looked up in.
    pub search_path: Vec<String>,
    /// `standard_conforming_strings` is on.
    pub conforming_strings: bool,
    /// What clients send is what servers store: their encoding is UTF-8, or none. Otherwise bytes beyond ASCII mean nothing
    /// here, and may be letters that are hashed and ordered in another way.
    pub utf8: bool,
    /// That encoding, as `pg_client_encoding()` calls it.
    pub encoding: Arc<str>,
    /// What was parsed and planned so far.
    pub statements: StatementCache,
    /// Unlike any other context's.
    pub(crate) id: Cell<u64>,
}

impl PlanContext {
    /// Unlike any other context's; another one when what was planned is forgotten.
    pub fn id(&self) -> u64 {
        self.id.get()
    }
}

/// The settings of a session that its plans depend on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct ContextKey {
    database: Arc<str>,
    user: Arc<str>,
    fingerprint: String,
}

/// Contexts per worker; beyond this all are dropped, which costs re-planning.
const CONTEXTS_MAX: usize = 256;

/// Prepared texts known per worker; beyond this they are forgotten, which costs servers a second preparation.
const PREPARED_MAX: usize = 16 * 1024;

/// Database, user and start-up settings.
type GreetingKey = (Arc<str>, Arc<str>, String);

/// A text and the parameter types the client fixed.
type PreparedKey = (Box<str>, Box<[u32]>, u64);

/// Names and values, by database and user.
type OwnDefaults = HashMap<(Arc<str>, Arc<str>), Rc<[(String, String)]>>;

/// One worker's share of the proxy.
pub struct Engine {
    /// Server connections.
    pub pools: Pools,
    /// State shared by all workers.
    pub cluster: Arc<Cluster>,
    /// The worker layer's shared state.
    pub shared: Arc<Shared>,
    /// This worker's counters.
    pub metrics: Arc<WorkerMetrics>,
    /// What becomes of what sessions observe.
    pub observer: Observer,
    contexts: RefCell<HashMap<ContextKey, Rc<PlanContext>>>,
    /// All contexts that somebody has.
    all_contexts: RefCell<Vec<Weak<PlanContext>>>,
    /// What is blocked or rewritten.
    rules: RefCell<Arc<Rules>>,
    /// Reported settings of a fresh session.
    greetings: RefCell<HashMap<GreetingKey, Rc<Parameters>>>,
    /// What ALTER ROLE and ALTER DATABASE set of Drover's own settings, by database and user.
    own_defaults: RefCell<OwnDefaults>,
    /// Settings sessions start with: one object for all that agree, so that most comparisons are of addresses.
    settings: RefCell<HashSet<Rc<Settings>>>,
    /// Ids of prepared texts.
    prepared: RefCell<HashMap<PreparedKey, StatementId>>,
    /// Room to work in that no session uses.
    pub(crate) workspaces: Workspaces,
    /// What replicas must have replayed before they serve statements planned here.
    pub floors: Floors,
    /// Counts this worker's running statements for those who want to pause them.
    pub running: Running,
    /// Watches the times of this worker's sessions.
    pub(crate) watches: Rc<Watches>,
}

impl Engine {
    /// An engine over a worker's pools.
    pub fn new(ctx: &WorkerCtx, cluster: Arc<Cluster>) -> Rc<Self> {
        let running = cluster.gate.register();
        let engine = Rc::new(Self {
            pools: ctx.pools.clone(),
            cluster,
            shared: Arc::clone(&ctx.shared),
            metrics: Arc::clone(&ctx.metrics),
            observer: Observer::new(ctx),
            contexts: RefCell::default(),
            all_contexts: RefCell::default(),
            rules: RefCell::new(Arc::clone(&ctx.shared.policies.source().rules)),
            greetings: RefCell::default(),
            own_defaults: RefCell::default(),
            settings: RefCell::default(),
            prepared: RefCell::default(),
            workspaces: Workspaces::default(),
            floors: Floors::of_worker(&ctx.shared.floors),
            running,
            watches: Rc::clone(&ctx.watches),
        });
        let weak = Rc::downgrade(&engine);
        ctx.reconfigured.borrow_mut().push(Box::new(move || {
            if let Some(engine) = weak.upgrade() {
                engine.observer.reconfigure();
                engine.follow_rules();
            }
        }));
        engine
    }

    /// What is blocked or rewritten.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.borrow())
    }

    /// Other rules may hold from now on: then every statement is learnt anew.
    fn follow_rules(&self) {
        let rules = Arc::clone(&self.shared.policies.source().rules);
        if Arc::ptr_eq(&rules, &self.rules.borrow()) {
            return;
        }
        self.rules.replace(rules);
        for context in self.all_contexts.borrow().iter().filter_map(Weak::upgrade) {
            context.statements.clear();
            context.id.set(self.next_statement_id().0);
        }
    }

    /// A new context; it hears of other rules.
    pub fn new_context(&self, context: PlanContext) -> Rc<PlanContext> {
        let context = Rc::new(context);
        let mut all = self.all_contexts.borrow_mut();
        if all.len() == all.capacity() {
            all.retain(|context| context.strong_count() > 0);
        }
        all.push(Rc::downgrade(&context));
        context
    }

    /// The object that all sessions with these settings share.
    pub fn shared_settings(&self, settings: Settings) -> Rc<Settings> {
        let mut all = self.settings.borrow_mut();
        if let Some(known) = all.get(&settings) {
            return Rc::clone(known);
        }
        if all.len() >= CONTEXTS_MAX {
            all.clear();
        }
        let settings = Rc::new(settings);
        all.insert(Rc::clone(&settings));
        settings
    }

    /// What ALTER ROLE and ALTER DATABASE set of Drover's own settings, as far as that was asked.
    pub fn own_defaults(&self, database: &Arc<str>, user: &Arc<str>) -> Option<Rc<[(String, String)]>> {
        let all = self.own_defaults.borrow();
        all.get(&(Arc::clone(database), Arc::clone(user))).map(Rc::clone)
    }

    /// Keeps them.
    pub fn keep_own_defaults(&self, database: &Arc<str>, user: &Arc<str>, defaults: Rc<[(String, String)]>) {
        let mut all = self.own_defaults.borrow_mut();
        if all.len() >= CONTEXTS_MAX {
            all.clear();
        }
        all.insert((Arc::clone(database), Arc::clone(user)), defaults);
    }

    /// An id for a statement, unique in the proxy.
    pub fn next_statement_id(&self) -> StatementId {
        self.shared.next_statement_id()
    }

    /// The id of a text that clients prepare with these types: the same for all of them, so that servers prepare once.
    ///
    /// What a text means depends on the context (`search_path`, the schema), and a server fixes it when it prepares.
    pub fn prepared_id(&self, text: &str, types: &[u32], context: &PlanContext) -> StatementId {
        let mut prepared = self.prepared.borrow_mut();
        let key = (Box::from(text), Box::from(types), context.id());
        if let Some(id) = prepared.get(&key) {
            return *id;
        }
        if prepared.len() >= PREPARED_MAX {
            prepared.clear();
        }
        let id = self.shared.next_statement_id();
        prepared.insert(key, id);
        id
    }

    /// The context of a session, if a current one exists.
    pub fn context(
        &self,
        database: &Arc<str>,
        user: &Arc<str>,
        fingerprint: &str,
        version: u64,
    ) -> Option<Rc<PlanContext>> {
        let key = ContextKey {
            database: Arc::clone(database),
            user: Arc::clone(user),
            fingerprint: fingerprint.to_owned(),
        };
        self.contexts
            .borrow()
            .get(&key)
            .filter(|context| context.version == version)
            .cloned()
    }

    /// Keeps a context for sessions to come.
    pub fn keep_context(
        &self,
        database: &Arc<str>,
        user: &Arc<str>,
        fingerprint: String,
        context: &Rc<PlanContext>,
    ) {
        let key = ContextKey {
            database: Arc::clone(database),
            user: Arc::clone(user),
            fingerprint,
        };
        let mut contexts = self.contexts.borrow_mut();
        if contexts.len() >= CONTEXTS_MAX {
            contexts.clear();
        }
        contexts.insert(key, Rc::clone(context));
    }

    /// The reported settings a fresh session of this kind starts with, when known.
    pub fn greeting(&self, database: &Arc<str>, user: &Arc<str>, startup: &str) -> Option<Rc<Parameters>> {
        let key = (Arc::clone(database), Arc::clone(user), startup.to_owned());
        self.greetings.borrow().get(&key).cloned()
    }

    /// Remembers them.
    pub fn keep_greeting(
        &self,
        database: &Arc<str>,
        user: &Arc<str>,
        startup: String,
        parameters: Parameters,
    ) -> Rc<Parameters> {
        let parameters = Rc::new(parameters);
        let mut greetings = self.greetings.borrow_mut();
        if greetings.len() >= CONTEXTS_MAX {
            greetings.clear();
        }
        greetings.insert(
            (Arc::clone(database), Arc::clone(user), startup),
            Rc::clone(&parameters),
        );
        parameters
    }
}
