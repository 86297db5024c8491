//! INSERT, COPY, EXPLAIN, DECLARE and Drover's own calls.

use super::object::{self, is_on, option_name, option_text, required, strings};
use super::types::*;
use super::{describe, text};
use pg_raw_parse::raw::{OverridingKind, SetOperation};
use pg_raw_parse::{ConstValue, Node, list::NodeList, nodes};
use std::ops::Range;

/// The grammar's cursor option bits.
const CURSOR_BINARY: i32 = 1;
const CURSOR_SCROLL: i32 = 2;
const CURSOR_HOLD: i32 = 0x20;

pub(super) fn insert(sql: &str, range: Range<usize>, s: &nodes::InsertStmt) -> InsertStatement {
    let mut columns = Vec::new();
    let mut has_indirection = false;
    for col in s.cols() {
        if let Node::ResTarget(t) = col {
            columns.push(t.name().unwrap_or_default().to_owned());
            has_indirection |= !t.indirection().is_empty();
        }
    }
    let alias = s.relation().and_then(|r| r.alias()).and_then(|a| a.aliasname());
    InsertStatement {
        table: required(s.relation()),
        alias: alias.map(str::to_owned),
        columns,
        has_indirection,
        values: values(sql, range, s),
        default_values: matches!(s.select_stmt(), Node::None),
        on_conflict: s.on_conflict_clause().is_some(),
        returning: s.returning_clause().is_some(),
        with: s.with_clause().is_some(),
        overriding: s.override_ != OverridingKind::OVERRIDING_NOT_SET,
    }
}

fn values(sql: &str, range: Range<usize>, s: &nodes::InsertStmt) -> Option<ValuesList> {
    let Node::SelectStmt(select) = s.select_stmt() else {
        return None;
    };
    if select.values_lists().is_empty() {
        return None;
    }
    let target = usize::try_from(s.relation()?.location).ok()?;
    let ranges = text::values_rows(sql, range, target)?;
    if ranges.len() != select.values_lists().len() {
        return None;
    }
    let row = |(node, range): (Node<'_>, Range<usize>)| match node {
        Node::NodeList(list) => Some(ValuesRow {
            range,
            values: list.iter().map(|e| row_expr(sql, e)).collect(),
        }),
        _ => None,
    };
    let rows: Vec<ValuesRow> = select
        .values_lists()
        .iter()
        .zip(ranges)
        .map(row)
        .collect::<Option<_>>()?;
    let range = rows.first()?.range.start..rows.last()?.range.end;
    let plain = s.with_clause().is_none()
        && select.with_clause().is_none()
        && select.sort_clause().is_empty()
        && select.locking_clause().is_empty()
        && matches!(
            (select.limit_count(), select.limit_offset()),
            (Node::None, Node::None)
        )
        && select.op == SetOperation::SETOP_NONE;
    Some(ValuesList { range, rows, plain })
}

fn row_expr(sql: &str, node: Node<'_>) -> RowExpr {
    match node {
        Node::TypeCast(c) => match (row_constant(sql, c.arg()), c.type_name()) {
            (inner @ (RowExpr::Param(_) | RowExpr::Literal(_)), Some(t)) => RowExpr::Cast {
                inner: Box::new(inner),
                to: object::type_ref(t),
            },
            _ => RowExpr::Other,
        },
        other => row_constant(sql, other),
    }
}

fn row_constant(sql: &str, node: Node<'_>) -> RowExpr {
    match node {
        Node::ParamRef(p) => u16::try_from(p.number).map_or(RowExpr::Other, RowExpr::Param),
        Node::SetToDefault(_) => RowExpr::Default,
        Node::A_Const(c) if c.isnull => RowExpr::Null,
        Node::A_Const(c) => {
            let range = usize::try_from(c.location)
                .ok()
                .and_then(|l| text::constant_at(sql, l));
            range.map_or(RowExpr::Other, RowExpr::Literal)
        }
        _ => RowExpr::Other,
    }
}

pub(super) fn copy(sql: &str, range: Range<usize>, s: &nodes::CopyStmt) -> CopyStatement {
    let endpoint = match s.filename() {
        None => CopyEndpoint::Client,
        Some(f) if s.is_program => CopyEndpoint::Program(f.to_owned()),
        Some(f) => CopyEndpoint::File(f.to_owned()),
    };
    CopyStatement {
        table: s.relation().map(object::relation),
        columns: strings(s.attlist()),
        query: if s.relation().is_none() {
            text::copied(sql, range)
        } else {
            None
        },
        from: s.is_from,
        endpoint,
        options: copy_options(s),
        has_where: !matches!(s.where_clause(), Node::None),
    }
}

fn copy_options(s: &nodes::CopyStmt) -> CopyOptions {
    let mut options = CopyOptions::default();
    for d in s.options() {
        let value = option_text(d.arg());
        match option_name(d).as_str() {
            "format" => options.format = value.map(|v| v.to_ascii_lowercase()),
            "delimiter" => options.delimiter = value,
            "null" => options.null = value,
            "default" => options.default = value,
            "quote" => options.quote = value,
            "escape" => options.escape = value,
            "encoding" => options.encoding = value,
            "freeze" => options.freeze = is_on(value.as_deref()),
            "header" => {
                let matches = value.as_deref().is_some_and(|v| v.eq_ignore_ascii_case("match"));
                let on = is_on(value.as_deref()).to_string();
                options.header = Some(if matches { "match".to_owned() } else { on });
            }
            other => options.others.push(other.to_owned()),
        }
    }
    options
}

