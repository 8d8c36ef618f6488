//! Raster jobs as a client asks for them; nobody does them here.

use axum::body::Body;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tidegate_api::{SceneSources, WebPlace};
use tidegate_core::JobId;
use tidegate_store::NewEvent;

use crate::support::{App, FORM_TYPE, Part, example, form, request};

const JOBS: &str = "/api/v1/jobs/raster";
const MODEL: &str = "refugee-camp-detector";

/// With the example model in Production, and one place of the web to read from.
async fn app() -> App {
    let app = App::with(|settings| {
        let web = vec![WebPlace::parse("https://maps.example/public").unwrap()];
        settings.scene_sources = SceneSources { roots: settings.import_roots.clone(), web };
        settings.max_queued_jobs = 2;
        settings.max_scene_bytes = 1000;
    })
    .await;
    let (item, files) = example();
    let parts: Vec<_> = [Part::text("stac", &item)].into_iter().chain(files).collect();
    let reply = app.post_form("/api/v1/models", &parts).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
    app.deploy(MODEL, "1.0.0").await;
    app
}

fn body() -> Value {
    json!({"modelId": MODEL, "source": "https://maps.example/public/scene.tif?signature=secret"})
}

fn with(changes: Value) -> Value {
    let mut body = body();
    for (key, value) in changes.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn scene_part(name: &str, size: usize) -> Part {
    Part { name: "scene".to_owned(), file_name: Some(name.to_owned()), bytes: vec![7; size] }
}

#[tokio::test]
async fn a_job_is_queued_shown_cancelled_and_deleted() {
    let app = app().await;
    let reply = app.post(JOBS, &body()).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text());
    insta::assert_json_snapshot!("job_queued", reply.redacted());
    let path = reply.header("location").to_owned();
    assert_eq!(app.get(&path).await.json(), reply.json());
    let listed = app.get("/api/v1/jobs?status=Queued&modelId=refugee-camp-detector").await.json();
    assert_eq!((&listed["total"], &listed["jobs"][0]), (&json!(1), &reply.json()));
    app.delete(&path).await.check(409, "CONFLICT", "");
    app.get(&format!("{path}/outputs/prediction_mask.tif")).await.check(409, "CONFLICT", "");

    let cancelled = app.post(&format!("{path}/cancel"), &json!({"reason": "the wrong one"})).await.json();
    assert_eq!(cancelled["status"], "Cancelled");
    app.post(&format!("{path}/cancel"), &json!({})).await.check(409, "CONFLICT", "");
    let events = app.get(&format!("{path}/events")).await;
    insta::assert_json_snapshot!("job_events", events.redacted());
    assert_eq!(app.delete(&path).await.status, StatusCode::NO_CONTENT);
    for gone in [app.get(&path).await, app.delete(&path).await, app.get(&format!("{path}/events")).await] {
        gone.check(404, "JOB_NOT_FOUND", "");
    }
}

#[tokio::test]
async fn every_mistake_is_named_before_anything_is_queued() {
    let app = app().await;
    app.register("plain", "1.0.0", "version-1.onnx").await;
    app.register("served", "1.0.0", "version-1.onnx").await;
    app.deploy("served", "1.0.0").await;
    let cases = [
        (json!({"source": null}), 400, "VALIDATION_ERROR", "source"),
        (json!({"source": "https://elsewhere.example/scene.tif"}), 400, "VALIDATION_ERROR", "source"),
        (json!({"source": "http://maps.example/public/scene.tif"}), 400, "VALIDATION_ERROR", "source"),
        (json!({"source": "https://127.0.0.1/public/scene.tif"}), 400, "VALIDATION_ERROR", "source"),
        (json!({"source": "file:///etc/passwd"}), 400, "VALIDATION_ERROR", "source"),
        (json!({"source": "s3://bucket/scene.tif"}), 400, "VALIDATION_ERROR", "source"),
        (json!({"source": "scene.tif"}), 400, "VALIDATION_ERROR", "source"),
        (json!({"modelId": "nobody"}), 404, "MODEL_NOT_FOUND", ""),
        (json!({"modelId": "plain"}), 503, "SERVICE_UNAVAILABLE", "modelId"),
        (json!({"environment": "Staging"}), 503, "SERVICE_UNAVAILABLE", "modelId"),
        (json!({"environment": "Mars"}), 400, "VALIDATION_ERROR", "environment"),
        (json!({"version": "one"}), 400, "VALIDATION_ERROR", "version"),
        (json!({"version": "9.0.0"}), 404, "VERSION_NOT_FOUND", ""),
        (json!({"modelId": "plain", "version": "1.0.0"}), 409, "CONFLICT", "version"),
        (json!({"modelId": "served"}), 422, "UNPROCESSABLE_ARTIFACT", "version"),
        (json!({"options": {"treshold": 0.5}}), 400, "VALIDATION_ERROR", "options.treshold"),
        (json!({"options": {"threshold": 2}}), 400, "VALIDATION_ERROR", "options.threshold"),
        (json!({"options": {"polygons": ["shp"]}}), 400, "VALIDATION_ERROR", "options.polygons[0]"),
        (json!({"options": {"aoi": {"type": "Point"}}}), 400, "VALIDATION_ERROR", "options.aoi"),
    ];
    for (changes, status, code, field) in cases {
        let reply = app.post(JOBS, &with(changes.clone())).await;
        assert_eq!(reply.status.as_u16(), status, "{changes}: {}", reply.text());
        reply.check(status, code, field);
    }
    app.post_raw(JOBS, "image/png", vec![0; 10]).await.check(415, "UNSUPPORTED_MEDIA_TYPE", "");
    assert_eq!(app.get("/api/v1/jobs").await.json()["total"], 0);
    app.get("/api/v1/jobs/job-1").await.check(404, "JOB_NOT_FOUND", "");
    app.get("/api/v1/jobs?status=Lost").await.check(400, "VALIDATION_ERROR", "status");
    // The query of an address is a secret, in every answer.
    let refused = app.post(JOBS, &with(json!({"source": "https://elsewhere.example/a.tif?key=hush"}))).await;
    assert!(!refused.text().contains("hush"), "{}", refused.text());
}

