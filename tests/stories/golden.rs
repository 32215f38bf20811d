//! What people read of a plan before they approve it, word for word. Where it is to change, change the file and read it.

use std::path::Path;

use e2e::Tool;

#[test]
fn a_plan_as_it_is_shown() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let plan = folder.join("plan.toml");
    let shown = Tool::ours("undercroft-ceremony").unwrap().arg("plan").arg(&plan).done().unwrap().stdout;
    assert_eq!(shown, std::fs::read_to_string(folder.join("plan.txt")).unwrap());
    // The digest on the page is that of the file, as anybody computes it.
    let digest = Tool::foreign("sha256sum").arg(&plan).done().unwrap().stdout;
    let digest = digest.split_whitespace().next().unwrap();
    let page = shown.lines().find(|line| line.contains("digest of the plan")).unwrap().replace(' ', "");
    assert!(page.ends_with(digest), "{page}");
}
