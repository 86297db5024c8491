//! The SQL of plans, executed: four databases with a quarter of the rows each must give what one with all rows gives.

use catalog::{ShardId, hash_sql};
use plan::{Combine, KeySource, LimitPlan, LimitValue, Many, Plan, PreludeSource, SortKey, Target, Triage};
use testkit::TestPostgres;
use testkit::client::{Client, Extended, Format, Parameter};

use crate::lab::{Lab, SCHEMA};

/// Statements whose answers are compared. Only those with ORDER BY have to agree in order.
const QUERIES: &str = include_str!("../queries.sql");

/// Rows of all tables; `{users}` and so on are the conditions that a shard puts on its rows.
const ROWS: &str = "
    INSERT INTO users SELECT i, nullif('name' || i % 7, 'name3'), 'city' || i % 5, nullif(i % 11, 4), i / 3.0,
        date '2000-01-01' + i * 40 FROM generate_series(1, 97) i WHERE {users};
    INSERT INTO orders SELECT i % 50, i, (i * 7 % 1000) / 10.0, nullif(i % 13, 5), ARRAY['a', i::text],
        timestamptz '2024-01-01 00:00:00+00' + i * interval '7 hours' FROM generate_series(1, 300) i WHERE {orders};
    INSERT INTO nullable SELECT nullif(i % 10, 3), 'v' || i % 4 FROM generate_series(1, 60) i WHERE {nullable};
    INSERT INTO countries SELECT 'city' || i, 'Country ' || i, '2024-01-01' FROM generate_series(0, 6) i;
";

struct Shards {
    lab: Lab,
    all: Client,
    shards: Vec<(ShardId, Client)>,
}

type Rows = Vec<Vec<Option<String>>>;

impl Shards {
    fn new() -> Shards {
        let lab = Lab::new();
        let all = filled(None, &lab);
        let ids = lab.snapshot.shards().to_vec();
        let shards = ids.into_iter().map(|id| (id, filled(Some(id), &lab))).collect();
        Shards { lab, all, shards }
    }

    fn one_answer(&mut self, plan: &Plan, text: &str) -> Result<Rows, String> {
        let shards = self.targets(plan);
        if shards.len() <= 1 {
            let text = plan.text.as_deref().unwrap_or(text);
            return Ok(run(
                &mut self.shards[shards.first().copied().unwrap_or(0)].1,
                text,
                &[],
            ));
        }
        let Many::Rows(rows) = &plan.many else {
            return Err(format!("{:?}", plan.many));
        };
        let mut parameters = Vec::new();
        for value in &plan.prelude {
            assert_eq!(value.source, PreludeSource::Now);
            parameters.extend(run(&mut self.all, "SELECT timestamptz '2024-02-01'", &[])[0][0].clone());
        }
        let parameters: Vec<Parameter> = parameters.into_iter().map(Parameter::text).collect();
        let mut types: Vec<u32> = plan.prelude.iter().map(|v| v.type_oid).collect();
        let mut found = Vec::new();
        for at in shards {
            let snapshot = &self.lab.snapshot;
            let sql = &rows
                .text_for(text, self.shards[at].0, snapshot)
                .expect("the map is there");
            found.push(run_typed(&mut self.shards[at].1, sql, &parameters, &types));
        }
        assert!(found.iter().flatten().all(|row| row.len() == rows.width));
        Ok(match &rows.combine {
            Combine::Concat { limit } => cut(found.concat(), limit, rows.visible),
            Combine::Ordered { keys, limit } => {
                let sorted = self.sorted(&found.concat(), keys, rows.visible);
                cut(sorted, limit, rows.visible)
            }
            Combine::Finish { sql, inputs } => {
                assert_eq!(inputs.len(), rows.width);
                let mut all = parameters;
                all.extend(arrays_of(&found.concat(), rows.width));
                types.extend(inputs.iter().map(|i| i.array_oid));
                run_typed(&mut self.all, sql, &all, &types)
            }
        })
    }

    fn sorted(&mut self, rows: &Rows, sorted_by: &[SortKey], visible: usize) -> Rows {
        // Merging is another crate's: here the server sorts what came, to see that keys and limits suffice.
        let order: Vec<String> = sorted_by
            .iter()
            .map(|k| {
                let direction = if k.descending { "DESC" } else { "ASC" };
                let nulls = if k.nulls_first { "FIRST" } else { "LAST" };
                format!("c{} {direction} NULLS {nulls}", k.column + 1)
            })
            .collect();
        let types = vec!["text".to_owned(); visible];
        let keys = sorted_by.iter().map(|k| {
            self.lab
                .snapshot
                .type_info(catalog::Oid(k.type_oid))
                .unwrap()
                .name
                .clone()
        });
        let types: Vec<String> = types.into_iter().chain(keys).collect();
        let arrays: Vec<String> = types
            .iter()
            .enumerate()
            .map(|(at, name)| format!("${}::{name}[]", at + 1))
            .collect();
        let columns: Vec<String> = (1..=types.len()).map(|at| format!("c{at}")).collect();
        let sql = format!(
            "SELECT * FROM unnest({}) u({}) ORDER BY {}",
            arrays.join(", "),
            columns.join(", "),
            order.join(", ")
        );
        run(&mut self.all, &sql, &arrays_of(rows, visible + sorted_by.len()))
    }

