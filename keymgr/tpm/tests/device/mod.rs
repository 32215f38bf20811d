//! A swtpm for each test, and tpm2-tools beside ours.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test uses what it needs, and fails by panicking"
)]

use std::process::{Command, Output};
use std::sync::Arc;

use hsm_sim::swtpm::{Manufacture, RunningSwtpm, Swtpm};
use undercroft_keymgr::{Backend as _, Device, KeyManager, KeyUri};
use undercroft_tpm::TpmBackend;

pub(crate) fn tpm() -> (tempfile::TempDir, RunningSwtpm, Device) {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::manufacture(folder.path(), Manufacture::Bare).unwrap();
    let running = tpm.start().unwrap();
    (folder, running, tpm.device("edge"))
}

pub(crate) fn open(device: &Device) -> Arc<dyn KeyManager> {
    TpmBackend.open(device).unwrap()
}

pub(crate) fn uri(device: &Device, handle: u32) -> KeyUri {
    let uri: KeyUri = format!("tpm:handle={handle:#x}").parse().unwrap();
    uri.completed_by(&device.uri).unwrap()
}

/// Runs tpm2-tools commands on the device, as an operator or a thief would. swtpm serves one connection at a time.
pub(crate) fn try_tool(device: &Device, folder: &tempfile::TempDir, command: &str) -> Output {
    let KeyUri::Tpm(uri) = &device.uri else { panic!() };
    Command::new("sh")
        .args(["-ec", command])
        .env("TPM2TOOLS_TCTI", uri.tcti.as_ref().unwrap())
        .current_dir(folder.path())
        .output()
        .unwrap()
}

pub(crate) fn tool(device: &Device, folder: &tempfile::TempDir, command: &str) {
    let output = try_tool(device, folder, command);
    assert!(output.status.success(), "{output:?}");
}
