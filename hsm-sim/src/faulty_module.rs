//! A PKCS#11 module that hands every call on to a real one and goes wrong as it is told (`tools/pkcs11_faults.c`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use undercroft_keymgr::{Device, KeyUri, Pkcs11Uri};

use crate::programs::{SimError, run};

/// What the next calls answer.
pub const CKR_DEVICE_ERROR: u32 = 0x30;
/// The token was unplugged.
pub const CKR_DEVICE_REMOVED: u32 = 0x32;
/// The session is not open.
pub const CKR_SESSION_HANDLE_INVALID: u32 = 0xb3;
/// Somebody has logged the user out.
pub const CKR_USER_NOT_LOGGED_IN: u32 = 0x101;
/// The PIN is locked.
pub const CKR_PIN_LOCKED: u32 = 0xa4;

/// A module between a program and a real one.
#[derive(Clone, Debug)]
pub struct FaultyModule {
    library: PathBuf,
    faults: PathBuf,
}

impl FaultyModule {
    /// Makes one in `folder`, in front of a copy of `module` that nothing else in the process uses. Nothing goes wrong yet.
    ///
    /// # Errors
    /// There is no C compiler, or the folder cannot be written.
    pub fn before(module: &Path, folder: &Path) -> Result<Self, SimError> {
        let faults = folder.join("faults");
        fs::create_dir_all(&faults).map_err(SimError::file(&faults))?;
        let (library, real) = (folder.join("faulty.so"), folder.join("real.so"));
        fs::copy(module, &real).map_err(SimError::file(&real))?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/pkcs11_faults.c");
        let defined = |name: &str, path: &Path| format!("-D{name}=\"{}\"", path.display());
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library);
        compile
            .arg(defined("MODULE", &real))
            .arg(defined("FAULTS", &faults))
            .arg(source)
            .args(["-ldl", "-pthread"]);
        run(&mut compile, "gcc")?;
        Ok(Self { library, faults })
    }

    /// The module's file.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// The same token, reached through this module.
    pub fn in_front_of(&self, device: &Device) -> Device {
        match &device.uri {
            KeyUri::Pkcs11(uri) => {
                let uri = Pkcs11Uri { module_path: Some(self.library.clone()), ..uri.clone() };
                Device { uri: KeyUri::Pkcs11(uri), ..device.clone() }
            }
            _ => device.clone(),
        }
    }

    /// From now on this goes wrong, with `code` where the fault is a function's.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn begin(&self, fault: &str, code: u32) -> Result<(), SimError> {
        // It comes to be at once and whole, so that nobody reads half of it.
        let (new, path) = (self.faults.join(format!(".{fault}")), self.faults.join(fault));
        fs::write(&new, format!("{code:x}")).map_err(SimError::file(&new))?;
        fs::rename(&new, &path).map_err(SimError::file(&path))
    }

    /// And no longer.
    ///
    /// # Errors
    /// It did not go wrong any more.
    pub fn end(&self, fault: &str) -> Result<(), SimError> {
        let path = self.faults.join(fault);
        fs::remove_file(&path).map_err(SimError::file(&path))
    }

    /// Whether it is still to come, or goes on.
    pub fn is_on(&self, fault: &str) -> bool {
        self.faults.join(fault).exists()
    }
}
