//! Which conditions of a statement can be applied to the rows of a table before everything else.
//!
//! A conjunct of WHERE, or of the condition of an inner join, that speaks of one table alone: rows that do not meet it are in no row
//! of the result. Not where an outer join may fill the table with NULLs afterwards, because a row with NULLs instead
//! of the one that was left out could pass. The condition of the outer join itself decides which rows of the side that is filled have
//! a partner, so it may be applied to those.

use std::collections::{BTreeSet, HashMap};

use sql::{Node, Value};

use crate::planner::expr::{Var, as_var, conjuncts, conjuncts_of, same_expr, sublink_column};
use crate::{Refusal, RefusalCode};

/// An entry that is in FROM.
pub(super) struct Entry<'a> {
    /// The query whose range table it is in.
    pub query: &'a Node,
    /// Its number there, from 1.
    pub index: usize,
    /// How many entries stand before it in FROM clauses.
    pub order: usize,
    /// Conditions on its columns alone.
    pub conditions: Vec<&'a Node>,
    /// What follows for it from conditions on several entries.
    pub implied: Vec<Either<'a>>,
}

/// Of `(a.x = 1 AND b.y = 2) OR (a.x = 3 AND b.z = 4)` what it says of one entry, `a.x = 1 OR a.x = 3`: of each alternative the
/// conditions on that entry alone, of which there is at least one.
pub(super) type Either<'a> = Vec<Vec<&'a Node>>;

/// A condition on several entries, which all rows of theirs that come together have passed.
pub(super) struct Joint<'a> {
    /// The query whose range table they are in.
    pub query: &'a Node,
    /// Their numbers there, from 1.
    pub entries: BTreeSet<usize>,
    /// The condition.
    pub condition: &'a Node,
}

/// An equality of two columns: of the first one's entry only rows matter whose value the other one has somewhere.
pub(super) struct Tie<'a> {
    /// The query of the entry.
    pub query: &'a Node,
    /// Its number there, from 1, and the column.
    pub column: (usize, i16),
    /// The other entry, of this query, one around it, or one in its condition.
    pub other: &'a Node,
    /// The other column.
    pub attno: i16,
    /// The equality.
    pub equality: &'a Node,
}

/// The entries of all FROM clauses, by their address.
pub(super) struct Filters<'a> {
    entries: HashMap<*const Node, Entry<'a>>,
    joints: Vec<Joint<'a>>,
    ties: Vec<Tie<'a>>,
    subqueries: Vec<&'a Node>,
}

impl<'a> Filters<'a> {
    /// Of a whole statement.
    pub(super) fn of(tree: &'a Node) -> Result<Filters<'a>, Refusal> {
        let mut queries = Vec::new();
        collect(tree, &mut Vec::new(), &mut queries);
        let mut filters = Filters {
            entries: HashMap::new(),
            joints: Vec::new(),
            ties: Vec::new(),
            subqueries: Vec::new(),
        };
        for (query, around) in queries {
            let from = Level {
                query,
                rtable: query.nodes("rtable")?,
                around,
            };
            let tree = query.node("jointree")?;
            if query.value("commandType").as_str() == Some("5") {
                // What the condition of a MERGE says of its source decides about matching, not about which rows there are.
                for item in tree.nodes("fromlist")? {
                    filters.visit(&from, item)?;
                }
                continue;
            }
            filters.visit(&from, tree)?;
        }
        Ok(filters)
    }

    pub(super) fn of_entry(&self, rte: &Node) -> Option<&Entry<'a>> {
        self.entries.get(&std::ptr::from_ref(rte))
    }

    /// Leaves out of what is implied what is not `pushable`.
    pub(super) fn retain_implied(&mut self, pushable: &dyn Fn(&'a Node, &'a Node) -> bool) {
        for entry in self.entries.values_mut() {
            let query = entry.query;
            for arm in entry.implied.iter_mut().flatten() {
                arm.retain(|part| pushable(query, part));
            }
            entry
                .implied
                .retain(|either| either.iter().all(|arm| !arm.is_empty()));
        }
    }

