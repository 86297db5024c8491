//! Data definition and maintenance statements.

use super::ddl_types::*;
use super::object::{self, any, option_name, option_text, relation, required, split_options, strings};
use super::types::*;
use super::{describe, text};
use crate::QualifiedName;
use pg_raw_parse::raw::{
    AlterSubscriptionType, AlterTableType as A, ConstrType as C, DropBehavior, GrantTargetType, ObjectType,
    PartitionStrategy, PublicationObjSpecType, RoleSpecType,
};
use pg_raw_parse::{Node, nodes};
use std::ops::Range;

/// `relpersistence` of the grammar.
const TEMPORARY: u8 = b't';
const UNLOGGED: u8 = b'u';

pub(super) fn detail(sql: &str, range: Range<usize>, node: Node<'_>) -> Detail {
    match node {
        Node::CreateStmt(s) => Detail::CreateTable(Box::new(create_table(s))),
        Node::CreateTableAsStmt(s) => match create_table_as(sql, range, s) {
            Some(c) => Detail::CreateTableAs(Box::new(c)),
            None => Detail::None,
        },
        Node::SelectStmt(s) => match select_into(sql, range, s) {
            Some(c) => Detail::CreateTableAs(Box::new(c)),
            None => Detail::None,
        },
        Node::RefreshMatViewStmt(s) => Detail::CreateTableAs(Box::new(CreateTableAs {
            table: required(s.relation()),
            temporary: false,
            materialized_view: true,
            if_not_exists: false,
            no_data: s.skip_data,
            query: None,
            into: None,
            query_kind: StatementKind::Select,
            drover_options: Vec::new(),
        })),
        Node::IndexStmt(s) => Detail::Index(Box::new(index(s))),
        Node::AlterTableStmt(s) => Detail::AlterTable(Box::new(alter_table(s))),
        Node::DropStmt(s) => Detail::Drop(drop(sql, range, s)),
        Node::TruncateStmt(s) => Detail::Truncate(Truncate {
            tables: range_vars(s.relations()),
            restart_identity: s.restart_seqs,
            cascade: s.behavior == DropBehavior::DROP_CASCADE,
        }),
        Node::LockStmt(s) => Detail::Lock(LockStatement {
            tables: range_vars(s.relations()),
            mode: s.mode,
            nowait: s.nowait,
        }),
        other => maintenance(other).map_or_else(|| objects(other), Detail::Maintenance),
    }
}

fn maintenance(node: Node<'_>) -> Option<Maintenance> {
    Some(match node {
        Node::VacuumStmt(s) => Maintenance {
            tables: s
                .rels()
                .iter()
                .filter_map(|r| r.relation())
                .map(relation)
                .collect(),
            options: s.options().iter().map(option_name).collect(),
        },
        Node::ClusterStmt(s) => Maintenance {
            tables: s.relation().map(relation).into_iter().collect(),
            options: s.params().iter().map(option_name).collect(),
        },
        Node::ReindexStmt(s) => Maintenance {
            tables: s.relation().map(relation).into_iter().collect(),
            options: s.params().iter().map(option_name).collect(),
        },
        _ => return None,
    })
}

