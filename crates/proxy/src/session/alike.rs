//! `INSERT … VALUES` of many rows that are literals: analysed once for each shape of row.
//!
//! Every such statement is a new text, and its analysis on the home shard costs more than its execution: a tree of
//! a thousand rows is printed, sent, read and printed again. But PostgreSQL analyses each row for itself (see [`sql::literal_rows`]),
//! so a statement of *two* equal rows shows whether rows of that shape can be divided at all, and where their key is. What is kept
//! is that, for the same head and tail to the byte; a statement that follows is cut up as the client wrote it.
//!
//! What is different from a plan of the statement itself: literals are first read by the shards, so that an error in one has its place in
//! the shard's text. It is counted back ([`Origins`]).
//!
//! Not taken apart: what has anything to be computed beforehand (defaults from sequences or the clock), what runs on all shards alike, and
//! keys that are not plainly a literal of their row.

use std::cell::RefCell;
use std::rc::Rc;

use catalog::KeyType;
use plan::{KeySource, Many, NullKeys, Plan, SplitInsert, SplitRow, Target};
use sql::LiteralRows;

use super::Session;
use super::block::BlockState;
use super::effects::effects_of;
use super::fault::Fault;
use super::learn::parse;
use crate::engine::PlanContext;
use crate::exec::cache::AlikeRows;
use crate::exec::statement::{
    Action, DigestSlot, Literals, Planned, Reading, Statement, exact_keys, key_of_row, value_of,
};

/// Where the parts of a text come from: pairs of byte offsets, in it and in the client's.
pub(super) type Origins = Vec<(usize, usize)>;

/// The place in the client's text that a place in another text stands for; both count characters from 1.
pub(super) fn original_position(
    position: u32,
    text: &str,
    origins: &[(usize, usize)],
    clients: &str,
) -> Option<u32> {
    let number = usize::try_from(position).ok()?.checked_sub(1)?;
    let (at, _) = text.char_indices().nth(number)?;
    let (from, origin) = *origins.iter().rev().find(|(from, _)| *from <= at)?;
    let before = clients.get(..origin + (at - from))?;
    u32::try_from(before.chars().count() + 1).ok()
}

impl Session {
    /// A statement for a text of this kind; `None` for all others.
    pub(super) async fn learn_alike(&mut self, text: &str) -> Result<Option<Rc<Statement>>, Fault> {
        let insert = text.trim_ascii_start().as_bytes();
        if !insert
            .get(..6)
            .is_some_and(|word| word.eq_ignore_ascii_case(b"insert"))
            || self.may_have_temporary_objects()
            || self.block.state == BlockState::Failed
        {
            return Ok(None);
        }
        let context = self.plan_context().await?;
        if !context.utf8 || !context.snapshot.has_sharded() {
            return Ok(None);
        }
        let Some(rows) = sql::literal_rows(text, context.conforming_strings) else {
            return Ok(None);
        };
        let mut shapes = Vec::with_capacity(rows.shapes.len());
        for shape in 0..rows.shapes.len() {
            match Box::pin(self.shape_of(text, &rows, shape, &context)).await? {
                Some(known) => shapes.push(known),
                None => return Ok(None),
            }
        }
        Ok(self.cut_up(text, &rows, &shapes, context.conforming_strings))
    }

    /// What is known of rows of a shape.
    async fn shape_of(
        &mut self,
        text: &str,
        rows: &LiteralRows,
        shape: usize,
        context: &Rc<PlanContext>,
    ) -> Result<Option<Rc<AlikeRows>>, Fault> {
        let (Some(first), Some(tail)) = (rows.rows.first(), text.get(rows.tail.clone())) else {
            return Ok(None);
        };
        let Some(row) = rows.rows.iter().position(|row| row.shape == shape) else {
            return Ok(None);
        };
        let head = text.get(..first.start).unwrap_or_default();
        let mut key = Vec::with_capacity(head.len() + tail.len() + 64);
        for part in [head.as_bytes(), &rows.shapes[shape], tail.as_bytes()] {
            key.extend_from_slice(part);
            key.push(0);
        }
        if let Some(known) = context.statements.find_alike(&key) {
            return Ok(known);
        }
        let known = self.learn_shape(text, rows, row, context).await?.map(Rc::new);
        context.statements.keep_alike(&key, known.clone());
        Ok(known)
    }

    /// Plans a statement of two rows like this one.
    async fn learn_shape(
        &mut self,
        text: &str,
        rows: &LiteralRows,
        row: usize,
        context: &Rc<PlanContext>,
    ) -> Result<Option<AlikeRows>, Fault> {
        let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
        let (head, place) = (rows.rows[0].start, rows.rows[row]);
        let cells = part(place.start..place.end);
        let two = format!("{}{cells}, {cells}{}", part(0..head), part(rows.tail.clone()));
        let raws = parse(&two, context);
        let Ok([raw]) = raws.as_deref() else {
            return Ok(None);
        };
        let effects = effects_of(raw, &context.snapshot);
        let facts = plan::SessionFacts {
            in_transaction: self.block.is_open(),
            has_temp_objects: false,
            search_path: context.search_path.clone(),
        };
        if !effects.none()
            || !matches!(
                plan::triage(raw, &context.snapshot, &facts),
                plan::Triage::Analyze
            )
        {
            return Ok(None);
        }
        let planned = match self.plan_statement(&two, raw, &[], context).await {
            Ok(planned) => planned,
            // In a block there is no second try.
            Err(Fault::Statement(mut error)) if self.block.is_open() => {
                let tail = head + 2 * cells.len() + 2;
                let second = (head + cells.len() + 2, place.start);
                let origins = [(0, 0), (head, place.start), second, (tail, rows.tail.start)];
                let position = error.position;
                error.position = position.and_then(|at| original_position(at, &two, &origins, text));
                return Err(Fault::Statement(error));
            }
            // The whole text says what is wrong with it.
            Err(Fault::Statement(_)) => return Ok(None),
            Err(other) => return Err(other),
        };
        let moved = |literal: &sql::Literal| sql::Literal {
            start: (literal.start as usize - place.start + head) as u32,
            ..*literal
        };
        let literals: Vec<sql::Literal> = rows.literals_of(row).iter().map(moved).collect();
        let literals = Literals {
            text: &two,
            literals: &literals,
        };
        let source = divisible(&planned.plan).and_then(|split| split.rows.first());
        let Some(key) = source.and_then(|row| key_of_row(&row.key, literals)) else {
            return Ok(None);
        };
        Ok(Some(AlikeRows {
            key,
            planned,
            kind: raw.kind,
            place: plan::read_place(raw, &two, &context.search_path, &context.snapshot),
            digest: DigestSlot::default(),
            sample: two,
        }))
    }

