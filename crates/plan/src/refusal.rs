//! Why a statement is not run: stable codes, one table.

use std::fmt::Write as _;

/// SQLSTATE of every refusal.
pub const SQLSTATE: &str = "0A000";

/// A statement that is not run, and why.
///
/// To the client: `ERROR 0A000`, message [`reason`](Self::reason), DETAIL `refusal code DRVnnnn`, HINT
/// [`hint`](Self::hint).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The stable code.
    pub code: RefusalCode,
    /// One sentence, lower case, for the client's error message.
    pub reason: String,
    /// What to do instead.
    pub hint: String,
}

impl Refusal {
    /// A refusal with the reason and the hint of the table.
    pub fn new(code: RefusalCode) -> Refusal {
        let entry = code.entry();
        Refusal {
            code,
            reason: entry.reason.to_owned(),
            hint: entry.hint.to_owned(),
        }
    }

    /// A refusal that names what was in the way; the hint is the table's.
    pub fn with(code: RefusalCode, detail: impl AsRef<str>) -> Refusal {
        let entry = code.entry();
        let reason = format!("{}: {}", entry.reason, detail.as_ref());
        Refusal {
            code,
            reason,
            hint: entry.hint.to_owned(),
        }
    }
}

/// One row of the refusal table.
#[derive(Debug, Clone, Copy)]
pub struct RefusalEntry {
    /// The code.
    pub code: RefusalCode,
    /// Its stable name, `DRVnnnn`. Never reused.
    pub name: &'static str,
    /// Message to the client.
    pub reason: &'static str,
    /// A statement that is refused with it.
    pub example: &'static str,
    /// What to do instead.
    pub hint: &'static str,
}

macro_rules! refusals {
    ($($variant:ident = $name:literal, $reason:literal, $example:literal, $hint:literal;)*) => {
        /// The stable code of a refusal.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum RefusalCode {
            $(#[doc = concat!("`", $name, "`: ", $reason)] $variant,)*
        }

        /// Every refusal there is, by ascending code.
        pub const REFUSALS: &[RefusalEntry] = &[
            $(RefusalEntry {
                code: RefusalCode::$variant, name: $name, reason: $reason, example: $example, hint: $hint,
            },)*
        ];
    };
}

