//! What the shards should agree on and may not: copies of reference tables, rows on the wrong shard, missing guards,
//! sequences that are behind their columns.
//!
//! Nothing that goes through Drover makes such drift. A server restored from an old backup, a hand on one shard, or a
//! trigger that was switched off can.
//!
//! A reference table is first compared without locks, one statement per shard. Only where that differs (a write may
//! have been under way) it is compared again with writers locked out: on the home shard first, as writes go, then on the others, which
//! waits for what is prepared there. A repair happens under the same locks, in one transaction per shard, and gives the
//! shard the rows of the home shard.

use std::collections::BTreeMap;
use std::time::Instant;

use sql::quote_ident;
use topology::records::{TableKind, TableRecord, TableState};
use topology::{ChangeScope, ClusterRecord};
use wire::backend::ErrorFields;

use super::copy::copy;
use super::effects::text_sql;
use super::guards::{self, Guarded};
use super::join::{join_all, try_join_all};
use super::part::Part;
use super::{LOCK_TIMEOUT, OpError};
use crate::cluster::{Cluster, change_deadline};

/// Rows of one copy that are looked at one by one to say which differ.
const DIFFERENCES_ROWS_MAX: usize = 100_000;

/// Keys that are named.
const EXAMPLES_MAX: usize = 5;

/// What to look at, and what to do.
#[derive(Debug, Clone, Default)]
pub struct TableCheck {
    /// Schema and name of the only table; `None`: all sharded and reference tables.
    pub table: Option<(String, String)>,
    /// Repairs what can be repaired.
    pub repair: bool,
    /// Only says what would be repaired.
    pub dry_run: bool,
}

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `schema.table`, quoted.
    pub table: String,
    /// Name of the shard.
    pub shard: String,
    /// `ok`, or in a few words what is wrong.
    pub finding: &'static str,
    /// How much, and where.
    pub detail: String,
    /// `repaired`, `would be repaired`, or empty.
    pub repair: &'static str,
}

