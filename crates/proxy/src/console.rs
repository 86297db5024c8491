//! The admin console: a database that is the proxy itself.
//!
//! A client of the database `drover` (or `pgbouncer`) talks to this module instead of a server. It speaks PgBouncer's
//! console language with PgBouncer's columns, so that exporters, dashboards and habits go on working; columns of our
//! own come after PgBouncer's. The design, and what differs, is docs/decisions/0014.
//!
//! Every question is answered from what the workers report at that moment; nothing here is on the path of ordinary
//! clients.

mod act;
mod command;
mod extended;
mod options;
mod show;
mod table;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use wire::TransactionStatus;
use wire::backend::{ErrorFields, encode};
use wire::frontend::tag;

use crate::client::Filled;
use crate::config::ConsoleConfig;
use crate::worker::{Guard, Session, SessionHandler, Shared, StopReason};
pub use command::Shutdown;
use command::{Command, SETTINGS, Show};
use extended::Prepared;
pub(crate) use show::{PERIOD, Periods};
use table::Table;

/// Longest message of a console client, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// The version of PgBouncer whose console this one follows. Readers look for it in SHOW VERSION and in
/// `server_version`.
const FOLLOWS: &str = "1.25.2";

/// Whether a user may use the console at all.
pub(crate) fn may_enter(config: &ConsoleConfig, user: &str) -> bool {
    is_admin(config, user) || config.stats_users.iter().any(|name| name == user)
}

fn is_admin(config: &ConsoleConfig, user: &str) -> bool {
    config.admin_users.iter().any(|name| name == user)
}

/// Serves console clients.
pub(crate) struct Console;

impl SessionHandler for Console {
    fn run(self: Rc<Self>, session: Session, guard: Guard) {
        guard.spawn(async move {
            let counted = Counted::new(&session.ctx.shared);
            // A broken socket ends the session; nobody is left to be told.
            let _ = Talk::new(session).run().await;
            drop(counted);
        });
    }
}

/// Counts a console session as long as it lives.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.consoles.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.consoles.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a command failed, for the client.
#[derive(Debug)]
struct Failed {
    code: &'static str,
    message: String,
}

