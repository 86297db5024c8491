//! Random SELECTs over a fixed schema, as cases that must be right or refused.
//!
//! Written cases test what somebody thought of. These combine clauses nobody thought of: filters, joins, aggregates,
//! grouping, HAVING, DISTINCT, ORDER BY and LIMIT in random mixtures; [`wide`] and [`deep`] have what is rarer. Equal seeds make equal statements.

mod deep;
mod wide;
mod writes;

use crate::casefile::{Case, CaseFile, Flag, Item, Load, Refusal, RowCheck, Side, Step};
use crate::random::Random;
use std::collections::BTreeSet;

const SCHEMA: [(Where, &str); 11] = [
    (
        Where::Both,
        "CREATE TABLE g_ref (code int PRIMARY KEY, label text)",
    ),
    (
        Where::Both,
        "CREATE TABLE g_a (k int NOT NULL, id int NOT NULL, x int, n numeric, t text, d date, b boolean, PRIMARY KEY (k, id))",
    ),
    (
        Where::Both,
        "CREATE TABLE g_b (k int NOT NULL, id int NOT NULL, x int, n numeric, t text, d date, b boolean, PRIMARY KEY (k, id))",
    ),
    (
        Where::Both,
        "CREATE TABLE g_c (k text PRIMARY KEY, id int, x int, n numeric, t text, d date, b boolean)",
    ),
    (
        Where::Both,
        "CREATE TABLE g_home (k int, id int PRIMARY KEY, x int, n numeric, t text, d date, b boolean)",
    ),
    (Where::Drover, "SELECT drover.reference_table('g_ref')"),
    (Where::Drover, "SELECT drover.shard_table('g_a', key => 'k')"),
    (
        Where::Drover,
        "SELECT drover.shard_table('g_b', key => 'k', colocate_with => 'g_a')",
    ),
    (Where::Drover, "SELECT drover.shard_table('g_c', key => 'k')"),
    (Where::Both, wide::WIDE),
    (
        Where::Drover,
        "SELECT drover.shard_table('g_w', key => 'k', colocate_with => 'g_a')",
    ),
];
const TABLES: [(&str, u32); 6] = [
    ("g_ref", 12),
    ("g_a", 150),
    ("g_b", 90),
    ("g_c", 60),
    ("g_home", 40),
    ("g_w", 110),
];
const VALUES: [&str; 5] = ["x", "n", "t", "d", "b"];

#[derive(Clone, Copy, PartialEq)]
enum Where {
    Both,
    Drover,
}

/// A case file of `count` random SELECTs.
pub fn random_cases(seed: u64, count: u32) -> CaseFile {
    let name = format!("random-{seed}");
    let mut items = setup(&name, seed);
    let mut random = Random::new(seed);
    for number in 0..count {
        let query = Query::new(&mut random);
        items.push(case(&name, number, query));
    }
    CaseFile {
        name,
        readonly: true,
        items,
    }
}

/// A case file of `count` random statements that write, and looks at what they did.
pub fn random_writes(seed: u64, count: u32) -> CaseFile {
    let name = format!("random-writes-{seed}");
    let mut items = setup(&name, seed);
    let mut random = Random::new(seed);
    for number in 0..count {
        let sql = match number % 4 {
            3 => writes::look(&mut random),
            _ => writes::write(&mut random, number),
        };
        let query = Query {
            sql,
            ordered: false,
            counted: false,
        };
        let mut case = case(&name, number, query);
        if let Item::Case(case) = &mut case {
            // Some violate a key. Which of several rows that do is met first is nowhere said.
            case.flags.extend([Flag::AnyError, Flag::AnyMessage]);
        }
        items.push(case);
    }
    CaseFile {
        name,
        readonly: false,
        items,
    }
}

/// The tables and their rows.
fn setup(name: &str, seed: u64) -> Vec<Item> {
    let step = |sql: &str| Step {
        place: name.to_owned(),
        sql: sql.to_string(),
        copy: None,
    };
    let mut items: Vec<Item> = SCHEMA
        .iter()
        .map(|(side, sql)| match side {
            Where::Both => Item::Setup(step(sql)),
            Where::Drover => Item::Only(Side::Drover, step(sql)),
        })
        .collect();
    for (at, (table, rows)) in TABLES.iter().enumerate() {
        items.push(Item::Load(Load {
            place: name.to_owned(),
            table: (*table).to_string(),
            rows: *rows,
            seed: seed.wrapping_add(at as u64),
        }));
    }
    items
}

fn case(name: &str, number: u32, query: Query) -> Item {
    Item::Case(Case {
        step: Step {
            place: format!("{name}:{number}"),
            sql: query.sql,
            copy: None,
        },
        ordered: query.ordered,
        refusal: Refusal::May(None),
        error: None,
        parameters: None,
        rows: if query.counted {
            RowCheck::Count
        } else {
            RowCheck::Values
        },
        flags: BTreeSet::<Flag>::new(),
    })
}