fn objects(node: Node<'_>) -> Detail {
    match node {
        Node::RenameStmt(s) => Detail::Rename(Rename {
            object: object::kind(s.rename_type),
            relation: relation_of(object::kind(s.rename_type), s.relation(), s.object()),
            name: any(s.object()),
            sub_name: s.subname().map(str::to_owned),
            new_name: s.newname().unwrap_or_default().to_owned(),
            if_exists: s.missing_ok,
        }),
        Node::AlterObjectSchemaStmt(s) => Detail::Rename(Rename {
            object: object::kind(s.object_type),
            relation: relation_of(object::kind(s.object_type), s.relation(), s.object()),
            name: any(s.object()),
            sub_name: None,
            new_name: s.newschema().unwrap_or_default().to_owned(),
            if_exists: s.missing_ok,
        }),
        Node::AlterOwnerStmt(s) => Detail::Rename(Rename {
            object: object::kind(s.object_type),
            relation: relation_of(object::kind(s.object_type), s.relation(), s.object()),
            name: any(s.object()),
            sub_name: None,
            new_name: s
                .newowner()
                .and_then(|r| r.rolename())
                .unwrap_or_default()
                .to_owned(),
            if_exists: false,
        }),
        Node::CreateFunctionStmt(s) => Detail::Function(Box::new(create_function(s))),
        Node::AlterFunctionStmt(s) => Detail::Function(Box::new(alter_function(s))),
        Node::DoStmt(s) => Detail::Do(do_block(s)),
        Node::CreateTrigStmt(s) => Detail::Trigger(Box::new(CreateTrigger {
            name: s.trigname().unwrap_or_default().to_owned(),
            table: required(s.relation()),
            function: object::name(s.funcname()).unwrap_or_else(|| QualifiedName::bare("")),
            row: s.row,
            constraint: s.isconstraint,
            transition_tables: !s.transition_rels().is_empty(),
        })),
        Node::ViewStmt(s) => Detail::View(CreateView {
            view: required(s.view()),
            temporary: is(s.view(), TEMPORARY),
            replace: s.replace,
        }),
        Node::CreateSeqStmt(s) => Detail::Sequence(sequence(s.sequence(), s.options(), false)),
        Node::AlterSeqStmt(s) => Detail::Sequence(sequence(s.sequence(), s.options(), true)),
        Node::AlterEnumStmt(s) if s.old_val().is_some() => Detail::RenameLabel { name: enum_name(s) },
        Node::CreateSchemaStmt(s) => Detail::Schema {
            name: s.schemaname().map(str::to_owned),
            if_not_exists: s.if_not_exists,
            has_elements: !s.schema_elts().is_empty(),
            role: s.authrole().map(role_words),
        },
        Node::GrantStmt(s) => Detail::Grant(grant(s)),
        Node::GrantRoleStmt(s) => Detail::Grant(Grant {
            grant: s.is_grant,
            object: None,
            objects: Vec::new(),
            count: s.granted_roles().len(),
        }),
        other => about(other),
    }
}

fn enum_name(s: &nodes::AlterEnumStmt) -> QualifiedName {
    let parts = s.type_name().iter().filter_map(|part| part.sval());
    object::from_parts(parts.map(str::to_owned).collect()).unwrap_or_else(|| QualifiedName::bare(""))
}

/// Statements that name one object of any kind.
fn about(node: Node<'_>) -> Detail {
    match node {
        Node::CommentStmt(s) => Detail::Comment(reference(s.objtype, s.object())),
        Node::SecLabelStmt(s) => Detail::Comment(reference(s.objtype, s.object())),
        Node::AlterExtensionContentsStmt(s) => Detail::Comment(reference(s.objtype, s.object())),
        Node::AlterStatsStmt(s) => Detail::Comment(ObjectReference {
            object: ObjectKind::Statistics,
            name: object::from_parts(
                s.defnames()
                    .iter()
                    .filter_map(|part| part.sval())
                    .map(str::to_owned)
                    .collect(),
            ),
        }),
        Node::AlterObjectDependsStmt(s) => {
            let object = object::kind(s.object_type);
            let name = s.relation().map(relation).or_else(|| any(s.object()));
            Detail::Comment(ObjectReference { object, name })
        }
        other => servers(other),
    }
}

/// Statements about roles, publications, subscriptions and databases.
fn servers(node: Node<'_>) -> Detail {
    match node {
        Node::DropOwnedStmt(s) => Detail::DropOwned {
            roles: s.roles().iter().map(role).collect(),
            cascade: s.behavior == DropBehavior::DROP_CASCADE,
        },
        Node::CreatePublicationStmt(s) => Detail::Publication {
            unnamed_tables: s.for_all_tables || publishes_schema(s.pubobjects()),
        },
        Node::AlterPublicationStmt(s) => Detail::Publication {
            unnamed_tables: s.for_all_tables || publishes_schema(s.pubobjects()),
        },
        Node::CreateSubscriptionStmt(_) => Detail::Subscription { takes_tables: true },
        Node::AlterSubscriptionStmt(s) => Detail::Subscription {
            takes_tables: matches!(
                s.kind,
                AlterSubscriptionType::ALTER_SUBSCRIPTION_SET_PUBLICATION
                    | AlterSubscriptionType::ALTER_SUBSCRIPTION_ADD_PUBLICATION
                    | AlterSubscriptionType::ALTER_SUBSCRIPTION_DROP_PUBLICATION
                    | AlterSubscriptionType::ALTER_SUBSCRIPTION_REFRESH
            ),
        },
        Node::AlterDatabaseStmt(s) => Detail::AlterDatabase {
            tablespace: s.options().iter().any(|d| option_name(d) == "tablespace"),
        },
        _ => Detail::None,
    }
}

