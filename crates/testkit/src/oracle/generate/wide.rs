//! Shapes that reach further: LATERAL, common table expressions, subqueries in the select list, frames of windows, ordered
//! aggregates, locks, row comparisons, and a table of many types whose texts have the rules of C and of ICU.
//!
//! What decides rows or their order is always total, so that there is one right answer.

use super::{Query, direction};
use crate::random::Random;

/// The table of many types.
pub(super) const WIDE: &str = "CREATE TABLE g_w (k int NOT NULL, id int NOT NULL, x bigint, s smallint, f float8, u uuid, \
     ts timestamptz, j jsonb, y bytea, p char(12), c text COLLATE \"C\", i text COLLATE \"und-x-icu\", \
     a int[], r int4range, PRIMARY KEY (k, id))";

const PLAIN: [&str; 4] = ["g_a", "g_b", "g_c", "g_home"];
/// Columns that every comparison, sort and group may have.
const COLUMNS: [&str; 11] = ["k", "id", "x", "s", "f", "u", "ts", "y", "p", "c", "i"];

/// One of these statements.
pub(super) fn wide(random: &mut Random) -> Query {
    match random.below(10) {
        0 => lateral(random),
        1 => common(random),
        2 => scalar(random),
        3 => frames(random),
        4 => ordered_aggregates(random),
        5 => locked(random),
        6 => rows_compared(random),
        7 => grouped(random),
        8 => distinct_on(random),
        _ => sorted(random),
    }
}

pub(super) fn query(sql: String, ordered: bool) -> Query {
    Query {
        sql,
        ordered,
        counted: false,
    }
}

pub(super) fn pick<'a>(random: &mut Random, items: &[&'a str]) -> &'a str {
    random.pick(items).copied().unwrap_or_default()
}

/// A condition on the table of many types, named `w`.
pub(super) fn condition(random: &mut Random) -> String {
    let number = random.below(60);
    match random.below(12) {
        0 => format!("w.ts < '2010-0{}-01 00:00+00'", 1 + number % 9),
        1 => format!("w.ts AT TIME ZONE 'Asia/Tokyo' > '20{:02}-01-01'", number % 25),
        2 => format!("w.j @> '{{\"n\": {number}}}'"),
        3 => format!("(w.j ->> 'n')::int > {number}"),
        4 => format!("w.i < 'beta{}'", number % 17),
        5 => format!("w.c < 'beta{}'", number % 17),
        6 => format!("lower(w.i) = 'alpha{}'", number % 17),
        7 => format!("w.p = 'alpha{}'", number % 17),
        8 => format!("w.k = {number}"),
        9 => format!("w.f BETWEEN {number} AND {}", number + 20),
        10 => format!("w.y > '\\x{number:08x}'"),
        _ => format!("w.x IS DISTINCT FROM {number}"),
    }
}

fn lateral(random: &mut Random) -> Query {
    let outer = pick(random, &["g_a", "g_b", "g_home", "g_w"]);
    let inner = pick(random, &["g_a", "g_w", "g_b"]);
    let join = pick(random, &["CROSS JOIN LATERAL", "LEFT JOIN LATERAL"]);
    let on = if join.starts_with("LEFT") { " ON true" } else { "" };
    let meet = pick(
        random,
        &[
            "l.k = o.k",
            "l.x = o.x",
            "l.k = o.id",
            "l.k = o.k AND l.id <= o.id",
        ],
    );
    let number = 1 + random.below(3);
    let body = match random.below(3) {
        0 => format!("SELECT count(*) AS a, max(l.x) AS b FROM {inner} l WHERE {meet}"),
        1 => format!(
            "SELECT l.x AS a, l.id AS b FROM {inner} l WHERE {meet} ORDER BY l.k, l.id LIMIT {number}"
        ),
        _ => format!(
            "SELECT l.k AS a, l.id + o.id AS b FROM {inner} l WHERE {meet} AND l.id < {}",
            number * 20
        ),
    };
    let filter = random.below(40);
    query(
        format!("SELECT o.k, o.id, q.a, q.b FROM {outer} o {join} ({body}) q{on} WHERE o.id < {filter}"),
        false,
    )
}

