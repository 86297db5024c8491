//! Statements the worker knows: looked up by text, so that a statement seen before is neither parsed nor planned again.

use std::cell::RefCell;

use catalog::{KeyError, KeyStep, KeyType, KeyValue, ShardId, Snapshot};
use plan::{KeySource, Many, NullKeys, Plan, Target, Triage};
use sql::{Literal, LiteralKind};

use crate::server::StatementId;
use crate::session::effects::Effects;
use crate::session::{ConfigCalls, ListenCommand, ReadHint};

/// A statement as the worker's cache holds it.
#[derive(Debug)]
pub struct Statement {
    /// Names it on server connections.
    pub id: StatementId,
    /// What to do with it.
    pub action: Action,
    /// What running it does to the session.
    pub effects: Effects,
    /// The settings its calls of `set_config` may mean.
    pub configs: ConfigCalls,
    /// The first keyword is enough of a tag to know that it returns rows or not; for error texts only.
    pub kind: sql::StatementKind,
    /// Where it may be read, and what a comment in it asks for.
    pub reading: Reading,
    /// Where its runs are counted.
    pub digest: DigestSlot,
}

/// What there is to know about a statement that is to be read from a replica.
#[derive(Debug, Default)]
pub struct Reading {
    /// Where it may be read.
    pub place: plan::ReadPlace,
    /// What a comment in it asks for.
    pub hint: ReadHint,
    /// A replica has refused to run it: what it does is not what the catalog says.
    pub refused: std::cell::Cell<bool>,
}

/// Where a statement's runs are counted, once somebody has run it.
#[derive(Debug, Default)]
pub struct DigestSlot(pub RefCell<Option<std::sync::Arc<crate::digest::Digest>>>);

/// What to do with a statement.
#[derive(Debug)]
pub enum Action {
    /// The text is empty.
    Empty,
    /// Send the text to the home shard.
    Home,
    /// Follow the plan.
    Planned(Box<Planned>),
    /// LISTEN or UNLISTEN.
    Listen(ListenCommand),
    /// There is a rule about it.
    Ruled(Box<crate::session::Ruled>),
    /// DEALLOCATE: the clients' statements have other names on the servers. `None` for ALL.
    Deallocate(Option<String>),
    /// Not an optimisable statement, or answered here.
    Other(Box<Triage>),
}

/// A plan with what PostgreSQL said about the client's own statement.
#[derive(Debug)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Where the keys of [`Target::Keys`] and [`Target::Between`] come from in *this cache entry's* texts.
    pub keys: Vec<Key>,
    /// Types of the parameters, on the home shard.
    pub param_types: Vec<u32>,
    /// Body of the RowDescription in text format; `None` when no rows are returned.
    pub columns: Option<Vec<u8>>,
    /// Of [`Many::Transfer`]: the plan of its query. Of [`Many::Relocate`]: where its rows are.
    pub source: Option<Box<Planned>>,
    /// Of a [`Many::SplitInsert`] whose rows are the client's own text: where they begin in it, and
    /// what follows them. Else empty.
    pub rows_at: Vec<usize>,
    /// A column or parameter is of a type whose binary form holds object ids of types, which differ between shards.
    pub holds_oids: bool,
}

impl Planned {
    /// Parameter types for a Parse on the home shard or another one, where types made by users have other OIDs.
    pub fn server_types(&self, home: bool) -> impl Iterator<Item = u32> + '_ {
        const FIRST_USER_OID: u32 = 16384;
        let known = move |oid: &u32| if home || *oid < FIRST_USER_OID { *oid } else { 0 };
        self.param_types.iter().map(known)
    }

    /// Whether the shards are known only once the plan's prelude has been computed.
    pub fn keys_are_computed(&self) -> bool {
        let own = usize::from(self.plan.param_count);
        let computed =
            |key: &Key| matches!(key, Key::Param { index, .. } | Key::Element { index, .. } if *index >= own);
        self.keys.iter().any(|key| key.any(&computed))
    }
}

