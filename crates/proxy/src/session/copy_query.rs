//! COPY (query) TO STDOUT over shards.
//!
//! The query runs as it would by itself; its rows are written as COPY writes them, here, because no single server has them
//! all.

use std::cell::RefCell;

use plan::{Refusal, RefusalCode, StatementKind};
use sql::CopyStatement;
use wire::copy::{CopyFormat, RowWriter};

use super::learn::decode_columns;
use super::{Fault, Session};

impl Session {
    /// Runs it. The answer is complete but for ReadyForQuery.
    pub(super) async fn run_copy_query(&mut self, copy: &CopyStatement, text: &str) -> Result<(), Fault> {
        let query = copy.query.clone().and_then(|range| text.get(range));
        let query = query.ok_or_else(|| Fault::refused_as(RefusalCode::CopyQuery))?;
        let (planned, shards) = self.plan_inner(query).await?;
        let shards = shards.ok_or_else(|| Fault::refused_as(RefusalCode::CopyQuery))?;
        if planned.plan.kind != StatementKind::Select || planned.plan.writes {
            let refusal = Refusal::with(
                RefusalCode::CopyQuery,
                "a query that writes, locks or is volatile",
            );
            return Err(Fault::refused(&refusal));
        }
        if !self.plan_context().await?.utf8 {
            return Err(Fault::refused_as(RefusalCode::ClientEncoding));
        }
        let columns = planned.columns.clone();
        let Some(columns) = columns.as_deref().and_then(decode_columns) else {
            return Err(Fault::refused_as(RefusalCode::CopyQuery));
        };
        let writer = writer_of(copy, columns.len());
        let out = self.client.conn.out();
        writer.announce(out);
        if copy
            .options
            .header
            .as_deref()
            .is_some_and(|header| header != "false")
        {
            writer.names(columns.iter().map(|column| column.name), out);
        }
        let writer = RefCell::new(writer);
        self.run_copied(&planned, &shards, query, &writer).await?;
        let mut writer = writer.into_inner();
        writer.end(self.client.conn.out());
        self.complete(&format!("COPY {}", writer.rows()))
    }
}

/// The writer that the options ask for; triage has let none pass that means something else.
fn writer_of(copy: &CopyStatement, columns: usize) -> RowWriter {
    let options = &copy.options;
    let byte = |text: &Option<String>, default: u8| {
        let first = text.as_deref().and_then(|text| text.bytes().next());
        first.unwrap_or(default)
    };
    let (format, null) = match options.format.as_deref() {
        Some("binary") => (CopyFormat::Binary, ""),
        Some("csv") => {
            let quote = byte(&options.quote, b'"');
            let (delimiter, escape) = (byte(&options.delimiter, b','), byte(&options.escape, quote));
            let format = CopyFormat::Csv {
                delimiter,
                quote,
                escape,
            };
            (format, "")
        }
        _ => {
            let delimiter = byte(&options.delimiter, b'\t');
            (CopyFormat::Text { delimiter }, "\\N")
        }
    };
    let null = options.null.as_deref().unwrap_or(null);
    RowWriter::new(format, null.as_bytes().to_vec(), columns)
}
