//! A small blocking PostgreSQL client that hides nothing.
//!
//! Drivers smooth over what servers really send. A test that compares a proxy with PostgreSQL needs the opposite:
//! every message, in order, with a deadline on everything. [`Client`] speaks protocol 3.0 over TCP or a Unix socket,
//! logs in with trust, cleartext or SCRAM-SHA-256, and returns an [`Answer`] for each exchange.

mod answer;
mod message;
mod request;
mod scram;
mod stream;
mod target;

pub use answer::{Answer, StatementResult};
pub use message::{Column, Diagnostic, Message, Row};
pub use request::{Format, Parameter, Pipeline};
pub use target::{Target, TargetError};

use scram::Scram;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use stream::Stream;

/// A message longer than this is taken for a broken stream.
const MESSAGE_LEN_MAX: usize = 256 << 20;
/// How long one exchange may take unless changed by [`Client::set_timeout`].
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Why an exchange could not be finished. A server's own error is not one of these: it is part of the [`Answer`].
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL was not understood.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The socket failed.
    #[error("connection failed")]
    Io(#[from] std::io::Error),
    /// The server did not answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The server closed the connection; holds its last error if it sent one.
    #[error("server closed the connection{}", last_words(.0))]
    Closed(Option<Box<Diagnostic>>),
    /// A message body is shorter or longer than its fields.
    #[error("malformed message {:?}", char::from(*.0))]
    Malformed(u8),
    /// A message length is impossible.
    #[error("impossible length {1} of message {0:#x}")]
    Length(u8, usize),
    /// The server asked for a login this client cannot do.
    #[error("authentication: {0}")]
    Authentication(String),
    /// The server refused the login.
    #[error("login refused: {0}")]
    Refused(Box<Diagnostic>),
}

fn last_words(error: &Option<Box<Diagnostic>>) -> String {
    error
        .as_ref()
        .map(|error| format!(" after {error}"))
        .unwrap_or_default()
}

/// One extended-protocol execution of a statement.
#[derive(Debug, Clone)]
pub struct Extended<'a> {
    /// Statement text with `$1`-style parameters.
    pub sql: &'a str,
    /// Declared parameter types; may be shorter than the parameters, 0 leaves the type to the server.
    pub types: &'a [u32],
    /// Parameter values.
    pub parameters: &'a [Parameter],
    /// Format of all result columns.
    pub result: Format,
    /// Rows per Execute; 0 fetches all with one Execute.
    pub row_limit: u32,
    /// What to send when the server asks for COPY data; `None` answers with CopyFail.
    pub copy: Option<&'a [u8]>,
}

impl<'a> Extended<'a> {
    /// A statement without parameters, results as text, all rows at once.
    pub fn new(sql: &'a str) -> Extended<'a> {
        Extended {
            sql,
            types: &[],
            parameters: &[],
            result: Format::Text,
            row_limit: 0,
            copy: None,
        }
    }
}

/// A logged-in connection.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    target: Target,
    buffer: Vec<u8>,
    consumed: usize,
    timeout: Duration,
    settings: BTreeMap<String, String>,
    key: Option<(u32, Vec<u8>)>,
    status: u8,
}

/// Cancels what one connection runs.
#[derive(Debug, Clone)]
pub struct Canceller {
    target: Target,
    packet: Vec<u8>,
    timeout: Duration,
}

impl Canceller {
    /// Sends a CancelRequest and waits until it was dealt with.
    pub fn cancel(&self) -> Result<(), ClientError> {
        let deadline = Instant::now() + self.timeout;
        let mut stream = Stream::connect(&self.target, self.timeout)?;
        stream.write_until(&self.packet, deadline)?;
        // The server closes when it has dealt with the request; only then may the caller go on.
        let _ = stream.read_until(&mut [0; 16], deadline);
        Ok(())
    }
}

impl Client {
    /// Connects and logs in by URL.
    pub fn connect(url: &str) -> Result<Client, ClientError> {
        Client::open(&Target::parse(url)?)
    }

    /// Connects and logs in.
    pub fn open(target: &Target) -> Result<Client, ClientError> {
        let mut client = Client::open_silent(target)?;
        client.login()?;
        Ok(client)
    }

