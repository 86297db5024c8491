//! The tables and functions of sagas (docs/decisions/0043): plain objects of the database, on the home shard.

/// To run in this order; repeating it changes nothing.
pub const INSTALL: &[&str] = &[
    "CREATE SCHEMA IF NOT EXISTS drover_sagas",
    SAGAS,
    STEPS,
    MINE,
    MY_STEPS,
    BEGIN,
    STEP,
    FINISH,
    UNDO,
    FORGET,
    "REVOKE ALL ON drover_sagas.sagas, drover_sagas.steps FROM PUBLIC",
    "GRANT USAGE ON SCHEMA drover_sagas TO PUBLIC",
    "GRANT SELECT ON drover_sagas.mine, drover_sagas.my_steps TO PUBLIC",
];

/// What is in the schema and belongs to somebody else: functions would run it with the rights of who installs them.
pub const FOREIGN: &str = "SELECT kind, name FROM (
    SELECT 'schema', n.nspname, n.nspowner FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'drover_sagas'
    UNION ALL SELECT 'table or view', c.relname, c.relowner FROM pg_catalog.pg_class AS c WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'drover_sagas')
    UNION ALL SELECT 'function', p.proname, p.proowner FROM pg_catalog.pg_proc AS p WHERE p.pronamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'drover_sagas')
    UNION ALL SELECT 'trigger', t.tgname, NULL FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
        WHERE NOT t.tgisinternal AND c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'drover_sagas')
) AS found(kind, name, owner)
WHERE owner IS DISTINCT FROM (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user) LIMIT 1";

/// A saga belongs to the role that logged in: what it has recorded is run by nobody else.
const SAGAS: &str = "CREATE TABLE IF NOT EXISTS drover_sagas.sagas (
    owner name NOT NULL,
    name text NOT NULL,
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'finished', 'undoing', 'undone')),
    began timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    changed timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (owner, name)
)";

const STEPS: &str = "CREATE TABLE IF NOT EXISTS drover_sagas.steps (
    owner name NOT NULL,
    saga text NOT NULL,
    number integer NOT NULL,
    name text NOT NULL,
    undo text,
    done_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (owner, saga, number),
    UNIQUE (owner, saga, name),
    FOREIGN KEY (owner, saga) REFERENCES drover_sagas.sagas ON DELETE CASCADE
)";

const MINE: &str = "CREATE OR REPLACE VIEW drover_sagas.mine WITH (security_barrier) AS
    SELECT s.name, s.state, s.began, s.changed,
        (SELECT pg_catalog.count(*) FROM drover_sagas.steps AS t WHERE t.owner = s.owner AND t.saga = s.name) AS steps
    FROM drover_sagas.sagas AS s WHERE s.owner = session_user";

const MY_STEPS: &str = "CREATE OR REPLACE VIEW drover_sagas.my_steps WITH (security_barrier) AS
    SELECT t.saga, t.number, t.name, t.undo, t.done_at FROM drover_sagas.steps AS t WHERE t.owner = session_user";

const BEGIN: &str = "CREATE OR REPLACE FUNCTION drover_sagas.start(saga_name text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    INSERT INTO drover_sagas.sagas (owner, name) VALUES (session_user, $1);
END
$body$";

/// In the transaction of the step. The lock of the saga's row orders steps and undoing: a client that somebody took for dead fails here.
const STEP: &str = "CREATE OR REPLACE FUNCTION drover_sagas.step(saga_name text, step_name text, undo_statement text) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    found_state text;
    last_number integer;
