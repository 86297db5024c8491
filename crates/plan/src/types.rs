//! What the planner is asked and what it answers.

use std::borrow::Cow;

use catalog::{KeyStep, KeyType, KeyValue, MapId, ShardId, Snapshot};

use crate::{Gather, Refusal, Relocate, Transfer};

/// A result column from RowDescription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultColumn {
    /// Column label.
    pub name: String,
    /// Type OID on the home shard.
    pub type_oid: u32,
    /// Type modifier, -1 when there is none.
    pub type_modifier: i32,
}

/// What a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementKind {
    /// SELECT, VALUES, TABLE, WITH … SELECT
    Select,
    /// INSERT
    Insert,
    /// UPDATE
    Update,
    /// DELETE
    Delete,
    /// MERGE
    Merge,
}

/// Everything the executor has to know about an optimizable statement.
///
/// How to read it. Resolve `target` to a set of shards. Exactly one shard: send `text` (or, without one, the client's
/// text) there and pass the rows through untouched; `prelude` is needed only with `text`. More than one: evaluate
/// `prelude`, append its values to the parameters and follow `many`. Keys among the prelude's values have to be
/// evaluated before `target` can be resolved. No shard at all (every key was NULL): any shard gives the right answer, as
/// with one.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What the statement is.
    pub kind: StatementKind,
    /// Whether it can change data (also a SELECT with a data-modifying CTE, and FOR UPDATE).
    pub writes: bool,
    /// Whether it answers with rows.
    pub returns_rows: bool,
    /// Which shards.
    pub target: Target,
    /// What to do when `target` resolves to more than one shard.
    pub many: Many,
    /// Some prelude value is the transaction's start time.
    pub uses_now: bool,
    /// The text to send instead of the client's when exactly one shard is concerned. `None`: the client's own.
    /// Uses the client's `$n` plus those of `prelude`.
    pub text: Option<String>,
    /// Values to be computed once before anything is sent, and passed as further parameters.
    pub prelude: Vec<PreludeValue>,
    /// The plan depends on the current role (row level security): the cache key must hold the role.
    pub role_dependent: bool,
    /// The plan was proved for the literals of this text: it must not serve a text with other literals in their places.
    pub bound_to_text: bool,
    /// How many parameters the client's text has; those of `prelude` come after.
    pub param_count: u16,
    /// It may change rows of a table that has global indexes: whatever each shard has changed is carried over to the
    /// indexes before the statement is answered, in the same transaction.
    pub indexed: bool,
    /// It reads without saying how many rows it wants at most: no LIMIT, no aggregate, no GROUP BY.
    pub unbounded: bool,
    /// Its rows may depend on settings of the session, such as the time zone, or on when it runs.
    pub by_settings: bool,
}

impl Plan {
    /// Whether more is to be done for one shard than to pass a text and its answer on.
    pub fn takes_steps(&self) -> bool {
        self.indexed || self.is_rewritten()
    }

    /// Whether one shard gets something else than the client's own text.
    pub fn is_rewritten(&self) -> bool {
        // The elements of arrays become literals of a text that is made for each execution.
        let literals = |value: &PreludeValue| match value.source {
            PreludeSource::HomeArray { .. } => true,
            PreludeSource::NextIds { count } => count > 1,
            _ => false,
        };
        self.text.is_some() || self.prelude.iter().any(literals)
    }
}

/// A value computed once per execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreludeValue {
    /// Number of the parameter that carries it, from 1; always above the client's own.
    pub param: u16,
    /// Type OID of the parameter (a built-in type, the same on every server).
    pub type_oid: u32,
    /// How to get it.
    pub source: PreludeSource,
}

/// Where a [`PreludeValue`] comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreludeSource {
    /// The transaction's start time: `SELECT pg_catalog.now()` on the first enlisted shard.
    Now,
    /// The start time of the statement: `SELECT pg_catalog.statement_timestamp()`.
    StatementTime,
    /// `SELECT <sql>` in the client's own session on the home shard. One execution of the statement, one
    /// evaluation. Used for sequences and other volatile defaults.
    HomeExpression {
        /// An expression, fully qualified.
        sql: String,
    },
    /// The same, where the expression gives an array of values, one for each of several rows. The array itself is not used
    /// by the statement: its elements are keys and [`DrawnValue`]s.
    HomeArray {
        /// An expression of the array type, fully qualified.
        sql: String,
    },
    /// Values of `drover.next_id()`, which the proxy makes itself: an array of so many, or, of one, the number alone.
    NextIds {
        /// How many.
        count: u32,
    },
}

