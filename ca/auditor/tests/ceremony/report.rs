//! The verdict's text, the report and the script.

use std::process::{Command, Output};

use undercroft_audit::ceremony::page;

use crate::plans::parse;
use crate::world::{Copy, WORLD};

/// Where pages are left for whoever wants to look at them.
fn kept(name: &str, page: &str) {
    if let Some(folder) = std::env::var_os("UNDERCROFT_KEEP_PAGES") {
        std::fs::write(std::path::Path::new(&folder).join(name), page).unwrap();
    }
}

fn audit(copy: &Copy, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_undercroft-audit"));
    command.current_dir(copy.places.out.parent().unwrap()).env_remove("UNDERCROFT_OUTPUT");
    command.args(arguments).output().unwrap()
}

/// The files of a ceremony as the command takes them.
fn of_files(copy: &Copy) -> Vec<String> {
    std::fs::write(copy.places.out.parent().unwrap().join("plan.toml"), &copy.plan).unwrap();
    [
        "ceremony",
        "out/transcript",
        "--plan",
        "plan.toml",
        "--key",
        &WORLD.made.log.verifier().to_string(),
        "--out",
        "out",
        "--requests",
        "requests",
        "--rehearsal",
        "rehearsal/transcript",
        "--rehearsal-key",
        "rehearsal/transcript/log.vkey",
        "--previous",
        "previous/transcript",
        "--previous-key",
        "previous/transcript/log.vkey",
    ]
    .map(str::to_owned)
    .into()
}

fn run(copy: &Copy, more: &[&str]) -> (Option<i32>, String, String) {
    let files = of_files(copy);
    let arguments: Vec<_> = files.iter().map(String::as_str).chain(more.iter().copied()).collect();
    let Output { status, stdout, stderr } = audit(copy, &arguments);
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// What is another in each run: keys and signatures are new.
fn without_keys(text: &str) -> String {
    let plan = WORLD.plan.digest().to_string();
    let grouped: Vec<_> =
        plan.as_bytes().chunks(4).map(|group| std::str::from_utf8(group).unwrap()).collect();
    let root = WORLD.made.log.root().to_string();
    // Base64 of certificates in the plan differs in length by a few bytes.
    let length = format!("{} bytes", WORLD.plan.text().len());
    text.replace(&root, "<root>")
        .replace(&grouped.join(" "), "<plan>")
        .replace(&plan, "<plan>")
        .replace(&length, "<n> bytes")
}

#[test]
fn the_verdict_is_one_page_of_text() {
    let (status, text, errors) = run(&WORLD.copy(), &[]);
    assert_eq!((status, errors.as_str()), (Some(0), ""), "{text}");
    let golden = include_str!("verdict.txt");
    assert_eq!(without_keys(&text), golden, "{text}");
    assert!(text.lines().count() <= 60);
}

#[test]
fn what_is_wrong_has_exit_status_5_and_stands_in_the_json() {
    let mut copy = WORLD.copy();
    copy.plan.push('\n');
    let (status, text, errors) = run(&copy, &["--output", "json"]);
    assert_eq!(status, Some(5));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["outcome"], "refused");
    assert_eq!(value["passed"], false);
    let plan = value["checks"].as_array().unwrap().iter().find(|check| check["check"] == "plan").unwrap();
    assert_eq!(plan["status"], "failed");
    assert_eq!(plan["findings"][0]["rule"], "plan-text");
    assert!(errors.contains("REFUSED"), "{errors}");
}

#[test]
fn what_was_not_given_is_not_looked_at() {
    let copy = WORLD.copy();
    std::fs::write(copy.places.out.parent().unwrap().join("plan.toml"), &copy.plan).unwrap();
    let out = audit(
        &copy,
        &["ceremony", "out/transcript", "--plan", "plan.toml", "--key", "out/transcript/log.vkey"],
    );
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(0), "{text}");
    for name in ["rehearsal", "previous", "outputs", "evidence"] {
        let is = |line: &str| line.trim_start().starts_with("not looked at") && line.contains(name);
        assert!(text.lines().any(is), "{name}: {text}");
    }
    assert!(text.contains("4 checks were not looked at"), "{text}");
}

#[test]
fn a_rehearsal_has_exit_status_5_unless_it_is_asked_for() {
    let copy = WORLD.copy();
    std::fs::write(copy.places.out.parent().unwrap().join("plan.toml"), &copy.plan).unwrap();
    let arguments = [
        "ceremony",
        "rehearsal/transcript",
        "--plan",
        "plan.toml",
        "--key",
        "rehearsal/transcript/log.vkey",
        "--out",
        "rehearsal",
        "--report",
        "report.html",
    ];
    let out = audit(&copy, &arguments);
    assert_eq!(out.status.code(), Some(5));
    assert!(String::from_utf8(out.stdout).unwrap().contains("REHEARSAL: "));
    let page = std::fs::read_to_string(copy.places.out.parent().unwrap().join("report.html")).unwrap();
    kept("rehearsal.html", &page);
    assert!(page.contains("<div class=\"rehearsal\">REHEARSAL</div>"));
    let out = audit(&copy, &[&arguments[..], &["--rehearsal-only"]].concat());
    assert_eq!(out.status.code(), Some(0));
}

