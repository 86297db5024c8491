//! Shapes that nest: every kind of join around every other, set operations inside set operations, subqueries in every
//! clause, frames that leave rows out, and values that have parts (arrays, jsonb, ranges, rows).
//!
//! As in [`super::wide`], what decides rows or their order is always total.

use super::wide::{condition, pick, query};
use super::{Query, direction};
use crate::random::Random;

/// Tables that have `k`, `id` and `x`; `k` is text in the third.
const TABLES: [&str; 5] = ["g_a", "g_b", "g_c", "g_home", "g_w"];
const JOINS: [&str; 4] = ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"];

/// One of these statements.
pub(super) fn deep(random: &mut Random) -> Query {
    match random.below(14) {
        0 => joins(random),
        1 => natural(random),
        2 => sets(random),
        3 | 4 => correlated(random),
        5 => frames_that_exclude(random),
        6 => windows_over_windows(random),
        7 => grouping(random),
        8 => arrays(random),
        9 => documents(random),
        10 => ranges(random),
        11 => rows_and_collations(random),
        12 => recurring(random),
        _ => chained(random),
    }
}

/// A condition under which a row of each of two tables meet.
fn meet(random: &mut Random, left: (&str, &str), right: (&str, &str)) -> String {
    let ((a, one), (b, other)) = (left, right);
    let keys = if one == "g_c" || other == "g_c" {
        format!("{a}.k::text = {b}.k::text")
    } else {
        format!("{a}.k = {b}.k")
    };
    match random.below(7) {
        0 => keys,
        1 => format!("{keys} AND {a}.id = {b}.id"),
        2 => format!("{a}.id = {b}.id"),
        3 => format!("{a}.x = {b}.id"),
        4 => format!("{a}.x = {b}.x AND {a}.id <= {b}.id"),
        5 => format!("{keys} AND {b}.x > {}", random.below(20)),
        _ => format!("{a}.id = {b}.x AND {a}.x IS NOT NULL"),
    }
}

fn joins(random: &mut Random) -> Query {
    let table: [&str; 4] = std::array::from_fn(|_| pick(random, &TABLES));
    let kind: [&str; 3] = std::array::from_fn(|_| pick(random, &JOINS));
    let first = meet(random, ("a", table[0]), ("b", table[1]));
    let second = meet(random, ("b", table[1]), ("c", table[2]));
    let third = meet(random, ("c", table[2]), ("d", table[3]));
    let [a, b, c, d] = table;
    let [one, two, three] = kind;
    let (from, last) = match random.below(3) {
        0 => (
            format!("({a} a {one} {b} b ON {first}) {two} ({c} c {three} {d} d ON {third}) ON {second}"),
            "d",
        ),
        1 => (
            format!("{a} a {one} ({b} b {two} {c} c ON {second}) ON {first}"),
            "c",
        ),
        _ => (
            format!("{a} a {one} {b} b ON {first} {two} {c} c ON {second}"),
            "c",
        ),
    };
    let number = random.below(60);
    let filter = match random.below(5) {
        0 => format!(" WHERE a.id < {number}"),
        1 => format!(" WHERE b.x IS NULL OR {last}.id > {number}"),
        2 => format!(" WHERE {last}.k IS NULL"),
        _ => String::new(),
    };
    let sql = match random.below(3) {
        0 => format!("SELECT count(*), count(b.id), sum({last}.x), max(a.id) FROM {from}{filter}"),
        1 => format!("SELECT DISTINCT a.id, {last}.id FROM {from}{filter}"),
        _ => format!("SELECT a.k, count({last}.x), min(b.id) FROM {from}{filter} GROUP BY a.k"),
    };
    query(sql, false)
}

