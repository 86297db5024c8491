//! What a client says about its request in a comment at the end or at the start of a statement, as sqlcommenter writes
//! it: `/*key='value',key='value'*/`, keys and values URL-encoded.

use std::borrow::Cow;

/// The longest comment that is looked into, in bytes.
const COMMENT_BYTES_MAX: usize = 1024;

/// The keys that are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said<'a> {
    /// `traceparent`: the trace the statement belongs to.
    pub traceparent: Option<Cow<'a, str>>,
    /// `correlation_id`: whatever the client calls its request.
    pub correlation_id: Option<Cow<'a, str>>,
}

/// Reads the comment of a statement; nothing when there is none or it is something else.
#[must_use]
pub fn read(text: &str) -> Said<'_> {
    let mut said = Said::default();
    for comment in [trailing(text), leading(text)].into_iter().flatten() {
        for (key, value) in pairs(comment) {
            let place = match key {
                "traceparent" => &mut said.traceparent,
                "correlation_id" => &mut said.correlation_id,
                _ => continue,
            };
            if place.is_none() {
                *place = Some(decode(value));
            }
        }
    }
    said
}

/// What comments at the end or at the start of a statement tell Drover to do: pairs whose key begins with `drover.`.
pub fn hints(text: &str) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    [trailing(text), leading(text)]
        .into_iter()
        .flatten()
        .flat_map(pairs)
        .filter(|(key, _)| key.starts_with("drover."))
        .map(|(key, value)| (key, decode(value)))
}

/// The text without a comment of `key='value'` pairs at its end, for looking it up: what such a comment says changes
/// with every request and means nothing to the statement. A comment that mentions Drover stays, it may be a hint.
#[must_use]
pub fn without(text: &str) -> &str {
    let Some(comment) = trailing(text) else {
        return text;
    };
    let hint = comment
        .as_bytes()
        .windows(6)
        .any(|word| word.eq_ignore_ascii_case(b"drover"));
    if hint || pairs(comment).next().is_none() {
        return text;
    }
    let from = comment.as_ptr() as usize - text.as_ptr() as usize;
    let before = text.get(..from.saturating_sub(2)).unwrap_or(text).trim_end();
    // An open quote or comment before it would make it no comment at all.
    if before.contains("--") || before.contains("/*") || !quotes_are_closed(before) {
        return text;
    }
    before
}

/// Whether what looks like a comment behind this text is one: no constant or name is open, and none is of the kinds
/// whose end only the grammar's own scanner finds.
fn quotes_are_closed(text: &str) -> bool {
    let bytes = text.as_bytes();
    let count = |quote: u8| bytes.iter().filter(|byte| **byte == quote).count();
    count(b'\'') % 2 == 0
        && count(b'"') % 2 == 0
        && !bytes.contains(&b'\\')
        && !text.contains("$$")
        && !dollar_tag(bytes)
}

/// `$tag$` may occur.
fn dollar_tag(bytes: &[u8]) -> bool {
    bytes
        .windows(2)
        .any(|pair| pair[0] == b'$' && !pair[1].is_ascii_digit())
}

fn trailing(text: &str) -> Option<&str> {
    let body = text
        .trim_end()
        .trim_end_matches(';')
        .trim_end()
        .strip_suffix("*/")?;
    let from = body.rfind("/*")?;
    bounded(&body[from + 2..])
}

fn leading(text: &str) -> Option<&str> {
    let body = text.trim_start().strip_prefix("/*")?;
    bounded(&body[..body.find("*/")?])
}

fn bounded(comment: &str) -> Option<&str> {
    (comment.len() <= COMMENT_BYTES_MAX).then_some(comment)
}

/// The pairs of a comment that consists of nothing else up to there.
fn pairs(comment: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = comment.trim();
    std::iter::from_fn(move || {
        let (key, after) = rest.split_once('=')?;
        let after = after.trim_start().strip_prefix('\'')?;
        let end = value_end(after)?;
        let value = &after[..end];
        rest = after[end + 1..].trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        Some((key.trim(), value))
    })
}

/// Where the closing quote is; `\'` does not close.
fn value_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'\'' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

/// Undoes the URL encoding. What is not UTF-8 afterwards stays as it was.
fn decode(value: &str) -> Cow<'_, str> {
    if !value.contains(['%', '\\']) {
        return Cow::Borrowed(value);
    }
    let bytes = value.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let code = value
            .get(at + 1..at + 3)
            .filter(|_| *byte == b'%')
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(code) => {
                decoded.push(code);
                at += 3;
            }
            None => {
                if *byte != b'\\' {
                    decoded.push(*byte);
                }
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).map_or(Cow::Borrowed(value), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_read_at_both_ends() {
        let said = read("SELECT 1 /*action='%2Fpolls%20x',correlation_id='a-1',traceparent='00-1'*/;");
        assert_eq!(said.correlation_id.as_deref(), Some("a-1"));
        assert_eq!(said.traceparent.as_deref(), Some("00-1"));
        let said = read("/* correlation_id='it\\'s%21' */ SELECT 1");
        assert_eq!(said.correlation_id.as_deref(), Some("it's!"));
        for text in [
            "SELECT 1",
            "SELECT 1 /* correlation_id=1 */",
            "SELECT '/*correlation_id=''1''*/'",
            "*/",
            "/*",
            "/*/",
            "",
        ] {
            assert_eq!(read(text), Said::default(), "{text}");
        }
    }

    #[test]
    fn only_what_is_certainly_a_comment_of_pairs_is_taken_off() {
        for (text, short) in [
            ("SELECT 1 /*traceparent='00-1'*/", "SELECT 1"),
            ("SELECT 'a', \"b\" /*a='1',b='2'*/ ;", "SELECT 'a', \"b\""),
            ("SELECT $1 /*a='1'*/", "SELECT $1"),
        ] {
            assert_eq!(without(text), short);
        }
        for text in [
            "SELECT 1 /* a comment */",
            "SELECT 1 /*drover='x'*/",
            "SELECT '/*a='1'*/",
            "SELECT 1 -- /*a='1'*/",
            "SELECT 1 /* /*a='1'*/",
            "SELECT E'\\' /*a='1'*/",
            "SELECT $x$ /*a='1'*/",
            "SELECT \" /*a='1'*/",
        ] {
            assert_eq!(without(text), text);
        }
    }
}
