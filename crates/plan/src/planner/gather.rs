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
//! Not gathered: what locks, what needs a table to be a table (whole rows, `ctid`, TABLESAMPLE), row level security,
//! which depends on whose rights a table is read with. What a GROUP BY by primary key alone lets be selected is [`dependent`].

mod dependent;
mod filters;
mod merge;
mod needs;
mod write;

use std::cell::Cell;
use std::collections::{BTreeSet, HashSet};

use catalog::{Oid, Relation, Snapshot, TypeKind};
use sql::{Deparser, Node, QualifiedName, Rewriter, quote_ident};

use super::columns::collate_sql;
use super::names::{Names, type_sql};
use super::rewrite::{Replace, clock, view_of};
use super::transfer::{Carriage, carried};
use super::{Cx, calls, merge_keys};
use crate::gather::{Deal, FinishPlace, Gather, GatherInput, GatherPlace, GatherSlot};
use crate::{Analyzed, InputColumn, KeySource, Many, Plan, Refusal, RefusalCode, StatementKind, Target};
use filters::Filters;
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
    if cx.calls.sequence {
        return Err(Refusal::new(RefusalCode::Sequence));
    }
    let replace = cx.replace()?;
    let leaves = leaves(&cx);
    let facts = Facts::of(&cx, &replace, &leaves)?;
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
}

