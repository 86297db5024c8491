//! SQL of the load queries. They run with `search_path = pg_catalog, pg_temp` and work on PostgreSQL 15 to 18:
//! columns that came or went between these versions are read through `to_jsonb`.

use super::QueryId;
use crate::proof;

pub(super) fn sql(query: QueryId) -> String {
    match query {
        QueryId::Database => DATABASE.to_owned(),
        QueryId::Relations => RELATIONS.to_owned(),
        QueryId::Columns => COLUMNS.to_owned(),
        QueryId::Indexes => INDEXES.to_owned(),
        QueryId::Constraints => CONSTRAINTS.to_owned(),
        QueryId::Functions => FUNCTIONS.to_owned(),
        QueryId::Types => TYPES.to_owned(),
        QueryId::Operators => OPERATORS.to_owned(),
        QueryId::Collations => COLLATIONS.to_owned(),
        QueryId::Links => links(),
    }
}

/// The same query without what is in every database of the server version.
pub(super) fn reload_sql(query: QueryId) -> String {
    let alias = match query {
        QueryId::Relations | QueryId::Collations => "c",
        QueryId::Functions => "p",
        QueryId::Types => "t",
        QueryId::Operators => "o",
        _ => return sql(query),
    };
    // These queries end in their WHERE clause.
    format!("{} AND {alias}.oid >= 16384", sql(query))
}

const DATABASE: &str = "\
SELECT d.datname, pg_encoding_to_char(d.encoding), d.datcollate, d.datlocprovider,
       coalesce(j->>'datlocale', j->>'daticulocale'), current_setting('server_version_num'),
       (SELECT md5(string_agg(concat_ws(' ', s.setdatabase, s.setrole, s.setconfig), ' ' ORDER BY s.setdatabase, s.setrole))
        FROM pg_db_role_setting s WHERE s.setdatabase IN (0, d.oid))
FROM pg_database d, to_jsonb(d) j WHERE d.datname = current_database()";

const RELATIONS: &str = "\
SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, pg_get_userbyid(c.relowner),
       EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type <> '1'),
       c.relrowsecurity, c.relforcerowsecurity, c.relispartition, e.extname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
                              AND d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
     LEFT JOIN pg_extension e ON e.oid = d.refobjid
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c') AND c.relpersistence <> 't'";

const COLUMNS: &str = "\
SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation, a.attnotnull,
       pg_get_expr(ad.adbin, ad.adrelid), a.attgenerated, a.attidentity, a.attisdropped,
       EXISTS (SELECT FROM pg_depend d JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
               WHERE d.classid = 'pg_attrdef'::regclass AND d.objid = ad.oid AND d.refclassid = 'pg_class'::regclass)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
     LEFT JOIN pg_attrdef ad ON ad.adrelid = a.attrelid AND ad.adnum = a.attnum
WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND c.relpersistence <> 't'
ORDER BY a.attrelid, a.attnum";

/// A key column counts as an expression where the index calls other values equal than the column's type does.
const INDEXES: &str = "\
SELECT i.indexrelid, i.indrelid, ic.relname,
       (SELECT string_agg(CASE WHEN o.collisdeterministic IS FALSE OR (k.oid >= 16384 AND NOT k.opcdefault)
                               THEN '0' ELSE u.col::text END, ' ' ORDER BY u.n)
        FROM unnest(i.indkey::int2[], i.indclass::oid[], i.indcollation::oid[]) WITH ORDINALITY u(col, class, coll, n)
             LEFT JOIN pg_collation o ON o.oid = u.coll LEFT JOIN pg_opclass k ON k.oid = u.class
        WHERE u.n <= i.indnkeyatts),
       i.indpred IS NOT NULL, i.indisprimary, i.indnullsnotdistinct, i.indimmediate, i.indisexclusion
FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid
WHERE i.indrelid >= 16384 AND (i.indisunique OR i.indisexclusion) AND i.indisvalid
      AND c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't'
ORDER BY i.indexrelid";

const CONSTRAINTS: &str = "\
SELECT k.contype, k.conname, k.conrelid, array_to_string(k.conkey, ' '), k.confrelid,
       array_to_string(k.confkey, ' '), k.confupdtype, k.confdeltype,
       CASE WHEN k.contype = 'c' THEN pg_get_constraintdef(k.oid) END
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE k.contype IN ('c', 'f') AND k.conrelid >= 16384 AND c.relpersistence <> 't'
ORDER BY k.oid";

const FUNCTIONS: &str = "\
SELECT p.oid, n.nspname, p.proname, p.proargtypes::text, p.prorettype, p.provolatile, l.lanname, p.prokind,
       p.proisstrict, p.proretset, p.provariadic <> 0, e.extname, p.proconfig IS NOT NULL, p.prosecdef,
       CASE WHEN p.oid >= 16384 AND l.lanname IN ('sql', 'plpgsql') AND p.prosqlbody IS NULL THEN p.prosrc END,
       CASE WHEN p.oid >= 16384 AND l.lanname IN ('sql', 'plpgsql') AND p.prokind IN ('f', 'p', 'w')
            THEN pg_get_functiondef(p.oid) END,
       p.oid >= 16384 AND p.prosqlbody IS NOT NULL,
       l.lanname = 'internal' AND p.prosrc ~ '^(multi)?range_constructor[0-3]$'
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
     LEFT JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.objsubid = 0
                              AND d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
     LEFT JOIN pg_extension e ON e.oid = d.refobjid