/// A role as SQL has it.
fn role_words(role: &nodes::RoleSpec) -> String {
    match role.roletype {
        RoleSpecType::ROLESPEC_CURRENT_ROLE => "CURRENT_ROLE".to_owned(),
        RoleSpecType::ROLESPEC_CURRENT_USER => "CURRENT_USER".to_owned(),
        RoleSpecType::ROLESPEC_SESSION_USER => "SESSION_USER".to_owned(),
        _ => crate::quote_ident(role.rolename().unwrap_or("public")),
    }
}

/// A role's name; `None` for CURRENT_USER and its like.
fn role(node: Node<'_>) -> Option<String> {
    match node {
        Node::RoleSpec(r) => r.rolename().map(str::to_owned),
        _ => None,
    }
}

fn publishes_schema(objects: &pg_raw_parse::list::NodeList) -> bool {
    objects.iter().any(|n| match n {
        Node::PublicationObjSpec(o) => o.pubobjtype != PublicationObjSpecType::PUBLICATIONOBJ_TABLE,
        _ => true,
    })
}

/// The relation that an object is or belongs to, in a statement that gives it as `relation` or within `object`.
fn relation_of(kind: ObjectKind, given: Option<&nodes::RangeVar>, object: Node<'_>) -> Option<QualifiedName> {
    given.map(relation).or_else(|| {
        if object::is_relation(kind) {
            any(object)
        } else if object::belongs_to_relation(kind) {
            object::owner(object)
        } else {
            None
        }
    })
}

fn is(r: Option<&nodes::RangeVar>, persistence: u8) -> bool {
    r.is_some_and(|r| r.relpersistence as u8 == persistence || explicit_temp(r, persistence))
}

/// `CREATE TABLE pg_temp.t` is temporary too.
fn explicit_temp(r: &nodes::RangeVar, persistence: u8) -> bool {
    persistence == TEMPORARY && r.schemaname() == Some("pg_temp")
}

fn range_vars(list: &pg_raw_parse::list::NodeList) -> Vec<QualifiedName> {
    let name = |n: Node<'_>| match n {
        Node::RangeVar(r) => Some(relation(r)),
        _ => None,
    };
    list.iter().filter_map(name).collect()
}

fn create_table(s: &nodes::CreateStmt) -> CreateTable {
    let mut columns = Vec::new();
    let mut constraints = Vec::new();
    let mut like = Vec::new();
    for element in s.table_elts() {
        match element {
            Node::ColumnDef(c) => {
                columns.push(column(c));
                constraints.extend(column_constraints(c));
            }
            Node::Constraint(c) => constraints.extend(constraint(c, None)),
            Node::TableLikeClause(l) => {
                like.push(LikeClause {
                    table: required(l.relation()),
                    options: l.options,
                });
            }
            _ => {}
        }
    }
    let inherits = range_vars(s.inh_relations());
    let partition = s.partbound().is_some();
    let (drover_options, options) = split_options(s.options().iter());
    CreateTable {
        table: required(s.relation()),
        columns,
        constraints,
        like,
        drover_options,
        options,
        partition_of: if partition {
            inherits.first().cloned()
        } else {
            None
        },
        bound: s.partbound().map(partition_bound),
        inherits: if partition { Vec::new() } else { inherits },
        partition_by: s.partspec().map(partition_by),
        of_type: s.of_typename().is_some(),
        temporary: is(s.relation(), TEMPORARY),
        unlogged: is(s.relation(), UNLOGGED),
        foreign: false,
        if_not_exists: s.if_not_exists,
    }
}

