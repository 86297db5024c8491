//! Joins and conditions: where equalities hold, and for which tables.

use catalog::{KeyFamily, KeyType, Oid};
use sql::{Node, Value};

use super::expr::{
    as_var, becomes_character, conjuncts, each_sublink, key_source, strip_casts, sublink_column,
};
use super::graph::{Col, Graph, KeyCols};
use super::level::Env;
use crate::{KeySource, Refusal, RefusalCode};

/// Most members of an IN list that are taken as keys.
pub(super) const KEYS_MAX: usize = 10_000;

/// Part of the join tree.
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// Range table entries in it.
    pub entries: Vec<usize>,
    /// See [`Built::anchors`](super::level::Built).
    pub anchors: Vec<Vec<KeyCols>>,
    /// Entries that an outer join may fill with NULLs.
    pub nullable: Vec<usize>,
}

impl Joined {
    pub fn add(&mut self, other: Joined) {
        self.entries.extend(other.entries);
        self.anchors.extend(other.anchors);
        self.nullable.extend(other.nullable);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
}

impl<'a> Graph<'a> {
    /// Reads FROM and WHERE.
    pub fn join_tree(&mut self, env: &Env<'_, 'a>) -> Result<Joined, Refusal> {
        let tree = env.level.query.node("jointree")?;
        if env.level.query.value("commandType").as_str() == Some("5") {
            return self.merge_tree(env);
        }
        self.join_node(tree, env, &[])
    }

    /// `required`: entries whose columns must not be NULL for a row to survive, by conditions further up.
    pub fn join_node(
        &mut self,
        node: &'a Node,
        env: &Env<'_, 'a>,
        required: &[usize],
    ) -> Result<Joined, Refusal> {
        if node.is("RANGETBLREF") {
            let rtindex = usize::try_from(node.i64("rtindex")?).unwrap_or(0);
            let anchors = self.entry(rtindex, env)?;
            return Ok(Joined {
                entries: vec![rtindex],
                anchors,
                nullable: Vec::new(),
            });
        }
        let quals = node.value("quals");
        if node.is("FROMEXPR") {
            let required = self.with_required(required, quals, env);
            let mut joined = Joined::default();
            for item in node.nodes("fromlist")? {
                let part = self.join_node(item, env, &required)?;
                joined.add(part);
            }
            let targets = joined.entries.clone();
            self.condition(quals, env, &targets)?;
            return Ok(joined);
        }
        if !node.is("JOINEXPR") {
            return Err(Refusal::with(RefusalCode::UnexpectedClause, &node.name));
        }
        self.join_expr(node, env, required)
    }

    fn join_expr(
        &mut self,
        node: &'a Node,
        env: &Env<'_, 'a>,
        required: &[usize],
    ) -> Result<Joined, Refusal> {
        let quals = node.value("quals");
        let (larg, rarg) = (node.node("larg")?, node.node("rarg")?);
        let (mut left_entries, mut right_entries) = (Vec::new(), Vec::new());
        entries_of(larg, &mut left_entries);
        entries_of(rarg, &mut right_entries);
        let needs = |entries: &[usize]| entries.iter().any(|e| required.contains(e));
        let written = match node.str("jointype")? {
            "0" => JoinKind::Inner,
            "1" => JoinKind::Left,
            "2" => JoinKind::Full,
            "3" => JoinKind::Right,
            _ => return Err(Refusal::with(RefusalCode::UnexpectedClause, "join")),
        };
        // A condition further up that no NULL passes takes back the rows an outer join adds.
        let kind = match (written, needs(&left_entries), needs(&right_entries)) {
            (JoinKind::Left, _, true) | (JoinKind::Right, true, _) | (JoinKind::Full, true, true) => {
                JoinKind::Inner
            }
            (JoinKind::Full, true, false) => JoinKind::Left,
            (JoinKind::Full, false, true) => JoinKind::Right,
            (kind, ..) => kind,
        };
        if kind != JoinKind::Inner {
            self.shapes.outer_joins += 1;
        }
        let deeper = self.with_required(required, quals, env);
        let (for_left, for_right) = match kind {
            JoinKind::Inner => (deeper.as_slice(), deeper.as_slice()),
            JoinKind::Left => (required, deeper.as_slice()),
            JoinKind::Right => (deeper.as_slice(), required),
            JoinKind::Full => (&[][..], &[][..]),
        };
        let left = self.join_node(larg, env, for_left)?;
        let right = self.join_node(rarg, env, for_right)?;
        let targets: Vec<usize> = match kind {
            JoinKind::Inner => left.entries.iter().chain(&right.entries).copied().collect(),
            JoinKind::Left => right.entries.clone(),
            JoinKind::Right => left.entries.clone(),
            JoinKind::Full => Vec::new(),
        };
        self.condition(quals, env, &targets)?;
        self.combine(kind, left, right, quals, env)
    }

