use std::path::Path;

use super::crates::{licence_allowed, ring_problem};
use super::files::{rust, words};
use super::scan::{blank, scan};
use super::*;

fn functions(text: &str) -> Vec<(String, usize, usize)> {
    scan(text)
        .functions
        .into_iter()
        .map(|f| (f.name, f.line, f.lines))
        .collect()
}

#[test]
fn braces_in_strings_comments_and_characters_do_not_count() {
    let text = r####"
fn a<'x>(s: &'x str) -> char {
    let _ = "}"; // }
    let _ = r##"}"# "##; /* } /* } */ */
    let _ = b"\"}";
    match '}' { '{' => '\'', '\\' => 'ü', _ => '"' }
}
type F = fn(u8) -> u8;
trait T { fn declared(&self) -> [u8; 4]; fn b(&self) { } }
"####;
    let expect = [("a".to_owned(), 2, 6), ("b".to_owned(), 9, 1)];
    assert_eq!(functions(text), expect);
    assert_eq!(blank(text).len(), text.len());
}

#[test]
fn tests_are_not_counted() {
    let text =
        "fn a() {}\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\nmod more {\n    fn b() {\n    }\n}\nfn c() {}\n";
    let scan = scan(text);
    assert_eq!(scan.lines, 4);
    assert_eq!(
        scan.functions.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(),
        ["a", "c"]
    );
}

#[test]
fn long_functions_and_files_are_found() {
    let long = format!("fn long() {{\n{}}}\n", "    x();\n".repeat(69));
    let mut notes = Vec::new();
    let found = rust(Path::new("a.rs"), &long, &mut notes);
    assert_eq!(found[0].message, "`long` has 71 lines; at most 70");
    assert!(rust(Path::new("a/tests.rs"), &long, &mut notes).is_empty());
    assert_eq!(
        rust(Path::new("a.rs"), &"// x\n".repeat(801), &mut notes)[0].rule,
        "file-length"
    );
    assert!(notes.is_empty());
    assert!(rust(Path::new("a.rs"), &"// x\n".repeat(501), &mut notes).is_empty());
    assert_eq!(notes.len(), 1);
    assert_eq!(rust(Path::new("a/mod.rs"), "", &mut notes)[0].rule, "mod-rs");
}

#[test]
fn unfinished_work_and_machine_paths_are_found() {
    let rules = |text: String| {
        words(Path::new("a"), &text)
            .into_iter()
            .map(|f| f.rule)
            .collect::<Vec<_>>()
    };
    assert_eq!(rules(["// TO", "DO: x"].concat()), ["unfinished"]);
    assert_eq!(rules(["see /ho", "me/me/x"].concat()), ["machine-path"]);
    assert!(rules(["https://x.org/ho", "me/x MASTO", "DON"].concat()).is_empty());
}

#[test]
fn licences() {
    for good in [
        "MIT",
        "MIT OR Apache-2.0",
        "Unlicense/MIT",
        "(MIT OR GPL-3.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
        "MIT AND BSD-3-Clause",
    ] {
        assert!(licence_allowed(good), "{good}");
    }
    for bad in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "(MIT OR Apache-2.0) AND GPL-3.0",
    ] {
        assert!(!licence_allowed(bad), "{bad}");
    }
}

#[test]
fn rings() {
    assert!(ring_problem("proxy", Some(1), "wire", Some(0)).is_none());
    assert!(ring_problem("wire", Some(0), "proxy", Some(1)).is_some());
    assert!(ring_problem("proxy", Some(1), "testkit", None).is_some());
    assert!(ring_problem("testkit", None, "agent", Some(1)).is_none());
}

#[test]
fn waivers_only_shrink() {
    let finding = |rule| Finding {
        path: "a.rs".into(),
        line: 3,
        rule,
        message: String::new(),
    };
    let list = "# comment\n2026-11-21 file-length a.rs will be split\n";
    assert!(waivers::apply_text(list, 1, vec![finding("file-length")]).is_empty());
    assert_eq!(
        waivers::apply_text(list, 0, vec![finding("file-length")]).len(),
        1
    );
    assert_eq!(waivers::apply_text(list, 1, vec![]).len(), 1, "waives nothing");
    assert_eq!(
        waivers::apply_text("soon file-length a.rs x\n", 1, vec![]).len(),
        1,
        "no date"
    );
    assert_eq!(waivers::apply_text("", 0, vec![finding("file-length")]).len(), 1);
}
