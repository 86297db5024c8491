//! Bytes from outside → [`KeyValue`].

use super::{KeyError, KeyFamily, KeyType, KeyValue, datetime, numeric};

pub(super) fn from_i64(key_type: KeyType, value: i64) -> Result<KeyValue, KeyError> {
    let fits = match key_type {
        KeyType::Int2 => i16::try_from(value).is_ok(),
        KeyType::Int4 => i32::try_from(value).is_ok(),
        KeyType::Int8 => true,
        _ => return Err(KeyError::Malformed),
    };
    if fits {
        Ok(KeyValue::Int(value))
    } else {
        Err(KeyError::OutOfRange)
    }
}

pub(super) fn from_binary(key_type: KeyType, bytes: &[u8]) -> Result<KeyValue, KeyError> {
    let value = match key_type {
        KeyType::Int2 => KeyValue::Int(i16::from_be_bytes(exactly(bytes)?).into()),
        KeyType::Int4 => KeyValue::Int(i32::from_be_bytes(exactly(bytes)?).into()),
        KeyType::Int8 => KeyValue::Int(i64::from_be_bytes(exactly(bytes)?)),
        KeyType::Uuid => KeyValue::Uuid(exactly(bytes)?),
        KeyType::Text | KeyType::Varchar | KeyType::Bpchar | KeyType::Enum => text(key_type, bytes)?,
        KeyType::Bool => KeyValue::Bool(exactly::<1>(bytes)? != [0]),
        KeyType::Date => KeyValue::Date(i32::from_be_bytes(exactly(bytes)?)),
        KeyType::Timestamp | KeyType::Timestamptz => KeyValue::Time(i64::from_be_bytes(exactly(bytes)?)),
        KeyType::Bytea => KeyValue::Bytes(bytes.into()),
        KeyType::Float4 => float(f32::from_be_bytes(exactly(bytes)?).into()),
        KeyType::Float8 => float(f64::from_be_bytes(exactly(bytes)?)),
        KeyType::Numeric => numeric::from_binary(bytes)?,
    };
    Ok(value)
}

pub(super) fn from_text(key_type: KeyType, bytes: &[u8]) -> Result<KeyValue, KeyError> {
    match key_type.family() {
        KeyFamily::Integer => from_i64(key_type, integer(bytes)?),
        KeyFamily::Uuid => uuid(bytes),
        KeyFamily::Text | KeyFamily::Bpchar | KeyFamily::Enum => text(key_type, bytes),
        KeyFamily::Bool => boolean(bytes).map(KeyValue::Bool),
        KeyFamily::Date => datetime::date(bytes),
        KeyFamily::Timestamp => datetime::timestamp(bytes, false),
        KeyFamily::Timestamptz => datetime::timestamp(bytes, true),
        KeyFamily::Bytea => bytea(bytes),
        KeyFamily::Float => float_text(key_type, bytes),
        KeyFamily::Numeric => numeric::from_text(bytes),
    }
}

pub(super) fn from_datum(key_type: KeyType, bytes: &[u8]) -> Result<KeyValue, KeyError> {
    match key_type.family() {
        KeyFamily::Integer => {
            let word: [u8; 8] = exactly(bytes)?;
            // Only the low bytes of the word mean something: the rest may or may not be sign-extended.
            let value = match key_type {
                KeyType::Int2 => i16::from_le_bytes([word[0], word[1]]).into(),
                KeyType::Int4 => i32::from_le_bytes([word[0], word[1], word[2], word[3]]).into(),
                _ => i64::from_le_bytes(word),
            };
            Ok(KeyValue::Int(value))
        }
        KeyFamily::Uuid => Ok(KeyValue::Uuid(exactly(bytes)?)),
        KeyFamily::Text | KeyFamily::Bpchar => text(key_type, varlena(bytes)?),
        // Its OID, which another server would not know.
        KeyFamily::Enum => Err(KeyError::NotCanonical),
        KeyFamily::Bool => {
            let word: [u8; 8] = exactly(bytes)?;
            Ok(KeyValue::Bool(word[0] != 0))
        }
        KeyFamily::Date => {
            let word: [u8; 8] = exactly(bytes)?;
            Ok(KeyValue::Date(i32::from_le_bytes([
                word[0], word[1], word[2], word[3],
            ])))
        }
        KeyFamily::Timestamp | KeyFamily::Timestamptz => {
            Ok(KeyValue::Time(i64::from_le_bytes(exactly(bytes)?)))
        }
        KeyFamily::Bytea => Ok(KeyValue::Bytes(varlena(bytes)?.into())),
        KeyFamily::Float => {
            let word: [u8; 8] = exactly(bytes)?;
            Ok(float(match key_type {
                KeyType::Float4 => f32::from_le_bytes([word[0], word[1], word[2], word[3]]).into(),
                _ => f64::from_le_bytes(word),
            }))
        }
        KeyFamily::Numeric => numeric::from_datum(varlena(bytes)?),
    }
}

/// The payload of an uncompressed in-line varlena.
fn varlena(bytes: &[u8]) -> Result<&[u8], KeyError> {
    let first = *bytes.first().ok_or(KeyError::Malformed)?;
    if first == 0x01 {
        return Err(KeyError::NotCanonical); // external
    }
    let (header, total) = if first & 1 == 1 {
        (1, usize::from(first >> 1))
    } else {
        let word = bytes.first_chunk::<4>().ok_or(KeyError::Malformed)?;
        let word = u32::from_le_bytes(*word);
        if word & 3 == 2 {
            return Err(KeyError::NotCanonical); // compressed
        }
        (4, (word >> 2) as usize)
    };
    if total != bytes.len() {
        return Err(KeyError::Malformed);
    }
    bytes.get(header..).ok_or(KeyError::Malformed)
}

fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], KeyError> {
    bytes.try_into().map_err(|_| KeyError::Malformed)
}

fn text(key_type: KeyType, bytes: &[u8]) -> Result<KeyValue, KeyError> {
    // A server refuses both, but with its own message: let it.
    if bytes.contains(&0) || std::str::from_utf8(bytes).is_err() {
        return Err(KeyError::Malformed);
    }
    let bytes = if key_type == KeyType::Bpchar {
        strip_blanks(bytes)
    } else {
        bytes
    };
    Ok(KeyValue::Text(bytes.into()))
}

/// Without trailing spaces (0x20 only, as for `character`).
pub(super) fn strip_blanks(bytes: &[u8]) -> &[u8] {
    let keep = bytes.iter().rposition(|&b| b != b' ').map_or(0, |last| last + 1);
    &bytes[..keep]
}

/// Decimal digits, no leading zero, `-` only before a non-zero number.
fn integer(bytes: &[u8]) -> Result<i64, KeyError> {
    let (negative, digits) = match bytes.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, bytes),
    };
    let canonical = match digits {
        [] => false,
        [b'0'] => !negative,
        [b'0', ..] => false,
        all => all.iter().all(u8::is_ascii_digit),
    };
    if !canonical {
        return Err(KeyError::NotCanonical);
    }
    let mut value: i64 = 0;
    for digit in digits {
        let digit = i64::from(digit - b'0');
        // Built downwards: the smallest i64 has no positive twin.
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_sub(digit))
            .ok_or(KeyError::OutOfRange)?;
    }
    if negative {
        Ok(value)
    } else {
        value.checked_neg().ok_or(KeyError::OutOfRange)
    }
}

/// What the input function takes but for blanks around it: `true`, `false`, `yes` and `no` in either case, or as much of
/// them from the left as tells them apart, `on`, `off`, `1`, `0`.
fn boolean(bytes: &[u8]) -> Result<bool, KeyError> {
    let begins = |word: &str, least: usize| {
        bytes.len() >= least
            && word
                .as_bytes()
                .get(..bytes.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(bytes))
    };
    match bytes {
        b"1" => Ok(true),
        b"0" => Ok(false),
        _ if begins("true", 1) || begins("yes", 1) || begins("on", 2) => Ok(true),
        _ if begins("false", 1) || begins("no", 1) || begins("off", 2) => Ok(false),
        _ => Err(KeyError::NotCanonical),
    }
}

/// `8-4-4-4-12` lowercase hexadecimal digits.
fn uuid(bytes: &[u8]) -> Result<KeyValue, KeyError> {
    if bytes.len() != 36 {
        return Err(KeyError::NotCanonical);
    }
    let mut out = [0u8; 16];
    let mut nibbles = 0;
    for (i, &b) in bytes.iter().enumerate() {
        if matches!(i, 8 | 13 | 18 | 23) {
            if b != b'-' {
                return Err(KeyError::NotCanonical);
            }
            continue;
        }
        let nibble = match b {
            b'0'..=b'9' => b - b'0',
            b'a'..=b'f' => b - b'a' + 10,
            _ => return Err(KeyError::NotCanonical),
        };
        out[nibbles / 2] = out[nibbles / 2] << 4 | nibble;
        nibbles += 1;
    }
    Ok(KeyValue::Uuid(out))
}

fn float(value: f64) -> KeyValue {
    KeyValue::Float(float_bits(value))
}

/// One zero and one NaN.
pub(super) fn float_bits(value: f64) -> u64 {
    let value = match value {
        0.0 => 0.0,
        value if value.is_nan() => f64::NAN,
        value => value,
    };
    value.to_bits()
}

/// Decimal, with or without exponent, or the name of a special value.
fn float_text(key_type: KeyType, bytes: &[u8]) -> Result<KeyValue, KeyError> {
    match bytes {
        b"NaN" => return Ok(float(f64::NAN)),
        b"Infinity" => return Ok(float(f64::INFINITY)),
        b"-Infinity" => return Ok(float(f64::NEG_INFINITY)),
        _ => {}
    }
    let unsigned = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let plain = unsigned.first().is_some_and(u8::is_ascii_digit)
        && unsigned
            .iter()
            .all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'+' | b'-'));
    let text = std::str::from_utf8(bytes).map_err(|_| KeyError::Malformed)?;
    if !plain {
        return Err(KeyError::NotCanonical);
    }
    let value: f64 = match key_type {
        KeyType::Float4 => text.parse::<f32>().map(f64::from),
        _ => text.parse::<f64>(),
    }
    .map_err(|_| KeyError::NotCanonical)?;
    // The server refuses what is too large, or too small to be told from zero.
    let mantissa = text.split('e').next().unwrap_or(text);
    let vanished = value == 0.0 && mantissa.bytes().any(|b| matches!(b, b'1'..=b'9'));
    if value.is_infinite() || vanished {
        return Err(KeyError::OutOfRange);
    }
    Ok(float(value))
}

/// `\x` and hexadecimal digits.
fn bytea(bytes: &[u8]) -> Result<KeyValue, KeyError> {
    let digits = bytes.strip_prefix(b"\\x").ok_or(KeyError::NotCanonical)?;
    if !digits.len().is_multiple_of(2) {
        return Err(KeyError::NotCanonical);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(KeyError::NotCanonical);
    let out: Result<Box<[u8]>, KeyError> = digits
        .chunks_exact(2)
        .map(|pair| Ok((digit(pair[0])? << 4 | digit(pair[1])?) as u8))
        .collect();
    Ok(KeyValue::Bytes(out?))
}
