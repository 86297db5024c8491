//! Tables that are joined where their rows are.
//!
//! An input is a table, or several that every row of the statement joins by inner joins, and whose rows that join are on one shard: sharded
//! ones with equal keys, reference tables, or unsharded ones. The join is printed in the place of the first of them in FROM; what
//! stands for the others gives their columns of the same row (`LATERAL (SELECT first.x AS x)`), so the rest of the statement stays as it is.
//!
//! Why that is the same: the conditions of the join are among those that every row of the result has passed ([`filters`](super::filters)), joins
//! can be done in any order, and rows that are not on one shard have different keys, so they do not join.
//!
//! When that is better: each row of one table (*the many*) joins at most one of each other (a unique index of it is covered by
//! the conditions), so there are never more rows than the many has, and conditions on one side leave out rows of the other; or there is little
//! to carry of the others. A wide row that belongs to many is carried once where it is by itself.

use std::collections::{HashMap, HashSet};

use catalog::{MapId, Placement, Relation, Snapshot};
use sql::Node;

use super::filters::{Filters, Joint};
use super::needs::Needs;
use super::relation_of;
use crate::planner::Cx;
use crate::planner::expr::as_column;

/// Of a FROM with more tables each is pulled by itself.
const TABLES_MAX: usize = 24;

/// Columns of fixed size that are carried along with rows of another table without a second thought.
const NARROW_COLUMNS: usize = 3;

/// Types of at most 8 bytes: bool, int8, int2, int4, oid, float4, float8, date, time, timestamp, timestamptz.
const NARROW_TYPES: [u32; 11] = [16, 20, 21, 23, 26, 700, 701, 1082, 1083, 1114, 1184];

/// Tables that are one input.
pub(super) struct Group<'a> {
    /// Their entries, in the order in which they stand in FROM.
    pub members: Vec<&'a Node>,
    /// The conditions on several of them.
    pub joints: Vec<&'a Node>,
    /// Equalities that follow from conditions on others besides: columns of entries, by their numbers in the range table.
    pub implied: Vec<[(usize, i16); 2]>,
}

impl Group<'_> {
    /// Whether an entry is one of them.
    pub(super) fn has(&self, rte: &Node) -> bool {
        self.members.iter().any(|member| std::ptr::eq(*member, rte))
    }

    /// Whether it is the one in whose place the join is printed.
    pub(super) fn is_first(&self, rte: &Node) -> bool {
        self.members
            .first()
            .is_some_and(|member| std::ptr::eq(*member, rte))
    }
}

/// Which of these entries are pulled as one. `pushable` conditions mean the same where the rows are.
pub(super) fn groups<'a>(
    cx: &Cx<'a>,
    filters: &Filters<'a>,
    entries: &[&'a Node],
    pushable: &dyn Fn(&'a Node, &'a Node) -> bool,
) -> Vec<Group<'a>> {
    let mut queries: Vec<&Node> = Vec::new();
    for entry in entries.iter().filter_map(|rte| filters.of_entry(rte)) {
        if !queries.iter().any(|known| std::ptr::eq(*known, entry.query)) {
            queries.push(entry.query);
        }
    }
    let mut out = Vec::new();
    for query in queries {
        let joints: Vec<&Joint<'a>> = (filters.joints().iter())
            .filter(|joint| std::ptr::eq(joint.query, query) && pushable(query, joint.condition))
            .collect();
        if !joints.is_empty() {
            out.extend(Level::of(cx, filters, entries, query, joints, pushable).groups());
        }
    }
    out
}

/// Where the rows of a table are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Sharded(MapId),
    Reference,
    Home,
}

/// A table in FROM.
struct Table<'a> {
    rte: &'a Node,
    index: usize,
    order: usize,
    relation: &'a Relation,
    place: Place,
    /// Some condition is on it alone.
    filtered: bool,
    /// There is little of it to carry.
    narrow: bool,
}

/// The tables of one FROM, and what ties them.
struct Level<'l, 'a> {
    snapshot: &'a Snapshot,
    tables: Vec<Table<'a>>,
    joints: Vec<&'l Joint<'a>>,
    /// Columns that a joint equates: entry and column, twice.
    equal: Vec<[(usize, i16); 2]>,
}

/// A group while it is put together: tables by their places in the level.
struct Draft {
    members: Vec<usize>,
    /// For each of them those by which it was found.
    through: HashMap<usize, Vec<usize>>,
}

