//! The first words of a session, and its last.

use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use wire::TransactionStatus;
use wire::backend::{ErrorFields, encode};

use super::effects::Pins;
use super::enlist::settle;
use super::extended::Statements;
use super::reads::ASK_DEFAULTS;
use super::settings::{Settings, SettingsHistory};
use super::{Fault, Session};
use crate::client::StartupInfo;
use crate::engine::Engine;
use crate::exec::link;
use crate::pools::PoolPolicy;
use crate::server::Parameters;
use crate::spare::Spare;

/// Startup parameters that are not settings.
const NOT_SETTINGS: [&str; 4] = ["user", "database", "options", "replication"];

impl Session {
    /// Greets a client that has proved who it is. On failure the client has been told.
    pub(super) async fn start(engine: Rc<Engine>, login: crate::worker::Session) -> Result<Self, Fault> {
        let crate::worker::Session {
            client,
            info: who,
            cancel,
            admission,
            stop,
            ctx,
            ..
        } = login;
        let (policy, gone) = policy_of(&engine, &who);
        let totals = engine.metrics.totals.of(&who.database, &who.user);
        totals.client_login_count.increment();
        let account = super::observe::Account::new(totals, engine.observer.next_session());
        let named = engine.observer.options().wants_sessions();
        let client_address = named.then(|| who.peer.to_string().into_boxed_str());
        let base = startup_settings(&who);
        let settings = engine.shared_settings(base.as_ref().cloned().unwrap_or_default());
        let watches = &ctx.watches;
        let watch = watches.watch(&policy.timeouts, &stop, &cancel.slot, &ctx.metrics);
        let mut session = Self {
            watch,
            budget: None,
            message_limit: u32::try_from(engine.cluster.limits().max_message_bytes).unwrap_or(u32::MAX),
            unsent: false,
            engine,
            client,
            cancel,
            user: Arc::clone(&policy.server_user),
            database: Arc::clone(&policy.server_database),
            admission,
            mode: policy.mode,
            settings: SettingsHistory::new(settings),
            block: Spare::absent(),
            servers: Vec::new(),
            pools: Vec::new(),
            pinned: Pins::default(),
            sequences: Default::default(),
            observation: Spare::absent(),
            account,
            configs: Spare::absent(),
            listening: None,
            recheck_pins: false,
            pins_lost: false,
            reads: None,
            statements: Statements::default(),
            extended: Spare::absent(),
            sql_prepared: Spare::absent(),
            context: None,
            private_context: None,
            scratch: Spare::absent(),
            message: BytesMut::new(),
            announce_columns: true,
            stop,
            counted: false,
            stated: 0,
            behind: false,
            in_query: false,
            client_address,
        };
        session.set_pinned(Pins::of_mode(policy.mode));
        if let Err(fault) = session.greet_unless(gone.or(base.err()), &who).await {
            if let Fault::Fatal(fields) | Fault::Statement(fields) = &fault {
                session.say_fatal(fields).await;
            }
            return Err(fault);
        }
        session.report_login();
        Ok(session)
    }

    /// Greets, unless the start-up packet is wrong or asks for what there is not.
    async fn greet_unless(&mut self, wrong: Option<Fault>, who: &StartupInfo) -> Result<(), Fault> {
        if let Some(fault) = wrong {
            return Err(fault);
        }
        let replication = who.param("replication");
        if replication.is_some_and(|value| !matches!(value, "false" | "off" | "no" | "0")) {
            return Err(Fault::fatal(
                "0A000",
                "replication connections are not passed through; connect to the server",
            ));
        }
        self.start_own_settings()?;
        self.greet().await
    }

    async fn greet(&mut self) -> Result<(), Fault> {
        let parameters = self.initial_parameters().await?;
        self.start_with_defaults();
        let as_standby = self.is_like_a_standby(&parameters);
        let out = self.client.conn.out();
        for (name, value) in parameters.iter() {
            let value = match name {
                "in_hot_standby" if as_standby => "on",
                _ => value,
            };
            // Neither can be too long: they came in a message.
            let _ = encode::parameter_status(out, name.as_bytes(), value.as_bytes());
        }
        let key = &self.cancel.key;
        let _ = encode::backend_key_data(out, key.pid, key.secret.as_bytes());
        encode::ready_for_query(out, TransactionStatus::Idle);
        Ok(())
    }