#[test]
fn the_report_holds_everything_and_no_markup_of_strangers() {
    let copy = WORLD.copy();
    let (status, _, errors) = run(&copy, &["--report", "report.html"]);
    assert_eq!((status, errors.as_str()), (Some(0), ""));
    let page = std::fs::read_to_string(copy.places.out.parent().unwrap().join("report.html")).unwrap();
    kept("report.html", &page);
    is_self_contained(&page);
    assert!(!page.contains("class=\"rehearsal\""));
    // The note that somebody had written down.
    assert!(page.contains("bob said: &lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;so&quot;"));
    for step in WORLD.plan.steps() {
        assert!(page.contains(&format!("<strong>{}</strong>", step.name())), "{}", step.name());
        assert!(page.contains(step.follows()), "{}", step.follows());
    }
    for part in [
        "alice",
        "bob",
        "dora",
        "declared",
        "YubiHSM, firmware 2.4, serial 0012345",
        "20 minutes late",
        "WebTrust 4.1",
        "BR 6.1.1.1",
        "EN 319 411-1 6.5.1",
        "ACCEPTED",
        "2 attempts",
        "a CRL",
        "a certification request",
        "path length 3",
        "it lives 90 days, of 90d at most",
        "a statement about roots, which counts with the quorum",
        "Signature",
        "witness",
    ] {
        assert!(page.contains(part), "{part}");
    }
    for output in WORLD.plan.steps().iter().filter_map(|step| step.output().map(str::to_owned)) {
        let digest = undercroft_log::leaf::Digest::of(&std::fs::read(copy.places.out.join(&output)).unwrap());
        assert!(page.contains(&digest.to_string()), "{output}");
    }
}

#[test]
fn the_report_of_what_was_refused_says_so() {
    let mut copy = WORLD.copy();
    let at = copy.find(r#""event":"note""#);
    copy.log.edit_body(at, |body| body["text"] = serde_json::json!("nothing happened"));
    copy.verify();
    let verified = copy.go_through();
    let page = page::report(&parse(&copy.plan), &verified);
    kept("refused.html", &page);
    assert!(
        page.contains("REFUSED: 1 finding<")
            && page.contains("result by nobody that counts")
            && page.contains("(approval-object)")
    );
}

#[test]
fn the_script_comes_before_and_holds_no_markup_of_strangers() {
    let copy = WORLD.copy();
    let title = r#"title = "<script>alert('title')</script>""#;
    let text = copy.plan.replace(r#"title = "Rotation of 2026""#, title);
    assert_ne!(text, copy.plan);
    let folder = copy.places.out.parent().unwrap();
    std::fs::write(folder.join("plan.toml"), text).unwrap();
    let out = audit(&copy, &["ceremony-script", "plan.toml", "--out", "script.html"]);
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    let page = std::fs::read_to_string(folder.join("script.html")).unwrap();
    kept("script.html", &page);
    is_self_contained(&page);
    assert!(page.contains("&lt;script&gt;alert(&#39;title&#39;)&lt;/script&gt;"));
    assert_eq!(page.matches("<span class=\"box\">").count(), WORLD.plan.steps().len());
    let out = audit(&copy, &["ceremony-script", "plan.toml", "--out", "script.html", "--rehearsal"]);
    assert_eq!(out.status.code(), Some(0));
    assert!(
        std::fs::read_to_string(folder.join("script.html")).unwrap().contains("<div class=\"rehearsal\">")
    );
}

#[test]
fn every_finding_in_the_documentation_is_in_the_code_and_has_a_forgery() {
    let docs = include_str!("../../../../docs/ceremony.md");
    let section = docs.split("## Verifying a ceremony").nth(1).unwrap().split("\n## ").next().unwrap();
    let sources = [
        include_str!("../../src/ceremony.rs"),
        include_str!("../../src/ceremony/approvals.rs"),
        include_str!("../../src/ceremony/custody.rs"),
        include_str!("../../src/ceremony/deviations.rs"),
        include_str!("../../src/ceremony/devices.rs"),
        include_str!("../../src/ceremony/next.rs"),
        include_str!("../../src/ceremony/order.rs"),
        include_str!("../../src/ceremony/outputs.rs"),
        include_str!("../../src/ceremony/previous.rs"),
        include_str!("../../src/ceremony/rehearsal.rs"),
        include_str!("../../src/ceremony/signatures.rs"),
        include_str!("../../src/ceremony/statements.rs"),
    ];
    let forgeries = [
        include_str!("forgeries/after.rs"),
        include_str!("forgeries/approvals.rs"),
        include_str!("forgeries/before.rs"),
        include_str!("forgeries/files.rs"),
        include_str!("forgeries/keys.rs"),
        include_str!("forgeries/order.rs"),
        include_str!("forgeries/signed.rs"),
        include_str!("forgeries/statements.rs"),
        include_str!("forgeries/whole.rs"),
    ];
    let documented: Vec<_> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .flat_map(|line| line.rsplit('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2))
        .collect();
    assert!(documented.len() > 60, "{documented:?}");
    for rule in documented {
        let quoted = format!("\"{rule}\"");
        assert!(
            sources.iter().any(|source| source.contains(&quoted)),
            "{rule} is documented and not in the code"
        );
        let forged = forgeries.iter().any(|source| source.contains(&quoted));
        assert!(forged, "{rule} has no forgery that leads to it");
    }
}

/// Nothing is fetched or run, and no markup but ours stands there.
fn is_self_contained(page: &str) {
    let sources = page.matches("src=").count();
    assert_eq!(sources, page.matches("src=\"data:image/svg+xml;base64,").count());
    for part in ["<script", "href=", "url(", "@import", "onload"] {
        assert!(!page.to_lowercase().contains(part), "{part}");
    }
}
