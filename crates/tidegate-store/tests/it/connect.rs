//! Opening a store: from nothing, by many at once, after an upgrade, and against what is not there.

use futures::future::join_all;
use tidegate_core::{Environment, error_chain};
use tidegate_store::{Backend, Change, ConnectError, ModelFilter, Page, Store};

use crate::contract::changes::{listening, wait_for};
use crate::postgres::Server;
use crate::samples::{deployment, registered, transition};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_open_an_empty_sqlite_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/new/folder/tidegate.db", folder.path().display());
    check_concurrent_start(&url, Backend::Sqlite).await;
    check_newer_database_is_accepted(&url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_open_an_empty_postgres_database_at_once() {
    let Some(server) = Server::start().await else { return };
    let url = server.fresh_database("start").await;
    check_concurrent_start(&url, Backend::Postgres).await;
    check_newer_database_is_accepted(&url).await;
    server.stop().await;
}

async fn check_concurrent_start(url: &str, backend: Backend) {
    let opened = join_all((0..8).map(|_| Store::connect(url))).await;
    let stores: Vec<_> = opened
        .into_iter()
        .map(|store| store.unwrap_or_else(|error| panic!("{}", error_chain(&error))))
        .collect();
    for (index, store) in stores.iter().enumerate() {
        assert_eq!(store.backend(), backend);
        store.ping().await.unwrap();
        registered(store, &format!("m{index}"), &["1.0.0"]).await;
    }
    for store in &stores {
        store.close().await;
        assert!(store.ping().await.is_err(), "it is closed");
    }
    let reopened = Store::connect(url).await.unwrap();
    let listing = reopened.models.list(&ModelFilter::default(), Page { limit: 1, offset: 0 }).await.unwrap();
    assert_eq!(listing.total, 8);
    reopened.close().await;
}

/// During an upgrade the old binary may restart on what the new one has migrated.
async fn check_newer_database_is_accepted(url: &str) {
    const FUTURE: &str =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (9999, 'from the future', TRUE, '00', 0)";
    if url.starts_with("sqlite") {
        let pool = sqlx::SqlitePool::connect(url).await.unwrap();
        sqlx::raw_sql(FUTURE).execute(&pool).await.unwrap();
        pool.close().await;
    } else {
        let pool = sqlx::PgPool::connect(url).await.unwrap();
        sqlx::raw_sql(FUTURE).execute(&pool).await.unwrap();
        pool.close().await;
    }
    let store = Store::connect(url).await.unwrap();
    store.ping().await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn memory_is_one_database_per_store() {
    let store = Store::connect("sqlite::memory:").await.unwrap();
    let other = Store::connect("sqlite::memory:").await.unwrap();
    registered(&store, "m", &["1.0.0"]).await;
    assert!(store.models.find("m").await.unwrap().is_some());
    assert!(other.models.find("m").await.unwrap().is_none());
}

#[tokio::test]
async fn what_cannot_be_opened_says_why_without_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plain-file");
    std::fs::write(&file, "this is not a database, and it is long enough to be read as a header").unwrap();
    let cases = [
        ("mysql://u:secret@localhost/db".to_owned(), "`mysql`"),
        ("secret".to_owned(), "use `sqlite://path`"),
        ("postgres://u:secret@localhost:not-a-port/db".to_owned(), "cannot be read"),
        ("postgres://u:secret@127.0.0.1:1/db".to_owned(), "`db` on 127.0.0.1"),
        (format!("sqlite://{}", file.display()), "not a database"),
        (format!("sqlite://{}/below/a.db", file.display()), "folder"),
        (format!("sqlite://{}?secret=1", file.display()), "unknown query parameter"),
    ];
    for (url, expected) in cases {
        let error = Store::connect(&url).await.err().unwrap_or_else(|| panic!("{url} was opened"));
        let message = error_chain(&error);
        assert!(message.contains(expected), "{url}: {message}");
        let is_named_by_us = matches!(error, ConnectError::UnknownScheme { .. }) || url.starts_with("sqlite");
        assert!(is_named_by_us || !message.contains("secret"), "{message}");
    }
}

/// What changes while nobody hears it is told as everything, and the next change by its name again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_listener_misses_nothing() {
    const KILL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE query LIKE 'LISTEN %' AND datname = current_database()";
    let Some(server) = Server::start().await else { return };
    let url = server.fresh_database("listen").await;
    let (hearer, writer) = (Store::connect(&url).await.unwrap(), Store::connect(&url).await.unwrap());
    let (mut stream, task) = listening(&hearer).await;
    let (_, versions) = registered(&writer, "m", &["1.0.0"]).await;
    let mut record = deployment(&versions[0], Environment::Production);
    writer.deployments.create(&record, &[]).await.unwrap();
    let told = Change::Deployment { id: record.id.clone() };
    wait_for(&mut stream, |change| *change == told).await;
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    for _ in 0..3 {
        let killed = sqlx::query(KILL).execute(&pool).await.unwrap().rows_affected();
        assert_eq!(killed, 1);
        wait_for(&mut stream, |change| *change == Change::Everything).await;
        record.revision = writer.deployments.commit(&transition(&record)).await.unwrap();
        wait_for(&mut stream, |change| *change == told).await;
    }
    task.abort();
    pool.close().await;
    hearer.close().await;
    writer.close().await;
    server.stop().await;
}
