//! Reading one query level into the [`Graph`].

use sql::{Node, Value};

use super::expr::{Var, as_column, contains, each_sublink};
use super::graph::{Col, Graph, KeyCols};
use crate::{Refusal, RefusalCode};

/// Deepest nesting of query levels.
const LEVELS_MAX: usize = 100;

/// A query level while its parts are read.
pub(super) struct Level<'a> {
    pub query: &'a Node,
    /// Range table; index 0 is entry 1.
    pub rtable: Vec<&'a Node>,
    /// Instance of each entry.
    pub instances: Vec<usize>,
}

/// A level and those around it.
#[derive(Clone, Copy)]
pub(super) struct Env<'e, 'a> {
    pub level: &'e Level<'a>,
    pub outer: Option<&'e Env<'e, 'a>>,
}

/// An output column of a query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    /// Its node; `None` when it is computed.
    pub col: Option<Col>,
    /// It can be NULL because an outer join found no row.
    pub nullable: bool,
    /// Restricting it can be done before everything else the query does.
    pub pushable: bool,
}

/// What one level is to those around it.
#[derive(Debug, Default)]
pub(super) struct Built {
    pub outputs: Vec<Output>,
    /// Keys of tables whose rows are each on one shard and in the result once: pinning one of these splits the input of
    /// the level by shard. (More than one node: the two sides of a full join.)
    pub anchors: Vec<Vec<KeyCols>>,
    /// Output columns that are such keys: for each key the positions of its columns.
    pub physical: Vec<Vec<usize>>,
    /// Output nodes of RETURNING or the select list by `ressortgroupref`.
    pub by_ref: Vec<(u32, Option<Col>)>,
    /// Instances of the range table entries.
    pub instances: Option<Vec<usize>>,
}

impl<'e, 'a> Env<'e, 'a> {
    /// The level a variable belongs to.
    pub fn up(&self, levels: usize) -> Option<&Env<'e, 'a>> {
        let mut env = self;
        for _ in 0..levels {
            env = env.outer?;
        }
        Some(env)
    }
}

impl<'a> Graph<'a> {
    /// The node of a variable; `None` when it is computed (a merged column of a full join) or a system column.
    pub fn resolve(&mut self, var: Var, env: &Env<'_, 'a>) -> Option<(Col, Option<usize>)> {
        let home = env.up(var.levels_up)?;
        let local = var.levels_up == 0;
        let rte = home.level.rtable.get(var.rtindex.checked_sub(1)?)?;
        // A join, or (from version 18 on) the columns of GROUP BY: other names for expressions of this level.
        let aliases = match rte.value("rtekind").as_str() {
            Some("2") => Some("joinaliasvars"),
            Some("9") => Some("groupexprs"),
            _ => None,
        };
        if let Some(field) = aliases {
            let alias = rte.list(field).ok()?;
            let target = alias
                .get(usize::try_from(var.attno).ok()?.checked_sub(1)?)?
                .as_node()?;
            let mut inner = as_column(target, self.snapshot)?;
            inner.levels_up += var.levels_up;
            return self.resolve(inner, env);
        }
        if var.attno <= 0 {
            return None;
        }
        let instance = *home.level.instances.get(var.rtindex - 1)?;
        Some((self.column(instance, var.attno), local.then_some(var.rtindex)))
    }

    /// The node of an expression that is a column (casts that keep the placement taken off).
    pub fn column_of(&mut self, node: &Node, env: &Env<'_, 'a>) -> Option<(Col, Option<usize>)> {
        self.resolve(as_column(node, self.snapshot)?, env)
    }

    /// Reads a query and everything below it.
    pub fn query(&mut self, query: &'a Node, outer: Option<&Env<'_, 'a>>) -> Result<Built, Refusal> {
        self.depth += 1;
        if self.depth > LEVELS_MAX {
            return Err(Refusal::new(RefusalCode::TooComplex));
        }
        let built = self.query_inner(query, outer);
        self.depth -= 1;
        built
    }

