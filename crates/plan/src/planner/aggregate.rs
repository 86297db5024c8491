//! Aggregates in two halves: what each shard computes, and what is made of it.

use catalog::{Oid, Snapshot};
use sql::{Deparser, Node, Value};

use super::columns::{travelling, type_of};
use crate::{Refusal, RefusalCode};

/// How an aggregate is combined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Split {
    /// SQL of the partial values on a shard, with the type of each.
    pub partials: Vec<(String, u32)>,
    /// SQL of the whole; `{0}` and `{1}` stand for the columns of the partial values.
    pub whole: String,
}

const INT2: u32 = 21;
const INT4: u32 = 23;
const INT8: u32 = 20;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const INTERVAL: u32 = 1186;
const NUMERIC: u32 = 1700;

/// Name of a built-in aggregate of `pg_catalog`.
fn builtin_name(oid: u32, snapshot: &Snapshot) -> Option<&str> {
    let function = snapshot.function(Oid(oid))?;
    (function.builtin && function.schema == "pg_catalog").then_some(function.name.as_str())
}

/// Aggregates whose result does not depend on the order of their input (nor on how equal values are told apart).
fn is_order_free(name: &str, arg: Option<u32>) -> bool {
    match name {
        "count" | "min" | "max" | "bool_and" | "bool_or" | "every" | "bit_and" | "bit_or" | "bit_xor" => true,
        "sum" | "avg" => !matches!(arg, Some(FLOAT4 | FLOAT8)),
        _ => false,
    }
}

/// Whether every aggregate of a query level is free of order.
pub(super) fn all_order_free(query: &Node, snapshot: &Snapshot) -> bool {
    let mut free = true;
    for field in ["targetList", "havingQual", "sortClause"] {
        each_aggregate(query.value(field), &mut |agg| {
            let name = agg
                .oid("aggfnoid")
                .ok()
                .and_then(|oid| builtin_name(oid, snapshot));
            free &= name.is_some_and(|name| is_order_free(name, argument(agg).map(|(_, t)| t)));
        });
    }
    free
}

/// Calls `f` for the aggregates of this query level.
pub(super) fn each_aggregate<'a>(value: &'a Value, f: &mut impl FnMut(&'a Node)) {
    match value {
        Value::Node(node) if node.is("QUERY") => {}
        Value::Node(node) if node.is("AGGREF") => f(node),
        Value::Node(node) => node.fields.iter().for_each(|(_, v)| each_aggregate(v, f)),
        Value::List(list) => list.iter().for_each(|v| each_aggregate(v, f)),
        _ => {}
    }
}

/// The only argument and its type.
fn argument(agg: &Node) -> Option<(&Node, u32)> {
    let args = agg.nodes("args").ok()?;
    let [arg] = args.as_slice() else { return None };
    let expr = arg.value("expr").as_node()?;
    Some((expr, type_of(expr)?.0))
}

/// Splits an aggregate. `distinct_is_key`: the DISTINCT argument is the shard key, so that no value is on two shards.
pub(super) fn split(
    agg: &Node,
    distinct_is_key: bool,
    deparser: &Deparser<'_>,
    snapshot: &Snapshot,
) -> Result<Split, Refusal> {
    let oid = agg.oid("aggfnoid")?;
    let known = snapshot
        .function(Oid(oid))
        .map_or_else(|| oid.to_string(), |f| f.name.clone());
    let refuse = || Refusal::with(RefusalCode::Aggregate, &known);
    let name = builtin_name(oid, snapshot).ok_or_else(refuse)?;
    let plain = agg.value("aggorder").is_null()
        && agg.value("aggdirectargs").is_null()
        && agg.value("aggkind").as_str() == Some("n")
        && agg.i64("agglevelsup")? == 0
        && agg.value("aggvariadic").as_str() == Some("false");
    if !plain {
        return Err(refuse());
    }
    let distinct = !agg.value("aggdistinct").is_null();
    let harmless = matches!(
        name,
        "min" | "max" | "bool_and" | "bool_or" | "every" | "bit_and" | "bit_or"
    );
    if distinct && !distinct_is_key && !harmless {
        return Err(Refusal::with(RefusalCode::Aggregate, name));
    }
    let call = Call {
        name,
        distinct,
        filter: filter_sql(agg, deparser)?,
    };
    if agg.bool("aggstar")? {
        let count = format!("pg_catalog.count(*){}", call.filter);
        return Ok(counted(count));
    }
    let (arg, arg_type) = argument(agg).ok_or_else(refuse)?;
    let arg_sql = deparser.expr(arg)?;
    let result = agg.oid("aggtype")?;
    let base = snapshot.base_type(Oid(arg_type)).0;
    let halves = split_call(&call, &arg_sql, base, result, snapshot).ok_or_else(refuse)??;
    collated(halves, agg, snapshot)
}

