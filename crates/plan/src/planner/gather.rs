//! What cannot be done on the shards is finished by one PostgreSQL over the rows that it needs.
//!
//! Every use of a table becomes an *input*: the columns that the statement reads of it, and the rows that its own conditions leave.
//! The statement is printed with arrays in the place of the tables, and runs on the home shard: types, collations, NULL rules,
//! numeric scale and everything else are PostgreSQL's own.
//!
//! Why that is the same: a query's result depends on its tables only through the rows and columns it reads. A condition that
//! removes rows from an input is one that every row of the result has passed ([`filters`]), and is left out of the statement.
//! The clock is read once and passed to both sides as a parameter; what is volatile is called where the statement is finished,
//! and nowhere else. All inputs of a server are read by one statement, hence under one snapshot.
//!
//! UPDATE and DELETE are finished where the rows are that they change ([`write`]).
//!
//! Not gathered: what locks, what needs a table to be a table (`ctid`, TABLESAMPLE), row level security,
//! which depends on whose rights a table is read with. What a GROUP BY by primary key alone lets be selected is [`dependent`].

mod dependent;
mod filters;
mod inputs;
mod joined;
mod merge;
mod needs;
mod ordered;
mod reduce;
mod write;

use std::cell::Cell;
use std::collections::HashSet;

use catalog::{Oid, Relation, Snapshot};
use sql::{Deparser, FromItem, Node, Rewriter};

use super::names::Names;
use super::rewrite::{Replace, clock};
use super::{Cx, calls, merge_keys};
use crate::gather::{Deal, FinishPlace, Gather, GatherPlace};
use crate::{Analyzed, KeySource, Many, Plan, Refusal, RefusalCode, StatementKind, Target};
use filters::Filters;
use inputs::{Build, Items};
use joined::Group;
use needs::{Needs, Typed};

/// The plan found so far, or the one that gathers rows where the statement cannot run on the shards.
pub(super) fn instead(
    analyzed: &Analyzed<'_>,
    snapshot: &Snapshot,
    tree: &Node,
    planned: Result<Plan, Refusal>,
) -> Result<Plan, Refusal> {
    let make = match tree.value("commandType").as_str() {
        Some("1") => gathered,
        Some("2" | "4") => write::carried,
        Some("5") => merge::carried,
        _ => return planned,
    };
    match planned {
        Err(refusal) if is_shape(refusal.code) => match make(analyzed, snapshot, tree, Target::Cluster) {
            Ok(plan) => Ok(plan),
            Err(better) if says_more(better.code) => Err(better),
            Err(_) => Err(refusal),
        },
        Ok(plan) if ordered::is_taken_over(tree, snapshot) && is_spread(&plan) => {
            match make(analyzed, snapshot, tree, Target::Cluster) {
                // Rows may come in any order; what is made of their order may not.
                Err(refusal) if ordered::decides_values(tree, snapshot) => Err(refusal),
                gathered => gathered.or(Ok(plan)),
            }
        }
        Ok(plan) => {
            let several = match &plan.target {
                Target::Keys { keys, .. } => keys.len() > 1 || !keys.iter().all(KeySource::is_single),
                Target::Between { .. } => true,
                _ => false,
            };
            let refused = matches!(&plan.many, Many::Refuse(refusal) if is_shape(refusal.code));
            if !several || !refused || !plan.prelude.is_empty() || plan.text.is_some() {
                return Ok(plan);
            }
            make(analyzed, snapshot, tree, plan.target.clone()).or(Ok(plan))
        }
        refused => refused,
    }
}

/// Whether the rows of several shards make the answer.
fn is_spread(plan: &Plan) -> bool {
    let one = match &plan.target {
        Target::Keys { keys, .. } => keys.len() == 1 && keys.iter().all(KeySource::is_single),
        Target::Home | Target::Any | Target::Every => true,
        _ => false,
    };
    !one && matches!(plan.many, Many::Rows(_)) && !plan.writes
}

