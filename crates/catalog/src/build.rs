//! Schema facts + sharding metadata → [`Snapshot`].

use crate::closure::acts::{self, ActingNames};
use crate::closure::{self, Level, Names, Reach, SessionActs};
use crate::load::{Object, SnapshotBuilder, StoredBody};
use crate::{
    BodyParser, CatalogError, CollationProvider, KEY_COLUMNS_MAX, KeyColumn, KeyFamily, KeyType, Map, MapId,
    Oid, Placement, Relation, RelationKind, Set, ShardId, ShardingInput, Snapshot, TableSharding,
    TableShardingKind, Type, TypeKind,
};

#[cfg(test)]
mod tests;
mod writes;

/// See [`SnapshotBuilder::build`].
pub(crate) fn build(
    mut facts: SnapshotBuilder,
    sharding: &ShardingInput,
    bodies: &dyn BodyParser,
) -> Result<Snapshot, CatalogError> {
    check_shards(sharding)?;
    if facts
        .builtins_of
        .as_ref()
        .is_some_and(|known| *known != facts.database)
    {
        return Err(CatalogError::OtherServer);
    }
    if !facts.database.encoding.is_empty() && facts.database.encoding != "UTF8" {
        return Err(CatalogError::NotUtf8 {
            encoding: facts.database.encoding.clone(),
        });
    }
    link(&mut facts);
    let maps: Map<MapId, crate::ShardMap> = sharding.maps.iter().cloned().collect();
    let relation_names = names_of(facts.relations.values().map(|r| (r.name.as_str(), r.oid)));
    let function_names = names_of(facts.functions.values().map(|f| (f.name.as_str(), f.oid)));
    let has_sharded = place(&mut facts, sharding, &maps, &relation_names)?;
    let names = Names {
        relations: &relation_names,
        functions: &function_names,
    };
    crate::global_index::attach(&mut facts, &sharding.global_indexes, &names);
    let declared: Set<(String, String)> = sharding.declared_local.iter().cloned().collect();
    let reach = closure::reach(&facts, &names, &declared, bodies);
    if has_sharded {
        writes::judge(&mut facts, &reach, &declared);
        judge_reach(&mut facts, &reach);
    }
    for function in facts.functions.values_mut() {
        function.proof = reach.proof(function);
    }
    let analyze = AnalyzeNames::new(&facts, &reach);
    let reads = crate::reads::judge(&facts, &names, bodies, &facts.replica_safe);
    let acting = acting_names(&facts, &reach);
    let asks_for_drawn_values = asks_for_drawn_values(&facts) || reach.some_act(SessionActs::ASKS);
    Ok(Snapshot {
        epoch: sharding.epoch,
        home: sharding.home,
        shards: ascending(&sharding.shards),
        shard_names: sharding.names.clone(),
        placed_schemas: sharding.schemas.clone(),
        maps,
        global_indexes: sharding.global_indexes.clone(),
        relations: facts.relations,
        relation_names,
        functions: facts.functions,
        function_names,
        types: facts.types,
        operators: facts.operators,
        collations: facts.collations,
        hash_equality: facts.hash_equality.into_iter().collect(),
        sort_orders: facts.sort_orders,
        has_sharded,
        sharded_names: analyze.relations,
        function_names_to_analyze: analyze.functions,
        operator_names_to_analyze: analyze.operators,
        unproved_cast: analyze.everything,
        asks_for_drawn_values,
        reads,
        acting,
        database: facts.database,
    })
}

/// Each once.
fn ascending(shards: &[ShardId]) -> Vec<ShardId> {
    let mut shards = shards.to_vec();
    shards.sort_unstable();
    shards.dedup();
    shards
}

/// Some function's body or some column's default names `currval` or `lastval`. A body that was parsed when it was made
/// is not at hand as text: it counts.
fn asks_for_drawn_values(facts: &SnapshotBuilder) -> bool {
    let names_one = |text: &str| {
        let text = text.to_ascii_lowercase();
        text.contains("currval") || text.contains("lastval")
    };
    let body_does = |body: &StoredBody| match body {
        StoredBody::Text { source, .. } => names_one(source),
        StoredBody::Parsed => true,
    };
    let default_does = |column: &crate::Column| column.default.as_deref().is_some_and(names_one);
    facts.bodies.values().any(body_does)
        || facts
            .relations
            .values()
            .any(|relation| relation.columns.iter().any(default_does))
}

fn check_shards(sharding: &ShardingInput) -> Result<(), CatalogError> {
    let owners = sharding
        .maps
        .iter()
        .flat_map(|(_, map)| map.shards().iter().copied());
    match owners
        .chain([sharding.home])
        .find(|shard| !sharding.shards.contains(shard))
    {
        Some(shard) => Err(CatalogError::NoSuchShard { shard }),
        None => Ok(()),
    }
}

