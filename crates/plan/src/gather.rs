//! Statements that one PostgreSQL finishes over rows pulled from several servers.
//!
//! An input can be *reduced* by another one that is much smaller (a semi-join): its rows are pulled later, and only those whose value is among the
//! other's. Then servers are asked several times, so what they read has to be under one snapshot, which is the caller's to see to.

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
    /// Which rows of an input can be left out when another has been pulled.
    pub reductions: Vec<Reduction>,
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
    /// A SELECT of the columns needed, with the client's parameters and those of the prelude, without its conditions.
    pub sql: String,
    /// Its conditions: all of them hold.
    pub conditions: Vec<String>,
    /// For each of its columns the slot it travels in, from 0.
    pub columns: Vec<usize>,
    /// How its rows are dealt out; `None`: wherever the statement runs, it has all of them.
    pub deal: Option<Deal>,
}

/// Of an input only the rows matter whose value is among those that a column of another input has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reduction {
    /// The input whose rows are left out.
    pub input: usize,
    /// The input that has the values.
    pub by: usize,
    /// Its column, from 0.
    pub column: usize,
    /// The value, as the servers of `input` are asked for it.
    pub value: String,
    /// The type of an array of the values, as SQL and by its OID.
    pub array_sql: String,
    /// See `array_sql`.
    pub array_oid: u32,
}

/// What is known of the rows of an input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum InputRows {
    /// The servers expect so many.
    Expected(f64),
    /// So many have been pulled.
    Pulled(u64),
}

/// An input that is pulled with the values of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The input.
    pub input: usize,
    /// The numbers of its [`Gather::reductions`].
    pub reductions: Vec<usize>,
}

/// Fewer rows are pulled as they are: another round trip costs as much.
const REDUCED_FROM: f64 = 2_000.0;

/// More values than this are not sent to other servers.
const VALUES_MAX: f64 = 20_000.0;

/// So many times the rows of an input make it worth to ask the other one first.
const WORTH: f64 = 4.0;

/// What is left of the rows of an input that will be reduced, for want of statistics.
const REDUCED_TO: f64 = 0.1;

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

impl GatherInput {
    /// The SELECT, with further conditions.
    pub fn text(&self, further: &[String]) -> String {
        let mut text = self.sql.clone();
        for (at, condition) in self.conditions.iter().chain(further).enumerate() {
            text.push_str(if at == 0 { " WHERE " } else { " AND " });
            text.push_str(condition);
        }
        text
    }
}

impl Gather {
    /// What a server is asked for that has these inputs. Each row has the number of its input in front. A reduction takes its values from
    /// the parameter with the number that `param` gives it.
    ///
    /// `home`: it is the home shard, where the right to read the views is looked at as well.
    pub fn text_for(&self, steps: &[&Step], home: bool, param: &dyn Fn(usize) -> u16) -> String {
        let branches = steps.iter().filter_map(|step| self.branch(step, param));
        let views = self.views.iter().filter(|_| home);
        let rights = views.map(|view| self.rights(view));
        branches
            .chain(rights)
            .collect::<Vec<String>>()
            .join(" UNION ALL ")
    }

    fn branch(&self, step: &Step, param: &dyn Fn(usize) -> u16) -> Option<String> {
        let at = step.input;
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
        let among = |number: &usize| {
            let reduction = self.reductions.get(*number)?;
            let (value, param) = (&reduction.value, param(*number));
            Some(format!(
                "{value} OPERATOR(pg_catalog.=) ANY (${param}::{})",
                reduction.array_sql
            ))
        };
        let further: Vec<String> = step.reductions.iter().filter_map(among).collect();
        Some(format!(
            "SELECT {} FROM ({}) AS x({})",
            items.join(", "),
            input.text(&further),
            names.join(", ")
        ))
    }

    /// All inputs, each as it is.
    pub fn all_steps(&self) -> Vec<Step> {
        let step = |input| Step {
            input,
            reductions: Vec::new(),
        };
        (0..self.inputs.len()).map(step).collect()
    }

    /// The inputs to be pulled now: those that no smaller one should be asked for before. None if all have been pulled.
    pub fn next_steps(&self, rows: &[InputRows]) -> Vec<Step> {
        let open = |input: &usize| matches!(rows.get(*input), Some(InputRows::Expected(_)));
        let mut steps: Vec<Step> = (0..self.inputs.len())
            .filter(open)
            .filter(|input| !self.waits(*input, rows))
            .map(|input| self.step(input, rows))
            .collect();
        if steps.is_empty() {
            // They wait for one another.
            steps = (0..self.inputs.len())
                .filter(open)
                .map(|input| self.step(input, rows))
                .collect();
        }
        steps
    }

    fn step(&self, input: usize, rows: &[InputRows]) -> Step {
        let own = self
            .reductions
            .iter()
            .enumerate()
            .filter(|(_, r)| r.input == input);
        let useful = own.filter(|(_, reduction)| {
            let values = match rows.get(reduction.by) {
                // Nearly always they are not all different.
                Some(InputRows::Pulled(rows)) => *rows as f64,
                _ => f64::INFINITY,
            };
            self.is_worth(input, values, rows)
        });
        Step {
            input,
            reductions: useful.map(|(number, _)| number).collect(),
        }
    }

