//! SQL text and trees, without any IO.
//!
//! Four modules, from the outside in:
//!
//! * [`scan`] – a hand-written token scanner and the statement normaliser that produces plan-cache keys;
//! * [`raw`] – PostgreSQL's own grammar behind a safe, bounded interface: what kind of statement is this, what does it
//!   name, and the details the proxy needs of each kind;
//! * [`nodes`] – a reader of the analyzed trees a server prints (`debug_print_rewritten`);
//! * [`deparse`] – SQL text from such a tree, fully qualified and independent of any session setting.
//!
//! Everything here takes hostile input: sizes and depths are bounded and nothing panics on malformed text.

pub mod deparse;
pub mod fuzzing;
pub mod nodes;
pub mod raw;
pub mod scan;

pub use deparse::{
    DeparseError, Deparser, FromItem, NameSource, Restriction, Rewriter, SelectItem, SelectParts,
};
pub use nodes::{Node, NodeError, Value};
pub use raw::*;
pub use scan::{
    Literal, LiteralKind, LiteralRow, LiteralRows, NormalisedBuf, Shape, literal_rows, normalise, redact,
    shape,
};

/// A PostgreSQL object id as it appears in analyzed trees.
pub type Oid = u32;

/// An SQL name with an optional schema, folded and unquoted as PostgreSQL's parser does it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QualifiedName {
    /// Schema as written, or `None` when the search path decides.
    pub schema: Option<String>,
    /// The object's own name.
    pub name: String,
}

impl QualifiedName {
    /// A name found through the search path.
    pub fn bare(name: impl Into<String>) -> Self {
        Self {
            schema: None,
            name: name.into(),
        }
    }

    /// A name in a given schema.
    pub fn qualified(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            schema: Some(schema.into()),
            name: name.into(),
        }
    }
}

impl std::fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{}.", quote_ident(schema))?;
        }
        f.write_str(&quote_ident(&self.name))
    }
}

/// Quotes an identifier always, so that no keyword list has to be kept: `"na""me"`.
pub fn quote_ident(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 2);
    out.push('"');
    for c in name.chars() {
        if c == '"' {
            out.push('"');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// Quotes a string literal so that it reads the same whatever `standard_conforming_strings` is.
pub fn quote_literal(text: &str) -> String {
    let escape = text.contains('\\');
    let mut out = String::with_capacity(text.len() + 4);
    out.push_str(if escape { " E'" } else { "'" });
    for c in text.chars() {
        if c == '\'' || c == '\\' {
            out.push(c);
        }
        out.push(c);
    }
    out.push('\'');
    out
}
