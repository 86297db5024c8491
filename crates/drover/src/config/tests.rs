use std::path::Path;

use super::docs::{EXAMPLE, page};
use super::*;

/// The problems of a text, one per line; or nothing.
fn problems(text: &str) -> String {
    match Config::parse(text) {
        Ok(_) => String::new(),
        Err(ConfigError::Wrong(problems)) => problems.iter().map(|problem| format!("{problem}\n")).collect(),
        Err(error) => panic!("{error}"),
    }
}

/// The problems that `lines` adds to a good configuration. Its first line is line 1.
fn check(lines: &str, expect: &[&str]) {
    let found = problems(&format!("{lines}\n{EXAMPLE}"));
    assert_eq!(found.lines().collect::<Vec<_>>(), expect);
}

#[test]
fn the_example_is_complete() {
    let config = Config::parse(EXAMPLE).unwrap();
    assert_eq!(config.proxy.listen.first.to_string(), "127.0.0.1:6432");
    assert_eq!(config.proxy.workers, 0);
    assert_eq!(config.pool.pool_size, 20);
    assert_eq!(config.pool.idle_timeout.as_secs(), 600);
    assert_eq!(config.limits.gather_max_bytes, Bytes(64 << 20));
    assert_eq!(config.shards[1].replicas[0].to_string(), "db2b.example.com:5432");
    assert!(matches!(config.users[0].password, Some(Password::Clear(_))));
}

#[test]
fn everything_can_be_set() {
    let text = format!(
        "[proxy]\nlisten = \"[::1]:7000\"\nhttp = \"0.0.0.0:7001\"\nhttp_token = \"t\"\nworkers = 2\nclients_per_worker = 8\nid = \"p-1\"\n\
         [pool]\npool_size = 1\nidle_timeout = \"0s\"\nmax_lifetime = \"250ms\"\n\
         [limits]\nmax_message_bytes = 4096\ngather_max_bytes = \"2GiB\"\n\
         [store]\npath = \"s\"\n{EXAMPLE}"
    );
    let config = Config::parse(&text).unwrap();
    assert_eq!(config.pool.max_lifetime.as_millis(), 250);
    assert_eq!(config.limits.max_message_bytes, Bytes(4096));
    assert_eq!(config.limits.gather_max_bytes, Bytes(2 << 30));
}

#[test]
fn unknown_names_are_errors_that_name_the_nearest() {
    check(
        "[pool]\npol_size = 3\n[limit]\nmax_clients = 1",
        &[
            "2:1: unknown option `pol_size` in [pool]; the nearest known is `pool_size`",
            "3:2: unknown section [limit]; the nearest known is `[limits]`",
        ],
    );
}

#[test]
fn wrong_values_say_what_would_be_right() {
    check(
        "[proxy]\nlisten = \"localhost\"\nworkers = \"two\"\n[pool]\nidle_timeout = 5\npool_size = -1\nmulti_shard_pool = 0\n\
         connection_timeout = \"5 parsecs\"",
        &[
            "2:10: `listen`: `localhost` is not an IP address and a port, such as \"127.0.0.1:6432\"",
            "3:11: `workers`: must be a whole number, this is text",
            "5:16: `idle_timeout`: must be a duration such as \"500ms\", \"5s\", \"10m\" or \"1h\", this is a whole number",
            "6:13: `pool_size`: -1 is not a number from 0 to 4294967295",
            "8:22: `connection_timeout`: `5 parsecs` is not a duration such as \"500ms\", \"5s\", \"10m\" or \"1h\"",
        ],
    );
}

#[test]
fn rules_that_make_no_sense_are_problems_where_they_are() {
    check(
        "[[rules]]\nname = \"a\"\nstatement = \"DELETE FROM t\"\naction = \"rewrite\"\n\
         [[rules]]\nname = \"b\"\nstatement = \"DELETE FROM t\"\nrewrite = \"SELECT 1\"\nmode = \"never\"",
        &[
            "1:1: `rewrite` is missing in [[rules]]: the action is \"rewrite\"",
            "9:8: `mode`: must be \"enforce\" or \"dry-run\"",
        ],
    );
    check(
        "[[rules]]\nname = \"a\"\nstatement = \"SELECT 1; SELECT 2\"\n\
         [[rules]]\nname = \"b\"\nstatement = \"SELECT 1\"\naction = \"rewrite\"\nrewrite = \"SELECT $2\"\n\
         [[rules]]\nname = \"b\"\nstatement = \"SELECT a\"\nsqlstate = \"00000\"",
        &[
            "3:1: `statement`: it has more than one statement; each is looked at by itself",
            "8:1: `rewrite`: $2 is none of the 1 constants of `statement`",
            "10:1: `name`: rule `b` is there twice",
            "12:1: `sqlstate`: five digits and capital letters are needed, which are an error's",
        ],
    );
    check(
        "[[rules]]\nname = \"a\"\nstatement = \"SELECT ?\"\nmessage = \"no\"\nsqlstate = \"42501\"",
        &[],
    );
}

