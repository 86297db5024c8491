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
    /// It may run a statement that leaves something in the server process which no setting shows (LISTEN, LOAD,
    /// SELECT INTO, a utility statement of language `sql` …). NOTIFY is not one of them: see `notifies`.
    pub acts_on_session: bool,
    /// It may make a custom setting (`app.tenant`) that outlasts the transaction: no view of PostgreSQL shows those.
    pub keeps_custom_setting: bool,
    /// It may say NOTIFY. Calls of `pg_notify` are among the functions.
    pub notifies: bool,
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

/// True when a body may make a custom setting that outlasts its transaction: `set_config` with a dotted or computed name
/// and not `true` at its end, `SET a.b`, or a string that could be either when it is executed.
pub fn body_keeps_custom_setting(body: &str) -> bool {
    let Some(tokens) = tokens(body) else { return true };
    let word = |at: usize, wanted: &str| {
        tokens
            .get(at)
            .is_some_and(|(kind, text)| *kind == TokenKind::Ident && text.eq_ignore_ascii_case(wanted))
    };
    let is = |at: usize, byte: u8| {
        tokens
            .get(at)
            .is_some_and(|(kind, _)| *kind == TokenKind::Punct(byte))
    };
    (0..tokens.len()).any(|at| match tokens[at] {
        (TokenKind::Ident | TokenKind::QuotedIdent, name) if is_set_config(name) => {
            let plain = constant_name(&tokens[at + 1..]).is_some_and(|name| !name.contains('.'));
            !plain && !ends_with_true(&tokens[at + 1..])
        }
        (TokenKind::Ident, _) if word(at, "set") => {
            let name = if word(at + 1, "session") { at + 2 } else { at + 1 };
            !word(at + 1, "local") && is(name + 1, b'.')
        }
        // Text to be executed.
        (TokenKind::String(_), text) => {
            let text = text.to_ascii_lowercase();
            let starts = text
                .trim_start_matches(['\'', '$'])
                .trim_start()
                .starts_with("set ");
            text.contains("set_config") || (starts && (text.contains('.') || text.contains('%')))
        }
        _ => false,
    })
}

/// The settings that calls of `set_config` in a statement name; none when some name is not a plain constant.
pub fn set_config_names(text: &str) -> Option<Vec<String>> {
    let tokens = tokens(text)?;
    if let Some(name) = looked_up_name(&tokens) {
        return Some(vec![name.to_owned()]);
    }
    let calls = (0..tokens.len()).filter(
        |at| matches!(tokens[*at], (TokenKind::Ident | TokenKind::QuotedIdent, name) if is_set_config(name)),
    );
    calls
        .map(|at| constant_name(&tokens[at + 1..]).map(str::to_owned))
        .collect()
}

fn is_set_config(word: &str) -> bool {
    word.trim_matches('"').eq_ignore_ascii_case("set_config")
}

/// `SELECT set_config(name, …, …) FROM pg_settings WHERE name = 'name'`, which sets a setting where there is one of this name.
/// Every `pg_dump` since 2024 begins with it.
fn looked_up_name<'a>(tokens: &[(TokenKind, &'a str)]) -> Option<&'a str> {
    let is = |at: usize, wanted: &str| {
        tokens
            .get(at)
            .is_some_and(|(_, text)| text.eq_ignore_ascii_case(wanted))
    };
    let is_all = |from: usize, wanted: &[&str]| wanted.iter().enumerate().all(|(n, word)| is(from + n, word));
    let literal = |at: usize| match tokens.get(at)? {
        (TokenKind::String(StringKind::Plain), text) => text.strip_prefix('\'')?.strip_suffix('\''),
        _ => None,
    };
    let call = if is_all(1, &["pg_catalog", "."]) { 3 } else { 1 };
    let (value, local) = (literal(call + 4), call + 6);
    let view = local + 3;
    let condition = if is_all(view, &["pg_catalog", "."]) {
        view + 3
    } else {
        view + 1
    };
    let name = literal(condition + 3)?;
    let whole = is(0, "select")
        && is_all(call, &["set_config", "(", "name", ","])
        && value.is_some()
        && is_all(call + 5, &[","])
        && (is(local, "true") || is(local, "false"))
        && is_all(local + 1, &[")", "from"])
        && is(condition - 1, "pg_settings")
        && is_all(condition, &["where", "name", "="])
        && (condition + 4 == tokens.len() || (condition + 5 == tokens.len() && is(condition + 4, ";")));
    (whole && !name.contains(['\'', '\\'])).then_some(name)
}

/// `( 'name' ,`
fn constant_name<'a>(call: &[(TokenKind, &'a str)]) -> Option<&'a str> {
    match call {
        [
            (TokenKind::Punct(b'('), _),
            (TokenKind::String(StringKind::Plain), name),
            (TokenKind::Punct(b','), _),
            ..,
        ] => {
            let name = name.strip_prefix('\'')?.strip_suffix('\'')?;
            (!name.contains(['\'', '\\'])).then_some(name)
        }
        _ => None,
    }
}

