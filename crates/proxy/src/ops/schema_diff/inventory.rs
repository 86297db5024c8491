//! The query behind an inventory. It runs with `search_path = pg_catalog, pg_temp`, so that every name is printed with its
//! schema.

/// Kind, name and definition of everything that a shard should have. `tables` are the sharded and reference tables, as rows of
/// a VALUES list. On the home shard `roles` is `None`: those that have to do with this database. On the others they are the home
/// shard's, as it quotes them, and every further table is listed too: nobody expects it there.
pub(super) fn sql(tables: &[String], roles: Option<&[String]>) -> String {
    let home = roles.is_none();
    let values = match tables {
        [] => "SELECT NULL::text, NULL::text WHERE false".to_owned(),
        tables => format!("VALUES {}", tables.join(", ")),
    };
    let (missing_views, others) = match home {
        // Those that read nothing else than what is everywhere.
        true => (
            "AND NOT EXISTS (SELECT FROM reads r WHERE r.view = c.oid AND r.home) \
                  AND EXISTS (SELECT FROM reads r WHERE r.view = c.oid AND r.spread)",
            "",
        ),
        false => ("", OTHER_TABLES),
    };
    let roles = known_roles(roles);
    let made = made_sql(home);
    format!(
        "WITH RECURSIVE named(nspname, relname) AS ({values}), r AS (
  SELECT c.oid FROM named s JOIN pg_namespace n ON n.nspname = s.nspname
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.relname
), t AS (
  SELECT c.*, n.nspname, format('%I.%I', n.nspname, c.relname) AS q FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.oid IN (SELECT oid FROM r UNION SELECT p.relid FROM r, pg_partition_tree(r.oid) p)
), direct(view, rel) AS (
  SELECT w.ev_class, d.refobjid FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
  AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class
), closed(view, rel) AS (
  SELECT view, rel FROM direct UNION SELECT c.view, d.rel FROM closed c JOIN direct d ON d.view = c.rel
), reads AS (
  SELECT c.view, c.rel IN (SELECT oid FROM t) AS spread,
         r.relkind IN ('r', 'p', 'm', 'f', 'S') AND c.rel NOT IN (SELECT oid FROM t)
         AND r.relnamespace <> 'pg_catalog'::regnamespace AS home
  FROM closed c JOIN pg_class r ON r.oid = c.rel
), known(oid) AS ({roles}), role AS (
  SELECT o.* FROM known k JOIN pg_roles o ON o.oid = k.oid WHERE o.rolname NOT LIKE 'pg\\_%'
), ns AS (
  SELECT oid, nspname, nspowner FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'
  AND nspname NOT IN ('drover', 'drover_internal')
), member AS ( -- What comes with an extension, or with a range type.
  SELECT classid, objid FROM pg_depend WHERE deptype = 'e' OR deptype = 'i' AND classid = 'pg_proc'::regclass
)
{TABLES}
{SHARED}
{ROLES}
UNION ALL SELECT 'view', format('%I.%I', n.nspname, c.relname),
  format('CREATE OR REPLACE VIEW %I.%I AS %s', n.nspname, c.relname, pg_get_viewdef(c.oid))
  FROM pg_class c JOIN ns n ON n.oid = c.relnamespace WHERE c.relkind = 'v'
  AND ('pg_class'::regclass, c.oid) NOT IN (SELECT classid, objid FROM member) {missing_views}
{made}
{others}"
    )
}

fn known_roles(roles: Option<&[String]>) -> String {
    match roles {
        None => ROLES_OF_DATABASE.to_owned(),
        Some([]) => "SELECT NULL::oid WHERE false".to_owned(),
        Some(names) => format!(
            "SELECT oid FROM pg_roles WHERE quote_ident(rolname) IN ({})",
            names.join(", ")
        ),
    }
}

