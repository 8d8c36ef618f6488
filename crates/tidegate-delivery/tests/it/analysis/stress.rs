use super::bounds::drifted;
use super::world::*;
use tidegate_delivery::*;
#[test]
fn stress() {
    for share in [0.03, 0.3, 0.5] {
        for (name, a, b, limits) in cases() {
            let (mut f, mut p) = (0, 0);
            let n = 1500;
            for seed in 0..n {
                let (mut ff, mut pp) = (false, false);
                let world = World { baseline: a, candidate: b, share, labels: false };
                watch(&world, seed, Looks { first: 10, growth: 1.1, horizon: 12_000 }, |x, y| {
                    match analyse(x, y, &limits).verdict {
                        Verdict::Fail => ff = true,
                        Verdict::Pass => pp = true,
                        _ => {}
                    }
                    Some(())
                });
                f += u32::from(ff);
                p += u32::from(pp);
            }
            println!(
                "STRESS {share} {name}: {:.2} {:.2}",
                f as f64 * 100.0 / n as f64,
                p as f64 * 100.0 / n as f64
            );
        }
    }
}
fn cases() -> Vec<(&'static str, Behaviour, Behaviour, Thresholds)> {
    let base = Behaviour { error_rate: 0.0, median_us: 0.0, ..USUAL };
    let m = |metric| Behaviour { metric, ..base };
    let d = |predicts| Behaviour { predicts, ..base };
    let custom = |t: &str| {
        let t: CustomThreshold = serde_json::from_str(t).expect("t");
        only(|l| l.custom = [(METRIC.to_owned(), t)].into())
    };
    let drift = |x| only(|l| l.drift_score = x);
    let all = vec![
        ("normal", m(Values::Normal(1.0)), m(Values::Normal(1.0)), custom(r#"{"drop":0}"#)),
        ("orders drop", m(Values::Orders(1.0)), m(Values::Orders(1.0)), custom(r#"{"drop":0}"#)),
        (
            "orders inc abs",
            m(Values::Orders(1.0)),
            m(Values::Orders(1.0)),
            custom(r#"{"increase":0,"absolute":true}"#),
        ),
        ("iou", m(Values::Share(0.95)), m(Values::Share(0.95)), custom(r#"{"drop":0}"#)),
        ("iou max", m(Values::Share(0.95)), m(Values::Share(0.95)), custom(r#"{"drop":0,"maximum":1}"#)),
        ("rare class none", d(Predicts::Class1(0.01)), d(Predicts::Class1(0.01)), drift(0.0)),
        ("rare class .3", d(Predicts::Class1(0.01)), d(Predicts::Class1(drifted(0.01, 0.3))), drift(0.3)),
        ("numbers none", d(Predicts::LowerHalf(0.5)), d(Predicts::LowerHalf(0.5)), drift(0.0)),
        ("numbers .3", d(Predicts::LowerHalf(0.5)), d(Predicts::LowerHalf(drifted(0.5, 0.3))), drift(0.3)),
        ("numbers .02", d(Predicts::LowerHalf(0.5)), d(Predicts::LowerHalf(drifted(0.5, 0.02))), drift(0.02)),
    ];
    all.into_iter().filter(|(name, ..)| name.contains("none") || name.contains("rare")).collect()
}
