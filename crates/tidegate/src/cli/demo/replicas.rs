//! Several servers on one database, for a story that takes more than one.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;

use super::wait_until_ready;
use crate::client::Client;

/// Server processes on one database. Dropped: killed.
pub struct Replicas {
    children: Vec<Child>,
    pub urls: Vec<String>,
}

impl Drop for Replicas {
    fn drop(&mut self) {
        for child in &mut self.children {
            // One that has ended already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Replicas {
    /// Starts `n` servers on a folder (or on `database`) and waits until each is ready. Their logs go into the folder.
    pub async fn start(n: usize, folder: &Path, database: Option<&str>) -> anyhow::Result<Self> {
        let mut replicas = Self { children: Vec::new(), urls: Vec::new() };
        for number in 1..=n {
            let address = format!("127.0.0.1:{}", free_port()?);
            let log = log_file(folder, number);
            let log_file =
                File::create(&log).with_context(|| format!("failed to create `{}`", log.display()))?;
            let mut command = Command::new(std::env::current_exe().context("failed to find this program")?);
            command.args(["serve", "--listen", &address, "--data-dir"]).arg(folder);
            if let Some(database) = database {
                command.args(["--database", database]);
            }
            let child =
                command.stdout(Stdio::null()).stderr(log_file).spawn().context("failed to start a server")?;
            replicas.children.push(child);
            let url = format!("http://{address}");
            let ready = wait_until_ready(&Client::new(&url)?).await;
            ready.with_context(|| format!("see its log, `{}`", log.display()))?;
            replicas.urls.push(url);
        }
        Ok(replicas)
    }
}

fn log_file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("server-{number}.log"))
}

/// A port that nobody listens on at the moment.
fn free_port() -> anyhow::Result<u16> {
    let socket = TcpListener::bind("127.0.0.1:0").context("failed to find a free port")?;
    Ok(socket.local_addr()?.port())
}
