//! `tidegate serve`.

use anyhow::Context;

use crate::app::RunningServer;
use crate::config::Config;
use crate::logging;

pub async fn run(config: &Config) -> anyhow::Result<()> {
    logging::init(&config.log)?;
    let server = RunningServer::start(config).await?;
    stop_signal().await?;
    tracing::info!("stopping: no new requests, those in flight finish");
    server.shutdown().await;
    tracing::info!("stopped");
    Ok(())
}

/// Waits for Ctrl-C, or SIGTERM where there is one.
async fn stop_signal() -> anyhow::Result<()> {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
        tokio::select! {
            result = interrupt => result.context("failed to listen for Ctrl-C"),
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    interrupt.await.context("failed to listen for Ctrl-C")
}
