//! tokio-postgres.

use crate::{Error, shard};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, pin_mut};
use std::time::SystemTime;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls};

const TABLE: &str = "driver_tokio";

pub async fn run(url: &str, sharded: bool) -> Result<(), Error> {
    let (mut client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let driver = tokio::spawn(connection);
    set_up(&client, sharded).await?;
    parameters(&client).await?;
    prepared(&client).await?;
    pipelined(&client).await?;
    transactions(&mut client).await?;
    errors(&client).await?;
    types(&client).await?;
    portals(&mut client).await?;
    copy(&client).await?;
    client.batch_execute(&format!("DROP TABLE {TABLE}")).await?;
    drop(client);
    driver.await??;
    Ok(())
}

async fn set_up(client: &Client, sharded: bool) -> Result<(), Error> {
    client.batch_execute(&format!("DROP TABLE IF EXISTS {TABLE}")).await?;
    let columns = "id bigint PRIMARY KEY, name text, ratio float8, flag bool, at timestamptz, raw bytea, tags text[]";
    client.batch_execute(&format!("CREATE TABLE {TABLE} ({columns})")).await?;
    if sharded {
        client.batch_execute(&shard(TABLE)).await?;
    }
    Ok(())
}

async fn parameters(client: &Client) -> Result<(), Error> {
    for key in 1..=20i64 {
        let sql = format!("INSERT INTO {TABLE} (id, name) VALUES ($1, $2)");
        assert_eq!(client.execute(&sql, &[&key, &format!("name {key}")]).await?, 1);
    }
    let row = client.query_one(&format!("SELECT name FROM {TABLE} WHERE id = $1"), &[&7i64]).await?;
    assert_eq!(row.get::<_, &str>(0), "name 7");
    let wanted = vec![3i64, 5, 99];
    let sql = format!("SELECT id FROM {TABLE} WHERE id = ANY($1) ORDER BY id");
    let found: Vec<i64> = client.query(&sql, &[&wanted]).await?.iter().map(|row| row.get(0)).collect();
    assert_eq!(found, [3, 5]);
    let row = client.query_one(&format!("SELECT count(*), sum(id)::int8 FROM {TABLE}"), &[]).await?;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (20, 210));
    assert!(client.query_opt(&format!("SELECT 1 FROM {TABLE} WHERE id = $1"), &[&None::<i64>]).await?.is_none());
    Ok(())
}

async fn prepared(client: &Client) -> Result<(), Error> {
    let statement = client.prepare(&format!("SELECT id, name FROM {TABLE} WHERE id = $1")).await?;
    assert_eq!(statement.params(), [Type::INT8]);
    assert_eq!(statement.columns()[1].name(), "name");
    for key in 1..=20i64 {
        assert_eq!(client.query_one(&statement, &[&key]).await?.get::<_, i64>(0), key);
    }
    let typed = client.prepare_typed(&format!("SELECT id FROM {TABLE} WHERE id = $1"), &[Type::INT4]).await?;
    assert_eq!(client.query_one(&typed, &[&9i32]).await?.get::<_, i64>(0), 9);
    Ok(())
}

/// Requests of one connection overlap; answers must find their own.
async fn pipelined(client: &Client) -> Result<(), Error> {
    let sql = format!("SELECT id FROM {TABLE} WHERE id = $1");
    let statement = client.prepare(&sql).await?;
    let keys: Vec<i64> = (1..=20).collect();
    let ask = |key: &i64| {
        let (statement, key) = (statement.clone(), *key);
        async move { client.query_one(&statement, &[&key]).await.map(|row| row.get::<_, i64>(0)) }
    };
    let mut answers = futures_util::stream::iter(keys.iter().map(ask)).buffered(20);
    for key in &keys {
        assert_eq!(answers.next().await.ok_or("an answer is missing")??, *key);
    }
    Ok(())
}

