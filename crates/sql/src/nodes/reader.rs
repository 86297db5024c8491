//! Text to [`Node`].

use super::{Node, NodeError, Value};

/// Longest text read, in bytes.
pub const BYTES_MAX: usize = 64 << 20;
/// Deepest nesting of nodes and lists read.
pub const DEPTH_MAX: usize = 600;
/// Width at which a server wraps the tree it logs.
const LINE_LEN: usize = 78;

/// Reads one tree (or list of trees) from unwrapped text.
///
/// # Errors
/// The text is malformed or exceeds a limit.
pub fn parse(text: &str) -> Result<Value, NodeError> {
    if text.len() > BYTES_MAX {
        return Err(NodeError::Limit {
            what: "bytes",
            limit: BYTES_MAX,
        });
    }
    let mut reader = Reader {
        text: text.as_bytes(),
        pos: 0,
        depth: 0,
    };
    let value = reader.value(false)?;
    match reader.token()? {
        Token::End => Ok(value),
        _ => Err(reader.malformed("the end")),
    }
}

/// Reads a tree from the DETAIL of a server's `rewritten parse tree:` message, whose lines are wrapped.
///
/// # Errors
/// The text is malformed or exceeds a limit, or a line break cannot be undone with certainty.
pub fn parse_wrapped(text: &str) -> Result<Value, NodeError> {
    if text.len() > BYTES_MAX {
        return Err(NodeError::Limit {
            what: "bytes",
            limit: BYTES_MAX,
        });
    }
    parse(&unwrap_lines(text)?)
}

/// Undoes a server's wrapping: a line break stands for a space, unless a line is full and has no space at all, where
/// it may have been inserted into a long token. That case cannot be told from a space at the right place.
fn unwrap_lines(text: &str) -> Result<String, NodeError> {
    let mut out = String::with_capacity(text.len());
    let mut lines = text.trim_end_matches('\n').split('\n').peekable();
    while let Some(line) = lines.next() {
        out.push_str(line);
        if lines.peek().is_none() {
            break;
        }
        if line.len() >= LINE_LEN && !line.as_bytes()[1..].contains(&b' ') {
            return Err(NodeError::Malformed {
                offset: out.len(),
                expected: "an unambiguous line break",
            });
        }
        out.push(' ');
    }
    Ok(out)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'t> {
    Open,
    Close,
    OpenNode,
    CloseNode,
    Word(&'t [u8]),
    End,
}

struct Reader<'t> {
    text: &'t [u8],
    pos: usize,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn malformed(&self, expected: &'static str) -> NodeError {
        NodeError::Malformed {
            offset: self.pos,
            expected,
        }
    }

    fn skip_space(&mut self) {
        while self
            .text
            .get(self.pos)
            .is_some_and(|b| matches!(b, b' ' | b'\n' | b'\t'))
        {
            self.pos += 1;
        }
    }

    fn token(&mut self) -> Result<Token<'t>, NodeError> {
        self.skip_space();
        let Some(&byte) = self.text.get(self.pos) else {
            return Ok(Token::End);
        };
        let start = self.pos;
        let single = match byte {
            b'(' => Token::Open,
            b')' => Token::Close,
            b'{' => Token::OpenNode,
            b'}' => Token::CloseNode,
            _ => return self.word(start),
        };
        self.pos += 1;
        Ok(single)
    }

    fn word(&mut self, start: usize) -> Result<Token<'t>, NodeError> {
        let mut at = start;
        while let Some(&byte) = self.text.get(at) {
            match byte {
                b' ' | b'\n' | b'\t' | b'(' | b')' | b'{' | b'}' => break,
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        if at > self.text.len() {
            return Err(self.malformed("a character after the backslash"));
        }
        self.pos = at;
        Ok(Token::Word(&self.text[start..at]))
    }

    fn peek(&mut self) -> Result<Token<'t>, NodeError> {
        let pos = self.pos;
        let token = self.token();
        self.pos = pos;
        token
    }

    fn value(&mut self, in_field: bool) -> Result<Value, NodeError> {
        if self.depth >= DEPTH_MAX {
            return Err(NodeError::Limit {
                what: "levels",
                limit: DEPTH_MAX,
            });
        }
        self.depth += 1;
        let value = match self.token()? {
            Token::OpenNode => Value::Node(Box::new(self.node()?)),
            Token::Open => self.list()?,
            Token::Word(word) => self.atom(word, in_field)?,
            _ => return Err(self.malformed("a value")),
        };
        self.depth -= 1;
        Ok(value)
    }

    fn node(&mut self) -> Result<Node, NodeError> {
        let Token::Word(name) = self.token()? else {
            return Err(self.malformed("a node name"));
        };
        let name = unescape(name).ok_or_else(|| self.malformed("utf-8"))?;
        let mut fields = Vec::with_capacity(12);
        loop {
            match self.token()? {
                Token::CloseNode => return Ok(Node { name, fields }),
                Token::Word([b':', field @ ..]) => {
                    let field = unescape(field).ok_or_else(|| self.malformed("utf-8"))?;
                    fields.push((field, self.value(true)?));
                }
                _ => return Err(self.malformed("a field or the end of the node")),
            }
        }
    }

    fn list(&mut self) -> Result<Value, NodeError> {
        match self.peek()? {
            Token::Word(b"i") => {
                self.token()?;
                Ok(Value::IntList(self.numbers()?))
            }
            Token::Word(b"o" | b"x") => {
                self.token()?;
                Ok(Value::OidList(self.numbers()?))
            }
            Token::Word(b"b") => {
                self.token()?;
                Ok(Value::Bitmap(self.numbers()?))
            }
            _ => self.values(),
        }
    }

    fn values(&mut self) -> Result<Value, NodeError> {
        let mut list = Vec::new();
        while self.peek()? != Token::Close {
            list.push(self.value(false)?);
        }
        self.token()?;
        Ok(Value::List(list))
    }

    fn numbers<N: std::str::FromStr>(&mut self) -> Result<Vec<N>, NodeError> {
        let mut list = Vec::new();
        loop {
            match self.token()? {
                Token::Close => return Ok(list),
                Token::Word(word) => {
                    let number = std::str::from_utf8(word).ok().and_then(|s| s.parse().ok());
                    list.push(number.ok_or_else(|| self.malformed("a number"))?);
                }
                _ => return Err(self.malformed("a number")),
            }
        }
    }

    fn atom(&mut self, word: &'t [u8], in_field: bool) -> Result<Value, NodeError> {
        if word == b"<>" {
            return Ok(Value::Null);
        }
        if word == b"\"\"" && in_field {
            return Ok(Value::Atom("".into()));
        }
        if let [b'"', inner @ .., b'"'] = word {
            let text = unescape(inner).ok_or_else(|| self.malformed("utf-8"))?;
            return Ok(Value::Str(text));
        }
        if in_field && word.iter().all(u8::is_ascii_digit) && self.peek()? == Token::Word(b"[") {
            return self.datum(word);
        }
        unescape(word)
            .map(Value::Atom)
            .ok_or_else(|| self.malformed("utf-8"))
    }

    fn datum(&mut self, len: &[u8]) -> Result<Value, NodeError> {
        self.token()?;
        let len = std::str::from_utf8(len).ok().and_then(|s| s.parse::<u64>().ok());
        let len = len.ok_or_else(|| self.malformed("a length"))?;
        let mut bytes = Vec::with_capacity((len as usize).min(self.text.len() - self.pos));
        loop {
            match self.token()? {
                Token::Word(b"]") => break,
                Token::Word(word) => {
                    let byte = std::str::from_utf8(word).ok().and_then(|s| s.parse::<i16>().ok());
                    // Printed as a signed char on most platforms.
                    let byte = byte
                        .filter(|b| (-128..=255).contains(b))
                        .ok_or_else(|| self.malformed("a byte"))?;
                    bytes.push(byte as u8);
                }
                _ => return Err(self.malformed("a byte")),
            }
        }
        Ok(Value::Datum { len, bytes })
    }
}