impl<'l, 'a> Level<'l, 'a> {
    fn of(
        cx: &Cx<'a>,
        filters: &Filters<'a>,
        entries: &[&'a Node],
        query: &'a Node,
        joints: Vec<&'l Joint<'a>>,
        pushable: &dyn Fn(&'a Node, &'a Node) -> bool,
    ) -> Level<'l, 'a> {
        let met: HashSet<*const Node> = joints
            .iter()
            .map(|joint| std::ptr::from_ref(joint.condition))
            .collect();
        let needs = Needs::of(cx.tree, cx.snapshot, &met).ok();
        let table = |rte: &&'a Node| {
            let entry = filters
                .of_entry(rte)
                .filter(|entry| std::ptr::eq(entry.query, query))?;
            let relation = relation_of(cx.snapshot, rte).ok()?;
            let place = match &relation.placement {
                Placement::Home => Place::Home,
                Placement::Reference => Place::Reference,
                Placement::Sharded { key, map } if !key.is_empty() => Place::Sharded(*map),
                Placement::Sharded { .. } => return None,
            };
            let needs = needs.as_ref()?;
            // Its rows are values: it is pulled by itself, so that it has a place of its own.
            if needs.is_whole(rte) {
                return None;
            }
            let used = needs.columns(rte);
            let small = used
                .iter()
                .all(|(_, typed)| NARROW_TYPES.contains(&typed.type_oid));
            Some(Table {
                rte,
                index: entry.index,
                order: entry.order,
                relation,
                place,
                filtered: entry
                    .conditions
                    .iter()
                    .any(|condition| pushable(query, condition)),
                narrow: small && used.len() <= NARROW_COLUMNS,
            })
        };
        let mut tables: Vec<Table<'a>> = entries.iter().filter_map(table).collect();
        tables.sort_by_key(|table| table.order);
        tables.truncate(if tables.len() > TABLES_MAX { 0 } else { TABLES_MAX });
        let equal = joints.iter().filter_map(|joint| {
            let (left, right) = cx.graph.key_equality(joint.condition)?;
            Some([column(left, cx.snapshot)?, column(right, cx.snapshot)?])
        });
        Level {
            snapshot: cx.snapshot,
            tables,
            equal: equal.collect(),
            joints,
        }
    }

