//! Types of expressions, and what can be done with values of them outside of their shard.

use catalog::{Oid, Snapshot, TypeKind};
use merge::Comparator;
use sql::Node;

use super::calls::REG_TYPES;
use super::names::type_sql;
use crate::{Refusal, RefusalCode};

/// Type and collation of an expression; collation 0 for none.
pub(super) fn type_of(node: &Node) -> Option<(u32, u32)> {
    let fields: (&'static str, &'static str) = match &*node.name {
        "VAR" => ("vartype", "varcollid"),
        "CONST" => ("consttype", "constcollid"),
        "PARAM" => ("paramtype", "paramcollid"),
        "FUNCEXPR" => ("funcresulttype", "funccollid"),
        "OPEXPR" | "NULLIFEXPR" => ("opresulttype", "opcollid"),
        "AGGREF" => ("aggtype", "aggcollid"),
        "WINDOWFUNC" => ("wintype", "wincollid"),
        "RELABELTYPE" | "COERCEVIAIO" | "ARRAYCOERCEEXPR" | "COERCETODOMAIN" | "FIELDSELECT" => {
            ("resulttype", "resultcollid")
        }
        "CASEEXPR" | "CASE" => ("casetype", "casecollid"),
        "COALESCEEXPR" | "COALESCE" => ("coalescetype", "coalescecollid"),
        "MINMAXEXPR" | "MINMAX" => ("minmaxtype", "minmaxcollid"),
        "ARRAYEXPR" | "ARRAY" => ("array_typeid", "array_collid"),
        "SUBSCRIPTINGREF" => ("refrestype", "refcollid"),
        "BOOLEXPR" | "NULLTEST" | "BOOLEANTEST" | "SCALARARRAYOPEXPR" | "DISTINCTEXPR" | "ROWCOMPAREEXPR"
        | "ROWCOMPARE" => return Some((16, 0)),
        "SQLVALUEFUNCTION" => return Some((node.oid("type").ok()?, 0)),
        "NEXTVALUEEXPR" => return Some((node.oid("typeId").ok()?, 0)),
        "GROUPINGFUNC" => return Some((23, 0)),
        "COLLATEEXPR" | "COLLATE" => {
            let (type_oid, _) = type_of(node.node("arg").ok()?)?;
            return Some((type_oid, node.oid("collOid").ok()?));
        }
        "SUBLINK" => {
            return match node.value("subLinkType").as_str()? {
                "0" | "1" | "2" | "3" => Some((16, 0)),
                "4" => {
                    let list = node.node("subselect").ok()?.nodes("targetList").ok()?;
                    type_of(list.first()?.node("expr").ok()?)
                }
                _ => None,
            };
        }
        _ => return None,
    };
    Some((node.oid(fields.0).ok()?, node.oid(fields.1).ok()?))
}

/// A type whose values travel as an array parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Travelling {
    pub type_oid: u32,
    pub array_oid: u32,
    /// The array type as SQL.
    pub array_sql: String,
}

/// Whether values of a type can be handed to the finish statement: built-in scalar types with a binary form, and enums,
/// whose binary form is the label. The finish statement runs on the home shard, whose type OIDs these are.
pub(super) fn travelling(type_oid: u32, snapshot: &Snapshot) -> Result<Travelling, Refusal> {
    let base = snapshot.base_type(Oid(type_oid));
    let refuse = |name: &str| Err(Refusal::with(RefusalCode::FinishType, name));
    let Some(facts) = snapshot.type_info(base) else {
        return refuse("unknown type");
    };
    let scalar = match facts.kind {
        TypeKind::Base | TypeKind::Range | TypeKind::Multirange => facts.builtin && facts.category != 'A',
        TypeKind::Enum => true,
        _ => false,
    };
    // An object has another id on each server; xml is read under a setting of the session, in binary form, too.
    if !(facts.binary && scalar) || REG_TYPES.contains(&base.0) || base.0 == super::transfer::XML {
        return refuse(&facts.name);
    }
    let (Some(array), Some(name)) = (facts.array, type_sql(snapshot, base.0)) else {
        return refuse(&facts.name);
    };
    Ok(Travelling {
        type_oid: base.0,
        array_oid: array.0,
        array_sql: format!("{name}[]"),
    })
}

/// Whether the merge can compare values of a type (in binary form) as PostgreSQL sorts them under the collation.
pub(super) fn comparable(type_oid: u32, collation: u32, snapshot: &Snapshot) -> Option<u32> {
    let base = snapshot.base_type(Oid(type_oid)).0;
    let bytewise = collation != 0 && snapshot.is_bytewise(Oid(collation));
    Comparator::for_type(base, bytewise).map(|_| base)
}

/// ` COLLATE …` for a column that does not have its type's default collation.
pub(super) fn collate_sql(collation: u32, snapshot: &Snapshot) -> Result<String, Refusal> {
    const DEFAULT: u32 = 100;
    if collation == 0 || collation == DEFAULT {
        return Ok(String::new());
    }
    match snapshot.collation(Oid(collation)) {
        Some(c) => Ok(format!(
            " COLLATE {}",
            sql::QualifiedName::qualified(&c.schema, &c.name)
        )),
        None => Err(Refusal::with(RefusalCode::FinishType, "unknown collation")),
    }
}
