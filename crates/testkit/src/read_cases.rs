//! The table of statements that says where each has to be read: `tests/replicas`.

/// The objects the statements use.
pub const SCHEMA: &str = include_str!("../../../tests/replicas/schema.sql");

const STATEMENTS: &str = include_str!("../../../tests/replicas/statements.txt");

/// One statement of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadCase {
    /// `replica`, `follows`, or the reason why it needs the primary.
    pub place: &'static str,
    /// The statement.
    pub sql: &'static str,
    /// It can be run by itself.
    pub runs: bool,
}

/// The table, in its order.
pub fn read_cases() -> Vec<ReadCase> {
    let mut place = "";
    let mut cases = Vec::new();
    for line in STATEMENTS.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            place = section;
            continue;
        }
        let quiet = line.strip_prefix('!');
        cases.push(ReadCase {
            place,
            sql: quiet.unwrap_or(line),
            runs: quiet.is_none(),
        });
    }
    cases
}
