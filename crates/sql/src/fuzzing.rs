//! Entry points for fuzzing: each takes arbitrary bytes and asserts what must hold of them.

/// The grammar wrapper, body readers and option stripper: no panic, ranges inside the text.
pub fn raw_parse(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    crate::plpgsql_body_facts(text);
    crate::strip_drover_options(text);
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

/// The tree reader, and the deparser on whatever it read: no panic.
pub fn node_tree(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let tree = match crate::nodes::parse_wrapped(text) {
        Ok(crate::Value::Node(node)) => *node,
        Ok(crate::Value::List(mut list)) => match list.pop() {
            Some(crate::Value::Node(node)) => *node,
            _ => return,
        },
        _ => return,
    };
    if let Ok(deparser) = crate::Deparser::new(&tree, &AnyName, &crate::deparse::NoRewrite) {
        // Most trees are refused; what matters is that each is either printed or refused.
        let _ = deparser.query();
    }
}

/// Knows a name for every object.
struct AnyName;

impl crate::NameSource for AnyName {
    fn relation(&self, oid: crate::Oid) -> Option<crate::QualifiedName> {
        Some(crate::QualifiedName::qualified("s", format!("r{oid}")))
    }

    fn column(&self, _: crate::Oid, attno: i16) -> Option<String> {
        Some(format!("c{attno}"))
    }

    fn function(&self, oid: crate::Oid) -> Option<crate::QualifiedName> {
        Some(crate::QualifiedName::qualified("s", format!("f{oid}")))
    }

    fn operator(&self, _: crate::Oid) -> Option<crate::QualifiedName> {
        Some(crate::QualifiedName::qualified("pg_catalog", "="))
    }

    fn type_name(&self, oid: crate::Oid, _: i32) -> Option<String> {
        Some(format!("s.t{oid}"))
    }

    fn collation(&self, oid: crate::Oid) -> Option<crate::QualifiedName> {
        Some(crate::QualifiedName::qualified("s", format!("c{oid}")))
    }
}
