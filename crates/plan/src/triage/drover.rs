//! Functions and views of schema `drover`.

use sql::{DroverArg, DroverCall, DroverForm, QualifiedName};

use catalog::{KEY_COLUMNS_MAX, SUB_KEYS_MAX, Salt};

use super::places;
use crate::{DroverStatement, DroverView, Refusal, RefusalCode, SchemeOption, ShardOptions};

/// What a statement on schema `drover` asks for.
pub(super) fn statement(call: &DroverCall) -> Result<DroverStatement, Refusal> {
    if call.form == DroverForm::View {
        let view = view(&call.function)?;
        if call.decorated {
            return Err(Refusal::new(RefusalCode::DroverMixed));
        }
        return Ok(DroverStatement::View(view));
    }
    if call.decorated {
        return Err(Refusal::new(RefusalCode::DroverMixed));
    }
    match call.function.as_str() {
        "shard_table" => {
            let args = Arguments::new(
                call,
                &[
                    "table",
                    "key",
                    "scheme",
                    "colocate_with",
                    "salt",
                    "places",
                    "online",
                ],
            )?;
            let options = shard_options(|name| args.text(name))?;
            Ok(DroverStatement::ShardTable {
                table: args.table()?,
                options,
                online: args.flag("online")?,
            })
        }
        "reference_table" => {
            let (table, online) = whole_table(call)?;
            Ok(DroverStatement::ReferenceTable { table, online })
        }
        "unshard_table" => {
            let (table, online) = whole_table(call)?;
            Ok(DroverStatement::UnshardTable { table, online })
        }
        "place_table" => place_table(call),
        "place_schema" => place_schema(call),
        "cancel_move" => {
            let args = Arguments::new(call, &["table"])?;
            Ok(DroverStatement::CancelMove { table: args.table()? })
        }
        "create_global_index" | "drop_global_index" | "check_global_index" => global_index(call),
        "check_tables" => check_tables(call),
        "schema_diff" => plain(call, DroverStatement::SchemaDiff),
        "pin_key" => pin(call, true),
        "unpin_key" => pin(call, false),
        "consistency_token" => plain(call, DroverStatement::ConsistencyToken),
        "current_transaction_id" => plain(call, DroverStatement::CurrentTransactionId),
        "transaction_status" => transaction_status(call),
        "resolve_transactions" => resolve_transactions(call),
        "queries_reset" => plain(call, DroverStatement::QueriesReset),
        "declare_local" => declare_local(call),
        other => Err(Refusal::with(
            RefusalCode::UnknownDrover,
            format!("drover.{other}()"),
        )),
    }
}

fn place_table(call: &DroverCall) -> Result<DroverStatement, Refusal> {
    let args = Arguments::new(call, &["table", "shard", "online"])?;
    Ok(DroverStatement::PlaceTable {
        table: args.table()?,
        shard: args.required("shard")?.to_owned(),
        online: args.flag("online")?,
    })
}

fn place_schema(call: &DroverCall) -> Result<DroverStatement, Refusal> {
    let args = Arguments::new(call, &["schema", "shard"])?;
    let text = args.required("schema")?;
    let name = parse_name(text).filter(|name| name.schema.is_none());
    Ok(DroverStatement::PlaceSchema {
        schema: name.ok_or_else(|| bad(format!("schema {text}")))?.name,
        shard: args.required("shard")?.to_owned(),
    })
}

/// `drover.transaction_status`.
fn transaction_status(call: &DroverCall) -> Result<DroverStatement, Refusal> {
    let args = Arguments::new(call, &["id"])?;
    let id = args.required("id")?.to_owned();
    Ok(DroverStatement::TransactionStatus { id })
}

/// `drover.resolve_transactions`.
fn resolve_transactions(call: &DroverCall) -> Result<DroverStatement, Refusal> {
    let args = Arguments::new(call, &["older_than", "dry_run"])?;
    Ok(DroverStatement::ResolveTransactions {
        older_than: args.text("older_than").map(str::to_owned),
        dry_run: args.flag("dry_run")? == Some(true),
    })
}

