//! Columns whose defaults draw from a sequence of the home shard: the values are fetched there and appended to the rows,
//! because every shard has a sequence of its own that nobody looks at.

use plan::CopyPlan;
use sql::scan::{Scanner, TokenKind};
use wire::copy::{CopyFormat, CopyOptions};

use crate::exec::link;
use crate::pools::Lease;
use crate::session::Fault;

/// Values fetched at first.
const BLOCK_FIRST: u32 = 32;

/// Values fetched at once when there are many rows.
const BLOCK_MAX: u32 = 4096;

/// A sequence that this very transaction holds locked would be waited for without end.
const LOCK_TIMEOUT: &str = "5s";

/// A source of values.
pub(super) struct HomeValues {
    lease: Lease,
    expressions: String,
    options: CopyOptions,
    block: u32,
}

impl HomeValues {
    /// Draws from a home connection of its own: sequences belong to no transaction, and the session's home connection is
    /// busy with the COPY.
    pub(super) fn new(lease: Lease, plan: &CopyPlan, options: &CopyOptions) -> Self {
        let each = plan
            .home_defaults
            .iter()
            .map(|(_, default)| format!("({default})::pg_catalog.text"));
        let expressions = each.collect::<Vec<_>>().join(", ");
        Self {
            lease,
            expressions,
            options: options.clone(),
            block: BLOCK_FIRST,
        }
    }

    /// The next block, as what is to be appended to each row.
    pub(super) async fn fetch(&mut self) -> Result<Vec<Vec<u8>>, Fault> {
        let question = format!(
            "SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; SELECT {} FROM pg_catalog.generate_series(1, {})",
            self.expressions, self.block
        );
        self.block = (self.block * 2).min(BLOCK_MAX);
        let reply = link::query(&mut self.lease, &question)
            .await
            .map_err(|error| Fault::lost(&error, "the home shard"))?;
        let rows = reply.into_rows().map_err(|mut error| {
            error.position = None;
            Fault::Statement(error)
        })?;
        Ok(rows.iter().map(|row| appendix(&self.options, row)).collect())
    }

    /// Gives the connection back.
    pub(super) fn release(self) {
        self.lease.release();
    }
}

/// A row's further fields, each with the delimiter before it.
fn appendix(options: &CopyOptions, row: &[Option<String>]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in row {
        match options.format {
            CopyFormat::Text { delimiter } => {
                out.push(delimiter);
                match value {
                    None => out.extend_from_slice(&options.null),
                    Some(value) => escape(value.as_bytes(), &mut out),
                }
            }
            CopyFormat::Csv {
                delimiter,
                quote,
                escape,
            } => {
                out.push(delimiter);
                match value {
                    None => out.extend_from_slice(&options.null),
                    Some(value) => quoted(value.as_bytes(), quote, escape, &mut out),
                }
            }
            CopyFormat::Binary => {}
        }
    }
    out
}

/// Every byte that could mean something in text format as octal digits, and the first one, so that the text that
/// stands for NULL is not met. (Lower case letters and digits are no delimiters.)
fn escape(value: &[u8], out: &mut Vec<u8>) {
    for (at, byte) in value.iter().enumerate() {
        if !byte.is_ascii() || (at > 0 && (byte.is_ascii_lowercase() || byte.is_ascii_digit())) {
            out.push(*byte);
        } else {
            out.extend_from_slice(format!("\\{byte:03o}").as_bytes());
        }
    }
}

fn quoted(value: &[u8], quote: u8, escape: u8, out: &mut Vec<u8>) {
    out.push(quote);
    for byte in value {
        if *byte == quote || *byte == escape {
            out.push(escape);
        }
        out.push(*byte);
    }
    out.push(quote);
}

/// What a header line gets appended.
pub(super) fn header_end(options: &CopyOptions, plan: &CopyPlan) -> Vec<u8> {
    let names: Vec<_> = plan
        .home_defaults
        .iter()
        .map(|(name, _)| Some(name.clone()))
        .collect();
    appendix(options, &names)
}

/// The client's COPY with the columns listed in full; `None` when the text cannot be read.
pub(super) fn with_columns(text: &str, plan: &CopyPlan, conforming_strings: bool) -> Option<String> {
    let mut scanner = Scanner::new(text, conforming_strings);
    let mut depth = 0usize;
    while let Some(token) = scanner.next_token().ok()? {
        match token.kind {
            TokenKind::Punct(b'(') => depth += 1,
            TokenKind::Punct(b')') => depth = depth.checked_sub(1)?,
            TokenKind::Ident if depth == 0 && text[token.start..token.end].eq_ignore_ascii_case("from") => {
                let names = plan
                    .columns
                    .iter()
                    .chain(plan.home_defaults.iter().map(|(name, _)| name));
                let names: Vec<String> = names.map(|name| sql::quote_ident(name)).collect();
                let table = sql::QualifiedName::qualified(plan.schema.clone(), plan.table.clone());
                return Some(format!(
                    "COPY {table} ({}) {}",
                    names.join(", "),
                    &text[token.start..]
                ));
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> CopyPlan {
        CopyPlan {
            statement: sql::CopyStatement {
                table: Some(sql::QualifiedName::bare("t")),
                columns: Vec::new(),
                query: None,
                from: true,
                endpoint: sql::CopyEndpoint::Client,
                options: sql::CopyOptions::default(),
                has_where: false,
            },
            schema: "s".into(),
            table: "from".into(),
            from: true,
            place: plan::CopyPlace::Reference,
            columns: vec!["a\"b".into()],
            home_defaults: vec![("id".into(), "nextval('s'::regclass)".into())],
        }
    }

    #[test]
    fn the_column_list_is_extended() {
        let check = |text: &str, tail: &str| {
            let expect = format!("COPY \"s\".\"from\" (\"a\"\"b\", \"id\") {tail}");
            assert_eq!(with_columns(text, &plan(), true), Some(expect));
        };
        check("COPY \"from\" FROM STDIN", "FROM STDIN");
        check(
            "copy /* from */ s.\"from\" (\"a\"\"b\") from stdin (null 'x')",
            "from stdin (null 'x')",
        );
        assert_eq!(with_columns("COPY t", &plan(), true), None);
    }

    #[test]
    fn appended_values_read_back() {
        let value = "a,b\t\"c\\\n.é".to_owned();
        for options in [CopyOptions::text(15), CopyOptions::csv(15)] {
            let mut row = b"x".to_vec();
            row.extend_from_slice(&appendix(&options, &[Some(value.clone()), None]));
            let field = |index| {
                wire::copy::field(&options, wire::copy::FieldRules::default(), &row, index)
                    .unwrap()
                    .unwrap()
            };
            assert_eq!(field(1), wire::copy::Field::Value(value.as_bytes().into()));
            assert_eq!(field(2), wire::copy::Field::Null);
        }
    }
}
