use super::*;
use crate::QualifiedName;

fn one(sql: &str) -> RawStatement {
    let mut list = parse(sql, &ParseOptions::default()).unwrap_or_else(|e| panic!("{sql}: {e}"));
    assert_eq!(list.len(), 1, "{sql}");
    list.remove(0)
}

fn named(list: &[QualifiedName]) -> Vec<String> {
    list.iter()
        .map(|n| n.schema.iter().map(|s| format!("{s}.")).collect::<String>() + &n.name)
        .collect()
}

fn detail(sql: &str) -> Detail {
    one(sql).detail
}

#[test]
fn ranges_of_statements() {
    let text = " /* x */ select 1 ; -- y\n  update t set a = 1";
    let list = parse(text, &ParseOptions::default()).expect("two");
    assert_eq!(&text[list[0].range.clone()], "select 1");
    assert_eq!(&text[list[1].range.clone()], "update t set a = 1");
    assert_eq!(parse("", &ParseOptions::default()), Ok(vec![]));
    assert_eq!(parse(" ; ;", &ParseOptions::default()), Ok(vec![]));
    assert_eq!(
        parse("selec 1", &ParseOptions::default()),
        Err(ParseFailure::Syntax)
    );
}

#[test]
fn names_are_found_everywhere() {
    let s = one(
        "with c as (delete from a.d where x in (select y from e) returning *), f as materialized (select 1) \
         select g(h.z), 'q'::regclass, nextval('seq'), $3 from c, lateral (select * from b.i order by 1 using operator(s.<)) j \
         left join k on l(k.x) @@ m.n(1) where exists (table o) and p collate \"C\" = any (array(select 1 from r)) \
         limit (select count(*) from u) for update",
    );
    assert_eq!(
        named(&s.names.relations),
        ["c", "e", "k", "o", "r", "u", "a.d", "b.i"]
    );
    assert_eq!(named(&s.names.functions), ["count", "g", "l", "nextval", "m.n"]);
    assert_eq!(s.names.ctes, ["c", "f"]);
    assert_eq!(s.names.strings, ["q", "seq"]);
    assert_eq!(named(&s.names.written), ["a.d"]);
    assert_eq!(named(&s.names.collations), ["C"]);
    assert!(s.names.operators.contains(&QualifiedName::qualified("s", "<")));
    assert!(s.names.locks_rows && !s.names.select_into);
    assert_eq!(s.names.params_max, 3);
    let ddl = one(
        "alter table a add constraint x foreign key (b) references s.c (d), alter column e type f.g using h(e)",
    );
    assert_eq!(named(&ddl.names.relations), ["a", "s.c"]);
    assert_eq!(named(&ddl.names.functions), ["h"]);
    assert_eq!(named(&one("drop table a, s.b").names.relations), ["a", "s.b"]);
    assert_eq!(
        named(&one("comment on column s.t.c is 'x'").names.relations),
        ["s.t"]
    );
    assert_eq!(
        named(&one("create view v as select * from t").names.relations),
        ["t", "v"]
    );
    assert_eq!(
        named(
            &one("create rule r as on insert to t do instead insert into u values (1)")
                .names
                .relations
        ),
        ["t", "u"]
    );
    assert_eq!(
        named(&one("grant select on a, s.b to x").names.relations),
        ["a", "s.b"]
    );
    assert_eq!(
        named(
            &one("create function f() returns int begin atomic select 1 from t; end")
                .names
                .relations
        ),
        ["t"]
    );
    for sql in [
        "grant usage on schema s to x",
        "grant execute on function f(int) to x",
        "grant a to b",
    ] {
        assert_eq!(one(sql).kind, StatementKind::Grant);
    }
    assert!(one("select current_date").names.value_functions);
    assert!(one("select 1 into t").names.select_into);
}

