//! A read that failed on a replica runs again elsewhere, as long as nothing of its answer has left for the client.

use plan::{CopyPlan, ExplainPlan};
use wire::backend::ErrorFields;

use super::super::many::Args;
use super::super::simple::{OneShard, UNSENT_RETRIES};
use super::super::{Fault, Session};
use crate::exec::statement::{Literals, Planned};

/// What an error of a replica calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Cure {
    /// It is the statement's own.
    None,
    /// Another server: this one is lost, or its recovery was in the way.
    Elsewhere,
    /// The primary: a replica does not do such things, or may not know what the statement names.
    Primary,
}

/// What an error that came from a replica calls for.
pub(in super::super) fn cure_of(code: &str) -> Cure {
    match code {
        // read_only_sql_transaction, object_not_in_prerequisite_state (recovery is in progress), feature_not_supported
        // (a serializable transaction, an unlogged table).
        "25006" | "55000" | "0A000" => Cure::Primary,
        // Recovery conflicts, and the end of a server or of its database.
        "40001" | "40P01" | "57P01" | "57P02" | "57P03" | "57P04" | "58000" | "58P01" => Cure::Elsewhere,
        _ if code.starts_with("08") || code.starts_with("53") => Cure::Elsewhere,
        // Something is named that is not there, or not allowed: on the replica perhaps only not yet.
        _ if code.starts_with("42") || code.starts_with("3") => Cure::Primary,
        _ => Cure::None,
    }
}

/// So much of a replica's answer, in bytes, is kept back until it has ended or there is more: an error behind it can then
/// still be cured.
pub(in super::super) const KEPT_BACK_BYTES: usize = 16 * 1024;

/// Why a read does not run again.
pub(super) const TOO_LATE: &str =
    "A replica failed when part of the answer had been sent already; run the statement again.";

/// Attempts at one read, at most; the last one is the primary's.
pub(super) const ATTEMPTS_MAX: usize = 8;

/// What may read on several shards, so that it can be asked for again.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum ManyRead<'a> {
    /// A plan for shards that are known.
    Planned {
        planned: &'a Planned,
        shards: &'a [catalog::ShardId],
        text: &'a str,
        args: Option<&'a Args>,
    },
    /// A plan that wants values computed first.
    Deferred {
        planned: &'a Planned,
        text: &'a str,
        literals: Literals<'a>,
        args: Option<&'a Args>,
    },
    /// COPY of a sharded or reference table.
    Copy { plan: &'a CopyPlan, text: &'a str },
    /// COPY of a query.
    CopyQuery {
        copy: &'a sql::CopyStatement,
        text: &'a str,
    },
    /// EXPLAIN of a plan, with the types of Parse and the values of Bind.
    Explain {
        plan: &'a ExplainPlan,
        text: &'a str,
        bound: Option<(&'a [u32], &'a Args)>,
    },
}

impl<'a> ManyRead<'a> {
    /// A plan for shards that are known, in the simple protocol.
    pub(in super::super) fn planned(
        planned: &'a Planned,
        shards: &'a [catalog::ShardId],
        text: &'a str,
    ) -> Self {
        Self::Planned {
            planned,
            shards,
            text,
            args: None,
        }
    }

    /// A plan that wants values computed first, in the simple protocol.
    pub(in super::super) fn deferred(planned: &'a Planned, text: &'a str, literals: Literals<'a>) -> Self {
        Self::Deferred {
            planned,
            text,
            literals,
            args: None,
        }
    }
}

impl Session {
    /// Runs a read on one shard, on as many servers as it takes.
    pub(in super::super) async fn read_on_one(
        &mut self,
        one: &OneShard<'_>,
        last: bool,
    ) -> Result<bool, Fault> {
        let patience = self.client.conn.set_patience(KEPT_BACK_BYTES);
        let result = self.read_until_done(one, last).await;
        self.client.conn.set_patience(patience);
        result
    }

    async fn read_until_done(&mut self, one: &OneShard<'_>, last: bool) -> Result<bool, Fault> {
        let mark = self.begin_read();
        let mut unsent = 0;
        for attempt in 1.. {
            self.unsent = false;
            let fault = match self.try_on_one(one, last).await {
                Ok(ready) => {
                    self.read_succeeded();
                    return Ok(ready);
                }
                Err(fault) => fault,
            };
            self.drop_unsettled_servers();
            let Fault::Statement(fields) = fault else {
                return Err(fault);
            };
            if !self.last_read_on_replica() {
                if self.unsent && unsent < UNSENT_RETRIES {
                    unsent += 1;
                    self.engine.metrics.statements_retried.increment();
                    continue;
                }
                return Err(Fault::Statement(fields));
            }
            self.read_again(fields, mark, attempt)?;
        }
        Err(Fault::error("XX000", "a read was given up"))
    }

