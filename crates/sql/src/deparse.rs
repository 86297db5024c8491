//! SQL text from an analyzed tree: fully qualified, independent of search path and session settings.

#![allow(clippy::wrong_self_convention)] // `from_…` is about FROM here.

mod constant;
mod datum;
mod dml;
mod expr;
mod from;
mod jsonb;
mod merge;
mod parts;
mod printer;
mod select;
mod sublink;
mod type_sql;

pub use parts::{SelectItem, SelectParts};
pub use type_sql::{type_modifiers, type_sql};

use crate::nodes::{Node, NodeError};
use crate::{Oid, QualifiedName};
use printer::Printer;

/// Why a tree could not be printed. Never a guess: what is not known for certain is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeparseError {
    /// A node, or a combination of its fields, that is not supported.
    #[error("{node} is not supported: {what}")]
    Unsupported {
        /// Name of the node.
        node: String,
        /// Which feature of it.
        what: String,
    },
    /// The name source does not know an object.
    #[error("unknown {kind} with object id {oid}")]
    UnknownObject {
        /// relation, function, operator, type, collation, column, constraint.
        kind: &'static str,
        /// Its object id.
        oid: Oid,
    },
    /// The tree itself is not as expected.
    #[error("unexpected tree")]
    Tree(#[from] NodeError),
}

/// Names of catalogue objects by object id.
pub trait NameSource {
    /// Schema and name of a relation.
    fn relation(&self, oid: Oid) -> Option<QualifiedName>;
    /// Name of a relation's column by attribute number (1-based).
    fn column(&self, relation: Oid, attno: i16) -> Option<String>;
    /// Schema and name of a function, aggregate or window function.
    fn function(&self, oid: Oid) -> Option<QualifiedName>;
    /// Schema and name of an operator.
    fn operator(&self, oid: Oid) -> Option<QualifiedName>;
    /// A type as SQL text, schema-qualified, with its modifier when `typmod` is not -1: `pg_catalog.int4`,
    /// `pg_catalog."varchar"(10)`, `public.mood[]`.
    fn type_name(&self, oid: Oid, typmod: i32) -> Option<String>;
    /// Schema and name of a collation.
    fn collation(&self, oid: Oid) -> Option<QualifiedName>;
    /// Label of an enum value.
    fn enum_label(&self, oid: Oid) -> Option<String> {
        let _ = oid;
        None
    }
    /// Name of a constraint (ON CONFLICT ON CONSTRAINT).
    fn constraint(&self, oid: Oid) -> Option<String> {
        let _ = oid;
        None
    }
    /// Name of a field of a composite type, 1-based.
    fn field(&self, type_oid: Oid, attno: i16) -> Option<String> {
        let _ = (type_oid, attno);
        None
    }
}

/// Replaces parts of a tree by SQL text while it is printed.
pub trait Rewriter {
    /// Called before an expression is printed. `Some(sql)` is used instead, as is (so it should be a primary
    /// expression or parenthesised). `level` is 0 for the outermost query, 1 for its subqueries and so on.
    fn expression(&self, node: &Node, level: usize) -> Option<String> {
        let _ = (node, level);
        None
    }

    /// Called before a range table entry is printed in FROM. `Some(sql)` is used instead of the table or subquery;
    /// the deparser adds ` AS alias(columns)`, and ` AS alias` for a table, whose columns keep their own names.
    fn from_item(&self, item: &FromItem<'_>) -> Option<String> {
        let _ = item;
        None
    }

    /// Called for a query with GROUP BY: further columns to group by, each a range table index (1-based) and a name. For tables
    /// that are replaced by something without a primary key, on which the columns were known to depend.
    fn also_grouped(&self, query: &Node) -> Vec<(usize, String)> {
        let _ = query;
        Vec::new()
    }

    /// Called for a table's whole row as a value. `Some(name)`: the column, quoted, that stands for it in what the table was
    /// replaced by.
    fn whole_row(&self, rte: &Node) -> Option<String> {
        let _ = rte;
        None
    }

    /// Called when a table is printed in FROM. `Some(condition)`: only the rows that meet it are there. `alias` is the
    /// table's name in the statement, quoted.
    fn restriction(&self, rte: &Node, alias: &str) -> Option<Restriction> {
        let _ = (rte, alias);
        None
    }
}

/// An entry of a range table that is about to be printed in FROM.
#[derive(Debug, Clone, Copy)]
pub struct FromItem<'t> {
    /// The entry.
    pub rte: &'t Node,
    /// Its number in the range table, from 1.
    pub rtindex: usize,
    /// 0 in the outermost query, 1 in its subqueries and so on.
    pub level: usize,
    aliases: &'t [String],
}

impl FromItem<'_> {
    /// The name of an entry of the same range table in the printed statement, unquoted.
    pub fn alias(&self, rtindex: usize) -> Option<&str> {
        let alias = self.aliases.get(rtindex.checked_sub(1)?)?;
        (!alias.is_empty()).then_some(alias)
    }
}

