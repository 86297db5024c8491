//! The answer of a query in portions: each of its shards keeps a portal open, and gives more rows when it is asked.
//!
//! | step | what can fail, and then |
//! |---|---|
//! | every shard opens a portal within the client's transaction and gives its first rows | the query's error is the statement's |
//! | whoever asks does what they want with the rows, also on the same connections | theirs to handle; a portal shows what its snapshot shows, whatever is written after it was opened |
//! | a shard whose rows are needed next is asked for more, as many as will fit | the same; the block fails and takes the portals with it |
//! | when nothing more is needed, the portals are closed, because an open one is in the way of an `ALTER TABLE` | the block fails |
//!
//! Never held: more than a portion, and for each shard the rows of one question where they have to be put in order.

use bytes::{Bytes, BytesMut};
use catalog::ShardId;
use merge::{Admit, Bounds, Merger, Next, OffsetLimit};
use plan::{Combine, Many, StatementKind};
use wire::FormatCode;
use wire::backend::ErrorFields;

use super::order::{bounds, sort_keys};
use super::ordered_formats;
use super::run::{Run, Texts};
use super::transfer::too_many;
use crate::exec::scatter::{self, Flow, Sink};
use crate::exec::sinks::Only;
use crate::exec::statement::Planned;
use crate::session::block::Wrote;
use crate::session::{Fault, Session};

/// What the portals are called on their servers.
const PORTAL: &[u8] = b"drover.rows";

/// A portion is full when it has this many bytes of rows.
const PORTION_BYTES: usize = 4 << 20;

/// Rows that every shard is asked for first, when nobody knows how long they are. Fewer where that many of the
/// [usual length](ROW_BYTES) would not fit.
const FIRST_ROWS: usize = 256;

/// What a row is taken to need until one has been seen.
const ROW_BYTES: usize = 256;

/// Rows that a shard is asked for at once.
const ROWS_MAX: usize = 1 << 20;

/// Whether a query over so many shards can be had in portions: its rows come from the shards as they are.
pub(super) fn divisible(source: &Planned, shards: usize) -> bool {
    let plan = &source.plan;
    let plain = plan.kind == StatementKind::Select && !plan.writes && !plan.indexed;
    plain
        && match &plan.many {
            Many::Gather(_) | Many::Transfer(_) | Many::Relocate(_) => false,
            _ if shards == 1 => true,
            Many::Rows(rows) => !matches!(rows.combine, Combine::Finish { .. }),
            _ => false,
        }
}

/// A portal of one shard.
#[derive(Default)]
struct Portal {
    rows: usize,
    bytes: usize,
    /// It has no further rows.
    ended: bool,
}

/// In which order rows come.
enum Order {
    /// In any.
    Any(OffsetLimit),
    /// Sorted; the first `visible` columns are the query's.
    Sorted { merger: Box<Merger>, visible: usize },
}

/// The answer of a query on its way.
pub(super) struct Portions {
    portals: Vec<Portal>,
    order: Order,
    opened: bool,
    /// DataRow messages of this portion.
    messages: BytesMut,
    rows: usize,
    portion_bytes: usize,
    limit_bytes: usize,
}

impl Portions {
    /// Of a run of a [`divisible`] plan; all rows that are held at once may take `limit_bytes`.
    pub(super) fn of(run: &Run<'_>, limit_bytes: usize) -> Result<Portions, Fault> {
        let combine = match &run.planned.plan.many {
            Many::Rows(rows) if run.order.len() > 1 => Some((&rows.combine, rows.visible)),
            _ => None,
        };
        let order = match combine {
            Some((Combine::Concat { limit }, _)) => Order::Any(OffsetLimit::new(bounds(limit, run.args)?)),
            Some((Combine::Ordered { keys, limit }, visible)) => Order::Sorted {
                merger: Box::new(Merger::new(
                    sort_keys(keys)?,
                    run.order.len(),
                    bounds(limit, run.args)?,
                )),
                visible,
            },
            _ => Order::Any(OffsetLimit::new(Bounds::default())),
        };
        Ok(Portions {
            portals: run.order.iter().map(|_| Portal::default()).collect(),
            order,
            opened: false,
            messages: BytesMut::new(),
            rows: 0,
            portion_bytes: PORTION_BYTES.min(limit_bytes / 4),
            limit_bytes,
        })
    }

    /// No further row comes.
    pub(super) fn ended(&self) -> bool {
        let done = match &self.order {
            Order::Any(limit) => limit.is_done(),
            Order::Sorted { .. } => false,
        };
        done || self.portals.iter().all(|portal| portal.ended)
    }

    /// What there is now, and how many rows that is.
    pub(super) fn take(&mut self) -> (BytesMut, usize) {
        (std::mem::take(&mut self.messages), std::mem::take(&mut self.rows))
    }

    fn is_full(&self) -> bool {
        self.messages.len() >= self.portion_bytes / 2
    }

