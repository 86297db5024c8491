//! Reading the shard key of a row on its way into COPY.
//!
//! A server brings a key to its canonical form before it stores it; whoever places the row has to know that form
//! beforehand. What the type's input function would do is repeated here where it is simple, and refused where it is not.

use std::borrow::Cow;

use catalog::{KeyError, KeyFamily, KeyRef, KeyStep, KeyType, KeyValue};
use wire::copy::{CopyError, CopyFormat, CopyOptions, Field, FieldRules};

/// Where a row goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Place<P> {
    /// To the place of its key.
    At(P),
    /// Anywhere: no server takes it, and the one that gets it says why.
    Faulty,
}

/// Why a row cannot be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::session) enum KeyProblem {
    /// The field itself cannot be read.
    #[error(transparent)]
    Unreadable(#[from] CopyError),
    /// A form that only some versions of the server read, or that depends on the session's settings.
    #[error("the shard key is not written in its plain form")]
    Form,
    /// The `DEFAULT` marker in the place of the key.
    #[error("the shard key asks for its default")]
    Default,
    /// `FORCE_NULL` or `FORCE_NOT_NULL` decides whether the key is NULL.
    #[error("the shard key is the text that stands for NULL, with FORCE_NULL or FORCE_NOT_NULL given")]
    Forced,
}

/// Which fields are the key, and how they read.
#[derive(Debug, Clone)]
pub(in crate::session) struct KeyReader {
    /// How the stream is written.
    pub options: CopyOptions,
    /// The columns of the key, in its order.
    pub columns: Vec<KeyField>,
    /// `FORCE_NULL` or `FORCE_NOT_NULL` is given, perhaps for the key.
    pub forced: bool,
}

/// A column of the key.
#[derive(Debug, Clone, Copy)]
pub(in crate::session) struct KeyField {
    /// Its position in a row, from 0; `None`: no row has it, so it is always NULL.
    pub field: Option<usize>,
    /// Its type.
    pub key_type: KeyType,
    /// What the modifier of its type does to a value.
    pub step: Option<KeyStep>,
}

impl KeyReader {
    /// Where a row goes that was cut by the splitter; `at` knows the place of a key.
    pub(in crate::session) fn place<P>(
        &self,
        row: &[u8],
        at: impl FnOnce(KeyRef<'_>) -> P,
    ) -> Result<Place<P>, KeyProblem> {
        if let [only] = self.columns.as_slice() {
            return self.place_by(only, row, at);
        }
        let mut record = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            match self.place_by(column, row, |key| key.to_value())? {
                Place::At(value) => record.push(value),
                Place::Faulty => return Ok(Place::Faulty),
            }
        }
        Ok(Place::At(at(KeyRef::Record(&record))))
    }

    /// As [`Self::place`], by one column.
    fn place_by<P>(
        &self,
        column: &KeyField,
        row: &[u8],
        at: impl FnOnce(KeyRef<'_>) -> P,
    ) -> Result<Place<P>, KeyProblem> {
        let Some(index) = column.field else {
            return Ok(Place::At(at(KeyRef::Null)));
        };
        let field = match self.unquoted(row, index) {
            Some(raw) => Some(self.interpret_unquoted(raw)?),
            None => self.field(row, index)?,
        };
        match field {
            // Too few fields.
            None => Ok(Place::Faulty),
            Some(Field::Null) => Ok(Place::At(at(KeyRef::Null))),
            Some(Field::Default) => Err(KeyProblem::Default),
            Some(Field::Value(value)) if self.options.format == CopyFormat::Binary => {
                column.binary(&value, at)
            }
            Some(Field::Value(value)) => column.text(&value, self.options.server_major, at),
        }
    }

    /// The bytes of a CSV field with no quote in it or before it: the usual case, without building the value.
    fn unquoted<'r>(&self, row: &'r [u8], index: usize) -> Option<&'r [u8]> {
        let CopyFormat::Csv { delimiter, quote, .. } = self.options.format else {
            return None;
        };
        let mut start = 0;
        let mut left = index;
        for (at, byte) in row.iter().enumerate() {
            if *byte == quote {
                return None;
            }
            if *byte == delimiter {
                if left == 0 {
                    return Some(&row[start..at]);
                }
                left -= 1;
                start = at + 1;
            }
        }
        (left == 0).then(|| &row[start..])
    }

    fn interpret_unquoted<'r>(&self, raw: &'r [u8]) -> Result<Field<'r>, KeyProblem> {
        if self.options.default.as_deref() == Some(raw) {
            return Ok(Field::Default);
        }
        if raw != self.options.null {
            return Ok(Field::Value(Cow::Borrowed(raw)));
        }
        if self.forced {
            Err(KeyProblem::Forced)
        } else {
            Ok(Field::Null)
        }
    }

    fn field<'r>(&self, row: &'r [u8], index: usize) -> Result<Option<Field<'r>>, KeyProblem> {
        let plain = wire::copy::field(&self.options, FieldRules::default(), row, index)?;
        if self.forced {
            let null = FieldRules {
                force_null: true,
                force_not_null: false,
            };
            let not_null = FieldRules {
                force_null: false,
                force_not_null: true,
            };
            for rules in [null, not_null] {
                if wire::copy::field(&self.options, rules, row, index)? != plain {
                    return Err(KeyProblem::Forced);
                }
            }
        }
        Ok(plain)
    }
}

