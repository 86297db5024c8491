//! One plain PostgreSQL server: the oracle that Drover's answers are compared with.

use std::sync::OnceLock;

use agent::{ClusterInfo, NodeInfo};

use crate::cluster::{TestCluster, TestOptions};

/// A single PostgreSQL server with the same roles, database and settings as each shard of a
/// [`TestCluster`]. Gone when it is dropped or when the process ends.
#[derive(Debug)]
pub struct TestPostgres(TestCluster);

impl TestPostgres {
    /// Starts a server of one's own.
    pub fn start() -> TestPostgres {
        TestPostgres(TestCluster::start(TestOptions::shards(1)))
    }

    /// The one that all tests of this process share; use a database each, see
    /// [`TestPostgres::create_database`].
    pub fn shared() -> &'static TestPostgres {
        static SHARED: OnceLock<TestPostgres> = OnceLock::new();
        SHARED.get_or_init(TestPostgres::start)
    }

    /// Roles, passwords, database.
    pub fn info(&self) -> &ClusterInfo {
        self.0.info()
    }

    /// Its address.
    pub fn node(&self) -> &NodeInfo {
        &self.info().shards[0].primary
    }

    /// The URL of `database` for the application's role.
    pub fn url(&self, database: &str) -> String {
        let (info, node) = (self.info(), self.node());
        let (user, password) = (&info.app_user, info.app_password.expose());
        format!(
            "postgresql://{user}:{password}@{}:{}/{database}",
            node.host, node.port
        )
    }

    /// Creates a database with a new name, owned by the application's role, and returns the name.
    pub fn create_database(&self) -> String {
        self.0.create_database()
    }

    /// Runs statements (no results) as superuser.
    pub fn run(&self, database: &str, statements: &str) {
        self.0.on_node(self.node(), database, statements);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_and_takes_statements() {
        let server = TestPostgres::shared();
        let database = server.create_database();
        server.run(&database, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
        assert!(server.url(&database).ends_with(&database));
    }
}