/// Turns the loose facts that several relations share into fields of each.
fn link(facts: &mut SnapshotBuilder) {
    let default_bytewise = facts.database.bytewise;
    for collation in facts
        .collations
        .values_mut()
        .filter(|c| c.provider == CollationProvider::Default)
    {
        collation.bytewise = default_bytewise;
        collation.locale.clone_from(&facts.database.collate);
    }
    for (child, parent) in &facts.inherits {
        if let Some(relation) = facts.relations.get_mut(child) {
            relation.parents.push(*parent);
        }
        if let Some(relation) = facts.relations.get_mut(parent) {
            relation.children.push(*child);
        }
    }
    for key in &facts.foreign_keys {
        if let Some(relation) = facts.relations.get_mut(&key.table) {
            relation.foreign_keys.push(key.clone());
        }
        if let Some(relation) = facts.relations.get_mut(&key.referenced) {
            relation.referenced_by.push(key.clone());
        }
    }
    // Casts of extensions are written in C and often not declared immutable, but they do not run queries.
    let functions = &facts.functions;
    facts.casts.retain(|oid| {
        !functions
            .get(oid)
            .is_some_and(|f| f.extension.is_some() && f.language == "c")
    });
    // Triggers put in directly with add_relation take the same way as loaded ones.
    let own: Vec<_> = facts
        .relations
        .values_mut()
        .flat_map(|r| {
            std::mem::take(&mut r.triggers)
                .into_iter()
                .map(|t| (r.oid, t))
                .collect::<Vec<_>>()
        })
        .collect();
    facts.triggers.extend(own);
    for (table, trigger) in &facts.triggers {
        if let Some(relation) = facts.relations.get_mut(table) {
            relation.triggers.push(trigger.clone());
        }
    }
    for (table, part) in facts.parts.drain(..) {
        if let Some(relation) = facts.relations.get_mut(&table) {
            relation.parts.push(part);
        }
    }
    for (table, policy) in facts.policies.drain(..) {
        if let Some(relation) = facts.relations.get_mut(&table) {
            relation.policies.push(policy);
        }
    }
    link_partitions(facts);
}

/// Tells tables what rows meet in their partitions.
fn link_partitions(facts: &mut SnapshotBuilder) {
    let met = |r: &&Relation| r.is_partition && !(r.triggers.is_empty() && r.referenced_by.is_empty());
    let mut partitions: Vec<Oid> = facts.relations.values().filter(met).map(|r| r.oid).collect();
    partitions.sort_unstable();
    for oid in partitions {
        let Some(partition) = facts.relations.get(&oid) else {
            continue;
        };
        let (triggers, referenced) = (partition.triggers.clone(), !partition.referenced_by.is_empty());
        let above = |oid: &Oid| {
            let relation = facts.relations.get(oid).filter(|r| r.is_partition);
            relation.and_then(|r| r.parents.first().copied())
        };
        // Partitions cannot be circular; the bound is against damaged input.
        let parents: Vec<Oid> = std::iter::successors(above(&oid), above).take(64).collect();
        for parent in parents {
            if let Some(parent) = facts.relations.get_mut(&parent) {
                parent.partition_triggers.extend(triggers.iter().cloned());
                parent.partition_referenced |= referenced;
            }
        }
    }
}

fn names_of<'a>(items: impl Iterator<Item = (&'a str, Oid)>) -> Map<Box<str>, Vec<Oid>> {
    let mut out: Map<Box<str>, Vec<Oid>> = Map::default();
    for (name, oid) in items {
        match out.get_mut(name) {
            Some(oids) => oids.push(oid),
            None => {
                out.insert(name.into(), vec![oid]);
            }
        }
    }
    out.values_mut().for_each(|oids| oids.sort_unstable());
    out
}

/// Sets placements; says whether there is anything but home tables.
///
/// A listed table that does not exist is skipped: another proxy may have dropped it a moment ago, and nothing can be
/// read from a table that is not there.
fn place(
    facts: &mut SnapshotBuilder,
    sharding: &ShardingInput,
    maps: &Map<MapId, crate::ShardMap>,
    names: &Map<Box<str>, Vec<Oid>>,
) -> Result<bool, CatalogError> {
    let mut families: Map<MapId, Vec<KeyFamily>> = Map::default();
    let mut placed: Vec<(Oid, &TableSharding)> = Vec::new();
    for table in &sharding.tables {
        let named = names.get(table.name.as_str()).into_iter().flatten();
        let Some(oid) = named
            .copied()
            .find(|oid| facts.relations.get(oid).is_some_and(|r| r.schema == table.schema))
        else {
            continue;
        };
        placed.push((oid, table));
    }
    for (oid, table) in placed {
        let placement = placement(facts, oid, table, maps)?;
        if let Placement::Sharded { key, map } = &placement {
            let of_key: Vec<KeyFamily> = key.iter().map(|k| k.key_type.family()).collect();
            if !maps.contains_key(map) {
                return Err(CatalogError::NoSuchMap {
                    table: qualified(table),
                    map: *map,
                });
            }
            if *families.entry(*map).or_insert_with(|| of_key.clone()) != of_key {
                return Err(CatalogError::MixedMap {
                    table: qualified(table),
                    map: *map,
                });
            }
        }
        if let Some(relation) = facts.relations.get_mut(&oid) {
            relation.placement = placement;
        }
    }
    inherit_placement(facts, sharding)?;
    Ok(facts.relations.values().any(|r| !r.placement.is_home()))
}