fn partition_by(p: &nodes::PartitionSpec) -> PartitionBy {
    let strategy = match p.strategy {
        PartitionStrategy::PARTITION_STRATEGY_LIST => "list",
        PartitionStrategy::PARTITION_STRATEGY_RANGE => "range",
        _ => "hash",
    };
    PartitionBy {
        strategy: strategy.to_owned(),
        columns: p
            .part_params()
            .iter()
            .filter_map(|e| e.name())
            .map(str::to_owned)
            .collect(),
        expressions: p.part_params().iter().filter(|e| e.name().is_none()).count(),
    }
}

fn partition_bound(bound: &nodes::PartitionBoundSpec) -> PartitionBound {
    let lists = [bound.listdatums(), bound.lowerdatums(), bound.upperdatums()];
    PartitionBound {
        fixed: lists.into_iter().all(|list| list.iter().all(is_fixed)),
    }
}

/// MINVALUE and MAXVALUE are column references to the grammar.
fn is_fixed(node: Node<'_>) -> bool {
    match node {
        Node::A_Const(c) => match c.val() {
            Some(value) => object::constant(value).is_none_or(|text| !is_relative_time(&text)),
            None => true,
        },
        Node::TypeCast(c) => is_fixed(c.arg()),
        Node::ColumnRef(_) => true,
        _ => false,
    }
}

fn is_relative_time(text: &str) -> bool {
    let text = text.trim_start().to_ascii_lowercase();
    let words = ["now", "today", "tomorrow", "yesterday"];
    words.iter().any(|word| text.starts_with(word))
}

fn column(c: &nodes::ColumnDef) -> ColumnDef {
    let kinds: Vec<C::Type> = c
        .constraints()
        .iter()
        .filter_map(|n| match n {
            Node::Constraint(c) => Some(c.contype),
            _ => None,
        })
        .collect();
    let type_ref = c.type_name().map(object::type_ref);
    let serial = [
        "serial",
        "serial2",
        "serial4",
        "serial8",
        "bigserial",
        "smallserial",
    ];
    let is_serial = type_ref
        .as_ref()
        .is_some_and(|t| t.name.schema.is_none() && serial.contains(&t.name.name.as_str()));
    ColumnDef {
        name: c.colname().unwrap_or_default().to_owned(),
        not_null: c.is_not_null
            || kinds
                .iter()
                .any(|k| matches!(*k, C::CONSTR_NOTNULL | C::CONSTR_PRIMARY)),
        has_default: !matches!(c.raw_default(), Node::None) || kinds.contains(&C::CONSTR_DEFAULT),
        generated: kinds.contains(&C::CONSTR_GENERATED),
        identity: is_serial || kinds.contains(&C::CONSTR_IDENTITY),
        collation: c.coll_clause().and_then(|cc| object::name(cc.collname())),
        type_ref,
    }
}

fn column_constraints(c: &nodes::ColumnDef) -> Vec<ConstraintDef> {
    let name = c.colname().unwrap_or_default();
    let each = |n: Node<'_>| match n {
        Node::Constraint(con) => constraint(con, Some(name)),
        _ => None,
    };
    c.constraints().iter().filter_map(each).collect()
}

/// `column` is the column a constraint is written on. `None` for what is an attribute rather than a constraint.
fn constraint(c: &nodes::Constraint, column: Option<&str>) -> Option<ConstraintDef> {
    let mut columns = match c.contype {
        C::CONSTR_FOREIGN => strings(c.fk_attrs()),
        _ => strings(c.keys()),
    };
    let kind = match c.contype {
        C::CONSTR_CHECK => ConstraintKind::Check,
        C::CONSTR_NOTNULL => ConstraintKind::NotNull,
        C::CONSTR_PRIMARY => ConstraintKind::PrimaryKey,
        C::CONSTR_UNIQUE => ConstraintKind::Unique,
        C::CONSTR_EXCLUSION => exclusion(c, &mut columns),
        C::CONSTR_FOREIGN => ConstraintKind::ForeignKey {
            table: required(c.pktable()),
            columns: strings(c.pk_attrs()),
            cascades: [c.fk_upd_action, c.fk_del_action]
                .iter()
                .any(|a| !matches!(*a as u8, b'a' | b'r' | 0)),
        },
        _ => return None,
    };
    if let Some(column) = column
        && columns.is_empty()
    {
        columns.push(column.to_owned());
    }
    Some(ConstraintDef {
        name: c.conname().map(str::to_owned),
        kind,
        columns,
        using_index: c.indexname().map(str::to_owned),
        not_valid: c.skip_validation,
        deferrable: c.deferrable,
    })
}

