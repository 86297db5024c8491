//! The children of every node the grammar can produce.
//!
//! One row per node with every field that can hold a node, taken from the binding's own types, so that a name cannot
//! hide in a clause nobody thought of. A node that is not listed makes the whole text unreadable, the safe answer.

use pg_raw_parse::{Node, nodes};

/// One field: a node of any type, a list of such, or a list (`each`) or option (`opt`) of nodes of one type.
macro_rules! field {
    ($n:ident $stack:ident one $field:ident) => {
        one($n.$field(), $stack)
    };
    ($n:ident $stack:ident list $field:ident) => {
        $stack.extend($n.$field())
    };
    ($n:ident $stack:ident each $field:ident $type:ident) => {
        $stack.extend($n.$field().iter().map(Node::$type))
    };
    ($n:ident $stack:ident opt $field:ident $type:ident) => {
        $stack.extend($n.$field().map(Node::$type))
    };
    ($n:ident $stack:ident grant $field:ident) => {
        grant_objects($n, $stack)
    };
}

macro_rules! children {
    (
        leaves { $($leaf:ident)* }
        $($name:ident ( $($kind:ident $field:ident $($type:ident)?),* ))*
    ) => {
        /// Pushes the children of `node`. `false` for a node the grammar is not known to produce.
        pub(super) fn push_children<'a>(node: Node<'a>, stack: &mut Vec<Node<'a>>) -> bool {
            match node {
                Node::None => {}
                Node::NodeList(list) => stack.extend(list),
                $(Node::$leaf(_) => {})*
                $(Node::$name(n) => { $(field!(n stack $kind $field $($type)?);)* })*
                _ => return false,
            }
            true
        }
    };
}

