//! The children of every node the grammar can produce.
//!
//! One line per field, exhaustive by construction from the binding's node types, so that a name cannot hide in a
//! clause nobody thought of. A node that is not listed makes the whole text unreadable, which is the safe answer.

use pg_raw_parse::{Node, nodes};

/// Pushes the children of `node`. `false` for a node the grammar is not known to produce.
#[allow(clippy::too_many_lines)] // A table in the form of a match.
pub(super) fn push_children<'a>(node: Node<'a>, stack: &mut Vec<Node<'a>>) -> bool {
    match node {
        Node::None => {}
        Node::NodeList(n) => stack.extend(n),
        Node::ATAlterConstraint(_)
        | Node::A_Const(_)
        | Node::A_Star(_)
        | Node::AccessPriv(_)
        | Node::AlterDatabaseRefreshCollStmt(_)
        | Node::AlterEnumStmt(_)
        | Node::AlterEventTrigStmt(_)
        | Node::BitString(_)
        | Node::Boolean(_)
        | Node::CheckPointStmt(_)
        | Node::ClosePortalStmt(_)
        | Node::CreateEnumStmt(_)
        | Node::CreateOpFamilyStmt(_)
        | Node::CurrentOfExpr(_)
        | Node::DeallocateStmt(_)
        | Node::DiscardStmt(_)
        | Node::DropSubscriptionStmt(_)
        | Node::DropTableSpaceStmt(_)
        | Node::FetchStmt(_)
        | Node::Float(_)
        | Node::Integer(_)
        | Node::JsonFormat(_)
        | Node::ListenStmt(_)
        | Node::LoadStmt(_)
        | Node::MergeSupportFunc(_)
        | Node::NotifyStmt(_)
        | Node::ParamRef(_)
        | Node::ReplicaIdentityStmt(_)
        | Node::ReturningOption(_)
        | Node::RoleSpec(_)
        | Node::SQLValueFunction(_)
        | Node::SetToDefault(_)
        | Node::String(_)
        | Node::TriggerTransition(_)
        | Node::UnlistenStmt(_)
        | Node::VariableShowStmt(_) => {}
        Node::A_ArrayExpr(n) => stack.extend(n.elements()),
        Node::A_Expr(n) => {
            stack.extend(n.name());
            one(n.lexpr(), stack);
            one(n.rexpr(), stack);
        }
        Node::A_Indices(n) => {
            one(n.lidx(), stack);
            one(n.uidx(), stack);
        }
        Node::A_Indirection(n) => {
            one(n.arg(), stack);
            stack.extend(n.indirection());
        }
        Node::Alias(n) => stack.extend(n.colnames()),
        Node::AlterCollationStmt(n) => stack.extend(n.collname()),
        Node::AlterDatabaseSetStmt(n) => stack.extend(n.setstmt().map(Node::VariableSetStmt)),
        Node::AlterDatabaseStmt(n) => stack.extend(n.options().iter().map(Node::DefElem)),
        Node::AlterDefaultPrivilegesStmt(n) => {
            stack.extend(n.options().iter().map(Node::DefElem));
            stack.extend(n.action().map(Node::GrantStmt));
        }
        Node::AlterDomainStmt(n) => {
            stack.extend(n.type_name());
            one(n.def(), stack);
        }
        Node::AlterExtensionContentsStmt(n) => one(n.object(), stack),
        Node::AlterExtensionStmt(n) => stack.extend(n.options().iter().map(Node::DefElem)),
        Node::AlterFdwStmt(n) => {
            stack.extend(n.func_options());
            stack.extend(n.options());
        }
        Node::AlterForeignServerStmt(n) => stack.extend(n.options()),
        Node::AlterFunctionStmt(n) => {
            stack.extend(n.func().map(Node::ObjectWithArgs));
            stack.extend(n.actions().iter().map(Node::DefElem));
        }
        Node::AlterObjectDependsStmt(n) => {
            stack.extend(n.relation().map(Node::RangeVar));
            one(n.object(), stack);
            stack.extend(n.extname().map(Node::String));
        }
        Node::AlterObjectSchemaStmt(n) => {
            stack.extend(n.relation().map(Node::RangeVar));
            one(n.object(), stack);
        }
        Node::AlterOpFamilyStmt(n) => stack.extend(n.items().iter().map(Node::CreateOpClassItem)),
        Node::AlterOperatorStmt(n) => {
            stack.extend(n.opername().map(Node::ObjectWithArgs));
            stack.extend(n.options().iter().map(Node::DefElem));
        }
        Node::AlterOwnerStmt(n) => {
            stack.extend(n.relation().map(Node::RangeVar));
            one(n.object(), stack);
            stack.extend(n.newowner().map(Node::RoleSpec));
        }
        Node::AlterPolicyStmt(n) => {
            stack.extend(n.table().map(Node::RangeVar));
            stack.extend(n.roles());
            one(n.qual(), stack);
            one(n.with_check(), stack);
        }
        Node::AlterPublicationStmt(n) => {
            stack.extend(n.options().iter().map(Node::DefElem));
            stack.extend(n.pubobjects());
        }
        Node::AlterRoleSetStmt(n) => {
            stack.extend(n.role().map(Node::RoleSpec));
            stack.extend(n.setstmt().map(Node::VariableSetStmt));
        }
        Node::AlterRoleStmt(n) => {
            stack.extend(n.role().map(Node::RoleSpec));
            stack.extend(n.options().iter().map(Node::DefElem));
        }
        Node::AlterSeqStmt(n) => {
            stack.extend(n.sequence().map(Node::RangeVar));
            stack.extend(n.options());
        }
        Node::AlterStatsStmt(n) => one(n.stxstattarget(), stack),
        Node::AlterSubscriptionStmt(n) => {
            stack.extend(n.publication());
            stack.extend(n.options().iter().map(Node::DefElem));
        }
        Node::AlterSystemStmt(n) => stack.extend(n.setstmt().map(Node::VariableSetStmt)),
        Node::AlterTSConfigurationStmt(n) => {
            stack.extend(n.tokentype());
            stack.extend(n.dicts());
        }
        Node::AlterTSDictionaryStmt(n) => stack.extend(n.options().iter().map(Node::DefElem)),
        Node::AlterTableCmd(n) => {
            stack.extend(n.newowner().map(Node::RoleSpec));
            one(n.def(), stack);
        }
        Node::AlterTableMoveAllStmt(n) => stack.extend(n.roles()),
        Node::AlterTableSpaceOptionsStmt(n) => stack.extend(n.options()),
        Node::AlterTableStmt(n) => {
            stack.extend(n.relation().map(Node::RangeVar));
            stack.extend(n.cmds());
        }
        Node::AlterTypeStmt(n) => {
            stack.extend(n.type_name());
            stack.extend(n.options().iter().map(Node::DefElem));
        }
        Node::AlterUserMappingStmt(n) => {
            stack.extend(n.user().map(Node::RoleSpec));
            stack.extend(n.options());
        }
        Node::BoolExpr(n) => stack.extend(n.args()),
        Node::BooleanTest(n) => one(n.arg(), stack),
        Node::CTECycleClause(n) => {
            stack.extend(n.cycle_col_list());
            one(n.cycle_mark_value(), stack);
            one(n.cycle_mark_default(), stack);
        }
        Node::CTESearchClause(n) => stack.extend(n.search_col_list()),
        Node::CallStmt(n) => {
            stack.extend(n.funccall().map(Node::FuncCall));
            stack.extend(n.outargs());
        }
        Node::CaseExpr(n) => {
            one(n.arg(), stack);
            stack.extend(n.args());
            one(n.defresult(), stack);
        }
        Node::CaseWhen(n) => {
            one(n.expr(), stack);
            one(n.result(), stack);
        }
        Node::ClusterStmt(n) => {
            stack.extend(n.relation().map(Node::RangeVar));
            stack.extend(n.params().iter().map(Node::DefElem));
        }
        Node::CoalesceExpr(n) => stack.extend(n.args()),
        Node::CollateClause(n) => {
            one(n.arg(), stack);
            stack.extend(n.collname());
        }
        Node::ColumnDef(n) => {
            stack.extend(n.type_name().map(Node::TypeName));
            one(n.raw_default(), stack);
            one(n.cooked_default(), stack);
            stack.extend(n.identity_sequence().map(Node::RangeVar));
            stack.extend(n.coll_clause().map(Node::CollateClause));
            stack.extend(n.constraints());
            stack.extend(n.fdwoptions());
        }
        Node::ColumnRef(n) => stack.extend(n.fields()),
        Node::CommentStmt(n) => one(n.object(), stack),
        Node::CommonTableExpr(n) => {
            stack.extend(n.aliascolnames());
            one(n.ctequery(), stack);
            stack.extend(n.search_clause().map(Node::CTESearchClause));
            stack.extend(n.cycle_clause().map(Node::CTECycleClause));
            stack.extend(n.ctecolnames());
        }
        Node::CompositeTypeStmt(n) => {
            stack.extend(n.typevar().map(Node::RangeVar));
            stack.extend(n.coldeflist().iter().map(Node::ColumnDef));
        }
        Node::Constraint(n) => {
            one(n.raw_expr(), stack);
            stack.extend(n.keys());
            stack.extend(n.including());
            stack.extend(n.exclusions());
            stack.extend(n.options());
            one(n.where_clause(), stack);
            stack.extend(n.pktable().map(Node::RangeVar));
            stack.extend(n.fk_attrs());
            stack.extend(n.pk_attrs());
            stack.extend(n.fk_del_set_cols());
            stack.extend(n.old_conpfeqop());
        }
        Node::ConstraintsSetStmt(n) => stack.extend(n.constraints()),
        Node::CopyStmt(n) => {
            stack.extend(n.relation().map(Node::RangeVar));
            one(n.query(), stack);
            stack.extend(n.attlist());
            stack.extend(n.options().iter().map(Node::DefElem));
            one(n.where_clause(), stack);
        }
        Node::CreateAmStmt(n) => stack.extend(n.handler_name()),
        Node::CreateCastStmt(n) => {
            stack.extend(n.sourcetype().map(Node::TypeName));
            stack.extend(n.targettype().map(Node::TypeName));
            stack.extend(n.func().map(Node::ObjectWithArgs));
        }
        Node::CreateConversionStmt(n) => {
            stack.extend(n.conversion_name());
            stack.extend(n.func_name());
        }
        Node::CreateDomainStmt(n) => {
            stack.extend(n.type_name().map(Node::TypeName));
            stack.extend(n.coll_clause().map(Node::CollateClause));
            stack.extend(n.constraints().iter().map(Node::Constraint));
        }
        Node::CreateEventTrigStmt(n) => {
            stack.extend(n.whenclause().iter().map(Node::DefElem));
            stack.extend(n.funcname());
        }
        Node::CreateExtensionStmt(n) => stack.extend(n.options().iter().map(Node::DefElem)),
        Node::CreateFdwStmt(n) => {
            stack.extend(n.func_options());
            stack.extend(n.options());
        }
        Node::CreateForeignServerStmt(n) => stack.extend(n.options()),
        Node::CreateFunctionStmt(n) => {
            stack.extend(n.funcname());
            stack.extend(n.parameters().iter().map(Node::FunctionParameter));
            stack.extend(n.return_type().map(Node::TypeName));
            stack.extend(n.options().iter().map(Node::DefElem));
            one(n.sql_body(), stack);
        }
        Node::CreateOpClassItem(n) => {
            stack.extend(n.name().map(Node::ObjectWithArgs));
            stack.extend(n.order_family());
            stack.extend(n.class_args());
            stack.extend(n.storedtype().map(Node::TypeName));
        }
        Node::CreateOpClassStmt(n) => {
            stack.extend(n.opfamilyname());
            stack.extend(n.datatype().map(Node::TypeName));
            stack.extend(n.items().iter().map(Node::CreateOpClassItem));
        }
        Node::CreatePLangStmt(n) => {
            stack.extend(n.plhandler());
            stack.extend(n.plinline());
            stack.extend(n.plvalidator());
        }
        Node::CreatePolicyStmt(n) => {
            stack.extend(n.table().map(Node::RangeVar));
            stack.extend(n.roles());
            one(n.qual(), stack);
            one(n.with_check(), stack);
        }
        Node::CreatePublicationStmt(n) => {
            stack.extend(n.options().iter().map(Node::DefElem));
            stack.extend(n.pubobjects());
        }
        Node::CreateRangeStmt(n) => stack.extend(n.params().iter().map(Node::DefElem)),
        Node::CreateRoleStmt(n) => stack.extend(n.options().iter().map(Node::DefElem)),
        Node::CreateSchemaStmt(n) => {
            stack.extend(n.authrole().map(Node::RoleSpec));
            stack.extend(n.schema_elts());
        }
        Node::CreateSeqStmt(n) => {
            stack.extend(n.sequence().map(Node::RangeVar));
            stack.extend(n.options());
        }
        Node::CreateStatsStmt(n) => {
            stack.extend(n.exprs());
            stack.extend(n.relations().iter().map(Node::RangeVar));
        }
        Node::CreateStmt(n) => {
            stack.extend(n.relation().map(Node::RangeVar));
            stack.extend(n.table_elts());
            stack.extend(n.inh_relations());
            stack.extend(n.partbound().map(Node::PartitionBoundSpec));
            stack.extend(n.partspec().map(Node::PartitionSpec));
            stack.extend(n.of_typename().map(Node::TypeName));
            stack.extend(n.constraints().iter().map(Node::Constraint));
            stack.extend(n.nnconstraints());
            stack.extend(n.options());
        }
        Node::CreateSubscriptionStmt(n) => {
            stack.extend(n.publication());
            stack.extend(n.options().iter().map(Node::DefElem));
        }
        Node::CreateTableAsStmt(n) => {
            one(n.query(), stack);
            stack.extend(n.into().map(Node::IntoClause));
        }
        Node::CreateTableSpaceStmt(n) => {
            stack.extend(n.owner().map(Node::RoleSpec));
            stack.extend(n.options());
        }
        Node::CreateTransformStmt(n) => {
            stack.extend(n.type_name().map(Node::TypeName));
            stack.extend(n.fromsql().map(Node::ObjectWithArgs));
            stack.extend(n.tosql().map(Node::ObjectWithArgs));
        }
        Node::CreateTrigStmt(n) => {
            stack.extend(n.relation().map(Node::RangeVar));
            stack.extend(n.funcname());
            stack.extend(n.columns());
            one(n.when_clause(), stack);
            stack.extend(n.transition_rels());
            stack.extend(n.constrrel().map(Node::RangeVar));
        }
        Node::CreateUserMappingStmt(n) => {
            stack.extend(n.user().map(Node::RoleSpec));
            stack.extend(n.options());
        }
        Node::CreatedbStmt(n) => stack.extend(n.options().iter().map(Node::DefElem)),
        Node::DeclareCursorStmt(n) => one(n.query(), stack),
        Node::DefElem(n) => one(n.arg(), stack),
        Node::DefineStmt(n) => {
            stack.extend(n.args());
            stack.extend(n.definition().iter().map(Node::DefElem));
        }
        Node::DeleteStmt(n) => {
            stack.extend(n.relation().map(Node::RangeVar));
            stack.extend(n.using_clause());
            one(n.where_clause(), stack);
            stack.extend(n.returning_clause().map(Node::ReturningClause));
            stack.extend(n.with_clause().map(Node::WithClause));
        }
        Node::DoStmt(n) => stack.extend(n.args().iter().map(Node::DefElem)),
        Node::DropOwnedStmt(n) => stack.extend(n.roles()),
        Node::DropRoleStmt(n) => stack.extend(n.roles()),
        Node::DropStmt(n) => stack.extend(n.objects()),
        Node::DropUserMappingStmt(n) => stack.extend(n.user().map(Node::RoleSpec)),
        Node::DropdbStmt(n) => stack.extend(n.options()),
        Node::ExecuteStmt(n) => stack.extend(n.params()),
        Node::ExplainStmt(n) => {
            one(n.query(), stack);
            stack.extend(n.options().iter().map(Node::DefElem));
        }
        Node::FuncCall(n) => {
            stack.extend(n.funcname());
            stack.extend(n.args());
            stack.extend(n.agg_order().iter().map(Node::SortBy));
            one(n.agg_filter(), stack);
            stack.extend(n.over().map(Node::WindowDef));
        }
        Node::FunctionParameter(n) => {
            stack.extend(n.arg_type().map(Node::TypeName));
            one(n.defexpr(), stack);
        }
        Node::GrantRoleStmt(n) => {
            stack.extend(n.granted_roles());
            stack.extend(n.grantee_roles());
            stack.extend(n.opt());
            stack.extend(n.grantor().map(Node::RoleSpec));
        }
        Node::GrantStmt(n) => {
            grant_objects(n, stack);
            stack.extend(n.privileges().iter().map(Node::AccessPriv));
            stack.extend(n.grantees().iter().map(Node::RoleSpec));
            stack.extend(n.grantor().map(Node::RoleSpec));
        }
        Node::GroupingFunc(n) => {
            stack.extend(n.args());
            stack.extend(n.refs());
            stack.extend(n.cols());
        }
        Node::GroupingSet(n) => stack.extend(n.content()),
        Node::ImportForeignSchemaStmt(n) => {
            stack.extend(n.table_list().iter().map(Node::RangeVar));
            stack.extend(n.options());
        }
        Node::IndexElem(n) => {
            one(n.expr(), stack);
            stack.extend(n.collation());
            stack.extend(n.opclass());
            stack.extend(n.opclassopts());
        }
        Node::IndexStmt(n) => {
            stack.extend(n.relation().map(Node::RangeVar));
            stack.extend(n.index_params().iter().map(Node::IndexElem));
            stack.extend(n.index_including_params());
            stack.extend(n.options().iter().map(Node::DefElem));
            one(n.where_clause(), stack);
            stack.extend(n.exclude_op_names());
        }
        Node::InferClause(n) => {
            stack.extend(n.index_elems());
            one(n.where_clause(), stack);
        }
        Node::InsertStmt(n) => {
            stack.extend(n.relation().map(Node::RangeVar));
            stack.extend(n.cols());
            one(n.select_stmt(), stack);
            stack.extend(n.on_conflict_clause().map(Node::OnConflictClause));
            stack.extend(n.returning_clause().map(Node::ReturningClause));
            stack.extend(n.with_clause().map(Node::WithClause));
        }
        Node::IntoClause(n) => {
            stack.extend(n.rel().map(Node::RangeVar));
            stack.extend(n.col_names());
            stack.extend(n.options());
        }
        Node::JoinExpr(n) => {
            one(n.larg(), stack);
            one(n.rarg(), stack);
            stack.extend(n.join_using_alias().map(Node::Alias));
            one(n.quals(), stack);
            stack.extend(n.alias().map(Node::Alias));
        }
        Node::JsonAggConstructor(n) => {
            stack.extend(n.output().map(Node::JsonOutput));
            one(n.agg_filter(), stack);
            stack.extend(n.agg_order());
            stack.extend(n.over().map(Node::WindowDef));
        }
        Node::JsonArgument(n) => stack.extend(n.val().map(Node::JsonValueExpr)),
        Node::JsonArrayAgg(n) => {
            stack.extend(n.constructor().map(Node::JsonAggConstructor));
            stack.extend(n.arg().map(Node::JsonValueExpr));
        }
        Node::JsonArrayConstructor(n) => {
            stack.extend(n.exprs().iter().map(Node::JsonValueExpr));
            stack.extend(n.output().map(Node::JsonOutput));
        }
        Node::JsonArrayQueryConstructor(n) => {
            one(n.query(), stack);
            stack.extend(n.output().map(Node::JsonOutput));
            stack.extend(n.format().map(Node::JsonFormat));
        }
        Node::JsonBehavior(n) => one(n.expr(), stack),
        Node::JsonFuncExpr(n) => {
            stack.extend(n.context_item().map(Node::JsonValueExpr));
            one(n.pathspec(), stack);
            stack.extend(n.passing());
            stack.extend(n.output().map(Node::JsonOutput));
            stack.extend(n.on_empty().map(Node::JsonBehavior));
            stack.extend(n.on_error().map(Node::JsonBehavior));
        }
        Node::JsonIsPredicate(n) => {
            one(n.expr(), stack);
            stack.extend(n.format().map(Node::JsonFormat));
        }
        Node::JsonKeyValue(n) => {
            one(n.key(), stack);
            stack.extend(n.value().map(Node::JsonValueExpr));
        }
        Node::JsonObjectAgg(n) => {
            stack.extend(n.constructor().map(Node::JsonAggConstructor));
            stack.extend(n.arg().map(Node::JsonKeyValue));
        }
        Node::JsonObjectConstructor(n) => {
            stack.extend(n.exprs().iter().map(Node::JsonKeyValue));
            stack.extend(n.output().map(Node::JsonOutput));
        }
        Node::JsonOutput(n) => {
            stack.extend(n.type_name().map(Node::TypeName));
            stack.extend(n.returning().map(Node::JsonReturning));
        }
        Node::JsonParseExpr(n) => {
            stack.extend(n.expr().map(Node::JsonValueExpr));
            stack.extend(n.output().map(Node::JsonOutput));
        }
        Node::JsonReturning(n) => stack.extend(n.format().map(Node::JsonFormat)),
        Node::JsonScalarExpr(n) => {
            one(n.expr(), stack);
            stack.extend(n.output().map(Node::JsonOutput));
        }
        Node::JsonSerializeExpr(n) => {
            stack.extend(n.expr().map(Node::JsonValueExpr));
            stack.extend(n.output().map(Node::JsonOutput));
        }
        Node::JsonTable(n) => {
            stack.extend(n.context_item().map(Node::JsonValueExpr));
            stack.extend(n.pathspec().map(Node::JsonTablePathSpec));
            stack.extend(n.passing());
            stack.extend(n.columns().iter().map(Node::JsonTableColumn));
            stack.extend(n.on_error().map(Node::JsonBehavior));
            stack.extend(n.alias().map(Node::Alias));
        }
        Node::JsonTableColumn(n) => {
            stack.extend(n.type_name().map(Node::TypeName));
            stack.extend(n.pathspec().map(Node::JsonTablePathSpec));
            stack.extend(n.format().map(Node::JsonFormat));
            stack.extend(n.columns());
            stack.extend(n.on_empty().map(Node::JsonBehavior));
            stack.extend(n.on_error().map(Node::JsonBehavior));
        }
        Node::JsonTablePathSpec(n) => one(n.string(), stack),
        Node::JsonValueExpr(n) => {
            one(n.raw_expr(), stack);
            one(n.formatted_expr(), stack);
            stack.extend(n.format().map(Node::JsonFormat));
        }
        Node::LockStmt(n) => stack.extend(n.relations()),
        Node::LockingClause(n) => stack.extend(n.locked_rels()),
        Node::MergeStmt(n) => {
            stack.extend(n.relation().map(Node::RangeVar));
            one(n.source_relation(), stack);
            one(n.join_condition(), stack);
            stack.extend(n.merge_when_clauses().iter().map(Node::MergeWhenClause));
            stack.extend(n.returning_clause().map(Node::ReturningClause));
            stack.extend(n.with_clause().map(Node::WithClause));
        }
        Node::MergeWhenClause(n) => {
            one(n.condition(), stack);
            stack.extend(n.target_list());
            stack.extend(n.values());
        }
        Node::MinMaxExpr(n) => stack.extend(n.args()),
        Node::MultiAssignRef(n) => one(n.source(), stack),
        Node::NamedArgExpr(n) => one(n.arg(), stack),
        Node::NullTest(n) => one(n.arg(), stack),
        Node::ObjectWithArgs(n) => {
            stack.extend(n.objname());
            stack.extend(n.objargs());
            stack.extend(n.objfuncargs().iter().map(Node::FunctionParameter));
        }
        Node::OnConflictClause(n) => {
            stack.extend(n.infer().map(Node::InferClause));
            stack.extend(n.target_list().iter().map(Node::ResTarget));
            one(n.where_clause(), stack);
        }
        Node::PLAssignStmt(n) => {
            stack.extend(n.indirection());
            stack.extend(n.val().map(Node::SelectStmt));
        }
        Node::PartitionBoundSpec(n) => {
            stack.extend(n.listdatums());
            stack.extend(n.lowerdatums());
            stack.extend(n.upperdatums());
        }
        Node::PartitionCmd(n) => {
            stack.extend(n.name().map(Node::RangeVar));
            stack.extend(n.bound().map(Node::PartitionBoundSpec));
        }
        Node::PartitionElem(n) => {
            one(n.expr(), stack);
            stack.extend(n.collation());
            stack.extend(n.opclass());
        }
        Node::PartitionRangeDatum(n) => one(n.value(), stack),
        Node::PartitionSpec(n) => stack.extend(n.part_params().iter().map(Node::PartitionElem)),
        Node::PrepareStmt(n) => {
            stack.extend(n.argtypes().iter().map(Node::TypeName));
            one(n.query(), stack);
        }
        Node::PublicationObjSpec(n) => stack.extend(n.pubtable().map(Node::PublicationTable)),
        Node::PublicationTable(n) => {
            stack.extend(n.relation().map(Node::RangeVar));
            one(n.where_clause(), stack);
            stack.extend(n.columns());
        }
        Node::RangeFunction(n) => {
            stack.extend(n.functions());
            stack.extend(n.alias().map(Node::Alias));
            stack.extend(n.coldeflist().iter().map(Node::ColumnDef));
        }
        Node::RangeSubselect(n) => {
            one(n.subquery(), stack);
            stack.extend(n.alias().map(Node::Alias));
        }
        Node::RangeTableFunc(n) => {
            one(n.docexpr(), stack);
            one(n.rowexpr(), stack);
            stack.extend(n.namespaces());
            stack.extend(n.columns().iter().map(Node::RangeTableFuncCol));
            stack.extend(n.alias().map(Node::Alias));
        }
        Node::RangeTableFuncCol(n) => {
            stack.extend(n.type_name().map(Node::TypeName));
            one(n.colexpr(), stack);
            one(n.coldefexpr(), stack);
        }
        Node::RangeTableSample(n) => {
            one(n.relation(), stack);
            stack.extend(n.method());
            stack.extend(n.args());
            one(n.repeatable(), stack);
        }
        Node::RangeVar(n) => stack.extend(n.alias().map(Node::Alias)),
        Node::RawStmt(n) => one(n.stmt(), stack),
        Node::ReassignOwnedStmt(n) => {
            stack.extend(n.roles());
            stack.extend(n.newrole().map(Node::RoleSpec));
        }
        Node::RefreshMatViewStmt(n) => stack.extend(n.relation().map(Node::RangeVar)),
        Node::ReindexStmt(n) => {
            stack.extend(n.relation().map(Node::RangeVar));
            stack.extend(n.params().iter().map(Node::DefElem));
        }
        Node::RenameStmt(n) => {
            stack.extend(n.relation().map(Node::RangeVar));
            one(n.object(), stack);
        }
        Node::ResTarget(n) => {
            stack.extend(n.indirection());
            one(n.val(), stack);
        }
        Node::ReturnStmt(n) => one(n.returnval(), stack),
        Node::ReturningClause(n) => {
            stack.extend(n.options().iter().map(Node::ReturningOption));
            stack.extend(n.exprs());
        }
        Node::RowExpr(n) => stack.extend(n.args()),
        Node::RuleStmt(n) => {
            stack.extend(n.relation().map(Node::RangeVar));
            one(n.where_clause(), stack);
            stack.extend(n.actions());
        }
        Node::SecLabelStmt(n) => one(n.object(), stack),
        Node::SelectStmt(n) => {
            stack.extend(n.distinct_clause());
            stack.extend(n.into_clause().map(Node::IntoClause));
            stack.extend(n.target_list().iter().map(Node::ResTarget));
            stack.extend(n.from_clause());
            one(n.where_clause(), stack);
            stack.extend(n.group_clause());
            one(n.having_clause(), stack);
            stack.extend(n.window_clause());
            stack.extend(n.values_lists());
            stack.extend(n.sort_clause().iter().map(Node::SortBy));
            one(n.limit_offset(), stack);
            one(n.limit_count(), stack);
            stack.extend(n.locking_clause().iter().map(Node::LockingClause));
            stack.extend(n.with_clause().map(Node::WithClause));
            stack.extend(n.larg().map(Node::SelectStmt));
            stack.extend(n.rarg().map(Node::SelectStmt));
        }
        Node::SortBy(n) => {
            one(n.node(), stack);
            stack.extend(n.use_op());
        }
        Node::StatsElem(n) => one(n.expr(), stack),
        Node::SubLink(n) => {
            one(n.testexpr(), stack);
            stack.extend(n.oper_name());
            one(n.subselect(), stack);
        }
        Node::TableLikeClause(n) => stack.extend(n.relation().map(Node::RangeVar)),
        Node::TransactionStmt(n) => stack.extend(n.options()),
        Node::TruncateStmt(n) => stack.extend(n.relations()),
        Node::TypeCast(n) => {
            one(n.arg(), stack);
            stack.extend(n.type_name().map(Node::TypeName));
        }
        Node::TypeName(n) => {
            stack.extend(n.typmods());
            stack.extend(n.array_bounds());
        }
        Node::UpdateStmt(n) => {
            stack.extend(n.relation().map(Node::RangeVar));
            stack.extend(n.target_list().iter().map(Node::ResTarget));
            one(n.where_clause(), stack);
            stack.extend(n.from_clause());
            stack.extend(n.returning_clause().map(Node::ReturningClause));
            stack.extend(n.with_clause().map(Node::WithClause));
        }
        Node::VacuumRelation(n) => {
            stack.extend(n.relation().map(Node::RangeVar));
            stack.extend(n.va_cols());
        }
        Node::VacuumStmt(n) => {
            stack.extend(n.options().iter().map(Node::DefElem));
            stack.extend(n.rels().iter().map(Node::VacuumRelation));
        }
        Node::VariableSetStmt(n) => stack.extend(n.args()),
        Node::ViewStmt(n) => {
            stack.extend(n.view().map(Node::RangeVar));
            stack.extend(n.aliases());
            one(n.query(), stack);
            stack.extend(n.options());
        }
        Node::WindowDef(n) => {
            stack.extend(n.partition_clause());
            stack.extend(n.order_clause().iter().map(Node::SortBy));
            one(n.start_offset(), stack);
            one(n.end_offset(), stack);
        }
        Node::WithClause(n) => stack.extend(n.ctes().iter().map(Node::CommonTableExpr)),
        Node::XmlExpr(n) => {
            stack.extend(n.named_args());
            stack.extend(n.args());
        }
        Node::XmlSerialize(n) => {
            one(n.expr(), stack);
            stack.extend(n.type_name().map(Node::TypeName));
        }
        _ => return false,
    }
    true
}

fn one<'a>(node: Node<'a>, stack: &mut Vec<Node<'a>>) {
    if !matches!(node, Node::None) {
        stack.push(node);
    }
}

/// The binding believes that the objects are always relations; reading them as such when they are not would panic.
fn grant_objects<'a>(n: &'a nodes::GrantStmt, stack: &mut Vec<Node<'a>>) {
    if super::names::grants_on_relations(n) {
        stack.extend(n.objects().iter().map(Node::RangeVar));
    }
}
