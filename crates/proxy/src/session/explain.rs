//! EXPLAIN of what Drover plans (docs/decisions/0045).
//!
//! | statement | on | what runs | what is shown |
//! |---|---|---|---|
//! | `EXPLAIN (ROUTE)` | – | nothing | Drover's plan |
//! | `EXPLAIN` | one shard | EXPLAIN there | Drover's plan, PostgreSQL's under it; formats other than text: PostgreSQL's alone |
//! | `EXPLAIN` | several | EXPLAIN on each | the same for each |
//! | `EXPLAIN ANALYZE` | one shard | EXPLAIN ANALYZE there | as EXPLAIN |
//! | `EXPLAIN ANALYZE` | several | the statement, once, as it would run by itself; its rows are for nobody | the steps as they came ([`Steps`]) |
//!
//! In the last case each server is asked for its plan before it is sent its part, with the same parameters. What is finished at
//! home is sent there with EXPLAIN ANALYZE in front: it runs once, and its rows are not made for anybody.

mod steps;

use std::time::Instant;

use bytes::BytesMut;
use catalog::ShardId;
use plan::{ExplainPlan, Many, Refusal, RefusalCode, Target, Triage};
use serde_json::{Map, Value, json};
use wire::FormatCode;
use wire::backend::{Column, encode, tag};
use wire::frame;

use super::extended::Prepared;
use super::many::Args;
use super::{Fault, Session};
use crate::exec::statement::{Action, Literals, Planned, Shards, resolve};
pub(super) use steps::{Format, Measured, Part, Steps};
use steps::{Wanted, millis};

/// No literals: the texts that are explained are planned as they are.
const NONE: Literals<'static> = Literals {
    text: "",
    literals: &[],
};

/// The result column of every plan; its type is that of the format.
pub(super) fn column(format: Option<&str>) -> Column<'static> {
    let type_oid = match format {
        Some("json") => 114,
        Some("xml") => 142,
        _ => 25,
    };
    Column {
        name: b"QUERY PLAN",
        table_oid: 0,
        attnum: 0,
        type_oid,
        typlen: -1,
        typmod: -1,
        format: FormatCode::Text,
    }
}

/// A statement that is explained.
struct Explained<'a> {
    planned: &'a Planned,
    piece: &'a str,
    args: &'a Args,
    options: Wanted,
}

impl Session {
    /// What becomes of a query whose rows are kept at home.
    async fn route_at_home(&mut self, what: &str, query: &str) -> Result<Vec<String>, Fault> {
        let (planned, shards) = self.plan_inner(query).await?;
        let context = self.plan_context().await?;
        let mut lines = vec![what.to_owned()];
        lines.extend(plan::explain_route(
            &planned.plan,
            &context.snapshot,
            shards.as_deref(),
        ));
        Ok(lines)
    }

    /// Drover's plan only; nothing runs. `text` is the whole statement: places in it are counted from its begin.
    pub(super) async fn explain_route(
        &mut self,
        piece: &str,
        text: &str,
        triage: &Triage,
    ) -> Result<(), Fault> {
        let lines = match triage {
            Triage::Home => {
                let mut lines = vec!["Tier: route".to_owned(), "Shards: home".to_owned()];
                let home = self.engine.cluster.home();
                lines.extend(Box::pin(self.read_route(piece, &[home])).await?);
                lines
            }
            Triage::Analyze => {
                let (planned, shards) = self.plan_inner(piece).await?;
                let context = self.plan_context().await?;
                let mut lines = plan::explain_route(&planned.plan, &context.snapshot, shards.as_deref());
                let shards = shards.unwrap_or_default();
                lines.extend(Box::pin(self.read_route(piece, &shards)).await?);
                lines
            }
            Triage::Refuse(refusal) => refusal_lines(refusal),
            Triage::Ddl(plan) => {
                let mut lines = vec!["Tier: schema".to_owned()];
                for step in &plan.steps {
                    lines.push(format!(
                        "{:?}: {}",
                        step.place,
                        step.sql.as_deref().unwrap_or(piece)
                    ));
                }
                lines
            }
            Triage::Copy(plan) => vec![
                "Tier: split".to_owned(),
                format!("COPY of {}.{}", plan.schema, plan.table),
            ],
            Triage::CopyQuery(copy) => {
                let query = copy.query.clone().and_then(|range| piece.get(range));
                let (planned, shards) = self.plan_inner(query.unwrap_or_default()).await?;
                let context = self.plan_context().await?;
                plan::explain_route(&planned.plan, &context.snapshot, shards.as_deref())
            }
            Triage::CreateAs(create) => {
                let range = create.query.clone().unwrap_or_default();
                let parts = super::create_as::parts(create, &range, text);
                let query = parts.map(|(query, _)| query).unwrap_or_default();
                self.route_at_home("Home: the table, and the rows of:", &query)
                    .await?
            }
            Triage::Cursor(cursor) => {
                let query = super::cursor::query_of(cursor, text).unwrap_or_default();
                self.route_at_home("Home: the cursor, over the rows of:", query)
                    .await?
            }
            _ => vec!["answered by Drover".to_owned()],
        };
        self.plan_rows(&lines, Format::Text)
    }