    fn query_inner(&mut self, query: &'a Node, outer: Option<&Env<'_, 'a>>) -> Result<Built, Refusal> {
        let rtable = query.nodes("rtable")?;
        let instances = rtable
            .iter()
            .map(|_| self.instance())
            .collect::<Result<Vec<_>, _>>()?;
        let level = Level {
            query,
            rtable,
            instances,
        };
        let env = Env { level: &level, outer };
        self.note_shapes(query)?;
        self.modifying_ctes(&env)?;
        if !query.value("setOperations").is_null() {
            return self.set_operation(&env);
        }
        let joined = self.join_tree(&env)?;
        self.target(&env)?;
        for (name, value) in &query.fields {
            // The join tree has been read, subqueries of the range table and CTEs are read where they are used.
            if !matches!(&**name, "jointree" | "rtable" | "cteList") {
                each_sublink(value, &mut |link| self.sublink(link, &env).map(|_| ()))?;
            }
        }
        let mut built = Built {
            anchors: joined.anchors,
            ..Built::default()
        };
        self.outputs(&env, &joined.nullable, &mut built)?;
        built.instances = Some(level.instances.clone());
        Ok(built)
    }

    fn note_shapes(&mut self, query: &Node) -> Result<(), Refusal> {
        known_clauses(query)?;
        self.shapes.row_security |= query.bool("hasRowSecurity")?;
        self.shapes.recursive |= query.bool("hasRecursive")?;
        self.shapes.locking |= !query.value("rowMarks").is_null();
        Ok(())
    }

    /// CTEs that write run whether used or not.
    fn modifying_ctes(&mut self, env: &Env<'_, 'a>) -> Result<(), Refusal> {
        for cte in env.level.query.nodes("cteList")? {
            let body = cte.node("ctequery")?;
            if body.value("commandType").as_str() != Some("1") {
                self.shapes.modifying_cte = true;
                super::write::modifying(self, body, Some(env))?;
            }
        }
        Ok(())
    }

    /// The subquery of a SUBLINK.
    pub fn sublink(&mut self, link: &'a Node, env: &Env<'_, 'a>) -> Result<Built, Refusal> {
        self.shapes.subqueries += 1;
        let body = link.node("subselect")?;
        let before = self.sharded.len();
        let built = self.query(body, Some(env))?;
        self.check_choice(body, before)?;
        Ok(built)
    }

    /// A range table entry that is used in FROM. Returns its anchors, and whether it is a plain relation.
    pub fn entry(&mut self, rtindex: usize, env: &Env<'_, 'a>) -> Result<Vec<Vec<KeyCols>>, Refusal> {
        let level = env.level;
        let unreadable = || Refusal::new(RefusalCode::Unreadable);
        let rte = *level.rtable.get(rtindex.wrapping_sub(1)).ok_or_else(unreadable)?;
        let instance = level.instances[rtindex - 1];
        each_sublink(rte.value("securityQuals"), &mut |link| {
            self.sublink(link, env).map(|_| ())
        })?;
        match rte.str("rtekind")? {
            "0" => {
                let before = self.sharded.len();
                self.relation(instance, rte)?;
                Ok(self.sharded[before..].iter().map(|s| vec![s.key]).collect())
            }
            "1" => {
                self.shapes.subqueries += 1;
                let body = rte.node("subquery")?;
                let before = self.sharded.len();
                let built = self.query(body, Some(env))?;
                self.check_choice(body, before)?;
                Ok(self.link_outputs(instance, &built))
            }
            "3" | "4" | "5" | "8" => {
                for field in ["functions", "tablefunc", "values_lists"] {
                    each_sublink(rte.value(field), &mut |link| self.sublink(link, env).map(|_| ()))?;
                }
                self.values_columns(instance, rte);
                Ok(Vec::new())
            }
            "6" => self.cte_entry(instance, rte, env),
            _ => Err(Refusal::with(RefusalCode::UnexpectedClause, "range table entry")),
        }
    }

    /// `VALUES (c1), (c2)` in FROM: a column whose members are all known pins what it is joined with.
    fn values_columns(&mut self, instance: usize, rte: &Node) {
        let Ok(rows) = rte.list("values_lists") else {
            return;
        };
        let width = rows.first().and_then(Value::as_list).map_or(0, <[Value]>::len);
        for at in 0..width {
            let keys = rows.iter().map(|row| {
                let cell = row.as_list()?.get(at)?.as_node()?;
                super::expr::key_source(cell, self.snapshot)
            });
            if let Some(keys) = keys.collect::<Option<Vec<_>>>() {
                let col = self.column(instance, i32::try_from(at + 1).unwrap_or(i32::MAX));
                self.pins.push((col, keys));
            }
        }
    }

