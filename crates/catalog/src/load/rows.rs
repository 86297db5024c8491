//! Rows of the load queries → facts.

use super::{CatalogError, Depend, DependKind, Object, QueryId, SnapshotBuilder, StoredBody};
use crate::{
    CheckConstraint, Collation, CollationProvider, Column, Database, FkAction, ForeignKey, Function,
    FunctionKind, Generated, Identity, Oid, Operator, Part, PartKind, Persistence, Placement, Policy, Proof,
    Relation, RelationKind, SortOrder, Trigger, Type, TypeKind, UniqueIndex, Volatility,
};

pub(super) fn take(
    to: &mut SnapshotBuilder,
    query: QueryId,
    row: &[Option<String>],
) -> Result<(), CatalogError> {
    let row = Row { query, values: row };
    match query {
        QueryId::Database => database(to, &row),
        QueryId::Relations => relation(to, &row),
        QueryId::Columns => column(to, &row),
        QueryId::Indexes => index(to, &row),
        QueryId::Constraints => constraint(to, &row),
        QueryId::Functions => function(to, &row),
        QueryId::Types => type_facts(to, &row),
        QueryId::Operators => operator(to, &row),
        QueryId::Collations => collation(to, &row),
        QueryId::Links => link(to, &row),
    }
}

/// One row, read by position with errors that say where.
struct Row<'a> {
    query: QueryId,
    values: &'a [Option<String>],
}

impl Row<'_> {
    fn opt(&self, column: usize) -> Option<&str> {
        self.values.get(column)?.as_deref()
    }

    fn text(&self, column: usize) -> Result<&str, CatalogError> {
        self.opt(column).ok_or(CatalogError::MissingValue {
            query: self.query,
            column,
        })
    }

    fn string(&self, column: usize) -> Result<String, CatalogError> {
        self.text(column).map(str::to_owned)
    }

    fn parse<T: std::str::FromStr>(&self, column: usize) -> Result<T, CatalogError> {
        self.text(column)?.parse().map_err(|_| self.bad(column))
    }

    fn oid(&self, column: usize) -> Result<Oid, CatalogError> {
        self.parse(column).map(Oid)
    }

    /// 0 and NULL are "none".
    fn opt_oid(&self, column: usize) -> Result<Option<Oid>, CatalogError> {
        match self.opt(column) {
            None => Ok(None),
            Some(_) => self.oid(column).map(|oid| (oid != Oid::INVALID).then_some(oid)),
        }
    }

    fn flag(&self, column: usize) -> Result<bool, CatalogError> {
        match self.text(column)? {
            "t" | "true" => Ok(true),
            "f" | "false" => Ok(false),
            _ => Err(self.bad(column)),
        }
    }

    /// A `"char"`; an empty value is `'\0'`.
    fn code(&self, column: usize) -> Result<char, CatalogError> {
        Ok(self.text(column)?.chars().next().unwrap_or('\0'))
    }

    /// Numbers separated by blanks.
    fn list<T: std::str::FromStr>(&self, column: usize) -> Result<Vec<T>, CatalogError> {
        let items = self.opt(column).unwrap_or("").split_ascii_whitespace();
        items
            .map(|item| item.parse().map_err(|_| self.bad(column)))
            .collect()
    }

    fn bad(&self, column: usize) -> CatalogError {
        let value = self.opt(column).unwrap_or("").chars().take(80).collect();
        CatalogError::BadValue {
            query: self.query,
            column,
            value,
        }
    }
}

fn database(to: &mut SnapshotBuilder, row: &Row<'_>) -> Result<(), CatalogError> {
    let provider = provider(row, 3)?;
    let libc = row.string(2)?;
    let locale = match provider {
        CollationProvider::Libc | CollationProvider::Default => libc,
        CollationProvider::Icu | CollationProvider::Builtin => row.opt(4).map_or(libc, str::to_owned),
    };
    to.database = Database {
        name: row.string(0)?,
        encoding: row.string(1)?,
        bytewise: is_bytewise(provider, &locale),
        collate: locale,
        server_version: row.parse(5)?,
        settings: row.opt(6).unwrap_or_default().to_owned(),
    };
    Ok(())
}