#[tokio::test]
async fn a_full_queue_says_so_before_an_upload() {
    let app = app().await;
    for _ in 0..2 {
        assert_eq!(app.post(JOBS, &body()).await.status, StatusCode::ACCEPTED);
    }
    let refused = app.post(JOBS, &body()).await;
    refused.check(503, "SERVICE_UNAVAILABLE", "");
    assert_eq!(refused.header("retry-after"), "60");
    let job = Part::text("job", &json!({"modelId": MODEL}));
    app.post_form(JOBS, &[job, scene_part("scene.tif", 100)]).await.check(503, "SERVICE_UNAVAILABLE", "");
    let keys = app.stored_keys().await;
    assert!(keys.iter().all(|key| !key.starts_with("jobs/")), "{keys:?}");
}

#[tokio::test]
async fn a_scene_may_be_the_body() {
    let app = app().await;
    let query = "modelId=refugee-camp-detector&gsd=0.3&polygons=geojson,gpkg&minArea=4&overlay=false&tta=true\
                 &name=camp.tif&aoi=%7B%22type%22:%22Polygon%22,%22coordinates%22:[[[1,1],[2,1],[2,2],[1,1]]]%7D";
    let reply =
        app.post_raw(&format!("{JOBS}?{query}"), "image/tiff; application=geotiff", vec![7; 1000]).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text());
    let queued = reply.json();
    let options = &queued["options"];
    assert_eq!((&queued["source"], &options["gsd"]), (&json!("camp.tif"), &json!(0.3)));
    assert_eq!((&options["polygons"], &options["overlay"]), (&json!(["geojson", "gpkg"]), &json!(false)));
    assert_eq!((&options["aoi"]["type"], &options["tta"]), (&json!("Polygon"), &json!(true)));
    assert_eq!(options["overlap"], 32, "the default");
    let key = format!("jobs/{}/scene/camp.tif", queued["jobId"].as_str().unwrap());
    assert!(app.stored_keys().await.contains(&key));

    // As curl sends it with --data-binary and no header; with -T there is none at all.
    let plain = format!("{JOBS}?modelId={MODEL}");
    let reply = app.post_raw(&plain, "application/x-www-form-urlencoded", vec![7; 10]).await;
    assert_eq!(reply.json()["source"], "scene.tif", "{}", reply.text());
    app.post_raw(&plain, "image/tiff", vec![7; 10]).await.check(503, "SERVICE_UNAVAILABLE", "");
    clear(&app).await;
    let request = http::Request::builder().method(Method::POST).uri(&plain).body(Body::from(vec![7; 10]));
    let reply = app.send(request.unwrap()).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text());
    clear(&app).await;

    let cases = [
        ("gsd=1", 10, 400, "VALIDATION_ERROR", "modelId"),
        ("modelId=nobody", 10, 404, "MODEL_NOT_FOUND", ""),
        ("modelId=refugee-camp-detector&version=9.0.0", 10, 404, "VERSION_NOT_FOUND", ""),
        ("modelId=refugee-camp-detector&environment=Mars", 10, 400, "VALIDATION_ERROR", "environment"),
        ("modelId=refugee-camp-detector&treshold=0.5", 10, 400, "VALIDATION_ERROR", "treshold"),
        ("modelId=refugee-camp-detector&threshold=2", 10, 400, "VALIDATION_ERROR", "threshold"),
        ("modelId=refugee-camp-detector&threshold=half", 10, 400, "VALIDATION_ERROR", "threshold"),
        ("modelId=refugee-camp-detector&polygons=shp", 10, 400, "VALIDATION_ERROR", "polygons"),
        ("modelId=refugee-camp-detector&aoi=here", 10, 400, "VALIDATION_ERROR", "aoi"),
        ("modelId=refugee-camp-detector&name=../x.tif", 10, 400, "VALIDATION_ERROR", "name"),
        ("modelId=refugee-camp-detector", 0, 400, "VALIDATION_ERROR", "scene"),
        ("modelId=refugee-camp-detector", 1001, 413, "PAYLOAD_TOO_LARGE", "scene"),
    ];
    for (query, size, status, code, field) in cases {
        let reply = app.post_raw(&format!("{JOBS}?{query}"), "image/tiff", vec![7; size]).await;
        assert_eq!(reply.status.as_u16(), status, "{query}: {}", reply.text());
        reply.check(status, code, field);
    }
    // A query beside a request that has everything in its JSON would be ignored.
    app.post(&format!("{JOBS}?gsd=1"), &body()).await.check(400, "VALIDATION_ERROR", "gsd");
    let packed = http::Request::builder()
        .method(Method::POST)
        .uri(&plain)
        .header("content-type", "image/tiff")
        .header("content-encoding", "gzip")
        .body(Body::from(vec![7; 10]));
    app.send(packed.unwrap()).await.check(415, "UNSUPPORTED_MEDIA_TYPE", "");
    assert_eq!(app.get("/api/v1/jobs").await.json()["total"], 0);
    let keys = app.stored_keys().await;
    assert!(keys.iter().all(|key| !key.starts_with("jobs/")), "{keys:?}");
}

