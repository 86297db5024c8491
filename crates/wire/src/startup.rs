//! The first packet of a connection: no type byte, a length that counts itself, then a code that says what
//! it is. Nothing is known about the peer yet, so everything here is small and bounded.

use crate::EncodeError;
use crate::cursor::{Cursor, length_prefixed, put_string};
use bytes::{BufMut, BytesMut};
use std::ops::RangeInclusive;

/// Largest startup packet, in bytes: the limit PostgreSQL has (`MAX_STARTUP_PACKET_LENGTH`).
pub const PACKET_MAX: usize = 10_000;

/// Most parameters in one startup packet. PostgreSQL has no limit of its own beyond the packet; real clients
/// send a dozen.
pub const PARAMS_MAX: usize = 256;

/// Bytes of a cancel key: 4 in protocol 3.0, anything up to 256 since 3.2.
pub const CANCEL_KEY_LEN: RangeInclusive<usize> = 4..=256;

const CANCEL_CODE: u32 = (1234 << 16) | 5678;
const SSL_CODE: u32 = (1234 << 16) | 5679;
const GSSENC_CODE: u32 = (1234 << 16) | 5680;

/// A protocol version: `major.minor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProtocolVersion {
    /// 3 for everything supported here.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
}

impl ProtocolVersion {
    /// 3.0, what nearly all clients ask for.
    pub const V3_0: ProtocolVersion = ProtocolVersion { major: 3, minor: 0 };
    /// 3.2 (PostgreSQL 18): longer cancel keys.
    pub const V3_2: ProtocolVersion = ProtocolVersion { major: 3, minor: 2 };

    /// From the 32-bit number of the protocol.
    pub fn from_code(code: u32) -> Self {
        ProtocolVersion {
            major: (code >> 16) as u16,
            minor: code as u16,
        }
    }

    /// The 32-bit number of the protocol.
    pub fn code(self) -> u32 {
        (u32::from(self.major) << 16) | u32::from(self.minor)
    }
}

/// The first packet of a connection (or the next, after an encryption request was declined).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Startup<'a> {
    /// The client asks for TLS; answered by one byte, `S` or `N`.
    SslRequest,
    /// The client asks for GSSAPI encryption; answered by one byte, `G` or `N`.
    GssEncRequest,
    /// Cancel what another connection is running; never answered.
    Cancel {
        /// The process number that connection was given.
        pid: u32,
        /// The secret it was given.
        key: &'a [u8],
    },
    /// Start a session.
    Session(StartupMessage<'a>),
}

/// Start a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartupMessage<'a> {
    /// The version the client wants; major is 3.
    pub version: ProtocolVersion,
    /// Parameters in the order sent, names unique: `user`, `database`, `options`, settings, `_pq_.` options.
    pub params: Vec<(&'a str, &'a str)>,
}

impl<'a> StartupMessage<'a> {
    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.params
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| *value)
    }

    /// Protocol options (`_pq_.…`) the client asked for. Unless it knows them all and speaks the minor
    /// version, a server answers with NegotiateProtocolVersion.
    pub fn protocol_options(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.params
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| name.starts_with("_pq_."))
    }

    /// Whether a server that speaks up to `newest` and knows no protocol options must send
    /// NegotiateProtocolVersion before going on.
    pub fn must_negotiate(&self, newest: ProtocolVersion) -> bool {
        self.version > newest || self.protocol_options().next().is_some()
    }
}

/// Why a startup packet is refused. The connection ends: PostgreSQL reports these as FATAL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// The length is not one a startup packet can have.
    #[error("invalid length of startup packet")]
    BadLength(u32),
    /// The packet's content does not follow its layout.
    #[error("invalid startup packet layout: {0}")]
    BadLayout(&'static str),
    /// A major version other than 3.
    #[error("unsupported frontend protocol {}.{}: server supports 3.0 to 3.2", .0.major, .0.minor)]
    UnsupportedVersion(ProtocolVersion),
    /// The same parameter twice.
    #[error("startup parameter \"{0}\" is given more than once")]
    Duplicate(String),
    /// More than [`PARAMS_MAX`] parameters.
    #[error("too many startup parameters")]
    TooMany,
    /// No `user` parameter.
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
}

impl StartupError {
    /// The SQLSTATE PostgreSQL uses for it.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            StartupError::UnsupportedVersion(_) => "0A000",
            StartupError::NoUser => "28000",
            _ => "08P01",
        }
    }
}