fn natural(random: &mut Random) -> Query {
    let tables = ["g_a", "g_b", "g_home", "g_w"];
    let (a, b, c) = (
        pick(random, &tables),
        pick(random, &tables),
        pick(random, &tables),
    );
    let (one, two) = (pick(random, &JOINS), pick(random, &JOINS));
    let sql = match random.below(4) {
        0 => format!("SELECT k, id, x FROM {a} a NATURAL {one} {b} b"),
        1 => format!("SELECT k, a.x, b.x FROM {a} a {one} {b} b USING (k, id)"),
        2 => format!(
            "SELECT k, count(*), count(a.id), max(c.id) FROM {a} a {one} {b} b USING (k, id) {two} {c} c USING (k) GROUP BY k"
        ),
        _ => {
            format!("SELECT * FROM (SELECT k, id FROM {a}) a NATURAL {one} (SELECT k, id, x AS y FROM {b}) b")
        }
    };
    query(sql, false)
}

/// A query with these columns, of arms within arms.
fn arms(random: &mut Random, columns: &str, depth: u32) -> String {
    if depth == 0 || random.below(4) == 0 {
        let number = random.below(50);
        let filter = match random.below(5) {
            0 => format!(" WHERE s.id < {number}"),
            1 => format!(" WHERE s.k::text = '{number}'"),
            2 => " WHERE s.x IS NULL OR s.id > 30".to_owned(),
            3 => format!(" WHERE s.x > {number}"),
            _ => String::new(),
        };
        return format!("SELECT {columns} FROM {} s{filter}", pick(random, &TABLES));
    }
    let (left, right) = (arms(random, columns, depth - 1), arms(random, columns, depth - 1));
    let operation = pick(
        random,
        &[
            "UNION",
            "UNION ALL",
            "INTERSECT",
            "INTERSECT ALL",
            "EXCEPT",
            "EXCEPT ALL",
        ],
    );
    format!("({left}) {operation} ({right})")
}

fn sets(random: &mut Random) -> Query {
    let columns = pick(
        random,
        &["s.id", "s.x % 7", "s.k::text", "s.x, s.id % 4", "s.id, s.x"],
    );
    let depth = 2 + random.below(2) as u32;
    let all = arms(random, columns, depth);
    match random.below(4) {
        0 => query(all, false),
        1 => {
            let limit = random.below(40);
            let order = if columns.contains(',') { "1, 2" } else { "1" };
            let way = direction(random);
            let order = if way.is_empty() {
                order.to_owned()
            } else {
                order.replace("1", &format!("1{way}"))
            };
            query(format!("({all}) ORDER BY {order} LIMIT {limit}"), true)
        }
        2 => query(
            format!("SELECT count(*), count(DISTINCT q.*) FROM ({all}) q"),
            false,
        ),
        _ => {
            let inner = arms(random, "s.id", 1);
            query(
                format!(
                    "SELECT a.k, a.id FROM g_a a WHERE a.x IN ({inner}) OR a.id NOT IN (({inner}) INTERSECT SELECT 4)"
                ),
                false,
            )
        }
    }
}

/// A subquery that gives one number and looks at the row `w` outside.
fn number_of(random: &mut Random) -> String {
    let table = pick(random, &TABLES);
    let test = pick(
        random,
        &[
            "s.x = w.s",
            "s.id = w.id",
            "s.x = w.x AND s.id > w.id",
            "s.k::text = w.k::text",
            "s.x = w.x OR s.id = 3",
        ],
    );
    let value = pick(
        random,
        &[
            "count(*)",
            "max(s.x)",
            "min(s.id) + w.s",
            "sum(s.x)",
            "count(s.x) FILTER (WHERE s.id > w.s)",
        ],
    );
    format!("(SELECT {value} FROM {table} s WHERE {test})")
}

/// A subquery that gives many numbers.
fn numbers_of(random: &mut Random) -> String {
    let table = pick(random, &TABLES);
    let number = random.below(60);
    match random.below(4) {
        0 => format!("(SELECT s.x FROM {table} s)"),
        1 => format!("(SELECT s.x FROM {table} s WHERE s.id < {number})"),
        2 => format!("(SELECT s.id FROM {table} s WHERE s.x = w.x)"),
        _ => format!("(SELECT s.x FROM {table} s WHERE s.id IN (SELECT u.x FROM g_b u WHERE u.k = w.k))"),
    }
}

