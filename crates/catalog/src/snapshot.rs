//! The immutable snapshot everything else reads.

use crate::closure::SessionActs;
use crate::closure::acts::ActingNames;
use crate::{
    Collation, Epoch, Function, GlobalIndex, KeyStep, KeyType, KeyValue, Map, MapId, Oid, Operator, PartKind,
    Proof, Relation, Set, ShardId, ShardMap, SortOrder, Type, TypeKind,
};

/// How one table is sharded, by name: schema facts are matched when the snapshot is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSharding {
    /// Schema name.
    pub schema: String,
    /// Table name.
    pub name: String,
    /// Kind of placement.
    pub kind: TableShardingKind,
}

/// Placement of a table in the sharding metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableShardingKind {
    /// By the values of some columns.
    Sharded {
        /// Their names, in the order of the key; none: all rows are where the map, which knows one shard only, has them.
        columns: Vec<String>,
        /// Map.
        map: MapId,
    },
    /// Copied to every shard.
    Reference,
}

/// Sharding metadata, as the topology store knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShardingInput {
    /// Version.
    pub epoch: Epoch,
    /// Every shard, the home shard included.
    pub shards: Vec<ShardId>,
    /// The shard that holds unsharded tables and schema facts.
    pub home: ShardId,
    /// What people call the shards.
    pub names: Vec<(ShardId, String)>,
    /// Schemas whose new tables are placed on a shard.
    pub schemas: Vec<(String, ShardId)>,
    /// Shard maps.
    pub maps: Vec<(MapId, ShardMap)>,
    /// Sharded and reference tables. All others are home tables.
    pub tables: Vec<TableSharding>,
    /// Functions declared by the operator to be correct when run on one shard: `(schema, name)`, all overloads.
    pub declared_local: Vec<(String, String)>,
    /// Indexes over all shards.
    pub global_indexes: Vec<GlobalIndex>,
}

/// Schema facts and sharding metadata of one epoch. Never changes once built.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub(crate) epoch: Epoch,
    pub(crate) home: ShardId,
    pub(crate) shards: Vec<ShardId>,
    pub(crate) shard_names: Vec<(ShardId, String)>,
    pub(crate) placed_schemas: Vec<(String, ShardId)>,
    pub(crate) maps: Map<MapId, ShardMap>,
    pub(crate) global_indexes: Vec<GlobalIndex>,
    pub(crate) relations: Map<Oid, Relation>,
    pub(crate) relation_names: Map<Box<str>, Vec<Oid>>,
    pub(crate) functions: Map<Oid, Function>,
    pub(crate) function_names: Map<Box<str>, Vec<Oid>>,
    pub(crate) types: Map<Oid, Type>,
    pub(crate) operators: Map<Oid, Operator>,
    pub(crate) collations: Map<Oid, Collation>,
    pub(crate) hash_equality: Set<(Oid, Oid, Oid)>,
    pub(crate) sort_orders: Map<Oid, SortOrder>,
    pub(crate) has_sharded: bool,
    /// Those of a name through which sharded tables are reached.
    pub(crate) sharded_names: Map<Box<str>, Vec<Oid>>,
    pub(crate) function_names_to_analyze: Set<Box<str>>,
    pub(crate) operator_names_to_analyze: Set<Box<str>>,
    pub(crate) unproved_cast: Option<String>,
    pub(crate) asks_for_drawn_values: bool,
    pub(crate) reads: crate::reads::Reads,
    pub(crate) acting: ActingNames,
    pub(crate) database: Database,
}

/// Facts about the database itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Database {
    /// Name.
    pub name: String,
    /// Server encoding name (`UTF8`).
    pub encoding: String,
    /// Default `LC_COLLATE` or locale.
    pub collate: String,
    /// Default order is byte order.
    pub bytewise: bool,
    /// `server_version_num` of the home shard (`150004`).
    pub server_version: u32,
    /// Differs whenever what ALTER ROLE … SET and ALTER DATABASE … SET say of this database differs; empty for nothing.
    pub settings: String,
}

