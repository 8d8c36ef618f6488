//! The list of operators in docs/torchscript.md is the one in the code.

use tidegate_torchscript::supported_operators;

use crate::support::repository;

const BEGIN: &str = "<!-- operators: begin (written from the code; a test compares) -->\n";
const END: &str = "<!-- operators: end -->";

#[test]
fn the_documented_operators_are_those_of_the_code() {
    let path = repository().join("docs/torchscript.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (_, rest) = text.split_once(BEGIN).expect("the begin mark is in docs/torchscript.md");
    let (listed, _) = rest.split_once(END).expect("the end mark is in docs/torchscript.md");
    let row = |(family, operators): &(&str, Vec<String>)| {
        let names: Vec<_> =
            operators.iter().map(|name| format!("`{}`", name.trim_start_matches("aten::"))).collect();
        format!("| {family} | {} |\n", names.join(", "))
    };
    let rows: String = supported_operators().iter().map(row).collect();
    let expected = format!("\n| family | operators |\n|---|---|\n{rows}\n");
    assert!(listed == expected, "put this between the marks of docs/torchscript.md:\n{expected}");
}
