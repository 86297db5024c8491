//! Reading expressions of analyzed trees.

use catalog::{KeyFamily, KeyStep, KeyType, KeyValue, Oid, Snapshot};
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
/// Conversions to the length or precision of a column, with the value in front and the type modifier behind it:
/// `varchar`, `bpchar`, `numeric`, `timestamp`, `timestamptz`.
const MODIFIERS: [(u32, KeyType); 5] = [
    (669, KeyType::Varchar),
    (668, KeyType::Bpchar),
    (1703, KeyType::Numeric),
    (1961, KeyType::Timestamp),
    (1967, KeyType::Timestamptz),
];
/// Casts between numbers that change the family, or the value: to numeric from int4, int8 and int2; to float8 from these, from
/// numeric and float4; to float4 from these, from numeric and float8.
const NUMBER_CASTS: [(u32, KeyType); 13] = [
    (1740, KeyType::Numeric),
    (1781, KeyType::Numeric),
    (1782, KeyType::Numeric),
    (316, KeyType::Float8),
    (482, KeyType::Float8),
    (235, KeyType::Float8),
    (1746, KeyType::Float8),
    (311, KeyType::Float8),
    (318, KeyType::Float4),
    (652, KeyType::Float4),
    (236, KeyType::Float4),
    (1745, KeyType::Float4),
    (312, KeyType::Float4),
];

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
        converted(inner, snapshot)
    } else {
        param_key(inner, snapshot)
    };
    match becomes_character(node, snapshot) {
        true => source.and_then(as_character),
        false => source,
    }
}

/// Whether a text is taken for a `character` by one of the conversions around a value. The bytes stay the same, but blanks
/// at their end mean nothing any more.
pub(super) fn becomes_character(node: &Node, snapshot: &Snapshot) -> bool {
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

/// The column that an expression is, as far as placement is concerned. A text that is compared as a `character` is not: blanks at its
/// end mean nothing then, but they do where its rows are placed.
pub(super) fn as_column(node: &Node, snapshot: &Snapshot) -> Option<Var> {
    let column = strip_casts(node);
    let var = as_var(column)?;
    let own = column.oid("vartype").ok().and_then(|oid| family(oid, snapshot));
    (own == Some(KeyFamily::Bpchar) || !becomes_character(node, snapshot)).then_some(var)
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
        KeySource::ConvertedParam { .. }
        | KeySource::Element { .. }
        | KeySource::ParamArray { .. }
        | KeySource::Product { .. }
        | KeySource::SubKeys { .. } => return None,
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
        datum_key(key_type, node.oid("consttype").ok()?, bytes, snapshot)?
    };
    let location = node.i64("location").ok().and_then(|l| u32::try_from(l).ok());
    // Which labels an enum has is for a server to say: another literal is a statement of its own.
    let location = location.filter(|_| key_type != KeyType::Enum);
    Some(KeySource::Const {
        value,
        location,
        key_type,
    })
}

/// The key of a PARAM node.
fn param_key(node: &Node, snapshot: &Snapshot) -> Option<KeySource> {
    let type_oid = Oid(node.oid("paramtype").ok()?);
    let key_type = snapshot.key_type(type_oid)?;
    let index = extern_param(node)?;
    // A parameter of a domain is brought into its form as it is read.
    Some(match snapshot.key_step(type_oid, -1) {
        None => KeySource::Param { index, key_type },
        Some(step) => KeySource::ConvertedParam {
            index,
            key_type,
            steps: [step].into(),
        },
    })
}

/// A value of a type from the bytes of a CONST node; an enum's is an OID of the home shard.
fn datum_key(key_type: KeyType, type_oid: u32, bytes: &[u8], snapshot: &Snapshot) -> Option<KeyValue> {
    if key_type != KeyType::Enum {
        return key_type.from_datum(bytes).ok();
    }
    let value = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let label = snapshot.enum_label(Oid(type_oid), Oid(value))?;
    Some(KeyValue::Text(label.as_bytes().into()))
}

