//! Whether writing to a table runs something that would see, or need, rows of another server.

use crate::closure::{Level, Reach};
use crate::load::{DependKind, Object, SnapshotBuilder, StoredBody};
use crate::{FkAction, ForeignKey, Function, Map, Oid, Placement, Relation, Set, Trigger};

/// Sets [`Relation::unsafe_reason`] and [`Relation::read_unsafe_reason`].
pub(super) fn judge(facts: &mut SnapshotBuilder, reach: &Reach, declared: &Set<(String, String)>) {
    let parts = run_on_write(facts);
    note_own_code(facts, &parts);
    let mut reasons: Map<Oid, String> = Map::default();
    for relation in facts.relations.values().filter(|r| !r.system) {
        let judge = Judge {
            facts,
            reach,
            declared,
            relation,
        };
        let objects = parts.get(&relation.oid).map_or(&[][..], Vec::as_slice);
        if let Some(reason) = judge.reason(objects) {
            reasons.insert(relation.oid, reason);
        }
    }
    spread(facts, &mut reasons);
    let reads: Vec<(Oid, String)> = facts
        .relations
        .values()
        .filter_map(|r| mixed_children(facts, r))
        .collect();
    for (oid, reason) in reads {
        reasons.entry(oid).or_insert_with(|| reason.clone());
        if let Some(relation) = facts.relations.get_mut(&oid) {
            relation.read_unsafe_reason = Some(reason);
        }
    }
    for (oid, reason) in reasons {
        if let Some(relation) = facts.relations.get_mut(&oid) {
            relation.unsafe_reason = Some(reason);
        }
    }
}

/// What each table runs when it is written, apart from what the analyzed tree of the statement shows.
fn run_on_write(facts: &SnapshotBuilder) -> Map<Oid, Vec<(DependKind, Object)>> {
    let mut parts: Map<Oid, Vec<(DependKind, Object)>> = Map::default();
    for depend in &facts.depends {
        let runs = matches!(
            depend.why,
            DependKind::Default | DependKind::Check | DependKind::Index | DependKind::Trigger
        );
        // A reference to a table is a row type here, or the trigger's own table.
        let calls = matches!(
            depend.on,
            Object::Function(_) | Object::Operator(_) | Object::Type(_)
        );
        if let (Object::Relation(oid), true, true) = (depend.owner, runs, calls) {
            parts.entry(oid).or_default().push((depend.why, depend.on));
        }
    }
    for (table, trigger) in facts.triggers.iter().filter(|(_, t)| t.enabled) {
        let object = Object::Function(trigger.function);
        parts
            .entry(*table)
            .or_default()
            .push((DependKind::Trigger, object));
    }
    parts
}

/// Sets [`Relation::runs_own_code`].
fn note_own_code(facts: &mut SnapshotBuilder, parts: &Map<Oid, Vec<(DependKind, Object)>>) {
    let own = |(why, object): &(DependKind, Object)| {
        let (Object::Function(oid) | Object::Operator(oid) | Object::Type(oid)) = object else {
            return false;
        };
        *why != DependKind::Trigger && !oid.is_builtin()
    };
    let mut work: Vec<Oid> = parts
        .iter()
        .filter(|(_, objects)| objects.iter().any(own))
        .map(|(oid, _)| *oid)
        .collect();
    while let Some(oid) = work.pop() {
        if let Some(relation) = facts.relations.get_mut(&oid)
            && !std::mem::replace(&mut relation.runs_own_code, true)
        {
            work.extend(relation.parents.iter().copied());
        }
    }
}

struct Judge<'a> {
    facts: &'a SnapshotBuilder,
    reach: &'a Reach,
    declared: &'a Set<(String, String)>,
    relation: &'a Relation,
}

