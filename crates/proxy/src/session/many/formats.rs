//! What may cross between shards in binary.

use catalog::{ShardId, Snapshot};
use wire::FormatCode;

use super::super::Fault;
use super::super::learn::decode_columns;
use super::run::FIRST_USER_OID;
use super::{Args, gathers};
use crate::exec::statement::Planned;

/// User-defined arrays, composites and ranges carry type OIDs in their binary form, which differ between shards.
pub(in super::super) fn check_formats(
    planned: &Planned,
    args: &Args,
    shards: &[ShardId],
    snapshot: &Snapshot,
) -> Result<(), Fault> {
    if shards.iter().all(|shard| *shard == snapshot.home()) {
        return Ok(());
    }
    let columns = planned.columns.as_deref().and_then(decode_columns);
    let bad_column = columns
        .into_iter()
        .flat_map(|columns| columns.iter().collect::<Vec<_>>())
        .enumerate()
        // What is finished over gathered rows comes from the home shard.
        .filter(|_| !gathers(planned))
        .any(|(at, column)| {
            args.result_format(at) == FormatCode::Binary && !portable_in_binary(column.type_oid, snapshot)
        });
    let bad_param = planned
        .param_types
        .iter()
        .zip(&args.params)
        .any(|(oid, (_, binary))| *binary && !portable_in_binary(*oid, snapshot));
    if bad_column || bad_param {
        return Err(not_portable());
    }
    Ok(())
}

/// The refusal of such values.
pub(in super::super) fn not_portable() -> Fault {
    let why = "a user-defined array, composite or range type in binary format; ask for it in text format";
    Fault::refused(&plan::Refusal::with(plan::RefusalCode::FinishType, why))
}

/// Whether a value in binary format means the same on every server.
pub(in super::super) fn portable_in_binary(oid: u32, snapshot: &Snapshot) -> bool {
    if oid < FIRST_USER_OID {
        // record and its array may hold anything.
        return oid != 2249 && oid != 2287;
    }
    let base = snapshot.base_type(catalog::Oid(oid));
    base.0 < FIRST_USER_OID
        || snapshot
            .type_info(base)
            .is_some_and(|facts| matches!(facts.kind, catalog::TypeKind::Base | catalog::TypeKind::Enum))
}