fn correlated(random: &mut Random) -> Query {
    let (one, many) = (number_of(random), numbers_of(random));
    let table = pick(random, &TABLES);
    let condition = condition(random);
    let number = random.below(9);
    let way = direction(random);
    match random.below(13) {
        0 => query(
            format!("SELECT w.k, w.id FROM g_w w WHERE {condition} ORDER BY {one}{way}, w.k, w.id LIMIT 20"),
            true,
        ),
        1 => query(
            format!("SELECT {one} AS n, count(*) FROM g_w w WHERE {condition} GROUP BY 1"),
            false,
        ),
        2 => query(
            format!(
                "SELECT w.s, count(*) FROM g_w w GROUP BY w.s HAVING count(*) > (SELECT count(*) FROM {table} s WHERE s.x = w.s)"
            ),
            false,
        ),
        3 => query(
            format!("SELECT sum({one}), count(*) FROM g_w w WHERE {condition}"),
            false,
        ),
        4 => query(
            format!(
                "SELECT count(*) FILTER (WHERE EXISTS (SELECT FROM {table} s WHERE s.x = w.x AND s.id <> w.id)) FROM g_w w"
            ),
            false,
        ),
        5 => query(
            format!(
                "SELECT w.k, CASE WHEN w.s IN {many} THEN 1 WHEN {condition} THEN 2 END FROM g_w w WHERE w.id < 60"
            ),
            false,
        ),
        6 => query(
            format!(
                "SELECT w.k, w.id, a.id FROM g_w w LEFT JOIN g_a a ON a.k = w.k AND EXISTS (SELECT FROM {table} s WHERE s.x = a.x AND s.id > w.id)"
            ),
            false,
        ),
        7 => query(
            format!("SELECT w.id FROM g_w w WHERE w.s = {number} OR w.x IN {many} OR {one} > 3"),
            false,
        ),
        8 => query(
            format!(
                "SELECT w.k, w.id FROM g_w w ORDER BY w.k, w.id LIMIT (SELECT count(*) FROM {table} s WHERE s.x < {number})"
            ),
            true,
        ),
        9 => query(
            format!("SELECT w.k, w.id, count(*) OVER (PARTITION BY {one}) FROM g_w w WHERE {condition}"),
            false,
        ),
        _ => compared(random, &one, &many),
    }
}

/// Values compared with all, some or none of what a subquery gives, NULLs among them.
fn compared(random: &mut Random, one: &str, many: &str) -> Query {
    let condition = condition(random);
    let sql = match random.below(3) {
        0 => format!(
            "SELECT w.s, {one}, w.s > ALL {many} FROM (VALUES (1, 2, 3, 4), (2, 3, NULL, 1), (3, NULL, 1, 2)) w (s, id, x, k)"
        ),
        1 => format!("SELECT w.k, w.id FROM g_w w WHERE w.s NOT IN {many} AND ({condition})"),
        _ => format!("SELECT w.k, w.s = ANY {many}, w.x <> ALL {many} FROM g_w w WHERE {condition}"),
    };
    query(sql, false)
}

