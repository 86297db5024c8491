//! The guard of the schema: DDL on a sharded or reference table that does not come through Drover is refused.
//!
//! Two event triggers in every database with such tables call one function. It knows the tables by their guard of statements
//! ([`super::statements`]) and a session of Drover's by what it states. The end of a command tells what was made or changed;
//! what was dropped is told by name, after it is gone:
//!
//! | dropped | the table is known by |
//! |---|---|
//! | the table, alone or with its schema or owner | its guard, which is dropped with it |
//! | a column, default, constraint, trigger, rule or policy | its name, of which the table's is a part |
//! | an index, extended statistics | the lock on the table that this session holds |
//!
//! A change that does come through Drover is refused when a table with a global index looks different to the
//! index afterwards; when the table is gone, the index goes with it.
//!
//! Types of columns are guarded with their tables: labels of an enum that is a key decide where rows are. Rights are not (the
//! event does not say whose they are): `drover.schema_diff()` finds those. `CREATE INDEX CONCURRENTLY` is refused when it is
//! done, because PostgreSQL asks no sooner; the index stays and is found in the same way.
//!
//! The triggers are of the *origin* kind, as all guards are, and members of the extension `plpgsql`: pg_dump leaves out what
//! an extension has.

/// A row if one of the event triggers is missing or switched off.
pub(super) const IS_MISSING: &str = "SELECT 1 WHERE (SELECT pg_catalog.count(*) FROM pg_catalog.pg_event_trigger \
     WHERE evtname IN ('drover_schema', 'drover_schema_drop') AND evtenabled IN ('O', 'A')) < 2";

pub(super) const CREATE_FUNCTION: &str = "CREATE OR REPLACE FUNCTION drover_internal.schema_guard() RETURNS event_trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    found oid;
    title text;
BEGIN
    IF coalesce(current_setting('drover_internal.epoch', true), '') <> '' THEN
        IF TG_EVENT = 'sql_drop' THEN
            PERFORM drover_internal.index_forget();
        END IF;
        SELECT i.relation INTO found FROM drover_internal.global_indexes i
        WHERE i.looks IS DISTINCT FROM drover_internal.index_looks(i.id, i.relation, i.columns) LIMIT 1;
        IF found IS NOT NULL THEN
            RAISE EXCEPTION 'a global index would not follow this change of its table'
                USING ERRCODE = '0A000', DETAIL = 'refusal code DRV7133',
                      HINT = 'drop the global index first and make it again afterwards: SELECT drover.drop_global_index(table, columns)';
        END IF;
        RETURN;
    END IF;
    IF TG_EVENT = 'sql_drop' THEN
        SELECT d.object_identity INTO title FROM pg_event_trigger_dropped_objects() d
        WHERE NOT d.is_temporary AND (
            d.object_type = 'trigger' AND d.object_identity LIKE 'drover\\_epoch on %'
            OR array_length(d.address_names, 1) = 3 AND EXISTS (
                SELECT FROM pg_trigger g WHERE g.tgname = 'drover_epoch'
                    AND g.tgrelid = to_regclass(format('%I.%I', d.address_names[1], d.address_names[2])))
            OR d.object_type IN ('index', 'statistics object') AND EXISTS (
                SELECT FROM pg_locks l JOIN pg_trigger g ON g.tgrelid = l.relation AND g.tgname = 'drover_epoch'
                WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.granted
                    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND l.mode IN ('ShareUpdateExclusiveLock', 'AccessExclusiveLock')))
        ORDER BY d.original DESC LIMIT 1;
    ELSE
        SELECT g.tgrelid INTO found
        FROM pg_event_trigger_ddl_commands() c CROSS JOIN LATERAL (
            SELECT c.objid AS relation WHERE c.classid = 'pg_class'::regclass
            UNION ALL SELECT indrelid FROM pg_index WHERE c.classid = 'pg_class'::regclass AND indexrelid = c.objid
            UNION ALL SELECT inhparent FROM pg_inherits WHERE c.classid = 'pg_class'::regclass AND inhrelid = c.objid
            UNION ALL SELECT oid FROM pg_class WHERE c.classid = 'pg_namespace'::regclass AND relnamespace = c.objid
                AND c.command_tag = 'ALTER SCHEMA'
            UNION ALL SELECT tgrelid FROM pg_trigger WHERE c.classid = 'pg_trigger'::regclass AND oid = c.objid
            UNION ALL SELECT polrelid FROM pg_policy WHERE c.classid = 'pg_policy'::regclass AND oid = c.objid
            UNION ALL SELECT ev_class FROM pg_rewrite WHERE c.classid = 'pg_rewrite'::regclass AND oid = c.objid
            UNION ALL SELECT conrelid FROM pg_constraint WHERE c.classid = 'pg_constraint'::regclass AND oid = c.objid
            UNION ALL SELECT adrelid FROM pg_attrdef WHERE c.classid = 'pg_attrdef'::regclass AND oid = c.objid
            UNION ALL SELECT stxrelid FROM pg_statistic_ext
                WHERE c.classid = 'pg_statistic_ext'::regclass AND oid = c.objid
            UNION ALL SELECT a.attrelid FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                WHERE c.classid = 'pg_type'::regclass AND c.objid IN (t.oid, t.typelem) AND NOT a.attisdropped
            ) AS touched(relation)
        JOIN pg_trigger g ON g.tgrelid = touched.relation AND g.tgname = 'drover_epoch'
        LIMIT 1;
        title := found::regclass;
    END IF;
    IF title IS NOT NULL THEN
        RAISE EXCEPTION '% did not come through Drover', TG_TAG
            USING ERRCODE = '55000', DETAIL = format('It changes %s, which is on other servers, too.', title),
                  HINT = 'Run it through Drover. To repair this server by hand, SET session_replication_role = replica as a superuser.';
    END IF;
