//! What the cluster record says, and whether it makes sense.

use catalog::{
    Epoch, KEY_COLUMNS_MAX, KeyShape, MapId, ShardId, ShardMap, ShardMapError, ShardingInput, TableSharding,
    TableShardingKind,
};

use super::{
    ClusterRecord, FunctionRecord, GlobalIndexRecord, MapRecord, SchemaRecord, Scheme, SchemeError,
    ShardRecord, TableKind, TableRecord, TableState,
};

/// Why a [`ClusterRecord`] makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterRecordError {
    /// Ranges of a map are wrong.
    #[error("shard map {map}: {error}")]
    Map {
        /// Which.
        map: MapId,
        /// Why.
        error: SchemeError,
    },
    /// The same of a global index.
    #[error("{index}: {error}")]
    Index {
        /// Which.
        index: String,
        /// Why.
        error: SchemeError,
    },
    /// A table's key is not of the type of its map's keys.
    #[error("table {table} has a key that shard map {map} cannot place")]
    MapFamily {
        /// `schema.name`.
        table: String,
        /// Number of the map.
        map: MapId,
    },
    /// A shard is named that is not in the list.
    #[error("{place} names shard {shard}, which does not exist")]
    UnknownShard {
        /// Where it is named.
        place: String,
        /// Its number.
        shard: ShardId,
    },
    /// A map is named that is not in the list.
    #[error("table {table} names shard map {map}, which does not exist")]
    UnknownMap {
        /// `schema.name`.
        table: String,
        /// Its number.
        map: MapId,
    },
    /// The same thing twice.
    #[error("{0} is there twice")]
    Twice(String),
    /// No key column, too many, or columns without types.
    #[error("table {table} needs one to {KEY_COLUMNS_MAX} key columns, each with its type")]
    KeyColumns {
        /// `schema.name`.
        table: String,
    },
}

impl ClusterRecord {
    /// A new cluster: one map over all shards, the first shard is home, epoch 1, no tables.
    pub fn new(
        cluster_id: impl Into<String>,
        databases: Vec<String>,
        shards: Vec<ShardRecord>,
    ) -> Result<ClusterRecord, ClusterRecordError> {
        let ids: Vec<ShardId> = shards.iter().map(|shard| shard.id).collect();
        let id = MapId(1);
        let scheme = if ids.is_empty() {
            Err(ShardMapError::Empty)
        } else {
            Scheme::even_hash(&ids)
        };
        let scheme = scheme.map_err(|error| ClusterRecordError::Map {
            map: id,
            error: error.into(),
        })?;
        let record = ClusterRecord {
            cluster_id: cluster_id.into(),
            epoch: Epoch(1),
            schema_version: 1,
            databases,
            home: ids[0],
            shards,
            maps: vec![MapRecord { id, scheme }],
            tables: Vec::new(),
            declared_local: Vec::new(),
            global_indexes: Vec::new(),
            placed_schemas: Vec::new(),
            ownership: Epoch(0),
            journal: None,
        };
        record.check()?;
        Ok(record)
    }

    /// A shard by number.
    pub fn shard(&self, id: ShardId) -> Option<&ShardRecord> {
        self.shards.iter().find(|shard| shard.id == id)
    }

    /// A map by number.
    pub fn map(&self, id: MapId) -> Option<&MapRecord> {
        self.maps.iter().find(|map| map.id == id)
    }

    /// The shard that has all rows of a table of this kind; `None`: it is not placed.
    pub fn place_of(&self, kind: &TableKind) -> Option<ShardId> {
        match kind {
            TableKind::Sharded { columns, map, .. } if columns.is_empty() => match self.map(*map)?.scheme {
                Scheme::Place { shard } => Some(shard),
                _ => None,
            },
            _ => None,
        }
    }

    /// A number for a map that no map has.
    pub fn next_map_id(&self) -> MapId {
        MapId(self.maps.iter().map(|map| map.id.0).max().unwrap_or(0) + 1)
    }

    /// A table by name.
    pub fn table(&self, database: &str, schema: &str, name: &str) -> Option<&TableRecord> {
        self.tables
            .iter()
            .find(|t| t.database == database && t.schema == schema && t.name == name)
    }

    /// A table by name, to change it.
    pub fn table_mut(&mut self, database: &str, schema: &str, name: &str) -> Option<&mut TableRecord> {
        self.tables
            .iter_mut()
            .find(|t| t.database == database && t.schema == schema && t.name == name)
    }

    /// Whether everything named exists, once, and the maps cover the hash space.
    pub fn check(&self) -> Result<(), ClusterRecordError> {
        self.sharding_input_of(|_| true, |_| true, |_| true).map(|_| ())?;
        for index in &self.global_indexes {
            index.to_index()?;
        }
        let mut names = std::collections::BTreeSet::new();
        for shard in &self.shards {
            for unique in [format!("shard {}", shard.id), format!("shard `{}`", shard.name)] {
                if !names.insert(unique.clone()) {
                    return Err(ClusterRecordError::Twice(unique));
                }
            }
        }
        let maps = self.maps.iter().map(|map| format!("shard map {}", map.id));
        let tables = self
            .tables
            .iter()
            .map(|t| format!("table {}.{} of {}", t.schema, t.name, t.database));
        let databases = self.databases.iter().map(|name| format!("database `{name}`"));
        let indexes = self.global_indexes.iter();
        let indexes = indexes.map(|index| format!("global index {}", index.id));
        let schemas = self.placed_schemas.iter();
        let schemas = schemas.map(|s| format!("the place of schema {} of {}", s.schema, s.database));
        for unique in maps.chain(tables).chain(databases).chain(indexes).chain(schemas) {
            if !names.insert(unique.clone()) {
                return Err(ClusterRecordError::Twice(unique));
            }
        }
        Ok(())
    }