/// `drover.declare_local`.
fn declare_local(call: &DroverCall) -> Result<DroverStatement, Refusal> {
    let args = Arguments::new(call, &["function"])?;
    let text = args.required("function")?;
    let (name, arguments) = match text.split_once('(') {
        Some((name, rest)) => (name, Some(rest.trim_end().trim_end_matches(')').to_owned())),
        None => (text, None),
    };
    let function = parse_name(name).ok_or_else(|| bad(format!("function {text}")))?;
    Ok(DroverStatement::DeclareLocal { function, arguments })
}

/// A table, and how it is moved.
fn whole_table(call: &DroverCall) -> Result<(QualifiedName, Option<bool>), Refusal> {
    let args = Arguments::new(call, &["table", "online"])?;
    Ok((args.table()?, args.flag("online")?))
}

/// A function without arguments.
fn plain(call: &DroverCall, statement: DroverStatement) -> Result<DroverStatement, Refusal> {
    Arguments::new(call, &[])?;
    Ok(statement)
}

/// The view of this name.
fn view(name: &str) -> Result<DroverView, Refusal> {
    Ok(match name {
        "shards" => DroverView::Shards,
        "nodes" => DroverView::Nodes,
        "tables" => DroverView::Tables,
        "shard_map" => DroverView::ShardMap,
        "pools" => DroverView::Pools,
        "queries" => DroverView::Queries,
        "reshardings" => DroverView::Reshardings,
        "transactions" => DroverView::Transactions,
        "global_indexes" => DroverView::GlobalIndexes,
        "rules" => DroverView::Rules,
        other => {
            return Err(Refusal::with(
                RefusalCode::UnknownDrover,
                format!("drover.{other}"),
            ));
        }
    })
}

fn check_tables(call: &DroverCall) -> Result<DroverStatement, Refusal> {
    let args = Arguments::new(call, &["table", "repair", "dry_run"])?;
    Ok(DroverStatement::CheckTables {
        table: args.text("table").map(|_| args.table()).transpose()?,
        repair: args.flag("repair")? == Some(true),
        dry_run: args.flag("dry_run")? == Some(true),
    })
}

fn global_index(call: &DroverCall) -> Result<DroverStatement, Refusal> {
    match call.function.as_str() {
        "create_global_index" => create_global_index(call),
        "drop_global_index" => drop_global_index(call),
        _ => check_global_index(call),
    }
}

fn create_global_index(call: &DroverCall) -> Result<DroverStatement, Refusal> {
    let args = Arguments::new(call, &["table", "columns", "unique", "name", "online"])?;
    Ok(DroverStatement::CreateGlobalIndex {
        table: args.table()?,
        columns: key_columns(args.required("columns")?)?,
        unique: args.flag("unique")? == Some(true),
        name: args.text("name").map(str::to_owned),
        online: args.flag("online")?,
    })
}

fn drop_global_index(call: &DroverCall) -> Result<DroverStatement, Refusal> {
    let args = Arguments::new(call, &["table", "columns"])?;
    Ok(DroverStatement::DropGlobalIndex {
        table: args.table()?,
        columns: key_columns(args.required("columns")?)?,
    })
}

fn check_global_index(call: &DroverCall) -> Result<DroverStatement, Refusal> {
    let args = Arguments::new(call, &["table", "columns", "repair"])?;
    Ok(DroverStatement::CheckGlobalIndex {
        table: args.table()?,
        columns: key_columns(args.required("columns")?)?,
        repair: args.flag("repair")? == Some(true),
    })
}

