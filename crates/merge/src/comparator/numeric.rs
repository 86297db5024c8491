//! numeric: digits in base 10,000 with a weight (the exponent of the first digit), a sign and a display scale.

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;
const POSITIVE_INFINITY: u16 = 0xd000;
const NEGATIVE_INFINITY: u16 = 0xf000;
const BASE: u16 = 10_000;

/// Appends the byte-comparable form; `None` if the value is malformed. Form: a class byte (-Infinity,
/// negative, zero, positive, Infinity, NaN), then for finite values the weight and each digit plus one, ended
/// by zero, all inverted for negative values.
pub(super) fn encode(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (head, digits) = value.split_first_chunk::<8>()?;
    let field = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let (count, weight, sign) = (field(0), field(2) as i16, field(4));
    if digits.len() != usize::from(count) * 2 {
        return None;
    }
    match sign {
        NEGATIVE_INFINITY => out.push(0),
        POSITIVE_INFINITY => out.push(4),
        NAN => out.push(5),
        POSITIVE | NEGATIVE => finite(digits, weight, sign == NEGATIVE, out)?,
        _ => return None,
    }
    Some(())
}

fn finite(digits: &[u8], weight: i16, negative: bool, out: &mut Vec<u8>) -> Option<()> {
    let digit = |raw: &[u8]| u16::from_be_bytes([raw[0], raw[1]]);
    if digits.chunks_exact(2).any(|raw| digit(raw) >= BASE) {
        return None;
    }
    // A sender may leave zeros at either end; they do not change the value.
    let Some(first) = digits.chunks_exact(2).position(|raw| digit(raw) != 0) else {
        out.push(2);
        return Some(());
    };
    let last = digits.chunks_exact(2).rposition(|raw| digit(raw) != 0)?;
    out.push(if negative { 1 } else { 3 });
    let start = out.len();
    let weight = i32::from(weight) - first as i32;
    out.extend_from_slice(&(weight as u32 ^ (1 << 31)).to_be_bytes());
    for raw in digits[first * 2..=last * 2 + 1].chunks_exact(2) {
        out.extend_from_slice(&(digit(raw) + 1).to_be_bytes());
    }
    out.extend_from_slice(&[0, 0]);
    if negative {
        out[start..].iter_mut().for_each(|b| *b = !*b);
    }
    Some(())
}
