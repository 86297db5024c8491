//! Columns that depend on a primary key in GROUP BY.
//!
//! `SELECT u.name, count(*) … GROUP BY u.id` is allowed because `id` is a table's primary key. Rows in arrays have none, so they are
//! grouped by the other columns as well: rows with equal keys are one row of the table, or the same row of NULLs.

use std::collections::HashMap;

use catalog::{Oid, Snapshot, TypeKind};
use sql::Node;

use super::needs::Needs;
use crate::planner::expr::as_var;
use crate::{Refusal, RefusalCode};

/// Built-in types without equality: json, xml, point, lseg, path, box, polygon, line, circle.
const NO_EQUALITY: [u32; 9] = [114, 142, 600, 601, 602, 603, 604, 628, 718];

/// For each query the columns to group by besides, by its address.
pub(super) struct Grouped(HashMap<*const Node, Vec<(usize, String)>>);

impl Grouped {
    pub(super) fn of(&self, query: &Node) -> Vec<(usize, String)> {
        self.0
            .get(&std::ptr::from_ref(query))
            .cloned()
            .unwrap_or_default()
    }
}

/// Of all queries of a statement.
pub(super) fn columns(tree: &Node, snapshot: &Snapshot, needs: &Needs<'_>) -> Result<Grouped, Refusal> {
    let mut queries = Vec::new();
    tree.walk(|node| {
        if node.is("QUERY") && !node.value("constraintDeps").is_null() {
            queries.push(node);
        }
    });
    let mut found = HashMap::new();
    for query in queries {
        found.insert(std::ptr::from_ref(query), of_query(query, snapshot, needs)?);
    }
    Ok(Grouped(found))
}

fn of_query(query: &Node, snapshot: &Snapshot, needs: &Needs<'_>) -> Result<Vec<(usize, String)>, Refusal> {
    let refuse = || Refusal::with(RefusalCode::Gather, "columns that depend on a primary key");
    if !query.value("groupingSets").is_null() {
        return Err(refuse());
    }
    let rtable = query.nodes("rtable")?;
    let grouped = grouped_columns(query, &rtable)?;
    let (mut out, mut tables) = (Vec::new(), 0);
    for (at, rte) in rtable.iter().enumerate() {
        if rte.value("rtekind").as_str() != Some("0") {
            continue;
        }
        let Some(relation) = snapshot.relation(Oid(rte.oid("relid")?)) else {
            continue;
        };
        let is_grouped = |attno: &i16| grouped.contains(&(at + 1, *attno));
        let mut keys = relation.unique_indexes.iter().filter(|index| index.primary);
        if !keys.any(|key| key.columns.iter().all(is_grouped)) {
            continue;
        }
        // The rows of children have keys of their own.
        if relation.has_inheritance() {
            return Err(refuse());
        }
        tables += 1;
        // A row as a value would have to be grouped by, and not every type has equality.
        if needs.is_whole(rte) {
            return Err(refuse());
        }
        for (attno, typed) in needs.columns(rte) {
            if !is_grouped(&attno) {
                let column = relation
                    .column(attno)
                    .filter(|_| has_equality(Oid(typed.type_oid), snapshot));
                out.push((at + 1, column.ok_or_else(refuse)?.name.clone()));
            }
        }
    }
    // Each table counts on one constraint.
    match tables >= query.oids("constraintDeps")?.len() {
        true => Ok(out),
        false => Err(refuse()),
    }
}

/// The columns of tables in GROUP BY: entry and number.
fn grouped_columns(query: &Node, rtable: &[&Node]) -> Result<Vec<(usize, i16)>, Refusal> {
    let targets = query.nodes("targetList")?;
    let mut out = Vec::new();
    for clause in query.nodes("groupClause")? {
        let reference = clause.oid("tleSortGroupRef")?;
        let target = targets
            .iter()
            .find(|t| t.oid("ressortgroupref").is_ok_and(|r| r == reference));
        let Some(mut expr) = target.and_then(|target| target.value("expr").as_node()) else {
            continue;
        };
        // From version 18 on, through the entry that stands for GROUP BY itself; or through a join.
        for _ in 0..rtable.len() {
            let Some(var) = as_var(expr).filter(|var| var.levels_up == 0) else {
                break;
            };
            let Some(rte) = var.rtindex.checked_sub(1).and_then(|at| rtable.get(at)) else {
                break;
            };
            let field = match rte.value("rtekind").as_str() {
                Some("2") => "joinaliasvars",
                Some("9") => "groupexprs",
                _ => {
                    out.extend(i16::try_from(var.attno).map(|attno| (var.rtindex, attno)));
                    break;
                }
            };
            let at = usize::try_from(var.attno).ok().and_then(|at| at.checked_sub(1));
            match at.and_then(|at| rte.list(field).ok()?.get(at)?.as_node()) {
                Some(next) => expr = next,
                None => break,
            }
        }
    }
    Ok(out)
}

/// Whether rows can be grouped by values of the type.
fn has_equality(type_oid: Oid, snapshot: &Snapshot) -> bool {
    let base = snapshot.base_type(type_oid);
    let Some(facts) = snapshot.type_info(base) else {
        return false;
    };
    match facts.kind {
        TypeKind::Base => facts.builtin && !NO_EQUALITY.contains(&base.0),
        TypeKind::Enum => true,
        TypeKind::Array => facts
            .element
            .is_some_and(|element| has_equality(element, snapshot)),
        _ => false,
    }
}