    /// The sharding metadata of one database, as the catalog takes it. Tables whose change is pending are left out:
    /// whoever uses them must wait for the change or repair it first.
    pub fn sharding_input(&self, database: &str) -> Result<ShardingInput, ClusterRecordError> {
        self.sharding_input_of(
            |table| table.database == database && table.state == TableState::Active,
            |function| function.database == database,
            |schema| schema.database == database,
        )
        .and_then(|input| self.with_indexes(input, database))
    }

    fn with_indexes(
        &self,
        input: ShardingInput,
        database: &str,
    ) -> Result<ShardingInput, ClusterRecordError> {
        let indexes = self
            .global_indexes
            .iter()
            .filter(|index| index.database == database);
        Ok(ShardingInput {
            global_indexes: indexes
                .map(GlobalIndexRecord::to_index)
                .collect::<Result<_, _>>()?,
            ..input
        })
    }

    fn sharding_input_of(
        &self,
        tables: impl Fn(&TableRecord) -> bool,
        functions: impl Fn(&FunctionRecord) -> bool,
        schemas: impl Fn(&SchemaRecord) -> bool,
    ) -> Result<ShardingInput, ClusterRecordError> {
        self.check_shard(self.home, || "the home shard".to_owned())?;
        let maps = self
            .maps
            .iter()
            .map(|map| self.shard_map(map))
            .collect::<Result<_, _>>()?;
        let tables = self.tables.iter().filter(|table| tables(table));
        let tables = tables
            .map(|table| self.table_sharding(table))
            .collect::<Result<_, _>>()?;
        let declared_local = self.declared_local.iter().filter(|function| functions(function));
        let schemas = self.placed_schemas.iter().filter(|schema| schemas(schema));
        let schemas = schemas
            .map(|placed| {
                self.check_shard(placed.shard, || format!("schema {}", placed.schema))?;
                Ok((placed.schema.clone(), placed.shard))
            })
            .collect::<Result<_, _>>()?;
        Ok(ShardingInput {
            epoch: self.epoch,
            shards: self.shards.iter().map(|shard| shard.id).collect(),
            home: self.home,
            names: self
                .shards
                .iter()
                .map(|shard| (shard.id, shard.name.clone()))
                .collect(),
            schemas,
            maps,
            tables,
            declared_local: declared_local
                .map(|f| (f.schema.clone(), f.name.clone()))
                .collect(),
            global_indexes: Vec::new(),
        })
    }

    fn check_shard(&self, shard: ShardId, place: impl Fn() -> String) -> Result<(), ClusterRecordError> {
        match self.shard(shard) {
            Some(_) => Ok(()),
            None => Err(ClusterRecordError::UnknownShard {
                place: place(),
                shard,
            }),
        }
    }

    fn shard_map(&self, map: &MapRecord) -> Result<(MapId, ShardMap), ClusterRecordError> {
        let built = map.scheme.to_shard_map();
        let built = built.map_err(|error| ClusterRecordError::Map { map: map.id, error })?;
        for &shard in built.shards() {
            self.check_shard(shard, || format!("shard map {}", map.id))?;
        }
        Ok((map.id, built))
    }

    fn table_sharding(&self, table: &TableRecord) -> Result<TableSharding, ClusterRecordError> {
        let full_name = || format!("{}.{}", table.schema, table.name);
        let kind = match &table.kind {
            TableKind::Reference => TableShardingKind::Reference,
            TableKind::Sharded {
                columns,
                key_types,
                map,
            } => {
                let Some(known) = self.map(*map) else {
                    return Err(ClusterRecordError::UnknownMap {
                        table: full_name(),
                        map: *map,
                    });
                };
                let fewest = usize::from(known.scheme.columns_min() > 0);
                if !(fewest..=KEY_COLUMNS_MAX).contains(&columns.len()) || columns.len() != key_types.len() {
                    return Err(ClusterRecordError::KeyColumns { table: full_name() });
                }
                let of_key = KeyShape::named(&key_types.join(","))
                    .filter(|shape| shape.types().len() == columns.len());
                let of_key = match columns.is_empty() {
                    true => Some(Vec::new()),
                    false => of_key.map(|shape| shape.families()),
                };
                let of_map = known.scheme.families();
                let too_few = columns.len() < known.scheme.columns_min();
                if too_few || of_map.is_some_and(|families| Some(families) != of_key) {
                    return Err(ClusterRecordError::MapFamily {
                        table: full_name(),
                        map: *map,
                    });
                }
                TableShardingKind::Sharded {
                    columns: columns.clone(),
                    map: *map,
                }
            }
        };
        Ok(TableSharding {
            schema: table.schema.clone(),
            name: table.name.clone(),
            kind,
        })
    }
}
