//! A PostgreSQL for the tests: the one that `TIDEGATE_TEST_POSTGRES` points at (a URL of somebody who may create
//! databases), or else a throwaway cluster made from the binaries on this machine.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tokio::sync::Mutex;

/// Makes fresh databases; drops them, or the whole cluster, in [`stop`](Self::stop).
pub struct Server {
    admin: Mutex<PgConnection>,
    admin_url: url::Url,
    made: std::sync::Mutex<Vec<String>>,
    cluster: Option<Cluster>,
}

impl Server {
    /// `None`, and a line that says so, when there is no PostgreSQL on this machine.
    pub async fn start() -> Option<Self> {
        let (admin_url, cluster) = match crate::setting("TIDEGATE_TEST_POSTGRES") {
            Some(url) => (url, None),
            None => {
                let Some(cluster) = Cluster::start() else {
                    crate::skip("no PostgreSQL server (set TIDEGATE_TEST_POSTGRES or install PostgreSQL 15)");
                    return None;
                };
                (cluster.url(), Some(cluster))
            }
        };
        let admin_url = url::Url::parse(&admin_url).expect("TIDEGATE_TEST_POSTGRES is a URL");
        let options: PgConnectOptions = admin_url.as_str().parse().unwrap();
        let admin = Mutex::new(options.connect().await.unwrap());
        Some(Self { admin, admin_url, made: std::sync::Mutex::default(), cluster })
    }

    /// The URL of a new, empty database.
    pub async fn fresh_database(&self, name: &str) -> String {
        let name = format!("tidegate_test_{}_{name}", std::process::id());
        self.admin(format!("CREATE DATABASE {name} TEMPLATE template0")).await;
        self.made.lock().unwrap().push(name.clone());
        let mut url = self.admin_url.clone();
        url.set_path(&name);
        url.into()
    }

    pub async fn stop(self) {
        if self.cluster.is_none() {
            let made = std::mem::take(&mut *self.made.lock().unwrap());
            for name in made {
                self.admin(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
            }
        }
        self.admin.into_inner().close().await.unwrap();
    }

    async fn admin(&self, sql: String) {
        let mut connection = self.admin.lock().await;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await.unwrap();
    }
}

/// A cluster in a temporary folder, reachable by a Unix socket only. It is run by a shell that stops it and deletes the
/// folder when its standard input ends: so it goes away with the test however that ends, `kill -9` included.
struct Cluster {
    shell: Child,
    folder: PathBuf,
}

/// `$1` is the folder of the binaries. Durability is off: nothing of this outlives the test.
const RUN_CLUSTER: &str = r#"
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"$1/initdb" -D "$folder/data" -U tidegate -A trust -E UTF8 --locale=C --no-sync >"$folder/log" 2>&1 \
    || { cat "$folder/log" >&2; exit 1; }
"$1/pg_ctl" -D "$folder/data" -w -l "$folder/log" \
    -o "-c listen_addresses='' -c unix_socket_directories='$folder' -c fsync=off -c max_connections=150" \
    start >/dev/null 2>&1 || { cat "$folder/log" >&2; exit 1; }
trap '"$1/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null 2>&1; rm -rf "$folder"' EXIT
echo "$folder"
while read -r _; do :; done
"#;

impl Cluster {
    fn start() -> Option<Self> {
        let binaries = binaries()?;
        let mut command = shell_as_ordinary_user()?;
        command.args(["-c", RUN_CLUSTER, "postgres-for-tests"]).arg(&binaries);
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let mut folder = String::new();
        let stdout = shell.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut folder).unwrap();
        assert!(!folder.is_empty(), "the throwaway cluster of {} did not start", binaries.display());
        Some(Self { shell, folder: PathBuf::from(folder.trim_end()) })
    }

    fn url(&self) -> String {
        format!("postgres://tidegate@localhost/postgres?host={}", self.folder.display())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// The newest folder with the server's own programs.
fn binaries() -> Option<PathBuf> {
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<_> = packaged.map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders.extend(std::env::split_paths(&crate::setting("PATH")?));
    folders.into_iter().find(|folder| folder.join("initdb").is_file() && folder.join("pg_ctl").is_file())
}

/// PostgreSQL refuses to run as root, so root steps down to the user that packages make for it.
fn shell_as_ordinary_user() -> Option<Command> {
    let id = Command::new("id").arg("-u").output().ok()?;
    if id.stdout.trim_ascii() != b"0" {
        return Some(Command::new("sh"));
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--", "sh"]);
    Some(command)
}