/// Compares the shards, table by table. `progress` gets a line after each table.
pub async fn check_tables(
    cluster: &Cluster,
    database: &str,
    check: &TableCheck,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Finding>, ErrorFields> {
    run(cluster, database, check, progress)
        .await
        .map_err(OpError::into_fields)
}

async fn run(
    cluster: &Cluster,
    database: &str,
    check: &TableCheck,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Finding>, OpError> {
    // Repairs and other changes keep out of each other's way.
    let guard = match check.repair && !check.dry_run {
        true => Some(cluster.change(ChangeScope::Nothing).await?),
        false => None,
    };
    let record = match &guard {
        Some(guard) => guard.cluster().clone(),
        None => ClusterRecord::clone(&cluster.record()),
    };
    let wanted = |table: &&TableRecord| {
        let named = check.table.as_ref();
        table.database == database
            && table.state == TableState::Active
            && named.is_none_or(|(schema, name)| (schema, name) == (&table.schema, &table.name))
    };
    let tables: Vec<&TableRecord> = record.tables.iter().filter(wanted).collect();
    let (mut findings, mut rows, began) = (Vec::new(), 0, Instant::now());
    for (done, table) in (1..).zip(&tables) {
        let mut one = OneTable {
            cluster,
            record: &record,
            table,
            check,
            findings: Vec::new(),
            rows: 0,
        };
        one.look().await?;
        rows += one.rows;
        findings.append(&mut one.findings);
        let seconds = began.elapsed().as_secs_f64().max(0.001);
        progress(&format!(
            "{done} of {} tables, {rows} rows, {:.0} rows/s, about {:.0} s left",
            tables.len(),
            rows as f64 / seconds,
            seconds / f64::from(done) * (tables.len() as f64 - f64::from(done)),
        ));
    }
    if let Some(guard) = guard {
        guard.finish(change_deadline()).await?;
    }
    Ok(findings)
}

/// One table while it is looked at.
struct OneTable<'a> {
    cluster: &'a Cluster,
    record: &'a ClusterRecord,
    table: &'a TableRecord,
    check: &'a TableCheck,
    findings: Vec<Finding>,
    rows: u64,
}

/// Count and sum of hashes.
type Digest = Vec<Option<String>>;

impl OneTable<'_> {
    fn name(&self) -> String {
        format!(
            "{}.{}",
            quote_ident(&self.table.schema),
            quote_ident(&self.table.name)
        )
    }

    fn find(&mut self, shard: &str, finding: &'static str, detail: String, repair: &'static str) {
        self.findings.push(Finding {
            table: format!("{}.{}", title(&self.table.schema), title(&self.table.name)),
            shard: shard.to_owned(),
            finding,
            detail,
            repair,
        });
    }

    /// What is said of something that this check can repair.
    fn repairs(&self) -> &'static str {
        match (self.check.repair, self.check.dry_run) {
            (true, false) => "repaired",
            (true, true) => "would be repaired",
            (false, _) => "",
        }
    }

    fn really_repairs(&self) -> bool {
        self.check.repair && !self.check.dry_run
    }

    async fn look(&mut self) -> Result<(), OpError> {
        let mut parts = self.begin().await?;
        let mut there = Vec::new();
        for part in &mut parts {
            there.push(self.exists(part).await?);
        }
        for (part, there) in parts.iter().zip(&there) {
            if !there {
                let detail = "see drover.schema_diff()".to_owned();
                self.find(&part.name.clone(), "no such table", detail, "");
            }
        }
        if there.contains(&false) {
            end(parts).await;
            return Ok(());
        }
        match self.table.kind {
            TableKind::Reference => self.look_at_copies(&mut parts).await?,
            TableKind::Sharded { .. } => self.look_at_places(&mut parts).await?,
        }
        self.look_at_guards(&mut parts).await?;
        self.look_at_sequences(&mut parts).await?;
        end(parts).await;
        Ok(())
    }

    /// A transaction on every shard, home first.
    async fn begin(&self) -> Result<Vec<Part>, OpError> {
        let home = self.record.home;
        let shards = self.record.shards.iter().map(|shard| shard.id);
        let others = shards.filter(|shard| *shard != home);
        let all = std::iter::once(home).chain(others);
        try_join_all(all.map(|shard| Part::begin(self.cluster, shard, &self.table.database))).await
    }

    async fn exists(&self, part: &mut Part) -> Result<bool, OpError> {
        let sql = format!(
            "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = {} AND c.relname = {}",
            text_sql(&self.table.schema),
            text_sql(&self.table.name)
        );
        Ok(!part.rows(&sql).await?.is_empty())
    }

    async fn digests(&self, parts: &mut [Part]) -> Result<Vec<Digest>, OpError> {
        let sql = format!(
            "SELECT pg_catalog.count(*), coalesce(pg_catalog.sum(pg_catalog.hashtextextended(t::pg_catalog.text, 0)::pg_catalog.numeric), 0) \
             FROM {} t",
            self.name()
        );
        let digests = try_join_all(parts.iter_mut().map(|part| part.rows(&sql))).await?;
        Ok(digests
            .into_iter()
            .map(|rows| rows.into_iter().next().unwrap_or_default())
            .collect())
    }

    async fn look_at_copies(&mut self, parts: &mut [Part]) -> Result<(), OpError> {
        let mut digests = self.digests(parts).await?;
        if digests.iter().any(|digest| *digest != digests[0]) {
            for part in parts.iter_mut() {
                let lock = format!(
                    "SET LOCAL lock_timeout = {}; LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE; SET LOCAL lock_timeout = 0",
                    LOCK_TIMEOUT.as_millis(),
                    self.name()
                );
                part.run(&lock).await?;
            }
            digests = self.digests(parts).await?;
        }
        let rows = |digest: &Digest| digest.first().cloned().flatten().unwrap_or_default();
        let count: u64 = rows(&digests[0]).parse().unwrap_or(0);
        self.rows += count * digests.len() as u64;
        let key = self.key_sql(&mut parts[0]).await?;
        let Some((home, others)) = parts.split_first_mut() else {
            return Ok(());
        };
        let home_name = home.name.clone();
        self.find(&home_name, "ok", format!("{count} rows"), "");
        let mut home_rows = None;
        for (part, digest) in others.iter_mut().zip(&digests[1..]) {
            let name = part.name.clone();
            if *digest == digests[0] {
                self.find(&name, "ok", format!("{} rows", rows(digest)), "");
                continue;
            }
            if home_rows.is_none() {
                home_rows = Some(keyed(home, &key).await?);
            }
            let theirs = keyed(part, &key).await?;
            let detail = match (home_rows.as_ref().and_then(Option::as_ref), &theirs) {
                (Some(ours), Some(theirs)) => differences(ours, theirs),
                _ => format!("{count} rows on the home shard, {} here", rows(digest)),
            };
            if self.really_repairs() {
                self.rewrite(home, part).await?;
            }
            self.find(&name, "another copy", detail, self.repairs());
        }
        Ok(())
    }

    /// Asks for every row's key and something that tells whether the row is the same.
    async fn key_sql(&self, home: &mut Part) -> Result<String, OpError> {
        let sql = format!(
            "SELECT pg_catalog.string_agg('t.' || pg_catalog.quote_ident(a.attname), ', ' ORDER BY k.at) \
             FROM pg_catalog.pg_index i, pg_catalog.unnest(i.indkey) WITH ORDINALITY AS k(attnum, at), pg_catalog.pg_attribute a \
             WHERE i.indrelid = {}::pg_catalog.regclass AND i.indisprimary AND a.attrelid = i.indrelid AND a.attnum = k.attnum",
            text_sql(&self.name())
        );
        let rows = home.rows(&sql).await?;
        let key = rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next().flatten());
        let (name, limit) = (self.name(), DIFFERENCES_ROWS_MAX + 1);
        Ok(match key {
            Some(key) => format!(
                "SELECT ROW({key})::pg_catalog.text, pg_catalog.hashtextextended(t::pg_catalog.text, 0) FROM {name} t LIMIT {limit}"
            ),
            None => format!(
                "SELECT t::pg_catalog.text, pg_catalog.count(*) FROM {name} t GROUP BY t::pg_catalog.text LIMIT {limit}"
            ),
        })
    }

    /// Gives a shard the rows of the home shard, and commits that.
    async fn rewrite(&self, home: &mut Part, part: &mut Part) -> Result<(), OpError> {
        let sql = format!(
            "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(attname), ', ' ORDER BY attnum) FROM pg_catalog.pg_attribute \
             WHERE attrelid = {}::pg_catalog.regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
            text_sql(&self.name())
        );
        let rows = home.rows(&sql).await?;
        let columns = rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next().flatten());
        let (name, columns) = (self.name(), columns.unwrap_or_default());
        part.run(&format!("DELETE FROM {name}")).await?;
        let (from, into) = (
            format!("COPY {name} ({columns}) TO STDOUT"),
            format!("COPY {name} ({columns}) FROM STDIN"),
        );
        copy(home, &mut [&mut *part], &from, &into, &mut |_| {}).await?;
        part.run("COMMIT").await
    }

    async fn look_at_places(&mut self, parts: &mut [Part]) -> Result<(), OpError> {
        let Some(guarded) = Guarded::of(self.record, self.table) else {
            return Ok(());
        };
        let name = self.name();
        let counts = try_join_all(parts.iter_mut().map(async |part| {
            let owns = guarded.owns_row(part.shard).unwrap_or_else(|| "true".to_owned());
            let sql = format!(
                "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE NOT {owns}) FROM {name}"
            );
            part.counts::<2>(&sql).await
        }))
        .await?;
        for (part, [rows, misplaced]) in parts.iter().zip(counts) {
            self.rows += rows;
            let shard = part.name.clone();
            if misplaced == 0 {
                self.find(&shard, "ok", format!("{rows} rows"), "");
            } else {
                let detail = format!(
                    "{misplaced} of {rows} rows belong on other shards: copy them through Drover and delete them here"
                );
                self.find(&shard, "misplaced rows", detail, "");
            }
        }
        Ok(())
    }

    async fn look_at_guards(&mut self, parts: &mut [Part]) -> Result<(), OpError> {
        let Some(guarded) = Guarded::of(self.record, self.table) else {
            return Ok(());
        };
        for part in parts {
            if let Some(missing) = guarded.missing(part).await? {
                if self.really_repairs() {
                    guards::ensure_one(self.cluster, part.shard, &guarded).await?;
                }
                let shard = part.name.clone();
                let detail = format!("{missing}: what does not come through Drover can be stored here");
                self.find(&shard, "no guard", detail, self.repairs());
            }
        }
        Ok(())
    }

    /// Sequences of the home shard that are behind the columns they fill.
    async fn look_at_sequences(&mut self, parts: &mut [Part]) -> Result<(), OpError> {
        let sql = format!(
            "SELECT pg_catalog.quote_ident(a.attname), pg_catalog.format('%I.%I', n.nspname, s.relname), \
                 coalesce(pg_catalog.pg_sequence_last_value(s.oid), q.seqstart - 1) \
             FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S' \
             JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
             WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i') \
               AND d.refobjid = {}::pg_catalog.regclass AND q.seqincrement > 0 AND NOT q.seqcycle",
            text_sql(&self.name())
        );
        let Some(home) = parts.first_mut() else {
            return Ok(());
        };
        let home_name = home.name.clone();
        for row in home.rows(&sql).await? {
            let [Some(column), Some(sequence), Some(last)] = row.as_slice() else {
                continue;
            };
            let question = format!(
                "SELECT pg_catalog.max({column})::pg_catalog.int8 FROM {}",
                self.name()
            );
            let answers = try_join_all(parts.iter_mut().map(|part| part.rows(&question))).await?;
            let highest = answers
                .iter()
                .filter_map(|rows| rows.first()?.first()?.as_deref()?.parse::<i64>().ok());
            let Some(highest) = highest.max() else { continue };
            if last.parse::<i64>().is_ok_and(|last| last >= highest) {
                continue;
            }
            if self.really_repairs()
                && let Some(home) = parts.first_mut()
            {
                let set = format!(
                    "SELECT pg_catalog.setval({}::pg_catalog.regclass, {highest})",
                    text_sql(sequence)
                );
                home.run(&set).await?;
            }
            let detail = format!("{sequence} is at {last}, column {column} at {highest}");
            self.find(&home_name, "sequence behind", detail, self.repairs());
        }
        Ok(())
    }
}