    fn cte_entry(
        &mut self,
        instance: usize,
        rte: &Node,
        env: &Env<'_, 'a>,
    ) -> Result<Vec<Vec<KeyCols>>, Refusal> {
        self.shapes.subqueries += 1;
        if rte.bool("self_reference")? {
            return Ok(Vec::new());
        }
        let up = usize::try_from(rte.i64("ctelevelsup")?).unwrap_or(usize::MAX);
        let unreadable = || Refusal::new(RefusalCode::Unreadable);
        let home = env.up(up).ok_or_else(unreadable)?;
        let name = rte.str("ctename")?;
        let ctes = home.level.query.nodes("cteList")?;
        let cte = ctes
            .into_iter()
            .find(|c| c.value("ctename").as_str() == Some(name))
            .ok_or_else(unreadable)?;
        let body = cte.node("ctequery")?;
        if body.value("commandType").as_str() != Some("1") {
            // Its tables are counted where it runs; its rows come from there.
            return Ok(Vec::new());
        }
        let before = self.sharded.len();
        let mut built = self.query(body, Some(home))?;
        self.check_choice(body, before)?;
        if cte.bool("cterecursive")? {
            built = Built::default();
        }
        Ok(self.link_outputs(instance, &built))
    }

    /// Ties the columns of an entry to the outputs of its query; returns the entry's anchors.
    fn link_outputs(&mut self, instance: usize, built: &Built) -> Vec<Vec<KeyCols>> {
        for (at, output) in built.outputs.iter().enumerate() {
            let outer = self.column(instance, i32::try_from(at + 1).unwrap_or(i32::MAX));
            if let Some(inner) = output.col {
                self.edge(inner, outer);
                if output.nullable {
                    self.null_extended.insert(outer);
                }
                if output.pushable {
                    self.edge(outer, inner);
                }
            }
        }
        let outer = |at: &usize| self.column(instance, i32::try_from(at + 1).unwrap_or(i32::MAX));
        let mut outer = outer;
        let keys = built.physical.iter();
        keys.map(|key| vec![KeyCols::new(key.iter().map(&mut outer))])
            .collect()
    }

    /// Set operations: no anchors, but a restriction of an output column restricts every arm.
    fn set_operation(&mut self, env: &Env<'_, 'a>) -> Result<Built, Refusal> {
        self.shapes.set_operation = true;
        let query = env.level.query;
        let mut arms = Vec::new();
        let mut stack = vec![query.node("setOperations")?];
        while let Some(node) = stack.pop() {
            if node.is("SETOPERATIONSTMT") {
                stack.push(node.node("rarg")?);
                stack.push(node.node("larg")?);
            } else {
                arms.push(usize::try_from(node.i64("rtindex")?).unwrap_or(0));
            }
        }
        let limited = !query.value("limitCount").is_null() || !query.value("limitOffset").is_null();
        let targets = query.nodes("targetList")?;
        let visible = targets
            .iter()
            .filter(|t| t.value("resjunk").as_str() != Some("true"))
            .count();
        let own = self.instance()?;
        for arm in arms {
            self.entry(arm, env)?;
            let instance = env.level.instances[arm - 1];
            for at in 1..=i32::try_from(visible).unwrap_or(0) {
                let (output, column) = (self.column(own, at), self.column(instance, at));
                self.edge(output, column);
            }
        }
        for name in ["sortClause", "limitCount", "limitOffset"] {
            each_sublink(query.value(name), &mut |link| self.sublink(link, env).map(|_| ()))?;
        }
        let outputs = (1..=i32::try_from(visible).unwrap_or(0)).map(|at| Output {
            col: Some(self.column(own, at)),
            nullable: true,
            pushable: !limited,
        });
        Ok(Built {
            outputs: outputs.collect(),
            ..Built::default()
        })
    }

    fn outputs(&mut self, env: &Env<'_, 'a>, nullable: &[usize], built: &mut Built) -> Result<(), Refusal> {
        let query = env.level.query;
        let select = query.value("commandType").as_str() == Some("1");
        let list = if select { "targetList" } else { "returningList" };
        for target in query.nodes(list)? {
            let expr = target.node("expr")?;
            let found = self.column_of(expr, env);
            let mut output = Output {
                col: found.map(|(col, _)| col),
                nullable: found.is_some_and(|(col, rt)| {
                    rt.is_none_or(|rt| nullable.contains(&rt)) || self.null_extended.contains(&col)
                }),
                pushable: select && pushable(query, target)?,
            };
            if output.col.is_none()
                && let Some(key) = super::expr::key_source(expr, self.snapshot)
            {
                output.col = Some(self.constant(vec![key]));
            }
            let reference = target.oid("ressortgroupref")?;
            if reference != 0 {
                built.by_ref.push((reference, output.col));
            }
            if target.bool("resjunk")? {
                continue;
            }
            built.outputs.push(output);
        }
        self.physical(built);
        Ok(())
    }

