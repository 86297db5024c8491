//! Rings, and what the project may depend on, from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use super::Finding;

/// Every crate of the workspace and its ring; the table of `ARCHITECTURE.md` must say the same. Crates for tests and
/// chores have none: nothing but tests may depend on them.
const RINGS: &[(&str, Option<u8>)] = &[
    ("wire", Some(0)),
    ("sql", Some(0)),
    ("catalog", Some(0)),
    ("plan", Some(0)),
    ("merge", Some(0)),
    ("pool", Some(0)),
    ("replica", Some(0)),
    ("commit", Some(0)),
    ("movement", Some(0)),
    ("topology", Some(1)),
    ("proxy", Some(1)),
    ("agent", Some(1)),
    ("admin", Some(1)),
    ("drover", Some(3)),
    ("testkit", None),
    ("xtask", None),
];

/// What ring 0 must not reach, however indirectly.
const IMPURE: &[&str] = &["tokio", "mio", "socket2", "async-std", "smol"];

/// Licences of dependencies that Apache-2.0 software may use without further duties than naming them.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "PostgreSQL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "0BSD",
    "CC0-1.0",
    "MIT-0",
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    dependencies: Vec<Declared>,
}

#[derive(Deserialize)]
struct Declared {
    name: String,
    path: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dep>,
}

#[derive(Deserialize)]
struct Dep {
    pkg: String,
    dep_kinds: Vec<DepKind>,
}

#[derive(Deserialize)]
struct DepKind {
    kind: Option<String>,
}

/// Checks the dependency graph.
pub(super) fn check(root: &Path) -> Result<Vec<Finding>, String> {
    let graph = Graph::load(root)?;
    let mut findings = graph.rings();
    findings.extend(graph.purity());
    findings.extend(graph.sources_and_licences());
    findings.extend(architecture_table(root)?);
    findings.extend(graph.explained(root)?);
    Ok(findings)
}

struct Graph {
    packages: BTreeMap<String, Package>,
    members: BTreeSet<String>,
    /// Normal and build dependencies; tests may use anything.
    uses: BTreeMap<String, Vec<String>>,
}

impl Graph {
    fn load(root: &Path) -> Result<Graph, String> {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .args(["metadata", "--format-version", "1", "--locked"])
            .current_dir(root);
        let output = command
            .output()
            .map_err(|error| format!("cargo metadata: {error}"))?;
        if !output.status.success() {
            return Err(format!(
                "cargo metadata: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))?;
        let uses = metadata.resolve.nodes.into_iter().map(|node| {
            let deps = node.deps.into_iter();
            let deps = deps.filter(|dep| {
                dep.dep_kinds
                    .iter()
                    .any(|kind| kind.kind.as_deref() != Some("dev"))
            });
            (node.id, deps.map(|dep| dep.pkg).collect())
        });
        Ok(Graph {
            packages: metadata
                .packages
                .into_iter()
                .map(|package| (package.id.clone(), package))
                .collect(),
            members: metadata.workspace_members.into_iter().collect(),
            uses: uses.collect(),
        })
    }

    fn name(&self, id: &str) -> &str {
        self.packages.get(id).map_or("", |package| package.name.as_str())
    }

    fn uses(&self, id: &str) -> &[String] {
        self.uses.get(id).map_or(&[], Vec::as_slice)
    }

    fn rings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for member in &self.members {
            let name = self.name(member);
            let Some(ring) = ring(name) else {
                findings.push(finding(
                    name,
                    "ring",
                    format!("crate `{name}` has no ring in xtask's table"),
                ));
                continue;
            };
            for used in self
                .uses(member)
                .iter()
                .filter(|used| self.members.contains(*used))
            {
                let used = self.name(used);
                if let Some(message) = ring_problem(name, ring, used, ring_of(used)) {
                    findings.push(finding(name, "ring", message));
                }
            }
        }
        findings
    }

    fn purity(&self) -> Vec<Finding> {
        let pure = self
            .members
            .iter()
            .filter(|member| ring(self.name(member)) == Some(Some(0)));
        pure.flat_map(|member| {
            let name = self.name(member);
            let reached = self.reached(member);
            let impure = reached
                .into_iter()
                .map(|id| self.name(id))
                .filter(|used| IMPURE.contains(used));
            impure
                .map(|used| {
                    finding(
                        name,
                        "purity",
                        format!("ring 0 crate `{name}` depends on `{used}`"),
                    )
                })
                .collect::<Vec<_>>()
        })
        .collect()
    }

    fn reached<'a>(&'a self, from: &'a str) -> BTreeSet<&'a str> {
        let mut reached = BTreeSet::new();
        let mut open = vec![from];
        while let Some(id) = open.pop() {
            for used in self.uses(id) {
                if reached.insert(used.as_str()) {
                    open.push(used);
                }
            }
        }
        reached
    }

    /// Every direct dependency has its reason in `docs/dependencies.md`, and nothing else is there.
    fn explained(&self, root: &Path) -> Result<Vec<Finding>, String> {
        const PAGE: &str = "docs/dependencies.md";
        let text = std::fs::read_to_string(root.join(PAGE)).map_err(|error| format!("{PAGE}: {error}"))?;
        let rows = text
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let explained: BTreeSet<&str> = rows.collect();
        let members = self.members.iter().filter_map(|id| self.packages.get(id));
        let declared = members
            .flat_map(|package| &package.dependencies)
            .filter(|used| used.path.is_none());
        let declared: BTreeSet<&str> = declared.map(|used| used.name.as_str()).collect();
        let missing = declared
            .difference(&explained)
            .map(|name| format!("`{name}` is used and not explained here"));
        // One that the workspace names may be about to be used.
        let manifest = std::fs::read_to_string(root.join("Cargo.toml")).map_err(|error| error.to_string())?;
        let named = |name: &str| {
            manifest
                .lines()
                .any(|line| line.starts_with(&format!("{name} =")))
        };
        let left = explained.difference(&declared).filter(|name| !named(name));
        let left = left.map(|name| format!("`{name}` is explained and not used"));
        let page = |message| Finding {
            path: PAGE.into(),
            line: 0,
            rule: "dependencies",
            message,
        };
        Ok(missing.chain(left).map(page).collect())
    }

    fn sources_and_licences(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for package in self.packages.values() {
            let what = format!("{} {}", package.name, package.version);
            let licence = package.license.as_deref().unwrap_or("");
            if !licence_allowed(licence) {
                let message = format!("{what} has licence `{licence}`, which is not in xtask's list");
                findings.push(finding("", "licence", message));
            }
            let from_registry = package
                .source
                .as_deref()
                .is_some_and(|source| source.starts_with("registry+"));
            if !from_registry && !self.members.contains(&package.id) {
                findings.push(finding(
                    "",
                    "source",
                    format!("{what} does not come from a registry"),
                ));
            }
        }
        findings
    }
}

/// `None`: not in the table. `Some(None)`: no ring.
fn ring(name: &str) -> Option<Option<u8>> {
    RINGS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, ring)| *ring)
}

