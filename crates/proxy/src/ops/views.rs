//! Views over a table that moves: they must exist wherever their tables are.

use std::collections::BTreeMap;

use catalog::{Oid, Placement, RelationKind};
use plan::RefusalCode;

use super::OpError;
use super::check::Movable;
use super::effects::NewKind;
use super::part::Part;
use crate::admin_link::AdminError;

/// A view that depends on the table.
struct View {
    title: String,
    kind: String,
    /// What it reads directly.
    reads: Vec<Oid>,
    /// Has triggers, rules of its own, or column defaults.
    special: bool,
    /// Makes it, as statements.
    create: Vec<String>,
    /// Drops it where it is.
    drop: String,
}

/// The statements that make the table's views on another shard, in order. Views that also read home tables stay on the
/// home shard, which is right for reference tables and refused for sharded ones.
pub(super) async fn dependent(home: &mut Part, movable: &Movable) -> Result<Vec<String>, OpError> {
    let sharded = matches!(
        movable.table.kind,
        NewKind::Sharded { .. } | NewKind::Placed { .. }
    );
    let rows = home.rows(&dependent_sql(movable.table.home_oid)).await?;
    let mut views = BTreeMap::new();
    let mut order = Vec::new();
    for row in &rows {
        let (oid, view) =
            read(row).ok_or_else(|| home.failed(AdminError::State("a view cannot be read".to_owned())))?;
        order.push(oid);
        views.insert(oid, view);
    }
    let mut everywhere: BTreeMap<Oid, bool> = BTreeMap::new();
    let mut statements = Vec::new();
    for oid in order {
        let view = &views[&oid];
        let plain = view.kind == "v";
        let all = plain
            && view
                .reads
                .iter()
                .all(|read| is_everywhere(movable, &everywhere, *read));
        everywhere.insert(oid, all);
        if all && !view.special {
            statements.extend(view.create.iter().cloned());
        } else if all || sharded {
            return Err(refusal(view, movable, all));
        }
    }
    Ok(statements)
}

/// The statements that drop on another shard the views of a table that goes home, in order. Such a view works on the home
/// shard as long as everything that it reads is there.
pub(super) async fn leaving(home: &mut Part, movable: &Movable) -> Result<Vec<String>, OpError> {
    let rows = home.rows(&dependent_sql(movable.table.home_oid)).await?;
    let mut known = Vec::new();
    let mut statements = Vec::new();
    for row in &rows {
        let (oid, view) =
            read(row).ok_or_else(|| home.failed(AdminError::State("a view cannot be read".to_owned())))?;
        let is_home = |read: &Oid| {
            *read == movable.table.home_oid
                || known.contains(read)
                || movable.snapshot.relation(*read).is_none_or(|relation| {
                    !matches!(relation.placement, Placement::Sharded { .. })
                        && (relation.kind != RelationKind::View || relation.reaches_sharded.is_none())
                })
        };
        if !view.reads.iter().all(is_home) {
            return Err(OpError::not_done(
                RefusalCode::Immovable,
                format!(
                    "table {}.{} cannot be moved to the home shard: view {} reads it together with sharded tables",
                    movable.table.schema, movable.table.name, view.title
                ),
                Some("Drop the view, move the table, and make it again in a form that Drover supports."),
            ));
        }
        known.push(oid);
        if view.kind == "v" {
            statements.push(view.drop);
        }
    }
    statements.reverse();
    Ok(statements)
}

fn refusal(view: &View, movable: &Movable, all: bool) -> OpError {
    let table = format!("{}.{}", movable.table.schema, movable.table.name);
    let why = match (view.kind.as_str(), all) {
        ("m", _) => format!("materialized view {} reads it", view.title),
        ("v", true) => format!("view {} has triggers, rules or defaults", view.title),
        ("v", false) => format!(
            "view {} reads it together with tables of the home shard",
            view.title
        ),
        _ => format!("a rule of {} uses it", view.title),
    };
    OpError::not_done(
        RefusalCode::Immovable,
        format!("table {table} cannot be moved to the shards: {why}"),
        Some("Drop it, move the table, and make it again in a form that Drover supports."),
    )
}

