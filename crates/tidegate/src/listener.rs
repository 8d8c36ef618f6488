//! The listener: accepts connections, and ends them in time.
//!
//! `axum::serve` waits for headers as long as it takes and lets connections outlive it; here a client has a moment to send
//! its headers, there are only so many connections, and a shutdown has one deadline.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a client may take to send its headers, also between requests on one connection that it has begun.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);

/// Connections at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 8192;

/// After a failed accept (no file descriptors left, say), so that it is not tried in a tight loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Streams of one HTTP/2 connection; browsers and gRPC clients use far fewer.
const MAX_STREAMS: u32 = 256;

/// Serves until `stop`, then finishes the requests in flight for at most `grace` and cuts the rest off.
pub async fn serve(listener: TcpListener, router: axum::Router, stop: CancellationToken, grace: Duration) {
    let builder = Arc::new(builder());
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&permits).acquire_owned() => permit.expect("the semaphore is never closed"),
            () = stop.cancelled() => break,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection; is the limit of open files too low?");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        let connection = connection(&builder, stream, router.clone());
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            // A client that goes away is its own business.
            let _ = connection.await;
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!(?grace, "requests were still running after the grace period; cutting them off");
    }
    connections.shutdown().await;
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(Some(HEADER_TIMEOUT))
        .keep_alive_timeout(HEADER_TIMEOUT);
    builder
}

/// One connection, HTTP/1.1 or HTTP/2 as the client begins it.
fn connection(
    builder: &Builder<TokioExecutor>,
    stream: TcpStream,
    router: axum::Router,
) -> hyper_util::server::conn::auto::Connection<
    'static,
    TokioIo<TcpStream>,
    TowerToHyperService<axum::Router>,
    TokioExecutor,
> {
    // Answers are written whole; waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).into_owned()
}