/// Elements are pairs of an index element and an operator name.
fn exclusion(c: &nodes::Constraint, columns: &mut Vec<String>) -> ConstraintKind {
    let mut other_elements = false;
    for pair in c.exclusions() {
        let Node::NodeList(pair) = pair else { continue };
        let column = match pair.first() {
            Some(Node::IndexElem(e)) => e.name(),
            _ => None,
        };
        let equal = match pair.get(1) {
            Some(Node::NodeList(op)) => {
                object::name(op).is_some_and(|n| n.name == "=" && n.schema.is_none_or(|s| s == "pg_catalog"))
            }
            _ => false,
        };
        match column {
            Some(column) if equal => columns.push(column.to_owned()),
            _ => other_elements = true,
        }
    }
    ConstraintKind::Exclusion { other_elements }
}

fn create_table_as(sql: &str, range: Range<usize>, s: &nodes::CreateTableAsStmt) -> Option<CreateTableAs> {
    let into = s.into()?;
    let (drover_options, _) = split_options(into.options().iter());
    Some(CreateTableAs {
        table: required(into.rel()),
        temporary: is(into.rel(), TEMPORARY),
        materialized_view: s.objtype == ObjectType::OBJECT_MATVIEW,
        if_not_exists: s.if_not_exists,
        no_data: into.skip_data,
        query: text::created_as(sql, range),
        into: None,
        query_kind: describe::kind(s.query()),
        drover_options,
    })
}

/// SELECT … INTO, which the grammar hangs on the first query of a set operation.
fn select_into(sql: &str, range: Range<usize>, s: &nodes::SelectStmt) -> Option<CreateTableAs> {
    let mut first = s;
    let into = loop {
        match first.into_clause() {
            Some(into) => break into,
            None => first = first.larg()?,
        }
    };
    let table = into.rel()?;
    let location = usize::try_from(table.location).ok()?;
    Some(CreateTableAs {
        table: required(into.rel()),
        temporary: is(into.rel(), TEMPORARY),
        materialized_view: false,
        if_not_exists: false,
        no_data: false,
        into: Some(IntoClause {
            range: text::into_clause(sql, range.clone(), location)?,
            unlogged: is(into.rel(), UNLOGGED),
        }),
        query: Some(range),
        query_kind: StatementKind::Select,
        drover_options: Vec::new(),
    })
}

fn index(s: &nodes::IndexStmt) -> IndexStatement {
    let element = |e: &nodes::IndexElem| match e.name() {
        Some(name) => IndexElement::Column(name.to_owned()),
        None => IndexElement::Expression,
    };
    IndexStatement {
        name: s.idxname().map(str::to_owned),
        table: required(s.relation()),
        elements: s.index_params().iter().map(element).collect(),
        unique: s.unique,
        concurrently: s.concurrent,
        partial: !matches!(s.where_clause(), Node::None),
        if_not_exists: s.if_not_exists,
    }
}

fn alter_table(s: &nodes::AlterTableStmt) -> AlterTable {
    let action = |n: Node<'_>| match n {
        Node::AlterTableCmd(c) => Some(alter_action(c)),
        _ => None,
    };
    AlterTable {
        table: required(s.relation()),
        object: object::kind(s.objtype),
        if_exists: s.missing_ok,
        only: s.relation().is_some_and(|r| !r.inh),
        actions: s.cmds().iter().filter_map(action).collect(),
    }
}

