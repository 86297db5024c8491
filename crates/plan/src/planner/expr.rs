//! Reading expressions of analyzed trees.

use catalog::{KeyFamily, KeyType, KeyValue, Oid, Snapshot};
use sql::{Node, Value};

use crate::{KeySource, Refusal, RefusalCode};

/// `paramkind` of a parameter of the statement.
const PARAM_EXTERN: &str = "0";
/// `paramkind` of a column of a sublink's subquery.
const PARAM_SUBLINK: &str = "2";

impl From<sql::NodeError> for Refusal {
    fn from(error: sql::NodeError) -> Refusal {
        Refusal::with(RefusalCode::Unreadable, error.to_string())
    }
}

impl From<sql::DeparseError> for Refusal {
    fn from(error: sql::DeparseError) -> Refusal {
        Refusal::with(RefusalCode::UnknownNode, error.to_string())
    }
}

/// A column reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Var {
    pub rtindex: usize,
    pub attno: i32,
    pub levels_up: usize,
}

/// Reads a VAR node.
pub(super) fn as_var(node: &Node) -> Option<Var> {
    if !node.is("VAR") {
        return None;
    }
    Some(Var {
        rtindex: usize::try_from(node.i64("varno").ok()?).ok()?,
        attno: node.i32("varattno").ok()?,
        levels_up: usize::try_from(node.i64("varlevelsup").ok()?).ok()?,
    })
}

/// Number of the column of the sublink's subquery that a PARAM stands for, from 1.
pub(super) fn sublink_column(node: &Node) -> Option<usize> {
    let is = node.is("PARAM") && node.value("paramkind").as_str() == Some(PARAM_SUBLINK);
    if is {
        usize::try_from(node.i64("paramid").ok()?).ok()
    } else {
        None
    }
}

/// Number of the statement's parameter that a PARAM is, from 1.
pub(super) fn extern_param(node: &Node) -> Option<u16> {
    let is = node.is("PARAM") && node.value("paramkind").as_str() == Some(PARAM_EXTERN);
    if is {
        u16::try_from(node.i64("paramid").ok()?).ok()
    } else {
        None
    }
}

/// `pg_proc` OIDs of conversions between integers: the value stays the same, or it is an error.
const INTEGER_CASTS: [u32; 6] = [313, 314, 480, 481, 714, 754];
/// `varchar(varchar, int4, bool)`.
const VARCHAR_LENGTH: u32 = 669;
/// `bpchar(bpchar, int4, bool)`.
const BPCHAR_LENGTH: u32 = 668;

/// Takes conversions off that keep the value, as far as placement is concerned.
pub(super) fn strip_casts(node: &Node) -> &Node {
    let mut node = node;
    loop {
        let inner = if node.is("RELABELTYPE") || node.is("COERCETODOMAIN") {
            node.value("arg").as_node()
        } else if node.is("FUNCEXPR") && node.oid("funcid").is_ok_and(|f| INTEGER_CASTS.contains(&f)) {
            node.value("args")
                .as_list()
                .and_then(|args| args.first())
                .and_then(Value::as_node)
        } else {
            None
        };
        match inner {
            Some(inner) => node = inner,
            None => return node,
        }
    }
}

/// A constant or parameter whose value will be a key, or `None`.
pub(super) fn key_source(node: &Node, snapshot: &Snapshot) -> Option<KeySource> {
    let inner = strip_casts(node);
    let source = if inner.is("CONST") {
        const_key(inner, snapshot)
    } else if inner.is("FUNCEXPR") {
        length_coercion(inner, snapshot)
    } else {
        let key_type = snapshot.key_type(Oid(inner.oid("paramtype").ok()?))?;
        extern_param(inner).map(|index| KeySource::Param { index, key_type })
    };
    match becomes_character(node, snapshot) {
        true => source.and_then(as_character),
        false => source,
    }
}

/// Whether a text is taken for a `character` by one of the conversions around a value. The bytes stay the same, but blanks
/// at their end mean nothing any more.
fn becomes_character(node: &Node, snapshot: &Snapshot) -> bool {
    let is_character = |oid: Result<u32, _>| {
        oid.is_ok_and(|oid| snapshot.key_type(Oid(oid)).map(KeyType::family) == Some(KeyFamily::Bpchar))
    };
    let mut node = Some(node);
    while let Some(outer) = node {
        if outer.is("RELABELTYPE") && is_character(outer.oid("resulttype")) {
            return true;
        }
        let converts = outer.is("RELABELTYPE") || outer.is("COERCETODOMAIN");
        node = converts.then(|| outer.value("arg").as_node()).flatten();
    }
    false
}