#[test]
fn options_that_do_not_fit_together() {
    check(
        "[proxy]\nhttp = \"0.0.0.0:6480\"\n[pool]\npool_size = 0",
        &[
            "2:1: `http` listens on 0.0.0.0:6480, which is not loopback: `http_token` is needed",
            "4:1: `pool_size` must be at least 1",
        ],
    );
    check(
        "[store]\nlease_ttl = \"10ms\"",
        &["2:1: `lease_ttl` must be between 1s and 1m"],
    );
    check(
        "[limits]\noutcome_retention = \"59s\"",
        &["2:1: `outcome_retention` must be 1m or more"],
    );
    let twice = format!("{EXAMPLE}[[shards]]\nname = \"shard_1\"\nprimary = \"db1.example.com:5432\"\n");
    let found = problems(&twice);
    assert!(found.contains("shard `shard_1` is there twice"), "{found}");
    assert!(
        found.contains("server `db1.example.com:5432` is there twice"),
        "{found}"
    );
}

#[test]
fn missing_things_are_named_all_at_once() {
    let found = problems("[[users]]\nname = \"a\"\n");
    for missing in [
        "`user` is missing in [admin]",
        "`password` is missing in [admin]",
        "`password` is missing in [[users]]",
        "at least one [[databases]]",
        "at least one [[shards]]",
    ] {
        assert!(found.contains(missing), "{missing}: {found}");
    }
}

#[test]
fn what_is_not_toml_is_found_with_the_rest() {
    let found = problems("[pool]\npool_size =\nqueue_limti = 3\n");
    assert!(found.lines().any(|line| line.starts_with("2:")), "{found}");
    assert!(found.contains("the nearest known is `queue_limit`"), "{found}");
}

#[test]
fn passwords_are_never_shown() {
    let secret = "hunter2hunter2";
    let texts = [
        format!("[admin]\nuser = \"a\"\npassword = \"{secret}\nx"),
        format!("[admin]\npassword = [\"{secret}\"]\n"),
        format!("[[users]]\nname = \"a\"\npassword = \"SCRAM-SHA-256${secret}\"\n"),
        format!("[proxy]\nhttp_token = {{ a = \"{secret}\" }}\n"),
    ];
    for text in texts {
        let found = problems(&text);
        assert!(!found.is_empty() && !found.contains(secret), "{found}");
    }
    let config = Config::parse(&EXAMPLE.replace("secret", secret)).unwrap();
    assert!(!format!("{config:?}").contains(secret));
}

#[test]
fn verifiers_are_told_from_passwords() {
    let verifier = "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                    wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    let config = Config::parse(&EXAMPLE.replace("another secret", verifier)).unwrap();
    assert!(matches!(config.users[0].password, Some(Password::Verifier(_))));
}

/// With `DROVER_UPDATE_DOCS` set the file is written instead.
#[test]
fn documentation_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    if std::env::var_os("DROVER_UPDATE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/configuration.md is old: run this test with DROVER_UPDATE_DOCS=1"
    );
}

/// A directory with files of these names, texts and rights.
fn directory(files: &[(&str, &str, u32)]) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    for (name, text, mode) in files {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode)).unwrap();
    }
    directory
}

#[test]
fn secrets_may_be_in_files_and_in_the_environment() {
    let text = EXAMPLE
        .replace("\"secret\"", "{ file = \"admin.secret\" }")
        .replace("\"another secret\"", "{ env = \"CARGO_PKG_NAME\" }");
    let files = [
        ("drover.toml", text.as_str(), 0o600),
        ("admin.secret", "hunter2\n", 0o640),
    ];
    let directory = directory(&files);
    let config = Config::load(&directory.path().join("drover.toml")).unwrap();
    assert_eq!(config.admin.password.expose(), "hunter2");
    assert!(
        matches!(&config.users[0].password, Some(Password::Clear(secret)) if secret.expose() == "drover")
    );
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert!(!format!("{config:?}").contains("hunter2"));

    let missing = text
        .replace("admin.secret", "no.secret")
        .replace("CARGO_PKG_NAME", "NO_SUCH_NAME_1");
    std::fs::write(directory.path().join("drover.toml"), missing).unwrap();
    let error = Config::load(&directory.path().join("drover.toml")).unwrap_err();
    let lines = error.lines("drover.toml").join("\n");
    assert!(
        lines.contains("drover.toml:3:12: `password`: cannot read"),
        "{lines}"
    );
    assert!(
        lines.contains("the environment has no text in `NO_SUCH_NAME_1`"),
        "{lines}"
    );
}

