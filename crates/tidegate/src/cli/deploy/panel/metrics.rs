//! How each metric stands: both versions' values, the verdict, how much worse the new one is, and what is
//! allowed. Eighty columns hold it.

use console::{StyledObject, style};
use serde_json::Value;

use super::{is_current, row};

const NAME: usize = 18;
const VALUE: usize = 10;

/// A table of the last look; nothing where nothing is compared.
pub(super) fn lines(progress: &Value, (previous, candidate): (&str, &str)) -> Vec<String> {
    let look = &progress["lastLook"];
    if !is_current(progress) {
        return Vec::new();
    }
    let metrics = look["analysis"]["metrics"].as_array().map_or(&[][..], Vec::as_slice);
    let mut lines: Vec<String> = metrics.iter().map(metric_line).collect();
    lines.extend(contest_line(&look["comparison"]));
    if !lines.is_empty() {
        let title = format!("{}        worse by, of what is allowed", cells("metric", candidate, previous));
        lines.insert(0, style(title).dim().to_string());
    }
    let undecided = look["analysis"]["verdict"] == "inconclusive";
    if let Some(summary) = look["analysis"]["summary"].as_str().filter(|_| undecided && metrics.is_empty()) {
        lines.push(row("evidence", summary));
    }
    lines
}

/// How a metric's numbers are written.
struct Unit {
    value: fn(f64) -> String,
    /// Of the interval and its threshold.
    change: fn(f64) -> String,
    /// Behind the threshold.
    of_changes: &'static str,
}

const PERCENT: fn(f64) -> String = |share| format!("{:.2} %", share * 100.0);
const POINTS: fn(f64) -> String = |share| format!("{:+.2}", share * 100.0);

fn unit(metric: &str) -> Unit {
    match metric {
        "errorRate" => Unit { value: PERCENT, change: POINTS, of_changes: " points" },
        "accuracy" => Unit { value: PERCENT, change: POINTS, of_changes: " %" },
        "predictionDifference" => Unit { value: PERCENT, change: POINTS, of_changes: " %" },
        "latencyP50" | "latencyP95" => Unit {
            value: |ms| format!("{ms:.2} ms"),
            change: |factor| format!("x{factor:.2}"),
            of_changes: "",
        },
        _ => Unit {
            value: |value| format!("{value:.4}"),
            change: |change| format!("{change:+.4}"),
            of_changes: "",
        },
    }
}

fn name(metric: &str) -> String {
    match metric {
        "errorRate" => "error rate".to_owned(),
        "latencyP50" => "median latency".to_owned(),
        "latencyP95" => "p95 latency".to_owned(),
        "predictionDifference" => "predictions differ".to_owned(),
        other => other.replace(':', " of "),
    }
}

fn metric_line(metric: &Value) -> String {
    let key = metric["metric"].as_str().unwrap_or("?");
    let unit = unit(key);
    let value = |which: &str| metric[which].as_f64().map_or_else(|| "-".to_owned(), unit.value);
    let change = |value: &Value| value.as_f64().map_or_else(|| "?".to_owned(), unit.change);
    let bounds = match &metric["interval"] {
        Value::Array(ends) if ends.len() == 2 => {
            let (near, far, most) = (change(&ends[0]), change(&ends[1]), change(&metric["threshold"]));
            format!("{near} to {far} of {most}{}", unit.of_changes)
        }
        _ => "nothing known yet".to_owned(),
    };
    let cells = cells(&name(key), &value("candidate"), &value("baseline"));
    format!("{cells}  {}  {bounds}", verdict(&metric["verdict"]))
}

fn verdict(verdict: &Value) -> StyledObject<&'static str> {
    match verdict.as_str() {
        Some("pass") => style("pass").green(),
        Some("fail") => style("FAIL").red().bold(),
        _ => style("open").yellow(),
    }
}

/// The contest of an A/B test; accuracies are at most 1, latencies in milliseconds.
fn contest_line(comparison: &Value) -> Option<String> {
    let end = |value: &Value| value.as_f64().map_or_else(|| "?".to_owned(), |ratio| format!("x{ratio:.3}"));
    let ends = comparison["interval"].as_array().filter(|ends| ends.len() == 2)?;
    let value =
        |which: &str| comparison[which].as_f64().map_or_else(|| "-".to_owned(), |v| format!("{v:.4}"));
    let result = match &comparison["result"] {
        Value::Object(winner) if winner["winner"] == "B" => style("the new one won").green(),
        Value::Object(_) => style("the running one won").red(),
        Value::String(result) if result == "none" => style("alike").yellow(),
        _ => style("open").yellow(),
    };
    let cells = cells("contest", &value("b"), &value("a"));
    Some(format!("{cells}  {result}  {} to {} of the other", end(&ends[0]), end(&ends[1])))
}

fn cells(name: &str, candidate: &str, previous: &str) -> String {
    format!("  {name:<NAME$} {candidate:>VALUE$} {previous:>VALUE$}")
}
