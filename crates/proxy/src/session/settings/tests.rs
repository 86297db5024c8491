use super::*;

fn settings(pairs: &[(&str, &str)]) -> Settings {
    Settings::from_startup(pairs.iter().copied())
}

#[test]
fn equal_settings_need_nothing() {
    assert_eq!(
        settings(&[("TimeZone", "UTC")]).difference(&settings(&[("timezone", "UTC")])),
        None
    );
}

#[test]
fn lists_of_names_in_a_startup_packet_stay_lists() {
    let text = |value| {
        settings(&[("search_path", value)])
            .get("search_path")
            .map(str::to_owned)
    };
    let same = |value, sql: &str| {
        assert_eq!(
            text(value).as_deref(),
            Some(format!("SET \"search_path\" TO {sql}").as_str())
        );
    };
    same("a, B ,\"C\"\"d, e\", \"$user\"", "'a', 'b', 'C\"d, e', '$user'");
    same("", "''");
    // What SET made of an empty list reads back as a name without letters.
    same("\"\"", "''");
}

#[test]
fn the_difference_resets_what_is_gone_and_sets_what_is_new() {
    let text = settings(&[("timezone", "UTC")]).difference(&settings(&[("work_mem", "1MB")]));
    assert_eq!(
        text.as_deref(),
        Some("RESET \"work_mem\";SET \"timezone\" TO 'UTC';")
    );
}

#[test]
fn a_role_is_left_before_other_settings_and_entered_after_them() {
    let text = settings(&[("role", "b"), ("work_mem", "1MB")]).difference(&settings(&[("role", "a")]));
    assert_eq!(
        text.as_deref(),
        Some("RESET role;SET \"work_mem\" TO '1MB';SET \"role\" TO 'b';")
    );
}

#[test]
fn what_comes_after_a_local_setting_hides_it() {
    let mut history = SettingsHistory::new(Rc::new(settings(&[("datestyle", "ISO")])));
    history.begin();
    history.set_local("SET LOCAL TIME ZONE 'Asia/Tokyo'".to_owned());
    history.set_local("SET LOCAL DateStyle = German".to_owned());
    history.set_local("SET LOCAL role u".to_owned());
    history.savepoint("a");
    history.set("timezone", "SET timezone TO 'CET'".to_owned());
    history.reset_all(false);
    history.reset("role");
    assert_eq!(
        history.joining("BEGIN"),
        "BEGIN;SET LOCAL TIME ZONE 'Asia/Tokyo';SET LOCAL DateStyle = German;SET LOCAL role u;SAVEPOINT \"a\";\
         SET timezone TO 'CET';RESET \"timezone\";SET \"datestyle\" TO 'ISO';RESET \"timezone\";RESET role;"
    );
    history.rollback_to("a");
    assert_eq!(
        history.local_text(),
        "SET LOCAL TIME ZONE 'Asia/Tokyo';SET LOCAL DateStyle = German;SET LOCAL role u;"
    );
}

#[test]
fn plans_are_shared_unless_a_setting_may_matter() {
    assert!(PLANNED_ALIKE.is_sorted());
    for name in [
        "work_mem",
        "temp_buffers",
        "enable_seqscan",
        "application_name",
        "my.tenant",
        "drover.read_from",
    ] {
        assert!(plans_alike(name), "{name}");
    }
    for name in [
        "timezone",
        "array_nulls",
        "intervalstyle",
        "role",
        "lc_monetary",
        "session_replication_role",
    ] {
        assert!(!plans_alike(name), "{name}");
    }
    let mut history = SettingsHistory::new(Rc::default());
    history.begin();
    history.set_local("SET LOCAL my.tenant = '1'".to_owned());
    history.set_local("SET TRANSACTION READ ONLY".to_owned());
    assert!(history.is_planned_plainly());
    history.set_local("SET LOCAL array_nulls = off".to_owned());
    assert!(!history.is_planned_plainly());
}

#[test]
fn a_rollback_undoes_settings_and_a_commit_keeps_them() {
    let mut history = SettingsHistory::new(Rc::default());
    history.begin();
    history.set("timezone", "SET timezone TO 'UTC'".to_owned());
    history.savepoint("a");
    history.set("timezone", "SET timezone TO 'CET'".to_owned());
    history.set_local("SET LOCAL work_mem = '1MB'".to_owned());
    assert_eq!(
        history.joining("BEGIN"),
        "BEGIN;SET timezone TO 'UTC';SAVEPOINT \"a\";SET timezone TO 'CET';SET LOCAL work_mem = '1MB';"
    );
    history.rollback_to("a");
    assert_eq!(
        history.joining("BEGIN"),
        "BEGIN;SET timezone TO 'UTC';SAVEPOINT \"a\";"
    );
    history.end(false);
    assert!(history.current().is_empty());
    history.begin();
    history.set("timezone", "SET timezone TO 'UTC'".to_owned());
    history.end(true);
    assert!(!history.current().is_empty());
}