    /// Which shards are asked, and for how many rows.
    fn questions(&self) -> Vec<(usize, u32)> {
        let open = self
            .portals
            .iter()
            .enumerate()
            .filter(|(_, portal)| !portal.ended);
        // Where rows are sorted, whose rows are at hand need not be asked.
        let asked: Vec<usize> = match &self.order {
            Order::Any(_) => open.map(|(at, _)| at).collect(),
            Order::Sorted { merger, .. } => open
                .filter(|(at, _)| merger.buffered_rows(*at) == 0)
                .map(|(at, _)| at)
                .collect(),
        };
        let each = match &self.order {
            Order::Any(_) => self.portion_bytes.saturating_sub(self.messages.len()) / asked.len().max(1),
            Order::Sorted { .. } => self.portion_bytes / self.portals.len().max(1),
        };
        let rows = |at: &usize| {
            let portal = &self.portals[*at];
            match portal.bytes.checked_div(portal.rows) {
                Some(mean) => (each / mean.max(1)).clamp(1, ROWS_MAX) as u32,
                None => (self.limit_bytes / ROW_BYTES / self.portals.len()).clamp(1, FIRST_ROWS) as u32,
            }
        };
        asked.iter().map(|at| (*at, rows(at))).collect()
    }

    fn row(&mut self, at: usize, message: &[u8]) -> Result<(), Box<ErrorFields>> {
        let portal = &mut self.portals[at];
        portal.rows += 1;
        portal.bytes += message.len();
        let waiting = match &mut self.order {
            Order::Any(limit) => {
                if matches!(limit.admit(), Admit::Take) {
                    self.messages.extend_from_slice(message);
                    self.rows += 1;
                }
                0
            }
            Order::Sorted { merger, .. } => {
                merger.push(at, Bytes::copy_from_slice(message));
                merger.buffered_bytes()
            }
        };
        if self.messages.len() + waiting > self.limit_bytes {
            return Err(match too_many(self.limit_bytes) {
                Fault::Statement(fields) => fields,
                _ => Box::new(ErrorFields::error("53400", "too many rows")),
            });
        }
        Ok(())
    }

    /// Those that were asked have answered; of some it was the end.
    fn answered(&mut self, asked: &[usize], complete: &[bool]) -> Result<(), Fault> {
        self.opened = true;
        for (at, complete) in asked.iter().zip(complete) {
            self.portals[*at].ended |= *complete;
        }
        let Order::Sorted { merger, visible } = &mut self.order else {
            return Ok(());
        };
        for (at, complete) in asked.iter().zip(complete) {
            if *complete {
                merger.finish(*at);
            }
        }
        let wrong = |error: &dyn std::fmt::Display| Fault::error("XX000", error.to_string());
        loop {
            match merger.pop().map_err(|error| wrong(&error))? {
                Next::Row { row, .. } => {
                    merge::row::truncate_columns(&row, *visible, &mut self.messages)
                        .map_err(|error| wrong(&error))?;
                    self.rows += 1;
                }
                Next::Wait { .. } => return Ok(()),
                Next::Done => {
                    self.portals.iter_mut().for_each(|portal| portal.ended = true);
                    return Ok(());
                }
            }
        }
    }
}

/// Takes the answers of those that were asked.
struct Answers<'a> {
    portions: &'a mut Portions,
    asked: &'a [usize],
}

impl Sink for Answers<'_> {
    fn row(&mut self, source: usize, message: &[u8], _: &mut BytesMut) -> Result<Flow, Box<ErrorFields>> {
        self.portions.row(self.asked[source], message)?;
        Ok(Flow::More)
    }

    fn finished(&mut self, _: usize, _: &mut BytesMut) -> Result<Flow, Box<ErrorFields>> {
        Ok(Flow::More)
    }
}

impl Session {
    /// Reads until a portion is full or there is nothing more.
    pub(super) async fn next_portion(&mut self, run: &Run<'_>, portions: &mut Portions) -> Result<(), Fault> {
        while !portions.ended() && !portions.is_full() {
            let questions = portions.questions();
            self.ask_portals(run, portions, &questions).await?;
        }
        Ok(())
    }

    async fn ask_portals(
        &mut self,
        run: &Run<'_>,
        portions: &mut Portions,
        questions: &[(usize, u32)],
    ) -> Result<(), Fault> {
        let asked: Vec<usize> = questions.iter().map(|(at, _)| *at).collect();
        let order: Vec<ShardId> = asked.iter().map(|at| run.order[*at]).collect();
        let indexes = self.enlist_all(&order).await?;
        let skips = self.begin_noting(&indexes, false).await?;
        let run = &Run {
            order: &order,
            indexes: &indexes,
            ..*run
        };
        let own = match &run.planned.plan.many {
            Many::Rows(rows) if !portions.opened && order.len() > 1 => self.own_texts(run, rows).await?,
            _ => None,
        };
        let texts = match &own {
            Some(own) => Texts::Each(own),
            None => Texts::Same(shard_text(run)),
        };
        if portions.opened {
            for ((_, rows), index) in questions.iter().zip(&indexes) {
                let server = &mut self.servers[*index];
                server.busy = true;
                scatter::go_on(&mut server.lease, PORTAL, *rows)
                    .map_err(|error| Fault::lost(&error, "a shard"))?;
            }
        } else {
            let formats = self.portal_formats(run)?;
            // All are asked alike at first.
            let rows = questions.first().map_or(1, |(_, rows)| *rows);
            self.send_all(run, &texts, &formats, (PORTAL, rows), Wrote::No)?;
        }
        let mut sink = Answers {
            portions,
            asked: &asked,
        };
        let gathered = self.hear_all(run, &texts, &skips, &mut sink).await?;
        portions.answered(&asked, &gathered.complete)
    }

