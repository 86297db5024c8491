//! Expressions.

use super::printer::{Printed, Printer, rte_kind, unsupported};
use super::{DeparseError, constant};
use crate::nodes::{Node, Value};
use crate::{Oid, quote_ident, quote_literal};

/// `CoercionForm` of an implicit cast.
pub(super) const IMPLICIT_CAST: i32 = 2;
/// Pseudo-type `record`.
const RECORD: u32 = 2249;
/// Type `unknown`.
const UNKNOWN: u32 = 705;

impl<'a> Printer<'a> {
    /// Prints an expression as a primary expression.
    pub(super) fn expr(&mut self, node: &'a Node) -> Printed {
        if let Some(sql) = self.rewriter.expression(node, self.top()) {
            return Ok(sql);
        }
        self.enter(node)?;
        let printed = self.expr_node(node);
        self.leave();
        printed
    }

    fn expr_node(&mut self, n: &'a Node) -> Printed {
        match &*n.name {
            "VAR" => self.var(n),
            "CONST" => constant::print(self, n),
            "PARAM" => self.param(n),
            "AGGREF" => self.aggregate(n),
            "WINDOWFUNC" => self.window_function(n),
            "FUNCEXPR" => self.function(n),
            "OPEXPR" => self.operation(n),
            "SCALARARRAYOPEXPR" => self.array_operation(n),
            "BOOLEXPR" => self.boolean(n),
            "SUBLINK" => self.sublink(n),
            "RELABELTYPE" => self.cast(n, "resulttype", Some("resulttypmod")),
            "COERCEVIAIO" => self.cast(n, "resulttype", None),
            "ARRAYCOERCEEXPR" => self.cast(n, "resulttype", Some("resulttypmod")),
            "CONVERTROWTYPEEXPR" => self.cast(n, "resulttype", None),
            "COERCETODOMAIN" => self.cast(n, "resulttype", Some("resulttypmod")),
            "COLLATE" | "COLLATEEXPR" => self.collate(n),
            "CASE" | "CASEEXPR" => self.case(n),
            "ARRAY" | "ARRAYEXPR" => self.array(n),
            "ROW" | "ROWEXPR" => self.row(n),
            "ROWCOMPARE" | "ROWCOMPAREEXPR" => self.row_compare(n),
            "COALESCE" | "COALESCEEXPR" => Ok(format!("COALESCE({})", self.list(n, "args")?)),
            "MINMAX" | "MINMAXEXPR" => {
                let name = if n.i32("op")? == 0 { "GREATEST" } else { "LEAST" };
                Ok(format!("{name}({})", self.list(n, "args")?))
            }
            "NULLTEST" => self.null_test(n),
            "BOOLEANTEST" => self.boolean_test(n),
            _ => self.rare(n),
        }
    }

    fn rare(&mut self, n: &'a Node) -> Printed {
        match &*n.name {
            "DISTINCTEXPR" => {
                let (a, b) = self.plain_pair(n)?;
                Ok(format!("({a} IS DISTINCT FROM {b})"))
            }
            "NULLIFEXPR" => {
                let (a, b) = self.plain_pair(n)?;
                Ok(format!("NULLIF({a}, {b})"))
            }
            "SQLVALUEFUNCTION" => value_function(n),
            "GROUPINGFUNC" => Ok(format!("GROUPING({})", self.list(n, "args")?)),
            "SUBSCRIPTINGREF" => self.subscript(n),
            "FIELDSELECT" => self.field(n),
            "NEXTVALUEEXPR" => {
                let sequence = quote_literal(&self.relation_name(n.oid("seqid")?)?);
                let type_name = self.type_name(n.oid("typeId")?, -1)?;
                Ok(format!(
                    "(pg_catalog.nextval({sequence}::pg_catalog.regclass))::{type_name}"
                ))
            }
            _ => Err(unsupported(n, "expression")),
        }
    }

    /// A comma-separated list of the expressions of a field.
    pub(super) fn list(&mut self, n: &'a Node, field: &'static str) -> Printed {
        Ok(self.exprs(n.nodes(field)?)?.join(", "))
    }

    pub(super) fn exprs(&mut self, nodes: Vec<&'a Node>) -> Result<Vec<String>, DeparseError> {
        nodes.into_iter().map(|n| self.expr(n)).collect()
    }

