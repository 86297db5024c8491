//! A database with the tables of all cases, and its snapshot.

use catalog::load::{EPILOGUE, PREAMBLE, QueryId, SnapshotBuilder};
use catalog::{
    BodyFacts, BodyParser, FunctionBody, MapId, Salt, ShardId, ShardMap, ShardingInput, Snapshot,
    TableSharding, TableShardingKind,
};
use plan::{Analyzed, Plan, ResultColumn, SessionFacts, Triage};
use testkit::TestPostgres;
use testkit::client::Client;

/// Tables of all cases. The maps: 1 by user, 2 by event (not colocated with 1), 5 by page, salted by visit.
pub const SCHEMA: &str = "
    CREATE TABLE users (id int PRIMARY KEY, name text, city text, age int, score float8, born date);
    CREATE TABLE orders (user_id int NOT NULL, id bigint NOT NULL, total numeric(12,2), ref int, tags text[],
        at timestamptz DEFAULT now(), PRIMARY KEY (user_id, id));
    CREATE TABLE tickets (id bigserial PRIMARY KEY, title varchar(20), made timestamptz DEFAULT now());
    CREATE TABLE tenants (slug varchar(10) PRIMARY KEY, plan text DEFAULT 'free');
    CREATE TABLE events (id uuid PRIMARY KEY, user_id int, kind text);
    CREATE TABLE nullable (k int, v text);
    CREATE TABLE countries (code text PRIMARY KEY, name text, at timestamptz DEFAULT now());
    CREATE TABLE tags (id serial PRIMARY KEY, label text, token uuid DEFAULT gen_random_uuid());
    CREATE TABLE items (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
    CREATE TABLE settings (name text PRIMARY KEY, value text);
    CREATE TABLE visits (page int, id bigint, v int, note text, PRIMARY KEY (page, id));
    CREATE TABLE likes (page int, visit bigint, who text, PRIMARY KEY (page, visit, who));
    CREATE VIEW adults AS SELECT id, name, city FROM users WHERE age >= 18;
    CREATE VIEW totals AS SELECT user_id, sum(total) AS total FROM orders GROUP BY user_id;
    CREATE TABLE invoices (id serial PRIMARY KEY, user_id int, made timestamptz DEFAULT now());
    CREATE TABLE lines (invoice int REFERENCES invoices, n int);
    CREATE TABLE parcels (id int PRIMARY KEY, invoice int);
    CREATE FUNCTION peek() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM orders';
    CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
";

struct Bodies;

impl BodyParser for Bodies {
    fn body_facts(&self, body: FunctionBody<'_>) -> Result<BodyFacts, String> {
        let facts = match body.language {
            "sql" => sql::sql_body_facts(body.source),
            _ => sql::plpgsql_body_facts(body.source),
        };
        if let Some(why) = facts.unknown {
            return Err(why.to_owned());
        }
        Ok(BodyFacts {
            relations: facts.relations.into_iter().map(|n| n.name).collect(),
            functions: facts.functions.into_iter().map(|n| n.name).collect(),
            candidates: body.language == "plpgsql",
            dynamic_sql: facts.dynamic_sql,
            sets_config: facts.sets_config,
            utility: false,
            acts_on_session: facts.acts_on_session,
            notifies: facts.notifies,
            keeps_custom_setting: facts.keeps_custom_setting,
        })
    }
}

pub struct Lab {
    pub client: Client,
    pub snapshot: Snapshot,
}

impl Lab {
    pub fn new() -> Lab {
        let server = TestPostgres::shared();
        let database = server.create_database();
        let mut client = Client::connect(&server.url(&database)).unwrap();
        let made = client.simple(SCHEMA).unwrap();
        assert!(made.errors.is_empty(), "{made:?}");
        let snapshot = load(&mut client, &sharding(), &[]);
        let settings =
            "SET debug_print_rewritten = on; SET debug_pretty_print = off; SET client_min_messages = log";
        assert!(client.simple(settings).unwrap().errors.is_empty());
        Lab { client, snapshot }
    }

    /// An unsharded database with these objects; `safe` names functions that may run on replicas.
    pub fn with_schema(schema: &str, safe: &[(&str, &str)]) -> Lab {
        let server = TestPostgres::shared();
        let database = server.create_database();
        let mut client = Client::connect(&server.url(&database)).unwrap();
        let made = client.simple(schema).unwrap();
        assert!(made.errors.is_empty(), "{made:?}");
        let shards = vec![ShardId(1)];
        let home = ShardingInput {
            home: ShardId(1),
            shards,
            ..ShardingInput::default()
        };
        let snapshot = load(&mut client, &home, safe);
        Lab { client, snapshot }
    }

    /// What triage says.
    pub fn triage(&self, raw: &sql::RawStatement) -> Triage {
        let session = SessionFacts {
            search_path: vec!["public".to_owned()],
            ..SessionFacts::default()
        };
        plan::triage(raw, &self.snapshot, &session)
    }

    /// The plan of one statement as text.
    pub fn explain(&mut self, text: &str) -> String {
        let raws = match sql::parse(text, &sql::ParseOptions::default()) {
            Ok(raws) => raws,
            Err(error) => return format!("unreadable: {error}\n"),
        };
        let [raw] = raws.as_slice() else {
            return "not one statement\n".to_owned();
        };
        match self.triage(raw) {
            Triage::Analyze => match self.analyze(text, raw) {
                Ok(plan) => plan::explain_route(&plan, &self.snapshot, None).join("\n") + "\n",
                Err(why) => why,
            },
            Triage::Home => "home\n".to_owned(),
            Triage::Refuse(refusal) => format!("{} {}\n", refusal.code, refusal.reason),
            other => without_oids(&format!("{other:#?}\n")),
        }
    }

    /// Has the server analyze a statement, and plans it.
    pub fn analyze(&mut self, text: &str, raw: &sql::RawStatement) -> Result<Plan, String> {
        let answer = self.client.parameter_types(text, &[]).unwrap();
        if let Some(error) = answer.error() {
            return Err(format!("server: {}\n", error.field(b'M').unwrap_or_default()));
        }
        let mut trees = Vec::new();
        for notice in answer
            .notices
            .iter()
            .filter(|n| n.field(b'M').is_some_and(|m| m.starts_with("rewritten")))
        {
            let sql::Value::List(list) = sql::nodes::parse_wrapped(notice.field(b'D').unwrap()).unwrap()
            else {
                panic!("not a list of trees")
            };
            trees.extend(list.into_iter().filter_map(|v| match v {
                sql::Value::Node(node) => Some(*node),
                _ => None,
            }));
        }
        let columns = answer
            .results
            .iter()
            .find_map(|r| r.columns.clone())
            .unwrap_or_default();
        let columns: Vec<ResultColumn> = columns
            .into_iter()
            .map(|c| ResultColumn {
                name: c.name,
                type_oid: c.type_oid,
                type_modifier: c.type_modifier,
            })
            .collect();
        let param_types = answer.parameters.unwrap_or_default();
        let analyzed = Analyzed {
            text,
            raw,
            trees: &trees,
            param_types: &param_types,
            columns: &columns,
        };
        plan::plan(&analyzed, &self.snapshot)
            .map_err(|refusal| format!("{} {}\n", refusal.code, refusal.reason))
    }
}

/// OIDs of users' objects are not the same on every run.
fn without_oids(text: &str) -> String {
    let mut out = String::new();
    let mut parts = text.split("Oid(\n");
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let rest = part.trim_start().trim_start_matches(|c: char| c.is_ascii_digit());
        out.push_str("Oid(…");
        out.push_str(rest.trim_start_matches(',').trim_start());
    }
    out
}

