//! A reader for the text form of PostgreSQL's trees (`nodeToString`), versions 15 to 18.

mod reader;

pub use reader::{parse, parse_wrapped};

/// Why a tree text was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The text is not a tree.
    #[error("malformed tree at byte {offset}: {expected} expected")]
    Malformed {
        /// Byte offset in the unwrapped text.
        offset: usize,
        /// What was expected there.
        expected: &'static str,
    },
    /// The text is larger, deeper or has more nodes than allowed.
    #[error("tree exceeds the limit of {limit} {what}")]
    Limit {
        /// Bytes, levels or nodes.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A node lacks a field, or has it in another shape.
    #[error("field {field} of {node} is missing or not as expected")]
    Field {
        /// Name of the node.
        node: String,
        /// Name of the field.
        field: &'static str,
    },
}

/// One node of a tree: its name and its fields in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Node name in upper case as printed: `QUERY`, `VAR`, `RANGETBLENTRY` (`RTE` up to version 15).
    pub name: Box<str>,
    /// Fields by name, without the colon.
    pub fields: Vec<(Box<str>, Value)>,
}

/// A value of a field, or an element of a list.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `<>`: a null pointer, an empty list or a null string.
    Null,
    /// `{NAME …}`.
    Node(Box<Node>),
    /// `(a b …)`.
    List(Vec<Value>),
    /// `(i 1 2)`.
    IntList(Vec<i64>),
    /// `(o 1 2)` (also transaction ids, `(x …)`).
    OidList(Vec<u32>),
    /// `(b 1 2)`.
    Bitmap(Vec<u32>),
    /// A quoted string of a list: `"text"`.
    Str(Box<str>),
    /// A bare token, unescaped: number, boolean, character, enum word or string.
    Atom(Box<str>),
    /// A constant: `len [ b b … ]`.
    Datum {
        /// Declared length.
        len: u64,
        /// Bytes: always 8 for values passed by value, otherwise `len` of them.
        bytes: Vec<u8>,
    },
}

static NULL: Value = Value::Null;

impl Value {
    /// The node, if it is one.
    pub fn as_node(&self) -> Option<&Node> {
        match self {
            Value::Node(n) => Some(n),
            _ => None,
        }
    }

    /// The elements of a list of values; an empty slice for null.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::List(l) => Some(l),
            Value::Null => Some(&[]),
            _ => None,
        }
    }

    /// The text of an atom or a quoted string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Atom(s) | Value::Str(s) => Some(s),
            _ => None,
        }
    }

    /// An atom read as an integer.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Atom(s) => s.parse().ok(),
            _ => None,
        }
    }

    /// It is `<>`.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }
}

