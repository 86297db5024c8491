//! PostgreSQL's grammar behind a safe, bounded interface.
//!
//! The grammar is the one of PostgreSQL 18. A text it rejects, or that is too large or too deep for it, is not an
//! error to show to anyone: the proxy lets a server judge it.

mod argument;
mod body;
mod children;
mod ddl;
mod ddl_types;
mod describe;
mod dml;
mod names;
mod object;
mod session;
mod statement_node;
mod text;
mod types;

pub use argument::UNIQUE_ARGUMENT;
pub use body::{
    BodyFacts, body_changes_schema, body_keeps_custom_setting, plpgsql_body_facts, set_config_names,
    sql_body_facts,
};
pub use ddl_types::*;
pub use statement_node::StatementNode;
pub use text::{strip_drover_options, without_sequence_defaults};
pub use types::*;

use crate::scan::{Scanner, StringKind, TokenKind};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Parses a text of any number of statements.
///
/// # Errors
/// [`ParseFailure::Syntax`] when the grammar rejects it, otherwise what keeps it from being read.
pub fn parse(sql: &str, options: &ParseOptions) -> Result<Vec<RawStatement>, ParseFailure> {
    guard(sql, options)?;
    let respelled = || pg_raw_parse::parse(&argument::respelled(sql)?).ok();
    let tree = pg_raw_parse::parse(sql).ok().or_else(respelled);
    let tree = tree.ok_or(ParseFailure::Syntax)?;
    // The binding panics where the grammar returns a list element of a type it does not expect. No such text is
    // known to reach it, but a panic must not end a session over what a server may well accept.
    let described = catch_unwind(AssertUnwindSafe(|| {
        tree.iter()
            .map(|raw| describe::statement(sql, raw))
            .collect::<Result<Vec<_>, _>>()
    }));
    described.unwrap_or(Err(ParseFailure::Unsupported("unexpected tree")))
}

/// Refuses what the grammar or the binding cannot take: size, nesting, and strings that are not what they seem.
fn guard(sql: &str, options: &ParseOptions) -> Result<(), ParseFailure> {
    if sql.len() > options.bytes_max {
        return Err(ParseFailure::TooLong {
            bytes: sql.len(),
            limit: options.bytes_max,
        });
    }
    if memchr::memchr(0, sql.as_bytes()).is_some() {
        return Err(ParseFailure::Unsupported("a zero byte"));
    }
    // Every level takes at least one byte, and only texts with a backslash need a look at their strings.
    let deep = sql.len() > options.depth_max;
    if !deep && memchr::memchr(b'\\', sql.as_bytes()).is_none() {
        return Ok(());
    }
    scan_guard(sql, options)
}

fn scan_guard(sql: &str, options: &ParseOptions) -> Result<(), ParseFailure> {
    let too_deep = ParseFailure::TooDeep {
        limit: options.depth_max,
    };
    let conforming = options.standard_conforming_strings;
    let mut scanner = Scanner::new(sql, conforming);
    let (mut depth, mut prefix) = (0usize, 0usize);
    while let Some(token) = scanner.next_token().map_err(|_| ParseFailure::Syntax)? {
        let text = &sql[token.start..token.end];
        let mut keeps_prefix = false;
        match token.kind {
            TokenKind::Punct(b'(' | b'[') => depth += 1,
            TokenKind::Punct(b')' | b']') => depth = depth.saturating_sub(1),
            TokenKind::Ident if text.eq_ignore_ascii_case("case") => depth += 1,
            TokenKind::Ident if text.eq_ignore_ascii_case("end") => depth = depth.saturating_sub(1),
            // Prefix operators nest without parentheses.
            TokenKind::Operator => keeps_prefix = true,
            TokenKind::Ident if text.eq_ignore_ascii_case("not") => keeps_prefix = true,
            TokenKind::String(StringKind::Plain) if !conforming && text.contains('\\') => {
                return Err(ParseFailure::Unsupported(
                    "a backslash in a string that may be an escape",
                ));
            }
            TokenKind::String(StringKind::Escape) if makes_raw_bytes(text) => {
                return Err(ParseFailure::Unsupported("an escape string with byte escapes"));
            }
            _ => {}
        }
        prefix = if keeps_prefix { prefix + 1 } else { 0 };
        if depth > options.depth_max || prefix > options.depth_max {
            return Err(too_deep);
        }
    }
    Ok(())
}

/// `\x…` and octal escapes can build bytes that are no UTF-8, which the binding cannot hold.
fn makes_raw_bytes(escape_string: &str) -> bool {
    let mut bytes = escape_string.bytes();
    while let Some(b) = bytes.next() {
        if b == b'\\' && matches!(bytes.next(), Some(b'x' | b'0'..=b'7')) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests;