/// Whether something a view reads is there on every shard once the table has moved.
fn is_everywhere(movable: &Movable, views: &BTreeMap<Oid, bool>, read: Oid) -> bool {
    if let Some(known) = views.get(&read) {
        return *known;
    }
    movable
        .snapshot
        .relation(read)
        .is_some_and(|relation| match relation.kind {
            // A view over sharded tables was made everywhere.
            RelationKind::View => relation.reaches_sharded.is_some(),
            _ => !relation.placement.is_home(),
        })
}

fn read(row: &[Option<String>]) -> Option<(Oid, View)> {
    let [oid, title, kind, reads, special, create, owner, grants, drop] = row else {
        return None;
    };
    let reads = reads
        .as_deref()
        .unwrap_or_default()
        .split(',')
        .filter(|oid| !oid.is_empty());
    let statements = [create, owner].into_iter().flatten().cloned();
    // One statement text or several, separated by semicolons: the simple protocol takes both.
    let grants = grants.iter().cloned();
    let view = View {
        title: title.clone()?,
        kind: kind.clone()?,
        reads: reads
            .map(|oid| oid.parse().ok().map(Oid))
            .collect::<Option<_>>()?,
        special: special.as_deref()? == "t",
        create: statements.chain(grants).collect(),
        drop: drop.clone()?,
    };
    Some((Oid(oid.as_deref()?.parse().ok()?), view))
}

/// OID, title, kind, what it reads, special, CREATE, OWNER, GRANTs, DROP; what others depend on comes first.
fn dependent_sql(table: Oid) -> String {
    format!(
        "WITH RECURSIVE used(by, what) AS (
  SELECT DISTINCT r.ev_class, d.refobjid FROM pg_rewrite r
  JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
  WHERE d.refobjid <> r.ev_class
), v(oid, depth) AS (
  SELECT u.by, 1 FROM used u WHERE u.what IN (SELECT {table} UNION SELECT relid FROM pg_partition_tree({table}))
  UNION SELECT u.by, v.depth + 1 FROM v JOIN used u ON u.what = v.oid WHERE v.depth < 100
), deepest AS (SELECT oid, max(depth) AS depth FROM v GROUP BY oid)
SELECT c.oid, n.nspname || '.' || c.relname, c.relkind,
       (SELECT string_agg(u.what::text, ',') FROM used u WHERE u.by = c.oid),
       c.relkind <> 'v' OR EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid)
           OR EXISTS (SELECT FROM pg_attrdef a WHERE a.adrelid = c.oid)
           OR EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN'),
       CASE WHEN c.relkind = 'v' THEN format('CREATE VIEW %I.%I%s AS %s', n.nspname, c.relname,
           (SELECT ' WITH (' || string_agg(format('%s=%L', split_part(o, '=', 1), substr(o, strpos(o, '=') + 1)), ', ')
                   || ')' FROM unnest(c.reloptions) o), pg_get_viewdef(c.oid)) END,
       format('ALTER VIEW %I.%I OWNER TO %I', n.nspname, c.relname, pg_get_userbyid(c.relowner)),
       (SELECT format('REVOKE ALL ON TABLE %I.%I FROM PUBLIC, %I; ', n.nspname, c.relname, pg_get_userbyid(c.relowner))
            || string_agg(format('GRANT %s ON TABLE %I.%I TO %s%s', x.privilege_type, n.nspname, c.relname,
                   CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END,
                   CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END), '; ')
        FROM aclexplode(c.relacl) x),
       format('DROP VIEW IF EXISTS %I.%I', n.nspname, c.relname)
FROM deepest v JOIN pg_class c ON c.oid = v.oid JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY v.depth, c.oid"
    )
}