/// Functions, aggregates, operators, and composite types.
fn made_sql(home: bool) -> String {
    let (home_only, home_only_type) = match home {
        true => (HOME_ONLY, HOME_ONLY_TYPE),
        false => ("false", "false"),
    };
    format!(
        "\
UNION ALL SELECT 'function', format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
  pg_get_functiondef(p.oid)
  FROM pg_proc p JOIN ns n ON n.oid = p.pronamespace WHERE p.prokind <> 'a'
  AND ('pg_proc'::regclass, p.oid) NOT IN (SELECT classid, objid FROM member) AND NOT ({home_only})
UNION ALL SELECT 'function (aggregate)', format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
  format('CREATE AGGREGATE %I.%I(%s) (SFUNC = %s, STYPE = %s%s%s%s%s)', n.nspname, p.proname,
    CASE p.pronargs WHEN 0 THEN '*' ELSE pg_get_function_arguments(p.oid) END, a.aggtransfn, format_type(a.aggtranstype, NULL),
    ', FINALFUNC = ' || nullif(a.aggfinalfn, 0)::regproc, ', COMBINEFUNC = ' || nullif(a.aggcombinefn, 0)::regproc,
    ', INITCOND = ' || quote_literal(a.agginitval), ', PARALLEL = ' || CASE p.proparallel WHEN 's' THEN 'SAFE' WHEN 'r' THEN 'RESTRICTED' END)
  FROM pg_proc p JOIN ns n ON n.oid = p.pronamespace JOIN pg_aggregate a ON a.aggfnoid = p.oid WHERE ('pg_proc'::regclass, p.oid) NOT IN (SELECT classid, objid FROM member) AND NOT ({home_only})
UNION ALL SELECT 'operator', o.oid::regoperator::text, format('CREATE OPERATOR %I.%s (FUNCTION = %s%s, RIGHTARG = %s)', n.nspname,
    o.oprname, p.oid::regproc, ', LEFTARG = ' || format_type(nullif(o.oprleft, 0), NULL), format_type(o.oprright, NULL))
  FROM pg_operator o JOIN ns n ON n.oid = o.oprnamespace JOIN pg_proc p ON p.oid = o.oprcode WHERE ('pg_operator'::regclass, o.oid) NOT IN (SELECT classid, objid FROM member) AND NOT ({home_only})
UNION ALL SELECT 'type', format('%I.%I', n.nspname, y.typname), format('CREATE TYPE %I.%I AS (%s)', n.nspname, y.typname,
  (SELECT string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum)
   FROM pg_attribute a WHERE a.attrelid = y.typrelid AND a.attnum > 0 AND NOT a.attisdropped))
  FROM pg_type y JOIN ns n ON n.oid = y.typnamespace JOIN pg_class c ON c.oid = y.typrelid AND c.relkind = 'c'
  WHERE ('pg_type'::regclass, y.oid) NOT IN (SELECT classid, objid FROM member) AND NOT ({home_only_type})"
    )
}

/// A function that refers to a table that is on the home shard only, or to its row type.
const HOME_ONLY: &str = "EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND (
    d.refclassid = 'pg_class'::regclass AND d.refobjid NOT IN (SELECT oid FROM t)
    OR d.refclassid = 'pg_type'::regclass AND EXISTS (SELECT FROM pg_type y JOIN pg_class c ON c.oid = y.typrelid
       AND c.relkind IN ('r', 'p', 'm', 'f', 'v') WHERE d.refobjid IN (y.oid, y.typarray) AND c.oid NOT IN (SELECT oid FROM t))))";

/// A composite type with a column of such a row type.
const HOME_ONLY_TYPE: &str = "EXISTS (SELECT FROM pg_attribute a JOIN pg_type e ON a.atttypid IN (e.oid, e.typarray) \
    JOIN pg_class k ON k.oid = e.typrelid AND k.relkind IN ('r', 'p', 'm', 'f', 'v') \
    WHERE a.attrelid = c.oid AND k.oid NOT IN (SELECT oid FROM t))";

const OTHER_TABLES: &str = "\
UNION ALL SELECT 'table', format('%I.%I', n.nspname, c.relname), 'it is not a table of the cluster'
  FROM pg_class c JOIN ns n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'm', 'f')
  AND c.oid NOT IN (SELECT oid FROM t) AND ('pg_class'::regclass, c.oid) NOT IN (SELECT classid, objid FROM member)";

/// What belongs to the tables. Values that sequences make come from the home shard: defaults of other shards do not count.
const TABLES: &str = "\
SELECT 'table' AS kind, q AS name, format('%s%s%s, owner %I%s%s', relkind::text || relpersistence::text,
         ' PARTITION BY ' || pg_get_partkeydef(t.oid),
         (SELECT format(' PARTITION OF %s %s', i.inhparent::regclass, pg_get_expr(t.relpartbound, t.oid)) FROM pg_inherits i
          WHERE i.inhrelid = t.oid AND t.relispartition), pg_get_userbyid(relowner),
         CASE WHEN relrowsecurity THEN ', row security' END, CASE WHEN relforcerowsecurity THEN ', forced' END) AS ddl FROM t
