//! Transaction control and session settings.

use super::object::option_text;
use super::types::*;
use crate::quote_literal;
use pg_raw_parse::raw::{DiscardMode, TransactionStmtKind as T, VariableSetKind as V};
use pg_raw_parse::{ConstValue, Node, list::NodeList, nodes};

pub(super) fn transaction(s: &nodes::TransactionStmt) -> Option<TransactionCommand> {
    let name = || s.savepoint_name().unwrap_or_default().to_owned();
    let gid = || s.gid().unwrap_or_default().to_owned();
    Some(match s.kind {
        T::TRANS_STMT_BEGIN => TransactionCommand::Begin(modes(s.options())?),
        T::TRANS_STMT_START => TransactionCommand::Start(modes(s.options())?),
        T::TRANS_STMT_COMMIT => TransactionCommand::Commit { chain: s.chain },
        T::TRANS_STMT_ROLLBACK => TransactionCommand::Rollback { chain: s.chain },
        T::TRANS_STMT_SAVEPOINT => TransactionCommand::Savepoint(name()),
        T::TRANS_STMT_RELEASE => TransactionCommand::Release(name()),
        T::TRANS_STMT_ROLLBACK_TO => TransactionCommand::RollbackTo(name()),
        T::TRANS_STMT_PREPARE => TransactionCommand::Prepare(gid()),
        T::TRANS_STMT_COMMIT_PREPARED => TransactionCommand::CommitPrepared(gid()),
        T::TRANS_STMT_ROLLBACK_PREPARED => TransactionCommand::RollbackPrepared(gid()),
        _ => return None,
    })
}

/// `None` when an option is not known.
fn modes(options: &NodeList) -> Option<TransactionModes> {
    let mut modes = TransactionModes::default();
    for option in options {
        let Node::DefElem(d) = option else { return None };
        let value = option_text(d.arg()).unwrap_or_default();
        match d.defname()? {
            "transaction_isolation" => modes.isolation = Some(isolation(&value)?),
            "transaction_read_only" => modes.read_only = Some(value == "1" || value == "true"),
            "transaction_deferrable" => modes.deferrable = Some(value == "1" || value == "true"),
            _ => return None,
        }
    }
    Some(modes)
}

fn isolation(value: &str) -> Option<Isolation> {
    Some(match value {
        "read uncommitted" => Isolation::ReadUncommitted,
        "read committed" => Isolation::ReadCommitted,
        "repeatable read" => Isolation::RepeatableRead,
        "serializable" => Isolation::Serializable,
        _ => return None,
    })
}

pub(super) fn set(s: &nodes::VariableSetStmt) -> Option<SettingCommand> {
    let scope = if s.is_local {
        SettingScope::Local
    } else {
        SettingScope::Session
    };
    let name = s.name().unwrap_or_default().to_ascii_lowercase();
    Some(match s.kind {
        V::VAR_SET_VALUE => set_value(s, scope, name)?,
        V::VAR_SET_DEFAULT => SettingCommand::SetDefault { scope, name },
        V::VAR_SET_CURRENT => SettingCommand::SetFromCurrent { name },
        V::VAR_RESET => SettingCommand::Reset { name },
        V::VAR_RESET_ALL => SettingCommand::ResetAll,
        V::VAR_SET_MULTI => match name.as_str() {
            "transaction" => SettingCommand::Transaction(modes(s.args())?),
            "session characteristics" => SettingCommand::SessionCharacteristics(modes(s.args())?),
            "transaction snapshot" => {
                SettingCommand::TransactionSnapshot(s.args().first().and_then(option_text)?)
            }
            _ => return None,
        },
        _ => return None,
    })
}

fn set_value(s: &nodes::VariableSetStmt, scope: SettingScope, name: String) -> Option<SettingCommand> {
    let mut values = Vec::new();
    let mut sql = Some(Vec::new());
    for arg in s.args() {
        values.push(option_text(arg)?);
        // An interval (SET TIME ZONE INTERVAL …) has no such simple form.
        match (sql.as_mut(), replayable(arg)) {
            (Some(list), Some(text)) => list.push(text),
            _ => sql = None,
        }
    }
    Some(SettingCommand::Set {
        scope,
        name,
        values,
        sql: sql.map(|l| l.join(", ")),
    })
}

fn replayable(arg: Node<'_>) -> Option<String> {
    let Node::A_Const(c) = arg else { return None };
    match c.val()? {
        ConstValue::Integer(i) => Some(i.to_string()),
        ConstValue::Float(f) => Some(f.to_owned()),
        ConstValue::String(s) => Some(quote_literal(s).trim_start().to_owned()),
        _ => None,
    }
}

pub(super) fn show(s: &nodes::VariableShowStmt) -> SettingCommand {
    SettingCommand::Show {
        name: s.name().unwrap_or_default().to_ascii_lowercase(),
    }
}

pub(super) fn discard(s: &nodes::DiscardStmt) -> Option<SettingCommand> {
    Some(SettingCommand::Discard(match s.target {
        DiscardMode::DISCARD_ALL => DiscardTarget::All,
        DiscardMode::DISCARD_PLANS => DiscardTarget::Plans,
        DiscardMode::DISCARD_SEQUENCES => DiscardTarget::Sequences,
        DiscardMode::DISCARD_TEMP => DiscardTarget::Temp,
        _ => return None,
    }))
}
