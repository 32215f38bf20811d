//! What rules make of evidence.

use hsm_sim::measured_boot::{CERT_SHA256, CERT_X509, certificate, revoked, signature_list};

use super::*;
use crate::nodes::{Explanation, Learning};

/// Each judgement of a record by a rule with these lines more.
fn judged(lab: &Lab, record: &Record, lines: &str) -> Result<String, (&'static str, String)> {
    let (before, after) = lines.split_once("---\n").unwrap_or(("", lines));
    let policy = lab.policy(&format!("{before}\n{RULE}\n{after}"));
    let judged = appraise(record, &policy, now());
    judged.map(|taken| taken.admitted.rule).map_err(|refused| (refused.code, refused.reason))
}

#[test]
fn each_wish_of_a_rule_takes_what_satisfies_it_and_refuses_the_rest_by_name() {
    let mut lab = Lab::new(&MeasuredBoot::honest());
    let honest = lab.record(&lab.policy(RULE));
    let off = lab.booted(&secure_boot_off());
    let old = lab.booted(&old_dbx());
    let own = hex::encode(Digest::of(&certificate("windows")).0);
    let hashes: Vec<_> = revoked(78).iter().map(hex::encode).collect();
    lab.write("dbx.txt", format!("# of 2026\n{}\n", hashes.join("\n")));
    lab.write("more.txt", format!("{}\n{}\n", hashes.join("\n"), "ee".repeat(32)));
    let lists = signature_list(CERT_SHA256, &revoked(78));
    // EFI_TIME, then WIN_CERTIFICATE_UEFI_GUID with 8 bytes of a signature.
    let head = [
        &[0xea, 7, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
        &[32, 0, 0, 0, 0, 2, 0xf1, 0x0e],
        &[9; 24],
    ];
    lab.write("dbx.bin", [&head.concat()[..], &lists].concat());
    lab.write("lists.bin", &lists);
    lab.write("allow.rego", "package undercroft\nallow if { input.boot.secure_boot.enabled; input.tpm.class == \"simulated\" }\nreasons contains \"Secure Boot is off\" if not input.boot.secure_boot.enabled\ndefault allow := false");
    for (record, lines, expected) in [
        (&honest, "require = [\"tpm\"]", Ok(())),
        (&honest, "select = [\"boot:secure-boot:on\"]", Ok(())),
        (&off, "select = [\"boot:secure-boot:on\"]", Err(("node-selector", "boot:secure-boot:on"))),
        (&honest, "secure-boot = true", Ok(())),
        (&off, "secure-boot = true", Err(("secure-boot-off", "turn it on"))),
        (&honest, "dbx-at-least = \"dbx.txt\"", Ok(())),
        (&honest, "dbx-at-least = \"dbx.bin\"", Ok(())),
        (&honest, "dbx-at-least = \"lists.bin\"", Ok(())),
        (&honest, "dbx-at-least = \"more.txt\"", Err(("secure-boot-dbx-lacks", "eeee"))),
        (&old, "dbx-at-least = \"dbx.txt\"", Err(("secure-boot-dbx-lacks", "update dbx"))),
        (&old, "dbx-at-least = \"dbx.bin\"", Err(("secure-boot-dbx-lacks", "update dbx"))),
        (&honest, "db-only = [\"OWN\"]", Err(("secure-boot-db-not-allowed", "not among"))),
        (&honest, "db-only = []", Err(("secure-boot-db-not-allowed", "not among"))),
        (&honest, "authorities = [\"OWN\"]", Err(("secure-boot-authority-not-allowed", "may not"))),
        (&honest, "sbat-at-least = { shim = 2, grub = 3 }", Ok(())),
        (&honest, "sbat-at-least = { shim = 4 }", Err(("secure-boot-sbat-too-low", "4 is wanted"))),
        (&honest, "sbat-at-least = { systemd = 1 }", Err(("secure-boot-sbat-too-low", "none"))),
        (&honest, "dma-protection = true", Ok(())),
        (&honest, "event-log-exited = true", Ok(())),
        (&honest, "assurance = \"hardware\"", Err(("node-assurance", "software"))),
        (
            &honest,
            "firmware-at-least = { \"id:49465800\" = \"7.85\" }",
            Err(("node-firmware", "says nothing of")),
        ),
        (&honest, "rego = \"allow.rego\"", Ok(())),
        (&off, "rego = \"allow.rego\"", Err(("node-rego", "Secure Boot is off"))),
    ] {
        let lines = lines.replace("OWN", &own);
        // A key of TOML stands once.
        let rule = match lines.starts_with("assurance") {
            true => RULE.replace("assurance = \"software\"", &lines),
            false => format!("{RULE}{lines}"),
        };
        let judged = appraise(record, &lab.policy(&rule), now());
        match (judged, expected) {
            (Ok(_), Ok(())) => {}
            (Err(refused), Err((code, told))) => {
                assert_eq!(refused.code, code, "{lines}: {}", refused.reason);
                assert!(refused.reason.contains(told), "{lines}: {}", refused.reason);
            }
            (judged, _) => panic!("{lines}: {judged:?}"),
        }
    }
    // The same firmware is at least itself, and not the next.
    let taken = appraise(&honest, &lab.policy(RULE), now()).unwrap();
    let attested = &taken.claims.attested;
    let version = (attested.firmware().unwrap() >> 32) as u32;
    let [maker, ..] = attested.names();
    for (minor, expected) in [(0, None), (1, Some("node-firmware"))] {
        let floor = version + minor;
        let line = format!("firmware-at-least = {{ \"{maker}\" = \"{}.{}\" }}", floor >> 16, floor & 0xffff);
        let refused = judged(&lab, &honest, &line).err();
        assert_eq!(refused.as_ref().map(|(code, _)| *code), expected, "{refused:?}");
        assert!(refused.is_none_or(|(_, reason)| reason.contains("as its quote says")));
    }
    // A file with a certificate among its hashes says more than could be compared.
    lab.write("mixed.bin", [lists, signature_list(CERT_X509, &[certificate("x")])].concat());
    for (file, told) in [("mixed.bin", "which is no SHA-256 hash"), ("absent.txt", "No such file")] {
        let error = lab.read(&format!("{TPM}{RULE}dbx-at-least = \"{file}\"")).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn a_set_that_was_learnt_takes_what_it_was_learnt_from_and_names_what_differs() {
    let mut lab = Lab::new(&MeasuredBoot::honest());
    let honest = lab.record(&lab.policy(RULE));
    let taken = appraise(&honest, &lab.policy(RULE), now()).unwrap();
    let mut learning = Learning::default();
    learning.add(now(), &taken.claims);
    let (set, left_out) = learning.finish("a test", 1);
    assert!(left_out.is_empty() && set.pcr.len() == BOOT_PCRS.len());
    lab.write("set.toml", set.to_toml().unwrap());
    // One node is no fleet.
    let (none, left_out) = learning.finish("a test", 2);
    assert!(none.pcr.is_empty());
    assert_eq!(left_out.len(), BOOT_PCRS.len());
    assert!(left_out.iter().all(|value| value.whole_pcr && value.nodes == [taken.claims.endorsement()]));

    let other = lab.booted(&another_shim());
    let seen = appraise(&other, &lab.policy(RULE), now()).unwrap();
    let lines = "[[reference]]\nname = \"rack\"\nfile = \"set.toml\"\n---\nreferences = [\"rack\"]";
    assert_eq!(judged(&lab, &honest, lines), Ok("all".to_owned()));
    let (code, reason) = judged(&lab, &other, lines).unwrap_err();
    assert_eq!(code, "node-reference");
    assert!(
        reason.contains("from the nearest, `rack`, differ: PCR 4: the boot image that the log calls"),
        "{reason}"
    );
    assert!(reason.contains("shimx64.efi changed from"), "{reason}");
    assert!(!reason.contains("PCR 7"), "{reason}");

    // Values alone decide: events that were never measured change nothing, right words save nothing.
    let mut wrong = set.clone();
    wrong.pcr.iter_mut().for_each(|pcr| pcr.value[0].events.clear());
    lab.write("set.toml", wrong.to_toml().unwrap());
    assert_eq!(judged(&lab, &honest, lines), Ok("all".to_owned()));
    let (_, reason) = judged(&lab, &other, lines).unwrap_err();
    assert!(reason.contains("PCR 4 of sha256 is ") && reason.contains("none of 1 known values"), "{reason}");
    let mut wrong = set.clone();
    wrong.pcr[4].value[0].digest = "00".repeat(32);
    lab.write("set.toml", wrong.to_toml().unwrap());
    assert_eq!(judged(&lab, &honest, lines).unwrap_err().0, "node-reference");
    // Each value is of a whole set: a boot between two sets fits neither.
    lab.write("set.toml", set.to_toml().unwrap());
    let mut learning = Learning::default();
    learning.add(now(), &seen.claims);
    let (mut second, _) = learning.finish("a test", 1);
    second.pcr.iter_mut().filter(|pcr| pcr.index == 0).for_each(|pcr| pcr.value[0].digest = "11".repeat(32));
    lab.write("second.toml", second.to_toml().unwrap());
    let both = "[[reference]]\nname = \"rack\"\nfile = \"set.toml\"\n[[reference]]\nname = \"second\"\nfile = \"second.toml\"\n---\nreferences = [\"rack\", \"second\"]";
    assert_eq!(judged(&lab, &other, both).unwrap_err().0, "node-reference");
    assert_eq!(judged(&lab, &honest, both), Ok("all".to_owned()));

    // What changed, in words, beside the refusal.
    let policy = lab.policy(&format!(
        "[[reference]]\nname = \"rack\"\nfile = \"set.toml\"\n{RULE}references = [\"rack\"]"
    ));
    let judged = appraise(&other, &policy, now());
    let explained = Explanation::of(&judged, Some((now(), &taken.claims)));
    assert_eq!(explained.code, Some("node-reference"));
    assert_eq!((explained.resets, explained.in_order.len()), (Some(1), 5));
    assert_eq!(explained.changes.len(), 1, "{:?}", explained.changes);
    assert!(explained.changes[0].starts_with("PCR 4: the boot image"), "{:?}", explained.changes);
    assert!(explained.way_out.unwrap().contains("simulate"));
}

#[test]
fn what_would_never_hold_is_told_when_the_policy_is_read() {
    let lab = Lab::new(&MeasuredBoot::honest());
    let value = "00".repeat(32);
    lab.write("bad.rego", "package undercroft\nallow := ");
    lab.write("empty.txt", "# nothing\n");
    lab.write("bad.txt", "xyz\n");
    let set = |inner: &str| format!("{TPM}[[reference]]\nname = \"a\"\n{inner}\n{RULE}references = [\"a\"]");
    let pcr = |index: u8, values: &str| {
        format!("pcr = [{{ bank = \"sha256\", index = {index}, value = [{values}] }}]")
    };
    let good = format!("{{ digest = \"{value}\" }}");
    assert!(lab.read(&set(&pcr(4, &good))).is_ok());
    for (text, told) in [
        (format!("{TPM}{RULE}references = [\"b\"]"), "there is no reference set `b`"),
        (format!("{TPM}{RULE}references = []"), "names no set"),
        (set("file = \"absent.toml\""), "absent.toml"),
        (set(""), "either `file` or `pcr`"),
        (set("pcr = []"), "everything would fit"),
        (set(&pcr(4, "")), "nothing would fit"),
        (set(&pcr(10, &good)), "PCR 10 of sha256, which `tpm.pcrs` does not quote"),
        (set(&pcr(4, &good).replace("sha256", "sha384")), "is not 48 bytes"),
        (set(&pcr(4, "{ digest = \"00\" }")), "is not 32 bytes"),
        (set(&pcr(4, "{ digest = \"zz\" }")), "is not 32 bytes"),
        (
            set(&pcr(4, &format!("{{ digest = \"{value}\", events = [{{ digest = \"0\", of = \"x\" }}] }}"))),
            "is not 32 bytes",
        ),
        (set(&pcr(4, &format!("{{ digest = \"{value}\", event = [] }}"))), "did you mean `events`?"),
        (
            set(&pcr(4, &good)).replace("[[rule]]", "[[reference]]\nname = \"a\"\npcr = []\n[[rule]]"),
            "same name",
        ),
        (
            format!("{TPM}{RULE}secure-boot = true").replace("event-log = true", "event-log = false"),
            "`tpm.event-log` is false",
        ),
        (format!("{TPM}{RULE}secure-boot = true").replace("6, 7, 8", "6, 8"), "it needs PCR 7"),
        (format!("{TPM}{RULE}event-log-exited = true").replace("4, 5, 6", "4, 6"), "it needs PCR 5"),
        (format!("{TPM}{RULE}secureboot = true"), "did you mean `secure-boot`?"),
        (format!("{TPM}{RULE}secure-boot = \"true\""), "invalid type"),
        (format!("{TPM}{RULE}require = [\"aws_iid\"]"), "unknown variant `aws_iid`"),
        (format!("{TPM}{RULE}firmware-at-least = {{ \"id:1\" = \"7\" }}"), "is no version"),
        (format!("{TPM}{RULE}firmware-at-least = {{ \"id:1\" = \"7.65536\" }}"), "is no version"),
        (format!("{TPM}{RULE}dbx-at-least = \"empty.txt\""), "it has no hash"),
        (format!("{TPM}{RULE}dbx-at-least = \"bad.txt\""), "`xyz` is no SHA-256"),
        (format!("{TPM}{RULE}rego = \"bad.rego\""), "file `bad.rego`"),
        (format!("{TPM}{RULE}rego = \"absent.rego\""), "file `absent.rego`"),
        // Forgery 88: a policy that is not there is no policy.
        (String::new(), "missing field `tpm`"),
        ("[tpm".to_owned(), "nodes.toml:1:"),
        ("tpm = 1".to_owned(), "invalid type"),
    ] {
        let error = lab.read(&text).unwrap_err().to_string();
        assert!(error.contains(told), "{text}\n{error}");
    }
    // A policy without a rule takes nobody.
    let policy = lab.policy("");
    assert_eq!(appraise(&lab.record(&policy), &policy, now()).unwrap_err().code, "node-no-rule");
}
