//! The command line, by somebody in a hurry.

use crate::support::{Installation, fixture, run};

#[test]
fn the_clients_variable_does_not_keep_a_server_from_starting_and_a_typo_is_named() {
    let url = ("TIDEGATE_URL".to_owned(), "http://127.0.0.1:5000".to_owned());
    let installation = Installation { extra_env: vec![url], ..Installation::new() };
    let mut command = installation.command();
    command.arg("config");
    let (success, output, errors) = run(command);
    assert!(success && output.contains("[server]"), "{output}{errors}");

    let mut command = installation.command();
    command.arg("config").env("TIDEGATE_SERVER__LISTENN", "127.0.0.1:1");
    let (success, _, errors) = run(command);
    assert!(!success && errors.contains("TIDEGATE_SERVER__LISTENN"), "{errors}");
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    let installation = Installation::new();
    let nobody = "http://127.0.0.1:9";
    let cases: [(&[&str], &str); 5] = [
        (&["model", "list", "--server", nobody], "start one with `tidegate serve`"),
        (&["model", "register", "--stac", "no/such/item.json", "--server", nobody], "no/such/item.json"),
        (&["predict", "no-such.png", "--stac", "item.json"], "item.json"),
        (&["config", "--config", "no-such.toml"], "no-such.toml"),
        (&["demo", "--example", "no-such-folder"], "--example"),
    ];
    for (arguments, expected) in cases {
        let mut command = installation.command();
        command.args(arguments);
        let (success, _, errors) = run(command);
        assert!(
            !success && errors.starts_with("error: ") && errors.contains(expected),
            "{arguments:?}: {errors}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_are_whole_and_a_rollback_by_name_stays_in_the_servers_environment() {
    let installation = Installation::new();
    let server = installation.start().await;
    let api = &server.api;
    for index in 0..105 {
        api.register(&format!("m{index}"), "1.0.0", "model.onnx", fixture("linear.onnx")).await.expect(201);
    }
    let said = |arguments: &[&str]| {
        let mut command = installation.command();
        command.args(arguments).args(["--server", &server.api.base]);
        run(command)
    };
    let (success, output, _) = said(&["model", "list"]);
    assert!(success);
    assert_eq!(output.lines().count(), 106, "a title and every model");

    for k in [1, 2, 3] {
        let bytes = fixture(&format!("version-{k}.onnx"));
        api.register("counter", &format!("{k}.0.0"), "model.onnx", bytes).await.expect(201);
    }
    api.deploy("counter", "1.0.0").await;
    api.deploy("counter", "2.0.0").await;
    let (success, output, errors) =
        said(&["deploy", "counter", "--version", "3.0.0", "--environment", "Staging"]);
    assert!(success, "{output}{errors}");
    let (success, output, errors) = said(&["rollback", "counter"]);
    assert!(
        success && output.contains("1.0.0 serves"),
        "Production went back, not Staging: {output}{errors}"
    );
    let (success, _, errors) = said(&["rollback", "counter"]);
    assert!(!success && errors.contains("force"), "there is nothing before 1.0.0: {errors}");
}
