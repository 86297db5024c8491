//! What keeps a statement that only reads away from a replica.
//!
//! A hot standby runs a read with the same kind of result unless something the read uses writes, draws from a sequence,
//! locks, belongs to one server, or is not copied there. Each such object has a [`Hindrance`] of its own; an object that
//! uses it when *read* has it too: a view has those of what it selects from, a function those of what its body names, a
//! table those of its policies and partitions. What runs only when a table is written (triggers, defaults, checks of
//! columns, foreign keys) does not count.
//!
//! Volatility is what `pg_proc` says. A function that is declared stable and writes all the same is refused by the
//! replica itself, which is the caller's to notice.
//!
//! Like all look-ups by name these may say yes too often: a hindrance that is none costs a read on the primary.

use crate::closure::{Names, rows};
use crate::load::{DependKind, Object, SnapshotBuilder, StoredBody};
use crate::{BodyParser, Snapshot};
use crate::{Function, FunctionBody, Map, Oid, Persistence, Relation, RelationKind, Set, Volatility, proof};

/// Kinds of hindrances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HindranceKind {
    /// A function that is declared volatile: it may write, draw, lock, or tell something of one server.
    Volatile,
    /// A function or view of PostgreSQL's that tells about the server it runs on, or about its transactions.
    PerServer,
    /// Reads relations or runs queries that are named at run time.
    ByName,
    /// An unlogged table: replicas have none of its rows.
    Unlogged,
    /// A sequence: what a replica shows of it runs ahead.
    Sequence,
    /// A foreign table: the other server is not what positions of this one speak of.
    Foreign,
    /// Large objects.
    LargeObject,
}

/// Why reading an object needs the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hindrance {
    /// Kind.
    pub kind: HindranceKind,
    /// The object it comes from, worded for people: `function public.f`.
    pub what: String,
}

/// Which schemas a name can mean.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// This one.
    Schema(&'a str),
    /// Those of a search path, and `pg_catalog`.
    Path(&'a [String]),
}

impl Scope<'_> {
    fn contains(&self, schema: &str) -> bool {
        match self {
            Self::Schema(named) => *named == schema,
            Self::Path(path) => schema == "pg_catalog" || path.iter().any(|known| known == schema),
        }
    }
}

/// The hindrances of every object that has one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reads {
    hindered: Map<Object, Hindrance>,
    /// Of casts made by users and of support functions of operator classes, which run without being named.
    everything: Option<Hindrance>,
    /// Functions that can be spelt as a column of a row, in lower case.
    like_columns: Vec<(Box<str>, Oid)>,
}

/// Finds what hinders. `safe` names functions (schema, name) that the operator vouches for.
pub(crate) fn judge(
    facts: &SnapshotBuilder,
    names: &Names<'_>,
    bodies: &dyn BodyParser,
    safe: &Set<(String, String)>,
) -> Reads {
    let mut graph = Graph::default();
    for relation in facts.relations.values() {
        graph.hinder(Object::Relation(relation.oid), of_relation(relation));
    }
    for function in facts.functions.values() {
        if safe.contains(&(function.schema.clone(), function.name.clone())) {
            graph.vouched.insert(Object::Function(function.oid));
            continue;
        }
        graph.hinder(Object::Function(function.oid), of_function(function));
        if function.volatility != Volatility::Volatile && !function.builtin {
            graph.add_body(function, facts, names, bodies);
        }
    }
    for operator in facts.operators.values() {
        let function = Object::Function(operator.function);
        graph.refer(Object::Operator(operator.oid), function);
    }
    for (child, parent) in &facts.inherits {
        graph.refer(Object::Relation(*parent), Object::Relation(*child));
    }
    for depend in &facts.depends {
        let runs_when_read = match (depend.why, depend.owner) {
            (DependKind::Rule, Object::Relation(oid)) => facts
                .relations
                .get(&oid)
                .is_some_and(|relation| relation.kind == RelationKind::View),
            (DependKind::Check, Object::Type(_)) => true,
            (DependKind::Policy | DependKind::Body, _) => true,
            _ => false,
        };
        if runs_when_read {
            graph.refer(depend.owner, depend.on);
        }
    }
    let hindered = graph.solve();
    let mut casts = facts.casts.clone();
    casts.sort_unstable();
    let everything = casts
        .iter()
        .find_map(|oid| hindered.get(&Object::Function(*oid)).cloned());
    let like_columns = rows::like_columns(facts)
        .filter(|(function, _)| hindered.contains_key(&Object::Function(function.oid)))
        .map(|(function, _)| (function.name.to_lowercase().into_boxed_str(), function.oid))
        .collect();
    Reads {
        hindered,
        everything,
        like_columns,
    }
}