impl Snapshot {
    /// Version of the sharding metadata.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The home shard.
    pub fn home(&self) -> ShardId {
        self.home
    }

    /// Every shard, ascending.
    pub fn shards(&self) -> &[ShardId] {
        &self.shards
    }

    /// Indexes over all shards.
    pub fn global_indexes(&self) -> &[GlobalIndex] {
        &self.global_indexes
    }

    /// An index over all shards by its number.
    pub fn global_index(&self, id: u32) -> Option<&GlobalIndex> {
        self.global_indexes.iter().find(|index| index.id == id)
    }

    /// The shard that people call this.
    pub fn shard_named(&self, name: &str) -> Option<ShardId> {
        let found = self.shard_names.iter().find(|(_, known)| known == name);
        found.map(|(shard, _)| *shard)
    }

    /// The shard on which new tables of a schema are placed; `None`: they are unsharded.
    pub fn shard_of_schema(&self, schema: &str) -> Option<ShardId> {
        let found = self.placed_schemas.iter().find(|(known, _)| known == schema);
        found.map(|(_, shard)| *shard)
    }

    /// The shard that has all rows of a placed table; `None`: the table is not placed.
    pub fn place_of(&self, relation: &Relation) -> Option<ShardId> {
        match &relation.placement {
            crate::Placement::Sharded { key, map } if key.is_empty() => self.map(*map)?.whole(),
            _ => None,
        }
    }

    /// Facts about the database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Whether any table is sharded or a reference table. When not, everything is home.
    pub fn has_sharded(&self) -> bool {
        self.has_sharded
    }

    /// Whether some function or column default may ask for `currval` or `lastval`, unseen by whoever reads a statement.
    pub fn asks_for_drawn_values(&self) -> bool {
        self.asks_for_drawn_values
    }

    /// What a statement that reads this relation (unqualified, any schema) may leave behind in the server process,
    /// through whatever runs with it: rules, policies, functions spelt as columns. Nothing for unknown names.
    pub fn reading_acts(&self, name: &str) -> SessionActs {
        self.acting.relations.get(name).copied().unwrap_or_default()
    }

    /// The same for a statement that writes it: triggers, defaults, constraints and indexes run too, and the actions of
    /// foreign keys.
    pub fn writing_acts(&self, name: &str) -> SessionActs {
        self.acting.written.get(name).copied().unwrap_or_default()
    }

    /// The same for a function called by this name. Code that nobody has read may be behind an unknown name.
    pub fn function_acts(&self, name: &str) -> SessionActs {
        match self.acting.functions.get(name) {
            Some(acts) => *acts,
            None if self.function_names.contains_key(name) => SessionActs::NONE,
            None => SessionActs::SESSION,
        }
    }

    /// The same for a name that may be no function at all.
    pub fn known_function_acts(&self, name: &str) -> SessionActs {
        self.acting.functions.get(name).copied().unwrap_or_default()
    }

    /// The same for an operator symbol.
    pub fn operator_acts(&self, name: &str) -> SessionActs {
        self.acting.operators.get(name).copied().unwrap_or_default()
    }

    /// The same for what runs without being named in a statement: user-defined casts, operator classes and domains.
    pub fn implicit_acts(&self) -> SessionActs {
        self.acting.everything
    }

    /// The same for DDL: what event triggers do.
    pub fn ddl_acts(&self) -> SessionActs {
        self.acting.ddl
    }

    /// A relation by OID. System relations are known too; temporary ones never are.
    pub fn relation(&self, oid: Oid) -> Option<&Relation> {
        self.relations.get(&oid)
    }

    /// Relations of that name in all schemas.
    pub fn relations_named(&self, name: &str) -> &[Oid] {
        self.relation_names.get(name).map_or(&[], Vec::as_slice)
    }

