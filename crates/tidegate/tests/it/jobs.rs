//! Scenes on a server: the files are those of `tidegate predict`, whoever is killed meanwhile.

mod place;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use jiff::SignedDuration;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tidegate_core::{Environment, JobId, ModelId, Timestamp};
use tidegate_store::{JobEnd, NewEvent, NewJob, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::place::{
    MODEL, Place, ask, assert_same, comparable, download, holder, is_replica, item, kinds, outputs,
    read_files, wait_for_share, wait_until, with_model,
};
use crate::support::{
    Database, Installation, ServerProcess, databases, files_below, json_of, repository, run, s3, scene,
    shared_data, write_scene,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_gives_what_predict_gives_by_address_and_by_upload() {
    let place = Place::new();
    write_scene(&place.path("small.tif"), 500, 700);
    let flags = ["--probability", "--polygons", "geojson,fgb,parquet", "--threshold", "0.4"];
    let expected = place.predicted("small.tif", &flags);
    let mut installation = Installation::new();
    place.allow(&mut installation, &[]);
    let server = installation.start().await;
    with_model(&server.api, &installation, &item(), MODEL).await;
    let api = &server.api;
    let options = json!({"probability": true, "polygons": ["geojson", "fgb", "parquet"], "threshold": 0.4});
    let body = json!({"modelId": MODEL, "source": place.address("small.tif"), "options": options});
    let job = ask(api, &body).await;

    // The stream tells the whole story and ends with it.
    let stream = reqwest::Client::new().get(api.url(&format!("{job}/events")));
    let stream = stream.header("accept", "text/event-stream").send().await.unwrap();
    let told = stream.text().await.unwrap();
    for kind in ["queued", "started", "succeeded"] {
        assert!(told.contains(&format!("\"kind\":\"{kind}\"")), "{told}");
    }
    let done = wait_until(api, &job, "Succeeded").await;
    assert_eq!(done["version"], "1.0.0", "{done}");
    assert_eq!(done["progress"]["shareDone"], 1.0, "{done}");
    assert_same(&expected, &outputs(api, &job, &done).await);

    // By ranges, as a GIS reads it.
    let mask = format!("{job}/outputs/prediction_mask.tif");
    let (_, whole) = download(api, &mask, None).await;
    assert_eq!(download(api, &mask, Some("bytes=4-19")).await, (206, whole[4..20].to_vec()));
    assert_eq!(download(api, &mask, Some("bytes=-8")).await, (206, whole[whole.len() - 8..].to_vec()));
    assert_eq!(download(api, &mask, Some("bytes=999999999-")).await.0, 416);
    assert_eq!(api.get(&format!("{job}/outputs/nothing.tif")).await.status, 404);

    // As the body of a request, the same.
    let query = "probability=true&polygons=geojson,fgb,parquet&threshold=0.4&name=small.tif";
    let bytes = std::fs::read(place.path("small.tif")).unwrap();
    let request =
        reqwest::Client::new().post(api.url(&format!("/api/v1/jobs/raster?modelId={MODEL}&{query}")));
    let created = request.header("content-type", "image/tiff").body(bytes).send().await.unwrap();
    assert_eq!(created.status(), 202);
    let job = created.headers()["location"].to_str().unwrap().to_owned();
    let done = wait_until(api, &job, "Succeeded").await;
    assert_same(&expected, &outputs(api, &job, &done).await);

    // Uploaded by the command line, the same.
    let mut command = installation.command();
    command.args(["job", "raster"]).arg(place.path("small.tif")).args(["--model", MODEL]);
    command.args(flags).args(["--output-dir", "fetched", "--server", &api.base]);
    let (success, output, errors) = run(command);
    assert!(success && output.contains("polygons by refugee-camp-detector 1.0.0"), "{output}\n{errors}");
    assert_same(&expected, &read_files(&installation.folder.path().join("fetched")));
    let listed = api.get("/api/v1/jobs?status=Succeeded").await.expect(200);
    assert_eq!(listed["total"], 3, "{listed}");

    // Deleted, nothing is left of them: not the upload, not the outputs, no folder.
    for listed in listed["jobs"].as_array().unwrap() {
        let path = format!("/api/v1/jobs/{}", listed["jobId"].as_str().unwrap());
        let deleted = reqwest::Client::new().delete(api.url(&path)).send().await.unwrap();
        assert_eq!(deleted.status(), 204);
        assert_eq!(api.get(&path).await.code(), "JOB_NOT_FOUND");
    }
    assert_eq!(files_below(&installation.data_dir().join("artifacts/jobs")), Vec::<PathBuf>::new());
    assert_eq!(files_below(&installation.data_dir().join("jobs")), Vec::<PathBuf>::new());
}

/// `curl -T` asks first (RFC 9110, section 10.1.1).
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_scene_is_not_asked_for() {
    let installation = Installation::new();
    let server = installation.start().await;
    let address = server.api.base.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /api/v1/jobs/raster?modelId=nobody HTTP/1.1\r\nHost: {address}\r\nContent-Type: image/tiff\r\n\
         Content-Length: 100000000\r\nExpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 404");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_killed_goes_on_by_itself_to_the_same_bytes() {
    let place = Place::new();
    let expected = place.predicted("scene.tif", &[]);
    for database in databases().await {
        let mut installation = Installation::on(&database);
        place.allow(&mut installation, &[]);
        let mut server = installation.start().await;
        with_model(&server.api, &installation, &item(), MODEL).await;
        let body = json!({"modelId": MODEL, "source": place.address("scene.tif")});
        let job = ask(&server.api, &body).await;
        for share in [0.4, 0.7] {
            wait_for_share(&server.api, &job, share).await;
            server = installation.restart(server).await;
        }
        let done = wait_until(&server.api, &job, "Succeeded").await;
        assert!(done["result"]["resumedTiles"].as_u64().unwrap() > 0, "from the checkpoint: {done}");
        assert_same(&expected, &outputs(&server.api, &job, &done).await);
        let kinds = kinds(&server.api, &job).await;
        assert_eq!(kinds.iter().filter(|kind| *kind == "resumed").count(), 2, "{kinds:?}");
        assert_eq!(files_below(&installation.data_dir().join("jobs")), Vec::<PathBuf>::new());
        drop(server);
        database.stop().await;
    }
}

/// The traffic moves on to another version, and the old one is retired; a job that it began stays with it, also after a
/// restart that has no other reason to load it.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_keeps_its_version_whatever_is_deployed_meanwhile() {
    let place = Place::new();
    // Longer than a deployment takes.
    write_scene(&place.path("long.tif"), 600, 5200);
    let expected = place.predicted("long.tif", &[]);
    let mut installation = Installation::new();
    place.allow(&mut installation, &[]);
    let mut server = installation.start().await;
    with_model(&server.api, &installation, &item(), MODEL).await;
    let example = repository().join("examples/refugee-camp");
    let mut next = json_of(&std::fs::read(item()).unwrap());
    next["properties"]["version"] = json!("1.1.0");
    next["assets"] = json!({"onnx": next["assets"]["onnx"]});
    std::fs::write(place.path("item.json"), next.to_string()).unwrap();
    let onnx = "refugee-camp-detector.onnx";
    std::fs::copy(example.join(onnx), place.path(onnx)).unwrap();

    let mut register = installation.command();
    register.args(["model", "register", "--stac"]).arg(place.path("item.json"));
    register.args(["--server", &server.api.base]);
    let (success, output, errors) = run(register);
    assert!(success, "{output}\n{errors}");

    let body = json!({"modelId": MODEL, "source": place.address("long.tif")});
    let job = ask(&server.api, &body).await;
    wait_for_share(&server.api, &job, 0.1).await;
    let settings = json!({"smokeTestSamples": 1, "monitoringDuration": "PT0S", "keepBlueDuration": "PT0S"});
    let body = json!({"modelId": MODEL, "version": "1.1.0", "strategyConfig": settings});
    let deployment = server.api.post("/api/v1/deployments", &body).await.expect(202);
    let deployment = format!("/api/v1/deployments/{}", deployment["deploymentId"].as_str().unwrap());
    server.api.wait_for(&deployment, |answer| answer.body["phase"] == "Done").await;
    assert_eq!(server.api.get(&job).await.body["status"], "Running", "the scene is longer than that");
    server = installation.restart(server).await;
    let done = wait_until(&server.api, &job, "Succeeded").await;
    assert_eq!(done["version"], "1.0.0", "{done}");
    assert_same(&expected, &outputs(&server.api, &job, &done).await);
    let after = ask(&server.api, &json!({"modelId": MODEL, "source": place.address("scene.tif")})).await;
    wait_for_share(&server.api, &after, 0.01).await;
    assert_eq!(server.api.get(&after).await.body["version"], "1.1.0", "the next job is of its time");
}

/// A polite end keeps what is done, too, and gives the job back at once.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_keeps_what_is_done() {
    let place = Place::new();
    let mut installation = Installation::new();
    place.allow(&mut installation, &[]);
    let server = installation.start().await;
    with_model(&server.api, &installation, &item(), MODEL).await;
    let body = json!({"modelId": MODEL, "source": place.address("scene.tif")});
    let job = ask(&server.api, &body).await;
    wait_for_share(&server.api, &job, 0.5).await;
    let status = tokio::task::spawn_blocking(move || server.terminate()).await.unwrap();
    assert!(status.success());
    let server = installation.start().await;
    let done = wait_until(&server.api, &job, "Succeeded").await;
    assert!(done["result"]["resumedTiles"].as_u64().unwrap() > 0, "{done}");
    assert_eq!(done["attempts"], 0, "nothing was in vain");
}

