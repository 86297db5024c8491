//! Rows that one part of a statement makes and another part stores elsewhere.

use catalog::MapId;

use crate::{KeySource, Plan};

/// `INSERT … SELECT` whose rows are not stored where they are made.
///
/// How to run it: run `source` like a statement of its own, in the same transaction. When it is complete (so that the new
/// rows are never among those that are read), draw the values of `drawn`, one for each row, and give each place of
/// `place` its rows: one execution of `insert`, whose array parameters have an element for each of the place's rows. With no
/// rows at all `insert` runs once with empty arrays, for the errors and triggers that a statement without rows has.
#[derive(Debug, Clone, PartialEq)]
pub struct Transfer {
    /// The SELECT, with the client's parameters.
    pub source: String,
    /// Columns of `source`, in order.
    pub columns: Vec<Carried>,
    /// Values that every row gets beside them; their array parameters come after those of `columns`.
    pub drawn: Vec<Drawn>,
    /// Where rows go.
    pub place: TransferPlace,
    /// The INSERT, with the client's parameters, those of the plan's prelude, and one array for each carried column and each
    /// drawn value.
    pub insert: String,
    /// `insert` answers with rows.
    pub returning: bool,
    /// Each row gives exactly one row of RETURNING, in order.
    pub keeps_order: bool,
    /// Nobody could tell several executions of `insert`, each with some of the rows, from one: nothing looks at the rows of
    /// the whole statement (triggers, ON CONFLICT DO UPDATE, foreign keys within the table), or at other rows at all
    /// (functions in constraints). And `source` calls nothing that may see rows which were written since it began. So rows
    /// may be stored before the last has been read.
    pub in_portions: bool,
}

/// A column on its way from one server to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Ask for it in binary form; else in text form.
    pub binary: bool,
    /// Type OID of an element of its array parameter, and of the array; `None` for a column that only decides the place.
    pub array: Option<(u32, u32)>,
    /// Its text is read under settings of the session: as it was meant only if `array_nulls` is on and `xmloption` is `content`.
    pub read_by_settings: bool,
}

/// A value that is computed once for each row, on the home shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    /// An expression, fully qualified. Its values travel as text.
    pub sql: String,
}

/// Where the rows of a [`Transfer`] go.
#[derive(Debug, Clone, PartialEq)]
pub enum TransferPlace {
    /// To the home shard.
    Home,
    /// To every shard, home first, the same everywhere.
    Every,
    /// Each to the place of its key.
    Key {
        /// The map.
        map: MapId,
        /// The key. Parameters beyond the client's own stand for the columns of the source, then for the drawn values.
        key: KeySource,
    },
}

/// An UPDATE of the shard key: rows change their shard.
///
/// How to run it, in one transaction: run `lock` on the shards of `from`; its rows are what a row is called by (`ctid`; binary) and the columns of the new key (in
/// the forms of `columns`). Where the new key belongs to another shard, `leave` takes the row away and says how it
/// will be; elsewhere `stay` changes it in place. Both have an array of these as their parameter. When all have left,
/// `arrive` stores them on their new shards; its parameters are arrays, one for each of `columns`. If no row was found, `stay`
/// runs on one shard with an empty array.
#[derive(Debug, Clone, PartialEq)]
pub struct Relocate {
    /// Where the rows are now: a plan of which only the target and the parameters count.
    pub from: Box<Plan>,
    /// The map of the table.
    pub map: MapId,
    /// The table as SQL.
    pub table: String,
    /// Finds and locks the rows.
    pub lock: String,
    /// OIDs of the type of what `lock` calls a row by, and of its array.
    pub row_types: (u32, u32),
    /// The key in a row of `lock`. Parameters beyond the client's own stand for its columns.
    pub new_key: KeySource,
    /// Takes rows away.
    pub leave: String,
    /// Changes rows in place.
    pub stay: String,
    /// Stores rows.
    pub arrive: String,
    /// Columns of the rows of `leave`.
    pub columns: Vec<Carried>,
    /// Which of them are the key, from 0, in the order of the key.
    pub key_columns: Vec<usize>,
    /// The key in a row of `leave`. Parameters beyond the client's own stand for its columns.
    pub key: KeySource,
    /// `stay` and `arrive` answer with rows.
    pub returning: bool,
}
