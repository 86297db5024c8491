//! The queries of [`super::table_ddl_queries`]. They run with `search_path = pg_catalog, pg_temp`, so that every
//! name they print outside `pg_catalog` is qualified.

use crate::Oid;

/// Name, CREATE SCHEMA, unlogged, INHERITS, PARTITION BY, USING, WITH, ATTACH, is partitioned.
pub(super) fn table(oid: Oid) -> String {
    format!(
        "SELECT format('%I.%I', n.nspname, c.relname),
       format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %I', n.nspname, pg_get_userbyid(n.nspowner)),
       c.relpersistence = 'u',
       (SELECT 'INHERITS (' || string_agg(i.inhparent::regclass::text, ', ' ORDER BY i.inhseqno) || ')'
        FROM pg_inherits i WHERE i.inhrelid = c.oid AND NOT c.relispartition),
       'PARTITION BY ' || pg_get_partkeydef(c.oid),
       (SELECT format('USING %I', a.amname) FROM pg_am a WHERE a.oid = c.relam AND a.amname <> 'heap'),
       (SELECT 'WITH (' || string_agg(format('%s=%L', split_part(o, '=', 1), substr(o, strpos(o, '=') + 1)), ', ')
               || ')'
        FROM (SELECT unnest(c.reloptions) UNION ALL
              SELECT 'toast.' || unnest(t.reloptions) FROM pg_class t WHERE t.oid = c.reltoastrelid) s(o)),
       (SELECT format('ALTER TABLE %s ATTACH PARTITION %I.%I %s', i.inhparent::regclass, n.nspname, c.relname,
                      pg_get_expr(c.relpartbound, c.oid))
        FROM pg_inherits i WHERE i.inhrelid = c.oid AND c.relispartition),
       c.relkind = 'p'
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = {oid} AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'"
    )
}

/// Quoted name, name, type, collation unless the type's, not null, expression, values come from home, generated.
pub(super) fn columns(oid: Oid) -> String {
    format!(
        "SELECT quote_ident(a.attname), a.attname, format_type(a.atttypid, a.atttypmod),
       (SELECT format('%I.%I', cn.nspname, co.collname) FROM pg_collation co
        JOIN pg_namespace cn ON cn.oid = co.collnamespace
        WHERE co.oid = a.attcollation AND a.attcollation <> t.typcollation),
       a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
       a.attidentity <> '' OR (a.attgenerated = '' AND (coalesce(pg_get_expr(d.adbin, d.adrelid), '') LIKE '%nextval(%'
           OR EXISTS (SELECT FROM pg_depend p JOIN pg_class s ON s.oid = p.refobjid AND s.relkind = 'S'
                      WHERE p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
                            AND p.refclassid = 'pg_class'::regclass))),
       a.attgenerated
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
    )
}

/// `(phase, statement)`: phase `table` before the rows, `index` after them (or before, for partitions), `late` last.
///
/// What a partition gets from its parent when attached (foreign keys, row triggers) is left out.
pub(super) fn statements(oid: Oid) -> String {
    format!(
        "WITH t AS (
  SELECT c.*, format('%I.%I', n.nspname, c.relname) AS q, n.nspname, n.nspacl, n.nspowner
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {oid}
), s(phase, rank, name, sql) AS (
{table}
UNION ALL
{indexes}
UNION ALL
{late}
) SELECT phase, sql FROM s WHERE sql IS NOT NULL ORDER BY rank, name COLLATE \"C\"",
        table = TABLE_STATEMENTS,
        indexes = INDEX_STATEMENTS,
        late = LATE_STATEMENTS,
    )
}

const TABLE_STATEMENTS: &str = "\
  SELECT 'table', 10, '', format('ALTER TABLE %s OWNER TO %I', q, pg_get_userbyid(relowner)) FROM t
  UNION ALL SELECT 'table', 11, x.grantee::text || x.privilege_type,
         format('GRANT %s ON SCHEMA %I TO %s', x.privilege_type, nspname,
                CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END)
         FROM t, aclexplode(nspacl) x WHERE x.grantee <> nspowner
  UNION ALL SELECT 'table', 12, k.conname, format('ALTER TABLE %s ADD CONSTRAINT %I %s', q, k.conname,
                                                pg_get_constraintdef(k.oid))
         FROM t JOIN pg_constraint k ON k.conrelid = t.oid
         WHERE k.contype = 'c' AND (k.conislocal OR t.relispartition)
  UNION ALL SELECT 'table', 13, to_char(a.attnum, '00000'),
         format('ALTER TABLE %s ALTER COLUMN %I SET STORAGE %s', q, a.attname,
                CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN'
                                  ELSE 'EXTENDED' END)
         FROM t JOIN pg_attribute a ON a.attrelid = t.oid JOIN pg_type y ON y.oid = a.atttypid
         WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attstorage <> y.typstorage
  UNION ALL SELECT 'table', 14, to_char(a.attnum, '00000'),
         format('ALTER TABLE %s ALTER COLUMN %I SET COMPRESSION %s', q, a.attname,
                CASE a.attcompression WHEN 'l' THEN 'lz4' ELSE 'pglz' END)
         FROM t JOIN pg_attribute a ON a.attrelid = t.oid
         WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attcompression <> ''
  UNION ALL SELECT 'table', 15, to_char(a.attnum, '00000'),
         format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', q, a.attname, a.attstattarget)
         FROM t JOIN pg_attribute a ON a.attrelid = t.oid
         WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attstattarget >= 0
  UNION ALL SELECT 'table', 16, to_char(a.attnum, '00000'),
         format('ALTER TABLE %s ALTER COLUMN %I SET (%s)', q, a.attname,
                (SELECT string_agg(format('%s=%L', split_part(o, '=', 1), substr(o, strpos(o, '=') + 1)), ', ')
                 FROM unnest(a.attoptions) o))
         FROM t JOIN pg_attribute a ON a.attrelid = t.oid
         WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attoptions IS NOT NULL";

