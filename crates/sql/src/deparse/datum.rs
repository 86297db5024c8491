//! Values from the server's internal representation (little-endian, as on every platform Drover runs on).

/// Days from 1970-01-01 to the server's epoch, 2000-01-01.
const EPOCH_DAYS: i64 = 10_957;
const USECS_PER_DAY: i64 = 86_400_000_000;
/// `numeric` keeps four decimal digits per stored digit.
const DIGITS_PER_WORD: i64 = 4;
/// Longest numeric printed: what the server itself allows is far more than any literal needs.
const NUMERIC_CHARS_MAX: i64 = 200_000;

fn head<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.get(..N)?.try_into().ok()
}

pub(super) fn i16(bytes: &[u8]) -> Option<i16> {
    head(bytes).map(i16::from_le_bytes)
}

pub(super) fn i32(bytes: &[u8]) -> Option<i32> {
    head(bytes).map(i32::from_le_bytes)
}

pub(super) fn u32(bytes: &[u8]) -> Option<u32> {
    head(bytes).map(u32::from_le_bytes)
}

pub(super) fn i64(bytes: &[u8]) -> Option<i64> {
    head(bytes).map(i64::from_le_bytes)
}

/// Contents of a variable-length value; `None` when it is compressed or stored elsewhere.
pub(super) fn varlena(bytes: &[u8]) -> Option<&[u8]> {
    let (len, header) = varlena_length(bytes)?;
    bytes.get(header..len)
}

/// Total length and header length of the variable-length value at the start of `bytes`.
fn varlena_length(bytes: &[u8]) -> Option<(usize, usize)> {
    let first = *bytes.first()?;
    let (len, header) = match (first & 1, first & 3) {
        (1, _) if first == 1 => return None,
        (1, _) => ((first >> 1) as usize, 1),
        (_, 0) => ((u32(bytes)? >> 2) as usize, 4),
        _ => return None,
    };
    (len >= header && len <= bytes.len()).then_some((len, header))
}

/// Elements of a one-dimensional array with lower bound 1 (or of an empty array); `None` for NULL elements.
pub(super) fn array(
    bytes: &[u8],
    element: u32,
    align: usize,
    fixed: Option<usize>,
) -> Option<Vec<Option<&[u8]>>> {
    let (total, 4) = varlena_length(bytes)? else {
        return None;
    };
    let bytes = bytes.get(..total)?;
    let dimensions = i32(bytes.get(4..)?)?;
    let data_offset = usize::try_from(i32(bytes.get(8..)?)?).ok()?;
    if u32(bytes.get(12..)?)? != element {
        return None;
    }
    if dimensions == 0 {
        return Some(Vec::new());
    }
    let count = usize::try_from(i32(bytes.get(16..)?)?).ok()?;
    if dimensions != 1 || i32(bytes.get(20..)?)? != 1 || count > bytes.len().saturating_mul(8) {
        return None;
    }
    // With NULLs, a bitmap stands between the bounds and the data.
    let (nulls, mut at) = match data_offset {
        0 => (None, 24),
        offset => (Some(bytes.get(24..offset)?), offset),
    };
    let mut out = Vec::with_capacity(count);
    for i in 0..count {
        if let Some(nulls) = nulls
            && nulls.get(i / 8)? & (1 << (i % 8)) == 0
        {
            out.push(None);
            continue;
        }
        // Values with a short header are not aligned; padding before the others is zero.
        let short = fixed.is_none() && *bytes.get(at)? & 1 == 1;
        if !short {
            at = at.next_multiple_of(align);
        }
        let len = match fixed {
            Some(len) => len,
            None => varlena_length(bytes.get(at..)?)?.0,
        };
        out.push(Some(bytes.get(at..at + len)?));
        at += len;
    }
    Some(out)
}

/// A value of a range type.
pub(super) struct Range<'a> {
    pub empty: bool,
    /// Whether the bounds themselves are in it.
    pub inclusive: (bool, bool),
    /// `None`: there is no bound.
    pub lower: Option<&'a [u8]>,
    pub upper: Option<&'a [u8]>,
}

/// A range: its type, the bounds it has, and a byte of flags at the end.
pub(super) fn range(bytes: &[u8], align: usize, fixed: Option<usize>) -> Option<Range<'_>> {
    const EMPTY: u8 = 0x01;
    const LOWER_INCLUSIVE: u8 = 0x02;
    const UPPER_INCLUSIVE: u8 = 0x04;
    const LOWER_INFINITE: u8 = 0x08;
    const UPPER_INFINITE: u8 = 0x10;
    let (total, 4) = varlena_length(bytes)? else {
        return None;
    };
    let flags = *bytes.get(total.checked_sub(1)?)?;
    let bounds = bytes.get(..total - 1)?;
    let mut at = 8;
    let mut bound = |absent: u8| {
        if flags & (EMPTY | absent) != 0 {
            return Some(None);
        }
        let short = fixed.is_none() && *bounds.get(at)? & 1 == 1;
        if !short {
            at = at.next_multiple_of(align);
        }
        let len = match fixed {
            Some(len) => len,
            None => varlena_length(bounds.get(at..)?)?.0,
        };
        let value = bounds.get(at..at + len)?;
        at += len;
        Some(Some(value))
    };
    Some(Range {
        lower: bound(LOWER_INFINITE)?,
        upper: bound(UPPER_INFINITE)?,
        empty: flags & EMPTY != 0,
        inclusive: (flags & LOWER_INCLUSIVE != 0, flags & UPPER_INCLUSIVE != 0),
    })
}

