//! Kind and details of one statement.

use super::statement_node::StatementNode;
use super::types::*;
use super::{ddl, dml, names, object, session, text};
use pg_raw_parse::{Node, nodes};
use std::ops::Range;

pub(super) fn statement(sql: &str, raw: &nodes::RawStmt) -> Result<RawStatement, ParseFailure> {
    let start = usize::try_from(raw.stmt_location).unwrap_or(0);
    let end = match usize::try_from(raw.stmt_len) {
        Ok(len) if len > 0 => start + len,
        _ => sql.len(),
    };
    let range = trim(sql, start..end).ok_or(ParseFailure::Unsupported("statement range"))?;
    described(sql, range, raw.stmt())
}

/// Describes the statement `node` which takes `range` of the text.
pub(super) fn described(
    sql: &str,
    range: Range<usize>,
    node: Node<'_>,
) -> Result<RawStatement, ParseFailure> {
    let names = names::collect(node)?;
    let statement = StatementNode::of(node).ok_or(ParseFailure::Unsupported("unknown statement"))?;
    let kind = kind(node);
    let detail = detail(sql, range.clone(), node)?;
    Ok(RawStatement {
        range,
        node: statement,
        kind,
        names,
        detail,
    })
}

/// Without leading white space and comments, and without trailing white space.
fn trim(sql: &str, range: Range<usize>) -> Option<Range<usize>> {
    let part = sql.get(range.clone())?;
    let first = crate::scan::Scanner::new(part, true).next_token().ok()??.start;
    let end = part.trim_ascii_end().len().max(first);
    Some(range.start + first..range.start + end)
}

pub(super) fn kind(node: Node<'_>) -> StatementKind {
    use StatementKind as K;
    match node {
        Node::SelectStmt(_) => K::Select,
        Node::InsertStmt(_) => K::Insert,
        Node::UpdateStmt(_) => K::Update,
        Node::DeleteStmt(_) => K::Delete,
        Node::MergeStmt(_) => K::Merge,
        Node::CopyStmt(_) => K::Copy,
        Node::TransactionStmt(_) => K::Transaction,
        Node::VariableSetStmt(_) => K::Set,
        Node::VariableShowStmt(_) => K::Show,
        Node::DiscardStmt(_) => K::Discard,
        Node::ConstraintsSetStmt(_) => K::SetConstraints,
        Node::ExplainStmt(_) => K::Explain,
        Node::PrepareStmt(_) => K::Prepare,
        Node::ExecuteStmt(_) => K::Execute,
        Node::DeallocateStmt(_) => K::Deallocate,
        Node::DeclareCursorStmt(_) => K::DeclareCursor,
        Node::FetchStmt(_) => K::Fetch,
        Node::ClosePortalStmt(_) => K::CloseCursor,
        Node::ListenStmt(_) => K::Listen,
        Node::NotifyStmt(_) => K::Notify,
        Node::UnlistenStmt(_) => K::Unlisten,
        Node::LockStmt(_) => K::Lock,
        Node::TruncateStmt(_) => K::Truncate,
        Node::VacuumStmt(s) if s.is_vacuumcmd => K::Vacuum,
        Node::VacuumStmt(_) => K::Analyze,
        Node::ClusterStmt(_) => K::Cluster,
        Node::ReindexStmt(_) => K::Reindex,
        Node::DoStmt(_) => K::Do,
        Node::CallStmt(_) => K::Call,
        other => ddl_kind(other),
    }
}

