//! Replays the fuzzing corpora.

use std::path::Path;

fn replay(target: &str, body: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&dir).expect("corpus") {
        let path = entry.expect("entry").path();
        body(&std::fs::read(&path).expect("file"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", dir.display());
}

#[test]
fn normalise() {
    replay("normalise", sql::fuzzing::normalise);
}

#[test]
fn raw_parse() {
    replay("raw_parse", sql::fuzzing::raw_parse);
}

#[test]
fn node_tree() {
    replay("node_tree", sql::fuzzing::node_tree);
}