fn qualified(table: &TableSharding) -> String {
    format!("{}.{}", table.schema, table.name)
}

fn placement(
    facts: &SnapshotBuilder,
    oid: Oid,
    table: &TableSharding,
    maps: &Map<MapId, crate::ShardMap>,
) -> Result<Placement, CatalogError> {
    let relation = match facts.relations.get(&oid) {
        Some(r) if matches!(r.kind, RelationKind::Table | RelationKind::PartitionedTable) && !r.system => r,
        _ => {
            return Err(CatalogError::NotATable {
                table: qualified(table),
            });
        }
    };
    match &table.kind {
        TableShardingKind::Reference => Ok(Placement::Reference),
        TableShardingKind::Sharded { columns, map } => {
            let key: Vec<KeyColumn> = columns
                .iter()
                .map(|column| key_column(facts, relation, column))
                .collect::<Result<_, _>>()?;
            // Without a key there is nothing to choose a shard by.
            let placed = maps.get(map).is_none_or(|map| map.whole().is_some());
            if (key.is_empty() && !placed) || key.len() > KEY_COLUMNS_MAX {
                return Err(CatalogError::KeyColumns {
                    table: qualified(table),
                });
            }
            Ok(Placement::Sharded { key, map: *map })
        }
    }
}

fn key_column(facts: &SnapshotBuilder, relation: &Relation, name: &str) -> Result<KeyColumn, CatalogError> {
    let table = || format!("{}.{}", relation.schema, relation.name);
    let column = relation
        .column_named(name)
        .ok_or_else(|| CatalogError::NoSuchColumn {
            table: table(),
            column: name.to_owned(),
        })?;
    let bad = |why: &str| CatalogError::BadKey {
        table: table(),
        column: name.to_owned(),
        why: why.to_owned(),
    };
    let key_type = key_type(&facts.types, column.type_oid)
        .ok_or_else(|| bad("values of its type have no place that is known here"))?;
    if column.generated.is_some() {
        return Err(bad("it is a generated column"));
    }
    // A collation that is not known might call different bytes equal.
    let deterministic = match column.collation {
        None => true,
        Some(oid) => facts.collations.get(&oid).is_some_and(|c| c.deterministic),
    };
    if !deterministic {
        return Err(bad("its collation is not deterministic"));
    }
    Ok(KeyColumn {
        attnum: column.attnum,
        key_type,
    })
}

/// The key type of a type, domains resolved.
pub(crate) fn key_type(types: &Map<Oid, Type>, oid: Oid) -> Option<KeyType> {
    let base = base_type(types, oid);
    match types.get(&base) {
        Some(Type {
            kind: TypeKind::Enum, ..
        }) => Some(KeyType::Enum),
        _ => KeyType::from_base_oid(base),
    }
}

/// The type under all domains.
pub(crate) fn base_type(types: &Map<Oid, Type>, mut oid: Oid) -> Oid {
    // Domains cannot be circular; the bound is against damaged input.
    for _ in 0..64 {
        match types.get(&oid) {
            Some(Type {
                kind: TypeKind::Domain,
                base: Some(base),
                ..
            }) => oid = *base,
            _ => break,
        }
    }
    oid
}

/// Partitions and inheritance children are placed as their parent; column numbers may differ, names do not.
fn inherit_placement(facts: &mut SnapshotBuilder, sharding: &ShardingInput) -> Result<(), CatalogError> {
    let listed: Set<(&str, &str)> = sharding
        .tables
        .iter()
        .map(|t| (t.schema.as_str(), t.name.as_str()))
        .collect();
    let mut work: Vec<Oid> = facts
        .relations
        .values()
        .filter(|r| !r.placement.is_home())
        .map(|r| r.oid)
        .collect();
    work.sort_unstable();
    while let Some(parent_oid) = work.pop() {
        let Some(parent) = facts.relations.get(&parent_oid).cloned() else {
            continue;
        };
        for child_oid in &parent.children {
            let Some(child) = facts.relations.get(child_oid) else {
                continue;
            };
            let wanted = child_placement(facts, &parent, child)?;
            if child.placement == wanted {
                continue;
            }
            let is_listed = listed.contains(&(child.schema.as_str(), child.name.as_str()));
            if is_listed || !child.placement.is_home() {
                return Err(CatalogError::ChildPlacement {
                    table: format!("{}.{}", child.schema, child.name),
                    parent: format!("{}.{}", parent.schema, parent.name),
                });
            }
            if let Some(child) = facts.relations.get_mut(child_oid) {
                child.placement = wanted;
                work.push(*child_oid);
            }
        }
    }
    Ok(())
}

