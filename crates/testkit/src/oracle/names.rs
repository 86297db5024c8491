//! Names of shards in case files, which run on clusters of any size.

use crate::client::{Client, ClientError};

/// What stands before the number of a shard.
const OPEN: &str = "{shard:";

/// The statement with `{shard:N}` replaced by the name of the N-th shard, from 1; beyond the last it begins again.
pub(super) fn fill(client: &mut Client, sql: &str) -> Result<String, ClientError> {
    if !sql.contains(OPEN) {
        return Ok(sql.to_string());
    }
    let answer = client.simple("SELECT * FROM drover.shards")?;
    let names = answer.text_rows();
    let names: Vec<&str> = names.iter().filter_map(|row| row.first()?.as_deref()).collect();
    Ok(filled(sql, &names))
}

fn filled(sql: &str, names: &[&str]) -> String {
    let mut out = String::new();
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once(OPEN) {
        out.push_str(before);
        let (number, tail) = after.split_once('}').unwrap_or((after, ""));
        let number: usize = number.trim().parse().unwrap_or(1);
        out.push_str(
            names
                .get(number.saturating_sub(1) % names.len().max(1))
                .unwrap_or(&""),
        );
        rest = tail;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_begin_again() {
        let fill = |sql| super::filled(sql, &["a", "b"]);
        assert_eq!(fill("x {shard:1}, {shard:2}; {shard:3}"), "x a, b; a");
        assert_eq!(fill("nothing"), "nothing");
    }
}
