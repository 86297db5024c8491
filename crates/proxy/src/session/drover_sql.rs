//! Statements that Drover answers itself: `drover.*` functions and views.

use bytes::BytesMut;
use plan::{DroverStatement, DroverView, Triage};
use wire::FormatCode;
use wire::backend::{Column, ErrorFields, encode};

use super::{Fault, Session, queries, views};
use crate::exec::link;
use crate::ops::{Goal, Manner};

use crate::exec::statement::{Action, Statement};

/// Type OID of text.
const TEXT_OID: u32 = 25;

impl Session {
    /// Answers a statement of Drover's own.
    pub(super) async fn run_drover(&mut self, wanted: &DroverStatement, text: &str) -> Result<(), Fault> {
        match wanted {
            DroverStatement::View(view) => self.show_view(*view).await,
            DroverStatement::QueriesReset => self.reset_queries(),
            DroverStatement::ConsistencyToken => self.tell_token().await,
            DroverStatement::CurrentTransactionId => self.current_transaction_id().await,
            DroverStatement::TransactionStatus { id } => self.transaction_status(id).await,
            DroverStatement::ResolveTransactions { older_than, dry_run } => {
                self.resolve_transactions(older_than.as_deref(), *dry_run).await
            }
            DroverStatement::ExplainRoute { inner, triage } => {
                let piece = text.get(inner.clone()).unwrap_or_default();
                self.explain_route(piece, text, triage).await
            }
            DroverStatement::ShardTable {
                table,
                options,
                online,
            } => {
                let manner = Manner {
                    statement: text,
                    online: *online,
                };
                self.move_table(table, ("shard_table", Goal::Sharded(options.clone())), manner)
                    .await
            }
            DroverStatement::ReferenceTable { table, online } => {
                let manner = Manner {
                    statement: text,
                    online: *online,
                };
                self.move_table(table, ("reference_table", Goal::Reference), manner)
                    .await
            }
            DroverStatement::UnshardTable { table, online } => {
                let manner = Manner {
                    statement: text,
                    online: *online,
                };
                self.move_table(table, ("unshard_table", Goal::Home), manner)
                    .await
            }
            DroverStatement::PlaceTable { table, shard, online } => {
                let manner = Manner {
                    statement: text,
                    online: *online,
                };
                self.move_table(table, ("place_table", Goal::Placed(shard.clone())), manner)
                    .await
            }
            DroverStatement::PlaceSchema { schema, shard } => self.place_schema(schema, shard).await,
            DroverStatement::CancelMove { table } => {
                let (schema, name) = self.own_table(table).await?;
                let cluster = std::sync::Arc::clone(&self.engine.cluster);
                let result = crate::ops::cancel_move(&cluster, &self.database, &schema, &name).await;
                self.done("cancel_move", result)
            }
            DroverStatement::CheckTables {
                table,
                repair,
                dry_run,
            } => self.check_tables(table.as_ref(), *repair, *dry_run).await,
            DroverStatement::CreateGlobalIndex { .. }
            | DroverStatement::DropGlobalIndex { .. }
            | DroverStatement::CheckGlobalIndex { .. } => self.run_index_verb(wanted).await,
            DroverStatement::SchemaDiff => self.schema_diff().await,
            DroverStatement::PinKey { table, key, shard } => self.pin_key(table, key, shard.as_deref()).await,
            DroverStatement::DeclareLocal { function, .. } => self.declare_local(function).await,
        }
    }

    async fn move_table(
        &mut self,
        table: &sql::QualifiedName,
        (what, goal): (&str, Goal),
        manner: Manner<'_>,
    ) -> Result<(), Fault> {
        self.outside_blocks(&format!("drover.{what}"))?;
        let (schema, name) = self.own_table(table).await?;
        let mut notices = BytesMut::new();
        let mut line = |line: &str| {
            encode::notice(&mut notices, &ErrorFields::new("NOTICE", "00000", line));
        };
        let cluster = std::sync::Arc::clone(&self.engine.cluster);
        self.engine.running.leave();
        let database = &self.database;
        let result =
            crate::ops::move_table(&cluster, database, (&schema, &name), &goal, manner, &mut line).await;
        self.engine.running.enter_anyway();
        self.client.conn.out().extend_from_slice(&notices);
        self.done(what, result)
    }

