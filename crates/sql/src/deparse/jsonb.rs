//! `jsonb` from the server's internal representation, as text that is read back to the same value.
//!
//! The layout is that of PostgreSQL's `jsonb.h`: a container is a header, an entry for each child, and the children. An entry
//! holds its child's type and either its length or (every 32nd) the offset of its end.

use super::datum;

const COUNT: u32 = 0x0fff_ffff;
const SCALAR: u32 = 0x1000_0000;
const OBJECT: u32 = 0x2000_0000;
const ARRAY: u32 = 0x4000_0000;

const OFFSET_OR_LENGTH: u32 = 0x0fff_ffff;
const KIND: u32 = 0x7000_0000;
const IS_OFFSET: u32 = 0x8000_0000;

/// Deepest nesting that is printed.
const DEPTH_MAX: usize = 100;

/// Contents of a `jsonb`.
pub(super) fn text(data: &[u8]) -> Option<String> {
    let mut out = String::new();
    container(data, DEPTH_MAX, &mut out)?;
    Some(out)
}

fn container(data: &[u8], depth: usize, out: &mut String) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    let header = datum::u32(data)?;
    let count = usize::try_from(header & COUNT).ok()?;
    let is_object = header & OBJECT != 0;
    if is_object == (header & ARRAY != 0) {
        return None;
    }
    let children = Children::new(
        data.get(4..)?,
        if is_object { count.checked_mul(2)? } else { count },
    )?;
    if header & SCALAR != 0 {
        return if count == 1 {
            children.print(0, depth, out)
        } else {
            None
        };
    }
    out.push(if is_object { '{' } else { '[' });
    for at in 0..count {
        if at > 0 {
            out.push_str(", ");
        }
        if is_object {
            // Keys come first, all of them.
            children.print(at, depth, out)?;
            out.push_str(": ");
            children.print(count + at, depth, out)?;
        } else {
            children.print(at, depth, out)?;
        }
    }
    out.push(if is_object { '}' } else { ']' });
    Some(())
}

struct Children<'a> {
    entries: Vec<u32>,
    /// Where each child ends.
    ends: Vec<usize>,
    data: &'a [u8],
}

impl<'a> Children<'a> {
    fn new(bytes: &'a [u8], count: usize) -> Option<Self> {
        let data = bytes.get(count.checked_mul(4)?..)?;
        let (mut entries, mut ends, mut end) = (Vec::with_capacity(count), Vec::with_capacity(count), 0);
        for at in 0..count {
            let entry = datum::u32(&bytes[at * 4..])?;
            let field = usize::try_from(entry & OFFSET_OR_LENGTH).ok()?;
            end = if entry & IS_OFFSET != 0 {
                field
            } else {
                end + field
            };
            entries.push(entry);
            ends.push(end);
        }
        Some(Children { entries, ends, data })
    }

    fn print(&self, at: usize, depth: usize, out: &mut String) -> Option<()> {
        let start = at
            .checked_sub(1)
            .map_or(Some(0), |before| self.ends.get(before).copied())?;
        let end = *self.ends.get(at)?;
        match self.entries.get(at)? & KIND {
            0x0000_0000 => string(self.data.get(start..end)?, out)?,
            // Numbers and containers are aligned, and their length includes what that took.
            0x1000_0000 => {
                let value = self.data.get(start.next_multiple_of(4)..end)?;
                out.push_str(&datum::numeric(datum::varlena(value)?)?);
            }
            0x2000_0000 => out.push_str("false"),
            0x3000_0000 => out.push_str("true"),
            0x4000_0000 => out.push_str("null"),
            0x5000_0000 => container(self.data.get(start.next_multiple_of(4)..end)?, depth, out)?,
            _ => return None,
        }
        Some(())
    }
}

fn string(bytes: &[u8], out: &mut String) -> Option<()> {
    out.push('"');
    for letter in std::str::from_utf8(bytes).ok()?.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            letter if letter < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
    out.push('"');
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_values_are_refused() {
        let cases: [&[u8]; 6] = [
            &[],
            &[1, 0, 0],
            &[1, 0, 0, 0x40],
            &[255, 255, 255, 0x4f, 0, 0, 0, 0],
            // A string that is longer than what is there, and a container in itself.
            &[1, 0, 0, 0x40, 9, 0, 0, 0, b'a'],
            &[1, 0, 0, 0x60, 0, 0, 0, 0x50],
        ];
        for bytes in cases {
            assert_eq!(text(bytes), None, "{bytes:?}");
        }
        assert_eq!(text(&[0, 0, 0, 0x40]).as_deref(), Some("[]"));
        assert_eq!(text(&[1, 0, 0, 0x50, 0, 0, 0, 0x30]).as_deref(), Some("true"));
    }
}
