//! What a statement means for the cluster record.

use catalog::{KeyShape, KeyType, MapId, Oid, Salt, ShardId};
use plan::{MetadataEffect, RefusalCode, SchemeOption};
use sql::QualifiedName;
use topology::ClusterRecord;
use topology::records::{MapRecord, SchemaRecord, Scheme, TableKind, TableRecord, TableState};
use wire::backend::ErrorFields;

use super::OpError;
use super::part::shard_name;
use super::renames::{self, Now, Renamed};
use super::{partitions, schemes};
use crate::admin_link::AdminError;
use crate::cluster::Cluster;
use crate::exec::link;
use crate::server::ServerConn;

/// A change of the cluster record's tables that was checked against the home shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordChange {
    database: String,
    /// In the order of the statements.
    changes: Vec<TableChange>,
    /// There may be new partitions.
    partitions: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TableChange {
    Add(NewTable),
    /// Tables that have other names.
    Renamed(Vec<Renamed>),
    /// The schema of functions that were declared local, or that is placed, has another name.
    Schema {
        from: String,
        to: String,
    },
    /// A schema is gone, and what was said of its new tables.
    SchemaGone(String),
    /// Whatever is recorded under this name is gone, unless it has this OID.
    Remove {
        schema: String,
        name: String,
        unless_oid: Option<u32>,
    },
}

/// A table that is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewTable {
    pub(super) database: String,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) home_oid: Oid,
    pub(super) kind: NewKind,
}

/// How it is placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NewKind {
    /// By these columns.
    Sharded {
        columns: Vec<String>,
        shape: KeyShape,
        colocate_with: Option<(String, String)>,
        scheme: Option<SchemeOption>,
        salt: Option<Salt>,
    },
    /// All of it on a shard that is not the home shard.
    Placed { shard: ShardId },
    /// Everywhere.
    Reference,
    /// On the home shard, so that it is not recorded.
    Home,
}

/// Turns effects of a transaction into a change of the record. The home shard is asked after the transaction has
/// committed; a name without a schema is looked up in `search_path`.
pub async fn resolve_effects(
    cluster: &Cluster,
    database: &str,
    search_path: &[String],
    effects: &[MetadataEffect],
) -> Result<RecordChange, ErrorFields> {
    if effects.is_empty() {
        return Ok(RecordChange {
            database: database.to_owned(),
            changes: Vec::new(),
            partitions: false,
        });
    }
    let home = cluster.home();
    let failed = |error| OpError::on(&shard_name(cluster, home))(error).into_fields();
    let mut link = cluster.admin_link(home, database).await.map_err(failed)?;
    resolve_effects_on(
        &mut link.server,
        &cluster.record(),
        database,
        search_path,
        effects,
    )
    .await
}

/// The same on a connection of the caller's, whose open transaction is seen: what the record does not allow can be
/// refused before it is committed.
pub async fn resolve_effects_on(
    home: &mut ServerConn,
    record: &ClusterRecord,
    database: &str,
    search_path: &[String],
    effects: &[MetadataEffect],
) -> Result<RecordChange, ErrorFields> {
    let resolver = Resolver {
        home,
        database,
        search_path,
    };
    resolver
        .resolve(record, effects)
        .await
        .map_err(OpError::into_fields)
}

impl RecordChange {
    /// Makes the change. May be repeated on other versions of the record.
    pub fn apply(&self, record: &mut ClusterRecord) {
        // It was tried when it was made, and nothing changes tables without the barrier; a table that could not be
        // added all the same is reported when the record is checked.
        for change in &self.changes {
            if let Err(error) = change.apply(&self.database, record) {
                tracing::error!(%error, "a table cannot be recorded");
            }
        }
    }

    /// Whether there may be tables that have no guard yet.
    pub fn makes_tables(&self) -> bool {
        self.partitions || !self.changes.is_empty()
    }

