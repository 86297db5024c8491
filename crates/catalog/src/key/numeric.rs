//! `numeric` in a form in which equal values are equal, whatever their scale.

use std::fmt;

use super::{KeyError, KeyValue};
use crate::hash;

/// Decimal digits in one digit of a numeric.
const DECIMALS: usize = 4;
/// Largest number of decimal digits taken from a text; PostgreSQL's own limits are 131,072 before and 16,383 after the point.
const TEXT_MAX: usize = 131_072 + 16_383 + 2;

/// A `numeric`. 1.0 and 1.00 are the same value here, as they are to `=`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Numeric {
    sign: Sign,
    /// Power of 10,000 of the first digit.
    weight: i16,
    /// Base 10,000, neither the first nor the last is 0; none for zero.
    digits: Box<[i16]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Sign {
    Positive,
    Negative,
    NaN,
    Infinity,
    NegativeInfinity,
}

impl Numeric {
    /// `hash_numeric_extended(value, 0)`.
    pub fn hash(&self) -> i64 {
        if !matches!(self.sign, Sign::Positive | Sign::Negative) {
            return 0;
        }
        if self.digits.is_empty() {
            return -1;
        }
        let bytes: Vec<u8> = self.digits.iter().flat_map(|digit| digit.to_le_bytes()).collect();
        hash::bytes(&bytes) ^ i64::from(self.weight)
    }

    fn special(sign: Sign) -> Numeric {
        Numeric {
            sign,
            weight: 0,
            digits: Box::default(),
        }
    }

    /// Zeros at both ends are dropped; they change neither value nor hash.
    fn from_digits(negative: bool, weight: i64, digits: &[i16]) -> Result<Numeric, KeyError> {
        if digits.iter().any(|digit| !(0..10_000).contains(digit)) {
            return Err(KeyError::Malformed);
        }
        let Some(first) = digits.iter().position(|digit| *digit != 0) else {
            return Ok(Numeric::special(Sign::Positive));
        };
        let last = digits.iter().rposition(|digit| *digit != 0).unwrap_or(first);
        let weight = weight - first as i64;
        Ok(Numeric {
            sign: if negative { Sign::Negative } else { Sign::Positive },
            weight: i16::try_from(weight).map_err(|_| KeyError::OutOfRange)?,
            digits: digits[first..=last].into(),
        })
    }

    /// As `numeric(precision, scale)` stores it: rounded half away from zero.
    pub(super) fn rounded(&self, precision: u16, scale: i16) -> Result<Numeric, KeyError> {
        let negative = match self.sign {
            Sign::NaN => return Ok(self.clone()),
            Sign::Infinity | Sign::NegativeInfinity => return Err(KeyError::OutOfRange),
            sign => sign == Sign::Negative,
        };
        let text = self.to_string();
        let unsigned = text.trim_start_matches('-');
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let mut digits: Vec<u8> = [whole, fraction].concat().into_bytes();
        // How many of the digits are left of the place it is rounded to.
        let Ok(keep) = usize::try_from(whole.len() as i64 + i64::from(scale)) else {
            return Ok(Numeric::special(Sign::Positive));
        };
        let up = digits.get(keep).is_some_and(|digit| *digit >= b'5');
        digits.resize(keep, b'0');
        if up {
            // 9 … 9 becomes 10 … 0.
            let carry = digits.iter().rposition(|digit| *digit != b'9');
            let zeros = carry.map_or(0, |at| at + 1);
            digits[zeros..].fill(b'0');
            match carry {
                Some(at) => digits[at] += 1,
                None => digits.insert(0, b'1'),
            }
        }
        let first = digits
            .iter()
            .position(|digit| *digit != b'0')
            .unwrap_or(digits.len());
        if digits.len() - first > usize::from(precision) {
            return Err(KeyError::OutOfRange);
        }
        let mut number = String::from_utf8_lossy(&digits[first..]).into_owned();
        match usize::try_from(scale) {
            Ok(scale) => {
                let least = scale + 1;
                let short = least.saturating_sub(number.len());
                number.insert_str(0, &"0".repeat(short));
                number.insert(number.len() - scale, '.');
            }
            Err(_) if number.is_empty() => number.push('0'),
            Err(_) => number.push_str(&"0".repeat(usize::from(scale.unsigned_abs()))),
        }
        let mut rounded = decimal(number.trim_end_matches('.').as_bytes())?;
        if negative && !rounded.digits.is_empty() {
            rounded.sign = Sign::Negative;
        }
        Ok(rounded)
    }

    /// Decimal digits after the point that are needed to write the value.
    fn scale(&self) -> i64 {
        let Some(last) = self.digits.last() else { return 0 };
        let zeros = match last {
            d if d % 1000 == 0 => 3,
            d if d % 100 == 0 => 2,
            d if d % 10 == 0 => 1,
            _ => 0,
        };
        let after = self.digits.len() as i64 - 1 - i64::from(self.weight);
        after * DECIMALS as i64 - zeros
    }
}

