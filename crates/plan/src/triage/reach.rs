//! Where a statement runs, by its node in PostgreSQL's grammar.
//!
//! Every kind of statement has a rule here; there is no "other", so a statement that PostgreSQL learns cannot run on the
//! home shard alone because nobody thought of it. The principles:
//!
//! * **Shards have the same schema.** What any table may come to depend on (schemas, types, functions, operators, roles,
//!   privileges, …) is made, changed and dropped on every shard in one transaction, also while nothing is sharded yet.
//! * **Some objects exist on the home shard only**, because they refer to unsharded tables, or were there before the
//!   other shards. A statement about such an object runs at home; elsewhere the server's answer that it does not know
//!   the object is the end of it ([`DdlPlace::OthersIfPossible`]). Any other error there fails the statement everywhere.
//! * **What belongs to a relation** (indexes, triggers, policies, statistics, rules, comments) is where the relation is.
//! * **What is about one server** (its files, its settings, its replication) stays at home or is refused.

use sql::{Detail, RawStatement, StatementNode};

use super::resolve::Resolver;
use super::{Decision, alter, create, drops, objects, optimizable, servers, utility};
use crate::triage_types::{DdlPlace, DdlPlan};
use crate::{Refusal, RefusalCode, Triage};

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident: $($node:ident)*;)*) => {
        /// How the place of a statement is found.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Rule {
            $($(#[$doc])* $rule,)*
        }

        fn rule(node: StatementNode) -> Rule {
            match node {
                $($(StatementNode::$node)|* => Rule::$rule,)*
            }
        }
    };
}

rules! {
    /// The planner's business.
    Optimizable: SelectStmt InsertStmt UpdateStmt DeleteStmt MergeStmt;
    /// Recognised by their details before any rule is asked.
    Session: TransactionStmt VariableSetStmt VariableShowStmt DiscardStmt;
    Explain: ExplainStmt;
    Copy: CopyStmt;
    /// They hold another statement.
    Prepared: PrepareStmt ExecuteStmt DeallocateStmt;
    Declare: DeclareCursorStmt;
    /// State of the session's own server process.
    HomeProcess: FetchStmt ClosePortalStmt ListenStmt NotifyStmt UnlistenStmt LoadStmt;
    SetConstraints: ConstraintsSetStmt;
    /// TRUNCATE and LOCK.
    Tables: TruncateStmt LockStmt;
    Maintenance: VacuumStmt ClusterStmt ReindexStmt;
    Do: DoStmt;
    Call: CallStmt;
    CreateTable: CreateStmt;
    TableAs: CreateTableAsStmt RefreshMatViewStmt;
    Index: IndexStmt;
    View: ViewStmt;
    AlterTable: AlterTableStmt;
    AlterSequence: CreateSeqStmt AlterSeqStmt;
    Statistics: CreateStatsStmt AlterStatsStmt;
    Trigger: CreateTrigStmt;
    Policy: CreatePolicyStmt AlterPolicyStmt;
    Rewrite: RuleStmt;
    /// ALTER … RENAME, SET SCHEMA, OWNER TO.
    AlterObject: RenameStmt AlterObjectSchemaStmt AlterOwnerStmt;
    /// They name one object of any kind.
    AboutObject: CommentStmt SecLabelStmt AlterObjectDependsStmt AlterExtensionContentsStmt;
    Drop: DropStmt;
    Grant: GrantStmt;
    Schema: CreateSchemaStmt;
    Function: CreateFunctionStmt AlterFunctionStmt;
    /// Objects that nothing keeps from existing on every shard, and that must.
    Everywhere: CreateRoleStmt AlterRoleStmt AlterRoleSetStmt DropRoleStmt GrantRoleStmt ReassignOwnedStmt
        CreateExtensionStmt AlterDatabaseSetStmt AlterDatabaseRefreshCollStmt;
    /// Objects that exist on every shard unless they refer to something that does not.
    Shared: CompositeTypeStmt CreateEnumStmt CreateRangeStmt AlterEnumStmt AlterTypeStmt CreateDomainStmt AlterDomainStmt
        DefineStmt CreateCastStmt CreateConversionStmt CreateOpClassStmt CreateOpFamilyStmt AlterOpFamilyStmt
        AlterOperatorStmt AlterCollationStmt CreatePLangStmt CreateTransformStmt CreateAmStmt AlterTSConfigurationStmt
        AlterTSDictionaryStmt AlterExtensionStmt AlterEventTrigStmt CreateFdwStmt AlterFdwStmt CreateForeignServerStmt
        AlterForeignServerStmt CreateUserMappingStmt AlterUserMappingStmt DropUserMappingStmt;
    /// The same, with a list of schemas or roles.
    SharedList: AlterDefaultPrivilegesStmt;
    EventTrigger: CreateEventTrigStmt;
    DropOwned: DropOwnedStmt;
    Database: CreatedbStmt DropdbStmt AlterDatabaseStmt;
    Server: AlterSystemStmt CreateTableSpaceStmt DropTableSpaceStmt AlterTableSpaceOptionsStmt AlterTableMoveAllStmt;
    Checkpoint: CheckPointStmt;
    Publication: CreatePublicationStmt AlterPublicationStmt;
    Subscription: CreateSubscriptionStmt AlterSubscriptionStmt DropSubscriptionStmt;
    /// Foreign tables are unsharded tables.
    ForeignTables: ImportForeignSchemaStmt;
}

