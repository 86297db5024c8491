//! The proof: which tables a statement reads, and which of their keys are pinned to which values.
//!
//! Every use of a table at any query level becomes an *instance*. A node of the graph is a column of an instance. An
//! edge `a → b` says: if only rows with `a = c` matter, then only rows with `b = c` matter, for every value `c`. Edges
//! come from equalities that hold for every row that can reach the result: WHERE, inner joins, and the side of an outer
//! join that is not preserved. A *pin* says that only rows with one of some known values matter.
//!
//! Two questions are answered with it. Are all sharded tables pinned to known keys (then the statement runs where these
//! keys are)? Are they all pinned to `c` when one table's key is `c` (then each shard can answer for its own keys)?

use std::collections::{HashMap, HashSet};

use catalog::{KEY_COLUMNS_MAX, KeyColumn, KeyFamily, MapId, Oid, Placement, Relation, Snapshot};
use sql::Node;

use super::own::{Own, ReferenceUse};
use crate::{KeySource, Refusal, RefusalCode, Side};

/// Most instances, so that a chain of CTEs that doubles at each step ends.
const INSTANCES_MAX: usize = 2_000;

/// A node: a column of an instance.
pub(super) type Col = usize;

/// The key columns of a use of a sharded table, in the order of its key; none of a placed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyCols {
    cols: [Col; KEY_COLUMNS_MAX],
    len: usize,
}

impl KeyCols {
    /// Of these columns, of which there are at most [`KEY_COLUMNS_MAX`].
    pub fn new(columns: impl IntoIterator<Item = Col>) -> KeyCols {
        let mut key = KeyCols {
            cols: [0; KEY_COLUMNS_MAX],
            len: 0,
        };
        for (place, col) in key.cols.iter_mut().zip(columns) {
            *place = col;
            key.len += 1;
        }
        key
    }

    /// The only column of a key of one.
    pub fn single(&self) -> Option<Col> {
        match **self {
            [only] => Some(only),
            _ => None,
        }
    }
}

impl std::ops::Deref for KeyCols {
    type Target = [Col];

    fn deref(&self) -> &[Col] {
        &self.cols[..self.len]
    }
}

/// A use of a sharded table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sharded {
    /// Its key columns.
    pub key: KeyCols,
    /// Its map.
    pub map: MapId,
    /// Its OID.
    pub table: Oid,
    /// Which use it is.
    pub instance: usize,
}

/// A use of a table whose rows are carried to the shards.
#[derive(Debug, Clone)]
pub(super) struct Carried<'a> {
    /// Its entry, in whichever range table.
    pub rte: &'a Node,
    /// The columns by which they are dealt out, and the map; `None`: every shard gets all of them, as of a reference table.
    pub key: Option<(Vec<KeyColumn>, MapId)>,
}

/// What is known about a whole statement.
pub(super) struct Graph<'a> {
    pub snapshot: &'a Snapshot,
    columns: HashMap<(usize, i32), Col>,
    edges: Vec<Vec<Col>>,
    pub pins: Vec<(Col, Vec<KeySource>)>,
    /// Bounds: only rows with a value on this side of a known one matter.
    pub bounds: Vec<(Col, Side, KeySource)>,
    /// Columns that an outer join inside a subquery may have filled with NULL.
    pub null_extended: HashSet<Col>,
    /// Columns that the condition of a full join equates.
    pub full: Vec<(Col, Col)>,
    instances: usize,
    /// Uses of sharded tables.
    pub sharded: Vec<Sharded>,
    /// Uses of reference tables.
    pub reference: usize,
    /// The same, with where they are.
    pub references: Vec<ReferenceUse<'a>>,
    /// Uses of reference tables that are cut by shard and count as sharded.
    pub own: Vec<Own<'a>>,
    /// Uses of tables whose rows are carried to the shards.
    pub carried: Vec<Carried<'a>>,
    /// Names of home relations (and of relations that are not known: temporary or new).
    pub home: Vec<String>,
    /// Uses of tables of all kinds, with their entries.
    pub leaves: Vec<(usize, &'a Node)>,
    /// Tables written, at any level.
    pub writes: Vec<super::write::Write<'a>>,
    /// Keys of the new rows of a MERGE.
    pub merged: Vec<KeyCols>,
    /// Shapes found on the way that a decision may depend on.
    pub shapes: Shapes,
    /// Query levels being read, against endless nesting.
    pub depth: usize,
}