/// As the server prints it, without zeros at the end.
impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sign {
            Sign::NaN => return f.write_str("NaN"),
            Sign::Infinity => return f.write_str("Infinity"),
            Sign::NegativeInfinity => return f.write_str("-Infinity"),
            Sign::Negative => f.write_str("-")?,
            Sign::Positive => {}
        }
        let digit = |power: i64| {
            let at = usize::try_from(i64::from(self.weight) - power).ok();
            at.and_then(|at| self.digits.get(at)).copied().unwrap_or(0)
        };
        let first = i64::from(self.weight).max(0);
        write!(f, "{}", digit(first))?;
        for power in (0..first).rev() {
            write!(f, "{:04}", digit(power))?;
        }
        let scale = usize::try_from(self.scale()).unwrap_or(0);
        if scale > 0 {
            let groups = scale.div_ceil(DECIMALS) as i64;
            let fraction: String = (1..=groups).map(|at| format!("{:04}", digit(-at))).collect();
            write!(f, ".{}", &fraction[..scale])?;
        }
        Ok(())
    }
}

/// From the text that a server prints: no exponent, no sign but `-`, no needless zero in front.
pub(super) fn from_text(bytes: &[u8]) -> Result<KeyValue, KeyError> {
    let value = match bytes {
        b"NaN" => Numeric::special(Sign::NaN),
        b"Infinity" => Numeric::special(Sign::Infinity),
        b"-Infinity" => Numeric::special(Sign::NegativeInfinity),
        _ if bytes.len() > TEXT_MAX => return Err(KeyError::NotCanonical),
        _ => decimal(bytes)?,
    };
    Ok(KeyValue::Numeric(Box::new(value)))
}

fn decimal(bytes: &[u8]) -> Result<Numeric, KeyError> {
    let (negative, rest) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let point = rest.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, &[][..]),
    };
    let canonical = match whole {
        [] => false,
        [b'0'] => true,
        [b'0', ..] => false,
        _ => true,
    };
    let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    let point_alone = point.is_some() && fraction.is_empty();
    if !canonical || point_alone || !digits(whole) || !digits(fraction) {
        return Err(KeyError::NotCanonical);
    }
    // Groups of four to both sides of the point.
    let lead = whole.len().next_multiple_of(DECIMALS) - whole.len();
    let trail = fraction.len().next_multiple_of(DECIMALS) - fraction.len();
    let zeros = |count| std::iter::repeat_n(&b'0', count);
    let all: Vec<u8> = zeros(lead)
        .chain(whole)
        .chain(fraction)
        .chain(zeros(trail))
        .copied()
        .collect();
    let groups: Vec<i16> = all
        .chunks_exact(DECIMALS)
        .map(|group| {
            group
                .iter()
                .fold(0, |sum, digit| sum * 10 + i16::from(digit - b'0'))
        })
        .collect();
    let weight = (lead + whole.len()) as i64 / DECIMALS as i64 - 1;
    Numeric::from_digits(negative, weight, &groups)
}

/// `numeric_recv`: counts, weight, sign, scale, digits, all of two bytes.
pub(super) fn from_binary(bytes: &[u8]) -> Result<KeyValue, KeyError> {
    let word = |at: usize| -> Result<u16, KeyError> {
        let pair = bytes.get(2 * at..2 * at + 2).ok_or(KeyError::Malformed)?;
        Ok(u16::from_be_bytes([pair[0], pair[1]]))
    };
    let (count, weight, sign, scale) = (usize::from(word(0)?), word(1)? as i16, word(2)?, word(3)?);
    if bytes.len() != 8 + 2 * count {
        return Err(KeyError::Malformed);
    }
    let special = match sign {
        0xc000 => Some(Sign::NaN),
        0xd000 => Some(Sign::Infinity),
        0xf000 => Some(Sign::NegativeInfinity),
        0 | 0x4000 => None,
        _ => return Err(KeyError::Malformed),
    };
    let value = match special {
        Some(sign) => Numeric::special(sign),
        None => {
            let digits: Vec<i16> = (0..count)
                .map(|at| word(4 + at).map(|digit| digit as i16))
                .collect::<Result<_, _>>()?;
            let value = Numeric::from_digits(sign != 0, weight.into(), &digits)?;
            // The server cuts off what the scale hides.
            if value.scale() > i64::from(scale) {
                return Err(KeyError::NotCanonical);
            }
            value
        }
    };
    Ok(KeyValue::Numeric(Box::new(value)))
}

/// The payload of a numeric's varlena: a header of one or two words, then the digits.
pub(super) fn from_datum(bytes: &[u8]) -> Result<KeyValue, KeyError> {
    let mut words = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    if !bytes.len().is_multiple_of(2) {
        return Err(KeyError::Malformed);
    }
    let header = words.next().ok_or(KeyError::Malformed)?;
    let (negative, weight) = match header & 0xc000 {
        0xc000 => {
            let sign = match header & 0xf000 {
                0xc000 => Sign::NaN,
                0xd000 => Sign::Infinity,
                0xf000 => Sign::NegativeInfinity,
                _ => return Err(KeyError::Malformed),
            };
            return Ok(KeyValue::Numeric(Box::new(Numeric::special(sign))));
        }
        0x8000 => {
            let low = i64::from(header & 0x3f);
            let weight = if header & 0x40 != 0 { low - 64 } else { low };
            (header & 0x2000 != 0, weight)
        }
        sign => {
            let weight = words.next().ok_or(KeyError::Malformed)? as i16;
            (sign != 0, weight.into())
        }
    };
    let digits: Vec<i16> = words.map(|word| word as i16).collect();
    Ok(KeyValue::Numeric(Box::new(Numeric::from_digits(
        negative, weight, &digits,
    )?)))
}
