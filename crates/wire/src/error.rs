/// Why a message from outside could not be decoded. PostgreSQL reports all of these as `08P01`
/// (protocol violation).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The body ends before the value it announces.
    #[error("insufficient data left in message")]
    Truncated,
    /// Bytes are left after the last value of the message.
    #[error("invalid message format: {0} bytes after the end")]
    Trailing(usize),
    /// A string has no terminating zero byte.
    #[error("invalid string in message")]
    Unterminated,
    /// A message type this direction does not have.
    #[error("invalid message type {0}")]
    UnknownTag(u8),
    /// A length or count is negative or larger than the protocol allows.
    #[error("invalid length or count {0} in message")]
    BadLength(i64),
    /// An enumerated byte or code has a value the protocol does not define.
    #[error("invalid {what} {value} in message")]
    BadValue {
        /// Which field it was.
        what: &'static str,
        /// What it held.
        value: i64,
    },
}

/// Why a message could not be encoded. The buffer is left as it was before the call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A protocol string may not contain a zero byte.
    #[error("string contains a zero byte")]
    ZeroByte,
    /// More than 65535 columns, parameters or formats.
    #[error("too many values for one message: {0}")]
    TooMany(usize),
    /// The message (or one value) would be longer than the protocol's 2^31-1 bytes.
    #[error("message too long: {0} bytes")]
    TooLong(usize),
    /// The message to be rewritten is not of the expected type or is malformed.
    #[error("message to rewrite is malformed")]
    Malformed(#[from] DecodeError),
}
