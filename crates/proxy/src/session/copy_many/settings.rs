//! What a COPY statement says about its stream, and what of that is refused over several shards.

use crate::session::many::formats::{not_portable, portable_in_binary};
use catalog::{KeyStep, Relation, Snapshot, TypeKind};
use plan::{CopyKey, CopyPlace, CopyPlan, Refusal, RefusalCode};
use wire::copy::{CopyFormat, CopyOptions};

use super::key::{KeyField, KeyReader};
use crate::session::Fault;

/// A COPY statement as it is carried out.
pub(super) struct Stream {
    /// How the stream is written.
    pub options: CopyOptions,
    /// Some option has a value that no server accepts.
    pub odd: bool,
    /// `ENCODING` says UTF-8: the session's encoding does not matter.
    pub is_utf8: bool,
    /// `ON_ERROR`: a row with an unreadable value may be skipped.
    pub skips_errors: bool,
}

/// Reads the options.
pub(super) fn stream_of(plan: &CopyPlan, snapshot: &Snapshot) -> Result<Stream, Fault> {
    let said = &plan.statement.options;
    let major = u16::try_from(snapshot.database().server_version / 10_000).unwrap_or(u16::MAX);
    let mut odd = false;
    let mut single = |text: &Option<String>, default: u8| match text.as_deref().map(str::as_bytes) {
        None => default,
        Some([byte]) => *byte,
        Some(_) => {
            odd = true;
            default
        }
    };
    let mut options = match said.format.as_deref() {
        Some("csv") => {
            let quote = single(&said.quote, b'"');
            let escape = single(&said.escape, quote);
            let delimiter = single(&said.delimiter, b',');
            let mut options = CopyOptions::csv(major);
            options.format = CopyFormat::Csv {
                delimiter,
                quote,
                escape,
            };
            options
        }
        Some("binary") => CopyOptions::binary(major),
        other => {
            let delimiter = single(&said.delimiter, b'\t');
            odd |= other.is_some_and(|format| format != "text");
            let mut options = CopyOptions::text(major);
            options.format = CopyFormat::Text { delimiter };
            options
        }
    };
    if let Some(null) = &said.null {
        options.null = null.clone().into_bytes();
    }
    options.default = said.default.clone().map(String::into_bytes);
    options.header = said.header.as_deref().is_some_and(|header| header != "false");
    let is_utf8 = said.encoding.as_deref().is_some_and(is_utf8);
    if plan.from && said.encoding.is_some() && !is_utf8 {
        return Err(wrong_encoding());
    }
    let skips_errors = said.others.iter().any(|name| name == "on_error");
    Ok(Stream {
        options,
        odd,
        is_utf8,
        skips_errors,
    })
}

/// PostgreSQL's names of UTF-8.
pub(super) fn is_utf8(name: &str) -> bool {
    let letters = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase());
    matches!(letters.collect::<String>().as_str(), "utf8" | "unicode")
}

/// The refusal of streams that would have to be converted.
pub(super) fn wrong_encoding() -> Fault {
    Fault::refused(&Refusal {
        code: RefusalCode::CopyOption,
        reason: "COPY FROM over several shards reads UTF-8 only".to_owned(),
        hint: "SET client_encoding TO 'UTF8', or leave ENCODING out".to_owned(),
    })
}

/// Refuses what would come out differently than on one server.
pub(super) fn check(plan: &CopyPlan, stream: &Stream, snapshot: &Snapshot) -> Result<(), Fault> {
    let refuse = |code, detail: &str| Err(Fault::refused(&Refusal::with(code, detail)));
    let Some(table) = snapshot.relation_in(&plan.schema, &plan.table) else {
        return Err(Fault::error(
            "XX000",
            "COPY of a table that is not in the snapshot",
        ));
    };
    let sharded = matches!(plan.place, CopyPlace::Sharded { .. });
    if sharded
        && plan
            .statement
            .options
            .others
            .iter()
            .any(|name| name == "reject_limit")
    {
        return refuse(RefusalCode::CopyOption, "REJECT_LIMIT");
    }
    if !plan.home_defaults.is_empty() && stream.options.format == CopyFormat::Binary {
        return refuse(
            RefusalCode::CopyOption,
            "FORMAT binary with a column that draws from a sequence",
        );
    }
    for column in table.live_columns() {
        let listed = plan.columns.contains(&column.name);
        let by_marker = listed && stream.options.default.is_some();
        if by_marker && (column.home_sequence || column.identity.is_some()) {
            return refuse(
                RefusalCode::CopyOption,
                "DEFAULT with a column that draws from a sequence",
            );
        }
        let appended = plan.home_defaults.iter().any(|(name, _)| *name == column.name);
        if !sharded && (by_marker || !listed) && !appended && column.default.as_deref().is_some_and(varies) {
            return refuse(
                RefusalCode::ReferenceVolatile,
                &format!("DEFAULT of {}", column.name),
            );
        }
    }
    if has_absent_domain(plan, table, snapshot) {
        return refuse(
            RefusalCode::CopyOption,
            "the shard key has a domain type and is not among the columns",
        );
    }
    Ok(())
}

/// A default that may have another value on another server.
fn varies(default: &str) -> bool {
    default.contains('(') || default.contains("CURRENT_") || default.contains("LOCALTIME")
}

/// Whether a column of the key is of a domain, which may have a default, and is in no row.
fn has_absent_domain(plan: &CopyPlan, table: &Relation, snapshot: &Snapshot) -> bool {
    let CopyPlace::Sharded { key, .. } = &plan.place else {
        return false;
    };
    let is_domain = |attnum: i16| {
        let column = table.column(attnum)?;
        Some(snapshot.type_info(column.type_oid)?.kind == TypeKind::Domain)
    };
    key.iter()
        .any(|column| column.field.is_none() && is_domain(column.attnum) == Some(true))
}

/// How the key is read from a row.
pub(super) fn key_reader(plan: &CopyPlan, stream: &Stream, snapshot: &Snapshot) -> Result<KeyReader, Fault> {
    let CopyPlace::Sharded { key, .. } = &plan.place else {
        return Err(Fault::error("XX000", "a reference table has no shard key"));
    };
    let table = snapshot.relation_in(&plan.schema, &plan.table);
    let forced = plan
        .statement
        .options
        .others
        .iter()
        .any(|name| name.starts_with("force_n"));
    let field = |column: &CopyKey| KeyField {
        field: column.field,
        key_type: column.key_type,
        step: table.and_then(|table| key_step(table, column.attnum, snapshot)),
    };
    Ok(KeyReader {
        options: stream.options.clone(),
        columns: key.iter().map(field).collect(),
        forced,
    })
}

/// What the modifier of a column does to a value.
fn key_step(table: &Relation, attnum: i16, snapshot: &Snapshot) -> Option<KeyStep> {
    let column = table.column(attnum)?;
    snapshot.key_step(column.type_oid, column.typmod)
}
/// Refuses binary data with values that hold object ids of types, which differ between shards.
pub(super) fn check_types(plan: &CopyPlan, stream: &Stream, snapshot: &Snapshot) -> Result<(), Fault> {
    let binary = stream.options.format == CopyFormat::Binary && snapshot.shards().len() > 1;
    let table = snapshot.relation_in(&plan.schema, &plan.table).filter(|_| binary);
    let columns = table.into_iter().flat_map(|table| &table.columns);
    let mut copied = columns.filter(|column| !column.dropped && plan.columns.contains(&column.name));
    match copied.any(|column| !portable_in_binary(column.type_oid.0, snapshot)) {
        true => Err(not_portable()),
        false => Ok(()),
    }
}
