//! The types of the columns of a key, and keys of several columns as text.
//!
//! A key of several columns is written as PostgreSQL prints a record: `(7,acme)`, with NULL as nothing between the commas,
//! and columns that are empty or contain a comma, a parenthesis, a quote, a backslash or white space in double quotes.

use super::{KeyError, KeyFamily, KeyType, KeyValue};

/// Most columns of a key.
pub const KEY_COLUMNS_MAX: usize = 8;

/// The types of the columns of a key, in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyShape(Box<[KeyType]>);

/// Why types are no shape of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// No column.
    #[error("a key needs a column")]
    Empty,
    /// More than [`KEY_COLUMNS_MAX`].
    #[error("a key has at most {KEY_COLUMNS_MAX} columns")]
    TooMany,
}

impl KeyShape {
    /// Of these columns.
    pub fn new(types: impl Into<Box<[KeyType]>>) -> Result<KeyShape, ShapeError> {
        let types = types.into();
        match types.len() {
            0 => Err(ShapeError::Empty),
            1..=KEY_COLUMNS_MAX => Ok(KeyShape(types)),
            _ => Err(ShapeError::TooMany),
        }
    }

    /// Of one column.
    pub fn one(key_type: KeyType) -> KeyShape {
        KeyShape([key_type].into())
    }

    /// The types, in order; at least one.
    pub fn types(&self) -> &[KeyType] {
        &self.0
    }

    /// The type of a key of one column.
    pub fn single(&self) -> Option<KeyType> {
        match *self.0 {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The families of the columns. Keys of equal families may share a map.
    pub fn families(&self) -> Vec<KeyFamily> {
        self.0.iter().map(|known| known.family()).collect()
    }

    /// Whether equal keys are the same value, column for column.
    pub fn is_like(&self, other: &KeyShape) -> bool {
        self.families() == other.families()
    }

    /// The shape in which any key of the same families can be written.
    pub fn widest(&self) -> KeyShape {
        KeyShape(self.0.iter().map(|known| known.family().widest()).collect())
    }

    /// The [names](KeyType::name), separated by commas.
    pub fn name(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(|known| known.name()).collect();
        names.join(",")
    }

    /// The shape of this [`KeyShape::name`].
    pub fn named(name: &str) -> Option<KeyShape> {
        let types: Option<Vec<KeyType>> = name.split(',').map(KeyType::named).collect();
        KeyShape::new(types?).ok()
    }

    /// A key in text format: as [`KeyType::from_text`] of the only column, or a record.
    ///
    /// # Errors
    /// As [`KeyType::from_text`]; a record with another number of columns is [`KeyError::Malformed`].
    pub fn from_text(&self, text: &[u8]) -> Result<KeyValue, KeyError> {
        let types = match *self.0 {
            [only] => return only.from_text(text),
            ref several => several,
        };
        let fields = fields(text)?;
        if fields.len() != types.len() {
            return Err(KeyError::Malformed);
        }
        let value = |(key_type, field): (&KeyType, &Option<Vec<u8>>)| match field {
            None => Ok(KeyValue::Null),
            Some(text) => key_type.from_text(text),
        };
        let values = types
            .iter()
            .zip(&fields)
            .map(value)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(KeyValue::of_columns(values))
    }
}

/// The columns of a record in text format, as `record_in` reads them.
fn fields(text: &[u8]) -> Result<Vec<Option<Vec<u8>>>, KeyError> {
    let inner = text.trim_ascii().strip_prefix(b"(").ok_or(KeyError::Malformed)?;
    let (mut fields, mut field, mut null) = (Vec::new(), Vec::new(), true);
    let (mut quoted, mut bytes) = (false, inner.iter().copied().peekable());
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                field.push(bytes.next().ok_or(KeyError::Malformed)?);
                null = false;
            }
            b'"' if quoted && bytes.peek() == Some(&b'"') => {
                bytes.next();
                field.push(b'"');
            }
            b'"' => {
                quoted = !quoted;
                null = false;
            }
            b',' | b')' if !quoted => {
                let value = std::mem::take(&mut field);
                fields.push((!null).then_some(value));
                null = true;
                if byte == b')' {
                    return match bytes.next() {
                        None => Ok(fields),
                        Some(_) => Err(KeyError::Malformed),
                    };
                }
            }
            b'(' if !quoted => return Err(KeyError::Malformed),
            other => {
                field.push(other);
                null = false;
            }
        }
        if fields.len() > KEY_COLUMNS_MAX {
            return Err(KeyError::Malformed);
        }
    }
    Err(KeyError::Malformed)
}