WHERE n.nspname !~ '^pg_temp_'";

const TYPES: &str = "\
SELECT t.oid, n.nspname, t.typname, t.typtype, t.typelem,
       t.typelem <> 0 AND t.typlen = -1 AND t.typsubscript = 'array_subscript_handler'::regproc,
       t.typbasetype, t.typrelid, t.typarray, t.typtypmod, t.typcollation, t.typsend <> 0 AND t.typreceive <> 0,
       t.typlen, t.typbyval, t.typcategory, coalesce(r.rngsubtype, m.rngtypid),
       (SELECT string_agg(concat(e.oid, ':', encode(convert_to(e.enumlabel, 'UTF8'), 'hex')), ' ')
        FROM pg_enum e WHERE e.enumtypid = t.oid)
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
     LEFT JOIN pg_range r ON r.rngtypid = t.oid LEFT JOIN pg_range m ON m.rngmultitypid = t.oid
WHERE n.nspname !~ '^pg_(toast|temp_|toast_temp_)'";

const OPERATORS: &str = "\
SELECT o.oid, n.nspname, o.oprname, o.oprleft, o.oprright, o.oprresult, o.oprcode::oid, o.oprcom, o.oprnegate
FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE o.oprcode <> 0";

const COLLATIONS: &str = "\
SELECT c.oid, n.nspname, c.collname, c.collprovider, c.collisdeterministic,
       coalesce(c.collcollate, j->>'colllocale', j->>'colliculocale')
FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace, to_jsonb(c) j
WHERE c.collencoding IN (-1, (SELECT encoding FROM pg_database WHERE datname = current_database()))";

/// What belongs to relations and has a name of its own, as further rows of [`links`].
const PARTS: &str = "\
UNION ALL SELECT 'part', i.indrelid::text, 'index', n.nspname, c.relname, NULL, NULL FROM pg_index i
     JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indrelid >= 16384 AND c.relpersistence <> 't'
UNION ALL SELECT 'part', s.stxrelid::text, 'statistics', n.nspname, s.stxname, NULL, NULL
FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE n.nspname !~ '^pg_temp_'
UNION ALL SELECT 'part', d.refobjid::text, 'sequence', n.nspname, c.relname, NULL, NULL FROM pg_depend d
     JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S' JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
      AND c.relpersistence <> 't'";

/// Every row is `(kind, …)` with seven values; unused ones are NULL.
///
/// Dependencies on built-in objects are not recorded in `pg_depend`, so the built-in functions that are not pure
/// are searched in the stored expression trees.
fn links() -> String {
    format!(
        "WITH part AS (
  SELECT 'pg_rewrite'::regclass::oid AS class, r.oid AS id, 'rule' AS why, 'r' AS kind, r.ev_class AS owner,
         r.ev_action::text || r.ev_qual::text AS tree FROM pg_rewrite r WHERE r.oid >= 16384
  UNION ALL SELECT 'pg_attrdef'::regclass, d.oid, 'default', 'r', d.adrelid, d.adbin::text FROM pg_attrdef d
  UNION ALL SELECT 'pg_constraint'::regclass, k.oid, 'check', CASE WHEN k.conrelid <> 0 THEN 'r' ELSE 't' END,
         CASE WHEN k.conrelid <> 0 THEN k.conrelid ELSE k.contypid END, k.conbin::text
         FROM pg_constraint k WHERE k.oid >= 16384 AND k.contype = 'c'
  UNION ALL SELECT 'pg_policy'::regclass, p.oid, 'policy', 'r', p.polrelid,
         concat(p.polqual::text, p.polwithcheck::text) FROM pg_policy p
  UNION ALL SELECT 'pg_trigger'::regclass, t.oid, 'trigger', 'r', t.tgrelid, t.tgqual::text
         FROM pg_trigger t WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
  UNION ALL SELECT 'pg_class'::regclass, i.indexrelid, 'index', 'r', i.indrelid,
         concat(i.indexprs::text, i.indpred::text) FROM pg_index i
         WHERE i.indexrelid >= 16384 AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
  UNION ALL SELECT 'pg_class'::regclass, k.partrelid, 'index', 'r', k.partrelid, k.partexprs::text
         FROM pg_partitioned_table k WHERE k.partexprs IS NOT NULL
  UNION ALL SELECT 'pg_proc'::regclass, a.aggfnoid::oid, 'body', 'f', a.aggfnoid::oid, (
         SELECT string_agg(':funcid ' || f, '') FROM unnest(ARRAY[a.aggtransfn::oid, a.aggfinalfn::oid,
         a.aggcombinefn::oid, a.aggserialfn::oid, a.aggdeserialfn::oid, a.aggmtransfn::oid, a.aggminvtransfn::oid,
         a.aggmfinalfn::oid]) f) FROM pg_aggregate a WHERE a.aggfnoid::oid >= 16384
  UNION ALL SELECT 'pg_proc'::regclass, p.oid, 'body', 'f', p.oid,
         concat(p.prosqlbody::text, p.proargdefaults::text) FROM pg_proc p WHERE p.oid >= 16384
  UNION ALL SELECT 'pg_type'::regclass, y.oid, 'default', 't', y.oid, y.typdefaultbin::text
         FROM pg_type y WHERE y.oid >= 16384 AND y.typdefaultbin IS NOT NULL
), impure AS (
  SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  WHERE p.oid < 16384 AND n.nspname = 'pg_catalog' AND (p.provolatile = 'v' OR {impure})
)
SELECT 'depends', s.kind, s.owner::text, s.why,
       CASE d.refclassid WHEN 'pg_class'::regclass THEN 'r' WHEN 'pg_proc'::regclass THEN 'f'
                         WHEN 'pg_operator'::regclass THEN 'o' ELSE 't' END,
       d.refobjid::text, NULL
FROM part s JOIN pg_depend d ON d.classid = s.class AND d.objid = s.id AND d.deptype IN ('n', 'a', 'i')
WHERE d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass)
      AND NOT (s.owner = d.refobjid AND d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass))
