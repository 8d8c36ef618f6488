use serde_json::json;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn canary() -> Value {
    json!({
        "deployment": {
            "deploymentId": "deploy-1", "modelName": "counter", "version": "2.0.0", "previousVersion": "1.0.0",
            "environment": "Production", "strategy": "Canary", "status": "Deploying", "phase": "Shifting",
            "pausedAt": null, "trafficPercentage": 25,
        },
        "description": "step 2 of 4: compared at 25 % of the traffic",
        "since": at(0), "notBefore": at(65), "deadline": at(3600),
        "traffic": [{"version": "1.0.0", "percentage": 75.0}, {"version": "2.0.0", "percentage": 25.0}],
        "lastLook": {
            "at": at(3), "phase": "Shifting",
            "baseline": {"requests": 12345, "failures": 0, "labelled": 0},
            "candidate": {"requests": 1302, "failures": 1, "labelled": 40},
            "analysis": {"verdict": "inconclusive", "summary": "...", "metrics": [
                {"metric": "errorRate", "verdict": "pass", "baseline": 0.0, "candidate": 0.0008,
                 "interval": [-0.001, 0.009], "threshold": 0.01},
                {"metric": "latencyP95", "verdict": "fail", "baseline": 0.1, "candidate": 0.25,
                 "interval": [2.1, null], "threshold": 1.5},
                {"metric": "iou", "verdict": "inconclusive", "baseline": 0.8, "candidate": null,
                 "interval": null, "threshold": 0.05},
            ]},
        },
    })
}

/// Without colours, as into a file.
fn plain(progress: &Value, now: i64, width: usize) -> Vec<String> {
    let lines = panel(progress, at(now), width);
    lines.iter().map(|line| console::strip_ansi_codes(line).trim_end().to_owned()).collect()
}

#[test]
fn a_canary_at_a_glance_on_eighty_columns() {
    let expected = "
counter 2.0.0 to Production by Canary, deploy-1
  step 2 of 4: compared at 25 % of the traffic
  traffic    2.0.0 ██████░░░░░░░░░░░░░░░░░░ 1.0.0   25 % / 75 %
  time       next step in 1:00 at the earliest, back in 59:55 without a verdict
  requests   2.0.0 1,302 (1 failed), 1.0.0 12,345 (0 failed)
  labelled   2.0.0 40, 1.0.0 0
  metric                  2.0.0      1.0.0        worse by, of what is allowed
  error rate             0.08 %     0.00 %  pass  -0.10 to +0.90 of +1.00 points
  p95 latency           0.25 ms    0.10 ms  FAIL  x2.10 to ? of x1.50
  iou                         -     0.8000  open  nothing known yet";
    assert_eq!(plain(&canary(), 5, 80).join("\n"), expected);
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in [0, 40, 61, 80] {
        for line in plain(&canary(), 5, width) {
            assert!(line.chars().count() <= width.max(NARROWEST), "{width}: {line}");
        }
    }
}

#[test]
fn what_was_seen_before_the_step_began_is_not_shown_but_at_the_end_all_is() {
    let mut progress = canary();
    progress["since"] = json!(at(4));
    let shows = |progress: &Value, what: &str| plain(progress, 5, 120).join("\n").contains(what);
    assert!(!shows(&progress, "requests") && !shows(&progress, "error rate"));
    progress["deployment"]["status"] = json!("RolledBack");
    assert!(shows(&progress, "requests") && shows(&progress, "FAIL"));
}

#[test]
fn it_says_what_somebody_has_to_do_and_no_time_runs_in_a_pause() {
    let mut progress = canary();
    progress["deployment"]["pausedAt"] = json!(at(1));
    let text = plain(&progress, 5, 120).join("\n");
    assert!(text.contains("tidegate resume deploy-1") && !text.contains("  time "), "{text}");
    progress["deployment"]["phase"] = json!("AwaitingPromotion");
    assert!(plain(&progress, 5, 120).join("\n").contains("tidegate promote deploy-1"));
}

/// What the server does not say is left out; whatever it says, nothing breaks.
#[test]
fn an_answer_of_another_release_is_shown_as_far_as_it_goes() {
    let empty = plain(&json!({}), 5, 80).join("\n");
    assert!(empty.contains('?'), "{empty}");
    let odd = json!({
        "deployment": {"status": "Active", "version": 7}, "traffic": [{}], "deadline": "soon",
        "lastLook": {"analysis": {"metrics": [{}, 3]}, "comparison": {"interval": [null, 1.0]}, "replicas": [null]},
    });
    assert!(plain(&odd, 5, 80).len() > 3);
}

#[test]
fn times_and_counts_read_well() {
    let spans = [(-5, "0:00"), (5, "0:05"), (760, "12:40"), (10_930, "3:02:10"), (604_800, "7 days")];
    for (seconds, text) in spans {
        assert_eq!(span(seconds), text);
    }
    assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
}