/// A text's key as that of a `character`.
fn as_character(source: KeySource) -> Option<KeySource> {
    Some(match source {
        KeySource::Const { value, location, .. } => KeySource::Const {
            value: KeyType::Bpchar.coerce(&value).ok()?,
            location,
            key_type: KeyType::Bpchar,
        },
        KeySource::Param { index, .. } => KeySource::Param {
            index,
            key_type: KeyType::Bpchar,
        },
        // What was cut to a length as a text may end with blanks that count for the length.
        KeySource::LimitedParam { .. } | KeySource::ParamArray { .. } => return None,
    })
}

/// The key of a CONST node.
pub(super) fn const_key(node: &Node, snapshot: &Snapshot) -> Option<KeySource> {
    let key_type = snapshot.key_type(Oid(node.oid("consttype").ok()?))?;
    let value = if node.bool("constisnull").ok()? {
        KeyValue::Null
    } else {
        let Value::Datum { bytes, .. } = node.value("constvalue") else {
            return None;
        };
        key_type.from_datum(bytes).ok()?
    };
    let location = node.i64("location").ok().and_then(|l| u32::try_from(l).ok());
    Some(KeySource::Const {
        value,
        location,
        key_type,
    })
}

/// `varchar(n)` and `character(n)`: the value itself when it is known to fit.
fn length_coercion(node: &Node, snapshot: &Snapshot) -> Option<KeySource> {
    let function = node.oid("funcid").ok()?;
    let args = node.nodes("args").ok()?;
    let [value, limit, ..] = args.as_slice() else {
        return None;
    };
    let typmod = const_int(limit)?;
    let source = key_source(value, snapshot)?;
    let limit = usize::try_from(typmod - 4).ok()?;
    let key_type = match function {
        VARCHAR_LENGTH => KeyType::Varchar,
        BPCHAR_LENGTH => KeyType::Bpchar,
        _ => return None,
    };
    match source {
        KeySource::Const {
            value: KeyValue::Null,
            ..
        } => Some(source),
        KeySource::Const {
            value: KeyValue::Text(text),
            ..
        } => {
            let value = std::str::from_utf8(&text).ok()?;
            // Blanks at the end of a character value can be cut off without an error, and mean nothing.
            let value = if key_type == KeyType::Bpchar {
                value.trim_end_matches(' ')
            } else {
                value
            };
            let fits = value.chars().count() <= limit;
            // That it fits is known of this literal only: no other may take its place, so it has no location.
            fits.then_some(KeySource::Const {
                value: KeyValue::Text(value.as_bytes().into()),
                location: None,
                key_type,
            })
        }
        KeySource::Param { index, .. } => {
            let chars_max = u32::try_from(limit).ok()?;
            Some(KeySource::LimitedParam {
                index,
                key_type,
                chars_max,
            })
        }
        _ => None,
    }
}

/// An int4 or int8 constant.
pub(super) fn const_int(node: &Node) -> Option<i64> {
    let node = strip_casts(node);
    if !node.is("CONST") || node.bool("constisnull").ok()? {
        return None;
    }
    let key_type = match node.oid("consttype").ok()? {
        21 => KeyType::Int2,
        23 => KeyType::Int4,
        20 => KeyType::Int8,
        _ => return None,
    };
    let Value::Datum { bytes, .. } = node.value("constvalue") else {
        return None;
    };
    match key_type.from_datum(bytes).ok()? {
        KeyValue::Int(value) => Some(value),
        _ => None,
    }
}