impl Judge<'_> {
    fn reason(&self, parts: &[(DependKind, Object)]) -> Option<String> {
        let run = parts.iter().find_map(|(why, object)| self.part(*why, *object));
        run.or_else(|| self.row_change())
            .or_else(|| self.whole_statement())
            .or_else(|| self.foreign_key())
            .or_else(|| {
                let index = self.relation.unenforceable_unique()?;
                Some(format!(
                    "index {} of {} does not contain the sharding key",
                    index.name,
                    self.title()
                ))
            })
    }

    fn title(&self) -> String {
        format!("table {}.{}", self.relation.schema, self.relation.name)
    }

    fn part(&self, why: DependKind, object: Object) -> Option<String> {
        let what = match why {
            DependKind::Trigger => "a trigger",
            DependKind::Check => "a constraint",
            DependKind::Index => "an index",
            _ => "a default",
        };
        if let Some(reason) = self.reach.reason(object) {
            return Some(format!("{what} of {} is not proved: {reason}", self.title()));
        }
        // The default nextval(…) of a serial column is taken from the home shard before the row is sent away.
        let builtin_default = why == DependKind::Default
            && matches!(object, Object::Function(oid) if self.facts.functions.get(&oid).is_some_and(|f| f.builtin));
        if self.reach.level(object) == Level::Home && !self.relation.placement.is_home() && !builtin_default {
            return Some(format!("{what} of {} works on the home shard only", self.title()));
        }
        None
    }

    /// A BEFORE row trigger could move a row to a place where nobody looks for it, or make the copies of a reference
    /// table differ (`now()`, `random()`).
    fn row_change(&self) -> Option<String> {
        let sharded = match &self.relation.placement {
            Placement::Home => return None,
            Placement::Reference => false,
            // No column decides anything.
            Placement::Sharded { key, .. } if key.is_empty() => return None,
            Placement::Sharded { .. } => true,
        };
        let triggers = self
            .relation
            .triggers
            .iter()
            .filter(|t| t.enabled && t.may_change_row());
        let function = triggers
            .filter_map(|t| self.facts.functions.get(&t.function))
            .find(|f| !(self.is_trusted(f) || sharded && self.keeps_key(f)))?;
        let what = if sharded {
            "change the sharding key"
        } else {
            "make copies of a row differ"
        };
        Some(format!(
            "trigger function {}.{} of {} might {what}",
            function.schema,
            function.name,
            self.title()
        ))
    }

    /// A trigger that sees all rows of the statement would see those of one shard. Drover's own mean just that.
    fn whole_statement(&self) -> Option<String> {
        let placement = &self.relation.placement;
        if !matches!(placement, Placement::Sharded { .. }) || placement.is_placed() {
            return None;
        }
        let functions = &self.facts.functions;
        let is_own = |t: &Trigger| {
            functions
                .get(&t.function)
                .is_some_and(|f| f.schema == "drover_internal")
        };
        let mut triggers = self.relation.triggers.iter();
        let found = triggers.find(|t| t.enabled && t.transition_table && !is_own(t))?;
        Some(format!(
            "trigger {} of {} sees the rows of the whole statement, and a shard has only some",
            found.name,
            self.title()
        ))
    }

    /// Built in (those change text search columns only, by their arguments), or declared by the operator.
    fn is_trusted(&self, function: &Function) -> bool {
        function.builtin
            || self
                .declared
                .contains(&(function.schema.clone(), function.name.clone()))
    }

    fn keeps_key(&self, function: &Function) -> bool {
        match self.facts.bodies.get(&function.oid) {
            Some(StoredBody::Text { source, .. }) => {
                let mut names = self.relation.key_names();
                names.all(|key| !may_assign(source, key))
            }
            _ => false,
        }
    }

    /// Foreign keys between tables whose rows do not meet on one shard.
    fn foreign_key(&self) -> Option<String> {
        let keys = self
            .relation
            .foreign_keys
            .iter()
            .chain(&self.relation.referenced_by);
        for key in keys {
            let (Some(from), Some(to)) = (
                self.facts.relations.get(&key.table),
                self.facts.relations.get(&key.referenced),
            ) else {
                continue;
            };
            if !meets(key, from, to) {
                let names = (&from.schema, &from.name, &to.schema, &to.name);
                return Some(format!(
                    "foreign key {} from {}.{} to {}.{} joins rows of different shards",
                    key.name, names.0, names.1, names.2, names.3
                ));
            }
        }
        None
    }
}

/// Whether a foreign key can be checked, and its actions carried out, on each shard alone.
fn meets(key: &ForeignKey, from: &Relation, to: &Relation) -> bool {
    match (&from.placement, &to.placement) {
        // Rows of a home table exist where the copy of the reference table is, on the home shard.
        (Placement::Home, Placement::Home | Placement::Reference)
        | (Placement::Reference, Placement::Reference)
        | (Placement::Sharded { .. }, Placement::Reference) => true,
        (
            Placement::Sharded {
                key: from_key,
                map: from_map,
            },
            Placement::Sharded {
                key: to_key,
                map: to_map,
            },
        ) => {
            let pairs = key.columns.iter().zip(&key.referenced_columns);
            let has_pair = |(a, b): (i16, i16)| pairs.clone().any(|(x, y)| (*x, *y) == (a, b));
            from_map == to_map
                && from_key.len() == to_key.len()
                && from_key
                    .iter()
                    .zip(to_key)
                    .all(|(a, b)| has_pair((a.attnum, b.attnum)))
        }
        _ => false,
    }
}