/// Where a key value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The same in every execution.
    Const(KeyValue),
    /// The n-th literal of the normalised text.
    Literal {
        /// Its index.
        index: usize,
        /// The key column's type.
        key_type: KeyType,
    },
    /// A parameter, from 0.
    Param {
        /// Its index.
        index: usize,
        /// The parameter's type.
        key_type: KeyType,
        /// What happens to the value before it is compared or stored.
        steps: Box<[KeyStep]>,
    },
    /// An element of an array that is computed before the statement; asked for by [`element`].
    Element {
        /// The parameter that carries it, from 0.
        index: usize,
        /// Which element, from 0.
        element: usize,
        /// The elements' type.
        key_type: KeyType,
    },
    /// The elements of an array parameter, from 0.
    ParamArray {
        /// Its index.
        index: usize,
        /// The elements' type.
        key_type: KeyType,
    },
    /// Keys of several columns: every combination of the values of each.
    Product {
        /// The values of each column; never products themselves.
        columns: Box<[Vec<Key>]>,
    },
    /// All sub-keys of salted keys; the columns are those of the key alone.
    SubKeys {
        /// As in [`Key::Product`].
        columns: Box<[Vec<Key>]>,
    },
}

impl Key {
    /// Whether the condition holds for it, or for a value of one of its columns.
    pub fn any(&self, condition: &impl Fn(&Key) -> bool) -> bool {
        match self {
            Key::Product { columns } | Key::SubKeys { columns } => {
                columns.iter().flatten().any(|key| key.any(condition))
            }
            key => condition(key),
        }
    }
}

/// The number under which an element of a parameter is asked for, both from 0.
pub fn element(index: usize, element: usize) -> usize {
    // Parameters are counted in 16 bits; every element has the numbers behind those of its parameter.
    ((element + 1) << 16) | index
}

/// A parameter's number, and which element of it is meant, from one of [`element`] or a plain one.
pub fn element_of(number: usize) -> (usize, Option<usize>) {
    (number & 0xffff, (number >> 16).checked_sub(1))
}

/// A parameter value of a Bind message.
#[derive(Debug, Clone, Copy)]
pub struct ParamValue<'a> {
    /// `None` is NULL.
    pub value: Option<&'a [u8]>,
    /// Binary format.
    pub binary: bool,
}

/// The key is not given in a form that can be trusted to mean the same to PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// The literal needs PostgreSQL to be understood: plan the exact text.
    #[error("the literal is not in canonical form")]
    Literal,
    /// The parameter needs PostgreSQL to be understood.
    #[error("the parameter is not in canonical form")]
    Param,
}

/// Literals of a text in the order of the normaliser, with the text.
#[derive(Debug, Clone, Copy)]
pub struct Literals<'a> {
    /// The client's text.
    pub text: &'a str,
    /// Its literals.
    pub literals: &'a [Literal],
}

/// The shards a planned statement concerns, ascending and each once. Empty: every key was NULL under `=`.
pub fn resolve<'a>(
    planned: &Planned,
    snapshot: &Snapshot,
    literals: Literals<'_>,
    param: impl Fn(usize) -> Option<ParamValue<'a>>,
) -> Result<Shards, KeyProblem> {
    match &planned.plan.target {
        Target::Home => Ok(Shards::one(snapshot.home())),
        Target::Any => Ok(Shards::Any),
        Target::Every => Ok(Shards::Many(snapshot.shards().to_vec())),
        Target::All { map } | Target::Lookup { map, .. } => {
            Ok(Shards::from_list(snapshot.shards_of(*map).to_vec()))
        }
        Target::Cluster => Ok(Shards::from_list(snapshot.shards().to_vec())),
        Target::Between { map, uses, .. } => {
            let value = |bound: &plan::Bound| {
                let mut found = None;
                let key = planned.keys.get(bound.key)?;
                // What cannot be read here bounds nothing.
                let _ = for_each_value(key, literals, &param, |value| found = Some(value));
                found
            };
            Ok(Shards::from_list(plan::between(snapshot, *map, uses, value)))
        }
        Target::Keys { map, nulls, .. } => {
            let mut shards = ShardList::default();
            for key in &planned.keys {
                let all = for_each_value(key, literals, &param, |value| {
                    if *nulls == NullKeys::Placed || !value.has_null() {
                        each_place(key, &value, (*map, snapshot), |shard| shards.add(shard));
                    }
                })?;
                if all == Values::TooMany {
                    return Ok(Shards::from_list(snapshot.shards_of(*map).to_vec()));
                }
            }
            Ok(shards.into_shards())
        }
    }
}

