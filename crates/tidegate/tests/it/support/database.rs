//! The databases that a test runs on: SQLite always, PostgreSQL where there is one.

use super::postgres;

pub enum Database {
    Sqlite,
    /// A fresh database; the server (or the throwaway cluster) goes away with the last of them.
    Postgres {
        url: String,
        server: Box<postgres::Server>,
    },
}

impl Database {
    /// `None`: the default, SQLite in the data folder.
    pub fn url(&self) -> Option<String> {
        match self {
            Self::Sqlite => None,
            Self::Postgres { url, .. } => Some(url.clone()),
        }
    }

    /// Removes what was made for the test.
    pub async fn stop(self) {
        if let Self::Postgres { server, .. } = self {
            server.stop().await;
        }
    }
}

pub async fn databases() -> Vec<Database> {
    let mut databases = vec![Database::Sqlite];
    if let Some(server) = postgres::Server::start().await {
        let url = server.fresh_database("binary").await;
        databases.push(Database::Postgres { url, server: Box::new(server) });
    }
    databases
}
