//! The OpenAPI document and the pages around it.

use std::collections::HashSet;

use http::StatusCode;
use serde_json::Value;

use crate::support::App;

/// What this release answers to. A route that is missing in the document, or one more, fails.
const PATHS: &[(&str, &[&str])] = &[
    ("/api/v1/models", &["get", "post"]),
    ("/api/v1/models/{model}", &["delete", "get"]),
    ("/api/v1/models/{model}/versions", &["get"]),
    ("/api/v1/models/{model}/versions/{version}", &["get"]),
    ("/api/v1/models/{model}/versions/{version}/stac", &["get"]),
    ("/api/v1/models/{model}/versions/{version}/artifacts/{name}", &["get"]),
    ("/api/v1/deployments", &["get", "post"]),
    ("/api/v1/deployments/{id}", &["get"]),
    ("/api/v1/deployments/{id}/events", &["get"]),
    ("/api/v1/deployments/{id}/progress", &["get"]),
    ("/api/v1/deployments/{id}/rollback", &["post"]),
    ("/api/v1/deployments/{id}/cancel", &["post"]),
    ("/api/v1/deployments/{id}/approve", &["post"]),
    ("/api/v1/deployments/{id}/promote", &["post"]),
    ("/api/v1/deployments/{id}/pause", &["post"]),
    ("/api/v1/deployments/{id}/resume", &["post"]),
    ("/api/v1/inference/{model}", &["post"]),
    ("/api/v1/inference/{model}/batch", &["post"]),
    ("/api/v1/inference/{model}/feedback", &["post"]),
    ("/api/v1/inference/{model}/status", &["get"]),
    ("/api/v1/jobs", &["get"]),
    ("/api/v1/jobs/raster", &["post"]),
    ("/api/v1/jobs/{id}", &["delete", "get"]),
    ("/api/v1/jobs/{id}/cancel", &["post"]),
    ("/api/v1/jobs/{id}/events", &["get"]),
    ("/api/v1/jobs/{id}/outputs/{name}", &["get"]),
    ("/api/v1/server", &["get"]),
    ("/api/v1/replicas", &["get"]),
    ("/v2", &["get"]),
    ("/v2/health/live", &["get"]),
    ("/v2/health/ready", &["get"]),
    ("/v2/models/{model}", &["get"]),
    ("/v2/models/{model}/ready", &["get"]),
    ("/v2/models/{model}/infer", &["post"]),
    ("/stac", &["get"]),
    ("/stac/conformance", &["get"]),
    ("/stac/collections", &["get"]),
    ("/stac/collections/{model}", &["get"]),
    ("/stac/collections/{model}/items", &["get"]),
    ("/stac/collections/{model}/items/{id}", &["get"]),
    ("/stac/search", &["get", "post"]),
];

#[tokio::test]
async fn the_document_is_whole_and_its_references_lead_somewhere() {
    let app = App::start().await;
    let document = app.get("/openapi.json").await.json();
    assert_eq!(document, serde_json::to_value(tidegate_api::openapi()).unwrap());
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(document["info"]["title"], "Tidegate");
    let paths = document["paths"].as_object().unwrap();
    for (path, methods) in PATHS {
        let operations = paths.get(*path).unwrap_or_else(|| panic!("{path} is not documented"));
        let mut found: Vec<_> = operations.as_object().unwrap().keys().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(found, *methods, "{path}");
    }
    assert_eq!(paths.len(), PATHS.len() + 2, "and /health and /ready");
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().unwrap() {
            check_operation(path, method, operation);
        }
    }
    let operations = paths.values().flat_map(|path| path.as_object().unwrap().values());
    let ids: Vec<_> = operations.map(|operation| operation["operationId"].as_str().unwrap()).collect();
    let distinct: HashSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len(), "operation ids are unique");
    for reference in references(&document) {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

#[track_caller]
fn check_operation(path: &str, method: &str, operation: &Value) {
    let at = format!("{method} {path}");
    assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{at} says what it does");
    assert!(operation["responses"].as_object().is_some_and(|responses| !responses.is_empty()), "{at}");
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let in_path = |name: &str| {
        parameters.iter().any(|parameter| parameter["name"] == name && parameter["in"] == "path")
    };
    for name in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
        assert!(in_path(name), "{at} describes `{name}`");
    }
}

fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) => members
            .iter()
            .flat_map(|(key, member)| match (key.as_str(), member) {
                ("$ref", Value::String(reference)) => vec![reference.clone()],
                _ => references(member),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => vec![],
    }
}

#[tokio::test]
async fn swagger_is_served_from_the_binary() {
    let app = App::start().await;
    let root = app.get("/").await;
    assert_eq!((root.status, root.header("location")), (StatusCode::TEMPORARY_REDIRECT, "/swagger/"));
    let page = app.get("/swagger/").await;
    assert!(page.text().contains("swagger-ui"), "{}", page.text());
    assert_eq!(app.get("/swagger/swagger-ui-bundle.js").await.status, StatusCode::OK);
    app.get("/swagger/none.js").await.check(404, "NOT_FOUND", "");
    assert!(!page.text().contains("http://") && !page.text().contains("https://"), "nothing from elsewhere");
}
