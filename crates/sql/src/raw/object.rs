//! Names out of the grammar's many ways to hold them.

use super::ddl_types::TypeRef;
use super::types::ObjectKind;
use crate::QualifiedName;
use pg_raw_parse::list::NodeList;
use pg_raw_parse::raw::ObjectType as O;
use pg_raw_parse::{ConstValue, Node, nodes};

/// A table as written.
pub(super) fn relation(r: &nodes::RangeVar) -> QualifiedName {
    QualifiedName {
        schema: r.schemaname().map(str::to_owned),
        name: r.relname().unwrap_or_default().to_owned(),
    }
}

/// A table that must be there; an empty name otherwise, which no table has.
pub(super) fn required(r: Option<&nodes::RangeVar>) -> QualifiedName {
    r.map_or_else(|| QualifiedName::bare(""), relation)
}

/// The strings of a list; other elements are left out.
pub(super) fn strings(list: &NodeList) -> Vec<String> {
    list.iter().filter_map(Node::as_str).map(str::to_owned).collect()
}

/// A name from its parts: the last two count.
pub(super) fn from_parts(mut parts: Vec<String>) -> Option<QualifiedName> {
    let name = parts.pop()?;
    Some(QualifiedName {
        schema: parts.pop(),
        name,
    })
}

/// A name from a list of strings.
pub(super) fn name(list: &NodeList) -> Option<QualifiedName> {
    from_parts(strings(list))
}

/// The object a DROP, COMMENT, RENAME … names, however the grammar holds it.
pub(super) fn any(node: Node<'_>) -> Option<QualifiedName> {
    match node {
        Node::String(s) => s.sval().map(QualifiedName::bare),
        Node::NodeList(l) => match l.first() {
            // COMMENT ON CONSTRAINT … ON DOMAIN and the like: the type comes first.
            Some(Node::TypeName(t)) => Some(type_name(t)),
            _ => name(l),
        },
        Node::TypeName(t) => Some(type_name(t)),
        Node::ObjectWithArgs(o) => name(o.objname()),
        Node::RangeVar(r) => Some(relation(r)),
        _ => None,
    }
}

/// The table part of `table.column`, `table.trigger` and so on.
pub(super) fn owner(node: Node<'_>) -> Option<QualifiedName> {
    let Node::NodeList(l) = node else { return None };
    let mut parts = strings(l);
    parts.pop()?;
    from_parts(parts)
}

/// A type's name as written.
pub(super) fn type_name(t: &nodes::TypeName) -> QualifiedName {
    let parts = t
        .names()
        .iter()
        .filter_map(|s| s.sval())
        .map(str::to_owned)
        .collect();
    from_parts(parts).unwrap_or_else(|| QualifiedName::bare(""))
}

/// A type with its modifiers.
pub(super) fn type_ref(t: &nodes::TypeName) -> TypeRef {
    let modifier = |n: Node<'_>| match n {
        Node::A_Const(c) => match c.val() {
            Some(ConstValue::Integer(i)) => Some(i64::from(i)),
            _ => None,
        },
        _ => None,
    };
    TypeRef {
        name: type_name(t),
        location: usize::try_from(t.location).ok(),
        modifiers: t.typmods().iter().filter_map(modifier).collect(),
        dimensions: t.array_bounds().len(),
        set_of: t.setof,
    }
}

/// A constant as text: booleans are `true` and `false`.
pub(super) fn constant(value: ConstValue<'_>) -> Option<String> {
    match value {
        ConstValue::Integer(i) => Some(i.to_string()),
        ConstValue::Float(s) | ConstValue::String(s) | ConstValue::BitString(s) => Some(s.to_owned()),
        ConstValue::Boolean(b) => Some(b.to_string()),
        _ => None,
    }
}

/// The value of an option as text; `None` when it has none.
pub(super) fn option_text(node: Node<'_>) -> Option<String> {
    match node {
        Node::String(s) => s.sval().map(str::to_owned),
        Node::Integer(i) => Some(i.ival.to_string()),
        Node::Float(f) => f.fval().map(str::to_owned),
        Node::Boolean(b) => Some(b.boolval.to_string()),
        Node::A_Const(c) => c.val().and_then(constant),
        Node::TypeName(t) => Some(type_name(t).name),
        Node::A_Star(_) => Some("*".to_owned()),
        Node::TypeCast(c) => option_text(c.arg()),
        Node::NodeList(l) => Some(l.iter().filter_map(option_text).collect::<Vec<_>>().join(",")),
        _ => None,
    }
}

/// An option's name in lower case.
pub(super) fn option_name(d: &nodes::DefElem) -> String {
    d.defname().unwrap_or_default().to_ascii_lowercase()
}

