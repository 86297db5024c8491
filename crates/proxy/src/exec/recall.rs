//! Statements recognised without scanning their text.
//!
//! Most texts a worker sees differ from one it has seen only in the digits of some numbers. The last text of each kind
//! is kept with the places of its literals; a text that agrees with it everywhere else, and has digits where it has
//! digits, has the same tokens, hence the same normalised form. That is found out by comparing bytes, which costs a
//! twentieth of scanning.
//!
//! Only unsigned integer literals of at most nine digits take part: their number of digits changes neither the kind of
//! the token nor its type. What precedes and follows a run of digits is compared, so the run is a token in both texts.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use sql::{Literal, LiteralKind};

use super::statement::Statement;

/// Kinds of texts remembered per plan context.
const SLOTS: usize = 256;

/// Longer texts are not remembered.
const TEXT_BYTES_MAX: usize = 1024;

/// A number of this many digits is always of type integer.
const DIGITS_MAX: usize = 9;

/// A text gives way to another kind of the same slot after so many misses in a row.
const MISSES_MAX: u8 = 16;

/// Bytes at the front that tell the kinds apart.
const PREFIX: usize = 24;

/// The texts of one plan context.
#[derive(Default)]
pub struct Recall {
    /// Made at the first use.
    slots: RefCell<Vec<Option<Seen>>>,
}

struct Seen {
    text: Box<[u8]>,
    literals: Box<[Literal]>,
    statement: Rc<Statement>,
    misses: Cell<u8>,
}

impl Recall {
    /// The statement of a text like `text`, whose literals are then in `literals`. Such a text is valid UTF-8.
    pub fn find(&self, text: &[u8], literals: &mut Vec<Literal>) -> Option<Rc<Statement>> {
        let slots = self.slots.borrow();
        let seen = slots.get(slot_of(text))?.as_ref()?;
        if seen.agrees(text, literals) {
            seen.misses.set(0);
            return Some(Rc::clone(&seen.statement));
        }
        seen.misses.set(seen.misses.get().saturating_add(1));
        None
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.slots.take();
    }

    /// Remembers a text that was looked up the long way.
    pub fn keep(&self, text: &str, literals: &[Literal], statement: &Rc<Statement>) {
        let plain = |literal: &Literal| {
            let digits = literal.slice(text);
            literal.kind == LiteralKind::Int4
                && (1..=DIGITS_MAX).contains(&digits.len())
                && digits.bytes().all(|byte| byte.is_ascii_digit())
        };
        if text.len() > TEXT_BYTES_MAX || !literals.iter().all(plain) {
            return;
        }
        let mut slots = self.slots.borrow_mut();
        if slots.is_empty() {
            slots.resize_with(SLOTS, || None);
        }
        let slot = &mut slots[slot_of(text.as_bytes())];
        if slot.as_ref().is_some_and(|seen| seen.misses.get() < MISSES_MAX) {
            return;
        }
        *slot = Some(Seen {
            text: text.as_bytes().into(),
            literals: literals.into(),
            statement: Rc::clone(statement),
            misses: Cell::new(0),
        });
    }
}

impl Seen {
    fn agrees(&self, text: &[u8], literals: &mut Vec<Literal>) -> bool {
        literals.clear();
        let (mut at, mut from) = (0, 0);
        for literal in &self.literals {
            let start = literal.start as usize;
            let Some(rest) = text[at..].strip_prefix(&self.text[from..start]) else {
                return false;
            };
            let digits = rest
                .iter()
                .take(DIGITS_MAX + 1)
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            if !(1..=DIGITS_MAX).contains(&digits) {
                return false;
            }
            at = text.len() - rest.len();
            literals.push(Literal {
                // A text that agrees is hardly longer than the one kept.
                start: at as u32,
                len: digits as u32,
                kind: LiteralKind::Int4,
            });
            at += digits;
            from = start + literal.len as usize;
        }
        text[at..] == self.text[from..]
    }
}

