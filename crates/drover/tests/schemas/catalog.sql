-- Everything of a database's catalogs that DDL can change, one line each, without OIDs. Objects whose names begin with
-- h_ are on the home shard alone, and so are the rows and partitions of nothing else.
WITH ns AS (
  SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$|drover)'
), rel AS (
  SELECT c.*, format('%I.%I', n.nspname, c.relname) AS id FROM pg_class c JOIN ns n ON n.oid = c.relnamespace
  WHERE c.relname !~ '^h_'
), fn AS (
  SELECT p.*, format('%s(%s)', p.proname, pg_get_function_identity_arguments(p.oid)) AS id
  FROM pg_proc p JOIN ns n ON n.oid = p.pronamespace WHERE p.proname !~ '^h_'
), line AS (
  SELECT 'schema' AS kind, concat_ws(' ', n.nspname, n.nspowner::regrole, n.nspacl) AS line FROM pg_namespace n JOIN ns USING (oid)
  UNION ALL SELECT 'relation', concat_ws(' ', id, relkind, relowner::regrole, relacl, reloptions, relrowsecurity,
         relforcerowsecurity, relpersistence, relreplident, reltablespace) FROM rel
  UNION ALL SELECT 'column', concat_ws(' ', r.id, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
         a.attstattarget, a.attstorage, a.attcompression, a.attoptions, a.attacl, a.attcollation::regcollation,
         a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid))
         FROM rel r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0
         LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum WHERE NOT a.attisdropped
  UNION ALL SELECT 'constraint', concat_ws(' ', coalesce(r.id, t.typname), k.conname, pg_get_constraintdef(k.oid),
         k.condeferrable, k.convalidated) FROM pg_constraint k JOIN ns n ON n.oid = k.connamespace
         LEFT JOIN rel r ON r.oid = k.conrelid LEFT JOIN pg_type t ON t.oid = k.contypid
         WHERE r.oid IS NOT NULL OR t.oid IS NOT NULL
  UNION ALL SELECT 'index', concat_ws(' ', pg_get_indexdef(i.indexrelid), i.indisclustered, i.indisvalid, i.indisreplident)
         FROM pg_index i JOIN rel r ON r.oid = i.indexrelid
  UNION ALL SELECT 'sequence', concat_ws(' ', r.id, s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmax)
         FROM pg_sequence s JOIN rel r ON r.oid = s.seqrelid
  UNION ALL SELECT 'trigger', concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled) FROM pg_trigger t
         JOIN rel r ON r.oid = t.tgrelid WHERE NOT t.tgisinternal
  UNION ALL SELECT 'rule', concat_ws(' ', pg_get_ruledef(w.oid), w.ev_enabled) FROM pg_rewrite w JOIN rel r ON r.oid = w.ev_class
  UNION ALL SELECT 'policy', concat_ws(' ', r.id, p.polname, p.polcmd, p.polroles::regrole[], pg_get_expr(p.polqual, p.polrelid),
         pg_get_expr(p.polwithcheck, p.polrelid)) FROM pg_policy p JOIN rel r ON r.oid = p.polrelid
  UNION ALL SELECT 'statistics', concat_ws(' ', pg_get_statisticsobjdef(s.oid), s.stxowner::regrole,
         (to_jsonb(s))->>'stxstattarget') FROM pg_statistic_ext s JOIN rel r ON r.oid = s.stxrelid
  UNION ALL SELECT 'function', concat_ws(' ', f.pronamespace::regnamespace, id, f.proowner::regrole, f.proacl, f.prokind,
         CASE WHEN f.prokind <> 'a' THEN pg_get_functiondef(f.oid) END) FROM fn f
  UNION ALL SELECT 'aggregate', concat_ws(' ', f.id, g.aggtransfn, g.aggtranstype::regtype) FROM pg_aggregate g
         JOIN fn f ON f.oid = g.aggfnoid
  UNION ALL SELECT 'type', concat_ws(' ', t.typnamespace::regnamespace, t.typname, t.typtype, t.typowner::regrole, t.typacl,
         t.typnotnull, t.typbasetype::regtype, t.typdefault, t.typcollation::regcollation, t.typisdefined,
         (SELECT array_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
         (SELECT g.rngsubtype::regtype FROM pg_range g WHERE g.rngtypid = t.oid))
         FROM pg_type t JOIN ns n ON n.oid = t.typnamespace WHERE t.typname !~ '^_?h_'
  UNION ALL SELECT 'default rights', concat_ws(' ', defaclrole::regrole, defaclnamespace::regnamespace, defaclobjtype, defaclacl)
         FROM pg_default_acl
  UNION ALL SELECT 'comment', concat_ws(' ', i.type, i.identity, description) FROM pg_description d,
         pg_identify_object(d.classoid, d.objoid, d.objsubid) i
         WHERE i.identity !~ '\mh_' AND (d.objoid >= 16384 OR d.classoid = 'pg_language'::regclass)
  UNION ALL SELECT 'shared comment', concat_ws(' ', i.identity, description) FROM pg_shdescription d,
         pg_identify_object(d.classoid, d.objoid, 0) i WHERE d.objoid >= 16384
  UNION ALL SELECT 'role', concat_ws(' ', rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin,
         rolreplication, rolbypassrls, rolconnlimit, rolvaliduntil) FROM pg_roles WHERE oid >= 16384
  UNION ALL SELECT 'member', concat_ws(' ', roleid::regrole, member::regrole, admin_option) FROM pg_auth_members
         WHERE roleid >= 16384
  UNION ALL SELECT 'setting', concat_ws(' ', s.setrole::regrole, d.datname, s.setconfig) FROM pg_db_role_setting s
         LEFT JOIN pg_database d ON d.oid = s.setdatabase
         WHERE d.datname IS NULL OR d.datname = current_database() OR d.datname !~ '^test_' -- those of other tests
  UNION ALL SELECT 'database', concat_ws(' ', datname, datdba::regrole, datacl, datconnlimit, datistemplate, datallowconn)
         FROM pg_database WHERE datname = current_database() OR datname !~ '^test_'
  UNION ALL SELECT 'parameter', concat_ws(' ', parname, paracl) FROM pg_parameter_acl
  UNION ALL SELECT 'extension', concat_ws(' ', extname, extversion, extnamespace::regnamespace, extowner::regrole) FROM pg_extension
  UNION ALL SELECT 'member of extension', concat_ws(' ', i.type, i.identity, e.extname, d.deptype) FROM pg_depend d
         JOIN pg_extension e ON e.oid = d.refobjid, pg_identify_object(d.classid, d.objid, d.objsubid) i
         WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype IN ('e', 'x')
  UNION ALL SELECT 'operator', concat_ws(' ', o.oid::regoperator, o.oprnamespace::regnamespace, o.oprowner::regrole, o.oprcode,
         o.oprrest, o.oprjoin, o.oprcom::regoperator) FROM pg_operator o WHERE o.oid >= 16384
  UNION ALL SELECT 'operator class', concat_ws(' ', opcnamespace::regnamespace, opcname, opcowner::regrole, opcintype::regtype)
         FROM pg_opclass WHERE oid >= 16384
  UNION ALL SELECT 'operator family', concat_ws(' ', opfnamespace::regnamespace, opfname, opfowner::regrole)
         FROM pg_opfamily WHERE oid >= 16384
  UNION ALL SELECT 'member of family', (pg_identify_object('pg_amop'::regclass, oid, 0)).identity FROM pg_amop WHERE oid >= 16384
  UNION ALL SELECT 'member of family', (pg_identify_object('pg_amproc'::regclass, oid, 0)).identity FROM pg_amproc WHERE oid >= 16384
  UNION ALL SELECT 'cast', concat_ws(' ', castsource::regtype, casttarget::regtype, castcontext, castmethod) FROM pg_cast WHERE oid >= 16384
  UNION ALL SELECT 'collation', concat_ws(' ', collnamespace::regnamespace, collname, collowner::regrole, collprovider)
         FROM pg_collation WHERE oid >= 16384
  UNION ALL SELECT 'conversion', concat_ws(' ', connamespace::regnamespace, conname, conowner::regrole) FROM pg_conversion WHERE oid >= 16384
  UNION ALL SELECT 'language', concat_ws(' ', lanname, lanowner::regrole, lanacl) FROM pg_language WHERE lanispl
  UNION ALL SELECT 'access method', concat_ws(' ', amname, amtype, amhandler) FROM pg_am
  UNION ALL SELECT 'text search configuration', concat_ws(' ', c.cfgnamespace::regnamespace, c.cfgname, c.cfgowner::regrole,
         (SELECT count(*) || ' ' || string_agg(m.mapdict::regdictionary::text, ',' ORDER BY m.maptokentype, m.mapseqno)
          FROM pg_ts_config_map m WHERE m.mapcfg = c.oid)) FROM pg_ts_config c WHERE c.oid >= 16384
  UNION ALL SELECT 'text search dictionary', concat_ws(' ', dictnamespace::regnamespace, dictname, dictowner::regrole,
         dictinitoption) FROM pg_ts_dict WHERE oid >= 16384
  UNION ALL SELECT 'text search parser', concat_ws(' ', prsnamespace::regnamespace, prsname) FROM pg_ts_parser WHERE oid >= 16384
  UNION ALL SELECT 'text search template', concat_ws(' ', tmplnamespace::regnamespace, tmplname) FROM pg_ts_template WHERE oid >= 16384
  UNION ALL SELECT 'foreign data wrapper', concat_ws(' ', fdwname, fdwowner::regrole, fdwacl, fdwoptions) FROM pg_foreign_data_wrapper
  UNION ALL SELECT 'server', concat_ws(' ', srvname, srvowner::regrole, srvacl, srvversion, srvoptions) FROM pg_foreign_server
  UNION ALL SELECT 'user mapping', concat_ws(' ', srvname, usename, umoptions) FROM pg_user_mappings
  UNION ALL SELECT 'event trigger', concat_ws(' ', evtname, evtevent, evtowner::regrole, evtfoid::regproc, evtenabled, evttags)
         FROM pg_event_trigger
  UNION ALL SELECT 'transform', concat_ws(' ', trftype::regtype, trflang) FROM pg_transform
)
SELECT kind || ': ' || line FROM line ORDER BY 1
