//! Programs whose disk and clock go wrong: `tests/tools/faults.c` is loaded into them, and they know nothing of it.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::Tool;

/// What may go wrong in the programs that are given [`Faults::variables`].
pub(crate) struct Faults {
    folder: PathBuf,
    library: PathBuf,
    /// Part of the path of the files whose disk it is.
    file: String,
}

impl Faults {
    /// Nothing goes wrong yet. `folder` is made; `file` is part of the path of every file that is concerned.
    pub(crate) fn new(folder: &Path, file: impl Into<String>) -> Self {
        fs::create_dir_all(folder.join("on")).unwrap();
        let library = folder.join("faults.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/faults.c");
        let compile = Tool::foreign("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source);
        compile.done().unwrap();
        Self { folder: folder.join("on"), library, file: file.into() }
    }

    /// The environment of a program.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", self.library.to_str().unwrap()),
            ("FAULTS", self.folder.to_str().unwrap()),
            ("FAULTS_FILE", &self.file),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// The environment of a program that is killed at its n-th fsync, as `FAULTS_KILL` counts.
    pub(crate) fn killing(&self, at: i64) -> Vec<(String, String)> {
        let mut variables = self.variables();
        variables.push(("FAULTS_KILL".to_owned(), at.to_string()));
        variables
    }

    /// From now on this goes wrong.
    pub(crate) fn begin(&self, fault: &str) {
        fs::write(self.folder.join(fault), "").unwrap();
    }

    /// And no longer.
    pub(crate) fn end(&self, fault: &str) {
        fs::remove_file(self.folder.join(fault)).unwrap();
    }

    /// Whether it is still to come, or goes on.
    pub(crate) fn is_on(&self, fault: &str) -> bool {
        self.folder.join(fault).exists()
    }
}