struct Query {
    sql: String,
    ordered: bool,
    /// LIMIT without a total order: only the number of rows is fixed.
    counted: bool,
}

impl Query {
    fn new(random: &mut Random) -> Query {
        match random.below(3) {
            0 => return wide::wide(random),
            1 => return deep::deep(random),
            _ => {}
        }
        let (from, aliases) = from(random);
        let filter = filter(random, &aliases);
        match random.below(7) {
            5 => windowed(random, &from, &aliases, &filter),
            6 => combined(random),
            0 | 1 => plain(random, &from, &aliases, &filter),
            2 => distinct(random, &from, &aliases, &filter),
            3 => {
                let list: Vec<String> = (0..1 + random.below(3))
                    .map(|_| aggregate(random, &aliases))
                    .collect();
                let having = if random.below(4) == 0 {
                    " HAVING count(*) > 2"
                } else {
                    ""
                };
                let sql = format!("SELECT {} FROM {from}{filter}{having}", list.join(", "));
                Query {
                    sql,
                    ordered: false,
                    counted: false,
                }
            }
            _ => grouped(random, &from, &aliases, &filter),
        }
    }
}

/// A FROM clause and the aliases in it.
fn from(random: &mut Random) -> (String, Vec<&'static str>) {
    let join = *random
        .pick(&["JOIN", "LEFT JOIN", "JOIN", "RIGHT JOIN", "FULL JOIN"])
        .unwrap_or(&"JOIN");
    match random.below(18) {
        0..=3 => ("g_a a".to_string(), vec!["a"]),
        4 => ("g_c a".to_string(), vec!["a"]),
        5 => ("g_home a".to_string(), vec!["a"]),
        6 | 7 => (format!("g_a a {join} g_b b ON b.k = a.k"), vec!["a", "b"]),
        8 => (
            format!("g_a a {join} g_b b ON b.k = a.k AND b.id = a.id"),
            vec!["a", "b"],
        ),
        9 => (format!("g_a a {join} g_ref r ON r.code = a.x"), vec!["a"]),
        10 => (format!("g_a a {join} g_b b ON b.x = a.x"), vec!["a", "b"]),
        11 => (
            "(SELECT k, id, x, n, t, d, b FROM g_a WHERE x IS NOT NULL) a".to_string(),
            vec!["a"],
        ),
        // Tables that do not meet on the shards.
        12 => (format!("g_a a {join} g_c b ON b.id = a.id"), vec!["a", "b"]),
        13 => (
            format!("g_a a {join} g_home b ON b.id = a.x AND b.b AND a.n > 3"),
            vec!["a", "b"],
        ),
        14 => (
            format!("g_home a {join} g_c b ON b.x = a.x AND a.t IS NOT NULL"),
            vec!["a", "b"],
        ),
        15 => (
            format!("g_a a {join} (g_home b JOIN g_ref r ON r.code = b.x AND b.n > 1) ON b.k = a.k"),
            vec!["a", "b"],
        ),
        16 => (
            "(SELECT k, id, x, n, t, d, b FROM g_a UNION ALL SELECT k, id, x, n, t, d, b FROM g_home) a"
                .to_string(),
            vec!["a"],
        ),
        _ => (
            "(SELECT DISTINCT ON (x) k, id, x, n, t, d, b FROM g_a ORDER BY x, k, id) a".to_string(),
            vec!["a"],
        ),
    }
}

fn column(random: &mut Random, aliases: &[&str]) -> String {
    let alias = random.pick(aliases).copied().unwrap_or("a");
    let name = random
        .pick(&["k", "id", "x", "n", "t", "d", "b", "x", "t"])
        .copied()
        .unwrap_or("x");
    format!("{alias}.{name}")
}

fn value(random: &mut Random, aliases: &[&str]) -> (String, &'static str) {
    let alias = random.pick(aliases).copied().unwrap_or("a");
    let name = random.pick(&VALUES).copied().unwrap_or("x");
    (format!("{alias}.{name}"), name)
}

fn expression(random: &mut Random, aliases: &[&str]) -> String {
    let alias = random.pick(aliases).copied().unwrap_or("a");
    match random.below(8) {
        0 => format!("lower({alias}.t)"),
        1 => format!("{alias}.x % 4"),
        // Zeros that look alike: which of several equal values stands for a group is nobody's promise.
        2 => format!("coalesce({alias}.n, 0)::numeric(12,2)"),
        3 => format!("extract(year FROM {alias}.d)"),
        4 => format!("{alias}.b IS NULL"),
        5 => format!("length({alias}.t) + {alias}.id % 2"),
        _ => column(random, aliases),
    }
}