async fn transactions(client: &mut Client) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    for key in 200..205i64 {
        transaction.execute(&format!("INSERT INTO {TABLE} (id, name) VALUES ($1, 'tx')"), &[&key]).await?;
    }
    transaction.commit().await?;
    let mut transaction = client.transaction().await?;
    transaction.execute(&format!("UPDATE {TABLE} SET name = 'outer' WHERE id = 200"), &[]).await?;
    let inner = transaction.savepoint("first").await?;
    let error = inner.execute(&format!("INSERT INTO {TABLE} (id) VALUES (202)"), &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::UNIQUE_VIOLATION));
    inner.rollback().await?;
    transaction.commit().await?;
    let transaction = client.transaction().await?;
    transaction.execute(&format!("DELETE FROM {TABLE}"), &[]).await?;
    transaction.rollback().await?;
    let row = client.query_one(&format!("SELECT count(*) FROM {TABLE} WHERE name IN ('tx', 'outer')"), &[]).await?;
    assert_eq!(row.get::<_, i64>(0), 5);
    Ok(())
}

async fn errors(client: &Client) -> Result<(), Error> {
    let cases = [
        (SqlState::UNIQUE_VIOLATION, format!("INSERT INTO {TABLE} (id) VALUES (1)")),
        (SqlState::UNDEFINED_TABLE, "SELECT * FROM driver_nothing".to_string()),
        (SqlState::SYNTAX_ERROR, "SELEC 1".to_string()),
        (SqlState::DIVISION_BY_ZERO, format!("SELECT 1 / (id - 1) FROM {TABLE} WHERE id = 1")),
    ];
    for (state, sql) in cases {
        let error = client.query(&sql, &[]).await.unwrap_err();
        assert_eq!(error.code(), Some(&state), "{sql}");
        assert_eq!(client.query_one("SELECT 1", &[]).await?.get::<_, i32>(0), 1);
    }
    Ok(())
}

async fn types(client: &Client) -> Result<(), Error> {
    let (raw, tags) = ((0..=255u8).collect::<Vec<_>>(), vec![Some("a"), None, Some("b \"c\"")]);
    let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(1_709_209_815_123_456);
    let sql = format!("INSERT INTO {TABLE} (id, name, ratio, flag, at, raw, tags) VALUES ($1, $2, $3, $4, $5, $6, $7)");
    for key in [300i64, 301] {
        client.execute(&sql, &[&key, &"ünï 日本 🦀", &0.1f64, &true, &at, &raw, &tags]).await?;
    }
    let sql = format!("SELECT name, ratio, flag, at, raw, tags FROM {TABLE} WHERE id >= 300 ORDER BY id");
    let rows = client.query(&sql, &[]).await?;
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!((row.get::<_, &str>(0), row.get::<_, f64>(1), row.get::<_, bool>(2)), ("ünï 日本 🦀", 0.1, true));
        assert_eq!((row.get::<_, SystemTime>(3), row.get::<_, Vec<u8>>(4)), (at, raw.clone()));
        assert_eq!(row.get::<_, Vec<Option<&str>>>(5), tags);
    }
    Ok(())
}

/// Rows in portions, through a portal with a row limit.
async fn portals(client: &mut Client) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    let portal = transaction.bind(&format!("SELECT id FROM {TABLE} WHERE id <= 20 ORDER BY id"), &[]).await?;
    let mut keys = Vec::new();
    loop {
        let rows = transaction.query_portal(&portal, 7).await?;
        keys.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
        if rows.len() < 7 {
            break;
        }
    }
    assert_eq!(keys, (1..=20).collect::<Vec<i64>>());
    transaction.commit().await?;
    Ok(())
}

async fn copy(client: &Client) -> Result<(), Error> {
    let sink = client.copy_in(&format!("COPY {TABLE} (id, name) FROM STDIN")).await?;
    pin_mut!(sink);
    for key in 1000..3000 {
        sink.send(Bytes::from(format!("{key}\tcopied {key}\n"))).await?;
    }
    assert_eq!(sink.finish().await?, 2000);
    let stream = client.copy_out(&format!("COPY {TABLE} (id, name) TO STDOUT")).await?;
    pin_mut!(stream);
    let mut text = Vec::new();
    while let Some(chunk) = stream.next().await {
        text.extend(chunk?);
    }
    assert!(text.windows(17).any(|window| window == b"1001\tcopied 1001\n"), "a copied row is missing");
    let sink = client.copy_in(&format!("COPY {TABLE} (id, name) FROM STDIN")).await?;
    pin_mut!(sink);
    sink.send(Bytes::from("5000\tfine\n1\tduplicate\n")).await?;
    let error = sink.finish().await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::UNIQUE_VIOLATION));
    Ok(())
}
