//! Entry points for fuzzing: each takes arbitrary bytes and asserts what must hold of them.

/// The grammar wrapper: no panic, ranges inside the text.
pub fn raw_parse(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(statements) = crate::parse(text, &crate::ParseOptions::default()) else {
        return;
    };
    for statement in &statements {
        assert!(
            text.get(statement.range.clone()).is_some(),
            "range outside the text"
        );
    }
}

/// The normaliser: no panic, literals inside the text and in order.
pub fn normalise(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut buf = crate::NormalisedBuf::default();
    if crate::normalise(text, &mut buf, true) {
        let mut end = 0;
        for literal in &buf.literals {
            assert!(literal.start >= end, "literals overlap");
            end = literal.start + literal.len;
            assert!(!literal.slice(text).is_empty(), "literal outside the text");
        }
    }
}

/// The tree reader: no panic.
pub fn node_tree(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = crate::nodes::parse_wrapped(text);
    }
}
