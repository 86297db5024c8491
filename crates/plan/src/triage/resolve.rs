//! Names to relations.

use catalog::{Placement, Proof, Relation, Snapshot};
use sql::{QualifiedName, RawStatement};

use crate::triage_types::{DdlPlace, DdlPlan, DdlStep};
use crate::{Refusal, RefusalCode, SessionFacts, Triage};

/// The snapshot together with what the session adds to the meaning of names.
pub(super) struct Resolver<'a> {
    pub snapshot: &'a Snapshot,
    pub session: &'a SessionFacts,
}

impl<'a> Resolver<'a> {
    /// The relation a name means; `None` for temporary, new and unknown ones.
    pub fn relation(&self, name: &QualifiedName) -> Option<&'a Relation> {
        if let Some(schema) = &name.schema {
            return self.snapshot.relation_in(schema, &name.name);
        }
        let path = &self.session.search_path;
        let implied = if path.iter().any(|s| s == "pg_catalog") {
            None
        } else {
            Some("pg_catalog")
        };
        implied
            .into_iter()
            .chain(path.iter().map(String::as_str))
            .find_map(|schema| self.snapshot.relation_in(schema, &name.name))
    }

    /// The relation when it is a sharded or reference table (or something that belongs to one: an index, a view over it).
    ///
    /// # Errors
    /// The name is unqualified and could mean a temporary object of the session.
    pub fn spread(&self, name: &QualifiedName) -> Result<Option<&'a Relation>, Refusal> {
        let found = self.relation(name).filter(|r| is_spread(r));
        if found.is_some() && name.schema.is_none() && self.session.has_temp_objects {
            return Err(Refusal::with(RefusalCode::TempName, &name.name));
        }
        Ok(found)
    }

    /// Whether the name could reach a sharded or reference table in any way.
    pub fn touches(&self, name: &QualifiedName) -> bool {
        self.snapshot.touches_sharded_name(&name.name)
    }

    /// Whether any relation of the statement could reach a sharded or reference table.
    pub fn touches_any(&self, raw: &RawStatement) -> bool {
        raw.names
            .relations
            .iter()
            .chain(&raw.names.written)
            .any(|name| self.touches(name))
    }

    /// Whether a statement needs the analyzed tree: it may touch sharded tables, or call what is not proved.
    pub fn needs_analysis(&self, raw: &RawStatement) -> bool {
        let snapshot = self.snapshot;
        if !snapshot.has_sharded() {
            return false;
        }
        let names = &raw.names;
        self.touches_any(raw)
            || names.functions.iter().any(|f| snapshot.function_name_needs_analysis(&f.name))
            // A set-returning function in FROM or a call without arguments can be spelt as a column or a cast.
            || names.types.iter().any(|t| snapshot.known_function_needs_analysis(&t.name))
            || names.operators.iter().any(|o| snapshot.operator_name_needs_analysis(&o.name))
            || snapshot.everything_needs_analysis().is_some()
    }

    /// As [`Resolver::needs_analysis`], when the statement also names `own`, whose touching is accepted.
    pub fn needs_analysis_of_names(&self, raw: &RawStatement, own: &QualifiedName) -> bool {
        let names = &raw.names;
        names
            .relations
            .iter()
            .any(|name| name != own && self.touches(name))
            || names.functions.iter().any(|f| !self.function_is_pure(f))
    }

    /// Whether every overload of the function is proved to touch no table.
    pub fn function_is_pure(&self, name: &QualifiedName) -> bool {
        let oids = self.snapshot.functions_named(&name.name);
        !oids.is_empty()
            && oids
                .iter()
                .all(|oid| matches!(self.snapshot.proof(*oid), Proof::Pure))
    }
}

/// Exists on every shard because it is, or belongs to, a sharded or reference table.
pub(super) fn is_spread(relation: &Relation) -> bool {
    !relation.placement.is_home()
}

/// The name of a relation, quoted and qualified.
pub(super) fn name_of(relation: &Relation) -> String {
    QualifiedName::qualified(&relation.schema, &relation.name).to_string()
}

/// The key column's name of a sharded table.
pub(super) fn key_name(relation: &Relation) -> Option<&str> {
    let Placement::Sharded { key, .. } = &relation.placement else {
        return None;
    };
    relation.column(key.first()?.attnum).map(|c| c.name.as_str())
}

impl DdlPlan {
    /// The client's text in one place, inside a transaction if one is open.
    pub(crate) fn at(place: DdlPlace) -> DdlPlan {
        DdlPlan {
            steps: vec![DdlStep { sql: None, place }],
            transactional: true,
            changes_schema: true,
            ..DdlPlan::default()
        }
    }

    /// The client's text on the home shard; when it must stand `alone`, without a transaction around it. In a block of the
    /// client's PostgreSQL says what is wrong with that.
    pub(super) fn at_home_alone(alone: bool, cx: &Resolver<'_>) -> DdlPlan {
        let mut plan = DdlPlan::at(DdlPlace::Home);
        plan.transactional = !alone || cx.session.in_transaction;
        plan
    }

    /// The client's text on the home shard, then on the others with errors ignored.
    pub(crate) fn best_effort() -> DdlPlan {
        let mut plan = DdlPlan::at(DdlPlace::Home);
        plan.steps.push(DdlStep {
            sql: None,
            place: DdlPlace::OthersIfPossible,
        });
        plan
    }

    /// Nothing but the client's text on the home shard.
    pub fn is_home_only(&self) -> bool {
        self.effects.is_empty()
            && self
                .steps
                .iter()
                .all(|s| s.place == DdlPlace::Home && s.sql.is_none())
    }

    pub(crate) fn into_triage(self) -> Triage {
        Triage::Ddl(Box::new(self))
    }
}