END
$body$";

/// What may change a table, and what may change a type.
const TAGS: [&str; 15] = [
    "ALTER TABLE",
    "ALTER INDEX",
    "ALTER TRIGGER",
    "ALTER POLICY",
    "ALTER RULE",
    "ALTER STATISTICS",
    "ALTER SCHEMA",
    "ALTER TYPE",
    "ALTER DOMAIN",
    "CREATE TABLE",
    "CREATE INDEX",
    "CREATE TRIGGER",
    "CREATE POLICY",
    "CREATE RULE",
    "CREATE STATISTICS",
];

/// The statements that make both triggers, of which one may be there.
pub(super) fn create_sql() -> String {
    let trigger = |name: &str, event: &str, when: &str| {
        format!(
            "DROP EVENT TRIGGER IF EXISTS {name}; \
             CREATE EVENT TRIGGER {name} ON {event} {when} EXECUTE FUNCTION drover_internal.schema_guard(); \
             ALTER EXTENSION plpgsql ADD EVENT TRIGGER {name}"
        )
    };
    let tags: Vec<String> = TAGS.iter().map(|tag| format!("'{tag}'")).collect();
    format!(
        "DO $body$ BEGIN IF EXISTS (SELECT FROM pg_catalog.pg_event_trigger WHERE evtname = 'drover_schema') THEN \
             ALTER EXTENSION plpgsql DROP EVENT TRIGGER drover_schema; END IF; \
         IF EXISTS (SELECT FROM pg_catalog.pg_event_trigger WHERE evtname = 'drover_schema_drop') THEN \
             ALTER EXTENSION plpgsql DROP EVENT TRIGGER drover_schema_drop; END IF; END $body$; {}; {}",
        trigger(
            "drover_schema",
            "ddl_command_end",
            &format!("WHEN TAG IN ({})", tags.join(", "))
        ),
        trigger("drover_schema_drop", "sql_drop", "")
    )
}
