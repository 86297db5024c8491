//! Whether carried rows may be stored in portions, one INSERT each, while further rows are read.
//!
//! One INSERT shows its rows to others all at once. What can see the difference to several:
//!
//! * triggers for statements, AFTER triggers (which PostgreSQL runs when all rows are stored), and functions in BEFORE triggers;
//! * `ON CONFLICT DO UPDATE`, which refuses to change a row that the same statement has stored;
//! * foreign keys of the table to itself, checked when all rows are stored;
//! * stable functions in constraints, domains, casts and RETURNING that read tables: they see the state before their statement;
//! * volatile functions of the query, which see what has been written meanwhile.
//!
//! Not among them: unique keys and foreign keys to other tables (the first row that fails ends the transaction), `ON CONFLICT
//! DO NOTHING`, sequences (drawn in the order of the rows), the clock (read once), and stable functions of the query, which see
//! what its portal sees.

use std::collections::HashSet;

use catalog::{Oid, Relation, Snapshot, TypeKind};
use sql::Node;

use super::super::calls::calls;
use super::nodes_of;

/// What is Drover's own on a shard.
const INTERNAL: &str = "drover_internal";

/// Whether they may, for an INSERT into this table of the rows of `query`.
pub(super) fn allowed(tree: &Node, query: &Node, relation: &Relation, snapshot: &Snapshot) -> bool {
    let called = calls(query, snapshot, &HashSet::new());
    let mut checks_domains = false;
    query.walk(|node| checks_domains |= node.is("COERCETODOMAIN"));
    let repeatable =
        called.volatile.is_none() && called.unproved.is_none() && !called.sequence && !checks_domains;
    repeatable
        && !updates_on_conflict(tree)
        && !relation.row_security
        && !relation.has_rules
        && !relation.runs_own_code
        && relation.is_table()
        && !relation
            .all_triggers()
            .any(|trigger| is_foreign(trigger, snapshot))
        && !refers_to_itself(relation, snapshot)
        && relation
            .live_columns()
            .all(|column| is_plain(column.type_oid, snapshot))
        && ["targetList", "returningList", "onConflict"]
            .iter()
            .all(|field| !calls_own(tree, field))
}

/// `ON CONFLICT DO UPDATE`.
fn updates_on_conflict(tree: &Node) -> bool {
    const NOTHING: i64 = 1;
    let conflict = tree.value("onConflict").as_node();
    conflict.is_some_and(|conflict| conflict.i64("action") != Ok(NOTHING))
}

/// A trigger that is not one of Drover's guards.
fn is_foreign(trigger: &catalog::Trigger, snapshot: &Snapshot) -> bool {
    let function = snapshot.function(trigger.function);
    trigger.enabled && function.is_none_or(|function| function.schema != INTERNAL)
}

/// Whether a foreign key joins two rows of the table, its partitions or what it is a partition of.
fn refers_to_itself(relation: &Relation, snapshot: &Snapshot) -> bool {
    let mut family: HashSet<Oid> = HashSet::new();
    let mut work = vec![relation.oid];
    while let Some(oid) = work.pop() {
        if let Some(member) = snapshot.relation(oid).filter(|_| family.insert(oid)) {
            work.extend(member.parents.iter().chain(&member.children));
        }
    }
    let members = family.iter().filter_map(|oid| snapshot.relation(*oid));
    let mut keys = members.flat_map(|member| &member.foreign_keys);
    keys.any(|key| family.contains(&key.referenced))
}

/// A type that has no constraints of its own in it.
fn is_plain(oid: Oid, snapshot: &Snapshot) -> bool {
    let kind = snapshot.type_info(oid).map(|facts| facts.kind);
    oid.is_builtin() || matches!(kind, Some(TypeKind::Base | TypeKind::Enum))
}

/// Whether a part of the INSERT calls a function that somebody has made.
fn calls_own(tree: &Node, field: &str) -> bool {
    let mut own = false;
    for node in nodes_of(tree.value(field)) {
        node.walk(|node| {
            let called = ["funcid", "opno", "aggfnoid", "winfnoid"].iter().any(|field| {
                let oid = node.oid(field).unwrap_or(0);
                oid != 0 && !Oid(oid).is_builtin()
            });
            own |= called || node.is("COERCETODOMAIN");
        });
    }
    own
}
