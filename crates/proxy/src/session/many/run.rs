//! One execution of a plan: what is sent to its servers.

use crate::session::alike::{Origins, original_position};
use std::cell::RefCell;

use bytes::Bytes;
use catalog::ShardId;
use plan::Many;
use wire::FormatCode;
use wire::copy::RowWriter;

use super::{Args, Extra, extra_value};
use crate::exec::statement::{ParamValue, Planned};
use crate::session::Fault;

/// The home shard's OIDs of built-in types are everybody's.
pub(super) const FIRST_USER_OID: u32 = 16384;

/// One execution of a plan.
pub(super) struct Run<'a> {
    pub(super) planned: &'a Planned,
    pub(super) order: &'a [ShardId],
    pub(super) indexes: &'a [usize],
    pub(super) text: &'a str,
    pub(super) args: &'a Args,
    pub(super) extras: &'a [Extra],
    /// Rows are written as COPY does.
    pub(super) copy: Option<&'a RefCell<RowWriter>>,
    /// Of each shard's own text, where its parts are in `text`.
    pub(super) origins: &'a [Origins],
    /// This part of a statement that writes changes nothing itself.
    pub(super) only_reads: bool,
}

/// What the client asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) text: &'a str,
    pub(super) args: Option<&'a Args>,
    pub(super) copy: Option<&'a RefCell<RowWriter>>,
}

impl Run<'_> {
    /// The same execution on some of its shards.
    pub(super) fn part<R>(&self, range: R) -> Run<'_>
    where
        R: std::slice::SliceIndex<[ShardId], Output = [ShardId]>
            + std::slice::SliceIndex<[usize], Output = [usize]>
            + Clone,
    {
        Run {
            order: &self.order[range.clone()],
            indexes: &self.indexes[range],
            ..*self
        }
    }

    /// Parameter types; user-defined ones have other OIDs on other shards and are inferred there.
    pub(super) fn types(&self, home: bool) -> Vec<u32> {
        let own = self.planned.param_types.iter().copied();
        let extra = self.extras.iter().map(|extra| extra.type_oid);
        own.chain(extra)
            .map(|oid| if home || oid < FIRST_USER_OID { oid } else { 0 })
            .collect()
    }

    /// One parameter, from 0: the client's, then the prelude's.
    pub(super) fn param(&self, index: usize) -> Option<ParamValue<'_>> {
        let own = usize::from(self.planned.plan.param_count);
        match index < own {
            true => self.args.param(index),
            false => extra_value(index, own, |at| self.extras.get(at)),
        }
    }

    /// The text of a cut up INSERT that runs in one piece after all, where there is no text for that.
    pub(super) fn whole_split(&self, everywhere: bool) -> Result<Option<String>, Fault> {
        let plan = &self.planned.plan;
        let Many::SplitInsert(split) = &plan.many else {
            return Ok(None);
        };
        let literals = split.rows.iter().any(|row| !row.drawn.is_empty());
        if plan.text.is_some() || !literals || !(everywhere || self.order.len() == 1) {
            return Ok(None);
        }
        let mut text = split.head.clone();
        for (at, row) in split.rows.iter().enumerate() {
            text.push_str(if at == 0 { "" } else { ", " });
            self.push_row(row, &mut text)?;
        }
        text.push_str(&split.tail);
        Ok(Some(text))
    }

    /// A row of VALUES, with the values that were computed for it.
    pub(super) fn push_row(&self, row: &plan::SplitRow, text: &mut String) -> Result<(), Fault> {
        let missing = || Fault::error("XX000", "a value of a row was not computed");
        let mut from = 0;
        for value in &row.drawn {
            let index = usize::from(value.param).checked_sub(1 + usize::from(self.planned.plan.param_count));
            let extra = index
                .and_then(|index| self.extras.get(index))
                .ok_or_else(missing)?;
            let element = extra.elements.get((value.element as usize).wrapping_sub(1));
            text.push_str(row.sql.get(from..value.at).ok_or_else(missing)?);
            match element.ok_or_else(missing)? {
                None => text.push_str("NULL"),
                Some(bytes) => {
                    let literal = std::str::from_utf8(bytes).map_err(|_| missing())?;
                    text.push_str(&sql::quote_literal(literal));
                }
            }
            from = value.at;
        }
        text.push_str(row.sql.get(from..).ok_or_else(missing)?);
        Ok(())
    }

    pub(super) fn params(&self) -> Vec<SentParam<'_>> {
        let own = self.args.params.iter().map(|(value, binary)| {
            (
                value.as_deref(),
                if *binary {
                    FormatCode::Binary
                } else {
                    FormatCode::Text
                },
            )
        });
        let extra = self
            .extras
            .iter()
            .map(|extra| (extra.value.as_deref(), extra.format));
        own.chain(extra).collect()
    }

    /// Types and values of the parameters for one server.
    pub(super) fn params_of<'p>(
        &'p self,
        texts: &'p Texts<'_>,
        turn: usize,
        home: bool,
    ) -> (Vec<u32>, Vec<SentParam<'p>>) {
        let (mut types, mut params) = (self.types(home), self.params());
        match texts {
            Texts::Same(_) => {}
            Texts::Each(texts) => forget_unused(&texts[turn], &mut types, &mut params),
            Texts::Rows { sql, oids, arrays } => {
                forget_unused(sql, &mut types, &mut params);
                types.extend_from_slice(oids);
                let arrays = arrays.get(turn).or(arrays.first());
                let arrays = arrays.into_iter().flatten();
                params.extend(arrays.map(|array| (Some(&array[..]), FormatCode::Binary)));
            }
        }
        (types, params)
    }

    /// Where a position in the text of a shard is in the client's.
    pub(super) fn position(&self, turn: usize, sent: &Texts<'_>, position: u32) -> Option<u32> {
        match self.origins.get(turn) {
            Some(origins) => original_position(position, sent.of(turn), origins, self.text),
            None => self.shows_positions().then_some(position),
        }
    }

    /// The shards run the client's own text.
    fn shows_positions(&self) -> bool {
        !self.planned.plan.is_rewritten()
            && match &self.planned.plan.many {
                Many::SumTags { shard_sql } => shard_sql.is_none(),
                Many::Rows(rows) => rows.shard_sql.is_none(),
                Many::Transfer(_) | Many::Relocate(_) | Many::Gather(_) => false,
                _ => self.order.len() == 1,
            }
    }
}

