//! Proving who the client is.
//!
//! First the rule: which method is asked of this client. Then the user: configured, or looked up. Then the exchange of
//! the method; it runs for users that do not exist too, and ends the same way as with a wrong password. What is
//! compared at the cost of hash rounds is compared off the worker's thread.

mod names;

use std::sync::Arc;

use bytes::BytesMut;
use wire::backend::encode;
use wire::frontend::SaslInitial;
use wire::scram::{self, ScramError, Verifier};

use super::{LoginEnd, PeerIdentity, refused};
use crate::auth::hba::{ClientCert, Request};
use crate::auth::{Access, Checked, Method, Source, User};
use crate::cancel::random;
use crate::client::StartupInfo;
use crate::conn::Conn;
use crate::worker::WorkerCtx;

/// Longest message of a client that is logging in, in bytes, its header included.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// A login under way.
struct Attempt<'a> {
    conn: &'a mut Conn,
    ctx: &'a WorkerCtx,
    info: &'a StartupInfo,
    peer: &'a PeerIdentity,
    access: Arc<Access>,
    /// `None`: there is no such user.
    user: Option<Arc<User>>,
}

/// Lets the client prove that it is who it says.
pub(super) async fn authenticate(
    conn: &mut Conn,
    info: &StartupInfo,
    peer: &PeerIdentity,
    ctx: &WorkerCtx,
) -> Result<(), LoginEnd> {
    let secrets = &ctx.shared.secrets;
    let access = secrets.access();
    let request = Request {
        database: &info.database,
        user: &info.user,
        ip: peer.ip(),
        tls: peer.tls,
    };
    let demand = access
        .demand(&request)
        .map_err(|_| no_entry("no pg_hba.conf entry for", info, peer))?;
    if demand.method == Method::Reject {
        return Err(no_entry("pg_hba.conf rejects connection for", info, peer));
    }
    if demand.client_cert != ClientCert::None
        && peer.certificate_cn.is_none()
        && peer.certificate_dn.is_none()
    {
        return Err(refused("28000", "connection requires a valid client certificate"));
    }
    let user = look_up(ctx, &access, &info.user).await?;
    let mut attempt = Attempt {
        conn,
        ctx,
        info,
        peer,
        access,
        user,
    };
    if demand.client_cert == ClientCert::ForUser
        && !names::certificate_is_for(&attempt.access, peer, &demand, &info.user)
    {
        return Err(attempt.failed_by("certificate authentication failed"));
    }
    match demand.method {
        Method::Trust | Method::Cert => attempt.known(),
        Method::Peer => {
            if names::peer_is(&attempt.access, peer, &demand, &info.user).await {
                attempt.known()
            } else {
                Err(attempt.failed_by("Peer authentication failed"))
            }
        }
        _ if attempt.user.as_ref().is_some_and(|user| user.is_trusted()) => Ok(()),
        Method::Password => attempt.password().await,
        Method::Md5 if attempt.answers_md5() => attempt.md5().await,
        _ => attempt.scram().await,
    }
}

/// The user, wherever it is known. That nobody can be asked is told to clients without a reason.
async fn look_up(ctx: &WorkerCtx, access: &Access, name: &str) -> Result<Option<Arc<User>>, LoginEnd> {
    let shared = &ctx.shared;
    match shared.secrets.user(access, name, &shared.reach()).await {
        Ok((user, source)) => {
            match source {
                Source::Configured => {}
                Source::Cached => ctx.metrics.auth_query_hits.increment(),
                Source::Asked => ctx.metrics.auth_queries.increment(),
            }
            Ok(user)
        }
        Err(error) => {
            ctx.metrics.auth_queries.increment();
            ctx.metrics.auth_queries_failed.increment();
            tracing::debug!(user = name, "{error}");
            Err(refused("57P03", "cannot look up users now"))
        }
    }
}