    /// Whether it changes anything.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

impl TableChange {
    fn apply(&self, database: &str, record: &mut ClusterRecord) -> Result<(), OpError> {
        match self {
            Self::Add(table) => table.add_to(record, TableState::Active).map(|_| ()),
            Self::Renamed(list) => {
                renames::apply(list, database, record);
                Ok(())
            }
            Self::Schema { from, to } => {
                renames::apply_schema(record, database, from, to);
                Ok(())
            }
            Self::SchemaGone(name) => {
                let is_it = |placed: &SchemaRecord| placed.database == database && placed.schema == *name;
                record.placed_schemas.retain(|placed| !is_it(placed));
                Ok(())
            }
            Self::Remove {
                schema,
                name,
                unless_oid,
            } => {
                let before = record.tables.len();
                record.tables.retain(|table| {
                    table.database != database
                        || table.schema != *schema
                        || table.name != *name
                        || Some(table.home_oid) == *unless_oid
                });
                // The shards have dropped its indexes with it.
                if record.tables.len() < before {
                    record.global_indexes.retain(|index| {
                        (&*index.database, &index.schema, &index.table) != (database, schema, name)
                    });
                }
                Ok(())
            }
        }
    }
}

impl NewTable {
    /// Records the table, instead of any of the same name. Gives the kind as recorded.
    pub(super) fn add_to(
        &self,
        record: &mut ClusterRecord,
        state: TableState,
    ) -> Result<Option<TableKind>, OpError> {
        let kind = match &self.kind {
            NewKind::Home => {
                record.tables.retain(|table| !self.is(table));
                return Ok(None);
            }
            NewKind::Reference => TableKind::Reference,
            NewKind::Placed { shard } => TableKind::Sharded {
                columns: Vec::new(),
                key_types: Vec::new(),
                map: place_map(record, *shard),
            },
            NewKind::Sharded {
                columns,
                shape,
                colocate_with,
                scheme,
                salt,
            } => TableKind::Sharded {
                columns: columns.clone(),
                key_types: shape
                    .types()
                    .iter()
                    .map(|known| known.name().to_owned())
                    .collect(),
                map: match colocate_with {
                    Some(other) => self.map_of(record, shape, other, scheme.is_some())?,
                    None => self.map(record, shape, scheme.as_ref(), *salt)?,
                },
            },
        };
        record.tables.retain(|table| !self.is(table));
        record.tables.push(TableRecord {
            database: self.database.clone(),
            schema: self.schema.clone(),
            name: self.name.clone(),
            home_oid: self.home_oid.0,
            kind: kind.clone(),
            state,
        });
        Ok(Some(kind))
    }

    /// Whether this is the record of this table.
    pub(super) fn is(&self, table: &TableRecord) -> bool {
        table.database == self.database && table.schema == self.schema && table.name == self.name
    }

    /// The map of the table that this one is to be colocated with; `by_hash`: it is said to be one by hash.
    fn map_of(
        &self,
        record: &ClusterRecord,
        shape: &KeyShape,
        (schema, name): &(String, String),
        by_hash: bool,
    ) -> Result<MapId, OpError> {
        let map = colocated_map(record, &self.database, schema, name, shape)?;
        let of = record.map(map).map_or("", |map| map.scheme.name());
        if by_hash && of != "hash" {
            return Err(OpError::refused(
                "22023",
                format!("{schema}.{name} is sharded by {of}, and colocate_with takes its scheme"),
            ));
        }
        Ok(map)
    }

