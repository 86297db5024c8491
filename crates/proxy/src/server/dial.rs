//! Connecting to a PostgreSQL server and logging in.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::{TcpStream, UnixStream};
use wire::TransactionStatus;
use wire::backend::{Authentication, Backend, ErrorFields};
use wire::frontend::encode;
use wire::scram;
use wire::startup::ProtocolVersion;

use super::connect::{Encrypt, connect};
use super::{Applied, BackendKey, Parameters, Prepared, ServerConn};
use crate::buffers::Buffers;
use crate::cancel::CancelTarget;
use crate::config::{ChannelBinding, ServerTlsMode};
use crate::conn::{Conn, Socket};
use crate::tls::{ServerTls, x509};

/// The longest message a server may send while logging in or idle, in bytes.
pub(crate) const LOGIN_MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Host name, address, or a directory (starting with `/`) with the server's Unix socket.
    pub host: String,
    /// TCP port, or the number in the Unix socket's name.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Address {
    /// On this host: a Unix socket, or a loopback address.
    #[must_use]
    pub fn is_on_this_host(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        self.host.starts_with('/') || address.is_ok_and(|address| address.to_canonical().is_loopback())
    }

    /// The server's Unix socket: never encrypted, nobody can listen.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.host.starts_with('/')
    }

    /// Opens a socket. Has no time limit of its own.
    pub async fn connect(&self) -> io::Result<Socket> {
        if self.is_local() {
            let path = format!("{}/.s.PGSQL.{}", self.host.trim_end_matches('/'), self.port);
            return Ok(Socket::Unix(UnixStream::connect(path).await?));
        }
        let socket = TcpStream::connect((self.host.as_str(), self.port)).await?;
        socket.set_nodelay(true)?;
        // A server whose machine vanished is given up after about a minute instead of two hours.
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(30))
            .with_interval(Duration::from_secs(10));
        socket2::SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
        Ok(Socket::Tcp(socket))
    }
}

/// What Drover can prove its right to log in with.
#[derive(Clone, Default)]
pub enum Secret {
    /// Nothing: the server must trust it.
    #[default]
    None,
    /// The password in clear.
    Password(String),
    /// What `pg_authid` stores for the MD5 method: answers that method only.
    Md5(String),
    /// The keys learnt when the client logged in by SCRAM; they work where the server holds the same verifier.
    ScramKeys(scram::Keys),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Password(_) => "Password(…)",
            Self::Md5(_) => "Md5(…)",
            Self::ScramKeys(_) => "ScramKeys(…)",
        })
    }
}

/// What the session on the server starts with.
#[derive(Debug, Clone, Default)]
pub struct Startup {
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// Further startup parameters.
    pub params: Vec<(String, String)>,
}

impl Startup {
    /// Appends the startup packet.
    fn encode(&self, protocol: ProtocolVersion, out: &mut BytesMut) -> Result<(), DialError> {
        let own = [("user", self.user.as_str()), ("database", &self.database)];
        let further = self
            .params
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        wire::startup::encode::session(out, protocol, own.into_iter().chain(further))
            .map_err(|_| DialError::Protocol("startup parameters cannot be encoded"))
    }
}

/// Everything a login needs.
#[derive(Debug, Clone)]
pub struct Dialler {
    /// Where.
    pub address: Address,
    /// As whom.
    pub startup: Startup,
    /// With what.
    pub secret: Secret,
    /// The protocol version asked for; a server that does not speak it says so and is spoken to in its own.
    pub protocol: ProtocolVersion,
    /// How the connection is encrypted.
    pub tls: Arc<ServerTls>,
    /// The longest it may take, connecting included.
    pub timeout: Duration,
    /// Bound on prepared statements of the connection.
    pub prepared_statements: usize,
}