/// The key of a statement that is routed by one, as people write it.
pub fn tenant_of<'a>(
    planned: &Planned,
    literals: Literals<'_>,
    param: impl Fn(usize) -> Option<ParamValue<'a>>,
) -> Option<String> {
    let (Target::Keys { .. }, [key]) = (&planned.plan.target, planned.keys.as_slice()) else {
        return None;
    };
    let mut found = Vec::new();
    for_each_value(key, literals, &param, |value| found.push(value)).ok()?;
    let [key] = found.as_slice() else { return None };
    let columns: Option<Vec<String>> = key.columns().iter().map(column_text).collect();
    match columns?.as_slice() {
        [only] => Some(only.clone()),
        several => {
            let fields: Vec<Option<&str>> = several.iter().map(|text| Some(text.as_str())).collect();
            Some(catalog::record_text(&fields))
        }
    }
}

/// A value of the kinds that keys usually are.
fn column_text(value: &KeyValue) -> Option<String> {
    match value {
        KeyValue::Int(number) => Some(number.to_string()),
        KeyValue::Text(bytes) => Some(String::from_utf8_lossy(bytes).chars().take(256).collect()),
        KeyValue::Uuid(bytes) => {
            let hex = crate::trace::hex_of(bytes);
            let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
            Some(parts.join("-"))
        }
        _ => None,
    }
}

/// The values that a statement looks up in a global index, each as the texts of its columns; those with a NULL are left out,
/// as no row has them. `None`: they are more than `most`, or cannot be read.
pub fn lookup_values<'a>(
    planned: &Planned,
    literals: Literals<'_>,
    param: impl Fn(usize) -> Option<ParamValue<'a>>,
    most: usize,
) -> Option<Vec<Vec<String>>> {
    let mut found: Vec<Option<Vec<String>>> = Vec::new();
    for key in &planned.keys {
        let all = for_each_value(key, literals, &param, |value| {
            if !value.has_null() && found.len() <= most {
                found.push(value.columns().iter().map(whole_text).collect());
            }
        });
        if all != Ok(Values::All) {
            return None;
        }
    }
    (found.len() <= most).then(|| found.into_iter().collect())?
}

/// A value as PostgreSQL prints it, of the types that global indexes have.
fn whole_text(value: &KeyValue) -> Option<String> {
    match value {
        KeyValue::Text(bytes) => String::from_utf8(bytes.to_vec()).ok(),
        KeyValue::Bool(value) => Some(value.to_string()),
        other => column_text(other),
    }
}

/// Whether the literals among a statement's keys can be understood without PostgreSQL.
pub fn readable(planned: &Planned, literals: Literals<'_>) -> bool {
    let unreadable = |key: &Key| match key {
        Key::Literal { .. } => for_each_value(key, literals, &|_| None, |_| {}).is_err(),
        _ => false,
    };
    !planned.keys.iter().any(|key| key.any(&unreadable))
}