/// Whether a refusal says more than that the tables do not meet.
fn says_more(code: RefusalCode) -> bool {
    matches!(
        code,
        RefusalCode::CarriedType
            | RefusalCode::Gather
            | RefusalCode::RecurringChoice
            | RefusalCode::ReferenceUpdateFrom
    )
}

/// Whether the tables of a statement do not meet on the shards, or its answer cannot be put together from theirs.
fn is_shape(code: RefusalCode) -> bool {
    matches!(
        code,
        RefusalCode::HomeWithSharded
            | RefusalCode::DifferentMaps
            | RefusalCode::Placements
            | RefusalCode::NotOnKey
            | RefusalCode::Subquery
            | RefusalCode::OuterJoin
            | RefusalCode::SetOperation
            | RefusalCode::RecursiveCte
            | RefusalCode::VolatileMany
            | RefusalCode::Aggregate
            | RefusalCode::Window
            | RefusalCode::GroupingSets
            | RefusalCode::FinishType
            | RefusalCode::RecurringChoice
            | RefusalCode::UnknownNode
            | RefusalCode::UnexpectedClause
            | RefusalCode::FunctionHomeOnly
            | RefusalCode::SeveralShards
            | RefusalCode::ReferenceWrite
            | RefusalCode::ReferenceUpdateFrom
            | RefusalCode::Merge
    )
}

fn gathered(
    analyzed: &Analyzed<'_>,
    snapshot: &Snapshot,
    tree: &Node,
    target: Target,
) -> Result<Plan, Refusal> {
    let mut cx = Cx::new(analyzed, snapshot, tree, Vec::new())?;
    if cx.graph.shapes.modifying_cte || !cx.graph.writes.is_empty() {
        return Err(Refusal::new(RefusalCode::ModifyingCte));
    }
    check(&cx)?;
    cx.check_gathered_calls()?;
    if cx.calls.sequence {
        return Err(Refusal::new(RefusalCode::Sequence));
    }
    let replace = cx.replace()?;
    let leaves = leaves(&cx);
    let facts = Facts::grouped(&cx, &replace, &leaves, true)?;
    let gather = assembled(&cx, &replace, facts, &leaves, FinishPlace::Home, &|_, _| None)?;
    let writes = cx.calls.volatile.is_some();
    Ok(plan_of(cx, &replace, target, gather, writes))
}

fn plan_of(cx: Cx<'_>, replace: &Replace<'_>, target: Target, gather: Gather, writes: bool) -> Plan {
    Plan {
        kind: cx.kind,
        writes,
        returns_rows: cx.kind == StatementKind::Select || !cx.tree.value("returningList").is_null(),
        target,
        many: Many::Gather(Box::new(gather)),
        uses_now: replace.now.is_some(),
        text: None,
        prelude: cx.prelude.values,
        role_dependent: true,
        bound_to_text: true,
        param_count: cx.prelude.params,
        indexed: false,
        unbounded: false,
        by_settings: false,
    }
}

/// How the rows of an entry are dealt out, given the columns that are pulled of it.
type Dealing<'f> = dyn Fn(&Node, &[(i16, Typed)]) -> Option<Deal> + 'f;

/// What is read of the inputs.
struct Facts<'a> {
    filters: Filters<'a>,
    /// Conditions that every row of their input has met.
    met: HashSet<*const Node>,
    /// The columns that the statement reads without these conditions.
    needs: Needs<'a>,
    /// Entries that are one input.
    groups: Vec<Group<'a>>,
}