/// A value as it is sent to a server.
pub(super) type SentParam<'a> = (Option<&'a [u8]>, FormatCode);

/// A part of a statement need not use all parameters, and the type of one that it does not use cannot be inferred.
fn forget_unused(text: &str, types: &mut [u32], params: &mut [SentParam<'_>]) {
    const TEXT: u32 = 25;
    for (at, (oid, param)) in types.iter_mut().zip(params).enumerate() {
        if *oid != 0 {
            continue;
        }
        let name = format!("${}", at + 1);
        let used = text.match_indices(&name).any(|(start, _)| {
            let after = text.as_bytes().get(start + name.len());
            !after.is_some_and(u8::is_ascii_digit)
        });
        if !used {
            (*oid, *param) = (TEXT, (None, FormatCode::Text));
        }
    }
}

/// The text for each source.
pub(super) enum Texts<'a> {
    Same(&'a str),
    Each(&'a [String]),
    /// The same text with each source's own arrays (or with the only ones there are) as further parameters.
    Rows {
        sql: &'a str,
        oids: &'a [u32],
        arrays: &'a [Vec<Bytes>],
    },
}

impl Texts<'_> {
    pub(super) fn of(&self, turn: usize) -> &str {
        match self {
            Self::Same(text) => text,
            Self::Rows { sql, .. } => sql,
            Self::Each(texts) => texts.get(turn).map_or("", String::as_str),
        }
    }
}