fn relation(to: &mut SnapshotBuilder, row: &Row<'_>) -> Result<(), CatalogError> {
    let kind = match row.code(3)? {
        'r' => RelationKind::Table,
        'p' => RelationKind::PartitionedTable,
        'v' => RelationKind::View,
        'm' => RelationKind::MaterializedView,
        'S' => RelationKind::Sequence,
        'f' => RelationKind::ForeignTable,
        'c' => RelationKind::CompositeType,
        _ => return Err(row.bad(3)),
    };
    let oid = row.oid(0)?;
    let relation = Relation {
        oid,
        schema: row.string(1)?,
        name: row.string(2)?,
        kind,
        persistence: if row.code(4)? == 'u' {
            Persistence::Unlogged
        } else {
            Persistence::Permanent
        },
        owner: row.string(5)?,
        placement: Placement::Home,
        has_rules: row.flag(6)?,
        row_security: row.flag(7)?,
        force_row_security: row.flag(8)?,
        is_partition: row.flag(9)?,
        extension: row.opt(10).map(str::to_owned),
        system: oid.is_builtin(),
        ..Relation::default()
    };
    to.relations.insert(oid, relation);
    Ok(())
}

fn column(to: &mut SnapshotBuilder, row: &Row<'_>) -> Result<(), CatalogError> {
    let default = row.opt(7).map(str::to_owned);
    let identity = match row.code(9)? {
        'a' => Some(Identity::Always),
        'd' => Some(Identity::ByDefault),
        _ => None,
    };
    let generated = match row.code(8)? {
        's' => Some(Generated::Stored),
        'v' => Some(Generated::Virtual),
        _ => None,
    };
    let sequence_call = default.as_deref().is_some_and(|d| d.contains("nextval("));
    let column = Column {
        attnum: row.parse(1)?,
        name: row.string(2)?,
        type_oid: row.oid(3)?,
        typmod: row.parse(4)?,
        collation: row.opt_oid(5)?,
        not_null: row.flag(6)?,
        home_sequence: identity.is_some() || sequence_call || row.flag(11)?,
        default,
        generated,
        identity,
        dropped: row.flag(10)?,
    };
    // A relation created between two snapshots cannot appear: all queries see the same one.
    if let Some(relation) = to.relations.get_mut(&row.oid(0)?) {
        relation.columns.push(column);
    }
    Ok(())
}

fn index(to: &mut SnapshotBuilder, row: &Row<'_>) -> Result<(), CatalogError> {
    let columns: Vec<i16> = row.list(3)?;
    let index = UniqueIndex {
        oid: row.oid(0)?,
        name: row.string(2)?,
        has_expressions: columns.contains(&0),
        columns,
        partial: row.flag(4)?,
        primary: row.flag(5)?,
        nulls_not_distinct: row.flag(6)?,
        immediate: row.flag(7)?,
        exclusion: row.flag(8)?,
    };
    if let Some(relation) = to.relations.get_mut(&row.oid(1)?) {
        relation.unique_indexes.push(index);
    }
    Ok(())
}

fn constraint(to: &mut SnapshotBuilder, row: &Row<'_>) -> Result<(), CatalogError> {
    let table = row.oid(2)?;
    let name = row.string(1)?;
    if row.code(0)? == 'c' {
        let definition = row.string(8)?;
        if let Some(relation) = to.relations.get_mut(&table) {
            relation.checks.push(CheckConstraint { name, definition });
        }
        return Ok(());
    }
    let action = |column| match row.code(column)? {
        'a' => Ok(FkAction::NoAction),
        'r' => Ok(FkAction::Restrict),
        'c' => Ok(FkAction::Cascade),
        'n' => Ok(FkAction::SetNull),
        'd' => Ok(FkAction::SetDefault),
        _ => Err(row.bad(column)),
    };
    to.foreign_keys.push(ForeignKey {
        name,
        table,
        columns: row.list(3)?,
        referenced: row.oid(4)?,
        referenced_columns: row.list(5)?,
        on_update: action(6)?,
        on_delete: action(7)?,
    });
    Ok(())
}