/// Frames by value, by group and by row, with what they leave out.
fn frames_that_exclude(random: &mut Random) -> Query {
    let call = pick(
        random,
        &[
            "sum(w.x)",
            "count(*)",
            "min(w.i)",
            "max(w.ts)",
            "avg(w.s)",
            "count(w.x) FILTER (WHERE w.s > 5)",
            "bool_or(w.s > 20)",
        ],
    );
    let exclude = pick(
        random,
        &[
            "",
            " EXCLUDE CURRENT ROW",
            " EXCLUDE GROUP",
            " EXCLUDE TIES",
            " EXCLUDE NO OTHERS",
        ],
    );
    let (by, offset) = match random.below(3) {
        0 => ("w.ts", "'90 days'".to_owned()),
        1 => ("w.x", (1 + random.below(9)).to_string()),
        _ => ("w.s", (1 + random.below(9)).to_string()),
    };
    let way = direction(random);
    let (unit, order, offset) = match random.below(3) {
        0 => ("RANGE", format!("{by}{way}"), offset),
        1 => ("GROUPS", format!("{by}{way}"), (1 + random.below(3)).to_string()),
        _ => (
            "ROWS",
            format!("{by}{way}, w.k, w.id"),
            (1 + random.below(3)).to_string(),
        ),
    };
    let bounds = match random.below(4) {
        0 => format!("BETWEEN {offset} PRECEDING AND {offset} FOLLOWING"),
        1 => format!("BETWEEN UNBOUNDED PRECEDING AND {offset} FOLLOWING"),
        2 => format!("BETWEEN {offset} FOLLOWING AND UNBOUNDED FOLLOWING"),
        _ => "BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING".to_owned(),
    };
    let part = pick(
        random,
        &[
            "",
            "PARTITION BY w.k ",
            "PARTITION BY w.s % 4 ",
            "PARTITION BY w.p ",
        ],
    );
    query(
        format!("SELECT w.k, w.id, {call} OVER ({part}ORDER BY {order} {unit} {bounds}{exclude}) FROM g_w w"),
        false,
    )
}

fn windows_over_windows(random: &mut Random) -> Query {
    let condition = condition(random);
    let column = pick(random, &["w.s", "w.p", "w.c", "w.i", "w.k", "w.x"]);
    let way = direction(random);
    let number = 1 + random.below(4);
    let sql = match random.below(5) {
        0 => format!(
            "SELECT {column}, count(*), sum(count(*)) OVER (ORDER BY {column}{way}), rank() OVER (ORDER BY count(*) DESC) \
             FROM g_w w WHERE {condition} GROUP BY {column}"
        ),
        1 => format!(
            "SELECT * FROM (SELECT w.k, w.id, w.c, row_number() OVER (PARTITION BY {column} ORDER BY w.x{way}, w.k, w.id) AS n \
             FROM g_w w) q WHERE q.n <= {number}"
        ),
        2 => format!(
            "SELECT w.k, w.id, sum(w.x) OVER v, count(*) OVER (v ORDER BY w.s), percent_rank() OVER u, cume_dist() OVER u \
             FROM g_w w WHERE {condition} WINDOW v AS (PARTITION BY {column}), u AS (ORDER BY {column}{way})"
        ),
        3 => format!(
            "SELECT q.n, count(*), max(q.m) FROM (SELECT dense_rank() OVER (ORDER BY {column}{way}) AS n, \
             max(w.id) OVER (PARTITION BY w.s) AS m FROM g_w w LEFT JOIN g_a a ON a.k = w.k AND a.id = w.id) q GROUP BY q.n"
        ),
        _ => format!(
            "SELECT DISTINCT {column}, count(*) OVER (PARTITION BY {column}), first_value(w.id) OVER \
             (PARTITION BY {column} ORDER BY w.id, w.k) FROM g_w w WHERE {condition} OR w.id < 30"
        ),
    };
    query(sql, false)
}

