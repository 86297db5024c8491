//! Plans of real statements, as PostgreSQL analyzes them.
//!
//! Every file of `tests/cases` is a list of cases: a statement, a line `----`, the expected plan, an empty line.
//! `DROVER_UPDATE=1 cargo test -p plan` rewrites the expectations; read the difference before committing it.

// Only clippy's setting for unit tests covers unwrap; in these helpers it is as good as an assertion.
#![allow(clippy::unwrap_used)]

mod answers;
mod lab;
mod places;
mod reads;

use lab::Lab;

#[test]
fn plans_are_as_written_down() {
    let mut lab = Lab::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    files.sort();
    let mut wrong = String::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut rewritten = String::new();
        for case in text.split("\n\n").map(str::trim).filter(|c| !c.is_empty()) {
            let (statement, expected) = case.split_once("\n----").unwrap_or((case, ""));
            if statement.starts_with('#') && !statement.contains('\n') {
                rewritten.push_str(&format!("{statement}\n\n"));
                continue;
            }
            let found = lab.explain(statement.trim());
            if found.trim() != expected.trim() {
                wrong.push_str(&format!(
                    "\n{statement}\nexpected:\n{}\nfound:\n{found}",
                    expected.trim()
                ));
            }
            rewritten.push_str(&format!("{}\n----\n{}\n\n", statement.trim(), found.trim()));
        }
        if std::env::var_os("DROVER_UPDATE").is_some() {
            std::fs::write(&file, rewritten.trim_end().to_owned() + "\n").unwrap();
        }
    }
    assert!(
        wrong.is_empty() || std::env::var_os("DROVER_UPDATE").is_some(),
        "{wrong}"
    );
}
