//! Messages of a logical replication stream: the frames of the walsender, and in them `pgoutput`, version 1.

use crate::Lsn;

/// Something is not as the protocol says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message ends too early.
    #[error("a replication message is cut short")]
    Short,
    /// A kind of message or value that was not asked for.
    #[error("unexpected replication message {0:?}")]
    Unexpected(char),
    /// A name that is not UTF-8.
    #[error("a name in a replication message is not UTF-8")]
    Name,
}

/// What a CopyData message of the walsender holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A message of the output plugin.
    Data(&'a [u8]),
    /// A sign of life.
    Keepalive {
        /// Everything up to here was sent.
        sent: Lsn,
        /// An answer is wanted at once.
        reply: bool,
    },
}

/// A column of the relation that changes are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Type OID on the source.
    pub type_oid: u32,
    /// Type modifier.
    pub type_modifier: i32,
}

/// A table as changes describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// OID on the source.
    pub oid: u32,
    /// Columns, without dropped and generated ones.
    pub columns: Vec<Column>,
}

/// A value of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// NULL, or not in the replica identity.
    Null,
    /// Stored outside of the row and as it was.
    Unchanged,
    /// In text form.
    Text(&'a [u8]),
}

/// The values of a row, in the order of [`Relation::columns`].
pub type Row<'a> = Vec<Value<'a>>;

/// A message of the output plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// A transaction begins.
    Begin {
        /// Where its commit is: grows from transaction to transaction.
        commit: Lsn,
    },
    /// It ends.
    Commit {
        /// Where the commit is.
        commit: Lsn,
        /// Behind the commit.
        end: Lsn,
    },
    /// Describes a table, before its first change and after every ALTER.
    Relation(Relation),
    /// A new row.
    Insert {
        /// The table.
        relation: u32,
        /// The row.
        new: Row<'a>,
    },
    /// A row changed.
    Update {
        /// The table.
        relation: u32,
        /// What it was: its replica identity, if that changed or is FULL.
        old: Option<Row<'a>>,
        /// What it is.
        new: Row<'a>,
    },
    /// A row is gone.
    Delete {
        /// The table.
        relation: u32,
        /// Its replica identity.
        old: Row<'a>,
    },
    /// Tables were emptied.
    Truncate {
        /// Which.
        relations: Vec<u32>,
    },
    /// Somebody wrote a message into the log.
    Logical {
        /// Its prefix.
        prefix: &'a str,
        /// The rest.
        content: &'a [u8],
    },
    /// Of no interest: names of types and origins.
    Other,
}

/// Reads what is in a CopyData message.
pub fn frame(bytes: &[u8]) -> Result<Frame<'_>, DecodeError> {
    let mut input = Input(bytes);
    match input.byte()? {
        b'w' => {
            input.take(24)?;
            Ok(Frame::Data(input.0))
        }
        b'k' => {
            let sent = Lsn(input.u64()?);
            input.take(8)?;
            Ok(Frame::Keepalive {
                sent,
                reply: input.byte()? != 0,
            })
        }
        other => Err(DecodeError::Unexpected(char::from(other))),
    }
}

/// The CopyData that confirms everything up to `flushed`. The server looks at its clock and not at ours.
pub fn status(flushed: Lsn) -> Vec<u8> {
    let mut out = vec![b'r'];
    for _ in 0..3 {
        out.extend_from_slice(&flushed.0.to_be_bytes());
    }
    out.extend_from_slice(&0_i64.to_be_bytes());
    out.push(0);
    out
}

/// Reads a message of the output plugin.
pub fn decode(bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
    let mut input = Input(bytes);
    Ok(match input.byte()? {
        b'B' => Message::Begin {
            commit: Lsn(input.u64()?),
        },
        b'C' => {
            input.byte()?;
            Message::Commit {
                commit: Lsn(input.u64()?),
                end: Lsn(input.u64()?),
            }
        }
        b'R' => Message::Relation(relation(&mut input)?),
        b'I' => {
            let relation = input.u32()?;
            input.expect(b'N')?;
            Message::Insert {
                relation,
                new: input.row()?,
            }
        }
        b'U' => update(&mut input)?,
        b'D' => {
            let relation = input.u32()?;
            match input.byte()? {
                b'K' | b'O' => {}
                other => return Err(DecodeError::Unexpected(char::from(other))),
            }
            Message::Delete {
                relation,
                old: input.row()?,
            }
        }
        b'T' => {
            let count = input.u32()?;
            input.byte()?;
            Message::Truncate {
                relations: (0..count).map(|_| input.u32()).collect::<Result<_, _>>()?,
            }
        }
        b'M' => {
            input.take(9)?;
            let prefix = input.name()?;
            let length = input.u32()?;
            Message::Logical {
                prefix,
                content: input.take(length as usize)?,
            }
        }
        b'Y' | b'O' => Message::Other,
        other => return Err(DecodeError::Unexpected(char::from(other))),
    })
}

