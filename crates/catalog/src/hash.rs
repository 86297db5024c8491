//! PostgreSQL's extended hash functions with seed 0.
//!
//! The algorithm is Bob Jenkins' lookup3, little-endian, as PostgreSQL computes it on x86-64 and aarch64. With
//! seed 0 the seed step is skipped, which the server does too. The values are the same on PostgreSQL 15 to 18.

const SALT: u32 = 0x9e37_79b9;
const LENGTH_SALT: u32 = 3_923_095;

/// `hashint8extended(value, 0)`; equals `hashint2extended` and `hashint4extended` for values they can take.
#[inline]
pub fn int8(value: i64) -> i64 {
    let low = value as u32;
    let high = (value >> 32) as u32;
    // Folded so that a small negative int8 hashes as the int4 of the same value.
    uint32(low ^ if value >= 0 { high } else { !high })
}

/// `hash_bytes_uint32_extended(value, 0)`.
#[inline]
pub fn uint32(value: u32) -> i64 {
    let start = SALT.wrapping_add(4).wrapping_add(LENGTH_SALT);
    let (_, b, c) = finish(start.wrapping_add(value), start, start);
    join(b, c)
}

/// `hashfloat8extended(value, 0)` of the bits of a float8 of which there is one zero and one NaN; equals
/// `hashfloat4extended` for values that one can take.
#[inline]
pub fn float8(bits: u64) -> i64 {
    if bits == 0 { 0 } else { bytes(&bits.to_le_bytes()) }
}

/// `hash_bytes_extended(bytes, 0)`: `hashtextextended` under a deterministic collation, `uuid_hash_extended`, and
/// `hashbpcharextended` once trailing blanks are removed.
pub fn bytes(bytes: &[u8]) -> i64 {
    let start = SALT.wrapping_add(bytes.len() as u32).wrapping_add(LENGTH_SALT);
    let (mut a, mut b, mut c) = (start, start, start);
    let mut chunks = bytes.chunks_exact(12);
    for chunk in &mut chunks {
        a = a.wrapping_add(word(chunk, 0));
        b = b.wrapping_add(word(chunk, 4));
        c = c.wrapping_add(word(chunk, 8));
        (a, b, c) = mix(a, b, c);
    }
    // The lowest byte of c is taken by the length, so the last word of the tail sits one byte higher.
    let mut tail = [0u8; 12];
    let rest = chunks.remainder();
    tail[..rest.len()].copy_from_slice(rest);
    a = a.wrapping_add(word(&tail, 0));
    b = b.wrapping_add(word(&tail, 4));
    c = c.wrapping_add(word(&tail, 8) << 8);
    let (_, b, c) = finish(a, b, c);
    join(b, c)
}

#[inline]
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline]
fn join(b: u32, c: u32) -> i64 {
    (u64::from(b) << 32 | u64::from(c)) as i64
}

#[inline]
fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);
    (a, b, c)
}

#[inline]
fn finish(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    c = (c ^ b).wrapping_sub(b.rotate_left(24));
    (a, b, c)
}

#[cfg(test)]
mod tests;
