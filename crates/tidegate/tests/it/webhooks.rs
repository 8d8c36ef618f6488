//! Webhooks, told to a receiver that fails, hangs, sends away and recovers, by processes that are killed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::lifecycle::{MODEL, register_versions};
use crate::support::{Api, Installation, PATIENCE, databases};

const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Well,
    Failing,
    /// Answers later than it may.
    Hanging,
    SendingAway,
}

/// A request, and whether it was taken.
#[derive(Clone, Debug)]
struct Received {
    id: String,
    body: Value,
    is_taken: bool,
}

#[derive(Default)]
struct Inbox {
    received: Vec<Received>,
    /// What comes before it is well.
    moods: VecDeque<Mood>,
    is_failing: bool,
    was_led_astray: bool,
}

#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Inbox>>);

impl Receiver {
    /// Listens, and gives its URL.
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/hook", axum::routing::post(receive))
            .route("/elsewhere", axum::routing::any(lead_astray))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    fn inbox(&self) -> std::sync::MutexGuard<'_, Inbox> {
        self.0.lock().unwrap()
    }

    async fn wait_for(&self, what: &str, satisfied: impl Fn(&Inbox) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !satisfied(&self.inbox()) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.inbox().received);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The numbers of the events of a deployment that were taken, as they came.
    fn taken(&self, deployment: &str) -> Vec<u64> {
        taken(&self.inbox(), deployment)
    }
}

fn taken(inbox: &Inbox, deployment: &str) -> Vec<u64> {
    let of_it = inbox
        .received
        .iter()
        .filter(|received| received.is_taken && received.body["data"]["deploymentId"] == deployment);
    of_it.map(|received| received.body["data"]["seq"].as_u64().unwrap()).collect()
}

async fn lead_astray(State(receiver): State<Receiver>) -> StatusCode {
    receiver.inbox().was_led_astray = true;
    StatusCode::OK
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> Response {
    let id = check_signature(&headers, &body);
    let mood = {
        let mut inbox = receiver.inbox();
        let mood = match inbox.is_failing {
            true => Mood::Failing,
            false => inbox.moods.pop_front().unwrap_or(Mood::Well),
        };
        let body = serde_json::from_slice(&body).unwrap();
        inbox.received.push(Received { id, body, is_taken: mood == Mood::Well });
        mood
    };
    match mood {
        Mood::Well => StatusCode::NO_CONTENT.into_response(),
        Mood::Failing => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mood::SendingAway => Redirect::temporary("/elsewhere").into_response(),
        Mood::Hanging => {
            tokio::time::sleep(Duration::from_secs(30)).await;
            StatusCode::OK.into_response()
        }
    }
}

/// As a receiver would that has read the specification: HMAC by RFC 2104, and a timestamp of about now. Gives the id.
fn check_signature(headers: &HeaderMap, body: &[u8]) -> String {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    let (id, timestamp) = (text("webhook-id"), text("webhook-timestamp"));
    let mut key = BASE64_STANDARD.decode(SECRET).unwrap();
    key.resize(64, 0);
    let keyed = |pad: u8| key.iter().map(|byte| byte ^ pad).collect::<Vec<u8>>();
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let inner = Sha256::digest([keyed(0x36), signed].concat());
    let outer = Sha256::digest([keyed(0x5c), inner.to_vec()].concat());
    assert_eq!(text("webhook-signature"), format!("v1,{}", BASE64_STANDARD.encode(outer)));
    assert_eq!(text("content-type"), "application/json");
    id
}

fn installation(database: &crate::support::Database, url: &str) -> Installation {
    let installation = Installation::on(database);
    let config = format!("[[webhooks]]\nurl = \"{url}\"\nsecret = \"whsec_{SECRET}\"\ntimeout_s = 1\n");
    std::fs::write(installation.folder.path().join("tidegate.toml"), config).unwrap();
    installation
}

async fn event_numbers(api: &Api, deployment: &str) -> Vec<u64> {
    let path = format!("/api/v1/deployments/{deployment}/events?limit=100");
    let events = api.get(&path).await.expect(200);
    events["events"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_told_in_order_whatever_fails() {
    for database in databases().await {
        let receiver = Receiver::default();
        let installation = installation(&database, &receiver.start().await);
        let (first, second) = (installation.start().await, installation.start().await);
        register_versions(&first.api, &[1, 2]).await;

        // One of the two tells, and nothing twice.
        let quiet = first.api.deploy(MODEL, "1.0.0").await;
        let events = event_numbers(&first.api, &quiet).await;
        receiver.wait_for("all is told", |inbox| taken(inbox, &quiet).len() >= events.len()).await;
        assert_eq!(receiver.taken(&quiet), events);

        // The receiver is unwell, then does not answer, then everybody who could tell is killed.
        receiver.inbox().moods = VecDeque::from([Mood::SendingAway, Mood::Failing, Mood::Hanging]);
        let begun = receiver.inbox().received.len();
        let stormy = second.api.deploy(MODEL, "2.0.0").await;
        receiver.wait_for("it was tried", |inbox| inbox.received.len() > begun + 2).await;
        receiver.inbox().is_failing = true;
        first.kill();
        second.kill();
        let third = installation.start().await;
        receiver.inbox().is_failing = false;
        let is_whole = |events: &[u64], taken: &[u64]| events.iter().all(|seq| taken.contains(seq));
        let events = event_numbers(&third.api, &stormy).await;
        receiver.wait_for("all is told", |inbox| is_whole(&events, &taken(inbox, &stormy))).await;
        let mut told = receiver.taken(&stormy);
        assert!(told.is_sorted(), "in order: {told:?}");
        told.dedup();
        // The deployment goes on meanwhile, and what is new is told too.
        assert!(told.starts_with(&events), "{told:?} for {events:?}");

        assert!(!receiver.inbox().was_led_astray, "no redirect is followed");
        let received = receiver.inbox().received.clone();
        let of_first = received.iter().filter(|received| received.id == format!("{stormy}_1"));
        assert!(of_first.count() >= 3, "the same id at each attempt");
        let switched =
            received.iter().find(|received| received.body["type"] == "deployment.switched").unwrap();
        let data = &switched.body["data"];
        assert_eq!((&data["modelName"], &data["version"]), (&MODEL.into(), &"2.0.0".into()), "{data}");
        assert_eq!((&data["environment"], &data["strategy"]), (&"Production".into(), &"BlueGreen".into()));
        assert!(data["message"].as_str().unwrap().contains("traffic"), "{data}");
        drop(third);
        database.stop().await;
    }
}