/// `drover.pin_key` and its undoing.
fn pin(call: &DroverCall, pinned: bool) -> Result<DroverStatement, Refusal> {
    let names: &[&str] = if pinned {
        &["table", "key", "shard"]
    } else {
        &["table", "key"]
    };
    let args = Arguments::new(call, names)?;
    let shard = match pinned {
        true => Some(args.required("shard")?.to_owned()),
        false => None,
    };
    Ok(DroverStatement::PinKey {
        table: args.table()?,
        key: args.required("key")?.to_owned(),
        shard,
    })
}

/// Checks options that shard a table, from `drover.shard_table` or from WITH.
pub(super) fn shard_options<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<ShardOptions, Refusal> {
    let key = get("key").ok_or_else(|| bad("a shard key is needed"))?;
    let key = key_columns(key)?;
    let colocate_with = match get("colocate_with") {
        Some(text) => Some(parse_name(text).ok_or_else(|| bad(format!("colocate_with => '{text}'")))?),
        None => None,
    };
    let scheme = scheme(get("scheme"), get("places"))?;
    // Its map is the other table's, whatever the scheme: saying both could only be a contradiction.
    if colocate_with.is_some() && scheme.as_ref().is_some_and(|s| *s != SchemeOption::Hash) {
        return Err(bad(
            "colocate_with takes the scheme of the other table: leave scheme out",
        ));
    }
    let salt = match get("salt") {
        None => None,
        Some(_) if colocate_with.is_some() => {
            return Err(bad(
                "colocate_with takes the salt of the other table: name the columns that salt it after the key, and leave salt out",
            ));
        }
        Some(_) if scheme.as_ref().is_some_and(|s| *s != SchemeOption::Hash) => {
            return Err(Refusal::new(RefusalCode::SaltScheme));
        }
        Some(text) => Some(salt(text, key.len())?),
    };
    Ok(ShardOptions {
        key,
        salt,
        colocate_with,
        scheme,
    })
}

fn salt(text: &str, key_columns: usize) -> Result<Salt, Refusal> {
    if key_columns >= KEY_COLUMNS_MAX {
        return Err(Refusal::with(
            RefusalCode::SaltColumns,
            format!("a key of {key_columns} columns leaves none"),
        ));
    }
    let sub_keys = text.trim().parse().ok();
    sub_keys
        .and_then(|sub_keys| Salt::new(key_columns, sub_keys))
        .ok_or_else(|| {
            bad(format!(
                "salt => {text}: a power of two from 2 to {SUB_KEYS_MAX} is needed"
            ))
        })
}

/// The columns of a key: one name, or several with commas between them.
fn key_columns(text: &str) -> Result<Vec<String>, Refusal> {
    let refuse = |detail: String| Refusal::with(RefusalCode::ShardKeyColumn, detail);
    let (mut columns, mut rest) = (Vec::new(), text.trim());
    loop {
        let (name, tail) = parse_identifier(rest).ok_or_else(|| refuse(text.to_owned()))?;
        if columns.contains(&name) {
            return Err(refuse(format!("{name} is named twice")));
        }
        columns.push(name);
        rest = tail.trim_start();
        if rest.is_empty() {
            break;
        }
        rest = match rest.strip_prefix(',') {
            Some(rest) => rest.trim_start(),
            None => return Err(refuse(text.to_owned())),
        };
    }
    match columns.len() {
        ..=KEY_COLUMNS_MAX => Ok(columns),
        many => Err(refuse(format!(
            "{many} columns; a key has at most {KEY_COLUMNS_MAX}"
        ))),
    }
}

