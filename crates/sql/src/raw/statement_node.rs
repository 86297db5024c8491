//! The kinds of statement in PostgreSQL's grammar.

use pg_raw_parse::Node;

macro_rules! statement_nodes {
    ($($name:ident)*) => {
        /// A statement by the name of its node in PostgreSQL's grammar (18, which contains those of all older ones).
        ///
        /// Deliberately without an "other": whoever decides by it decides about every statement there is, and a new one
        /// of the grammar is unreadable until it is listed here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum StatementNode {
            $($name,)*
        }

        impl StatementNode {
            /// All of them.
            pub const ALL: &[StatementNode] = &[$(StatementNode::$name,)*];

            /// The grammar's name.
            pub fn name(self) -> &'static str {
                match self {
                    $(StatementNode::$name => stringify!($name),)*
                }
            }

            /// Which one a node is; `None` when it is not a statement.
            pub(super) fn of(node: Node<'_>) -> Option<StatementNode> {
                Some(match node {
                    $(Node::$name(_) => StatementNode::$name,)*
                    _ => return None,
                })
            }
        }
    };
}

statement_nodes! {
    AlterCollationStmt AlterDatabaseRefreshCollStmt AlterDatabaseSetStmt AlterDatabaseStmt
    AlterDefaultPrivilegesStmt AlterDomainStmt AlterEnumStmt AlterEventTrigStmt AlterExtensionContentsStmt
    AlterExtensionStmt AlterFdwStmt AlterForeignServerStmt AlterFunctionStmt AlterObjectDependsStmt
    AlterObjectSchemaStmt AlterOpFamilyStmt AlterOperatorStmt AlterOwnerStmt AlterPolicyStmt AlterPublicationStmt
    AlterRoleSetStmt AlterRoleStmt AlterSeqStmt AlterStatsStmt AlterSubscriptionStmt AlterSystemStmt
    AlterTSConfigurationStmt AlterTSDictionaryStmt AlterTableMoveAllStmt AlterTableSpaceOptionsStmt AlterTableStmt
    AlterTypeStmt AlterUserMappingStmt CallStmt CheckPointStmt ClosePortalStmt ClusterStmt CommentStmt
    CompositeTypeStmt ConstraintsSetStmt CopyStmt CreateAmStmt CreateCastStmt CreateConversionStmt
    CreateDomainStmt CreateEnumStmt CreateEventTrigStmt CreateExtensionStmt CreateFdwStmt CreateForeignServerStmt
    CreateFunctionStmt CreateOpClassStmt CreateOpFamilyStmt CreatePLangStmt CreatePolicyStmt CreatePublicationStmt
    CreateRangeStmt CreateRoleStmt CreateSchemaStmt CreateSeqStmt CreateStatsStmt CreateStmt
    CreateSubscriptionStmt CreateTableAsStmt CreateTableSpaceStmt CreateTransformStmt CreateTrigStmt
    CreateUserMappingStmt CreatedbStmt DeallocateStmt DeclareCursorStmt DefineStmt DeleteStmt DiscardStmt DoStmt
    DropOwnedStmt DropRoleStmt DropStmt DropSubscriptionStmt DropTableSpaceStmt DropUserMappingStmt DropdbStmt
    ExecuteStmt ExplainStmt FetchStmt GrantRoleStmt GrantStmt ImportForeignSchemaStmt IndexStmt InsertStmt
    ListenStmt LoadStmt LockStmt MergeStmt NotifyStmt PrepareStmt ReassignOwnedStmt RefreshMatViewStmt ReindexStmt
    RenameStmt RuleStmt SecLabelStmt SelectStmt TransactionStmt TruncateStmt UnlistenStmt UpdateStmt VacuumStmt
    VariableSetStmt VariableShowStmt ViewStmt
}