    /// Connects the socket only: nothing is sent, for tests that misbehave from the first byte on.
    pub fn open_silent(target: &Target) -> Result<Client, ClientError> {
        Ok(Client {
            stream: Stream::connect(target, TIMEOUT_DEFAULT)?,
            target: target.clone(),
            buffer: Vec::new(),
            consumed: 0,
            timeout: TIMEOUT_DEFAULT,
            settings: BTreeMap::new(),
            key: None,
            status: b'I',
        })
    }

    /// Changes how long one exchange may take.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// The server settings as last reported by ParameterStatus.
    pub fn settings(&self) -> &BTreeMap<String, String> {
        &self.settings
    }

    /// Transaction status of the last ReadyForQuery: `I`, `T` or `E`.
    pub fn status(&self) -> u8 {
        self.status
    }

    /// Process id from BackendKeyData.
    pub fn process_id(&self) -> Option<u32> {
        self.key.as_ref().map(|(pid, _)| *pid)
    }

    /// Runs a text by the simple protocol; COPY FROM STDIN is answered with CopyFail.
    pub fn simple(&mut self, sql: &str) -> Result<Answer, ClientError> {
        self.simple_copy(sql, None)
    }

    /// Runs a text by the simple protocol, giving `copy` to COPY FROM STDIN.
    pub fn simple_copy(&mut self, sql: &str, copy: Option<&[u8]>) -> Result<Answer, ClientError> {
        self.exchange(Pipeline::new().query(sql), copy, false)
    }

    /// Parse, Describe statement, Bind, Describe portal, Execute, Sync.
    ///
    /// With a row limit, Execute is repeated (each followed by Flush) until the portal is done.
    pub fn extended(&mut self, run: &Extended<'_>) -> Result<Answer, ClientError> {
        let head = Pipeline::new()
            .parse("", run.sql, run.types)
            .describe_statement("")
            .bind("", "", run.parameters, run.result)
            .describe_portal("");
        if run.row_limit == 0 {
            return self.exchange(head.execute("", 0).sync(), run.copy, true);
        }
        self.send(head.execute("", run.row_limit).flush().bytes())?;
        self.collect_portal(run)
    }

    /// Types of a statement's parameters, found by Parse and Describe; or the server's error.
    pub fn parameter_types(&mut self, sql: &str, types: &[u32]) -> Result<Answer, ClientError> {
        self.exchange(
            Pipeline::new()
                .parse("", sql, types)
                .describe_statement("")
                .sync(),
            None,
            true,
        )
    }

    /// Sends queued messages and reads until every Query and Sync among them has been answered.
    pub fn run(&mut self, pipeline: Pipeline) -> Result<Answer, ClientError> {
        self.exchange(pipeline, None, true)
    }