fn filter(random: &mut Random, aliases: &[&str]) -> String {
    let mut terms = Vec::new();
    for _ in 0..random.below(3) {
        let (name, kind) = value(random, aliases);
        let number = random.below(40);
        terms.push(match (random.below(8), kind) {
            (0, _) => format!("{name} IS NOT NULL"),
            (1, _) => format!("{name} IS NULL"),
            (2, _) => format!("{}.id < {}", aliases[0], number * 4),
            (3, _) => format!(
                "{}.k IN ('{number}', '{}', '{}')",
                aliases[0],
                number + 1,
                number / 2
            ),
            (4, _) => format!("{}.k = '{number}'", aliases[0]),
            (_, "x" | "n") => format!("{name} > {number}"),
            (_, "t") => format!("{name} ~ '^[a-c]'"),
            (_, "d") => format!("{name} < '2010-01-01'"),
            _ => name,
        });
    }
    if random.below(5) == 0 {
        terms.push(subquery(random, aliases));
    }
    if terms.is_empty() {
        return String::new();
    }
    let glue = if random.below(4) == 0 { " OR " } else { " AND " };
    format!(" WHERE {}", terms.join(glue))
}

/// A condition that asks another table.
fn subquery(random: &mut Random, aliases: &[&str]) -> String {
    let alias = random.pick(aliases).copied().unwrap_or("a");
    let table = *random.pick(&["g_a", "g_b", "g_c", "g_home"]).unwrap_or(&"g_a");
    let number = random.below(40);
    match random.below(6) {
        0 => format!("{alias}.x IN (SELECT s.x FROM {table} s WHERE s.id > {number})"),
        1 => format!("{alias}.x NOT IN (SELECT s.x FROM {table} s WHERE s.x IS NOT NULL AND s.b)"),
        2 => format!("EXISTS (SELECT 1 FROM {table} s WHERE s.x = {alias}.x AND s.id <> {alias}.id)"),
        3 => format!("NOT EXISTS (SELECT 1 FROM {table} s WHERE s.t = {alias}.t AND s.n > {number})"),
        4 => format!("{alias}.n > (SELECT avg(s.n) FROM {table} s WHERE s.x = {alias}.x)"),
        _ => {
            format!("{alias}.n >= ALL (SELECT s.n FROM {table} s WHERE s.id < {number} AND s.n IS NOT NULL)")
        }
    }
}

/// Windows whose values do not depend on the order of equal rows.
fn windowed(random: &mut Random, from: &str, aliases: &[&str], filter: &str) -> Query {
    let alias = random.pick(aliases).copied().unwrap_or("a");
    let call = match random.below(6) {
        0 => "count(*)".to_string(),
        1 => format!("sum({alias}.x)"),
        2 => format!("max({alias}.t)"),
        3 => format!("avg({alias}.n)"),
        4 => "rank()".to_string(),
        _ => "dense_rank()".to_string(),
    };
    let mut window = Vec::new();
    if random.below(3) > 0 {
        window.push(format!("PARTITION BY {}", expression(random, aliases)));
    }
    if random.below(2) == 0 {
        window.push(format!(
            "ORDER BY {}{}",
            expression(random, aliases),
            direction(random)
        ));
    }
    let first = expression(random, aliases);
    Query {
        sql: format!(
            "SELECT {first}, {call} OVER ({}) FROM {from}{filter}",
            window.join(" ")
        ),
        ordered: false,
        counted: false,
    }
}

/// A set operation.
fn combined(random: &mut Random) -> Query {
    let column = *random
        .pick(&["k::text", "id", "x", "n", "t", "d", "b"])
        .unwrap_or(&"x");
    let mut arm = || {
        let table = *random.pick(&["g_a", "g_b", "g_c", "g_home"]).unwrap_or(&"g_a");
        let filter = filter(random, &["a"]);
        format!("SELECT a.{column} FROM {table} a{filter}")
    };
    let (left, right) = (arm(), arm());
    let operation = *random
        .pick(&[
            "UNION",
            "UNION ALL",
            "INTERSECT",
            "INTERSECT ALL",
            "EXCEPT",
            "EXCEPT ALL",
        ])
        .unwrap_or(&"UNION");
    let tail = match random.below(3) {
        0 => format!(" ORDER BY 1{} LIMIT {}", direction(random), random.below(30)),
        _ => String::new(),
    };
    Query {
        ordered: !tail.is_empty(),
        sql: format!("{left} {operation} {right}{tail}"),
        counted: false,
    }
}

