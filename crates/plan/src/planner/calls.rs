//! What a statement calls: functions, operators, the clock, sequences.

use std::collections::HashSet;

use catalog::{Function, Oid, Proof, Snapshot, Volatility};
use sql::{Node, Value};

/// `now()` and `transaction_timestamp()`.
pub(super) const NOW: [u32; 2] = [1299, 2647];
/// `statement_timestamp()`.
pub(super) const STATEMENT_TIME: u32 = 2648;
/// `age(x)`, which means the distance to the current date.
const AGE_TODAY: [u32; 2] = [1386, 2059];
/// `nextval(regclass)`.
pub(super) const NEXTVAL: u32 = 1574;
/// Types whose values are object ids: regproc, regprocedure, regoper, regoperator, regclass, regtype, regconfig,
/// regdictionary, regnamespace, regrole, regcollation.
pub(super) const REG_TYPES: [u32; 11] = [24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191];
/// Types whose literals `now`, `today` … are relative to the clock.
const TIME_TYPES: [u32; 5] = [1082, 1083, 1114, 1184, 1266];
/// Arrays of them, ranges, multiranges, and arrays of these.
const TIMES_TYPES: [u32; 17] = [
    1182, 1183, 1115, 1185, 1270, 3908, 3909, 3910, 3911, 3912, 3913, 4533, 4534, 4535, 6152, 6153, 6155,
];

/// Everything a tree calls that a decision depends on. Texts name the culprit.
#[derive(Debug, Default, Clone)]
pub(super) struct Calls {
    /// Not proved to stay within one shard.
    pub unproved: Option<String>,
    /// `set_config`, `pg_table_size` and their like: about the server they run on.
    pub about_server: Option<String>,
    /// Right on the home shard only.
    pub home_only: Option<String>,
    /// The same, and only on the session's own connection there.
    pub session_only: Option<String>,
    /// Volatile.
    pub volatile: Option<String>,
    /// The transaction's start time.
    pub now: bool,
    /// The statement's start time.
    pub statement_time: bool,
    /// Depends on today's date in a way that cannot be passed as a parameter.
    pub today: bool,
    /// Draws from a sequence.
    pub sequence: bool,
    /// ctid, xmin, tableoid …
    pub system_column: bool,
    /// A constant object id of a user-defined object.
    pub server_oid: bool,
    /// Some constant is of a date or time type.
    pub time_constant: bool,
    /// `WHERE CURRENT OF`.
    pub current_of: bool,
}

/// Collects the calls of a tree, leaving out the nodes in `skip` and what is below them.
pub(super) fn calls(tree: &Node, snapshot: &Snapshot, skip: &HashSet<*const Node>) -> Calls {
    let mut found = Calls::default();
    let mut stack = vec![tree];
    while let Some(node) = stack.pop() {
        if skip.contains(&std::ptr::from_ref(node)) {
            continue;
        }
        found.add(node, snapshot);
        for (_, value) in &node.fields {
            push(value, &mut stack);
        }
    }
    found
}

fn push<'a>(value: &'a Value, stack: &mut Vec<&'a Node>) {
    match value {
        Value::Node(node) => stack.push(node),
        Value::List(list) => list.iter().for_each(|v| push(v, stack)),
        _ => {}
    }
}

impl Calls {
    fn add(&mut self, node: &Node, snapshot: &Snapshot) {
        match &*node.name {
            "FUNCEXPR" => self.function_field(node, "funcid", snapshot),
            "AGGREF" => self.function_field(node, "aggfnoid", snapshot),
            "WINDOWFUNC" => self.function_field(node, "winfnoid", snapshot),
            "OPEXPR" | "DISTINCTEXPR" | "NULLIFEXPR" | "SCALARARRAYOPEXPR" => {
                self.operator(node.oid("opno").unwrap_or(0), snapshot);
            }
            "ROWCOMPAREEXPR" => {
                node.oids("opnos")
                    .unwrap_or_default()
                    .iter()
                    .for_each(|o| self.operator(*o, snapshot));
            }
            "SORTGROUPCLAUSE" => {
                for field in ["eqop", "sortop"] {
                    let oid = node.oid(field).unwrap_or(0);
                    if oid != 0 {
                        self.operator(oid, snapshot);
                    }
                }
            }
            "SQLVALUEFUNCTION" => match node.i64("op") {
                Ok(0..=8) => self.now = true,
                Ok(9..=12) => {}
                _ => set(&mut self.home_only, || {
                    "current_catalog or current_schema".to_owned()
                }),
            },
            "NEXTVALUEEXPR" => self.sequence = true,
            "COERCEVIAIO" => self.conversion(node, snapshot),
            "COERCETODOMAIN" => {
                let domain = node
                    .oid("resulttype")
                    .ok()
                    .and_then(|t| snapshot.type_info(Oid(t)));
                if let Some(reason) = domain.and_then(|d| d.unsafe_reason.clone()) {
                    set(&mut self.unproved, || reason);
                }
            }
            "VAR" if node.i64("varattno").is_ok_and(|a| a < 0) => self.system_column = true,
            "CONST" => self.constant(node),
            "CURRENTOFEXPR" => self.current_of = true,
            _ => {}
        }
    }

