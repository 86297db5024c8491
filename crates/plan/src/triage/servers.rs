//! Statements about servers, databases and replication rather than about a schema.
//!
//! | statement | where |
//! |---|---|
//! | CREATE DATABASE | every server, one after the other: a database of the cluster is on all of them |
//! | ALTER DATABASE … SET, OWNER, CONNECTION LIMIT … | every server |
//! | DROP DATABASE, ALTER DATABASE … RENAME, SET TABLESPACE | refused with several shards: no transaction undoes them |
//! | ALTER SYSTEM, tablespaces | the home server; refused once tables are sharded |
//! | publications, subscriptions | the home server; refused where sharded tables would be published or written |
//! | event triggers | every server when the function is pure, home when it uses unsharded tables |

use catalog::Proof;
use sql::{Detail, RawStatement, StatementNode as Node};

use super::resolve::{Resolver, is_spread, name_of};
use super::{Decision, drops};
use crate::triage_types::{DdlPlace, DdlPlan, MetadataEffect};
use crate::{Refusal, RefusalCode, Triage};

fn refuse(code: RefusalCode, what: &str) -> Decision {
    Err(Refusal::with(code, what))
}

/// CREATE, DROP, ALTER DATABASE.
pub(super) fn database(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    if !cx.several_shards() {
        return Ok(Triage::Home);
    }
    let mut plan = DdlPlan::at(DdlPlace::All);
    plan.changes_schema = false;
    match (&raw.detail, raw.node) {
        (Detail::AlterDatabase { tablespace: true }, _) => {
            return refuse(RefusalCode::ServerCommand, "ALTER DATABASE SET TABLESPACE");
        }
        (_, Node::DropdbStmt) => return refuse(RefusalCode::ServerCommand, "DROP DATABASE"),
        (_, Node::CreatedbStmt) => plan.transactional = false,
        _ => {}
    }
    Ok(plan.into_triage())
}

/// Files and settings of one server.
pub(super) fn server(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    if !cx.snapshot.has_sharded() {
        return Ok(Triage::Home);
    }
    let what = match raw.node {
        Node::AlterSystemStmt => "ALTER SYSTEM",
        Node::AlterTableMoveAllStmt => "ALTER … ALL IN TABLESPACE",
        _ => "a tablespace is a directory of one server",
    };
    refuse(RefusalCode::ServerCommand, what)
}

pub(super) fn checkpoint(cx: &Resolver<'_>) -> Triage {
    if !cx.snapshot.has_sharded() {
        return Triage::Home;
    }
    let mut plan = DdlPlan::at(DdlPlace::All);
    plan.changes_schema = false;
    plan.into_triage()
}

/// A publication is of one server's log: of a sharded table it would publish one slice.
pub(super) fn publication(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let Detail::Publication { unnamed_tables } = raw.detail else {
        return Err(Refusal::new(RefusalCode::Unreadable));
    };
    if cx.snapshot.has_sharded() && (unnamed_tables || cx.touches_any(raw)) {
        return refuse(
            RefusalCode::OtherDdl,
            "a publication would have one shard's rows of it",
        );
    }
    Ok(DdlPlan::at(DdlPlace::Home).into_triage())
}

/// A subscription writes on the server that has it, whatever the key of a row.
pub(super) fn subscription(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let takes_tables = matches!(raw.detail, Detail::Subscription { takes_tables: true });
    if takes_tables && cx.snapshot.has_sharded() {
        return refuse(
            RefusalCode::OtherDdl,
            "a subscription would write all rows on one shard",
        );
    }
    // They talk to another server, which no transaction takes back.
    Ok(DdlPlan::at_home_alone(true, cx).into_triage())
}

/// What runs with every later DDL statement must do the same on all shards, or touch unsharded tables only.
pub(super) fn event_trigger(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let mut plan = DdlPlan::at(DdlPlace::Home);
    for function in &raw.names.functions {
        if cx.function_is_pure(function) {
            plan = DdlPlan::at(DdlPlace::All);
            continue;
        }
        let oids = cx.snapshot.functions_named(&function.name);
        let unproved = oids
            .iter()
            .any(|oid| matches!(cx.snapshot.proof(*oid), Proof::Unproved(_)));
        if cx.snapshot.has_sharded() && unproved {
            return refuse(RefusalCode::TriggerUnproved, &function.to_string());
        }
    }
    Ok(plan.into_triage())
}

/// What a role owns is not known by name, except for relations.
pub(super) fn drop_owned(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let Detail::DropOwned { roles, cascade } = &raw.detail else {
        return Err(Refusal::new(RefusalCode::Unreadable));
    };
    let mut plan = DdlPlan::at(DdlPlace::All);
    if !cx.snapshot.has_sharded() {
        return Ok(plan.into_triage());
    }
    let Some(roles) = roles.iter().cloned().collect::<Option<Vec<String>>>() else {
        return refuse(RefusalCode::Container, "name the role of DROP OWNED");
    };
    let owned = |owner: &String| roles.contains(owner);
    if *cascade && let Some(kept) = drops::lost_key(cx, |r| owned(&r.owner), |_| true) {
        return refuse(RefusalCode::Container, &name_of(kept));
    }
    let spread = cx.snapshot.relations().filter(|r| is_spread(r));
    let tables = spread.filter(|r| r.is_table() && owned(&r.owner));
    let mut tables: Vec<_> = tables.map(|r| (r.schema.clone(), r.name.clone())).collect();
    tables.sort_unstable();
    if !tables.is_empty() {
        plan.effects.push(MetadataEffect::Drop { tables });
    }
    Ok(plan.into_triage())
}