/// The place of one key (for split INSERTs).
pub fn place_of<'a>(
    source: &KeySource,
    map: catalog::MapId,
    snapshot: &Snapshot,
    param: &impl Fn(usize) -> Option<ParamValue<'a>>,
) -> Result<ShardId, KeyProblem> {
    let mut shard = snapshot.home();
    let key = fixed_key(source);
    for_each_value(
        &key,
        Literals {
            text: "",
            literals: &[],
        },
        param,
        |value| {
            shard = snapshot.shard_of(map, &value).unwrap_or(snapshot.home());
        },
    )?;
    Ok(shard)
}

/// The shards where rows with these keys are, ascending and each once; a NULL adds none.
pub fn places_of<'a>(
    keys: &[KeySource],
    map: catalog::MapId,
    snapshot: &Snapshot,
    param: &impl Fn(usize) -> Option<ParamValue<'a>>,
) -> Result<Vec<ShardId>, KeyProblem> {
    let none = Literals {
        text: "",
        literals: &[],
    };
    let mut shards = Vec::new();
    for source in keys {
        let key = fixed_key(source);
        let all = for_each_value(&key, none, param, |value| {
            if !value.has_null() {
                each_place(&key, &value, (map, snapshot), |shard| shards.push(shard));
            }
        })?;
        if all == Values::TooMany {
            return Ok(snapshot.shards_of(map).to_vec());
        }
    }
    shards.sort_unstable();
    shards.dedup();
    Ok(shards)
}

/// The shard of a value of a key, or those of all its sub-keys.
fn each_place(
    key: &Key,
    value: &KeyValue,
    (map, snapshot): (catalog::MapId, &Snapshot),
    mut each: impl FnMut(ShardId),
) {
    match snapshot.map(map) {
        None => each(snapshot.home()),
        Some(map) if matches!(key, Key::SubKeys { .. }) => {
            map.sub_key_shards(value).into_iter().for_each(each);
        }
        Some(map) => each(map.shard_of(value)),
    }
}

/// Which shards a statement concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shards {
    /// Whichever is at hand.
    Any,
    /// Exactly this one.
    One(ShardId),
    /// These, at least two, ascending.
    Many(Vec<ShardId>),
}

impl Shards {
    /// One shard.
    pub fn one(shard: ShardId) -> Self {
        Self::One(shard)
    }

    /// These, ascending and each once.
    pub fn from_list(list: Vec<ShardId>) -> Self {
        match list.as_slice() {
            [] => Self::Any,
            [one] => Self::One(*one),
            _ => Self::Many(list),
        }
    }
}

/// Collects shards without allocating for the common case of one.
#[derive(Default)]
struct ShardList {
    first: Option<ShardId>,
    more: Vec<ShardId>,
}

impl ShardList {
    fn add(&mut self, shard: ShardId) {
        match self.first {
            None => self.first = Some(shard),
            Some(first) if first == shard || self.more.contains(&shard) => {}
            Some(_) => self.more.push(shard),
        }
    }

    fn into_shards(self) -> Shards {
        match (self.first, self.more.is_empty()) {
            (None, _) => Shards::Any,
            (Some(one), true) => Shards::One(one),
            (Some(first), false) => {
                let mut list = self.more;
                list.push(first);
                list.sort_unstable();
                Shards::Many(list)
            }
        }
    }
}

/// Most combinations of the values of several columns that are looked at one by one.
const COMBINATIONS_MAX: usize = 10_000;

/// Whether the values of a key were all given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Values {
    All,
    /// None was: there are more than [`COMBINATIONS_MAX`] combinations.
    TooMany,
}

fn for_each_value<'a>(
    key: &Key,
    literals: Literals<'_>,
    param: &impl Fn(usize) -> Option<ParamValue<'a>>,
    each: impl FnMut(KeyValue),
) -> Result<Values, KeyProblem> {
    match key {
        Key::Product { columns } | Key::SubKeys { columns } => {
            for_each_combination(columns, literals, param, each)
        }
        key => for_each_column_value(key, literals, param, each).map(|()| Values::All),
    }
}

