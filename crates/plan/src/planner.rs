//! From an analyzed statement to a [`Plan`].
//!
//! The tiers, each only where it is proved: one shard (every sharded table is pinned to known keys, which turn out to be
//! on one shard), several shards with their answers combined, refused.

mod aggregate;
mod bounds;
mod calls;
mod columns;
mod expr;
mod gather;
mod graph;
mod grouped;
mod indexed;
mod insert;
mod joins;
mod level;
mod limits;
mod lookup;
mod merge;
mod names;
mod own;
mod reference;
mod relocate;
mod rewrite;
mod rows;
mod transfer;
mod write;

use catalog::{MapId, ShardMap, Snapshot};
use sql::Node;

use crate::{
    Analyzed, Combine, KeySource, LimitPlan, Many, NullKeys, Plan, Refusal, RefusalCode, RowsPlan,
    StatementKind, Target,
};
use calls::{Calls, calls, has_relative_time};
use graph::{Col, Graph, KeyCols};
use insert::Rows;
use level::Built;
use own::Own;
use rewrite::Prelude;

/// Plans a statement that [`triage`](crate::triage()) sent to be analyzed.
///
/// # Errors
/// The statement is not proved to give what one PostgreSQL would give.
pub fn plan(analyzed: &Analyzed<'_>, snapshot: &Snapshot) -> Result<Plan, Refusal> {
    match analyzed.trees {
        [tree] => {
            let planned = one(analyzed, snapshot, tree);
            let planned = gather::instead(analyzed, snapshot, tree, planned);
            let planned = relocate::instead(analyzed, snapshot, tree, planned);
            let planned = transfer::instead(analyzed, snapshot, tree, planned);
            let planned = indexed::mark(snapshot, tree, planned);
            planned.map(|plan| Plan {
                unbounded: limits::is_unbounded(tree),
                by_settings: calls::by_settings(tree, snapshot),
                ..plan
            })
        }
        trees => several(analyzed, snapshot, trees),
    }
}

fn one(analyzed: &Analyzed<'_>, snapshot: &Snapshot, tree: &Node) -> Result<Plan, Refusal> {
    let mut cx = Cx::new(analyzed, snapshot, tree, Vec::new())?;
    let own = own::candidates(&mut cx);
    let first = cx.plan();
    if own.is_empty() || !own::is_worth_trying(&first) {
        return first;
    }
    let second = Cx::new(analyzed, snapshot, tree, own).and_then(Cx::plan);
    match second {
        Ok(plan) if own::is_better(&first, &plan) => Ok(plan),
        _ => first,
    }
}

/// A rule made none or several statements of one: only when nothing sharded is concerned.
fn several(analyzed: &Analyzed<'_>, snapshot: &Snapshot, trees: &[Node]) -> Result<Plan, Refusal> {
    for tree in trees {
        let cx = Cx::new(analyzed, snapshot, tree, Vec::new())?;
        if !cx.graph.sharded.is_empty() || cx.graph.reference > 0 {
            return Err(Refusal::new(RefusalCode::Rules));
        }
        cx.check_home_calls()?;
    }
    Ok(Plan {
        kind: raw_kind(analyzed),
        writes: true,
        returns_rows: !analyzed.columns.is_empty(),
        target: Target::Home,
        many: Many::Refuse(Refusal::new(RefusalCode::SeveralShards)),
        uses_now: false,
        text: None,
        prelude: Vec::new(),
        role_dependent: true,
        bound_to_text: true,
        param_count: u16::try_from(analyzed.param_types.len()).unwrap_or(u16::MAX),
        indexed: false,
        unbounded: false,
        by_settings: false,
    })
}

fn raw_kind(analyzed: &Analyzed<'_>) -> StatementKind {
    match analyzed.raw.kind {
        sql::StatementKind::Insert => StatementKind::Insert,
        sql::StatementKind::Update => StatementKind::Update,
        sql::StatementKind::Delete => StatementKind::Delete,
        sql::StatementKind::Merge => StatementKind::Merge,
        _ => StatementKind::Select,
    }
}