BEGIN
    SELECT s.state INTO found_state FROM drover_sagas.sagas AS s
        WHERE s.owner = session_user AND s.name = $1 FOR UPDATE;
    IF found_state IS NULL THEN
        RAISE EXCEPTION 'there is no saga \"%\" of this role', $1 USING ERRCODE = 'undefined_object';
    END IF;
    IF found_state <> 'running' THEN
        RAISE EXCEPTION 'saga \"%\" is %', $1, found_state USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT max(t.number) INTO last_number FROM drover_sagas.steps AS t WHERE t.owner = session_user AND t.saga = $1;
    IF last_number >= 1000 THEN
        RAISE EXCEPTION 'saga \"%\" has 1000 steps', $1 USING ERRCODE = 'program_limit_exceeded';
    END IF;
    last_number := COALESCE(last_number, 0) + 1;
    INSERT INTO drover_sagas.steps (owner, saga, number, name, undo) VALUES (session_user, $1, last_number, $2, $3);
    UPDATE drover_sagas.sagas AS s SET changed = clock_timestamp() WHERE s.owner = session_user AND s.name = $1;
    RETURN last_number;
END
$body$";

/// Again: no harm.
const FINISH: &str = "CREATE OR REPLACE FUNCTION drover_sagas.finish(saga_name text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    found_state text;
BEGIN
    SELECT s.state INTO found_state FROM drover_sagas.sagas AS s
        WHERE s.owner = session_user AND s.name = $1 FOR UPDATE;
    IF found_state IS NULL THEN
        RAISE EXCEPTION 'there is no saga \"%\" of this role', $1 USING ERRCODE = 'undefined_object';
    END IF;
    IF found_state NOT IN ('running', 'finished') THEN
        RAISE EXCEPTION 'saga \"%\" is %', $1, found_state USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    DELETE FROM drover_sagas.steps AS t WHERE t.owner = session_user AND t.saga = $1;
    UPDATE drover_sagas.sagas AS s SET state = 'finished', changed = clock_timestamp()
        WHERE s.owner = session_user AND s.name = $1;
END
$body$";

/// Takes the newest step away and gives what undoes it, to be run in the same transaction; no row: nothing is left, or it was changed
/// within the time.
const UNDO: &str = "CREATE OR REPLACE FUNCTION drover_sagas.undo(saga_name text, idle interval DEFAULT '0')
RETURNS TABLE (step_number integer, step_name text, undo_statement text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    found_state text;
    since timestamptz;
BEGIN
    SELECT s.state, s.changed INTO found_state, since FROM drover_sagas.sagas AS s
        WHERE s.owner = session_user AND s.name = $1 FOR UPDATE;
    IF found_state IS NULL THEN
        RAISE EXCEPTION 'there is no saga \"%\" of this role', $1 USING ERRCODE = 'undefined_object';
    END IF;
    IF found_state = 'finished' THEN
        RAISE EXCEPTION 'saga \"%\" is finished', $1 USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF found_state = 'undone' OR (found_state = 'running' AND since > clock_timestamp() - $2) THEN
        RETURN;
    END IF;
    SELECT t.number, t.name, t.undo INTO step_number, step_name, undo_statement FROM drover_sagas.steps AS t
        WHERE t.owner = session_user AND t.saga = $1 ORDER BY t.number DESC LIMIT 1;
    IF step_number IS NULL THEN
        UPDATE drover_sagas.sagas AS s SET state = 'undone', changed = clock_timestamp()
            WHERE s.owner = session_user AND s.name = $1;
        RETURN;
    END IF;
    DELETE FROM drover_sagas.steps AS t WHERE t.owner = session_user AND t.saga = $1 AND t.number = step_number;
    UPDATE drover_sagas.sagas AS s SET state = 'undoing', changed = clock_timestamp()
        WHERE s.owner = session_user AND s.name = $1;
    RETURN NEXT;
END
$body$";

const FORGET: &str =
    "CREATE OR REPLACE FUNCTION drover_sagas.forget(idle interval DEFAULT '7 days') RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    DELETE FROM drover_sagas.sagas AS s WHERE s.owner = session_user AND s.state IN ('finished', 'undone')
        AND s.changed < clock_timestamp() - $1;
END
$body$";