    fn var(&mut self, n: &'a Node) -> Printed {
        let up = usize::try_from(n.i32("varlevelsup")?).map_err(|_| unsupported(n, "level"))?;
        let level = self
            .top()
            .checked_sub(up)
            .ok_or_else(|| unsupported(n, "level"))?;
        let rtindex = usize::try_from(n.i32("varno")?).map_err(|_| unsupported(n, "special variable"))?;
        if n.get("varreturningtype")
            .and_then(Value::as_i64)
            .is_some_and(|t| t != 0)
        {
            return Err(unsupported(n, "OLD or NEW in RETURNING"));
        }
        let attno = n.i32("varattno")?;
        let rte = self
            .rte(level, rtindex)
            .ok_or_else(|| unsupported(n, "special variable"))?;
        match rte.i32("rtekind")? {
            rte_kind::JOIN => self.expanded(n, rte, "joinaliasvars", level, attno),
            rte_kind::GROUP => self.expanded(n, rte, "groupexprs", level, attno),
            kind => {
                let alias = quote_ident(&self.alias_at(level, rtindex)?);
                if attno == 0 {
                    return match self.rewriter.whole_row(rte) {
                        Some(column) => Ok(format!("{alias}.{column}")),
                        None => self.whole_row(n, kind, &alias),
                    };
                }
                let column = self.column_name(level, rtindex, attno, n)?;
                Ok(format!("{alias}.{}", quote_ident(&column)))
            }
        }
    }

    fn whole_row(&mut self, n: &Node, kind: i32, alias: &str) -> Printed {
        let row_type = n.oid("vartype")?;
        // A record has the names that its FROM item is given, and they are printed there.
        let known = match kind {
            rte_kind::RELATION => row_type != RECORD,
            rte_kind::SUBQUERY | rte_kind::VALUES | rte_kind::CTE => row_type == RECORD,
            _ => false,
        };
        if !known {
            return Err(unsupported(
                n,
                "whole row of something else than a table or a subquery",
            ));
        }
        Ok(format!("({alias}.*)::{}", self.type_name(row_type, -1)?))
    }

    /// A column of a join (or group) that stands for an expression of its query.
    fn expanded(
        &mut self,
        n: &'a Node,
        rte: &'a Node,
        field: &'static str,
        level: usize,
        attno: i32,
    ) -> Printed {
        let index = usize::try_from(attno - 1).map_err(|_| unsupported(n, "whole row of a join"))?;
        let exprs = rte.nodes(field)?;
        let expr = exprs
            .get(index)
            .copied()
            .ok_or_else(|| unsupported(n, "column number"))?;
        // The expression is written in terms of its own query: hide the ones below while printing it.
        let below = self.levels.split_off(level + 1);
        let printed = self.expr(expr);
        self.levels.extend(below);
        printed
    }

    fn param(&mut self, n: &Node) -> Printed {
        if n.i32("paramkind")? != 0 {
            return Err(unsupported(n, "internal parameter"));
        }
        let id = n.i32("paramid")?;
        match n.oid("paramtype")? {
            UNKNOWN => Ok(format!("${id}")),
            oid => Ok(format!("(${id}::{})", self.type_name(oid, -1)?)),
        }
    }

    fn function(&mut self, n: &'a Node) -> Printed {
        let name = self.function_name(n.oid("funcid")?)?;
        let args = self.arguments(n, "args", n.bool("funcvariadic")?)?;
        Ok(format!("{name}({args})"))
    }

    /// Function arguments; named notation is already resolved into positions unless a name is kept.
    fn arguments(&mut self, n: &'a Node, field: &'static str, variadic: bool) -> Printed {
        let nodes = n.nodes(field)?;
        let last = nodes.len().saturating_sub(1);
        let mut out = Vec::with_capacity(nodes.len());
        for (i, node) in nodes.into_iter().enumerate() {
            let mut text = String::new();
            if variadic && i == last {
                text.push_str("VARIADIC ");
            }
            if node.is("NAMEDARGEXPR") {
                text.push_str(&format!("{} => ", quote_ident(node.str("name")?)));
                text.push_str(&self.expr(node.node("arg")?)?);
            } else {
                text.push_str(&self.expr(node)?);
            }
            out.push(text);
        }
        Ok(out.join(", "))
    }

