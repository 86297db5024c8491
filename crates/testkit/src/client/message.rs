//! Backend messages: decoding what a server sends.

use super::ClientError;

/// A column of a RowDescription, as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Column name.
    pub name: String,
    /// OID of the table the column comes from, or 0.
    pub table: u32,
    /// Attribute number within that table, or 0.
    pub attribute: i16,
    /// OID of the type; differs between servers for user-defined types.
    pub type_oid: u32,
    /// Type length, negative for variable width.
    pub type_len: i16,
    /// Type modifier, -1 for none.
    pub type_modifier: i32,
    /// 0 text, 1 binary.
    pub format: i16,
}

/// An ErrorResponse or NoticeResponse.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostic {
    /// Every field by its one-byte code, in the order sent.
    pub fields: Vec<(u8, String)>,
}

impl Diagnostic {
    /// A field by its code, for example `b'D'`.
    pub fn field(&self, code: u8) -> Option<&str> {
        self.fields
            .iter()
            .find(|(key, _)| *key == code)
            .map(|(_, value)| value.as_str())
    }

    /// Severity in English (`ERROR`, `FATAL`, …).
    pub fn severity(&self) -> &str {
        self.field(b'V').or_else(|| self.field(b'S')).unwrap_or("")
    }

    /// The five-character SQLSTATE.
    pub fn sqlstate(&self) -> &str {
        self.field(b'C').unwrap_or("")
    }

    /// The primary message.
    pub fn message(&self) -> &str {
        self.field(b'M').unwrap_or("")
    }

    /// The DETAIL line.
    pub fn detail(&self) -> Option<&str> {
        self.field(b'D')
    }

    /// The HINT line.
    pub fn hint(&self) -> Option<&str> {
        self.field(b'H')
    }

    /// The cursor position, in characters from 1.
    pub fn position(&self) -> Option<u32> {
        self.field(b'P').and_then(|text| text.parse().ok())
    }
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.severity(), self.sqlstate(), self.message())?;
        for (label, value) in [("detail", self.detail()), ("hint", self.hint())] {
            if let Some(value) = value {
                write!(f, " [{label}: {value}]")?;
            }
        }
        Ok(())
    }
}

/// A row: one optional value per column.
pub type Row = Vec<Option<Vec<u8>>>;

/// A message from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// `R`: the authentication code and what follows it.
    Authentication(u32, Vec<u8>),
    /// `S`
    ParameterStatus(String, String),
    /// `K`: process id and secret.
    BackendKeyData(u32, Vec<u8>),
    /// `Z` with the transaction status byte.
    ReadyForQuery(u8),
    /// `T`
    RowDescription(Vec<Column>),
    /// `D`
    DataRow(Row),
    /// `C`
    CommandComplete(String),
    /// `I`
    EmptyQuery,
    /// `E`
    Error(Diagnostic),
    /// `N`
    Notice(Diagnostic),
    /// `t`
    ParameterDescription(Vec<u32>),
    /// `G`, `H` or `W` (the tag), overall format and column count.
    CopyStart(u8, u8, u16),
    /// `d`
    CopyData(Vec<u8>),
    /// `A`: process id, channel, payload.
    Notification(u32, String, String),
    /// Messages without a body that matters: `1 2 3 n s c` and unknown ones.
    Other(u8, Vec<u8>),
}

impl Message {
    /// Decodes one message body.
    pub(crate) fn decode(tag: u8, body: Vec<u8>) -> Result<Message, ClientError> {
        let mut input = Input { tag, bytes: &body };
        Ok(match tag {
            b'R' => Message::Authentication(input.u32()?, input.bytes.to_vec()),
            b'S' => Message::ParameterStatus(input.string()?, input.string()?),
            b'K' => Message::BackendKeyData(input.u32()?, input.bytes.to_vec()),
            b'Z' => Message::ReadyForQuery(input.u8()?),
            b'T' => Message::RowDescription(input.columns()?),
            b'D' => Message::DataRow(input.row()?),
            b'C' => Message::CommandComplete(input.string()?),
            b'I' => Message::EmptyQuery,
            b'E' => Message::Error(input.diagnostic()?),
            b'N' => Message::Notice(input.diagnostic()?),
            b't' => {
                let count = input.u16()?;
                Message::ParameterDescription((0..count).map(|_| input.u32()).collect::<Result<_, _>>()?)
            }
            b'G' | b'H' | b'W' => Message::CopyStart(tag, input.u8()?, input.u16()?),
            b'd' => Message::CopyData(body),
            b'A' => Message::Notification(input.u32()?, input.string()?, input.string()?),
            _ => Message::Other(tag, body),
        })
    }
}

struct Input<'a> {
    tag: u8,
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ClientError> {
        let (head, tail) = self
            .bytes
            .split_at_checked(count)
            .ok_or(ClientError::Malformed(self.tag))?;
        self.bytes = tail;
        Ok(head)
    }

    fn u8(&mut self) -> Result<u8, ClientError> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, ClientError> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Result<u32, ClientError> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn string(&mut self) -> Result<String, ClientError> {
        let end = self
            .bytes
            .iter()
            .position(|byte| *byte == 0)
            .ok_or(ClientError::Malformed(self.tag))?;
        let text = String::from_utf8_lossy(self.take(end)?).into_owned();
        self.take(1)?;
        Ok(text)
    }

    fn columns(&mut self) -> Result<Vec<Column>, ClientError> {
        let count = self.u16()?;
        let column = |input: &mut Self| -> Result<Column, ClientError> {
            Ok(Column {
                name: input.string()?,
                table: input.u32()?,
                attribute: input.u16()? as i16,
                type_oid: input.u32()?,
                type_len: input.u16()? as i16,
                type_modifier: input.u32()? as i32,
                format: input.u16()? as i16,
            })
        };
        (0..count).map(|_| column(self)).collect()
    }

    fn row(&mut self) -> Result<Row, ClientError> {
        let count = self.u16()?;
        let value = |input: &mut Self| -> Result<Option<Vec<u8>>, ClientError> {
            match input.u32()? as i32 {
                -1 => Ok(None),
                len if len < 0 => Err(ClientError::Malformed(input.tag)),
                len => Ok(Some(input.take(len as usize)?.to_vec())),
            }
        };
        let row = (0..count).map(|_| value(self)).collect::<Result<Row, _>>()?;
        if self.bytes.is_empty() {
            Ok(row)
        } else {
            Err(ClientError::Malformed(self.tag))
        }
    }

    fn diagnostic(&mut self) -> Result<Diagnostic, ClientError> {
        let mut fields = Vec::new();
        loop {
            match self.u8()? {
                0 => return Ok(Diagnostic { fields }),
                code => fields.push((code, self.string()?)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_bodies_are_errors_not_panics() {
        for tag in b"RSKZTDCENtGHWA" {
            for len in 0..4 {
                let _ = Message::decode(*tag, vec![1; len]);
            }
        }
        assert!(matches!(
            Message::decode(b'D', vec![0, 1, 0, 0, 0, 9]),
            Err(ClientError::Malformed(b'D'))
        ));
    }

    #[test]
    fn row_with_null() {
        let body = [&[0, 2, 0, 0, 0, 1, b'x'][..], &[255; 4]].concat();
        assert_eq!(
            Message::decode(b'D', body).unwrap(),
            Message::DataRow(vec![Some(b"x".to_vec()), None])
        );
    }
}
