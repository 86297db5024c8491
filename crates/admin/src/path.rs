//! `{table}/{key}` of a request's path. It is taken apart before percent-decoding, so that names and values can contain
//! the separators.

use crate::api::{ApiError, ErrorKind, RowKey};

/// More columns than a PostgreSQL index can have.
const VALUES_MAX: usize = 33;

/// Reads what follows `/api/v1/`, still percent-encoded: `[schema.]table/value[,value…]`.
pub(crate) fn row_key(rest: &str) -> Result<RowKey, ApiError> {
    let not_found = || ApiError::new(ErrorKind::NotFound, "there is nothing at this path");
    let (table, key) = rest.split_once('/').ok_or_else(not_found)?;
    if key.contains('/') {
        return Err(not_found());
    }
    let (schema, table) = match table.split_once('.') {
        Some((schema, table)) => (Some(decode(schema)?), table),
        None => (None, table),
    };
    // `a.b.c` names a database in SQL; here there is only one.
    if table.is_empty() || table.contains('.') || schema.as_deref() == Some("") {
        return Err(not_found());
    }
    let values: Vec<String> = key
        .split(',')
        .take(VALUES_MAX)
        .map(decode)
        .collect::<Result<_, _>>()?;
    Ok(RowKey {
        schema,
        table: decode(table)?,
        values,
    })
}

/// Percent-decoding. `+` is a plus.
fn decode(text: &str) -> Result<String, ApiError> {
    let bad = |message: &str| ApiError::new(ErrorKind::BadRequest, message);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(bad(
                "a percent sign in the path is not followed by two hexadecimal digits",
            ));
        };
        bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
    }
    let text = String::from_utf8(bytes).map_err(|_| bad("the path is not valid UTF-8"))?;
    if text.contains('\0') {
        return Err(bad("the path contains a zero byte"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rest: &str, expect: Result<(Option<&str>, &str, &[&str]), ErrorKind>) {
        let found = row_key(rest);
        let found = found.as_ref().map_err(|error| error.kind).map(|key| {
            let values: Vec<&str> = key.values.iter().map(String::as_str).collect();
            (key.schema.as_deref(), key.table.as_str(), values)
        });
        let expect = expect.map(|(schema, table, values)| (schema, table, values.to_vec()));
        assert_eq!(found, expect, "{rest}");
    }

    #[test]
    fn paths() {
        check("users/42", Ok((None, "users", &["42"])));
        check(
            "sales.orders/7,2024-01-01",
            Ok((Some("sales"), "orders", &["7", "2024-01-01"])),
        );
        check("t/", Ok((None, "t", &[""])));
        check("t/,", Ok((None, "t", &["", ""])));
        check("t/a%2Cb%2fc,d+e%20f", Ok((None, "t", &["a,b/c", "d+e f"])));
        check("My%20Table%2Ev2/%C3%A9", Ok((None, "My Table.v2", &["é"])));
        check("directory/resolve", Ok((None, "directory", &["resolve"])));
        check("t/%22%27%3B--", Ok((None, "t", &["\"';--"])));
        for nothing in ["", "users", "users/1/2", "a.b.c/1", ".t/1", "t./1", "/1"] {
            check(nothing, Err(ErrorKind::NotFound));
        }
        for bad in ["t/%", "t/%4", "t/%zz", "t/%ff", "t/%00", "%00/1", "t/%+1"] {
            check(bad, Err(ErrorKind::BadRequest));
        }
    }

    #[test]
    fn the_number_of_values_is_bounded() {
        let many = row_key(&format!("t/{}", ",".repeat(100_000))).expect("a path");
        assert_eq!(many.values.len(), VALUES_MAX);
    }
}