refusals! {
    // 1xxx: reading the statement
    UnknownNode = "DRV1001",
        "part of the statement cannot be printed for several shards",
        "SELECT xmlforest(a, b) FROM orders ORDER BY lower(c)",
        "restrict every sharded table to one shard key";
    UnexpectedClause = "DRV1002",
        "the statement has a clause that is not handled for sharded tables",
        "SELECT * FROM orders TABLESAMPLE SYSTEM (1)",
        "leave the clause out or restrict every sharded table to one shard key";
    Unreadable = "DRV1003",
        "the statement cannot be read with certainty",
        "DO $$ BEGIN EXECUTE 'DELETE FROM orders'; END $$",
        "write it in a form that names its tables plainly";
    TooComplex = "DRV1004",
        "the statement is too complex to be proved",
        "WITH a AS (...), b AS (SELECT * FROM a, a), ...",
        "split it into several statements";
    // 2xxx: which tables meet
    HomeWithSharded = "DRV2001",
        "sharded and unsharded tables cannot be used in one statement yet",
        "UPDATE orders SET total = random() FROM settings s WHERE s.id = orders.id",
        "make the unsharded table a reference table, or use two statements";
    DifferentMaps = "DRV2002",
        "the sharded tables are not colocated",
        "DELETE FROM orders o USING events e WHERE e.id = o.user_id AND random() < 0.5",
        "shard them with colocate_with";
    NotOnKey = "DRV2003",
        "the sharded tables are not joined on their shard keys",
        "UPDATE orders a SET total = random() FROM orders b WHERE a.ref = b.ref",
        "join on the shard key, or restrict every table to one shard key";
    Subquery = "DRV2004",
        "a subquery reads a sharded table and is not tied to the shard key of the outer query",
        "DELETE FROM orders WHERE total = (SELECT max(total) FROM orders)",
        "tie it to the outer query by the shard key, or run it first and pass its result";
    OuterJoin = "DRV2005",
        "an outer join preserves rows that are not on one shard",
        "SELECT 1 FROM countries c LEFT JOIN orders o ON o.country = c.code FOR UPDATE OF c",
        "join on the shard key, or put the sharded table on the preserved side";
    Partitioned = "DRV2006",
        "sharded and reference tables take no part in inheritance, and their partitions are placed as they are",
        "CREATE TABLE special_orders () INHERITS (orders)",
        "use partitions of a sharded table, or a plain table";
    SetOperation = "DRV2007",
        "UNION, INTERSECT and EXCEPT over several shards are not handled yet",
        "SELECT ctid FROM orders UNION SELECT ctid FROM returns",
        "restrict every sharded table to one shard key, or run the arms separately";
    RecursiveCte = "DRV2008",
        "a recursive query over several shards is not handled yet",
        "WITH RECURSIVE t AS (SELECT id, ctid FROM orders UNION ALL SELECT o.id, o.ctid FROM orders o, t WHERE o.parent = t.id) SELECT * FROM t",
        "restrict every sharded table to one shard key in each arm";
    ReferenceWrite = "DRV2009",
        "a write to a reference table cannot read other tables than reference tables",
        "INSERT INTO countries SELECT code FROM settings",
        "read the rows first and insert them as values";
    // 3xxx: functions and what they may see
    FunctionUnproved = "DRV3001",
        "a function is not proved to stay within one shard",
        "SELECT my_report() FROM orders",
        "declare it with drover.declare_local when it touches no sharded table";
    FunctionHomeOnly = "DRV3002",
        "a function is right on the home shard only",
        "SELECT pg_table_size('orders')",
        "call it in a statement of its own that reads no sharded table";
    VolatileMany = "DRV3003",
        "a volatile function over several shards",
        "UPDATE orders SET total = random()",
        "restrict every sharded table to one shard key";
    SystemColumn = "DRV3004",
        "a system column has no meaning over several shards",
        "SELECT ctid FROM orders",
        "select by the primary key";
    ServerOid = "DRV3005",
        "the statement holds an object id that differs from shard to shard",
        "SELECT * FROM orders WHERE tableoid = 'orders'::regclass",
        "compare names instead of object ids";
    BeforeTrigger = "DRV3006",
        "a BEFORE ROW trigger of the table would run on several shards, each with a clock of its own",
        "INSERT INTO orders VALUES (1), (2) -- with a BEFORE INSERT trigger",
        "write rows of one shard key at a time, or use an AFTER trigger";
    UnsafeTable = "DRV3007",
        "writing this table runs code that is not proved to stay within one shard",
        "INSERT INTO orders VALUES (1) -- with an unproved trigger",
        "declare the function with drover.declare_local when it touches no sharded table";
    Sequence = "DRV3008",
        "a sequence is used where its value cannot be drawn once from the home shard",
        "UPDATE orders SET n = nextval('s')",
        "draw the value first with SELECT nextval(…)";
    ReadsByName = "DRV3009",
        "a function reads a table by name and would see one slice of it",
        "SELECT query_to_xml('SELECT * FROM orders', true, true, '')",
        "select from the table itself";
    // 4xxx: combining several shards
    Aggregate = "DRV4001",
        "an aggregate cannot be combined from several shards yet",
        "SELECT xmlforest(1 AS a) FROM orders HAVING true",
        "group by the shard key, or restrict the statement to one shard key";
    Window = "DRV4003",
        "a window function must be partitioned by the shard key",
        "SELECT row_number() OVER (ORDER BY id), xmlforest(id) FROM orders",
        "add the shard key to PARTITION BY";
    GroupingSets = "DRV4004",
        "GROUPING SETS, ROLLUP and CUBE over several shards are not handled yet",
        "SELECT xmlforest(a), count(*) FROM orders GROUP BY CUBE (a)",
        "run one GROUP BY per grouping set";
    FinishType = "DRV4005",
        "a column has a type that cannot be combined over several shards yet",
        "SELECT spot FROM orders -- a composite type, asked for in binary form",
        "cast the column to text, or restrict the statement to one shard key";
    LockingLimit = "DRV4006",
        "FOR UPDATE with LIMIT cannot be answered over several shards",
        "SELECT * FROM jobs FOR UPDATE SKIP LOCKED LIMIT 1",
        "restrict it to one shard key";
    SeveralShards = "DRV4007",
        "the shard keys of the statement are on different shards",
        "SELECT * FROM orders a, orders b WHERE a.user_id = 1 AND b.user_id = 2",
        "run one statement per shard key";
    ModifyingCte = "DRV4008",
        "a data-modifying WITH query must stay on one shard",
        "WITH d AS (DELETE FROM orders RETURNING *) SELECT count(*) FROM d",
        "restrict every sharded table to one shard key, or use two statements";
    RecurringChoice = "DRV4009",
        "a subquery over reference tables may give other rows on each shard",
        "SELECT xmlforest(o.id) FROM orders o JOIN (SELECT * FROM countries LIMIT 1) c ON true",
        "order and select its rows uniquely in a statement of their own";
    Gather = "DRV4010",
        "the rows of the statement's tables cannot be brought together as it needs them",
        "SELECT o, count(*) FROM orders o JOIN events e ON e.id = o.ref GROUP BY o.user_id, o.id",
        "name the columns that are needed, or join on the shard key";
    // 5xxx: writes
    KeyUpdate = "DRV5001",
        "the shard key of a row cannot be changed",
        "UPDATE orders SET user_id = 2 WHERE id = 1",
        "delete the row and insert it again";
    KeyExpression = "DRV5002",
        "the shard key of a new row must be a constant or a parameter",
        "INSERT INTO orders (user_id) VALUES (abs(-5))",
        "compute the value first and pass it as a parameter";
    InsertSelect = "DRV5003",
        "INSERT … SELECT must keep the shard key of a colocated table",
        "INSERT INTO orders SELECT id + 1 FROM orders",
        "select the shard key unchanged into the shard key column";
    OnConflict = "DRV5004",
        "ON CONFLICT DO UPDATE must not change the shard key",
        "INSERT INTO orders VALUES (1) ON CONFLICT (user_id) DO UPDATE SET user_id = 2",
        "leave the shard key out of the SET list";
    Merge = "DRV5005",
        "the MERGE cannot be run by each shard for its own rows",
        "MERGE INTO orders o USING s ON o.user_id = s.k … WHEN NOT MATCHED THEN INSERT VALUES (s.other)",
        "use INSERT … ON CONFLICT, UPDATE and DELETE";
    ReferenceVolatile = "DRV5006",
        "a write to a reference table must give the same rows on every shard",
        "INSERT INTO countries VALUES (random())",
        "compute the value first and pass it as a parameter";
    ReferenceUpdateFrom = "DRV5007",
        "UPDATE … FROM and a choice of rows by LIMIT could differ between the copies of a reference table",
        "UPDATE countries c SET n = x.n FROM countries x",
        "select the rows first and update by primary key";
    Rules = "DRV5008",
        "a rule turns the statement into several",
        "INSERT INTO v VALUES (1) -- with a DO ALSO rule",
        "use a trigger instead of the rule";
    KeyForm = "DRV5009",
        "the shard key value is not in the form PostgreSQL prints it",
        "INSERT INTO orders VALUES ('007'::mydomain)",
        "write the value in canonical form";
    ReferenceReads = "DRV5010",
        "above READ COMMITTED a write to a reference table cannot read other rows than it changes: its copies could see different ones",
        "BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO countries SELECT code FROM regions",
        "select the rows first, or use READ COMMITTED";
    // 6xxx: data definition
    UniqueWithoutKey = "DRV6001",
        "a unique index or primary key of a sharded table must contain the shard key",
        "CREATE UNIQUE INDEX ON orders (id)",
        "add the shard key to its columns";
    Exclusion = "DRV6002",
        "a sharded table cannot have an exclusion constraint",
        "ALTER TABLE orders ADD EXCLUDE USING gist (r WITH &&)",
        "enforce it in the application";
    ForeignKey = "DRV6003",
        "a foreign key must join colocated tables on the shard key or refer to a reference table",
        "ALTER TABLE orders ADD FOREIGN KEY (product) REFERENCES products",
        "make the other table a reference table, or colocate both and include the shard key";
    KeyColumn = "DRV6004",
        "the shard key column cannot be dropped or change its type or its labels",
        "ALTER TABLE orders DROP COLUMN user_id",
        "create a new table and move the rows";
    AlterAction = "DRV6006",
        "this change of a sharded or reference table is not handled yet",
        "ALTER TABLE orders INHERIT base",
        "leave it out";
    CreateTableAs = "DRV6007",
        "a table cannot be made from sharded tables in this way",
        "CREATE MATERIALIZED VIEW m AS SELECT * FROM orders",
        "create the table first, then INSERT";
    MixedView = "DRV6008",
        "a view cannot read sharded and unsharded tables",
        "CREATE VIEW v AS SELECT * FROM orders, settings",
        "make the unsharded table a reference table";
    Container = "DRV6009",
        "CASCADE could drop the shard key column of a table that stays",
        "DROP SCHEMA types CASCADE -- and the key of orders is of type types.tenant",
        "drop the sharded tables first";
    RuleOnSharded = "DRV6010",
        "a rule cannot involve a sharded or reference table",
        "CREATE RULE r AS ON INSERT TO orders DO NOTHING",
        "use a trigger";
    TriggerUnproved = "DRV6011",
        "the trigger function is not proved to stay within one shard",
        "CREATE TRIGGER t AFTER INSERT ON orders EXECUTE FUNCTION f()",
        "declare the function with drover.declare_local when it touches no sharded table";
    MixedUtility = "DRV6012",
        "the statement names sharded and unsharded tables together",
        "VACUUM orders, settings",
        "use one statement for each";
    DroverOption = "DRV6013",
        "the drover option is not known or not available yet",
        "CREATE TABLE t (k int) WITH (drover.fillfactor = 50)",
        "use drover.shard_key, drover.colocate_with, drover.scheme (hash, modulo, range, list, geo, directory) with drover.places, drover.salt, drover.reference, or drover.place";
    ShardedKind = "DRV6014",
        "this kind of table cannot be sharded",
        "CREATE TEMP TABLE t (k int) WITH (drover.shard_key = 'k')",
        "use a plain, logged or unlogged table";
    ShardKeyColumn = "DRV6015",
        "the columns of a shard key must be of types whose values have a place: not json, arrays, ranges or made-up base types",
        "CREATE TABLE t (k jsonb) WITH (drover.shard_key = 'k')",
        "choose a column of one of these types";
    OtherDdl = "DRV6016",
        "this statement about a sharded or reference table is not handled yet",
        "CREATE PUBLICATION p FOR TABLE orders",
        "leave it out";
    Immovable = "DRV6017",
        "this table cannot be moved to the shards",
        "SELECT drover.shard_table('a_view', 'id')",
        "move ordinary tables only, after dropping what stands in the way";
    HomeOnlyObject = "DRV6018",
        "some of what the statement is about exists on the home shard only",
        "GRANT EXECUTE ON FUNCTION f(int), g(settings) TO r -- settings is unsharded",
        "use one statement for each object; drop a function before its new definition refers to unsharded tables";
    // 7xxx: other statements
    PrepareSql = "DRV7001",
        "PREPARE and EXECUTE of a statement on sharded tables are not handled yet",
        "PREPARE p AS SELECT * FROM orders",
        "use the driver's prepared statements (extended protocol)";
    Cursor = "DRV7002",
        "such a cursor over sharded tables is not handled",
        "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM orders",
        "leave out WITH HOLD and FOR UPDATE, fetch with LIMIT, or use a portal with a row limit";
    DoBlock = "DRV7003",
        "the DO block is not proved to stay on the home shard",
        "DO $$ BEGIN DELETE FROM orders; END $$",
        "run its statements from the client";
    Call = "DRV7004",
        "the procedure is not proved to stay on the home shard",
        "CALL archive_orders()",
        "run its statements from the client, or use drover.declare_local";
    CopyQuery = "DRV7005",
        "COPY of a query over sharded tables must do nothing but read",
        "COPY (DELETE FROM orders RETURNING *) TO STDOUT",
        "run the statement first, and copy what it answered";
    CopyFile = "DRV7006",
        "COPY of a sharded or reference table works over the client connection only",
        "COPY orders TO '/tmp/x'",
        "use STDIN or STDOUT (\\copy in psql)";
    CopyOption = "DRV7007",
        "a COPY option is not handled for sharded and reference tables yet",
        "COPY orders FROM STDIN WHERE total > 0",
        "leave the option out";
    TempName = "DRV7008",
        "the session has temporary objects and the name could mean one of them",
        "CREATE TEMP TABLE orders (…); DROP TABLE orders",
        "write the schema before the name";
    UnknownDrover = "DRV7009",
        "there is no such drover function or view yet",
        "SELECT drover.pin_key('orders', 'a')",
        "see the user guide for what is available";
    DroverArguments = "DRV7010",
        "the arguments of the drover function are not as expected",
        "SELECT drover.shard_table(table_name) FROM t",
        "call it alone, with constant arguments";
    DroverMixed = "DRV7011",
        "drover functions and views stand alone in a statement",
        "SELECT * FROM drover.shards JOIN t ON true",
        "select everything from the view and filter in the client";
    ServerCommand = "DRV7012",
        "this statement is about one server, not about the database",
        "ALTER SYSTEM SET work_mem = '1GB'",
        "run it on the server itself";
    ExplainMany = "DRV7013",
        "EXPLAIN of this statement is not handled yet",
        "EXPLAIN CREATE TABLE t AS SELECT * FROM orders",
        "use EXPLAIN (ROUTE)";
    SerializableOverShards = "DRV7014",
        "a SERIALIZABLE transaction cannot use more than one shard",
        "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM orders",
        "use REPEATABLE READ, or keep the transaction on one shard key";
    FunctionCall = "DRV7015",
        "the function call message is not supported in a database with sharded tables",
        "PQfn() of libpq, as its large object functions use it",
        "call the function with SELECT";
    LatePipeline = "DRV7016",
        "this pipeline wrote on one shard before it turned out to need another",
        "Execute of INSERT on one shard, Flush, Execute of INSERT on another shard",
        "send BEGIN first";
    ClientTwoPhase = "DRV7017",
        "PREPARE TRANSACTION over several shards is Drover's own",
        "BEGIN; UPDATE orders SET n = 0; PREPARE TRANSACTION 'a'",
        "use COMMIT: it is atomic over all shards";
    Unpreparable = "DRV7018",
        "two shards of this transaction hold temporary objects, notifications or held cursors",
        "BEGIN; SELECT makes_temp(1); SELECT makes_temp(2); COMMIT",
        "use two transactions";
    SnapshotOverShards = "DRV7019",
        "a snapshot of one shard cannot be used for several",
        "SET TRANSACTION SNAPSHOT '00000003-0000001B-1'",
        "use REPEATABLE READ: it sees one moment on all shards";
    DroverSetting = "DRV7020",
        "this value of a drover setting is not available yet",
        "SET drover.replica_reads = 'on'",
        "leave the setting as it is";
    StatementMode = "DRV7021",
        "transaction blocks not allowed in statement pooling mode",
        "BEGIN",
        "connect to a database, or as a user, whose pool_mode is transaction or session";
    ListeningChannels = "DRV7022",
        "pg_listening_channels() in a transaction block of a session that listens",
        "LISTEN a; BEGIN; SELECT pg_listening_channels()",
        "ask outside of a transaction block";
    ExecuteOfParsed = "DRV7023",
        "EXECUTE of a statement that was prepared by the driver",
        "Parse p, then EXECUTE p",
        "run it by the protocol (Bind, Execute), or prepare it with PREPARE";
    ReplicaTransaction = "DRV7024",
        "this READ ONLY transaction has its snapshot or a cursor on a replica, and the statement needs the primary",
        "SET drover.read_from = 'replica'; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT count(*) FROM t; SELECT random()",
        "begin the transaction with this statement, or SET LOCAL drover.read_from = 'primary' before the first one";
    HiddenSettings = "DRV7025",
        "the session has state on its home connection that no other shard can be brought to",
        "SELECT set_config('app.' || 'tenant', '7', false); SELECT count(*) FROM orders",
        "make settings with SET, or with set_config and a constant name, in a statement of its own; DISCARD ALL gives the state up";
    ClientEncoding = "DRV7026",
        "letters would have to be hashed, compared or written anew here, and the client's encoding is not UTF-8",
        "SET client_encoding = 'LATIN1'; SELECT count(*) FROM words WHERE word LIKE 'café%'",
        "SET client_encoding = 'UTF8'";
    PinWithRows = "DRV7030",
        "the rows of this key cannot move with it: they are in another database, or their region would be on no shard",
        "SELECT drover.unpin_key('people', 'jp') -- the only listing of region jp, which has rows",
        "delete these rows first, or keep the key where it is";
    CarriedType = "DRV7050",
        "rows with a column of this type cannot be carried from one shard to another",
        "INSERT INTO orders SELECT id, user_id, at FROM staging -- at: timestamptz[]",
        "select the column as text, or insert the rows as values";
    KeyMove = "DRV7051",
        "rows of this table cannot move to another shard by an UPDATE of their shard key",
        "UPDATE orders SET user_id = 2 WHERE user_id = 1 -- with a trigger, or a foreign key that refers to it",
        "delete the rows and insert them again";
    NotOnline = "DRV7070",
        "the table cannot be moved while it is in use",
        "SELECT drover.shard_table('unlogged_table', 'k', online => true)",
        "move it in one transaction: online => false";
    PartitionPlace = "DRV7080",
        "a partition must be sharded as its table is",
        "ALTER TABLE orders ATTACH PARTITION old_orders FOR VALUES IN (1) -- old_orders is not sharded",
        "shard it first, by the same columns: SELECT drover.shard_table('old_orders', key => 'user_id', colocate_with => 'orders')";
    PartitionBound = "DRV7081",
        "the shards would not divide the rows into partitions alike",
        "CREATE TABLE today PARTITION OF orders FOR VALUES FROM (now()) TO (now() + '1 day')",
        "write bounds as constants, and partition by hash only by columns of built-in types";
    DetachConcurrently = "DRV7082",
        "a partition cannot be detached concurrently from a sharded table: the shards would do it one after the other",
        "ALTER TABLE orders DETACH PARTITION old_orders CONCURRENTLY",
        "leave CONCURRENTLY out: the table is locked for a moment only";
    ClusterSnapshot = "DRV7090",
        "a read over several shards cannot have a snapshot of the cluster here",
        "SET drover.read_snapshot = 'cluster'; BEGIN; SELECT count(*) FROM orders",
        "read outside of transactions, or BEGIN ISOLATION LEVEL REPEATABLE READ, from primaries, and set drover.read_snapshot before the first statement";
    SaltColumns = "DRV7100",
        "a key is salted by the columns of the primary key that are not the shard key",
        "CREATE TABLE visits (page int, at timestamptz) WITH (drover.shard_key = 'page', drover.salt = 8)",
        "make the shard key and what tells its rows apart the primary key: PRIMARY KEY (page, visit_id)";
    SaltScheme = "DRV7101",
        "only keys placed by hash are salted",
        "SELECT drover.shard_table('visits', key => 'page', scheme => 'range', places => '…', salt => 8)",
        "leave scheme out; or leave salt out, and give the few hot keys shards of their own with drover.pin_key";
    SaltedPin = "DRV7102",
        "the rows of a salted key are on several shards, so it has no place of its own",
        "SELECT drover.pin_key('visits', '(7,1)', shard => 'shard_2') -- visits is salted",
        "shard the table again without salt, then pin the key";
    Placements = "DRV7110",
        "the statement joins tables whose rows are on different shards: a placed table meets those of its own shard, and reference tables",
        "SELECT * FROM invoices JOIN users ON users.id = invoices.user_id FOR UPDATE -- invoices is placed on shard_2",
        "run one statement for each, place both tables on one shard, or make the smaller one a reference table; INSERT … SELECT from one into the other is possible";
    UnknownPlace = "DRV7111",
        "there is no shard of this name",
        "CREATE TABLE invoices (id int) WITH (drover.place = 'shard_99')",
        "see drover.shards for the names";
    PlacedSchemaKind = "DRV7112",
        "a table of this kind cannot be made in a schema whose new tables are placed on a shard",
        "CREATE TABLE billing.totals AS SELECT 1 -- drover.place_schema('billing', shard => 'shard_2')",
        "create the table first, then INSERT; or make it in another schema";
    SecondShard = "DRV7120",
        "the transaction would use a second shard, and drover.transaction_mode is 'single'",
        "SET drover.transaction_mode = 'single'; UPDATE orders SET total = 0",
        "restrict the transaction to one shard key, or SET drover.transaction_mode = 'atomic'";
    Fanout = "DRV7121",
        "the statement concerns more shards than drover.fanout allows",
        "SET drover.fanout = 'single'; SELECT count(*) FROM orders",
        "restrict the statement to a shard key, or SET drover.fanout = 'all'";
    IndexShape = "DRV7130",
        "the table cannot have a global index over these columns",
        "SELECT drover.create_global_index('events', 'at', unique => true) -- at: timestamptz",
        "index sharded tables that are not partitioned, by columns of integer, text, uuid or boolean type";
    IndexUnseen = "DRV7131",
        "a table with a global index was written by something that Drover does not follow",
        "SELECT touch_users() -- a function declared local that updates users",
        "write the table with statements that name it";
    IndexConflict = "DRV7132",
        "ON CONFLICT without a target would have to look at a unique index over all shards",
        "INSERT INTO users VALUES (1, 'a@x') ON CONFLICT DO NOTHING -- users has a global index",
        "name the columns of a unique key that contains the shard key: ON CONFLICT (id)";
    IndexKept = "DRV7133",
        "a global index would not follow this change of its table",
        "ALTER TABLE users RENAME TO people -- users has a global index",
        "drop the global index first and make it again afterwards: SELECT drover.drop_global_index('users', 'email')";
    NoOutcome = "DRV7140",
        "a transaction has no name, and no one outcome, where drover.transaction_mode is 'best_effort'",
        "SET drover.transaction_mode = 'best_effort'; BEGIN; SELECT drover.current_transaction_id()",
        "SET LOCAL drover.transaction_mode = 'atomic' before asking";
    RequireLimit = "DRV7170",
        "the statement reads several shards without saying how many rows it wants at most, and drover.require_limit is on",
        "SET drover.require_limit = on; SELECT * FROM orders",
        "add LIMIT, aggregate, restrict the statement to a shard key, or SET drover.require_limit = off";
    ChainedModes = "DRV7171",
        "a transaction that has changed its modes and then failed behind a savepoint cannot be chained: nobody can be asked for its modes",
        "BEGIN; SET TRANSACTION READ ONLY; SAVEPOINT s; SELECT 1/0; COMMIT AND CHAIN",
        "COMMIT, then BEGIN with the modes";
    ExplainShards = "DRV7172",
        "EXPLAIN of a statement over several shards cannot be shown like this",
        "EXPLAIN (ANALYZE, FORMAT yaml) SELECT * FROM orders",
        "use FORMAT text or json";
    RuleBlocks = "DRV7173",
        "the statement is blocked by a rule",
        "DELETE FROM orders -- with a rule that blocks it",
        "the rule is in the proxy's configuration, [[rules]]; SHOW RULES on the console lists them";
    RuleRewrites = "DRV7174",
        "a rule cannot rewrite this statement",
        "SELECT * FROM orders WHERE id = $1 -- with a rule that rewrites it without $1",
        "the rule is in the proxy's configuration, [[rules]]: its rewrite has to use every parameter, and not to be rewritten itself";
}