/// Every key that has one of the values of each column.
fn for_each_combination<'a>(
    columns: &[Vec<Key>],
    literals: Literals<'_>,
    param: &impl Fn(usize) -> Option<ParamValue<'a>>,
    each: impl FnMut(KeyValue),
) -> Result<Values, KeyProblem> {
    let mut values = Vec::with_capacity(columns.len());
    let mut combinations: usize = 1;
    for column in columns {
        let mut of_column = Vec::with_capacity(column.len());
        for key in column {
            for_each_column_value(key, literals, param, |value| of_column.push(value))?;
        }
        combinations = combinations.saturating_mul(of_column.len());
        values.push(of_column);
    }
    if combinations > COMBINATIONS_MAX {
        return Ok(Values::TooMany);
    }
    plan::combinations(&values).into_iter().for_each(each);
    Ok(Values::All)
}

fn for_each_column_value<'a>(
    key: &Key,
    literals: Literals<'_>,
    param: &impl Fn(usize) -> Option<ParamValue<'a>>,
    mut each: impl FnMut(KeyValue),
) -> Result<(), KeyProblem> {
    match key {
        // Products are made of columns, not of products.
        Key::Product { .. } | Key::SubKeys { .. } => return Err(KeyProblem::Param),
        Key::Const(value) => each(value.clone()),
        Key::Literal { index, key_type } => {
            let literal = literals.literals.get(*index).ok_or(KeyProblem::Literal)?;
            each(literal_value(literal, literals.text, *key_type)?);
        }
        Key::Param {
            index,
            key_type,
            steps,
        } => {
            let mut value = param_value(param(*index), *key_type)?;
            for step in steps {
                value = match step.apply(value) {
                    Ok(value) => value,
                    // No server takes it, and whichever is asked says why.
                    Err(KeyError::OutOfRange) => KeyValue::Null,
                    Err(_) => return Err(KeyProblem::Param),
                };
            }
            each(value);
        }
        Key::Element {
            index,
            element: number,
            key_type,
        } => each(param_value(param(element(*index, *number)), *key_type)?),
        Key::ParamArray { index, key_type } => array_values(param(*index), *key_type, each)?,
    }
    Ok(())
}

fn literal_value(literal: &Literal, text: &str, key_type: KeyType) -> Result<KeyValue, KeyProblem> {
    let value = literal.value(text);
    key_type
        .from_text(value.as_bytes())
        .map_err(|_| KeyProblem::Literal)
}

fn param_value(param: Option<ParamValue<'_>>, key_type: KeyType) -> Result<KeyValue, KeyProblem> {
    let param = param.ok_or(KeyProblem::Param)?;
    match param.value {
        None => Ok(KeyValue::Null),
        Some(bytes) if param.binary => key_type.from_binary(bytes).map_err(|_| KeyProblem::Param),
        Some(bytes) => key_type.from_text(bytes).map_err(|_| KeyProblem::Param),
    }
}

/// The elements of a one-dimensional array parameter.
fn array_values(
    param: Option<ParamValue<'_>>,
    key_type: KeyType,
    mut each: impl FnMut(KeyValue),
) -> Result<(), KeyProblem> {
    let param = param.ok_or(KeyProblem::Param)?;
    let Some(bytes) = param.value else { return Ok(()) };
    if !param.binary {
        return text_array(bytes, key_type, each);
    }
    let mut cursor = bytes;
    let mut word = || -> Result<i32, KeyProblem> {
        let (head, rest) = cursor.split_first_chunk::<4>().ok_or(KeyProblem::Param)?;
        cursor = rest;
        Ok(i32::from_be_bytes(*head))
    };
    let dimensions = word()?;
    let _nulls = word()?;
    let _element = word()?;
    if dimensions == 0 {
        return Ok(());
    }
    if dimensions != 1 {
        return Err(KeyProblem::Param);
    }
    let count = word()?;
    let _lower = word()?;
    for _ in 0..count {
        let (head, rest) = cursor.split_first_chunk::<4>().ok_or(KeyProblem::Param)?;
        cursor = rest;
        match usize::try_from(i32::from_be_bytes(*head)) {
            Err(_) => each(KeyValue::Null),
            Ok(len) => {
                let (value, rest) = cursor.split_at_checked(len).ok_or(KeyProblem::Param)?;
                cursor = rest;
                each(key_type.from_binary(value).map_err(|_| KeyProblem::Param)?);
            }
        }
    }
    Ok(())
}

