//! Exchanges about what a session keeps between statements.

use super::checks::{one, violation};
use super::life::Life;
use super::model::{SETTINGS, state_sql};
use super::wire::End;
use crate::client::{Format, Parameter, Pipeline};
use std::sync::atomic::Ordering;

/// The session lock that all clients contend for.
const SHARED_LOCK: u64 = 4_711;

impl Life<'_> {
    /// Everything the session tells about itself.
    pub(super) fn state(&mut self) -> Result<(), End> {
        let sent = if self.random.below(2) == 0 {
            Pipeline::new().query(&state_sql())
        } else {
            Pipeline::new()
                .parse("", &state_sql(), &[])
                .bind("", "", &[], Format::Text)
                .execute("", 0)
                .sync()
        };
        let answer = self.run(&sent)?;
        self.own(&answer, None)?;
        let mut row = answer.text_rows().into_iter().next().unwrap_or_default();
        let channels = row.pop().flatten().unwrap_or_default();
        let foreign = |channel: &&str| !self.model.listening.contains(*channel);
        if let Some(channel) = channels.split_whitespace().find(foreign) {
            return violation(format!("listens to {channel}"));
        }
        let wanted = self.model.state();
        if row == wanted {
            return Ok(());
        }
        violation(format!("the session is {row:?} instead of {wanted:?}"))
    }

    /// A setting and a value for it.
    fn choice(&mut self) -> (&'static str, String) {
        let name = SETTINGS[self.random.below(SETTINGS.len() as u64) as usize];
        let values: &[&str] = match name {
            "TimeZone" => &["UTC", "Asia/Tokyo", "America/New_York"],
            "DateStyle" => &["German, DMY", "ISO, MDY", "SQL, DMY"],
            "work_mem" => &["3MB", "5MB", "7MB"],
            "search_path" => &["public", "iso_a, public", "iso_b, public"],
            _ => return (name, self.word()),
        };
        let value = self.random.pick(values).copied().unwrap_or_default();
        (name, value.to_string())
    }

    fn set_sql(&mut self, name: &str, value: &str, local: bool) -> String {
        if self.random.below(3) == 0 {
            return format!("SELECT set_config('{name}', '{value}', {local})");
        }
        let word = if local { "LOCAL " } else { "" };
        match name {
            // Lists are not quoted as a whole.
            "search_path" | "DateStyle" => format!("SET {word}{name} TO {value}"),
            _ => format!("SET {word}{name} = '{value}'"),
        }
    }

    pub(super) fn set(&mut self) -> Result<(), End> {
        let (name, value) = self.choice();
        let sql = self.set_sql(name, &value, false);
        let sent = if self.random.below(2) == 0 {
            Pipeline::new().query(&sql)
        } else {
            Pipeline::new()
                .parse("", &sql, &[])
                .bind("", "", &[], Format::Text)
                .execute("", 0)
                .sync()
        };
        self.trace(&sql);
        let answer = self.run(&sent)?;
        self.own(&answer, None)?;
        self.model.set(name, &value);
        self.show(name)
    }

    fn show(&mut self, name: &'static str) -> Result<(), End> {
        let wanted = self.model.value(name).unwrap_or_default().to_string();
        let answer = if self.random.below(2) == 0 && name != "iso.tag" {
            self.query(&format!("SHOW {name}"))?
        } else {
            self.query(&format!("SELECT coalesce(current_setting('{name}', true), '')"))?
        };
        self.rows(&answer, &[one(wanted)])
    }

    pub(super) fn reset(&mut self) -> Result<(), End> {
        if self.random.below(4) == 0 {
            let answer = self.query("RESET ALL")?;
            self.own(&answer, None)?;
            self.model.reset_all();
            return self.state();
        }
        let (name, _) = self.choice();
        if name == "iso.tag" && self.model.value(name).is_none() {
            // Not known before it was set: an error on some servers only.
            return Ok(());
        }
        let answer = self.query(&format!("RESET {name}"))?;
        self.own(&answer, None)?;
        self.model.reset(name);
        self.show(name)
    }

    pub(super) fn discard(&mut self) -> Result<(), End> {
        let answer = self.query("DISCARD ALL")?;
        self.own(&answer, None)?;
        let user = self.shared.defaults.user.clone();
        self.model.discard(&user);
        self.state()
    }

    /// What SET and SET LOCAL leave behind at COMMIT and ROLLBACK.
    pub(super) fn set_in_transaction(&mut self) -> Result<(), End> {
        let before = self.model.now.clone();
        self.ok("BEGIN", b'T')?;
        let ((name, value), (local, own)) = (self.choice(), self.choice());
        let sql = self.set_sql(name, &value, false);
        self.ok(&sql, b'T')?;
        self.model.set(name, &value);
        let kept = self.model.now.clone();
        let sql = self.set_sql(local, &own, true);
        self.ok(&sql, b'T')?;
        self.model.set(local, &own);
        self.show(local)?;
        self.show(name)?;
        if self.random.below(2) == 0 {
            self.model.now = kept;
            self.ok("COMMIT", b'I')?;
        } else {
            self.model.now = before;
            self.ok("ROLLBACK", b'I')?;
        }
        self.show(local)?;
        self.show(name)
    }

    pub(super) fn role(&mut self) -> Result<(), End> {
        let Some(role) = self.shared.options.role.clone() else {
            return Ok(());
        };
        let answer = self.query(&format!("SET ROLE {role}"))?;
        self.own(&answer, None)?;
        let answer = self.query("SELECT current_user::text")?;
        self.rows(&answer, &[one(role.clone())])?;
        self.model.role = role;
        if self.random.below(2) == 0 {
            self.state()?;
        }
        let answer = self.query("RESET ROLE")?;
        self.own(&answer, None)?;
        self.model.role.clone_from(&self.shared.defaults.user);
        let answer = self.query("SELECT current_user::text")?;
        self.rows(&answer, &[one(self.model.role.clone())])
    }

    /// Names of the protocol's statements can be given up in SQL.
    pub(super) fn deallocate(&mut self) -> Result<(), End> {
        let Some(name) = self.model.prepared.keys().next().cloned() else {
            return Ok(());
        };
        if self.random.below(2) == 0 {
            let answer = self.query("DEALLOCATE ALL")?;
            self.own(&answer, None)?;
            self.model.prepared.clear();
            self.model.sql_prepared = false;
        } else {
            let answer = self.query(&format!("DEALLOCATE {name}"))?;
            self.own(&answer, None)?;
            self.model.prepared.remove(&name);
        }
        let gone = Pipeline::new()
            .bind("", &name, &[Parameter::text("x")], Format::Text)
            .execute("", 0)
            .sync();
        let answer = self.run(&gone)?;
        self.own(&answer, Some("26000"))
    }

    pub(super) fn sql_prepare(&mut self) -> Result<(), End> {
        let word = self.word();
        if self.model.sql_prepared {
            self.ok("DEALLOCATE iso_sql", b'I')?;
        } else {
            let answer = self.query("EXECUTE iso_sql('x')")?;
            self.own(&answer, Some("26000"))?;
        }
        let sql = format!("PREPARE iso_sql(text) AS SELECT '{word}' || $1");
        self.ok(&sql, b'I')?;
        self.model.sql_prepared = true;
        let answer = self.query("EXECUTE iso_sql('y')")?;
        self.rows(&answer, &[one(format!("{word}y"))])
    }

    /// A temporary table of a name that every client uses.
    pub(super) fn temp(&mut self) -> Result<(), End> {
        let word = self.model.nonce.clone();
        let count = match self.model.temp {
            None => {
                self.ok("CREATE TEMP TABLE iso_temp (tag text)", b'I')?;
                0
            }
            Some(count) => count,
        };
        self.model.temp = Some(count);
        self.ok(&format!("INSERT INTO pg_temp.iso_temp VALUES ('{word}')"), b'I')?;
        self.model.temp = Some(count + 1);
        let answer = self.query("SELECT tag FROM pg_temp.iso_temp")?;
        self.rows(&answer, &vec![one(word); count as usize + 1])?;
        if self.random.below(2) == 0 {
            self.ok("DROP TABLE pg_temp.iso_temp", b'I')?;
            self.model.temp = None;
        }
        self.state()
    }

    pub(super) fn lock_or_listen(&mut self) -> Result<(), End> {
        match self.random.below(3) {
            0 => self.shared_lock(),
            1 => self.own_lock(),
            _ => self.listen(),
        }
    }

    fn own_lock(&mut self) -> Result<(), End> {
        let key = 1_000_000 + self.id;
        if self.model.locks > 0 {
            let answer = self.query(&format!("SELECT pg_advisory_unlock({key})::text"))?;
            self.rows(&answer, &[one("true")])?;
            self.model.locks = 0;
        } else {
            // Nobody else has the number.
            let answer = self.query(&format!("SELECT pg_try_advisory_lock({key})::text"))?;
            self.rows(&answer, &[one("true")])?;
            self.model.locks = 1;
        }
        self.state()
    }

    /// One lock for all: whoever has it is alone.
    fn shared_lock(&mut self) -> Result<(), End> {
        let answer = self.query(&format!("SELECT pg_try_advisory_lock({SHARED_LOCK})::text"))?;
        self.own(&answer, None)?;
        if answer.value().as_deref() != Some("true") {
            return Ok(());
        }
        let others = self.shared.lock_holders.fetch_add(1, Ordering::SeqCst);
        let result = self.echo();
        // Before it is given back: a life that is cut here loses the lock only after this.
        self.shared.lock_holders.fetch_sub(1, Ordering::SeqCst);
        result?;
        if others > 0 {
            return violation("a session lock was held twice");
        }
        let answer = self.query(&format!("SELECT pg_advisory_unlock({SHARED_LOCK})::text"))?;
        self.rows(&answer, &[one("true")])
    }

    fn listen(&mut self) -> Result<(), End> {
        let channel = format!("iso_{}", self.model.nonce);
        if self.model.listening.contains(&channel) && self.random.below(2) == 0 {
            self.ok("UNLISTEN *", b'I')?;
            self.model.listening.clear();
            return self.state();
        }
        self.model.listening.insert(channel.clone());
        self.ok(&format!("LISTEN {channel}"), b'I')?;
        let word = self.word();
        let answer = self.query(&format!("NOTIFY {channel}, '{word}'"))?;
        self.own(&answer, None)?;
        let early = answer.notifications.into_iter().next();
        let got = match early {
            Some(got) => Some(got),
            None => self.wire.notification()?,
        };
        match got {
            Some((at, payload)) if at == channel && payload == word => Ok(()),
            other => violation(format!("notified {channel} {word}, got {other:?}")),
        }
    }
}