/// Which shards a statement concerns.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// The home shard.
    Home,
    /// Any one shard: only reference tables are read.
    Any,
    /// Every shard, home first: a reference table is written. Rows and tag of the home shard are the answer.
    Every,
    /// The shards of these keys, each once.
    Keys {
        /// The map to look them up in.
        map: MapId,
        /// The keys: a union.
        keys: Vec<KeySource>,
        /// What a NULL key means.
        nulls: NullKeys,
    },
    /// The shards that may hold keys between bounds; with a bound that is NULL none, because no row qualifies. A bound whose
    /// value cannot be read may be left out: bounds only keep shards from being asked in vain.
    Between {
        /// A map by ranges of the key.
        map: MapId,
        /// Values of the bounds, one each.
        keys: Vec<KeySource>,
        /// For each use of a sharded table its bounds, all of which hold; at least one. The shards of all uses are asked.
        uses: Vec<Vec<Bound>>,
    },
    /// The shards of the rows that a global index finds; all shards of the map are right as well.
    Lookup {
        /// The map of the rows.
        map: MapId,
        /// Number of the index.
        index: u32,
        /// The values of its columns: a union.
        keys: Vec<KeySource>,
    },
    /// All shards of the map.
    All {
        /// The map.
        map: MapId,
    },
    /// Which shards turns out as it runs; all there are may be concerned. With a single one the client's text is right.
    Cluster,
}

/// A bound of keys. Whether the value itself is within does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Index of its value among the keys of [`Target::Between`].
    pub key: usize,
    /// On which side of the value the keys are.
    pub side: Side,
}

/// A side of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Keys are not below it.
    AtLeast,
    /// Keys are not above it.
    AtMost,
}

/// What a NULL among the keys means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NullKeys {
    /// It is compared by `=`: no row qualifies, it adds no shard.
    Nowhere,
    /// It is stored: it goes to the fixed place of [`KeyValue::Null`].
    Placed,
}

/// Where a key value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeySource {
    /// Known now.
    Const {
        /// The value.
        value: KeyValue,
        /// Byte offset of its literal in the client's text, when there is one.
        location: Option<u32>,
        /// The type of the key column it is compared with or stored in.
        key_type: KeyType,
    },
    /// A parameter, from 1.
    Param {
        /// Its number.
        index: u16,
        /// The type of the *parameter* (of the same family as the key column).
        key_type: KeyType,
    },
    /// A parameter, from 1, that is converted on its way: cast to another type, or cut or rounded to the modifier of the
    /// column's type.
    ///
    /// A value that a step does not take must not be used as a key: the server refuses it, or does with it what is not
    /// known here. Then the statement is refused ([`RefusalCode::KeyForm`](crate::RefusalCode)).
    ConvertedParam {
        /// Its number.
        index: u16,
        /// The type of the parameter.
        key_type: KeyType,
        /// What happens to its value, in order.
        steps: Box<[KeyStep]>,
    },
    /// An element of an array among the prelude's values.
    Element {
        /// The parameter that carries the array, from 1.
        index: u16,
        /// Which element, from 1.
        element: u32,
        /// The type of the elements.
        key_type: KeyType,
    },
    /// Every element of an array parameter, from 1.
    ParamArray {
        /// Its number.
        index: u16,
        /// The type of the elements.
        key_type: KeyType,
    },
    /// Keys of several columns: every combination of the values of each.
    Product {
        /// The values of each column, in the order of the key; never products themselves.
        columns: Box<[Vec<KeySource>]>,
    },
    /// All sub-keys of salted keys: of every combination of the values of the columns that are the key, without those
    /// that salt it.
    SubKeys {
        /// As in [`KeySource::Product`].
        columns: Box<[Vec<KeySource>]>,
    },
}

impl KeySource {
    /// The type of the value that is compared or stored; `None`: it has several columns, or is all sub-keys of one.
    pub fn key_type(&self) -> Option<KeyType> {
        match self {
            KeySource::Const { key_type, .. }
            | KeySource::Param { key_type, .. }
            | KeySource::Element { key_type, .. }
            | KeySource::ParamArray { key_type, .. } => Some(*key_type),
            KeySource::ConvertedParam { key_type, steps, .. } => {
                let target = steps.iter().fold(*key_type, |known, step| match step {
                    KeyStep::To(target) => *target,
                    _ => known,
                });
                Some(target)
            }
            KeySource::Product { .. } | KeySource::SubKeys { .. } => None,
        }
    }

