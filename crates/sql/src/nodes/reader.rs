//! Text to [`Node`].

use super::{NodeError, Value};

/// Reads one tree (or list of trees) from unwrapped text.
///
/// # Errors
/// The text is malformed or exceeds a limit.
pub fn parse(text: &str) -> Result<Value, NodeError> {
    let _ = text;
    Err(NodeError::Malformed {
        offset: 0,
        expected: "a tree",
    })
}

/// Reads a tree from the DETAIL of a server's `rewritten parse tree:` message, whose lines are wrapped.
///
/// # Errors
/// The text is malformed or exceeds a limit.
pub fn parse_wrapped(text: &str) -> Result<Value, NodeError> {
    parse(text)
}