UNION SELECT DISTINCT 'depends', s.kind, s.owner::text, s.why, 'f', m[1], NULL
FROM part s, regexp_matches(s.tree, ':(?:funcid|opfuncid|aggfnoid|winfnoid) (\\d+)', 'g') m
WHERE m[1]::oid = ANY (ARRAY(SELECT oid FROM impure))
UNION ALL SELECT 'inherits', i.inhrelid::text, i.inhparent::text, i.inhseqno::text, NULL, NULL, NULL
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relkind NOT IN ('i', 'I')
UNION ALL SELECT 'trigger', t.tgrelid::text, t.tgname, t.tgfoid::text, t.tgenabled::text, t.tgtype::text, coalesce(t.tgoldtable, t.tgnewtable)::text
FROM pg_trigger t WHERE NOT t.tgisinternal
UNION ALL SELECT 'policy', p.polrelid::text, p.polname, p.polcmd::text, NULL, NULL, NULL FROM pg_policy p
UNION ALL SELECT 'cast', c.castfunc::text, NULL, NULL, NULL, NULL, NULL
FROM pg_cast c WHERE c.castfunc <> 0 AND c.oid >= 16384
UNION ALL SELECT 'cast', a.amproc::oid::text, NULL, NULL, NULL, NULL, NULL
FROM pg_amproc a JOIN pg_proc p ON p.oid = a.amproc JOIN pg_language l ON l.oid = p.prolang
WHERE a.oid >= 16384 AND l.lanname NOT IN ('c', 'internal')
UNION ALL SELECT 'cast', o.oprcode::oid::text, NULL, NULL, NULL, NULL, NULL FROM pg_amop a
     JOIN pg_operator o ON o.oid = a.amopopr JOIN pg_proc p ON p.oid = o.oprcode
     JOIN pg_language l ON l.oid = p.prolang WHERE a.oid >= 16384 AND l.lanname NOT IN ('c', 'internal')
UNION ALL SELECT 'event', e.evtfoid::text, NULL, NULL, NULL, NULL, NULL FROM pg_event_trigger e
     WHERE e.evtenabled IN ('O', 'A') AND e.evtname NOT IN ('drover_schema', 'drover_schema_drop')
UNION ALL SELECT 'keeps', p.oid::text, NULL, NULL, NULL, NULL, NULL FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.oid >= 16384 AND CASE WHEN l.lanname IN ('internal', 'c', 'sql', 'plpgsql') THEN false
      WHEN l.lanname ~ '^plperl' THEN p.prosrc ~ '_SHARED|\\m(our|require|package)\\M|::'
      WHEN l.lanname ~ '^plpython' THEN p.prosrc ~ '\\m(GD|SD|global|globals)\\M'
      WHEN l.lanname ~ '^pltcl' THEN p.prosrc ~ '\\m(GD|global|upvar|variable)\\M|::' ELSE true END
UNION ALL SELECT 'amop', m.amname, o.amopopr::text, o.amopstrategy::text, o.amoplefttype::text,
       o.amoprighttype::text,
       EXISTS (SELECT FROM pg_opclass k WHERE k.opcmethod = o.amopmethod AND k.opcfamily = o.amopfamily
               AND k.opcdefault AND k.opcintype = o.amoplefttype)::text
FROM pg_amop o JOIN pg_am m ON m.oid = o.amopmethod
WHERE o.amoppurpose = 's' AND ((m.amname = 'hash' AND o.amopstrategy = 1)
      OR (m.amname = 'btree' AND o.amopstrategy IN (1, 5) AND o.amoplefttype = o.amoprighttype)) {PARTS}",
        impure = proof::impure_condition()
    )
}
