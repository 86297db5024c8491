//! Dates and times in the one form that means the same under every `DateStyle` and `TimeZone`.
//!
//! `2026-11-21`, `2026-11-21 08:30:00.25`, and with an offset `2026-11-21 08:30:00+05:30`; years from 1 to 9999. `T` may
//! stand before the time and `Z` for the offset, as drivers write them. Every other form is [`KeyError::NotCanonical`]: a
//! server has to read it.

use super::{KeyError, KeyValue};

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// A `date`.
pub(super) fn date(bytes: &[u8]) -> Result<KeyValue, KeyError> {
    match bytes {
        b"infinity" => Ok(KeyValue::Date(i32::MAX)),
        b"-infinity" => Ok(KeyValue::Date(i32::MIN)),
        _ => days(bytes).map(KeyValue::Date),
    }
}

/// A `timestamp`, or with `zoned` a `timestamptz`.
pub(super) fn timestamp(bytes: &[u8], zoned: bool) -> Result<KeyValue, KeyError> {
    match bytes {
        b"infinity" => return Ok(KeyValue::Time(i64::MAX)),
        b"-infinity" => return Ok(KeyValue::Time(i64::MIN)),
        _ => {}
    }
    let (date, rest) = bytes.split_at_checked(10).ok_or(KeyError::NotCanonical)?;
    let (time, rest) = rest.split_at_checked(9).ok_or(KeyError::NotCanonical)?;
    let [b' ' | b'T', h1, h2, b':', m1, m2, b':', s1, s2] = time else {
        return Err(KeyError::NotCanonical);
    };
    let (hour, minute, second) = (
        number(&[*h1, *h2], 23)?,
        number(&[*m1, *m2], 59)?,
        number(&[*s1, *s2], 59)?,
    );
    let (fraction, rest) = fraction(rest)?;
    let offset = match (zoned, rest) {
        (true, rest) => offset_seconds(rest)?,
        (false, []) => 0,
        // The server reads an offset and does not use it.
        (false, rest) => offset_seconds(rest).map(|_| 0)?,
    };
    let seconds = hour * 3600 + minute * 60 + second - offset;
    Ok(KeyValue::Time(
        i64::from(days(date)?) * MICROS_PER_DAY + seconds * MICROS_PER_SECOND + fraction,
    ))
}

/// `.` and one to six digits, or nothing, in microseconds.
fn fraction(bytes: &[u8]) -> Result<(i64, &[u8]), KeyError> {
    let [b'.', rest @ ..] = bytes else {
        return Ok((0, bytes));
    };
    let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=6).contains(&len) {
        return Err(KeyError::NotCanonical);
    }
    let (digits, rest) = rest.split_at(len);
    let scale = 10_i64.pow(6 - len as u32);
    Ok((number(digits, 999_999)? * scale, rest))
}

/// `+HH`, `+HH:MM` or `+HHMM`, either sign; `Z`.
fn offset_seconds(bytes: &[u8]) -> Result<i64, KeyError> {
    if bytes == b"Z" {
        return Ok(0);
    }
    let (sign, rest) = match bytes {
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return Err(KeyError::NotCanonical),
    };
    // PostgreSQL takes offsets of less than 16 hours.
    let (hours, minutes) = match rest {
        [a, b] => (number(&[*a, *b], 15)?, 0),
        [a, b, b':', c, d] | [a, b, c, d] => (number(&[*a, *b], 15)?, number(&[*c, *d], 59)?),
        _ => return Err(KeyError::NotCanonical),
    };
    Ok(sign * (hours * 3600 + minutes * 60))
}

/// Days from 2000-01-01 to `YYYY-MM-DD`.
fn days(bytes: &[u8]) -> Result<i32, KeyError> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = bytes else {
        return Err(KeyError::NotCanonical);
    };
    let year = number(&[*y1, *y2, *y3, *y4], 9999)?;
    let (month, day) = (number(&[*m1, *m2], 12)?, number(&[*d1, *d2], 31)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    };
    if year == 0 || month == 0 || day == 0 || day > length {
        return Err(KeyError::NotCanonical);
    }
    // Years are counted from March, so that the leap day is the last of its year.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let before = year * 365 + year / 4 - year / 100 + year / 400;
    let days = before + (153 * month + 2) / 5 + day - 1;
    // 2000-01-01 counted in the same way.
    i32::try_from(days - 730_425).map_err(|_| KeyError::OutOfRange)
}

fn number(digits: &[u8], max: i64) -> Result<i64, KeyError> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(KeyError::NotCanonical);
    }
    let value = digits
        .iter()
        .fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    if value > max {
        return Err(KeyError::NotCanonical);
    }
    Ok(value)
}
