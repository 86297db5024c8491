//! Keys in a form that only PostgreSQL can read: the home shard reads them, under the session's settings.
//!
//! The values come back as the type's binary form in hexadecimal, which means the same under every `DateStyle`, `TimeZone`,
//! `extra_float_digits` and client encoding; text is converted to UTF-8.

use catalog::{KeyFamily, KeyType};
use wire::FormatCode;

use super::{Fault, Session};
use crate::exec::link;
use crate::exec::scatter::{self, Request};
use crate::exec::statement::{Key, Planned};

impl Session {
    /// The parameters of a Bind that decide the shard, in binary form; `None` for NULL and for all others.
    pub(super) async fn canonical_params(
        &mut self,
        planned: &Planned,
        bind: &wire::frontend::Bind<'_>,
    ) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        self.settle_batch_for_question().await?;
        let mut columns = vec!["NULL".to_owned(); planned.param_types.len()];
        planned.keys.iter().for_each(|key| asked_for(key, &mut columns));
        let sql = format!("SELECT {}", columns.join(", "));
        let params: Vec<(Option<&[u8]>, FormatCode)> = (0..bind.params.len())
            .map(|index| {
                let format = match super::extended::is_binary(bind, index) {
                    true => FormatCode::Binary,
                    false => FormatCode::Text,
                };
                (bind.param(index).flatten(), format)
            })
            .collect();
        let request = Request {
            sql: &sql,
            types: &planned.param_types,
            params: &params,
            formats: &[],
            max_rows: 0,
            describe: false,
        };
        let home = self.engine.cluster.home();
        let mut access = self.home_access(home).await?;
        let server = self.asked(&mut access);
        let lost = |error| Fault::lost(&error, "the home shard");
        scatter::send(server, &request).map_err(lost)?;
        let reply = link::collect(server).await.map_err(lost)?;
        self.done_asking(access);
        let rows = reply.into_rows().map_err(Fault::Statement)?;
        let row = rows.into_iter().next().unwrap_or_default();
        let value = |hex: Option<String>| hex.map(|hex| unhex(&hex).ok_or_else(unreadable)).transpose();
        row.into_iter().map(value).collect()
    }
}

/// Puts what asks for the parameters of a key in their places.
fn asked_for(key: &Key, columns: &mut [String]) {
    let (index, sql) = match key {
        Key::Param { index, key_type, .. } => (*index, hex_sql(*key_type, &format!("${}", index + 1))),
        Key::ParamArray { index, .. } => (*index, array_hex_sql(&format!("${}", index + 1))),
        Key::Const(_) | Key::Literal { .. } | Key::Element { .. } => return,
        Key::Product { columns: values } | Key::SubKeys { columns: values } => {
            values.iter().flatten().for_each(|key| asked_for(key, columns));
            return;
        }
    };
    if let Some(column) = columns.get_mut(index) {
        *column = sql;
    }
}

fn unreadable() -> Fault {
    Fault::error("XX000", "the home shard's form of a parameter cannot be read")
}

/// The binary form of a value of a key type, in hexadecimal. `value` is SQL.
pub(super) fn hex_sql(key_type: KeyType, value: &str) -> String {
    let send = match key_type {
        KeyType::Int2 => "int2send",
        KeyType::Int4 => "int4send",
        KeyType::Int8 => "int8send",
        KeyType::Uuid => "uuid_send",
        KeyType::Bool => "boolsend",
        KeyType::Date => "date_send",
        KeyType::Timestamp => "timestamp_send",
        KeyType::Timestamptz => "timestamptz_send",
        KeyType::Bytea => "byteasend",
        KeyType::Float4 => "float4send",
        KeyType::Float8 => "float8send",
        KeyType::Numeric => "numeric_send",
        KeyType::Text | KeyType::Varchar | KeyType::Bpchar | KeyType::Enum => {
            let bytes = format!("pg_catalog.convert_to(({value})::pg_catalog.text, 'UTF8')");
            return format!("pg_catalog.encode({bytes}, 'hex')");
        }
    };
    format!("pg_catalog.encode(pg_catalog.{send}({value}), 'hex')")
}

/// The same of an array.
fn array_hex_sql(value: &str) -> String {
    format!("pg_catalog.encode(pg_catalog.array_send({value}), 'hex')")
}

/// Whether the text of a value depends on the session's settings, or loses something of it.
pub(super) fn text_varies(key_type: KeyType) -> bool {
    matches!(
        key_type.family(),
        KeyFamily::Date | KeyFamily::Timestamp | KeyFamily::Timestamptz | KeyFamily::Float | KeyFamily::Bytea
    )
}

/// Bytes from hexadecimal digits.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