impl Snapshot {
    /// Why reading this relation needs the primary, if any relation that the name can mean does. `None`: there is no such
    /// relation.
    pub fn relation_hindrance(&self, scope: Scope<'_>, name: &str) -> Option<Option<&Hindrance>> {
        let oids = self.relations_named(name).iter();
        let meant = oids.filter(|oid| {
            let known = self.relation(**oid);
            known.is_some_and(|relation| scope.contains(&relation.schema))
        });
        self.first_of(meant.map(|oid| Object::Relation(*oid)))
    }

    /// The same for a call of a function; any overload counts.
    pub fn function_hindrance(&self, scope: Scope<'_>, name: &str) -> Option<Option<&Hindrance>> {
        let oids = self.functions_named(name).iter();
        let meant = oids.filter(|oid| {
            let known = self.function(**oid);
            known.is_some_and(|function| scope.contains(&function.schema))
        });
        self.first_of(meant.map(|oid| Object::Function(*oid)))
    }

    fn first_of(&self, objects: impl Iterator<Item = Object>) -> Option<Option<&Hindrance>> {
        let mut known = None;
        for object in objects {
            known = Some(self.reads.hindered.get(&object));
            if let Some(Some(_)) = known {
                break;
            }
        }
        known
    }

    /// The same for an operator symbol that is no operator of PostgreSQL's own.
    pub fn operator_hindrance(&self, name: &str) -> Option<&Hindrance> {
        let mut hindering = self
            .operators
            .values()
            .filter(|operator| operator.name == name)
            .filter_map(|operator| {
                let hindrance = self.reads.hindered.get(&Object::Operator(operator.oid))?;
                Some((operator.oid, hindrance))
            })
            .collect::<Vec<_>>();
        hindering.sort_unstable_by_key(|(oid, _)| *oid);
        hindering.first().map(|(_, hindrance)| *hindrance)
    }

    /// The same for a type named in a statement: the checks of domains run where a value is made one.
    pub fn type_hindrance(&self, name: &str) -> Option<&Hindrance> {
        let known = |object: &Object| match object {
            Object::Type(oid) => self.type_info(*oid).is_some_and(|known| known.name == name),
            _ => false,
        };
        let mut found: Vec<_> = self
            .reads
            .hindered
            .iter()
            .filter(|(object, _)| known(object))
            .collect();
        found.sort_unstable_by_key(|(_, hindrance)| &hindrance.what);
        found.first().map(|(_, hindrance)| *hindrance)
    }

    /// What hinders every read, because it runs without being named.
    pub fn hindrance_of_all(&self) -> Option<&Hindrance> {
        self.reads.everything.as_ref()
    }

    /// A hindered function that a text may call by naming it like a column of a row: `t.f` for `f(t)`.
    pub fn hindrance_like_column(&self, text: &str) -> Option<&Hindrance> {
        if self.reads.like_columns.is_empty() {
            return None;
        }
        let text = text.to_lowercase();
        self.reads
            .like_columns
            .iter()
            .find(|(name, _)| text.contains(&**name))
            .and_then(|(_, oid)| self.reads.hindered.get(&Object::Function(*oid)))
    }
}