    /// The conditions on several entries.
    pub(super) fn joints(&self) -> &[Joint<'a>] {
        &self.joints
    }

    /// The equalities of columns of two entries.
    pub(super) fn ties(&self) -> &[Tie<'a>] {
        &self.ties
    }

    /// Entries that are subqueries.
    pub(super) fn subqueries(&self) -> impl Iterator<Item = &'a Node> + '_ {
        self.subqueries.iter().copied()
    }

    /// Reads a part of FROM. The result: the entries on which conditions further up may be applied.
    fn visit(&mut self, level: &Level<'a>, node: &'a Node) -> Result<Vec<usize>, Refusal> {
        let quals = node.value("quals");
        match &*node.name {
            "RANGETBLREF" => {
                let index = usize::try_from(node.i64("rtindex")?).unwrap_or(0);
                let rte = index.checked_sub(1).and_then(|at| level.rtable.get(at));
                let rte = *rte.ok_or_else(|| Refusal::new(RefusalCode::Unreadable))?;
                if rte.value("rtekind").as_str() == Some("1") {
                    self.subqueries.push(rte);
                }
                let entry = Entry {
                    query: level.query,
                    index,
                    order: self.entries.len(),
                    conditions: Vec::new(),
                    implied: Vec::new(),
                };
                self.entries.insert(std::ptr::from_ref(rte), entry);
                Ok(vec![index])
            }
            "FROMEXPR" => {
                let mut free = Vec::new();
                for item in node.nodes("fromlist")? {
                    free.extend(self.visit(level, item)?);
                }
                self.apply(level, quals, &free);
                Ok(free)
            }
            "JOINEXPR" => {
                let left = self.visit(level, node.node("larg")?)?;
                let right = self.visit(level, node.node("rarg")?)?;
                let (free, filtered) = match node.str("jointype")? {
                    "0" => {
                        let both: Vec<usize> = left.into_iter().chain(right).collect();
                        (both.clone(), both)
                    }
                    "1" => (left, right),
                    "3" => (right, left),
                    _ => (Vec::new(), Vec::new()),
                };
                self.apply(level, quals, &filtered);
                Ok(free)
            }
            _ => Err(Refusal::with(RefusalCode::UnexpectedClause, &node.name)),
        }
    }

    /// What alternatives on several entries say of each of them.
    fn imply(&mut self, level: &Level<'a>, condition: &'a Node, entries: &BTreeSet<usize>) {
        let arms: Vec<Vec<&Node>> = alternatives(condition).into_iter().map(conjuncts_of).collect();
        for index in entries {
            let own = |arm: &Vec<&'a Node>| -> Vec<&'a Node> {
                let mut own = arm.clone();
                own.retain(|part| entries_of(part).is_some_and(|of| of.iter().eq([index])));
                own
            };
            let either: Either<'a> = arms.iter().map(own).collect();
            let entry = self.entries.get_mut(&std::ptr::from_ref(level.rtable[index - 1]));
            if let Some(entry) =
                entry.filter(|_| !either.is_empty() && either.iter().all(|arm| !arm.is_empty()))
            {
                entry.implied.push(either);
            }
        }
    }

    fn apply(&mut self, level: &Level<'a>, quals: &'a Value, to: &[usize]) {
        for conjunct in conjuncts(quals) {
            self.ties.extend(ties(level, conjunct, to));
            let Some(entries) = entries_of(conjunct).filter(|of| of.iter().all(|at| to.contains(at))) else {
                continue;
            };
            let mut of = entries.iter();
            let (Some(index), None) = (of.next(), of.next()) else {
                self.imply(level, conjunct, &entries);
                self.joints.push(Joint {
                    query: level.query,
                    entries,
                    condition: conjunct,
                });
                continue;
            };
            let entry = self.entries.get_mut(&std::ptr::from_ref(level.rtable[index - 1]));
            if let Some(entry) = entry {
                entry.conditions.push(conjunct);
            }
        }
    }
}