    fn combine(
        &mut self,
        kind: JoinKind,
        left: Joined,
        right: Joined,
        quals: &'a Value,
        env: &Env<'_, 'a>,
    ) -> Result<Joined, Refusal> {
        let mut joined = Joined::default();
        match kind {
            JoinKind::Inner => {
                joined.add(left);
                joined.add(right);
            }
            JoinKind::Left | JoinKind::Right => {
                let (kept, mut filled) = if kind == JoinKind::Left {
                    (left, right)
                } else {
                    (right, left)
                };
                filled.anchors.clear();
                filled.nullable.clone_from(&filled.entries);
                joined.add(kept);
                joined.add(filled);
            }
            JoinKind::Full => {
                // Rows of both sides with equal keys meet on one shard; those without a partner are there once.
                let equalities = self.equalities(quals, env);
                self.full.extend(&equalities);
                for a in &left.anchors {
                    for b in &right.anchors {
                        if meet(a, b, &equalities) {
                            joined.anchors.push(a.iter().chain(b).copied().collect());
                        }
                    }
                }
                joined.nullable = left.entries.iter().chain(&right.entries).copied().collect();
                joined.entries = joined.nullable.clone();
            }
        }
        Ok(joined)
    }

    /// Pairs of columns compared by a key equality among the conjuncts.
    fn equalities(&mut self, quals: &'a Value, env: &Env<'_, 'a>) -> Vec<(Col, Col)> {
        let mut out = Vec::new();
        for conjunct in conjuncts(quals) {
            if let Some((a, b)) = self.key_equality(conjunct)
                && let (Some((a, _)), Some((b, _))) = (self.column_of(a, env), self.column_of(b, env))
            {
                out.push((a, b));
            }
        }
        out
    }

    /// Adds the entries that a condition does not let NULLs of pass.
    fn with_required(&mut self, required: &[usize], quals: &'a Value, env: &Env<'_, 'a>) -> Vec<usize> {
        let mut out = required.to_vec();
        for conjunct in conjuncts(quals) {
            if !(conjunct.is("OPEXPR")
                || conjunct.is("SCALARARRAYOPEXPR") && conjunct.bool("useOr").unwrap_or(false))
            {
                continue;
            }
            let function = conjunct
                .oid("opfuncid")
                .ok()
                .and_then(|f| self.snapshot.function(Oid(f)));
            if !function.is_some_and(|f| f.strict && f.builtin) {
                continue;
            }
            for arg in conjunct.nodes("args").unwrap_or_default() {
                if let Some(var) = as_var(strip_casts(arg)).filter(|v| v.levels_up == 0)
                    && let Some((_, Some(rtindex))) = self.resolve(var, env)
                {
                    out.push(rtindex);
                }
            }
        }
        out
    }

    /// Reads a condition. Only entries in `targets` are restricted by it.
    pub fn condition(
        &mut self,
        quals: &'a Value,
        env: &Env<'_, 'a>,
        targets: &[usize],
    ) -> Result<(), Refusal> {
        for conjunct in conjuncts(quals) {
            self.conjunct(conjunct, env, targets)?;
        }
        Ok(())
    }