/// `{a,"b",NULL}` of one dimension; anything fancier is left to PostgreSQL.
fn text_array(bytes: &[u8], key_type: KeyType, mut each: impl FnMut(KeyValue)) -> Result<(), KeyProblem> {
    let inner = bytes
        .strip_prefix(b"{")
        .and_then(|rest| rest.strip_suffix(b"}"))
        .ok_or(KeyProblem::Param)?;
    if inner.is_empty() {
        return Ok(());
    }
    if inner
        .iter()
        .any(|byte| matches!(byte, b'{' | b'}' | b'\\' | b' ' | b'\t' | b'\n' | b'\r'))
    {
        return Err(KeyProblem::Param);
    }
    for element in inner.split(|byte| *byte == b',') {
        if element.eq_ignore_ascii_case(b"null") {
            each(KeyValue::Null);
            continue;
        }
        let bare = match element.strip_prefix(b"\"") {
            Some(rest) => rest.strip_suffix(b"\"").ok_or(KeyProblem::Param)?,
            None => element,
        };
        if bare.contains(&b'"') {
            return Err(KeyProblem::Param);
        }
        each(key_type.from_text(bare).map_err(|_| KeyProblem::Param)?);
    }
    Ok(())
}

fn fixed_key(source: &KeySource) -> Key {
    match source {
        KeySource::Const { value, .. } => Key::Const(value.clone()),
        KeySource::Param { index, key_type } => Key::Param {
            index: usize::from(index.saturating_sub(1)),
            key_type: *key_type,
            steps: Box::default(),
        },
        KeySource::ConvertedParam {
            index,
            key_type,
            steps,
        } => Key::Param {
            index: usize::from(index.saturating_sub(1)),
            key_type: *key_type,
            steps: steps.clone(),
        },
        KeySource::Element {
            index,
            element,
            key_type,
        } => Key::Element {
            index: usize::from(index.saturating_sub(1)),
            element: element.saturating_sub(1) as usize,
            key_type: *key_type,
        },
        KeySource::ParamArray { index, key_type } => Key::ParamArray {
            index: usize::from(index.saturating_sub(1)),
            key_type: *key_type,
        },
        KeySource::Product { columns } => Key::Product {
            columns: columns
                .iter()
                .map(|column| column.iter().map(fixed_key).collect())
                .collect(),
        },
        KeySource::SubKeys { columns } => Key::SubKeys {
            columns: columns
                .iter()
                .map(|column| column.iter().map(fixed_key).collect())
                .collect(),
        },
    }
}

/// The keys of a plan, for a cache entry whose key is the exact text.
pub fn exact_keys(plan: &Plan) -> Vec<Key> {
    match &plan.target {
        Target::Keys { keys, .. } | Target::Between { keys, .. } | Target::Lookup { keys, .. } => {
            keys.iter().map(fixed_key).collect()
        }
        _ => Vec::new(),
    }
}

/// The keys of a plan for all texts with the same normalised form, or `None` when the plan holds for this text only.
///
/// A plan may serve other literals only if no literal's value went into it except as the key the statement is routed
/// by: exactly one relation (so that no two occurrences of a key were compared with each other), no other literal of
/// the same value (`SET k = 5 WHERE k = 5` is allowed only because they are equal), the client's own text everywhere,
/// nothing evaluated beforehand.
pub fn shared_keys(plan: &Plan, raw: &sql::RawStatement, literals: Literals<'_>) -> Option<Vec<Key>> {
    if plan.bound_to_text
        || raw.names.relations.len() != 1
        || !raw.names.ctes.is_empty()
        || !uses_client_text(plan)
    {
        return None;
    }
    let (Target::Keys { keys, .. } | Target::Between { keys, .. } | Target::Lookup { keys, .. }) =
        &plan.target
    else {
        return matches!(plan.target, Target::All { .. } | Target::Any | Target::Home).then(Vec::new);
    };
    keys.iter().map(|source| shared_key(source, literals)).collect()
}

