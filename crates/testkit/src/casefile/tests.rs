use super::*;

fn parse(text: &str) -> Vec<Item> {
    let folder = tempfile(text);
    let file = CaseFile::read(&folder).unwrap();
    std::fs::remove_file(folder).unwrap();
    file.items
}

fn tempfile(text: &str) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "drover-case-{}-{}.sql",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn only_case(text: &str) -> Case {
    match parse(text).as_slice() {
        [Item::Case(case)] => case.clone(),
        other => panic!("not one case: {other:?}"),
    }
}

#[test]
fn a_plain_line_is_a_case() {
    let case = only_case("SELECT 1; -- why\n");
    assert_eq!(case.step.sql, "SELECT 1");
    assert_eq!((case.ordered, case.refusal), (false, Refusal::Never));
}

#[test]
fn semicolons_inside_quotes_do_not_end_a_statement() {
    for text in [
        "SELECT ';\n;', 1;",
        "DO $x$\nBEGIN;\nEND;\n$x$;",
        "SELECT \"a;\nb\" /* ;\n; */ FROM t;",
        "SELECT 'é;\n' -- ;\n, 2;",
        "SELECT E'\\';\n', e'\\\\', 'E\\';",
        "SELECT $1;\nSELECT 2;",
    ] {
        let expected = if text.starts_with("SELECT $1") { 2 } else { 1 };
        assert_eq!(parse(text).len(), expected, "{text}");
    }
}

#[test]
fn two_statements_on_a_line_stay_together() {
    assert_eq!(only_case("SELECT 1; SELECT 2;").step.sql, "SELECT 1; SELECT 2");
}

#[test]
fn directives() {
    let case = only_case(
        "@ordered @may_refuse DRV2001 @params (7, 'it''s', NULL::int8, '{1,2}'::int4[]) SELECT $1;",
    );
    assert!(case.ordered);
    assert_eq!(case.refusal, Refusal::May(Some("DRV2001".into())));
    let parameters = case.parameters.unwrap();
    let flat: Vec<_> = parameters
        .iter()
        .map(|p| (p.value.as_deref(), p.type_name.as_deref()))
        .collect();
    let expected = [
        (Some("7"), None),
        (Some("it's"), None),
        (None, Some("int8")),
        (Some("{1,2}"), Some("int4[]")),
    ];
    assert_eq!(flat, expected);
    assert_eq!(case.step.sql, "SELECT $1");
    let case = only_case("@refused @error 23505 @float @nowrap SELECT 1;");
    assert_eq!(
        (case.refusal, case.error.as_deref()),
        (Refusal::Must(None), Some("23505"))
    );
    assert!(case.flags.contains(&Flag::Float) && case.flags.contains(&Flag::NoWrap));
}

#[test]
fn copy_data_belongs_to_its_statement() {
    let items = parse("COPY t FROM STDIN;\n1\ta\n2;\tb\n\\.\nSELECT 1;\n");
    let [Item::Case(copy), Item::Case(_)] = items.as_slice() else {
        panic!("{items:?}")
    };
    assert_eq!(copy.step.copy.as_deref(), Some(&b"1\ta\n2;\tb\n"[..]));
}

#[test]
fn sections_sides_and_loads() {
    let items =
        parse("@setup\nCREATE TABLE t ();\n@drover SELECT 1;\n@load t 100 7\n@cases\n@session b\nTABLE t;\n");
    assert!(matches!(&items[0], Item::Setup(step) if step.sql == "CREATE TABLE t ()"));
    assert!(matches!(&items[1], Item::Only(Side::Drover, _)));
    assert!(matches!(&items[2], Item::Load(load) if (load.rows, load.seed) == (100, 7)));
    assert!(matches!(&items[3], Item::Session(name) if name == "b"));
    assert!(matches!(&items[4], Item::Case(_)));
}

#[test]
fn mistakes_are_reported_with_their_line() {
    let path = tempfile("SELECT 1;\n\n@odered SELECT 2;\n");
    let error = CaseFile::read(&path).unwrap_err().to_string();
    std::fs::remove_file(path).unwrap();
    assert!(error.ends_with(":3: unknown directive @odered"), "{error}");
}