/// Bytes of the packet at the front of `buf`, its length field included; `None` until four bytes are there.
/// The packet itself may be incomplete.
pub fn peek(buf: &[u8]) -> Result<Option<usize>, StartupError> {
    let Some(first) = buf.first_chunk::<4>() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes(*first);
    // 8: the length and the code that every packet has.
    if len < 8 || len as usize > PACKET_MAX {
        return Err(StartupError::BadLength(len));
    }
    Ok(Some(len as usize))
}

/// Decodes one whole packet, its length field included.
pub fn decode(packet: &[u8]) -> Result<Startup<'_>, StartupError> {
    match peek(packet)? {
        Some(len) if len == packet.len() => {}
        _ => return Err(StartupError::BadLength(packet.len() as u32)),
    }
    let mut cursor = Cursor::new(&packet[4..]);
    let code = cursor.u32().map_err(|_| StartupError::BadLayout("no version"))?;
    match code {
        SSL_CODE | GSSENC_CODE => {
            cursor
                .end()
                .map_err(|_| StartupError::BadLayout("encryption request with a body"))?;
            Ok(if code == SSL_CODE {
                Startup::SslRequest
            } else {
                Startup::GssEncRequest
            })
        }
        CANCEL_CODE => {
            let pid = cursor
                .u32()
                .map_err(|_| StartupError::BadLayout("cancel request without process"))?;
            let key = cursor.rest();
            if !CANCEL_KEY_LEN.contains(&key.len()) {
                return Err(StartupError::BadLayout("cancel key length"));
            }
            Ok(Startup::Cancel { pid, key })
        }
        _ => decode_session(ProtocolVersion::from_code(code), cursor).map(Startup::Session),
    }
}

fn decode_session<'a>(
    version: ProtocolVersion,
    mut cursor: Cursor<'a>,
) -> Result<StartupMessage<'a>, StartupError> {
    if version.major != 3 {
        return Err(StartupError::UnsupportedVersion(version));
    }
    let mut params: Vec<(&str, &str)> = Vec::new();
    loop {
        let name = text(&mut cursor)?;
        if name.is_empty() {
            break;
        }
        let value = text(&mut cursor)?;
        if params.iter().any(|(known, _)| *known == name) {
            return Err(StartupError::Duplicate(name.to_owned()));
        }
        if params.len() == PARAMS_MAX {
            return Err(StartupError::TooMany);
        }
        params.push((name, value));
    }
    cursor
        .end()
        .map_err(|_| StartupError::BadLayout("expected terminator as last byte"))?;
    let message = StartupMessage { version, params };
    match message.get("user") {
        None | Some("") => Err(StartupError::NoUser),
        Some(_) => Ok(message),
    }
}

fn text<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, StartupError> {
    let bytes = cursor
        .string()
        .map_err(|_| StartupError::BadLayout("expected terminator as last byte"))?;
    std::str::from_utf8(bytes).map_err(|_| StartupError::BadLayout("text is not UTF-8"))
}

/// Encoders of startup packets.
pub mod encode {
    use super::*;

    /// StartupMessage. Fails if a text contains a zero byte or the packet exceeds [`PACKET_MAX`].
    pub fn session<'a>(
        buf: &mut BytesMut,
        version: ProtocolVersion,
        params: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), EncodeError> {
        packet(buf, |b| {
            b.put_u32(version.code());
            for (name, value) in params {
                put_string(b, name.as_bytes())?;
                put_string(b, value.as_bytes())?;
            }
            b.put_u8(0);
            Ok(())
        })
    }

    /// CancelRequest. Fails if the key's length is not in [`CANCEL_KEY_LEN`].
    pub fn cancel(buf: &mut BytesMut, pid: u32, key: &[u8]) -> Result<(), EncodeError> {
        packet(buf, |b| {
            if !CANCEL_KEY_LEN.contains(&key.len()) {
                return Err(EncodeError::TooLong(key.len()));
            }
            b.put_u32(CANCEL_CODE);
            b.put_u32(pid);
            b.put_slice(key);
            Ok(())
        })
    }

    /// SSLRequest.
    pub fn ssl_request(buf: &mut BytesMut) {
        buf.put_u32(8);
        buf.put_u32(SSL_CODE);
    }

    /// GSSENCRequest.
    pub fn gssenc_request(buf: &mut BytesMut) {
        buf.put_u32(8);
        buf.put_u32(GSSENC_CODE);
    }

    fn packet(
        buf: &mut BytesMut,
        body: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let start = buf.len();
        length_prefixed(buf, body)?;
        let len = buf.len() - start;
        if len > PACKET_MAX {
            buf.truncate(start);
            return Err(EncodeError::TooLong(len));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