fn shared_key(source: &KeySource, literals: Literals<'_>) -> Option<Key> {
    match source {
        KeySource::Const {
            value,
            location,
            key_type,
        } => {
            let location = (*location)?;
            let index = literals
                .literals
                .iter()
                .position(|literal| literal.start == location)?;
            let alone = literals.literals.iter().enumerate().all(|(other, literal)| {
                other == index || literal_value(literal, literals.text, *key_type).as_ref() != Ok(value)
            });
            alone
                .then(|| read_alike(value, index, *key_type, literals))
                .flatten()
        }
        KeySource::Product { columns } | KeySource::SubKeys { columns } => {
            let column =
                |column: &Vec<KeySource>| column.iter().map(|key| shared_key(key, literals)).collect();
            let columns: Option<Vec<Vec<Key>>> = columns.iter().map(column).collect();
            let columns = columns?.into();
            Some(match source {
                KeySource::SubKeys { .. } => Key::SubKeys { columns },
                _ => Key::Product { columns },
            })
        }
        other => Some(fixed_key(other)),
    }
}

/// A literal as the key of whatever stands in its place in other texts. The same rule that will read those must read this one, and
/// agree.
fn read_alike(value: &KeyValue, index: usize, key_type: KeyType, literals: Literals<'_>) -> Option<Key> {
    let literal = literals.literals.get(index)?;
    let read = literal_value(literal, literals.text, key_type).ok()?;
    let trusted = literal.kind != LiteralKind::Numeric && read == *value;
    trusted.then_some(Key::Literal { index, key_type })
}

/// The key of a row of VALUES, for other rows of the same shape: a literal of its own or NULL, or several of them.
pub fn key_of_row(source: &KeySource, literals: Literals<'_>) -> Option<Key> {
    match source {
        KeySource::Const {
            value: KeyValue::Null,
            ..
        } => Some(Key::Const(KeyValue::Null)),
        KeySource::Const {
            value,
            location,
            key_type,
        } => {
            let starts = |literal: &Literal| Some(literal.start) == *location;
            let index = literals.literals.iter().position(starts)?;
            read_alike(value, index, *key_type, literals)
        }
        KeySource::Product { columns } => {
            let column = |column: &Vec<KeySource>| match column.as_slice() {
                [one] => key_of_row(one, literals).map(|key| vec![key]),
                _ => None,
            };
            let columns: Option<Vec<Vec<Key>>> = columns.iter().map(column).collect();
            Some(Key::Product {
                columns: columns?.into(),
            })
        }
        _ => None,
    }
}

/// The one value of such a key in a row; `None` when it is for PostgreSQL to read.
pub fn value_of(key: &Key, literals: Literals<'_>) -> Option<KeyValue> {
    let mut found = None;
    for_each_value(key, literals, &|_| None, |value| found = Some(value)).ok()?;
    found
}

fn uses_client_text(plan: &Plan) -> bool {
    let many = match &plan.many {
        Many::Refuse(_) => true,
        Many::SumTags { shard_sql } => shard_sql.is_none(),
        Many::Rows(rows) => {
            rows.shard_sql.is_none()
                && matches!(
                    rows.combine,
                    plan::Combine::Concat { .. } | plan::Combine::Ordered { .. }
                )
        }
        Many::SplitInsert(_) | Many::Transfer(_) | Many::Relocate(_) | Many::Gather(_) => false,
    };
    many && !plan.is_rewritten() && plan.prelude.is_empty() && plan.kind != plan::StatementKind::Merge
}