fn grouping(random: &mut Random) -> Query {
    let columns = ["w.k", "w.s", "w.p", "w.c", "w.i", "w.u", "w.x", "a.b", "a.d"];
    let (a, b) = (pick(random, &columns), pick(random, &columns));
    let by = match random.below(6) {
        0 => format!("GROUPING SETS (ROLLUP ({a}), CUBE ({b}), ())"),
        1 => format!("CUBE ({a}, {b})"),
        2 => format!("DISTINCT ROLLUP ({a}), ROLLUP ({a}, {b})"),
        3 => format!("{a}, ROLLUP ({b})"),
        4 => format!("GROUPING SETS (({a}, {b}), ({b}), ({b}))"),
        _ => format!("ROLLUP (({a}, {b}), w.s % 3)"),
    };
    let having = match random.below(4) {
        0 => format!(" HAVING grouping({b}) = 1 OR count(*) > 2"),
        1 => " HAVING sum(w.x) IS NULL OR count(DISTINCT w.s) > 1".to_owned(),
        _ => String::new(),
    };
    let condition = condition(random);
    let more = pick(
        random,
        &[
            "sum(w.x)",
            "count(DISTINCT w.i)",
            "max(w.ts)",
            "min(w.c)",
            "avg(w.x)",
        ],
    );
    query(
        format!(
            "SELECT {a}, {b}, grouping({b}, {a}), count(*), {more} FROM g_w w LEFT JOIN g_a a ON a.k = w.k AND a.id = w.id \
             WHERE {condition} OR w.id > 40 GROUP BY {by}{having}"
        ),
        false,
    )
}

fn arrays(random: &mut Random) -> Query {
    let number = random.below(40);
    let condition = match random.below(6) {
        0 => format!("w.a && '{{{number},{}}}'", number / 2),
        1 => format!("w.a @> '{{{number}}}'"),
        2 => format!("{number} = ANY (w.a)"),
        3 => "w.a = ARRAY(SELECT s.x FROM g_home s WHERE s.id = w.x)".to_owned(),
        4 => format!("w.a[1] < {number}"),
        _ => "w.x = ANY (w.a) OR w.s <> ALL (w.a)".to_owned(),
    };
    let sql = match random.below(7) {
        0 => format!("SELECT w.k, w.id, w.a, cardinality(w.a), w.a[2:] FROM g_w w WHERE {condition}"),
        1 => format!("SELECT n, count(*) FROM g_w w, unnest(w.a) n WHERE {condition} GROUP BY n"),
        2 => format!("SELECT w.a, count(*), max(w.a) FROM g_w w WHERE {condition} GROUP BY w.a"),
        3 => format!(
            "SELECT w.k, array_agg(w.a[1] ORDER BY w.a, w.id), count(DISTINCT w.a) FROM g_w w WHERE {condition} GROUP BY w.k"
        ),
        4 => format!(
            "SELECT w.k, w.id, n, o FROM g_w w LEFT JOIN LATERAL unnest(w.a) WITH ORDINALITY q (n, o) ON q.n > 3 WHERE {condition}"
        ),
        5 => format!("SELECT w.id, unnest(w.a) AS n, generate_series(1, 2) FROM g_w w WHERE {condition}"),
        _ => format!(
            "SELECT w.k, w.id, a.id FROM g_w w JOIN g_a a ON a.x = ANY (w.a) AND a.k = w.k WHERE {condition}"
        ),
    };
    query(sql, false)
}

fn documents(random: &mut Random) -> Query {
    let number = random.below(40);
    let condition = condition(random);
    let sql = match random.below(8) {
        0 => format!("SELECT w.j, count(*) FROM g_w w WHERE {condition} GROUP BY w.j"),
        1 => format!(
            "SELECT w.k, w.id, e.key, e.value FROM g_w w CROSS JOIN LATERAL jsonb_each(w.j) e WHERE {condition}"
        ),
        2 => format!(
            "SELECT w.k, w.id, w.j || '{{\"m\": [1, null]}}', w.j - 'n' FROM g_w w WHERE w.j -> 'n' > '{number}'"
        ),
        3 => format!(
            "SELECT w.k, jsonb_object_agg(w.id::text, w.j ORDER BY w.id) FROM g_w w WHERE {condition} GROUP BY w.k"
        ),
        4 => format!("SELECT w.id FROM g_w w WHERE w.j @? '$.n ? (@ > {number})' AND w.j ? 'n'"),
        5 => "SELECT DISTINCT w.j FROM g_w w UNION SELECT to_jsonb(a.x) FROM g_a a".to_owned(),
        6 => format!(
            "SELECT w.k, jsonb_build_object('id', w.id, 'text', w.i, 'at', w.ts, 'list', w.a) FROM g_w w WHERE {condition}"
        ),
        _ => format!(
            "SELECT a.k, a.id, w.id FROM g_a a JOIN g_w w ON (w.j ->> 'n')::int = a.x WHERE {condition}"
        ),
    };
    query(sql, false)
}