impl Attempt<'_> {
    /// The method has vouched for the name; it must also be a user.
    fn known(&self) -> Result<(), LoginEnd> {
        match self.user {
            Some(_) => Ok(()),
            None => Err(refused(
                "28000",
                format!("role \"{}\" does not exist", self.info.user),
            )),
        }
    }

    /// Under the method `md5`: whether it is that exchange, or SCRAM because the stored form allows nothing else.
    fn answers_md5(&self) -> bool {
        match &self.user {
            Some(user) => user.knows_md5(),
            None => self.access.mocks_md5(),
        }
    }

    async fn password(&mut self) -> Result<(), LoginEnd> {
        encode::authentication_cleartext(self.conn.out());
        let message = answer(self.conn, "password").await?;
        let given = wire::frontend::password(body(&message)).map_err(|_| malformed("password"))?;
        if given.is_empty() {
            return Err(refused("28P01", "empty password returned by client"));
        }
        if let Checked::Right(keys) = self.compare(given).await? {
            return self.learn(keys).await;
        }
        // The password may have been changed since the user was looked up: here that can be found out at once.
        if self.doubted() {
            self.user = look_up(self.ctx, &self.access, &self.info.user).await?;
            if let Checked::Right(keys) = self.compare(given).await? {
                return self.learn(keys).await;
            }
        }
        Err(self.wrong_password())
    }

    async fn compare(&self, password: &[u8]) -> Result<Checked, LoginEnd> {
        let mock = self.ctx.shared.secrets.mock(&self.info.user);
        let (user, password) = (self.user.clone(), password.to_vec());
        off_thread(move || match user {
            Some(user) => user.check(&password, &mock),
            None => crate::auth::check_nobody(&password, &mock),
        })
        .await
    }

    async fn md5(&mut self) -> Result<(), LoginEnd> {
        let salt = random::<4>().map_err(|_| no_randomness())?;
        encode::authentication_md5(self.conn.out(), salt);
        let message = answer(self.conn, "password").await?;
        let given = wire::frontend::password(body(&message)).map_err(|_| malformed("password"))?;
        let fits = |user: &Option<Arc<User>>| user.as_ref().is_some_and(|user| user.answers_md5(salt, given));
        if fits(&self.user) {
            return self.learn(None).await;
        }
        if self.doubted() {
            self.user = look_up(self.ctx, &self.access, &self.info.user).await?;
            if fits(&self.user) {
                return self.learn(None).await;
            }
        }
        Err(self.wrong_password())
    }

    async fn scram(&mut self) -> Result<(), LoginEnd> {
        let verifier = self.verifier().await?;
        let nonce = random::<{ scram::NONCE_LEN }>().map_err(|_| no_randomness())?;
        let server = scram::Server::new(verifier, &scram::nonce(&nonce))
            .map_err(scram_refused)?
            .with_channel_binding(self.peer.channel_binding.as_deref());

        let _ = encode::authentication_sasl(self.conn.out(), server.mechanisms());
        let message = answer(self.conn, "SASL").await?;
        let initial = SaslInitial::decode(body(&message)).map_err(|_| malformed("SCRAM"))?;
        if !server.mechanisms().contains(&initial.mechanism) {
            return Err(refused(
                "08P01",
                "client selected an invalid SASL authentication mechanism",
            ));
        }
        let (challenge, first) = server
            .first(initial.mechanism, initial.response.unwrap_or_default())
            .map_err(scram_refused)?;

        let _ = encode::authentication_sasl_continue(self.conn.out(), &first);
        let message = answer(self.conn, "SASL").await?;
        let accepted = match challenge.proof(body(&message)) {
            Ok(accepted) => accepted,
            Err(ScramError::WrongProof) => {
                // The exchange is bound to the verifier it began with; the next login gets a fresh one.
                self.doubted();
                return Err(self.wrong_password());
            }
            Err(other) => return Err(scram_refused(other)),
        };
        self.learn(Some(accepted.keys)).await?;
        let _ = encode::authentication_sasl_final(self.conn.out(), &accepted.message);
        Ok(())
    }

    /// What the client's proof is checked against; where no proof can be right, something that looks the same.
    async fn verifier(&self) -> Result<Verifier, LoginEnd> {
        // Some hash rounds, so only where it is needed.
        let mock = || self.ctx.shared.secrets.mock(&self.info.user);
        let Some(user) = &self.user else {
            return Ok(mock());
        };
        if user.is_md5() {
            tracing::warn!(
                user = &*self.info.user,
                "SCRAM is asked of a user whose stored password is md5: it cannot log in"
            );
        }
        if let Some(verifier) = user.verifier() {
            return Ok(verifier.clone());
        }
        let (user, mock) = (Arc::clone(user), mock());
        off_thread(move || user.derive(mock.salt()).cloned().unwrap_or(mock)).await
    }

    /// Remembers what the servers will want to see.
    async fn learn(&self, keys: Option<scram::Keys>) -> Result<(), LoginEnd> {
        let Some(user) = &self.user else {
            return Ok(());
        };
        let shared = &self.ctx.shared;
        let learnt = shared
            .secrets
            .learn(&self.access, user, keys, &shared.reach())
            .await;
        learnt.map_err(|found| {
            self.ctx.metrics.auth_disagreements.increment();
            refused(
                "28000",
                format!("user \"{}\" cannot be passed through: {found}", self.info.user),
            )
        })
    }

    /// A password was wrong: true if the user was looked up so long ago that it is looked up again.
    fn doubted(&self) -> bool {
        self.user.is_some() && self.ctx.shared.secrets.doubt(&self.info.user)
    }

    /// A wrong password, no password and no such user look the same.
    fn wrong_password(&self) -> LoginEnd {
        let reason = match &self.user {
            None => "there is no such user",
            Some(_) => "the password does not fit",
        };
        tracing::info!(user = &*self.info.user, peer = %self.info.peer, reason, "login failed");
        refused(
            "28P01",
            format!("password authentication failed for user \"{}\"", self.info.user),
        )
    }

    fn failed_by(&self, what: &str) -> LoginEnd {
        tracing::info!(user = &*self.info.user, peer = %self.info.peer, "{what}");
        refused("28000", format!("{what} for user \"{}\"", self.info.user))
    }
}