const INDEX_STATEMENTS: &str = "\
  SELECT 'index', 20, i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
         FROM t JOIN pg_index i ON i.indrelid = t.oid
         WHERE i.indisvalid AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid
                                                   AND k.contype IN ('p', 'u', 'x') AND k.conrelid = t.oid)
  UNION ALL SELECT 'index', 21, k.conname, format('ALTER TABLE %s ADD CONSTRAINT %I %s', q, k.conname,
                                                pg_get_constraintdef(k.oid))
         FROM t JOIN pg_constraint k ON k.conrelid = t.oid WHERE k.contype IN ('p', 'u', 'x')
  UNION ALL SELECT 'index', 22, i.indexrelid::regclass::text,
         format('ALTER TABLE %s CLUSTER ON %I', q, ic.relname)
         FROM t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class ic ON ic.oid = i.indexrelid
         WHERE i.indisclustered
  UNION ALL SELECT 'index', 23, '', CASE relreplident
           WHEN 'f' THEN format('ALTER TABLE %s REPLICA IDENTITY FULL', q)
           WHEN 'n' THEN format('ALTER TABLE %s REPLICA IDENTITY NOTHING', q)
           WHEN 'i' THEN (SELECT format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', q, ic.relname)
                          FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
                          WHERE i.indrelid = t.oid AND i.indisreplident) END FROM t
  UNION ALL SELECT 'index', 24, s.stxname::text, pg_get_statisticsobjdef(s.oid)
         FROM t JOIN pg_statistic_ext s ON s.stxrelid = t.oid";

const LATE_STATEMENTS: &str = "\
  SELECT 'late', 30, k.conname, format('ALTER TABLE %s ADD CONSTRAINT %I %s', q, k.conname,
                                      pg_get_constraintdef(k.oid))
         FROM t JOIN pg_constraint k ON k.conrelid = t.oid WHERE k.contype = 'f' AND k.conparentid = 0
  UNION ALL SELECT 'late', 31, r.rulename, pg_get_ruledef(r.oid)
         FROM t JOIN pg_rewrite r ON r.ev_class = t.oid WHERE r.ev_type <> '1'
  UNION ALL SELECT 'late', 32, g.tgname, pg_get_triggerdef(g.oid)
         FROM t JOIN pg_trigger g ON g.tgrelid = t.oid WHERE NOT g.tgisinternal AND g.tgparentid = 0
  UNION ALL SELECT 'late', 33, g.tgname,
         format('ALTER TABLE %s %s TRIGGER %I', q,
                CASE g.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END,
                g.tgname)
         FROM t JOIN pg_trigger g ON g.tgrelid = t.oid WHERE NOT g.tgisinternal AND g.tgenabled <> 'O'
  UNION ALL SELECT 'late', 40, p.polname, format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', p.polname, q,
         CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
         CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'
                       ELSE 'ALL' END,
         (SELECT string_agg(CASE WHEN r = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ')
          FROM unnest(p.polroles) r),
         ' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
         ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
         FROM t JOIN pg_policy p ON p.polrelid = t.oid
  UNION ALL SELECT 'late', 41, '', format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', q) FROM t WHERE relrowsecurity
  UNION ALL SELECT 'late', 42, '', format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', q)
         FROM t WHERE relforcerowsecurity
  UNION ALL SELECT 'late', 50, '', format('REVOKE ALL ON TABLE %s FROM PUBLIC, %I', q, pg_get_userbyid(relowner))
         FROM t WHERE relacl IS NOT NULL
  UNION ALL SELECT 'late', 51, x.grantee::text || x.privilege_type,
         format('GRANT %s ON TABLE %s TO %s%s', x.privilege_type, q,
                CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END,
                CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
         FROM t, aclexplode(relacl) x
  UNION ALL SELECT 'late', 52, a.attname || x.grantee::text || x.privilege_type,
         format('GRANT %s (%I) ON TABLE %s TO %s%s', x.privilege_type, a.attname, q,
                CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END,
                CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
         FROM t JOIN pg_attribute a ON a.attrelid = t.oid, aclexplode(a.attacl) x WHERE NOT a.attisdropped
  UNION ALL SELECT 'late', 60, to_char(d.objsubid, '00000'),
         CASE WHEN d.objsubid = 0 THEN format('COMMENT ON TABLE %s IS %L', q, d.description)
              ELSE (SELECT format('COMMENT ON COLUMN %s.%I IS %L', q, a.attname, d.description)
                    FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum = d.objsubid) END
         FROM t JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = t.oid
  UNION ALL SELECT 'late', 61, k.conname,
         format('COMMENT ON CONSTRAINT %I ON %s IS %L', k.conname, q, d.description)
         FROM t JOIN pg_constraint k ON k.conrelid = t.oid
         JOIN pg_description d ON d.classoid = 'pg_constraint'::regclass AND d.objoid = k.oid
  UNION ALL SELECT 'late', 62, ic.relname, format('COMMENT ON INDEX %I.%I IS %L', nspname, ic.relname, d.description)
         FROM t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class ic ON ic.oid = i.indexrelid
         JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = ic.oid AND d.objsubid = 0";