    fn targets(&self, plan: &Plan) -> Vec<usize> {
        let snapshot = &self.lab.snapshot;
        let ids: Vec<ShardId> = match &plan.target {
            Target::All { map } | Target::Between { map, .. } | Target::Lookup { map, .. } => {
                snapshot.shards_of(*map).to_vec()
            }
            Target::Home | Target::Any | Target::Every => vec![snapshot.home()],
            Target::Cluster => snapshot.shards().to_vec(),
            Target::Keys { map, keys, .. } => keys
                .iter()
                .filter_map(|key| match key {
                    KeySource::Const { value, .. } if *value != catalog::KeyValue::Null => {
                        snapshot.shard_of(*map, value)
                    }
                    _ => None,
                })
                .collect(),
        };
        (0..self.shards.len())
            .filter(|at| ids.contains(&self.shards[*at].0))
            .collect()
    }
}

/// A database with all rows, or with those of one shard.
fn filled(shard: Option<ShardId>, lab: &Lab) -> Client {
    let server = TestPostgres::shared();
    let mut client = Client::connect(&server.url(&server.create_database())).unwrap();
    let place = |table: &str, expr: &str| match shard {
        None => "true".to_owned(),
        Some(shard) => {
            let relation = lab.snapshot.relation_in("public", table).unwrap();
            let (key_type, map) = (relation.key_columns()[0].key_type, relation.map().unwrap());
            assert!(!hash_sql(key_type, expr).is_empty());
            let map = lab.snapshot.map(map).unwrap();
            map.predicate_sql(shard, &[(key_type, expr)])
        }
    };
    let rows = ROWS
        .replace("{users}", &place("users", "i"))
        .replace("{orders}", &place("orders", "i % 50"))
        .replace("{nullable}", &place("nullable", "nullif(i % 10, 3)"));
    for text in [SCHEMA, &rows, "SET timezone = 'UTC'"] {
        let answer = client.simple(text).unwrap();
        assert!(answer.errors.is_empty(), "{:?}", answer.errors);
    }
    client
}

fn run(client: &mut Client, sql: &str, parameters: &[Parameter]) -> Rows {
    run_typed(client, sql, parameters, &[])
}

fn run_typed(client: &mut Client, sql: &str, parameters: &[Parameter], types: &[u32]) -> Rows {
    let request = Extended {
        parameters,
        types,
        result: Format::Text,
        ..Extended::new(sql)
    };
    let answer = client.extended(&request).unwrap();
    assert!(answer.errors.is_empty(), "{sql}\n{:?}", answer.errors);
    answer.text_rows()
}

/// Columns as array literals.
fn arrays_of(rows: &Rows, width: usize) -> Vec<Parameter> {
    let literal = |value: &Option<String>| match value {
        None => "NULL".to_owned(),
        Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
    };
    let column = |at: usize| {
        rows.iter()
            .map(|row| literal(&row[at]))
            .collect::<Vec<_>>()
            .join(",")
    };
    (0..width)
        .map(|at| Parameter::text(format!("{{{}}}", column(at))))
        .collect()
}

fn cut(rows: Rows, limit: &LimitPlan, visible: usize) -> Rows {
    let number = |value: Option<LimitValue>| match value {
        Some(LimitValue::Const(value)) => usize::try_from(value).ok(),
        _ => None,
    };
    let rows = rows.into_iter().skip(number(limit.offset).unwrap_or(0));
    let rows = rows.take(number(limit.limit).unwrap_or(usize::MAX));
    rows.map(|row| row[..visible].to_vec()).collect()
}

#[test]
fn several_shards_answer_like_one_server() {
    let mut shards = Shards::new();
    let mut wrong = String::new();
    let mut compared = 0;
    for text in QUERIES.split(";\n").map(str::trim).filter(|q| !q.is_empty()) {
        let raws = sql::parse(text, &sql::ParseOptions::default()).unwrap();
        let plan = match shards.lab.triage(&raws[0]) {
            Triage::Analyze => shards.lab.analyze(text, &raws[0]),
            other => panic!("{text}\n{other:?}"),
        };
        let plan = plan.unwrap_or_else(|why| panic!("{text}\n{why}"));
        let found = shards
            .one_answer(&plan, text)
            .unwrap_or_else(|why| panic!("{text}\n{why}"));
        // The oracle's clock stands still like the prelude's.
        let mut expected = run(
            &mut shards.all,
            &text.replace("now()", "timestamptz '2024-02-01'"),
            &[],
        );
        let mut sorted = found.clone();
        if !text.contains("ORDER BY") || text.contains("-- any order") {
            expected.sort();
            sorted.sort();
        }
        // A LIMIT without a total order may choose any rows.
        let same = if text.contains("-- any rows") {
            expected.len() == found.len()
        } else {
            expected == sorted
        };
        if !same {
            wrong.push_str(&format!("\n{text}\nexpected {expected:?}\nfound    {sorted:?}\n"));
        }
        compared += 1;
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(compared > 50, "{compared}");
}
