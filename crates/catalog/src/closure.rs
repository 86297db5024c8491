//! What a catalog object can reach, as the least fixed point over references by OID and by name.

use crate::load::{Object, SnapshotBuilder, StoredBody};
use crate::{
    BodyFacts, BodyParser, Function, FunctionBody, FunctionKind, Map, Oid, Placement, Proof, Relation, Set,
    proof,
};

pub(crate) mod acts;
pub(crate) mod rows;

pub use acts::SessionActs;

/// What using an object can touch. Ordered: the join of two levels is the greater one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// No table.
    Pure,
    /// Home tables and the catalog.
    Home,
    /// A sharded or reference table, or something not known.
    Unproved,
}

/// Levels of all objects that have one above the least.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    levels: Map<Object, Reached>,
    acts: Map<Object, SessionActs>,
}

#[derive(Debug, Clone)]
struct Reached {
    level: Level,
    /// The root cause, worded for a client; empty below `Unproved`.
    reason: String,
}

impl Reach {
    pub(crate) fn level(&self, object: Object) -> Level {
        self.levels.get(&object).map_or(Level::Pure, |r| r.level)
    }

    /// What using the object may leave behind in a server process.
    pub(crate) fn acts(&self, object: Object) -> SessionActs {
        self.acts.get(&object).copied().unwrap_or_default()
    }

    /// Whether any object that users made may do this.
    pub(crate) fn some_act(&self, acts: SessionActs) -> bool {
        self.acts
            .iter()
            .any(|(object, all)| all.contains(acts) && !object.is_builtin())
    }

    /// Why the object is unproved.
    pub(crate) fn reason(&self, object: Object) -> Option<&str> {
        self.levels
            .get(&object)
            .filter(|r| r.level == Level::Unproved)
            .map(|r| r.reason.as_str())
    }

    /// The proof of a function.
    pub(crate) fn proof(&self, function: &Function) -> Proof {
        match self.levels.get(&Object::Function(function.oid)) {
            None => Proof::Pure,
            Some(reached) => match reached.level {
                Level::Pure => Proof::Pure,
                Level::Home => Proof::HomeOnly,
                Level::Unproved => Proof::Unproved(reached.reason.clone()),
            },
        }
    }
}

/// Names of relations and functions, unqualified.
pub(crate) struct Names<'a> {
    pub(crate) relations: &'a Map<Box<str>, Vec<Oid>>,
    pub(crate) functions: &'a Map<Box<str>, Vec<Oid>>,
}

/// What bodies are read with.
struct Context<'a> {
    facts: &'a SnapshotBuilder,
    names: &'a Names<'a>,
    bodies: &'a dyn BodyParser,
    /// What any expression may run without naming it: casts, operator classes, and constraints of domains.
    implicit: Set<Object>,
    /// Functions that can be spelt as a column, with their names in lower case.
    like_columns: Vec<(String, Oid)>,
}

/// Computes [`Reach`]. Placements of the relations must be set.
pub(crate) fn reach(
    facts: &SnapshotBuilder,
    names: &Names<'_>,
    declared_local: &Set<(String, String)>,
    bodies: &dyn BodyParser,
) -> Reach {
    let mut graph = Graph::default();
    let cx = Context {
        facts,
        names,
        bodies,
        implicit: implicit_calls(facts),
        like_columns: rows::like_columns(facts)
            .map(|(f, _)| (f.name.to_lowercase(), f.oid))
            .collect(),
    };
    for relation in facts.relations.values() {
        graph.add_relation(relation);
    }
    for function in facts.functions.values() {
        if declared_local.contains(&(function.schema.clone(), function.name.clone())) {
            graph.fixed.insert(Object::Function(function.oid));
        }
        graph.add_function(function, &cx);
    }
    for operator in facts.operators.values() {
        graph.refer(
            Object::Operator(operator.oid),
            Object::Function(operator.function),
        );
    }
    for depend in &facts.depends {
        graph.refer_level(depend.owner, depend.on);
        if !is_known(facts, depend.on) {
            graph.raise(
                depend.on,
                Level::Unproved,
                "it refers to an object that is not known".to_owned(),
            );
            graph.act(depend.on, SessionActs::SESSION);
        }
    }
    for (table, trigger) in facts.triggers.iter().filter(|(_, t)| t.enabled) {
        graph.refer_level(Object::Relation(*table), Object::Function(trigger.function));
    }
    for key in &facts.foreign_keys {
        // Checks read the referenced table, actions write the referencing one.
        graph.refer_level(Object::Relation(key.table), Object::Relation(key.referenced));
        graph.refer_level(Object::Relation(key.referenced), Object::Relation(key.table));
    }
    for (child, parent) in &facts.inherits {
        graph.refer_level(Object::Relation(*parent), Object::Relation(*child));
    }
    acts::connect(&mut graph, facts);
    rows::connect(&mut graph, facts);
    graph.solve()
}

