//! Constants.

use super::datum::{self, varlena};
use super::printer::{Printed, Printer, unsupported};
use crate::nodes::{Node, Value};
use crate::{Oid, quote_literal};

/// Built-in types whose values are printed from their bytes.
mod oid {
    pub(super) const BOOL: u32 = 16;
    pub(super) const BYTEA: u32 = 17;
    pub(super) const CHAR: u32 = 18;
    pub(super) const NAME: u32 = 19;
    pub(super) const INT8: u32 = 20;
    pub(super) const INT2: u32 = 21;
    pub(super) const INT4: u32 = 23;
    pub(super) const TEXT: u32 = 25;
    pub(super) const OID: u32 = 26;
    pub(super) const JSON: u32 = 114;
    pub(super) const XML: u32 = 142;
    pub(super) const CIDR: u32 = 650;
    pub(super) const FLOAT4: u32 = 700;
    pub(super) const FLOAT8: u32 = 701;
    pub(super) const UNKNOWN: u32 = 705;
    pub(super) const MACADDR: u32 = 829;
    pub(super) const INET: u32 = 869;
    pub(super) const BPCHAR: u32 = 1042;
    pub(super) const VARCHAR: u32 = 1043;
    pub(super) const DATE: u32 = 1082;
    pub(super) const TIME: u32 = 1083;
    pub(super) const TIMESTAMP: u32 = 1114;
    pub(super) const TIMESTAMPTZ: u32 = 1184;
    pub(super) const INTERVAL: u32 = 1186;
    pub(super) const TIMETZ: u32 = 1266;
    pub(super) const BIT: u32 = 1560;
    pub(super) const VARBIT: u32 = 1562;
    pub(super) const NUMERIC: u32 = 1700;
    pub(super) const REGCLASS: u32 = 2205;
    pub(super) const UUID: u32 = 2950;
    pub(super) const JSONB: u32 = 3802;
}

/// Arrays of built-in types: array type, element type, element alignment.
const ARRAYS: [(u32, u32, usize); 24] = [
    (1000, oid::BOOL, 1),
    (1005, oid::INT2, 2),
    (1007, oid::INT4, 4),
    (1016, oid::INT8, 8),
    (1009, oid::TEXT, 4),
    (1015, oid::VARCHAR, 4),
    (1014, oid::BPCHAR, 4),
    (1021, oid::FLOAT4, 4),
    (1022, oid::FLOAT8, 8),
    (1231, oid::NUMERIC, 4),
    (2951, oid::UUID, 1),
    (1182, oid::DATE, 4),
    (1183, oid::TIME, 8),
    (1115, oid::TIMESTAMP, 8),
    (1185, oid::TIMESTAMPTZ, 8),
    (1001, oid::BYTEA, 4),
    (199, oid::JSON, 4),
    (3807, oid::JSONB, 4),
    (1187, oid::INTERVAL, 8),
    (1270, oid::TIMETZ, 8),
    (1041, oid::INET, 4),
    (651, oid::CIDR, 4),
    (1561, oid::BIT, 4),
    (1563, oid::VARBIT, 4),
];

/// Ranges of built-in types: range type, type of its bounds, their alignment.
const RANGES: [(u32, u32, usize); 6] = [
    (3904, oid::INT4, 4),
    (3906, oid::NUMERIC, 4),
    (3908, oid::TIMESTAMP, 8),
    (3910, oid::TIMESTAMPTZ, 8),
    (3912, oid::DATE, 4),
    (3926, oid::INT8, 8),
];

/// Prints a `CONST` as a literal with its type: `'…'::type`. Without a type modifier: the value has gone through it.
pub(super) fn print(p: &Printer<'_>, n: &Node) -> Printed {
    let type_oid = n.oid("consttype")?;
    if n.bool("constisnull")? {
        return match type_oid {
            oid::UNKNOWN => Ok("NULL".to_owned()),
            _ => Ok(format!("(NULL::{})", p.type_name(type_oid, -1)?)),
        };
    }
    let Some(Value::Datum { len, bytes }) = n.get("constvalue") else {
        return Err(unsupported(n, "value"));
    };
    let len = usize::try_from(*len).map_err(|_| unsupported(n, "value"))?;
    let by_value = n.bool("constbyval")?;
    // A value of a fixed length by value is printed as the eight bytes of a machine word.
    let bytes = if by_value {
        bytes.get(..len.min(8))
    } else {
        Some(bytes.as_slice())
    };
    let bytes = bytes.ok_or_else(|| unsupported(n, "value"))?;
    if let Some((_, element, align)) = ARRAYS.iter().find(|(array, ..)| *array == type_oid) {
        return array(p, n, bytes, (type_oid, *element, *align));
    }
    if type_oid >= FIRST_USER_OID && !by_value {
        return enum_array(p, n, bytes, type_oid);
    }
    let text = if type_oid == oid::REGCLASS {
        let relation = datum::u32(bytes).ok_or_else(|| unsupported(n, "value"))?;
        Some(p.relation_name(relation)?)
    } else if type_oid >= FIRST_USER_OID && by_value && len == 4 {
        datum::u32(bytes).and_then(|label| p.names.enum_label(label))
    } else {
        text(type_oid, bytes)
    };
    let text = text.ok_or_else(|| unsupported(n, format!("constant of type {type_oid}")))?;
    let literal = quote_literal(&text);
    match type_oid {
        oid::UNKNOWN => Ok(literal.trim_start().to_owned()),
        _ => Ok(format!(
            "({}::{})",
            literal.trim_start(),
            p.type_name(type_oid, -1)?
        )),
    }
}

/// Objects made by users have at least this id; of these only enum values are known here.
const FIRST_USER_OID: Oid = 16384;