    /// Plans a part of a statement by itself; with the shards, where they are known without it being run.
    pub(super) async fn plan_inner(&mut self, piece: &str) -> Result<(Planned, Option<Vec<ShardId>>), Fault> {
        self.plan_bound(piece, &[], &Args::default()).await
    }

    /// The parameters of a statement that is explained; none of any other.
    pub(super) async fn explained_types(&mut self, prepared: &Prepared) -> Result<Vec<u32>, Fault> {
        let Action::Other(triage) = &prepared.statement.action else {
            return Ok(Vec::new());
        };
        let Triage::Explain(plan) = &**triage else {
            return Ok(Vec::new());
        };
        self.settle_batch_for_question().await?;
        let piece = prepared.text.get(plan.explain.inner.clone()).unwrap_or_default();
        let none = Args::default();
        let (planned, _) = self.plan_bound(piece, &prepared.types, &none).await?;
        Ok(planned.param_types)
    }

    /// The same with parameters.
    async fn plan_bound(
        &mut self,
        piece: &str,
        types: &[u32],
        args: &Args,
    ) -> Result<(Planned, Option<Vec<catalog::ShardId>>), Fault> {
        let context = self.plan_context().await?;
        let raws = super::learn::parse(piece, &context)
            .map_err(|failure| Fault::error("42601", failure.to_string()))?;
        let [raw] = raws.as_slice() else {
            return Err(Fault::error("42601", "EXPLAIN takes one statement"));
        };
        let planned = self.plan_statement(piece, raw, types, &context).await?;
        let shards = match resolve(&planned, &context.snapshot, NONE, |index| args.param(index)) {
            Ok(Shards::One(shard)) => Some(vec![shard]),
            Ok(Shards::Many(shards)) => Some(shards),
            Ok(Shards::Any) => Some(vec![self.any_shard()]),
            Err(_) => None,
        };
        Ok((planned, shards))
    }

    /// EXPLAIN of a statement that is planned.
    pub(super) async fn run_explain(
        &mut self,
        wanted: &ExplainPlan,
        text: &str,
        bound: Option<(&[u32], &Args)>,
    ) -> Result<(), Fault> {
        let explain = &wanted.explain;
        let piece = text.get(explain.inner.clone()).unwrap_or_default();
        let none = Args::default();
        let (types, args) = bound.unwrap_or((&[], &none));
        let (planned, shards) = self.plan_bound(piece, types, args).await?;
        if planned.param_types.len() != args.params.len() {
            let (has, needs) = (args.params.len(), planned.param_types.len());
            let text =
                format!("the statement that is explained has {needs} parameters, and {has} were given");
            return Err(Fault::error("08P01", text));
        }
        let several = shards.as_ref().is_some_and(|shards| shards.len() > 1);
        let everywhere = planned.plan.target == Target::Every;
        if let (Many::Refuse(refusal), true, false) = (&planned.plan.many, several, everywhere) {
            return Err(Fault::refused(refusal));
        }
        let plain = planned.plan.prelude.is_empty() && !planned.plan.takes_steps() && !everywhere;
        let case = Explained {
            planned: &planned,
            piece,
            args,
            options: Wanted::of(explain),
        };
        if let (Some([shard]), true) = (shards.as_deref(), plain) {
            return self.explain_on_one(*shard, &case, explain).await;
        }
        if case.options.format == Format::Other {
            let why = "the formats are text and json";
            return Err(Fault::refused(&Refusal::with(RefusalCode::ExplainShards, why)));
        }
        match explain.analyze {
            true => self.explain_as_it_runs(&case).await,
            false => self.explain_unrun(&case, shards).await,
        }
    }

    /// One server explains all there is.
    async fn explain_on_one(
        &mut self,
        shard: ShardId,
        case: &Explained<'_>,
        explain: &sql::Explain,
    ) -> Result<(), Fault> {
        let Explained { planned, options, .. } = case;
        let question = format!("EXPLAIN {}{}", options.given, case.piece);
        let reply = self
            .ask_bound(
                shard,
                &question,
                (planned, case.args),
                explain.analyze && planned.plan.writes,
            )
            .await?;
        self.client.conn.out().extend_from_slice(&reply.aside);
        let plan = reply.rows.into_iter().filter_map(|row| row.into_iter().next()?);
        if options.format != Format::Text {
            let column = column(explain.format.as_deref());
            return self.tell_plan(&plan.collect::<Vec<_>>(), column);
        }
        let context = self.plan_context().await?;
        let mut lines = plan::explain_route(&planned.plan, &context.snapshot, Some(&[shard]));
        lines.push(format!("{}:", self.shard_name(shard)));
        lines.extend(plan.map(|line| format!("  {line}")));
        self.plan_rows(&lines, Format::Text)
    }

