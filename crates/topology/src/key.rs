//! Names of things in the store.

use std::fmt;

/// The longest key, in bytes. Keys become file names, whose limit is 255.
pub const KEY_BYTES_MAX: usize = 200;

/// A key: segments of `[A-Za-z0-9_.-]`, separated by `/`, at most [`KEY_BYTES_MAX`] bytes, no segment empty or
/// starting with a dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<str>);

/// Why text is not a [`Key`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a key: segments of letters, digits, `_`, `-` and `.`, separated by `/`, at most {KEY_BYTES_MAX} bytes"
)]
pub struct KeyError {
    /// The text, cut to a readable length.
    pub text: String,
}

impl Key {
    /// Checks and makes a key.
    pub fn parse(text: &str) -> Result<Key, KeyError> {
        let good = text.len() <= KEY_BYTES_MAX && text.split('/').all(is_segment);
        if good {
            Ok(Key(text.into()))
        } else {
            Err(KeyError {
                text: text.chars().take(KEY_BYTES_MAX).collect(),
            })
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `text` may be one segment of a key.
pub(crate) fn is_segment(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('.')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_segments_and_nothing_that_could_leave_a_directory() {
        for good in ["a", "cluster/record", "proxies/p-1_2.3"] {
            assert_eq!(Key::parse(good).unwrap().as_str(), good);
        }
        let long = "x".repeat(KEY_BYTES_MAX + 1);
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "../a",
            "a/..",
            ".a",
            "a b",
            "a~b",
            "ä",
            long.as_str(),
        ] {
            assert!(Key::parse(bad).is_err(), "{bad}");
        }
    }
}