/// Why a login failed.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The socket could not be opened or broke.
    #[error("cannot connect to {address}")]
    Io {
        /// Where.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// The connection could not be encrypted as required.
    #[error("no TLS connection to {address}")]
    Tls {
        /// Where.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// It took longer than allowed.
    #[error("login to {address} took too long")]
    TimedOut {
        /// Where.
        address: Address,
    },
    /// The server said no.
    #[error("{}", .0.message)]
    Refused(Box<ErrorFields>),
    /// The server asks for something Drover cannot give.
    #[error("server login: {0}")]
    Authentication(&'static str),
    /// What the server sent is not the protocol.
    #[error("server login: unexpected answer ({0})")]
    Protocol(&'static str),
}

impl DialError {
    /// The SQLSTATE a client sees.
    #[must_use]
    pub fn sqlstate(&self) -> &str {
        match self {
            Self::Refused(fields) => &fields.code,
            Self::Authentication(_) => "28000",
            Self::Io { .. } | Self::Tls { .. } | Self::TimedOut { .. } | Self::Protocol(_) => "08006",
        }
    }

    /// Trying again soon will not help: what the server, or Drover, objects to is not that the server is down, starting
    /// or full.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Refused(fields) => !matches!(fields.code.get(..2), Some("57" | "53" | "58" | "XX")),
            Self::Authentication(_) | Self::Protocol(_) => true,
            // Certificates and settings do not change by waiting; a server that goes away in the handshake does.
            Self::Tls { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ),
            Self::Io { .. } | Self::TimedOut { .. } => false,
        }
    }

    /// No server is there, or one that has just started or is about to stop: connections made before are dead.
    #[must_use]
    pub fn is_down(&self) -> bool {
        match self {
            Self::Refused(fields) => matches!(fields.code.as_str(), "57P01" | "57P02" | "57P03"),
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ),
            _ => false,
        }
    }
}

impl Dialler {
    /// Connects and logs in.
    pub async fn dial(&self, buffers: Buffers) -> Result<ServerConn, DialError> {
        self.dial_learning(buffers).await.map(|(conn, _)| conn)
    }

    /// The same; if it went by SCRAM it also gives the keys that spare the next login the hash rounds of a password
    /// (about a millisecond), as long as the server's verifier stays the same.
    pub async fn dial_learning(
        &self,
        buffers: Buffers,
    ) -> Result<(ServerConn, Option<scram::Keys>), DialError> {
        match tokio::time::timeout(self.timeout, self.login(buffers)).await {
            Ok(result) => result,
            Err(_) => Err(DialError::TimedOut {
                address: self.address.clone(),
            }),
        }
    }

    /// The attempts that libpq's `sslmode` makes, in its order.
    async fn login(&self, buffers: Buffers) -> Result<(ServerConn, Option<scram::Keys>), DialError> {
        use ServerTlsMode as Mode;
        let mode = if self.address.is_local() {
            Mode::Disable
        } else {
            self.tls.mode
        };
        let (first, second) = match mode {
            Mode::Disable => (Encrypt::No, None),
            Mode::Allow => (Encrypt::No, Some(Encrypt::Must)),
            Mode::Prefer => (Encrypt::IfOffered, Some(Encrypt::No)),
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => (Encrypt::Must, None),
        };
        let error = match self.attempt(first, buffers.clone()).await {
            Err(error) if depends_on_encryption(&error) => error,
            decided => return decided,
        };
        match second {
            // What the server said about the way preferred says more than how the other one failed.
            Some(second) => self.attempt(second, buffers).await.map_err(|_| error),
            None => Err(error),
        }
    }

    async fn attempt(
        &self,
        encrypt: Encrypt,
        buffers: Buffers,
    ) -> Result<(ServerConn, Option<scram::Keys>), DialError> {
        let io = |source| DialError::Io {
            address: self.address.clone(),
            source,
        };
        let mut conn = connect(&self.address, &self.tls, encrypt, buffers).await?;
        let end_point = self.end_point(&conn);
        self.startup.encode(self.protocol, conn.out())?;
        let mut login = Login {
            dialler: self,
            scram: ScramStep::None,
            encrypted: conn.tls().is_some(),
            end_point,
            bound: false,
            derived: None,
            local: self.address.is_on_this_host(),
            learnt: None,
            parameters: Parameters::default(),
            key: None,
            authenticated: false,
        };
        loop {
            conn.flush().await.map_err(io)?;
            let frame = conn.fill_message(LOGIN_MESSAGE_BYTES_MAX).await.map_err(io)?;
            let message = conn.take(frame.len);
            login.derive(&message).await?;
            if login.handle(&message, conn.out())? {
                break;
            }
        }
        let Some(key) = login.key else {
            return Err(DialError::Protocol("no backend key"));
        };
        conn.give_up_buffers();
        let address = Arc::new(self.address.clone());
        let conn = ServerConn {
            conn,
            target: Arc::new(CancelTarget {
                address: Arc::clone(&address),
                key,
                tls: login.encrypted.then(|| Arc::clone(&self.tls)),
                blame: crate::cancel::Blame::default(),
            }),
            address,
            status: TransactionStatus::Idle,
            parameters: login.parameters,
            prepared: Prepared::new(self.prepared_statements),
            unnamed: None,
            replay: bytes::BytesMut::new(),
            sequences: super::SequenceOwner::Nobody,
            applied: Applied::Fresh,
            epoch: 0,
            mark: None,
            passing: 0,
            watch: None,
            budget: None,
            ended_alone: false,
            dirty: false,
            lost: false,
        };
        Ok((conn, login.learnt))
    }