UNION ALL SELECT 'column', format('%s.%I', q, a.attname),
  format('ALTER TABLE %s ADD COLUMN %I %s%s%s%s', q, a.attname, format_type(a.atttypid, a.atttypmod),
    (SELECT format(' COLLATE %I.%I', cn.nspname, co.collname) FROM pg_collation co
     JOIN pg_namespace cn ON cn.oid = co.collnamespace, pg_type ty
     WHERE co.oid = a.attcollation AND ty.oid = a.atttypid AND a.attcollation <> ty.typcollation),
    CASE WHEN a.attnotnull THEN ' NOT NULL' END,
    (SELECT CASE WHEN a.attgenerated <> '' THEN format(' GENERATED ALWAYS AS (%s) STORED', pg_get_expr(d.adbin, d.adrelid))
                 WHEN pg_get_expr(d.adbin, d.adrelid) LIKE '%nextval(%' THEN ''
                 ELSE format(' DEFAULT %s', pg_get_expr(d.adbin, d.adrelid)) END
     FROM pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND NOT EXISTS (
       SELECT FROM pg_depend p JOIN pg_class s ON s.oid = p.refobjid AND s.relkind = 'S'
       WHERE p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_class'::regclass)))
  FROM t JOIN pg_attribute a ON a.attrelid = t.oid WHERE a.attnum > 0 AND NOT a.attisdropped
UNION ALL SELECT 'constraint', format('%s %I', q, k.conname),
  format('ALTER TABLE %s ADD CONSTRAINT %I %s', q, k.conname, pg_get_constraintdef(k.oid))
  FROM t JOIN pg_constraint k ON k.conrelid = t.oid WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND k.conparentid = 0 AND (k.conislocal OR k.conname <> 'drover_residency')
UNION ALL SELECT 'index', format('%s %I', q, i.relname),
  pg_get_indexdef(i.oid) || CASE WHEN x.indisvalid THEN '' ELSE ' -- invalid: drop it and make it again' END
  FROM t JOIN pg_index x ON x.indrelid = t.oid JOIN pg_class i ON i.oid = x.indexrelid
  WHERE NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.oid AND k.contype IN ('p', 'u', 'x'))
UNION ALL SELECT 'trigger', format('%s %I', q, g.tgname), pg_get_triggerdef(g.oid)
  || CASE g.tgenabled WHEN 'O' THEN '' ELSE format('; ALTER TABLE %s %s TRIGGER %I', q,
     CASE g.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, g.tgname) END
  FROM t JOIN pg_trigger g ON g.tgrelid = t.oid WHERE NOT g.tgisinternal
UNION ALL SELECT 'policy', format('%s %I', q, p.polname), format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', p.polname, q,
  CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
  CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
  (SELECT string_agg(CASE WHEN r = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', '
          ORDER BY pg_get_userbyid(r)) FROM unnest(p.polroles) r),
  ' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
  FROM t JOIN pg_policy p ON p.polrelid = t.oid
UNION ALL SELECT 'statistics', format('%s %I', q, s.stxname), pg_get_statisticsobjdef(s.oid)
  FROM t JOIN pg_statistic_ext s ON s.stxrelid = t.oid
UNION ALL SELECT 'grant', format('%s %s to %s', q, x.privilege_type, g.name),
  format('GRANT %s ON TABLE %s TO %s%s', x.privilege_type, q, g.name, CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' END)
  FROM t, aclexplode(coalesce(t.relacl, acldefault('r', t.relowner))) x,
  LATERAL (SELECT CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END) g(name)
UNION ALL SELECT 'grant', format('%s.%I %s to %s', q, a.attname, x.privilege_type, g.name),
  format('GRANT %s (%I) ON TABLE %s TO %s', x.privilege_type, a.attname, q, g.name)
  FROM t JOIN pg_attribute a ON a.attrelid = t.oid AND NOT a.attisdropped, aclexplode(a.attacl) x,
  LATERAL (SELECT CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END) g(name)
UNION ALL SELECT 'comment', format('%s%s', q, '.' || quote_ident(a.attname)), CASE WHEN d.objsubid = 0
    THEN format('COMMENT ON TABLE %s IS %L', q, d.description) ELSE format('COMMENT ON COLUMN %s.%I IS %L', q, a.attname, d.description) END
  FROM t JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = t.oid
  LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.objsubid AND d.objsubid > 0";

/// What is on every shard whatever the tables are.
const SHARED: &str = "\
UNION ALL SELECT 'schema', quote_ident(nspname), format('CREATE SCHEMA %I AUTHORIZATION %I', nspname, pg_get_userbyid(nspowner))
  FROM ns WHERE ('pg_namespace'::regclass, oid) NOT IN (SELECT classid, objid FROM member)
UNION ALL SELECT 'extension', quote_ident(e.extname), format('CREATE EXTENSION %I SCHEMA %I VERSION %L', e.extname, n.nspname, e.extversion)
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
UNION ALL SELECT 'type', format('%I.%I', n.nspname, y.typname), format('CREATE TYPE %I.%I AS ENUM (%s)', n.nspname, y.typname,
  (SELECT string_agg(quote_literal(l.enumlabel), ', ' ORDER BY l.enumsortorder) FROM pg_enum l WHERE l.enumtypid = y.oid))
  FROM pg_type y JOIN ns n ON n.oid = y.typnamespace WHERE y.typtype = 'e'
  AND ('pg_type'::regclass, y.oid) NOT IN (SELECT classid, objid FROM member)
UNION ALL SELECT 'domain', format('%I.%I', n.nspname, y.typname), format('CREATE DOMAIN %I.%I AS %s%s%s%s', n.nspname, y.typname,
  format_type(y.typbasetype, y.typtypmod), ' DEFAULT ' || y.typdefault, CASE WHEN y.typnotnull THEN ' NOT NULL' END,
  (SELECT string_agg(format(' CONSTRAINT %I %s', k.conname, pg_get_constraintdef(k.oid)), '' ORDER BY k.conname COLLATE \"C\")
   FROM pg_constraint k WHERE k.contypid = y.oid AND k.contype = 'c'))
  FROM pg_type y JOIN ns n ON n.oid = y.typnamespace WHERE y.typtype = 'd'
  AND ('pg_type'::regclass, y.oid) NOT IN (SELECT classid, objid FROM member)
UNION ALL SELECT 'type', format('%I.%I', n.nspname, y.typname), format('CREATE TYPE %I.%I AS RANGE (SUBTYPE = %s%s%s)', n.nspname, y.typname,
  format_type(r.rngsubtype, NULL), ', SUBTYPE_DIFF = ' || nullif(r.rngsubdiff, 0)::regproc,
  (SELECT format(', COLLATION = %I.%I', cn.nspname, co.collname) FROM pg_collation co JOIN pg_namespace cn ON cn.oid = co.collnamespace
   WHERE co.oid = r.rngcollation AND co.collname <> 'default'))
  FROM pg_type y JOIN ns n ON n.oid = y.typnamespace JOIN pg_range r ON r.rngtypid = y.oid
  WHERE ('pg_type'::regclass, y.oid) NOT IN (SELECT classid, objid FROM member)
UNION ALL SELECT 'type', format('%I.%I', n.nspname, y.typname), format('CREATE TYPE %I.%I (INPUT = %s, OUTPUT = %s%s%s%s%s%s, INTERNALLENGTH = %s%s, ALIGNMENT = %s, STORAGE = %s, CATEGORY = %L, PREFERRED = %s%s%s, DELIMITER = %L, COLLATABLE = %s)',
  n.nspname, y.typname, y.typinput, y.typoutput, ', RECEIVE = ' || nullif(y.typreceive, 0)::regproc, ', SEND = ' || nullif(y.typsend, 0)::regproc,
  ', TYPMOD_IN = ' || nullif(y.typmodin, 0)::regproc, ', TYPMOD_OUT = ' || nullif(y.typmodout, 0)::regproc, ', ANALYZE = ' || nullif(y.typanalyze, 0)::regproc,
  CASE WHEN y.typlen < 0 THEN 'VARIABLE' ELSE y.typlen::text END, CASE WHEN y.typbyval THEN ', PASSEDBYVALUE' END,
  CASE y.typalign WHEN 'c' THEN 'char' WHEN 's' THEN 'int2' WHEN 'i' THEN 'int4' ELSE 'double' END,
  CASE y.typstorage WHEN 'p' THEN 'plain' WHEN 'e' THEN 'external' WHEN 'x' THEN 'extended' ELSE 'main' END, y.typcategory, y.typispreferred,
  ', DEFAULT = ' || quote_literal(y.typdefault), ', ELEMENT = ' || format_type(nullif(y.typelem, 0), NULL), y.typdelim, y.typcollation <> 0)
  FROM pg_type y JOIN ns n ON n.oid = y.typnamespace WHERE y.typtype = 'b' AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = y.oid)
  AND ('pg_type'::regclass, y.oid) NOT IN (SELECT classid, objid FROM member)";

/// Roles that own something in this database or have rights on something, and those that they are members of.
const ROLES_OF_DATABASE: &str = "\
SELECT d.refobjid FROM pg_shdepend d JOIN pg_database b ON b.oid = d.dbid AND b.datname = current_database()
  WHERE d.refclassid = 'pg_authid'::regclass
  UNION SELECT m.roleid FROM known k JOIN pg_auth_members m ON m.member = k.oid";

/// Roles but for their passwords. Settings that are lists are stored with their quotes. The options of a membership that not every release of PostgreSQL has are read by name.
const ROLES: &str = "\
UNION ALL SELECT 'role', quote_ident(o.rolname), format('CREATE ROLE %I %s %s %s %s %s %s %s CONNECTION LIMIT %s%s', o.rolname,
    CASE WHEN o.rolsuper THEN 'SUPERUSER' ELSE 'NOSUPERUSER' END, CASE WHEN o.rolinherit THEN 'INHERIT' ELSE 'NOINHERIT' END,
    CASE WHEN o.rolcreaterole THEN 'CREATEROLE' ELSE 'NOCREATEROLE' END, CASE WHEN o.rolcreatedb THEN 'CREATEDB' ELSE 'NOCREATEDB' END,
    CASE WHEN o.rolcanlogin THEN 'LOGIN' ELSE 'NOLOGIN' END, CASE WHEN o.rolreplication THEN 'REPLICATION' ELSE 'NOREPLICATION' END,
    CASE WHEN o.rolbypassrls THEN 'BYPASSRLS' ELSE 'NOBYPASSRLS' END, o.rolconnlimit, 
    ' VALID UNTIL ' || quote_literal((o.rolvaliduntil AT TIME ZONE 'UTC') || CASE WHEN isfinite(o.rolvaliduntil) THEN '+00' ELSE '' END))
  FROM role o
UNION ALL SELECT 'role membership', format('%I in %I', o.rolname, g.rolname), format('GRANT %I TO %I%s%s%s', g.rolname, o.rolname,
    CASE WHEN m.admin_option THEN ' WITH ADMIN OPTION' END,
    CASE WHEN to_jsonb(m) ->> 'inherit_option' = 'false' AND o.rolinherit THEN ' WITH INHERIT FALSE' END,
    CASE WHEN to_jsonb(m) ->> 'set_option' = 'false' THEN ' WITH SET FALSE' END)
  FROM role o JOIN pg_auth_members m ON m.member = o.oid JOIN pg_roles g ON g.oid = m.roleid
UNION ALL SELECT 'role setting', format('%I %s%s', o.rolname, c.name, CASE WHEN s.setdatabase <> 0 THEN ' in this database' END),
    format('ALTER ROLE %I%s SET %s TO %s', o.rolname, CASE WHEN s.setdatabase <> 0 THEN format(' IN DATABASE %I', current_database()) END,
    c.name, CASE WHEN g.lists THEN c.value ELSE quote_literal(c.value) END)
  FROM role o JOIN pg_db_role_setting s ON s.setrole = o.oid
  AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())), unnest(s.setconfig) i(item),
  LATERAL (SELECT split_part(i.item, '=', 1), substr(i.item, strpos(i.item, '=') + 1)) c(name, value),
  LATERAL (SELECT c.name IN ('search_path', 'temp_tablespaces', 'local_preload_libraries', 'session_preload_libraries')) g(lists)";