fn tokens(text: &str) -> Option<Vec<(TokenKind, &str)>> {
    let mut scanner = Scanner::new(text, true);
    let mut tokens = Vec::new();
    while let Some(token) = scanner.next_token().ok()? {
        tokens.push((token.kind, text.get(token.start..token.end)?));
    }
    Some(tokens)
}

/// `( … , true )`: the call's last argument.
fn ends_with_true(tokens: &[(TokenKind, &str)]) -> bool {
    let mut depth = 0;
    for (at, (kind, _)) in tokens.iter().enumerate() {
        match kind {
            TokenKind::Punct(b'(') => depth += 1,
            TokenKind::Punct(b')') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let last = at.checked_sub(1).and_then(|at| tokens.get(at));
            let comma = at.checked_sub(2).and_then(|at| tokens.get(at));
            return last.is_some_and(|(_, text)| text.eq_ignore_ascii_case("true"))
                && comma.is_some_and(|(kind, _)| *kind == TokenKind::Punct(b','));
        }
    }
    false
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
        facts.notifies |= statement.kind == K::Notify;
        facts.acts_on_session |= statement.names.select_into
            || !matches!(
                statement.kind,
                K::Select | K::Insert | K::Update | K::Delete | K::Merge | K::Notify
            );
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
    tidy(&mut facts, body);
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
    tidy(&mut facts, body);
    facts
}

fn keyword(word: &str, starts: bool, facts: &mut BodyFacts) {
    let is = |k: &str| word.eq_ignore_ascii_case(k);
    facts.dynamic_sql |= is("execute") || is("prepare");
    facts.sets_config |= is("set_config") || (starts && (is("set") || is("reset") || is("discard")));
    let acts = ["listen", "unlisten", "load", "deallocate"];
    facts.acts_on_session |= starts && acts.iter().any(|verb| is(verb));
    facts.notifies |= starts && is("notify");
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

fn tidy(facts: &mut BodyFacts, body: &str) {
    facts.sets_config |= facts.functions.iter().any(|f| f.name == "set_config");
    facts.keeps_custom_setting = (facts.sets_config || facts.dynamic_sql) && body_keeps_custom_setting(body);
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
        assert!(!facts.acts_on_session && !facts.notifies);
        assert!(sql_body_facts("notify c").notifies && !sql_body_facts("notify c").acts_on_session);
        for text in [
            "select 1 into temp t",
            "listen c",
            "create temp table t(a int)",
            "load 'x'",
        ] {
            assert!(sql_body_facts(text).acts_on_session, "{text}");
        }
    }

    #[test]
    fn custom_settings_that_last_are_found() {
        for text in [
            "begin perform set_config('app.tenant', x, false); end",
            "begin perform pg_catalog.set_config('app.' || k, v, false); end",
            "begin perform set_config(k, v, l); end",
            "begin set app.tenant = 'x'; end",
            "begin set session app.tenant to 'x'; end",
            "begin execute 'set app.tenant = 1'; end",
            "begin execute format('SET %I = %L', k, v); end",
            "begin execute $q$ select set_config('a.b', 'c', false) $q$; end",
        ] {
            assert!(plpgsql_body_facts(text).keeps_custom_setting, "{text}");
        }
        for text in [
            "begin perform set_config('work_mem', f(x, (y)), false); end",
            "begin perform set_config('app.tenant', f(x, (y)), true); end",
            "begin set local app.tenant = 'x'; end",
            "begin set work_mem = '1MB'; end",
            "begin execute 'update t set a = 1'; update s.t set a = 1; end",
        ] {
            assert!(!plpgsql_body_facts(text).keeps_custom_setting, "{text}");
        }
        assert!(sql_body_facts("select set_config('app.tenant', $1, false)").keeps_custom_setting);
        let names = |text| set_config_names(text).map(|names| names.join(" "));
        assert_eq!(
            names("select set_config('a.b', '1', false), pg_catalog.\"set_config\" ('c', x, true)")
                .as_deref(),
            Some("a.b c")
        );
        assert_eq!(
            names("select set_config('a.' || 'b', '1', false), set_config('c', 'd', true)"),
            None
        );
        assert_eq!(names("select set_config($1, '1', false)"), None);
        for (text, name) in [
            (
                "SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'",
                Some("restrict_nonsystem_relation_kind"),
            ),
            (
                "select pg_catalog.set_config(name,'x',true) from pg_catalog.pg_settings where name='a.b';",
                Some("a.b"),
            ),
            (
                "select set_config(name, 'x', false) from pg_settings where name = 'a' or true",
                None,
            ),
            (
                "select set_config(name, 'x', false) from settings where name = 'a'",
                None,
            ),
            (
                "select set_config(name, 'x', false) from pg_settings where name = $1",
                None,
            ),
            (
                "select set_config(name, setting, false) from pg_settings where name = 'a'",
                None,
            ),
        ] {
            assert_eq!(names(text).as_deref(), name, "{text}");
        }
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
        assert!(plpgsql_body_facts("begin if x then listen c; end if; end").acts_on_session);
        assert!(plpgsql_body_facts("begin notify c; end").notifies);
        let silent =
            plpgsql_body_facts("declare listen int; begin select load into x from t; return new; end");
        assert!(!silent.acts_on_session && !silent.notifies);
    }
}
