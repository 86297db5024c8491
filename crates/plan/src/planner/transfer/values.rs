//! INSERT … VALUES as INSERT … SELECT: the same rows, made by a query.

use sql::{Node, Value};

use super::super::columns::type_of;
use crate::{Many, Plan};

/// The tree of `INSERT … SELECT * FROM (SELECT each assigned value FROM …)`, for an INSERT whose values stand for themselves.
/// Everything that is evaluated moves down one level as a whole, so that references between levels stay right.
pub(super) fn as_query(tree: &Node) -> Option<Node> {
    let rtable = tree.list("rtable").ok()?;
    let index = rtable.len() + 1;
    let (mut inner, mut outer, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for target in tree.nodes("targetList").ok()? {
        let expr = target.node("expr").ok()?;
        if draws(expr) {
            outer.push(Value::Node(Box::new(target.clone())));
            continue;
        }
        let (type_oid, collation) = type_of(expr)?;
        let number = inner.len() + 1;
        inner.push(with(target, &[("resno", atom(number))]));
        let column = node(
            "VAR",
            vec![
                ("varno", atom(index)),
                ("varattno", atom(number)),
                ("vartype", atom(type_oid)),
                ("vartypmod", atom(-1)),
                ("varcollid", atom(collation)),
                ("varlevelsup", atom(0)),
                ("location", atom(-1)),
            ],
        );
        outer.push(with(target, &[("expr", column)]));
        names.push(Value::Str(format!("c{number}").into()));
    }
    if inner.is_empty() {
        return None;
    }
    let query = with(
        tree,
        &[
            ("commandType", atom(1)),
            ("resultRelation", atom(0)),
            ("override", atom(0)),
            ("targetList", Value::List(inner)),
            ("onConflict", Value::Null),
            ("returningList", Value::Null),
            ("withCheckOptions", Value::Null),
        ],
    );
    let entry = subquery_entry(rtable.first()?.as_node()?, query, names);
    let item = node("RANGETBLREF", vec![("rtindex", atom(index))]);
    let from = node(
        "FROMEXPR",
        vec![("fromlist", Value::List(vec![item])), ("quals", Value::Null)],
    );
    let entries = rtable.iter().cloned().chain([entry]);
    let changed = with(
        tree,
        &[
            ("rtable", Value::List(entries.collect())),
            ("jointree", from),
            ("targetList", Value::List(outer)),
            ("cteList", Value::Null),
        ],
    );
    match changed {
        Value::Node(tree) => Some(*tree),
        _ => None,
    }
}

/// The rows are in the text: there is no reason to store them in portions.
pub(super) fn all_at_once(mut plan: Plan) -> Plan {
    if let Many::Transfer(transfer) = &mut plan.many {
        transfer.in_portions = false;
    }
    plan
}

/// A range table entry for a query in FROM; `shape` is any other entry of its server.
fn subquery_entry(shape: &Node, query: Value, names: Vec<Value>) -> Value {
    Value::Node(Box::new(Node {
        name: shape.name.clone(),
        fields: fields(vec![
            ("alias", Value::Null),
            ("eref", alias("made", names)),
            ("rtekind", atom(1)),
            ("subquery", query),
            ("security_barrier", atom(false)),
            ("lateral", atom(false)),
            ("inh", atom(false)),
            ("inFromCl", atom(true)),
            ("securityQuals", Value::Null),
        ]),
    }))
}

/// Whether an expression is one that is drawn from a sequence, for a row or by its own server: that is not for a query to do.
fn draws(expr: &Node) -> bool {
    let (mut draws, mut reads) = (false, false);
    expr.walk(|node| {
        draws |= node.is("NEXTVALUEEXPR") || super::is_nextval(node);
        reads |= node.is("VAR") || node.is("PARAM") || node.is("SUBLINK");
    });
    draws && !reads
}

fn atom(value: impl std::fmt::Display) -> Value {
    Value::Atom(value.to_string().into())
}

fn fields(list: Vec<(&str, Value)>) -> Vec<(Box<str>, Value)> {
    list.into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect()
}

fn node(name: &str, list: Vec<(&str, Value)>) -> Value {
    Value::Node(Box::new(Node {
        name: name.into(),
        fields: fields(list),
    }))
}

fn alias(name: &str, columns: Vec<Value>) -> Value {
    node(
        "ALIAS",
        vec![("aliasname", atom(name)), ("colnames", Value::List(columns))],
    )
}

/// A copy of a node with other values of some fields.
fn with(node: &Node, changes: &[(&str, Value)]) -> Value {
    let mut copy = node.clone();
    for (name, value) in &mut copy.fields {
        if let Some((_, changed)) = changes.iter().find(|(changed, _)| **name == **changed) {
            *value = changed.clone();
        }
    }
    Value::Node(Box::new(copy))
}