pub(super) fn float8(value: f64) -> String {
    match () {
        () if value.is_nan() => "NaN".to_owned(),
        () if value.is_infinite() => if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        () => format!("{value:?}"),
    }
}

pub(super) fn float4(value: f32) -> String {
    match () {
        () if value.is_nan() => "NaN".to_owned(),
        () if value.is_infinite() => if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        () => format!("{value:?}"),
    }
}

/// Contents of a `numeric`.
pub(super) fn numeric(data: &[u8]) -> Option<String> {
    let word = |i: usize| {
        data.get(2 * i..2 * i + 2)
            .and_then(|b| b.try_into().ok())
            .map(u16::from_le_bytes)
    };
    let header = word(0)?;
    let (negative, scale, weight, first) = match header >> 14 {
        3 => {
            return match header & 0xf000 {
                0xc000 => Some("NaN".to_owned()),
                0xd000 => Some("Infinity".to_owned()),
                0xf000 => Some("-Infinity".to_owned()),
                _ => None,
            };
        }
        2 => {
            // Short form: sign, scale and a seven-bit signed weight in the header.
            let low = i64::from(header & 0x3f);
            let weight = if header & 0x40 != 0 { low - 64 } else { low };
            (header & 0x2000 != 0, i64::from((header & 0x1f80) >> 7), weight, 1)
        }
        sign => (
            sign == 1,
            i64::from(header & 0x3fff),
            i64::from(word(1)? as i16),
            2,
        ),
    };
    let count = (data.len() / 2).checked_sub(first)?;
    if weight.abs() * DIGITS_PER_WORD > NUMERIC_CHARS_MAX || scale > NUMERIC_CHARS_MAX {
        return None;
    }
    let digit = |power: i64| match usize::try_from(weight - power) {
        Ok(i) if i < count => word(first + i).unwrap_or(0),
        _ => 0,
    };
    let mut whole = String::new();
    for power in (0..=weight.max(0)).rev() {
        whole.push_str(&format!("{:04}", digit(power)));
    }
    let whole = whole.trim_start_matches('0');
    let mut fraction = String::new();
    let mut power = -1;
    while (fraction.len() as i64) < scale {
        fraction.push_str(&format!("{:04}", digit(power)));
        power -= 1;
    }
    fraction.truncate(usize::try_from(scale).ok()?);
    let sign = if negative { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(if scale == 0 {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    })
}

pub(super) fn uuid(bytes: &[u8]) -> Option<String> {
    let bytes: [u8; 16] = bytes.try_into().ok()?;
    let mut out = String::with_capacity(36);
    for (i, b) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push_str(&format!("{b:02x}"));
    }
    Some(out)
}

pub(super) fn bytea(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 + 2 * bytes.len());
    out.push_str("\\x");
    bytes.iter().for_each(|b| out.push_str(&format!("{b:02x}")));
    out
}

/// A date in ISO form, which every DateStyle reads the same way.
pub(super) fn date(days: i32) -> Option<String> {
    match days {
        i32::MAX => return Some("infinity".to_owned()),
        i32::MIN => return Some("-infinity".to_owned()),
        _ => {}
    }
    let (text, bc) = civil(i64::from(days));
    Some(format!("{text}{bc}"))
}

/// Date text and era suffix from days since 2000-01-01, in the proleptic Gregorian calendar.
fn civil(days: i64) -> (String, &'static str) {
    // Shift to an era of 400 years that begins on 0000-03-01.
    let z = days + EPOCH_DAYS + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    // There is no year 0: it is 1 BC.
    let (year, bc) = if year <= 0 { (1 - year, " BC") } else { (year, "") };
    (format!("{year:04}-{month:02}-{day:02}"), bc)
}

/// Time of day from microseconds; 24:00:00 is valid.
pub(super) fn time(usecs: i64) -> Option<String> {
    if !(0..=USECS_PER_DAY).contains(&usecs) {
        return None;
    }
    Some(clock(usecs))
}

fn clock(usecs: i64) -> String {
    let seconds = usecs / 1_000_000;
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match usecs % 1_000_000 {
        0 => format!("{h:02}:{m:02}:{s:02}"),
        fraction => format!("{h:02}:{m:02}:{s:02}.{fraction:06}"),
    }
}

