//! Emptying a database between files.

use crate::client::Client;

/// Statements, as rows, that drop everything a case file can have left behind, in an order that works with CASCADE.
const LEFTOVERS: &str = "
WITH mine AS (
  SELECT oid, nspname FROM pg_namespace
  WHERE nspname NOT LIKE 'pg\\_%' AND nspname NOT IN ('information_schema', 'drover', 'drover_internal')
), foreign_free AS (
  SELECT objid, classid FROM pg_depend WHERE deptype = 'e'
), list AS (
  SELECT 1 AS step, format('DROP %s IF EXISTS %I.%I CASCADE',
      CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, nspname, relname) AS sql
  FROM pg_class JOIN mine ON mine.oid = relnamespace
  WHERE relkind IN ('r', 'p', 'v', 'm') AND NOT relispartition
    AND (pg_class.oid, 'pg_class'::regclass) NOT IN (SELECT objid, classid FROM foreign_free)
  UNION ALL
  SELECT 2, format('DROP SEQUENCE IF EXISTS %I.%I CASCADE', nspname, relname)
  FROM pg_class JOIN mine ON mine.oid = relnamespace WHERE relkind = 'S'
    AND NOT EXISTS (SELECT 1 FROM pg_depend WHERE objid = pg_class.oid AND deptype IN ('a', 'i'))
  UNION ALL
  SELECT 3, format('DROP ROUTINE IF EXISTS %s CASCADE', pg_proc.oid::regprocedure)
  FROM pg_proc JOIN mine ON mine.oid = pronamespace
  WHERE (pg_proc.oid, 'pg_proc'::regclass) NOT IN (SELECT objid, classid FROM foreign_free)
  UNION ALL
  SELECT 4, format('DROP %s IF EXISTS %I.%I CASCADE', CASE typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, nspname, typname)
  FROM pg_type JOIN mine ON mine.oid = typnamespace
  WHERE typtype IN ('e', 'd', 'r') OR (typtype = 'c' AND EXISTS (
    SELECT 1 FROM pg_class WHERE pg_class.oid = typrelid AND relkind = 'c'))
  UNION ALL
  SELECT 5, format('DROP SCHEMA IF EXISTS %I CASCADE', nspname) FROM mine WHERE nspname <> 'public'
)
SELECT sql FROM list ORDER BY step, sql";

/// Drops all tables, views, sequences, functions, types and schemas that are not the server's or the cluster's own.
pub(super) fn reset(client: &mut Client) -> Result<(), String> {
    let run = |client: &mut Client, sql: &str| -> Result<Vec<Vec<Option<String>>>, String> {
        let answer = client.simple(sql).map_err(|error| error.to_string())?;
        match answer.error() {
            Some(error) => Err(format!("{error} in {sql}")),
            None => Ok(answer.text_rows()),
        }
    };
    let drops = run(client, LEFTOVERS)?;
    for sql in drops.into_iter().flatten().flatten() {
        run(client, &sql)?;
    }
    Ok(())
}