/// The alternatives of a condition.
fn alternatives(condition: &Node) -> Vec<&Node> {
    let is_or = condition.is("BOOLEXPR") && condition.value("boolop").as_str() == Some("or");
    is_or
        .then(|| condition.nodes("args").ok())
        .flatten()
        .unwrap_or_default()
}

struct Level<'a> {
    query: &'a Node,
    rtable: Vec<&'a Node>,
    /// The queries around it, the nearest last.
    around: Vec<&'a Node>,
}

impl<'a> Level<'a> {
    /// The entry that has a column.
    fn entry(&self, var: Var) -> Option<&'a Node> {
        let at = var.rtindex.checked_sub(1)?;
        match var.levels_up {
            0 => self.rtable.get(at).copied(),
            up => {
                let query = self
                    .around
                    .len()
                    .checked_sub(up)
                    .and_then(|level| self.around.get(level))?;
                query.nodes("rtable").ok()?.get(at).copied()
            }
        }
    }
}

/// Deepest chain of queries in one another, and of what is between them.
const DEPTH_MAX: usize = 400;

/// All queries, with those around each. What is too deep is left out: it gives no conditions.
fn collect<'a>(node: &'a Node, around: &mut Vec<&'a Node>, out: &mut Vec<(&'a Node, Vec<&'a Node>)>) {
    fn value<'a>(
        value_of: &'a Value,
        depth: usize,
        around: &mut Vec<&'a Node>,
        out: &mut Vec<(&'a Node, Vec<&'a Node>)>,
    ) {
        match value_of {
            Value::Node(node) => inner(node, depth + 1, around, out),
            Value::List(list) => list.iter().for_each(|item| value(item, depth + 1, around, out)),
            _ => {}
        }
    }
    fn inner<'a>(
        node: &'a Node,
        depth: usize,
        around: &mut Vec<&'a Node>,
        out: &mut Vec<(&'a Node, Vec<&'a Node>)>,
    ) {
        if depth > DEPTH_MAX {
            return;
        }
        let query = node.is("QUERY");
        if query {
            out.push((node, around.clone()));
            around.push(node);
        }
        for (_, field) in &node.fields {
            value(field, depth, around, out);
        }
        if query {
            around.pop();
        }
    }
    inner(node, 0, around, out);
}

/// The columns that a condition on entries in `to` equates with others.
fn ties<'a>(level: &Level<'a>, condition: &'a Node, to: &[usize]) -> Vec<Tie<'a>> {
    let tie = |own: Var, other: &'a Node, attno: i32, equality: &'a Node| {
        let is_own = own.levels_up == 0 && to.contains(&own.rtindex) && own.attno > 0 && attno > 0;
        let entry = level.rtable.get(own.rtindex.checked_sub(1)?)?;
        Some(Tie {
            query: level.query,
            column: (own.rtindex, i16::try_from(own.attno).ok()?),
            other,
            attno: i16::try_from(attno).ok()?,
            equality,
        })
        .filter(|_| is_own && !std::ptr::eq(*entry, other))
    };
    if let [first, others @ ..] = alternatives(condition).as_slice() {
        // What all of them demand.
        let others: Vec<Vec<&Node>> = others.iter().copied().map(conjuncts_of).collect();
        let mut common = conjuncts_of(first);
        common.retain(|part| {
            part.is("OPEXPR")
                && others
                    .iter()
                    .all(|arm| arm.iter().any(|other| says_the_same(part, other)))
        });
        return common
            .into_iter()
            .flat_map(|part| ties(level, part, to))
            .collect();
    }
    if condition.is("OPEXPR") {
        let both =
            sides(condition).and_then(|[a, b]| Some([(as_var(a)?, as_var(b)?), (as_var(b)?, as_var(a)?)]));
        let both = both.into_iter().flatten();
        return both
            .filter_map(|(own, other)| tie(own, level.entry(other)?, other.attno, condition))
            .collect();
    }
    let kind = condition
        .is("SUBLINK")
        .then(|| condition.value("subLinkType").as_str())
        .flatten();
    let Some(inner) = condition.value("subselect").as_node() else {
        return Vec::new();
    };
    match kind {
        Some("0") => exists_ties(inner)
            .filter_map(|(own, other, attno, equality)| tie(own, other, attno, equality))
            .collect(),
        Some("2") => any_tie(condition, inner)
            .and_then(|(own, other, attno, equality)| tie(own, other, attno, equality))
            .into_iter()
            .collect(),
        _ => Vec::new(),
    }
}