    /// What a login over this connection can be bound to.
    fn end_point(&self, conn: &Conn) -> Option<Vec<u8>> {
        if self.tls.channel_binding == ChannelBinding::Disable {
            return None;
        }
        let certificates = conn.tls()?.peer_certificates()?;
        x509::end_point(certificates.first()?)
    }
}

/// Whether the same login may succeed with the other choice about encryption: the handshake failed, or the server's
/// `pg_hba.conf` has no line for connections like this one.
fn depends_on_encryption(error: &DialError) -> bool {
    match error {
        DialError::Tls { .. } => true,
        DialError::Refused(fields) => fields.code == "28000",
        _ => false,
    }
}

/// How far a SCRAM exchange is.
#[derive(Default)]
enum ScramStep {
    #[default]
    None,
    Started(scram::Client),
    Proved(scram::ClientProof),
}

const BINDING_NEEDED: DialError =
    DialError::Authentication("channel binding is required, but the server does not offer it");

const OUT_OF_PLACE: DialError = DialError::Protocol("authentication message out of place");

fn scram_failed(error: scram::ScramError) -> DialError {
    DialError::Authentication(match error {
        scram::ScramError::WrongSignature => {
            "the server does not know the verifier, it is not what it claims to be"
        }
        _ => "the SCRAM exchange failed",
    })
}

/// The part of a login that only computes.
struct Login<'a> {
    dialler: &'a Dialler,
    /// The connection is encrypted.
    encrypted: bool,
    /// What the login can be bound to.
    end_point: Option<Vec<u8>>,
    /// The login is bound to it.
    bound: bool,
    /// Keys of the password for the challenge that is about to be handled.
    derived: Option<scram::Keys>,
    /// The server is on this host.
    local: bool,
    learnt: Option<scram::Keys>,
    scram: ScramStep,
    parameters: Parameters,
    key: Option<BackendKey>,
    authenticated: bool,
}