    fn constant(&mut self, node: &Node) {
        let type_oid = node.oid("consttype").unwrap_or(0);
        self.time_constant |= TIME_TYPES.contains(&type_oid) || TIMES_TYPES.contains(&type_oid);
        if REG_TYPES.contains(&type_oid)
            && let Value::Datum { bytes, .. } = node.value("constvalue")
            && let Some(oid) = bytes.get(..4).and_then(|b| <[u8; 4]>::try_from(b).ok())
            && !Oid(u32::from_le_bytes(oid)).is_builtin()
        {
            self.server_oid = true;
        }
    }

    fn conversion(&mut self, node: &Node, snapshot: &Snapshot) {
        let target = node.oid("resulttype").unwrap_or(0);
        if REG_TYPES.contains(&target) {
            set(&mut self.home_only, || "a conversion to an object id".to_owned());
            set(&mut self.session_only, || {
                "a conversion to an object id".to_owned()
            });
        }
        let facts = snapshot.type_info(Oid(target));
        if let Some(reason) = facts.and_then(|f| f.unsafe_reason.clone()) {
            set(&mut self.unproved, || reason);
        }
    }

    fn operator(&mut self, oid: u32, snapshot: &Snapshot) {
        match snapshot.operator(Oid(oid)) {
            Some(operator) => self.function(operator.function.0, snapshot),
            None => set(&mut self.unproved, || format!("operator {oid} is not known")),
        }
    }

    fn function_field(&mut self, node: &Node, field: &'static str, snapshot: &Snapshot) {
        self.function(node.oid(field).unwrap_or(0), snapshot);
    }

    fn function(&mut self, oid: u32, snapshot: &Snapshot) {
        if NOW.contains(&oid) {
            self.now = true;
            return;
        }
        match oid {
            STATEMENT_TIME => self.statement_time = true,
            NEXTVAL => self.sequence = true,
            _ => self.other_function(oid, snapshot),
        }
    }

    fn other_function(&mut self, oid: u32, snapshot: &Snapshot) {
        self.today |= AGE_TODAY.contains(&oid);
        let Some(function) = snapshot.function(Oid(oid)) else {
            set(&mut self.unproved, || format!("function {oid} is not known"));
            return;
        };
        if function.volatility == Volatility::Volatile {
            set(&mut self.volatile, || function.name.clone());
        }
        match &function.proof {
            Proof::Pure => {}
            Proof::HomeOnly => {
                set(&mut self.home_only, || function.name.clone());
                if !answers_by_schema(function) {
                    set(&mut self.session_only, || function.name.clone());
                }
            }
            Proof::Unproved(_) if about_server(function) => {
                set(&mut self.about_server, || function.name.clone())
            }
            Proof::Unproved(reason) => set(&mut self.unproved, || reason.clone()),
        }
    }
}

fn set(slot: &mut Option<String>, text: impl FnOnce() -> String) {
    if slot.is_none() {
        *slot = Some(text());
    }
}

/// Built-in functions which say or change something about the one server they run on, and are understood that way by
/// those who call them on the home shard: sizes of relations, settings.
fn about_server(function: &Function) -> bool {
    const NAMES: [&str; 7] = [
        "set_config",
        "pg_relation_size",
        "pg_table_size",
        "pg_indexes_size",
        "pg_total_relation_size",
        "pg_database_size",
        "pg_tablespace_size",
    ];
    function.builtin && NAMES.contains(&function.name.as_str())
}