fn is_known(facts: &SnapshotBuilder, object: Object) -> bool {
    match object {
        Object::Relation(oid) => facts.relations.contains_key(&oid),
        Object::Function(oid) => facts.functions.contains_key(&oid),
        Object::Operator(oid) => facts.operators.contains_key(&oid),
        Object::Row(_) => true,
        Object::Writes(oid) => facts.relations.contains_key(&oid),
        // Types are only reached for the constraints of domains, which are dependencies of their own.
        Object::Type(_) => true,
    }
}

fn implicit_calls(facts: &SnapshotBuilder) -> Set<Object> {
    let domains = facts
        .depends
        .iter()
        .map(|d| d.owner)
        .filter(|owner| matches!(owner, Object::Type(_)));
    domains
        .chain(facts.casts.iter().map(|oid| Object::Function(*oid)))
        .collect()
}

#[derive(Default)]
struct Graph {
    base: Map<Object, Reached>,
    /// From an object to those that refer to it, where levels are carried along.
    users: Map<Object, Vec<Object>>,
    /// The same for acts, which tell reading from writing.
    acting_users: Map<Object, Vec<Object>>,
    /// Objects whose level is declared and not computed.
    fixed: Set<Object>,
    /// What objects do themselves to the server process.
    acts: Map<Object, SessionActs>,
}

impl Graph {
    fn refer(&mut self, from: Object, to: Object) {
        self.refer_level(from, to);
        self.refer_act(from, to);
    }

    fn refer_level(&mut self, from: Object, to: Object) {
        self.users.entry(to).or_default().push(from);
    }

    fn refer_act(&mut self, from: Object, to: Object) {
        self.acting_users.entry(to).or_default().push(from);
    }

    fn raise(&mut self, object: Object, level: Level, reason: String) {
        let known = self.base.entry(object).or_insert(Reached {
            level: Level::Pure,
            reason: String::new(),
        });
        if level > known.level {
            *known = Reached { level, reason };
        }
    }

    fn act(&mut self, object: Object, acts: SessionActs) {
        if acts != SessionActs::NONE {
            let known = self.acts.entry(object).or_default();
            *known = known.and(acts);
        }
    }

    fn add_relation(&mut self, relation: &Relation) {
        let what = match relation.placement {
            Placement::Home => None,
            Placement::Sharded { .. } => Some("is sharded"),
            Placement::Reference => Some("is a reference table"),
        };
        let level = if what.is_some() {
            Level::Unproved
        } else {
            Level::Home
        };
        let reason = what.map(|what| format!("table {}.{} {what}", relation.schema, relation.name));
        self.raise(Object::Relation(relation.oid), level, reason.unwrap_or_default());
    }

    fn add_function(&mut self, function: &Function, cx: &Context<'_>) {
        let object = Object::Function(function.oid);
        let proof = match function.language.as_str() {
            _ if function.builtin => proof::builtin(function),
            // information_schema's own helpers.
            _ if function.oid.is_builtin() => Proof::HomeOnly,
            // Every shard has it, with a number of its own. It leaves nothing behind.
            _ if function.is_next_id() => return,
            // The support functions of an aggregate are among its recorded dependencies.
            _ if function.kind == FunctionKind::Aggregate => Proof::Pure,
            "c" | "internal" => proof::native(function),
            _ if proof::has_readable_body(function) => {
                cx.implicit.iter().for_each(|call| self.refer(object, *call));
                return self.add_body(function, cx);
            }
            _ => proof::foreign_language(function),
        };
        self.act(object, acts::declared(function));
        match proof {
            Proof::Pure => {}
            Proof::HomeOnly => self.raise(object, Level::Home, String::new()),
            Proof::Unproved(reason) => self.raise(object, Level::Unproved, reason),
        }
    }

