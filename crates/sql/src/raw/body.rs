//! What the body of a function or DO block may touch.

use super::names;
use crate::QualifiedName;
use crate::scan::{Scanner, StringKind, TokenKind};

/// Longest body read, in bytes.
const BYTES_MAX: usize = 1 << 20;

/// Facts about a function body; relations and functions are over-approximations for PL/pgSQL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BodyFacts {
    /// Every relation it may name. For PL/pgSQL: every identifier chain in the body, by its last two parts, and (for
    /// `table.column`) by each pair of neighbours and each part alone.
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

impl BodyFacts {
    fn unknown(reason: &'static str) -> Self {
        Self {
            unknown: Some(reason),
            ..Self::default()
        }
    }
}

/// True when a function body may run a statement that changes the schema (or truncates), which nobody outside would
/// notice. Every keyword outside strings and comments counts, wherever it stands.
pub fn body_changes_schema(body: &str) -> bool {
    const VERBS: [&str; 11] = [
        "create", "alter", "drop", "truncate", "grant", "revoke", "reindex", "refresh", "import", "reassign",
        "comment",
    ];
    let mut scanner = crate::scan::Scanner::new(body, true);
    loop {
        match scanner.next_token() {
            Ok(None) => return false,
            // What cannot be scanned is not proved.
            Err(_) => return true,
            Ok(Some(token)) if token.kind == crate::scan::TokenKind::Ident => {
                let word = body.get(token.start..token.end).unwrap_or_default();
                if VERBS.iter().any(|verb| word.eq_ignore_ascii_case(verb)) {
                    return true;
                }
            }
            Ok(Some(_)) => {}
        }
    }
}

/// Facts about a body in language `sql`.
pub fn sql_body_facts(body: &str) -> BodyFacts {
    let options = super::ParseOptions {
        bytes_max: BYTES_MAX,
        ..super::ParseOptions::default()
    };
    let Ok(statements) = super::parse(body, &options) else {
        return BodyFacts::unknown("body is not readable SQL");
    };
    let mut facts = BodyFacts::default();
    for statement in statements {
        use super::StatementKind as K;
        facts.sets_config |= matches!(statement.kind, K::Set | K::Discard | K::SetConstraints);
        facts.dynamic_sql |= matches!(statement.kind, K::Do | K::Execute | K::Prepare);
        facts.relations.extend(statement.names.relations);
        facts.functions.extend(statement.names.functions);
        // A string can become the name of a relation by a cast to regclass.
        facts.relations.extend(
            statement
                .names
                .strings
                .iter()
                .flat_map(|s| names::chains_of_text(s)),
        );
    }
    tidy(&mut facts);
    facts
}

/// Facts about a body in language `plpgsql`.
///
/// Not a parser of the language: whatever could be a name is taken for one. What matters is that no relation the body
/// can name by static SQL is missing.
pub fn plpgsql_body_facts(body: &str) -> BodyFacts {
    if body.len() > BYTES_MAX {
        return BodyFacts::unknown("body is too long");
    }
    let mut facts = BodyFacts::default();
    let mut scanner = Scanner::new(body, true);
    let mut chain: Vec<String> = Vec::new();
    let mut after_dot = false;
    // SET and its like change a setting only at the start of a statement; elsewhere SET belongs to UPDATE.
    let mut starts = true;
    loop {
        let token = match scanner.next_token() {
            Ok(Some(token)) => token,
            Ok(None) => break,
            Err(_) => return BodyFacts::unknown("body cannot be scanned"),
        };
        let text = &body[token.start..token.end];
        match token.kind {
            TokenKind::Ident | TokenKind::QuotedIdent => {
                if !after_dot {
                    end_chain(&mut chain, false, &mut facts);
                }
                let bare = token.kind == TokenKind::Ident && !after_dot;
                if bare {
                    keyword(text, starts, &mut facts);
                }
                starts = bare
                    && ["begin", "then", "else", "loop"]
                        .iter()
                        .any(|k| text.eq_ignore_ascii_case(k));
                chain.push(fold(text, token.kind));
                after_dot = false;
                continue;
            }
            TokenKind::UnicodeIdent => return BodyFacts::unknown("body has a U& identifier"),
            TokenKind::Punct(b'.') if !chain.is_empty() => {
                after_dot = true;
                continue;
            }
            TokenKind::Punct(b'(') => end_chain(&mut chain, true, &mut facts),
            TokenKind::String(kind) => {
                end_chain(&mut chain, false, &mut facts);
                string(text, kind, &mut facts);
            }
            _ => end_chain(&mut chain, false, &mut facts),
        }
        after_dot = false;
        starts = token.kind == TokenKind::Punct(b';') || text == ">>";
    }
    end_chain(&mut chain, false, &mut facts);
    tidy(&mut facts);
    facts
}

