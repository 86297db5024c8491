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
use crate::worker::{Session, SessionFuture, SessionHandler, Shared, StopReason};
pub use command::Shutdown;
use command::{Command, SETTINGS, Show};
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
    fn run(self: Rc<Self>, session: Session) -> SessionFuture {
        Box::pin(async move {
            let counted = Counted::new(&session.ctx.shared);
            // A broken socket ends the session; nobody is left to be told.
            let _ = Talk::new(session).run().await;
            drop(counted);
        })
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
}

impl Talk {
    fn new(session: Session) -> Self {
        let admin = is_admin(&session.ctx.shared.config.console, &session.info.user);
        Self {
            session,
            admin,
            skipping: false,
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
                    self.message(frame.tag, body).await;
                    continue;
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

    async fn message(&mut self, kind: u8, body: &[u8]) {
        match kind {
            tag::QUERY if !self.skipping => {
                let text = body.strip_suffix(b"\0").unwrap_or(body);
                let result = match std::str::from_utf8(text) {
                    Ok(text) => self.query(text).await,
                    Err(_) => Err(Failed::new("22021", "a command is UTF-8 text")),
                };
                if let Err(failed) = result {
                    self.say_error(&failed);
                }
                self.ready();
            }
            tag::SYNC => {
                self.skipping = false;
                self.ready();
            }
            tag::PARSE | tag::BIND | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE if !self.skipping => {
                self.skipping = true;
                let text = "the admin console does not know the extended query protocol; use simple queries";
                self.say_error(&Failed::new("0A000", text));
            }
            // What is passed over, and Flush: everything is sent anyway.
            _ => {}
        }
    }

    async fn query(&mut self, text: &str) -> Result<(), Failed> {
        let command = command::parse(text).map_err(|message| Failed::new("42601", message))?;
        let looks = matches!(command, Command::Nothing | Command::Show(_))
            || matches!(&command, Command::Set { key, .. } if is_setting(key));
        if !looks && !self.admin {
            return Err(Failed::new("42501", "admin access needed"));
        }
        match command {
            Command::Nothing => encode::empty_query(self.session.client.conn.out()),
            Command::Show(Show::Help) => {
                let mut notice = ErrorFields::error("00000", "Console usage");
                notice.detail = Some(show::help());
                "NOTICE".clone_into(&mut notice.severity);
                encode::notice(self.session.client.conn.out(), &notice);
                self.done("SHOW");
            }
            Command::Show(what) => {
                let table = show::table(&self.session.ctx.shared, &what).await?;
                self.answer(&table, if what == Show::One { "SELECT 1" } else { "SHOW" });
            }
            Command::Set { key, .. } if is_setting(&key) => self.done("SET"),
            command => {
                let tag = act::run(&self.session.ctx.shared, command).await?;
                self.done(tag);
            }
        }
        Ok(())
    }

    fn answer(&mut self, table: &Table, tag: &str) {
        table.encode(self.session.client.conn.out());
        self.done(tag);
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

fn is_setting(key: &str) -> bool {
    SETTINGS.iter().any(|(name, _)| *name == key)
}
