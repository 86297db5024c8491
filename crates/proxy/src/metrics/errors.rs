//! Errors by SQLSTATE, with a bounded number of series: codes worth a series of their own, the others by class.

use std::fmt::Write as _;

use super::Counter;
use super::families::{Family, sum};

/// The five characters of a SQLSTATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// The code of an error; `XX000` for what is no code.
    #[must_use]
    pub fn of(code: &[u8]) -> Self {
        let plain = |bytes: &[u8; 5]| {
            bytes
                .iter()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        };
        match <&[u8; 5]>::try_from(code) {
            Ok(bytes) if plain(bytes) => Self(*bytes),
            _ => Self(*b"XX000"),
        }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Letters and digits only.
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

/// Codes with a series of their own, ascending.
const CODES: [&str; 62] = [
    "08000", "08003", "08006", "08007", "08P01", "0A000", "21000", "22001", "22003", "22007", "22008",
    "22012", "22021", "22023", "22P02", "22P03", "23001", "23502", "23503", "23505", "23514", "23P01",
    "25001", "25006", "25P01", "25P02", "25P03", "26000", "28000", "28P01", "2BP01", "34000", "3D000",
    "40001", "40003", "40P01", "42501", "42601", "42622", "42701", "42702", "42703", "42704", "42710",
    "42804", "42883", "42P01", "42P02", "42P03", "42P05", "42P07", "42P18", "53000", "53100", "53200",
    "53300", "55000", "55006", "55P03", "57014", "57P01", "57P03",
];

/// Classes of the other codes, ascending.
const CLASSES: [&str; 43] = [
    "00", "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "20", "21", "22", "23", "24",
    "25", "26", "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42", "44", "53",
    "54", "55", "57", "58", "72", "F0", "HV", "P0", "XX",
];

const CELLS: usize = CODES.len() + CLASSES.len() + 1;

/// Errors sent to clients, by SQLSTATE.
#[derive(Debug)]
pub struct ErrorCounts {
    cells: Box<[Counter; CELLS]>,
}

impl Default for ErrorCounts {
    fn default() -> Self {
        Self {
            cells: Box::new(std::array::from_fn(|_| Counter::default())),
        }
    }
}

impl ErrorCounts {
    /// Adds one error. Only the owning worker may call this.
    pub fn count(&self, state: SqlState) {
        if let Some(cell) = self.cells.get(cell_of(state)) {
            cell.increment();
        }
    }
}

fn cell_of(state: SqlState) -> usize {
    let code = state.as_str();
    if let Ok(at) = CODES.binary_search(&code) {
        return at;
    }
    match CLASSES.binary_search(&&code[..2]) {
        Ok(at) => CODES.len() + at,
        Err(_) => CELLS - 1,
    }
}

impl Family for ErrorCounts {
    fn expose(workers: &[&Self], name: &str, out: &mut String) {
        for index in 0..CELLS {
            let sum = sum(workers.iter().map(|worker| &worker.cells[index]));
            if sum == 0 {
                continue;
            }
            let label = match (CODES.get(index), CLASSES.get(index.wrapping_sub(CODES.len()))) {
                (Some(code), _) => (*code).to_owned(),
                (None, Some(class)) => format!("{class}xxx"),
                (None, None) => "other".to_owned(),
            };
            let _ = writeln!(out, "{name}{{sqlstate=\"{label}\"}} {sum}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_series() {
        assert!(CODES.is_sorted() && CLASSES.is_sorted());
        let counts = ErrorCounts::default();
        for code in ["23505", "23999", "QQ123", "garbage", "XX000", "2350é"] {
            counts.count(SqlState::of(code.as_bytes()));
        }
        let mut text = String::new();
        ErrorCounts::expose(&[&counts, &counts], "e", &mut text);
        assert_eq!(
            text,
            "e{sqlstate=\"23505\"} 2\ne{sqlstate=\"23xxx\"} 2\ne{sqlstate=\"XXxxx\"} 6\ne{sqlstate=\"other\"} 2\n"
        );
    }
}
