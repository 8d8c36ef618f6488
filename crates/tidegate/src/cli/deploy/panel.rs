//! A deployment at a glance: some lines for a terminal, made of what `/progress` says. Pure, so that it can be read in tests.

mod metrics;

use console::style;
use serde_json::Value;
use tidegate_core::Timestamp;

/// Cells of the bar of shares.
const BAR: usize = 24;

/// A span that is over.
const NOW: &str = "0:00";

/// Narrower terminals wrap; wider ones leave the rest empty.
const NARROWEST: usize = 40;

/// The lines, none wider than `width`.
pub fn panel(progress: &Value, now: Timestamp, width: usize) -> Vec<String> {
    let view = View { progress, deployment: &progress["deployment"], now };
    let mut lines = vec![String::new(), view.title()];
    lines.push(view.phase());
    lines.extend([view.traffic(), view.time()].into_iter().flatten());
    lines.extend(view.requests());
    lines.extend(view.servers());
    lines.extend(metrics::lines(progress, view.versions()));
    lines.extend(view.hint());
    lines.iter().map(|line| cut(line, width.max(NARROWEST))).collect()
}

struct View<'a> {
    progress: &'a Value,
    deployment: &'a Value,
    now: Timestamp,
}

impl<'a> View<'a> {
    fn text(&self, key: &str) -> &'a str {
        self.deployment[key].as_str().unwrap_or("?")
    }

    /// The running version, or what ran before, and the new one.
    fn versions(&self) -> (&'a str, &'a str) {
        (self.deployment["previousVersion"].as_str().unwrap_or("none"), self.text("version"))
    }

    fn title(&self) -> String {
        let what = format!("{} {}", self.text("modelName"), self.text("version"));
        let how = format!("to {} by {}", self.text("environment"), self.text("strategy"));
        format!("{} {how}, {}", style(what).bold(), self.text("deploymentId"))
    }

    fn phase(&self) -> String {
        let words = self.progress["description"].as_str().unwrap_or_else(|| self.text("status"));
        let words = match self.text("status") {
            "Active" => style(words).green(),
            "Failed" | "RolledBack" => style(words).red(),
            _ => style(words).cyan(),
        };
        let paused = match self.deployment["pausedAt"].as_str() {
            Some(_) => format!(", {}", style("paused: nothing moves forward and no time runs").yellow()),
            None => String::new(),
        };
        format!("  {words}{paused}")
    }

    /// `traffic    2.0.0 ██████░░░░ 1.0.0   25 % / 75 %`
    fn traffic(&self) -> Option<String> {
        let arms = self.progress["traffic"].as_array()?;
        let (previous, candidate) = self.versions();
        let share_of = |version: &str| {
            let arm = arms.iter().find(|arm| arm["version"] == version);
            arm.and_then(|arm| arm["percentage"].as_f64()).unwrap_or(0.0)
        };
        if arms.is_empty() {
            return Some(row("traffic", "nobody answers"));
        }
        // While it goes over the servers, a caller meets it by the server that it reaches.
        let share = match self.text("phase") {
            "Rolling" => self.deployment["trafficPercentage"].as_f64().unwrap_or(0.0),
            _ => share_of(candidate),
        };
        // A deployment long over may find versions at work that it never heard of.
        let other = arms.iter().filter_map(|arm| arm["version"].as_str()).find(|arm| *arm != candidate);
        let other = other.unwrap_or(previous);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a bar")]
        let filled = ((share / 100.0 * BAR as f64).round() as usize).min(BAR);
        let bar = format!("{}{}", "█".repeat(filled), "░".repeat(BAR - filled));
        let shares = format!("{} % / {} %", round(share), round(100.0 - share));
        Some(row("traffic", &format!("{candidate} {bar} {other}   {shares}")))
    }

    fn time(&self) -> Option<String> {
        let left = |key: &str| {
            let at: Timestamp = self.progress[key].as_str()?.parse().ok()?;
            Some(span(at.duration_since(self.now).as_secs()))
        };
        let phase = self.text("phase");
        if !self.deployment["pausedAt"].is_null() {
            return None;
        }
        let first = left("notBefore").map(|left| match phase {
            "Shifting" if left == NOW => "next step as soon as it passes".to_owned(),
            "Shifting" => format!("next step in {left} at the earliest"),
            "Shadowing" if left == NOW => "over as soon as there is a verdict".to_owned(),
            "Shadowing" => format!("watched for {left} at least"),
            "Rolling" => format!("servers looked at in {left}"),
            "Watching" => format!("watched for another {left}"),
            _ => format!("previous version unloaded in {left}"),
        });
        let last = left("deadline").map(|left| match phase {
            "Testing" => format!("over in {left}, then without a winner"),
            "Shadowing" | "AwaitingPromotion" => format!("let go of in {left}"),
            "Loading" | "Restoring" => format!("given up in {left}"),
            _ => format!("back in {left} without a verdict"),
        });
        let parts: Vec<String> = first.into_iter().chain(last).collect();
        (!parts.is_empty()).then(|| row("time", &parts.join(", ")))
    }

    /// Of the last look, where that was of this phase; labels where there are any.
    fn requests(&self) -> Vec<String> {
        let look = &self.progress["lastLook"];
        if !is_current(self.progress) {
            return Vec::new();
        }
        let (previous, candidate) = self.versions();
        let count = |arm: &str, what: &str| look[arm][what].as_u64().unwrap_or(0);
        let answered = |arm: &str| {
            format!("{} ({} failed)", thousands(count(arm, "requests")), thousands(count(arm, "failures")))
        };
        let labelled = |arm: &str| thousands(count(arm, "labelled"));
        let both = |label: &str, of_candidate: String, of_baseline: String| {
            row(label, &format!("{candidate} {of_candidate}, {previous} {of_baseline}"))
        };
        let mut rows = vec![both("requests", answered("candidate"), answered("baseline"))];
        if count("candidate", "labelled") + count("baseline", "labelled") > 0 {
            rows.push(both("labelled", labelled("candidate"), labelled("baseline")));
        }
        rows
    }

    fn servers(&self) -> Vec<String> {
        let replicas = self.progress["lastLook"]["replicas"].as_array().map_or(&[][..], Vec::as_slice);
        let line = |replica: &Value| {
            let id = replica["replicaId"].as_str().unwrap_or("?");
            let state = match (&replica["fault"], &replica["hasMoved"], &replica["servesCandidate"]) {
                (Value::String(fault), ..) => style(fault.clone()).red(),
                (_, Value::Bool(true), Value::Bool(true)) => {
                    style("answers with the new version".to_owned()).green()
                }
                (_, Value::Bool(true), _) => style("was told to move, has not yet".to_owned()).yellow(),
                _ => style("has yet to move".to_owned()).dim(),
            };
            row("server", &format!("{id} {state}"))
        };
        if is_current(self.progress) { replicas.iter().map(line).collect() } else { Vec::new() }
    }

    fn hint(&self) -> Option<String> {
        let id = self.text("deploymentId");
        let verb = match (self.text("phase"), self.deployment["pausedAt"].is_null()) {
            ("AwaitingApproval", _) => "approve",
            ("AwaitingPromotion", _) => "promote",
            (_, false) => "resume",
            _ => return None,
        };
        Some(row("next", &format!("tidegate {verb} {id}")))
    }
}

