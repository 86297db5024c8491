//! What the body of a function or DO block may touch.

use crate::QualifiedName;

/// Facts about a function body; relations and functions are over-approximations for PL/pgSQL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BodyFacts {
    /// Every relation it may name. For PL/pgSQL: every identifier chain in the body.
    pub relations: Vec<QualifiedName>,
    /// Every function it may call. For PL/pgSQL: every identifier chain followed by `(`.
    pub functions: Vec<QualifiedName>,
    /// It runs SQL text built at run time.
    pub dynamic_sql: bool,
    /// It may change settings (SET, RESET, set_config, DISCARD).
    pub sets_config: bool,
    /// It cannot be read with certainty; the reason.
    pub unknown: Option<&'static str>,
}

/// Facts about a body in language `sql`.
pub fn sql_body_facts(body: &str) -> BodyFacts {
    let _ = body;
    BodyFacts {
        unknown: Some("not read"),
        ..BodyFacts::default()
    }
}

/// Facts about a body in language `plpgsql`.
pub fn plpgsql_body_facts(body: &str) -> BodyFacts {
    let _ = body;
    BodyFacts {
        unknown: Some("not read"),
        ..BodyFacts::default()
    }
}