    /// The statement of these rows, or `None` when a key cannot be read.
    fn cut_up(
        &self,
        text: &str,
        rows: &LiteralRows,
        shapes: &[Rc<AlikeRows>],
        conforming: bool,
    ) -> Option<Rc<Statement>> {
        let first = shapes.first()?;
        let (Target::Keys { map, .. }, Some(split)) =
            (&first.planned.plan.target, divisible(&first.planned.plan))
        else {
            return None;
        };
        let cut = rows_of(
            text,
            rows,
            shapes,
            *split.rows.first()?.key.column_types().first()?,
        )?;
        let plan = Plan {
            target: Target::Keys {
                map: *map,
                keys: cut.iter().map(|row| row.key.clone()).collect(),
                nulls: NullKeys::Placed,
            },
            many: Many::SplitInsert(SplitInsert {
                head: text.get(..rows.rows.first()?.start)?.to_owned(),
                rows: cut,
                tail: text.get(rows.tail.clone())?.to_owned(),
                returning: split.returning,
                keeps_order: split.keeps_order,
            }),
            ..first.planned.plan.clone()
        };
        let starts = rows.rows.iter().map(|row| row.start);
        let planned = Planned {
            keys: exact_keys(&plan),
            plan,
            param_types: Vec::new(),
            columns: first.planned.columns.clone(),
            source: None,
            rows_at: starts.chain([rows.tail.start]).collect(),
            holds_oids: first.planned.holds_oids,
        };
        Some(Rc::new(Statement {
            id: self.engine.next_statement_id(),
            action: Action::Planned(Box::new(planned)),
            effects: Default::default(),
            configs: Default::default(),
            kind: first.kind,
            reading: Reading {
                place: first.place.clone(),
                ..Reading::default()
            },
            digest: self.digest_of_sample(first, conforming),
        }))
    }
}

impl Session {
    /// Statements of any number of rows are counted as one, under the text of two.
    fn digest_of_sample(&self, known: &AlikeRows, conforming: bool) -> DigestSlot {
        let observer = &self.engine.observer;
        if !observer.wants().texts {
            return DigestSlot::default();
        }
        let mut digest = known.digest.0.borrow_mut();
        if !digest.as_ref().is_some_and(|digest| digest.is_listed()) {
            *digest = Some(observer.digest(&self.database, &self.user, &known.sample, Some(conforming)));
        }
        DigestSlot(RefCell::new(digest.clone()))
    }
}

/// The rows with their keys.
fn rows_of(
    text: &str,
    rows: &LiteralRows,
    shapes: &[Rc<AlikeRows>],
    key_type: KeyType,
) -> Option<Vec<SplitRow>> {
    let row = |(number, row): (usize, &sql::LiteralRow)| {
        let literals = Literals {
            text,
            literals: rows.literals_of(number),
        };
        let key = KeySource::Const {
            value: value_of(&shapes.get(row.shape)?.key, literals)?,
            location: None,
            key_type,
        };
        Some(SplitRow {
            key,
            sql: text.get(row.start..row.end)?.to_owned(),
            drawn: Vec::new(),
        })
    };
    rows.rows.iter().enumerate().map(row).collect()
}

/// The parts of a plan by which rows go to their shards as they are written; `None` where something is computed or done beside that.
fn divisible(plan: &Plan) -> Option<&SplitInsert> {
    let Many::SplitInsert(split) = &plan.many else {
        return None;
    };
    let plain = plan.prelude.is_empty()
        && plan.text.is_none()
        && !plan.uses_now
        && plan.param_count == 0
        && split.rows.iter().all(|row| row.drawn.is_empty());
    let placed = matches!(
        plan.target,
        Target::Keys {
            nulls: NullKeys::Placed,
            ..
        }
    );
    (plain && placed && split.rows.len() == 2).then_some(split)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_part_is_found_in_the_whole() {
        let clients = "INSERT INTO é VALUES ('ä'), ('b'), ('öc') RETURNING x";
        let part = "INSERT INTO é VALUES ('öc') RETURNING x";
        let at = |text: &str, piece: &str| text.find(piece).unwrap();
        let origins = [
            (0, 0),
            (at(part, "('öc"), at(clients, "('öc")),
            (at(part, " RET"), at(clients, " RET")),
        ];
        for piece in ["é", "('öc", "c')", "RETURNING", "x"] {
            let place = |text: &str| u32::try_from(text[..at(text, piece)].chars().count() + 1).unwrap();
            let found = original_position(place(part), part, &origins, clients);
            assert_eq!(found, Some(place(clients)), "{piece}");
        }
        assert_eq!(original_position(0, part, &origins, clients), None);
        assert_eq!(original_position(1000, part, &origins, clients), None);
    }
}
