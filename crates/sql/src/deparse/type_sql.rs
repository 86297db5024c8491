//! Types as SQL text.

use crate::{Oid, QualifiedName};

/// The modifiers of a built-in type as they are written in parentheses; empty when `typmod` says nothing, `None` when
/// the type is not known to take any.
pub fn type_modifiers(type_oid: Oid, typmod: i32) -> Option<Vec<i32>> {
    const HEADER: i32 = 4;
    if typmod < 0 {
        return Some(Vec::new());
    }
    Some(match type_oid {
        // bpchar, varchar: a length with a header's size added.
        1042 | 1043 => vec![typmod - HEADER],
        // numeric: precision and a signed eleven-bit scale.
        1700 => {
            let packed = typmod - HEADER;
            vec![(packed >> 16) & 0xffff, ((packed & 0x7ff) ^ 0x400) - 0x400]
        }
        // time, timestamp, timestamptz, timetz, bit, varbit.
        1083 | 1114 | 1184 | 1266 | 1560 | 1562 => vec![typmod],
        // interval: mask of fields, and a precision unless it is the full one.
        1186 => match typmod & 0xffff {
            0xffff => vec![(typmod >> 16) & 0x7fff],
            precision => vec![(typmod >> 16) & 0x7fff, precision],
        },
        _ => return None,
    })
}

/// SQL text of a type: `schema` and `name` of the type or, for an array, of its element type `type_oid`.
///
/// `None` when the type has a modifier that cannot be written with certainty.
pub fn type_sql(name: &QualifiedName, type_oid: Oid, typmod: i32, is_array: bool) -> Option<String> {
    let modifiers: Vec<String> = type_modifiers(type_oid, typmod)?
        .iter()
        .map(i32::to_string)
        .collect();
    let modifiers = if modifiers.is_empty() {
        String::new()
    } else {
        format!("({})", modifiers.join(","))
    };
    Some(format!("{name}{modifiers}{}", if is_array { "[]" } else { "" }))
}