/// The members of an array constant (`'{1,2}'::int[]`): one dimension, no NULLs; a NULL array has none.
pub(super) fn const_array(node: &Node, snapshot: &Snapshot) -> Option<Vec<KeySource>> {
    if is_null_const(node) {
        return Some(Vec::new());
    }
    let Value::Datum { bytes, .. } = node.value("constvalue") else {
        return None;
    };
    let word = |at: usize| Some(i32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    // array.h: varlena header, dimensions, offset of the data (0 without NULLs), element type; then per dimension its
    // size, per dimension its lower bound, then the data aligned to eight bytes.
    let (dimensions, data_offset, element) = (word(4)?, word(8)?, word(12)?);
    if dimensions == 0 {
        return Some(Vec::new());
    }
    if dimensions != 1 || data_offset != 0 {
        return None;
    }
    let key_type = snapshot.key_type(Oid(u32::try_from(element).ok()?))?;
    let count = usize::try_from(word(16)?).ok()?;
    let mut at: usize = 24;
    let mut out = Vec::new();
    for _ in 0..count.min(bytes.len()) {
        let (start, len) = match key_type {
            KeyType::Int2 => (at, 2),
            KeyType::Int4 => (at, 4),
            KeyType::Int8 => (at, 8),
            KeyType::Uuid => (at, 16),
            // No table is sharded by these.
            KeyType::Bool
            | KeyType::Date
            | KeyType::Timestamp
            | KeyType::Timestamptz
            | KeyType::Bytea
            | KeyType::Float4
            | KeyType::Float8
            | KeyType::Numeric
            | KeyType::Enum => return None,
            // Elements have a header of four bytes and start at multiples of four.
            KeyType::Text | KeyType::Varchar | KeyType::Bpchar => {
                let start = at.next_multiple_of(4);
                (start, usize::try_from(word(start)? >> 2).ok()?)
            }
        };
        let raw = bytes.get(start..start.checked_add(len)?)?;
        let value = match raw.len() {
            2 if key_type == KeyType::Int2 => KeyValue::Int(i16::from_le_bytes(raw.try_into().ok()?).into()),
            4 if key_type == KeyType::Int4 => KeyValue::Int(i32::from_le_bytes(raw.try_into().ok()?).into()),
            8 if key_type == KeyType::Int8 => KeyValue::Int(i64::from_le_bytes(raw.try_into().ok()?)),
            _ => key_type.from_datum(raw).ok()?,
        };
        out.push(KeySource::Const {
            value,
            location: None,
            key_type,
        });
        at = start + len;
    }
    (out.len() == count).then_some(out)
}

/// Whether a CONST node is NULL.
pub(super) fn is_null_const(node: &Node) -> bool {
    node.is("CONST") && node.bool("constisnull").unwrap_or(false)
}

/// The family of a column's type.
pub(super) fn family(type_oid: u32, snapshot: &Snapshot) -> Option<KeyFamily> {
    snapshot.key_type(Oid(type_oid)).map(KeyType::family)
}

/// The conjuncts of a condition: a list, an AND, or a single expression.
pub(super) fn conjuncts(quals: &Value) -> Vec<&Node> {
    let mut out = Vec::new();
    let mut stack: Vec<&Value> = vec![quals];
    while let Some(value) = stack.pop() {
        match value {
            Value::List(list) => stack.extend(list.iter().rev()),
            Value::Node(node) if node.is("BOOLEXPR") && node.value("boolop").as_str() == Some("and") => {
                stack.push(node.value("args"));
            }
            Value::Node(node) => out.push(&**node),
            _ => {}
        }
    }
    out
}

/// Whether two expressions are the same but for their places in the text.
pub(super) fn same_expr(a: &Node, b: &Node) -> bool {
    a.name == b.name
        && a.fields.len() == b.fields.len()
        && a.fields.iter().zip(&b.fields).all(|((an, av), (bn, bv))| {
            an == bn && (&**an == "location" || ignored(an) || same_value(av, bv))
        })
}

/// How a name was written, which does not change what it means.
fn ignored(field: &str) -> bool {
    matches!(
        field,
        "varnosyn" | "varattnosyn" | "funcformat" | "relabelformat" | "coerceformat"
    )
}

fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Node(a), Value::Node(b)) => same_expr(a, b),
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b))
        }
        _ => a == b,
    }
}

/// Calls `f` for every SUBLINK of an expression, not for those inside another subquery.
pub(super) fn each_sublink<'a>(
    value: &'a Value,
    f: &mut impl FnMut(&'a Node) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    match value {
        Value::Node(node) if node.is("QUERY") => Ok(()),
        Value::Node(node) => {
            if node.is("SUBLINK") {
                f(node)?;
            }
            node.fields.iter().try_for_each(|(_, v)| each_sublink(v, f))
        }
        Value::List(list) => list.iter().try_for_each(|v| each_sublink(v, f)),
        _ => Ok(()),
    }
}

/// Whether the expression has a node of this name outside of subqueries.
pub(super) fn contains(value: &Value, name: &str) -> bool {
    match value {
        Value::Node(node) if node.is(name) => true,
        Value::Node(node) if node.is("QUERY") => false,
        Value::Node(node) => node.fields.iter().any(|(_, v)| contains(v, name)),
        Value::List(list) => list.iter().any(|v| contains(v, name)),
        _ => false,
    }
}
