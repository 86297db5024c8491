//! Which conditions of a statement can be applied to the rows of a table before everything else.
//!
//! A conjunct of WHERE, or of the condition of an inner join, that speaks of one table alone: rows that do not meet it are in no row
//! of the result. Not where an outer join may fill the table with NULLs afterwards, because a row with NULLs instead
//! of the one that was left out could pass. The condition of the outer join itself decides which rows of the side that is filled have
//! a partner, so it may be applied to those.

use std::collections::{BTreeSet, HashMap};

use sql::{Node, Value};

use crate::planner::expr::{as_var, conjuncts};
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
}

/// A condition on several entries, which all rows of theirs that come together have passed.
pub(super) struct Joint<'a> {
    /// The query whose range table they are in.
    pub query: &'a Node,
    /// Their numbers there, from 1.
    pub entries: BTreeSet<usize>,
    /// The condition.
    pub condition: &'a Node,
}

/// The entries of all FROM clauses, by their address.
pub(super) struct Filters<'a> {
    entries: HashMap<*const Node, Entry<'a>>,
    joints: Vec<Joint<'a>>,
    subqueries: Vec<&'a Node>,
}

impl<'a> Filters<'a> {
    /// Of a whole statement.
    pub(super) fn of(tree: &'a Node) -> Result<Filters<'a>, Refusal> {
        let mut queries = Vec::new();
        tree.walk(|node| {
            if node.is("QUERY") {
                queries.push(node);
            }
        });
        let mut filters = Filters {
            entries: HashMap::new(),
            joints: Vec::new(),
            subqueries: Vec::new(),
        };
        for query in queries {
            let from = Level {
                query,
                rtable: query.nodes("rtable")?,
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

    /// The conditions on several entries.
    pub(super) fn joints(&self) -> &[Joint<'a>] {
        &self.joints
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

    fn apply(&mut self, level: &Level<'a>, quals: &'a Value, to: &[usize]) {
        for conjunct in conjuncts(quals) {
            let Some(entries) = entries_of(conjunct).filter(|of| of.iter().all(|at| to.contains(at))) else {
                continue;
            };
            let mut of = entries.iter();
            let (Some(index), None) = (of.next(), of.next()) else {
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

struct Level<'a> {
    query: &'a Node,
    rtable: Vec<&'a Node>,
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