impl Failed {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// One console session.
struct Talk {
    session: Session,
    admin: bool,
    /// An error in the extended protocol: everything up to Sync is passed over.
    skipping: bool,
    /// What Parse and Bind have made.
    prepared: Prepared,
}

/// What a command comes to.
enum Outcome {
    /// The text was empty.
    Empty,
    /// How to use the console.
    Help,
    /// Rows, and the command's tag.
    Table(Table, &'static str),
    /// It was done; the command's tag.
    Done(&'static str),
}

/// What becomes of the session after a message.
enum Next {
    Continue,
    /// The client broke the protocol: it is told so and the connection is closed.
    Violation(String),
}

impl Talk {
    fn new(session: Session) -> Self {
        let admin = is_admin(&session.ctx.shared.policies.source().console, &session.info.user);
        Self {
            session,
            admin,
            skipping: false,
            prepared: Prepared::default(),
        }
    }

    async fn run(mut self) -> io::Result<()> {
        let version = format!("{FOLLOWS}/drover");
        let parameters = [
            ("server_version", version.as_str()),
            ("client_encoding", "UTF8"),
            ("server_encoding", "UTF8"),
            ("DateStyle", "ISO"),
            ("TimeZone", "GMT"),
            ("standard_conforming_strings", "on"),
            ("is_superuser", "on"),
        ];
        let (client, key) = (&mut self.session.client, &self.session.cancel.key);
        crate::login::finish(client.conn.out(), parameters.into_iter(), key);
        loop {
            self.session.client.conn.flush().await?;
            match self.session.client.conn.peek(MESSAGE_BYTES_MAX) {
                Ok(Some(frame)) if self.session.client.conn.unread().len() >= frame.len => {
                    let message = self.session.client.conn.take(frame.len);
                    let body = message.get(wire::frame::HEADER_LEN..).unwrap_or_default();
                    if frame.tag == tag::TERMINATE {
                        return Ok(());
                    }
                    match self.message(frame.tag, body).await {
                        Next::Continue => continue,
                        Next::Violation(text) => return self.end("08P01", &text).await,
                    }
                }
                Ok(_) => {}
                Err(_) => return self.end("08P01", "invalid message length").await,
            }
            match self.session.client.fill_or_stop().await? {
                Filled::Bytes(_) => {}
                Filled::Closed => return Ok(()),
                Filled::Stop(StopReason::None) => {}
                Filled::Stop(_) => {
                    return self
                        .end("57P01", "terminating connection due to administrator command")
                        .await;
                }
            }
        }
    }

    async fn end(&mut self, code: &str, message: &str) -> io::Result<()> {
        encode::error(self.session.client.conn.out(), &ErrorFields::fatal(code, message));
        self.session.client.conn.flush().await
    }

    async fn message(&mut self, kind: u8, body: &[u8]) -> Next {
        match kind {
            tag::SYNC => {
                self.skipping = false;
                self.prepared.end_portals();
                self.ready();
            }
            tag::QUERY | tag::FUNCTION_CALL if self.skipping => {}
            tag::QUERY => {
                let text = body.strip_suffix(b"\0").unwrap_or(body);
                if let Err(failed) = self.query(text).await {
                    self.say_error(&failed);
                }
                self.prepared.end_portals();
                self.ready();
            }
            tag::FUNCTION_CALL => {
                self.say_error(&Failed::new("0A000", "the admin console has no functions"));
                self.ready();
            }
            tag::PARSE | tag::BIND | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE => {
                if !self.skipping
                    && let Err(failed) = self.extended(kind, body).await
                {
                    self.skipping = true;
                    self.say_error(&failed);
                }
            }
            // Everything is sent anyway. COPY messages outside of COPY are passed over, as PostgreSQL does.
            tag::FLUSH | tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => {}
            other => return Next::Violation(format!("invalid frontend message type {other}")),
        }
        Next::Continue
    }

    async fn query(&mut self, text: &[u8]) -> Result<(), Failed> {
        let outcome = self.run_command(read(text)?).await?;
        match outcome {
            Outcome::Table(table, tag) => {
                table.encode(self.session.client.conn.out());
                self.done(tag);
            }
            other => self.say_done(&other),
        }
        Ok(())
    }

    /// Does what a command asks for, if this user may.
    async fn run_command(&self, command: Command) -> Result<Outcome, Failed> {
        let looks = matches!(command, Command::Nothing | Command::Show(_))
            || matches!(&command, Command::Set { key, .. } if is_setting(key));
        if !looks && !self.admin {
            return Err(Failed::new("42501", "admin access needed"));
        }
        let shared = &self.session.ctx.shared;
        Ok(match command {
            Command::Nothing => Outcome::Empty,
            Command::Show(Show::Help) => Outcome::Help,
            Command::Show(what) => {
                let tag = if what == Show::One { "SELECT 1" } else { "SHOW" };
                Outcome::Table(show::table(shared, &what).await?, tag)
            }
            Command::Set { key, .. } if is_setting(&key) => Outcome::Done("SET"),
            command => Outcome::Done(act::run(shared, command).await?),
        })
    }

    /// The end of an answer that has no rows.
    fn say_done(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Empty => encode::empty_query(self.session.client.conn.out()),
            Outcome::Help => {
                let mut notice = ErrorFields::error("00000", "Console usage");
                notice.detail = Some(show::help());
                "NOTICE".clone_into(&mut notice.severity);
                encode::notice(self.session.client.conn.out(), &notice);
                self.done("SHOW");
            }
            Outcome::Table(_, tag) | Outcome::Done(tag) => self.done(tag),
        }
    }

    fn done(&mut self, tag: &str) {
        // Tags are short.
        let _ = encode::command_complete(self.session.client.conn.out(), tag.as_bytes());
    }

    fn ready(&mut self) {
        encode::ready_for_query(self.session.client.conn.out(), TransactionStatus::Idle);
    }

    fn say_error(&mut self, failed: &Failed) {
        let fields = ErrorFields::error(failed.code, failed.message.as_str());
        encode::error(self.session.client.conn.out(), &fields);
    }
}

/// A command from its text.
fn read(text: &[u8]) -> Result<Command, Failed> {
    let text = std::str::from_utf8(text).map_err(|_| Failed::new("22021", "a command is UTF-8 text"))?;
    command::parse(text).map_err(|message| Failed::new("42601", message))
}

fn is_setting(key: &str) -> bool {
    SETTINGS.iter().any(|(name, _)| *name == key)
}
