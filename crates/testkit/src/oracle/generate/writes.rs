//! Random statements that write, with RETURNING, each followed now and then by a look at a whole table.
//!
//! What a statement does never depends on the order in which it meets rows: a row is met by one other at most, or by
//! an aggregate. Keys that are made are far from those that are there, so that a unique key is violated on purpose or not at all.

use super::wide::pick;
use crate::random::Random;

/// Tables of the shape `k, id, x, n, t, d, b` whose keys are numbers.
const TABLES: [&str; 3] = ["g_a", "g_b", "g_home"];

/// One statement.
pub(super) fn write(random: &mut Random, number: u32) -> String {
    match random.below(13) {
        0 => insert_values(random, number),
        1 | 2 => insert_select(random, number),
        3 => upsert(random, number),
        4 | 5 => update(random),
        6 => update_from(random),
        7 => update_key(random, number),
        8 | 9 => delete(random),
        10 => merge(random, number),
        11 => with_writes(random, number),
        _ => other_tables(random, number),
    }
}

/// A read of everything in one table, which shows what the writes before it did.
pub(super) fn look(random: &mut Random) -> String {
    format!(
        "SELECT * FROM {}",
        pick(random, &["g_a", "g_b", "g_c", "g_home", "g_w", "g_ref"])
    )
}

/// A condition on the rows of `t`.
fn filter(random: &mut Random) -> String {
    let number = random.below(60);
    let table = pick(random, &["g_a", "g_b", "g_c", "g_home", "g_w"]);
    match random.below(10) {
        0 => format!("t.k = {number}"),
        1 => format!("t.k IN ({number}, {}, {})", number + 1, number / 2),
        2 => format!("t.x > {}", number + 10),
        3 => "t.x IS NULL".to_owned(),
        4 => format!("t.id BETWEEN {number} AND {}", number + 5),
        5 => format!("t.x IN (SELECT s.x FROM {table} s WHERE s.id < {})", number / 3),
        6 => format!("EXISTS (SELECT FROM {table} s WHERE s.id = t.id AND s.x < t.x)"),
        7 => format!("t.t ~ '^[a-g]' AND t.id % 5 = {}", number % 5),
        8 => format!("t.n > (SELECT avg(s.n) + {number} FROM g_a s)"),
        _ => format!("t.b AND t.k % 7 = {}", number % 7),
    }
}

fn returning(random: &mut Random, alias: &str) -> String {
    match random.below(5) {
        0 => " RETURNING *".to_owned(),
        1 => format!(" RETURNING {alias}.k, {alias}.id, {alias}.x"),
        2 => format!(" RETURNING {alias}.id + 1 AS next, lower({alias}.t), {alias}.b IS NULL"),
        3 => format!(" RETURNING ({alias}.k, {alias}.id)::text, CASE WHEN {alias}.x > 3 THEN {alias}.d END"),
        _ => String::new(),
    }
}

fn insert_values(random: &mut Random, number: u32) -> String {
    let table = pick(random, &TABLES);
    let rows: Vec<String> = (0..1 + random.below(5))
        .map(|row| {
            let id = 1000 + number * 10 + row as u32;
            let (k, x) = (random.below(60), random.below(40));
            let more = pick(
                random,
                &[
                    "NULL, NULL, NULL, NULL",
                    "1.50, 'ärger', '2020-02-29', true",
                    "2 * 3.25, 'a' || 'b', DATE '2020-01-01' + 3, 1 < 2",
                    "DEFAULT, 'x', now()::date - now()::date + DATE '2001-01-01', false",
                ],
            );
            format!("({k}, {id}, {x}, {more})")
        })
        .collect();
    let tail = pick(
        random,
        &[
            "",
            "",
            " ON CONFLICT DO NOTHING",
            " ON CONFLICT (id) DO NOTHING",
            " ON CONFLICT (k, id) DO NOTHING",
        ],
    );
    let tail = match (table, tail) {
        ("g_home", " ON CONFLICT (k, id) DO NOTHING") => " ON CONFLICT (id) DO NOTHING",
        ("g_a" | "g_b", " ON CONFLICT (id) DO NOTHING") => " ON CONFLICT (k, id) DO NOTHING",
        (_, tail) => tail,
    };
    format!(
        "INSERT INTO {table} AS t (k, id, x, n, t, d, b) VALUES {}{tail}{}",
        rows.join(", "),
        returning(random, "t")
    )
}