fn scheme(name: Option<&str>, places: Option<&str>) -> Result<Option<SchemeOption>, Refusal> {
    let wrong = |why: String| bad(format!("places: {why}"));
    let name = name.map(str::to_ascii_lowercase);
    let needs = |scheme: &str, example: &str| {
        places.ok_or_else(|| bad(format!("scheme '{scheme}' needs places, such as '{example}'")))
    };
    let scheme = match name.as_deref() {
        None | Some("hash" | "modulo") if places.is_some() => {
            return Err(bad("places belong to the schemes range, list, geo and directory"));
        }
        None => return Ok(None),
        Some("hash") => SchemeOption::Hash,
        Some("modulo") => SchemeOption::Modulo,
        Some("range") => {
            let text = needs("range", "shard_1 < 1000; shard_2 < 2000; shard_3")?;
            let (ends, last) = places::ranges(text).map_err(wrong)?;
            SchemeOption::Range { ends, last }
        }
        Some("list") => {
            let text = needs("list", "shard_1 = eu, uk; shard_2 = us; shard_3 = *")?;
            let (keys, rest) = places::list(text).map_err(wrong)?;
            let rest =
                rest.ok_or_else(|| wrong("one shard must have *, for all keys not listed".to_owned()))?;
            SchemeOption::List { keys, rest }
        }
        Some("geo") => {
            let text = needs("geo", "shard_1 = eu, uk; shard_2 = us")?;
            let (keys, rest) = places::list(text).map_err(wrong)?;
            if rest.is_some() {
                return Err(wrong(
                    "regions of a geo scheme that are not listed are on no shard, * has no meaning"
                        .to_owned(),
                ));
            }
            if keys.is_empty() {
                return Err(wrong("no region is listed".to_owned()));
            }
            SchemeOption::Geo { keys }
        }
        Some("directory") => {
            let (keys, rest) = places::list(places.unwrap_or_default()).map_err(wrong)?;
            if rest.is_some() {
                return Err(wrong(
                    "other keys of a directory are placed by hash, * has no meaning".to_owned(),
                ));
            }
            SchemeOption::Directory { keys }
        }
        Some(other) => {
            return Err(Refusal::with(
                RefusalCode::DroverOption,
                format!("scheme => '{other}'"),
            ));
        }
    };
    Ok(Some(scheme))
}

fn bad(detail: impl AsRef<str>) -> Refusal {
    Refusal::with(RefusalCode::DroverArguments, detail)
}

struct Arguments<'a> {
    values: Vec<(&'a str, Option<&'a str>)>,
}

impl<'a> Arguments<'a> {
    /// Positional arguments take the names in order.
    fn new(call: &'a DroverCall, names: &[&'a str]) -> Result<Arguments<'a>, Refusal> {
        let mut values: Vec<(&str, Option<&str>)> = Vec::new();
        for (position, (name, value)) in call.args.iter().enumerate() {
            let name = match name {
                // `table_name => …` is what the signature in pg_proc would say.
                Some(name) if name == sql::UNIQUE_ARGUMENT => names.iter().find(|n| **n == "unique"),
                Some(name) => names.iter().find(|n| *n == name || format!("{n}_name") == *name),
                None => names.get(position),
            };
            let name = *name.ok_or_else(|| bad("unknown argument"))?;
            if values.iter().any(|(n, _)| *n == name) {
                return Err(bad(format!("{name} is given twice")));
            }
            match value {
                DroverArg::Null => values.push((name, None)),
                DroverArg::Text(text) => values.push((name, Some(text))),
                DroverArg::Array(_) | DroverArg::Param(_) | DroverArg::Other => {
                    return Err(bad(format!("{name} must be a constant")));
                }
            }
        }
        Ok(Arguments { values })
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.values.iter().find(|(n, _)| *n == name).and_then(|(_, v)| *v)
    }

    fn required(&self, name: &str) -> Result<&'a str, Refusal> {
        self.text(name).ok_or_else(|| bad(format!("{name} is missing")))
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.text(name).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(None),
            Some("t" | "true" | "on" | "yes" | "1") => Ok(Some(true)),
            Some("f" | "false" | "off" | "no" | "0") => Ok(Some(false)),
            Some(other) => Err(bad(format!("{name} => '{other}'"))),
        }
    }

    fn table(&self) -> Result<QualifiedName, Refusal> {
        let text = self.required("table")?;
        parse_name(text).ok_or_else(|| bad(format!("table {text}")))
    }
}

