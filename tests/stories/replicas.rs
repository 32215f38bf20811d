//! An authority whose key is in two tokens, each of which goes away for a while.

use std::fs;

use hsm_sim::faulty_module::FaultyModule;
use hsm_sim::softhsm::{self, SoftHsm};

use crate::place::Place;

/// How often something is issued until the daemon has noticed something.
const PATIENCE: u32 = 200;

struct Two {
    place: Place,
    /// What goes wrong with the token of the key, and with that of its replica.
    tokens: [FaultyModule; 2],
}

impl Two {
    /// `replica` is the token whose key is called the replica of that in `prod`.
    fn new(replica: &str) -> (Self, String) {
        let mut place = Place::prod();
        place.stop();
        let folder = place.path("devices/softhsm");
        SoftHsm::in_folder(&folder).unwrap().replica("prod", "spare").unwrap();
        let faulty = |name: &str| {
            let folder = place.path(name);
            fs::create_dir(&folder).unwrap();
            FaultyModule::before(&softhsm::module().unwrap(), &folder).unwrap()
        };
        let tokens = [faulty("faults-prod"), faulty("faults-spare")];
        let path = place.path("daemon/undercroft.toml");
        let text = fs::read_to_string(&path).unwrap();
        let (before, table) = text.split_once("\n[[device]]\nname = \"prod\"").unwrap();
        let table = format!("\n[[device]]\nname = \"prod\"{}", table.split("\n[[device]]").next().unwrap());
        let through = |module: &FaultyModule, table: &str| {
            let module = module.library().display().to_string();
            table.replace(&softhsm::module().unwrap().display().to_string(), &module)
        };
        let spare = through(&tokens[1], &table.replace("\"prod\"", "\"spare\""))
            .replace("token=prod", "token=spare")
            .replace("prod.pin", "spare.pin");
        let text = format!(
            "{before}{}{}{spare}",
            text[before.len()..].replacen(&table, "", 1),
            through(&tokens[0], &table)
        );
        let key = "key = \"pkcs11:token=prod;object=intermediate-i1\"\n";
        assert!(text.contains(key), "{text}");
        let replicas = format!("replicas = [\"pkcs11:token={replica};object=intermediate-i1\"]\n");
        let text = text.replace(key, &format!("{key}{replicas}"));
        fs::write(&path, &text).unwrap();
        (Self { place, tokens }, text)
    }

    fn issues(&self, out: &str) {
        self.place.issue("prod.example", out, &[]).expect(0).unwrap();
    }

    /// Issues, every time with success, until the daemon has logged this so many times.
    fn issues_until(&self, name: &str, said: &str, times: usize) {
        for n in 0..PATIENCE {
            self.issues(&format!("{name}-{n}"));
            if self.place.daemon().logged().matches(said).count() >= times {
                return;
            }
        }
        panic!("never logged: {said}: {}", self.place.daemon().logged());
    }
}

#[test]
fn one_token_dies_and_issuance_goes_on_and_it_comes_back_by_itself() {
    let (mut two, _) = Two::new("spare");
    two.place.start();
    two.issues("both");
    for (number, name) in ["prod", "spare", "prod"].into_iter().enumerate() {
        let token = &two.tokens[usize::from(name == "spare")];
        token.begin("removed", 0).unwrap();
        // Nobody is refused, not even the first one.
        two.issues(&format!("dead-{number}"));
        two.issues(&format!("still-dead-{number}"));
        token.end("removed").unwrap();
        if name == "prod" {
            let times = number / 2 + 1;
            two.issues_until(&format!("back-{number}"), "a replica serves again", times);
        }
    }
    // Both are gone: refused, and at once again when one is back.
    for token in &two.tokens {
        token.begin("removed", 0).unwrap();
    }
    two.place.issue("prod.example", "none", &[]).expect(3).unwrap();
    two.tokens[1].end("removed").unwrap();
    two.issues("one");
    two.place.export_and_audit();
    // Each was judged, and stands in the log.
    let log = crate::place::bodies(&two.place.path("prod.example/log"));
    let keys: Vec<_> = log
        .iter()
        .filter_map(|body| match body {
            undercroft_log::leaf::Body::Key(key) => Some(key.purpose.clone()),
            _ => None,
        })
        .collect();
    assert!(keys.contains(&"authority i1 of prod.example, replica".to_owned()), "{keys:?}");
    two.place.stop();
}

#[test]
fn a_replica_that_is_not_there_at_the_start_is_left_out_and_one_with_another_key_is_refused() {
    let (mut two, _) = Two::new("spare");
    two.tokens[0].begin("removed", 0).unwrap();
    two.place.start();
    two.issues("without");
    let logged = two.place.daemon().logged();
    assert!(logged.contains("is left out until the next start"), "{logged}");
    two.place.stop();
    two.tokens[0].end("removed").unwrap();

    let (two, _) = Two::new("control");
    let refused = two.place.site.serve().unwrap().run().unwrap();
    refused.expect(2).unwrap().says("which is not that of the certificate").unwrap();
}

#[test]
fn replicas_that_contradict_themselves_are_refused() {
    let (two, text) = Two::new("spare");
    let path = two.place.path("daemon/undercroft.toml");
    let replica = "replicas = [\"pkcs11:token=spare;object=intermediate-i1\"]";
    for (replicas, says) in [
        ("replicas = [\"pkcs11:token=prod;object=intermediate-i1\"]", "stands there twice"),
        (
            "replicas = [\"pkcs11:token=spare;object=intermediate-i1\", \"pkcs11:token=spare;object=intermediate-i1\"]",
            "stands there twice",
        ),
        ("replicas = [\"pkcs11:token=nowhere;object=intermediate-i1\"]", "no device holds"),
        ("replicas = [\"file:key.pem\"]", "scheme"),
        ("replicas = [\"pkcs11:token=spare;object=absent\"]", "is not in its token"),
    ] {
        fs::write(&path, text.replace(replica, replicas)).unwrap();
        let refused = two.place.site.serve().unwrap().run().unwrap();
        assert!([2, 3].contains(&refused.status), "{replicas}: {refused:?}");
        refused.says(says).unwrap();
    }
}