    fn aggregate(&mut self, n: &'a Node) -> Printed {
        let name = self.function_name(n.oid("aggfnoid")?)?;
        let filter = self.filter(n)?;
        let args = n.nodes("args")?;
        let order = self.order_by(&args, n.nodes("aggorder")?)?;
        let variadic = n.bool("aggvariadic")?;
        if n.str("aggkind")? != "n" {
            if variadic {
                return Err(unsupported(n, "VARIADIC ordered-set aggregate"));
            }
            let direct = self.list(n, "aggdirectargs")?;
            let order = order.join(", ");
            return Ok(format!(
                "{name}({direct}) WITHIN GROUP (ORDER BY {order}){filter}"
            ));
        }
        if n.bool("aggstar")? {
            return Ok(format!("{name}(*){filter}"));
        }
        let mut texts = Vec::new();
        for arg in &args {
            if !arg.bool("resjunk")? {
                texts.push(self.expr(arg.node("expr")?)?);
            }
        }
        if variadic && let Some(last) = texts.last_mut() {
            *last = format!("VARIADIC {last}");
        }
        let distinct = if n.list("aggdistinct")?.is_empty() {
            ""
        } else {
            "DISTINCT "
        };
        let order = if order.is_empty() {
            String::new()
        } else {
            format!(" ORDER BY {}", order.join(", "))
        };
        Ok(format!("{name}({distinct}{}{order}){filter}", texts.join(", ")))
    }

    fn filter(&mut self, n: &'a Node) -> Printed {
        match n.opt_node("aggfilter")? {
            Some(f) => Ok(format!(" FILTER (WHERE {})", self.expr(f)?)),
            None => Ok(String::new()),
        }
    }

    fn window_function(&mut self, n: &'a Node) -> Printed {
        let name = self.function_name(n.oid("winfnoid")?)?;
        let args = if n.bool("winstar")? {
            "*".to_owned()
        } else {
            self.arguments(n, "args", false)?
        };
        let filter = self.filter(n)?;
        Ok(format!(
            "{name}({args}){filter} OVER {}",
            quote_ident(&window_name(n.i32("winref")?))
        ))
    }

    fn operation(&mut self, n: &'a Node) -> Printed {
        let op = self.operator_name(n.oid("opno")?)?;
        let args = self.exprs(n.nodes("args")?)?;
        match args.as_slice() {
            [a] => Ok(format!("({op} {a})")),
            [a, b] => Ok(format!("({a} {op} {b})")),
            _ => Err(unsupported(n, "number of arguments")),
        }
    }

    /// The two arguments of a form that the grammar ties to `=`.
    fn plain_pair(&mut self, n: &'a Node) -> Result<(String, String), DeparseError> {
        if !self.is_plain_equal(n.oid("opno")?)? {
            return Err(unsupported(n, "operator"));
        }
        let mut args = self.exprs(n.nodes("args")?)?.into_iter();
        match (args.next(), args.next(), args.next()) {
            (Some(a), Some(b), None) => Ok((a, b)),
            _ => Err(unsupported(n, "number of arguments")),
        }
    }

    fn array_operation(&mut self, n: &'a Node) -> Printed {
        let op = self.operator_name(n.oid("opno")?)?;
        let args = n.nodes("args")?;
        let [left, right] = args.as_slice() else {
            return Err(unsupported(n, "number of arguments"));
        };
        // ANY ((SELECT …)) would read as a subquery to compare with each of its rows.
        if right.is("SUBLINK") && right.i32("subLinkType")? != super::sublink::ARRAY {
            return Err(unsupported(n, "array from a subquery"));
        }
        let quantifier = if n.bool("useOr")? { "ANY" } else { "ALL" };
        Ok(format!(
            "({} {op} {quantifier} ({}))",
            self.expr(left)?,
            self.expr(right)?
        ))
    }

    fn boolean(&mut self, n: &'a Node) -> Printed {
        let mut args = Vec::new();
        self.operands(n, n.str("boolop")?, &mut args)?;
        match (n.str("boolop")?, args.as_slice()) {
            ("not", [a]) => Ok(format!("(NOT {a})")),
            ("and", [_, _, ..]) => Ok(format!("({})", args.join(" AND "))),
            ("or", [_, _, ..]) => Ok(format!("({})", args.join(" OR "))),
            _ => Err(unsupported(n, "operator")),
        }
    }

    /// Operands of AND or OR, those of operands of the same kind included: the grammar joins them anyway.
    fn operands(&mut self, n: &'a Node, op: &str, out: &mut Vec<String>) -> Result<(), DeparseError> {
        for arg in n.nodes("args")? {
            let same = op != "not" && arg.is("BOOLEXPR") && arg.str("boolop")? == op;
            if same && self.rewriter.expression(arg, self.top()).is_none() {
                self.enter(arg)?;
                self.operands(arg, op, out)?;
                self.leave();
            } else {
                out.push(self.expr(arg)?);
            }
        }
        Ok(())
    }