/// Runs what takes hash rounds where it delays nobody else.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LoginEnd> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| refused("XX000", "the password cannot be checked now"))
}

/// Sends what is pending and reads the client's next message, which must be an answer to an authentication request.
async fn answer(conn: &mut Conn, what: &str) -> Result<BytesMut, LoginEnd> {
    conn.flush().await?;
    let frame = conn.fill_message(MESSAGE_BYTES_MAX).await?;
    let message = conn.take(frame.len);
    match frame.tag {
        b'p' => Ok(message),
        // A client that goes away instead of answering: nobody is left to be told.
        b'X' => Err(LoginEnd::Closed),
        tag => Err(refused(
            "08P01",
            format!("expected {what} response, got message type {tag}"),
        )),
    }
}

fn body(message: &[u8]) -> &[u8] {
    message.get(wire::frame::HEADER_LEN..).unwrap_or_default()
}

fn malformed(what: &str) -> LoginEnd {
    refused("08P01", format!("malformed {what} message"))
}

fn no_randomness() -> LoginEnd {
    refused("XX000", "no randomness for a login")
}

fn scram_refused(error: ScramError) -> LoginEnd {
    refused(error.sqlstate(), error.to_string())
}

/// PostgreSQL's words for a client that no rule lets in.
fn no_entry(what: &str, info: &StartupInfo, peer: &PeerIdentity) -> LoginEnd {
    let encryption = match peer.tls {
        true => "SSL encryption",
        false => "no encryption",
    };
    let (user, database) = (&info.user, &info.database);
    refused(
        "28000",
        format!("{what} host \"{peer}\", user \"{user}\", database \"{database}\", {encryption}"),
    )
}

#[cfg(test)]
mod tests;
