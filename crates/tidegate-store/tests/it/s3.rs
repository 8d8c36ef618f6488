//! An S3 server for the tests: the endpoint in `TIDEGATE_TEST_S3` (with a bucket `tidegate-test`), or else moto's server
//! (a PyPI package) where it is installed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use tidegate_store::{ArtifactLocation, ArtifactStore};

pub const BUCKET: &str = "tidegate-test";

pub struct Server {
    endpoint: String,
    moto: Option<Child>,
}

impl Server {
    /// `None`, and a line that says so, when there is no S3 server.
    pub fn start() -> Option<Self> {
        if let Some(endpoint) = crate::setting("TIDEGATE_TEST_S3") {
            return Some(Self { endpoint, moto: None });
        }
        let mut command = Command::new("moto_server");
        command.args(["--port", "0"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let Ok(mut moto) = command.spawn() else {
            println!(
                "skipped: no S3 server (set TIDEGATE_TEST_S3 or install the Python package moto[server])"
            );
            return None;
        };
        let stderr = BufReader::new(moto.stderr.take().expect("it is piped"));
        let endpoint = stderr.lines().map_while(Result::ok).find_map(|line| {
            line.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned)
        });
        let server =
            Self { endpoint: endpoint.expect("moto's server says where it listens"), moto: Some(moto) };
        server.create_bucket();
        Some(server)
    }

    /// What lies below a prefix of the bucket.
    pub fn store(&self, prefix: &str) -> ArtifactStore {
        ArtifactStore::open(&self.location(prefix)).unwrap()
    }

    pub fn location(&self, prefix: &str) -> ArtifactLocation {
        let key = |name: &str| Some(crate::setting(name).unwrap_or_else(|| "test".to_owned()));
        ArtifactLocation::S3 {
            bucket: BUCKET.to_owned(),
            prefix: prefix.to_owned(),
            endpoint: Some(self.endpoint.clone()),
            region: "us-east-1".to_owned(),
            access_key_id: key("TIDEGATE_TEST_S3_KEY"),
            secret_access_key: key("TIDEGATE_TEST_S3_SECRET"),
            allow_http: true,
        }
    }

    /// moto wants no signature.
    fn create_bucket(&self) {
        let address = self.endpoint.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).unwrap();
        let request = format!(
            "PUT /{BUCKET} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        assert!(response.contains(" 200 "), "{response}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(moto) = &mut self.moto {
            let _ = moto.kill();
            let _ = moto.wait();
        }
    }
}