    fn map(
        &self,
        record: &mut ClusterRecord,
        shape: &KeyShape,
        scheme: Option<&SchemeOption>,
        salt: Option<Salt>,
    ) -> Result<MapId, OpError> {
        let wanted = match salt {
            Some(salt) => schemes::salted(record, salt)?,
            None => schemes::wanted(record, shape, scheme)?,
        };
        // Tables without other wishes share a map as far as their keys can be compared.
        let fits = |map: MapId| {
            record
                .tables
                .iter()
                .filter(|table| table.database == self.database && !self.is(table))
                .filter_map(|table| sharded_by(table).filter(|(of, _)| *of == map))
                .all(|(_, known)| known.is_some_and(|known| known.is_like(shape)))
        };
        let same = |known: &Scheme| {
            let like = known
                .families()
                .is_none_or(|families| families == shape.families());
            like && match (&wanted, known.unpinned()) {
                // Whatever its ranges have become.
                (Scheme::Hash { .. }, Scheme::Hash { .. }) => true,
                (
                    Scheme::Salted {
                        key_columns,
                        sub_keys,
                        ..
                    },
                    Scheme::Salted {
                        key_columns: columns,
                        sub_keys: keys,
                        ..
                    },
                ) => (key_columns, sub_keys) == (columns, keys),
                (wanted, known) => wanted == known,
            }
        };
        let mut maps = record.maps.iter().filter(|map| same(&map.scheme));
        if let Some(map) = maps.find(|map| fits(map.id)) {
            return Ok(map.id);
        }
        let id = record.next_map_id();
        record.maps.push(MapRecord { id, scheme: wanted });
        Ok(id)
    }
}

/// The map of the tables that are placed on a shard.
fn place_map(record: &mut ClusterRecord, shard: ShardId) -> MapId {
    let scheme = Scheme::Place { shard };
    if let Some(map) = record.maps.iter().find(|map| map.scheme == scheme) {
        return map.id;
    }
    let id = record.next_map_id();
    record.maps.push(MapRecord { id, scheme });
    id
}

fn colocated_map(
    record: &ClusterRecord,
    database: &str,
    schema: &str,
    name: &str,
    shape: &KeyShape,
) -> Result<MapId, OpError> {
    let Some(other) = record.table(database, schema, name) else {
        return Err(OpError::refused(
            "42809",
            format!("table {schema}.{name} is not sharded: nothing can be colocated with it"),
        ));
    };
    let Some((map, known)) = sharded_by(other) else {
        return Err(OpError::refused(
            "42809",
            format!(
                "{schema}.{name} is a reference table: every table meets it already, without colocate_with"
            ),
        ));
    };
    if record.place_of(&other.kind).is_some() {
        return Err(OpError::refused_with(
            "42809",
            format!("table {schema}.{name} is placed on one shard, and no key decides where its rows are"),
            "Place this table on the same shard: drover.place_table, or WITH (drover.place = …).",
        ));
    }
    if known.as_ref().is_none_or(|known| !known.is_like(shape)) {
        let of = known.map_or("of an unknown type".to_owned(), |known| known.name());
        return Err(OpError::refused(
            "42804",
            format!(
                "a key of type {} cannot be colocated with {schema}.{name}, whose key is {of}",
                shape.name()
            ),
        ));
    }
    Ok(map)
}

/// Map and types of the key of a sharded table.
fn sharded_by(table: &TableRecord) -> Option<(MapId, Option<KeyShape>)> {
    match &table.kind {
        TableKind::Sharded { key_types, map, .. } => Some((*map, shape_named(key_types))),
        TableKind::Reference => None,
    }
}

/// Types and names of the key columns of a recorded table, in order: none of a placed one. `None`: the types are not known.
pub(super) fn key_of<'a>(columns: &'a [String], key_types: &[String]) -> Option<Vec<(KeyType, &'a str)>> {
    if columns.is_empty() && key_types.is_empty() {
        return Some(Vec::new());
    }
    let shape = shape_named(key_types).filter(|shape| shape.types().len() == columns.len())?;
    let names = columns.iter().map(String::as_str);
    Some(shape.types().iter().copied().zip(names).collect())
}

/// The types of a key in the record.
pub(super) fn shape_named(key_types: &[String]) -> Option<KeyShape> {
    let types: Option<Vec<KeyType>> = key_types.iter().map(|name| KeyType::named(name)).collect();
    KeyShape::new(types?).ok()
}

/// The table that `colocate_with` means: with a schema that one; without, the one of its name in `preferred`, or else
/// the only one.
pub(super) fn find_colocated(
    record: &ClusterRecord,
    database: &str,
    name: &QualifiedName,
    preferred: &str,
) -> Result<(String, String), OpError> {
    let found: Vec<&TableRecord> = record
        .tables
        .iter()
        .filter(|table| table.database == database && table.name == name.name)
        .filter(|table| name.schema.as_ref().is_none_or(|schema| *schema == table.schema))
        .collect();
    let table = match found.as_slice() {
        [] => {
            return Err(OpError::refused_with(
                "42P01",
                format!("there is no sharded table {name} to be colocated with"),
                "Shard that table first.",
            ));
        }
        [table] => *table,
        several => match several.iter().find(|table| table.schema == preferred) {
            Some(table) => *table,
            None => {
                return Err(OpError::refused_with(
                    "42P09",
                    format!("several sharded tables are named {name}"),
                    "Write colocate_with with a schema.",
                ));
            }
        },
    };
    Ok((table.schema.clone(), table.name.clone()))
}

/// What the home shard says about a table.
pub(super) struct Found {
    pub(super) oid: Oid,
    pub(super) schema: String,
}

/// Asks the home shard.
pub(super) struct Resolver<'a> {
    home: &'a mut ServerConn,
    pub(super) database: &'a str,
    search_path: &'a [String],
}