impl KeyField {
    fn binary<P>(&self, value: &[u8], at: impl FnOnce(KeyRef<'_>) -> P) -> Result<Place<P>, KeyProblem> {
        match self.key_type.family() {
            KeyFamily::Text | KeyFamily::Bpchar => Ok(self.characters(value, at)),
            _ => placed(
                self.key_type.from_binary(value).and_then(|key| self.stored(key)),
                at,
            ),
        }
    }

    fn text<P>(
        &self,
        value: &[u8],
        server_major: u16,
        at: impl FnOnce(KeyRef<'_>) -> P,
    ) -> Result<Place<P>, KeyProblem> {
        match self.key_type.family() {
            KeyFamily::Text | KeyFamily::Bpchar => Ok(self.characters(value, at)),
            KeyFamily::Uuid => Ok(uuid(value).map_or(Place::Faulty, |key| Place::At(at(KeyRef::Uuid(&key))))),
            KeyFamily::Integer => self.integer(value, server_major, at),
            _ => placed(
                self.key_type.from_text(value).and_then(|key| self.stored(key)),
                at,
            ),
        }
    }

    /// As the column stores it.
    fn stored(&self, key: KeyValue) -> Result<KeyValue, KeyError> {
        match self.step {
            None => Ok(key),
            Some(step) => step.apply(key),
        }
    }

    /// text, varchar and character: the bytes count, without the blanks that the server drops.
    fn characters<P>(&self, value: &[u8], at: impl FnOnce(KeyRef<'_>) -> P) -> Place<P> {
        let Ok(text) = std::str::from_utf8(value) else {
            return Place::Faulty;
        };
        if value.contains(&0) {
            return Place::Faulty;
        }
        let kept = match (self.key_type, self.step) {
            (KeyType::Bpchar, _) => text.trim_end_matches(' '),
            // Blanks beyond the length of the column are dropped without a word.
            (KeyType::Varchar, Some(KeyStep::Chars(limit))) => {
                match text.char_indices().nth(limit as usize) {
                    None => text,
                    Some((end, _)) if text[end..].bytes().all(|byte| byte == b' ') => &text[..end],
                    Some(_) => return Place::Faulty,
                }
            }
            _ => text,
        };
        Place::At(at(KeyRef::Text(kept.as_bytes())))
    }

    fn integer<P>(
        &self,
        value: &[u8],
        server_major: u16,
        at: impl FnOnce(KeyRef<'_>) -> P,
    ) -> Result<Place<P>, KeyProblem> {
        let number = match integer(value) {
            Number::Value(number) => number,
            Number::Wrong => return Ok(Place::Faulty),
            Number::New if server_major < 16 => return Ok(Place::Faulty),
            Number::New => return Err(KeyProblem::Form),
        };
        match self.key_type.from_i64(number) {
            Ok(KeyValue::Int(number)) => Ok(Place::At(at(KeyRef::Int(number)))),
            _ => Ok(Place::Faulty),
        }
    }
}

fn placed<P>(
    key: Result<KeyValue, KeyError>,
    at: impl FnOnce(KeyRef<'_>) -> P,
) -> Result<Place<P>, KeyProblem> {
    match key {
        Ok(key) => Ok(Place::At(at(key.borrowed()))),
        Err(KeyError::NotCanonical) => Err(KeyProblem::Form),
        Err(KeyError::OutOfRange | KeyError::Malformed) => Ok(Place::Faulty),
    }
}

/// What a text is to the integer input functions.
#[derive(Debug, PartialEq, Eq)]
enum Number {
    Value(i64),
    /// An error, or too large.
    Wrong,
    /// Perhaps a number to PostgreSQL 16 and later: another base, or underscores.
    New,
}

/// Optional blanks, a sign, decimal digits, blanks.
fn integer(text: &[u8]) -> Number {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r');
    let start = text.iter().position(|byte| !blank(byte)).unwrap_or(text.len());
    let end = text
        .iter()
        .rposition(|byte| !blank(byte))
        .map_or(start, |last| last + 1);
    let (negative, digits) = match &text[start..end] {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() {
        return Number::Wrong;
    }
    let mut value: i64 = 0;
    let mut fits = true;
    for byte in digits {
        if !byte.is_ascii_digit() {
            let other_base = matches!(digits, [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', ..]);
            return if other_base || digits.contains(&b'_') {
                Number::New
            } else {
                Number::Wrong
            };
        }
        let digit = i64::from(byte - b'0');
        // Built downwards: the smallest number has no positive twin.
        match value.checked_mul(10).and_then(|value| value.checked_sub(digit)) {
            Some(next) => value = next,
            None => fits = false,
        }
    }
    match (fits, negative) {
        (false, _) => Number::Wrong,
        (true, true) => Number::Value(value),
        (true, false) => value.checked_neg().map_or(Number::Wrong, Number::Value),
    }
}

/// What the uuid input function takes: either case, braces around, a hyphen after any two bytes or none.
fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let mut rest = match text {
        [b'{', inner @ .., b'}'] => inner,
        bare => bare,
    };
    let mut out = [0; 16];
    for (at, byte) in out.iter_mut().enumerate() {
        let (pair, after) = rest.split_first_chunk::<2>()?;
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        rest = match after {
            [b'-', tail @ ..] if at % 2 == 1 && at < 15 => tail,
            tail => tail,
        };
    }
    rest.is_empty().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(key_type: KeyType) -> KeyReader {
        KeyReader {
            options: CopyOptions::csv(15),
            columns: vec![KeyField {
                field: Some(1),
                key_type,
                step: None,
            }],
            forced: false,
        }
    }

    fn check(reader: &KeyReader, row: &str, expect: Result<Place<i64>, KeyProblem>) {
        assert_eq!(reader.place(row.as_bytes(), |key| key.hash()), expect, "{row:?}");
    }

    fn at(value: KeyValue) -> Result<Place<i64>, KeyProblem> {
        Ok(Place::At(value.hash()))
    }

    #[test]
    fn integers_in_every_form_the_server_takes() {
        let mut int4 = reader(KeyType::Int4);
        for row in ["x,7,y", "x,\"7\"", "x, +007 ,", "\"x,\"\"\n\",7"] {
            check(&int4, row, at(KeyValue::Int(7)));
        }
        check(&int4, "x,-0", at(KeyValue::Int(0)));
        check(&int4, ",-2147483648", at(KeyValue::Int(-2_147_483_648)));
        check(&int4, "x,,", at(KeyValue::Null));
        check(&int4, "x,\"\"", Ok(Place::Faulty));
        for row in [
            "x",
            "x,2147483648",
            "x,9999999999999999999999",
            "x,1.0",
            "x,- 1",
            "x,0x1F",
            "x,1_0",
        ] {
            check(&int4, row, Ok(Place::Faulty));
        }
        int4.options.server_major = 16;
        check(&int4, "x,0x1F", Err(KeyProblem::Form));
        check(&int4, "x,1_0", Err(KeyProblem::Form));
        check(&int4, "x,12a", Ok(Place::Faulty));
        check(
            &reader(KeyType::Int8),
            "x,-9223372036854775808",
            at(KeyValue::Int(i64::MIN)),
        );
        check(&reader(KeyType::Int8), "x,9223372036854775808", Ok(Place::Faulty));
    }

    #[test]
    fn uuids_in_every_form_the_server_takes() {
        let value = KeyValue::Uuid(*b"\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef");
        for text in [
            "01234567-89ab-cdef-0123-456789abcdef",
            "0123456789ABCDEF0123456789abcdef",
            "{0123-4567-89ab-cdef-0123-4567-89ab-cdef}",
        ] {
            check(&reader(KeyType::Uuid), &format!("x,{text}"), at(value.clone()));
        }
        for text in [
            "0123456789abcdef0123456789abcde",
            "012-34567-89ab-cdef-0123-456789abcdef",
            "{0123",
            " ",
        ] {
            check(&reader(KeyType::Uuid), &format!("x,{text}"), Ok(Place::Faulty));
        }
    }

    #[test]
    fn character_types_lose_what_the_server_drops() {
        let text = |text: &str| at(KeyValue::Text(text.as_bytes().into()));
        check(&reader(KeyType::Text), "x,a b ", text("a b "));
        check(&reader(KeyType::Bpchar), "x,a b  ", text("a b"));
        let mut varchar = reader(KeyType::Varchar);
        varchar.columns[0].step = Some(KeyStep::Chars(3));
        check(&varchar, "x,äb ", text("äb "));
        check(&varchar, "x,äb     ,", text("äb "));
        check(&varchar, "x,äbcd", Ok(Place::Faulty));
        let mut escaped = reader(KeyType::Text);
        escaped.options = CopyOptions::text(15);
        check(&escaped, "x\ta\\tb\\\\", text("a\tb\\"));
        check(&escaped, "x\t\\N", at(KeyValue::Null));
        check(&escaped, "x\t\\xff", Ok(Place::Faulty));
        check(&escaped, "x\t\\0", Ok(Place::Faulty));
    }

    #[test]
    fn what_cannot_be_placed_is_a_problem() {
        let mut key = reader(KeyType::Text);
        key.forced = true;
        check(&key, "x,", Err(KeyProblem::Forced));
        check(&key, "x,\"\"", Err(KeyProblem::Forced));
        check(&key, "x,\"a\"", at(KeyValue::Text(b"a"[..].into())));
        key.options.default = Some(b"\\D".to_vec());
        check(&key, "x,\\D", Err(KeyProblem::Default));
        check(&key, "x,\"\\D\"", at(KeyValue::Text(b"\\D"[..].into())));
        key.columns[0].field = None;
        check(&key, "x,\\D", at(KeyValue::Null));
    }
}
