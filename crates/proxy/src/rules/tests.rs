//! What rules are compiled to, and what they make of statements.

use super::*;

fn config(name: &str, matches: &str, action: RuleAction) -> RuleConfig {
    RuleConfig {
        name: name.to_owned(),
        matches: matches.to_owned(),
        user: None,
        database: None,
        action,
        is_enforced: true,
    }
}

fn block() -> RuleAction {
    RuleAction::Block {
        sqlstate: None,
        message: None,
    }
}

fn rewrite(text: &str) -> RuleAction {
    RuleAction::Rewrite {
        text: text.to_owned(),
    }
}

fn problem(configs: &[RuleConfig]) -> String {
    let problems = Rules::new(configs).expect_err("a problem");
    let lines = problems
        .iter()
        .map(|p| format!("{} {}: {}", p.rule, p.option, p.message));
    lines.collect::<Vec<_>>().join("; ")
}

#[test]
fn the_first_rule_that_fits_is_the_rule() {
    let mut own = config("own", "delete from t", block());
    own.user = Some("web".to_owned());
    own.database = Some("app".to_owned());
    let rules = Rules::new(&[own, config("all", "DELETE FROM T;", block())]).expect("rules");
    let find = |database: &str, user: &str, text: &str| {
        let shape = sql::shape(text, true).expect("a shape");
        let found = rules.find(database, user, &shape.text);
        found.map(|rule| rule.config.name.clone())
    };
    assert_eq!(find("app", "web", "Delete From t"), Some("own".to_owned()));
    assert_eq!(
        find("app", "other", "Delete /* x */ From t"),
        Some("all".to_owned())
    );
    assert_eq!(find("other", "web", "delete from t;"), Some("all".to_owned()));
    assert_eq!(find("app", "web", "delete from t where true"), None);
}

#[test]
fn places_go_where_the_rewrite_says() {
    let check = |matches: &str, text: &str, statement: &str, expected: Result<&str, &str>| {
        let rules = Rules::new(&[config("r", matches, rewrite(text))]).expect("rules");
        let shape = sql::shape(statement, true).expect("a shape");
        let rule = rules
            .find("d", "u", &shape.text)
            .unwrap_or_else(|| panic!("{statement}"));
        let found = rule.rewritten(statement, &shape, true);
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        match expected {
            Ok(expected) => assert_eq!(words(&found.expect("a rewrite")), expected, "{statement}"),
            Err(part) => {
                let reason = found.expect_err("a refusal").reason;
                assert!(reason.contains(part), "{reason}");
            }
        }
    };
    let (from, to) = (
        "SELECT * FROM t WHERE a = ? AND b = ?",
        "SELECT x FROM t WHERE b=$2 AND a=$1 LIMIT 10;",
    );
    check(
        from,
        to,
        "select * from t where a = 5 and b='it''s'",
        Ok("SELECT x FROM t WHERE b= 'it''s' AND a= 5 LIMIT 10"),
    );
    check(
        from,
        to,
        "select * from t where a = $2 and b=7",
        Ok("SELECT x FROM t WHERE b= 7 AND a= $2 LIMIT 10"),
    );
    let fewer = "SELECT x FROM t WHERE a = $1";
    check(
        from,
        fewer,
        "select * from t where a = 1 and b = 2",
        Ok("SELECT x FROM t WHERE a = 1"),
    );
    check(
        from,
        fewer,
        "select * from t where a = $1 and b = $2",
        Err("parameter $2"),
    );
    check(
        from,
        fewer,
        "select * from t where a = $1 and b = $1",
        Ok("SELECT x FROM t WHERE a = $1"),
    );
    check(
        "SELECT * FROM t WHERE a IN (?, …)",
        "SELECT * FROM t WHERE a = ANY (ARRAY[$1])",
        "SELECT * FROM t WHERE a IN (1, 2, 3)",
        Ok("SELECT * FROM t WHERE a = ANY (ARRAY[ 1, 2, 3 ])"),
    );
}

#[test]
fn what_makes_no_sense_is_said() {
    let check = |matches: &str, action: RuleAction, expected: &str| {
        let found = problem(&[config("r", matches, action)]);
        assert!(found.contains(expected), "{found}");
    };
    check("SELECT 'open", block(), "0 statement: it is no SQL");
    check(" -- nothing", block(), "no statement");
    check("COMMIT", block(), "control transactions");
    check("DELETE FROM t; DELETE FROM u", block(), "more than one");
    let code = |code: &str| RuleAction::Block {
        sqlstate: Some(code.to_owned()),
        message: None,
    };
    check("DELETE FROM t", code("00000"), "0 sqlstate");
    check("DELETE FROM t", code("4250"), "0 sqlstate");
    check("SELECT 1", rewrite("SELECT FROM WHERE"), "0 rewrite");
    check("SELECT 1", rewrite("SELECT 1; SELECT 2"), "one statement");
    check("SELECT 1", rewrite("SELECT $2"), "$2 is none of the 1 constants");
    check("SELECT 1", rewrite("ROLLBACK"), "controls transactions");
    check(
        "INSERT INTO t VALUES (1), (2)",
        rewrite("SELECT 1"),
        "rows of VALUES",
    );
    check(
        "INSERT INTO t VALUES (?), …",
        rewrite("SELECT 1"),
        "rows of VALUES",
    );
    check(
        "SELECT a FROM t WHERE k = 1",
        rewrite("SELECT a FROM t WHERE k = $1"),
        "rewritten by the rule `r`",
    );
    let twice = [config("r", "SELECT 1", block()), config("r", "SELECT 2", block())];
    assert!(problem(&twice).contains("there twice"));
}

#[test]
fn hits_outlive_a_reload_that_keeps_the_rule() {
    let (kept, gone) = (
        config("kept", "SELECT 1", block()),
        config("gone", "SELECT a", block()),
    );
    let before = Arc::new(Rules::new(&[gone, kept.clone()]).expect("rules"));
    before.iter().for_each(|rule| rule.hit());
    let same = Arc::new(Rules::new(&[config("gone", "SELECT a", block()), kept.clone()]).expect("rules"));
    assert!(Arc::ptr_eq(&same.after(&before), &before));
    let mut changed = kept.clone();
    changed.name = "new".to_owned();
    changed.is_enforced = false;
    let after = Arc::new(Rules::new(&[kept, changed]).expect("rules")).after(&before);
    let hits: Vec<_> = after.iter().map(|rule| (rule.mode(), rule.hits())).collect();
    assert_eq!(hits, [("enforce", 1), ("dry-run", 0)]);
    let shape = sql::shape("SELECT 2", true).expect("a shape");
    assert!(after.find("d", "u", &shape.text).is_some());
}