fn unescape(word: &[u8]) -> Option<Box<str>> {
    if !word.contains(&b'\\') {
        return std::str::from_utf8(word).ok().map(Into::into);
    }
    let mut out = Vec::with_capacity(word.len());
    let mut bytes = word.iter();
    while let Some(&byte) = bytes.next() {
        out.push(if byte == b'\\' { *bytes.next()? } else { byte });
    }
    String::from_utf8(out).ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Node {
        match parse(text).expect(text) {
            Value::Node(n) => *n,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_every_kind_of_value() {
        let n = node(
            "{QUERY :commandType 1 :canSetTag true :utilityStmt ? :name na\\ me :empty \"\" :nil <> :cols (\"a\" \"b\\ c\") \
             :ints (i 1 -2) :oids (o 23 25) :bits (b 8 9) :constvalue 4 [ 1 0 0 0 -1 0 0 0 ] :boolop and \
             :list ({VAR :varno 1} <>) :lists (({A} {B}) ({C})) :neg -1}",
        );
        assert_eq!(n.i32("commandType"), Ok(1));
        assert_eq!(n.bool("canSetTag"), Ok(true));
        assert_eq!(n.str("utilityStmt"), Ok("?"));
        assert_eq!(n.str("name"), Ok("na me"));
        assert_eq!(n.str("empty"), Ok(""));
        assert_eq!(n.opt_str("nil"), Ok(None));
        assert_eq!(
            n.list("cols").map(|l| l[1].as_str().map(str::to_owned)),
            Ok(Some("b c".into()))
        );
        assert_eq!(n.ints("ints"), Ok(&[1, -2][..]));
        assert_eq!(n.oids("oids"), Ok(&[23, 25][..]));
        assert_eq!(n.get("bits"), Some(&Value::Bitmap(vec![8, 9])));
        assert_eq!(
            n.get("constvalue"),
            Some(&Value::Datum {
                len: 4,
                bytes: vec![1, 0, 0, 0, 255, 0, 0, 0]
            })
        );
        assert_eq!(n.str("boolop"), Ok("and"));
        assert_eq!(n.list("list").map(<[Value]>::len), Ok(2));
        assert_eq!(n.i32("neg"), Ok(-1));
        let mut seen = Vec::new();
        n.walk(|n| seen.push(n.name.to_string()));
        assert_eq!(seen, ["QUERY", "VAR", "A", "B", "C"]);
        assert!(n.i32("boolop").is_err() && n.i32("absent").is_err());
    }

    #[test]
    fn undoes_wrapping() {
        let line = "{A :b \"x\\";
        let n = match parse_wrapped(&format!("{line}\ny\" :c\n1}}\n")).expect("wrapped") {
            Value::Node(n) => n,
            other => panic!("{other:?}"),
        };
        assert_eq!(n.str("b"), Ok("x y"));
        assert_eq!(n.i32("c"), Ok(1));
        let long = "x".repeat(78);
        assert!(parse_wrapped(&format!("{long}\ny")).is_err());
    }

    #[test]
    fn malformed_text_is_an_error() {
        for text in [
            "",
            "{",
            "(",
            "{A :b",
            "{A b}",
            "{A :b }",
            "(i x)",
            "{A :b 1 [ 999 ]}",
            "a b",
            "\\",
            ")",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(matches!(parse(&"(".repeat(5000)), Err(NodeError::Limit { .. })));
    }
}