    /// Nothing runs; every server says how it would do what it would be sent.
    async fn explain_unrun(
        &mut self,
        case: &Explained<'_>,
        shards: Option<Vec<ShardId>>,
    ) -> Result<(), Fault> {
        let planned = case.planned;
        let context = self.plan_context().await?;
        let route = plan::explain_route(&planned.plan, &context.snapshot, shards.as_deref());
        let texts = match shards {
            // What is computed first is not computed here, and is a parameter of what the servers are sent.
            Some(shards) if planned.plan.prelude.is_empty() => self.texts_of(case, &shards).await?,
            _ => Vec::new(),
        };
        let mut steps = Steps::new(case.options.clone());
        let mut parts = Vec::with_capacity(texts.len());
        for (shard, sql) in texts {
            let reply = self
                .ask_bound(shard, &steps.planning(&sql), (planned, case.args), false)
                .await?;
            parts.push(Part {
                shard: self.shard_name(shard),
                sql,
                sent_bytes: 0,
                plan: reply
                    .rows
                    .into_iter()
                    .filter_map(|row| row.into_iter().next()?)
                    .collect(),
                measured: None,
            });
        }
        if steps.wanted.format == Format::Text {
            let mut lines = route;
            for part in parts {
                lines.push(format!("{}:", part.shard));
                lines.extend(part.plan.iter().map(|line| format!("  {line}")));
            }
            return self.plan_rows(&lines, Format::Text);
        }
        steps.push(parts);
        let document = json!([{ "Drover": { "Route": route, "Steps": steps.document() } }]);
        self.plan_rows(&[pretty(&document)], Format::Json)
    }

    /// What each server would be sent first, where that can be told without running anything.
    async fn texts_of(
        &mut self,
        case: &Explained<'_>,
        shards: &[ShardId],
    ) -> Result<Vec<(ShardId, String)>, Fault> {
        let Explained { planned, piece, .. } = *case;
        let context = self.plan_context().await?;
        let whole = planned.plan.text.as_deref().unwrap_or(piece);
        if planned.plan.target == Target::Every {
            return Ok(vec![(context.snapshot.home(), whole.to_owned())]);
        }
        if let [shard] = shards {
            return Ok(vec![(*shard, whole.to_owned())]);
        }
        let same = |sql: Option<&str>| {
            let sql = sql.unwrap_or(piece);
            shards.iter().map(|shard| (*shard, sql.to_owned())).collect()
        };
        Ok(match &planned.plan.many {
            Many::SumTags { shard_sql } => same(shard_sql.as_deref()),
            Many::Rows(rows) => {
                let text = |shard: &ShardId| {
                    let text = rows.text_for(piece, *shard, &context.snapshot)?;
                    Some((*shard, text.into_owned()))
                };
                shards.iter().filter_map(text).collect()
            }
            Many::Gather(gather) => super::many::texts_of_gather(gather, &context.snapshot, case.args)?,
            // Which rows go where is not known before they are looked at.
            Many::SplitInsert(_) | Many::Transfer(_) | Many::Relocate(_) | Many::Refuse(_) => Vec::new(),
        })
    }

    /// Runs the statement and shows its steps.
    async fn explain_as_it_runs(&mut self, case: &Explained<'_>) -> Result<(), Fault> {
        let planned = case.planned;
        let moved_before = self.observation.moved_so_far();
        self.observation.steps = Some(Box::new(Steps::new(case.options.clone())));
        let outer = self.client.conn.is_held().then(|| self.client.conn.out().split());
        self.client.conn.hold();
        let began = Instant::now();
        let result = Box::pin(self.run_as_by_itself(case)).await;
        let took = began.elapsed();
        let answer = match outer {
            Some(before) => std::mem::replace(self.client.conn.out(), before),
            None => self.client.conn.release_held(),
        };
        let steps = self.observation.steps.take();
        let held = self.block.tag.take();
        let told = self.without_answer(answer);
        let shards = result?;
        let steps = steps.ok_or_else(|| Fault::error("XX000", "nobody noted what was done"))?;
        let moved = self.observation.moved_so_far();
        let report = Report {
            route: {
                let context = self.plan_context().await?;
                plan::explain_route(&planned.plan, &context.snapshot, shards.as_deref())
            },
            answer: held.map(|tag| text_of(&tag)).or(told),
            moved: (moved.0 - moved_before.0, moved.1 - moved_before.1),
            took_ms: millis(took),
            steps: &steps,
        };
        match steps.wanted.format {
            Format::Text => self.plan_rows(&report.lines(), Format::Text),
            format => self.plan_rows(&[pretty(&report.document())], format),
        }
    }