    fn add_body(&mut self, function: &Function, cx: &Context<'_>) {
        let object = Object::Function(function.oid);
        let (source, definition) = match cx.facts.bodies.get(&function.oid) {
            Some(StoredBody::Text { source, definition }) => (source, definition),
            Some(StoredBody::Parsed) => return,
            None => return self.unproved(function, "has no known body"),
        };
        // Operators are not among the names of a body; a symbol that occurs in the text may be one.
        for operator in cx.facts.operators.values().filter(|o| !o.oid.is_builtin()) {
            // `=` is meant by USING, NATURAL, CASE and IN, too.
            if operator.name == "=" || source.contains(&operator.name) {
                self.refer(object, Object::Operator(operator.oid));
            }
        }
        let text = source.to_lowercase();
        for (_, function) in cx.like_columns.iter().filter(|(name, _)| text.contains(name)) {
            self.refer(object, Object::Function(*function));
        }
        let facts = match cx.bodies.body_facts(FunctionBody {
            language: &function.language,
            source,
            definition,
        }) {
            Ok(facts) => facts,
            Err(why) => return self.unproved(function, &format!("cannot be analyzed: {why}")),
        };
        if facts.notifies {
            self.act(object, SessionActs::NOTIFIES);
        }
        if facts.keeps_custom_setting {
            self.act(object, SessionActs::PROCESS);
        }
        if facts.acts_on_session {
            self.act(object, SessionActs::SESSION);
        }
        if facts.dynamic_sql && cx.names.functions.contains_key(acts::DBLINK) {
            self.act(object, SessionActs::PROCESS);
        }
        if facts.dynamic_sql {
            self.unproved(function, "runs SQL made at run time");
        } else if facts.sets_config {
            self.unproved(function, "changes settings");
        } else if facts.utility {
            self.unproved(function, "runs utility statements");
        } else if facts.notifies || facts.acts_on_session {
            // On another shard nobody would hear of it.
            self.raise(object, Level::Home, String::new());
        }
        self.add_names(object, function, &facts, cx.names);
    }

    fn add_names(&mut self, object: Object, function: &Function, facts: &BodyFacts, names: &Names<'_>) {
        for name in &facts.relations {
            match names.relations.get(name.as_str()) {
                Some(oids) => oids.iter().for_each(|oid| {
                    self.refer_level(object, Object::Relation(*oid));
                    self.refer_act(object, acts::used_by(function, *oid));
                }),
                None if facts.candidates => {}
                None => {
                    return self.unproved(function, &format!("names relation {name}, which is not known"));
                }
            }
        }
        for name in &facts.functions {
            match names.functions.get(name.as_str()) {
                // What the calls of a body set was read off their arguments.
                Some(oids) if name == "set_config" => oids
                    .iter()
                    .for_each(|oid| self.refer_level(object, Object::Function(*oid))),
                Some(oids) => oids
                    .iter()
                    .for_each(|oid| self.refer(object, Object::Function(*oid))),
                None if facts.candidates => {}
                None => return self.unproved(function, &format!("calls {name}, which is not known")),
            }
        }
    }

    fn unproved(&mut self, function: &Function, why: &str) {
        let reason = format!("function {}.{} {why}", function.schema, function.name);
        self.act(Object::Function(function.oid), SessionActs::SESSION);
        self.raise(Object::Function(function.oid), Level::Unproved, reason);
    }

    /// Carries levels from objects to their users until nothing changes. Each object rises at most twice.
    fn solve(self) -> Reach {
        let acts = acts::solve(&self);
        let Graph {
            base, users, fixed, ..
        } = self;
        let mut levels: Map<Object, Reached> = base
            .into_iter()
            .filter(|(object, r)| r.level > Level::Pure && !fixed.contains(object))
            .collect();
        let mut work: Vec<Object> = levels.keys().copied().collect();
        // In a fixed order, so that of several reasons always the same one is told.
        work.sort_unstable_by_key(Object::sort_key);
        while let Some(object) = work.pop() {
            let Some(reached) = levels.get(&object).cloned() else {
                continue;
            };
            for user in users.get(&object).into_iter().flatten() {
                if fixed.contains(user) {
                    continue;
                }
                if levels.get(user).is_none_or(|known| known.level < reached.level) {
                    levels.insert(*user, reached.clone());
                    work.push(*user);
                }
            }
        }
        Reach { levels, acts }
    }
}

impl Object {
    fn is_builtin(&self) -> bool {
        match self {
            Object::Relation(oid)
            | Object::Function(oid)
            | Object::Operator(oid)
            | Object::Type(oid)
            | Object::Row(oid)
            | Object::Writes(oid) => oid.is_builtin(),
        }
    }

    pub(crate) fn sort_key(&self) -> (u8, u32) {
        match self {
            Object::Relation(oid) => (0, oid.0),
            Object::Function(oid) => (1, oid.0),
            Object::Operator(oid) => (2, oid.0),
            Object::Type(oid) => (3, oid.0),
            Object::Row(oid) => (4, oid.0),
            Object::Writes(oid) => (5, oid.0),
        }
    }
}
