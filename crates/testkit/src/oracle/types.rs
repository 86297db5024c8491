//! Types by name: OIDs of user-defined types differ from server to server, their names do not.

use crate::client::{Client, ClientError, Format, Parameter};
use std::collections::HashMap;

/// OIDs below this are the same on every server.
const FIRST_USER_OID: u32 = 16_384;

#[derive(Debug, Clone)]
struct TypeFacts {
    name: String,
    /// `pg_type.typcategory`
    category: u8,
    /// Element type of an array, 0 otherwise.
    element: u32,
    /// `pg_type.typtype`
    kind: u8,
}

/// What one server calls its types.
#[derive(Debug, Default)]
pub(super) struct TypeBook {
    by_oid: HashMap<u32, TypeFacts>,
    by_name: HashMap<String, u32>,
    relations: HashMap<u32, String>,
}

impl TypeBook {
    /// Reads `pg_type` anew.
    pub(super) fn load(&mut self, client: &mut Client) -> Result<(), ClientError> {
        let sql = "SELECT oid, format_type(oid, NULL), typcategory, typelem, typtype FROM pg_type";
        let answer = client.simple(sql)?;
        self.by_oid.clear();
        self.by_name.clear();
        for row in answer.text_rows() {
            let [Some(oid), Some(name), Some(category), Some(element), Some(kind)] = row.as_slice() else {
                continue;
            };
            let (Ok(oid), Ok(element)) = (oid.parse(), element.parse()) else {
                continue;
            };
            let first = |text: &str| text.bytes().next().unwrap_or(b'?');
            let facts = TypeFacts {
                name: name.clone(),
                category: first(category),
                element,
                kind: first(kind),
            };
            self.by_oid.insert(oid, facts);
            self.by_name.insert(name.clone(), oid);
        }
        let relations = client.simple("SELECT oid, oid::regclass FROM pg_class")?;
        self.relations.clear();
        for row in relations.text_rows() {
            if let [Some(oid), Some(name)] = row.as_slice()
                && let Ok(oid) = oid.parse()
            {
                self.relations.insert(oid, name.clone());
            }
        }
        Ok(())
    }

    /// Whether both maps know the OID; if not, [`TypeBook::load`] may help.
    pub(super) fn knows(&self, type_oid: u32, relation: u32) -> bool {
        self.by_oid.contains_key(&type_oid) && (relation == 0 || self.relations.contains_key(&relation))
    }

    /// Name of a type, its number when unknown.
    pub(super) fn name(&self, oid: u32) -> String {
        self.by_oid
            .get(&oid)
            .map_or_else(|| format!("type {oid}"), |facts| facts.name.clone())
    }

    /// Name of a relation, empty for 0; numbers that differ between servers are left out.
    pub(super) fn relation(&self, oid: u32) -> String {
        if oid == 0 {
            return String::new();
        }
        let Some(name) = self.relations.get(&oid) else {
            return "unknown relation".to_string();
        };
        match name
            .strip_prefix("pg_temp_")
            .and_then(|rest| rest.split_once('.'))
        {
            Some((_, local)) => format!("pg_temp.{local}"),
            None => name.clone(),
        }
    }

    /// OID of a type by its name as written, asking the server about aliases such as `int8`.
    pub(super) fn oid(&mut self, name: &str, client: &mut Client) -> Result<Option<u32>, ClientError> {
        if let Some(oid) = self.by_name.get(name) {
            return Ok(Some(*oid));
        }
        let quoted = name.replace('\'', "''");
        let answer = client.simple(&format!("SELECT to_regtype('{quoted}')::oid"))?;
        let oid = answer.value().and_then(|text| text.parse().ok());
        if let Some(oid) = oid {
            self.by_name.insert(name.to_string(), oid);
        }
        Ok(oid)
    }

    /// A parameter in binary if this kit knows the type's form, as text otherwise.
    pub(super) fn encode(&self, type_oid: u32, value: Option<&str>) -> Parameter {
        let Some(text) = value else {
            return Parameter {
                value: None,
                format: Format::Binary,
            };
        };
        match self.binary(type_oid, text) {
            Some(bytes) => Parameter::binary(bytes),
            None => Parameter::text(text),
        }
    }

    fn binary(&self, type_oid: u32, text: &str) -> Option<Vec<u8>> {
        let facts = self.by_oid.get(&type_oid)?;
        if facts.category == b'A' && facts.element != 0 {
            return self.binary_array(facts.element, text);
        }
        Some(match facts.name.as_str() {
            "smallint" => text.parse::<i16>().ok()?.to_be_bytes().to_vec(),
            "integer" => text.parse::<i32>().ok()?.to_be_bytes().to_vec(),
            "bigint" => text.parse::<i64>().ok()?.to_be_bytes().to_vec(),
            "oid" => text.parse::<u32>().ok()?.to_be_bytes().to_vec(),
            "real" => text.parse::<f32>().ok()?.to_be_bytes().to_vec(),
            "double precision" => text.parse::<f64>().ok()?.to_be_bytes().to_vec(),
            "boolean" => vec![u8::from(matches!(text, "t" | "true" | "1"))],
            "text" | "character varying" | "character" | "name" | "json" => text.as_bytes().to_vec(),
            "uuid" => hex(&text.replace('-', ""))?,
            "bytea" => hex(text.strip_prefix("\\x")?)?,
            "jsonb" => [&[1], text.as_bytes()].concat(),
            _ if facts.kind == b'e' => text.as_bytes().to_vec(),
            _ => return None,
        })
    }

