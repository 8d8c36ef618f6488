//! A deployment's events as they happen.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use futures::StreamExt;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tidegate_api::Phase;
use tidegate_core::DeploymentId;
use tidegate_store::{NewEvent, Transition};
use tower::ServiceExt;

use crate::control::SLOW_PERSON;
use crate::support::{App, request};

const PATIENCE: Duration = Duration::from_secs(30);

/// An open stream, read event by event.
struct Stream {
    body: BodyDataStream,
    text: String,
}

impl Stream {
    /// The id and the data of the next event; `None` at the end.
    async fn next(&mut self) -> Option<(u64, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                if event.lines().all(|line| line.starts_with(':')) {
                    continue;
                }
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                let id = field("id: ").unwrap().parse().unwrap();
                return Some((id, serde_json::from_str(field("data: ").unwrap()).unwrap()));
            }
            let chunk = tokio::time::timeout(PATIENCE, self.body.next()).await.expect("it says something");
            self.text.push_str(std::str::from_utf8(&chunk?.unwrap()).unwrap());
        }
    }
}

fn ask(path: &str, last_event_id: Option<&str>) -> Request<Body> {
    let mut asked = request(Method::GET, path, "", Body::empty());
    asked.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    if let Some(id) = last_event_id {
        asked.headers_mut().insert("last-event-id", id.parse().unwrap());
    }
    asked
}

async fn open(app: &App, path: &str, last_event_id: Option<&str>) -> Stream {
    let response = app.router.clone().oneshot(ask(path, last_event_id)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    Stream { body: response.into_body().into_data_stream(), text: String::new() }
}

/// A deployment in progress, without events yet; the path of its events.
async fn in_progress(app: &App) -> (DeploymentId, String) {
    app.register("m", "1.0.0", "version-1.onnx").await;
    let body = json!({"modelId": "m"}).to_string();
    let mut slow = request(Method::POST, "/api/v1/deployments", "application/json", body.into());
    slow.headers_mut().insert("x-tidegate-user", SLOW_PERSON.parse().unwrap());
    let created = app.send(slow).await.json();
    let id = created["deploymentId"].as_str().unwrap();
    (DeploymentId::new(id), format!("/api/v1/deployments/{id}/events"))
}

async fn commit(app: &App, id: &DeploymentId, messages: &[String]) {
    let record = app.store.deployments.get(id).await.unwrap().unwrap();
    let event = |message: &String| NewEvent {
        at: "2026-11-23T12:00:00Z".parse().unwrap(),
        kind: "held".to_owned(),
        message: message.clone(),
        evidence: json!({"line": "one\ntwo"}),
    };
    let events = messages.iter().map(event).collect();
    let transition = Transition { record, events, route: None, fence: None };
    app.store.deployments.commit(&transition).await.unwrap();
}

#[tokio::test]
async fn a_stream_tells_each_event_when_it_is_committed_and_ends_with_the_deployment() {
    let app = App::start().await;
    let (id, path) = in_progress(&app).await;
    let mut stream = open(&app, &path, None).await;
    for number in 1..=3 {
        commit(&app, &id, &[format!("event {number}")]).await;
        let (seq, event) = stream.next().await.unwrap();
        assert_eq!((seq, &event["message"]), (number, &json!(format!("event {number}"))));
    }
    let page = app.get(&path).await.json();
    let mut resumed = open(&app, &path, Some("2")).await;
    assert_eq!(resumed.next().await, Some((3, page["events"][2].clone())), "as a page shows it");
    app.post(&path.replace("events", "cancel"), &json!({})).await;
    for stream in [&mut stream, &mut resumed] {
        let (seq, event) = stream.next().await.unwrap();
        assert_eq!((seq, event["message"].as_str().unwrap().contains("cancelled")), (4, true));
        assert_eq!(stream.next().await, None, "nothing comes after the end");
    }
    // A browser that reconnects is told that there is no more; one that comes anew gets all of it.
    assert_eq!(app.send(ask(&path, Some("4"))).await.status, StatusCode::NO_CONTENT);
    let mut late = open(&app, &path, None).await;
    for seq in 1..=4 {
        assert_eq!(late.next().await.unwrap().0, seq);
    }
    assert_eq!(late.next().await, None);
}

#[tokio::test]
async fn a_long_log_is_streamed_whole_and_in_order() {
    let app = App::start().await;
    let (id, path) = in_progress(&app).await;
    let messages: Vec<_> = (1..=250).map(|number| format!("event {number}")).collect();
    commit(&app, &id, &messages).await;
    let mut stream = open(&app, &format!("{path}?after=30"), None).await;
    for seq in 31..=250 {
        assert_eq!(stream.next().await.unwrap().0, seq);
    }
    commit(&app, &id, &["and on".to_owned()]).await;
    assert_eq!(stream.next().await.unwrap().0, 251);
}

#[tokio::test]
async fn streams_are_bounded_and_end_when_the_server_does() {
    let app = App::start().await;
    let (id, path) = in_progress(&app).await;
    let mut streams = Vec::new();
    let refused = loop {
        let response = app.router.clone().oneshot(ask(&path, None)).await.unwrap();
        if response.status() != StatusCode::OK {
            break response;
        }
        streams.push(Stream { body: response.into_body().into_data_stream(), text: String::new() });
    };
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "1");
    drop(streams.pop());
    let mut last = open(&app, &path, None).await;
    commit(&app, &id, &["to all".to_owned()]).await;
    assert_eq!(last.next().await.unwrap().0, 1);
    app.readiness.set(Phase::Stopping);
    assert_eq!(last.next().await, None);
}

#[tokio::test]
async fn what_cannot_be_streamed_is_refused_by_name() {
    let app = App::start().await;
    let (_, path) = in_progress(&app).await;
    app.send(ask(&path, Some("four"))).await.check(400, "VALIDATION_ERROR", "Last-Event-ID");
    app.send(ask(&format!("{path}?limit=5"), None)).await.check(400, "VALIDATION_ERROR", "limit");
    let nobody = ask("/api/v1/deployments/nobody/events", None);
    app.send(nobody).await.check(404, "DEPLOYMENT_NOT_FOUND", "");
}
