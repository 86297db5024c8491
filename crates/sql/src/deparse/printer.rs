//! The state of printing: which queries enclose the current place, and what their range table entries are called.

use super::{DeparseError, NameSource, Rewriter};
use crate::nodes::{Node, Value};
use crate::{Oid, QualifiedName, quote_ident};

/// `rtekind` of a range table entry, as the server numbers it.
pub(super) mod rte_kind {
    pub(crate) const RELATION: i32 = 0;
    pub(crate) const SUBQUERY: i32 = 1;
    pub(crate) const JOIN: i32 = 2;
    pub(crate) const FUNCTION: i32 = 3;
    pub(crate) const VALUES: i32 = 5;
    pub(crate) const CTE: i32 = 6;
    pub(crate) const RESULT: i32 = 8;
    pub(crate) const GROUP: i32 = 9;
}

/// Deepest nesting of queries and expressions printed: fits a stack of 2 MiB even without optimisation.
const DEPTH_MAX: usize = 200;

pub(super) type Printed = Result<String, DeparseError>;

/// The error for something that is not supported.
pub(super) fn unsupported(node: &Node, what: impl Into<String>) -> DeparseError {
    DeparseError::Unsupported {
        node: node.name.to_string(),
        what: what.into(),
    }
}

/// One query around the current place.
pub(super) struct Level<'a> {
    pub(super) query: &'a Node,
    pub(super) rtable: Vec<&'a Node>,
    /// Alias per entry; empty for entries that have none (joins, groups).
    pub(super) aliases: Vec<String>,
    /// Column names per entry, unique within it; for relations these are not used.
    columns: Vec<Vec<String>>,
}

pub(super) struct Printer<'a> {
    pub(super) names: &'a dyn NameSource,
    pub(super) rewriter: &'a dyn Rewriter,
    pub(super) levels: Vec<Level<'a>>,
    depth: usize,
}

impl<'a> Printer<'a> {
    pub(super) fn new(names: &'a dyn NameSource, rewriter: &'a dyn Rewriter) -> Self {
        Self {
            names,
            rewriter,
            levels: Vec::new(),
            depth: 0,
        }
    }

    /// Enters a query.
    pub(super) fn push(&mut self, query: &'a Node) -> Result<(), DeparseError> {
        let rtable = query.nodes("rtable")?;
        let mut aliases: Vec<String> = Vec::with_capacity(rtable.len());
        let mut columns = Vec::with_capacity(rtable.len());
        let excluded = excluded_index(query)?;
        for (i, rte) in rtable.iter().enumerate() {
            let eref = rte.node("eref")?;
            let kind = rte.i32("rtekind")?;
            let alias = if matches!(kind, rte_kind::JOIN | rte_kind::GROUP | rte_kind::RESULT) {
                String::new()
            } else if excluded == Some(i + 1) {
                "excluded".to_owned()
            } else {
                self.unique(eref.str("aliasname")?, &aliases)
            };
            aliases.push(alias);
            columns.push(unique_columns(eref.list("colnames")?));
        }
        self.levels.push(Level {
            query,
            rtable,
            aliases,
            columns,
        });
        Ok(())
    }

    /// A name no enclosing query and no earlier entry of this one has, so that nothing is captured.
    fn unique(&self, wanted: &str, earlier: &[String]) -> String {
        let taken = |name: &str| {
            name == "excluded"
                || earlier.iter().any(|a| a == name)
                || self.levels.iter().any(|l| l.aliases.iter().any(|a| a == name))
        };
        if !taken(wanted) {
            return wanted.to_owned();
        }
        // Identifiers are cut at 63 bytes: make room for the number.
        let mut base = wanted;
        while base.len() > 50 {
            base = &base[..base.char_indices().last().map_or(0, |(i, _)| i)];
        }
        (1..)
            .map(|n| format!("{base}_{n}"))
            .find(|name| !taken(name))
            .unwrap_or_default()
    }

    pub(super) fn pop(&mut self) {
        self.levels.pop();
    }

    /// Index of the innermost query.
    pub(super) fn top(&self) -> usize {
        self.levels.len().saturating_sub(1)
    }