#[derive(Default)]
struct Graph {
    base: Map<Object, Hindrance>,
    /// From an object to those that use it when they are read.
    users: Map<Object, Vec<Object>>,
    vouched: Set<Object>,
}

impl Graph {
    fn refer(&mut self, from: Object, to: Object) {
        self.users.entry(to).or_default().push(from);
    }

    fn hinder(&mut self, object: Object, hindrance: Option<Hindrance>) {
        if let Some(hindrance) = hindrance {
            self.base.insert(object, hindrance);
        }
    }

    /// What a body names; one that cannot be read is trusted as far as its declaration goes.
    fn add_body(
        &mut self,
        function: &Function,
        facts: &SnapshotBuilder,
        names: &Names<'_>,
        bodies: &dyn BodyParser,
    ) {
        let object = Object::Function(function.oid);
        let Some(StoredBody::Text { source, definition }) = facts.bodies.get(&function.oid) else {
            return;
        };
        if !proof::has_readable_body(function) {
            return;
        }
        let Ok(named) = bodies.body_facts(FunctionBody {
            language: &function.language,
            source,
            definition,
        }) else {
            return;
        };
        for name in &named.relations {
            for oid in names.relations.get(name.as_str()).into_iter().flatten() {
                self.refer(object, Object::Relation(*oid));
            }
        }
        for name in &named.functions {
            for oid in names.functions.get(name.as_str()).into_iter().flatten() {
                self.refer(object, Object::Function(*oid));
            }
        }
        for operator in facts.operators.values().filter(|o| !o.oid.is_builtin()) {
            if source.contains(&operator.name) {
                self.refer(object, Object::Operator(operator.oid));
            }
        }
    }

    /// Carries hindrances to users until nothing changes. The first one stays.
    fn solve(self) -> Map<Object, Hindrance> {
        let Graph {
            base: mut hindered,
            users,
            vouched,
        } = self;
        let mut work: Vec<Object> = hindered.keys().copied().collect();
        // In a fixed order, so that of several reasons always the same one is told.
        work.sort_unstable_by_key(Object::sort_key);
        while let Some(object) = work.pop() {
            let Some(hindrance) = hindered.get(&object).cloned() else {
                continue;
            };
            for user in users.get(&object).into_iter().flatten() {
                if !vouched.contains(user) && !hindered.contains_key(user) {
                    hindered.insert(*user, hindrance.clone());
                    work.push(*user);
                }
            }
        }
        hindered
    }
}

fn of_relation(relation: &Relation) -> Option<Hindrance> {
    let (kind, word) = match relation.kind {
        RelationKind::Sequence => (HindranceKind::Sequence, "sequence"),
        RelationKind::ForeignTable => (HindranceKind::Foreign, "foreign table"),
        _ if relation.persistence == Persistence::Unlogged => (HindranceKind::Unlogged, "unlogged table"),
        _ if !relation.system => return None,
        RelationKind::View if relation.schema == "pg_catalog" => {
            if CATALOG_VIEWS.contains(&relation.name.as_str()) {
                return None;
            }
            (HindranceKind::PerServer, "view")
        }
        _ if relation.name.starts_with("pg_largeobject") => (HindranceKind::LargeObject, "table"),
        _ => return None,
    };
    Some(Hindrance {
        kind,
        what: format!("{word} {}.{}", relation.schema, relation.name),
    })
}

fn of_function(function: &Function) -> Option<Hindrance> {
    let name = function.name.as_str();
    let kind = if function.builtin && proof::reads_by_name(function) {
        HindranceKind::ByName
    } else if function.volatility == Volatility::Volatile {
        // Nobody can call one in a read.
        if function.is_trigger() {
            return None;
        }
        match function.builtin && (name.starts_with("lo_") || matches!(name, "loread" | "lowrite")) {
            true => HindranceKind::LargeObject,
            false => HindranceKind::Volatile,
        }
    } else if function.builtin && tells_of_server(name) {
        HindranceKind::PerServer
    } else {
        return None;
    };
    Some(Hindrance {
        kind,
        what: format!("function {}.{name}", function.schema),
    })
}