/// Reads `name` or `schema.name` as PostgreSQL reads a regclass: quoted or folded to lower case.
pub(super) fn parse_name(text: &str) -> Option<QualifiedName> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        let (part, tail) = parse_identifier(rest)?;
        parts.push(part);
        rest = tail.trim_start();
        if rest.is_empty() {
            break;
        }
        rest = rest.strip_prefix('.')?.trim_start();
    }
    match parts.len() {
        1 => parts.pop().map(QualifiedName::bare),
        2 => {
            let name = parts.pop()?;
            Some(QualifiedName::qualified(parts.pop()?, name))
        }
        _ => None,
    }
}

fn parse_identifier(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut name = String::new();
        let mut chars = quoted.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            if c != '"' {
                name.push(c);
            } else if chars.peek().is_some_and(|(_, next)| *next == '"') {
                chars.next();
                name.push('"');
            } else {
                return (!name.is_empty()).then_some((name, &quoted[at + 1..]));
            }
        }
        return None;
    }
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()))
        .unwrap_or(text.len());
    let name = &text[..end];
    let starts_well = name
        .chars()
        .next()
        .is_some_and(|c| !c.is_ascii_digit() && c != '$');
    starts_well.then(|| (name.to_ascii_lowercase(), &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_need_what_they_need_and_nothing_else() {
        let check = |options: &[(&str, &str)]| {
            let get = |name: &str| options.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
            let key = |name: &str| if name == "key" { Some("k") } else { get(name) };
            shard_options(key)
                .map(|options| options.scheme)
                .map_err(|refusal| refusal.reason)
        };
        assert_eq!(check(&[]), Ok(None));
        assert_eq!(check(&[("scheme", "Modulo")]), Ok(Some(SchemeOption::Modulo)));
        assert_eq!(
            check(&[("scheme", "directory")]),
            Ok(Some(SchemeOption::Directory { keys: Vec::new() }))
        );
        for (options, why) in [
            (&[("scheme", "list")][..], "needs places"),
            (
                &[("scheme", "list"), ("places", "a = 1")],
                "one shard must have *",
            ),
            (
                &[("scheme", "directory"), ("places", "a = *")],
                "* has no meaning",
            ),
            (&[("scheme", "range"), ("places", "a < 1")], "must have no end"),
            (&[("scheme", "hash"), ("places", "a = 1")], "belong to"),
            (&[("places", "a = 1")], "belong to"),
            (
                &[("scheme", "modulo"), ("colocate_with", "t")],
                "leave scheme out",
            ),
            (&[("scheme", "geo")], "needs places"),
            (
                &[("scheme", "geo"), ("places", "a = eu; b = *")],
                "* has no meaning",
            ),
            (&[("scheme", "geo"), ("places", "")], "no region"),
            (&[("scheme", "ring")], "ring"),
            (&[("salt", "7")], "power of two"),
            (&[("salt", "1")], "power of two"),
            (&[("salt", "512")], "power of two"),
            (&[("salt", "eight")], "power of two"),
            (&[("salt", "8"), ("colocate_with", "t")], "leave salt out"),
            (&[("salt", "8"), ("scheme", "modulo")], "placed by hash"),
        ] {
            let reason = check(options).unwrap_err();
            assert!(reason.contains(why), "{options:?}: {reason}");
        }
    }

    #[test]
    fn names_are_read_like_regclass() {
        assert_eq!(parse_name("Orders"), Some(QualifiedName::bare("orders")));
        assert_eq!(
            parse_name(" shop . \"Or\"\"ders\" "),
            Some(QualifiedName::qualified("shop", "Or\"ders"))
        );
        for bad in ["", "a.b.c", "a,b", "\"\"", "\"a", "1a", "a."] {
            assert_eq!(parse_name(bad), None, "{bad}");
        }
    }
}