fn update<'a>(input: &mut Input<'a>) -> Result<Message<'a>, DecodeError> {
    let relation = input.u32()?;
    let (old, new) = match input.byte()? {
        b'K' | b'O' => {
            let old = input.row()?;
            input.expect(b'N')?;
            (Some(old), input.row()?)
        }
        b'N' => (None, input.row()?),
        other => return Err(DecodeError::Unexpected(char::from(other))),
    };
    Ok(Message::Update { relation, old, new })
}

fn relation(input: &mut Input<'_>) -> Result<Relation, DecodeError> {
    let oid = input.u32()?;
    input.name()?;
    input.name()?;
    input.byte()?;
    let count = input.u16()?;
    let mut columns = Vec::new();
    for _ in 0..count {
        input.byte()?;
        columns.push(Column {
            name: input.name()?.to_owned(),
            type_oid: input.u32()?,
            type_modifier: input.u32()?.cast_signed(),
        });
    }
    Ok(Relation { oid, columns })
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), DecodeError> {
        match self.byte()? {
            byte if byte == wanted => Ok(()),
            other => Err(DecodeError::Unexpected(char::from(other))),
        }
    }

    fn name(&mut self) -> Result<&'a str, DecodeError> {
        let end = self
            .0
            .iter()
            .position(|byte| *byte == 0)
            .ok_or(DecodeError::Short)?;
        let name = self.take(end)?;
        self.byte()?;
        std::str::from_utf8(name).map_err(|_| DecodeError::Name)
    }

    fn row(&mut self) -> Result<Row<'a>, DecodeError> {
        let count = self.u16()?;
        let mut row = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            row.push(match self.byte()? {
                b'n' => Value::Null,
                b'u' => Value::Unchanged,
                b't' => {
                    let length = self.u32()?;
                    Value::Text(self.take(length as usize)?)
                }
                other => return Err(DecodeError::Unexpected(char::from(other))),
            });
        }
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(values: &[Option<&str>]) -> Vec<u8> {
        let mut out = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
        for value in values {
            match value {
                None => out.push(b'n'),
                Some("\u{1}") => out.push(b'u'),
                Some(text) => {
                    out.push(b't');
                    out.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                    out.extend(text.as_bytes());
                }
            }
        }
        out
    }

    fn update() -> Vec<u8> {
        let mut bytes = vec![b'U', 0, 0, 0, 7, b'K'];
        bytes.extend(tuple(&[Some("1"), None]));
        bytes.push(b'N');
        bytes.extend(tuple(&[Some("2"), Some("\u{1}")]));
        bytes
    }

    #[test]
    fn changes_are_read() {
        let bytes = update();
        assert_eq!(
            decode(&bytes),
            Ok(Message::Update {
                relation: 7,
                old: Some(vec![Value::Text(b"1"), Value::Null]),
                new: vec![Value::Text(b"2"), Value::Unchanged],
            })
        );
        let mut bytes = b"R\0\0\0\x07public\0t\0d\0\x01\x01k\0\0\0\0\x14".to_vec();
        bytes.extend((-1_i32).to_be_bytes());
        let column = Column {
            name: "k".to_owned(),
            type_oid: 20,
            type_modifier: -1,
        };
        assert_eq!(
            decode(&bytes),
            Ok(Message::Relation(Relation {
                oid: 7,
                columns: vec![column]
            }))
        );
    }

    #[test]
    fn what_is_cut_short_anywhere_is_an_error() {
        let bytes = update();
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), Err(DecodeError::Short), "{end}");
        }
        assert_eq!(decode(b"S"), Err(DecodeError::Unexpected('S')));
        assert_eq!(frame(b"k123"), Err(DecodeError::Short));
    }
}
