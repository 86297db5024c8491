//! What is known of functions whose bodies cannot be read: built-in ones, and those written in C.
//!
//! Built-in functions are pure except those named here. The lists lean to the strict side: a pure function listed as
//! home-only costs a refusal, the opposite would cost a wrong answer.

use crate::{Function, FunctionKind, Proof, Volatility};

/// Run a query or read a relation given at run time: they would silently see one shard's slice of it.
const READS_BY_NAME: &[&str] = &[
    "query_to_xml",
    "query_to_xmlschema",
    "query_to_xml_and_xmlschema",
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "table_to_xml",
    "table_to_xmlschema",
    "table_to_xml_and_xmlschema",
    "schema_to_xml",
    "schema_to_xmlschema",
    "schema_to_xml_and_xmlschema",
    "database_to_xml",
    "database_to_xmlschema",
    "database_to_xml_and_xmlschema",
    "ts_stat",
    "ts_rewrite",
    "currtid2",
    "pg_relation_size",
    "pg_table_size",
    "pg_indexes_size",
    "pg_total_relation_size",
    "pg_database_size",
    "pg_tablespace_size",
    "brin_summarize_new_values",
    "brin_summarize_range",
    "brin_desummarize_range",
    "gin_clean_pending_list",
    "pg_logical_slot_get_changes",
    "pg_logical_slot_get_binary_changes",
    "pg_logical_slot_peek_changes",
    "pg_logical_slot_peek_binary_changes",
    "pg_clear_relation_stats",
    "pg_clear_attribute_stats",
    "pg_restore_relation_stats",
    "pg_restore_attribute_stats",
];

/// The same for well-known extension functions which are declared stable.
const EXTENSION_READS_BY_NAME: &[&str] = &[
    "crosstab",
    "crosstab2",
    "crosstab3",
    "crosstab4",
    "crosstabn",
    "connectby",
    "xpath_table",
    "st_estimatedextent",
    "st_estimated_extent",
    "_postgis_stats",
    "_postgis_selectivity",
    "_postgis_join_selectivity",
    "_postgis_index_extent",
    "postgis_typmod_dims",
];

/// Volatile functions of extensions that only make random or unique values: `(extension, function)`.
const EXTENSION_PURE: &[(&str, &str)] = &[
    ("uuid-ossp", "uuid_generate_v1"),
    ("uuid-ossp", "uuid_generate_v1mc"),
    ("uuid-ossp", "uuid_generate_v4"),
    ("pgcrypto", "gen_random_bytes"),
    ("pgcrypto", "gen_random_uuid"),
    ("pgcrypto", "gen_salt"),
    ("pgcrypto", "pgp_sym_encrypt"),
    ("pgcrypto", "pgp_sym_encrypt_bytea"),
    ("pgcrypto", "pgp_pub_encrypt"),
    ("pgcrypto", "pgp_pub_encrypt_bytea"),
    ("tablefunc", "normal_rand"),
];

/// Extensions whose functions only tell about the server they run on.
const EXTENSION_HOME: &[&str] = &["pg_stat_statements", "pg_buffercache", "pg_walinspect", "sslinfo"];

/// Read the catalog, sequences, large objects, locks, files or the state of one server.
const HOME: &[&str] = &[
    "currval",
    "lastval",
    "nextval",
    "setval",
    "loread",
    "lowrite",
    "obj_description",
    "col_description",
    "shobj_description",
    "format_type",
    "current_schema",
    "current_schemas",
    "current_database",
    "current_catalog",
    "current_query",
    "oidvectortypes",
    "version",
    "getdatabaseencoding",
    "row_security_active",
    "aclexplode",
    "acldefault",
    "aclcontains",
    "aclinsert",
    "aclremove",
    "aclitemin",
    "aclitemout",
    "makeaclitem",
    "mxid_age",
    "ts_debug",
    "ts_parse",
    "ts_token_type",
    "inet_client_addr",
    "inet_client_port",
    "inet_server_addr",
    "inet_server_port",
    "satisfies_hash_partition",
    "setseed",
    "amvalidate",
];

/// Families of [`HOME`].
const HOME_PREFIXES: &[&str] = &[
    "pg_",
    "has_",
    "lo_",
    "txid_",
    "to_reg",
    "binary_upgrade_",
    "regproc",
    "regoper",
    "regclass",
    "regcollation",
    "regtype",
    "regrole",
    "regnamespace",
    "regdictionary",
    "regconfig",
    "be_lo_",
];

/// `pg_…` functions that depend on nothing but their arguments, the settings and the clock.
const PURE_PG: &[&str] = &[
    "pg_size_pretty",
    "pg_size_bytes",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "pg_column_size",
    "pg_column_compression",
    "pg_client_encoding",
    "pg_char_to_encoding",
    "pg_encoding_to_char",
    "pg_encoding_max_length",
    "pg_input_is_valid",
    "pg_input_error_info",
    "pg_trigger_depth",
    "pg_lsn_in",
    "pg_lsn_out",
    "pg_lsn_recv",
    "pg_lsn_send",
    "pg_lsn_eq",
    "pg_lsn_ne",
    "pg_lsn_lt",
    "pg_lsn_le",
    "pg_lsn_gt",
    "pg_lsn_ge",
    "pg_lsn_cmp",
    "pg_lsn_mi",
    "pg_lsn_hash",
    "pg_lsn_hash_extended",
    "pg_lsn_larger",
    "pg_lsn_smaller",
    "pg_lsn",
    "pg_wal_lsn_diff",
];