/// Shapes that matter when several shards answer.
#[derive(Debug, Default, Clone)]
pub(super) struct Shapes {
    /// TABLESAMPLE.
    pub tablesample: bool,
    /// Row level security applies.
    pub row_security: bool,
    /// WITH RECURSIVE.
    pub recursive: bool,
    /// A set operation.
    pub set_operation: bool,
    /// A subquery that reads no sharded table and makes a choice that may differ between copies.
    pub recurring_choice: bool,
    /// A data-modifying CTE.
    pub modifying_cte: bool,
    /// FOR UPDATE and its like, at any level.
    pub locking: bool,
    /// Subqueries (in FROM, WITH or an expression).
    pub subqueries: usize,
    /// Outer joins.
    pub outer_joins: usize,
}

impl<'a> Graph<'a> {
    pub fn new(snapshot: &'a Snapshot) -> Graph<'a> {
        Graph {
            snapshot,
            columns: HashMap::new(),
            edges: Vec::new(),
            pins: Vec::new(),
            bounds: Vec::new(),
            null_extended: HashSet::new(),
            full: Vec::new(),
            instances: 0,
            sharded: Vec::new(),
            reference: 0,
            references: Vec::new(),
            own: Vec::new(),
            carried: Vec::new(),
            home: Vec::new(),
            leaves: Vec::new(),
            writes: Vec::new(),
            merged: Vec::new(),
            shapes: Shapes::default(),
            depth: 0,
        }
    }

    /// A new instance.
    pub fn instance(&mut self) -> Result<usize, Refusal> {
        self.instances += 1;
        if self.instances > INSTANCES_MAX {
            return Err(Refusal::new(RefusalCode::TooComplex));
        }
        Ok(self.instances)
    }

    /// The node of a column.
    pub fn column(&mut self, instance: usize, attno: i32) -> Col {
        let next = self.edges.len();
        let col = *self.columns.entry((instance, attno)).or_insert(next);
        if col == next {
            self.edges.push(Vec::new());
        }
        col
    }

    /// The node of a column that the statement names.
    pub fn known_column(&self, instance: usize, attno: i32) -> Option<Col> {
        self.columns.get(&(instance, attno)).copied()
    }

    /// The use of a table that has this column.
    pub fn instance_of(&self, col: Col) -> Option<usize> {
        let mut columns = self.columns.iter();
        columns.find_map(|((instance, _), known)| (*known == col).then_some(*instance))
    }

    /// A node with known values.
    pub fn constant(&mut self, keys: Vec<KeySource>) -> Col {
        let col = self.edges.len();
        self.edges.push(Vec::new());
        self.pins.push((col, keys));
        col
    }

    pub fn edge(&mut self, from: Col, to: Col) {
        if from != to && !self.edges[from].contains(&to) {
            self.edges[from].push(to);
        }
    }

    /// Takes back pins to dates and times: some are relative to the clock, and mean something else when the text runs.
    pub fn forget_times(&mut self) {
        self.pins.retain(|(_, keys)| !keys.iter().any(is_time_constant));
        self.bounds.retain(|(_, _, key)| !is_time_constant(key));
    }

    /// Registers a use of a base relation.
    pub fn relation(&mut self, instance: usize, rte: &'a Node) -> Result<Option<&'a Relation>, Refusal> {
        if !rte.value("tablesample").is_null() {
            self.shapes.tablesample = true;
        }
        self.leaves.push((instance, rte));
        let oid = Oid(rte.oid("relid")?);
        if let Some(carried) = self.carried.iter().find(|carried| std::ptr::eq(carried.rte, rte)) {
            match carried.key.clone() {
                Some((key, map)) => self.use_sharded(instance, oid, &key, map),
                None => self.reference += 1,
            }
            return Ok(self.snapshot.relation(oid));
        }
        let Some(relation) = self.snapshot.relation(oid) else {
            self.home.push(format!("relation {oid}"));
            return Ok(None);
        };
        match &relation.placement {
            Placement::Home => self.home.push(relation.name.clone()),
            Placement::Reference => {
                self.reference += 1;
                let own = self.own.iter().find(|own| std::ptr::eq(own.rte, rte));
                if let Some((key, map)) = own.map(|own| (own.key.clone(), own.map)) {
                    self.use_sharded(instance, oid, &key, map);
                }
                self.references.push(ReferenceUse {
                    instance,
                    rte,
                    table: oid,
                });
            }
            Placement::Sharded { key, map } => {
                if relation.has_inheritance() {
                    return Err(Refusal::with(RefusalCode::Partitioned, &relation.name));
                }
                self.use_sharded(instance, oid, key, *map);
            }
        }
        Ok(Some(relation))
    }

    fn use_sharded(&mut self, instance: usize, table: Oid, key: &[KeyColumn], map: MapId) {
        let columns = key
            .iter()
            .map(|column| self.column(instance, i32::from(column.attnum)));
        let key = KeyCols::new(columns);
        self.sharded.push(Sharded {
            key,
            map,
            table,
            instance,
        });
    }

    /// The column whose values a key takes, for the key of new rows.
    pub fn feeds(&self, key: Col) -> Option<Col> {
        (0..self.edges.len()).find(|from| self.edges[*from].contains(&key))
    }

    /// Everything pinned to `c` when the given nodes are.
    pub fn reach(&self, from: &[Col]) -> Vec<bool> {
        let mut seen = vec![false; self.edges.len()];
        let mut stack = from.to_vec();
        while let Some(col) = stack.pop() {
            if !std::mem::replace(&mut seen[col], true) {
                stack.extend(&self.edges[col]);
            }
        }
        seen
    }

    /// Whether every column of `key` is pinned to what the same column of one of `from` is pinned to.
    pub fn reaches(&self, from: &[KeyCols], key: &KeyCols) -> bool {
        from.iter().any(|from| {
            let mut pairs = from.iter().zip(key.iter());
            from.len() == key.len() && pairs.all(|(from, to)| self.reach(&[*from])[*to])
        })
    }

    /// Whether two columns have equal values in every row that matters.
    pub fn same(&self, a: Col, b: Col) -> bool {
        let mut seen = vec![false; self.edges.len()];
        let mut stack = vec![a];
        while let Some(col) = stack.pop() {
            if col == b {
                return true;
            }
            if !std::mem::replace(&mut seen[col], true) {
                stack.extend(
                    self.edges[col]
                        .iter()
                        .filter(|next| self.edges[**next].contains(&col)),
                );
            }
        }
        false
    }

    /// For each node the smallest set of known values it is pinned to.
    pub fn known(&self) -> Vec<Option<&[KeySource]>> {
        let mut known: Vec<Option<&[KeySource]>> = vec![None; self.edges.len()];
        let mut pins: Vec<&(Col, Vec<KeySource>)> = self.pins.iter().collect();
        // Few keys first: the first set to arrive stays. Array parameters count as many.
        pins.sort_by_key(|(_, keys)| {
            let many = keys.iter().any(|k| matches!(k, KeySource::ParamArray { .. }));
            (many, keys.len())
        });
        for (col, keys) in pins {
            for (at, reached) in self.reach(&[*col]).into_iter().enumerate() {
                if reached && known[at].is_none() {
                    known[at] = Some(keys);
                }
            }
        }
        known
    }
}

/// Whether a key is a date or time that was read when the statement was analyzed.
pub(super) fn is_time_constant(key: &KeySource) -> bool {
    matches!(key, KeySource::Const { key_type, .. } if matches!(
        key_type.family(),
        KeyFamily::Date | KeyFamily::Timestamp | KeyFamily::Timestamptz
    ))
}