impl Login<'_> {
    /// Takes one message and appends the answer to `out`. True when the server waits for the first query.
    fn handle(&mut self, message: &[u8], out: &mut BytesMut) -> Result<bool, DialError> {
        let Some((&tag, rest)) = message.split_first() else {
            return Err(DialError::Protocol("empty"));
        };
        let body = rest.get(4..).unwrap_or_default();
        let decoded =
            Backend::decode_body(tag, body).map_err(|_| DialError::Protocol("malformed message"))?;
        match decoded {
            Backend::Authentication(step) => self.authenticate(step, out)?,
            Backend::Error(fields) => return Err(DialError::Refused(Box::new(fields.to_owned()))),
            Backend::Notice(_) | Backend::NegotiateProtocolVersion { .. } => {}
            _ if !self.authenticated => return Err(DialError::Protocol("not authenticated yet")),
            Backend::ParameterStatus { name, value } => {
                if let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) {
                    self.parameters.set(name, value);
                }
            }
            Backend::BackendKeyData { pid, key } => {
                self.key = Some(BackendKey {
                    pid,
                    secret: key.into(),
                });
            }
            Backend::ReadyForQuery(TransactionStatus::Idle) => return Ok(true),
            _ => return Err(DialError::Protocol("message out of place")),
        }
        Ok(false)
    }

    /// Derives the keys of a password that a SCRAM challenge asks for: that takes a millisecond, which other clients of
    /// this thread must not wait for.
    async fn derive(&mut self, message: &[u8]) -> Result<(), DialError> {
        let Secret::Password(password) = &self.dialler.secret else {
            return Ok(());
        };
        let body = message.get(wire::frame::HEADER_LEN..).unwrap_or_default();
        if let (ScramStep::Started(_), Some(tag)) = (&self.scram, message.first())
            && let Ok(Backend::Authentication(Authentication::SaslContinue(challenge))) =
                Backend::decode_body(*tag, body)
        {
            let (salt, iterations) = scram::Client::terms(challenge).map_err(scram_failed)?;
            let password = password.clone();
            let derive = move || scram::Keys::derive(password.as_bytes(), &salt, iterations);
            let derived = tokio::task::spawn_blocking(derive).await;
            let derived = derived.map_err(|_| DialError::Authentication("the login was interrupted"))?;
            self.derived = Some(derived.map_err(scram_failed)?);
        }
        Ok(())
    }

    fn authenticate(&mut self, step: Authentication<'_>, out: &mut BytesMut) -> Result<(), DialError> {
        let requires_binding = self.dialler.tls.channel_binding == ChannelBinding::Require;
        match step {
            // A bound login is SCRAM from the beginning to the end: a server that asks for the password itself, before or
            // after a bound exchange, is told nothing.
            Authentication::CleartextPassword | Authentication::Md5Password { .. } if requires_binding => {
                return Err(BINDING_NEEDED);
            }
            Authentication::Ok if requires_binding && !self.bound => return Err(BINDING_NEEDED),
            Authentication::CleartextPassword | Authentication::Md5Password { .. }
                if !matches!(self.scram, ScramStep::None) =>
            {
                return Err(OUT_OF_PLACE);
            }
            // A server that skips its last SCRAM message has not shown that it knows the verifier.
            Authentication::Ok if !matches!(self.scram, ScramStep::None) => return Err(OUT_OF_PLACE),
            Authentication::Ok => self.authenticated = true,
            Authentication::CleartextPassword => {
                if !self.encrypted && !self.local {
                    return Err(DialError::Authentication(
                        "the server asks for the password in clear over a connection that is not encrypted",
                    ));
                }
                let password = self.password()?;
                encode::password(out, password.as_bytes())
                    .map_err(|_| DialError::Authentication("the password has a zero byte"))?;
            }
            Authentication::Md5Password { salt } => {
                let answer = self.md5_answer(salt)?;
                encode::password(out, answer.as_bytes()).map_err(|_| DialError::Authentication("md5"))?;
            }
            Authentication::Sasl { .. } | Authentication::SaslContinue(_) | Authentication::SaslFinal(_) => {
                self.scram(step, out)?;
            }
            Authentication::Unsupported { .. } => {
                return Err(DialError::Authentication(
                    "the server asks for a method Drover does not speak",
                ));
            }
        }
        Ok(())
    }

    fn scram(&mut self, step: Authentication<'_>, out: &mut BytesMut) -> Result<(), DialError> {
        self.scram = match (std::mem::take(&mut self.scram), step) {
            (ScramStep::None, Authentication::Sasl { .. }) => {
                let (mechanism, binding) = self.mechanism(step)?;
                let random = crate::cancel::random::<{ scram::NONCE_LEN }>()
                    .map_err(|_| DialError::Authentication("no randomness"))?;
                let (client, first) =
                    scram::Client::start_bound(&scram::nonce(&random), binding).map_err(scram_failed)?;
                encode::sasl_initial(out, mechanism, Some(&first)).map_err(|_| OUT_OF_PLACE)?;
                self.bound = mechanism == scram::MECHANISM_PLUS;
                ScramStep::Started(client)
            }
            (ScramStep::Started(client), Authentication::SaslContinue(message)) => {
                let login = match (&self.derived, &self.dialler.secret) {
                    (Some(keys), _) | (None, Secret::ScramKeys(keys)) => scram::Login::Keys(keys),
                    _ => scram::Login::Password(self.password()?.as_bytes()),
                };
                let (proof, answer) = client.challenge(message, login).map_err(scram_failed)?;
                encode::sasl_response(out, &answer).map_err(|_| OUT_OF_PLACE)?;
                ScramStep::Proved(proof)
            }
            (ScramStep::Proved(proof), Authentication::SaslFinal(message)) => {
                self.learnt = Some(proof.finish(message).map_err(scram_failed)?);
                ScramStep::None
            }
            _ => return Err(OUT_OF_PLACE),
        };
        Ok(())
    }

    /// The best mechanism that both sides know.
    fn mechanism(
        &self,
        offer: Authentication<'_>,
    ) -> Result<(&'static [u8], scram::ClientBinding<'_>), DialError> {
        let offers = |wanted: &[u8]| offer.mechanisms().any(|name| name == wanted);
        match &self.end_point {
            Some(end_point) if offers(scram::MECHANISM_PLUS) => {
                Ok((scram::MECHANISM_PLUS, scram::ClientBinding::EndPoint(end_point)))
            }
            _ if self.dialler.tls.channel_binding == ChannelBinding::Require => Err(BINDING_NEEDED),
            _ if !offers(scram::MECHANISM) => Err(DialError::Authentication(
                "the server offers no SASL mechanism Drover speaks",
            )),
            Some(_) => Ok((scram::MECHANISM, scram::ClientBinding::NotOffered)),
            None => Ok((scram::MECHANISM, scram::ClientBinding::No)),
        }
    }

    fn md5_answer(&self, salt: [u8; 4]) -> Result<String, DialError> {
        let user = &self.dialler.startup.user;
        match &self.dialler.secret {
            Secret::Md5(stored) => wire::md5::response_from_hash(stored, salt)
                .ok_or(DialError::Authentication("the stored md5 password is none")),
            Secret::ScramKeys(_) => Err(DialError::Authentication(
                "the server asks for md5 and only SCRAM keys are known",
            )),
            _ => Ok(wire::md5::response(user, self.password()?.as_bytes(), salt)),
        }
    }

    fn password(&self) -> Result<&str, DialError> {
        match &self.dialler.secret {
            Secret::Password(password) => Ok(password),
            Secret::Md5(_) => Err(DialError::Authentication(
                "the server asks for another method than md5 and only an md5 password is known",
            )),
            Secret::ScramKeys(_) => Err(DialError::Authentication(
                "the server asks for a password and only SCRAM keys are known",
            )),
            _ => Err(DialError::Authentication(
                "the server asks for a password and none is configured",
            )),
        }
    }
}