#[test]
fn transactions_and_settings() {
    use TransactionCommand::*;
    let modes = TransactionModes {
        isolation: Some(Isolation::Serializable),
        read_only: Some(true),
        deferrable: Some(false),
    };
    let check = |sql: &str, expect: TransactionCommand| {
        assert_eq!(detail(sql), Detail::Transaction(expect), "{sql}");
    };
    check("begin", Begin(TransactionModes::default()));
    check(
        "start transaction isolation level serializable, read only, not deferrable",
        Start(modes),
    );
    check("end and chain", Commit { chain: true });
    check("abort", Rollback { chain: false });
    check("savepoint \"A\"", Savepoint("A".into()));
    check("rollback to a", RollbackTo("a".into()));
    check("release a", Release("a".into()));
    check("prepare transaction 'x'", Prepare("x".into()));
    check("commit prepared 'x'", CommitPrepared("x".into()));
    check("rollback prepared 'x'", RollbackPrepared("x".into()));
    let set = |name: &str, values: &[&str], sql: Option<&str>, scope| {
        Detail::Setting(SettingCommand::Set {
            scope,
            name: name.into(),
            values: values.iter().map(|s| s.to_string()).collect(),
            sql: sql.map(str::to_owned),
        })
    };
    let session = SettingScope::Session;
    assert_eq!(
        detail("set Search_Path to a, \"B c\""),
        set("search_path", &["a", "B c"], Some("'a', 'B c'"), session)
    );
    assert_eq!(
        detail("set local work_mem = 64"),
        set("work_mem", &["64"], Some("64"), SettingScope::Local)
    );
    assert_eq!(
        detail("set time zone 'UTC'"),
        set("timezone", &["UTC"], Some("'UTC'"), session)
    );
    assert_eq!(
        detail("set drover.read_from = replica"),
        set("drover.read_from", &["replica"], Some("'replica'"), session)
    );
    assert_eq!(
        detail("set x.y = E'a\\\\b'"),
        set("x.y", &["a\\b"], Some("E'a\\\\b'"), session)
    );
    assert_eq!(
        detail("set seed to -0.5"),
        set("seed", &["-0.5"], Some("-0.5"), session)
    );
    assert_eq!(detail("reset all"), Detail::Setting(SettingCommand::ResetAll));
    assert_eq!(
        detail("show all"),
        Detail::Setting(SettingCommand::Show { name: "all".into() })
    );
    assert_eq!(
        detail("discard plans"),
        Detail::Setting(SettingCommand::Discard(DiscardTarget::Plans))
    );
    assert_eq!(
        detail(
            "set session characteristics as transaction isolation level serializable, read only, not deferrable"
        ),
        Detail::Setting(SettingCommand::SessionCharacteristics(modes))
    );
    assert_eq!(
        detail("set x to default"),
        Detail::Setting(SettingCommand::SetDefault {
            scope: session,
            name: "x".into()
        })
    );
}

