//! Bytes from outside → [`KeyValue`].

use super::{KeyError, KeyFamily, KeyType, KeyValue};

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
        KeyType::Text | KeyType::Varchar | KeyType::Bpchar => text(key_type, bytes)?,
    };
    Ok(value)
}

pub(super) fn from_text(key_type: KeyType, bytes: &[u8]) -> Result<KeyValue, KeyError> {
    match key_type.family() {
        KeyFamily::Integer => from_i64(key_type, integer(bytes)?),
        KeyFamily::Uuid => uuid(bytes),
        KeyFamily::Text | KeyFamily::Bpchar => text(key_type, bytes),
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