/// A SQL condition on `pg_proc p` for built-in functions that may not be pure. It may be true for too many.
pub(crate) fn impure_condition() -> String {
    let exact: Vec<&str> = READS_BY_NAME
        .iter()
        .chain(HOME)
        .copied()
        .chain(["set_config", "age"])
        .collect();
    // Exact names stay out of the pattern: a server takes 100 ms to run a hundred alternatives.
    format!(
        "p.proname = ANY ('{{{}}}') OR p.proname ~ '^({})'",
        exact.join(","),
        HOME_PREFIXES.join("|")
    )
}

/// A built-in function that runs a query or reads a relation given at run time.
pub(crate) fn reads_by_name(function: &Function) -> bool {
    // Of ts_rewrite, only the overload with a query text runs it.
    let rewrite_values = function.name == "ts_rewrite" && function.arg_types.len() == 3;
    READS_BY_NAME.contains(&function.name.as_str()) && !rewrite_values
}

/// The proof of a built-in function.
pub(crate) fn builtin(function: &Function) -> Proof {
    let name = function.name.as_str();
    if reads_by_name(function) {
        return unproved(name, "reads relations named at run time");
    }
    if name == "set_config" {
        return unproved(name, "changes settings where only one server sees it");
    }
    // age(xid) looks at the transaction counter of one server; the other overloads are about timestamps.
    let xid_age = name == "age" && function.arg_types.first().is_some_and(|t| t.0 == 28);
    let home = HOME.contains(&name) || HOME_PREFIXES.iter().any(|p| name.starts_with(p));
    if xid_age || (home && !PURE_PG.contains(&name)) {
        Proof::HomeOnly
    } else {
        Proof::Pure
    }
}

/// The proof of a function whose body is machine code: its declaration is all there is.
pub(crate) fn native(function: &Function) -> Proof {
    let name = function.name.as_str();
    let extension = function.extension.is_some();
    if extension && EXTENSION_READS_BY_NAME.contains(&name.to_ascii_lowercase().as_str()) {
        return unproved(name, "reads relations named at run time");
    }
    if function
        .extension
        .as_deref()
        .is_some_and(|e| EXTENSION_PURE.contains(&(e, name)))
    {
        return Proof::Pure;
    }
    if function
        .extension
        .as_deref()
        .is_some_and(|e| EXTENSION_HOME.contains(&e))
    {
        return Proof::HomeOnly;
    }
    match function.volatility {
        Volatility::Immutable => Proof::Pure,
        // Set-returning stable functions of extensions are the ones that run queries given as text.
        Volatility::Stable if extension && !function.returns_set => Proof::Pure,
        _ => unproved(name, "is written in C and may read tables"),
    }
}

/// The proof for a procedural language that is not understood.
pub(crate) fn foreign_language(function: &Function) -> Proof {
    unproved(
        &function.name,
        &format!("is written in {}, which is not understood", function.language),
    )
}

/// Whether the body of such a function can be handed to a [`BodyParser`](crate::BodyParser).
pub(crate) fn has_readable_body(function: &Function) -> bool {
    matches!(function.language.as_str(), "sql" | "plpgsql") && function.kind != FunctionKind::Aggregate
}

/// `function f …`, worded for a client.
pub(crate) fn unproved(name: &str, why: &str) -> Proof {
    Proof::Unproved(format!("function {name} {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof_of(name: &str) -> Proof {
        builtin(&Function {
            name: name.to_owned(),
            builtin: true,
            ..Function::default()
        })
    }

    #[test]
    fn builtins_are_pure_except_the_listed_ones() {
        for name in [
            "lower",
            "int4pl",
            "sum",
            "regexp_replace",
            "regr_slope",
            "pg_size_pretty",
            "age",
            "random",
        ] {
            assert_eq!(proof_of(name), Proof::Pure, "{name}");
        }
        for name in [
            "nextval",
            "pg_get_viewdef",
            "has_table_privilege",
            "regclassout",
            "lo_get",
            "pg_backend_pid",
        ] {
            assert_eq!(proof_of(name), Proof::HomeOnly, "{name}");
        }
        for name in ["query_to_xml", "pg_relation_size", "ts_stat", "set_config"] {
            assert!(matches!(proof_of(name), Proof::Unproved(_)), "{name}");
        }
    }

    #[test]
    fn c_functions_go_by_their_declaration() {
        let f = |extension: Option<&str>, volatility, returns_set, name: &str| {
            native(&Function {
                name: name.to_owned(),
                extension: extension.map(str::to_owned),
                volatility,
                returns_set,
                ..Function::default()
            })
        };
        assert_eq!(f(None, Volatility::Immutable, false, "f"), Proof::Pure);
        assert_eq!(f(Some("x"), Volatility::Stable, false, "f"), Proof::Pure);
        assert!(matches!(
            f(None, Volatility::Stable, false, "f"),
            Proof::Unproved(_)
        ));
        assert!(matches!(
            f(Some("x"), Volatility::Stable, true, "f"),
            Proof::Unproved(_)
        ));
        assert!(matches!(
            f(Some("dblink"), Volatility::Volatile, true, "dblink"),
            Proof::Unproved(_)
        ));
        assert!(matches!(
            f(Some("tablefunc"), Volatility::Immutable, false, "crosstab"),
            Proof::Unproved(_)
        ));
    }
}