fn alter_action(c: &nodes::AlterTableCmd) -> AlterAction {
    let mut action = AlterAction {
        kind: alter_kind(c),
        name: c.name().map(str::to_owned),
        column: None,
        constraints: Vec::new(),
        relation: None,
        bound: None,
        concurrently: matches!(c.subtype, A::AT_DetachPartitionFinalize),
        drover_options: Vec::new(),
        cascade: c.behavior == DropBehavior::DROP_CASCADE,
    };
    match c.def() {
        Node::ColumnDef(d) => {
            action.name = action.name.or_else(|| d.colname().map(str::to_owned));
            action.constraints = column_constraints(d);
            action.column = Some(column(d));
        }
        Node::Constraint(d) => {
            action.name = action.name.or_else(|| d.conname().map(str::to_owned));
            action.constraints.extend(constraint(d, None));
        }
        Node::RangeVar(r) => action.relation = Some(relation(r)),
        Node::PartitionCmd(p) => {
            action.relation = p.name().map(relation);
            action.bound = p.bound().map(partition_bound);
            action.concurrently |= p.concurrent;
        }
        Node::NodeList(l) => action.drover_options = split_options(l.iter()).0,
        _ => {}
    }
    action
}

fn alter_kind(c: &nodes::AlterTableCmd) -> AlterKind {
    match c.subtype {
        A::AT_AddColumn => AlterKind::AddColumn,
        A::AT_DropColumn => AlterKind::DropColumn,
        A::AT_AlterColumnType => AlterKind::AlterColumnType,
        A::AT_ColumnDefault if matches!(c.def(), Node::None) => AlterKind::DropDefault,
        A::AT_ColumnDefault => AlterKind::SetDefault,
        A::AT_SetNotNull => AlterKind::SetNotNull,
        A::AT_DropNotNull => AlterKind::DropNotNull,
        A::AT_SetStatistics => AlterKind::SetStatistics,
        A::AT_SetStorage => AlterKind::SetStorage,
        A::AT_SetCompression => AlterKind::SetCompression,
        A::AT_DropExpression => AlterKind::DropExpression,
        A::AT_SetOptions | A::AT_ResetOptions => AlterKind::ColumnOptions,
        A::AT_AddIdentity | A::AT_SetIdentity | A::AT_DropIdentity => AlterKind::Identity,
        A::AT_AddConstraint => AlterKind::AddConstraint,
        A::AT_AlterConstraint => AlterKind::AlterConstraint,
        A::AT_ValidateConstraint => AlterKind::ValidateConstraint,
        A::AT_DropConstraint => AlterKind::DropConstraint,
        A::AT_AttachPartition => AlterKind::AttachPartition,
        A::AT_DetachPartition | A::AT_DetachPartitionFinalize => AlterKind::DetachPartition,
        A::AT_AddInherit => AlterKind::Inherit,
        A::AT_DropInherit => AlterKind::NoInherit,
        A::AT_SetRelOptions | A::AT_ResetRelOptions => AlterKind::RelOptions,
        A::AT_SetLogged => AlterKind::SetLogged,
        A::AT_SetUnLogged => AlterKind::SetUnlogged,
        A::AT_SetTableSpace => AlterKind::SetTablespace,
        A::AT_SetAccessMethod => AlterKind::SetAccessMethod,
        A::AT_EnableTrig..=A::AT_DisableRule => AlterKind::Triggers,
        A::AT_EnableRowSecurity..=A::AT_NoForceRowSecurity => AlterKind::RowSecurity,
        A::AT_ReplicaIdentity => AlterKind::ReplicaIdentity,
        A::AT_ChangeOwner => AlterKind::Owner,
        A::AT_ClusterOn | A::AT_DropCluster => AlterKind::ClusterOn,
        other => AlterKind::Other(other),
    }
}

fn drop(sql: &str, range: Range<usize>, s: &nodes::DropStmt) -> DropStatement {
    let object = object::kind(s.remove_type);
    let name = |n: Node<'_>| {
        if object::belongs_to_relation(object) {
            object::owner(n)
        } else {
            any(n)
        }
    };
    DropStatement {
        lenient: match s.missing_ok {
            true => sql.get(range).map(str::to_owned),
            false => text::with_if_exists(sql, range, object),
        },
        object,
        objects: s.objects().iter().filter_map(name).collect(),
        cascade: s.behavior == DropBehavior::DROP_CASCADE,
        if_exists: s.missing_ok,
        concurrently: s.concurrent,
    }
}