impl<'a> Facts<'a> {
    /// With these entries as inputs, each by itself.
    fn of(cx: &Cx<'a>, replace: &Replace<'a>, entries: &[&'a Node]) -> Result<Facts<'a>, Refusal> {
        Facts::grouped(cx, replace, entries, false)
    }

    /// With these entries as inputs, some of them as one if that is `wanted`.
    fn grouped(
        cx: &Cx<'a>,
        replace: &Replace<'a>,
        entries: &[&'a Node],
        wanted: bool,
    ) -> Result<Facts<'a>, Refusal> {
        let mut filters = Filters::of(cx.tree)?;
        let names = Names(cx.snapshot);
        let pushable = |query: &'a Node, condition: &'a Node| {
            let deparser = Deparser::new(query, &names, replace);
            may_be_pushed(condition, cx.snapshot) && deparser.is_ok_and(|d| d.expr(condition).is_ok())
        };
        filters.retain_implied(&pushable);
        let mut met = HashSet::new();
        for entry in entries.iter().filter_map(|rte| filters.of_entry(rte)) {
            let conditions = entry.conditions.iter().copied();
            met.extend(
                conditions
                    .filter(|c| pushable(entry.query, c))
                    .map(std::ptr::from_ref),
            );
        }
        let groups = match wanted {
            true => joined::groups(cx, &filters, entries, &pushable),
            false => Vec::new(),
        };
        let joints = groups.iter().flat_map(|group| &group.joints);
        met.extend(joints.map(|joint| std::ptr::from_ref(*joint)));
        let needs = Needs::of(cx.tree, cx.snapshot, &met)?;
        Ok(Facts {
            filters,
            met,
            needs,
            groups,
        })
    }

    /// Whether every row of its input has met a condition.
    fn is_met(&self, condition: &Node) -> bool {
        self.met.contains(&std::ptr::from_ref(condition))
    }
}

/// The inputs, which are these entries, and the statement over them.
fn assembled<'a>(
    cx: &Cx<'a>,
    replace: &Replace<'a>,
    mut facts: Facts<'a>,
    entries: &[&'a Node],
    finish_on: FinishPlace,
    deal: &Dealing<'_>,
) -> Result<Gather, Refusal> {
    let (tree, snapshot) = (cx.tree, cx.snapshot);
    let groups = std::mem::take(&mut facts.groups);
    let mut build = Build::new(snapshot, replace, facts, deal);
    for rte in entries {
        match groups.iter().find(|group| group.has(rte)) {
            None => build.table(rte, place_of(cx, rte)?)?,
            Some(group) if group.is_first(rte) => build.group(group, place_of_group(cx, group)?)?,
            Some(_) => {}
        }
    }
    let grouped = dependent::columns(tree, snapshot, &build.facts.needs)?;
    let views = build.views()?;
    let first = cx.prelude.params + u16::try_from(cx.prelude.values.len()).unwrap_or(u16::MAX);
    let (arrays, items) = build.arrays(first)?;
    let over = Over {
        inner: replace,
        build: &build,
        items,
        grouped,
        missing: Cell::new(false),
    };
    let names = Names(snapshot);
    let finish = Deparser::new(tree, &names, &over)?.query()?;
    let reductions = match finish_on {
        FinishPlace::Home => reduce::reductions(cx, &build),
        _ => Vec::new(),
    };
    if over.missing.get() {
        return Err(Refusal::new(RefusalCode::Gather));
    }
    Ok(Gather {
        inputs: build.inputs,
        slots: build.slots,
        finish,
        finish_on,
        arrays,
        reductions,
        views,
    })
}

/// The tables that are read, each entry once.
fn leaves<'a>(cx: &Cx<'a>) -> Vec<&'a Node> {
    let mut leaves: Vec<&Node> = Vec::new();
    for (_, rte) in &cx.graph.leaves {
        if !leaves.iter().any(|known| std::ptr::eq(*known, *rte)) {
            leaves.push(rte);
        }
    }
    leaves
}

/// What has no meaning over rows that were pulled, or would have another one.
fn check(cx: &Cx<'_>) -> Result<(), Refusal> {
    let (shapes, calls) = (&cx.graph.shapes, &cx.calls);
    let refuse = |what: &str| Err(Refusal::with(RefusalCode::Gather, what));
    if shapes.locking {
        return Err(Refusal::new(RefusalCode::LockingLimit));
    }
    if shapes.tablesample {
        return Err(Refusal::with(RefusalCode::UnexpectedClause, "TABLESAMPLE"));
    }
    if shapes.row_security {
        return refuse("row level security");
    }
    if calls.today || cx.relative_time() {
        return Err(Refusal::with(RefusalCode::VolatileMany, "the current date"));
    }
    if calls.system_column {
        return Err(Refusal::new(RefusalCode::SystemColumn));
    }
    Ok(())
}