    /// A relation by schema and name.
    pub fn relation_in(&self, schema: &str, name: &str) -> Option<&Relation> {
        self.relations_named(name)
            .iter()
            .filter_map(|oid| self.relation(*oid))
            .find(|r| r.schema == schema)
    }

    /// All relations, in no particular order.
    pub fn relations(&self) -> impl Iterator<Item = &Relation> {
        self.relations.values()
    }

    /// A function by OID.
    pub fn function(&self, oid: Oid) -> Option<&Function> {
        self.functions.get(&oid)
    }

    /// All functions, in no particular order.
    pub fn functions(&self) -> impl Iterator<Item = &Function> {
        self.functions.values()
    }

    /// Functions of that name in all schemas, all overloads.
    pub fn functions_named(&self, name: &str) -> &[Oid] {
        self.function_names.get(name).map_or(&[], Vec::as_slice)
    }

    /// What is proved about a function; an unknown function is not proved.
    pub fn proof(&self, oid: Oid) -> Proof {
        self.function(oid).map_or_else(
            || Proof::Unproved("the function is not known".to_owned()),
            |f| f.proof.clone(),
        )
    }

    /// A type by OID (`type` is a keyword).
    pub fn type_info(&self, oid: Oid) -> Option<&Type> {
        self.types.get(&oid)
    }

    /// Whether every server has a type of this name in `pg_catalog`. Looks at all of them: for statements about types only.
    pub fn has_builtin_type(&self, name: &str) -> bool {
        let mut types = self.types.values();
        types.any(|facts| facts.builtin && facts.name == name && facts.schema == "pg_catalog")
    }

    /// The type under all domains; the type itself when it is none or unknown.
    pub fn base_type(&self, oid: Oid) -> Oid {
        crate::build::base_type(&self.types, oid)
    }

    /// The key type of a column type, domains resolved.
    pub fn key_type(&self, oid: Oid) -> Option<KeyType> {
        crate::build::key_type(&self.types, oid)
    }

    /// What the modifier of a column does to values of its type: its own, or that of the domain it is of.
    pub fn key_step(&self, type_oid: Oid, modifier: i32) -> Option<KeyStep> {
        let mut modifier = modifier;
        let mut oid = type_oid;
        // Domains cannot be circular; the bound is against damaged input.
        for _ in 0..64 {
            let Some(domain) = self.type_info(oid).filter(|t| t.kind == TypeKind::Domain) else {
                break;
            };
            modifier = domain.typmod;
            oid = domain.base?;
        }
        KeyStep::of_modifier(self.key_type(oid)?, modifier)
    }

    /// The label of a value of an enum, domains resolved.
    pub fn enum_label(&self, type_oid: Oid, value: Oid) -> Option<&str> {
        let facts = self.type_info(self.base_type(type_oid))?;
        let mut labels = facts.labels.iter();
        labels
            .find(|(oid, _)| *oid == value)
            .map(|(_, label)| label.as_str())
    }

    /// The label of a value of whichever enum it belongs to (their OIDs are unique).
    pub fn label_of(&self, value: Oid) -> Option<&str> {
        let mut labels = self.types.values().flat_map(|facts| &facts.labels);
        labels
            .find(|(oid, _)| *oid == value)
            .map(|(_, label)| label.as_str())
    }

    /// An operator by OID.
    pub fn operator(&self, oid: Oid) -> Option<&Operator> {
        self.operators.get(&oid)
    }

    /// Whether the operator is the equality of the hash family shared by both (base) types, so that rows it calls
    /// equal are placed equally. Cross-type members such as `int2 = int8` count. The collation of a text comparison is
    /// the caller's to check ([`Snapshot::is_deterministic`]).
    ///
    /// The types are the operator's declared operand types; varchar compares through text.
    pub fn is_key_equality(&self, operator: Oid, left: KeyType, right: KeyType) -> bool {
        self.hash_equality
            .contains(&(operator, left.operand(), right.operand()))
    }

