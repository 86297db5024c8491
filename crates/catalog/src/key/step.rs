//! What happens to a key on its way from a statement into a column.

use super::{KeyError, KeyType, KeyValue, numeric, parse};

/// Length of the header that type modifiers of `varchar`, `character` and `numeric` count.
const HEADER: i32 = 4;
/// Microseconds that a timestamp of so many fractional digits is a multiple of.
const SECONDS_UNITS: [i64; 6] = [1_000_000, 100_000, 10_000, 1_000, 100, 10];

/// A conversion between a value in a statement and the value that is compared or stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyStep {
    /// `varchar(n)` and `character(n)`: a longer value is refused or cut by the server, so it is no key.
    Chars(u32),
    /// `numeric(precision, scale)`: rounded to `scale` decimal digits, half away from zero.
    Decimal {
        /// Most decimal digits.
        precision: u16,
        /// How many of them are after the point; negative: as many before it are zero.
        scale: i16,
    },
    /// `timestamp(n)` and `timestamptz(n)`: rounded to `n` digits of a second, half away from zero.
    Seconds(u8),
    /// A cast.
    To(KeyType),
}

impl KeyStep {
    /// What `pg_attribute.atttypmod` means for values of a key type; `None`: nothing.
    pub fn of_modifier(key_type: KeyType, modifier: i32) -> Option<KeyStep> {
        if modifier < 0 {
            return None;
        }
        match key_type {
            KeyType::Varchar | KeyType::Bpchar => u32::try_from(modifier - HEADER).ok().map(KeyStep::Chars),
            KeyType::Numeric => {
                let packed = u32::try_from(modifier - HEADER).ok()?;
                // The scale has eleven bits and a sign.
                let scale = ((packed & 0x7ff) ^ 1024) as i16 - 1024;
                let precision = (packed >> 16) as u16;
                Some(KeyStep::Decimal { precision, scale })
            }
            KeyType::Timestamp | KeyType::Timestamptz => u8::try_from(modifier).ok().map(KeyStep::Seconds),
            _ => None,
        }
    }

    /// The value after it. NULL stays NULL.
    ///
    /// # Errors
    /// [`KeyError::OutOfRange`] where the server refuses the value, [`KeyError::NotCanonical`] where it may not, and
    /// [`KeyError::Malformed`] for a value of another type.
    pub fn apply(self, value: KeyValue) -> Result<KeyValue, KeyError> {
        match (self, value) {
            (_, KeyValue::Null) => Ok(KeyValue::Null),
            (KeyStep::Chars(most), KeyValue::Text(text)) => {
                // UTF-8: every byte that does not continue a character begins one.
                let chars = text.iter().filter(|byte| (**byte & 0xC0) != 0x80).count();
                match chars <= most as usize {
                    true => Ok(KeyValue::Text(text)),
                    false => Err(KeyError::NotCanonical),
                }
            }
            (KeyStep::Decimal { precision, scale }, KeyValue::Numeric(value)) => {
                let rounded = value.rounded(precision, scale)?;
                Ok(KeyValue::Numeric(Box::new(rounded)))
            }
            (KeyStep::Seconds(digits), KeyValue::Time(time)) => Ok(KeyValue::Time(rounded(time, digits)?)),
            (KeyStep::To(target), value) => cast(target, value),
            _ => Err(KeyError::Malformed),
        }
    }
}

/// `AdjustTimestampForTypmod`.
fn rounded(time: i64, digits: u8) -> Result<i64, KeyError> {
    let Some(unit) = SECONDS_UNITS.get(usize::from(digits)) else {
        return Ok(time);
    };
    if matches!(time, i64::MIN | i64::MAX) {
        return Ok(time);
    }
    // Symmetric around zero.
    let size = time.checked_abs().and_then(|size| size.checked_add(unit / 2));
    let size = size.ok_or(KeyError::OutOfRange)? / unit * unit;
    Ok(if time < 0 { -size } else { size })
}

fn cast(target: KeyType, value: KeyValue) -> Result<KeyValue, KeyError> {
    let float = |value: f64| KeyValue::Float(parse::float_bits(value));
    match (target, &value) {
        (KeyType::Numeric, KeyValue::Int(number)) => numeric::from_text(number.to_string().as_bytes()),
        // Rounded once, as the server does.
        (KeyType::Float8, KeyValue::Int(number)) => Ok(float(*number as f64)),
        (KeyType::Float4, KeyValue::Int(number)) => Ok(float((*number as f32).into())),
        (KeyType::Float4 | KeyType::Float8, KeyValue::Numeric(number)) => {
            parse::from_text(target, number.to_string().as_bytes())
        }
        (KeyType::Float4, KeyValue::Float(bits)) => {
            let (wide, narrow) = (f64::from_bits(*bits), f64::from_bits(*bits) as f32);
            let lost = (narrow.is_infinite() && wide.is_finite()) || (narrow == 0.0 && wide != 0.0);
            match lost {
                true => Err(KeyError::OutOfRange),
                false => Ok(float(narrow.into())),
            }
        }
        _ => target.coerce(&value),
    }
}
