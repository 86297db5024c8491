//! Just enough Rust to count lines of functions and of tests: comments, strings and braces.

/// A function and its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    /// Line of `fn`, from 1.
    pub(super) line: usize,
    /// From the line of `fn` to that of the closing brace.
    pub(super) lines: usize,
}

/// What one file has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// All functions, those of tests left out.
    pub(super) functions: Vec<Function>,
    /// Lines that are not in a `#[cfg(test)]` module.
    pub(super) lines: usize,
}

/// Scans a source file.
pub(super) fn scan(text: &str) -> Scan {
    let code = blank(text);
    let tests = test_ranges(&code);
    let in_tests = |at: usize| tests.iter().any(|&(start, end)| start <= at && at < end);
    let line_of = |at: usize| code[..at].iter().filter(|&&b| b == b'\n').count() + 1;
    let functions = function_ranges(&code)
        .into_iter()
        .filter(|(_, start, _)| !in_tests(*start));
    let functions = functions.map(|(name, start, end)| Function {
        name,
        line: line_of(start),
        lines: line_of(end) - line_of(start) + 1,
    });
    let test_lines: usize = tests
        .iter()
        .map(|&(start, end)| line_of(end) - line_of(start) + 1)
        .sum();
    Scan {
        functions: functions.collect(),
        lines: text.lines().count().saturating_sub(test_lines),
    }
}

/// The text with comments, strings and character literals replaced by spaces; line breaks stay.
pub(super) fn blank(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match token_end(bytes, at) {
            Some(end) => end.min(bytes.len()),
            None => {
                at += 1;
                continue;
            }
        };
        out[at..end]
            .iter_mut()
            .filter(|b| **b != b'\n')
            .for_each(|b| *b = b' ');
        at = end;
    }
    out
}

/// The end of a comment or literal that starts here.
fn token_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let word_before = at > 0 && is_word(bytes[at - 1]);
    match rest {
        [b'/', b'/', ..] => Some(at + rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len())),
        [b'/', b'*', ..] => Some(block_comment_end(bytes, at)),
        [b'"', ..] => Some(quoted_end(bytes, at + 1, b'"')),
        [b'\'', ..] => char_end(bytes, at),
        [b'r', ..] | [b'b' | b'c', b'r', ..] if !word_before => raw_string_end(bytes, at),
        _ => None,
    }
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                at += 2;
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn quoted_end(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b if b == quote => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// `'a'` and `'\n'`, but not the lifetime `'a`.
fn char_end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at + 1) == Some(&b'\\') {
        return Some(quoted_end(bytes, at + 1, b'\''));
    }
    let width = match bytes.get(at + 1)? {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    };
    (bytes.get(at + 1 + width) == Some(&b'\'')).then_some(at + width + 2)
}

fn raw_string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + bytes[start..].iter().position(|&b| b == b'r')? + 1;
    let hashes = bytes[at..].iter().take_while(|&&b| b == b'#').count();
    at += hashes;
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    at += 1;
    while at < bytes.len() {
        let closed = bytes[at] == b'"'
            && bytes[at + 1..]
                .iter()
                .take(hashes)
                .filter(|&&b| b == b'#')
                .count()
                == hashes;
        if closed {
            return Some(at + 1 + hashes);
        }
        at += 1;
    }
    Some(at)
}

/// From `#[cfg(test)]` to the end of the braces that follow. One before `mod tests;` or `use …;` has none.
fn test_ranges(code: &[u8]) -> Vec<(usize, usize)> {
    const ATTRIBUTE: &[u8] = b"#[cfg(test)]";
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for at in find_all(code, ATTRIBUTE) {
        if ranges.last().is_some_and(|&(_, end)| at < end) {
            continue;
        }
        if let Some(end) = body_end(code, at + ATTRIBUTE.len()) {
            ranges.push((at, end));
        }
    }
    ranges
}

fn function_ranges(code: &[u8]) -> Vec<(String, usize, usize)> {
    let mut ranges = Vec::new();
    for at in find_all(code, b"fn ") {
        if at > 0 && is_word(code[at - 1]) {
            continue;
        }
        let name = code[at + 3..]
            .iter()
            .take_while(|&&b| is_word(b))
            .map(|&b| char::from(b))
            .collect::<String>();
        // `fn` without a name is a type.
        if let (false, Some(end)) = (name.is_empty(), body_end(code, at)) {
            ranges.push((name, at, end));
        }
    }
    ranges
}

/// The end of the first `{…}` from here, unless a `;` outside brackets comes first.
fn body_end(code: &[u8], from: usize) -> Option<usize> {
    let (mut depth, mut brackets) = (0_usize, 0_i32);
    for (offset, &byte) in code[from..].iter().enumerate() {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets -= 1,
            b'{' => depth += 1,
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(from + offset);
                }
            }
            b';' if depth == 0 && brackets == 0 => return None,
            _ => {}
        }
    }
    None
}

fn find_all<'a>(code: &'a [u8], what: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    code.windows(what.len())
        .enumerate()
        .filter(move |(_, window)| *window == what)
        .map(|(at, _)| at)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}
