//! Are two analyzed trees the same, but for what printing may change?

use sql::nodes::Value;
use sql::{Node, Oid};

/// Fields that say where or how something was written, or that follow from others.
const IGNORED: &[&str] = &[
    "location",
    "stmt_location",
    "stmt_len",
    "list_start",
    "list_end",
    "alias",
    "eref",
    "aliascolnames",
    "ctecolnames",
    "ctename",
    "resname",
    "resorigtbl",
    "resorigcol",
    "varnosyn",
    "varattnosyn",
    "funcformat",
    "relabelformat",
    "coerceformat",
    "row_format",
    "name",
    "refname",
    "colnames",
    // USING and NATURAL become ON.
    "usingClause",
    "isNatural",
    "join_using_alias",
    "joinmergedcols",
    "joinleftcols",
    "joinrightcols",
    "joinaliasvars",
    // Bits of columns read, which a merged column changes.
    "selectedCols",
    // A cast printed as a call has no modifier of its own.
    "vartypmod",
    "resulttypmod",
    "consttypmod",
    "typmod",
    "ctecoltypmods",
    "colTypmods",
    "funccoltypmods",
    // Operators are printed with their schema.
    "operName",
    // A window that copies another's order is printed in full.
    "copiedOrder",
];

/// What differs first, as a path; `None` when nothing does.
pub fn difference(a: &Node, b: &Node) -> Option<String> {
    nodes(a, b, "")
}

fn nodes(a: &Node, b: &Node, path: &str) -> Option<String> {
    let (a, b) = (plain(a), plain(b));
    // A constant array is printed element by element.
    if a.is("CONST") && b.is("ARRAYEXPR") {
        return (a.oid("consttype") != b.oid("array_typeid")).then(|| format!("{path}: array types"));
    }
    if a.name != b.name {
        return Some(format!("{path}: {} / {}", a.name, b.name));
    }
    for (name, value) in &a.fields {
        if IGNORED.contains(&&**name) {
            continue;
        }
        let path = format!("{path}/{}.{name}", a.name);
        match b.get(name) {
            Some(other) => {
                let found = values(value, other, &path);
                if found.is_some() {
                    return found;
                }
            }
            None => return Some(path),
        }
    }
    None
}

fn values(a: &Value, b: &Value, path: &str) -> Option<String> {
    match (a, b) {
        (Value::Node(a), Value::Node(b)) => nodes(a, b, path),
        (Value::List(a), Value::List(b)) => {
            let (a, b) = (flat(a, path), flat(b, path));
            if a.len() != b.len() {
                return Some(format!("{path}: {} / {} elements", a.len(), b.len()));
            }
            a.iter()
                .zip(&b)
                .enumerate()
                .find_map(|(i, (a, b))| values(a, b, &format!("{path}[{i}]")))
        }
        _ if a == b => None,
        _ => Some(format!("{path}: {a:?} / {b:?}")),
    }
}

/// Operands of AND within AND (and OR within OR) count as its own.
fn flat<'v>(list: &'v [Value], path: &str) -> Vec<&'v Value> {
    let mut out = Vec::new();
    for value in list {
        match value.as_node() {
            Some(inner)
                if path.ends_with("BOOLEXPR.args")
                    && inner.is("BOOLEXPR")
                    && inner.str("boolop") == Ok("and") =>
            {
                out.extend(flat(inner.list("args").unwrap_or_default(), path));
            }
            _ => out.push(value),
        }
    }
    out
}

/// A cast to the type an expression already has says nothing.
fn plain(node: &Node) -> &Node {
    let Some(Value::Node(arg)) = node.get("arg") else {
        return node;
    };
    let same = node.is("RELABELTYPE") && type_of(arg).is_some_and(|t| node.oid("resulttype") == Ok(t));
    if same { plain(arg) } else { node }
}

fn type_of(node: &Node) -> Option<Oid> {
    let field = match &*node.name {
        "VAR" => "vartype",
        "CONST" => "consttype",
        "PARAM" => "paramtype",
        "FUNCEXPR" => "funcresulttype",
        "RELABELTYPE" => "resulttype",
        _ => return None,
    };
    node.oid(field).ok()
}
