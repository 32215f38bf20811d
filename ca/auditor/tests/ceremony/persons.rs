//! The persons of the roster: OpenSSH makes their keys and signatures.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{LazyLock, Mutex};

use undercroft_ca::approval::{Action, NAMESPACE, Roster, Statement, Wanted};
use undercroft_log::leaf::Digest;

/// Everybody who has a key: carol asks for ceremonies, mallory is on no roster.
pub(crate) const EVERYBODY: [&str; 5] = ["alice", "bob", "carol", "dora", "mallory"];

pub(crate) static PERSONS: LazyLock<Persons> = LazyLock::new(Persons::new);

pub(crate) struct Persons {
    folder: tempfile::TempDir,
    keys: BTreeMap<&'static str, String>,
    /// ssh-keygen writes beside the message, so that one signs at a time.
    signing: Mutex<()>,
}

impl Persons {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = EVERYBODY.map(|name| {
            ssh_keygen(&folder, &["-q", "-N", "", "-C", name, "-t", "ed25519", "-f", name]);
            (name, std::fs::read_to_string(folder.path().join(format!("{name}.pub"))).unwrap())
        });
        Self { folder, keys: keys.into(), signing: Mutex::new(()) }
    }

    /// A person's public key as OpenSSH writes it.
    pub(crate) fn key(&self, name: &str) -> &str {
        self.keys[name].trim()
    }

    /// A person's signature over a statement.
    pub(crate) fn sign(&self, name: &str, namespace: &str, message: &str) -> String {
        let _signing = self.signing.lock().unwrap();
        std::fs::write(self.folder.path().join("message"), message).unwrap();
        let signature = self.folder.path().join("message.sig");
        let _ = std::fs::remove_file(&signature);
        ssh_keygen(&self.folder, &["-q", "-Y", "sign", "-f", name, "-n", namespace, "message"]);
        std::fs::read_to_string(signature).unwrap()
    }

    /// A statement, and the signatures of these persons.
    pub(crate) fn approve(&self, statement: &Statement, who: &[&str]) -> (String, Vec<String>) {
        let text = statement.text().unwrap();
        let signatures = who.iter().map(|name| self.sign(name, NAMESPACE, &text)).collect();
        (text, signatures)
    }
}

fn ssh_keygen(folder: &tempfile::TempDir, arguments: &[&str]) {
    let ran = Command::new("ssh-keygen").args(arguments).current_dir(folder.path()).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
}

/// What an honest statement says.
pub(crate) fn statement(
    action: Action,
    object: Digest,
    origin: &str,
    roster: &Roster,
    nonce: u8,
) -> Statement {
    let wanted = Wanted { action, object, origin };
    Statement::new(wanted, roster, "carol".into(), "2026-12-01T00:00:00Z".parse().unwrap(), [nonce; 16])
}