/// Everything known about the statement being planned.
struct Cx<'a> {
    analyzed: &'a Analyzed<'a>,
    snapshot: &'a Snapshot,
    tree: &'a Node,
    kind: StatementKind,
    graph: Graph<'a>,
    built: Built,
    /// Of the whole tree, without the sequences that an INSERT draws from beforehand.
    calls: Calls,
    /// Rows of an INSERT … VALUES into a sharded or reference table.
    rows: Option<Rows<'a>>,
    prelude: Prelude,
    /// Some literal means a time relative to the clock: it is read anew wherever the text runs, and only once when the tree
    /// is printed.
    clocked: bool,
}

impl<'a> Cx<'a> {
    /// `own`: uses of reference tables to be cut by shard.
    fn new(
        analyzed: &'a Analyzed<'a>,
        snapshot: &'a Snapshot,
        tree: &'a Node,
        own: Vec<Own<'a>>,
    ) -> Result<Cx<'a>, Refusal> {
        Cx::over(analyzed, snapshot, tree, own, Vec::new())
    }

    /// The same with the rows of some uses of tables on the shards.
    fn over(
        analyzed: &'a Analyzed<'a>,
        snapshot: &'a Snapshot,
        tree: &'a Node,
        own: Vec<Own<'a>>,
        carried: Vec<graph::Carried<'a>>,
    ) -> Result<Cx<'a>, Refusal> {
        let kind = match tree.str("commandType")? {
            "1" => StatementKind::Select,
            "2" => StatementKind::Update,
            "3" => StatementKind::Insert,
            "4" => StatementKind::Delete,
            "5" => StatementKind::Merge,
            _ => return Err(Refusal::new(RefusalCode::Unreadable)),
        };
        let mut graph = Graph::new(snapshot);
        graph.own = own;
        graph.carried = carried;
        let built = graph.query(tree, None)?;
        let target = graph
            .writes
            .iter()
            .find(|w| std::ptr::eq(w.query, tree))
            .and_then(|w| w.relation);
        let rows = match target {
            Some(relation) if kind == StatementKind::Insert && !relation.placement.is_home() => {
                insert::rows(tree, relation)?
            }
            _ => None,
        };
        let skip = insert::replaced(rows.as_ref());
        let calls = calls(tree, snapshot, &skip);
        let clocked = calls.time_constant && has_relative_time(analyzed.text);
        if clocked {
            graph.forget_times();
        }
        let params =
            u16::try_from(analyzed.param_types.len()).map_err(|_| Refusal::new(RefusalCode::TooComplex))?;
        let prelude = Prelude {
            params,
            values: Vec::new(),
        };
        Ok(Cx {
            analyzed,
            snapshot,
            tree,
            kind,
            graph,
            built,
            calls,
            rows,
            prelude,
            clocked,
        })
    }

    fn plan(mut self) -> Result<Plan, Refusal> {
        let writes_reference = |w: &write::Write<'_>| {
            w.relation
                .is_some_and(|r| r.placement == catalog::Placement::Reference)
        };
        let alone = self.graph.sharded.is_empty() && self.graph.home.is_empty();
        if self.kind == StatementKind::Merge && !alone && self.graph.writes.iter().any(writes_reference) {
            return Err(Refusal::with(
                RefusalCode::Merge,
                "into a reference table, from other than reference tables and values",
            ));
        }
        if self.graph.sharded.is_empty() {
            return reference::plan(self);
        }
        if let Some(home) = self.graph.home.first() {
            return Err(match self.placed_use() {
                Some(placed) => Refusal::with(RefusalCode::Placements, format!("{placed}, {home}")),
                None => Refusal::with(RefusalCode::HomeWithSharded, home),
            });
        }
        self.check_sharded_calls()?;
        let map = self.one_map()?;
        let known = self.graph.known();
        write::check(&self.graph, &known)?;
        let reference_written = self.graph.writes.iter().any(|w| {
            w.relation
                .is_some_and(|r| r.placement == catalog::Placement::Reference)
        });
        if reference_written {
            return Err(Refusal::new(RefusalCode::ReferenceWrite));
        }
        if self.calls.sequence {
            return Err(Refusal::new(RefusalCode::Sequence));
        }
        if let Some(rows) = self.rows.take() {
            // Other sharded tables (in subqueries of the rows) must be pinned like the target.
            if self.graph.sharded.len() > 1 && self.pinned_keys().is_none() {
                return Err(Refusal::new(RefusalCode::Subquery));
            }
            let others = self
                .pinned_keys()
                .filter(|_| self.graph.sharded.len() > 1)
                .unwrap_or_default();
            let (mut target, text, many) = insert::sharded(&mut self, &rows)?;
            if let Target::Keys { keys, .. } = &mut target {
                merge_keys(keys, others);
            }
            return Ok(self.finish(target, many, text));
        }
        self.keys_or_all(map)
    }

    /// SELECT, UPDATE, DELETE, INSERT … SELECT with sharded tables.
    fn keys_or_all(mut self, map: MapId) -> Result<Plan, Refusal> {
        // All rows of all tables are on the one shard of this map: what the statement means there is what it means.
        if self.placed_use().is_some() {
            let many = Many::Refuse(Refusal::new(RefusalCode::SeveralShards));
            return Ok(self.finish(Target::All { map }, many, None));
        }
        let pinned = self.pinned_keys();
        let shards = self.snapshot.shards_of(map).len();
        let single = pinned
            .as_ref()
            .is_some_and(|keys| keys.len() <= 1 && keys.iter().all(KeySource::is_single));
        let many = if single {
            Err(Refusal::new(RefusalCode::SeveralShards))
        } else {
            self.many()
        };
        let inserts = self
            .graph
            .writes
            .iter()
            .any(|w| matches!(w.query.value("commandType").as_str(), Some("3" | "5")));
        let nulls = if inserts {
            NullKeys::Placed
        } else {
            NullKeys::Nowhere
        };
        let between = match inserts {
            false => bounds::between(&self, map),
            true => None,
        };
        match (pinned, many) {
            (Some(keys), many) => {
                let target = Target::Keys { map, keys, nulls };
                Ok(self.finish(target, many.unwrap_or_else(Many::Refuse), None))
            }
            (None, many) if between.is_some() => {
                let target = between.unwrap_or(Target::All { map });
                Ok(self.finish(target, many.unwrap_or_else(Many::Refuse), None))
            }
            (None, Ok(many)) => {
                let found = if inserts { None } else { lookup::target(&self, map) };
                let target = found.unwrap_or(Target::All { map });
                Ok(self.finish(target, many, None))
            }
            // With one shard there is nothing to combine.
            (None, Err(refusal)) if shards <= 1 => {
                Ok(self.finish(Target::All { map }, Many::Refuse(refusal), None))
            }
            (None, Err(refusal)) => Err(refusal),
        }
    }

    /// The keys of all sharded tables, when each of them is pinned.
    fn pinned_keys(&self) -> Option<Vec<KeySource>> {
        let known = self.graph.known();
        let mut out = Vec::new();
        for sharded in &self.graph.sharded {
            merge_keys(&mut out, self.keys_of(sharded, &known)?);
        }
        Some(out)
    }

    /// The keys of the rows of a table that matter, when they are known.
    fn keys_of(&self, sharded: &graph::Sharded, known: &[Option<&[KeySource]>]) -> Option<Vec<KeySource>> {
        let values = |columns: &[Col]| {
            let columns = columns.iter().map(|col| known[*col].map(<[_]>::to_vec));
            columns.collect::<Option<Vec<_>>>()
        };
        let salt = self.snapshot.map(sharded.map).and_then(ShardMap::salt);
        let (columns, whole) = match (values(&sharded.key), salt) {
            (Some(columns), _) => (columns, true),
            // Without the columns that salt it, a key stands for all of its sub-keys.
            (None, Some(salt)) => (values(sharded.key.get(..salt.key_columns())?)?, false),
            (None, None) => return None,
        };
        let combinations = columns.iter().map(Vec::len).try_fold(1, usize::checked_mul);
        combinations.filter(|count| *count <= joins::KEYS_MAX)?;
        Some(match whole {
            true => KeySource::product(columns),
            false => vec![KeySource::SubKeys {
                columns: columns.into(),
            }],
        })
    }

    fn one_map(&self) -> Result<MapId, Refusal> {
        let mut maps = self.graph.sharded.iter().map(|s| s.map);
        let first = maps.next().ok_or_else(|| Refusal::new(RefusalCode::Unreadable))?;
        if maps.all(|map| map == first) {
            return Ok(first);
        }
        let name = |s: &graph::Sharded| {
            self.snapshot
                .relation(s.table)
                .map(|r| r.name.clone())
                .unwrap_or_default()
        };
        let names: Vec<String> = self.graph.sharded.iter().map(name).collect();
        let code = match self.placed_use() {
            Some(_) => RefusalCode::Placements,
            None => RefusalCode::DifferentMaps,
        };
        Err(Refusal::with(code, names.join(", ")))
    }

    /// The name of a placed table that the statement uses.
    fn placed_use(&self) -> Option<&str> {
        let placed = self.graph.sharded.iter().find(|used| used.key.is_empty())?;
        let relation = self.snapshot.relation(placed.table);
        Some(relation.map_or("a placed table", |relation| relation.name.as_str()))
    }

    /// What runs within sharded statements must be right on any shard.
    fn check_sharded_calls(&self) -> Result<(), Refusal> {
        if let Some(name) = &self.calls.home_only {
            return Err(Refusal::with(RefusalCode::FunctionHomeOnly, name));
        }
        self.check_gathered_calls()
    }

    /// What runs at home over rows of all shards must be right there, on any connection.
    fn check_gathered_calls(&self) -> Result<(), Refusal> {
        let calls = &self.calls;
        if let Some(reason) = &calls.unproved {
            return Err(Refusal::with(RefusalCode::FunctionUnproved, reason));
        }
        if let Some(name) = calls.about_server.as_ref().or(calls.session_only.as_ref()) {
            return Err(Refusal::with(RefusalCode::FunctionHomeOnly, name));
        }
        if calls.current_of {
            return Err(Refusal::new(RefusalCode::Cursor));
        }
        // A sequence's regclass is such a constant too; it has a better refusal of its own.
        if calls.server_oid && !calls.sequence {
            return Err(Refusal::new(RefusalCode::ServerOid));
        }
        Ok(())
    }

    fn check_home_calls(&self) -> Result<(), Refusal> {
        match &self.calls.unproved {
            Some(reason) => Err(Refusal::with(RefusalCode::FunctionUnproved, reason)),
            None => Ok(()),
        }
    }

    /// See the field `clocked`.
    fn relative_time(&self) -> bool {
        self.clocked
    }

    /// Whether the client's text would give each shard a clock of its own, or whole tables where it must count its own rows.
    fn needs_text(&self) -> bool {
        self.calls.now || self.calls.statement_time || !self.graph.own.is_empty()
    }

    /// What to do when several shards are concerned.
    fn many(&mut self) -> Result<Many, Refusal> {
        self.check_many()?;
        let anchor = self.anchor()?;
        match self.kind {
            StatementKind::Select => {
                let mut many = rows::select(self, &anchor)?;
                if !self.graph.own.is_empty() {
                    own::resolve(&mut many, &self.graph.own, self.snapshot)?;
                }
                Ok(many)
            }
            StatementKind::Insert => self.insert_select(&anchor),
            _ => self.modify(&anchor),
        }
    }

    /// Shapes that have no meaning over several shards, whatever the tables.
    fn check_many(&self) -> Result<(), Refusal> {
        let (shapes, calls) = (&self.graph.shapes, &self.calls);
        if shapes.modifying_cte {
            return Err(Refusal::new(RefusalCode::ModifyingCte));
        }
        if shapes.tablesample {
            return Err(Refusal::with(RefusalCode::UnexpectedClause, "TABLESAMPLE"));
        }
        if shapes.recursive {
            return Err(Refusal::new(RefusalCode::RecursiveCte));
        }
        if !self.tree.value("setOperations").is_null() {
            return Err(Refusal::new(RefusalCode::SetOperation));
        }
        if shapes.recurring_choice {
            return Err(Refusal::new(RefusalCode::RecurringChoice));
        }
        if let Some(name) = &calls.volatile {
            return Err(Refusal::with(RefusalCode::VolatileMany, name));
        }
        if calls.today || self.relative_time() {
            return Err(Refusal::with(RefusalCode::VolatileMany, "the current date"));
        }
        if calls.system_column {
            return Err(Refusal::new(RefusalCode::SystemColumn));
        }
        write::may_be_spread(&self.graph)?;
        if shapes.locking && (shapes.subqueries > 0 || shapes.outer_joins > 0) {
            return Err(Refusal::with(
                RefusalCode::LockingLimit,
                "beside subqueries or outer joins",
            ));
        }
        Ok(())
    }

    /// A key such that every shard can answer for its own values of it.
    fn anchor(&self) -> Result<Vec<KeyCols>, Refusal> {
        for anchor in &self.built.anchors {
            let mut sharded = self.graph.sharded.iter();
            if sharded.all(|s| self.graph.reaches(anchor, &s.key)) {
                return Ok(anchor.clone());
            }
        }
        let shapes = &self.graph.shapes;
        Err(Refusal::new(if shapes.set_operation {
            RefusalCode::SetOperation
        } else if self.kind == StatementKind::Insert {
            RefusalCode::InsertSelect
        } else if shapes.subqueries > 0 {
            RefusalCode::Subquery
        } else if shapes.outer_joins > 0 {
            RefusalCode::OuterJoin
        } else {
            RefusalCode::NotOnKey
        }))
    }

    /// INSERT … SELECT where every shard inserts its own rows.
    fn insert_select(&mut self, anchor: &[KeyCols]) -> Result<Many, Refusal> {
        let target = self
            .graph
            .writes
            .iter()
            .find(|w| std::ptr::eq(w.query, self.tree))
            .and_then(|w| w.target);
        let target = target.ok_or_else(|| Refusal::new(RefusalCode::InsertSelect))?;
        let fed_by = |(to, from): (&Col, &Col)| {
            let source = self.graph.feeds(*to);
            source.is_some_and(|source| self.graph.same(*from, source))
        };
        let fed = matches!(anchor, [from] if from.len() == target.key.len()
            && target.key.iter().zip(from.iter()).all(fed_by));
        let limited = !self.tree.value("limitCount").is_null() || !self.tree.value("limitOffset").is_null();
        if !fed || limited {
            return Err(Refusal::new(RefusalCode::InsertSelect));
        }
        self.modified()
    }

    /// UPDATE and DELETE where every shard changes its own rows.
    fn modify(&mut self, anchor: &[KeyCols]) -> Result<Many, Refusal> {
        let target = self
            .graph
            .writes
            .iter()
            .find(|w| std::ptr::eq(w.query, self.tree))
            .and_then(|w| w.target);
        if target.is_none() || anchor.len() != 1 {
            return Err(Refusal::new(RefusalCode::NotOnKey));
        }
        if self.kind == StatementKind::Merge && !self.graph.merges_from(&anchor[0]) {
            return Err(Refusal::new(RefusalCode::Merge));
        }
        self.modified()
    }

    fn modified(&mut self) -> Result<Many, Refusal> {
        let shard_sql = if self.needs_text() {
            let replace = self.replace()?;
            let names = names::Names(self.snapshot);
            Some(sql::Deparser::new(self.tree, &names, &replace)?.query()?)
        } else {
            None
        };
        if self.tree.value("returningList").is_null() {
            return Ok(Many::SumTags { shard_sql });
        }
        let visible = self.analyzed.columns.len();
        let combine = Combine::Concat {
            limit: LimitPlan::default(),
        };
        Ok(Many::Rows(RowsPlan {
            shard_sql,
            own: Vec::new(),
            visible,
            width: visible,
            combine,
            tag_rows: true,
        }))
    }

    fn finish(self, target: Target, many: Many, text: Option<String>) -> Plan {
        let writes =
            !self.graph.writes.is_empty() || self.graph.shapes.locking || self.calls.volatile.is_some();
        let returns_rows = self.kind == StatementKind::Select || !self.tree.value("returningList").is_null();
        let uses_now = self
            .prelude
            .values
            .iter()
            .any(|v| v.source == crate::PreludeSource::Now);
        Plan {
            kind: self.kind,
            writes,
            returns_rows,
            target,
            many,
            uses_now,
            text,
            prelude: self.prelude.values,
            role_dependent: self.graph.shapes.row_security,
            // Whether a literal is relative to the clock was judged for this text.
            bound_to_text: self.calls.time_constant,
            param_count: self.prelude.params,
            indexed: false,
            unbounded: false,
            by_settings: false,
        }
    }
}

/// Adds keys that are not there yet. (There may be a hundred thousand of them.)
fn merge_keys(into: &mut Vec<KeySource>, more: Vec<KeySource>) {
    let mut known: std::collections::HashSet<KeySource> = into.iter().cloned().collect();
    // Equal constants at different places stay apart: another text may have other literals there.
    into.extend(more.into_iter().filter(|key| known.insert(key.clone())));
}