fn ddl_kind(node: Node<'_>) -> StatementKind {
    use StatementKind as K;
    match node {
        Node::CreateStmt(_) => K::CreateTable,
        Node::CreateTableAsStmt(_) => K::CreateTableAs,
        Node::RefreshMatViewStmt(_) => K::RefreshMaterializedView,
        Node::AlterTableStmt(_) => K::AlterTable,
        Node::DropStmt(s) => K::Drop(object::kind(s.remove_type)),
        Node::IndexStmt(_) => K::Index,
        Node::ViewStmt(_) => K::View,
        Node::CreateFunctionStmt(_) | Node::AlterFunctionStmt(_) => K::Function,
        Node::CreateTrigStmt(_) => K::Trigger,
        Node::RuleStmt(_) => K::Rule,
        Node::CompositeTypeStmt(_)
        | Node::CreateEnumStmt(_)
        | Node::CreateRangeStmt(_)
        | Node::AlterEnumStmt(_)
        | Node::AlterTypeStmt(_)
        | Node::CreateDomainStmt(_)
        | Node::AlterDomainStmt(_) => K::Type,
        Node::CreateSchemaStmt(_) => K::Schema,
        Node::CreateExtensionStmt(_) | Node::AlterExtensionStmt(_) | Node::AlterExtensionContentsStmt(_) => {
            K::Extension
        }
        Node::CreateRoleStmt(_)
        | Node::AlterRoleStmt(_)
        | Node::AlterRoleSetStmt(_)
        | Node::DropRoleStmt(_)
        | Node::DropOwnedStmt(_)
        | Node::ReassignOwnedStmt(_) => K::Role,
        Node::GrantStmt(_) | Node::GrantRoleStmt(_) | Node::AlterDefaultPrivilegesStmt(_) => K::Grant,
        Node::CommentStmt(_) | Node::SecLabelStmt(_) => K::Comment,
        Node::CreateSeqStmt(_) | Node::AlterSeqStmt(_) => K::Sequence,
        Node::RenameStmt(_) => K::Rename,
        Node::AlterObjectSchemaStmt(_) => K::SetSchema,
        Node::AlterOwnerStmt(_) => K::Owner,
        Node::CreatePolicyStmt(_) | Node::AlterPolicyStmt(_) => K::Policy,
        other => rare_kind(other),
    }
}

fn rare_kind(node: Node<'_>) -> StatementKind {
    use StatementKind as K;
    match node {
        Node::CreatedbStmt(_)
        | Node::DropdbStmt(_)
        | Node::AlterDatabaseStmt(_)
        | Node::AlterDatabaseSetStmt(_)
        | Node::AlterDatabaseRefreshCollStmt(_)
        | Node::CreateTableSpaceStmt(_)
        | Node::DropTableSpaceStmt(_)
        | Node::AlterTableSpaceOptionsStmt(_)
        | Node::AlterSystemStmt(_)
        | Node::CheckPointStmt(_) => K::Server,
        other => K::OtherUtility(StatementNode::of(other).map_or("other", StatementNode::name)),
    }
}

fn detail(sql: &str, range: Range<usize>, node: Node<'_>) -> Result<Detail, ParseFailure> {
    let unreadable = ParseFailure::Unsupported("statement with an option that is not known");
    Ok(match node {
        Node::SelectStmt(s) => match dml::drover_select(s) {
            Some(call) => Detail::Drover(call),
            None => ddl::detail(sql, range, node),
        },
        Node::CallStmt(s) => dml::drover_call(s).map_or(Detail::None, Detail::Drover),
        Node::InsertStmt(s) => Detail::Insert(Box::new(dml::insert(sql, range, s))),
        Node::CopyStmt(s) => Detail::Copy(Box::new(dml::copy(sql, range, s))),
        Node::TransactionStmt(s) => Detail::Transaction(session::transaction(s).ok_or(unreadable)?),
        Node::VariableSetStmt(s) => Detail::Setting(session::set(s).ok_or(unreadable)?),
        Node::VariableShowStmt(s) => Detail::Setting(session::show(s)),
        Node::DiscardStmt(s) => Detail::Setting(session::discard(s).ok_or(unreadable)?),
        Node::ExplainStmt(s) => Detail::Explain(Box::new(dml::explain(sql, range, s)?)),
        Node::PrepareStmt(s) => Detail::Prepare {
            name: s.name().unwrap_or_default().to_owned(),
            inner: text::prepared(sql, range).ok_or(ParseFailure::Unsupported("PREPARE"))?,
            inner_kind: kind(s.query()),
        },
        Node::ExecuteStmt(s) => Detail::Execute {
            name: s.name().unwrap_or_default().to_owned(),
        },
        Node::DeallocateStmt(s) => Detail::Deallocate {
            name: s.name().map(str::to_owned),
        },
        Node::DeclareCursorStmt(s) => Detail::Cursor(dml::declare(sql, range, s)?),
        Node::FetchStmt(s) => Detail::Cursor(Cursor::Fetch {
            name: s.portalname().unwrap_or_default().to_owned(),
            is_move: s.ismove,
        }),
        Node::ClosePortalStmt(s) => Detail::Cursor(Cursor::Close {
            name: s.portalname().map(str::to_owned),
        }),
        Node::ListenStmt(s) => Detail::Channel {
            name: s.conditionname().map(str::to_owned),
        },
        Node::NotifyStmt(s) => Detail::Channel {
            name: s.conditionname().map(str::to_owned),
        },
        Node::UnlistenStmt(s) => Detail::Channel {
            name: s.conditionname().map(str::to_owned),
        },
        other => ddl::detail(sql, range, other),
    })
}
