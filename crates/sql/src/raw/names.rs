//! Everything a statement names.

use super::children::push_children;
use super::object::{self, any, from_parts, name, relation};
use super::types::{Names, ObjectKind, ParseFailure};
use crate::QualifiedName;
use crate::scan::may_mean_now;
use pg_raw_parse::raw::{GrantTargetType, ObjectType};
use pg_raw_parse::{ConstValue, Node, nodes};

/// Longest string constant kept as a possible name.
const STRING_MAX: usize = 256;

/// Collects the names of a tree. Iterative, so that no tree is too deep for it.
pub(super) fn collect(root: Node<'_>) -> Result<Names, ParseFailure> {
    let mut names = Names::default();
    let mut stack = vec![root];
    while let Some(node) = stack.pop() {
        visit(node, &mut names);
        if !push_children(node, &mut stack) {
            return Err(ParseFailure::Unsupported("unknown node"));
        }
    }
    sort(&mut names);
    Ok(names)
}

/// Are the objects of this GRANT relations?
pub(super) fn grants_on_relations(n: &nodes::GrantStmt) -> bool {
    n.targtype == GrantTargetType::ACL_TARGET_OBJECT
        && matches!(n.objtype, ObjectType::OBJECT_TABLE | ObjectType::OBJECT_SEQUENCE)
}

fn sort(names: &mut Names) {
    fn one<T: Ord>(list: &mut Vec<T>) {
        list.sort_unstable();
        list.dedup();
    }
    one(&mut names.relations);
    one(&mut names.functions);
    one(&mut names.types);
    one(&mut names.operators);
    one(&mut names.ctes);
    one(&mut names.collations);
    one(&mut names.strings);
    one(&mut names.written);
}

fn visit(node: Node<'_>, names: &mut Names) {
    match node {
        Node::RangeVar(r) => names.relations.push(relation(r)),
        Node::FuncCall(f) => {
            names.functions.extend(name(f.funcname()));
            f.args().iter().for_each(|a| constant_string(a, names));
        }
        Node::TypeCast(c) => constant_string(c.arg(), names),
        Node::NamedArgExpr(a) => constant_string(a.arg(), names),
        Node::TypeName(t) => type_name(t, names),
        Node::A_Expr(e) => names.operators.extend(name(e.name())),
        Node::SubLink(s) => names.operators.extend(name(s.oper_name())),
        Node::SortBy(s) => names.operators.extend(name(s.use_op())),
        Node::CollateClause(c) => names.collations.extend(name(c.collname())),
        Node::CommonTableExpr(c) => names.ctes.extend(c.ctename().map(str::to_owned)),
        Node::SQLValueFunction(_) => names.value_functions = true,
        Node::A_Const(c) => {
            if let Some(ConstValue::String(text)) = c.val() {
                names.relative_times |= may_mean_now(text.as_bytes());
            }
        }
        Node::ParamRef(p) => names.params_max = names.params_max.max(u32::try_from(p.number).unwrap_or(0)),
        Node::SelectStmt(s) => {
            names.select_into |= s.into_clause().is_some();
            names.locks_rows |= !s.locking_clause().is_empty();
        }
        Node::InsertStmt(s) => names.written.extend(s.relation().map(relation)),
        Node::UpdateStmt(s) => names.written.extend(s.relation().map(relation)),
        Node::DeleteStmt(s) => names.written.extend(s.relation().map(relation)),
        Node::MergeStmt(s) => names.written.extend(s.relation().map(relation)),
        other => visit_utility(other, names),
    }
}

/// Utility statements hold names outside of range variables and function calls.
fn visit_utility(node: Node<'_>, names: &mut Names) {
    match node {
        Node::DropStmt(s) => s
            .objects()
            .iter()
            .for_each(|o| object_name(object::kind(s.remove_type), o, names)),
        Node::CommentStmt(s) => object_name(object::kind(s.objtype), s.object(), names),
        Node::SecLabelStmt(s) => object_name(object::kind(s.objtype), s.object(), names),
        Node::RenameStmt(s) => object_name(object::kind(s.rename_type), s.object(), names),
        Node::AlterObjectSchemaStmt(s) => object_name(object::kind(s.object_type), s.object(), names),
        Node::AlterOwnerStmt(s) => object_name(object::kind(s.object_type), s.object(), names),
        Node::AlterExtensionContentsStmt(s) => object_name(object::kind(s.objtype), s.object(), names),
        Node::ObjectWithArgs(o) => names.functions.extend(name(o.objname())),
        Node::CreateTrigStmt(s) => names.functions.extend(name(s.funcname())),
        Node::CreateFunctionStmt(s) => names.functions.extend(name(s.funcname())),
        Node::CreateEventTrigStmt(s) => names.functions.extend(name(s.funcname())),
        Node::DefElem(d) => owned_by(d, names),
        Node::Constraint(c) => names.operators.extend(exclusion_operators(c)),
        _ => {}
    }
}

fn object_name(kind: ObjectKind, node: Node<'_>, names: &mut Names) {
    if object::is_relation(kind) {
        names.relations.extend(any(node));
    } else if object::belongs_to_relation(kind) {
        names.relations.extend(object::owner(node));
    } else if matches!(kind, ObjectKind::Type | ObjectKind::Domain) {
        names.types.extend(any(node));
    }
}

/// Sequence option OWNED BY table.column.
fn owned_by(d: &nodes::DefElem, names: &mut Names) {
    if d.defname() == Some("owned_by") {
        names.relations.extend(object::owner(d.arg()));
    }
}

fn exclusion_operators(c: &nodes::Constraint) -> Vec<QualifiedName> {
    let operator = |pair: Node<'_>| match pair {
        Node::NodeList(l) => match l.get(1) {
            Some(Node::NodeList(op)) => name(op),
            _ => None,
        },
        _ => None,
    };
    c.exclusions().iter().filter_map(operator).collect()
}

fn type_name(t: &nodes::TypeName, names: &mut Names) {
    if !t.pct_type {
        names.types.push(object::type_name(t));
        return;
    }
    // relation.column%TYPE
    let mut parts: Vec<String> = t
        .names()
        .iter()
        .filter_map(|s| s.sval())
        .map(str::to_owned)
        .collect();
    parts.pop();
    names.relations.extend(from_parts(parts));
}

fn constant_string(node: Node<'_>, names: &mut Names) {
    let Node::A_Const(c) = node else { return };
    if let Some(ConstValue::String(s)) = c.val()
        && s.len() <= STRING_MAX
    {
        names.strings.push(s.to_owned());
    }
}

/// The names a chain of identifiers may stand for: `a.b.c` is perhaps table `a.b`, table `b.c`, or any part alone.
pub(super) fn chains(chain: &[String]) -> impl Iterator<Item = QualifiedName> + '_ {
    let alone = chain.iter().map(QualifiedName::bare);
    let pairs = chain
        .windows(2)
        .map(|w| QualifiedName::qualified(w[0].as_str(), w[1].as_str()));
    alone.chain(pairs)
}

/// The names a string constant may stand for, such as `'s.t'` in a cast to `regclass`.
pub(super) fn chains_of_text(text: &str) -> Vec<QualifiedName> {
    if text.len() > STRING_MAX {
        return Vec::new();
    }
    let part = |p: &str| {
        let p = p.trim();
        match p.strip_prefix('"').and_then(|p| p.strip_suffix('"')) {
            Some(quoted) => quoted.to_owned(),
            None => p.to_ascii_lowercase(),
        }
    };
    let parts: Vec<String> = text.split('.').map(part).collect();
    chains(&parts).collect()
}