/// Whether two conditions are the same, or one is the other with its sides exchanged, as `a = b` may be.
fn says_the_same(a: &Node, b: &Node) -> bool {
    let exchanged = || {
        let ([a, b], [c, d]) = (sides(a)?, sides(b)?);
        Some(same_expr(a, d) && same_expr(b, c))
    };
    same_expr(a, b) || (a.value("opno") == b.value("opno") && exchanged() == Some(true))
}

/// The arguments of an operator with two.
fn sides(operator: &Node) -> Option<[&Node; 2]> {
    operator.nodes("args").ok()?.try_into().ok()
}

/// `EXISTS (SELECT … FROM other WHERE other.d = own.c)`. An aggregate over everything, or HAVING, makes a row of no rows.
fn exists_ties(inner: &Node) -> impl Iterator<Item = (Var, &Node, i32, &Node)> {
    let of_rows = inner.value("hasAggs").as_str() == Some("false")
        && inner.value("havingQual").is_null()
        && inner.value("groupingSets").is_null();
    let tree = inner.value("jointree").as_node().filter(|_| of_rows);
    let quals = tree.map(|tree| tree.value("quals"));
    let equalities = quals.map(conjuncts).unwrap_or_default().into_iter();
    equalities
        .filter(|condition| condition.is("OPEXPR"))
        .flat_map(move |condition| {
            let both = sides(condition)
                .and_then(|[a, b]| Some([(as_var(a)?, as_var(b)?), (as_var(b)?, as_var(a)?)]));
            both.into_iter().flatten().filter_map(move |(own, other)| {
                let outer = own.levels_up == 1 && other.levels_up == 0;
                let own = Var { levels_up: 0, ..own };
                let rtable = inner.nodes("rtable").ok()?;
                let entry = rtable.get(other.rtindex.checked_sub(1)?)?;
                outer.then_some((own, *entry, other.attno, condition))
            })
        })
}

/// `own.c IN (SELECT other.d FROM …)`, whatever else the query does with the rows.
fn any_tie<'a>(link: &'a Node, inner: &'a Node) -> Option<(Var, &'a Node, i32, &'a Node)> {
    let equality = link
        .value("testexpr")
        .as_node()
        .filter(|test| test.is("OPEXPR"))?;
    let [own, column] = sides(equality)?;
    let column = sublink_column(column)?;
    if !inner.value("setOperations").is_null() {
        return None;
    }
    let targets = inner.nodes("targetList").ok()?;
    let target = targets.get(column.checked_sub(1)?)?;
    let other = as_var(target.value("expr").as_node()?).filter(|var| var.levels_up == 0)?;
    let rtable = inner.nodes("rtable").ok()?;
    let entry = rtable.get(other.rtindex.checked_sub(1)?)?;
    Some((as_var(own)?, *entry, other.attno, equality))
}

/// The entries whose columns a condition reads, if there are any and it reads nothing else.
fn entries_of(condition: &Node) -> Option<BTreeSet<usize>> {
    let (mut found, mut other) = (BTreeSet::new(), false);
    condition.walk(|node| {
        if let Some(var) = as_var(node) {
            other |= var.levels_up > 0 || var.attno <= 0;
            found.insert(var.rtindex);
        }
        let outside =
            node.is("SUBLINK") || node.is("AGGREF") || node.is("GROUPINGFUNC") || node.is("WINDOWFUNC");
        // Other parameters than the statement's come from a subquery.
        let inner = node.is("PARAM") && node.value("paramkind").as_str() != Some("0");
        other |= outside || inner;
    });
    (!other && !found.is_empty()).then_some(found)
}