/// Takes the body of a ParameterStatus apart; `None` when it is not UTF-8 or malformed.
pub(crate) fn parameter_status(body: &[u8]) -> Option<(&str, &str)> {
    match Backend::decode_body(b'S', body) {
        Ok(Backend::ParameterStatus { name, value }) => {
            Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a login whose binding is required says to these bodies of authentication messages, one after the other.
    fn answers(binding: ChannelBinding, bodies: &[&[u8]]) -> (Result<bool, DialError>, BytesMut) {
        let mut tls = ServerTls::default();
        tls.channel_binding = binding;
        let dialler = Dialler {
            address: Address {
                host: "db".into(),
                port: 1,
            },
            startup: super::super::Startup {
                user: "me".into(),
                database: "db".into(),
                params: Vec::new(),
            },
            secret: Secret::Password("secret".into()),
            protocol: ProtocolVersion::V3_0,
            tls: Arc::new(tls),
            timeout: std::time::Duration::from_secs(5),
            prepared_statements: 10,
        };
        let mut login = Login {
            dialler: &dialler,
            encrypted: true,
            end_point: Some(vec![7; 32]),
            bound: false,
            derived: None,
            local: false,
            learnt: None,
            scram: ScramStep::None,
            parameters: Parameters::default(),
            key: None,
            authenticated: false,
        };
        let mut out = BytesMut::new();
        let mut result = Ok(false);
        for body in bodies {
            let length = u32::try_from(body.len() + 4).expect("short");
            let message = [b"R", &length.to_be_bytes()[..], body].concat();
            out.clear();
            result = login.handle(&message, &mut out);
        }
        (result, out)
    }

    /// Somebody in between who offers channel binding and then asks for the password itself is not given it.
    #[test]
    fn a_login_that_must_be_bound_never_shows_the_password() {
        let offer = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
        let (clear, md5, ok) = (b"\0\0\0\x03", b"\0\0\0\x05salt", b"\0\0\0\0");
        for ask in [&clear[..], md5, ok] {
            for bodies in [&[ask][..], &[&offer[..], ask]] {
                let (result, out) = answers(ChannelBinding::Require, bodies);
                assert!(result.is_err() && out.is_empty(), "{bodies:?}");
            }
            let (result, out) = answers(ChannelBinding::Prefer, &[&offer[..], ask]);
            assert!(result.is_err() && out.is_empty(), "{ask:?} within an exchange");
        }
        let (result, out) = answers(ChannelBinding::Require, &[&offer[..]]);
        assert!(matches!(result, Ok(false)) && !out.is_empty());
        let (result, out) = answers(ChannelBinding::Prefer, &[&clear[..]]);
        assert!(matches!(result, Ok(false)) && out.windows(6).any(|bytes| bytes == b"secret"));
    }
}