impl Resolver<'_> {
    async fn resolve(
        mut self,
        record: &ClusterRecord,
        effects: &[MetadataEffect],
    ) -> Result<RecordChange, OpError> {
        let mut trial = record.clone();
        let mut changes: Vec<TableChange> = renames::resolve(&mut self, effects).await?.into_iter().collect();
        for change in &changes {
            change.apply(self.database, &mut trial)?;
        }
        for (at, effect) in effects.iter().enumerate() {
            let later = &effects[at + 1..];
            let new = match effect {
                MetadataEffect::CreateSharded { table, .. }
                | MetadataEffect::CreateReference { table }
                | MetadataEffect::CreatePlaced { table, .. } => {
                    let now = renames::later_name(&mut self, effect, later).await?;
                    self.created(table, effect, now, &trial).await?
                }
                MetadataEffect::Renamed { .. } => continue,
                MetadataEffect::RenamedSchema { from, to } => {
                    if let Some(change) = renames::schema(&mut self, record, from, to).await? {
                        change.apply(self.database, &mut trial)?;
                        changes.push(change);
                    }
                    continue;
                }
                MetadataEffect::Partitioned { table, root } => {
                    if let Some(change) = partitions::resolve(&mut self, table, root, &trial, later).await? {
                        change.apply(self.database, &mut trial)?;
                        changes.push(change);
                    }
                    continue;
                }
                MetadataEffect::DropSchema { schemas } => {
                    for schema in schemas {
                        if !renames::schema_exists(&mut self, schema).await? {
                            let change = TableChange::SchemaGone(schema.clone());
                            change.apply(self.database, &mut trial)?;
                            changes.push(change);
                        }
                    }
                    continue;
                }
                MetadataEffect::Drop { tables } => {
                    for (schema, name) in tables {
                        let change = self.dropped(schema, name).await?;
                        change.apply(self.database, &mut trial)?;
                        changes.push(change);
                    }
                    continue;
                }
            };
            // Created and dropped again in the same transaction: nothing to record.
            let Some(new) = new else { continue };
            let change = TableChange::Add(new);
            change.apply(self.database, &mut trial)?;
            changes.push(change);
        }
        Ok(RecordChange {
            database: self.database.to_owned(),
            changes,
            partitions: partitions::concerned(effects),
        })
    }

    pub(super) async fn dropped(&mut self, schema: &str, name: &str) -> Result<TableChange, OpError> {
        let found = self.find(&QualifiedName::qualified(schema, name)).await?;
        Ok(TableChange::Remove {
            schema: schema.to_owned(),
            name: name.to_owned(),
            unless_oid: found.map(|found| found.oid.0),
        })
    }

    async fn created(
        &mut self,
        table: &QualifiedName,
        effect: &MetadataEffect,
        renamed: Option<(Oid, Now)>,
        record: &ClusterRecord,
    ) -> Result<Option<NewTable>, OpError> {
        let mut options = match effect {
            MetadataEffect::CreateSharded { options, .. } => Some(options.clone()),
            _ => None,
        };
        let (found, name) = match renamed {
            Some((oid, now)) => {
                if let Some(options) = options.as_mut().filter(|o| o.key.len() == now.columns.len()) {
                    options.key.clone_from(&now.columns);
                }
                let schema = now.schema;
                (Found { oid, schema }, now.name)
            }
            None => match self.find(table).await? {
                Some(found) => (found, table.name.clone()),
                None => return Ok(None),
            },
        };
        let kind = match (&options, effect) {
            (None, MetadataEffect::CreatePlaced { shard, .. }) => NewKind::Placed { shard: *shard },
            (None, _) => NewKind::Reference,
            (Some(options), _) => NewKind::Sharded {
                columns: options.key.clone(),
                shape: self.shape(&found, &options.key).await?,
                colocate_with: options
                    .colocate_with
                    .as_ref()
                    .map(|other| find_colocated(record, self.database, other, &found.schema))
                    .transpose()?,
                scheme: options.scheme.clone(),
                salt: options.salt,
            },
        };
        Ok(Some(NewTable {
            database: self.database.to_owned(),
            schema: found.schema,
            name,
            home_oid: found.oid,
            kind,
        }))
    }

    pub(super) async fn find(&mut self, table: &QualifiedName) -> Result<Option<Found>, OpError> {
        let schemas: Vec<String> = match &table.schema {
            Some(schema) => vec![text_sql(schema)],
            None => self.search_path.iter().map(|schema| text_sql(schema)).collect(),
        };
        let sql = format!(
            "SELECT c.oid, pg_catalog.encode(pg_catalog.convert_to(n.nspname, 'UTF8'), 'hex') \
             FROM pg_catalog.unnest(ARRAY[{}]::pg_catalog.text[]) WITH ORDINALITY AS s(name, at) \
             JOIN pg_catalog.pg_namespace n ON n.nspname = s.name \
             JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = {} \
             WHERE c.relkind IN ('r', 'p') ORDER BY s.at LIMIT 1",
            schemas.join(", "),
            text_sql(&table.name)
        );
        let rows = self.rows(&sql).await?;
        let Some([Some(oid), Some(schema)]) = rows.first().map(Vec::as_slice) else {
            return Ok(None);
        };
        let (Ok(oid), Some(schema)) = (oid.parse(), text_of_hex(schema)) else {
            return Err(OpError::refused(
                "XX000",
                "the answer about a table cannot be read",
            ));
        };
        Ok(Some(Found {
            oid: Oid(oid),
            schema,
        }))
    }

    async fn shape(&mut self, table: &Found, columns: &[String]) -> Result<KeyShape, OpError> {
        let mut types = Vec::with_capacity(columns.len());
        for column in columns {
            let rows = self.rows(&key_type_sql(table.oid, column)).await?;
            types.push(key_type_of(rows.first().map(Vec::as_slice), column)?);
        }
        shape_of(types)
    }

    pub(super) async fn rows(&mut self, sql: &str) -> Result<Vec<link::TextRow>, OpError> {
        let on = OpError::on("the home shard");
        let reply = link::query(self.home, sql)
            .await
            .map_err(|error| on(AdminError::Link(error)))?;
        reply.into_rows().map_err(|fields| on(AdminError::Server(fields)))
    }
}