impl RefusalCode {
    /// The stable name, `DRVnnnn`.
    pub fn as_str(self) -> &'static str {
        self.entry().name
    }

    /// The row of the table.
    pub fn entry(self) -> &'static RefusalEntry {
        // The table is generated in the order of the variants.
        &REFUSALS[self as usize]
    }
}

impl std::fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `docs/refusals.md`.
pub fn refusals_markdown() -> String {
    let mut out = String::from(
        "<!-- Generated from crates/plan/src/refusal.rs; DROVER_UPDATE=1 cargo test -p plan rewrites it. -->\n\
         # What Drover refuses\n\n\
         A statement that Drover cannot prove to give exactly what one PostgreSQL holding all the data would give is\n\
         refused before anything runs: `ERROR` with SQLSTATE `0A000`, a stable code in DETAIL, and a HINT that says what\n\
         to do instead. Codes are never reused.\n\n\
         | code | reason | example | instead |\n|---|---|---|---|\n",
    );
    for entry in REFUSALS {
        let example = entry.example.replace('|', "\\|");
        let _ = writeln!(
            out,
            "| {} | {} | `{}` | {} |",
            entry.name, entry.reason, example, entry.hint
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ascend_and_are_unique() {
        assert!(REFUSALS.windows(2).all(|pair| pair[0].name < pair[1].name));
        for (index, entry) in REFUSALS.iter().enumerate() {
            assert_eq!(entry.code as usize, index);
            assert!(
                entry.name.len() == 7 && entry.name.starts_with("DRV"),
                "{}",
                entry.name
            );
        }
    }

    #[test]
    fn the_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/refusals.md");
        let expected = refusals_markdown();
        if std::env::var_os("DROVER_UPDATE").is_some() {
            std::fs::write(path, &expected).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            found == expected,
            "docs/refusals.md is out of date: run with DROVER_UPDATE=1"
        );
    }
}
