//! `set_config`: a setting made by a function call follows the session like one made by SET.
//!
//! What a call sets is read from the server afterwards, outside of any transaction, so that what was local or rolled back
//! is not taken for the session's. If some call's name is a parameter or computed the session is pinned, because a setting
//! nobody knows cannot follow.

use std::rc::Rc;

use super::effects::PinReason;
use super::settings::is_own;
use super::{Fault, Session};
use crate::exec::link;
use crate::server::Applied;
use crate::spare::{Blank, Spare};

/// Names looked at together; more than that pins the session.
const NAMES_MAX: usize = 100;

/// Calls of `set_config`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigCalls {
    /// There are any.
    any: bool,
    /// Some call has a name that is not a constant.
    computed: bool,
    names: Vec<String>,
}

impl Blank for ConfigCalls {
    const BLANK: &'static Self = &Self {
        any: false,
        computed: false,
        names: Vec::new(),
    };

    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

impl ConfigCalls {
    /// Those of a text.
    pub fn of(text: &str) -> Self {
        let names = sql::set_config_names(text);
        Self {
            any: true,
            computed: names.is_none(),
            names: names.unwrap_or_default(),
        }
    }

    /// The constant names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Some call has a name that is not a constant.
    pub fn is_computed(&self) -> bool {
        self.computed
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        !self.any
    }

    /// These too.
    pub fn add(&mut self, more: &Self) {
        self.any |= more.any;
        self.computed |= more.computed;
        for name in &more.names {
            if self.names.len() <= NAMES_MAX && !self.names.contains(name) {
                self.names.push(name.clone());
            }
        }
    }
}

impl Session {
    /// Remembers what a statement sets. What is said between Drover and the shards is not for clients to say.
    pub(super) fn add_configs(&mut self, calls: &ConfigCalls) -> Result<(), Fault> {
        let inner = |name: &&str| name.to_ascii_lowercase().starts_with("drover_internal.");
        if let Some(name) = calls.names().find(inner) {
            let text = format!("permission denied to set parameter \"{name}\"");
            return Err(Fault::error("42501", text));
        }
        self.configs.add(calls);
        Ok(())
    }

    /// Outside of a block: takes over what `set_config` set on this server.
    pub(super) async fn follow_configs(&mut self, index: usize) -> Result<(), Fault> {
        let configs = std::mem::take(&mut self.configs);
        let is_home = self.servers[index].shard == self.engine.cluster.home();
        let literals: Vec<String> = configs
            .names
            .iter()
            .map(|name| sql::quote_literal(name))
            .collect();
        let question = format!(
            "SELECT pg_catalog.lower(n), pg_catalog.current_setting(n, true), \
             (SELECT source <> 'session' FROM pg_catalog.pg_settings WHERE pg_catalog.lower(name) = pg_catalog.lower(n)) \
             FROM pg_catalog.unnest(ARRAY[{}]::pg_catalog.text[]) n",
            literals.join(", ")
        );
        let name = self.shard_name(self.servers[index].shard);
        let server = &mut self.servers[index].lease;
        let reply = link::query(server, &question)
            .await
            .map_err(|error| Fault::lost(&error, &name))?;
        let rows = reply.into_rows().map_err(Fault::Statement)?;
        let mut pins = configs.computed || configs.names.len() > NAMES_MAX;
        for row in &rows {
            let [Some(name), Some(value), untouched] = row.as_slice() else {
                continue;
            };
            if name == super::set::SEED {
                // It cannot follow.
                pins = true;
                continue;
            }
            let is_set = self.settings.current().get(name).is_some();
            // What pg_settings does not list: a custom setting that was local only is empty afterwards, a role none. A
            // listed one can be empty because it was set so (`search_path`).
            let untouched = match untouched.as_deref() {
                Some(answer) => answer == "t",
                None => value.is_empty() || (name == "role" && value == "none"),
            };
            if is_set || !untouched {
                self.adopt_setting(name, value);
            }
        }
        if pins {
            if is_home {
                self.pin(PinReason::ProcessState);
            }
            self.servers[index].lease.applied = Applied::Unknown;
        } else if configs
            .names
            .iter()
            .any(|name| is_own(&name.to_ascii_lowercase()))
        {
            // The server has it too now, where the next session must not find it.
            self.servers[index].lease.applied = Applied::Unknown;
        } else if !matches!(self.servers[index].lease.applied, Applied::Unknown) {
            let current = Rc::clone(self.settings.current());
            self.servers[index].lease.applied = Applied::Known(current);
        }
        Ok(())
    }

    /// At the end of a block: the same for every server that took part, home first.
    pub(super) async fn follow_configs_at_end(&mut self) {
        let home = self.engine.cluster.home();
        let index = self
            .servers
            .iter()
            .position(|server| server.shard == home && server.begun);
        match index {
            Some(index) => {
                if Box::pin(self.follow_configs(index)).await.is_err() {
                    self.servers[index].lease.dirty = true;
                }
            }
            None => self.configs = Spare::absent(),
        }
        for server in &mut self.servers {
            if server.begun && server.shard != home {
                server.lease.applied = Applied::Unknown;
            }
        }
    }
}
