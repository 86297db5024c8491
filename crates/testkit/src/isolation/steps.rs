//! Exchanges about rows, statements and transactions.

use super::checks::{Row, all_rows, one, violation};
use super::life::Life;
use super::model::{Prepared, Stored};
use super::wire::{End, pause};
use crate::client::{Answer, Format, Parameter, Pipeline};
use std::sync::atomic::Ordering;

/// Names under which every client prepares.
const NAMES: [&str; 4] = ["s0", "s1", "s2", "s3"];
/// Text of PostgreSQL's type `text`.
const TEXT: u32 = 25;
/// Rows per portal.
const PORTAL_ROWS: u32 = 12;

/// One prepared execution: Bind, Execute.
fn execute(pipeline: Pipeline, statement: &str, values: &[Parameter]) -> Pipeline {
    pipeline.bind("", statement, values, Format::Text).execute("", 0)
}

impl Life<'_> {
    pub(super) fn query(&mut self, sql: &str) -> Result<Answer, End> {
        self.trace(sql);
        self.wire.run(&Pipeline::new().query(sql), self.random)
    }

    pub(super) fn run(&mut self, pipeline: &Pipeline) -> Result<Answer, End> {
        self.wire.run(pipeline, self.random)
    }

    /// A word that is unlike every other.
    pub(super) fn word(&mut self) -> String {
        format!("{}-{}", self.model.nonce, self.random.below(1_000_000))
    }

    pub(super) fn echo(&mut self) -> Result<(), End> {
        let word = self.word();
        let sent = match self.random.below(3) {
            0 => Pipeline::new().query(&format!("SELECT '{word}'")),
            1 => {
                let values = [Parameter::text(word.clone())];
                execute(Pipeline::new().parse("", "SELECT $1::text", &[TEXT]), "", &values).sync()
            }
            _ => {
                // An answer of several reads.
                let many = format!("SELECT '{word}' FROM generate_series(1, 400)");
                let answer = self.query(&many)?;
                return self.rows(&answer, &vec![one(word); 400]);
            }
        };
        let answer = self.run(&sent)?;
        self.rows(&answer, &[one(word)])
    }

    /// Outside a block a statement is the first of its transaction.
    pub(super) fn fresh(&mut self) -> Result<(), End> {
        let sql = "SELECT txid_current_if_assigned()::text, (now() = statement_timestamp())::text";
        let answer = self.query(sql)?;
        self.rows(&answer, &[vec![None, Some("true".to_string())]])
    }

    pub(super) fn prepare(&mut self) -> Result<(), End> {
        let name = NAMES[self.random.below(NAMES.len() as u64) as usize];
        let word = self.word();
        let (kind, sql, types): (_, String, &[u32]) = match self.random.below(4) {
            0 => (
                Prepared::Own(word.clone()),
                format!("SELECT '{word}' || $1"),
                &[TEXT],
            ),
            1 => (
                Prepared::Name,
                "SELECT $1 || current_setting('application_name')".to_string(),
                &[TEXT],
            ),
            2 => (
                Prepared::Which,
                "SELECT $1 || mark FROM iso_which".to_string(),
                &[TEXT],
            ),
            _ => (
                Prepared::Rows,
                "SELECT n::text FROM public.iso_rows WHERE k = $1::bigint".to_string(),
                &[],
            ),
        };
        let mut sent = Pipeline::new();
        if self.model.prepared.contains_key(name) {
            sent = sent.close_statement(name);
        }
        let sent = sent.parse(name, &sql, types).sync();
        let answer = self.run(&sent)?;
        self.own(&answer, None)?;
        self.model.prepared.insert(name.to_string(), kind);
        Ok(())
    }

    pub(super) fn prepared(&mut self) -> Result<(), End> {
        let name = NAMES[self.random.below(NAMES.len() as u64) as usize];
        let word = self.word();
        let Some(kind) = self.model.prepared.get(name).cloned() else {
            // Others have it; that must make no difference.
            let answer = self.run(&execute(Pipeline::new(), name, &[Parameter::text(word)]).sync())?;
            return self.own(&answer, Some("26000"));
        };
        let (parameter, wanted) = match kind {
            Prepared::Own(text) => (word.clone(), vec![one(format!("{text}{word}"))]),
            Prepared::Name => {
                let name = self.model.value("application_name").unwrap_or_default();
                (word.clone(), vec![one(format!("{word}{name}"))])
            }
            Prepared::Which => (word.clone(), vec![one(format!("{word}{}", self.model.which()))]),
            Prepared::Rows => {
                let count = self.model.rows.len() as u64;
                let row = self.model.rows.get(self.random.below(count) as usize);
                let key = row.map_or(self.id * 1_000 + 999, |row| row.key);
                let wanted = row.map(|row| one(row.number.to_string()));
                (key.to_string(), wanted.into_iter().collect())
            }
        };
        let mut sent = Pipeline::new();
        if self.random.below(3) == 0 {
            sent = sent.describe_statement(name);
        }
        let answer = self.run(&execute(sent, name, &[Parameter::text(parameter)]).sync())?;
        self.rows(&answer, &wanted)
    }

    /// Several Syncs, and a Query among them, in one go.
    pub(super) fn pipelined(&mut self) -> Result<(), End> {
        let mut sent = Pipeline::new();
        let mut wanted: Vec<Row> = Vec::new();
        for _ in 0..2 + self.random.below(5) {
            let word = self.word();
            wanted.push(one(word.clone()));
            if self.random.below(4) == 0 {
                sent = sent.query(&format!("SELECT '{word}'"));
                continue;
            }
            let values = [Parameter::text(word)];
            sent = execute(sent.parse("", "SELECT $1::text", &[TEXT]), "", &values);
            // A Query behind an open batch would end it without an answer of its own.
            sent = sent.sync();
        }
        let answer = self.run(&sent)?;
        self.rows(&answer, &wanted)
    }

    /// A batch that stays open while the client thinks.
    pub(super) fn partial(&mut self) -> Result<(), End> {
        let word = self.word();
        let values = [Parameter::text(word.clone())];
        let head = execute(Pipeline::new().parse("", "SELECT $1::text", &[TEXT]), "", &values);
        let head = if self.random.below(2) == 0 {
            head.flush()
        } else {
            head
        };
        self.wire.send(head.bytes(), self.random)?;
        pause(self.random, 2_000);
        let more = self.random.below(2) == 0;
        let mut tail = Pipeline::new();
        if more {
            tail = execute(tail.parse("", "SELECT $1::text", &[TEXT]), "", &values);
        }
        let answer = self.run(&tail.sync())?;
        self.rows(&answer, &vec![one(word); if more { 2 } else { 1 }])
    }

    pub(super) fn portal(&mut self) -> Result<(), End> {
        let word = self.word();
        let sql = "SELECT $1 || g::text FROM generate_series(1, 12) g";
        let open = Pipeline::new().parse("", sql, &[TEXT]).bind(
            "iso_portal",
            "",
            &[Parameter::text(word.clone())],
            Format::Text,
        );
        let rounds = 1 + self.random.below(3) as u32;
        let mut sent = open;
        for _ in 0..rounds {
            sent = sent.execute("iso_portal", 5);
            if self.random.below(2) == 0 {
                sent = sent.flush();
            }
        }
        let answer = self.run(&sent.sync())?;
        let count = (rounds * 5).min(PORTAL_ROWS);
        let wanted: Vec<Row> = (1..=count).map(|number| one(format!("{word}{number}"))).collect();
        self.rows(&answer, &wanted)?;
        // The portal ended with its transaction.
        let answer = self.run(&Pipeline::new().execute("iso_portal", 5).sync())?;
        self.own(&answer, Some("34000"))
    }

    pub(super) fn error(&mut self) -> Result<(), End> {
        let word = self.word();
        let key = self.next_key();
        match self.random.below(4) {
            0 => {
                let answer = self.query(&format!("SELECT 1 / 0 AS {}", self.model.nonce))?;
                self.own(&answer, Some("22012"))
            }
            1 => {
                // Everything behind the error is skipped, up to Sync and no further.
                let bad = execute(
                    Pipeline::new().parse("", "SELECT 1 / length($1) - 1", &[TEXT]),
                    "",
                    &[Parameter::text("")],
                );
                let values = [Parameter::text(word.clone())];
                let skipped = execute(bad.parse("", "SELECT $1::text", &[TEXT]), "", &values).sync();
                let good = execute(skipped.parse("", "SELECT $1::text", &[TEXT]), "", &values).sync();
                let answer = self.run(&good)?;
                self.own(&answer, Some("22012"))?;
                let seen = all_rows(&answer);
                if seen == [one(word)] {
                    return Ok(());
                }
                violation(format!("behind an error: {seen:?}"))
            }
            2 => {
                let row = self.row_sql(key, 0, 1);
                let answer = self.query(&format!("{row}; SELECT 1 / 0"))?;
                self.own(&answer, Some("22012"))?;
                self.own_rows()
            }
            _ => {
                let answer = self.query(&format!("SELECT {} FROM nowhere_{key}", self.model.nonce))?;
                self.own(&answer, Some("42P01"))
            }
        }
    }

    fn next_key(&mut self) -> u64 {
        self.transactions += 1;
        self.id * 1_000 + self.transactions
    }

    fn row_sql(&self, key: u64, number: u64, size: u64) -> String {
        let (tag, t) = (&self.model.nonce, self.transactions);
        format!(
            "INSERT INTO public.iso_rows (k, tag, t, n, size) VALUES ({key}, '{tag}', {t}, {number}, {size})"
        )
    }

    /// All rows of this life, and none that it did not keep.
    pub(super) fn own_rows(&mut self) -> Result<(), End> {
        let tag = self.model.nonce.clone();
        let sql = format!("SELECT n::text FROM public.iso_rows WHERE tag = '{tag}' ORDER BY k");
        let answer = self.query(&sql)?;
        let mut rows = self.model.rows.clone();
        rows.sort_by_key(|row| row.key);
        let wanted: Vec<Row> = rows.iter().map(|row| one(row.number.to_string())).collect();
        self.rows(&answer, &wanted)
    }

    /// A block over several exchanges: rows (on several shards where there are shards), savepoints, errors, own reads.
    pub(super) fn transaction(&mut self) -> Result<(), End> {
        let before = self.model.rows.clone();
        let keys: Vec<u64> = (0..1 + self.random.below(3)).map(|_| self.next_key()).collect();
        let size = keys.len() as u64;
        self.ok("BEGIN", b'T')?;
        for key in keys {
            let number = self.random.below(1_000_000);
            if self.random.below(4) == 0 {
                self.ok("SAVEPOINT iso", b'T')?;
                let lost = self.row_sql(key, 7, size);
                self.ok(&lost, b'T')?;
                if self.random.below(2) == 0 {
                    let answer = self.query("SELECT 1 / 0")?;
                    self.own(&answer, Some("22012"))?;
                    self.status(b'E')?;
                }
                self.ok("ROLLBACK TO iso", b'T')?;
            }
            let kept = self.row_sql(key, number, size);
            self.ok(&kept, b'T')?;
            self.model.rows.push(Stored { key, number });
            if self.random.below(3) == 0 {
                self.own_rows()?;
            }
            if self.random.below(3) == 0 {
                pause(self.random, 2_000);
            }
        }
        match self.random.below(4) {
            0 => {
                self.ok("ROLLBACK", b'I')?;
                self.model.rows = before;
            }
            1 => {
                let answer = self.query("SELECT 1 / 0")?;
                self.own(&answer, Some("22012"))?;
                let answer = self.query("SELECT 1")?;
                self.own(&answer, Some("25P02"))?;
                // COMMIT of a failed block is a ROLLBACK.
                let answer = self.query("COMMIT")?;
                self.own(&answer, None)?;
                self.model.rows = before;
            }
            _ => self.ok("COMMIT", b'I')?,
        }
        self.own_rows()
    }

    /// Runs a text that must succeed and leave this transaction state.
    pub(super) fn ok(&mut self, sql: &str, status: u8) -> Result<(), End> {
        let answer = self.query(sql)?;
        self.own(&answer, None)?;
        self.status(status)
    }

    fn status(&self, wanted: u8) -> Result<(), End> {
        let seen = self.wire.status();
        if seen == wanted {
            return Ok(());
        }
        violation(format!(
            "transaction state {} instead of {}",
            char::from(seen),
            char::from(wanted)
        ))
    }

    pub(super) fn copy(&mut self) -> Result<(), End> {
        if self.random.below(2) == 0 {
            let word = self.word();
            let answer = self.query(&format!(
                "COPY (SELECT '{word}' FROM generate_series(1, 50)) TO STDOUT"
            ))?;
            self.own(&answer, None)?;
            let copied = answer
                .results
                .first()
                .map(|result| result.copied.clone())
                .unwrap_or_default();
            if copied == format!("{word}\n").repeat(50).into_bytes() {
                return Ok(());
            }
            return violation(format!("copied out {}", String::from_utf8_lossy(&copied)));
        }
        let size = 1 + self.random.below(4);
        let keys: Vec<u64> = (0..size).map(|_| self.next_key()).collect();
        let (tag, t) = (&self.model.nonce, self.transactions);
        let lines: Vec<String> = keys
            .iter()
            .map(|key| format!("{key}\t{tag}\t{t}\t5\t{size}\n"))
            .collect();
        let sql = "COPY public.iso_rows (k, tag, t, n, size) FROM STDIN";
        let answer = self.wire.copy_in(sql, lines.concat().as_bytes(), self.random)?;
        self.own(&answer, None)?;
        let stored = keys.into_iter().map(|key| Stored { key, number: 5 });
        self.model.rows.extend(stored);
        self.own_rows()
    }

    /// A cancel at any moment: it ends the statement or comes too late, and meets nobody else.
    pub(super) fn cancel(&mut self) -> Result<(), End> {
        let word = self.word();
        let sent = Pipeline::new().query(&format!("SELECT '{word}' || pg_sleep(0.02)::text"));
        self.wire.send(sent.bytes(), self.random)?;
        pause(self.random, 30_000);
        self.wire.cancel()?;
        let answer = self.wire.collect(1)?;
        if answer.errors.is_empty() {
            self.rows(&answer, &[one(word)])?;
        } else {
            self.own(&answer, Some("57014"))?;
            self.shared.cancelled.fetch_add(1, Ordering::Relaxed);
        }
        // One that came too late may still meet the next statement of this session.
        let answer = self.query("SELECT 1")?;
        if answer.errors.is_empty() {
            return self.rows(&answer, &[one("1")]);
        }
        self.own(&answer, Some("57014"))
    }
}