fn function(to: &mut SnapshotBuilder, row: &Row<'_>) -> Result<(), CatalogError> {
    let oid = row.oid(0)?;
    let schema = row.string(1)?;
    let builtin = oid.is_builtin() && schema == "pg_catalog";
    let function = Function {
        oid,
        name: row.string(2)?,
        arg_types: row.list::<u32>(3)?.into_iter().map(Oid).collect(),
        return_type: row.oid(4)?,
        volatility: match row.code(5)? {
            'i' => Volatility::Immutable,
            's' => Volatility::Stable,
            'v' => Volatility::Volatile,
            _ => return Err(row.bad(5)),
        },
        language: row.string(6)?,
        kind: match row.code(7)? {
            'f' => FunctionKind::Function,
            'a' => FunctionKind::Aggregate,
            'w' => FunctionKind::Window,
            'p' => FunctionKind::Procedure,
            _ => return Err(row.bad(7)),
        },
        strict: row.flag(8)?,
        returns_set: row.flag(9)?,
        variadic: row.flag(10)?,
        extension: row.opt(11).map(str::to_owned),
        sets_config: row.flag(12)?,
        security_definer: row.flag(13)?,
        makes_range: row.flag(17)?,
        proof: Proof::default(),
        builtin,
        schema,
    };
    let definition = || row.opt(15).unwrap_or("").to_owned();
    if row.flag(16)? {
        to.bodies.insert(oid, StoredBody::Parsed);
    } else if let Some(source) = row.opt(14) {
        to.bodies.insert(
            oid,
            StoredBody::Text {
                source: source.to_owned(),
                definition: definition(),
            },
        );
    }
    to.functions.insert(oid, function);
    Ok(())
}

fn type_facts(to: &mut SnapshotBuilder, row: &Row<'_>) -> Result<(), CatalogError> {
    let oid = row.oid(0)?;
    let true_array = row.flag(5)?;
    let kind = match row.code(3)? {
        'b' if true_array => TypeKind::Array,
        'b' => TypeKind::Base,
        'c' => TypeKind::Composite,
        'd' => TypeKind::Domain,
        'e' => TypeKind::Enum,
        'r' => TypeKind::Range,
        'm' => TypeKind::Multirange,
        'p' => TypeKind::Pseudo,
        _ => return Err(row.bad(3)),
    };
    let element = match kind {
        TypeKind::Array => row.opt_oid(4)?,
        _ => row.opt_oid(15)?,
    };
    let facts = Type {
        oid,
        schema: row.string(1)?,
        name: row.string(2)?,
        kind,
        element,
        base: row.opt_oid(6)?,
        relation: row.opt_oid(7)?,
        array: row.opt_oid(8)?,
        typmod: row.parse(9)?,
        collation: row.opt_oid(10)?,
        binary: row.flag(11)?,
        builtin: oid.is_builtin(),
        length: row.parse(12)?,
        by_value: row.flag(13)?,
        category: row.code(14)?,
        unsafe_reason: None,
        labels: labels(row.opt(16).unwrap_or("")).ok_or_else(|| row.bad(16))?,
    };
    to.types.insert(oid, facts);
    Ok(())
}

/// `oid:label` with the label's bytes in hexadecimal, separated by blanks.
fn labels(text: &str) -> Option<Vec<(Oid, String)>> {
    let label = |item: &str| {
        let (oid, hex) = item.split_once(':')?;
        let digits: Vec<u32> = hex.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
        let bytes = digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8);
        Some((Oid(oid.parse().ok()?), String::from_utf8(bytes.collect()).ok()?))
    };
    text.split_ascii_whitespace().map(label).collect()
}

fn operator(to: &mut SnapshotBuilder, row: &Row<'_>) -> Result<(), CatalogError> {
    let operator = Operator {
        oid: row.oid(0)?,
        schema: row.string(1)?,
        name: row.string(2)?,
        left: row.opt_oid(3)?,
        right: row.oid(4)?,
        result: row.oid(5)?,
        function: row.oid(6)?,
        commutator: row.opt_oid(7)?,
        negator: row.opt_oid(8)?,
    };
    to.operators.insert(operator.oid, operator);
    Ok(())
}