/// What a [`Rewriter`] demands of the rows of a table.
#[derive(Debug, Clone)]
pub struct Restriction {
    /// A condition on the table's columns; rows for which it is not true are left out.
    pub condition: String,
    /// A name that nothing else in the statement has, unquoted.
    pub name: String,
}

/// Replaces nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRewrite;

impl Rewriter for NoRewrite {}

/// Prints one analyzed query.
///
/// Literals, parameters (`$n::type`), operators and functions are printed so that the text means the same whatever the
/// search path and the other settings are: resolving the printed names again gives the same objects.
pub struct Deparser<'a> {
    query: &'a Node,
    names: &'a dyn NameSource,
    rewriter: &'a dyn Rewriter,
}

impl<'a> Deparser<'a> {
    /// For a `QUERY` node.
    ///
    /// # Errors
    /// It is no query, or its range table cannot be named.
    pub fn new(
        query: &'a Node,
        names: &'a dyn NameSource,
        rewriter: &'a dyn Rewriter,
    ) -> Result<Self, DeparseError> {
        if !query.is("QUERY") {
            return Err(printer::unsupported(query, "not a query"));
        }
        let deparser = Self {
            query,
            names,
            rewriter,
        };
        deparser.printer()?;
        Ok(deparser)
    }

    fn printer(&self) -> Result<Printer<'a>, DeparseError> {
        let mut printer = Printer::new(self.names, self.rewriter);
        printer.push(self.query)?;
        Ok(printer)
    }

    /// An expression of the query (level 0), as a primary expression: parenthesised where needed.
    ///
    /// # Errors
    /// Something in it cannot be printed.
    pub fn expr(&self, node: &'a Node) -> Result<String, DeparseError> {
        self.printer()?.expr(node)
    }

    /// The alias a range table entry (1-based index) has in the printed text, unquoted.
    ///
    /// # Errors
    /// There is no such entry, or it has no alias (joins).
    pub fn alias(&self, rtindex: usize) -> Result<String, DeparseError> {
        self.printer()?.alias(rtindex)
    }

    /// The columns of a range table entry (1-based index) as `alias.column`, quoted.
    ///
    /// # Errors
    /// There is no such entry, or it has no alias (joins).
    pub fn columns(&self, rtindex: usize) -> Result<Vec<String>, DeparseError> {
        let printer = self.printer()?;
        let alias = crate::quote_ident(&printer.alias(rtindex)?);
        let columns = printer.columns(rtindex).iter();
        Ok(columns
            .map(|name| format!("{alias}.{}", crate::quote_ident(name)))
            .collect())
    }

    /// The FROM list without the keyword; empty when there is none. For UPDATE and DELETE without the target.
    ///
    /// # Errors
    /// Something in it cannot be printed.
    pub fn from_clause(&self) -> Result<String, DeparseError> {
        self.printer()?.from_clause(self.query)
    }

    /// The WHERE condition without the keyword.
    ///
    /// # Errors
    /// Something in it cannot be printed.
    pub fn where_clause(&self) -> Result<Option<String>, DeparseError> {
        self.printer()?.where_clause(self.query)
    }

    /// The clauses of a SELECT that is no set operation, to be changed and printed by the caller.
    ///
    /// # Errors
    /// It is another statement or a set operation, or something in it cannot be printed.
    pub fn select_parts(&self) -> Result<SelectParts, DeparseError> {
        self.printer()?.select_parts(self.query)
    }

    /// An INSERT without its WITH clause.
    ///
    /// # Errors
    /// It is another statement, or something in it cannot be printed.
    pub fn insert_body(&self) -> Result<String, DeparseError> {
        self.printer()?.insert_body(self.query)
    }

    /// The query that an INSERT takes its rows from, a range table entry (1-based index), as a statement of its own.
    ///
    /// # Errors
    /// There is no such query, or something in it cannot be printed.
    pub fn insert_source(&self, rtindex: usize) -> Result<String, DeparseError> {
        self.printer()?.insert_source(self.query, rtindex)
    }

    /// The RETURNING clause, beginning with a space; empty when there is none.
    ///
    /// # Errors
    /// Something in it cannot be printed.
    pub fn returning_clause(&self) -> Result<String, DeparseError> {
        self.printer()?.returning(self.query)
    }

    /// The WITH clause, ending in a space; empty when there is none.
    ///
    /// # Errors
    /// Something in it cannot be printed.
    pub fn with_clause(&self) -> Result<String, DeparseError> {
        Ok(self
            .printer()?
            .with(self.query)?
            .map(|with| format!("{with} "))
            .unwrap_or_default())
    }

    /// The whole statement.
    ///
    /// # Errors
    /// Something in it cannot be printed.
    pub fn query(&self) -> Result<String, DeparseError> {
        Printer::new(self.names, self.rewriter).query(self.query)
    }
}

#[cfg(test)]
mod tests;