    /// Whether the operator is the equality of some hash operator family for its own operand types, and if so the types.
    pub fn is_hash_equality(&self, operator: Oid) -> bool {
        self.operators
            .get(&operator)
            .and_then(|op| {
                op.left
                    .map(|left| self.hash_equality.contains(&(operator, left, op.right)))
            })
            .unwrap_or(false)
    }

    /// How a `SortGroupClause.sortop` sorts.
    pub fn btree_sort(&self, operator: Oid) -> Option<SortOrder> {
        self.sort_orders.get(&operator).copied()
    }

    /// A collation by OID.
    pub fn collation(&self, oid: Oid) -> Option<&Collation> {
        self.collations.get(&oid)
    }

    /// Whether the order of a collation is byte order. [`Oid::INVALID`] and unknown collations are not.
    pub fn is_bytewise(&self, collation: Oid) -> bool {
        self.collation(collation).is_some_and(|c| c.bytewise)
    }

    /// Whether strings equal under a collation are equal bytes. Unknown collations are not.
    pub fn is_deterministic(&self, collation: Oid) -> bool {
        self.collation(collation).is_some_and(|c| c.deterministic)
    }

    /// A shard map.
    pub fn map(&self, map: MapId) -> Option<&ShardMap> {
        self.maps.get(&map)
    }

    /// The shard of a key; `None` when there is no such map.
    pub fn shard_of(&self, map: MapId, key: &KeyValue) -> Option<ShardId> {
        self.map(map).map(|m| m.shard_of(key))
    }

    /// The relation to which an index, statistics object or owned sequence belongs. Looks at all of them: for statements
    /// about such objects only.
    pub fn owner_of_part(&self, kind: PartKind, schema: &str, name: &str) -> Option<&Relation> {
        self.relations().find(|relation| {
            let mut parts = relation.parts.iter();
            parts.any(|part| part.kind == kind && part.name == name && part.schema == schema)
        })
    }

    /// The shards of a map, ascending; empty when there is no such map.
    pub fn shards_of(&self, map: MapId) -> &[ShardId] {
        self.map(map).map_or(&[], ShardMap::shards)
    }

    /// Whether a statement naming this relation (unqualified, any schema) could reach a sharded or reference table, or
    /// an unproved function, directly or through views, rules, policies, triggers, defaults, constraints, foreign-key
    /// actions, partitions or inheritance. False for unknown names (the server will refuse them or they are temporary).
    pub fn touches_sharded_name(&self, name: &str) -> bool {
        self.has_sharded && self.sharded_names.contains_key(name)
    }

    /// The same when it is known which relation is meant.
    pub fn touches_sharded(&self, relation: &Relation) -> bool {
        let of_name = self.sharded_names.get(relation.name.as_str());
        self.has_sharded && of_name.is_some_and(|oids| oids.contains(&relation.oid))
    }

    /// Whether a call of a function of this name (unqualified, any schema) needs the analyzed tree: some function of
    /// that name is neither pure nor home-only while sharded tables exist. So do unknown names: code that ran unseen may
    /// have created them.
    pub fn function_name_needs_analysis(&self, name: &str) -> bool {
        self.has_sharded
            && (self.function_names_to_analyze.contains(name) || !self.function_names.contains_key(name))
    }

    /// The same for a name that may be no function at all, such as an identifier in a PL/pgSQL body: unknown names do not
    /// count.
    pub fn known_function_needs_analysis(&self, name: &str) -> bool {
        self.has_sharded && self.function_names_to_analyze.contains(name)
    }

    /// The same for an operator symbol.
    pub fn operator_name_needs_analysis(&self, name: &str) -> bool {
        self.has_sharded && self.operator_names_to_analyze.contains(name)
    }

    /// Set when some user-defined cast or domain runs an unproved function: those run without being named in a
    /// statement, so every statement needs the analyzed tree.
    pub fn everything_needs_analysis(&self) -> Option<&str> {
        if self.has_sharded {
            self.unproved_cast.as_deref()
        } else {
            None
        }
    }
}