    /// Runs a plan as the statement would run that it was made for. The shards, where they were known beforehand.
    async fn run_as_by_itself(&mut self, case: &Explained<'_>) -> Result<Option<Vec<ShardId>>, Fault> {
        let Explained {
            planned, piece, args, ..
        } = *case;
        // Their formats are those of the plan that is shown, and no column of the statement's.
        let args = Args {
            params: args.params.clone(),
            results: Vec::new(),
        };
        let args = Some(&args);
        if !planned.plan.prelude.is_empty() {
            return self.run_deferred(planned, piece, NONE, args).await.map(|()| None);
        }
        let param = |index: usize| case.args.param(index);
        let context = self.plan_context().await?;
        let shards = resolve(planned, &context.snapshot, NONE, param).map_err(Fault::key_problem)?;
        let shards = match self.look_up(planned, NONE, param, shards).await? {
            Shards::One(shard) => vec![shard],
            Shards::Any => vec![self.any_shard()],
            Shards::Many(shards) => shards,
        };
        self.run_many(planned, &shards, piece, args).await?;
        Ok(Some(shards))
    }

    /// Takes an answer apart that nobody gets: the client has the notices and reports in it. Its command tag, if it has one.
    fn without_answer(&mut self, mut answer: BytesMut) -> Option<String> {
        let mut told = None;
        while let Ok(Some(found)) = frame::peek(&answer, usize::MAX)
            && found.len <= answer.len()
        {
            let message = answer.split_to(found.len);
            match found.tag {
                tag::NOTICE | tag::PARAMETER_STATUS | tag::NOTIFICATION => {
                    self.client.conn.out().extend_from_slice(&message);
                }
                tag::COMMAND_COMPLETE => told = message.get(5..).map(text_of),
                _ => {}
            }
        }
        told
    }

    fn plan_rows(&mut self, lines: &[String], format: Format) -> Result<(), Fault> {
        let column = column((format == Format::Json).then_some("json"));
        self.tell_plan(lines, column)
    }

    fn tell_plan(&mut self, lines: &[String], column: Column<'_>) -> Result<(), Fault> {
        let too_long = |_| Fault::error("54000", "result too long");
        let out = self.client.conn.out();
        if self.announce_columns {
            encode::row_description(out, [column]).map_err(too_long)?;
        }
        for line in lines {
            encode::data_row(out, [Some(line.as_bytes())]).map_err(too_long)?;
        }
        self.complete("EXPLAIN")
    }
}

/// A statement that ran, for people.
struct Report<'a> {
    route: Vec<String>,
    /// Its command tag; what was finished at home has none.
    answer: Option<String>,
    /// Rows and bytes that servers sent for other servers.
    moved: (u64, u64),
    took_ms: f64,
    steps: &'a Steps,
}

impl Report<'_> {
    fn lines(mut self) -> Vec<String> {
        let mut lines = std::mem::take(&mut self.route);
        lines.extend(self.steps.lines());
        if let Some(answer) = &self.answer {
            lines.push(format!(
                "Answer: {answer}, of {} rows from servers",
                self.steps.rows()
            ));
        }
        if self.moved != (0, 0) {
            lines.push(format!("Moved: {} rows, {} bytes", self.moved.0, self.moved.1));
        }
        if self.steps.wanted.summary {
            lines.push(format!("Execution Time: {:.3} ms", self.took_ms));
        }
        lines
    }

    fn document(self) -> Value {
        let mut out = Map::new();
        out.insert("Route".to_owned(), json!(self.route));
        out.insert("Steps".to_owned(), self.steps.document());
        if let Some(answer) = &self.answer {
            out.insert("Answer".to_owned(), json!(answer));
        }
        out.insert("Rows Moved".to_owned(), json!(self.moved.0));
        out.insert("Bytes Moved".to_owned(), json!(self.moved.1));
        if self.steps.wanted.summary {
            out.insert("Execution Time".to_owned(), json!(self.took_ms));
        }
        json!([{ "Drover": out }])
    }
}

/// A command tag, with or without its end.
fn text_of(tag: impl AsRef<[u8]>) -> String {
    let tag = tag.as_ref();
    String::from_utf8_lossy(tag.strip_suffix(b"\0").unwrap_or(tag)).into_owned()
}

fn pretty(document: &Value) -> String {
    serde_json::to_string_pretty(document).unwrap_or_default()
}

fn refusal_lines(refusal: &plan::Refusal) -> Vec<String> {
    vec![
        "Tier: refuse".to_owned(),
        format!("Code: {}", refusal.code.as_str()),
        format!("Reason: {}", refusal.reason),
        format!("Hint: {}", refusal.hint),
    ]
}