fn keyword(word: &str, starts: bool, facts: &mut BodyFacts) {
    let is = |k: &str| word.eq_ignore_ascii_case(k);
    facts.dynamic_sql |= is("execute") || is("prepare");
    facts.sets_config |= is("set_config") || (starts && (is("set") || is("reset") || is("discard")));
}

/// A string may become the name of a relation (`'t'::regclass`, nextval) or hold a statement.
fn string(text: &str, kind: StringKind, facts: &mut BodyFacts) {
    let inner = match kind {
        StringKind::Plain => text.trim_matches('\''),
        // Nested dollar quotes hold code in DO blocks and function definitions, which are dynamic anyway.
        _ => text,
    };
    facts.relations.extend(names::chains_of_text(inner));
}

/// Unquoted identifiers fold to lower case as in a server; only ASCII, other letters depend on the encoding.
fn fold(text: &str, kind: TokenKind) -> String {
    match kind {
        TokenKind::QuotedIdent => {
            let inner = text
                .strip_prefix('"')
                .and_then(|t| t.strip_suffix('"'))
                .unwrap_or(text);
            inner.replace("\"\"", "\"")
        }
        _ => text.to_ascii_lowercase(),
    }
}

fn end_chain(chain: &mut Vec<String>, call: bool, facts: &mut BodyFacts) {
    if call && let Some(name) = super::object::from_parts(chain.clone()) {
        facts.functions.push(name);
    }
    facts.relations.extend(names::chains(chain));
    chain.clear();
}

fn tidy(facts: &mut BodyFacts) {
    facts.sets_config |= facts.functions.iter().any(|f| f.name == "set_config");
    facts.relations.sort_unstable();
    facts.relations.dedup();
    facts.functions.sort_unstable();
    facts.functions.dedup();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(list: &[QualifiedName], name: &str) -> bool {
        list.iter().any(|n| n.name == name)
    }

    #[test]
    fn sql_bodies_are_parsed() {
        let facts = sql_body_facts("insert into s.orders select f(x) from items; select nextval('q')");
        assert!(facts.relations.contains(&QualifiedName::qualified("s", "orders")));
        assert!(has(&facts.relations, "items") && has(&facts.relations, "q") && has(&facts.functions, "f"));
        assert!(!facts.dynamic_sql && !facts.sets_config && facts.unknown.is_none());
        assert!(sql_body_facts("selec").unknown.is_some());
        assert!(sql_body_facts("set work_mem = 1; do $$ $$").sets_config);
    }

    #[test]
    fn plpgsql_bodies_are_over_approximated() {
        let facts = plpgsql_body_facts(
            "declare r record; begin for r in select * from \"Orders\" o join s.items using (id) loop
               perform f(r.id); end loop; return new; end",
        );
        assert!(has(&facts.relations, "Orders") && has(&facts.functions, "f"));
        assert!(facts.relations.contains(&QualifiedName::qualified("s", "items")));
        assert!(!facts.dynamic_sql && !facts.sets_config && facts.unknown.is_none());
        for text in [
            "begin execute 'select 1'; end",
            "begin return query EXECUTE x; end",
        ] {
            assert!(plpgsql_body_facts(text).dynamic_sql, "{text}");
        }
        for text in [
            "begin set a = b; end",
            "begin if x then reset all; end if; end",
            "<<l>> begin x := 1; SET LOCAL a = b; end",
        ] {
            assert!(plpgsql_body_facts(text).sets_config, "{text}");
        }
        assert!(
            !plpgsql_body_facts(
                "begin update t set a = 1; insert into t values (1) on conflict do update set a = 2; end"
            )
            .sets_config
        );
        assert!(plpgsql_body_facts("begin perform set_config('a','b',true); end").sets_config);
        assert!(plpgsql_body_facts("begin perform pg_catalog.set_config('a','b',true); end").sets_config);
        assert!(plpgsql_body_facts("begin 'open").unknown.is_some());
    }
}