    /// The types of all values that are compared or stored.
    pub fn column_types(&self) -> Vec<KeyType> {
        match self {
            KeySource::Product { columns } | KeySource::SubKeys { columns } => columns
                .iter()
                .flatten()
                .flat_map(KeySource::column_types)
                .collect(),
            one => one.key_type().into_iter().collect(),
        }
    }

    /// Whether it stands for a single key.
    pub fn is_single(&self) -> bool {
        match self {
            KeySource::Const { .. }
            | KeySource::Param { .. }
            | KeySource::ConvertedParam { .. }
            | KeySource::Element { .. } => true,
            KeySource::ParamArray { .. } | KeySource::SubKeys { .. } => false,
            KeySource::Product { columns } => columns
                .iter()
                .all(|values| matches!(values.as_slice(), [only] if only.is_single())),
        }
    }

    /// The key of a table without one, which has all its rows in one place.
    pub fn placed() -> KeySource {
        KeySource::Const {
            value: KeyValue::Null,
            location: None,
            key_type: KeyType::Int8,
        }
    }

    /// The key whose columns are these; the only column itself.
    pub fn of_columns(mut columns: Vec<KeySource>) -> KeySource {
        match columns.len() {
            0 => KeySource::placed(),
            1 => columns.swap_remove(0),
            _ => KeySource::Product {
                columns: columns.into_iter().map(|column| vec![column]).collect(),
            },
        }
    }

    /// Every combination of these values of the columns; the values themselves, where there is one column.
    pub fn product(mut columns: Vec<Vec<KeySource>>) -> Vec<KeySource> {
        match columns.len() {
            0 => vec![KeySource::placed()],
            1 => columns.swap_remove(0),
            _ => vec![KeySource::Product {
                columns: columns.into(),
            }],
        }
    }
}

/// What to do when more than one shard is concerned.
#[derive(Debug, Clone, PartialEq)]
pub enum Many {
    /// Nothing runs.
    Refuse(Refusal),
    /// Run on each shard, add up the row counts of the command tags.
    SumTags {
        /// `None`: the client's text.
        shard_sql: Option<String>,
    },
    /// Run on each shard, combine the rows.
    Rows(RowsPlan),
    /// Give each shard its rows of the VALUES list.
    SplitInsert(SplitInsert),
    /// Pull what is needed of the tables, and let one server finish.
    Gather(Box<Gather>),
    /// Run a query, then give each shard its rows of the answer.
    Transfer(Box<Transfer>),
    /// Change rows, some of which then belong to other shards.
    Relocate(Box<Relocate>),
}

/// Rows from several shards.
#[derive(Debug, Clone, PartialEq)]
pub struct RowsPlan {
    /// What runs on each shard. `None`: the client's text. Same `$n` numbering plus the prelude's.
    pub shard_sql: Option<String>,
    /// Where `shard_sql` wants the shard's own condition, in the order of their places; see [`Self::text_for`].
    pub own: Vec<OwnRows>,
    /// How many of the shards' columns the client sees; they come first. Ignored for [`Combine::Finish`].
    pub visible: usize,
    /// Number of columns a shard returns.
    pub width: usize,
    /// How rows become the answer.
    pub combine: Combine,
    /// Whether the number of rows is also the row count of a writing statement's tag (RETURNING).
    pub tag_rows: bool,
}

impl RowsPlan {
    /// What runs on a shard of several: `client` is the client's text. `None` when a map is not known any more.
    pub fn text_for<'a>(
        &'a self,
        client: &'a str,
        shard: ShardId,
        snapshot: &Snapshot,
    ) -> Option<Cow<'a, str>> {
        let text = self.shard_sql.as_deref().unwrap_or(client);
        if self.own.is_empty() {
            return Some(Cow::Borrowed(text));
        }
        let condition = |own: &OwnRows| {
            let map = snapshot.map(own.map)?;
            let columns: Vec<_> = own
                .columns
                .iter()
                .map(|(key, sql)| (*key, sql.as_str()))
                .collect();
            Some(map.answered_by_sql(shard, &columns))
        };
        self.with_conditions(text, condition).map(Cow::Owned)
    }

    /// The text with conditions in their places.
    pub(crate) fn with_conditions(
        &self,
        text: &str,
        mut condition: impl FnMut(&OwnRows) -> Option<String>,
    ) -> Option<String> {
        let (mut out, mut done) = (String::with_capacity(text.len() * 2), 0);
        for own in &self.own {
            out.push_str(text.get(done..own.at)?);
            out.push_str(&format!("({})", condition(own)?));
            done = own.at;
        }
        out.push_str(text.get(done..)?);
        Some(out)
    }
}

