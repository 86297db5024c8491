//! Exchanges with code that the statement does not name: a view, a trigger and a column default that change settings, take
//! a session lock or make a temporary table.

use super::checks::one;
use super::life::Life;
use super::wire::End;
use crate::client::{Format, Pipeline};

/// What the exchanges need; made once for all clients.
pub(super) const MAKE: [&str; 5] = [
    "CREATE VIEW public.iso_view AS SELECT set_config('work_mem', '9MB', false) AS word",
    "CREATE VIEW public.iso_lock AS SELECT pg_advisory_lock_shared(4712)::text AS word",
    "CREATE TABLE public.iso_touched (tag text, temp boolean, \
     word text DEFAULT set_config('DateStyle', 'SQL, DMY', false))",
    "CREATE FUNCTION public.iso_touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
     PERFORM set_config('TimeZone', 'Asia/Kolkata', false); \
     IF NEW.temp THEN CREATE TEMP TABLE iso_temp (tag text); INSERT INTO pg_temp.iso_temp VALUES (NEW.tag); END IF; \
     RETURN NEW; END $$",
    "CREATE TRIGGER iso_touch BEFORE INSERT ON public.iso_touched FOR EACH ROW EXECUTE FUNCTION public.iso_touch()",
];

/// In an order in which they can go.
pub(super) const REMOVE: [&str; 4] = [
    "DROP VIEW IF EXISTS public.iso_view",
    "DROP VIEW IF EXISTS public.iso_lock",
    "DROP TABLE IF EXISTS public.iso_touched",
    "DROP FUNCTION IF EXISTS public.iso_touch()",
];

impl Life<'_> {
    /// What the code did is this session's, and ends with a rollback where PostgreSQL ends it.
    pub(super) fn unnamed(&mut self) -> Result<(), End> {
        if self.shared.options.sharded {
            // With sharded tables such code is refused, because only one server would see what it sets.
            return Ok(());
        }
        match self.random.below(4) {
            0 => self.view()?,
            1 => self.view_in_transaction()?,
            2 => self.touch()?,
            _ => self.view_lock()?,
        }
        self.state()
    }

    fn either_way(&mut self, sql: &str) -> Pipeline {
        if self.random.below(2) == 0 {
            return Pipeline::new().query(sql);
        }
        Pipeline::new()
            .parse("", sql, &[])
            .bind("", "", &[], Format::Text)
            .execute("", 0)
            .sync()
    }

    fn view(&mut self) -> Result<(), End> {
        let sent = self.either_way("SELECT word FROM public.iso_view");
        let answer = self.run(&sent)?;
        self.rows(&answer, &[one("9MB")])?;
        self.model.set("work_mem", "9MB");
        Ok(())
    }

    fn view_in_transaction(&mut self) -> Result<(), End> {
        let before = self.model.now.clone();
        self.ok("BEGIN", b'T')?;
        self.view()?;
        if self.random.below(2) == 0 {
            return self.ok("COMMIT", b'I');
        }
        self.model.now = before;
        self.ok("ROLLBACK", b'I')
    }

    /// The default and the trigger of one row.
    fn touch(&mut self) -> Result<(), End> {
        let temp = self.model.temp.is_none() && self.random.below(3) == 0;
        let tag = self.model.nonce.clone();
        let sql = format!(
            "INSERT INTO public.iso_touched (tag, temp) VALUES ('{tag}', {temp}) RETURNING tag, word"
        );
        let sent = self.either_way(&sql);
        let answer = self.run(&sent)?;
        self.rows(&answer, &[vec![Some(tag), Some("SQL, DMY".to_owned())]])?;
        self.model.set("DateStyle", "SQL, DMY");
        self.model.set("TimeZone", "Asia/Kolkata");
        if temp {
            self.model.temp = Some(1);
        }
        Ok(())
    }

    fn view_lock(&mut self) -> Result<(), End> {
        if self.model.view_lock {
            let answer = self.query("SELECT pg_advisory_unlock_shared(4712)::text")?;
            self.rows(&answer, &[one("true")])?;
        } else {
            let sent = self.either_way("SELECT word FROM public.iso_lock");
            let answer = self.run(&sent)?;
            self.own(&answer, None)?;
        }
        self.model.view_lock = !self.model.view_lock;
        Ok(())
    }
}