#[test]
fn a_secret_that_others_can_read_is_warned_of() {
    let text = EXAMPLE.replace("\"secret\"", "{ file = \"admin.secret\" }");
    let files = [
        ("drover.toml", text.as_str(), 0o600),
        ("admin.secret", "hunter2", 0o644),
    ];
    let directory = directory(&files);
    let config = Config::load(&directory.path().join("drover.toml")).unwrap();
    assert_eq!(config.warnings.len(), 1);
    let warning = &config.warnings[0];
    assert!(
        warning.contains("admin.secret") && warning.contains("644"),
        "{warning}"
    );
}

#[test]
fn users_and_rules_come_from_their_files() {
    let text = format!("[auth]\nhba_file = \"hba.conf\"\nauth_file = \"users.txt\"\n{EXAMPLE}");
    let verifier = "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                    wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    let users = format!(
        "\"app\" \"not this one\"\n\"a\" \"clear\"\n\"b\" \"md5{}\"\n\"c\" \"{verifier}\"\n\"d\" \"\"\n",
        "0".repeat(32)
    );
    let files = [
        ("drover.toml", text.as_str(), 0o600),
        (
            "hba.conf",
            "local all all trust\nhost all all samenet scram-sha-256\n",
            0o644,
        ),
        ("users.txt", users.as_str(), 0o600),
    ];
    let directory = directory(&files);
    let path = directory.path().join("drover.toml");
    let config = Config::load(&path).unwrap();
    let proxy = config.to_proxy();
    let names: Vec<&str> = proxy.users.iter().map(|user| user.name.as_str()).collect();
    assert_eq!(names, ["app", "a", "b", "c", "d"]);
    assert_eq!(proxy.auth.hba.unwrap().rules().len(), 2);

    std::fs::write(directory.path().join("hba.conf"), "local all all peer map=m\n").unwrap();
    let lines = Config::load(&path).unwrap_err().lines("drover.toml");
    assert!(
        lines[0].ends_with("hba.conf:1:1: the map \"m\" is not in `ident_file`"),
        "{lines:?}"
    );
    let mapped = text.replace("[auth]", "[auth]\nident_file = \"ident.conf\"");
    std::fs::write(directory.path().join("ident.conf"), "m root app\n").unwrap();
    std::fs::write(&path, mapped).unwrap();
    assert!(Config::load(&path).unwrap().to_proxy().auth.ident.is_some());

    std::fs::write(
        directory.path().join("hba.conf"),
        "local all all trust\nhost all all ldap\n",
    )
    .unwrap();
    std::fs::write(
        directory.path().join("users.txt"),
        "\"a\" \"SCRAM-SHA-256$x\"\nb\n",
    )
    .unwrap();
    let error = Config::load(&path).unwrap_err();
    let lines = error.lines("drover.toml");
    let place = |name: &str| directory.path().join(name).display().to_string();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].starts_with(&format!("{}:2:1: ", place("hba.conf"))),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with(&format!("{}:2:1: ", place("users.txt"))),
        "{lines:?}"
    );
}

#[test]
fn users_must_come_from_somewhere_and_credentials_fit() {
    let without_users = EXAMPLE.replace("[[users]]\nname = \"app\"\npassword = \"another secret\"\n", "");
    assert!(problems(&without_users).contains("at least one [[users]] is needed"));
    let query = "[auth]\nauth_query = \"SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1\"\n";
    assert_eq!(problems(&format!("{query}{without_users}")), "");
    let literal = query.replace("$1", "'a'");
    assert!(problems(&format!("{literal}{without_users}")).contains("must be the parameter $1"));
    let credential = "[[credentials]]\nuser = \"app\"\nshard = \"shard_1\"\npassword = \"x\"\n";
    assert_eq!(problems(&format!("{EXAMPLE}{credential}")), "");
    let unknown = credential.replace("shard_1", "shard_9");
    assert!(problems(&format!("{EXAMPLE}{unknown}")).contains("shard `shard_9` is not in [[shards]]"));
    let twice = format!("{EXAMPLE}{credential}{credential}");
    assert!(problems(&twice).contains("there are two credentials of `app`"));
    let md5 = EXAMPLE.replace("another secret", &format!("md5{}", "a".repeat(32)));
    assert_eq!(problems(&format!("{md5}{credential}")), "");
    let verifier = EXAMPLE.replace("password = \"another secret\"", "");
    let found = problems(&format!("[auth]\nmethod = \"cert\"\n{verifier}{credential}"));
    assert!(
        found.contains("SCRAM pass-through excludes credentials per shard"),
        "{found}"
    );
    assert!(problems(&verifier).contains("`password` is missing in [[users]]"));
}
