use super::*;
use crate::nodes::{self, Value};

/// Knows the few names these tests use.
struct Names;

impl NameSource for Names {
    fn relation(&self, _: Oid) -> Option<QualifiedName> {
        Some(QualifiedName::qualified("s", "t"))
    }

    fn column(&self, _: Oid, attno: i16) -> Option<String> {
        ["a", "b"]
            .get(usize::try_from(attno - 1).ok()?)
            .map(|c| (*c).to_owned())
    }

    fn function(&self, oid: Oid) -> Option<QualifiedName> {
        (oid == 2108).then(|| QualifiedName::qualified("pg_catalog", "sum"))
    }

    fn operator(&self, oid: Oid) -> Option<QualifiedName> {
        (oid == 96).then(|| QualifiedName::qualified("pg_catalog", "="))
    }

    fn type_name(&self, oid: Oid, _: i32) -> Option<String> {
        (oid == 23).then(|| "pg_catalog.int4".to_owned())
    }

    fn collation(&self, _: Oid) -> Option<QualifiedName> {
        None
    }
}

const VAR_A: &str = "{VAR :varno 1 :varattno 1 :vartype 23 :vartypmod -1 :varlevelsup 0}";
const SUM: &str = "{AGGREF :aggfnoid 2108 :aggdirectargs <> :args ({TARGETENTRY :expr {VAR :varno 1 :varattno 2 \
    :vartype 23 :vartypmod -1 :varlevelsup 0} :resno 1 :resname <> :ressortgroupref 0 :resjunk false}) :aggorder <> \
    :aggdistinct <> :aggfilter <> :aggstar false :aggvariadic false :aggkind n}";

fn query(target: &str, quals: &str) -> Node {
    let text = format!(
        "{{QUERY :commandType 1 :utilityStmt <> :resultRelation 0 :hasRowSecurity false :hasDistinctOn false \
         :hasRecursive false :cteList <> :rtable ({{RANGETBLENTRY :eref {{ALIAS :aliasname t :colnames (\"a\" \"b\")}} \
         :rtekind 0 :relid 1 :tablesample <> :lateral false :inh true :securityQuals <>}}) \
         :jointree {{FROMEXPR :fromlist ({{RANGETBLREF :rtindex 1}}) :quals {quals}}} \
         :targetList ({{TARGETENTRY :expr {target} :resno 1 :resname x :ressortgroupref 0 :resjunk false}}) \
         :onConflict <> :returningList <> :groupClause <> :groupDistinct false :groupingSets <> :havingQual <> \
         :windowClause <> :distinctClause <> :sortClause <> :limitOffset <> :limitCount <> :limitOption 0 :rowMarks <> \
         :setOperations <>}}"
    );
    match nodes::parse(&text) {
        Ok(Value::Node(node)) => *node,
        other => panic!("{other:?}"),
    }
}

fn field<'n>(node: &'n mut Node, name: &str) -> Option<&'n mut Value> {
    node.fields.iter_mut().find(|(n, _)| &**n == name).map(|(_, v)| v)
}

#[test]
fn a_rewriter_replaces_expressions_and_tables() {
    struct Finish;
    impl Rewriter for Finish {
        fn expression(&self, node: &Node, level: usize) -> Option<String> {
            (node.is("AGGREF") && level == 0).then(|| "u.c1".to_owned())
        }

        fn from_item(&self, item: &FromItem<'_>) -> Option<String> {
            (item.rtindex == 1).then(|| "unnest($1)".to_owned())
        }
    }
    let query = query(SUM, "<>");
    let deparser = Deparser::new(&query, &Names, &Finish).expect("query");
    assert_eq!(
        deparser.query().expect("printed"),
        "SELECT u.c1 AS \"x\" FROM unnest($1) AS \"t\""
    );
    let plain = Deparser::new(&query, &Names, &NoRewrite).expect("query");
    assert_eq!(
        plain.query().expect("printed"),
        "SELECT \"pg_catalog\".\"sum\"(\"t\".\"b\") AS \"x\" FROM \"s\".\"t\" AS \"t\""
    );
    assert_eq!(plain.alias(1).expect("alias"), "t");
    let mut parts = plain.select_parts().expect("parts");
    parts.limit = Some("5".to_owned());
    parts.items[0].name = None;
    assert_eq!(
        parts.to_sql(),
        "SELECT \"pg_catalog\".\"sum\"(\"t\".\"b\") FROM \"s\".\"t\" AS \"t\" LIMIT 5"
    );
}

#[test]
fn what_is_not_known_is_refused() {
    let refused = |target: &str| {
        let query = query(target, "<>");
        let deparser = Deparser::new(&query, &Names, &NoRewrite).expect("query");
        deparser.query().expect_err(target)
    };
    let unsupported = |e: DeparseError| matches!(e, DeparseError::Unsupported { .. });
    assert!(unsupported(refused("{XMLEXPR :op 1}")));
    assert!(unsupported(refused(
        "{PARAM :paramkind 1 :paramid 1 :paramtype 23}"
    )));
    assert!(unsupported(refused(
        "{VAR :varno 65001 :varattno 1 :varlevelsup 0}"
    )));
    assert!(unsupported(refused("{VAR :varno 1 :varattno 1 :varlevelsup 1}")));
    assert!(unsupported(refused(
        "{VAR :varno 1 :varattno 1 :varlevelsup 0 :varreturningtype 1}"
    )));
    assert!(matches!(
        refused("{OPEXPR :opno 1 :args <>}"),
        DeparseError::UnknownObject { .. }
    ));
    assert!(matches!(refused("{OPEXPR :args <>}"), DeparseError::Tree(_)));
    assert!(matches!(
        refused("{VAR :varno 1 :varattno 9 :varlevelsup 0}"),
        DeparseError::UnknownObject { .. }
    ));
}

#[test]
fn deep_trees_are_refused_before_the_stack_ends() {
    let deep = |depth: usize| {
        let open = "{NULLTEST :nulltesttype 0 :argisrow false :arg ".repeat(depth);
        query(&format!("{open}{VAR_A}{}", "}".repeat(depth)), "<>")
    };
    let run = move || {
        let fits = deep(190);
        assert!(
            Deparser::new(&fits, &Names, &NoRewrite)
                .expect("query")
                .query()
                .is_ok()
        );
        let too_deep = deep(500);
        assert!(
            Deparser::new(&too_deep, &Names, &NoRewrite)
                .expect("query")
                .query()
                .is_err()
        );
        let arrays = "{COALESCE :args ({NULLTEST :nulltesttype 0 :argisrow false :arg ".repeat(95);
        let nested = query(&format!("{arrays}{VAR_A}{}", "})}".repeat(95)), "<>");
        assert!(
            Deparser::new(&nested, &Names, &NoRewrite)
                .expect("query")
                .query()
                .is_ok()
        );
        let mut subquery = query(VAR_A, "<>");
        for _ in 0..140 {
            let mut outer = query("{SUBLINK :subLinkType 4}", "<>");
            let Some(Value::List(targets)) = field(&mut outer, "targetList") else {
                panic!()
            };
            let Some(Value::Node(target)) = targets.first_mut() else {
                panic!()
            };
            let Some(Value::Node(link)) = field(target, "expr") else {
                panic!()
            };
            link.fields
                .push(("subselect".into(), Value::Node(Box::new(subquery))));
            subquery = outer;
        }
        let deparser = Deparser::new(&subquery, &Names, &NoRewrite).expect("query");
        assert!(deparser.query().is_err());
    };
    let thread = std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(run)
        .expect("thread");
    thread.join().expect("no overflow");
}