fn collation(to: &mut SnapshotBuilder, row: &Row<'_>) -> Result<(), CatalogError> {
    let provider = provider(row, 3)?;
    let locale = row.opt(5).unwrap_or("").to_owned();
    let collation = Collation {
        oid: row.oid(0)?,
        schema: row.string(1)?,
        name: row.string(2)?,
        provider,
        deterministic: row.flag(4)?,
        bytewise: is_bytewise(provider, &locale),
        locale,
    };
    to.collations.insert(collation.oid, collation);
    Ok(())
}

fn link(to: &mut SnapshotBuilder, row: &Row<'_>) -> Result<(), CatalogError> {
    match row.text(0)? {
        "depends" => depends(to, row)?,
        "inherits" => to.inherits.push((row.oid(1)?, row.oid(2)?)),
        "trigger" => {
            let enabled = matches!(row.code(4)?, 'O' | 'A');
            let (name, function, type_bits) = (row.string(2)?, row.oid(3)?, row.parse(5)?);
            to.triggers.push((
                row.oid(1)?,
                Trigger {
                    name,
                    function,
                    enabled,
                    type_bits,
                    transition_table: row.opt(6).is_some(),
                },
            ));
        }
        "policy" => to.policies.push((
            row.oid(1)?,
            Policy {
                name: row.string(2)?,
                command: row.code(3)?,
            },
        )),
        "part" => {
            let kind = match row.text(2)? {
                "index" => PartKind::Index,
                "statistics" => PartKind::Statistics,
                "sequence" => PartKind::Sequence,
                _ => return Err(row.bad(2)),
            };
            let (schema, name) = (row.string(3)?, row.string(4)?);
            to.parts.push((row.oid(1)?, Part { kind, schema, name }));
        }
        "cast" => to.casts.push(row.oid(1)?),
        "keeps" => {
            to.keepers.insert(row.oid(1)?);
        }
        "event" => to.event_triggers.push(row.oid(1)?),
        "amop" => amop(to, row)?,
        _ => return Err(row.bad(0)),
    }
    Ok(())
}

fn depends(to: &mut SnapshotBuilder, row: &Row<'_>) -> Result<(), CatalogError> {
    let object = |kind: usize, oid: usize| {
        let id = row.oid(oid)?;
        Ok(match row.text(kind)? {
            "r" => Object::Relation(id),
            "f" => Object::Function(id),
            "o" => Object::Operator(id),
            "t" => Object::Type(id),
            _ => return Err(row.bad(kind)),
        })
    };
    let why = match row.text(3)? {
        "rule" => DependKind::Rule,
        "default" => DependKind::Default,
        "check" => DependKind::Check,
        "policy" => DependKind::Policy,
        "trigger" => DependKind::Trigger,
        "index" => DependKind::Index,
        "body" => DependKind::Body,
        _ => return Err(row.bad(3)),
    };
    to.depends.push(Depend {
        owner: object(1, 2)?,
        why,
        on: object(4, 5)?,
    });
    Ok(())
}

fn amop(to: &mut SnapshotBuilder, row: &Row<'_>) -> Result<(), CatalogError> {
    let (operator, left, right, default) = (row.oid(2)?, row.oid(4)?, row.oid(5)?, row.flag(6)?);
    if row.text(1)? == "hash" {
        if default {
            to.hash_equality.push((operator, left, right));
        }
        return Ok(());
    }
    let order = SortOrder {
        type_oid: left,
        descending: row.text(3)? == "5",
        default,
    };
    // An operator may be in several families; the default one is what plain ORDER BY means.
    let known = to.sort_orders.entry(operator).or_insert(order);
    if order.default {
        *known = order;
    }
    Ok(())
}

fn provider(row: &Row<'_>, column: usize) -> Result<CollationProvider, CatalogError> {
    Ok(match row.code(column)? {
        'd' => CollationProvider::Default,
        'b' => CollationProvider::Builtin,
        'i' => CollationProvider::Icu,
        'c' => CollationProvider::Libc,
        _ => return Err(row.bad(column)),
    })
}

/// Code point order of UTF-8 text is the order of its bytes.
fn is_bytewise(provider: CollationProvider, locale: &str) -> bool {
    match provider {
        CollationProvider::Builtin => true,
        CollationProvider::Libc => matches!(locale, "C" | "POSIX" | "C.UTF-8" | "C.utf8"),
        CollationProvider::Icu | CollationProvider::Default => false,
    }
}