/// Views of `pg_catalog` that show the catalog and nothing else; all others count as showing one server.
const CATALOG_VIEWS: &[&str] = &[
    "pg_group",
    "pg_indexes",
    "pg_matviews",
    "pg_policies",
    "pg_publication_tables",
    "pg_roles",
    "pg_rules",
    "pg_seclabels",
    "pg_shadow",
    "pg_stats",
    "pg_stats_ext",
    "pg_stats_ext_exprs",
    "pg_tables",
    "pg_timezone_abbrevs",
    "pg_timezone_names",
    "pg_user",
    "pg_user_mappings",
    "pg_views",
];

/// Families of `pg_…` functions, declared stable or immutable, that read the catalog or nothing.
const CATALOG_FUNCTIONS: &[&str] = &[
    "pg_char_",
    "pg_client_encoding",
    "pg_collation_for",
    "pg_column_",
    "pg_ddl_command_",
    "pg_dependencies_",
    "pg_describe_object",
    "pg_encoding_",
    "pg_filenode_relation",
    "pg_get_",
    "pg_has_role",
    "pg_identify_object",
    "pg_index",
    "pg_input_",
    "pg_lsn",
    "pg_mcv_",
    "pg_ndistinct_",
    "pg_node_tree_",
    "pg_options_to_table",
    "pg_partition_root",
    "pg_relation_",
    "pg_sequence_parameters",
    "pg_size_",
    "pg_snapshot_",
    "pg_timezone_",
    "pg_trigger_depth",
    "pg_typeof",
    "pg_wal_lsn_diff",
];

/// Whether a function of PostgreSQL's own that is not volatile depends on more than its arguments, the settings, the
/// clock and the catalog.
fn tells_of_server(name: &str) -> bool {
    if name.starts_with("pg_") {
        let catalog =
            name.ends_with("_is_visible") || CATALOG_FUNCTIONS.iter().any(|family| name.starts_with(family));
        return !catalog || name == "pg_get_replication_slots";
    }
    name.starts_with("inet_") && (name.contains("_server_") || name.contains("_client_"))
        || name.starts_with("txid_current")
        || name == "mxid_age"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BodyFacts, ShardId, ShardingInput};

    struct NoBodies;

    impl BodyParser for NoBodies {
        fn body_facts(&self, _: FunctionBody<'_>) -> Result<BodyFacts, String> {
            Err("not read".to_owned())
        }
    }

    fn relation(oid: u32, name: &str, kind: RelationKind) -> Relation {
        Relation {
            oid: Oid(oid),
            schema: "public".to_owned(),
            name: name.to_owned(),
            kind,
            ..Relation::default()
        }
    }

    #[test]
    fn views_have_the_hindrances_of_what_they_read() {
        let mut builder = SnapshotBuilder::new();
        builder
            .add_relation(relation(20000, "here", RelationKind::Table))
            .add_relation(relation(20001, "abroad", RelationKind::ForeignTable))
            .add_relation(relation(20002, "over", RelationKind::View))
            .add_view_dependency(Oid(20002), Oid(20001));
        let sharding = ShardingInput {
            home: ShardId(1),
            shards: vec![ShardId(1)],
            ..ShardingInput::default()
        };
        let snapshot = builder.build(&sharding, &NoBodies).expect("a snapshot");
        let path = ["public".to_owned()];
        assert_eq!(
            snapshot.relation_hindrance(Scope::Path(&path), "here"),
            Some(None)
        );
        let found = snapshot.relation_hindrance(Scope::Schema("public"), "over");
        let hindrance = found.flatten().expect("hindered");
        assert_eq!(hindrance.kind, HindranceKind::Foreign);
        assert_eq!(hindrance.what, "foreign table public.abroad");
        assert_eq!(snapshot.relation_hindrance(Scope::Schema("apart"), "over"), None);
    }
}
