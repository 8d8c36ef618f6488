//! The catalogue: landing page, collections, items, search, paging.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{App, Part, example, repository, request};

/// Three versions of a placed model, and one of a model that was registered without an item.
async fn catalogue() -> App {
    let app = App::start().await;
    for (number, datetime, west) in [
        ("1.0.0", "2024-06-01T00:00:00Z", 10.0),
        ("1.1.0", "2025-06-01T00:00:00Z", 20.0),
        ("2.0.0", "2026-06-01T00:00:00Z", 30.0),
    ] {
        let mut item = example().0;
        item["id"] = json!("whatever");
        item["properties"]["mlm:input"][0]["input"]["shape"] = json!([-1, 3, 32, 32]);
        item["properties"]["mlm:output"][0]["result"]["shape"] = json!([-1, 1, 32, 32]);
        item["bbox"] = json!([west, 0.0, west + 5.0, 5.0]);
        item["properties"]["version"] = json!(number);
        item["properties"]["datetime"] = json!(datetime);
        item["links"] = json!([{"rel": "license", "href": "https://example.org/l"}, {"rel": "self", "href": "./me.json"}]);
        item["assets"] = json!({
            "model": {"href": "./model.onnx", "roles": ["mlm:model"], "mlm:artifact_type": "onnx"},
            "paper": {"href": "https://example.org/model.onnx", "roles": ["data"]},
        });
        let parts = [Part::text("stac", &item), Part::file("model.onnx", segmenter())];
        let reply = app.post_form("/api/v1/models", &parts).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
    }
    app.register("plain", "0.1.0-rc.1", "linear.onnx").await;
    app
}

fn segmenter() -> Vec<u8> {
    std::fs::read(repository().join("fixtures/segment/binary.onnx")).unwrap()
}

fn ids(page: &Value) -> Vec<&str> {
    page["features"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

/// The path of a link, which is absolute.
fn follow<'a>(document: &'a Value, rel: &str) -> Option<&'a str> {
    let links = document["links"].as_array().unwrap();
    let link = links.iter().find(|link| link["rel"] == rel)?;
    Some(link["href"].as_str().unwrap().strip_prefix("http://localhost").expect("an absolute address"))
}

#[tokio::test]
async fn a_client_finds_everything_from_the_landing_page() {
    let app = catalogue().await;
    let landing = app.get("/stac").await.json();
    assert_eq!((&landing["type"], &landing["stac_version"]), (&json!("Catalog"), &json!("1.1.0")));
    let conformance = app.get(follow(&landing, "conformance").unwrap()).await.json();
    assert_eq!(conformance["conformsTo"], landing["conformsTo"]);
    let openapi = app.get(follow(&landing, "service-desc").unwrap()).await.json();
    assert!(openapi["paths"]["/stac/search"]["post"].is_object());

    let collections = app.get(follow(&landing, "data").unwrap()).await.json();
    let names = collections["collections"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["plain", "refugee-camp-detector"]);
    let collection = &collections["collections"][1];
    assert_eq!(app.get(follow(collection, "self").unwrap()).await.json(), *collection);
    assert_eq!(collection["extent"]["spatial"]["bbox"], json!([[10.0, 0.0, 35.0, 5.0]]));
    let interval = &collection["extent"]["temporal"]["interval"];
    assert_eq!(*interval, json!([["2024-06-01T00:00:00Z", "2026-06-01T00:00:00Z"]]));

    let items = app.get(follow(collection, "items").unwrap()).await;
    assert_eq!(items.header("content-type"), "application/geo+json");
    let items = items.json();
    assert_eq!(
        ids(&items),
        ["refugee-camp-detector-2.0.0", "refugee-camp-detector-1.1.0", "refugee-camp-detector-1.0.0"]
    );
    let item = &items["features"][2];
    assert_eq!(app.get(follow(item, "self").unwrap()).await.json(), *item);
    assert_eq!(app.get(follow(item, "collection").unwrap()).await.json()["id"], "refugee-camp-detector");
    assert_eq!(item["collection"], "refugee-camp-detector");
    let rels = item["links"].as_array().unwrap().iter().map(|link| link["rel"].as_str().unwrap());
    assert_eq!(rels.collect::<Vec<_>>(), ["self", "root", "parent", "collection", "license"]);
    assert_eq!(
        item["assets"]["paper"]["href"], "https://example.org/model.onnx",
        "elsewhere stays elsewhere"
    );
    let model = item["assets"]["model"]["href"].as_str().unwrap().strip_prefix("http://localhost").unwrap();
    assert_eq!(app.get(model).await.body, segmenter());

    let plain = app.get("/stac/collections/plain/items/plain-0.1.0-rc.1").await.json();
    assert_eq!((&plain["geometry"], plain.get("bbox")), (&Value::Null, None));
    assert_eq!(plain["properties"]["datetime"], "2026-11-23T12:00:00Z");
    assert_eq!(plain["assets"]["model.onnx"]["roles"], json!(["data"]));
}

