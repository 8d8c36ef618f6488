//! `tidegate deploy watch`, as a process: piped, on a terminal, through a restart of the server, and left by Ctrl-C.

use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::canary::events;
use crate::lifecycle::{Load, MODEL, register_versions};
use crate::strategies::start;
use crate::support::{Api, Installation, PATIENCE, fixture};

fn tidegate(installation: &Installation, api: &Api, arguments: &[&str]) -> Command {
    let mut command = installation.command();
    command.args(arguments).env("TIDEGATE_URL", &api.base);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn id_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().expect("the binary starts")).await.unwrap()
}

/// What a process says, read by a thread as it comes.
struct Talk {
    child: Child,
    said: std::sync::mpsc::Receiver<String>,
    heard: String,
}

impl Talk {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the binary starts");
        let mut output = child.stdout.take().expect("standard output is piped");
        let (sender, said) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // In pieces as they come: a view that is redrawn has no lines.
            let mut bytes = [0; 4096];
            while let Ok(n_read @ 1..) = output.read(&mut bytes) {
                let _ = sender.send(text(&bytes[..n_read]));
            }
        });
        Self { child, said, heard: String::new() }
    }

    /// Blocks until everything was said.
    fn hear(&mut self, everything: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        while let Some(missing) = everything.iter().find(|wanted| !self.heard.contains(**wanted)) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok(more) => self.heard.push_str(&more),
                Err(_) => panic!("`{missing}` was never said: {}", self.heard),
            }
        }
    }

    /// The exit status, all that was said, and what was said on standard error.
    fn end(mut self) -> (Option<i32>, String, String) {
        self.heard.extend(self.said.iter());
        let status = self.child.wait().expect("the process is ours");
        let mut errors = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut errors).expect("text");
        }
        (status.code(), self.heard.clone(), errors)
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A canary that needs more evidence than it gets.
fn endless() -> Value {
    json!({"steps": [30], "minimumSamples": 1_000_000, "progressDeadline": "PT1H"})
}