fn ranges(random: &mut Random) -> Query {
    let number = random.below(40);
    let condition = match random.below(5) {
        0 => format!("w.r && int4range({number}, {})", number + 5),
        1 => format!("w.r @> {number}"),
        2 => format!("w.r << int4range({number}, NULL)"),
        3 => "w.r @> w.s::int".to_owned(),
        _ => "NOT isempty(w.r)".to_owned(),
    };
    let sql = match random.below(6) {
        0 => format!("SELECT w.k, w.id, w.r, lower(w.r), upper_inf(w.r) FROM g_w w WHERE {condition}"),
        1 => format!("SELECT w.r, count(*) FROM g_w w WHERE {condition} GROUP BY w.r"),
        2 => format!("SELECT w.s % 3, range_agg(w.r) FROM g_w w WHERE {condition} GROUP BY 1"),
        3 => format!(
            "SELECT w.k, w.id, a.id FROM g_w w JOIN g_a a ON w.r @> a.x AND a.k = w.k WHERE {condition}"
        ),
        4 => format!(
            "SELECT w.id, u.id FROM g_w w JOIN g_w u ON u.r && w.r AND u.id < w.id WHERE {condition} AND w.id < 25"
        ),
        _ => format!("SELECT range_intersect_agg(w.r), max(upper(w.r)) FROM g_w w WHERE {condition}"),
    };
    query(sql, false)
}

fn rows_and_collations(random: &mut Random) -> Query {
    let (number, word) = (random.below(40), random.below(17));
    let collate = pick(
        random,
        &[
            " COLLATE \"C\"",
            " COLLATE \"und-x-icu\"",
            " COLLATE \"C.utf8\"",
            " COLLATE \"de-x-icu\"",
        ],
    );
    let column = pick(random, &["w.c", "w.i", "w.p::text", "a.t"]);
    let from = "g_w w LEFT JOIN g_a a ON a.k = w.k AND a.id = w.id";
    let way = direction(random);
    match random.below(8) {
        0 => query(format!("SELECT w.id FROM g_w w WHERE (w.s, w.x, w.id) < ({number}, {number}, 30)"), false),
        1 => query(
            "SELECT w.id, (w.x, w.s) IS NULL, (w.x, w.s) IS NOT NULL, ROW(w.x, w.s) = ROW(w.s, w.x) FROM g_w w".to_owned(),
            false,
        ),
        2 => query(
            format!("SELECT w.id FROM g_w w WHERE (w.x, w.s) NOT IN (SELECT a.x, a.id FROM g_a a WHERE a.id < {number})"),
            false,
        ),
        3 => query(
            format!("SELECT max({column}{collate}), min({column}{collate}), count(DISTINCT {column}{collate}) FROM {from}"),
            false,
        ),
        4 => query(
            format!("SELECT {column}, w.k, w.id FROM {from} WHERE {column} < 'beta{word}'{collate} ORDER BY {column}{collate}{way}, w.k, w.id"),
            true,
        ),
        5 => query(
            format!("SELECT {column}{collate}, count(*) FROM {from} GROUP BY 1 ORDER BY 1{way} LIMIT 12"),
            true,
        ),
        6 => query(
            format!("SELECT DISTINCT ON ({column}{collate}) {column}, w.id FROM {from} ORDER BY {column}{collate}{way}, w.id"),
            true,
        ),
        _ => query(
            format!("SELECT upper({column}{collate}), initcap({column}{collate}), {column} ILIKE 'ä%' FROM {from} WHERE w.id < 70"),
            false,
        ),
    }
}