pub(super) fn timestamp(usecs: i64, zone: bool) -> Option<String> {
    match usecs {
        i64::MAX => return Some("infinity".to_owned()),
        i64::MIN => return Some("-infinity".to_owned()),
        _ => {}
    }
    let (date, bc) = civil(usecs.div_euclid(USECS_PER_DAY));
    let clock = clock(usecs.rem_euclid(USECS_PER_DAY));
    let zone = if zone { "+00" } else { "" };
    Some(format!("{date} {clock}{zone}{bc}"))
}

/// An interval with a sign on every part, which every IntervalStyle reads the same way.
pub(super) fn interval(bytes: &[u8]) -> Option<String> {
    let usecs = i64(bytes)?;
    let days = i32(bytes.get(8..)?)?;
    let months = i32(bytes.get(12..)?)?;
    match (usecs, days, months) {
        (i64::MAX, i32::MAX, i32::MAX) => return Some("infinity".to_owned()),
        (i64::MIN, i32::MIN, i32::MIN) => return Some("-infinity".to_owned()),
        _ => {}
    }
    let sign = if usecs < 0 { '-' } else { '+' };
    let magnitude = i64::try_from(usecs.unsigned_abs()).ok()?;
    Some(format!(
        "{months:+} mons {days:+} days {sign}{}",
        clock(magnitude)
    ))
}

/// A time of day and its zone, which is stored in seconds west of UTC.
pub(super) fn timetz(bytes: &[u8]) -> Option<String> {
    let west = i32(bytes.get(8..)?)?;
    let sign = if west > 0 { '-' } else { '+' };
    let seconds = west.unsigned_abs();
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    Some(format!("{}{sign}{h:02}:{m:02}:{s:02}", time(i64(bytes)?)?))
}

/// Contents of an `inet` or `cidr`: family, bits of the mask, address.
pub(super) fn inet(data: &[u8]) -> Option<String> {
    let (&[family, bits], address) = data.split_first_chunk::<2>()?;
    let address = match family {
        2 => std::net::Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?).to_string(),
        3 => std::net::Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?).to_string(),
        _ => return None,
    };
    Some(format!("{address}/{bits}"))
}

pub(super) fn macaddr(bytes: &[u8]) -> Option<String> {
    let bytes: [u8; 6] = bytes.get(..6)?.try_into().ok()?;
    Some(bytes.map(|byte| format!("{byte:02x}")).join(":"))
}

/// Contents of a `bit` or `varbit`: the number of bits, and the bits.
pub(super) fn bits(data: &[u8]) -> Option<String> {
    let count = usize::try_from(i32(data)?).ok()?;
    let bytes = data.get(4..)?;
    if count > bytes.len().checked_mul(8)? {
        return None;
    }
    let bit = |at: usize| {
        if bytes[at / 8] >> (7 - at % 8) & 1 == 1 {
            '1'
        } else {
            '0'
        }
    };
    Some((0..count).map(bit).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times() {
        assert_eq!(date(0).as_deref(), Some("2000-01-01"));
        assert_eq!(date(-1).as_deref(), Some("1999-12-31"));
        assert_eq!(date(59).as_deref(), Some("2000-02-29"));
        assert_eq!(
            timestamp(-1, true).as_deref(),
            Some("1999-12-31 23:59:59.999999+00")
        );
        assert_eq!(timestamp(i64::MAX, true).as_deref(), Some("infinity"));
        assert_eq!(time(USECS_PER_DAY).as_deref(), Some("24:00:00"));
        let bytes = [
            &(-1i64).to_le_bytes()[..],
            &2i32.to_le_bytes(),
            &(-3i32).to_le_bytes(),
        ]
        .concat();
        assert_eq!(
            interval(&bytes).as_deref(),
            Some("-3 mons +2 days -00:00:00.000001")
        );
    }

    #[test]
    fn numbers() {
        assert_eq!(numeric(&[0x80, 0x80, 1, 0, 0x88, 0x13]).as_deref(), Some("1.5"));
        assert_eq!(numeric(&[0, 0xc0]).as_deref(), Some("NaN"));
        assert_eq!(numeric(&[0, 0x80]).as_deref(), Some("0"));
        assert_eq!(float8(0.1), "0.1");
        assert_eq!(float8(1e300), "1e300");
        assert_eq!(float8(f64::NEG_INFINITY), "-Infinity");
    }

    #[test]
    fn malformed_values_are_refused() {
        for bytes in [&[][..], &[1], &[2, 0, 0, 0], &[255, 255, 255, 255], &[0, 0, 0, 0]] {
            assert_eq!(varlena(bytes), None, "{bytes:?}");
            assert_eq!(array(bytes, 23, 4, Some(4)), None);
        }
        assert_eq!(numeric(&[]), None);
        assert_eq!(interval(&[0; 15]), None);
    }
}
