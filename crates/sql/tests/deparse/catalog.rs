//! Names from the catalogue of a test server.

use crate::server::Session;
use sql::deparse::{NameSource, type_sql};
use sql::{Oid, QualifiedName};
use std::collections::HashMap;

pub struct Catalog {
    relations: HashMap<Oid, [String; 2]>,
    columns: HashMap<(Oid, i16), String>,
    functions: HashMap<Oid, [String; 2]>,
    operators: HashMap<Oid, [String; 2]>,
    types: HashMap<Oid, [String; 4]>,
    collations: HashMap<Oid, [String; 2]>,
    constraints: HashMap<Oid, [String; 1]>,
    labels: HashMap<Oid, [String; 1]>,
}

impl Catalog {
    pub async fn load(s: &Session) -> Self {
        let columns = s
            .run("select attrelid, attnum, attname from pg_attribute where attnum > 0")
            .await
            .expect("columns");
        let column = |r: Vec<Option<String>>| {
            let mut r = r.into_iter().flatten();
            Some(((r.next()?.parse().ok()?, r.next()?.parse().ok()?), r.next()?))
        };
        Self {
            relations: s
                .map("select c.oid, nspname, relname from pg_class c join pg_namespace n on n.oid = relnamespace")
                .await,
            columns: columns.into_iter().filter_map(column).collect(),
            functions: s
                .map("select p.oid, nspname, proname from pg_proc p join pg_namespace n on n.oid = pronamespace")
                .await,
            operators: s
                .map("select o.oid, nspname, oprname from pg_operator o join pg_namespace n on n.oid = oprnamespace")
                .await,
            types: s
                .map(
                    "select t.oid, n.nspname, coalesce(e.typname, t.typname), (e.oid is not null)::text, coalesce(e.oid, t.oid) \
                     from pg_type t join pg_namespace n on n.oid = t.typnamespace \
                     left join pg_type e on e.oid = t.typelem and t.typsubscript = 'array_subscript_handler'::regproc",
                )
                .await,
            collations: s
                .map("select c.oid, nspname, collname from pg_collation c join pg_namespace n on n.oid = collnamespace")
                .await,
            constraints: s.map("select oid, conname from pg_constraint").await,
            labels: s.map("select oid, enumlabel from pg_enum").await,
        }
    }
}

fn pair(map: &HashMap<Oid, [String; 2]>, oid: Oid) -> Option<QualifiedName> {
    map.get(&oid)
        .map(|[schema, name]| QualifiedName::qualified(schema, name))
}

impl NameSource for Catalog {
    fn relation(&self, oid: Oid) -> Option<QualifiedName> {
        pair(&self.relations, oid)
    }

    fn column(&self, relation: Oid, attno: i16) -> Option<String> {
        self.columns.get(&(relation, attno)).cloned()
    }

    fn function(&self, oid: Oid) -> Option<QualifiedName> {
        pair(&self.functions, oid)
    }

    fn operator(&self, oid: Oid) -> Option<QualifiedName> {
        pair(&self.operators, oid)
    }

    fn type_name(&self, oid: Oid, typmod: i32) -> Option<String> {
        let [schema, name, array, element] = self.types.get(&oid)?;
        let name = QualifiedName::qualified(schema, name);
        type_sql(&name, element.parse().ok()?, typmod, array == "true")
    }

    fn collation(&self, oid: Oid) -> Option<QualifiedName> {
        pair(&self.collations, oid)
    }

    fn constraint(&self, oid: Oid) -> Option<String> {
        self.constraints.get(&oid).map(|[name]| name.clone())
    }

    fn enum_label(&self, oid: Oid) -> Option<String> {
        self.labels.get(&oid).map(|[label]| label.clone())
    }
}