/// Where the rows of a table are that matter: all that any of its uses may need.
fn place_of(cx: &Cx<'_>, rte: &Node) -> Result<GatherPlace, Refusal> {
    let relation = relation_of(cx.snapshot, rte)?;
    let Some(map) = relation.map() else {
        return Ok(GatherPlace::Home);
    };
    if relation.placement.is_placed() {
        return Ok(GatherPlace::All { map });
    }
    let of_rte = |instance: &usize| {
        let mut leaves = cx.graph.leaves.iter();
        leaves.any(|(other, known)| other == instance && std::ptr::eq(*known, rte))
    };
    let known = cx.graph.known();
    let mut keys = Vec::new();
    for sharded in cx
        .graph
        .sharded
        .iter()
        .filter(|sharded| of_rte(&sharded.instance))
    {
        match cx.keys_of(sharded, &known) {
            Some(more) => merge_keys(&mut keys, more),
            None => return Ok(GatherPlace::All { map }),
        }
    }
    Ok(GatherPlace::Keys { map, keys })
}

/// Where the rows of a join are that matter: where those of any of its tables are.
fn place_of_group(cx: &Cx<'_>, group: &Group<'_>) -> Result<GatherPlace, Refusal> {
    let mut found = GatherPlace::Home;
    for rte in &group.members {
        match place_of(cx, rte)? {
            GatherPlace::Home => {}
            GatherPlace::All { map } => found = GatherPlace::All { map },
            keys @ GatherPlace::Keys { .. } => return Ok(keys),
        }
    }
    Ok(found)
}

fn relation_of<'a>(snapshot: &'a Snapshot, rte: &Node) -> Result<&'a Relation, Refusal> {
    let relation = snapshot.relation(Oid(rte.oid("relid")?));
    let relation = relation.filter(|relation| !relation.columns.is_empty());
    relation.ok_or_else(|| Refusal::with(RefusalCode::Gather, "a temporary table, or one of the catalogue"))
}

/// Whether a condition on a table's own columns means the same on the server that has the rows.
fn may_be_pushed(condition: &Node, snapshot: &Snapshot) -> bool {
    let found = calls::calls(condition, snapshot, &HashSet::new());
    found.unproved.is_none()
        && found.about_server.is_none()
        && found.home_only.is_none()
        && found.volatile.is_none()
        && !(found.today || found.sequence || found.system_column || found.server_oid)
}

/// Prints the statement with arrays in the place of its tables.
struct Over<'b, 'a> {
    inner: &'b Replace<'a>,
    build: &'b Build<'b, 'a>,
    items: Vec<Items>,
    grouped: dependent::Grouped,
    /// Some table has nothing in its place.
    missing: Cell<bool>,
}

impl Rewriter for Over<'_, '_> {
    fn expression(&self, node: &Node, _level: usize) -> Option<String> {
        // Left in, it would make PostgreSQL expect few rows of few, and loop over them.
        if self.build.facts.is_met(node) {
            return Some("true".to_owned());
        }
        clock(node, self.inner.now, self.inner.statement_time)
    }

    fn from_item(&self, item: &FromItem<'_>) -> Option<String> {
        if item.rte.value("rtekind").as_str() != Some("0") {
            return None;
        }
        let known = self.build.item(&self.items, item);
        // A table that is never read is no input.
        let text = known.or_else(|| self.build.unread(item.rte));
        self.missing.set(self.missing.get() || text.is_none());
        text
    }

    fn also_grouped(&self, query: &Node) -> Vec<(usize, String)> {
        self.grouped.of(query)
    }

    fn whole_row(&self, rte: &Node) -> Option<String> {
        if rte.value("rtekind").as_str() != Some("0") {
            return None;
        }
        let name = self.build.whole_name(rte);
        // In the text of UPDATE and DELETE the table itself may be there, but they have no rows as values.
        self.missing.set(self.missing.get() || name.is_none());
        name
    }
}