/// A value of a built-in type in the form its input function reads back exactly, whatever the settings.
fn text(type_oid: Oid, bytes: &[u8]) -> Option<String> {
    Some(match type_oid {
        oid::BOOL => (bytes.first()? != &0).to_string(),
        oid::INT2 => datum::i16(bytes)?.to_string(),
        oid::INT4 => datum::i32(bytes)?.to_string(),
        oid::INT8 => datum::i64(bytes)?.to_string(),
        oid::OID => datum::u32(bytes)?.to_string(),
        oid::FLOAT4 => datum::float4(f32::from_bits(datum::u32(bytes)?)),
        oid::FLOAT8 => datum::float8(f64::from_bits(datum::i64(bytes)? as u64)),
        oid::NUMERIC => datum::numeric(varlena(bytes)?)?,
        oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::JSON | oid::XML => utf8(varlena(bytes)?)?,
        oid::UNKNOWN => utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes))?,
        oid::NAME => utf8(bytes.split(|b| *b == 0).next()?)?,
        // A zero byte is the empty value; other bytes beyond ASCII print differently between versions.
        oid::CHAR => match bytes.first()? {
            0 => String::new(),
            b if b.is_ascii() => char::from(*b).to_string(),
            _ => return None,
        },
        oid::UUID => datum::uuid(bytes)?,
        oid::BYTEA => datum::bytea(varlena(bytes)?),
        oid::DATE => datum::date(datum::i32(bytes)?)?,
        oid::TIME => datum::time(datum::i64(bytes)?)?,
        oid::TIMESTAMP => datum::timestamp(datum::i64(bytes)?, false)?,
        oid::TIMESTAMPTZ => datum::timestamp(datum::i64(bytes)?, true)?,
        oid::INTERVAL => datum::interval(bytes)?,
        oid::TIMETZ => datum::timetz(bytes)?,
        oid::JSONB => super::jsonb::text(varlena(bytes)?)?,
        oid::INET | oid::CIDR => datum::inet(varlena(bytes)?)?,
        oid::MACADDR => datum::macaddr(bytes)?,
        oid::BIT | oid::VARBIT => datum::bits(varlena(bytes)?)?,
        other => {
            let (_, element, align) = RANGES.iter().find(|(range, ..)| *range == other)?;
            range(bytes, *element, *align)?
        }
    })
}

/// `[lower,upper)`, each bound quoted.
fn range(bytes: &[u8], element: u32, align: usize) -> Option<String> {
    let range = datum::range(bytes, align, fixed_length(element))?;
    if range.empty {
        return Some("empty".to_owned());
    }
    let bound = |value: Option<&[u8]>| match value {
        // None of these types has a quote or a backslash in its text.
        Some(value) => text(element, value).map(|text| format!("\"{text}\"")),
        None => Some(String::new()),
    };
    let (lower, upper) = (bound(range.lower)?, bound(range.upper)?);
    let open = if range.inclusive.0 { '[' } else { '(' };
    let close = if range.inclusive.1 { ']' } else { ')' };
    Some(format!("{open}{lower},{upper}{close}"))
}

fn utf8(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// A one-dimensional array that starts at 1, as `ARRAY[…]::type[]`.
fn array(p: &Printer<'_>, n: &Node, bytes: &[u8], (array, element, align): (u32, u32, usize)) -> Printed {
    let error = || unsupported(n, "array constant");
    let elements = datum::array(bytes, element, align, fixed_length(element)).ok_or_else(error)?;
    let element_name = p.type_name(element, -1)?;
    let mut texts = Vec::with_capacity(elements.len());
    for value in elements {
        texts.push(match value {
            None => format!("(NULL::{element_name})"),
            Some(bytes) => {
                let value = text(element, bytes).ok_or_else(error)?;
                format!("({}::{element_name})", quote_literal(&value).trim_start())
            }
        });
    }
    Ok(format!(
        "(ARRAY[{}]::{})",
        texts.join(", "),
        p.type_name(array, -1)?
    ))
}

/// An array of enum values; anything else of a user's own type is refused.
fn enum_array(p: &Printer<'_>, n: &Node, bytes: &[u8], type_oid: Oid) -> Printed {
    let error = || unsupported(n, format!("constant of type {type_oid}"));
    let element = bytes.get(12..).and_then(datum::u32).ok_or_else(error)?;
    let element_name = p.type_name(element, -1).map_err(|_| error())?;
    let array_name = p.type_name(type_oid, -1)?;
    if array_name != format!("{element_name}[]") {
        return Err(error());
    }
    let elements = datum::array(bytes, element, 4, Some(4)).ok_or_else(error)?;
    let mut texts = Vec::with_capacity(elements.len());
    for value in elements {
        let text = match value {
            None => "NULL".to_owned(),
            Some(bytes) => {
                let label = datum::u32(bytes)
                    .and_then(|l| p.names.enum_label(l))
                    .ok_or_else(error)?;
                quote_literal(&label).trim_start().to_owned()
            }
        };
        texts.push(format!("({text}::{element_name})"));
    }
    Ok(format!("(ARRAY[{}]::{array_name})", texts.join(", ")))
}

/// Length of values of a type with a fixed length; `None` for those with a header.
fn fixed_length(type_oid: Oid) -> Option<usize> {
    Some(match type_oid {
        oid::BOOL => 1,
        oid::INT2 => 2,
        oid::INT4 | oid::FLOAT4 | oid::DATE => 4,
        oid::INT8 | oid::FLOAT8 | oid::TIME | oid::TIMESTAMP | oid::TIMESTAMPTZ => 8,
        oid::UUID | oid::INTERVAL => 16,
        oid::TIMETZ => 12,
        _ => return None,
    })
}
