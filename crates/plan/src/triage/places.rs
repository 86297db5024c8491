//! The option that says which keys are where.
//!
//! `shard_1 = eu, 'de, at'; shard_2 = us, NULL; shard_3 = *` for a list, where `*` stands for all other keys, and the same without `*` for
//! a directory; `shard_1 < 1000; shard_2 < 2000; shard_3` for ranges, ascending, the last without an end.

use crate::{ListedKey, RangeEnd};

/// Keys by shard, and the shard of `*`.
pub(super) fn list(text: &str) -> Result<(Vec<ListedKey>, Option<String>), String> {
    let (mut keys, mut rest) = (Vec::new(), None);
    let mut reader = Reader { rest: text };
    while let Some(shard) = reader.shard()? {
        reader.expect('=')?;
        loop {
            match reader.value()? {
                Word::Plain(star) if star == "*" => {
                    if rest.replace(shard.clone()).is_some() {
                        return Err("* is given twice".to_owned());
                    }
                }
                Word::Plain(null) if null.eq_ignore_ascii_case("null") => keys.push(ListedKey {
                    key: None,
                    shard: shard.clone(),
                }),
                Word::Plain(key) | Word::Quoted(key) => keys.push(ListedKey {
                    key: Some(key),
                    shard: shard.clone(),
                }),
            }
            if !reader.take(',') {
                break;
            }
        }
        reader.end_of_shard()?;
    }
    Ok((keys, rest))
}

/// Ends of ranges, and the shard of the last one.
pub(super) fn ranges(text: &str) -> Result<(Vec<RangeEnd>, String), String> {
    let mut ends = Vec::new();
    let mut reader = Reader { rest: text };
    while let Some(shard) = reader.shard()? {
        if !reader.take('<') {
            reader.end_of_shard()?;
            return match reader.shard()? {
                None => Ok((ends, shard)),
                Some(_) => Err(format!("{shard} needs an end: only the last range has none")),
            };
        }
        let below = match reader.value()? {
            Word::Plain(word) | Word::Quoted(word) => word,
        };
        ends.push(RangeEnd { shard, below });
        reader.end_of_shard()?;
    }
    Err("the last range must have no end, so that every key has a place".to_owned())
}

enum Word {
    Plain(String),
    Quoted(String),
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn shard(&mut self) -> Result<Option<String>, String> {
        self.rest = self.rest.trim_start();
        if self.rest.is_empty() {
            return Ok(None);
        }
        match self.word(|c| matches!(c, '=' | '<' | ';' | ',' | '\''))? {
            Word::Plain(name) | Word::Quoted(name) => Ok(Some(name)),
        }
    }

    fn value(&mut self) -> Result<Word, String> {
        self.word(|c| matches!(c, '=' | '<' | ',' | ';' | '\''))
    }

    /// A quoted text, or everything up to a character that ends it, without blanks around.
    fn word(&mut self, ends: impl Fn(char) -> bool) -> Result<Word, String> {
        self.rest = self.rest.trim_start();
        if let Some(mut inner) = self.rest.strip_prefix('\'') {
            let mut out = String::new();
            loop {
                let (piece, after) = inner.split_once('\'').ok_or("a quote is not closed")?;
                out.push_str(piece);
                match after.strip_prefix('\'') {
                    Some(more) => {
                        out.push('\'');
                        inner = more;
                    }
                    None => {
                        self.rest = after;
                        return Ok(Word::Quoted(out));
                    }
                }
            }
        }
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word.trim() {
            "" => Err(format!("something is missing before \"{}\"", start_of(rest))),
            word => Ok(Word::Plain(word.to_owned())),
        }
    }

    fn take(&mut self, wanted: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        match self.take(wanted) {
            true => Ok(()),
            false => Err(format!("{wanted} expected before \"{}\"", start_of(self.rest))),
        }
    }

    fn end_of_shard(&mut self) -> Result<(), String> {
        match self.take(';') || self.rest.is_empty() {
            true => Ok(()),
            false => Err(format!("; expected before \"{}\"", start_of(self.rest))),
        }
    }
}

fn start_of(text: &str) -> String {
    text.chars().take(20).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(key: &str, shard: &str) -> ListedKey {
        ListedKey {
            key: Some(key.to_owned()),
            shard: shard.to_owned(),
        }
    }

    #[test]
    fn lists() {
        let read = list("shard_1 = eu, 'de, at' ;shard_2=us,NULL,'null'; s 3 = * ;");
        let null = ListedKey {
            key: None,
            shard: "shard_2".to_owned(),
        };
        let keys = vec![
            key("eu", "shard_1"),
            key("de, at", "shard_1"),
            key("us", "shard_2"),
            null,
            key("null", "shard_2"),
        ];
        assert_eq!(read, Ok((keys, Some("s 3".to_owned()))));
        assert_eq!(list("a = 'it''s'"), Ok((vec![key("it's", "a")], None)));
        assert_eq!(list(""), Ok((vec![], None)));
        for bad in [
            "a",
            "a =",
            "a = ,",
            "a = x y; = b",
            "a = 'x",
            "a = 'x' y",
            "a = *; b = *",
            "a = x,; b = y",
        ] {
            assert!(list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_of_keys() {
        let end = |shard: &str, below: &str| RangeEnd {
            shard: shard.to_owned(),
            below: below.to_owned(),
        };
        assert_eq!(
            ranges("a < -5; b < 'x; y' ; c"),
            Ok((vec![end("a", "-5"), end("b", "x; y")], "c".to_owned()))
        );
        assert_eq!(ranges("a"), Ok((vec![], "a".to_owned())));
        for bad in [
            "",
            "a < 5",
            "a < 5; b < 7;",
            "a; b",
            "a <; b",
            "a < 5 < 6; b",
            "a = 5; b",
        ] {
            assert!(ranges(bad).is_err(), "{bad}");
        }
    }
}