/// Carries reasons from tables written by foreign-key actions, and from children, to the tables that cause the write.
fn spread(facts: &SnapshotBuilder, reasons: &mut Map<Oid, String>) {
    let mut work: Vec<Oid> = reasons.keys().copied().collect();
    work.sort_unstable();
    while let Some(oid) = work.pop() {
        let (Some(relation), Some(reason)) = (facts.relations.get(&oid), reasons.get(&oid).cloned()) else {
            continue;
        };
        let acts = |k: &&ForeignKey| {
            [k.on_update, k.on_delete]
                .iter()
                .any(|a| !matches!(a, FkAction::NoAction | FkAction::Restrict))
        };
        let causes = relation.foreign_keys.iter().filter(acts).map(|k| k.referenced);
        for cause in causes.chain(relation.parents.iter().copied()) {
            if !reasons.contains_key(&cause) {
                reasons.insert(cause, reason.clone());
                work.push(cause);
            }
        }
    }
}

fn mixed_children(facts: &SnapshotBuilder, relation: &Relation) -> Option<(Oid, String)> {
    // Descendants of sharded and reference tables are placed like them; only a home parent can have others.
    if !relation.placement.is_home() {
        return None;
    }
    let mut seen: Set<Oid> = Set::default();
    let mut work = relation.children.clone();
    while let Some(oid) = work.pop() {
        let Some(child) = facts.relations.get(&oid).filter(|_| seen.insert(oid)) else {
            continue;
        };
        if !child.placement.is_home() {
            let reason = format!(
                "table {}.{} is on the home shard, but {}.{}, which belongs to it, is not",
                relation.schema, relation.name, child.schema, child.name
            );
            return Some((relation.oid, reason));
        }
        work.extend(&child.children);
    }
    None
}

/// Whether a PL/pgSQL trigger body might change column `key` of NEW. Says yes when it merely names it.
fn may_assign(body: &str, key: &str) -> bool {
    // A comment may hide what belongs together, and a string that looks like a comment may hide code: read it both ways.
    let body = body.to_lowercase();
    let key = key.to_lowercase();
    key.contains('"')
        || body.contains("u&\"")
        || names_key_or_row(&body, &key)
        || names_key_or_row(&without_comments(&body), &key)
}

fn names_key_or_row(body: &str, key: &str) -> bool {
    let words: Vec<(&str, &str)> = Words { rest: body }.collect();
    words.iter().enumerate().any(|(i, (word, after))| {
        let previous = i.checked_sub(1).map_or("", |p| words[p].0);
        match *word {
            w if w == key => true,
            // The whole row: only as `new.column`, an argument, or what is returned.
            "new" => {
                matches!(previous, "into" | "strict" | "for" | "foreach")
                    || !after.trim_start().starts_with(['.', ';', ')', ','])
            }
            "return" => {
                let (next, end) = words.get(i + 1).copied().unwrap_or(("", ""));
                let plain = matches!(next, "new" | "old" | "null") && end.trim_start().starts_with(';');
                !after.trim().is_empty() || !plain
            }
            _ => false,
        }
    })
}

fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = [rest.find("--"), rest.find("/*")].into_iter().flatten().min() {
        out.push_str(&rest[..start]);
        out.push(' ');
        let comment = &rest[start..];
        let end = if comment.starts_with("--") {
            comment.find('\n')
        } else {
            comment.find("*/").map(|end| end + 2)
        };
        rest = end.map_or("", |end| &comment[end..]);
    }
    out.push_str(rest);
    out
}

/// The words of a text, each with what stands between it and the next one.
struct Words<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Words<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
        let start = self.rest.find(is_word)?;
        let from = &self.rest[start..];
        let end = from.find(|c| !is_word(c)).unwrap_or(from.len());
        let (word, rest) = from.split_at(end);
        let gap = rest.find(is_word).unwrap_or(rest.len());
        self.rest = rest;
        Some((word, &rest[..gap]))
    }
}
