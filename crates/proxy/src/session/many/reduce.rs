//! Inputs that are pulled with the values of others: see [`plan::Gather`].
//!
//! | step | what can fail, and then |
//! |---|---|
//! | every server is asked how many rows it expects of its inputs (`EXPLAIN`) | its error is the statement's |
//! | the inputs that wait for no smaller one | as without |
//! | the next ones, with the values of those, until all are there | as without |
//!
//! A server is asked several times and has to read the same rows each time: only where the transaction is REPEATABLE READ, or where there
//! is none and the statement gets one of its own.

use bytes::BytesMut;
use catalog::ShardId;
use plan::{Gather, InputRows, Step};
use serde_json::Value;
use sql::Isolation;
use wire::FormatCode;
use wire::backend::{Backend, ErrorFields};
use wire::frame::Message;

use super::Extra;
use super::gather::{Asking, Inputs};
use super::run::{Run, Texts};
use crate::exec::scatter::{Flow, Sink};
use crate::exec::statement::Planned;
use crate::session::snapshot::BEGIN;
use crate::session::{Fault, Session};

/// Whether servers are asked several times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// They are not.
    No,
    /// In the client's transaction.
    Within,
    /// In one of its own.
    Alone,
}

/// What is pulled, and from where.
pub(super) struct Pulling<'a> {
    pub(super) gather: &'a Gather,
    pub(super) asking: &'a [Asking],
    /// On the servers that are asked, in their order.
    pub(super) run: &'a Run<'a>,
    pub(super) home: ShardId,
    pub(super) formats: &'a [FormatCode],
}

impl Session {
    /// Whether servers may be asked several times for the inputs of a statement. Pulling gets a transaction of its own for that
    /// if there is none.
    pub(super) fn may_ask_again(&mut self, planned: &Planned, gather: &Gather) -> Again {
        if gather.reductions.is_empty() || planned.plan.writes {
            return Again::No;
        }
        if self.block.is_open() {
            return match self.isolation() {
                Isolation::RepeatableRead => Again::Within,
                _ => Again::No,
            };
        }
        if !self.reads_from_primaries() {
            return Again::No;
        }
        self.block.open(BEGIN.to_owned(), true);
        self.settings.begin();
        Again::Alone
    }

    /// Ends the transaction in which rows were pulled. Nobody sees that there was one: neither the statement that is finished over them, nor
    /// what the client sends next.
    pub(super) async fn end_pulling(&mut self) -> Result<(), Fault> {
        // What the client reads from is none of that transaction.
        let portals = std::mem::take(&mut self.extended.portals);
        let rests = std::mem::take(&mut self.extended.rests);
        let ended = Box::pin(self.end_block(true)).await;
        self.extended.portals = portals;
        self.extended.rests = rests;
        match ended? {
            true => Ok(()),
            false => Err(Fault::error(
                "40001",
                "the rows of the statement could not be read at one moment",
            )),
        }
    }

    /// Pulls the small inputs first, and of the others only the rows that may join them.
    pub(super) async fn pull_reduced(
        &mut self,
        pulling: &Pulling<'_>,
        inputs: &mut Inputs<'_>,
    ) -> Result<(), Fault> {
        let expected = self.expected_rows(pulling).await?;
        let mut rows: Vec<InputRows> = expected.into_iter().map(InputRows::Expected).collect();
        loop {
            let steps = pulling.gather.next_steps(&rows);
            if steps.is_empty() {
                return Ok(());
            }
            self.pull_steps(pulling, &steps, inputs).await?;
            for step in steps {
                rows[step.input] = InputRows::Pulled(inputs.rows_of(step.input));
            }
        }
    }

