//! A ceremony is cut off at its writes, one after the other, and each time it goes on to its end or is given up.

use std::path::Path;

use super::formal::Formal;
use crate::faults::Faults;

/// Of this many fsyncs, `make test` kills at one; `make soak` at each.
const STRIDE: i64 = 13;

#[test]
fn a_ceremony_that_is_cut_off_goes_on_or_is_given_up() {
    let stride = if std::env::var_os("UNDERCROFT_SOAK_ROUNDS").is_some() { 1 } else { STRIDE };
    let site = Formal::new();
    site.state_roots(&[]);
    site.approved("plan");
    site.deviation("not-rehearsed", "a test");
    site.sign("deviation-1", "alice");
    site.sign("deviation-1", "bob");
    let faults = Faults::new(&site.path("faults"), "");
    let tokens = site.path("devices/softhsm");
    copy(&tokens, &site.path("tokens-as-they-were"));
    for (round, at) in (1_i64..).step_by(usize::try_from(stride).unwrap()).enumerate() {
        copy(&site.path("tokens-as-they-were"), &tokens);
        for folder in ["control", "ceremony/transcript"] {
            let _ = std::fs::remove_dir_all(site.path(folder));
        }
        for statement in ["result", "statement-control-roots"] {
            for ending in ["json", "alice.sig", "bob.sig"] {
                let _ = std::fs::remove_file(site.path("approvals").join(format!("{statement}.{ending}")));
            }
        }
        let ran = site.tool("run").with(&faults.killing(at)).run().unwrap();
        if ran.status == 6 {
            assert!(round > 1, "nothing was ever killed");
            return;
        }
        assert_eq!(ran.status, -1, "{ran:?}");
        // One that was cut off before its transcript began has left nothing to give up.
        if round % 2 == 1 && site.path("ceremony/transcript/head.json").exists() {
            site.abort("the power went").expect(1).unwrap();
            assert!(!site.has_made_anything(), "{at}");
        } else {
            site.run().expect(6).unwrap();
            site.approved_result();
            site.run().expect(0).unwrap();
            assert!(site.has_made_anything());
        }
        site.audited();
    }
}

/// Puts a copy of a folder in the place of another.
fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    e2e::Tool::foreign("cp").arg("-a").arg(from).arg(to).done().unwrap();
}
