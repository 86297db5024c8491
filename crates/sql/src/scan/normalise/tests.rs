use super::*;

/// Shows placeholders as `{i}` (int4), `{I}` (int8), `{n}` (numeric), `{s}` (string).
fn show(text: &str) -> Option<String> {
    let mut buf = NormalisedBuf::default();
    normalise(text, &mut buf, true).then(|| {
        let key = String::from_utf8(buf.key.clone()).expect("utf-8");
        key.replace('\u{1}', "{i}")
            .replace('\u{2}', "{I}")
            .replace('\u{3}', "{n}")
            .replace('\u{4}', "{s}")
    })
}

fn check(text: &str, expect: &str) {
    assert_eq!(show(text).as_deref(), Some(expect), "{text}");
}

#[test]
fn ordinary_literals_are_taken_out() {
    check(
        "SELECT abalance FROM pgbench_accounts WHERE aid = 12345",
        "SELECT abalance FROM pgbench_accounts WHERE aid = {i}",
    );
    check(
        "update t set a = a + -12 where b='x''y';",
        "update t set a = a + {i} where b={s}",
    );
    check(
        "insert into t (a,b) values (1,'x'), (-2, NULL)",
        "insert into t (a,b) values ({i},{s}), ({i}, NULL)",
    );
    check(
        "INSERT INTO t VALUES (1.5, 3000000000)",
        "INSERT INTO t VALUES ({n}, {I})",
    );
    check("select  /* c */ 1 -- x\n", "select {i}");
    check(
        "select a from t where b in (1, 2) and c between 'a' and 'b'",
        "select a from t where b in ({i}, {i}) and c between {s} and {s}",
    );
    check(
        "select f(1, a) from t where x like 'a%'",
        "select f({i}, a) from t where x like {s}",
    );
    check("select -2147483648, 99999999999999999999", "select {i}, {n}");
    check(
        "select case when a = 1 then 2 else 3 end",
        "select case when a = {i} then {i} else {i} end",
    );
}

#[test]
fn literals_that_matter_stay() {
    check(
        "select a from t order by 1 limit 10 offset 5",
        "select a from t order by 1 limit 10 offset 5",
    );
    check(
        "select a, 1 from t group by 1 having b > 2",
        "select a, {i} from t group by 1 having b > {i}",
    );
    check(
        "select distinct on (1) a from t where b = 5",
        "select distinct on (1) a from t where b = {i}",
    );
    check(
        "select 1::numeric(10,2), cast(a as varchar(5))",
        "select {i}::numeric(10,2), cast(a as varchar(5))",
    );
    check(
        "select date '2020-01-01', interval '1 day'",
        "select date '2020-01-01', interval '1 day'",
    );
    check("select date'2020-01-01'", "select date'2020-01-01'");
    check("select E'a', B'1', $$x$$, a[1]", "select E'a', B'1', $$x$$, a[1]");
    check("select -5::int8, a - 5", "select -5::int8, a - {i}");
    check("select (t).* -5", "select (t).* -5");
    check(
        "select array[-1, a], distinct -5",
        "select array[-1, a], distinct -5",
    );
    check("select distinct on (a) -5, 6", "select distinct on (a) {i}, {i}");
    check(
        "select substring(a from -5 for - 2), f(variadic -5)",
        "select substring(a from -5 for - 2), f(variadic -5)",
    );
    check(
        "select b-5, t.b -5, f(1)-5, $1 - 5",
        "select b-{i}, t.b -{i}, f({i})-{i}, $1 - {i}",
    );
    check("select - 5, - -5, a - 5", "select - 5, - -5, a - {i}");
    check(
        "select * from f(1) t(a numeric(10,2)) where a = 1",
        "select * from f({i}) t(a numeric(10,2)) where a = {i}",
    );
    check(
        "select (select 1 order by 2) + 3",
        "select (select {i} order by 2) + {i}",
    );
    check(
        "select a from t where x = 1 fetch first 5 rows only",
        "select a from t where x = {i} fetch first 5 rows only",
    );
    check(
        "select now() at time zone 'UTC'",
        "select now() at time zone 'UTC'",
    );
}

#[test]
fn some_texts_have_no_key() {
    for text in [
        "set a = 1",
        "select 1; select 2",
        "select /* drover: shard 1 */ 1",
        "select 'a'\n'b'",
        "select U&'a'",
        "select 'a",
        "",
        "select 0x10",
        "(select 1)",
        "select 1 operator(pg_catalog.+) -5",
        "delete from t returning with (old as o) -5",
    ] {
        assert_eq!(show(text), None, "{text}");
    }
    let mut buf = NormalisedBuf::default();
    assert!(!normalise("select 'a\\'", &mut buf, false));
    assert!(!normalise("select 'a\\b'", &mut buf, false));
}

#[test]
fn literals_have_values_and_places() {
    let text = "select a from t where b = 'it''s' and c = -7";
    let mut buf = NormalisedBuf::default();
    assert!(normalise(text, &mut buf, true));
    let values: Vec<_> = buf.literals.iter().map(|l| l.value(text).into_owned()).collect();
    assert_eq!(values, ["it's", "-7"]);
    assert_eq!(buf.literals[1].start as usize, text.find("-7").expect("there"));
}