    /// Whether another input should be pulled before this one.
    fn waits(&self, input: usize, rows: &[InputRows]) -> bool {
        let mut own = self.reductions.iter().filter(|r| r.input == input);
        own.any(|reduction| match rows.get(reduction.by) {
            Some(InputRows::Expected(expected)) => {
                let reduced = self
                    .reductions
                    .iter()
                    .any(|r| r.input == reduction.by && r.by != input);
                let left = if reduced { expected * REDUCED_TO } else { *expected };
                self.is_worth(input, left, rows)
            }
            _ => false,
        })
    }

    /// Whether so many values are few enough to be sent for the rows of an input.
    fn is_worth(&self, input: usize, values: f64, rows: &[InputRows]) -> bool {
        match rows.get(input) {
            Some(InputRows::Expected(expected)) => {
                *expected >= REDUCED_FROM && values <= VALUES_MAX && values * WORTH <= *expected
            }
            _ => false,
        }
    }

    /// No row, but the error of somebody who may not read the view. (What stands in FROM is looked at even when it is never
    /// read; a subquery in a condition that is false is not.)
    fn rights(&self, view: &str) -> String {
        let mut items = vec!["0::pg_catalog.int2".to_owned()];
        items.extend(self.slots.iter().map(|slot| slot.null.clone()));
        format!("SELECT {} FROM ({view}) AS x WHERE false", items.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(inputs: usize, reductions: &[(usize, usize)]) -> Gather {
        let input = GatherInput {
            name: String::new(),
            place: GatherPlace::Home,
            sql: "SELECT x FROM t".to_owned(),
            conditions: vec!["x > 1".to_owned()],
            columns: vec![0],
            deal: None,
        };
        let reduction = |(input, by): &(usize, usize)| Reduction {
            input: *input,
            by: *by,
            column: 0,
            value: "t.y".to_owned(),
            array_sql: "int4[]".to_owned(),
            array_oid: 1007,
        };
        Gather {
            inputs: vec![input; inputs],
            slots: Vec::new(),
            finish: String::new(),
            finish_on: FinishPlace::Home,
            arrays: Vec::new(),
            reductions: reductions.iter().map(reduction).collect(),
            views: Vec::new(),
        }
    }

    /// The inputs of each step, with those by which they are reduced, until all are there.
    fn steps(gather: &Gather, expected: &[f64], pulled: &[u64]) -> Vec<Vec<(usize, Vec<usize>)>> {
        let mut rows: Vec<InputRows> = expected.iter().copied().map(InputRows::Expected).collect();
        let mut out = Vec::new();
        loop {
            let next = gather.next_steps(&rows);
            if next.is_empty() {
                return out;
            }
            for step in &next {
                rows[step.input] = InputRows::Pulled(pulled[step.input]);
            }
            let by = |step: &Step| step.reductions.iter().map(|r| gather.reductions[*r].by).collect();
            out.push(next.iter().map(|step| (step.input, by(step))).collect());
        }
    }

    #[test]
    fn the_small_ones_come_first() {
        let chain = gather(3, &[(1, 0), (0, 1), (2, 1), (1, 2)]);
        let found = steps(&chain, &[10.0, 3_000.0, 1e6], &[10, 20, 90]);
        assert_eq!(found, [vec![(0, vec![])], vec![(1, vec![0])], vec![(2, vec![1])]]);
    }

    #[test]
    fn what_is_small_or_alike_waits_for_nobody() {
        let pair = gather(2, &[(1, 0), (0, 1)]);
        assert_eq!(
            steps(&pair, &[10.0, 1_999.0], &[10, 1_999]),
            [[(0, vec![]), (1, vec![])]]
        );
        assert_eq!(steps(&pair, &[1e6, 2e6], &[0, 0]), [[(0, vec![]), (1, vec![])]]);
        assert_eq!(
            steps(&pair, &[30_000.0, 1e7], &[0, 0]),
            [[(0, vec![]), (1, vec![])]]
        );
    }

    #[test]
    fn more_rows_than_were_expected_are_not_sent() {
        let pair = gather(2, &[(1, 0), (0, 1)]);
        let found = steps(&pair, &[10.0, 10_000.0], &[5_000, 10_000]);
        assert_eq!(found, [vec![(0, vec![])], vec![(1, vec![])]]);
    }

    #[test]
    fn who_waits_for_each_other_does_not_wait_for_ever() {
        let ring = gather(3, &[(0, 1), (1, 2), (2, 0)]);
        let found = steps(&ring, &[1e5, 1e5, 1e5], &[9, 9, 9]);
        assert_eq!(found, [[(0, vec![]), (1, vec![]), (2, vec![])]]);
    }

    #[test]
    fn values_are_among_those_of_the_parameter() {
        let pair = gather(2, &[(1, 0)]);
        let step = Step {
            input: 1,
            reductions: vec![0],
        };
        let text = pair.text_for(&[&step], false, &|_| 7);
        let inner = "SELECT x FROM t WHERE x > 1 AND t.y OPERATOR(pg_catalog.=) ANY ($7::int4[])";
        assert_eq!(text, format!("SELECT 1::pg_catalog.int2 FROM ({inner}) AS x(a0)"));
    }
}
