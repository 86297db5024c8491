//! Both sides compared, at one position and without holding anybody up.
//!
//! The lock on the source's table is held for as long as it takes to write a marker and to take a snapshot: everything that
//! changed the table committed before the marker and is in the snapshot. It is taken in a subtransaction, whose end
//! releases it while the snapshot stays.

use std::time::Duration;

use super::stream::Stream;
use super::{Job, Trouble, prepare};
use crate::admin_link::{AdminError, AdminLink};
use crate::ops::OpError;
use crate::ops::join::try_join_all;

/// How long the lock is waited for, in milliseconds; whoever wants to write waits as well meanwhile.
const LOCK_TIMEOUT_MS: u32 = 500;

/// How often the lock is asked for.
const ATTEMPTS_MAX: u32 = 60;

/// Pause in between.
const PAUSE: Duration = Duration::from_millis(500);

/// Rows of a shard, and the sum of their hashes.
#[derive(Debug, PartialEq, Eq)]
struct Sum {
    rows: String,
    hashes: String,
}

/// Fails when a target does not have what the source has for it.
pub(super) async fn run(job: &mut Job<'_>, stream: &mut Stream) -> Result<(), Trouble> {
    let on = OpError::on(&stream.source_name);
    let mut home = prepare::link(job.cluster, stream.source, &job.workflow().database).await?;
    lock(job, &mut home, stream).await?;
    let marker = stream.mark(job).await?;
    // The first statement that needs a snapshot.
    let snapshot = "SELECT 1; ROLLBACK TO SAVEPOINT drover_lock";
    home.run(snapshot).await.map_err(&on)?;
    stream.reach(job, &marker).await?;

    let (table, hash) = (stream.table().name.clone(), hash_sql(&stream.table().columns));
    let filters: Vec<String> = stream
        .lanes
        .iter()
        .map(|lane| {
            stream
                .division()
                .map_or("true".to_owned(), |division| division.predicate(lane.shard))
        })
        .collect();
    let wanted = async {
        let columns: Vec<String> = filters.iter().map(|filter| sum_sql(&hash, filter)).collect();
        let sql = format!("SELECT {} FROM ONLY {}", columns.join(", "), stream.source_table);
        let rows = home.rows(&sql).await.map_err(&on)?;
        let values: Option<Vec<String>> = rows.into_iter().next().and_then(|row| row.into_iter().collect());
        let values = values.ok_or_else(|| on(AdminError::State("a sum cannot be read".to_owned())))?;
        Ok::<_, OpError>(sums(&values))
    };
    let there = try_join_all(stream.lanes.iter_mut().map(async |lane| {
        let on = OpError::on(&lane.name);
        let rows = lane.rows();
        let sql = format!("SELECT {} FROM ONLY {table}", sum_sql(&hash, "true"));
        let found = lane.link().rows(&sql).await.map_err(&on)?;
        let values: Vec<String> = found.into_iter().flatten().flatten().collect();
        Ok::<_, OpError>((lane.name.clone(), sums(&values).pop(), rows))
    }));
    let (wanted, there) = tokio::join!(wanted, there);
    let (wanted, there): (Vec<Sum>, _) = (wanted?, there?);
    for (wanted, (name, found, counted)) in wanted.iter().zip(there) {
        if found.as_ref() != Some(wanted) || wanted.rows != counted.to_string() {
            let what = format!(
                "its copy differs: {} rows are there, {counted} were counted, {} are wanted",
                found.map_or_else(|| "no".to_owned(), |found| found.rows),
                wanted.rows
            );
            return Err(OpError::on(&name)(AdminError::State(what)).into());
        }
    }
    Ok(())
}

async fn lock(job: &Job<'_>, home: &mut AdminLink, stream: &Stream) -> Result<(), Trouble> {
    let on = OpError::on(&stream.source_name);
    let sql = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SAVEPOINT drover_lock; SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}; \
         LOCK TABLE ONLY {} IN SHARE MODE",
        stream.source_table
    );
    for attempt in 1.. {
        match home.run(&sql).await.map_err(&on) {
            Ok(()) => return Ok(()),
            Err(error) if error.sqlstate() == Some("55P03") && attempt < ATTEMPTS_MAX => {
                home.run("ROLLBACK").await.map_err(&on)?;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
        job.check_wanted()?;
    }
    Ok(())
}

fn hash_sql(columns: &[String]) -> String {
    format!(
        "pg_catalog.hashtextextended(ROW({})::text, 0)::numeric",
        columns.join(", ")
    )
}

fn sum_sql(hash: &str, filter: &str) -> String {
    format!(
        "pg_catalog.count(*) FILTER (WHERE {filter}), COALESCE(pg_catalog.sum({hash}) FILTER (WHERE {filter}), 0)"
    )
}

fn sums(values: &[String]) -> Vec<Sum> {
    let pairs = values.chunks_exact(2);
    pairs
        .map(|pair| Sum {
            rows: pair[0].clone(),
            hashes: pair[1].clone(),
        })
        .collect()
}