/// Whether the last look belongs to what is going on, or, at the end, to what there was.
fn is_current(progress: &Value) -> bool {
    let (look, deployment) = (&progress["lastLook"], &progress["deployment"]);
    if look.is_null() {
        return false;
    }
    let status = deployment["status"].as_str().unwrap_or_default();
    if matches!(status, "Active" | "Failed" | "RolledBack" | "Cancelled") {
        return true;
    }
    let time = |value: &Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    look["phase"] == deployment["phase"] && time(&progress["since"]) <= time(&look["at"])
}

/// A label and what it is a label of.
fn row(label: &str, text: &str) -> String {
    format!("  {label:<10} {text}")
}

/// `0:05`, `12:40`, `3:02:10`, `6 days`; never less than nothing.
fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match hours {
        0 => format!("{minutes}:{:02}", seconds % 60),
        1..48 => format!("{hours}:{:02}:{:02}", minutes % 60, seconds % 60),
        _ => format!("{} days", hours / 24),
    }
}

fn round(share: f64) -> f64 {
    (share * 10.0).round() / 10.0
}

/// `12,345`
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// At most `width` columns; colours take none.
fn cut(line: &str, width: usize) -> String {
    console::truncate_str(line, width, "…").into_owned()
}

#[cfg(test)]
mod tests;