    /// Pulls inputs, each from all of its servers.
    pub(super) async fn pull_steps(
        &mut self,
        pulling: &Pulling<'_>,
        steps: &[Step],
        inputs: &mut Inputs<'_>,
    ) -> Result<(), Fault> {
        let gather = pulling.gather;
        let mut used: Vec<usize> = steps
            .iter()
            .flat_map(|step| step.reductions.iter().copied())
            .collect();
        used.sort_unstable();
        used.dedup();
        let mut extras = pulling.run.extras.to_vec();
        let first = usize::from(pulling.run.planned.plan.param_count) + extras.len() + 1;
        for number in &used {
            let reduction = &gather.reductions[*number];
            let values = inputs.values(reduction.by, reduction.column);
            let values =
                values.ok_or_else(|| Fault::error("XX000", "the values of an input are not there"))?;
            extras.push(Extra::array(&values, reduction.array_oid));
        }
        let param = |number: usize| {
            let at = used.iter().position(|known| *known == number).unwrap_or_default();
            u16::try_from(first + at).unwrap_or(u16::MAX)
        };
        let begun = inputs.has_begun();
        let (mut order, mut indexes, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        for (asking, index) in pulling.asking.iter().zip(pulling.run.indexes) {
            let own: Vec<&Step> = steps
                .iter()
                .filter(|step| asking.inputs.contains(&step.input))
                .collect();
            if own.is_empty() && begun {
                continue;
            }
            let views = asking.shard == pulling.home && !begun;
            let text = gather.text_for(&own, views, &param);
            if !text.is_empty() {
                order.push(asking.shard);
                indexes.push(*index);
                texts.push(text);
            }
        }
        inputs.begin();
        if order.is_empty() {
            return Ok(());
        }
        let run = Run {
            order: &order,
            indexes: &indexes,
            extras: &extras,
            ..*pulling.run
        };
        self.scatter(&run, Texts::Each(&texts), pulling.formats, 0, inputs)
            .await?;
        Ok(())
    }

    /// How many rows the servers expect of each input.
    async fn expected_rows(&mut self, pulling: &Pulling<'_>) -> Result<Vec<f64>, Fault> {
        let all = pulling.gather.all_steps();
        let text = |asking: &Asking| {
            let own: Vec<&Step> = asking.inputs.iter().filter_map(|input| all.get(*input)).collect();
            let text = pulling
                .gather
                .text_for(&own, asking.shard == pulling.home, &|_| 0);
            format!("EXPLAIN (VERBOSE, FORMAT JSON) {text}")
        };
        let texts: Vec<String> = pulling.asking.iter().map(text).collect();
        let mut sink = Expected(vec![0.0; all.len()]);
        self.scatter(
            pulling.run,
            Texts::Each(&texts),
            &[FormatCode::Text],
            0,
            &mut sink,
        )
        .await?;
        Ok(sink.0)
    }
}

/// Adds up what the servers expect.
struct Expected(Vec<f64>);

impl Expected {
    /// A part of a plan: what gives the rows of an input selects its number first.
    fn add(&mut self, plan: &Value) {
        let first = plan["Output"][0].as_str().and_then(constant);
        let joins = matches!(
            plan["Node Type"].as_str(),
            Some("Append" | "Merge Append" | "Gather" | "Gather Merge")
        );
        match (first, joins) {
            (Some(input), false) => {
                if let (Some(sum), Some(rows)) = (self.0.get_mut(input), plan["Plan Rows"].as_f64()) {
                    *sum += rows;
                }
            }
            _ => plan["Plans"]
                .as_array()
                .into_iter()
                .flatten()
                .for_each(|part| self.add(part)),
        }
    }
}

/// The number in `'3'::smallint`, in as many parentheses as there are.
fn constant(sql: &str) -> Option<usize> {
    let sql = sql.trim_matches(['(', ')']);
    sql.strip_prefix('\'')?.strip_suffix("'::smallint")?.parse().ok()
}

impl Sink for Expected {
    fn row(
        &mut self,
        _source: usize,
        message: &[u8],
        _client: &mut BytesMut,
    ) -> Result<Flow, Box<ErrorFields>> {
        let plan = match Message::whole(message).map(Backend::decode) {
            Some(Ok(Backend::DataRow(row))) => row.column(0).flatten().map(serde_json::from_slice::<Value>),
            _ => None,
        };
        match plan {
            Some(Ok(plan)) => self.add(&plan[0]["Plan"]),
            _ => {
                return Err(Box::new(ErrorFields::error(
                    "XX000",
                    "a shard sent an unreadable plan",
                )));
            }
        }
        Ok(Flow::More)
    }

    fn finished(&mut self, _source: usize, _client: &mut BytesMut) -> Result<Flow, Box<ErrorFields>> {
        Ok(Flow::More)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_the_inputs() {
        let plan = serde_json::json!({"Node Type": "Append", "Output": ["('0'::smallint)"], "Plan Rows": 17, "Plans": [
            {"Node Type": "Seq Scan", "Output": ["'0'::smallint", "x.a0"], "Plan Rows": 5},
            {"Node Type": "Gather", "Output": ["'2'::smallint"], "Plan Rows": 12, "Plans": [
                {"Node Type": "Subquery Scan", "Output": ["'2'::smallint", "NULL::text"], "Plan Rows": 12, "Plans": [
                    {"Node Type": "Hash Join", "Output": ["o.x"], "Plan Rows": 99}]}]}]});
        let mut expected = Expected(vec![0.0; 3]);
        expected.add(&plan);
        expected
            .add(&serde_json::json!({"Node Type": "Seq Scan", "Output": ["'2'::smallint"], "Plan Rows": 1}));
        assert_eq!(expected.0, [5.0, 0.0, 13.0]);
    }
}