#[tokio::test]
async fn searches_narrow_by_place_time_and_name_in_both_ways() {
    let app = catalogue().await;
    let all = "refugee-camp-detector";
    let cases = [
        (json!({}), vec!["plain-0.1.0-rc.1", "2.0.0", "1.1.0", "1.0.0"]),
        (json!({"collections": [all]}), vec!["2.0.0", "1.1.0", "1.0.0"]),
        (
            json!({"collections": [all, "plain"], "limit": 1000}),
            vec!["plain-0.1.0-rc.1", "2.0.0", "1.1.0", "1.0.0"],
        ),
        (json!({"collections": ["nobody"]}), vec![]),
        (json!({"collections": []}), vec!["plain-0.1.0-rc.1", "2.0.0", "1.1.0", "1.0.0"]),
        (json!({"ids": [format!("{all}-1.1.0"), "plain-0.1.0-rc.1"]}), vec!["plain-0.1.0-rc.1", "1.1.0"]),
        (json!({"bbox": [14.0, 1.0, 21.0, 2.0]}), vec!["1.1.0", "1.0.0"]),
        (json!({"bbox": [50.0, 1.0, 60.0, 2.0]}), vec![]),
        (json!({"datetime": "2025-06-01T00:00:00Z"}), vec!["1.1.0"]),
        (json!({"datetime": "2025-01-01T00:00:00Z/.."}), vec!["plain-0.1.0-rc.1", "2.0.0", "1.1.0"]),
        (json!({"datetime": "2025-01-01T00:00:00Z/..", "bbox": [0.0, 0.0, 22.0, 5.0]}), vec!["1.1.0"]),
    ];
    for (body, expected) in cases {
        let expected = expected
            .iter()
            .map(|id| if id.starts_with("plain") { (*id).to_owned() } else { format!("{all}-{id}") });
        let expected = expected.collect::<Vec<_>>();
        let reply = app.post("/stac/search", &body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        assert_eq!(ids(&reply.json()), expected, "{body}");
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (key, value) in body.as_object().unwrap() {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Array(values) => values
                    .iter()
                    .map(|v| v.as_str().map_or(v.to_string(), str::to_owned))
                    .collect::<Vec<_>>()
                    .join(","),
                other => other.to_string(),
            };
            query.append_pair(key, &text);
        }
        let by_query = app.get(&format!("/stac/search?{}", query.finish())).await.json();
        assert_eq!(by_query["features"], reply.json()["features"], "{body}");
    }
}

#[tokio::test]
async fn pages_follow_one_another_and_end() {
    let app = catalogue().await;
    let mut found = Vec::new();
    let mut page = app.get("/stac/search?limit=2&datetime=../2026-12-01T00:00:00Z").await.json();
    loop {
        found.extend(ids(&page).into_iter().map(str::to_owned));
        assert!(found.len() <= 4, "{found:?}");
        let Some(next) = follow(&page, "next") else { break };
        page = app.get(next).await.json();
    }
    assert_eq!(found.len(), 4, "{found:?}");

    let first = app.post("/stac/search", &json!({"limit": 3, "bbox": [0, 0, 50, 5]})).await.json();
    assert_eq!((ids(&first).len(), follow(&first, "next")), (3, None), "three match, and there is no fourth");
    let first = app.post("/stac/search", &json!({"limit": 2, "bbox": [0, 0, 50, 5]})).await.json();
    let next = first["links"].as_array().unwrap().iter().find(|link| link["rel"] == "next").unwrap();
    assert_eq!(next["method"], "POST");
    let last = app.post("/stac/search", &next["body"]).await.json();
    assert_eq!((ids(&last), follow(&last, "next")), (vec!["refugee-camp-detector-1.0.0"], None));

    let one = app.get("/stac/collections?limit=1").await.json();
    let other = app.get(follow(&one, "next").unwrap()).await.json();
    assert_eq!(other["collections"][0]["id"], "refugee-camp-detector");
    assert_eq!(follow(&other, "next"), None);
}

#[tokio::test]
async fn what_is_not_there_or_not_understood_is_said() {
    let app = catalogue().await;
    app.get("/stac/collections/nobody").await.check(404, "MODEL_NOT_FOUND", "");
    app.get("/stac/collections/nobody/items").await.check(404, "MODEL_NOT_FOUND", "");
    app.get("/stac/collections/plain/items/plain-9.9.9").await.check(404, "NOT_FOUND", "");
    app.get("/stac/collections/plain/items/refugee-camp-detector-1.0.0").await.check(404, "NOT_FOUND", "");
    app.get("/stac/search?bbox=1,2,3").await.check(400, "VALIDATION_ERROR", "bbox");
    app.get("/stac/search?colections=plain").await.check(400, "VALIDATION_ERROR", "colections");
    app.post("/stac/search", &json!({"intersects": {"type": "Point", "coordinates": [1, 2]}})).await.check(
        400,
        "VALIDATION_ERROR",
        "intersects",
    );
    app.post("/stac/search", &json!({"bbox": "1,2,3,4"})).await.check(400, "VALIDATION_ERROR", "bbox");
    assert_eq!(app.delete("/api/v1/models/plain").await.status, StatusCode::NO_CONTENT);
    app.get("/stac/collections/plain").await.check(404, "MODEL_NOT_FOUND", "");
    assert_eq!(ids(&app.get("/stac/search").await.json()).len(), 3, "an archived model is in no catalogue");

    let mut asked = request(Method::GET, "/stac/collections", "", "".into());
    asked.headers_mut().insert("host", "models.example.org".parse().unwrap());
    asked.headers_mut().insert("x-forwarded-proto", "https".parse().unwrap());
    let own = app.send(asked).await.json()["links"][0]["href"].take();
    assert_eq!(own, "https://models.example.org/stac/collections");
}
