//! The inputs of a gather: what each server is asked for, and what stands for the tables in the statement.

use std::collections::BTreeSet;

use catalog::{Oid, Relation, Snapshot, TypeKind};
use sql::{Deparser, FromItem, Node, QualifiedName, quote_ident};

use super::filters::Either;
use super::joined::Group;
use super::needs::Typed;
use super::{Dealing, Facts, relation_of};
use crate::gather::{GatherInput, GatherPlace, GatherSlot};
use crate::planner::columns::collate_sql;
use crate::planner::names::{Names, type_sql};
use crate::planner::rewrite::{Replace, view_of};
use crate::planner::transfer::{Carriage, carried};
use crate::{InputColumn, Refusal, RefusalCode};

/// The inputs while they are put together.
pub(super) struct Build<'b, 'a> {
    snapshot: &'a Snapshot,
    replace: &'b Replace<'a>,
    pub(super) facts: Facts<'a>,
    deal: &'b Dealing<'b>,
    pub(super) inputs: Vec<GatherInput>,
    /// How the columns of each input travel, and what they become.
    carriages: Vec<Vec<Column>>,
    /// The table of each input whose rows are used as values.
    whole: Vec<Option<&'a Relation>>,
    pub(super) slots: Vec<GatherSlot>,
    /// What stands for the entries.
    used: Vec<(*const Node, Used)>,
}

/// A column of an input.
struct Column {
    carriage: Carriage,
    /// Its name in the table, quoted; `None`: it only counts rows.
    name: Option<String>,
    /// Its number in the table.
    attno: i16,
    /// Which of the tables of a group it is of.
    member: usize,
    /// What is appended to give it its type and its collation.
    suffix: String,
}

const BOOL: u32 = 16;

/// What stands for an entry of a range table.
enum Used {
    /// The rows of an input.
    Rows(usize),
    /// The columns of a row of an input, which stands for the first entry of a group, that are this member's.
    Beside {
        input: usize,
        /// The number of the first entry in the range table.
        first: usize,
        member: usize,
    },
}

/// Where the rows of an entry are.
pub(super) struct Place<'a> {
    pub input: usize,
    member: usize,
    /// Its number in the range table.
    index: usize,
    pub relation: &'a Relation,
    /// The input stands for other entries as well.
    pub shared: bool,
}

/// A column of an input whose values can be sent to other servers.
pub(super) struct Values {
    /// Its place in the input.
    pub column: usize,
    pub type_oid: u32,
    pub array_oid: u32,
    pub array_sql: String,
}

/// What stands for the entries of an input.
pub(super) struct Items {
    rows: String,
    /// For each member of a group its columns: their names, and those they have among the rows.
    members: Vec<Vec<(String, String)>>,
}

/// A table of an input.
struct Table<'a> {
    rte: &'a Node,
    relation: &'a Relation,
    /// Its number in the range table.
    index: usize,
    /// Its name in what the server is asked, quoted.
    alias: String,
}