    fn conjunct(&mut self, node: &'a Node, env: &Env<'_, 'a>, targets: &[usize]) -> Result<(), Refusal> {
        if node.is("SUBLINK") && node.value("subLinkType").as_str() == Some("2") {
            return self.any_sublink(node, env, targets);
        }
        if let Some((left, right)) = self.key_equality(node) {
            let (a, b) = (self.column_of(left, env), self.column_of(right, env));
            let target = |side: &Option<(Col, Option<usize>)>| {
                side.and_then(|(col, rt)| rt.filter(|rt| targets.contains(rt)).map(|_| col))
            };
            if let (Some((a_col, _)), Some((b_col, _))) = (a, b) {
                if target(&b).is_some() {
                    self.edge(a_col, b_col);
                }
                if target(&a).is_some() {
                    self.edge(b_col, a_col);
                }
            }
        }
        for (col, keys) in self.pins_of(node, env, targets) {
            self.pins.push((col, keys));
        }
        self.bound_of(node, env, targets);
        let fields = node.fields.iter();
        fields
            .map(|(_, value)| value)
            .try_for_each(|value| each_sublink(value, &mut |link| self.sublink(link, env).map(|_| ())))?;
        if node.is("SUBLINK") {
            self.sublink(node, env)?;
        }
        Ok(())
    }

    /// `x IN (SELECT …)` as a conjunct: an equality with the subquery's column (NULL is as good as false here).
    fn any_sublink(&mut self, node: &'a Node, env: &Env<'_, 'a>, targets: &[usize]) -> Result<(), Refusal> {
        let test = node.value("testexpr");
        each_sublink(test, &mut |link| self.sublink(link, env).map(|_| ()))?;
        let built = self.sublink(node, env)?;
        for part in conjuncts(test) {
            let Some((left, right)) = self.key_equality(part) else {
                continue;
            };
            let column = strip_casts(right);
            let own = column
                .oid("paramtype")
                .ok()
                .and_then(|oid| super::expr::family(oid, self.snapshot));
            let changes = becomes_character(right, self.snapshot) && own != Some(KeyFamily::Bpchar);
            let Some(at) = sublink_column(column).filter(|_| !changes) else {
                continue;
            };
            let Some((outer, rtindex)) = self.column_of(left, env) else {
                continue;
            };
            let Some(output) = built.outputs.get(at.wrapping_sub(1)).copied() else {
                continue;
            };
            let Some(inner) = output.col else { continue };
            if rtindex.is_some_and(|rt| targets.contains(&rt)) {
                self.edge(inner, outer);
            }
            if output.pushable {
                self.edge(outer, inner);
            }
        }
        Ok(())
    }

    /// Operands of an equality that agrees with placement: the hash family's operator, a deterministic collation.
    /// The sides of an equality by which rows with keys are placed.
    pub(super) fn key_equality<'n>(&self, node: &'n Node) -> Option<(&'n Node, &'n Node)> {
        if !node.is("OPEXPR") {
            return None;
        }
        let args = node.nodes("args").ok()?;
        let [left, right] = args.as_slice() else {
            return None;
        };
        self.is_key_operator(node).then_some((*left, *right))
    }

    fn is_key_operator(&self, node: &Node) -> bool {
        let Some(operator) = node.oid("opno").ok().and_then(|o| self.snapshot.operator(Oid(o))) else {
            return false;
        };
        let left = operator.left.and_then(KeyType::of_operand);
        let (Some(left), Some(right)) = (left, KeyType::of_operand(operator.right)) else {
            return false;
        };
        let collation = node.oid("inputcollid").unwrap_or(0);
        self.snapshot.is_key_equality(operator.oid, left, right)
            && (collation == 0 || self.snapshot.is_deterministic(Oid(collation)))
    }

    /// Columns which a condition restricts to known values.
    fn pins_of(
        &mut self,
        node: &'a Node,
        env: &Env<'_, 'a>,
        targets: &[usize],
    ) -> Vec<(Col, Vec<KeySource>)> {
        if node.is("BOOLEXPR") {
            return match node.value("boolop").as_str() {
                Some("and") => {
                    let parts = conjuncts(node.value("args"));
                    parts
                        .into_iter()
                        .flat_map(|part| self.pins_of(part, env, targets))
                        .collect()
                }
                Some("or") => self.pins_of_or(node, env, targets),
                _ => Vec::new(),
            };
        }
        if let Some((left, right)) = self.key_equality(node) {
            for (column, value) in [(left, right), (right, left)] {
                if let Some(col) = self.target_column(column, env, targets)
                    && let Some(key) = key_source(value, self.snapshot)
                    && same_family(column, &key, self)
                {
                    return vec![(col, vec![key])];
                }
            }
        }
        if node.is("SCALARARRAYOPEXPR") && node.bool("useOr").unwrap_or(false) && self.is_key_operator(node) {
            let args = node.nodes("args").unwrap_or_default();
            if let [column, list] = args.as_slice()
                && let Some(col) = self.target_column(column, env, targets)
                && let Some(keys) = self.array_keys(list)
                && keys.iter().all(|key| same_family(column, key, self))
            {
                return vec![(col, keys)];
            }
        }
        Vec::new()
    }