/// The options of a list: those of Drover's namespace, and all others with their namespace.
#[allow(clippy::type_complexity)]
pub(super) fn split_options<'a>(
    options: impl Iterator<Item = Node<'a>>,
) -> (Vec<(String, String)>, Vec<(String, Option<String>)>) {
    let (mut drover, mut others) = (Vec::new(), Vec::new());
    for option in options {
        let Node::DefElem(d) = option else { continue };
        match d.defnamespace() {
            Some(ns) if ns.eq_ignore_ascii_case("drover") => {
                drover.push((option_name(d), option_text(d.arg()).unwrap_or_default()));
            }
            Some(ns) => others.push((format!("{ns}.{}", option_name(d)), option_text(d.arg()))),
            None => others.push((option_name(d), option_text(d.arg()))),
        }
    }
    (drover, others)
}

/// Is an option that may come without a value on?
pub(super) fn is_on(value: Option<&str>) -> bool {
    value.is_none_or(|v| {
        ["true", "on", "1", "yes", "t", "y"]
            .iter()
            .any(|w| v.eq_ignore_ascii_case(w))
    })
}

/// The grammar's object type.
pub(super) fn kind(object_type: O::Type) -> ObjectKind {
    match object_type {
        O::OBJECT_TABLE => ObjectKind::Table,
        O::OBJECT_INDEX => ObjectKind::Index,
        O::OBJECT_VIEW => ObjectKind::View,
        O::OBJECT_MATVIEW => ObjectKind::MaterializedView,
        O::OBJECT_SEQUENCE => ObjectKind::Sequence,
        O::OBJECT_FOREIGN_TABLE => ObjectKind::ForeignTable,
        O::OBJECT_FUNCTION => ObjectKind::Function,
        O::OBJECT_PROCEDURE => ObjectKind::Procedure,
        O::OBJECT_ROUTINE => ObjectKind::Routine,
        O::OBJECT_AGGREGATE => ObjectKind::Aggregate,
        O::OBJECT_TYPE | O::OBJECT_ATTRIBUTE => ObjectKind::Type,
        O::OBJECT_DOMAIN | O::OBJECT_DOMCONSTRAINT => ObjectKind::Domain,
        O::OBJECT_SCHEMA => ObjectKind::Schema,
        O::OBJECT_EXTENSION => ObjectKind::Extension,
        O::OBJECT_TRIGGER => ObjectKind::Trigger,
        O::OBJECT_RULE => ObjectKind::Rule,
        O::OBJECT_POLICY => ObjectKind::Policy,
        O::OBJECT_COLUMN => ObjectKind::Column,
        O::OBJECT_TABCONSTRAINT => ObjectKind::TableConstraint,
        O::OBJECT_ROLE => ObjectKind::Role,
        O::OBJECT_DATABASE => ObjectKind::Database,
        O::OBJECT_COLLATION => ObjectKind::Collation,
        O::OBJECT_OPERATOR => ObjectKind::Operator,
        O::OBJECT_STATISTIC_EXT => ObjectKind::Statistics,
        O::OBJECT_PUBLICATION => ObjectKind::Publication,
        O::OBJECT_SUBSCRIPTION => ObjectKind::Subscription,
        O::OBJECT_ACCESS_METHOD => ObjectKind::AccessMethod,
        O::OBJECT_CAST => ObjectKind::Cast,
        O::OBJECT_CONVERSION => ObjectKind::Conversion,
        O::OBJECT_DEFAULT => ObjectKind::Default,
        O::OBJECT_EVENT_TRIGGER => ObjectKind::EventTrigger,
        O::OBJECT_FDW => ObjectKind::ForeignDataWrapper,
        O::OBJECT_FOREIGN_SERVER => ObjectKind::ForeignServer,
        O::OBJECT_LANGUAGE => ObjectKind::Language,
        O::OBJECT_LARGEOBJECT => ObjectKind::LargeObject,
        O::OBJECT_OPCLASS => ObjectKind::OperatorClass,
        O::OBJECT_OPFAMILY => ObjectKind::OperatorFamily,
        O::OBJECT_PARAMETER_ACL => ObjectKind::Parameter,
        O::OBJECT_TABLESPACE => ObjectKind::Tablespace,
        O::OBJECT_TSCONFIGURATION => ObjectKind::TextSearchConfiguration,
        O::OBJECT_TSDICTIONARY => ObjectKind::TextSearchDictionary,
        O::OBJECT_TSPARSER => ObjectKind::TextSearchParser,
        O::OBJECT_TSTEMPLATE => ObjectKind::TextSearchTemplate,
        O::OBJECT_TRANSFORM => ObjectKind::Transform,
        O::OBJECT_USER_MAPPING => ObjectKind::UserMapping,
        // AMOP, AMPROC, DEFACL, PUBLICATION_NAMESPACE, PUBLICATION_REL.
        _ => ObjectKind::Part,
    }
}

/// Objects that live in the relation name space.
pub(super) fn is_relation(kind: ObjectKind) -> bool {
    use ObjectKind::*;
    matches!(
        kind,
        Table | Index | View | MaterializedView | Sequence | ForeignTable
    )
}

/// Objects named `relation.name`.
pub(super) fn belongs_to_relation(kind: ObjectKind) -> bool {
    use ObjectKind::*;
    matches!(kind, Trigger | Rule | Policy | Column | TableConstraint)
}