fn insert_select(random: &mut Random, number: u32) -> String {
    let table = pick(random, &TABLES);
    let from = pick(random, &["g_a", "g_b", "g_home", "g_w"]);
    let base = 10_000 + number * 1_000;
    let limit = random.below(40);
    let back = returning(random, "t");
    match random.below(5) {
        0 => format!(
            "INSERT INTO {table} AS t (k, id, x) SELECT s.k, s.id + {base}, s.x FROM {from} s WHERE s.id < {limit}{back}"
        ),
        1 => format!(
            "INSERT INTO {table} AS t (k, id, x, t) SELECT coalesce(s.x, 0), s.id + {base}, s.k, 'from ' || s.id FROM {from} s WHERE s.id < {limit}{back}"
        ),
        2 => format!(
            "INSERT INTO {table} AS t (k, id, x, n) SELECT s.x % 50, {base} + row_number() OVER (ORDER BY s.x), count(*), sum(s.id) FROM {from} s \
             WHERE s.x IS NOT NULL GROUP BY s.x{back}"
        ),
        3 => format!(
            "INSERT INTO {table} AS t (k, id, x, b) SELECT s.k, s.id + {base}, a.x, a.b FROM {from} s JOIN g_a a ON a.k = s.k AND a.id = s.id{back}"
        ),
        _ => format!(
            "INSERT INTO {table} AS t (k, id, t) SELECT n % 9, {base} + n, 'n' || n FROM generate_series(1, {limit}) n{back}"
        ),
    }
}

fn upsert(random: &mut Random, number: u32) -> String {
    let table = pick(random, &["g_a", "g_b"]);
    let (k, id) = (random.below(60), random.below(90));
    let set = pick(
        random,
        &[
            "x = excluded.x",
            "x = t.x + excluded.x, t = 'again'",
            "(x, n) = (excluded.id, t.x)",
            "x = (SELECT max(code) FROM g_ref)",
        ],
    );
    let condition = pick(
        random,
        &["", " WHERE t.x > 3", " WHERE excluded.x IS DISTINCT FROM t.x"],
    );
    let source = match random.below(3) {
        0 => format!(
            "VALUES ({k}, {id}, 1), ({k}, {}, 2), ({}, {}, NULL)",
            5000 + number,
            k / 2,
            id + 1
        ),
        1 => format!("SELECT s.k, s.id, s.x FROM g_b s WHERE s.id < {id}"),
        _ => format!(
            "SELECT s.k, s.id + {}, s.x FROM g_a s WHERE s.id < {id}",
            number % 3
        ),
    };
    format!(
        "INSERT INTO {table} AS t (k, id, x) {source} ON CONFLICT (k, id) DO UPDATE SET {set}{condition}{}",
        returning(random, "t")
    )
}

fn update(random: &mut Random) -> String {
    let table = pick(random, &TABLES);
    let number = random.below(9);
    let set = match random.below(7) {
        0 => format!("x = {number}"),
        1 => format!("x = t.x + {number}, n = t.n * 2 - t.x"),
        2 => "t = upper(t.t), b = NOT t.b".to_owned(),
        3 => "x = (SELECT count(*) FROM g_b s WHERE s.x = t.id)".to_owned(),
        4 => format!(
            "(x, t) = (SELECT max(s.id), min(s.label) FROM (SELECT code AS id, label FROM g_ref WHERE code > {number}) s)"
        ),
        5 => "d = t.d + 1, n = DEFAULT".to_owned(),
        _ => "x = CASE WHEN t.x > 5 THEN NULL ELSE t.id END".to_owned(),
    };
    let filter = filter(random);
    format!(
        "UPDATE {table} t SET {set} WHERE {filter}{}",
        returning(random, "t")
    )
}

/// Each row is met by one other at most.
fn update_from(random: &mut Random) -> String {
    let table = pick(random, &TABLES);
    let other = pick(random, &["g_a", "g_b"]);
    let filter = filter(random);
    let back = returning(random, "t");
    match random.below(4) {
        0 => format!(
            "UPDATE {table} t SET x = s.x, t = s.t FROM {other} s WHERE s.k = t.k AND s.id = t.id AND {filter}{back}"
        ),
        1 => format!("UPDATE {table} t SET x = s.id FROM g_home s WHERE s.id = t.x AND {filter}{back}"),
        2 => format!(
            "UPDATE {table} t SET n = s.c FROM (SELECT x, count(*) AS c FROM {other} GROUP BY x) s WHERE s.x = t.x AND {filter}{back}"
        ),
        _ => format!(
            "UPDATE {table} t SET t = r.label FROM g_ref r LEFT JOIN (SELECT max(id) AS m FROM {other}) q ON true WHERE r.code = t.x AND q.m > 3 AND {filter}{back}"
        ),
    }
}

/// Rows that go to another shard.
fn update_key(random: &mut Random, number: u32) -> String {
    let table = pick(random, &["g_a", "g_b"]);
    let filter = filter(random);
    let by = 100 + number;
    let set = match random.below(3) {
        0 => format!("k = t.k + {by}"),
        1 => format!("k = {by}, id = t.id + {}", 100_000 + number * 500),
        _ => format!("k = t.k + {by}, x = t.x + 1"),
    };
    format!(
        "UPDATE {table} t SET {set} WHERE {filter}{}",
        returning(random, "t")
    )
}