async fn serving() -> (Installation, crate::support::ServerProcess) {
    let installation = Installation::new();
    let server = installation.start().await;
    register_versions(&server.api, &[1, 2]).await;
    server.api.deploy(MODEL, "1.0.0").await;
    (installation, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_is_told_line_by_line_and_the_status_says_how() {
    let (installation, server) = serving().await;
    let api = &server.api;
    let path = start(api, "BlueGreen", "2.0.0", json!({"keepBlueDuration": "PT0S"})).await;
    api.wait_for(&path, |answer| answer.body["phase"] == "Done").await;
    for target in [MODEL, id_of(&path)] {
        let told = output(tidegate(&installation, api, &["deploy", "watch", target])).await;
        assert_eq!(told.status.code(), Some(0), "{}", text(&told.stderr));
        let lines = text(&told.stdout);
        let events = events(api, &path).await;
        assert_eq!(lines.lines().count(), events.len(), "a line an event: {lines}");
        for (line, event) in lines.lines().zip(&events) {
            let (kind, message) = (event["kind"].as_str().unwrap(), event["message"].as_str().unwrap());
            assert!(line.contains(kind) && line.ends_with(message), "{line}");
        }
    }

    api.post(&format!("{path}/rollback"), &json!({"reason": "seen enough"})).await.expect(200);
    let told = output(tidegate(&installation, api, &["deploy", "watch", MODEL])).await;
    let errors = text(&told.stderr);
    assert_eq!(told.status.code(), Some(3), "{errors}");
    assert!(errors.contains("RolledBack") && errors.contains("seen enough"), "{errors}");
    let told = output(tidegate(&installation, api, &["deploy", "watch", "deploy-nobody"])).await;
    assert_eq!(told.status.code(), Some(1), "{}", text(&told.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn models_may_be_called_like_commands_and_ids() {
    let installation = Installation::new();
    let server = installation.start().await;
    let api = &server.api;
    for name in ["watch", "deploy-me"] {
        api.register(name, "1.0.0", "model.onnx", fixture("linear.onnx")).await.expect(201);
    }
    let cases: [(&[&str], &str); 6] = [
        (&["deploy", "--", "watch"], "first here"),
        (&["deploy", "watch", "watch"], "first here"),
        (&["deploy", "--environment", "Staging", "watch"], "in Staging"),
        (&["deploy", "deploy-me"], "first here"),
        (&["deploy", "watch", "deploy-me"], "first here"),
        (&["deploy", "watch", "watch", "--environment", "Staging"], "in Staging"),
    ];
    for (arguments, expected) in cases {
        let told = output(tidegate(&installation, api, arguments)).await;
        let said = text(&told.stdout);
        assert!(
            told.status.success() && said.contains(expected),
            "{arguments:?}: {said}{}",
            text(&told.stderr)
        );
    }
    let told = output(tidegate(&installation, api, &["deploy", "watch"])).await;
    assert_eq!(told.status.code(), Some(2));
    let told = output(tidegate(&installation, api, &["deploy"])).await;
    assert_eq!(told.status.code(), Some(2));
    assert!(text(&told.stderr).contains("MODEL"), "{}", text(&told.stderr));
}

/// Linux only: `script` takes other arguments elsewhere.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_gets_a_view_of_what_is_compared_until_it_is_over() {
    let (installation, server) = serving().await;
    let api = &server.api;
    let load = Load::start(api, 2);
    let path = start(api, "Canary", "2.0.0", endless()).await;
    api.wait_for(&format!("{path}/progress"), |answer| answer.body["lastLook"]["analysis"].is_object()).await;
    // `script` gives it a terminal.
    let mut script = Command::new("script");
    let watch = format!("{} deploy watch {}", env!("CARGO_BIN_EXE_tidegate"), id_of(&path));
    script.args(["--quiet", "--return", "--command", &watch, "/dev/null"]);
    script.env("TIDEGATE_URL", &api.base).env("TERM", "xterm").current_dir(installation.folder.path());
    script.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (seen, path) = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || {
            let mut talk = Talk::start(script);
            talk.hear(&["asked for counter 2.0.0", "step 1 of 2: compared at 30 %", "error rate", "open"]);
            (talk, path)
        })
        .await
        .unwrap()
    };
    let heard = seen.heard.clone();
    for expected in ["30 % / 70 %", "█", "requests", "without a verdict", "median latency", "pass"] {
        assert!(heard.contains(expected), "`{expected}` is missing: {heard}");
    }
    api.post(&format!("{path}/promote"), &json!({})).await.expect(200);
    let (status, heard, _) = tokio::task::spawn_blocking(move || seen.end()).await.unwrap();
    assert_eq!(status, Some(0), "{heard}");
    assert!(
        heard.contains("promoted without waiting for evidence") && heard.contains("100 % / 0 %"),
        "{heard}"
    );
    load.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_loses_no_event_and_tells_none_twice() {
    let (installation, server) = serving().await;
    let path = start(&server.api, "Canary", "2.0.0", endless()).await;
    server.api.wait_for(&path, |answer| answer.body["phase"] == "Shifting").await;
    let address = server.api.base.trim_start_matches("http://").to_owned();
    let command = tidegate(&installation, &server.api, &["deploy", "watch", id_of(&path)]);
    let hear = |mut talk: Talk, what: &'static [&'static str]| async move {
        tokio::task::spawn_blocking(move || {
            talk.hear(what);
            talk
        })
        .await
        .unwrap()
    };
    let talk = hear(Talk::start(command), &["shifted"]).await;
    server.kill();
    let talk = hear(talk, &["no answer"]).await;
    let server = installation.start_at(&address).await;
    let talk = hear(talk, &["the server answers again"]).await;
    server.api.post(&format!("{path}/pause"), &json!({})).await.expect(200);
    // It comes by the stream, without being asked for.
    let talk = hear(talk, &["paused"]).await;
    server.api.post(&format!("{path}/cancel"), &json!({"reason": "enough"})).await.expect(200);
    let (status, heard, errors) = tokio::task::spawn_blocking(move || talk.end()).await.unwrap();
    assert_eq!(status, Some(3), "{heard}{errors}");
    assert!(errors.contains("Cancelled") && errors.contains("enough"), "{errors}");
    for event in events(&server.api, &path).await {
        let message = event["message"].as_str().unwrap();
        let n_told = heard.lines().filter(|line| line.ends_with(message)).count();
        assert_eq!(n_told, 1, "`{message}`: {heard}");
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_leaves_the_deployment_running_and_says_how_to_come_back() {
    let (installation, server) = serving().await;
    let api = &server.api;
    let path = start(api, "Canary", "2.0.0", endless()).await;
    let command = tidegate(&installation, api, &["deploy", "watch", MODEL]);
    let id = id_of(&path).to_owned();
    let (status, _, errors) = tokio::task::spawn_blocking(move || {
        let mut talk = Talk::start(command);
        talk.hear(&["shifted"]);
        let killed = Command::new("kill").args(["-INT", &talk.child.id().to_string()]).status();
        assert!(killed.expect("kill is there").success());
        talk.end()
    })
    .await
    .unwrap();
    assert_eq!(status, Some(130), "{errors}");
    assert!(errors.contains(&format!("tidegate deploy watch {id} --server {}", api.base)), "{errors}");
    assert_eq!(api.get(&path).await.expect(200)["status"], "Deploying");
}