struct Call<'a> {
    name: &'a str,
    distinct: bool,
    filter: String,
}

impl Call<'_> {
    fn sql(&self, name: &str, arg: &str) -> String {
        let distinct = if self.distinct { "DISTINCT " } else { "" };
        format!("pg_catalog.{name}({distinct}{arg}){}", self.filter)
    }
}

fn counted(partial: String) -> Split {
    // sum(bigint) is numeric; without any row there is nothing to count.
    let whole = "coalesce(pg_catalog.sum({0}), 0)::pg_catalog.int8".to_owned();
    Split {
        partials: vec![(partial, INT8)],
        whole,
    }
}

fn split_call(
    call: &Call<'_>,
    arg: &str,
    arg_type: u32,
    result: u32,
    snapshot: &Snapshot,
) -> Option<Result<Split, Refusal>> {
    let same = |name: &str| {
        let whole = format!("pg_catalog.{name}({{0}})");
        Ok(Split {
            partials: vec![(call.sql(name, arg), result)],
            whole,
        })
    };
    Some(match call.name {
        "count" => Ok(counted(call.sql("count", arg))),
        "min" | "max" | "bool_and" | "bool_or" | "every" | "bit_and" | "bit_or" | "bit_xor" => {
            travelling(result, snapshot).and_then(|_| same(call.name))
        }
        "sum" => match arg_type {
            // The sum of bigints is numeric; the result of the original is bigint.
            INT2 | INT4 => {
                let whole = "pg_catalog.sum({0})::pg_catalog.int8".to_owned();
                Ok(Split {
                    partials: vec![(call.sql("sum", arg), INT8)],
                    whole,
                })
            }
            _ => travelling(result, snapshot).and_then(|_| same("sum")),
        },
        "avg" => average(call, arg, arg_type)?,
        _ => return None,
    })
}

/// `avg`: sum and count travel; the division is the one PostgreSQL does at the end of its own `avg`.
fn average(call: &Call<'_>, arg: &str, arg_type: u32) -> Option<Result<Split, Refusal>> {
    let count = (call.sql("count", arg), INT8);
    let total = "(NULLIF(pg_catalog.sum({1}), 0))";
    let (sum, sum_type, whole) = match arg_type {
        INT2 | INT4 => (
            call.sql("sum", arg),
            INT8,
            format!("(pg_catalog.sum({{0}}) OPERATOR(pg_catalog./) {total})"),
        ),
        INT8 | NUMERIC => (
            call.sql("sum", arg),
            NUMERIC,
            format!("(pg_catalog.sum({{0}}) OPERATOR(pg_catalog./) {total})"),
        ),
        FLOAT4 | FLOAT8 => {
            let wide = format!("({arg})::pg_catalog.float8");
            let whole = format!("(pg_catalog.sum({{0}}) OPERATOR(pg_catalog./) {total}::pg_catalog.float8)");
            (call.sql("sum", &wide), FLOAT8, whole)
        }
        INTERVAL => {
            let whole = format!("(pg_catalog.sum({{0}}) OPERATOR(pg_catalog./) {total}::pg_catalog.float8)");
            (call.sql("sum", arg), INTERVAL, whole)
        }
        _ => return None,
    };
    Some(Ok(Split {
        partials: vec![(sum, sum_type), count],
        whole,
    }))
}

/// min and max of strings compare under the collation of the original.
fn collated(mut split: Split, agg: &Node, snapshot: &Snapshot) -> Result<Split, Refusal> {
    let collate = super::columns::collate_sql(agg.oid("inputcollid")?, snapshot)?;
    if !collate.is_empty() && agg.oid("aggcollid")? != 0 {
        split.whole = split.whole.replace("{0}", &format!("{{0}}{collate}"));
    }
    Ok(split)
}

fn filter_sql(agg: &Node, deparser: &Deparser<'_>) -> Result<String, Refusal> {
    match agg.opt_node("aggfilter")? {
        Some(filter) => Ok(format!(" FILTER (WHERE {})", deparser.expr(filter)?)),
        None => Ok(String::new()),
    }
}