    /// A column is restricted by OR when every arm restricts it.
    fn pins_of_or(
        &mut self,
        node: &'a Node,
        env: &Env<'_, 'a>,
        targets: &[usize],
    ) -> Vec<(Col, Vec<KeySource>)> {
        let arms = node.nodes("args").unwrap_or_default();
        let mut arms = arms
            .into_iter()
            .map(|arm| self.pins_of(arm, env, targets))
            .collect::<Vec<_>>()
            .into_iter();
        let mut pins = arms.next().unwrap_or_default();
        for arm in arms {
            pins.retain_mut(|(col, keys)| {
                let Some((_, more)) = arm.iter().find(|(other, _)| other == col) else {
                    return false;
                };
                keys.extend(more.iter().cloned());
                keys.len() <= KEYS_MAX
            });
        }
        pins
    }

    pub(super) fn target_column(
        &mut self,
        node: &'a Node,
        env: &Env<'_, 'a>,
        targets: &[usize],
    ) -> Option<Col> {
        let (col, rtindex) = self.column_of(node, env)?;
        rtindex.filter(|rt| targets.contains(rt)).map(|_| col)
    }

    /// The members of an array on the right of `= ANY`.
    fn array_keys(&self, list: &Node) -> Option<Vec<KeySource>> {
        let list = strip_casts(list);
        if list.is("ARRAYEXPR") {
            if list.bool("multidims").ok()? {
                return None;
            }
            let members = list.nodes("elements").ok()?;
            if members.len() > KEYS_MAX {
                return None;
            }
            return members
                .into_iter()
                .map(|m| key_source(m, self.snapshot))
                .collect();
        }
        if list.is("CONST") {
            return super::expr::const_array(list, self.snapshot);
        }
        let index = super::expr::extern_param(list)?;
        let array = self.snapshot.type_info(Oid(list.oid("paramtype").ok()?))?;
        let key_type = self.snapshot.key_type(array.element?)?;
        // Elements of a domain are brought into its form as they are read.
        let as_given = self.snapshot.key_step(array.element?, -1).is_none();
        as_given.then(|| vec![KeySource::ParamArray { index, key_type }])
    }
}

/// Whether a value can be compared with a column by its bytes: same family.
pub(super) fn same_family(column: &Node, key: &KeySource, graph: &Graph<'_>) -> bool {
    let column = strip_casts(column);
    let Ok(type_oid) = column.oid("vartype") else {
        return false;
    };
    super::expr::family(type_oid, graph.snapshot) == key.key_type().map(KeyType::family)
}

/// Whether a key of one side is compared with one of the other, column for column.
fn meet(left: &[KeyCols], right: &[KeyCols], equalities: &[(Col, Col)]) -> bool {
    let equal = |a: Col, b: Col| equalities.iter().any(|pair| *pair == (a, b) || *pair == (b, a));
    let keys = left.iter().flat_map(|a| right.iter().map(move |b| (a, b)));
    keys.filter(|(a, b)| a.len() == b.len())
        .any(|(a, b)| a.iter().zip(b.iter()).all(|(a, b)| equal(*a, *b)))
}

fn entries_of(node: &Node, out: &mut Vec<usize>) {
    if node.is("RANGETBLREF") {
        out.extend(node.i64("rtindex").ok().and_then(|i| usize::try_from(i).ok()));
    } else if node.is("JOINEXPR") {
        for side in ["larg", "rarg"] {
            if let Some(side) = node.value(side).as_node() {
                entries_of(side, out);
            }
        }
    } else if node.is("FROMEXPR") {
        for item in node.nodes("fromlist").unwrap_or_default() {
            entries_of(item, out);
        }
    }
}
