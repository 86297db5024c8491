//! Statements that one PostgreSQL finishes over rows pulled from several servers.

use catalog::MapId;

use crate::{Carried, InputColumn, KeySource};

/// A statement over tables that do not meet on the shards.
///
/// How to run it: resolve the place of each input; send each server concerned one statement with the inputs it has
/// ([`Gather::text_for`]), so that all of them are read under one snapshot; collect the rows of each input as arrays, a column each;
/// then run `finish` where `finish_on` says with the client's parameters, the prelude's, and the arrays.
#[derive(Debug, Clone, PartialEq)]
pub struct Gather {
    /// The tables, each with what of it is needed.
    pub inputs: Vec<GatherInput>,
    /// Columns of what a server is asked for, behind the number of the input. Inputs share columns of one type.
    pub slots: Vec<GatherSlot>,
    /// The statement over the arrays.
    pub finish: String,
    /// Where it runs.
    pub finish_on: FinishPlace,
    /// The array parameters of `finish`: for each input its columns, in order.
    pub arrays: Vec<InputColumn>,
    /// Views that were taken apart, as SQL, each with the columns that are used: who may read the tables under them need not be
    /// allowed to read them.
    pub views: Vec<String>,
}

/// Where the statement over the arrays runs.
#[derive(Debug, Clone, PartialEq)]
pub enum FinishPlace {
    /// On the home shard: it only reads.
    Home,
    /// On every shard with rows of the table that it changes; their answers are added up. It runs on one of the map's shards where no
    /// row can qualify.
    Rows(GatherPlace),
    /// On every shard, home first, the same everywhere: the table that it changes is a reference table.
    Every,
}

/// Which shard of [`FinishPlace::Rows`] can use a row of an input; no other gets it.
#[derive(Debug, Clone, PartialEq)]
pub struct Deal {
    /// The map of the table that is changed.
    pub map: MapId,
    /// The key with which a row meets it. Parameters beyond the client's own stand for the columns of the input.
    pub key: KeySource,
}

/// A table, or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub struct GatherInput {
    /// The table, for messages.
    pub name: String,
    /// Where its rows are.
    pub place: GatherPlace,
    /// A SELECT of the columns needed, with the client's parameters and those of the prelude.
    pub sql: String,
    /// For each of its columns the slot it travels in, from 0.
    pub columns: Vec<usize>,
    /// How its rows are dealt out; `None`: wherever the statement runs, it has all of them.
    pub deal: Option<Deal>,
}

/// Where the rows of a [`GatherInput`] are.
#[derive(Debug, Clone, PartialEq)]
pub enum GatherPlace {
    /// On the home shard, all of them.
    Home,
    /// On the shards of these keys, as far as they matter.
    Keys {
        /// The map to look them up in.
        map: MapId,
        /// The keys: a union. NULL adds no shard.
        keys: Vec<KeySource>,
    },
    /// On every shard of the map.
    All {
        /// The map.
        map: MapId,
    },
}

/// A column in which values of one type travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatherSlot {
    /// How they travel.
    pub carried: Carried,
    /// A NULL of the type, as SQL.
    pub null: String,
}

impl Gather {
    /// What a server with these inputs (their numbers) is asked for. Each row has the number of its input in front.
    ///
    /// `home`: it is the home shard, where the right to read the views is looked at as well.
    pub fn text_for(&self, inputs: &[usize], home: bool) -> String {
        let branches = inputs.iter().filter_map(|at| self.branch(*at));
        let views = self.views.iter().filter(|_| home);
        let rights = views.map(|view| self.rights(view));
        branches
            .chain(rights)
            .collect::<Vec<String>>()
            .join(" UNION ALL ")
    }

    fn branch(&self, at: usize) -> Option<String> {
        let input = self.inputs.get(at)?;
        let names: Vec<String> = (0..input.columns.len())
            .map(|column| format!("a{column}"))
            .collect();
        let mut items = vec![format!("{at}::pg_catalog.int2")];
        items.extend(self.slots.iter().enumerate().map(|(number, slot)| {
            match input.columns.iter().position(|used| *used == number) {
                Some(column) => format!("x.a{column}"),
                None => slot.null.clone(),
            }
        }));
        Some(format!(
            "SELECT {} FROM ({}) AS x({})",
            items.join(", "),
            input.sql,
            names.join(", ")
        ))
    }

    /// No row, but the error of somebody who may not read the view. (What stands in FROM is looked at even when it is never
    /// read; a subquery in a condition that is false is not.)
    fn rights(&self, view: &str) -> String {
        let mut items = vec!["0::pg_catalog.int2".to_owned()];
        items.extend(self.slots.iter().map(|slot| slot.null.clone()));
        format!("SELECT {} FROM ({view}) AS x WHERE false", items.join(", "))
    }
}
