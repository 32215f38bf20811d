//! PINs: where they may come from, and that they are left nowhere.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::{Domain, Tool};

use crate::place::{Place, files};

/// The table of a device in the daemon's configuration, with its PIN somewhere else.
fn with_pin_from(configuration: &str, device: &str, source: &str) -> String {
    let name = format!("name = \"{device}\"");
    let tables = configuration.split_inclusive("[[device]]").map(|table| {
        let of_device = table.contains(&name);
        let lines =
            table.split_inclusive('\n').map(move |line| match of_device && line.starts_with("pin-file") {
                true => format!("{source}\n"),
                false => line.to_owned(),
            });
        lines.collect::<String>()
    });
    tables.collect()
}

#[test]
fn a_pin_in_the_environment_is_taken_and_strict_refuses_it() {
    let mut place = Place::prod();
    place.stop();
    let path = place.path("daemon/undercroft.toml");
    let configuration = fs::read_to_string(&path).unwrap();
    let pin = fs::read_to_string(pin_file(&configuration, "prod")).unwrap();
    let changed = with_pin_from(&configuration, "prod", "pin-environment = \"PROD_PIN\"");
    assert_ne!(changed, configuration);
    fs::write(&path, changed).unwrap();

    let strict = place.site.serve().unwrap().arg("--strict").run().unwrap().expect(2).unwrap();
    for part in ["`prod`", "PROD_PIN", "--strict", "pin-file"] {
        assert!(strict.stderr.contains(part), "{strict:?}");
    }
    let missing = place.site.serve().unwrap().run().unwrap().expect(2).unwrap();
    assert!(missing.stderr.contains("PROD_PIN") && missing.stderr.contains("not set"), "{missing:?}");
    let wrong = place.site.serve().unwrap().with(&[("PROD_PIN".into(), "wrong-4711".into())]).run().unwrap();
    let wrong = wrong.expect(2).unwrap();
    assert!(wrong.stderr.contains("PIN") && !wrong.stderr.contains("wrong-4711"), "{wrong:?}");

    place.daemon = Some(place.site.start_with(&[("PROD_PIN".into(), pin.trim().into())]).unwrap());
    place.issue("prod.example", "one", &[]).expect(0).unwrap();
    place.stop();
}

/// The daemon has logged in, issued, and goes on: its memory holds no PIN of its tokens any more.
#[test]
fn the_memory_of_a_running_daemon_holds_no_pin() {
    let domains =
        vec![Domain::softhsm("prod.example", "ecdsa-p256"), Domain::tpm("edge.example", "ecdsa-p256")];
    let mut place = Place::new(domains);
    for domain in ["prod.example", "edge.example"] {
        place.issue(domain, domain, &[]).expect(0).unwrap();
    }
    let core = place.path("core");
    let process = place.daemon().process().to_string();
    Tool::foreign("gcore").arg("-o").arg(&core).arg(&process).done().unwrap();
    let core = place.path(&format!("core.{process}"));
    let holds = |text: &Path| {
        let ran = Tool::foreign("grep").args(["-q", "-a", "-F", "-f"]).arg(text).arg(&core).run().unwrap();
        assert!([0, 1].contains(&ran.status), "{ran:?}");
        ran.status == 0
    };
    // It is the memory of the daemon, and we would find text in it.
    for known in ["spiffe://prod.example", "undercroft.toml"] {
        fs::write(place.path("known"), known).unwrap();
        assert!(holds(&place.path("known")), "{known}");
    }
    let pins: Vec<PathBuf> = files(place.site.folder())
        .into_iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "pin"))
        .collect();
    assert!(pins.len() >= 2, "{pins:?}");
    for file in pins {
        assert!(!holds(&file), "the PIN in {} is in the daemon's memory", file.display());
    }
    place.stop();
}

fn pin_file(configuration: &str, device: &str) -> PathBuf {
    let name = format!("name = \"{device}\"");
    let table = configuration.split("[[device]]").find(|table| table.contains(&name)).unwrap();
    let line = table.lines().find(|line| line.starts_with("pin-file")).unwrap();
    PathBuf::from(line.split('"').nth(1).unwrap())
}