fn ring_of(name: &str) -> Option<u8> {
    ring(name).flatten()
}

pub(super) fn ring_problem(
    name: &str,
    ring: Option<u8>,
    used: &str,
    used_ring: Option<u8>,
) -> Option<String> {
    let (Some(ring), used_ring) = (ring, used_ring) else {
        return None;
    };
    match used_ring {
        None => Some(format!("`{name}` depends on `{used}`, which is for tests")),
        Some(used_ring) if used_ring > ring => Some(format!(
            "`{name}` (ring {ring}) depends on `{used}` (ring {used_ring})"
        )),
        _ => None,
    }
}

/// Understands what crates write: `A OR B`, `A/B`, `A AND B`, parentheses around a group of ORs.
pub(super) fn licence_allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let depth_zero_ands = split_top(&expression, " AND ");
    if depth_zero_ands.len() > 1 && split_top(&expression, " OR ").len() == 1 {
        return depth_zero_ands.iter().all(|part| licence_allowed(part));
    }
    let ors = split_top(&expression, " OR ");
    if ors.len() > 1 {
        return ors.iter().any(|part| licence_allowed(part));
    }
    let inner = expression.trim();
    match inner.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => licence_allowed(inner),
        None => LICENCES.contains(&inner),
    }
}

/// Splits outside parentheses.
fn split_top<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 && at >= start && text[at..].starts_with(separator) {
            parts.push(&text[start..at]);
            start = at + separator.len();
        }
    }
    parts.push(&text[start..]);
    parts
}

fn architecture_table(root: &Path) -> Result<Vec<Finding>, String> {
    let text =
        std::fs::read_to_string(root.join("ARCHITECTURE.md")).map_err(|e| format!("ARCHITECTURE.md: {e}"))?;
    let mut listed = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", ring, name, ..] = cells.as_slice()
            && let Some(name) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`'))
        {
            listed.insert(name, ring.parse::<u8>().ok());
        }
    }
    let wrong = RINGS
        .iter()
        .filter(|(name, ring)| *name != "xtask" && listed.get(name) != Some(ring));
    let message = |name: &str| format!("the ring table does not list `{name}` as xtask's does");
    Ok(wrong
        .map(|(name, _)| Finding {
            path: "ARCHITECTURE.md".into(),
            line: 0,
            rule: "ring",
            message: message(name),
        })
        .collect())
}

fn finding(krate: &str, rule: &'static str, message: String) -> Finding {
    let path = match krate {
        "" => "Cargo.lock".into(),
        "xtask" => "xtask/Cargo.toml".into(),
        name => format!("crates/{name}/Cargo.toml").into(),
    };
    Finding {
        path,
        line: 0,
        rule,
        message,
    }
}
