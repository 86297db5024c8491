//! Names to relations.

use catalog::{Oid, PartKind, Proof, Relation, RelationKind, Snapshot, Volatility};
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
        let mut path = self.path_of(name).into_iter();
        path.find_map(|schema| self.snapshot.relation_in(schema, &name.name))
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

    /// On which shards a relation is.
    ///
    /// # Errors
    /// The name is unqualified and could mean a temporary object of the session.
    pub fn place_of(&self, name: &QualifiedName) -> Result<RelationPlace<'a>, Refusal> {
        let mut place = RelationPlace::Home;
        for schema in self.path_of(name) {
            if let Some(relation) = self.snapshot.relation_in(schema, &name.name) {
                place = self.place_of_relation(relation);
                break;
            }
            if let Some(table) = self.snapshot.owner_of_part(PartKind::Index, schema, &name.name) {
                if is_spread(table) {
                    place = RelationPlace::Index(table);
                }
                break;
            }
        }
        let placed = !matches!(place, RelationPlace::Home | RelationPlace::Type);
        if placed && name.schema.is_none() && self.session.has_temp_objects {
            return Err(Refusal::with(RefusalCode::TempName, &name.name));
        }
        Ok(place)
    }

    fn place_of_relation(&self, relation: &'a Relation) -> RelationPlace<'a> {
        if is_spread(relation) {
            return RelationPlace::Table(relation);
        }
        match relation.kind {
            RelationKind::CompositeType => RelationPlace::Type,
            RelationKind::View if self.snapshot.touches_sharded_name(&relation.name) => {
                RelationPlace::View(relation)
            }
            RelationKind::Sequence => {
                let owner = self
                    .snapshot
                    .owner_of_part(PartKind::Sequence, &relation.schema, &relation.name);
                match owner {
                    Some(table) if is_spread(table) => RelationPlace::Sequence,
                    _ => RelationPlace::Home,
                }
            }
            _ => RelationPlace::Home,
        }
    }

    /// The sharded or reference table that extended statistics are of.
    ///
    /// # Errors
    /// As [`Resolver::place_of`].
    pub fn statistics_table(&self, name: &QualifiedName) -> Result<Option<&'a Relation>, Refusal> {
        let tables = self.path_of(name).into_iter().filter_map(|schema| {
            self.snapshot
                .owner_of_part(PartKind::Statistics, schema, &name.name)
        });
        let table = tables.take(1).find(|table| is_spread(table));
        if table.is_some() && name.schema.is_none() && self.session.has_temp_objects {
            return Err(Refusal::with(RefusalCode::TempName, &name.name));
        }
        Ok(table)
    }

    /// The schemas in which a name is looked up, in order.
    fn path_of<'n>(&self, name: &'n QualifiedName) -> Vec<&'n str>
    where
        'a: 'n,
    {
        if let Some(schema) = &name.schema {
            return vec![schema];
        }
        let path = &self.session.search_path;
        let implied = (!path.iter().any(|s| s == "pg_catalog")).then_some("pg_catalog");
        implied
            .into_iter()
            .chain(path.iter().map(String::as_str))
            .collect()
    }

    /// There is more than the home shard.
    pub fn several_shards(&self) -> bool {
        self.snapshot.shards().len() > 1
    }

    /// Whether the name could reach a sharded or reference table in any way. What an unqualified name means depends on more
    /// than the text: any relation of that name counts.
    pub fn touches(&self, name: &QualifiedName) -> bool {
        let meant = name.schema.as_deref();
        let meant = meant.and_then(|schema| self.snapshot.relation_in(schema, &name.name));
        self.snapshot.touches_sharded_name(&name.name)
            && meant.is_none_or(|relation| self.snapshot.touches_sharded(relation))
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

    /// Whether some overload of the function can have another value on another shard, or at another moment: those that read the
    /// clock or say something of the server, and those made by users, unless they are immutable.
    pub fn function_differs(&self, name: &QualifiedName) -> bool {
        const FIRST_USER_OID: u32 = 16384;
        const CLOCKS: [&str; 4] = ["now", "transaction_timestamp", "statement_timestamp", "age"];
        let of_server = CLOCKS.contains(&name.name.as_str())
            || ["pg_", "txid_", "inet_"]
                .iter()
                .any(|start| name.name.starts_with(start));
        let oids = self.snapshot.functions_named(&name.name);
        let differs = |oid: &Oid| match self.snapshot.function(*oid).map(|f| f.volatility) {
            Some(Volatility::Immutable) => false,
            Some(Volatility::Stable) => of_server || oid.0 >= FIRST_USER_OID,
            _ => true,
        };
        oids.is_empty() || oids.iter().any(differs)
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

/// On which shards a relation is, with what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum RelationPlace<'a> {
    /// On the home shard only, or temporary, or unknown.
    Home,
    /// A sharded or reference table: on every shard.
    Table(&'a Relation),
    /// An index of such a table.
    Index(&'a Relation),
    /// A view that reaches sharded tables: on every shard when it reads nothing else.
    View(&'a Relation),
    /// A sequence of such a table's column: on those shards where the table was made together with it.
    Sequence,
    /// A composite type: on every shard that has what it is made of.
    Type,
}

/// Exists on every shard because it is, or belongs to, a sharded or reference table.
pub(super) fn is_spread(relation: &Relation) -> bool {
    !relation.placement.is_home()
}

/// The name of a relation, quoted and qualified.
pub(super) fn name_of(relation: &Relation) -> String {
    QualifiedName::qualified(&relation.schema, &relation.name).to_string()
}

impl DdlPlan {
    /// The client's text in one place, inside a transaction if one is open.
    pub fn at(place: DdlPlace) -> DdlPlan {
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

    /// The client's text on the home shard, then on those of the others that have what it is about.
    pub(crate) fn shared() -> DdlPlan {
        let mut plan = DdlPlan::at(DdlPlace::Home);
        plan.steps.push(DdlStep {
            sql: None,
            place: DdlPlace::OthersIfPossible,
        });
        plan
    }

    /// The same for a statement with a list of objects.
    pub(super) fn shared_list() -> DdlPlan {
        DdlPlan::shared().naming(2)
    }

    /// The statement names so many objects.
    pub(super) fn naming(mut self, objects: usize) -> DdlPlan {
        self.names_several = objects > 1;
        self
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