/// A name as people write it.
fn title(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit();
    match name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        true => name.to_owned(),
        false => quote_ident(name),
    }
}

async fn end(parts: Vec<Part>) {
    // A value that a sequence was set to stays.
    join_all(parts.into_iter().map(Part::roll_back)).await;
}

/// Rows by key; `None`: too many.
async fn keyed(part: &mut Part, sql: &str) -> Result<Option<BTreeMap<String, String>>, OpError> {
    let rows = part.rows(sql).await?;
    if rows.len() > DIFFERENCES_ROWS_MAX {
        return Ok(None);
    }
    let pairs = rows.into_iter().filter_map(|row| {
        let mut row = row.into_iter();
        Some((row.next()??, row.next()??))
    });
    Ok(Some(pairs.collect()))
}

fn differences(ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>) -> String {
    let missing: Vec<&String> = ours.keys().filter(|key| !theirs.contains_key(*key)).collect();
    let extra: Vec<&String> = theirs.keys().filter(|key| !ours.contains_key(*key)).collect();
    let other = |key: &&String| ours.get(*key).is_some_and(|row| theirs[*key] != *row);
    let other: Vec<&String> = theirs.keys().filter(other).collect();
    let examples = missing.iter().chain(&extra).chain(&other).take(EXAMPLES_MAX);
    let examples: Vec<&str> = examples.map(|key| key.as_str()).collect();
    format!(
        "{} rows missing, {} too many, {} different: {}",
        missing.len(),
        extra.len(),
        other.len(),
        examples.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_keys() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let (ours, theirs) = (
            map(&[("(a)", "1"), ("(b)", "2"), ("(c)", "3")]),
            map(&[("(b)", "2"), ("(c)", "4"), ("(d)", "5")]),
        );
        assert_eq!(
            differences(&ours, &theirs),
            "1 rows missing, 1 too many, 1 different: (a), (d), (c)"
        );
    }
}