/// Built-in functions whose answer follows from the schema, the role and the search path, so that any connection to the home shard
/// with these gives it.
fn answers_by_schema(function: &Function) -> bool {
    const NAMES: [&str; 9] = [
        "pg_typeof",
        "version",
        "current_database",
        "current_schema",
        "current_schemas",
        "to_regclass",
        "to_regtype",
        "has_table_privilege",
        "has_schema_privilege",
    ];
    function.builtin && NAMES.contains(&function.name.as_str())
}

/// Whether a statement has a string constant that could be a time relative to the clock (`'now'::timestamptz`), or a part of
/// one (`'{today}'::date[]`).
pub(super) fn has_relative_time(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let words = ["now", "today", "tomorrow", "yesterday"];
    let after = |opening: char| {
        lower.split(opening).skip(1).any(|rest| {
            let rest = rest.trim_start_matches(|c: char| c.is_whitespace() || "{[(,\"".contains(c));
            words.iter().any(|word| rest.starts_with(word))
        })
    };
    // The second member of an array or a range.
    let member = || {
        lower.split('\'').skip(1).step_by(2).any(|content| {
            let brackets = content.trim_start().starts_with(['{', '[', '(']);
            brackets && words.iter().any(|word| content.contains(word))
        })
    };
    after('\'') || after('$') || member() || hides_letters(&lower)
}

/// Whether some string constant spells a letter by its number: `E'\x6eow'`, `U&'\006eow'`.
fn hides_letters(lower: &str) -> bool {
    let escaped = lower.split("e'").skip(1).any(|rest| {
        let content = rest.split('\'').next().unwrap_or("");
        let mut escapes = content.split('\\').skip(1);
        escapes.any(|escape| escape.starts_with(|c: char| c.is_ascii_digit() || c == 'x' || c == 'u'))
    });
    escaped || lower.contains("u&'")
}

/// Whether what a statement computes may depend on settings or on the clock: it calls what is not immutable, or writes or reads a value as
/// text.
pub(super) fn by_settings(tree: &Node, snapshot: &Snapshot) -> bool {
    let mut found = false;
    tree.walk(|node| {
        found |= match &*node.name {
            "COERCEVIAIO"
            | "SQLVALUEFUNCTION"
            | "ROWCOMPAREEXPR"
            | "XMLEXPR"
            | "JSONCONSTRUCTOREXPR"
            | "JSONEXPR" => true,
            "FUNCEXPR" => changes(node, "funcid", snapshot),
            "OPEXPR" | "DISTINCTEXPR" | "NULLIFEXPR" | "SCALARARRAYOPEXPR" => {
                changes(node, "opfuncid", snapshot)
            }
            "AGGREF" => changes(node, "aggfnoid", snapshot),
            "WINDOWFUNC" => changes(node, "winfnoid", snapshot),
            _ => false,
        };
    });
    found
}

fn changes(node: &Node, field: &'static str, snapshot: &Snapshot) -> bool {
    let function = node.oid(field).ok().and_then(|oid| snapshot.function(Oid(oid)));
    function.is_none_or(|function| function.volatility != Volatility::Immutable)
}

#[cfg(test)]
mod tests {
    use super::has_relative_time;

    #[test]
    fn times_that_depend_on_the_clock_are_seen_in_every_spelling() {
        for text in [
            "SELECT 'now'::date",
            "SELECT ' Today'::date",
            "SELECT $$now$$::date",
            "SELECT $x$yesterday$x$::date",
            "SELECT '{2020-01-01,today}'::date[]",
            "SELECT '{\"now\"}'::date[]",
            "SELECT '[2020-01-01,tomorrow)'::daterange",
            r"SELECT E'\x6eow'::date",
            r"SELECT E'n\157w'::date",
            r"SELECT U&'\006eow'::date",
        ] {
            assert!(has_relative_time(text), "{text}");
        }
        for text in [
            "SELECT '2020-01-01'::date, now()",
            "SELECT 'see you now', '2020-01-01'::date",
            r"SELECT E'a\nb', '2020-01-01'::date",
            "SELECT today FROM t WHERE d = '2020-01-01'",
        ] {
            assert!(!has_relative_time(text), "{text}");
        }
    }
}