pub(super) fn explain(
    sql: &str,
    range: Range<usize>,
    s: &nodes::ExplainStmt,
) -> Result<Explain, ParseFailure> {
    let inner = text::explained(sql, range).ok_or(ParseFailure::Unsupported("EXPLAIN"))?;
    let options: Vec<_> = s
        .options()
        .iter()
        .map(|d| (option_name(d), option_text(d.arg())))
        .collect();
    // The last of equal options counts, as in a server.
    let find = |name: &str| options.iter().rev().find(|(n, _)| n == name);
    let on = |name: &str| find(name).is_some_and(|(_, v)| is_on(v.as_deref()));
    let format = find("format")
        .and_then(|(_, v)| v.as_deref())
        .map(str::to_ascii_lowercase);
    Ok(Explain {
        route: on("route"),
        analyze: on("analyze") || on("analyse"),
        verbose: on("verbose"),
        format,
        statement: Box::new(describe::described(sql, inner.clone(), s.query())?),
        options,
        inner,
    })
}

pub(super) fn declare(
    sql: &str,
    range: Range<usize>,
    s: &nodes::DeclareCursorStmt,
) -> Result<Cursor, ParseFailure> {
    Ok(Cursor::Declare {
        name: s.portalname().unwrap_or_default().to_owned(),
        hold: s.options & CURSOR_HOLD != 0,
        scroll: s.options & CURSOR_SCROLL != 0,
        binary: s.options & CURSOR_BINARY != 0,
        query: text::declared(sql, range).ok_or(ParseFailure::Unsupported("DECLARE"))?,
    })
}

pub(super) fn drover_call(s: &nodes::CallStmt) -> Option<DroverCall> {
    let call = s.funccall()?;
    Some(DroverCall {
        function: drover_function(call)?,
        form: DroverForm::Call,
        args: args(call.args()),
        decorated: false,
    })
}

/// A SELECT that is one call of, or one selection from, something in schema `drover`.
pub(super) fn drover_select(s: &nodes::SelectStmt) -> Option<DroverCall> {
    let bare = s.distinct_clause().is_empty()
        && s.into_clause().is_none()
        && matches!(s.where_clause(), Node::None)
        && s.group_clause().is_empty()
        && matches!(s.having_clause(), Node::None)
        && s.window_clause().is_empty()
        && s.values_lists().is_empty()
        && s.sort_clause().is_empty()
        && matches!((s.limit_offset(), s.limit_count()), (Node::None, Node::None))
        && s.locking_clause().is_empty()
        && s.with_clause().is_none()
        && s.op == SetOperation::SETOP_NONE;
    if s.from_clause().is_empty() {
        return drover_target(s, bare);
    }
    let star = s.target_list().len() == 1 && s.target_list().iter().all(|t| is_star(t.val()));
    let decorated = !bare || !star || s.from_clause().len() != 1;
    let from = s.from_clause().iter().find_map(drover_from)?;
    Some(DroverCall { decorated, ..from })
}

fn drover_target(s: &nodes::SelectStmt, bare: bool) -> Option<DroverCall> {
    let Node::FuncCall(call) = s.target_list().iter().next()?.val() else {
        return None;
    };
    Some(DroverCall {
        function: drover_function(call)?,
        form: DroverForm::Select,
        args: args(call.args()),
        decorated: !bare || s.target_list().len() != 1,
    })
}

fn drover_from(item: Node<'_>) -> Option<DroverCall> {
    match item {
        Node::RangeVar(r) if r.schemaname() == Some("drover") => Some(DroverCall {
            function: r.relname()?.to_owned(),
            form: DroverForm::View,
            args: Vec::new(),
            decorated: false,
        }),
        Node::RangeFunction(f) => {
            // One list per function: the call and its column definitions.
            let Some(Node::NodeList(first)) = f.functions().first() else {
                return None;
            };
            let Some(Node::FuncCall(call)) = first.first() else {
                return None;
            };
            Some(DroverCall {
                function: drover_function(call)?,
                form: DroverForm::FromFunction,
                args: args(call.args()),
                decorated: false,
            })
        }
        _ => None,
    }
}

fn is_star(node: Node<'_>) -> bool {
    let Node::ColumnRef(c) = node else { return false };
    c.fields().len() == 1 && matches!(c.fields().first(), Some(Node::A_Star(_)))
}

fn drover_function(call: &nodes::FuncCall) -> Option<String> {
    let name = object::name(call.funcname())?;
    // `drover.next_id()` is an ordinary function, which every server has.
    (name.schema.as_deref() == Some("drover") && name.name != "next_id").then_some(name.name)
}

fn args(list: &NodeList) -> Vec<(Option<String>, DroverArg)> {
    let arg = |node: Node<'_>| match node {
        Node::NamedArgExpr(n) => (n.name().map(str::to_owned), value(n.arg())),
        other => (None, value(other)),
    };
    list.iter().map(arg).collect()
}

fn value(node: Node<'_>) -> DroverArg {
    match node {
        Node::A_Const(c) if c.isnull => DroverArg::Null,
        Node::A_Const(c) => match c.val() {
            Some(ConstValue::BitString(_)) | None => DroverArg::Other,
            Some(v) => object::constant(v).map_or(DroverArg::Other, DroverArg::Text),
        },
        Node::ParamRef(p) => u16::try_from(p.number).map_or(DroverArg::Other, DroverArg::Param),
        // A cast inside a cast would be a deeper expression than a constant needs.
        Node::TypeCast(c) if !matches!(c.arg(), Node::TypeCast(_)) => value(c.arg()),
        Node::A_ArrayExpr(a) => {
            let element = |e: Node<'_>| match e {
                Node::A_Const(_) => match value(e) {
                    DroverArg::Text(t) => Some(t),
                    _ => None,
                },
                _ => None,
            };
            let elements: Option<Vec<_>> = a.elements().iter().map(element).collect();
            elements.map_or(DroverArg::Other, DroverArg::Array)
        }
        _ => DroverArg::Other,
    }
}
