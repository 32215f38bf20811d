use undercroft_keys::KeyId;

use super::*;

fn summary() -> Summary {
    let key = HexKeyId(KeyId::from([1; 32]));
    let begun = "2026-11-22T08:00:00Z".parse().unwrap();
    let mut summary = Summary::new("prod.example".into(), "i1".into(), key, begun, 100);
    let step = |step: &str, signatures, ms| Step { step: step.into(), signatures, ms };
    summary.steps = vec![step("freeze", 0, 20), step("again", 100, 5000), step("lists", 2, 70)];
    summary
}

#[test]
fn what_signs_takes_as_long_as_the_attached_token_and_the_rest_as_long_as_it_did() {
    let mut summary = summary();
    summary.estimate(51.0);
    assert_eq!((summary.attached_rate, summary.recovery_ms), (Some(51.0), Some(2020)));
    // A token that signs nothing recovers nothing.
    summary.estimate(0.0);
    assert_eq!(summary.recovery_ms, None);
}

#[test]
fn a_summary_is_read_strictly() {
    let good = serde_json::to_string(&summary()).unwrap();
    assert_eq!(Summary::parse(&good).unwrap(), summary());
    for (from, to, says) in [
        ("undercroft-drill-v1", "undercroft-drill-v2", "its format is"),
        ("\"live\":100", "\"live\":100,\"live\":1", "duplicate field"),
        ("\"live\":100", "\"live\":-1", "integer"),
        ("\"live\":100,", "", "missing field `live`"),
        ("\"ms\":20", "\"ms\":20,\"s\":1", "unknown field `s`"),
        ("0101", "01", "64"),
    ] {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{from}");
        let refused = Summary::parse(&changed).unwrap_err();
        assert!(refused.contains(says), "{refused}");
    }
    assert!(Summary::parse("DRILL").is_err());
}