/// Ends and deletes every job.
async fn clear(app: &App) {
    for job in app.get("/api/v1/jobs").await.json()["jobs"].as_array().unwrap() {
        let path = format!("/api/v1/jobs/{}", job["jobId"].as_str().unwrap());
        app.post(&format!("{path}/cancel"), &json!({})).await;
        assert_eq!(app.delete(&path).await.status, StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn an_uploaded_scene_is_kept_for_its_job_and_goes_with_it() {
    let app = app().await;
    let job = || Part::text("job", &json!({"modelId": MODEL, "options": {"gsd": 0.3}}));
    let reply = app.post_form(JOBS, &[job(), scene_part("scene.tif", 900)]).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text());
    let queued = reply.json();
    assert_eq!((&queued["source"], &queued["options"]["gsd"]), (&json!("scene.tif"), &json!(0.3)));
    let id = queued["jobId"].as_str().unwrap();
    let key = format!("jobs/{id}/scene/scene.tif");
    assert!(app.stored_keys().await.contains(&key));
    app.post(&format!("/api/v1/jobs/{id}/cancel"), &json!({})).await;
    assert!(!app.stored_keys().await.contains(&key), "nobody will read it");

    let both = Part::text("job", &body());
    let cases: [(&[Part], u16, &str, &str); 7] = [
        (&[job(), scene_part("scene.tif", 1001)], 413, "PAYLOAD_TOO_LARGE", "scene"),
        (&[job(), scene_part("../scene.tif", 10)], 400, "VALIDATION_ERROR", "scene"),
        (&[job()], 400, "VALIDATION_ERROR", "scene"),
        (&[scene_part("scene.tif", 10), job()], 400, "VALIDATION_ERROR", "scene"),
        (&[both, scene_part("scene.tif", 10)], 400, "VALIDATION_ERROR", "source"),
        (&[job(), job()], 400, "VALIDATION_ERROR", "job"),
        (&[Part::text("metadata", &json!({}))], 400, "VALIDATION_ERROR", "metadata"),
    ];
    for (parts, status, code, field) in cases {
        app.post_form(JOBS, parts).await.check(status, code, field);
    }
    let cut = form(&[job(), scene_part("scene.tif", 900)]);
    let cut = Body::from(cut[..cut.len() - 100].to_vec());
    app.send(request(Method::POST, JOBS, FORM_TYPE, cut)).await.check(400, "VALIDATION_ERROR", "");
    let keys = app.stored_keys().await;
    assert!(keys.iter().all(|key| !key.starts_with("jobs/")), "nothing is left: {keys:?}");
}

#[tokio::test]
async fn events_are_streamed_to_the_end_of_the_job() {
    let app = app().await;
    let id = app.post(JOBS, &body()).await.json()["jobId"].as_str().unwrap().to_owned();
    let mut asked = request(Method::GET, &format!("/api/v1/jobs/{id}/events"), "", Body::empty());
    asked.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    let (store, job) = (app.store.clone(), JobId::new(id));
    let cancelling = tokio::spawn(async move {
        let at = "2026-11-23T12:00:01Z".parse().unwrap();
        let message = "enough".to_owned();
        let event = NewEvent { at, kind: "cancelled".to_owned(), message, evidence: Value::Null };
        store.jobs.cancel(&job, at, &event).await
    });
    // Read to its end, which is the job's.
    let stream = app.send(asked).await;
    assert_eq!(stream.header("content-type"), "text/event-stream");
    let told = stream.text();
    assert!(told.contains("id: 1") && told.contains("id: 2") && told.contains("enough"), "{told}");
    assert!(cancelling.await.unwrap().unwrap());
}