impl<'b, 'a> Build<'b, 'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        replace: &'b Replace<'a>,
        facts: Facts<'a>,
        deal: &'b Dealing<'b>,
    ) -> Build<'b, 'a> {
        Build {
            snapshot,
            replace,
            facts,
            deal,
            inputs: Vec::new(),
            carriages: Vec::new(),
            whole: Vec::new(),
            slots: Vec::new(),
            used: Vec::new(),
        }
    }

    /// A table in FROM.
    pub(super) fn table(&mut self, rte: &'a Node, place: GatherPlace) -> Result<(), Refusal> {
        let alone = Group {
            members: vec![rte],
            joints: Vec::new(),
            implied: Vec::new(),
        };
        self.group(&alone, place)
    }

    /// Tables in FROM that are one input.
    pub(super) fn group(&mut self, group: &Group<'a>, place: GatherPlace) -> Result<(), Refusal> {
        let refuse = |what: &str| Refusal::with(RefusalCode::Gather, what);
        let first = group.members.first().ok_or_else(|| refuse("no table"))?;
        let found = self.facts.filters.of_entry(first);
        let query = found.ok_or_else(|| refuse("a table that is not in FROM"))?.query;
        let names = Names(self.snapshot);
        let deparser = Deparser::new(query, &names, self.replace)?;
        let members = group.members.iter();
        let tables: Vec<Table<'a>> = members
            .map(|rte| self.table_of(rte, &deparser))
            .collect::<Result<_, _>>()?;
        let (items, columns) = self.columns_of(&tables)?;
        let deal = (self.deal)(first, &self.facts.needs.columns(first));
        let sql = text(&tables, &items)?;
        let conditions = self.conditions(group, &tables, &deparser)?;
        let known = self.inputs.iter().position(|input| {
            (&input.sql, &input.conditions) == (&sql, &conditions)
                && (&input.place, &input.deal) == (&place, &deal)
        });
        let whole = self.facts.needs.is_whole(first);
        let whole = tables.first().filter(|_| whole).map(|table| table.relation);
        let input = match known {
            Some(input) => {
                self.whole[input] = self.whole[input].or(whole);
                input
            }
            None => {
                let slots = self.slots_for(&columns)?;
                let names: Vec<&str> = tables.iter().map(|table| table.relation.name.as_str()).collect();
                self.inputs.push(GatherInput {
                    name: names.join("\", \""),
                    place,
                    sql,
                    conditions,
                    columns: slots,
                    deal,
                });
                self.carriages.push(columns);
                self.whole.push(whole);
                self.inputs.len() - 1
            }
        };
        let first = tables.first().map_or(0, |table| table.index);
        for (member, table) in tables.iter().enumerate() {
            let used = match member {
                0 => Used::Rows(input),
                _ => Used::Beside { input, first, member },
            };
            self.used.push((std::ptr::from_ref(table.rte), used));
        }
        Ok(())
    }

    fn table_of(&self, rte: &'a Node, deparser: &Deparser<'_>) -> Result<Table<'a>, Refusal> {
        let refuse = |what: &str| Refusal::with(RefusalCode::Gather, what);
        let relation = relation_of(self.snapshot, rte)?;
        if relation.row_security {
            return Err(refuse("row level security"));
        }
        let found = self.facts.filters.of_entry(rte);
        let index = found.ok_or_else(|| refuse("a table that is not in FROM"))?.index;
        Ok(Table {
            rte,
            relation,
            index,
            alias: quote_ident(&deparser.alias(index)?),
        })
    }

    /// What is selected of the tables.
    fn columns_of(&self, tables: &[Table<'a>]) -> Result<(Vec<String>, Vec<Column>), Refusal> {
        let (mut items, mut columns) = (Vec::new(), Vec::new());
        for (member, table) in tables.iter().enumerate() {
            let whole = self.facts.needs.is_whole(table.rte);
            for (attno, typed) in self.facts.needs.columns(table.rte) {
                let column = table.relation.column(attno);
                let column =
                    column.ok_or_else(|| Refusal::with(RefusalCode::Gather, "a column that is not known"))?;
                let (mut item, column) = self.column(&table.alias, member, column, typed)?;
                if whole && column.carriage.carried.binary {
                    // Its type is what the snapshot says; a transaction may have changed it.
                    let base = self.snapshot.base_type(Oid(typed.type_oid));
                    let type_sql = type_sql(self.snapshot, base.0);
                    let type_sql = type_sql.ok_or_else(|| Refusal::new(RefusalCode::CarriedType))?;
                    item = format!("({item})::{type_sql}");
                }
                items.push(item);
                columns.push(column);
            }
        }
        if columns.is_empty() {
            items.push("true".to_owned());
            columns.push(Column {
                carriage: carried(BOOL, self.snapshot)?,
                name: None,
                attno: 0,
                member: 0,
                suffix: String::new(),
            });
        }
        Ok((items, columns))
    }

    /// The conditions on the rows.
    fn conditions(
        &self,
        group: &Group<'a>,
        tables: &[Table<'a>],
        deparser: &Deparser<'_>,
    ) -> Result<Vec<String>, Refusal> {
        let mut conditions = Vec::new();
        for table in tables {
            let Some(own) = self.facts.filters.of_entry(table.rte) else {
                continue;
            };
            let met = own
                .conditions
                .iter()
                .filter(|condition| self.facts.is_met(condition));
            for condition in met {
                conditions.push(deparser.expr(condition)?);
            }
            for either in &own.implied {
                conditions.push(either_sql(either, deparser)?);
            }
        }
        for joint in &group.joints {
            conditions.push(deparser.expr(joint)?);
        }
        for [a, b] in &group.implied {
            let sides = [column_sql(tables, *a)?, column_sql(tables, *b)?];
            conditions.push(sides.join(" OPERATOR(pg_catalog.=) "));
        }
        Ok(conditions)
    }

    /// A column, as the server is asked for it and as the statement gets it.
    fn column(
        &self,
        alias: &str,
        member: usize,
        column: &catalog::Column,
        typed: Typed,
    ) -> Result<(String, Column), Refusal> {
        let type_oid = Oid(typed.type_oid);
        let carriage = carried(type_oid.0, self.snapshot)?;
        let name = quote_ident(&column.name);
        let base = self.snapshot.base_type(type_oid);
        let unknown = || Refusal::with(RefusalCode::CarriedType, &column.name);
        let mut item = format!("{alias}.{name}");
        let mut suffix = String::new();
        if let Some(cast) = &carriage.cast {
            suffix.push_str(&format!("::{cast}"));
        }
        let domain = self
            .snapshot
            .type_info(type_oid)
            .is_some_and(|t| t.kind == TypeKind::Domain);
        if domain {
            item = format!("{item}::{}", type_sql(self.snapshot, base.0).ok_or_else(unknown)?);
            suffix.push_str(&format!(
                "::{}",
                type_sql(self.snapshot, type_oid.0).ok_or_else(unknown)?
            ));
        }
        suffix.push_str(&collate_sql(typed.collation, self.snapshot)?);
        let column = Column {
            carriage,
            name: Some(name),
            attno: column.attnum,
            member,
            suffix,
        };
        Ok((item, column))
    }

    /// For each column a slot of its type; new ones where there are not enough.
    fn slots_for(&mut self, columns: &[Column]) -> Result<Vec<usize>, Refusal> {
        let mut taken = BTreeSet::new();
        let mut out = Vec::with_capacity(columns.len());
        for column in columns {
            let wanted = GatherSlot {
                carried: column.carriage.carried,
                null: format!("NULL::{}", column.carriage.type_sql()),
            };
            let mut slots = self.slots.iter().enumerate();
            let free = slots.find(|(at, slot)| **slot == wanted && !taken.contains(at));
            let at = match free {
                Some((at, _)) => at,
                None => {
                    self.slots.push(wanted);
                    self.slots.len() - 1
                }
            };
            taken.insert(at);
            out.push(at);
        }
        // PostgreSQL's limit of columns, with the number of the input.
        match self.slots.len() < 1600 {
            true => Ok(out),
            false => Err(Refusal::new(RefusalCode::TooComplex)),
        }
    }

    /// The array parameters, and what stands for the entries of each input.
    pub(super) fn arrays(&self, first: u16) -> Result<(Vec<InputColumn>, Vec<Items>), Refusal> {
        let mut arrays = Vec::new();
        let mut out = Vec::new();
        let mut last = first;
        for (columns, whole) in self.carriages.iter().zip(&self.whole) {
            let (mut unnest, mut names, mut items) = (Vec::new(), Vec::new(), Vec::new());
            let mut members: Vec<Vec<(String, String)>> = Vec::new();
            for (at, column) in columns.iter().enumerate() {
                last = last
                    .checked_add(1)
                    .ok_or_else(|| Refusal::new(RefusalCode::TooComplex))?;
                let (type_oid, array_oid) = column
                    .carriage
                    .carried
                    .array
                    .ok_or_else(|| Refusal::new(RefusalCode::CarriedType))?;
                arrays.push(InputColumn {
                    param: last,
                    type_oid,
                    array_oid,
                });
                unnest.push(format!(
                    "pg_catalog.unnest(${last}::{})",
                    column.carriage.array_sql
                ));
                names.push(format!("c{at}"));
                if let Some(name) = &column.name {
                    let known = match column.member {
                        0 => name.clone(),
                        _ => free_name(columns, at),
                    };
                    items.push(format!("u.c{at}{} AS {known}", column.suffix));
                    members.resize_with(members.len().max(column.member + 1), Vec::new);
                    members[column.member].push((name.clone(), known));
                }
            }
            items.extend(whole.map(|relation| whole_row(relation, columns)));
            // PostgreSQL would look into the ROW and take the NULL of a dropped column for one of its fields.
            let dropped = |relation: &&Relation| relation.columns.iter().any(|column| column.dropped);
            let fence = whole.filter(dropped).map_or("", |_| " OFFSET 0");
            out.push(Items {
                rows: format!(
                    "(SELECT {} FROM ROWS FROM ({}) AS u({}){fence})",
                    items.join(", "),
                    unnest.join(", "),
                    names.join(", ")
                ),
                members,
            });
        }
        Ok((arrays, out))
    }

    /// Where the rows of an entry are.
    pub(super) fn place_of(&self, rte: &Node) -> Option<Place<'a>> {
        let (_, used) = self.used.iter().find(|(known, _)| std::ptr::eq(*known, rte))?;
        let (input, member) = match used {
            Used::Rows(input) => (*input, 0),
            Used::Beside { input, member, .. } => (*input, *member),
        };
        let firsts = self
            .used
            .iter()
            .filter(|(_, used)| matches!(used, Used::Rows(of) if *of == input));
        Some(Place {
            input,
            member,
            index: self.facts.filters.of_entry(rte)?.index,
            relation: relation_of(self.snapshot, rte).ok()?,
            shared: firsts.count() > 1,
        })
    }

    /// The values of a column, if they travel as they are.
    pub(super) fn values(&self, place: &Place<'_>, attno: i16) -> Option<Values> {
        let mut columns = self.carriages.get(place.input)?.iter();
        let column = columns.position(|column| (column.member, column.attno) == (place.member, attno))?;
        let carriage = &self.carriages.get(place.input)?.get(column)?.carriage;
        let (type_oid, array_oid) = carriage.carried.array.filter(|_| carriage.carried.binary)?;
        Some(Values {
            column,
            type_oid,
            array_oid,
            array_sql: carriage.array_sql.clone(),
        })
    }

    /// A column in what the servers of an input are asked.
    pub(super) fn value_sql(&self, query: &Node, place: &Place<'_>, attno: i16) -> Option<String> {
        let names = Names(self.snapshot);
        let alias = Deparser::new(query, &names, self.replace)
            .ok()?
            .alias(place.index)
            .ok()?;
        let column = place.relation.column(attno)?;
        Some(format!("{}.{}", quote_ident(&alias), quote_ident(&column.name)))
    }

    /// What stands for an entry; `None`: it is no input.
    pub(super) fn item(&self, items: &[Items], entry: &FromItem<'_>) -> Option<String> {
        let (_, used) = self
            .used
            .iter()
            .find(|(known, _)| std::ptr::eq(*known, entry.rte))?;
        match used {
            Used::Rows(input) => Some(items.get(*input)?.rows.clone()),
            Used::Beside { input, first, member } => {
                let row = quote_ident(entry.alias(*first)?);
                let columns = items.get(*input)?.members.get(*member).map(Vec::as_slice);
                let columns = columns.unwrap_or_default().iter();
                let columns: Vec<String> = columns
                    .map(|(name, known)| format!("{row}.{known} AS {name}"))
                    .collect();
                Some(format!("LATERAL (SELECT {})", columns.join(", ")))
            }
        }
    }

    /// The column that stands for a row of an entry as a value, quoted; `None`: it is no input.
    pub(super) fn whole_name(&self, rte: &Node) -> Option<String> {
        let used = self.used.iter().find(|(known, _)| std::ptr::eq(*known, rte));
        let relation = used.and_then(|_| relation_of(self.snapshot, rte).ok());
        relation.map(whole_name)
    }

    /// What stands for a table of a WITH query that nothing uses: PostgreSQL does not run it.
    pub(super) fn unread(&self, rte: &Node) -> Option<String> {
        let relation = relation_of(self.snapshot, rte).ok()?;
        let items = self.facts.needs.columns(rte).into_iter().map(|(attno, typed)| {
            let column = relation.column(attno)?;
            let type_sql = type_sql(self.snapshot, typed.type_oid)?;
            Some(format!("NULL::{type_sql} AS {}", quote_ident(&column.name)))
        });
        let items: Option<Vec<String>> = items.collect();
        Some(format!("(SELECT {} WHERE false)", items?.join(", ")))
    }

    /// The views among the entries, each as a query of the columns used.
    pub(super) fn views(&self) -> Result<Vec<String>, Refusal> {
        let mut out = Vec::new();
        for rte in self.facts.filters.subqueries() {
            let Some(view) = view_of(rte, self.snapshot) else {
                continue;
            };
            let relation = self.snapshot.relation(Oid(view));
            let relation =
                relation.ok_or_else(|| Refusal::with(RefusalCode::Gather, "a view of the system"))?;
            let columns: Option<Vec<String>> = self
                .facts
                .needs
                .columns(rte)
                .into_iter()
                .map(|(attno, _)| Some(quote_ident(&relation.column(attno)?.name)))
                .collect();
            let columns = columns.ok_or_else(|| Refusal::new(RefusalCode::Gather))?;
            let name = QualifiedName::qualified(&relation.schema, &relation.name);
            let text = format!("SELECT {} FROM {name}", columns.join(", "));
            if !out.contains(&text) {
                out.push(text);
            }
        }
        Ok(out)
    }
}

