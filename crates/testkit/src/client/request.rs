//! Frontend messages, queued into one buffer and sent together.

/// Text or binary representation of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// PostgreSQL's text output.
    Text,
    /// The type's send/receive format.
    Binary,
}

impl Format {
    fn code(self) -> u16 {
        match self {
            Format::Text => 0,
            Format::Binary => 1,
        }
    }
}

/// A parameter value as it goes into Bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// `None` is NULL.
    pub value: Option<Vec<u8>>,
    /// How `value` is encoded.
    pub format: Format,
}

impl Parameter {
    /// A text parameter.
    pub fn text(value: impl Into<String>) -> Parameter {
        Parameter {
            value: Some(value.into().into_bytes()),
            format: Format::Text,
        }
    }

    /// NULL.
    pub fn null() -> Parameter {
        Parameter {
            value: None,
            format: Format::Text,
        }
    }

    /// A value in its binary form.
    pub fn binary(value: impl Into<Vec<u8>>) -> Parameter {
        Parameter {
            value: Some(value.into()),
            format: Format::Binary,
        }
    }
}

/// Frontend messages in the order they will be sent.
#[derive(Debug, Clone, Default)]
pub struct Pipeline {
    bytes: Vec<u8>,
    readies: usize,
}

impl Pipeline {
    /// Nothing queued.
    pub fn new() -> Pipeline {
        Pipeline::default()
    }

    /// Everything queued, as it goes on the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many ReadyForQuery the queued messages call for (one per Query and per Sync).
    pub fn readies(&self) -> usize {
        self.readies
    }

    /// Queues a simple query.
    pub fn query(mut self, sql: &str) -> Pipeline {
        self.readies += 1;
        self.message(b'Q', |body| string(body, sql))
    }

    /// Queues Parse; a type OID of 0 leaves the type to the server.
    pub fn parse(self, name: &str, sql: &str, types: &[u32]) -> Pipeline {
        self.message(b'P', |body| {
            string(body, name);
            string(body, sql);
            body.extend((types.len() as u16).to_be_bytes());
            types.iter().for_each(|oid| body.extend(oid.to_be_bytes()));
        })
    }

    /// Queues Bind with one format for all result columns.
    pub fn bind(self, portal: &str, statement: &str, values: &[Parameter], result: Format) -> Pipeline {
        self.message(b'B', |body| {
            string(body, portal);
            string(body, statement);
            body.extend((values.len() as u16).to_be_bytes());
            values
                .iter()
                .for_each(|value| body.extend(value.format.code().to_be_bytes()));
            body.extend((values.len() as u16).to_be_bytes());
            for value in values {
                match &value.value {
                    None => body.extend((-1i32).to_be_bytes()),
                    Some(bytes) => {
                        body.extend((bytes.len() as u32).to_be_bytes());
                        body.extend(bytes);
                    }
                }
            }
            body.extend(1u16.to_be_bytes());
            body.extend(result.code().to_be_bytes());
        })
    }

    /// Queues Describe of a prepared statement.
    pub fn describe_statement(self, name: &str) -> Pipeline {
        self.named(b'D', b'S', name)
    }

    /// Queues Describe of a portal.
    pub fn describe_portal(self, name: &str) -> Pipeline {
        self.named(b'D', b'P', name)
    }

    /// Queues Close of a prepared statement.
    pub fn close_statement(self, name: &str) -> Pipeline {
        self.named(b'C', b'S', name)
    }

    /// Queues Close of a portal.
    pub fn close_portal(self, name: &str) -> Pipeline {
        self.named(b'C', b'P', name)
    }

    /// Queues Execute; `rows` 0 means all.
    pub fn execute(self, portal: &str, rows: u32) -> Pipeline {
        self.message(b'E', |body| {
            string(body, portal);
            body.extend(rows.to_be_bytes());
        })
    }

    /// Queues Flush.
    pub fn flush(self) -> Pipeline {
        self.message(b'H', |_| {})
    }

    /// Queues Sync.
    pub fn sync(mut self) -> Pipeline {
        self.readies += 1;
        self.message(b'S', |_| {})
    }

    /// Queues CopyData messages for `data`, then CopyDone.
    pub fn copy(mut self, data: &[u8]) -> Pipeline {
        // Odd on purpose: message boundaries then fall in the middle of lines, as they may.
        for chunk in data.chunks(8191) {
            self = self.message(b'd', |body| body.extend(chunk));
        }
        self.message(b'c', |_| {})
    }

    /// Queues CopyFail.
    pub fn copy_fail(self, reason: &str) -> Pipeline {
        self.message(b'f', |body| string(body, reason))
    }

    /// Queues any message at all, well formed or not, for tests of hostile input.
    pub fn raw(mut self, bytes: &[u8]) -> Pipeline {
        self.bytes.extend(bytes);
        self
    }

    /// Queues a message with the given body.
    pub fn message(mut self, tag: u8, body: impl FnOnce(&mut Vec<u8>)) -> Pipeline {
        self.bytes.push(tag);
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        body(&mut self.bytes);
        let len = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&len.to_be_bytes());
        self
    }

    fn named(self, tag: u8, kind: u8, name: &str) -> Pipeline {
        self.message(tag, |body| {
            body.push(kind);
            string(body, name);
        })
    }
}

fn string(body: &mut Vec<u8>, text: &str) {
    body.extend(text.as_bytes());
    body.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_themselves_but_not_the_tag() {
        assert_eq!(Pipeline::new().query("x").bytes(), [b'Q', 0, 0, 0, 6, b'x', 0]);
        assert_eq!(
            Pipeline::new().sync().flush().bytes(),
            [b'S', 0, 0, 0, 4, b'H', 0, 0, 0, 4]
        );
    }

    #[test]
    fn one_ready_per_query_and_sync() {
        assert_eq!(
            Pipeline::new()
                .query("x")
                .parse("", "y", &[])
                .sync()
                .flush()
                .readies(),
            2
        );
    }
}
