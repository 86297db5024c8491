//! Why a statement is not run: stable codes, one table.

use std::fmt::Write as _;

/// SQLSTATE of every refusal.
pub const SQLSTATE: &str = "0A000";

/// A statement that is not run, and why.
///
/// To the client: `ERROR 0A000`, message [`reason`](Self::reason), DETAIL `refusal code DRVnnnn`, HINT
/// [`hint`](Self::hint).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The stable code.
    pub code: RefusalCode,
    /// One sentence, lower case, for the client's error message.
    pub reason: String,
    /// What to do instead.
    pub hint: String,
}

impl Refusal {
    /// A refusal with the reason and the hint of the table.
    pub fn new(code: RefusalCode) -> Refusal {
        let entry = code.entry();
        Refusal {
            code,
            reason: entry.reason.to_owned(),
            hint: entry.hint.to_owned(),
        }
    }

    /// A refusal that names what was in the way; the hint is the table's.
    pub fn with(code: RefusalCode, detail: impl AsRef<str>) -> Refusal {
        let entry = code.entry();
        let reason = format!("{}: {}", entry.reason, detail.as_ref());
        Refusal {
            code,
            reason,
            hint: entry.hint.to_owned(),
        }
    }
}

/// One row of the refusal table.
#[derive(Debug, Clone, Copy)]
pub struct RefusalEntry {
    /// The code.
    pub code: RefusalCode,
    /// Its stable name, `DRVnnnn`. Never reused.
    pub name: &'static str,
    /// Message to the client.
    pub reason: &'static str,
    /// A statement that is refused with it.
    pub example: &'static str,
    /// What to do instead.
    pub hint: &'static str,
}

macro_rules! refusals {
    ($($variant:ident = $name:literal, $reason:literal, $example:literal, $hint:literal;)*) => {
        /// The stable code of a refusal.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum RefusalCode {
            $(#[doc = concat!("`", $name, "`: ", $reason)] $variant,)*
        }

        /// Every refusal there is, by ascending code.
        pub const REFUSALS: &[RefusalEntry] = &[
            $(RefusalEntry {
                code: RefusalCode::$variant, name: $name, reason: $reason, example: $example, hint: $hint,
            },)*
        ];
    };
}

refusals! {
    // 1xxx: what the statement contains
    UnknownNode = "DRV1001",
        "this statement has a part that Drover does not know how to print for several shards",
        "SELECT XMLFOREST(a, b) FROM orders",
        "restrict every sharded table to one shard key";
    Placeholder = "DRV1002",
        "not yet",
        "x",
        "y";
}

impl RefusalCode {
    /// The stable name, `DRVnnnn`.
    pub fn as_str(self) -> &'static str {
        self.entry().name
    }

    /// The row of the table.
    pub fn entry(self) -> &'static RefusalEntry {
        // The table is generated in the order of the variants.
        &REFUSALS[self as usize]
    }
}

impl std::fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `docs/refusals.md`.
pub fn refusals_markdown() -> String {
    let mut out = String::from(
        "<!-- Generated from crates/plan/src/refusal.rs; DROVER_UPDATE=1 cargo test -p plan rewrites it. -->\n\
         # What Drover refuses\n\n\
         A statement that Drover cannot prove to give exactly what one PostgreSQL holding all the data would give is\n\
         refused before anything runs: `ERROR` with SQLSTATE `0A000`, a stable code in DETAIL, and a HINT that says what\n\
         to do instead. Codes are never reused.\n\n\
         | code | reason | example | instead |\n|---|---|---|---|\n",
    );
    for entry in REFUSALS {
        let example = entry.example.replace('|', "\\|");
        let _ = writeln!(
            out,
            "| {} | {} | `{}` | {} |",
            entry.name, entry.reason, example, entry.hint
        );
    }
    out
}
