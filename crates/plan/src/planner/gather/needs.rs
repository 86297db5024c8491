//! Which columns of its tables a statement reads.

use std::collections::{BTreeMap, HashMap, HashSet};

use catalog::{Oid, Snapshot};
use sql::{Node, Value};

use crate::planner::expr::{Var, as_var};
use crate::{Refusal, RefusalCode};

/// The type of a row that has no type of its own.
const RECORD: u32 = 2249;
/// Deepest chain of names for names.
const DEPTH_MAX: usize = 200;

/// The type and the collation (0 for none) of a column, as the statement was analysed. A transaction may have changed what the snapshot knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Typed {
    pub type_oid: u32,
    pub collation: u32,
}

/// The columns read of each entry of a range table, by its address.
pub(super) struct Needs<'a> {
    columns: HashMap<*const Node, BTreeMap<i16, Typed>>,
    /// Tables whose rows are used as values, by the address of their entries.
    whole: HashSet<*const Node>,
    /// Whether a row of anything is used as a value.
    rows: bool,
    snapshot: &'a Snapshot,
    /// Range tables around the place that is looked at, the innermost last.
    levels: Vec<Vec<&'a Node>>,
    /// What is not looked at.
    without: HashSet<*const Node>,
    depth: usize,
}

impl<'a> Needs<'a> {
    /// Of a whole statement without these parts of it.
    pub(super) fn of(
        tree: &'a Node,
        snapshot: &'a Snapshot,
        without: &HashSet<*const Node>,
    ) -> Result<Needs<'a>, Refusal> {
        let mut needs = Needs {
            columns: HashMap::new(),
            whole: HashSet::new(),
            rows: false,
            snapshot,
            levels: Vec::new(),
            without: without.clone(),
            depth: 0,
        };
        needs.node(tree)?;
        Ok(needs)
    }

    /// Of an entry, ascending.
    pub(super) fn columns(&self, rte: &Node) -> Vec<(i16, Typed)> {
        let found = self.columns.get(&std::ptr::from_ref(rte));
        found
            .map(|columns| columns.iter().map(|(attno, typed)| (*attno, *typed)).collect())
            .unwrap_or_default()
    }

    /// Whether rows of the table are used as values; all of its columns are needed then.
    pub(super) fn is_whole(&self, rte: &Node) -> bool {
        self.whole.contains(&std::ptr::from_ref(rte))
    }

    /// Whether rows of anything are used as values.
    pub(super) fn has_rows(&self) -> bool {
        self.rows
    }

    fn value(&mut self, value: &'a Value) -> Result<(), Refusal> {
        match value {
            Value::Node(node) => self.node(node),
            Value::List(list) => list.iter().try_for_each(|value| self.value(value)),
            _ => Ok(()),
        }
    }

    fn node(&mut self, node: &'a Node) -> Result<(), Refusal> {
        if self.without.contains(&std::ptr::from_ref(node)) {
            return Ok(());
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Refusal::new(RefusalCode::TooComplex));
        }
        if node.is("QUERY") {
            self.query(node)?;
        } else if let Some(var) = as_var(node) {
            self.var(var, node)?;
        } else {
            node.fields.iter().try_for_each(|(_, value)| self.value(value))?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn query(&mut self, query: &'a Node) -> Result<(), Refusal> {
        let rtable = query.nodes("rtable")?;
        self.levels.push(rtable.clone());
        for (name, value) in &query.fields {
            if !matches!(&**name, "rtable" | "rteperminfos") {
                self.value(value)?;
            }
        }
        for rte in rtable {
            self.entry(rte)?;
        }
        self.levels.pop();
        Ok(())
    }

    /// What an entry reads itself. Names that a join or GROUP BY gives are followed where they are used.
    fn entry(&mut self, rte: &'a Node) -> Result<(), Refusal> {
        match rte.str("rtekind")? {
            "0" | "2" | "6" | "8" | "9" => Ok(()),
            "1" => self.node(rte.node("subquery")?),
            "3" => self.value(rte.value("functions")),
            "4" => self.value(rte.value("tablefunc")),
            "5" => self.value(rte.value("values_lists")),
            _ => Err(Refusal::with(RefusalCode::UnexpectedClause, "range table entry")),
        }
    }

    fn var(&mut self, var: Var, node: &Node) -> Result<(), Refusal> {
        let unreadable = || Refusal::new(RefusalCode::Unreadable);
        let level = self
            .levels
            .len()
            .checked_sub(1 + var.levels_up)
            .ok_or_else(unreadable)?;
        let rte = var
            .rtindex
            .checked_sub(1)
            .and_then(|at| self.levels[level].get(at));
        let rte = *rte.ok_or_else(unreadable)?;
        let aliases = match rte.str("rtekind")? {
            "2" => Some("joinaliasvars"),
            "9" => Some("groupexprs"),
            _ => None,
        };
        let attno = i16::try_from(var.attno).map_err(|_| unreadable())?;
        if let Some(field) = aliases {
            let at = usize::try_from(attno).ok().and_then(|at| at.checked_sub(1));
            let alias = at.and_then(|at| rte.list(field).ok()?.get(at));
            let alias = alias.ok_or_else(whole_row)?;
            let inner = self.levels.split_off(level + 1);
            let result = self.value(alias);
            self.levels.extend(inner);
            return result;
        }
        if attno == 0 {
            self.rows = true;
            return self.whole_row(rte, node.oid("vartype")?);
        }
        if attno < 0 {
            return Err(whole_row());
        }
        let typed = Typed {
            type_oid: node.oid("vartype")?,
            collation: node.oid("varcollid")?,
        };
        let columns = self.columns.entry(std::ptr::from_ref(rte)).or_default();
        columns.insert(attno, typed);
        Ok(())
    }

    /// A row as a value: of a table, with all of its columns; or a record of a query, which reads what it reads.
    fn whole_row(&mut self, rte: &'a Node, row_type: u32) -> Result<(), Refusal> {
        match rte.str("rtekind")? {
            "1" | "5" | "6" if row_type == RECORD => return Ok(()),
            "0" if row_type != RECORD => {}
            _ => return Err(whole_row()),
        }
        let relation = self.snapshot.relation(Oid(rte.oid("relid")?));
        let relation = relation.ok_or_else(whole_row)?;
        let columns = self.columns.entry(std::ptr::from_ref(rte)).or_default();
        for column in relation.columns.iter().filter(|column| !column.dropped) {
            let typed = Typed {
                type_oid: column.type_oid.0,
                collation: column.collation.map_or(0, |collation| collation.0),
            };
            columns.entry(column.attnum).or_insert(typed);
        }
        self.whole.insert(std::ptr::from_ref(rte));
        Ok(())
    }
}

fn whole_row() -> Refusal {
    Refusal::with(RefusalCode::Gather, "a whole row of a table as a value")
}