fn common(random: &mut Random) -> Query {
    let table = pick(random, &PLAIN);
    let kept = pick(random, &["", "MATERIALIZED ", "NOT MATERIALIZED "]);
    let condition = condition(random);
    let sql = match random.below(3) {
        0 => format!(
            "WITH t AS {kept}(SELECT a.x, count(*) AS n FROM {table} a GROUP BY a.x) \
             SELECT w.k, w.id, t.n FROM g_w w JOIN t ON t.x = w.x WHERE {condition}"
        ),
        1 => format!(
            "WITH t AS {kept}(SELECT w.* FROM g_w w WHERE {condition}) \
             SELECT count(*), max(t.c), min(u.id) FROM t LEFT JOIN t u ON u.k = t.k AND u.id > t.id"
        ),
        _ => format!(
            "WITH RECURSIVE t (n, d) AS (SELECT w.id, 0 FROM g_w w WHERE {condition} UNION \
             SELECT a.x, t.d + 1 FROM t JOIN {table} a ON a.id = t.n WHERE t.d < 3) SELECT * FROM t"
        ),
    };
    query(sql, false)
}

/// Subqueries in the select list and in conditions.
fn scalar(random: &mut Random) -> Query {
    let table = pick(random, &PLAIN);
    let inner = match random.below(5) {
        0 => format!("(SELECT count(*) FROM {table} s WHERE s.x = w.x)"),
        1 => format!("(SELECT max(s.t) FROM {table} s WHERE s.id < w.id)"),
        2 => "(SELECT s.t FROM g_a s WHERE s.k = w.k ORDER BY s.id LIMIT 1)".to_owned(),
        3 => format!("EXISTS (SELECT FROM {table} s WHERE s.id = w.x AND s.b)"),
        _ => format!("ARRAY(SELECT s.id FROM {table} s WHERE s.x = w.s ORDER BY 1)"),
    };
    let condition = condition(random);
    query(
        format!("SELECT w.k, w.id, {inner} FROM g_w w WHERE {condition}"),
        false,
    )
}

/// Windows over rows in a total order.
fn frames(random: &mut Random) -> Query {
    let call = match random.below(8) {
        0 => "sum(w.x)".to_owned(),
        1 => "lag(w.c, 2)".to_owned(),
        2 => "lead(w.i, 1, 'none')".to_owned(),
        3 => "first_value(w.u)".to_owned(),
        4 => "row_number()".to_owned(),
        5 => "ntile(4)".to_owned(),
        6 => "count(*) FILTER (WHERE w.s > 10)".to_owned(),
        _ => "max(w.ts)".to_owned(),
    };
    let part = match random.below(4) {
        0 => "PARTITION BY w.k ".to_owned(),
        1 => "PARTITION BY w.s % 3 ".to_owned(),
        2 => "PARTITION BY w.p ".to_owned(),
        _ => String::new(),
    };
    let first = pick(random, &COLUMNS);
    let order = format!("ORDER BY w.{first}{}, w.k, w.id", direction(random));
    let frame = match (random.below(3), call.as_str()) {
        (_, "row_number()" | "ntile(4)" | "lag(w.c, 2)" | "lead(w.i, 1, 'none')") | (0, _) => "",
        (1, _) => " ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING",
        _ => " ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW",
    };
    let condition = condition(random);
    query(
        format!("SELECT w.k, w.id, {call} OVER ({part}{order}{frame}) FROM g_w w WHERE {condition}"),
        false,
    )
}

/// Aggregates whose value depends on an order, which they say.
fn ordered_aggregates(random: &mut Random) -> Query {
    let column = pick(random, &COLUMNS);
    let order = format!("ORDER BY w.{column}{}, w.k, w.id", direction(random));
    let call = match random.below(6) {
        0 => format!("string_agg(w.c, ',' {order})"),
        1 => format!("array_agg(w.u {order})"),
        2 => format!("jsonb_agg(w.j {order})"),
        3 => format!("percentile_disc(0.3) WITHIN GROUP (ORDER BY w.{column})"),
        4 => format!("count(DISTINCT w.{column})"),
        _ => "rank(3) WITHIN GROUP (ORDER BY w.x)".to_owned(),
    };
    let group = pick(
        random,
        &["", " GROUP BY w.k", " GROUP BY w.s % 5", " GROUP BY w.k, w.s"],
    );
    let condition = condition(random);
    query(
        format!("SELECT {call} FROM g_w w WHERE {condition}{group}"),
        false,
    )
}

