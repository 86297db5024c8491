//! `docs/configuration.md`, from the declarations. A test keeps the file as this says.

use std::fmt::Write as _;

use super::declare::{OptionDoc, section_name};
use super::sections::SECTIONS;

const HEAD: &str = "\
# Configuration

`drover proxy --config drover.toml` reads one file in TOML. `drover check --config drover.toml` says everything wrong
with it, with line numbers. An unknown section or option is an error. This page is generated from the declarations in
`crates/drover/src/config/sections.rs`.

The smallest useful file:

```toml
";

/// The smallest useful file; tests parse it.
pub(super) const EXAMPLE: &str = "\
[admin]
user = \"postgres\"
password = \"secret\"

[[databases]]
name = \"app\"

[[users]]
name = \"app\"
password = \"another secret\"

[[shards]]
name = \"shard_1\"
primary = \"db1.example.com:5432\"

[[shards]]
name = \"shard_2\"
primary = \"db2.example.com:5432\"
replicas = [\"db2b.example.com:5432\"]
";

/// `docs/configuration.md` as it must be.
pub fn page() -> String {
    let mut page = format!("{HEAD}{EXAMPLE}```\n");
    for section in SECTIONS {
        let _ = writeln!(page, "\n## `{}`\n", section_name(section.name, section.repeated));
        page.push_str(&joined(section.doc));
        if matches!(section.name, "databases" | "shards") {
            page.push_str(" At least one.");
        }
        page.push_str("\n\n| option | value | default | meaning |\n|---|---|---|---|\n");
        for option in section.options {
            let (key, kind) = (option.key, option.kind);
            let _ = writeln!(
                page,
                "| `{key}` | {kind} | {} | {} |",
                default(option),
                joined(option.doc)
            );
        }
    }
    page
}

fn default(option: &OptionDoc) -> String {
    match option.default {
        Some(text) => format!("`{}`", text.replace('\'', "\"")),
        None if option.required => "required".to_owned(),
        None => "–".to_owned(),
    }
}

fn joined(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}
