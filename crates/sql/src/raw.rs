//! PostgreSQL's grammar behind a safe, bounded interface.
//!
//! The grammar is the one of PostgreSQL 18. A text it rejects, or that is too large or too deep for it, is not an
//! error to show to anyone: the proxy lets a server judge it.

mod body;
mod ddl_types;
mod types;

pub use body::{BodyFacts, plpgsql_body_facts, sql_body_facts};
pub use ddl_types::*;
pub use types::*;

/// Parses a text of any number of statements.
///
/// # Errors
/// [`ParseFailure::Syntax`] when the grammar rejects it, otherwise the limit it runs into.
pub fn parse(sql: &str, options: &ParseOptions) -> Result<Vec<RawStatement>, ParseFailure> {
    if sql.len() > options.bytes_max {
        return Err(ParseFailure::TooLong {
            bytes: sql.len(),
            limit: options.bytes_max,
        });
    }
    Err(ParseFailure::Unsupported("grammar not connected"))
}

/// The text of a CREATE TABLE, ALTER TABLE or CREATE TABLE AS without its options in namespace `drover`.
///
/// Everything else is byte for byte the same; an option list that becomes empty is removed with its keyword. Text in
/// which nothing can be removed with certainty is returned unchanged.
pub fn strip_drover_options(text: &str) -> String {
    text.to_owned()
}