/// Rows that every shard would see: values, functions, reference tables; on either side of every join.
fn recurring(random: &mut Random) -> Query {
    let number = random.below(20);
    let side = match random.below(4) {
        0 => "(VALUES (1, 'a'), (2, 'b'), (7, NULL), (NULL, 'c')) v (n, s)".to_owned(),
        1 => format!("generate_series(0, {number}) WITH ORDINALITY v (n, s)"),
        2 => "(SELECT r.code AS n, r.label AS s FROM g_ref r) v".to_owned(),
        _ => "unnest('{1,2,3,NULL}'::int[], '{x,y}'::text[]) v (n, s)".to_owned(),
    };
    let table = pick(random, &["g_a", "g_b", "g_home", "g_w"]);
    let kind = pick(random, &JOINS);
    let on = pick(random, &["w.k = v.n", "w.x = v.n", "w.id = v.n"]);
    let sql = match random.below(6) {
        0 => format!("SELECT v.n, v.s, w.k, w.id FROM {side} {kind} {table} w ON {on}"),
        1 => format!("SELECT v.n, count(*), count(w.id) FROM {table} w {kind} {side} ON {on} GROUP BY v.n"),
        2 => format!("SELECT v.n FROM {side} WHERE NOT EXISTS (SELECT FROM {table} w WHERE {on})"),
        3 => format!(
            "SELECT v.n, (SELECT count(*) FROM {table} w WHERE {on}) FROM {side} UNION ALL SELECT w.id, w.x FROM {table} w"
        ),
        4 => format!(
            "SELECT count(*), count(DISTINCT v.n), sum(w.x) FROM {side} {kind} {table} w ON {on} AND w.id > {number}"
        ),
        _ => format!("SELECT w.id FROM {table} w WHERE w.x IN (SELECT v.n FROM {side}) OR w.id = {number}"),
    };
    query(sql, false)
}

/// Common table expressions that read one another.
fn chained(random: &mut Random) -> Query {
    let (one, other) = (pick(random, &TABLES), pick(random, &TABLES));
    let condition = condition(random);
    let number = random.below(30);
    let sql = match random.below(5) {
        0 => format!(
            "WITH a AS (SELECT id, x FROM {one} WHERE id > {number}), b AS (SELECT x, count(*) AS n FROM a GROUP BY x), \
             c AS (SELECT w.x, w.k FROM g_w w WHERE {condition}) SELECT b.x, b.n, count(c.k) FROM b LEFT JOIN c USING (x) GROUP BY 1, 2"
        ),
        1 => format!(
            "WITH RECURSIVE t (n, way) AS (SELECT id::bigint, ARRAY[id] FROM {one} WHERE id < 4 UNION ALL \
             SELECT s.x::bigint, t.way || s.x::int FROM t JOIN {other} s ON s.id = t.n WHERE cardinality(t.way) < 4 AND s.x IS NOT NULL) \
             SELECT n, count(*), max(cardinality(way)) FROM t GROUP BY n"
        ),
        2 => format!(
            "WITH t AS MATERIALIZED (SELECT x, max(id) AS m FROM {one} GROUP BY x) SELECT * FROM t WHERE m > {number} \
             UNION ALL SELECT x, id FROM {other} WHERE x IN (SELECT x FROM t) EXCEPT SELECT x, m FROM t WHERE x < 3"
        ),
        3 => format!(
            "SELECT q.x, (WITH t AS (SELECT s.id FROM {other} s WHERE s.x = q.x) SELECT count(*) FROM t) FROM \
             (SELECT DISTINCT x FROM {one} WHERE id < {number}) q"
        ),
        _ => format!(
            "WITH RECURSIVE t AS (SELECT 1 AS n UNION SELECT t.n + 1 FROM t WHERE t.n < 8), u AS (SELECT t.n, count(s.id) AS c FROM t \
             LEFT JOIN {one} s ON s.x = t.n GROUP BY t.n) SELECT u.n, u.c, sum(u.c) OVER (ORDER BY u.n) FROM u"
        ),
    };
    query(sql, false)
}
