//! A move: rows from the home shard to the others, in one open transaction per shard.

use std::collections::BTreeMap;

use catalog::ShardId;
use catalog::ddl::{TableDdl, assemble, table_ddl_queries};
use plan::ShardOptions;
use topology::{ChangeError, ChangeGuard, ChangeScope, ClusterRecord};

use super::check::{self, Division, Movable};
use super::copy::copy;
use super::decide::{self, Entry, Parts};
use super::effects::NewTable;
use super::faults::{Faults, Step};
use super::join::{join_all, try_join_all};
use super::part::{Part, tag_count};
use super::progress::Progress;
use super::rearrange;
use super::{LOCK_TIMEOUT, OpError};
use super::{partitions, views};
use crate::admin_link::AdminError;
use crate::cluster::{Cluster, change_deadline};

/// What the operator asks for.
pub(super) struct Wanted<'a> {
    /// Database.
    pub(super) database: &'a str,
    /// Schema of the table.
    pub(super) schema: &'a str,
    /// Its name.
    pub(super) table: &'a str,
    /// Where its rows are to be.
    pub(super) goal: &'a Goal,
}

/// Where the rows of a table are to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Goal {
    /// Each on the shard of its key.
    Sharded(ShardOptions),
    /// All of them on every shard.
    Reference,
    /// All of them on the home shard, as before the table was sharded.
    Home,
    /// All of them on the shard of this name.
    Placed(String),
}

impl Wanted<'_> {
    /// What messages call the table.
    pub(super) fn title(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }
}

/// How often a move begins again whose proxy lost touch with the cluster.
const AGAIN_MAX: u32 = 2;

/// Carries a move out. A proxy that was cut off from the cluster for a moment begins again: nothing had changed.
pub(super) async fn run(
    cluster: &Cluster,
    wanted: &Wanted<'_>,
    line: &mut dyn FnMut(&str),
    faults: &Faults,
) -> Result<(), OpError> {
    for _ in 0..AGAIN_MAX {
        match attempt(cluster, wanted, line, faults).await {
            Err(OpError::Change(ChangeError::Lost)) if cluster.regains_touch().await => {
                line("the proxy was cut off from the cluster; beginning again");
            }
            ended => return ended,
        }
    }
    attempt(cluster, wanted, line, faults).await
}

/// From the checks to the new epoch, once.
pub(super) async fn attempt(
    cluster: &Cluster,
    wanted: &Wanted<'_>,
    line: &mut dyn FnMut(&str),
    faults: &Faults,
) -> Result<(), OpError> {
    check::preflight(cluster, wanted).await?;
    super::online::refuse_second(cluster, wanted).await?;
    let mut guard = cluster.change_alone(ChangeScope::Everything).await?;
    faults.reached(Step::Paused).await?;
    let result = relocate(cluster, &mut guard, wanted, line, faults).await;
    if matches!(result, Err(OpError::Died)) {
        return result.map(|_| ());
    }
    if let Err(error) = guard.finish(change_deadline()).await {
        // What was published counts; a proxy that has not loaded it serves nothing.
        tracing::warn!(%error, table = %wanted.title(), "the change was not acknowledged by every proxy");
    }
    let movable = result?;
    statistics(cluster, wanted, &movable).await;
    Ok(())
}

async fn relocate(
    cluster: &Cluster,
    guard: &mut ChangeGuard,
    wanted: &Wanted<'_>,
    line: &mut dyn FnMut(&str),
    faults: &Faults,
) -> Result<String, OpError> {
    let record = guard.cluster().clone();
    if record
        .table(wanted.database, wanted.schema, wanted.table)
        .is_some()
    {
        return rearrange::run(cluster, guard, wanted, line, faults).await;
    }
    let home = Part::begin(cluster, record.home, wanted.database).await?;
    let mut parts = Parts {
        home,
        others: Vec::new(),
    };
    match move_rows(cluster, &record, &mut parts, wanted, line, faults).await {
        Ok(movable) => {
            decide::commit(cluster, guard, parts, Entry::Table(&movable.table), faults).await?;
            Ok(movable.sql_name)
        }
        Err(OpError::Died) => Err(OpError::Died),
        Err(error) => {
            parts.roll_back().await;
            Err(error)
        }
    }
}