#[test]
fn inserts_record_their_rows() {
    let text = "insert into s.t as x (a, b) values ($1, 'it''s'), (-5, default), (f((1)), '7'::int4) on conflict do nothing returning a";
    let Detail::Insert(i) = detail(text) else { panic!() };
    assert_eq!(
        (i.table.to_string().as_str(), i.alias.as_deref()),
        ("\"s\".\"t\"", Some("x"))
    );
    assert_eq!(i.columns, ["a", "b"]);
    assert!(i.on_conflict && i.returning && !i.with && !i.default_values);
    let v = i.values.expect("values");
    assert!(v.plain);
    let rows: Vec<&str> = v.rows.iter().map(|r| &text[r.range.clone()]).collect();
    assert_eq!(rows, ["($1, 'it''s')", "(-5, default)", "(f((1)), '7'::int4)"]);
    assert_eq!(v.rows[0].values[0], RowExpr::Param(1));
    let literal = |e: &RowExpr| match e {
        RowExpr::Literal(r) => text[r.clone()].to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(literal(&v.rows[0].values[1]), "'it''s'");
    assert_eq!(literal(&v.rows[1].values[0]), "-5");
    assert_eq!(v.rows[1].values[1], RowExpr::Default);
    assert_eq!(v.rows[2].values[0], RowExpr::Other);
    assert!(matches!(&v.rows[2].values[1], RowExpr::Cast { inner, .. } if literal(inner) == "'7'"));
    let Detail::Insert(i) = detail("insert into values (a) values (1)") else {
        panic!()
    };
    assert_eq!(i.values.map(|v| v.rows[0].values.len()), Some(1));
    let Detail::Insert(i) = detail("insert into t select 1") else {
        panic!()
    };
    assert_eq!(i.values, None);
    let Detail::Insert(i) = detail("insert into t default values") else {
        panic!()
    };
    assert!(i.default_values);
}

#[test]
fn inner_statements_are_located() {
    let check = |text: &str, expect: &str| {
        let range = match detail(text) {
            Detail::Explain(e) => e.inner,
            Detail::Prepare { inner, .. } => inner,
            Detail::Cursor(Cursor::Declare { query, .. }) => query,
            Detail::Copy(c) => c.query.expect("query"),
            Detail::CreateTableAs(c) => c.query.expect("query"),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(&text[range], expect, "{text}");
    };
    check("explain (route, verbose on) select 1", "select 1");
    check("explain analyze verbose update t set a = 1", "update t set a = 1");
    check("explain (select 1)", "(select 1)");
    check(
        "prepare p (int, numeric(1,2)) as select $1 as x",
        "select $1 as x",
    );
    check(
        "declare c scroll cursor with hold for select 1 for update",
        "select 1 for update",
    );
    check("copy (select (1) from t) to stdout", "select (1) from t");
    check(
        "create table a (x) with (fillfactor = 10) as select 1 as y with no data",
        "select 1 as y",
    );
    check("create materialized view a as table b", "table b");
    let Detail::Explain(e) = detail("explain (route) select * from t") else {
        panic!()
    };
    assert!(e.route && !e.analyze);
    assert_eq!(named(&e.statement.names.relations), ["t"]);
}

#[test]
fn copy_options() {
    let Detail::Copy(c) = detail(
        "copy s.t (a, b) from stdin with (format csv, header match, null '', delimiter ';') where a > 1",
    ) else {
        panic!()
    };
    assert_eq!(c.columns, ["a", "b"]);
    assert!(c.from && c.has_where);
    assert_eq!(c.endpoint, CopyEndpoint::Client);
    let o = &c.options;
    assert_eq!(
        (o.format.as_deref(), o.header.as_deref()),
        (Some("csv"), Some("match"))
    );
    assert_eq!((o.null.as_deref(), o.delimiter.as_deref()), (Some(""), Some(";")));
    let Detail::Copy(c) = detail("copy t to '/x' csv header quote '|' force quote *") else {
        panic!()
    };
    assert_eq!(c.endpoint, CopyEndpoint::File("/x".into()));
    assert_eq!(c.options.header.as_deref(), Some("true"));
    assert_eq!(c.options.others, ["force_quote"]);
}

#[test]
fn drover_calls() {
    let call = |sql: &str| match detail(sql) {
        Detail::Drover(c) => c,
        other => panic!("{sql}: {other:?}"),
    };
    let c = call("select drover.shard_table('s.t', key => 'id', n := 4, x => null, a => array['p','q'])");
    assert_eq!(
        (c.function.as_str(), c.form, c.decorated),
        ("shard_table", DroverForm::Select, false)
    );
    assert_eq!(c.args[0], (None, DroverArg::Text("s.t".into())));
    assert_eq!(c.args[1], (Some("key".into()), DroverArg::Text("id".into())));
    assert_eq!(c.args[2], (Some("n".into()), DroverArg::Text("4".into())));
    assert_eq!(c.args[3], (Some("x".into()), DroverArg::Null));
    assert_eq!(c.args[4].1, DroverArg::Array(vec!["p".into(), "q".into()]));
    assert_eq!(call("select * from drover.shards").form, DroverForm::View);
    assert!(call("select a from drover.shards where b = 1").decorated);
    assert_eq!(call("select * from drover.f(1)").form, DroverForm::FromFunction);
    assert_eq!(
        call("call drover.f(true)").args[0].1,
        DroverArg::Text("true".into())
    );
    assert_eq!(detail("select f(1)"), Detail::None);
}

#[test]
fn create_table_details() {
    let Detail::CreateTable(t) = detail(
        "create table if not exists s.t (id bigint primary key, a varchar(10) not null default 'x' unique, \
         b int references u (x) on delete cascade, c serial, like v including all, \
         constraint k unique (id, a), foreign key (a, b) references w, exclude using gist (a with =, b with &&), check (b > 0)) \
         partition by hash (id) with (fillfactor = 70, drover.shard_by = 'id', drover.map = m)",
    ) else {
        panic!()
    };
    assert!(t.if_not_exists && !t.temporary);
    assert_eq!(
        t.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
        ["id", "a", "b", "c"]
    );
    let id = t.columns[0].type_ref.as_ref().expect("type");
    assert_eq!(id.name, QualifiedName::qualified("pg_catalog", "int8"));
    assert_eq!(t.columns[1].type_ref.as_ref().expect("type").modifiers, [10]);
    assert!(
        t.columns[0].not_null && t.columns[1].not_null && t.columns[1].has_default && t.columns[3].identity
    );
    assert_eq!(
        t.drover_options,
        [("shard_by".into(), "id".into()), ("map".into(), "m".into())]
    );
    assert_eq!(t.options, [("fillfactor".into(), Some("70".into()))]);
    let kinds: Vec<_> = t
        .constraints
        .iter()
        .map(|c| (&c.kind, c.columns.join(",")))
        .collect();
    assert_eq!(kinds[0], (&ConstraintKind::PrimaryKey, "id".into()));
    assert!(kinds.contains(&(&ConstraintKind::Unique, "id,a".into())));
    assert!(kinds.contains(&(&ConstraintKind::Exclusion { other_elements: true }, "a".into())));
    let fk = ConstraintKind::ForeignKey {
        table: QualifiedName::bare("u"),
        columns: vec!["x".into()],
        cascades: true,
    };
    assert!(kinds.contains(&(&fk, "b".into())));
    assert_eq!(
        t.partition_by.as_ref().map(|p| p.columns.clone()),
        Some(vec!["id".into()])
    );
    let Detail::CreateTable(t) = detail("create temp table t partition of p for values in (1)") else {
        panic!()
    };
    assert!(t.temporary && t.inherits.is_empty());
    assert_eq!(t.partition_of, Some(QualifiedName::bare("p")));
}

#[test]
fn other_ddl_details() {
    let Detail::AlterTable(a) = detail(
        "alter table only s.t add column x int unique, drop column y cascade, alter z type text, set (drover.a = b), \
         add constraint c foreign key (x) references u",
    ) else {
        panic!()
    };
    assert!(a.only);
    let kinds: Vec<_> = a.actions.iter().map(|a| a.kind).collect();
    use AlterKind::*;
    assert_eq!(
        kinds,
        [AddColumn, DropColumn, AlterColumnType, RelOptions, AddConstraint,]
    );
    assert_eq!(a.actions[0].constraints[0].columns, ["x"]);
    assert!(a.actions[1].cascade);
    assert_eq!(a.actions[1].name.as_deref(), Some("y"));
    assert_eq!(a.actions[3].drover_options, [("a".into(), "b".into())]);
    assert_eq!(a.actions[4].name.as_deref(), Some("c"));
    let Detail::Drop(d) = detail("drop trigger x on s.t cascade") else {
        panic!()
    };
    assert_eq!(
        (d.object, named(&d.objects)),
        (ObjectKind::Trigger, vec!["s.t".to_owned()])
    );
    let Detail::Index(i) = detail("create unique index concurrently on s.t (a, lower(b)) where c") else {
        panic!()
    };
    assert!(i.unique && i.concurrently && i.partial);
    assert_eq!(
        i.elements,
        [IndexElement::Column("a".into()), IndexElement::Expression]
    );
    let Detail::Function(f) = detail(
        "create or replace function s.f(a int) returns int language PLPGSQL stable security definer set search_path = x as $$ begin end $$",
    ) else {
        panic!()
    };
    assert_eq!(
        (f.language.as_deref(), f.volatility.as_deref()),
        (Some("plpgsql"), Some("stable"))
    );
    assert_eq!(f.body, FunctionBody::Text(" begin end ".into()));
    assert!(f.security_definer && f.settings == ["search_path"]);
    let Detail::Rename(r) = detail("alter table s.t rename column a to b") else {
        panic!()
    };
    assert_eq!(
        (r.object, r.sub_name.as_deref(), r.new_name.as_str()),
        (ObjectKind::Column, Some("a"), "b")
    );
    let Detail::Maintenance(m) = detail("vacuum (full, analyze) a, s.b") else {
        panic!()
    };
    assert_eq!(
        (named(&m.tables), m.options),
        (
            vec!["a".into(), "s.b".into()],
            vec!["full".into(), "analyze".into()]
        )
    );
    let Detail::Truncate(t) = detail("truncate a, b restart identity cascade") else {
        panic!()
    };
    assert!(t.restart_identity && t.cascade && t.tables.len() == 2);
    let Detail::Do(d) = detail("do $$ begin end $$") else {
        panic!()
    };
    assert_eq!(d.language, "plpgsql");
    let Detail::Lock(l) = detail("lock a in share mode nowait") else {
        panic!()
    };
    assert_eq!((l.mode, l.nowait), (5, true));
}

#[test]
fn drover_options_are_stripped() {
    let check = |text: &str, expect: &str| assert_eq!(strip_drover_options(text), expect, "{text}");
    check(
        "create table t (a int) with (drover.shard_by = 'a') tablespace x",
        "create table t (a int) tablespace x",
    );
    check(
        "create table t (a int) with (drover.shard_by = 'a')",
        "create table t (a int)",
    );
    check(
        "create table t (a int) with (fillfactor = 70, drover.a = 'x', drover.b)",
        "create table t (a int) with (fillfactor = 70)",
    );
    check(
        "create table t (a int) with (drover.a = 'x', /* c */ fillfactor=70)",
        "create table t (a int) with (fillfactor=70)",
    );
    check(
        "create table t (a int) with (a = 1, drover.a, b = 2)",
        "create table t (a int) with (a = 1, b = 2)",
    );
    check("create table t (drover int)", "create table t (drover int)");
    check(
        "create table t with (drover.reference = true) as with x as (select 1) select * from x",
        "create table t as with x as (select 1) select * from x",
    );
}

#[test]
fn the_table_of_select_into_is_located() {
    let check = |text: &str, expect: &str, temporary: bool, unlogged: bool| {
        let Detail::CreateTableAs(made) = detail(text) else {
            panic!("{text}");
        };
        let into = made.into.expect("INTO");
        assert_eq!(&text[into.range], expect, "{text}");
        assert_eq!((made.temporary, into.unlogged), (temporary, unlogged), "{text}");
        assert_eq!(made.query, Some(0..text.len()), "{text}");
    };
    check("select 1 as into into t from x", "into t", false, false);
    check("select a, b into temp table t", "into temp table t", true, false);
    check(
        "with w as (select 1) select * into local temporary t from w",
        "into local temporary t",
        true,
        false,
    );
    check(
        "select 1 into unlogged s . \"T t\" union select 2",
        "into unlogged s . \"T t\"",
        false,
        true,
    );
    check(
        "select 1 into table /* c */ t where true",
        "into table /* c */ t",
        false,
        false,
    );
}

#[test]
fn defaults_that_draw_are_left_out() {
    let check = |text: &str, expect: Option<&str>| {
        assert_eq!(without_sequence_defaults(text).as_deref(), expect, "{text}");
    };
    check(
        "create table t (a int default nextval('s'), b int not null DEFAULT pg_catalog.nextval('s.\"x)\"'::regclass) check (b > 0))",
        Some("create table t (a int default NULL, b int not null DEFAULT NULL check (b > 0))"),
    );
    check(
        "alter table only t alter a set default nextval('s'), alter b set default 7",
        Some("alter table only t alter a set default NULL, alter b set default 7"),
    );
    check(
        "alter table t alter a set default \"nextval\"('s');",
        Some("alter table t alter a set default NULL;"),
    );
    check("create table t (a int)", Some("create table t (a int)"));
    // What is left would be another expression.
    for text in [
        "create table t (a int default nextval('s') + 1)",
        "create table t (a int default nextval('s')::int)",
        "create table t (a int default 1 + nextval('s'))",
        "create table t (a text default lpad(nextval('s')::text, 3))",
        "create table t (a int check (a < nextval('s')))",
        "create table t (nextval int)",
        "create table t (a int default other.nextval('s'))",
    ] {
        check(text, None);
    }
}

#[test]
fn limits_hold() {
    let options = ParseOptions {
        depth_max: 100,
        ..ParseOptions::default()
    };
    let deep = format!("select {}1{}", "(".repeat(200), ")".repeat(200));
    assert_eq!(parse(&deep, &options), Err(ParseFailure::TooDeep { limit: 100 }));
    let not = format!("select {} true", "not ".repeat(200));
    assert_eq!(parse(&not, &options), Err(ParseFailure::TooDeep { limit: 100 }));
    let minus = format!("select {} 1", "- ".repeat(200));
    assert_eq!(parse(&minus, &options), Err(ParseFailure::TooDeep { limit: 100 }));
    let case = format!(
        "select {} 1 {}",
        "case when true then ".repeat(200),
        "end ".repeat(200)
    );
    assert_eq!(parse(&case, &options), Err(ParseFailure::TooDeep { limit: 100 }));
    let long = format!("select {}1", "1+".repeat(100_000));
    assert!(parse(&long, &ParseOptions::default()).is_ok());
    let union = vec!["select 1"; 5000].join(" union all ");
    assert!(parse(&union, &ParseOptions::default()).is_ok());
    let bytes_max = ParseOptions {
        bytes_max: 5,
        ..ParseOptions::default()
    };
    assert!(matches!(
        parse("select 1", &bytes_max),
        Err(ParseFailure::TooLong { .. })
    ));
    assert!(matches!(
        parse("select E'\\xff'", &options),
        Err(ParseFailure::Unsupported(_))
    ));
    let off = ParseOptions {
        standard_conforming_strings: false,
        ..options
    };
    assert!(parse("select 'a\\'", &off).is_err());
    assert!(matches!(
        parse("select 'a\\b'", &off),
        Err(ParseFailure::Unsupported(_))
    ));
    assert!(parse("select 'a'", &off).is_ok());
}