/// A place in a text where a reference table is cut to the rows whose key belongs to the shard that runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnRows {
    /// Byte of the text before which the condition stands.
    pub at: usize,
    /// The map that says which shard.
    pub map: MapId,
    /// The columns that are the key, as SQL, in its order.
    pub columns: Vec<(KeyType, String)>,
}

/// How the rows of several shards become one result.
#[derive(Debug, Clone, PartialEq)]
pub enum Combine {
    /// In any order.
    Concat {
        /// Applied to the whole.
        limit: LimitPlan,
    },
    /// Each shard's rows are sorted; merge them.
    Ordered {
        /// Sort keys, most significant first.
        keys: Vec<SortKey>,
        /// Applied to the whole.
        limit: LimitPlan,
    },
    /// The rows become arrays, PostgreSQL does the rest.
    ///
    /// Parse it with the types of *all* parameters (the client's as described, the prelude's, the arrays'): a parameter
    /// that the statement does not use has no type otherwise. The same holds for `shard_sql` and `text`.
    Finish {
        /// The statement to run on one server, with the client's parameters (same `$n`), the prelude's, and `inputs`.
        sql: String,
        /// One per column of the shards' rows, in order.
        inputs: Vec<InputColumn>,
    },
}

/// A column handed to the finish statement as an array parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputColumn {
    /// Number of the array parameter.
    pub param: u16,
    /// Type OID of the elements.
    pub type_oid: u32,
    /// Type OID of the array.
    pub array_oid: u32,
}

/// LIMIT and OFFSET of the whole result, to be applied while combining. (What may be pushed to the shards is in their SQL.)
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LimitPlan {
    /// LIMIT; `None` when absent.
    pub limit: Option<LimitValue>,
    /// OFFSET; `None` when absent.
    pub offset: Option<LimitValue>,
}

/// A LIMIT or OFFSET value. NULL means absent; negative is PostgreSQL's error 2201W (LIMIT) or 2201X (OFFSET).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitValue {
    /// A constant, checked to be ≥ 0.
    Const(i64),
    /// A bigint parameter, from 1.
    Param {
        /// Its number.
        index: u16,
    },
}

/// A column to sort by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SortKey {
    /// Column of the shard's row, from 0. May be at or beyond [`RowsPlan::visible`].
    pub column: usize,
    /// Type OID; always one that the merge can compare in binary form under the column's collation.
    pub type_oid: u32,
    /// Largest first.
    pub descending: bool,
    /// NULLs before all values.
    pub nulls_first: bool,
}

/// A multi-row INSERT cut up by row.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitInsert {
    /// Everything up to the rows, ending in `VALUES `.
    pub head: String,
    /// The rows. Join those of one shard by `, `.
    pub rows: Vec<SplitRow>,
    /// Everything after the rows (`ON CONFLICT …`, `RETURNING …`), starting with a space, or empty.
    pub tail: String,
    /// Rows come back: concatenate them. Without it add up the tags.
    pub returning: bool,
    /// Each row of VALUES is expected to give exactly one row of RETURNING, in order, so that when the counts agree
    /// the answer can be put into the order of the VALUES list.
    pub keeps_order: bool,
}

/// One row of a [`SplitInsert`].
#[derive(Debug, Clone, PartialEq)]
pub struct SplitRow {
    /// Decides the shard. NULL goes to its fixed place.
    pub key: KeySource,
    /// `(…)`; parameters keep their numbers.
    pub sql: String,
    /// Literals to be put into `sql`, in the order of their places.
    pub drawn: Vec<DrawnValue>,
}

/// An element of an array of the prelude that becomes a literal of a row. (As a parameter, every row's expression would
/// get a copy of the array.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrawnValue {
    /// Byte of the row's SQL before which it stands.
    pub at: usize,
    /// Number of the prelude's parameter, from 1.
    pub param: u16,
    /// Which element, from 1.
    pub element: u32,
}

/// A statement together with what PostgreSQL said about it.
#[derive(Debug, Clone, Copy)]
pub struct Analyzed<'a> {
    /// The statement as the client wrote it: the text that was parsed on the home shard, to which locations refer.
    pub text: &'a str,
    /// Its raw parse tree, of that same text.
    pub raw: &'a sql::RawStatement,
    /// The rewritten Query trees, as the home shard printed them (a rule can make several).
    pub trees: &'a [sql::Node],
    /// Type OIDs of `$1`, `$2`, … on the home shard.
    pub param_types: &'a [u32],
    /// Result columns as the home shard described them; empty when the statement returns no rows.
    pub columns: &'a [ResultColumn],
}