fn delete(random: &mut Random) -> String {
    let table = pick(random, &TABLES);
    let filter = filter(random);
    let back = returning(random, "t");
    let number = random.below(30);
    match random.below(4) {
        0 => format!("DELETE FROM {table} t USING g_b s WHERE s.k = t.k AND s.id = t.id AND {filter}{back}"),
        1 => format!(
            "DELETE FROM {table} t USING g_home s WHERE s.id = t.x AND s.x < {number} AND {filter}{back}"
        ),
        _ => format!("DELETE FROM {table} t WHERE t.id % 3 = 0 AND {filter}{back}"),
    }
}

fn merge(random: &mut Random, number: u32) -> String {
    let table = pick(random, &TABLES);
    let source = pick(
        random,
        &[
            "g_b s",
            "(SELECT k, id, x FROM g_a WHERE id < 30) s",
            "(SELECT min(k) AS k, id, max(x) AS x FROM g_home GROUP BY id) s",
            "(VALUES (1, 1, 2), (3, 4, 5)) s (k, id, x)",
        ],
    );
    let on = match table {
        "g_home" if source == "g_b s" => "s.id = t.id",
        "g_home" => "s.id = t.id AND s.k = t.k",
        _ => "s.k = t.k AND s.id = t.id",
    };
    let matched = pick(
        random,
        &[
            "WHEN MATCHED AND t.x > s.x THEN UPDATE SET x = s.x",
            "WHEN MATCHED AND t.x IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET t = 'met'",
            "WHEN MATCHED AND s.x > 10 THEN DO NOTHING WHEN MATCHED THEN DELETE",
        ],
    );
    let missing = match random.below(3) {
        0 => String::new(),
        1 => " WHEN NOT MATCHED AND s.id < 0 THEN DO NOTHING".to_owned(),
        _ => format!(
            " WHEN NOT MATCHED AND s.k IS NOT NULL THEN INSERT (k, id, x) VALUES (s.k, s.id + {}, s.x)",
            200_000 + number * 1_000
        ),
    };
    format!("MERGE INTO {table} t USING {source} ON {on} {matched}{missing}")
}

fn with_writes(random: &mut Random, number: u32) -> String {
    let (table, other) = (pick(random, &TABLES), pick(random, &TABLES));
    let filter = filter(random);
    let base = 500_000 + number * 1_000;
    match random.below(4) {
        0 => format!(
            "WITH t AS (DELETE FROM {table} t WHERE t.id % 4 = 1 AND {filter} RETURNING *) SELECT count(*), sum(x) FROM t"
        ),
        1 => format!(
            "WITH s AS (DELETE FROM {table} t WHERE t.id % 4 = 2 AND {filter} RETURNING k, id, x) INSERT INTO {other} AS t (k, id, x) \
             SELECT k, id + {base}, x FROM s{}",
            returning(random, "t")
        ),
        2 => format!(
            "WITH s AS (UPDATE {table} t SET x = t.x + 1 WHERE {filter} RETURNING t.k, t.id, t.x) SELECT s.x, count(*) FROM s GROUP BY s.x"
        ),
        _ => format!(
            "WITH s AS (SELECT x, max(id) AS m FROM {other} GROUP BY x) UPDATE {table} t SET n = s.m FROM s WHERE s.x = t.x AND {filter}{}",
            returning(random, "t")
        ),
    }
}

/// The reference table, the table with a key of text, and the one of many types.
fn other_tables(random: &mut Random, number: u32) -> String {
    let (limit, at) = (random.below(40), random.below(60));
    match random.below(9) {
        0 => format!(
            "UPDATE g_ref r SET label = 'ref {number}' WHERE r.code % 5 = {} RETURNING *",
            number % 5
        ),
        1 => format!(
            "INSERT INTO g_ref VALUES ({}, 'new'), ({}, NULL) RETURNING code",
            1000 + number * 2,
            1001 + number * 2
        ),
        2 => format!(
            "INSERT INTO g_ref SELECT {} + count(*), max(label) FROM g_ref RETURNING *",
            5000 + number * 50
        ),
        3 => format!(
            "DELETE FROM g_ref r WHERE r.code > {} RETURNING r.label",
            40 + limit
        ),
        4 => format!(
            "INSERT INTO g_c (k, id, x) SELECT 'n{number}-' || s.id, s.x, s.id FROM g_a s WHERE s.id < {limit} RETURNING k, x"
        ),
        5 => format!("UPDATE g_c t SET k = t.k || '-{number}' WHERE t.x = {limit} RETURNING *"),
        6 => {
            format!("DELETE FROM g_c t WHERE t.id IN (SELECT s.x FROM g_b s WHERE s.id = {at}) RETURNING t.k")
        }
        7 => format!(
            "UPDATE g_w w SET a = w.a || {limit}, j = w.j || '{{\"m\": {at}}}', r = w.r * int4range(0, {at}) WHERE w.s < {limit} RETURNING w.*"
        ),
        _ => format!(
            "DELETE FROM g_w w USING g_a a WHERE a.k = w.k AND a.id = w.id AND a.x < {limit} RETURNING w.id, a.x, w.u, w.ts"
        ),
    }
}