/// Two processes with a disk each on one database: each does a job; one is killed, the other does both.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_jobs_and_take_over() {
    let place = Place::new();
    let expected = place.predicted("scene.tif", &[]);
    for database in databases().await {
        let artifacts = tempfile::tempdir().unwrap();
        let shared = tempfile::tempdir().unwrap();
        let install = |database: &Database| {
            let mut installation = Installation::on(database);
            let url = installation.database.take();
            let sqlite = || format!("sqlite://{}", shared.path().join("tidegate.db").display());
            installation.database = Some(url.unwrap_or_else(sqlite));
            let location = artifacts.path().display().to_string();
            installation.extra_env.push(("TIDEGATE_ARTIFACTS__LOCATION".to_owned(), location));
            place.allow(&mut installation, &[]);
            installation
        };
        let (one, other) = (install(&database), install(&database));
        let (first, second) = (one.start().await, other.start().await);
        with_model(&first.api, &one, &item(), MODEL).await;
        let body = json!({"modelId": MODEL, "source": place.address("scene.tif")});
        let jobs = [ask(&first.api, &body).await, ask(&second.api, &body).await];
        let mut holders = Vec::new();
        for job in &jobs {
            wait_for_share(&first.api, job, 0.1).await;
            holders.push(holder(&first.api, job).await);
        }
        assert_ne!(holders[0], holders[1], "each does one");

        // Whoever has the first job is killed.
        let (survivor, victim) = match is_replica(&first.api, &holders[0]).await {
            true => (second, first),
            false => (first, second),
        };
        ServerProcess::kill(victim);
        for job in &jobs {
            let done = wait_until(&survivor.api, job, "Succeeded").await;
            assert_same(&expected, &outputs(&survivor.api, job, &done).await);
        }
        assert_ne!(holder(&survivor.api, &jobs[0]).await, holders[0], "another took it over");
        assert_eq!(holder(&survivor.api, &jobs[1]).await, holders[1], "this one was left alone");
        drop(survivor);
        database.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_stops_and_leaves_nothing_and_the_next_one_has_its_turn() {
    let place = Place::new();
    write_scene(&place.path("small.tif"), 300, 300);
    let mut installation = Installation::new();
    place.allow(&mut installation, &[]);
    let server = installation.start().await;
    let api = &server.api;
    with_model(api, &installation, &item(), MODEL).await;
    let options = json!({"tta": true});
    let long = json!({"modelId": MODEL, "source": place.address("scene.tif"), "options": options});
    let running = ask(api, &long).await;
    let waiting = ask(api, &long).await;
    let small = ask(api, &json!({"modelId": MODEL, "source": place.address("small.tif")})).await;
    wait_for_share(api, &running, 0.01).await;
    let answer = api.get(&format!("{running}/outputs/prediction_mask.tif")).await;
    assert_eq!((answer.status, answer.code()), (409, "CONFLICT"), "not yet");
    let refused = reqwest::Client::new().delete(api.url(&running)).send().await.unwrap();
    assert_eq!(refused.status(), 409, "it is not over");
    for job in [&waiting, &running] {
        let cancelled =
            api.post(&format!("{job}/cancel"), &json!({"reason": "wrong scene"})).await.expect(200);
        assert_eq!(cancelled["status"], "Cancelled");
        assert_eq!(api.post(&format!("{job}/cancel"), &json!({})).await.status, 409, "once");
        let events = api.get(&format!("{job}/events")).await.body.to_string();
        assert!(events.contains("wrong scene"), "{events}");
    }
    wait_until(api, &small, "Succeeded").await;
    assert_eq!(api.get(&running).await.body["status"], "Cancelled");
    assert_eq!(files_below(&installation.data_dir().join("jobs")), Vec::<PathBuf>::new());
    // Online requests were answered all the while, and are.
    assert_eq!(api.get("/ready").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_predicted_fails_with_its_reason() {
    let place = Place::new();
    let mut installation = Installation::new();
    place.allow(&mut installation, &[]);
    let server = installation.start().await;
    let api = &server.api;
    with_model(api, &installation, &item(), MODEL).await;
    let whole = scene(300, 300);
    std::fs::write(place.path("cut.tif"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(place.path("text.tif"), "no picture at all").unwrap();
    write_scene(&place.path("fine.tif"), 300, 300);
    std::fs::copy(repository().join("examples/refugee-camp/sample-tile.png"), place.path("tile.png"))
        .unwrap();
    std::fs::write(place.path("nowhere.tif"), without_crs(scene(300, 300))).unwrap();
    let far = json!({"type": "Polygon", "coordinates": [[[1, 1], [2, 1], [2, 2], [1, 1]]]});
    let cases = [
        ("cut.tif", json!({}), "ends too early"),
        ("text.tif", json!({}), "neither a GeoTIFF"),
        ("tile.png", json!({}), "neither a GeoTIFF"),
        ("fine.tif", json!({"aoi": far}), "does not touch"),
        ("nowhere.tif", json!({}), "name it in `options.assumeCrs`"),
        (
            "nowhere.tif",
            json!({"assumeCrs": "none", "aoi": far}),
            "name its reference system in `options.assumeCrs`",
        ),
        ("fine.tif", json!({"gsd": 90_000.0}), "`gsd`"),
    ];
    for (name, options, expected) in cases {
        let body = json!({"modelId": MODEL, "source": place.address(name), "options": options});
        let job = ask(api, &body).await;
        let failed = wait_until(api, &job, "Failed").await;
        let message = failed["errorMessage"].as_str().unwrap();
        assert!(message.contains(expected) && !message.contains("--"), "{name}: {message}");
        assert_eq!(kinds(api, &job).await.last().unwrap(), "failed");
    }
    let refused = json!({"modelId": MODEL, "source": "http://169.254.169.254/latest/meta-data"});
    let answer = api.post("/api/v1/jobs/raster", &refused).await;
    assert_eq!((answer.status, answer.code()), (400, "VALIDATION_ERROR"));
    assert_eq!(answer.body["error"]["details"][0]["field"], "source");
    assert_eq!(files_below(&installation.data_dir().join("jobs")), Vec::<PathBuf>::new());

    // A form whose job is wrong is refused before its scene is taken.
    let bytes = Part::bytes(whole).file_name("scene.tif");
    let job = Part::text(json!({"modelId": MODEL, "options": {"overlap": 9999}}).to_string());
    let answer =
        api.post_form("/api/v1/jobs/raster", Form::new().part("job", job).part("scene", bytes)).await;
    assert_eq!(answer.body["error"]["details"][0]["field"], "options.overlap", "{}", answer.body);
    assert_eq!(files_below(&installation.data_dir().join("artifacts/jobs")), Vec::<PathBuf>::new());

    // Options of scenes are no options of an answer at once.
    let mut command = installation.command();
    command.arg("predict").arg(place.path("fine.tif")).args(["--model", MODEL, "--tta"]);
    command.args(["--server", &api.base]);
    let (success, _, errors) = run(command);
    assert!(!success && errors.contains("tidegate job raster"), "{errors}");
}

/// The tag of the GeoKeys becomes one that nobody knows; the place stays.
fn without_crs(mut scene: Vec<u8>) -> Vec<u8> {
    const SHORT: [u8; 2] = [3, 0];
    let entry = [34_735u16.to_le_bytes(), SHORT].concat();
    let at = scene.windows(4).rposition(|bytes| bytes == entry).expect("the scene names its system");
    scene[at..at + 2].copy_from_slice(&34_999u16.to_le_bytes());
    scene
}

/// Needs a disk that can be filled: `TIDEGATE_TEST_TINY_DISK` names a folder on one of at most a few hundred megabytes.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_the_job_and_gets_its_space_back() {
    let Some(tiny) = crate::setting("TIDEGATE_TEST_TINY_DISK") else {
        println!("skipped: no disk to fill (set TIDEGATE_TEST_TINY_DISK to a folder on a small one)");
        return;
    };
    let tiny = tempfile::tempdir_in(tiny).unwrap();
    let jobs = tiny.path().join("jobs");
    std::fs::create_dir(&jobs).unwrap();
    // Half a megabyte is left: less than the probabilities of the scene.
    let filler = tiny.path().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    file.set_len(file.metadata().unwrap().len() - 512 * 1024).unwrap();

    let place = Place::new();
    let mut installation = Installation::new();
    place.allow(&mut installation, &[]);
    std::fs::create_dir_all(installation.data_dir()).unwrap();
    std::os::unix::fs::symlink(&jobs, installation.data_dir().join("jobs")).unwrap();
    let server = installation.start().await;
    with_model(&server.api, &installation, &item(), MODEL).await;
    let options = json!({"probability": true});
    let body = json!({"modelId": MODEL, "source": place.address("scene.tif"), "options": options});
    let job = ask(&server.api, &body).await;
    let failed = wait_until(&server.api, &job, "Failed").await;
    assert!(failed["errorMessage"].as_str().unwrap().contains("disk of the server is full"), "{failed}");
    server.api.wait_for("/ready", |_| files_below(&jobs).is_empty()).await;
    drop(file);
    std::fs::remove_file(filler).unwrap();
    let job = ask(&server.api, &body).await;
    wait_until(&server.api, &job, "Succeeded").await;
}

/// A file behind HTTP that goes away for a while.
struct Web {
    bytes: Vec<u8>,
    is_down: AtomicBool,
    n_answers: AtomicUsize,
}

async fn serve(State(web): State<Arc<Web>>, request: Request) -> Response {
    if request.uri().path() == "/open/elsewhere.tif" {
        return (http::StatusCode::FOUND, [("location", "/secret/scene.tif")]).into_response();
    }
    if web.is_down.load(Ordering::Relaxed) {
        return http::StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let range = request.headers()["range"].to_str().unwrap().strip_prefix("bytes=").unwrap().to_owned();
    let (first, last) = range.split_once('-').unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    let last = last.min(web.bytes.len() - 1);
    // Goes down by itself in the middle of the scene.
    if web.n_answers.fetch_add(1, Ordering::Relaxed) == 8 {
        web.is_down.store(true, Ordering::Relaxed);
    }
    let content_range = format!("bytes {first}-{last}/{}", web.bytes.len());
    let headers = [
        ("content-range", content_range),
        ("etag", "\"scene\"".to_owned()),
        ("last-modified", "Mon, 23 Nov 2026 12:00:00 GMT".to_owned()),
    ];
    (http::StatusCode::PARTIAL_CONTENT, headers, web.bytes[first..=last].to_vec()).into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_drops_is_waited_for() {
    let place = Place::new();
    let expected = place.predicted("scene.tif", &[]);
    let web = Arc::new(Web {
        bytes: std::fs::read(place.path("scene.tif")).unwrap(),
        is_down: AtomicBool::new(false),
        n_answers: AtomicUsize::new(0),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(serve).with_state(Arc::clone(&web));
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });

    let mut installation = Installation::new();
    place.allow(&mut installation, &[&format!("{base}/open")]);
    let server = installation.start().await;
    let api = &server.api;
    with_model(api, &installation, &item(), MODEL).await;
    let body = |path: &str| json!({"modelId": MODEL, "source": format!("{base}{path}")});
    let refused = api.post("/api/v1/jobs/raster", &body("/secret/scene.tif")).await;
    assert!(refused.body.to_string().contains("outside the places"), "{}", refused.body);

    let job = ask(api, &body("/open/scene.tif?signature=secret")).await;
    let waiting = api.wait_for(&job, |answer| answer.body["attempts"].as_u64() >= Some(1)).await.body;
    assert_eq!(waiting["status"], "Queued", "{waiting}");
    assert!(!waiting.to_string().contains("secret"), "{waiting}");
    web.is_down.store(false, Ordering::Relaxed);
    let done = wait_until(api, &job, "Succeeded").await;
    assert_eq!(done["source"], json!(format!("{base}/open/scene.tif")));
    let outputs = outputs(api, &job, &done).await;
    assert!(outputs["prediction_mask.tif"] == expected["prediction_mask.tif"]);
    assert!(outputs["prediction_polygons.geojson"] == expected["prediction_polygons.geojson"]);

    // What leads elsewhere is not followed.
    let job = ask(api, &body("/open/elsewhere.tif")).await;
    let waiting = api.wait_for(&job, |answer| answer.body["attempts"].as_u64() >= Some(1)).await.body;
    assert_eq!(waiting["result"], Value::Null);
    let events = api.get(&format!("{job}/events")).await.body.to_string();
    assert!(events.contains("302"), "{events}");
    api.post(&format!("{job}/cancel"), &json!({})).await.expect(200);
    serving.abort();
}

/// A job of long ago, in the store of a server that was off for a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_over_for_long_is_deleted_with_its_files() {
    let place = Place::new();
    write_scene(&place.path("small.tif"), 300, 300);
    for database in databases().await {
        let mut installation = Installation::on(&database);
        place.allow(&mut installation, &[]);
        installation.extra_env.push(("TIDEGATE_JOBS__RETENTION_DAYS".to_owned(), "3".to_owned()));
        let server = installation.start().await;
        with_model(&server.api, &installation, &item(), MODEL).await;
        let body = json!({"modelId": MODEL, "source": place.address("small.tif")});
        let fresh = ask(&server.api, &body).await;
        let done = wait_until(&server.api, &fresh, "Succeeded").await;
        let now: Timestamp = done["completedAt"].as_str().unwrap().parse().unwrap();
        let model = ModelId::new(done["modelId"].as_str().unwrap());
        server.kill();

        let sqlite = format!("sqlite://{}", installation.data_dir().join("tidegate.db").display());
        let store = Store::connect(&database.url().unwrap_or(sqlite)).await.unwrap();
        let artifacts = installation.data_dir().join("artifacts/jobs");
        for (id, days_ago) in [("job-of-old", 4), ("job-of-late", 2)] {
            let at = now - SignedDuration::from_hours(24 * days_ago);
            store_ended_job(&store, &model, id, at).await;
            std::fs::create_dir_all(artifacts.join(id).join("outputs")).unwrap();
            std::fs::write(artifacts.join(id).join("outputs/prediction_mask.tif"), "mask").unwrap();
        }
        drop(store);
        let server = installation.start().await;
        server.api.wait_for("/api/v1/jobs/job-of-old", |answer| answer.status == 404).await;
        server.api.wait_for("/ready", |_| !artifacts.join("job-of-old").exists()).await;
        assert!(artifacts.join("job-of-late/outputs/prediction_mask.tif").is_file());
        assert_eq!(server.api.get("/api/v1/jobs").await.body["total"], 2);
        outputs(&server.api, &fresh, &done).await;
        drop(server);
        database.stop().await;
    }
}

async fn store_ended_job(store: &Store, model_id: &ModelId, id: &str, at: Timestamp) {
    let event = NewEvent { at, kind: "told".to_owned(), message: String::new(), evidence: Value::Null };
    let job = NewJob {
        id: JobId::new(id),
        kind: "raster",
        model_id: model_id.clone(),
        environment: Environment::Production,
        request: Value::Null,
        requested_by: "ana".to_owned(),
        created_at: at,
    };
    assert!(store.jobs.create(&job, &event, 10).await.unwrap());
    let (_, hold) = store.jobs.take("of old", at, SignedDuration::from_secs(10)).await.unwrap().unwrap();
    let end = JobEnd::Failed { reason: "no".to_owned() };
    assert!(store.jobs.end(&hold, &end, at, &event).await.unwrap());
}

/// Scenes in one place of a bucket, artifacts in another; asked for and fetched by the command line.
#[tokio::test(flavor = "multi_thread")]
async fn a_scene_in_s3_gives_what_it_gives_at_home() {
    let Some(s3) = s3::Server::start() else { return };
    let run_id = format!("jobs-{}", std::process::id());
    let (scenes, artifacts) = (format!("{run_id}/scenes"), format!("{run_id}/artifacts"));
    let place = Place::new();
    write_scene(&place.path("small.tif"), 500, 700);
    let flags = ["--probability", "--polygons", "geojson,fgb"];
    let expected = place.predicted("small.tif", &flags);
    let scene = std::fs::read(place.path("small.tif")).unwrap();
    let bucket = s3.store(&scenes);
    let pieces = scene.chunks(64 << 10).map(|piece| Ok(bytes::Bytes::copy_from_slice(piece)));
    bucket.put("2026/small.tif", futures::stream::iter(pieces), u64::MAX).await.unwrap();

    let mut installation = Installation::new();
    installation.on_s3(&s3);
    let address = |prefix: &str| format!("s3://{}/{prefix}", s3::BUCKET);
    let location = ("TIDEGATE_ARTIFACTS__LOCATION".to_owned(), address(&artifacts));
    let sources = ("TIDEGATE_JOBS__SOURCES".to_owned(), json!([address(&scenes)]).to_string());
    installation.extra_env.extend([location, sources]);
    let server = installation.start().await;
    let api = &server.api;
    with_model(api, &installation, &item(), MODEL).await;
    let small = place.path("small.tif").display().to_string();
    for (scene, folder) in [(address(&format!("{scenes}/2026/small.tif")), "addressed"), (small, "uploaded")]
    {
        let mut command = installation.command();
        command.args(["job", "raster", &scene, "--model", MODEL]).args(flags);
        command.args(["--output-dir", folder, "--server", &api.base]);
        let (success, output, errors) = run(command);
        assert!(success && output.contains("polygons by refugee-camp-detector 1.0.0"), "{output}\n{errors}");
        let mut fetched = read_files(&installation.folder.path().join(folder));
        if folder == "addressed" {
            // It says where the scene lies; a scene that is read by ranges has no digest.
            let item = json_of(&fetched["prediction_item.json"]);
            assert!(item.to_string().contains("/scenes/2026/small.tif"), "{item}");
            fetched.insert("prediction_item.json".to_owned(), expected["prediction_item.json"].clone());
        }
        assert_same(&expected, &fetched);
    }

    // By ranges, out of the bucket.
    let listed = api.get("/api/v1/jobs").await.expect(200);
    let jobs: Vec<_> = listed["jobs"].as_array().unwrap().iter().collect();
    let job = |job: &Value| format!("/api/v1/jobs/{}", job["jobId"].as_str().unwrap());
    let mask = format!("{}/outputs/prediction_mask.tif", job(jobs[0]));
    let middle = (206, expected["prediction_mask.tif"][4..20].to_vec());
    assert_eq!(download(api, &mask, Some("bytes=4-19")).await, middle);

    // Elsewhere in the bucket nothing is read; what is not there is said to be so.
    let refused = json!({"modelId": MODEL, "source": address(&format!("{artifacts}/jobs/x"))});
    let answer = api.post("/api/v1/jobs/raster", &refused).await;
    assert_eq!(answer.body["error"]["details"][0]["field"], "source", "{}", answer.body);
    let absent = json!({"modelId": MODEL, "source": address(&format!("{scenes}/absent.tif"))});
    let failed = wait_until(api, &ask(api, &absent).await, "Failed").await;
    assert_eq!(failed["errorMessage"], "the scene cannot be read: there is nothing at `absent.tif`");

    // The uploaded scene is gone with its job; deleted, nothing is left of the others; the source stays.
    let store = s3.store(&artifacts);
    let kept = store.list("jobs").await.unwrap();
    assert!(kept.iter().all(|kept| !kept.key.contains("/scene/")), "{kept:?}");
    assert_eq!(kept.len(), 2 * expected.len());
    for record in jobs {
        let deleted = reqwest::Client::new().delete(api.url(&job(record))).send().await.unwrap();
        assert_eq!(deleted.status(), 204);
    }
    assert_eq!(store.list("jobs").await.unwrap().len(), 0);
    assert_eq!(bucket.list("").await.unwrap().len(), 1);
    s3.store("").delete_prefix(&run_id).await.unwrap();
}

/// The real model on real imagery, byte by byte.
#[tokio::test(flavor = "multi_thread")]
async fn banepa_on_a_server_is_banepa_at_home() {
    let Some(data) = shared_data() else { return };
    let item = data.join("banepa/model/1.0.0/stac_item.json");
    let scene = data.join("banepa/validation.tif");
    let home = Installation { engine: "auto", ..Installation::new() };
    let mut predict = home.command();
    predict.arg("predict").arg(&scene).arg("--stac").arg(&item).args(["--output-dir", "out"]);
    let (success, output, errors) = run(predict);
    assert!(success, "{output}\n{errors}");

    let mut installation = Installation { engine: "auto", ..Installation::new() };
    let sources = json!([data.join("banepa").display().to_string()]).to_string();
    installation.extra_env.push(("TIDEGATE_JOBS__SOURCES".to_owned(), sources));
    let server = installation.start().await;
    with_model(&server.api, &installation, &item, "building-segmenter").await;
    let address = url::Url::from_file_path(scene.canonicalize().unwrap()).unwrap();
    let body = json!({"modelId": "building-segmenter", "source": address.as_str()});
    let job = ask(&server.api, &body).await;
    let done = wait_until(&server.api, &job, "Succeeded").await;
    let outputs = outputs(&server.api, &job, &done).await;
    for (name, bytes) in outputs {
        let at_home = std::fs::read(home.folder.path().join("out").join(&name)).unwrap();
        assert!(comparable(&name, at_home) == bytes, "{name} is another");
    }
}