    /// A session that reads from replicas and, by default, writes nothing is to its client what a hot standby is: libpq's
    /// `target_session_attrs` goes by that.
    fn is_like_a_standby(&self, parameters: &Parameters) -> bool {
        self.leaves_primary() && parameters.get("default_transaction_read_only") == Some("on")
    }

    /// What a server reports to a session with these settings; asked once per kind of session.
    async fn initial_parameters(&mut self) -> Result<Rc<Parameters>, Fault> {
        let fingerprint = self
            .settings
            .current()
            .difference(&Settings::default())
            .unwrap_or_default();
        if let Some(known) = self.engine.greeting(&self.database, &self.user, &fingerprint) {
            return Ok(known);
        }
        let home = self.engine.cluster.home();
        let index = self.enlist(home).await?;
        let wanted = Rc::clone(self.settings.current());
        settle(&mut self.servers[index].lease, &wanted).await?;
        let parameters = self.servers[index].lease.parameters.clone();
        let asked = link::query(&mut self.servers[index].lease, ASK_DEFAULTS).await;
        let rows = asked
            .map_err(|error| Fault::lost(&error, "the home shard"))?
            .into_rows()
            .map_err(Fault::Statement)?;
        let defaults = Self::read_defaults(rows.first());
        self.engine
            .keep_own_defaults(&self.database, &self.user, defaults);
        self.release_servers();
        self.pools.clear();
        Ok(self
            .engine
            .keep_greeting(&self.database, &self.user, fingerprint, parameters))
    }

    /// Tells the client why its session ends.
    pub(super) async fn say_fatal(&mut self, fields: &ErrorFields) {
        self.observe_error(fields);
        let mut fields = fields.clone();
        "FATAL".clone_into(&mut fields.severity);
        encode::error(self.client.conn.out(), &fields);
        let _ = self.client.conn.flush().await;
    }
}

/// What holds for a client, and why it cannot be served all the same: a reload may have removed its database since its
/// login began, or the database was made on the servers since the last reload.
fn policy_of(engine: &Engine, who: &StartupInfo) -> (PoolPolicy, Option<Fault>) {
    let policies = &engine.shared.policies;
    match policies.resolve(&who.user, &who.database) {
        Some(policy) if engine.cluster.serves(&policy.server_database) => (policy, None),
        resolved => {
            let policy = resolved.unwrap_or_else(|| policies.resolve_or_general(&who.user, &who.database));
            let message = format!("database \"{}\" does not exist", who.database);
            (policy, Some(Fault::fatal("3D000", message)))
        }
    }
}

/// The settings a startup packet asks for.
fn startup_settings(who: &StartupInfo) -> Result<Settings, Fault> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    if let Some(options) = who.param("options") {
        pairs.extend(parse_options(options)?);
    }
    for (name, value) in &who.params {
        if !NOT_SETTINGS.contains(&name.as_str()) && !name.starts_with("_pq_.") {
            pairs.push((name.clone(), value.clone()));
        }
    }
    Ok(Settings::from_startup(
        pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())),
    ))
}

/// `-c name=value` and `--name=value`, with backslash-escaped blanks, as `PGOPTIONS` has them.
fn parse_options(options: &str) -> Result<Vec<(String, String)>, Fault> {
    let mut pairs = Vec::new();
    let mut words = split_words(options).into_iter();
    while let Some(word) = words.next() {
        let assignment = if word == "-c" {
            words.next()
        } else {
            word.strip_prefix("-c")
                .or_else(|| word.strip_prefix("--"))
                .map(str::to_owned)
        };
        let pair = assignment
            .as_deref()
            .and_then(|assignment| assignment.split_once('='));
        let Some((name, value)) = pair else {
            return Err(Fault::fatal(
                "42601",
                format!("invalid command-line argument for server process: {word}"),
            ));
        };
        pairs.push((name.trim().replace('-', "_"), value.to_owned()));
    }
    Ok(pairs)
}

fn split_words(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.get_or_insert_default().extend(characters.next()),
            blank if blank.is_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_the_server_reads_them() {
        let pairs =
            parse_options(r"-c search_path=a,b --work-mem=1MB -ctimezone=Etc/UTC -c x.y=a\ b").unwrap();
        let expected = [
            ("search_path", "a,b"),
            ("work_mem", "1MB"),
            ("timezone", "Etc/UTC"),
            ("x.y", "a b"),
        ];
        assert_eq!(
            pairs,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert!(parse_options("-c nonsense").is_err());
    }
}
