//! Clients whose encoding is not UTF-8.
//!
//! Servers convert what such a client sends and what it gets, and nothing here does. A letter beyond ASCII is other bytes on
//! its way than in a table, so it can neither be hashed nor compared here: `Ã©` in LATIN1 has the bytes of `é`, whose shard is
//! another one. What depends on such letters is refused: constants of sharded tables, parameters that are, or may become,
//! keys of text, and the merging of rows ordered by text.

use catalog::KeyFamily;
use plan::{Many, RefusalCode, SortKey};

use super::{Fault, Session};
use crate::exec::statement::{Action, Key, ParamValue, Planned, Statement};

/// Types that are compared by the bytes of their letters: "char", name, text, bpchar and varchar.
const LETTERS: [u32; 5] = [18, 19, 25, 1042, 1043];

impl Session {
    /// Refuses a text with letters beyond ASCII whose place is decided here.
    pub(super) async fn check_letters(&mut self, statement: &Statement, text: &str) -> Result<(), Fault> {
        if text.is_ascii() || !matches!(statement.action, Action::Planned(_)) {
            return Ok(());
        }
        match self.plan_context().await?.utf8 {
            true => Ok(()),
            false => Err(refused()),
        }
    }

    /// Refuses to merge rows by the order of letters: it is looked for in the bytes that servers send.
    pub(super) async fn check_order(&mut self, keys: &[SortKey]) -> Result<(), Fault> {
        if keys.iter().all(|key| !LETTERS.contains(&key.type_oid)) {
            return Ok(());
        }
        match self.plan_context().await?.utf8 {
            true => Ok(()),
            false => Err(refused()),
        }
    }
}

/// Refuses parameters beyond ASCII where a key may be made of letters.
pub(super) fn check_params<'a>(
    planned: &Planned,
    count: usize,
    param: impl Fn(usize) -> Option<ParamValue<'a>>,
) -> Result<(), Fault> {
    let beyond_ascii = |index: usize| {
        let value = param(index).and_then(|param| param.value);
        value.is_some_and(|bytes| !bytes.is_ascii())
    };
    if has_keys_of_letters(planned) && (0..count).any(beyond_ascii) {
        return Err(refused());
    }
    Ok(())
}

/// Whether some key is text, or will be known only when the home shard has computed it.
fn has_keys_of_letters(planned: &Planned) -> bool {
    let is_letters =
        |family: KeyFamily| matches!(family, KeyFamily::Text | KeyFamily::Bpchar | KeyFamily::Enum);
    let of_letters = |key: &Key| match key {
        // Compared when the plan was made, for a text without such letters.
        Key::Const(_) => false,
        Key::Literal { key_type, .. }
        | Key::Param { key_type, .. }
        | Key::Element { key_type, .. }
        | Key::ParamArray { key_type, .. } => is_letters(key_type.family()),
        // Its columns are asked.
        Key::Product { .. } | Key::SubKeys { .. } => false,
    };
    let known = planned.keys.iter().any(|key| key.any(&of_letters));
    let split = match &planned.plan.many {
        Many::SplitInsert(split) => split.rows.iter().any(|row| {
            let mut types = row.key.column_types().into_iter();
            types.any(|key_type| is_letters(key_type.family()))
        }),
        _ => false,
    };
    known || split || planned.keys_are_computed()
}

fn refused() -> Fault {
    Fault::refused_as(RefusalCode::ClientEncoding)
}