fn child_placement(
    facts: &SnapshotBuilder,
    parent: &Relation,
    child: &Relation,
) -> Result<Placement, CatalogError> {
    match &parent.placement {
        Placement::Sharded { key, map } => {
            let names = key
                .iter()
                .filter_map(|k| parent.column(k.attnum))
                .map(|c| c.name.as_str());
            let key = names
                .map(|name| key_column(facts, child, name))
                .collect::<Result<_, _>>()?;
            Ok(Placement::Sharded { key, map: *map })
        }
        other => Ok(other.clone()),
    }
}

fn judge_reach(facts: &mut SnapshotBuilder, reach: &Reach) {
    for relation in facts.relations.values_mut() {
        relation.reaches_sharded = reach.reason(Object::Relation(relation.oid)).map(str::to_owned);
    }
    for facts in facts.types.values_mut() {
        facts.unsafe_reason = reach.reason(Object::Type(facts.oid)).map(str::to_owned);
    }
}

/// What each name a statement may use can do to the server process.
fn acting_names(facts: &SnapshotBuilder, reach: &Reach) -> ActingNames {
    let mut names = ActingNames::default();
    for relation in facts.relations.values() {
        let by_name = reach.acts(Object::Row(relation.oid));
        acts::add(&mut names.relations, &relation.name, by_name);
        let written = by_name.and(reach.acts(Object::Writes(relation.oid)));
        acts::add(&mut names.written, &relation.name, written);
    }
    for function in facts.functions.values() {
        let row = closure::rows::returned_row(facts, function).map(|row| reach.acts(row));
        let by_name = reach.acts(Object::Function(function.oid));
        let by_name = by_name.and(row.unwrap_or_default());
        acts::add(&mut names.functions, &function.name, by_name);
    }
    for operator in facts.operators.values() {
        let by_name = reach.acts(Object::Operator(operator.oid));
        acts::add(&mut names.operators, &operator.name, by_name);
    }
    let casts = facts.casts.iter().map(|oid| Object::Function(*oid));
    let types = facts.types.keys().map(|oid| Object::Type(*oid));
    let event_triggers = facts.event_triggers.iter().map(|oid| Object::Function(*oid));
    names.ddl = event_triggers.fold(names.ddl, |all, object| all.and(reach.acts(object)));
    // `=` is meant by USING, NATURAL, CASE and IN, too.
    let equal = names.operators.get("=").copied().unwrap_or_default();
    names.everything = casts
        .chain(types)
        .fold(equal, |all, object| all.and(reach.acts(object)));
    names
}

/// The names on which a statement cannot be called home by its text alone.
struct AnalyzeNames {
    relations: Map<Box<str>, Vec<Oid>>,
    functions: Set<Box<str>>,
    operators: Set<Box<str>>,
    everything: Option<String>,
}

impl AnalyzeNames {
    fn new(facts: &SnapshotBuilder, reach: &Reach) -> AnalyzeNames {
        let unproved = |object| reach.level(object) == Level::Unproved;
        let relations = facts.relations.values().filter(|r| unproved(Object::Row(r.oid)));
        let functions = facts.functions.values().filter(|f| {
            let row = closure::rows::returned_row(facts, f);
            unproved(Object::Function(f.oid)) || row.is_some_and(unproved)
        });
        let operators = facts
            .operators
            .values()
            .filter(|o| unproved(Object::Operator(o.oid)));
        let mut casts = facts.casts.clone();
        casts.sort_unstable();
        let cast = casts.iter().find_map(|f| reach.reason(Object::Function(*f)));
        let mut domains: Vec<&Type> = facts
            .types
            .values()
            .filter(|t| t.unsafe_reason.is_some())
            .collect();
        domains.sort_unstable_by_key(|t| t.oid);
        let domain = domains.first().and_then(|t| t.unsafe_reason.as_deref());
        AnalyzeNames {
            relations: names_of(relations.map(|r| (r.name.as_str(), r.oid))),
            functions: functions.map(|f| f.name.as_str().into()).collect(),
            operators: operators.map(|o| o.name.as_str().into()).collect(),
            everything: cast.or(domain).map(str::to_owned),
        }
    }
}
