use super::*;

fn row(values: &[&str]) -> Vec<Option<String>> {
    values
        .iter()
        .map(|v| (*v != "NULL").then(|| (*v).to_owned()))
        .collect()
}

fn check(query: QueryId, values: &[&str], expect: Option<&str>) {
    let error = SnapshotBuilder::new()
        .from_rows(query, &[row(values)])
        .err()
        .map(|e| e.to_string());
    assert_eq!(error.as_deref(), expect, "{values:?}");
}

#[test]
fn rows_are_checked() {
    let good = ["16400", "s", "t", "r", "p", "me", "f", "f", "f", "f", "NULL"];
    check(QueryId::Relations, &good, None);
    check(
        QueryId::Relations,
        &[],
        Some("Relations row has no value in column 3"),
    );
    let mut bad = good;
    bad[0] = "-1";
    check(
        QueryId::Relations,
        &bad,
        Some("Relations row has unexpected \"-1\" in column 0"),
    );
    bad = good;
    bad[7] = "maybe";
    check(
        QueryId::Relations,
        &bad,
        Some("Relations row has unexpected \"maybe\" in column 7"),
    );
    check(
        QueryId::Links,
        &["surprise"],
        Some("Links row has unexpected \"surprise\" in column 0"),
    );
    check(
        QueryId::Indexes,
        &["1", "2", "i", "1 x", "f", "f", "f", "t", "f"],
        Some("Indexes row has unexpected \"1 x\" in column 3"),
    );
}

#[test]
fn facts_of_unknown_relations_are_dropped() {
    let mut builder = SnapshotBuilder::new();
    let index = row(&["1", "2", "i", "1 0", "f", "f", "f", "t", "f"]);
    builder.from_rows(QueryId::Indexes, &[index]).unwrap();
    assert!(builder.relations.is_empty());
}

#[test]
fn every_query_is_one_statement() {
    for query in QueryId::ALL {
        assert!(!query.sql().contains(';'), "{query:?}");
    }
}