    fn cast(&mut self, n: &'a Node, type_field: &'static str, typmod: Option<&'static str>) -> Printed {
        let typmod = typmod.map_or(Ok(-1), |f| n.i32(f))?;
        let type_name = self.type_name(n.oid(type_field)?, typmod)?;
        Ok(format!("({}::{type_name})", self.expr(n.node("arg")?)?))
    }

    fn collate(&mut self, n: &'a Node) -> Printed {
        let collation = self.collation_name(n.oid("collOid")?)?;
        Ok(format!("({} COLLATE {collation})", self.expr(n.node("arg")?)?))
    }

    fn case(&mut self, n: &'a Node) -> Printed {
        let mut out = String::from("(CASE");
        let arg = n.opt_node("arg")?;
        if let Some(arg) = arg {
            out.push_str(&format!(" {}", self.expr(arg)?));
        }
        for when in n.nodes("args")? {
            let condition = when.node("expr")?;
            let condition = match arg {
                Some(_) => self.case_value(condition)?,
                None => self.expr(condition)?,
            };
            out.push_str(&format!(
                " WHEN {condition} THEN {}",
                self.expr(when.node("result")?)?
            ));
        }
        if let Some(default) = n.opt_node("defresult")? {
            out.push_str(&format!(" ELSE {}", self.expr(default)?));
        }
        out.push_str(" END)");
        Ok(out)
    }

    /// The value of `CASE x WHEN value`: the right side of a comparison with the case's argument.
    fn case_value(&mut self, n: &'a Node) -> Printed {
        if !n.is("OPEXPR") || !self.is_plain_equal(n.oid("opno")?)? {
            return Err(unsupported(n, "CASE comparison"));
        }
        let args = n.nodes("args")?;
        match args.as_slice() {
            [left, right] if strip_implicit(left)?.is("CASETESTEXPR") => self.expr(right),
            _ => Err(unsupported(n, "CASE comparison")),
        }
    }

    fn array(&mut self, n: &'a Node) -> Printed {
        let elements = self.list(n, "elements")?;
        Ok(format!(
            "(ARRAY[{elements}]::{})",
            self.type_name(n.oid("array_typeid")?, -1)?
        ))
    }

    fn row(&mut self, n: &'a Node) -> Printed {
        let row = format!("ROW({})", self.list(n, "args")?);
        match n.oid("row_typeid")? {
            RECORD => Ok(row),
            oid => Ok(format!("({row}::{})", self.type_name(oid, -1)?)),
        }
    }

    fn row_compare(&mut self, n: &'a Node) -> Printed {
        let op = self.common_operator(n, n.oids("opnos")?)?;
        Ok(format!(
            "(ROW({}) {op} ROW({}))",
            self.list(n, "largs")?,
            self.list(n, "rargs")?
        ))
    }

    /// The operator of a row comparison: all columns must use one of the same name and schema.
    pub(super) fn common_operator(&self, n: &Node, opnos: &[u32]) -> Printed {
        let mut texts = opnos.iter().map(|o| self.operator_name(*o));
        let first = texts.next().ok_or_else(|| unsupported(n, "no operator"))??;
        for text in texts {
            if text? != first {
                return Err(unsupported(n, "different operators"));
            }
        }
        Ok(first)
    }

    fn null_test(&mut self, n: &'a Node) -> Printed {
        let arg = n.node("arg")?;
        // Of a row, IS NULL asks for its fields; what asks for the row itself was written IS NOT DISTINCT FROM NULL.
        let of_fields = n.bool("argisrow")? || !may_be_row(arg);
        let test = match (n.i32("nulltesttype")?, of_fields) {
            (0, true) => "IS NULL",
            (_, true) => "IS NOT NULL",
            (0, false) => "IS NOT DISTINCT FROM NULL",
            (_, false) => "IS DISTINCT FROM NULL",
        };
        Ok(format!("({} {test})", self.expr(arg)?))
    }

    fn boolean_test(&mut self, n: &'a Node) -> Printed {
        let test = match n.i32("booltesttype")? {
            0 => "IS TRUE",
            1 => "IS NOT TRUE",
            2 => "IS FALSE",
            3 => "IS NOT FALSE",
            4 => "IS UNKNOWN",
            5 => "IS NOT UNKNOWN",
            _ => return Err(unsupported(n, "test")),
        };
        Ok(format!("({} {test})", self.expr(n.node("arg")?)?))
    }

