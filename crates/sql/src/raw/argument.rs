//! `unique => true`: UNIQUE is a reserved word, which PostgreSQL's grammar takes as the name of an argument only in quotes.
//! `drover.create_global_index` has an argument of that name.

use crate::scan::{Scanner, TokenKind};

/// What the argument `unique` is called after [`parse`](super::parse): as long as that, so that every other word of the text
/// stays where it is.
pub const UNIQUE_ARGUMENT: &str = "uniqu_";

/// A text that the grammar rejects with that argument in the other spelling; `None`: it has none.
pub(super) fn respelled(sql: &str) -> Option<String> {
    let mut scanner = Scanner::new(sql, true);
    let (mut text, mut named, mut before) = (sql.to_owned(), false, None);
    while let Some(token) = scanner.next_token().ok()? {
        let word = sql.get(token.start..token.end)?;
        named |= word.eq_ignore_ascii_case("create_global_index");
        if let (TokenKind::Operator, "=>", Some(at)) = (token.kind, word, before.take())
            && named
        {
            text.replace_range(at, UNIQUE_ARGUMENT);
        }
        let unique = token.kind == TokenKind::Ident && word.eq_ignore_ascii_case("unique");
        before = unique.then_some(token.start..token.end);
    }
    (text != sql).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_argument_is_spelled_otherwise() {
        let text = "SELECT drover.create_global_index('unique => t', \"unique\" => 'unique', UNIQUE /* so */ => true)";
        let expected = "SELECT drover.create_global_index('unique => t', \"unique\" => 'unique', uniqu_ /* so */ => true)";
        assert_eq!(respelled(text).as_deref(), Some(expected));
        assert_eq!(respelled("SELECT f(unique => true)"), None);
        assert_eq!(respelled("SELECT drover.create_global_index('a', unique)"), None);
        assert_eq!(
            super::super::parse(text, &Default::default()).map(|list| list.len()),
            Ok(1)
        );
    }
}