/// The decision about a statement whose details say nothing else.
pub(super) fn by_rule(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    match rule(raw.node) {
        Rule::Optimizable => Ok(optimizable(raw, cx)),
        Rule::Session => Err(Refusal::new(RefusalCode::Unreadable)),
        Rule::Explain => super::explain(raw, cx),
        Rule::Copy => utility::copy(raw, cx),
        Rule::Prepared => utility::home_or(raw, cx, RefusalCode::PrepareSql),
        Rule::Declare => utility::declare(raw, cx),
        Rule::HomeProcess => Ok(Triage::Home),
        Rule::SetConstraints => utility::set_constraints(cx),
        Rule::Tables => utility::tables(raw, cx),
        Rule::Maintenance => utility::maintain(raw, cx),
        Rule::Do => utility::do_block(raw, cx),
        Rule::Call => utility::call(raw, cx),
        Rule::CreateTable => create::table(raw, cx),
        Rule::TableAs => create::table_as(raw, cx),
        Rule::Index => create::index(raw, cx),
        Rule::View => create::view(raw, cx),
        Rule::AlterTable => alter::table(raw, cx),
        Rule::AlterSequence => alter::sequence(raw, cx),
        Rule::Statistics => alter::statistics(raw, cx),
        Rule::Trigger => create::trigger(raw, cx),
        Rule::Policy => create::policy(raw, cx),
        Rule::Rewrite => create::rule(raw, cx),
        Rule::AlterObject => objects::alter(raw, cx),
        Rule::AboutObject => objects::about(raw, cx),
        Rule::Drop => drops::drop(raw, cx),
        Rule::Grant => objects::grant(raw, cx),
        Rule::Schema => create::schema(raw, cx),
        Rule::Function => function(raw),
        Rule::Everywhere => Ok(DdlPlan::at(DdlPlace::All).into_triage()),
        Rule::Shared => shared(raw, cx),
        Rule::SharedList => Ok(DdlPlan::shared_list().into_triage()),
        Rule::EventTrigger => servers::event_trigger(raw, cx),
        Rule::DropOwned => servers::drop_owned(raw, cx),
        Rule::Database => servers::database(raw, cx),
        Rule::Server => servers::server(raw, cx),
        Rule::Checkpoint => Ok(servers::checkpoint(cx)),
        Rule::Publication => servers::publication(raw, cx),
        Rule::Subscription => servers::subscription(raw, cx),
        Rule::ForeignTables => Ok(DdlPlan::at(DdlPlace::Home).into_triage()),
    }
}

fn function(raw: &RawStatement) -> Decision {
    let Detail::Function(function) = &raw.detail else {
        return Err(Refusal::new(RefusalCode::Unreadable));
    };
    match function.name.schema.as_deref() {
        Some("drover") => Err(Refusal::new(RefusalCode::DroverMixed)),
        // It is this session's alone, and so is the transaction's server that has it.
        Some("pg_temp") => Ok(DdlPlan::at(DdlPlace::Home).into_triage()),
        _ => {
            let mut plan = DdlPlan::shared();
            plan.replaces = function.replace.then(|| function.name.name.clone());
            Ok(plan.into_triage())
        }
    }
}

fn shared(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let temporary = |name: &sql::QualifiedName| name.schema.as_deref() == Some("pg_temp");
    let composite = raw.node == StatementNode::CompositeTypeStmt;
    if composite && raw.names.relations.iter().any(temporary) {
        return Ok(DdlPlan::at(DdlPlace::Home).into_triage());
    }
    if let sql::Detail::RenameLabel { name } = &raw.detail {
        keys_keep_labels(name, cx)?;
    }
    Ok(DdlPlan::shared().into_triage())
}

/// A row is placed by the label of its key: the rows of a renamed one would be looked for elsewhere.
fn keys_keep_labels(name: &sql::QualifiedName, cx: &Resolver<'_>) -> Result<(), Refusal> {
    let is_named = |key: &catalog::KeyColumn, relation: &catalog::Relation| {
        let column = relation.column(key.attnum)?;
        let facts = cx.snapshot.type_info(cx.snapshot.base_type(column.type_oid))?;
        let schema = name.schema.as_ref().is_none_or(|schema| *schema == facts.schema);
        (facts.name == name.name && schema).then_some(())
    };
    let mut relations = cx.snapshot.relations();
    let keyed = relations.find(|relation| {
        let mut keys = relation.key_columns().iter();
        keys.any(|key| is_named(key, relation).is_some())
    });
    match keyed {
        Some(relation) => Err(Refusal::with(
            RefusalCode::KeyColumn,
            super::resolve::name_of(relation),
        )),
        None => Ok(()),
    }
}