    /// Sends raw bytes, whatever they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let deadline = Instant::now() + self.timeout;
        self.stream.write_until(bytes, deadline)
    }

    /// Reads until `readies` ReadyForQuery have arrived.
    pub fn collect(&mut self, readies: usize) -> Result<Answer, ClientError> {
        let deadline = Instant::now() + self.timeout;
        let mut reading = Reading::default();
        while reading.answer.ready.len() < readies {
            self.step(&mut reading, deadline)?;
        }
        Ok(reading.answer)
    }

    /// Reads the next message.
    pub fn next_message(&mut self) -> Result<Message, ClientError> {
        let deadline = Instant::now() + self.timeout;
        self.read(deadline).map(|(_, message)| message)
    }

    /// Waits up to `patience` for one notification; other asynchronous messages are passed over.
    pub fn wait_notification(&mut self, patience: Duration) -> Result<Option<(String, String)>, ClientError> {
        let deadline = Instant::now() + patience;
        loop {
            match self.read(deadline) {
                Ok((_, Message::Notification(_, channel, payload))) => return Ok(Some((channel, payload))),
                Ok(_) => {}
                Err(ClientError::Timeout) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks, over a connection of its own, to cancel what this connection runs.
    pub fn cancel(&self) -> Result<(), ClientError> {
        self.canceller()?.cancel()
    }

    /// The same by way of another server's address, as behind a load balancer.
    pub fn cancel_through(&self, url: &str) -> Result<(), ClientError> {
        let mut canceller = self.canceller()?;
        canceller.target = Target::parse(url)?;
        canceller.cancel()
    }

    /// What cancels this connection's statements from another thread.
    pub fn canceller(&self) -> Result<Canceller, ClientError> {
        let Some((pid, secret)) = &self.key else {
            return Err(ClientError::Authentication(
                "the server gave no cancel key".into(),
            ));
        };
        let mut body = [80_877_102u32.to_be_bytes(), pid.to_be_bytes()].concat();
        body.extend(secret);
        let mut packet = ((body.len() + 4) as u32).to_be_bytes().to_vec();
        packet.extend(body);
        Ok(Canceller {
            target: self.target.clone(),
            packet,
            timeout: self.timeout,
        })
    }

    /// Says Terminate and closes.
    pub fn close(mut self) {
        let _ = self.send(&[b'X', 0, 0, 0, 4]);
    }

    /// Cuts the connection without a word.
    pub fn kill(self) {
        self.stream.cut();
    }

    fn exchange(
        &mut self,
        pipeline: Pipeline,
        copy: Option<&[u8]>,
        extended: bool,
    ) -> Result<Answer, ClientError> {
        self.send(pipeline.bytes())?;
        let deadline = Instant::now() + self.timeout;
        let mut reading = Reading::default();
        while reading.answer.ready.len() < pipeline.readies() {
            if self.step(&mut reading, deadline)? == Some(b'G') {
                self.give_copy(copy, extended)?;
            }
        }
        Ok(reading.answer)
    }

    /// The portal loop: Execute again after every suspension, Sync at the end.
    fn collect_portal(&mut self, run: &Extended<'_>) -> Result<Answer, ClientError> {
        let deadline = Instant::now() + self.timeout;
        let mut reading = Reading::default();
        let mut synced = false;
        while reading.answer.ready.is_empty() {
            match self.step(&mut reading, deadline)? {
                Some(b's') => self.send(Pipeline::new().execute("", run.row_limit).flush().bytes())?,
                Some(b'G') => {
                    let data = Pipeline::new();
                    let data = match run.copy {
                        Some(bytes) => data.copy(bytes),
                        None => data.copy_fail("no data"),
                    };
                    self.send(data.flush().bytes())?;
                }
                Some(b'C' | b'E' | b'I') if !synced => {
                    synced = true;
                    self.send(Pipeline::new().sync().bytes())?;
                }
                _ => {}
            }
        }
        Ok(reading.answer)
    }

    fn give_copy(&mut self, copy: Option<&[u8]>, extended: bool) -> Result<(), ClientError> {
        let data = match copy {
            Some(bytes) => Pipeline::new().copy(bytes),
            None => Pipeline::new().copy_fail("no data"),
        };
        // While it copies, a server ignores Sync: the one sent with Execute is gone and another is due.
        let data = if extended { data.sync() } else { data };
        self.send(data.bytes())
    }

    /// Takes one message into the answer; returns its tag when the caller may have to react.
    fn step(&mut self, reading: &mut Reading, deadline: Instant) -> Result<Option<u8>, ClientError> {
        let (tag, message) = self.read(deadline).map_err(|error| reading.explain(error))?;
        if let Message::ReadyForQuery(status) = message {
            self.status = status;
        }
        if let Message::ParameterStatus(name, value) = &message {
            self.settings.insert(name.clone(), value.clone());
        }
        reading.answer.absorb(tag, message, &mut reading.open);
        Ok(matches!(tag, b'G' | b's' | b'C' | b'E' | b'I').then_some(tag))
    }

    fn read(&mut self, deadline: Instant) -> Result<(u8, Message), ClientError> {
        loop {
            let unread = &self.buffer[self.consumed..];
            if let [tag, a, b, c, d, ..] = *unread {
                let len = u32::from_be_bytes([a, b, c, d]) as usize;
                if !(4..=MESSAGE_LEN_MAX).contains(&len) {
                    return Err(ClientError::Length(tag, len));
                }
                if let Some(body) = unread.get(5..1 + len) {
                    let body = body.to_vec();
                    self.consumed += 1 + len;
                    return Ok((tag, Message::decode(tag, body)?));
                }
            }
            self.fill(deadline)?;
        }
    }

    fn fill(&mut self, deadline: Instant) -> Result<(), ClientError> {
        self.buffer.drain(..self.consumed);
        self.consumed = 0;
        let start = self.buffer.len();
        self.buffer.resize(start + 65_536, 0);
        let result = self.stream.read_until(&mut self.buffer[start..], deadline);
        self.buffer.truncate(start + *result.as_ref().unwrap_or(&0));
        if result? == 0 {
            Err(ClientError::Closed(None))
        } else {
            Ok(())
        }
    }

    fn login(&mut self) -> Result<(), ClientError> {
        let packet = startup_packet(&self.target);
        self.send(&packet)?;
        let deadline = Instant::now() + self.timeout;
        let mut scram = None;
        loop {
            match self.read(deadline)?.1 {
                Message::Authentication(code, data) => self.authenticate(code, &data, &mut scram)?,
                Message::ParameterStatus(name, value) => {
                    self.settings.insert(name, value);
                }
                Message::BackendKeyData(pid, secret) => self.key = Some((pid, secret)),
                Message::ReadyForQuery(status) => {
                    self.status = status;
                    return Ok(());
                }
                Message::Error(error) => return Err(ClientError::Refused(Box::new(error))),
                _ => {}
            }
        }
    }

    fn authenticate(&mut self, code: u32, data: &[u8], scram: &mut Option<Scram>) -> Result<(), ClientError> {
        let fail = |text: &str| ClientError::Authentication(text.to_string());
        let text = || String::from_utf8_lossy(data).into_owned();
        let password = self.target.password.clone().unwrap_or_default();
        match code {
            0 => Ok(()),
            3 => self.send_password(|body| body.extend([password.as_bytes(), &[0]].concat())),
            10 => {
                if !text().split('\0').any(|name| name == "SCRAM-SHA-256") {
                    return Err(fail("the server offers no SCRAM-SHA-256"));
                }
                let machine = scram.insert(Scram::new(&password, &nonce()));
                let first = machine.first();
                self.send_password(|body| {
                    body.extend(b"SCRAM-SHA-256\0");
                    body.extend((first.len() as u32).to_be_bytes());
                    body.extend(first.as_bytes());
                })
            }
            11 => {
                let machine = scram
                    .as_mut()
                    .ok_or_else(|| fail("SCRAM data before SCRAM began"))?;
                let answer = machine
                    .answer(&text())
                    .ok_or_else(|| fail("bad SCRAM challenge"))?;
                self.send_password(|body| body.extend(answer.as_bytes()))
            }
            12 if scram.as_ref().is_some_and(|machine| machine.verify(&text())) => Ok(()),
            12 => Err(fail("the server does not know the password")),
            other => Err(fail(&format!("method {other} is not supported"))),
        }
    }

    fn send_password(&mut self, body: impl FnOnce(&mut Vec<u8>)) -> Result<(), ClientError> {
        self.send(Pipeline::new().message(b'p', body).bytes())
    }
}

/// The StartupMessage for a target.
pub fn startup_packet(target: &Target) -> Vec<u8> {
    let mut body = 196_608u32.to_be_bytes().to_vec();
    let fixed = [("user", &target.user), ("database", &target.database)];
    let options = target.options.iter().map(|(name, value)| (name.as_str(), value));
    for (name, value) in fixed.into_iter().chain(options) {
        body.extend([name.as_bytes(), &[0], value.as_bytes(), &[0]].concat());
    }
    body.push(0);
    let mut packet = ((body.len() + 4) as u32).to_be_bytes().to_vec();
    packet.extend(body);
    packet
}

/// What one exchange has read so far.
#[derive(Default)]
struct Reading {
    answer: Answer,
    open: bool,
}

impl Reading {
    /// Gives a closed connection the last error the server sent.
    fn explain(&mut self, error: ClientError) -> ClientError {
        match error {
            ClientError::Closed(_) => ClientError::Closed(self.answer.errors.pop().map(Box::new)),
            other => other,
        }
    }
}

/// Text that does not repeat within a test run; nothing here guards a secret worth more than that.
fn nonce() -> String {
    let mut bytes = [0u8; 18];
    let random = ring::rand::SystemRandom::new();
    if ring::rand::SecureRandom::fill(&random, &mut bytes).is_err() {
        return format!("nonce{}", std::process::id());
    }
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD_NO_PAD, bytes)
}