    async fn place_schema(&mut self, schema: &str, shard: &str) -> Result<(), Fault> {
        self.outside_blocks("drover.place_schema")?;
        let question = format!(
            "SELECT pg_catalog.pg_has_role(nspowner, 'USAGE') FROM pg_catalog.pg_namespace WHERE nspname = {}",
            sql::quote_literal(schema)
        );
        self.must_own(&question, &format!("schema {schema}")).await?;
        let cluster = std::sync::Arc::clone(&self.engine.cluster);
        self.engine.running.leave();
        let result = crate::ops::place_schema(&cluster, &self.database, schema, shard).await;
        self.engine.running.enter_anyway();
        self.done("place_schema", result)
    }

    async fn declare_local(&mut self, function: &sql::QualifiedName) -> Result<(), Fault> {
        self.outside_blocks("drover.declare_local")?;
        let context = self.plan_context().await?;
        let found = context
            .snapshot
            .functions_named(&function.name)
            .iter()
            .filter_map(|oid| context.snapshot.function(*oid))
            .find(|known| {
                function
                    .schema
                    .as_ref()
                    .is_none_or(|schema| *schema == known.schema)
            });
        let Some(found) = found else {
            return Err(Fault::error(
                "42883",
                format!("function {function} does not exist"),
            ));
        };
        self.must_own_function(&found.schema, &found.name).await?;
        let cluster = std::sync::Arc::clone(&self.engine.cluster);
        self.engine.running.leave();
        let result = crate::ops::declare_local(&cluster, &self.database, &found.schema, &found.name).await;
        self.engine.running.enter_anyway();
        self.done("declare_local", result)
    }

    async fn pin_key(
        &mut self,
        table: &sql::QualifiedName,
        key: &str,
        shard: Option<&str>,
    ) -> Result<(), Fault> {
        let name = pin_function(shard);
        self.outside_blocks(name)?;
        let (schema, table) = self.own_table(table).await?;
        let cluster = std::sync::Arc::clone(&self.engine.cluster);
        self.engine.running.leave();
        let pin = crate::ops::Pin {
            database: &self.database,
            schema: &schema,
            table: &table,
            key,
            shard,
        };
        let result = crate::ops::pin_key(&cluster, pin).await;
        self.engine.running.enter_anyway();
        self.done(name.trim_start_matches("drover."), result)
    }

    pub(super) fn done(&mut self, name: &str, result: Result<(), ErrorFields>) -> Result<(), Fault> {
        result.map_err(|fields| Fault::Statement(Box::new(fields)))?;
        self.text_rows(&[name], &[vec![Some(String::new())]], "SELECT 1")
    }

    /// Table moves commit by themselves.
    pub(super) fn outside_blocks(&self, what: &str) -> Result<(), Fault> {
        if self.block.is_open() {
            return Err(Fault::error(
                "25001",
                format!("{what} cannot run inside a transaction block"),
            ));
        }
        Ok(())
    }

