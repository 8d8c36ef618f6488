//! Shows what a follower tells: on a terminal the log with a panel below it, elsewhere the log alone.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use tidegate_core::Clock;

use super::follow::News;
use super::panel::panel;
use crate::cli::say;
use crate::clock::SystemClock;

/// Whether the lines of the log say when.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Times {
    Shown,
    Hidden,
}

pub struct Teller {
    times: Times,
    /// What is redrawn in place, on a terminal.
    live: Option<ProgressBar>,
    /// The server has stopped answering, and that was said.
    is_silent: bool,
}

impl Teller {
    pub fn new(times: Times) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
        let style = ProgressStyle::with_template("{msg}");
        let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        // Where nothing can be redrawn, the bar would swallow the log as well.
        let live = Some(bar).filter(|bar| !bar.is_hidden());
        Self { times, live, is_silent: false }
    }

    pub fn tell(&mut self, news: &News<'_>) {
        match news {
            News::Event(event) => {
                for line in event_lines(event, self.times) {
                    self.line(&line);
                }
            }
            News::Progress(progress) => {
                if std::mem::take(&mut self.is_silent) {
                    self.line("the server answers again");
                }
                if let Some(live) = &self.live {
                    let width = usize::from(console::Term::stdout().size().1);
                    live.set_message(panel(progress, SystemClock.now(), width).join("\n"));
                    live.tick();
                }
            }
            News::Silence(error) => {
                if !std::mem::replace(&mut self.is_silent, true) {
                    self.line(&format!("no answer ({error:#}); asking again"));
                }
            }
        }
    }

    /// Leaves the panel as it was last.
    pub fn finish(&self) {
        if let Some(live) = &self.live {
            live.abandon();
        }
    }

    fn line(&self, line: &str) {
        match &self.live {
            Some(live) => live.println(line),
            None => say(line),
        }
    }
}

/// One event in a line, and under it the checks of a validation that are worth reading.
fn event_lines(event: &Value, times: Times) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&event["kind"]);
    let checks = event["evidence"]["checks"].as_array().map_or(&[][..], Vec::as_slice);
    let has_failed = kind == "failed" && !checks.is_empty();
    let message = if has_failed { "validation failed".to_owned() } else { text(&event["message"]) };
    let time = match times {
        Times::Shown => format!("{}  ", clock_time(event["at"].as_str().unwrap_or_default())),
        Times::Hidden => "  ".to_owned(),
    };
    let mut lines = vec![format!("{time}{kind:<11} {message}")];
    for check in checks {
        let name = text(&check["name"]);
        let is_compared = matches!(name.as_str(), "sample" | "accuracy" | "latency" | "precision");
        if has_failed || (kind == "validated" && is_compared) {
            let verdict = if check["passed"] == json!(true) { "passed" } else { "FAILED" };
            lines.push(format!("    {verdict}  {name:<9} {}", text(&check["detail"])));
        }
    }
    lines
}

/// `2026-11-25T03:12:45.123Z`, to the second.
fn clock_time(at: &str) -> String {
    let seconds = at.split('.').next().unwrap_or(at).trim_end_matches('Z');
    format!("{seconds}Z")
}