    fn portal_formats(&self, run: &Run<'_>) -> Result<Vec<FormatCode>, Fault> {
        match &run.planned.plan.many {
            Many::Rows(rows) if run.order.len() > 1 => match &rows.combine {
                Combine::Ordered { keys, .. } => Ok(ordered_formats(run, rows, &sort_keys(keys)?)),
                _ => Ok(self.visible_formats(run)),
            },
            _ => Ok(self.visible_formats(run)),
        }
    }

    /// Closes the portals: an open one is in the way of an ALTER TABLE of the same transaction. `written` are shards that are
    /// sent something right after this; theirs are closed with it.
    pub(super) async fn close_portals(&mut self, run: &Run<'_>, written: &[ShardId]) -> Result<(), Fault> {
        let (mut order, mut indexes) = (Vec::new(), Vec::new());
        for shard in run.order {
            let index = self.enlist(*shard).await?;
            let now = !written.contains(shard);
            let server = &mut self.servers[index];
            scatter::close(&mut server.lease, PORTAL, now).map_err(|error| Fault::lost(&error, "a shard"))?;
            if now {
                server.busy = true;
                order.push(*shard);
                indexes.push(index);
            }
        }
        if order.is_empty() {
            return Ok(());
        }
        let run = &Run {
            order: &order,
            indexes: &indexes,
            ..*run
        };
        let mut nobody = Only {
            source: None,
            rows: 0,
        };
        let skips = vec![0; indexes.len()];
        self.hear_all(run, &Texts::Same(""), &skips, &mut nobody).await?;
        Ok(())
    }
}

/// What every shard runs.
fn shard_text<'a>(run: &Run<'a>) -> &'a str {
    let plan = &run.planned.plan;
    match &plan.many {
        Many::Rows(rows) if run.order.len() > 1 => rows.shard_sql.as_deref().unwrap_or(run.text),
        _ => plan.text.as_deref().unwrap_or(run.text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portions(order: Order, shards: usize) -> Portions {
        Portions {
            portals: (0..shards).map(|_| Portal::default()).collect(),
            order,
            opened: false,
            messages: BytesMut::new(),
            rows: 0,
            portion_bytes: 1000,
            limit_bytes: 4000,
        }
    }

    fn row(value: i32) -> Vec<u8> {
        let mut row = vec![b'D', 0, 0, 0, 14, 0, 1, 0, 0, 0, 4];
        row.extend_from_slice(&value.to_be_bytes());
        row
    }

    #[test]
    fn shards_are_asked_for_what_still_fits() {
        let mut portions = portions(Order::Any(OffsetLimit::new(Bounds::default())), 2);
        assert_eq!(portions.questions(), [(0, 7), (1, 7)]);
        for value in 0..10 {
            portions.row(0, &row(value)).unwrap();
        }
        portions.answered(&[0, 1], &[false, true]).unwrap();
        // 850 bytes are left, a row takes 15, and the second has ended.
        assert_eq!(portions.questions(), [(0, 56)]);
        assert!(!portions.ended());
        assert_eq!(portions.take().1, 10);
        portions.answered(&[0], &[true]).unwrap();
        assert!(portions.ended());
    }

    #[test]
    fn sorted_rows_wait_for_the_shard_that_is_behind() {
        let key = merge::SortKey {
            column: 0,
            comparator: merge::Comparator::for_type(23, true).unwrap(),
            descending: false,
            nulls_first: false,
        };
        let bounds = Bounds {
            offset: 0,
            limit: Some(5),
        };
        let merger = Box::new(Merger::new(vec![key], 2, bounds));
        let mut portions = portions(Order::Sorted { merger, visible: 1 }, 2);
        for (at, value) in [(0, 1), (0, 3), (1, 2), (1, 9)] {
            portions.row(at, &row(value)).unwrap();
        }
        portions.answered(&[0, 1], &[false, false]).unwrap();
        assert_eq!(portions.take().1, 3);
        // Of the second shard a row waits.
        assert_eq!(
            portions.questions().iter().map(|(at, _)| *at).collect::<Vec<_>>(),
            [0]
        );
        portions.row(0, &row(4)).unwrap();
        portions.answered(&[0], &[true]).unwrap();
        // 4 and 9 are the last two that are wanted.
        assert_eq!(portions.take().1, 2);
        assert!(portions.ended());
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut portions = portions(Order::Any(OffsetLimit::new(Bounds::default())), 1);
        let fits = (0..)
            .take_while(|value| portions.row(0, &row(*value)).is_ok())
            .count();
        assert_eq!(fits, 4000 / 15);
    }
}