    /// Schema and name of a table as the session's search path finds it.
    pub(super) async fn find_table(&mut self, name: &sql::QualifiedName) -> Result<(String, String), Fault> {
        if let Some(schema) = &name.schema {
            return Ok((schema.clone(), name.name.clone()));
        }
        let question = format!(
            "SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.oid = pg_catalog.to_regclass({})",
            sql::quote_literal(&sql::quote_ident(&name.name))
        );
        let rows = self.ask_home(&question).await?;
        match rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next().flatten())
        {
            Some(schema) => Ok((schema, name.name.clone())),
            None => Err(Fault::error(
                "42P01",
                format!("relation \"{}\" does not exist", name.name),
            )),
        }
    }

    /// A table that the session's role owns, or whose owner it is a member of. Drover's own role does the work, so nobody
    /// else would ask.
    pub(super) async fn own_table(&mut self, name: &sql::QualifiedName) -> Result<(String, String), Fault> {
        let (schema, table) = self.find_table(name).await?;
        let question = format!(
            "SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE') FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {} AND c.relname = {}",
            sql::quote_literal(&schema),
            sql::quote_literal(&table)
        );
        self.must_own(&question, &format!("table {table}")).await?;
        Ok((schema, table))
    }

    /// The same for all functions of a name.
    async fn must_own_function(&mut self, schema: &str, name: &str) -> Result<(), Fault> {
        let question = format!(
            "SELECT pg_catalog.pg_has_role(p.proowner, 'USAGE') FROM pg_catalog.pg_proc p \
             JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = {} AND p.proname = {}",
            sql::quote_literal(schema),
            sql::quote_literal(name)
        );
        self.must_own(&question, &format!("function {name}")).await
    }

    /// `question` tells of each object found whether it is the role's. What does not exist is somebody else's business.
    async fn must_own(&mut self, question: &str, what: &str) -> Result<(), Fault> {
        let rows = self.ask_home(question).await?;
        let own = |row: &link::TextRow| row.first().is_some_and(|own| own.as_deref() == Some("t"));
        if rows.iter().all(own) || *self.user == *self.engine.shared.config.admin.user {
            return Ok(());
        }
        Err(Fault::error("42501", format!("must be owner of {what}")))
    }

    /// Asks the home shard as the session's role.
    pub(super) async fn ask_home(&mut self, question: &str) -> Result<Vec<link::TextRow>, Fault> {
        let home = self.engine.cluster.home();
        let mut access = self.home_access(home).await?;
        let reply = link::query(self.asked(&mut access), question).await;
        self.done_asking(access);
        reply
            .map_err(|error| Fault::lost(&error, "the home shard"))?
            .into_rows()
            .map_err(Fault::Statement)
    }

    async fn show_view(&mut self, view: DroverView) -> Result<(), Fault> {
        let rows = match view {
            DroverView::Pools => {
                let shared = std::sync::Arc::clone(&self.engine.shared);
                let pools = crate::admin_api::PoolAdmin::new(shared).pools().await;
                views::pools(&pools, |place| self.engine.shared.name_of(place))
            }
            DroverView::Nodes => super::node_rows::rows(&self.engine.shared.nodes),
            DroverView::Reshardings => {
                let moves = crate::ops::moves(&self.engine.cluster).await;
                views::moves(
                    &moves.map_err(|fields| Fault::Statement(Box::new(fields)))?,
                    &self.database,
                )
            }
            DroverView::Transactions => self.in_doubt().await,
            DroverView::GlobalIndexes => self.global_index_rows().await?,
            DroverView::Rules => {
                let rules = self.engine.rules();
                let all = self.sees_all_queries();
                let (database, user) = (&self.database, &self.user);
                let seen = rules.iter().filter(|rule| all || rule.is_for(database, user));
                views::rules(seen.map(|rule| &**rule))
            }
            DroverView::Queries => queries::rows(
                &self.engine.shared.metrics,
                (!self.sees_all_queries()).then_some((&*self.database, &*self.user)),
            ),
            _ => views::rows(view, &self.engine.cluster.record(), &self.database),
        };
        let tag = format!("SELECT {}", rows.len());
        self.text_rows(views::columns(view), &rows, &tag)
    }

    /// Forgets the statistics of the statements that this role sees.
    fn reset_queries(&mut self) -> Result<(), Fault> {
        let all = self.sees_all_queries();
        let (database, user) = (&self.database, &self.user);
        self.engine
            .shared
            .metrics
            .clear_digests(|of_database, of_user| all || (of_database == &**database && of_user == &**user));
        self.done("queries_reset", Ok(()))
    }

    /// Statements of others are shown to Drover's own role and the console's users only: their texts name what a role
    /// need not know.
    pub(super) fn sees_all_queries(&self) -> bool {
        let shared = &self.engine.shared;
        let source = shared.policies.source();
        let console = &source.console;
        let users = console.admin_users.iter().chain(&console.stats_users);
        users
            .chain([&shared.config.admin.user])
            .any(|name| **name == *self.user)
    }

    /// Runs a text that only reads on one shard and collects its rows.
    pub(super) async fn run_on_reading(
        &mut self,
        shard: catalog::ShardId,
        sql: &str,
    ) -> Result<link::Reply, Fault> {
        let wrote = self
            .servers
            .iter()
            .find(|server| server.shard == shard)
            .map(|server| server.wrote);
        let reply = self.run_on(shard, sql).await?;
        if let Some(server) = self.servers.iter_mut().find(|server| server.shard == shard) {
            server.wrote = wrote.unwrap_or(super::block::Wrote::No);
        }
        Ok(reply)
    }

    /// The answer to Describe for a statement that is answered here.
    pub(super) fn describe_local(&self, statement: &Statement, out: &mut BytesMut) -> Result<(), Fault> {
        if let Action::Other(triage) = &statement.action
            && let Triage::Explain(plan) = &**triage
        {
            let column = super::explain::column(plan.explain.format.as_deref());
            return encode::row_description(out, [column])
                .map_err(|_| Fault::error("54000", "result too wide"));
        }
        let names: Option<Vec<&str>> = match &statement.action {
            Action::Other(triage) => match &**triage {
                Triage::Drover(DroverStatement::View(view)) => Some(views::columns(*view).to_vec()),
                Triage::Drover(DroverStatement::ShardTable { .. }) => Some(vec!["shard_table"]),
                Triage::Drover(DroverStatement::ReferenceTable { .. }) => Some(vec!["reference_table"]),
                Triage::Drover(DroverStatement::UnshardTable { .. }) => Some(vec!["unshard_table"]),
                Triage::Drover(DroverStatement::PlaceTable { .. }) => Some(vec!["place_table"]),
                Triage::Drover(DroverStatement::PlaceSchema { .. }) => Some(vec!["place_schema"]),
                Triage::Drover(DroverStatement::CancelMove { .. }) => Some(vec!["cancel_move"]),
                Triage::Drover(DroverStatement::DeclareLocal { .. }) => Some(vec!["declare_local"]),
                Triage::Drover(DroverStatement::PinKey { shard, .. }) => {
                    Some(vec![pin_function(shard.as_deref()).trim_start_matches("drover.")])
                }
                Triage::Drover(DroverStatement::CreateGlobalIndex { .. }) => {
                    Some(vec!["create_global_index"])
                }
                Triage::Drover(DroverStatement::DropGlobalIndex { .. }) => Some(vec!["drop_global_index"]),
                Triage::Drover(DroverStatement::CheckGlobalIndex { .. }) => {
                    Some(super::global_indexes::CHECK_COLUMNS.to_vec())
                }
                Triage::Drover(DroverStatement::CheckTables { .. }) => {
                    Some(super::drift::CHECK_COLUMNS.to_vec())
                }
                Triage::Drover(DroverStatement::SchemaDiff) => Some(super::drift::DIFF_COLUMNS.to_vec()),
                Triage::Drover(DroverStatement::QueriesReset) => Some(vec!["queries_reset"]),
                Triage::Drover(DroverStatement::ConsistencyToken) => Some(vec!["consistency_token"]),
                Triage::Drover(DroverStatement::CurrentTransactionId) => Some(vec!["current_transaction_id"]),
                Triage::Drover(DroverStatement::TransactionStatus { .. }) => Some(vec!["transaction_status"]),
                Triage::Drover(DroverStatement::ResolveTransactions { .. }) => {
                    Some(super::in_doubt::COLUMNS.to_vec())
                }
                Triage::Drover(DroverStatement::ExplainRoute { .. }) => Some(vec!["QUERY PLAN"]),
                Triage::Setting(sql::SettingCommand::Show { name }) => Some(vec![name.as_str()]),
                _ => None,
            },
            _ => None,
        };
        match names {
            Some(names) => encode::row_description(out, names.into_iter().map(text_column))
                .map_err(|_| Fault::error("54000", "result too wide")),
            None => {
                encode::no_data(out);
                Ok(())
            }
        }
    }
}

/// The function that was called.
fn pin_function(shard: Option<&str>) -> &'static str {
    match shard {
        Some(_) => "drover.pin_key",
        None => "drover.unpin_key",
    }
}

fn text_column(name: &str) -> Column<'_> {
    Column {
        name: name.as_bytes(),
        table_oid: 0,
        attnum: 0,
        type_oid: TEXT_OID,
        typlen: -1,
        typmod: -1,
        format: FormatCode::Text,
    }
}
