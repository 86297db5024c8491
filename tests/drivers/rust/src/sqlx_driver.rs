//! sqlx: a pool, typed queries, transactions, COPY.

use crate::{Error, shard};
use futures_util::TryStreamExt;
use sqlx::postgres::{PgPool, PgPoolCopyExt, PgPoolOptions, PgRow};
use sqlx::{Acquire, Executor, Row, Statement};

const TABLE: &str = "driver_sqlx";

pub async fn run(url: &str, sharded: bool) -> Result<(), Error> {
    let pool = PgPoolOptions::new().max_connections(4).connect(url).await?;
    pool.execute(format!("DROP TABLE IF EXISTS {TABLE}").as_str()).await?;
    let columns = "id bigint PRIMARY KEY, name text, ratio float8, flag bool, raw bytea, tags text[]";
    pool.execute(format!("CREATE TABLE {TABLE} ({columns})").as_str()).await?;
    if sharded {
        pool.execute(shard(TABLE).as_str()).await?;
    }
    parameters(&pool).await?;
    prepared(&pool).await?;
    transactions(&pool).await?;
    errors(&pool).await?;
    types(&pool).await?;
    copy(&pool).await?;
    pool.execute(format!("DROP TABLE {TABLE}").as_str()).await?;
    pool.close().await;
    Ok(())
}

async fn parameters(pool: &PgPool) -> Result<(), Error> {
    for key in 1..=20i64 {
        let sql = format!("INSERT INTO {TABLE} (id, name) VALUES ($1, $2)");
        let done = sqlx::query(&sql).bind(key).bind(format!("name {key}")).execute(pool).await?;
        assert_eq!(done.rows_affected(), 1);
    }
    let sql = format!("SELECT name FROM {TABLE} WHERE id = $1");
    let name: String = sqlx::query_scalar(&sql).bind(7i64).fetch_one(pool).await?;
    assert_eq!(name, "name 7");
    let sql = format!("SELECT id, name FROM {TABLE} WHERE id = ANY($1) ORDER BY id");
    let rows: Vec<(i64, String)> = sqlx::query_as(&sql).bind(vec![3i64, 5, 99]).fetch_all(pool).await?;
    assert_eq!(rows, [(3, "name 3".to_string()), (5, "name 5".to_string())]);
    let sql = format!("SELECT id FROM {TABLE} ORDER BY id");
    let keys: Vec<i64> = sqlx::query(&sql).map(|row: PgRow| row.get::<i64, _>(0)).fetch(pool).try_collect().await?;
    assert_eq!(keys, (1..=20).collect::<Vec<i64>>());
    Ok(())
}

async fn prepared(pool: &PgPool) -> Result<(), Error> {
    let mut connection = pool.acquire().await?;
    let sql = format!("SELECT name FROM {TABLE} WHERE id = $1");
    let statement = connection.prepare(&sql).await?;
    for key in 1..=20i64 {
        let row = statement.query().bind(key).fetch_one(&mut *connection).await?;
        assert_eq!(row.get::<String, _>(0), format!("name {key}"));
    }
    Ok(())
}

async fn transactions(pool: &PgPool) -> Result<(), Error> {
    let insert = format!("INSERT INTO {TABLE} (id, name) VALUES ($1, 'tx')");
    let mut transaction = pool.begin().await?;
    for key in 200..205i64 {
        sqlx::query(&insert).bind(key).execute(&mut *transaction).await?;
    }
    let mut inner = transaction.begin().await?;
    assert!(sqlx::query(&insert).bind(200i64).execute(&mut *inner).await.is_err());
    inner.rollback().await?;
    transaction.commit().await?;
    let mut transaction = pool.begin().await?;
    sqlx::query(&format!("DELETE FROM {TABLE}")).execute(&mut *transaction).await?;
    // Dropped without a commit: rolled back.
    drop(transaction);
    let sql = format!("SELECT count(*) FROM {TABLE} WHERE name = 'tx'");
    assert_eq!(sqlx::query_scalar::<_, i64>(&sql).fetch_one(pool).await?, 5);
    Ok(())
}

async fn errors(pool: &PgPool) -> Result<(), Error> {
    let cases = [
        ("23505", format!("INSERT INTO {TABLE} (id) VALUES (1)")),
        ("42P01", "SELECT * FROM driver_nothing".to_string()),
        ("42601", "SELEC 1".to_string()),
        ("22012", format!("SELECT 1 / (id - 1) FROM {TABLE} WHERE id = 1")),
    ];
    for (state, sql) in cases {
        let error = sqlx::query(&sql).fetch_all(pool).await.unwrap_err();
        let database = error.as_database_error().ok_or("not an error of the database")?;
        assert_eq!(database.code().as_deref(), Some(state), "{sql}");
        assert_eq!(database.is_unique_violation(), state == "23505");
    }
    Ok(())
}

async fn types(pool: &PgPool) -> Result<(), Error> {
    let (raw, tags) = ((0..=255u8).collect::<Vec<_>>(), vec![Some("a".to_string()), None, Some(String::new())]);
    for key in [300i64, 301] {
        let sql = format!("INSERT INTO {TABLE} VALUES ($1, $2, $3, $4, $5, $6)");
        let query = sqlx::query(&sql).bind(key).bind("ünï 日本 🦀").bind(0.1f64).bind(true);
        query.bind(&raw).bind(&tags).execute(pool).await?;
    }
    type Values = (String, f64, bool, Vec<u8>, Vec<Option<String>>);
    let sql = format!("SELECT name, ratio, flag, raw, tags FROM {TABLE} WHERE id >= 300 ORDER BY id");
    let rows: Vec<Values> = sqlx::query_as(&sql).fetch_all(pool).await?;
    assert_eq!(rows, vec![("ünï 日本 🦀".to_string(), 0.1, true, raw, tags); 2]);
    Ok(())
}

async fn copy(pool: &PgPool) -> Result<(), Error> {
    let mut sink = pool.copy_in_raw(&format!("COPY {TABLE} (id, name) FROM STDIN")).await?;
    let lines: String = (1000..3000).map(|key| format!("{key}\tcopied {key}\n")).collect();
    sink.send(lines.as_bytes()).await?;
    assert_eq!(sink.finish().await?, 2000);
    let stream = pool.copy_out_raw(&format!("COPY {TABLE} (id, name) TO STDOUT")).await?;
    let chunks: Vec<_> = stream.try_collect().await?;
    let text = chunks.concat();
    assert!(text.windows(17).any(|window| window == b"1001\tcopied 1001\n"), "a copied row is missing");
    Ok(())
}