/// Everything but the commit.
async fn move_rows(
    cluster: &Cluster,
    record: &ClusterRecord,
    parts: &mut Parts,
    wanted: &Wanted<'_>,
    line: &mut dyn FnMut(&str),
    faults: &Faults,
) -> Result<Movable, OpError> {
    lock(&mut parts.home, wanted).await?;
    let movable = check::look(&mut parts.home.link, &parts.home.name, record, wanted).await?;
    let ddl = read_ddl(&mut parts.home, &movable.table).await?;
    let views = views::dependent(&mut parts.home, &movable).await?;
    faults.reached(Step::Locked).await?;

    let others = record
        .shards
        .iter()
        .map(|shard| shard.id)
        .filter(|shard| *shard != record.home);
    let begun = join_all(others.map(|shard| Part::begin(cluster, shard, wanted.database))).await;
    parts.others = begun.into_iter().collect::<Result<_, _>>()?;
    try_join_all(parts.others.iter_mut().map(|part| run_each(part, &ddl.create))).await?;

    check::all_have_a_place(&mut parts.home.link, &parts.home.name, &movable).await?;
    let Totals { rows, leaving } = count_home(&mut parts.home, &movable).await?;
    let mut progress = Progress::new(wanted.title(), leaving, line);
    let taken = match &movable.division {
        None => copy_everything(parts, &movable, &mut progress).await?,
        Some(division) => copy_divided(parts, &movable, division, &mut progress).await?,
    };
    progress.phase("rows are copied; making indexes and constraints");
    let late: Vec<String> = ddl.after_load.iter().chain(&views).cloned().collect();
    try_join_all(parts.others.iter_mut().map(|part| run_each(part, &late))).await?;
    try_join_all(parts.others.iter_mut().map(|part| verify(part, &movable, &taken))).await?;
    if let Some(division) = &movable.division {
        progress.phase("removing the rows that have moved");
        leave_home(&mut parts.home, &movable, division, rows, taken.values().sum()).await?;
    }
    for part in parts.all() {
        if let Some(rules) = movable.rules(part.shard, record) {
            partitions::guard(part, &movable.sql_name, &rules).await?;
        }
    }
    faults.reached(Step::Moved).await?;
    Ok(movable)
}

pub(super) async fn lock(home: &mut Part, wanted: &Wanted<'_>) -> Result<(), OpError> {
    let name = format!(
        "{}.{}",
        sql::quote_ident(wanted.schema),
        sql::quote_ident(wanted.table)
    );
    let text = format!(
        "SET LOCAL lock_timeout = {}; LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE; SET LOCAL lock_timeout = 0",
        LOCK_TIMEOUT.as_millis()
    );
    home.run(&text).await.map_err(|error| match error.sqlstate() {
        Some("55P03") => OpError::refused_with(
            "55P03",
            format!(
                "table {} is in use: an open transaction holds a lock on it",
                wanted.title()
            ),
            "End that transaction (see pg_locks on the home shard) and try again; nothing has changed.",
        ),
        _ => error,
    })
}

/// How the table is made elsewhere, with its partitions.
pub(super) async fn read_ddl(home: &mut Part, table: &NewTable) -> Result<TableDdl, OpError> {
    let mut ddl = TableDdl::default();
    for member in partitions::members(home, table.home_oid).await? {
        let mut rows = Vec::new();
        for (id, sql) in table_ddl_queries(member) {
            rows.push((id, home.rows(&sql).await?));
        }
        let mut of_member =
            assemble(&rows).map_err(|error| home.failed(AdminError::State(error.to_string())))?;
        ddl.create.append(&mut of_member.create);
        // Indexes of partitions are made with them: only a table without partitions has them here, at the front.
        ddl.after_load.append(&mut of_member.after_load);
        ddl.indexes += of_member.indexes;
        ddl.home_sequences.append(&mut of_member.home_sequences);
    }
    Ok(ddl)
}

pub(super) async fn run_each(part: &mut Part, statements: &[String]) -> Result<(), OpError> {
    for statement in statements {
        part.run(statement).await?;
    }
    Ok(())
}

/// Rows on the home shard before the move.
struct Totals {
    /// All of them.
    rows: u64,
    /// Those that will be copied.
    leaving: u64,
}

async fn count_home(home: &mut Part, movable: &Movable) -> Result<Totals, OpError> {
    let leaving = match &movable.division {
        None => "true".to_owned(),
        Some(division) => format!("NOT {}", division.predicate(home.shard)),
    };
    let sql = format!(
        "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE {leaving}) FROM {}",
        movable.rows_sql()
    );
    let [rows, leaving] = home.counts(&sql).await?;
    Ok(Totals { rows, leaving })
}

