//! Where statements may be read: the table of `tests/replicas`, and what it leaves out.

use plan::{ReadPlace, read_place};
use testkit::read_cases::{SCHEMA, read_cases};

use crate::lab::Lab;

fn place(lab: &Lab, sql: &str) -> String {
    match sql::parse(sql, &sql::ParseOptions::default()) {
        Ok(raws) => match raws.as_slice() {
            [raw] => word(&read_place(raw, sql, &["public".to_owned()], &lab.snapshot)),
            _ => "not one statement".to_owned(),
        },
        Err(error) => format!("{error}"),
    }
}

fn word(place: &ReadPlace) -> String {
    match place {
        ReadPlace::Replica => "replica".to_owned(),
        ReadPlace::Follows => "follows".to_owned(),
        ReadPlace::Primary(only) => only.reason.as_str().to_owned(),
        ReadPlace::Unknown => "nothing known".to_owned(),
    }
}

#[test]
fn the_table_of_places_holds() {
    let lab = Lab::with_schema(SCHEMA, &[]);
    let cases = read_cases();
    assert!(cases.len() > 300, "{}", cases.len());
    let wrong: Vec<String> = cases
        .iter()
        .map(|case| (case, place(&lab, case.sql)))
        .filter(|(case, found)| case.place != found)
        .map(|(case, found)| format!("{}: expected {}, found {found}", case.sql, case.place))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_volatile_cast_hinders_everything() {
    let lab = Lab::with_schema(
        "CREATE TYPE a AS ENUM ('x'); CREATE TYPE b AS (v int);
         CREATE FUNCTION b_of(a) RETURNS b LANGUAGE sql AS 'SELECT ROW(1)::b';
         CREATE CAST (a AS b) WITH FUNCTION b_of(a) AS IMPLICIT;",
        &[],
    );
    assert_eq!(place(&lab, "SELECT 1"), "volatile");
}

#[test]
fn the_operators_word_counts() {
    let safe = [("pg_catalog", "random"), ("public", "f_volatile")];
    let lab = Lab::with_schema(SCHEMA, &safe);
    for sql in [
        "SELECT random()",
        "SELECT f_volatile(1)",
        "SELECT f_calls_deep(1)",
        "SELECT * FROM v_random",
        "SELECT 5::checked",
    ] {
        assert_eq!(place(&lab, sql), "replica", "{sql}");
    }
    assert_eq!(place(&lab, "SELECT f_undeclared(1)"), "volatile");
}
