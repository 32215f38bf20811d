//! What is known of a node once its evidence has been judged.

use std::collections::BTreeSet;

use undercroft_attestors::tpm::event_log::{Boot, EventLogError, SecureBoot, VerifiedLog};
use undercroft_attestors::tpm::node::Attested;
use undercroft_log::leaf::Digest;

/// What is known of a node. Nothing in it is the node's own word.
#[derive(Clone, Debug)]
pub struct Claims {
    /// Its TPM, and the key that the certificate is for.
    pub attested: Attested,
    /// Its boot, where policy wants the firmware's log.
    pub boot: Option<BootClaims>,
}

/// What is known of a node's boot.
#[derive(Clone, Debug)]
pub struct BootClaims {
    /// The log, which replays to the quote.
    pub log: VerifiedLog,
    /// What was booted.
    pub boot: Boot,
    /// What PCR 7 says, or why it cannot be read: not every machine has Secure Boot.
    pub secure_boot: Result<SecureBoot, EventLogError>,
}

impl Claims {
    /// SHA-256 of the DER of the endorsement key's SubjectPublicKeyInfo: who the TPM is.
    pub fn endorsement(&self) -> Digest {
        Digest(self.attested.binding().endorsement)
    }

    /// What policies select by.
    pub fn selectors(&self) -> BTreeSet<String> {
        let mut selectors: BTreeSet<_> = self.attested.selectors().into_iter().collect();
        if let Some(boot) = &self.boot {
            selectors.extend(boot.selectors());
        }
        selectors
    }
}

impl BootClaims {
    fn selectors(&self) -> Vec<String> {
        let Ok(secure_boot) = &self.secure_boot else { return vec!["boot:secure-boot:unknown".to_owned()] };
        let state = if secure_boot.enabled { "on" } else { "off" };
        let mut selectors = vec![format!("boot:secure-boot:{state}")];
        // What vouched for an image says something only where signatures were checked.
        if secure_boot.enabled {
            let vouched =
                secure_boot.authorities.iter().map(|authority| hex::encode(authority.fingerprint()));
            selectors.extend(vouched.map(|fingerprint| format!("boot:authority:{fingerprint}")));
        }
        selectors
    }
}