impl<'a> Facts<'a> {
    /// With these entries as inputs.
    fn of(cx: &Cx<'a>, replace: &Replace<'a>, entries: &[&'a Node]) -> Result<Facts<'a>, Refusal> {
        let filters = Filters::of(cx.tree)?;
        let names = Names(cx.snapshot);
        let mut met = HashSet::new();
        for entry in entries.iter().filter_map(|rte| filters.of_entry(rte)) {
            let deparser = Deparser::new(entry.query, &names, replace)?;
            let conditions = entry.conditions.iter().copied();
            let pushed = conditions.filter(|c| may_be_pushed(c, cx.snapshot) && deparser.expr(c).is_ok());
            met.extend(pushed.map(std::ptr::from_ref));
        }
        let needs = Needs::of(cx.tree, &met)?;
        Ok(Facts { filters, met, needs })
    }
}

/// The inputs, which are these entries, and the statement over them.
fn assembled<'a>(
    cx: &Cx<'a>,
    replace: &Replace<'a>,
    facts: Facts<'a>,
    entries: &[&'a Node],
    finish_on: FinishPlace,
    deal: &Dealing<'_>,
) -> Result<Gather, Refusal> {
    let (tree, snapshot) = (cx.tree, cx.snapshot);
    let mut build = Build {
        snapshot,
        replace,
        facts,
        deal,
        inputs: Vec::new(),
        carriages: Vec::new(),
        slots: Vec::new(),
        used: Vec::new(),
    };
    for rte in entries {
        let place = place_of(cx, rte)?;
        build.leaf(rte, place)?;
    }
    let grouped = dependent::columns(tree, snapshot, &build.facts.needs)?;
    let views = build.views()?;
    let first = cx.prelude.params + u16::try_from(cx.prelude.values.len()).unwrap_or(u16::MAX);
    let (arrays, items) = build.arrays(first)?;
    let over = Over {
        inner: replace,
        used: &build.used,
        items,
        grouped,
        met: &build.facts.met,
        unread: &|rte| build.unread(rte),
        missing: Cell::new(false),
    };
    let names = Names(snapshot);
    let finish = Deparser::new(tree, &names, &over)?.query()?;
    if over.missing.get() {
        return Err(Refusal::new(RefusalCode::Gather));
    }
    Ok(Gather {
        inputs: build.inputs,
        slots: build.slots,
        finish,
        finish_on,
        arrays,
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
    cx.check_sharded_calls()?;
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

fn relation_of<'a>(snapshot: &'a Snapshot, rte: &Node) -> Result<&'a Relation, Refusal> {
    let relation = snapshot.relation(Oid(rte.oid("relid")?));
    let relation = relation.filter(|relation| !relation.columns.is_empty());
    relation.ok_or_else(|| Refusal::with(RefusalCode::Gather, "a table of the system"))
}

/// The inputs while they are put together.
struct Build<'b, 'a> {
    snapshot: &'a Snapshot,
    replace: &'b Replace<'a>,
    facts: Facts<'a>,
    deal: &'b Dealing<'b>,
    inputs: Vec<GatherInput>,
    /// How the columns of each input travel, and what they become.
    carriages: Vec<Vec<Column>>,
    slots: Vec<GatherSlot>,
    /// Which input each entry of a range table reads.
    used: Vec<(*const Node, usize)>,
}

/// A column of an input.
struct Column {
    carriage: Carriage,
    /// Its name in the table, quoted; `None`: it only counts rows.
    name: Option<String>,
    /// What is appended to give it its type and its collation.
    suffix: String,
}

const BOOL: u32 = 16;

impl<'a> Build<'_, 'a> {
    /// A table in FROM.
    fn leaf(&mut self, rte: &'a Node, place: GatherPlace) -> Result<(), Refusal> {
        let relation = relation_of(self.snapshot, rte)?;
        let refuse = |what: &str| Err(Refusal::with(RefusalCode::Gather, what));
        if relation.row_security {
            return refuse("row level security");
        }
        let found = self.facts.filters.of_entry(rte);
        let found = found.ok_or_else(|| Refusal::with(RefusalCode::Gather, "a table that is not in FROM"))?;
        let (query, index) = (found.query, found.index);
        let conditions = found.conditions.clone();
        let names = Names(self.snapshot);
        let deparser = Deparser::new(query, &names, self.replace)?;
        let alias = quote_ident(&deparser.alias(index)?);
        let (mut items, mut columns) = (Vec::new(), Vec::new());
        let needed = self.facts.needs.columns(rte);
        let deal = (self.deal)(rte, &needed);
        for (attno, typed) in needed {
            let Some(column) = relation.column(attno) else {
                return refuse("a column that is not known");
            };
            let (item, column) = self.column(&alias, column, typed)?;
            items.push(item);
            columns.push(column);
        }
        if columns.is_empty() {
            items.push("true".to_owned());
            columns.push(Column {
                carriage: carried(BOOL, self.snapshot)?,
                name: None,
                suffix: String::new(),
            });
        }
        let mut pushed = Vec::new();
        let met = |condition: &&Node| self.facts.met.contains(&std::ptr::from_ref(*condition));
        for condition in conditions.into_iter().filter(met) {
            pushed.push(deparser.expr(condition)?);
        }
        let only = if rte.bool("inh")? { "" } else { "ONLY " };
        let table = QualifiedName::qualified(&relation.schema, &relation.name);
        let mut sql = format!("SELECT {} FROM {only}{table} AS {alias}", items.join(", "));
        if !pushed.is_empty() {
            sql.push_str(&format!(" WHERE {}", pushed.join(" AND ")));
        }
        let known = self
            .inputs
            .iter()
            .position(|input| input.sql == sql && input.place == place && input.deal == deal);
        let input = match known {
            Some(input) => input,
            None => {
                let slots = self.slots_for(&columns)?;
                self.inputs.push(GatherInput {
                    name: relation.name.clone(),
                    place,
                    sql,
                    columns: slots,
                    deal,
                });
                self.carriages.push(columns);
                self.inputs.len() - 1
            }
        };
        self.used.push((std::ptr::from_ref(rte), input));
        Ok(())
    }

    /// A column, as the server is asked for it and as the statement gets it.
    fn column(
        &self,
        alias: &str,
        column: &catalog::Column,
        typed: Typed,
    ) -> Result<(String, Column), Refusal> {
        let type_oid = Oid(typed.type_oid);
        let carriage = carried(type_oid.0, self.snapshot)?;
        let name = quote_ident(&column.name);
        let base = self.snapshot.base_type(type_oid);
        let unknown = || Refusal::with(RefusalCode::CarriedType, &column.name);
        let mut item = format!("{alias}.{name}");
        let mut suffix = String::new();
        if let Some(cast) = &carriage.cast {
            suffix.push_str(&format!("::{cast}"));
        }
        let domain = self
            .snapshot
            .type_info(type_oid)
            .is_some_and(|t| t.kind == TypeKind::Domain);
        if domain {
            item = format!("{item}::{}", type_sql(self.snapshot, base.0).ok_or_else(unknown)?);
            suffix.push_str(&format!(
                "::{}",
                type_sql(self.snapshot, type_oid.0).ok_or_else(unknown)?
            ));
        }
        suffix.push_str(&collate_sql(typed.collation, self.snapshot)?);
        let column = Column {
            carriage,
            name: Some(name),
            suffix,
        };
        Ok((item, column))
    }

    /// For each column a slot of its type; new ones where there are not enough.
    fn slots_for(&mut self, columns: &[Column]) -> Result<Vec<usize>, Refusal> {
        let mut taken = BTreeSet::new();
        let mut out = Vec::with_capacity(columns.len());
        for column in columns {
            let wanted = GatherSlot {
                carried: column.carriage.carried,
                null: format!("NULL::{}", column.carriage.type_sql()),
            };
            let mut slots = self.slots.iter().enumerate();
            let free = slots.find(|(at, slot)| **slot == wanted && !taken.contains(at));
            let at = match free {
                Some((at, _)) => at,
                None => {
                    self.slots.push(wanted);
                    self.slots.len() - 1
                }
            };
            taken.insert(at);
            out.push(at);
        }
        // PostgreSQL's limit of columns, with the number of the input.
        match self.slots.len() < 1600 {
            true => Ok(out),
            false => Err(Refusal::new(RefusalCode::TooComplex)),
        }
    }

    /// The array parameters, and for each input the FROM item that takes its place.
    fn arrays(&self, first: u16) -> Result<(Vec<InputColumn>, Vec<String>), Refusal> {
        let mut arrays = Vec::new();
        let mut out = Vec::new();
        let mut last = first;
        for columns in &self.carriages {
            let (mut unnest, mut names, mut items) = (Vec::new(), Vec::new(), Vec::new());
            for (at, column) in columns.iter().enumerate() {
                last = last
                    .checked_add(1)
                    .ok_or_else(|| Refusal::new(RefusalCode::TooComplex))?;
                let (type_oid, array_oid) = column
                    .carriage
                    .carried
                    .array
                    .ok_or_else(|| Refusal::new(RefusalCode::CarriedType))?;
                arrays.push(InputColumn {
                    param: last,
                    type_oid,
                    array_oid,
                });
                unnest.push(format!(
                    "pg_catalog.unnest(${last}::{})",
                    column.carriage.array_sql
                ));
                names.push(format!("c{at}"));
                if let Some(name) = &column.name {
                    items.push(format!("u.c{at}{} AS {name}", column.suffix));
                }
            }
            out.push(format!(
                "(SELECT {} FROM ROWS FROM ({}) AS u({}))",
                items.join(", "),
                unnest.join(", "),
                names.join(", ")
            ));
        }
        Ok((arrays, out))
    }

    /// What stands for a table of a WITH query that nothing uses: PostgreSQL does not run it.
    fn unread(&self, rte: &Node) -> Option<String> {
        let relation = relation_of(self.snapshot, rte).ok()?;
        let items = self.facts.needs.columns(rte).into_iter().map(|(attno, typed)| {
            let column = relation.column(attno)?;
            let type_sql = type_sql(self.snapshot, typed.type_oid)?;
            Some(format!("NULL::{type_sql} AS {}", quote_ident(&column.name)))
        });
        let items: Option<Vec<String>> = items.collect();
        Some(format!("(SELECT {} WHERE false)", items?.join(", ")))
    }

    /// The views among the entries, each as a query of the columns used.
    fn views(&self) -> Result<Vec<String>, Refusal> {
        let mut out = Vec::new();
        for rte in self.facts.filters.subqueries() {
            let Some(view) = view_of(rte, self.snapshot) else {
                continue;
            };
            let relation = self.snapshot.relation(Oid(view));
            let relation =
                relation.ok_or_else(|| Refusal::with(RefusalCode::Gather, "a view of the system"))?;
            let columns: Option<Vec<String>> = self
                .facts
                .needs
                .columns(rte)
                .into_iter()
                .map(|(attno, _)| Some(quote_ident(&relation.column(attno)?.name)))
                .collect();
            let columns = columns.ok_or_else(|| Refusal::new(RefusalCode::Gather))?;
            let name = QualifiedName::qualified(&relation.schema, &relation.name);
            let text = format!("SELECT {} FROM {name}", columns.join(", "));
            if !out.contains(&text) {
                out.push(text);
            }
        }
        Ok(out)
    }
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
    used: &'b [(*const Node, usize)],
    items: Vec<String>,
    grouped: dependent::Grouped,
    met: &'b HashSet<*const Node>,
    /// What stands for a table that is never read.
    unread: &'b dyn Fn(&Node) -> Option<String>,
    /// Some table has nothing in its place.
    missing: Cell<bool>,
}

impl Rewriter for Over<'_, '_> {
    fn expression(&self, node: &Node, _level: usize) -> Option<String> {
        // Left in, it would make PostgreSQL expect few rows of few, and loop over them.
        if self.met.contains(&std::ptr::from_ref(node)) {
            return Some("true".to_owned());
        }
        clock(node, self.inner.now, self.inner.statement_time)
    }

    fn from_item(&self, _rtindex: usize, rte: &Node, _level: usize) -> Option<String> {
        if rte.value("rtekind").as_str() != Some("0") {
            return None;
        }
        let known = self.used.iter().find(|(entry, _)| std::ptr::eq(*entry, rte));
        let item = match known {
            Some((_, input)) => self.items.get(*input).cloned(),
            None => (self.unread)(rte),
        };
        self.missing.set(self.missing.get() || item.is_none());
        item
    }

    fn also_grouped(&self, query: &Node) -> Vec<(usize, String)> {
        self.grouped.of(query)
    }
}