    fn begin_read(&mut self) -> crate::conn::OutMark {
        let mark = self.client.conn.mark();
        if let Some(reads) = &mut self.reads {
            reads.mark = Some(mark);
        }
        mark
    }

    /// The read at hand may be asked of another server: nothing of its answer has left.
    pub(in super::super) fn read_can_move(&self) -> bool {
        let mark = self.reads.as_ref().and_then(|reads| reads.mark);
        !self.block.is_open() && mark.is_some_and(|mark| self.client.conn.can_rewind(mark))
    }

    /// The same for a statement that may concern several shards.
    pub(in super::super) async fn read_on_many(&mut self, read: ManyRead<'_>) -> Result<(), Fault> {
        if !self.reads_replicas() || self.block.is_open() {
            return self.run_many_read(read).await;
        }
        let patience = self.client.conn.set_patience(KEPT_BACK_BYTES);
        let result = self.read_many_until_done(read).await;
        self.client.conn.set_patience(patience);
        result
    }

    async fn run_many_read(&mut self, read: ManyRead<'_>) -> Result<(), Fault> {
        match read {
            ManyRead::Planned {
                planned,
                shards,
                text,
                args,
            } => self.run_many(planned, shards, text, args).await,
            ManyRead::Deferred {
                planned,
                text,
                literals,
                args,
            } => self.run_deferred(planned, text, literals, args).await,
            ManyRead::Copy { plan, text } => self.run_copy(plan, text).await,
            ManyRead::CopyQuery { copy, text } => self.run_copy_query(copy, text).await,
            ManyRead::Explain { plan, text, bound } => self.run_explain(plan, text, bound).await,
        }
    }

    async fn read_many_until_done(&mut self, read: ManyRead<'_>) -> Result<(), Fault> {
        let mark = self.begin_read();
        for attempt in 1.. {
            let fault = match self.run_many_read(read).await {
                Ok(()) => {
                    self.read_succeeded();
                    return Ok(());
                }
                Err(fault) => fault,
            };
            let Fault::Statement(fields) = fault else {
                return Err(fault);
            };
            // The others were sent a cancel, which may come late: it must not meet what runs there next.
            self.servers.clear();
            self.release_servers();
            if !self.last_read_on_replica() {
                return Err(Fault::Statement(fields));
            }
            self.read_again(fields, mark, attempt)?;
        }
        Err(Fault::error("XX000", "a read was given up"))
    }

    fn last_read_on_replica(&self) -> bool {
        self.reads.as_ref().is_some_and(|reads| reads.on_replica)
    }

    fn read_succeeded(&mut self) {
        let Some(reads) = &mut self.reads else { return };
        if let (Some(_), Some(statement)) = (reads.held.take(), &reads.statement)
            && !reads.on_replica
        {
            // What a replica does not do, the primary did.
            statement.reading.refused.set(true);
            self.engine.metrics.reads_refused.increment();
        }
    }

    /// After an error of a replica: prepares another attempt, or gives the error back.
    pub(in super::super) fn read_again(
        &mut self,
        mut fields: Box<ErrorFields>,
        mark: crate::conn::OutMark,
        attempt: usize,
    ) -> Result<(), Fault> {
        let cure = cure_of(&fields.code);
        if cure == Cure::None {
            return Err(Fault::Statement(fields));
        }
        if !self.client.conn.rewind(mark) {
            if fields.hint.is_none() {
                fields.hint = Some(TOO_LATE.to_owned());
            }
            return Err(Fault::Statement(fields));
        }
        self.engine.metrics.reads_again.increment();
        let Some(reads) = &mut self.reads else {
            return Err(Fault::Statement(fields));
        };
        reads.on_replica = false;
        reads.wait_until = None;
        let refused = matches!(fields.code.as_str(), "25006" | "55000" | "0A000");
        if cure == Cure::Primary || attempt + 1 >= ATTEMPTS_MAX {
            reads.now = None;
        }
        reads.held = refused.then_some(fields);
        Ok(())
    }
}