    /// One-dimensional array literals without quoting.
    fn binary_array(&self, element: u32, text: &str) -> Option<Vec<u8>> {
        let inner = text.strip_prefix('{')?.strip_suffix('}')?;
        if inner.contains(['"', '{', '\\']) {
            return None;
        }
        let items: Vec<&str> = if inner.is_empty() {
            Vec::new()
        } else {
            inner.split(',').collect()
        };
        let nulls = items.iter().any(|item| item.eq_ignore_ascii_case("null"));
        let dimensions = i32::from(!items.is_empty());
        let mut bytes = [
            dimensions.to_be_bytes(),
            i32::from(nulls).to_be_bytes(),
            element.to_be_bytes(),
        ]
        .concat();
        if !items.is_empty() {
            bytes.extend((items.len() as u32).to_be_bytes());
            bytes.extend(1u32.to_be_bytes());
        }
        for item in items {
            if item.eq_ignore_ascii_case("null") {
                bytes.extend((-1i32).to_be_bytes());
                continue;
            }
            let value = self.binary(element, item)?;
            bytes.extend((value.len() as u32).to_be_bytes());
            bytes.extend(value);
        }
        Some(bytes)
    }

    /// A binary value with the OIDs of user-defined types inside it blanked, so that servers compare.
    pub(super) fn without_oids(&self, type_oid: u32, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        self.blank(type_oid, &mut bytes);
        bytes
    }

    fn blank(&self, type_oid: u32, bytes: &mut [u8]) {
        let Some(facts) = self.by_oid.get(&type_oid) else {
            return;
        };
        if facts.name == "oid" || facts.name.starts_with("reg") {
            blank_user_oid(bytes, 0);
        } else if facts.category == b'A' && facts.element != 0 {
            self.blank_array(facts.element, bytes);
        } else if facts.kind == b'c' || facts.name.starts_with("record") {
            self.blank_record(bytes);
        }
    }

    /// Array layout: dimension count, flags, element OID, two words per dimension, then length and bytes of each element.
    fn blank_array(&self, element: u32, bytes: &mut [u8]) {
        blank_user_oid(bytes, 8);
        let Some(dimensions) = word(bytes, 0) else { return };
        let mut at = (dimensions as usize).saturating_mul(8).saturating_add(12);
        while let Some(len) = word(bytes, at) {
            at += 4;
            // A negative length is NULL.
            let len = usize::try_from(len as i32).unwrap_or(0);
            let Some(value) = bytes.get_mut(at..at + len) else {
                return;
            };
            self.blank(element, value);
            at += len;
        }
    }

    /// Record layout: field count, then type OID, length and bytes of each field.
    fn blank_record(&self, bytes: &mut [u8]) {
        let mut at = 4;
        while let (Some(oid), Some(len)) = (word(bytes, at), word(bytes, at + 4)) {
            blank_user_oid(bytes, at);
            at += 8;
            let len = usize::try_from(len as i32).unwrap_or(0);
            let Some(value) = bytes.get_mut(at..at + len) else {
                return;
            };
            self.blank(oid, value);
            at += len;
        }
    }

    /// A value for people.
    pub(super) fn show(&self, type_oid: u32, format: i16, value: Option<&[u8]>) -> String {
        let Some(bytes) = value else {
            return "NULL".to_string();
        };
        let name = self.by_oid.get(&type_oid).map_or("", |facts| facts.name.as_str());
        if format == 0 {
            return String::from_utf8_lossy(bytes).into_owned();
        }
        match (name, bytes.len()) {
            ("smallint", 2) => i16::from_be_bytes([bytes[0], bytes[1]]).to_string(),
            ("integer", 4) => i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).to_string(),
            ("bigint", 8) | ("double precision", 8) | ("real", 4) => number(name, bytes),
            ("text" | "character varying" | "character" | "name", _) => {
                String::from_utf8_lossy(bytes).into_owned()
            }
            _ => bytes
                .iter()
                .fold("\\x".to_string(), |text, byte| format!("{text}{byte:02x}")),
        }
    }

    /// A float column's value as a number.
    pub(super) fn float(&self, type_oid: u32, format: i16, bytes: &[u8]) -> Option<f64> {
        let name = self.by_oid.get(&type_oid)?.name.as_str();
        match (name, format) {
            ("real" | "double precision", 0) => std::str::from_utf8(bytes).ok()?.parse().ok(),
            ("real", _) => Some(f64::from(f32::from_be_bytes(bytes.try_into().ok()?))),
            ("double precision", _) => Some(f64::from_be_bytes(bytes.try_into().ok()?)),
            _ => None,
        }
    }
}

fn number(name: &str, bytes: &[u8]) -> String {
    let eight = <[u8; 8]>::try_from(bytes);
    match (name, eight, <[u8; 4]>::try_from(bytes)) {
        ("bigint", Ok(bytes), _) => i64::from_be_bytes(bytes).to_string(),
        ("double precision", Ok(bytes), _) => f64::from_be_bytes(bytes).to_string(),
        (_, _, Ok(bytes)) => f32::from_be_bytes(bytes).to_string(),
        _ => String::new(),
    }
}

fn blank_user_oid(bytes: &mut [u8], at: usize) {
    let Some(slot) = bytes.get_mut(at..at + 4) else {
        return;
    };
    if u32::from_be_bytes([slot[0], slot[1], slot[2], slot[3]]) >= FIRST_USER_OID {
        slot.fill(0);
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes([word[0], word[1], word[2], word[3]]))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