    /// The largest first; no table is in two.
    fn groups(&self) -> Vec<Group<'a>> {
        let mut free: Vec<usize> = (0..self.tables.len()).collect();
        let mut out = Vec::new();
        loop {
            let starts = free
                .iter()
                .filter(|at| self.tables[**at].place != Place::Reference);
            let drafts = starts.map(|at| self.draft(*at, &free));
            let Some(largest) = drafts.max_by_key(|draft| draft.members.len()) else {
                return out;
            };
            if largest.members.len() < 2 {
                return out;
            }
            free.retain(|at| !largest.members.contains(at));
            out.push(self.group(&largest));
        }
    }

    /// What can be pulled along with the rows of a table.
    fn draft(&self, many: usize, free: &[usize]) -> Draft {
        let mut draft = Draft {
            members: vec![many],
            through: HashMap::new(),
        };
        loop {
            let next = free.iter().filter(|at| !draft.members.contains(at));
            let next = next.filter(|at| self.meets(&draft.members, **at));
            let found = next.filter_map(|at| Some((*at, self.covered(&draft.members, *at)?)));
            let Some((at, through)) = found.min_by_key(|(at, _)| *at) else {
                break;
            };
            draft.members.push(at);
            draft.through.insert(at, through);
        }
        self.prune(&mut draft, many);
        draft
    }

    /// Whether the rows of a table that join those of the members are where these are.
    fn meets(&self, members: &[usize], at: usize) -> bool {
        let anchor = self.anchor(members);
        match (self.tables[at].place, anchor) {
            (Place::Reference, _) => true,
            (Place::Home, anchor) => anchor.is_none(),
            (Place::Sharded(_), None) => false,
            (Place::Sharded(map), Some(anchor)) => {
                self.tables[anchor].place == Place::Sharded(map)
                    && self.keys_of(anchor, at).iter().all(|pair| self.follows(*pair))
            }
        }
    }

    /// The sharded table that the others meet.
    fn anchor(&self, members: &[usize]) -> Option<usize> {
        let mut members = members.iter().copied();
        members.find(|at| matches!(self.tables[*at].place, Place::Sharded(_)))
    }

    /// The key columns of two sharded tables, in pairs.
    fn keys_of(&self, a: usize, b: usize) -> Vec<[(usize, i16); 2]> {
        let (a, b) = (&self.tables[a], &self.tables[b]);
        let pairs = a.relation.key_columns().iter().zip(b.relation.key_columns());
        pairs
            .map(|(x, y)| [(a.index, x.attnum), (b.index, y.attnum)])
            .collect()
    }

    /// Whether two columns are equal in all rows that join, and that can be written down.
    fn follows(&self, pair: [(usize, i16); 2]) -> bool {
        if self.is_joint(pair) {
            return true;
        }
        let mut reached = vec![pair[0]];
        let mut at = 0;
        while let Some(from) = reached.get(at).copied() {
            for [a, b] in &self.equal {
                let next = if *a == from { *b } else { *a };
                if (*a == from || *b == from) && !reached.contains(&next) {
                    reached.push(next);
                }
            }
            at += 1;
        }
        reached.contains(&pair[1]) && self.same_type(pair)
    }

    fn is_joint(&self, [a, b]: [(usize, i16); 2]) -> bool {
        self.equal
            .iter()
            .any(|known| *known == [a, b] || *known == [b, a])
    }

    fn same_type(&self, pair: [(usize, i16); 2]) -> bool {
        let facts = pair.map(|(index, attnum)| {
            let table = self.tables.iter().find(|table| table.index == index)?;
            let column = table.relation.column(attnum)?;
            let builtin = self.snapshot.type_info(column.type_oid)?.builtin;
            let plain = builtin && self.snapshot.base_type(column.type_oid) == column.type_oid;
            plain.then_some((column.type_oid, column.collation))
        });
        facts[0].is_some() && facts[0] == facts[1]
    }

    /// The members that say which row of a table joins, if there is at most one.
    fn covered(&self, members: &[usize], at: usize) -> Option<Vec<usize>> {
        let table = &self.tables[at];
        let keys = match (self.anchor(members), table.place) {
            (Some(anchor), Place::Sharded(_)) => self.keys_of(anchor, at),
            _ => Vec::new(),
        };
        let by = |attnum: i16| {
            let column = (table.index, attnum);
            let joint = members.iter().copied().find(|member| {
                let tied = |[a, b]: &[(usize, i16); 2]| {
                    let index = self.tables[*member].index;
                    (*a == column && b.0 == index) || (*b == column && a.0 == index)
                };
                self.equal.iter().any(tied)
            });
            let key = keys.iter().any(|[_, own]| *own == column);
            joint.or_else(|| self.anchor(members).filter(|_| key))
        };
        let indexes = table.relation.unique_indexes.iter();
        let mut whole = indexes.filter(|index| !(index.partial || index.has_expressions || index.exclusion));
        whole.find_map(|index| index.columns.iter().map(|attnum| by(*attnum)).collect())
    }

    /// Leaves out what is better carried by itself.
    fn prune(&self, draft: &mut Draft, many: usize) {
        loop {
            let idle = draft.members.iter().copied().find(|at| {
                let table = &self.tables[*at];
                let needed = draft
                    .through
                    .iter()
                    .any(|(other, through)| draft.members.contains(other) && through.contains(at));
                let others = draft.members.iter().filter(|other| *other != at);
                let restricted = others
                    .map(|other| &self.tables[*other])
                    .any(|other| other.filtered && other.place != Place::Reference);
                let useful = match table.place {
                    Place::Reference => table.filtered,
                    _ => table.filtered || table.narrow || restricted,
                };
                *at != many && !needed && !useful
            });
            let Some(idle) = idle else { return };
            draft.members.retain(|at| *at != idle);
        }
    }

    fn group(&self, draft: &Draft) -> Group<'a> {
        let mut members = draft.members.clone();
        members.sort_unstable();
        let indexes: Vec<usize> = members.iter().map(|at| self.tables[*at].index).collect();
        let within = |joint: &&&Joint<'a>| joint.entries.iter().all(|entry| indexes.contains(entry));
        let joints = self.joints.iter().filter(within).map(|joint| joint.condition);
        let mut implied = Vec::new();
        if let Some(anchor) = self.anchor(&draft.members) {
            let sharded = |at: &&usize| **at != anchor && self.tables[**at].place != Place::Reference;
            for at in members.iter().filter(sharded) {
                let pairs = self.keys_of(anchor, *at);
                implied.extend(pairs.into_iter().filter(|pair| !self.is_joint(*pair)));
            }
        }
        Group {
            members: members.iter().map(|at| self.tables[*at].rte).collect(),
            joints: joints.collect(),
            implied,
        }
    }
}

/// The column that one side of an equality is.
fn column(side: &Node, snapshot: &Snapshot) -> Option<(usize, i16)> {
    let var = as_column(side, snapshot).filter(|var| var.levels_up == 0)?;
    Some((var.rtindex, i16::try_from(var.attno).ok()?))
}
