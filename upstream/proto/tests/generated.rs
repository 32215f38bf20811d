//! The generated code is committed, so that building needs no protobuf compiler. This test generates it again and
//! fails if it is another; it has written the new code by then, so that committing it is all there is to do.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fs;
use std::path::Path;

#[test]
fn committed_code_is_what_the_definitions_generate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = root.join("src/generated");
    let fresh = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let files = [
        "undercroft/v1/undercroft.proto",
        "undercroft/recovery/v1/recovery.proto",
        "undercroft/node/v1/node.proto",
    ];
    let files = files.map(|file| root.join("proto").join(file));
    let definitions = protox::compile(files, [root.join("proto")]).unwrap();
    tonic_prost_build::configure().out_dir(fresh).compile_fds(definitions).unwrap();
    let mut anew = Vec::new();
    for name in ["undercroft.v1.rs", "undercroft.recovery.v1.rs", "undercroft.node.v1.rs"] {
        let generated = fs::read_to_string(fresh.join(name)).unwrap();
        let committed = fs::read_to_string(out.join(name)).unwrap_or_default();
        if generated != committed {
            fs::write(out.join(name), generated).unwrap();
            anew.push(name);
        }
    }
    assert!(
        anew.is_empty(),
        "{anew:?} in src/generated were not what the definitions generate; they have been written anew, commit them"
    );
}
