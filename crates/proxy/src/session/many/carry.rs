//! UPDATE and DELETE over rows of other tables that are carried to the rows that they change: see [`plan::FinishPlace`].
//!
//! | step | what can fail, and then |
//! |---|---|
//! | the rows of the other tables are pulled, as for a query, on the connections of the transaction | its error is the statement's; nothing has been written |
//! | rows that only one shard can use are dealt out by key | a key that cannot be read here: refused, nothing has been written |
//! | each shard that may have rows to change runs the statement over its arrays, all at once; copies of a reference table home first | the block fails everywhere |

use catalog::{ShardId, Snapshot};
use merge::Bounds;
use plan::{FinishPlace, Gather, GatherPlace};

use super::gather::{Pulled, shards_of};
use super::run::{Asked, Run, Texts};
use super::{Args, Extra};
use crate::exec::sinks::{Concat, Only};
use crate::exec::statement::Planned;
use crate::session::{Fault, Session};

impl Session {
    /// Runs the statement over the rows of its other tables.
    pub(super) async fn run_carried(
        &mut self,
        planned: &Planned,
        gather: &Gather,
        asked: Asked<'_>,
        values: Vec<Option<Extra>>,
    ) -> Result<(), Fault> {
        let context = self.plan_context().await?;
        let none = Args::default();
        let args = asked.args.unwrap_or(&none);
        let targets = targets(gather, &context.snapshot, args)?;
        if gather.finish_on == FinishPlace::Every && targets.len() > 1 {
            self.check_copies(planned)?;
            self.lock_copies(&targets).await?;
        }
        let Pulled { arrays, extras } = self.pull(planned, gather, asked, values, &targets).await?;
        let indexes = self.enlist_all(&targets).await?;
        let oids: Vec<u32> = gather.arrays.iter().map(|array| array.array_oid).collect();
        let run = Run {
            planned,
            order: &targets,
            indexes: &indexes,
            text: &gather.finish,
            args,
            extras: &extras,
            copy: None,
            origins: &[],
            only_reads: false,
        };
        let texts = || Texts::Rows {
            sql: &gather.finish,
            oids: &oids,
            arrays: &arrays,
        };
        let formats = self.visible_formats(&run);
        if gather.finish_on != FinishPlace::Every {
            let mut sink = Concat::new(Bounds::default());
            let gathered = self.scatter(&run, texts(), &formats, 0, &mut sink).await?;
            return self.complete_sum(&gathered);
        }
        let only = |source| Only { source, rows: 0 };
        let (first, others) = (run.part(..1), run.part(1..));
        let mut gathered = self
            .scatter(&first, texts(), &formats, 0, &mut only(Some(0)))
            .await?;
        let rest = self
            .scatter(&others, texts(), &formats, 0, &mut only(None))
            .await?;
        gathered.tags.extend(rest.tags);
        self.complete_equal(&gathered)
    }
}

/// The shards that run the statement: one at least, for its errors and the triggers that run once for a statement.
fn targets(gather: &Gather, snapshot: &Snapshot, args: &Args) -> Result<Vec<ShardId>, Fault> {
    let rows = match &gather.finish_on {
        FinishPlace::Home => return Ok(vec![snapshot.home()]),
        FinishPlace::Every => {
            let mut all = snapshot.shards().to_vec();
            all.sort_by_key(|shard| (*shard != snapshot.home(), *shard));
            return Ok(all);
        }
        FinishPlace::Rows(rows) => rows,
    };
    let mut found = shards_of(rows, snapshot, args)?;
    if let (true, GatherPlace::Keys { map, .. } | GatherPlace::All { map }) = (found.is_empty(), rows) {
        let first = snapshot.shards_of(*map).first().copied();
        found.push(first.unwrap_or(snapshot.home()));
    }
    Ok(found)
}
