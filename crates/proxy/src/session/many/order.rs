//! Sort keys, LIMIT and OFFSET of a plan as the merge takes them.

use merge::{Bounds, Comparator};
use plan::{LimitPlan, LimitValue};

use super::super::Fault;
use super::Args;
use crate::exec::statement::ParamValue;

pub(super) fn sort_keys(keys: &[plan::SortKey]) -> Result<Vec<merge::SortKey>, Fault> {
    keys.iter()
        .map(|key| {
            // The planner allows only orders that are bytewise where text is concerned.
            let comparator = Comparator::for_type(key.type_oid, true)
                .ok_or_else(|| Fault::error("XX000", "a sort key cannot be compared"))?;
            Ok(merge::SortKey {
                column: key.column,
                comparator,
                descending: key.descending,
                nulls_first: key.nulls_first,
            })
        })
        .collect()
}

pub(super) fn per_source(bounds: Bounds) -> u32 {
    bounds
        .per_source()
        .and_then(|rows| u32::try_from(rows).ok())
        .filter(|rows| *rows < i32::MAX as u32)
        .unwrap_or(0)
}

pub(super) fn bounds(limit: &LimitPlan, args: &Args) -> Result<Bounds, Fault> {
    let offset = limit_value(limit.offset, args, "2201X", "OFFSET must not be negative")?;
    let limit = limit_value(limit.limit, args, "2201W", "LIMIT must not be negative")?;
    Ok(Bounds {
        offset: offset.unwrap_or(0),
        limit,
    })
}

fn limit_value(
    value: Option<LimitValue>,
    args: &Args,
    code: &str,
    negative: &str,
) -> Result<Option<u64>, Fault> {
    let number = match value {
        None => return Ok(None),
        Some(LimitValue::Const(number)) => number,
        Some(LimitValue::Param { index }) => {
            let param = args.param(usize::from(index).saturating_sub(1));
            let Some(ParamValue {
                value: Some(bytes),
                binary,
            }) = param
            else {
                return Ok(None);
            };
            let parsed = if binary {
                bytes.try_into().map(i64::from_be_bytes).ok()
            } else {
                std::str::from_utf8(bytes)
                    .ok()
                    .and_then(|text| text.trim().parse().ok())
            };
            parsed.ok_or_else(|| Fault::error("22P02", "invalid input syntax for type bigint"))?
        }
    };
    u64::try_from(number)
        .map(Some)
        .map_err(|_| Fault::error(code, negative))
}