fn aggregate(random: &mut Random, aliases: &[&str]) -> String {
    let alias = random.pick(aliases).copied().unwrap_or("a");
    let inner = match random.below(11) {
        0 => "count(*)".to_string(),
        1 => format!("count({alias}.t)"),
        2 => format!("count(DISTINCT {alias}.t)"),
        3 => format!("sum({alias}.x)"),
        4 => format!("sum({alias}.n)"),
        5 => format!("avg({alias}.x)"),
        6 => format!("avg({alias}.n)"),
        7 => format!("min({alias}.d)"),
        8 => format!("max({alias}.t)"),
        9 => format!("bool_or({alias}.b)"),
        _ => format!("sum({alias}.x) FILTER (WHERE {alias}.b)"),
    };
    match random.below(6) {
        0 => format!("({inner})::text"),
        1 => format!("coalesce(({inner})::text, '-')"),
        _ => inner,
    }
}

fn plain(random: &mut Random, from: &str, aliases: &[&str], filter: &str) -> Query {
    let list: Vec<String> = (0..1 + random.below(4))
        .map(|_| expression(random, aliases))
        .collect();
    let select = list.join(", ");
    match random.below(4) {
        0 => Query {
            sql: format!("SELECT {select} FROM {from}{filter}"),
            ordered: false,
            counted: false,
        },
        1 => {
            let sql = format!("SELECT {select} FROM {from}{filter} LIMIT {}", random.below(30));
            Query {
                sql,
                ordered: false,
                counted: true,
            }
        }
        _ => {
            let tail = order_all(random, list.len(), aliases);
            Query {
                sql: format!("SELECT {select} FROM {from}{filter}{tail}"),
                ordered: true,
                counted: false,
            }
        }
    }
}

/// ORDER BY every selected column (so that ties are equal rows), after an expression half of the time.
fn order_all(random: &mut Random, columns: usize, aliases: &[&str]) -> String {
    let mut keys: Vec<String> = (1..=columns)
        .map(|at| format!("{at}{}", direction(random)))
        .collect();
    let extra = random.below(2) == 0;
    if extra {
        // Ties on the expression are broken by the columns, so the order of rows, as seen, is fixed.
        keys.insert(0, format!("{}{}", expression(random, aliases), direction(random)));
    }
    let limit = match random.below(3) {
        0 => String::new(),
        1 => format!(" LIMIT {}", random.below(25)),
        _ => format!(" LIMIT {} OFFSET {}", random.below(25), random.below(10)),
    };
    format!(" ORDER BY {}{limit}", keys.join(", "))
}

fn direction(random: &mut Random) -> &'static str {
    random
        .pick(&["", " DESC", " NULLS FIRST", " DESC NULLS LAST"])
        .copied()
        .unwrap_or("")
}

fn distinct(random: &mut Random, from: &str, aliases: &[&str], filter: &str) -> Query {
    let list: Vec<String> = (0..1 + random.below(3))
        .map(|_| expression(random, aliases))
        .collect();
    let keys: Vec<String> = (1..=list.len())
        .map(|at| format!("{at}{}", direction(random)))
        .collect();
    let ordered = random.below(2) == 0;
    let tail = if ordered {
        format!(" ORDER BY {} LIMIT 20", keys.join(", "))
    } else {
        String::new()
    };
    let sql = format!("SELECT DISTINCT {} FROM {from}{filter}{tail}", list.join(", "));
    Query {
        sql,
        ordered,
        counted: false,
    }
}

fn grouped(random: &mut Random, from: &str, aliases: &[&str], filter: &str) -> Query {
    let keys: Vec<String> = (0..1 + random.below(2))
        .map(|_| expression(random, aliases))
        .collect();
    let mut list = keys.clone();
    if random.below(5) == 0 {
        list.remove(0);
    }
    list.extend((0..1 + random.below(3)).map(|_| aggregate(random, aliases)));
    let having = match random.below(4) {
        0 => " HAVING count(*) > 1".to_string(),
        1 => format!(" HAVING max({}.n) > 20", aliases[0]),
        _ => String::new(),
    };
    let order: Vec<String> = (1..=list.len())
        .map(|at| format!("{at}{}", direction(random)))
        .collect();
    let ordered = random.below(2) == 0;
    let tail = if ordered {
        format!(" ORDER BY {} LIMIT {}", order.join(", "), 1 + random.below(15))
    } else {
        String::new()
    };
    let by = match random.below(8) {
        0 => format!("ROLLUP ({})", keys.join(", ")),
        1 => format!("CUBE ({})", keys.join(", ")),
        _ => keys.join(", "),
    };
    let sql = format!(
        "SELECT {} FROM {from}{filter} GROUP BY {by}{having}{tail}",
        list.join(", ")
    );
    Query {
        sql,
        ordered,
        counted: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_make_equal_cases() {
        assert_eq!(random_cases(3, 50), random_cases(3, 50));
        assert_ne!(random_cases(3, 50), random_cases(4, 50));
        assert_eq!(random_cases(3, 50).cases().count(), 50);
        assert_eq!(random_writes(3, 50), random_writes(3, 50));
    }
}