fn create_function(s: &nodes::CreateFunctionStmt) -> CreateFunction {
    let name = object::name(s.funcname()).unwrap_or_else(|| QualifiedName::bare(""));
    let mut function = options_of_function(name, s.options().iter());
    function.procedure = s.is_procedure;
    function.replace = s.replace;
    if !matches!(s.sql_body(), Node::None) {
        function.body = FunctionBody::Inline;
    }
    function
}

fn alter_function(s: &nodes::AlterFunctionStmt) -> CreateFunction {
    let name = s
        .func()
        .and_then(|f| object::name(f.objname()))
        .unwrap_or_else(|| QualifiedName::bare(""));
    let mut function = options_of_function(name, s.actions().iter());
    function.procedure = s.objtype == ObjectType::OBJECT_PROCEDURE;
    function
}

fn options_of_function<'a>(
    name: QualifiedName,
    options: impl Iterator<Item = &'a nodes::DefElem>,
) -> CreateFunction {
    let mut function = CreateFunction {
        name,
        language: None,
        body: FunctionBody::None,
        procedure: false,
        replace: false,
        settings: Vec::new(),
        volatility: None,
        security_definer: false,
    };
    for d in options {
        match option_name(d).as_str() {
            "language" => function.language = option_text(d.arg()).map(|l| l.to_ascii_lowercase()),
            "volatility" => function.volatility = option_text(d.arg()),
            "security" => function.security_definer = option_text(d.arg()).as_deref() == Some("true"),
            "as" => function.body = body(d.arg()),
            "set" => {
                if let Node::VariableSetStmt(v) = d.arg() {
                    function.settings.extend(v.name().map(str::to_ascii_lowercase));
                }
            }
            _ => {}
        }
    }
    function
}

fn body(arg: Node<'_>) -> FunctionBody {
    let Node::NodeList(l) = arg else {
        return FunctionBody::None;
    };
    let mut parts = strings(l).into_iter();
    match (parts.next(), parts.next()) {
        (Some(text), None) => FunctionBody::Text(text),
        (Some(library), Some(_)) => FunctionBody::Library(library),
        _ => FunctionBody::None,
    }
}

fn do_block(s: &nodes::DoStmt) -> DoBlock {
    let mut block = DoBlock {
        language: "plpgsql".to_owned(),
        body: String::new(),
    };
    for d in s.args() {
        let value = option_text(d.arg()).unwrap_or_default();
        match option_name(d).as_str() {
            "as" => block.body = value,
            "language" => block.language = value.to_ascii_lowercase(),
            _ => {}
        }
    }
    block
}

fn sequence(
    name: Option<&nodes::RangeVar>,
    options: &pg_raw_parse::list::NodeList,
    alter: bool,
) -> SequenceStatement {
    let owned = |n: Node<'_>| match n {
        Node::DefElem(d) if d.defname() == Some("owned_by") => object::owner(d.arg()),
        _ => None,
    };
    SequenceStatement {
        sequence: required(name),
        alter,
        temporary: is(name, TEMPORARY),
        owned_by: options.iter().find_map(owned),
    }
}

fn reference(object_type: ObjectType::Type, node: Node<'_>) -> ObjectReference {
    let object = object::kind(object_type);
    let name = if object::belongs_to_relation(object) {
        object::owner(node)
    } else {
        any(node)
    };
    ObjectReference { object, name }
}

fn grant(s: &nodes::GrantStmt) -> Grant {
    let relations = super::names::grants_on_relations(s);
    Grant {
        grant: s.is_grant,
        object: Some(object::kind(s.objtype)),
        objects: match relations && s.targtype == GrantTargetType::ACL_TARGET_OBJECT {
            true => s.objects().iter().map(relation).collect(),
            false => Vec::new(),
        },
        count: s.objects().len(),
    }
}
