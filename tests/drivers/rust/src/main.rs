//! tokio-postgres and sqlx against a PostgreSQL or a Drover.

mod sqlx_driver;
mod tokio_driver;

use std::time::Duration;

/// Anything a driver reports, or a check that failed.
type Error = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1).ok_or("usage: drover-driver-tests URL")?;
    let sharded = std::env::var("DRIVER_SHARDED").is_ok_and(|value| !value.is_empty());
    let limit = Duration::from_secs(90);
    println!("tokio-postgres");
    tokio::time::timeout(limit, tokio_driver::run(&url, sharded)).await??;
    println!("sqlx");
    tokio::time::timeout(limit, sqlx_driver::run(&url, sharded)).await??;
    println!("tokio-postgres 0.7, sqlx 0.8");
    Ok(())
}

/// The statement that shards a driver's table.
fn shard(table: &str) -> String {
    format!("SELECT drover.shard_table('{table}', key => 'id')")
}