    fn subscript(&mut self, n: &'a Node) -> Printed {
        if n.opt_node("refassgnexpr")?.is_some() {
            return Err(unsupported(n, "assignment"));
        }
        let upper = n.list("refupperindexpr")?;
        let lower = n.list("reflowerindexpr")?;
        let mut out = format!("({})", self.expr(n.node("refexpr")?)?);
        for (i, u) in upper.iter().enumerate() {
            let u = self.optional(u)?;
            match lower.get(i) {
                Some(l) => out.push_str(&format!("[{}:{u}]", self.optional(l)?)),
                None => out.push_str(&format!("[{u}]")),
            }
        }
        Ok(format!("({out})"))
    }

    fn optional(&mut self, value: &'a Value) -> Printed {
        value.as_node().map_or(Ok(String::new()), |n| self.expr(n))
    }

    fn field(&mut self, n: &'a Node) -> Printed {
        let arg = n.node("arg")?;
        let fieldnum = n.i32("fieldnum")?;
        let type_field = match &*arg.name {
            "VAR" => "vartype",
            "FUNCEXPR" => "funcresulttype",
            "ROW" | "ROWEXPR" => "row_typeid",
            "PARAM" => "paramtype",
            _ => return Err(unsupported(n, "field of this expression")),
        };
        let oid = arg.oid(type_field)?;
        let name = i16::try_from(fieldnum)
            .ok()
            .and_then(|f| self.names.field(oid, f));
        let name = name.ok_or(DeparseError::UnknownObject { kind: "field", oid })?;
        Ok(format!("({}).{}", self.expr(arg)?, quote_ident(&name)))
    }
}

/// The expression below casts that the parser added by itself.
pub(super) fn strip_implicit(node: &Node) -> Result<&Node, DeparseError> {
    let mut node = node;
    loop {
        let form = match &*node.name {
            "RELABELTYPE" => "relabelformat",
            "COERCEVIAIO" | "ARRAYCOERCEEXPR" => "coerceformat",
            "FUNCEXPR" => "funcformat",
            _ => return Ok(node),
        };
        if node.i32(form)? != IMPLICIT_CAST {
            return Ok(node);
        }
        node = match &*node.name {
            "FUNCEXPR" => match node.nodes("args")?.first() {
                Some(arg) => arg,
                None => return Ok(node),
            },
            _ => node.node("arg")?,
        };
    }
}

/// Windows are named by their number.
pub(super) fn window_name(winref: i32) -> String {
    format!("w{winref}")
}

fn value_function(n: &Node) -> Printed {
    let typmod = n.i32("typmod")?;
    let precise = |name: &str| Ok(format!("{name}({typmod})"));
    let plain = match n.i32("op")? {
        0 => "CURRENT_DATE",
        1 => "CURRENT_TIME",
        2 => return precise("CURRENT_TIME"),
        3 => "CURRENT_TIMESTAMP",
        4 => return precise("CURRENT_TIMESTAMP"),
        5 => "LOCALTIME",
        6 => return precise("LOCALTIME"),
        7 => "LOCALTIMESTAMP",
        8 => return precise("LOCALTIMESTAMP"),
        9 => "CURRENT_ROLE",
        10 => "CURRENT_USER",
        11 => "USER",
        12 => "SESSION_USER",
        13 => "CURRENT_CATALOG",
        14 => "CURRENT_SCHEMA",
        _ => return Err(unsupported(n, "value function")),
    };
    Ok(plain.to_owned())
}

/// Whether the type of an expression may have fields. Built-in types have none, but for records and the rows of the catalogue.
fn may_be_row(n: &Node) -> bool {
    const TYPE_FIELDS: [&str; 11] = [
        "vartype",
        "consttype",
        "paramtype",
        "funcresulttype",
        "opresulttype",
        "resulttype",
        "casetype",
        "coalescetype",
        "minmaxtype",
        "aggtype",
        "wintype",
    ];
    const FIRST_USER_OID: Oid = 16_384;
    let field = TYPE_FIELDS.iter().find(|field| n.get(field).is_some());
    let type_oid = field.and_then(|field| n.oid(field).ok());
    let whole_row = n.is("VAR") && n.i32("varattno").is_ok_and(|attno| attno == 0);
    whole_row || type_oid.is_none_or(|oid| oid >= FIRST_USER_OID || oid == RECORD)
}
