//! Facts about types, operators and collations.

use crate::Oid;

/// `pg_type.typtype`, with arrays told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TypeKind {
    /// A base type.
    #[default]
    Base,
    /// A true array type: `element` says of what.
    Array,
    /// A composite type: `relation` has its columns.
    Composite,
    /// A domain over `base`.
    Domain,
    /// An enum.
    Enum,
    /// A range over `element`.
    Range,
    /// A multirange of the range `element`.
    Multirange,
    /// A pseudo-type.
    Pseudo,
}

/// Facts about one type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Type {
    /// OID on the home shard; the same everywhere when built in.
    pub oid: Oid,
    /// Schema name.
    pub schema: String,
    /// Name as in `pg_type` (`int4`, `_int4`).
    pub name: String,
    /// Kind.
    pub kind: TypeKind,
    /// Array element, range subtype, or the range of a multirange.
    pub element: Option<Oid>,
    /// Type under a domain, one level down.
    pub base: Option<Oid>,
    /// Relation with the columns of a composite type.
    pub relation: Option<Oid>,
    /// The array type over this type.
    pub array: Option<Oid>,
    /// Type modifier of a domain, -1 for none.
    pub typmod: i32,
    /// Default collation; none when the type is not collatable.
    pub collation: Option<Oid>,
    /// Has binary output and input functions.
    pub binary: bool,
    /// Every server has it under the same OID.
    pub builtin: bool,
    /// `pg_type.typlen`: bytes, -1 for varlena, -2 for a C string.
    pub length: i16,
    /// Passed by value.
    pub by_value: bool,
    /// `pg_type.typcategory`.
    pub category: char,
    /// For a domain: functions of its CHECK constraints that make a value of it unsafe to compute on a shard.
    pub unsafe_reason: Option<String>,
    /// For an enum: the OIDs and labels of its values.
    pub labels: Vec<(Oid, String)>,
}

/// Facts about one operator.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Operator {
    /// OID on the home shard; the same everywhere when built in.
    pub oid: Oid,
    /// Schema name.
    pub schema: String,
    /// Symbol.
    pub name: String,
    /// Left operand type, none for a prefix operator.
    pub left: Option<Oid>,
    /// Right operand type.
    pub right: Oid,
    /// Result type.
    pub result: Oid,
    /// Implementing function.
    pub function: Oid,
    /// The operator with the operands swapped.
    pub commutator: Option<Oid>,
    /// The operator with the opposite result.
    pub negator: Option<Oid>,
}

/// How `ORDER BY … USING op` sorts, when the operator belongs to a btree family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SortOrder {
    /// The type sorted, the input type of the operator.
    pub type_oid: Oid,
    /// `>` of the family.
    pub descending: bool,
    /// The family is that of the type's default btree operator class: plain `ASC`/`DESC` means the same.
    pub default: bool,
}

/// `pg_collation.collprovider`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CollationProvider {
    /// Whatever the database uses.
    Default,
    /// PostgreSQL's own (from 17 on).
    Builtin,
    /// ICU.
    Icu,
    /// The C library.
    Libc,
}

/// Facts about one collation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collation {
    /// OID on the home shard.
    pub oid: Oid,
    /// Schema name.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Provider.
    pub provider: CollationProvider,
    /// Strings are equal only when their bytes are.
    pub deterministic: bool,
    /// `LC_COLLATE`, or the locale of an ICU or built-in collation.
    pub locale: String,
    /// Order is byte order: C, POSIX, `ucs_basic`, C.UTF-8, or the default of a database which is one of them.
    pub bytewise: bool,
}