/// Asks for the type under all domains, whether equal values are equal bytes, and whether the column is generated.
pub(super) fn key_type_sql(table: Oid, column: &str) -> String {
    format!(
        "SELECT (WITH RECURSIVE b(oid, base) AS (SELECT t.oid, t.typbasetype FROM pg_catalog.pg_type t \
             WHERE t.oid = a.atttypid UNION ALL SELECT t.oid, t.typbasetype FROM b JOIN pg_catalog.pg_type t \
             ON t.oid = b.base WHERE b.base <> 0) SELECT CASE t.typtype WHEN 'e' THEN 'enum' ELSE t.oid::pg_catalog.text END \
             FROM b JOIN pg_catalog.pg_type t USING (oid) WHERE b.base = 0 LIMIT 1), coalesce((SELECT c.collisdeterministic FROM pg_catalog.pg_collation c WHERE c.oid = a.attcollation), true), \
             a.attgenerated <> '' \
         FROM pg_catalog.pg_attribute a WHERE a.attrelid = {table} AND a.attnum > 0 AND NOT a.attisdropped \
         AND a.attname = {}",
        text_sql(column)
    )
}

/// The key type from a row of [`key_type_sql`].
pub(super) fn key_type_of(row: Option<&[Option<String>]>, column: &str) -> Result<KeyType, OpError> {
    let Some([Some(oid), Some(deterministic), Some(generated)]) = row else {
        return Err(OpError::refused(
            "42703",
            format!("column \"{column}\" does not exist"),
        ));
    };
    let key_type = match oid.as_str() {
        "enum" => Some(KeyType::Enum),
        oid => oid.parse().ok().and_then(|oid| KeyType::from_base_oid(Oid(oid))),
    };
    let Some(key_type) = key_type else {
        return Err(OpError::not_done(
            RefusalCode::ShardKeyColumn,
            format!("column \"{column}\" cannot be a shard key: its type is not supported"),
            Some(
                "Keys are integers, numeric, real, double precision, text, character varying, character, uuid, bytea, \
                 boolean, date, timestamp with or without time zone, enums, or domains over these.",
            ),
        ));
    };
    if generated == "t" {
        return Err(OpError::not_done(
            RefusalCode::ShardKeyColumn,
            format!("column \"{column}\" cannot be a shard key: it is generated"),
            None,
        ));
    }
    if deterministic != "t" {
        return Err(OpError::not_done(
            RefusalCode::ShardKeyColumn,
            format!("column \"{column}\" cannot be a shard key: its collation is not deterministic"),
            None,
        ));
    }
    Ok(key_type)
}

/// The shape of a key with columns of these types.
pub(super) fn shape_of(types: Vec<KeyType>) -> Result<KeyShape, OpError> {
    KeyShape::new(types)
        .map_err(|error| OpError::not_done(RefusalCode::ShardKeyColumn, error.to_string(), None))
}

/// A text as SQL that means the same whatever the session's encoding and lexical settings are.
pub(super) fn text_sql(text: &str) -> String {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("pg_catalog.convert_from(pg_catalog.decode('{hex}', 'hex'), 'UTF8')")
}

/// The text that hexadecimal digits spell in UTF-8.
pub(super) fn text_of_hex(hex: &str) -> Option<String> {
    let digits: Vec<u8> = hex
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let bytes = digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect();
    String::from_utf8(bytes).ok()
}