/// Copies the rows of each shard to it. How many each took.
async fn copy_divided(
    parts: &mut Parts,
    movable: &Movable,
    division: &Division,
    progress: &mut Progress<'_>,
) -> Result<BTreeMap<ShardId, u64>, OpError> {
    let into = into_sql(movable);
    let mut taken = BTreeMap::new();
    for part in &mut parts.others {
        let select = select_sql(movable, Some(&division.predicate(part.shard)));
        let shard = part.shard;
        let rows = copy(&mut parts.home, &mut [part], &select, &into, &mut |rows| {
            progress.add(rows)
        })
        .await?;
        taken.insert(shard, rows);
    }
    Ok(taken)
}

/// Copies all rows to every shard, reading them once.
async fn copy_everything(
    parts: &mut Parts,
    movable: &Movable,
    progress: &mut Progress<'_>,
) -> Result<BTreeMap<ShardId, u64>, OpError> {
    let (select, into) = (select_sql(movable, None), into_sql(movable));
    let shards: Vec<ShardId> = parts.others.iter().map(|part| part.shard).collect();
    let mut targets: Vec<&mut Part> = parts.others.iter_mut().collect();
    if targets.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = copy(&mut parts.home, &mut targets, &select, &into, &mut |rows| {
        progress.add(rows)
    })
    .await?;
    Ok(shards.into_iter().map(|shard| (shard, rows)).collect())
}

pub(super) fn select_sql(movable: &Movable, predicate: Option<&str>) -> String {
    let filter = predicate.map_or(String::new(), |predicate| format!(" WHERE {predicate}"));
    format!(
        "COPY (SELECT {} FROM {}{filter}) TO STDOUT",
        movable.columns,
        movable.rows_sql()
    )
}

pub(super) fn into_sql(movable: &Movable) -> String {
    format!("COPY {} ({}) FROM STDIN", movable.sql_name, movable.columns)
}

/// A shard must have the rows it took, all of them its own by its own reckoning.
async fn verify(part: &mut Part, movable: &Movable, taken: &BTreeMap<ShardId, u64>) -> Result<(), OpError> {
    let own = match &movable.division {
        None => "true".to_owned(),
        Some(division) => division.predicate(part.shard),
    };
    let sql = format!(
        "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE {own}) FROM {}",
        movable.rows_sql()
    );
    let [rows, own] = part.counts(&sql).await?;
    let expected = taken.get(&part.shard).copied().unwrap_or(0);
    if rows == expected && own == expected {
        return Ok(());
    }
    let what = format!("it has {rows} rows, {own} of them its own, after {expected} were copied");
    Err(part.failed(AdminError::State(what)))
}

/// Deletes on the home shard what has moved. Not TRUNCATE: that would empty the table for older snapshots too.
async fn leave_home(
    home: &mut Part,
    movable: &Movable,
    division: &Division,
    before: u64,
    moved: u64,
) -> Result<(), OpError> {
    let sql = format!(
        "DELETE FROM {} WHERE NOT {}",
        movable.rows_sql(),
        division.predicate(home.shard)
    );
    let deleted = home.tag(&sql).await?;
    let count = format!("SELECT pg_catalog.count(*) FROM {}", movable.rows_sql());
    let [stayed] = home.counts(&count).await?;
    if tag_count(&deleted) == Some(moved) && stayed + moved == before {
        return Ok(());
    }
    let what = format!("of {before} rows {moved} were copied, {stayed} stayed, and the answer was {deleted}");
    Err(home.failed(AdminError::State(what)))
}

/// New statistics, and room again where rows have left. The move is complete without.
pub(super) async fn statistics(cluster: &Cluster, wanted: &Wanted<'_>, sql_name: &str) {
    let record = cluster.record();
    let tasks = record.shards.iter().map(|shard| shard.id).map(async |shard| {
        let mut link = cluster.admin_link(shard, wanted.database).await?;
        link.run("SET statement_timeout = '60s'").await?;
        link.run(&format!("VACUUM (ANALYZE) {sql_name}")).await
    });
    for result in join_all(tasks).await {
        if let Err(error) = result {
            tracing::info!(%error, table = %wanted.title(), "no new statistics");
        }
    }
}
