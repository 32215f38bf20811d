//! The commands of README.md, in the order in which they stand there.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use e2e::Tool;

#[test]
fn the_commands_of_the_readme_work_as_they_are_written() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = fs::read_to_string(repository.join("README.md")).unwrap();
    assert!(readme.lines().count() <= 120, "the README is too long");
    let blocks = readme.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let commands: String = blocks.collect();
    // `make` has built what is called here, so that its programs are called at once.
    let demo = Tool::ours("demo").unwrap().into_command().get_program().to_owned();
    assert_eq!(commands.matches("make demo\n").count(), 1);
    let commands = commands.replace("make demo\n", &format!("'{}'\n", demo.display()));
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("readme.sh");
    fs::write(&script, format!("set -eu\ntrap 'kill %1 2> /dev/null || true' EXIT\n{commands}")).unwrap();
    let mut run = Tool::foreign("timeout").arg("180").arg("bash").arg(&script).into_command();
    let ran = run.current_dir(folder.path()).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    for part in ["web/leaf.pem: OK", "Everything is as it must be.", "lifetime-over-cap"] {
        assert!(said.contains(part), "`{part}` is not in:\n{said}");
    }
    // Nothing is left running.
    let devices = folder.path().join("target/demo/devices");
    for entry in fs::read_dir(&devices).unwrap().flatten() {
        assert!(!entry.path().join("swtpm.pid").exists(), "{} still runs", entry.path().display());
    }
}