/// Locks are taken on one shard, or refused.
fn locked(random: &mut Random) -> Query {
    let mode = pick(
        random,
        &[
            "UPDATE",
            "SHARE",
            "NO KEY UPDATE",
            "KEY SHARE",
            "UPDATE OF w",
            "UPDATE SKIP LOCKED",
        ],
    );
    let key = random.below(60);
    let sql = match random.below(3) {
        0 => format!("SELECT w.id, w.c FROM g_w w WHERE w.k = {key} FOR {mode}"),
        1 => format!("SELECT w.id, a.t FROM g_w w JOIN g_a a ON a.k = w.k WHERE w.k = {key} FOR {mode}"),
        _ => format!("SELECT w.id FROM g_w w WHERE w.s < {key} FOR {mode}"),
    };
    query(sql, false)
}

fn rows_compared(random: &mut Random) -> Query {
    let (k, id) = (random.below(60), random.below(90));
    let test = match random.below(5) {
        0 => "(w.k, w.id) IN (SELECT a.k, a.id FROM g_a a WHERE a.b)".to_owned(),
        1 => format!("(w.k, w.id) = ({k}, {id})"),
        2 => format!("(w.k, w.id) > ({k}, {id})"),
        3 => format!("(w.k, w.id) IN (({k}, {id}), ({}, {}))", k + 1, id / 2),
        _ => format!(
            "w.k = ANY ('{{{k},{},{}}}') AND ROW(w.s, w.x) IS DISTINCT FROM ROW(1, 2)",
            k + 1,
            k / 2
        ),
    };
    query(format!("SELECT w.* FROM g_w w WHERE {test}"), false)
}

fn grouped(random: &mut Random) -> Query {
    let (a, b) = (pick(random, &COLUMNS), pick(random, &COLUMNS));
    let by = match random.below(4) {
        0 => format!("GROUPING SETS ((w.{a}), (w.{b}), ())"),
        1 => format!("ROLLUP (w.{a}, w.{b})"),
        _ => format!("w.{a}, w.{b}"),
    };
    let value = pick(random, &COLUMNS);
    let call = match (random.below(3), value) {
        // There is no greatest uuid or bytea in every version.
        (1, value) if !matches!(value, "u" | "y") => format!("max(w.{value})"),
        (2, value) if !matches!(value, "u" | "y") => format!("min(w.{value})"),
        _ => format!("count(w.{value})"),
    };
    let condition = condition(random);
    query(
        format!(
            "SELECT w.{a}, w.{b}, {call}, sum(w.x) FROM g_w w WHERE {condition} OR w.id > 20 GROUP BY {by}"
        ),
        false,
    )
}

fn distinct_on(random: &mut Random) -> Query {
    let column = pick(random, &COLUMNS);
    let (first, then) = (direction(random), direction(random));
    let condition = condition(random);
    query(
        format!(
            "SELECT DISTINCT ON (w.{column}) w.{column}, w.k, w.id FROM g_w w WHERE NOT ({condition}) \
             ORDER BY w.{column}{first}, w.k{then}, w.id"
        ),
        true,
    )
}

/// Orders of every type and collation.
fn sorted(random: &mut Random) -> Query {
    let (a, b) = (pick(random, &COLUMNS), pick(random, &COLUMNS));
    let collate = match a {
        "c" | "i" => pick(
            random,
            &[
                "",
                " COLLATE \"C\"",
                " COLLATE \"und-x-icu\"",
                " COLLATE \"C.utf8\"",
            ],
        ),
        _ => "",
    };
    let (first, then) = (direction(random), direction(random));
    let (limit, offset) = (random.below(30), random.below(10));
    query(
        format!(
            "SELECT w.*, a.t FROM g_w w LEFT JOIN g_a a ON a.k = w.k AND a.id = w.id \
             ORDER BY w.{a}{collate}{first}, w.{b}{then}, w.k, w.id LIMIT {limit} OFFSET {offset}"
        ),
        true,
    )
}