    /// Finds keys of tables among the outputs: all columns, each of which can be restricted.
    fn physical(&self, built: &mut Built) {
        let is =
            |output: &Output, col: Col| output.pushable && output.col.is_some_and(|own| self.same(col, own));
        for anchor in &built.anchors {
            let [key] = anchor.as_slice() else { continue };
            if let Some(col) = key.single() {
                let outputs = built.outputs.iter().enumerate();
                let found = outputs.filter(|(_, output)| is(output, col));
                built.physical.extend(found.map(|(at, _)| vec![at]));
                continue;
            }
            let places = key
                .iter()
                .map(|col| built.outputs.iter().position(|output| is(output, *col)));
            built.physical.extend(places.collect::<Option<Vec<usize>>>());
        }
    }

    /// A subquery without sharded tables must give the same rows on every shard.
    fn check_choice(&mut self, body: &Node, sharded_before: usize) -> Result<(), Refusal> {
        if self.sharded.len() > sharded_before {
            return Ok(());
        }
        let limited = !body.value("limitCount").is_null() || !body.value("limitOffset").is_null();
        let reads = !body.nodes("rtable")?.is_empty();
        let chooses = limited || body.bool("hasDistinctOn")? || body.bool("hasWindowFuncs")?;
        if reads && chooses {
            self.shapes.recurring_choice = true;
        }
        if reads && body.bool("hasAggs")? && !super::aggregate::all_order_free(body, self.snapshot) {
            self.shapes.recurring_choice = true;
        }
        Ok(())
    }
}

/// Fields of a Query that are read here or have no bearing on which rows result.
const CLAUSES: &str = "commandType querySource queryId canSetTag utilityStmt resultRelation hasAggs hasWindowFuncs \
    hasTargetSRFs hasSubLinks hasDistinctOn hasRecursive hasModifyingCTE hasForUpdate hasRowSecurity \
    hasGroupRTE isReturn cteList rtable rteperminfos jointree targetList override onConflict returningList \
    returningOldAlias returningNewAlias groupClause groupDistinct groupingSets havingQual windowClause \
    distinctClause sortClause limitOffset limitCount limitOption rowMarks setOperations constraintDeps \
    withCheckOptions mergeActionList mergeUseOuterJoin mergeTargetRelation mergeJoinCondition \
    stmt_location stmt_len";

/// A clause of a later PostgreSQL that nobody has thought about yet is refused when it is used.
fn known_clauses(query: &Node) -> Result<(), Refusal> {
    let unused = |value: &Value| value.is_null() || matches!(value.as_str(), Some("false" | "0"));
    for (name, value) in &query.fields {
        if !unused(value) && !CLAUSES.split(' ').any(|known| *known == **name) {
            return Err(Refusal::with(RefusalCode::UnexpectedClause, &**name));
        }
    }
    Ok(())
}

/// Whether a restriction of this output column can be applied to the rows the query starts from.
fn pushable(query: &Node, target: &Node) -> Result<bool, Refusal> {
    let reference = target.oid("ressortgroupref")?;
    let among = |clauses: &Value| {
        let list = clauses.as_list().unwrap_or_default();
        list.iter()
            .filter_map(Value::as_node)
            .any(|c| reference != 0 && c.oid("tleSortGroupRef").is_ok_and(|r| r == reference))
    };
    let limited = !query.value("limitCount").is_null() || !query.value("limitOffset").is_null();
    if limited || !query.value("groupingSets").is_null() {
        return Ok(false);
    }
    if !query.value("groupClause").is_null() {
        if !among(query.value("groupClause")) {
            return Ok(false);
        }
    } else if query.bool("hasAggs")? || !query.value("havingQual").is_null() {
        return Ok(false);
    }
    if query.bool("hasDistinctOn")? && !among(query.value("distinctClause")) {
        return Ok(false);
    }
    if query.bool("hasWindowFuncs")? {
        let windows = query.nodes("windowClause")?;
        if !windows.iter().all(|w| among(w.value("partitionClause"))) {
            return Ok(false);
        }
    }
    Ok(!contains(target.value("expr"), "SUBLINK"))
}
