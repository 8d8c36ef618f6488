//! The command line, by somebody in a hurry.

use crate::support::{Installation, run};

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
