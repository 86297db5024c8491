//! The comparison must see what differs: two servers are made to answer differently on purpose.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use testkit::TestPostgres;
use testkit::casefile::CaseFile;
use testkit::client::Target;
use testkit::oracle::{Failure, Mode, Options, Oracle, Outcome};

/// Runs a case file; the outcome of its last case in the first mode.
fn last_outcome(text: &str, refusals: bool) -> Outcome {
    let server = TestPostgres::shared();
    let target = || Target::parse(&server.url(&server.create_database())).unwrap();
    let path = std::env::temp_dir().join(format!("drover-oracle-{}-{}.sql", std::process::id(), next()));
    std::fs::write(&path, text).unwrap();
    let file = CaseFile::read(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    let options = Options {
        refusals,
        strict: true,
        modes: vec![Mode::ALL[0]],
        ..Options::default()
    };
    let report = Oracle::new(target(), target(), options).run(&file).unwrap();
    report.cases.last().unwrap().outcome.clone()
}

fn next() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What differs when the two sides differ as `oracle` and `drover` say.
fn differences(oracle: &str, drover: &str, case: &str) -> Vec<String> {
    let text = format!("@oracle {oracle};\n@drover {drover};\n{case};\n");
    match last_outcome(&text, true) {
        Outcome::Failed(Failure::Mismatch(list)) => {
            list.into_iter().map(|difference| difference.what).collect()
        }
        other => panic!("{case}: {other:?}"),
    }
}

fn view(oracle: &str, drover: &str) -> Vec<String> {
    differences(
        &format!("CREATE VIEW v AS {oracle}"),
        &format!("CREATE VIEW v AS {drover}"),
        "SELECT * FROM v",
    )
}

#[test]
fn rows() {
    assert_eq!(view("SELECT 1 AS a", "SELECT 2 AS a"), ["rows"]);
    assert_eq!(view("SELECT NULL::text AS a", "SELECT '' AS a"), ["rows"]);
    // Twice is not once: the command tag shows it, and so do the rows.
    assert_eq!(
        view("SELECT 1 AS a", "VALUES (1), (1)"),
        ["tags", "columns", "rows"]
    );
    assert_eq!(view("SELECT 1.0 AS a", "SELECT 1.00 AS a"), ["rows"]);
}

#[test]
fn order_only_where_it_matters() {
    let sides = [
        "CREATE VIEW v AS SELECT * FROM (VALUES (1), (2)) x",
        "CREATE VIEW v AS SELECT * FROM (VALUES (2), (1)) x",
    ];
    assert_eq!(
        differences(sides[0], sides[1], "@ordered SELECT * FROM v"),
        ["rows differ from row 1"]
    );
    let text = format!("@oracle {};\n@drover {};\nSELECT * FROM v;\n", sides[0], sides[1]);
    assert_eq!(last_outcome(&text, true), Outcome::Match(Vec::new()));
}

#[test]
fn columns_and_types() {
    assert_eq!(view("SELECT 1 AS a", "SELECT 1 AS b"), ["columns"]);
    assert_eq!(view("SELECT 1 AS a", "SELECT 1::bigint AS a"), ["columns"]);
    assert_eq!(
        view("SELECT 'x'::varchar(3) AS a", "SELECT 'x'::varchar(4) AS a"),
        ["columns"]
    );
}

#[test]
fn errors_and_refusals() {
    let raise = |state: &str, message: &str| {
        format!(
            "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{message}'
             USING ERRCODE = '{state}', DETAIL = 'refusal code DRV1234'; END $$"
        )
    };
    let one = raise("22012", "a");
    assert_eq!(
        differences(&one, &raise("22012", "b"), "@error 22012 SELECT f()"),
        ["error"]
    );
    assert_eq!(
        differences(&one, &raise("22011", "a"), "@error 22012 SELECT f()"),
        ["error"]
    );
    let refused = raise("0A000", "not yet");
    let fine = "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'";
    let outcome = |case: &str| last_outcome(&format!("@oracle {fine};\n@drover {refused};\n{case};\n"), true);
    assert!(matches!(
        outcome("SELECT f()"),
        Outcome::Failed(Failure::Refused(_))
    ));
    assert_eq!(
        outcome("@may_refuse SELECT f()"),
        Outcome::Refused("DRV1234".to_string())
    );
    assert_eq!(
        outcome("@refused DRV1234 SELECT f()"),
        Outcome::Refused("DRV1234".to_string())
    );
    assert!(matches!(
        outcome("@refused DRV9999 SELECT f()"),
        Outcome::Failed(Failure::NotRefused(_))
    ));
    assert!(matches!(
        last_outcome("@refused SELECT 1;\n", true),
        Outcome::Failed(Failure::NotRefused(_))
    ));
}

#[test]
fn a_wrong_case_is_not_agreement() {
    assert!(matches!(
        last_outcome("SELECT nope;\n", false),
        Outcome::Failed(Failure::Case(_))
    ));
    assert!(matches!(
        last_outcome("@error 22012 SELECT 1;\n", false),
        Outcome::Failed(Failure::Case(_))
    ));
}

#[test]
fn a_refusal_keeps_both_sides_in_step() {
    let text = "@oracle CREATE TABLE t (a int);\n@drover CREATE TABLE t (a int);\n\
        @drover CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no' \
        USING ERRCODE = '0A000', DETAIL = 'refusal code DRV1234'; END $$;\n\
        @drover CREATE TRIGGER g BEFORE INSERT ON t EXECUTE FUNCTION f();\n\
        BEGIN;\n@may_refuse INSERT INTO t VALUES (1);\n@error 25P02 SELECT 1;\nROLLBACK;\n\
        @may_refuse INSERT INTO t VALUES (1);\nSELECT count(*) FROM t;\n";
    assert_eq!(last_outcome(text, true), Outcome::Match(Vec::new()));
}