/// Columns as a server prints them, put together as it prints a record.
pub fn record_text(fields: &[Option<&str>]) -> String {
    let special =
        |c: char| matches!(c, '"' | '\\' | '(' | ')' | ',') || c.is_ascii_whitespace() || c == '\x0b';
    let field = |field: &Option<&str>| match field {
        None => String::new(),
        Some(text) if text.is_empty() || text.contains(special) => {
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\""))
        }
        Some(text) => (*text).to_owned(),
    };
    let fields: Vec<String> = fields.iter().map(field).collect();
    format!("({})", fields.join(","))
}

/// The columns of a key as it is written, in the form of [`KeyShape::from_text`]: texts, for what prints them again.
pub fn record_fields(text: &str) -> Option<Vec<Option<String>>> {
    let fields = fields(text.as_bytes()).ok()?;
    let text = |field: Option<Vec<u8>>| match field {
        None => Some(None),
        Some(bytes) => String::from_utf8(bytes).ok().map(Some),
    };
    fields.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_the_server_reads_them() {
        let shape = KeyShape::named("int8,text").unwrap();
        let record = |number: KeyValue, text: Option<&str>| {
            let text = text.map_or(KeyValue::Null, |text| KeyValue::Text(text.as_bytes().into()));
            Ok(KeyValue::Record([number, text].into()))
        };
        let seven = || KeyValue::Int(7);
        for (text, expect) in [
            ("(7,acme)", record(seven(), Some("acme"))),
            ("(7,\"a, b\")", record(seven(), Some("a, b"))),
            ("(7,\"\")", record(seven(), Some(""))),
            ("(7,)", record(seven(), None)),
            ("(,x)", record(KeyValue::Null, Some("x"))),
            ("(7,\"a\"\"b\\\\c\")", record(seven(), Some("a\"b\\c"))),
            (" (7,ä b ) ", record(seven(), Some("ä b "))),
            ("(7)", Err(KeyError::Malformed)),
            ("(7,a,b)", Err(KeyError::Malformed)),
            ("7,a", Err(KeyError::Malformed)),
            ("(7,a", Err(KeyError::Malformed)),
            ("(7,\"a)", Err(KeyError::Malformed)),
            ("(7,a)x", Err(KeyError::Malformed)),
            ("(7,(a)", Err(KeyError::Malformed)),
            ("(x,a)", Err(KeyError::NotCanonical)),
            ("(007,a)", Err(KeyError::NotCanonical)),
        ] {
            assert_eq!(shape.from_text(text.as_bytes()), expect, "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_read_again() {
        for fields in [
            [Some("7"), Some("a")],
            [None, None],
            [Some(""), Some("a b")],
            [Some("(,)"), Some("\"\\\n\"")],
        ] {
            let text = record_text(&fields);
            let again = record_fields(&text).unwrap();
            assert_eq!(
                again.iter().map(Option::as_deref).collect::<Vec<_>>(),
                fields,
                "{text}"
            );
        }
    }

    #[test]
    fn shapes_have_names() {
        let shape = KeyShape::new([KeyType::Int2, KeyType::Varchar]).unwrap();
        assert_eq!(shape.widest().name(), "int8,text");
        assert_eq!(KeyShape::named("int2,varchar"), Some(shape));
        assert_eq!(KeyShape::named("uuid"), Some(KeyShape::one(KeyType::Uuid)));
        assert_eq!(KeyShape::named("int2,nothing"), None);
        assert_eq!(KeyShape::new([KeyType::Int2; 9]), Err(ShapeError::TooMany));
        assert_eq!(KeyShape::new([]), Err(ShapeError::Empty));
    }
}