children! {
    leaves {
        ATAlterConstraint A_Const A_Star AccessPriv AlterDatabaseRefreshCollStmt AlterEnumStmt
        AlterEventTrigStmt BitString Boolean CheckPointStmt ClosePortalStmt CreateEnumStmt
        CreateOpFamilyStmt CurrentOfExpr DeallocateStmt DiscardStmt DropSubscriptionStmt
        DropTableSpaceStmt FetchStmt Float Integer JsonFormat ListenStmt LoadStmt MergeSupportFunc
        NotifyStmt ParamRef ReplicaIdentityStmt ReturningOption RoleSpec SQLValueFunction
        SetToDefault String TriggerTransition UnlistenStmt VariableShowStmt
    }
    A_ArrayExpr(list elements)
    A_Expr(list name, one lexpr, one rexpr)
    A_Indices(one lidx, one uidx)
    A_Indirection(one arg, list indirection)
    Alias(list colnames)
    AlterCollationStmt(list collname)
    AlterDatabaseSetStmt(opt setstmt VariableSetStmt)
    AlterDatabaseStmt(each options DefElem)
    AlterDefaultPrivilegesStmt(each options DefElem, opt action GrantStmt)
    AlterDomainStmt(list type_name, one def)
    AlterExtensionContentsStmt(one object)
    AlterExtensionStmt(each options DefElem)
    AlterFdwStmt(list func_options, list options)
    AlterForeignServerStmt(list options)
    AlterFunctionStmt(opt func ObjectWithArgs, each actions DefElem)
    AlterObjectDependsStmt(opt relation RangeVar, one object, opt extname String)
    AlterObjectSchemaStmt(opt relation RangeVar, one object)
    AlterOpFamilyStmt(each items CreateOpClassItem)
    AlterOperatorStmt(opt opername ObjectWithArgs, each options DefElem)
    AlterOwnerStmt(opt relation RangeVar, one object, opt newowner RoleSpec)
    AlterPolicyStmt(opt table RangeVar, list roles, one qual, one with_check)
    AlterPublicationStmt(each options DefElem, list pubobjects)
    AlterRoleSetStmt(opt role RoleSpec, opt setstmt VariableSetStmt)
    AlterRoleStmt(opt role RoleSpec, each options DefElem)
    AlterSeqStmt(opt sequence RangeVar, list options)
    AlterStatsStmt(one stxstattarget)
    AlterSubscriptionStmt(list publication, each options DefElem)
    AlterSystemStmt(opt setstmt VariableSetStmt)
    AlterTSConfigurationStmt(list tokentype, list dicts)
    AlterTSDictionaryStmt(each options DefElem)
    AlterTableCmd(opt newowner RoleSpec, one def)
    AlterTableMoveAllStmt(list roles)
    AlterTableSpaceOptionsStmt(list options)
    AlterTableStmt(opt relation RangeVar, list cmds)
    AlterTypeStmt(list type_name, each options DefElem)
    AlterUserMappingStmt(opt user RoleSpec, list options)
    BoolExpr(list args)
    BooleanTest(one arg)
    CTECycleClause(list cycle_col_list, one cycle_mark_value, one cycle_mark_default)
    CTESearchClause(list search_col_list)
    CallStmt(opt funccall FuncCall, list outargs)
    CaseExpr(one arg, list args, one defresult)
    CaseWhen(one expr, one result)
    ClusterStmt(opt relation RangeVar, each params DefElem)
    CoalesceExpr(list args)
    CollateClause(one arg, list collname)
    ColumnDef(
        opt type_name TypeName, one raw_default, one cooked_default, opt identity_sequence RangeVar, opt
        coll_clause CollateClause, list constraints, list fdwoptions
    )
    ColumnRef(list fields)
    CommentStmt(one object)
    CommonTableExpr(
        list aliascolnames, one ctequery, opt search_clause CTESearchClause, opt cycle_clause
        CTECycleClause, list ctecolnames
    )
    CompositeTypeStmt(opt typevar RangeVar, each coldeflist ColumnDef)
    Constraint(
        one raw_expr, list keys, list including, list exclusions, list options, one where_clause, opt
        pktable RangeVar, list fk_attrs, list pk_attrs, list fk_del_set_cols, list old_conpfeqop
    )
    ConstraintsSetStmt(list constraints)
    CopyStmt(opt relation RangeVar, one query, list attlist, each options DefElem, one where_clause)
    CreateAmStmt(list handler_name)
    CreateCastStmt(opt sourcetype TypeName, opt targettype TypeName, opt func ObjectWithArgs)
    CreateConversionStmt(list conversion_name, list func_name)
    CreateDomainStmt(opt type_name TypeName, opt coll_clause CollateClause, each constraints Constraint)
    CreateEventTrigStmt(each whenclause DefElem, list funcname)
    CreateExtensionStmt(each options DefElem)
    CreateFdwStmt(list func_options, list options)
    CreateForeignServerStmt(list options)
    CreateFunctionStmt(
        list funcname, each parameters FunctionParameter, opt return_type TypeName, each options
        DefElem, one sql_body
    )
    CreateOpClassItem(opt name ObjectWithArgs, list order_family, list class_args, opt storedtype TypeName)
    CreateOpClassStmt(list opfamilyname, opt datatype TypeName, each items CreateOpClassItem)
    CreatePLangStmt(list plhandler, list plinline, list plvalidator)
    CreatePolicyStmt(opt table RangeVar, list roles, one qual, one with_check)
    CreatePublicationStmt(each options DefElem, list pubobjects)
    CreateRangeStmt(each params DefElem)
    CreateRoleStmt(each options DefElem)
    CreateSchemaStmt(opt authrole RoleSpec, list schema_elts)
    CreateSeqStmt(opt sequence RangeVar, list options)
    CreateStatsStmt(list exprs, each relations RangeVar)
    CreateStmt(
        opt relation RangeVar, list table_elts, list inh_relations, opt partbound PartitionBoundSpec,
        opt partspec PartitionSpec, opt of_typename TypeName, each constraints Constraint, list
        nnconstraints, list options
    )
    CreateSubscriptionStmt(list publication, each options DefElem)
    CreateTableAsStmt(one query, opt into IntoClause)
    CreateTableSpaceStmt(opt owner RoleSpec, list options)
    CreateTransformStmt(opt type_name TypeName, opt fromsql ObjectWithArgs, opt tosql ObjectWithArgs)
    CreateTrigStmt(
        opt relation RangeVar, list funcname, list columns, one when_clause, list transition_rels, opt
        constrrel RangeVar
    )
    CreateUserMappingStmt(opt user RoleSpec, list options)
    CreatedbStmt(each options DefElem)
    DeclareCursorStmt(one query)
    DefElem(one arg)
    DefineStmt(list args, each definition DefElem)
    DeleteStmt(
        opt relation RangeVar, list using_clause, one where_clause, opt returning_clause
        ReturningClause, opt with_clause WithClause
    )
    DoStmt(each args DefElem)
    DropOwnedStmt(list roles)
    DropRoleStmt(list roles)
    DropStmt(list objects)
    DropUserMappingStmt(opt user RoleSpec)
    DropdbStmt(list options)
    ExecuteStmt(list params)
    ExplainStmt(one query, each options DefElem)
    FuncCall(list funcname, list args, each agg_order SortBy, one agg_filter, opt over WindowDef)
    FunctionParameter(opt arg_type TypeName, one defexpr)
    GrantRoleStmt(list granted_roles, list grantee_roles, list opt, opt grantor RoleSpec)
    GrantStmt(grant objects, each privileges AccessPriv, each grantees RoleSpec, opt grantor RoleSpec)
    GroupingFunc(list args, list refs, list cols)
    GroupingSet(list content)
    ImportForeignSchemaStmt(each table_list RangeVar, list options)
    IndexElem(one expr, list collation, list opclass, list opclassopts)
    IndexStmt(
        opt relation RangeVar, each index_params IndexElem, list index_including_params, each options
        DefElem, one where_clause, list exclude_op_names
    )
    InferClause(list index_elems, one where_clause)
    InsertStmt(
        opt relation RangeVar, list cols, one select_stmt, opt on_conflict_clause OnConflictClause, opt
        returning_clause ReturningClause, opt with_clause WithClause
    )
    IntoClause(opt rel RangeVar, list col_names, list options)
    JoinExpr(one larg, one rarg, opt join_using_alias Alias, one quals, opt alias Alias)
    JsonAggConstructor(opt output JsonOutput, one agg_filter, list agg_order, opt over WindowDef)
    JsonArgument(opt val JsonValueExpr)
    JsonArrayAgg(opt constructor JsonAggConstructor, opt arg JsonValueExpr)
    JsonArrayConstructor(each exprs JsonValueExpr, opt output JsonOutput)
    JsonArrayQueryConstructor(one query, opt output JsonOutput, opt format JsonFormat)
    JsonBehavior(one expr)
    JsonFuncExpr(
        opt context_item JsonValueExpr, one pathspec, list passing, opt output JsonOutput, opt on_empty
        JsonBehavior, opt on_error JsonBehavior
    )
    JsonIsPredicate(one expr, opt format JsonFormat)
    JsonKeyValue(one key, opt value JsonValueExpr)
    JsonObjectAgg(opt constructor JsonAggConstructor, opt arg JsonKeyValue)
    JsonObjectConstructor(each exprs JsonKeyValue, opt output JsonOutput)
    JsonOutput(opt type_name TypeName, opt returning JsonReturning)
    JsonParseExpr(opt expr JsonValueExpr, opt output JsonOutput)
    JsonReturning(opt format JsonFormat)
    JsonScalarExpr(one expr, opt output JsonOutput)
    JsonSerializeExpr(opt expr JsonValueExpr, opt output JsonOutput)
    JsonTable(
        opt context_item JsonValueExpr, opt pathspec JsonTablePathSpec, list passing, each columns
        JsonTableColumn, opt on_error JsonBehavior, opt alias Alias
    )
    JsonTableColumn(
        opt type_name TypeName, opt pathspec JsonTablePathSpec, opt format JsonFormat, list columns, opt
        on_empty JsonBehavior, opt on_error JsonBehavior
    )
    JsonTablePathSpec(one string)
    JsonValueExpr(one raw_expr, one formatted_expr, opt format JsonFormat)
    LockStmt(list relations)
    LockingClause(list locked_rels)
    MergeStmt(
        opt relation RangeVar, one source_relation, one join_condition, each merge_when_clauses
        MergeWhenClause, opt returning_clause ReturningClause, opt with_clause WithClause
    )
    MergeWhenClause(one condition, list target_list, list values)
    MinMaxExpr(list args)
    MultiAssignRef(one source)
    NamedArgExpr(one arg)
    NullTest(one arg)
    ObjectWithArgs(list objname, list objargs, each objfuncargs FunctionParameter)
    OnConflictClause(opt infer InferClause, each target_list ResTarget, one where_clause)
    PLAssignStmt(list indirection, opt val SelectStmt)
    PartitionBoundSpec(list listdatums, list lowerdatums, list upperdatums)
    PartitionCmd(opt name RangeVar, opt bound PartitionBoundSpec)
    PartitionElem(one expr, list collation, list opclass)
    PartitionRangeDatum(one value)
    PartitionSpec(each part_params PartitionElem)
    PrepareStmt(each argtypes TypeName, one query)
    PublicationObjSpec(opt pubtable PublicationTable)
    PublicationTable(opt relation RangeVar, one where_clause, list columns)
    RangeFunction(list functions, opt alias Alias, each coldeflist ColumnDef)
    RangeSubselect(one subquery, opt alias Alias)
    RangeTableFunc(one docexpr, one rowexpr, list namespaces, each columns RangeTableFuncCol, opt alias Alias)
    RangeTableFuncCol(opt type_name TypeName, one colexpr, one coldefexpr)
    RangeTableSample(one relation, list method, list args, one repeatable)
    RangeVar(opt alias Alias)
    RawStmt(one stmt)
    ReassignOwnedStmt(list roles, opt newrole RoleSpec)
    RefreshMatViewStmt(opt relation RangeVar)
    ReindexStmt(opt relation RangeVar, each params DefElem)
    RenameStmt(opt relation RangeVar, one object)
    ResTarget(list indirection, one val)
    ReturnStmt(one returnval)
    ReturningClause(each options ReturningOption, list exprs)
    RowExpr(list args)
    RuleStmt(opt relation RangeVar, one where_clause, list actions)
    SecLabelStmt(one object)
    SelectStmt(
        list distinct_clause, opt into_clause IntoClause, each target_list ResTarget, list from_clause,
        one where_clause, list group_clause, one having_clause, list window_clause, list values_lists,
        each sort_clause SortBy, one limit_offset, one limit_count, each locking_clause LockingClause,
        opt with_clause WithClause, opt larg SelectStmt, opt rarg SelectStmt
    )
    SortBy(one node, list use_op)
    StatsElem(one expr)
    SubLink(one testexpr, list oper_name, one subselect)
    TableLikeClause(opt relation RangeVar)
    TransactionStmt(list options)
    TruncateStmt(list relations)
    TypeCast(one arg, opt type_name TypeName)
    TypeName(list typmods, list array_bounds)
    UpdateStmt(
        opt relation RangeVar, each target_list ResTarget, one where_clause, list from_clause, opt
        returning_clause ReturningClause, opt with_clause WithClause
    )
    VacuumRelation(opt relation RangeVar, list va_cols)
    VacuumStmt(each options DefElem, each rels VacuumRelation)
    VariableSetStmt(list args)
    ViewStmt(opt view RangeVar, list aliases, one query, list options)
    WindowDef(list partition_clause, each order_clause SortBy, one start_offset, one end_offset)
    WithClause(each ctes CommonTableExpr)
    XmlExpr(list named_args, list args)
    XmlSerialize(one expr, opt type_name TypeName)
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
