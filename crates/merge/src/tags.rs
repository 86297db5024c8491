//! The command tag of a statement that ran on several shards.

use wire::CommandTag;

/// Why tags cannot be added up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// There was none.
    #[error("no command tag to add up")]
    Empty,
    /// A tag that cannot be read.
    #[error("unreadable command tag")]
    Unreadable,
    /// Shards report different commands for one statement.
    #[error("shards answered with different command tags: {0} and {1}")]
    Different(String, String),
    /// The sum does not fit 64 bits.
    #[error("row count overflows")]
    Overflow,
}

/// One tag for the tags of all shards: same verb, counts added. A tag without a count (`CREATE TABLE`) must be
/// the same everywhere.
pub fn sum<'a>(tags: impl IntoIterator<Item = &'a [u8]>) -> Result<String, TagError> {
    let mut total: Option<CommandTag<'a>> = None;
    for tag in tags {
        let tag = CommandTag::parse(tag).ok_or(TagError::Unreadable)?;
        let Some(so_far) = total else {
            total = Some(tag);
            continue;
        };
        let different = || TagError::Different(so_far.to_string(), tag.to_string());
        if so_far.verb != tag.verb {
            return Err(different());
        }
        let rows = match (so_far.rows, tag.rows) {
            (None, None) => None,
            (Some(a), Some(b)) => Some(a.checked_add(b).ok_or(TagError::Overflow)?),
            _ => return Err(different()),
        };
        total = Some(CommandTag { rows, ..so_far });
    }
    total.map(|tag| tag.to_string()).ok_or(TagError::Empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_counts_of_equal_verbs() {
        let check = |tags: &[&str], expect: Result<&str, TagError>| {
            let sum = sum(tags.iter().map(|t| t.as_bytes()));
            assert_eq!(sum, expect.map(str::to_owned), "{tags:?}");
        };
        check(&["INSERT 0 5", "INSERT 0 7"], Ok("INSERT 0 12"));
        check(&["UPDATE 0"], Ok("UPDATE 0"));
        check(&["CREATE TABLE", "CREATE TABLE"], Ok("CREATE TABLE"));
        check(
            &["SELECT 1", "COPY 1"],
            Err(TagError::Different("SELECT 1".into(), "COPY 1".into())),
        );
        check(
            &["BEGIN", "BEGIN 1"],
            Err(TagError::Different("BEGIN".into(), "BEGIN 1".into())),
        );
        check(&["COPY 18446744073709551615", "COPY 1"], Err(TagError::Overflow));
        check(&[], Err(TagError::Empty));
        check(&[""], Err(TagError::Unreadable));
    }
}