/// A value that goes through a conversion whose result is known here.
fn converted(node: &Node, snapshot: &Snapshot) -> Option<KeySource> {
    let function = node.oid("funcid").ok()?;
    let args = node.nodes("args").ok()?;
    let known = |table: &[(u32, KeyType)]| table.iter().find(|(oid, _)| *oid == function).map(|(_, to)| *to);
    let (value, step) = match (known(&MODIFIERS), known(&NUMBER_CASTS), args.as_slice()) {
        (Some(key_type), _, [value, modifier, ..]) => {
            let modifier = i32::try_from(const_int(modifier)?).ok()?;
            (*value, KeyStep::of_modifier(key_type, modifier)?)
        }
        (_, Some(target), [value]) => (*value, KeyStep::To(target)),
        _ => return None,
    };
    match key_source(value, snapshot)? {
        KeySource::Const {
            value,
            location,
            key_type,
        } => const_after(value, location, key_type, step),
        KeySource::Param { index, key_type } => Some(KeySource::ConvertedParam {
            index,
            key_type,
            steps: [step].into(),
        }),
        KeySource::ConvertedParam {
            index,
            key_type,
            steps,
        } => Some(KeySource::ConvertedParam {
            index,
            key_type,
            steps: steps.iter().copied().chain([step]).collect(),
        }),
        KeySource::Element { .. }
        | KeySource::ParamArray { .. }
        | KeySource::Product { .. }
        | KeySource::SubKeys { .. } => None,
    }
}

fn const_after(
    value: KeyValue,
    location: Option<u32>,
    key_type: KeyType,
    step: KeyStep,
) -> Option<KeySource> {
    let value = match value {
        // Blanks at the end of a character value can be cut off without an error, and mean nothing.
        KeyValue::Text(_) if key_type == KeyType::Bpchar => KeyType::Bpchar.coerce(&value).ok()?,
        value => value,
    };
    // The text of an integer means the same number in the other type. Of anything else it is known only that this literal
    // fits: no other may take its place, so it has no location.
    let as_written = matches!(
        (&value, step),
        (KeyValue::Int(_) | KeyValue::Null, KeyStep::To(_))
    );
    Some(KeySource::Const {
        value: step.apply(value).ok()?,
        location: location.filter(|_| as_written),
        key_type: match step {
            KeyStep::To(target) => target,
            _ => key_type,
        },
    })
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
    let element = u32::try_from(element).ok()?;
    let key_type = snapshot.key_type(Oid(element))?;
    let count = usize::try_from(word(16)?).ok()?;
    let mut at: usize = 24;
    let mut out = Vec::new();
    for _ in 0..count.min(bytes.len()) {
        let (align, len) = element_layout(key_type);
        let start = at.next_multiple_of(align);
        let len = match len {
            Some(len) => len,
            // Elements have a header of four bytes.
            None => usize::try_from(word(start)? >> 2).ok()?,
        };
        let raw = bytes.get(start..start.checked_add(len)?)?;
        // What a register holds is printed as eight bytes when it stands alone.
        let mut wide = [0; 8];
        let by_value = element_layout(key_type).1.is_some_and(|len| len <= 8);
        let raw = if by_value {
            wide[..len].copy_from_slice(raw);
            &wide[..]
        } else {
            raw
        };
        out.push(KeySource::Const {
            value: datum_key(key_type, element, raw, snapshot)?,
            location: None,
            key_type,
        });
        at = start + len;
    }
    (out.len() == count).then_some(out)
}

/// Alignment and length in bytes of an element of an array; `None`: it says itself how long it is.
fn element_layout(key_type: KeyType) -> (usize, Option<usize>) {
    match key_type {
        KeyType::Bool => (1, Some(1)),
        KeyType::Uuid => (1, Some(16)),
        KeyType::Int2 => (2, Some(2)),
        KeyType::Int4 | KeyType::Date | KeyType::Float4 | KeyType::Enum => (4, Some(4)),
        KeyType::Int8 | KeyType::Timestamp | KeyType::Timestamptz | KeyType::Float8 => (8, Some(8)),
        KeyType::Text | KeyType::Varchar | KeyType::Bpchar | KeyType::Bytea | KeyType::Numeric => (4, None),
    }
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

/// The conjuncts of an expression: itself, if it is no AND.
pub(super) fn conjuncts_of(expression: &Node) -> Vec<&Node> {
    match expression.is("BOOLEXPR") && expression.value("boolop").as_str() == Some("and") {
        true => conjuncts(expression.value("args")),
        false => vec![expression],
    }
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