fn load(client: &mut Client, sharding: &ShardingInput, safe: &[(&str, &str)]) -> Snapshot {
    let mut builder = SnapshotBuilder::new();
    assert!(client.simple(PREAMBLE).unwrap().errors.is_empty());
    for query in QueryId::ALL {
        let answer = client.simple(&query.sql()).unwrap();
        assert!(answer.errors.is_empty(), "{query:?} {:?}", answer.errors);
        builder.from_rows(query, &answer.text_rows()).unwrap();
    }
    assert!(client.simple(EPILOGUE).unwrap().errors.is_empty());
    let owned = |&(schema, name): &(&str, &str)| (schema.to_owned(), name.to_owned());
    builder.allow_on_replicas(safe.iter().map(owned));
    builder.build(sharding, &Bodies).unwrap()
}

fn sharding() -> ShardingInput {
    let shards: Vec<ShardId> = (1..=4).map(ShardId).collect();
    let table = |name: &str, kind: TableShardingKind| TableSharding {
        schema: "public".to_owned(),
        name: name.to_owned(),
        kind,
    };
    let sharded = |name: &str, column: &str, map: u32| {
        table(
            name,
            TableShardingKind::Sharded {
                columns: vec![column.to_owned()],
                map: MapId(map),
            },
        )
    };
    let placed = |name: &str, map: u32| {
        let columns = Vec::new();
        table(
            name,
            TableShardingKind::Sharded {
                columns,
                map: MapId(map),
            },
        )
    };
    let salted = |name: &str, columns: [&str; 2]| {
        let columns = columns.map(str::to_owned).to_vec();
        let map = MapId(7);
        table(name, TableShardingKind::Sharded { columns, map })
    };
    let even = ShardMap::even(&shards).unwrap();
    let salt = Salt::new(1, 8).unwrap();
    let mut maps: Vec<(MapId, ShardMap)> = (1..=4).map(|m| (MapId(m), even.clone())).collect();
    maps.extend([(5, 3), (6, 4)].map(|(m, shard)| (MapId(m), ShardMap::one(ShardId(shard)))));
    maps.push((MapId(7), even.salted(salt).unwrap()));
    ShardingInput {
        home: ShardId(1),
        maps,
        names: shards.iter().map(|id| (*id, format!("shard_{id}"))).collect(),
        schemas: vec![("billing".to_owned(), ShardId(3))],
        tables: vec![
            salted("visits", ["page", "id"]),
            salted("likes", ["page", "visit"]),
            sharded("users", "id", 1),
            sharded("orders", "user_id", 1),
            sharded("nullable", "k", 1),
            sharded("tickets", "id", 1),
            sharded("items", "id", 1),
            sharded("tenants", "slug", 3),
            sharded("events", "id", 2),
            placed("invoices", 5),
            placed("lines", 5),
            placed("parcels", 6),
            table("countries", TableShardingKind::Reference),
            table("tags", TableShardingKind::Reference),
        ],
        shards,
        ..ShardingInput::default()
    }
}