fn slot_of(text: &[u8]) -> usize {
    let word = |at: usize| {
        text.get(at..at + 8)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u64::from_le_bytes)
    };
    let mut hash = 0_u64;
    for at in (0..PREFIX).step_by(8) {
        hash = (hash.rotate_left(5) ^ word(at)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    (hash >> 56) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use sql::NormalisedBuf;

    use super::*;
    use crate::exec::statement::Action;
    use crate::server::StatementId;
    use crate::session::effects::Effects;

    fn statement() -> Rc<Statement> {
        Rc::new(Statement {
            id: StatementId(1),
            action: Action::Home,
            effects: Effects::default(),
            configs: Default::default(),
            reading: Default::default(),
            digest: Default::default(),
            kind: sql::StatementKind::Select,
        })
    }

    /// What is recalled must be what scanning finds: the same key, the same literals.
    fn check(kept: &str, asked: &str, expect: bool) {
        let (mut first, mut second) = (NormalisedBuf::default(), NormalisedBuf::default());
        assert!(sql::normalise(kept, &mut first, true), "{kept}");
        let recall = Recall::default();
        recall.keep(kept, &first.literals, &statement());
        let mut literals = Vec::new();
        let found = recall.find(asked.as_bytes(), &mut literals).is_some();
        assert_eq!(found, expect, "{kept} / {asked}");
        if found {
            assert!(sql::normalise(asked, &mut second, true), "{asked}");
            assert_eq!((first.key, &second.literals), (second.key, &literals), "{asked}");
        }
    }

    #[test]
    fn texts_that_differ_in_numbers_are_recalled() {
        check(
            "SELECT a FROM t WHERE b = 5",
            "SELECT a FROM t WHERE b = 123456789",
            true,
        );
        check(
            "SELECT a FROM t WHERE b = 5 AND c=66;",
            "SELECT a FROM t WHERE b = 77 AND c=8;",
            true,
        );
        check(
            "SELECT a FROM t WHERE b = $1",
            "SELECT a FROM t WHERE b = $1",
            true,
        );
        check(
            "SELECT a1 FROM t WHERE b IN (1, 2)",
            "SELECT a1 FROM t WHERE b IN (007, 0)",
            true,
        );
    }

    #[test]
    fn texts_that_differ_otherwise_are_not() {
        for (kept, asked) in [
            (
                "SELECT a FROM t WHERE b = 5",
                "SELECT a FROM t WHERE b = 1234567890",
            ),
            ("SELECT a FROM t WHERE b = 5", "SELECT a FROM t WHERE b = 5.0"),
            ("SELECT a FROM t WHERE b = 5", "SELECT a FROM t WHERE b = 5e1"),
            ("SELECT a FROM t WHERE b = 5", "SELECT a FROM t WHERE b = 0x5"),
            ("SELECT a FROM t WHERE b = 5", "SELECT a FROM t WHERE b = -5"),
            ("SELECT a FROM t WHERE b = 5", "SELECT a FROM t WHERE b = "),
            ("SELECT a FROM t WHERE b = 5 ", "SELECT a FROM t WHERE b = 5"),
            ("SELECT a FROM t WHERE b = 5", "SELECT a FROM t WHERE c = 5"),
            ("SELECT a1 FROM t WHERE b = 5", "SELECT a2 FROM t WHERE b = 5"),
            (
                "SELECT a FROM t WHERE b = 5 LIMIT 1",
                "SELECT a FROM t WHERE b = 5 LIMIT 2",
            ),
            ("SELECT a FROM t WHERE b = $1", "SELECT a FROM t WHERE b = $2"),
        ] {
            check(kept, asked, false);
        }
    }

    #[test]
    fn literals_of_other_kinds_are_not_kept() {
        for text in [
            "SELECT 1 WHERE b = 'x'",
            "SELECT a FROM t WHERE b = 99999999999",
            "SELECT a FROM t WHERE b = 1.5",
        ] {
            check(text, text, false);
        }
    }

    #[test]
    fn a_kind_of_text_that_is_no_longer_used_gives_way() {
        let recall = Recall::default();
        let (old, new) = (
            "SELECT aaaaaaaaaaaaaaaaaaaaaa, b",
            "SELECT aaaaaaaaaaaaaaaaaaaaaa, c",
        );
        recall.keep(old, &[], &statement());
        for _ in 0..MISSES_MAX {
            assert!(recall.find(new.as_bytes(), &mut Vec::new()).is_none());
            recall.keep(new, &[], &statement());
        }
        assert!(recall.find(new.as_bytes(), &mut Vec::new()).is_some());
    }
}