impl Node {
    /// The field's value, if the node has the field.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.fields.iter().find(|(n, _)| &**n == field).map(|(_, v)| v)
    }

    /// The field's value; `Null` when absent.
    pub fn value(&self, field: &str) -> &Value {
        self.get(field).unwrap_or(&NULL)
    }

    /// The error for a field that is not as expected.
    pub fn field_error(&self, field: &'static str) -> NodeError {
        NodeError::Field {
            node: self.name.to_string(),
            field,
        }
    }

    /// A 32-bit integer field.
    ///
    /// # Errors
    /// The field is missing or no such number.
    pub fn i32(&self, field: &'static str) -> Result<i32, NodeError> {
        let v = self.get(field).and_then(Value::as_i64);
        v.and_then(|v| i32::try_from(v).ok())
            .ok_or_else(|| self.field_error(field))
    }

    /// A 64-bit integer field.
    ///
    /// # Errors
    /// The field is missing or no such number.
    pub fn i64(&self, field: &'static str) -> Result<i64, NodeError> {
        self.get(field)
            .and_then(Value::as_i64)
            .ok_or_else(|| self.field_error(field))
    }

    /// An object id field.
    ///
    /// # Errors
    /// The field is missing or no such number.
    pub fn oid(&self, field: &'static str) -> Result<crate::Oid, NodeError> {
        let v = self.get(field).and_then(Value::as_i64);
        v.and_then(|v| u32::try_from(v).ok())
            .ok_or_else(|| self.field_error(field))
    }

    /// A boolean field.
    ///
    /// # Errors
    /// The field is missing or neither `true` nor `false`.
    pub fn bool(&self, field: &'static str) -> Result<bool, NodeError> {
        match self.get(field).and_then(Value::as_str) {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            _ => Err(self.field_error(field)),
        }
    }

    /// A string field; `None` for a null string.
    ///
    /// # Errors
    /// The field is missing or no string.
    pub fn opt_str(&self, field: &'static str) -> Result<Option<&str>, NodeError> {
        match self.get(field) {
            Some(Value::Null) => Ok(None),
            Some(v) => v.as_str().map(Some).ok_or_else(|| self.field_error(field)),
            None => Err(self.field_error(field)),
        }
    }

    /// A string or enum-word field that is not null.
    ///
    /// # Errors
    /// The field is missing or no string.
    pub fn str(&self, field: &'static str) -> Result<&str, NodeError> {
        self.opt_str(field)?.ok_or_else(|| self.field_error(field))
    }

    /// A list field; empty for `<>`.
    ///
    /// # Errors
    /// The field is missing or no list of values.
    pub fn list(&self, field: &'static str) -> Result<&[Value], NodeError> {
        self.get(field)
            .and_then(Value::as_list)
            .ok_or_else(|| self.field_error(field))
    }

    /// A list field whose elements are all nodes.
    ///
    /// # Errors
    /// The field is missing, no list, or some element is no node.
    pub fn nodes(&self, field: &'static str) -> Result<Vec<&Node>, NodeError> {
        let list = self.list(field)?;
        list.iter()
            .map(|v| v.as_node().ok_or_else(|| self.field_error(field)))
            .collect()
    }

    /// A list of integers; empty for `<>`.
    ///
    /// # Errors
    /// The field is missing or no list of integers.
    pub fn ints(&self, field: &'static str) -> Result<&[i64], NodeError> {
        match self.get(field) {
            Some(Value::IntList(l)) => Ok(l),
            Some(Value::Null) => Ok(&[]),
            _ => Err(self.field_error(field)),
        }
    }

    /// A list of object ids; empty for `<>`.
    ///
    /// # Errors
    /// The field is missing or no list of object ids.
    pub fn oids(&self, field: &'static str) -> Result<&[crate::Oid], NodeError> {
        match self.get(field) {
            Some(Value::OidList(l)) => Ok(l),
            Some(Value::Null) => Ok(&[]),
            _ => Err(self.field_error(field)),
        }
    }

    /// A node field that is not null.
    ///
    /// # Errors
    /// The field is missing or no node.
    pub fn node(&self, field: &'static str) -> Result<&Node, NodeError> {
        self.opt_node(field)?.ok_or_else(|| self.field_error(field))
    }

    /// A node field; `None` for `<>`.
    ///
    /// # Errors
    /// The field is missing or something else than a node.
    pub fn opt_node(&self, field: &'static str) -> Result<Option<&Node>, NodeError> {
        match self.get(field) {
            Some(Value::Node(n)) => Ok(Some(n)),
            Some(Value::Null) => Ok(None),
            _ => Err(self.field_error(field)),
        }
    }

    /// It is a node of this name.
    pub fn is(&self, name: &str) -> bool {
        &*self.name == name
    }

    /// Calls `f` for this node and every node below it, parents first. Iterative: any depth is fine.
    pub fn walk<'a>(&'a self, mut f: impl FnMut(&'a Node)) {
        let mut stack = vec![self];
        while let Some(node) = stack.pop() {
            f(node);
            for (_, value) in node.fields.iter().rev() {
                push_nodes(value, &mut stack);
            }
        }
    }
}

fn push_nodes<'a>(value: &'a Value, stack: &mut Vec<&'a Node>) {
    match value {
        Value::Node(n) => stack.push(n),
        // Lists of lists occur (VALUES), never deeper than the reader's own depth limit.
        Value::List(l) => l.iter().rev().for_each(|v| push_nodes(v, stack)),
        _ => {}
    }
}