/// What a condition on several tables says of one.
fn either_sql(either: &Either<'_>, deparser: &Deparser<'_>) -> Result<String, Refusal> {
    let mut arms = Vec::with_capacity(either.len());
    for arm in either {
        let parts: Result<Vec<String>, _> = arm.iter().map(|part| deparser.expr(part)).collect();
        arms.push(format!("({})", parts?.join(" AND ")));
    }
    Ok(format!("({})", arms.join(" OR ")))
}

/// What a server is asked for, without conditions.
fn text(tables: &[Table<'_>], items: &[String]) -> Result<String, Refusal> {
    let mut from = Vec::new();
    for table in tables {
        let only = if table.rte.bool("inh")? { "" } else { "ONLY " };
        let name = QualifiedName::qualified(&table.relation.schema, &table.relation.name);
        from.push(format!("{only}{name} AS {}", table.alias));
    }
    Ok(format!("SELECT {} FROM {}", items.join(", "), from.join(", ")))
}

/// A column of one of the tables of an input.
fn column_sql(tables: &[Table<'_>], (index, attno): (usize, i16)) -> Result<String, Refusal> {
    let table = tables.iter().find(|table| table.index == index);
    let found = table.and_then(|table| Some((&table.alias, table.relation.column(attno)?)));
    let (alias, column) = found.ok_or_else(|| Refusal::new(RefusalCode::Unreadable))?;
    Ok(format!("{alias}.{}", quote_ident(&column.name)))
}

/// A name that no column of the first table has.
fn free_name(columns: &[Column], at: usize) -> String {
    let mut name = format!("drover_{at}");
    while columns.iter().any(|column| column.name.as_ref() == Some(&name)) {
        name.push('_');
    }
    name
}

/// The column that is a row of the table, in what stands for it: where an outer join fills the table with NULLs, so is this.
fn whole_row(relation: &Relation, columns: &[Column]) -> String {
    let mut values = Vec::new();
    for (at, column) in columns.iter().enumerate() {
        values.push(format!("u.c{at}{}", column.suffix));
    }
    let row_type = QualifiedName::qualified(&relation.schema, &relation.name);
    format!(
        "ROW({})::{row_type} AS {}",
        values.join(", "),
        whole_name(relation)
    )
}

/// Its name, which no column has, quoted.
fn whole_name(relation: &Relation) -> String {
    let mut name = "whole row".to_owned();
    while relation.columns.iter().any(|column| column.name == name) {
        name.push('_');
    }
    quote_ident(&name)
}