    /// Guards against trees that are too deep for the stack; pair with [`Printer::leave`].
    pub(super) fn enter(&mut self, node: &Node) -> Result<(), DeparseError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            Err(unsupported(node, "nesting"))
        } else {
            Ok(())
        }
    }

    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// A range table entry of the query at `level`, by its 1-based index.
    pub(super) fn rte(&self, level: usize, rtindex: usize) -> Option<&'a Node> {
        self.levels
            .get(level)?
            .rtable
            .get(rtindex.checked_sub(1)?)
            .copied()
    }

    /// Alias of an entry of the innermost query, unquoted.
    pub(super) fn alias(&self, rtindex: usize) -> Printed {
        self.alias_at(self.top(), rtindex)
    }

    pub(super) fn alias_at(&self, level: usize, rtindex: usize) -> Printed {
        let l = self.levels.get(level).ok_or(DeparseError::UnknownObject {
            kind: "query level",
            oid: 0,
        })?;
        let alias = rtindex
            .checked_sub(1)
            .and_then(|i| l.aliases.get(i))
            .filter(|a| !a.is_empty());
        alias
            .cloned()
            .ok_or_else(|| unsupported(l.query, format!("range table entry {rtindex}")))
    }

    /// Columns of an entry of the innermost query.
    pub(super) fn columns(&self, rtindex: usize) -> &[String] {
        let columns = self
            .levels
            .last()
            .and_then(|l| l.columns.get(rtindex.wrapping_sub(1)));
        columns.map(Vec::as_slice).unwrap_or_default()
    }

    /// Name of a column of an entry, unquoted.
    pub(super) fn column_name(&self, level: usize, rtindex: usize, attno: i32, at: &Node) -> Printed {
        let rte = self
            .rte(level, rtindex)
            .ok_or_else(|| unsupported(at, "range table index"))?;
        if attno < 0 {
            return system_column(attno)
                .map(str::to_owned)
                .ok_or_else(|| unsupported(at, "system column"));
        }
        if rte.i32("rtekind")? == rte_kind::RELATION {
            return self.table_column(rte.oid("relid")?, attno);
        }
        let columns = &self.levels[level].columns[rtindex - 1];
        let index = usize::try_from(attno - 1).map_err(|_| unsupported(at, "whole row"))?;
        columns
            .get(index)
            .cloned()
            .ok_or_else(|| unsupported(at, "column number"))
    }

    /// Name of a table's column.
    pub(super) fn table_column(&self, relid: Oid, attno: i32) -> Printed {
        let name = i16::try_from(attno)
            .ok()
            .and_then(|n| self.names.column(relid, n));
        name.ok_or(DeparseError::UnknownObject {
            kind: "column",
            oid: relid,
        })
    }

    pub(super) fn relation_name(&self, oid: Oid) -> Printed {
        qualified(self.names.relation(oid), "relation", oid)
    }

    pub(super) fn function_name(&self, oid: Oid) -> Printed {
        qualified(self.names.function(oid), "function", oid)
    }

    pub(super) fn collation_name(&self, oid: Oid) -> Printed {
        qualified(self.names.collation(oid), "collation", oid)
    }

    /// `OPERATOR(schema.op)`.
    pub(super) fn operator_name(&self, oid: Oid) -> Printed {
        let name = self.operator(oid)?;
        let schema = name.schema.ok_or(DeparseError::UnknownObject {
            kind: "operator",
            oid,
        })?;
        Ok(format!("OPERATOR({}.{})", quote_ident(&schema), name.name))
    }

    pub(super) fn operator(&self, oid: Oid) -> Result<QualifiedName, DeparseError> {
        self.names.operator(oid).ok_or(DeparseError::UnknownObject {
            kind: "operator",
            oid,
        })
    }

    /// Is the operator one that the grammar's `=` finds whatever the search path is?
    pub(super) fn is_plain_equal(&self, oid: Oid) -> Result<bool, DeparseError> {
        let name = self.operator(oid)?;
        Ok(name.schema.as_deref() == Some("pg_catalog") && name.name == "=")
    }

    pub(super) fn type_name(&self, oid: Oid, typmod: i32) -> Printed {
        self.names
            .type_name(oid, typmod)
            .ok_or(DeparseError::UnknownObject { kind: "type", oid })
    }
}

fn qualified(name: Option<QualifiedName>, kind: &'static str, oid: Oid) -> Printed {
    match name {
        Some(name) if name.schema.is_some() => Ok(name.to_string()),
        _ => Err(DeparseError::UnknownObject { kind, oid }),
    }
}

/// The entry that stands for `excluded` in ON CONFLICT.
fn excluded_index(query: &Node) -> Result<Option<usize>, DeparseError> {
    match query.opt_node("onConflict")? {
        Some(conflict) => Ok(usize::try_from(conflict.i32("exclRelIndex")?)
            .ok()
            .filter(|i| *i > 0)),
        None => Ok(None),
    }
}

fn unique_columns(names: &[Value]) -> Vec<String> {
    let mut columns: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        let wanted = name.as_str().unwrap_or_default();
        let mut unique = wanted.to_owned();
        let mut n = 0;
        // Dropped columns have empty names; they stay empty and are refused where they would be printed.
        while !wanted.is_empty() && columns.contains(&unique) {
            n += 1;
            let cut = wanted
                .char_indices()
                .map(|(i, _)| i)
                .take_while(|i| *i <= 50)
                .last()
                .unwrap_or(0);
            let base = if wanted.len() > 50 { &wanted[..cut] } else { wanted };
            unique = format!("{base}_{n}");
        }
        columns.push(unique);
    }
    columns
}

fn system_column(attno: i32) -> Option<&'static str> {
    Some(match attno {
        -1 => "ctid",
        -2 => "xmin",
        -3 => "cmin",
        -4 => "xmax",
        -5 => "cmax",
        -6 => "tableoid",
        _ => return None,
    })
}
