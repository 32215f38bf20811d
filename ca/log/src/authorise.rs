//! What a CA asks of a gate, and what a gate answers (`docs/gate.md`): JSON over HTTP, `POST /authorise` and
//! `POST /authorise-request`. Checkpoints go to gates as they go to witnesses ([`crate::add_checkpoint`]).

use serde::{Deserialize, Serialize};

use crate::leaf::{Base64Bytes, HexKeyId};
use crate::tree::Hash;

/// The most bytes of an application: an entry, a large TBS beside it, a proof.
pub const MAX_APPLICATION: usize = 512 * 1024;

/// A tree of 2^63 entries has proofs no longer than this.
const MAX_PROOF: usize = 63;

/// May the key of this intent sign what it is about, in the session with this nonce?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// The origin of the log.
    pub origin: String,
    /// Where the intent stands.
    pub index: u64,
    /// The size of the checkpoint under which the gate is to find it: one that the gate has accepted.
    pub size: u64,
    /// The inclusion proof, hashes in base64.
    pub proof: Vec<String>,
    /// The entry, byte for byte.
    pub leaf: Base64Bytes,
    /// The to-be-signed bytes, if the entry holds only their digest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tbs: Option<Base64Bytes>,
    /// The nonceTPM of the policy session.
    pub nonce: Base64Bytes,
}

impl Application {
    /// The inclusion proof.
    ///
    /// # Errors
    /// It is too long, or a hash of it is none.
    pub fn path(&self) -> Result<Vec<Hash>, String> {
        if self.proof.len() > MAX_PROOF {
            return Err("the proof has more than 63 hashes".to_owned());
        }
        let hashes = self.proof.iter().map(|hash| hash.parse());
        hashes.collect::<Result<_, _>>().map_err(|_| "a hash is not 32 bytes in base64".to_owned())
    }
}

/// May this key sign the certificate request that says nothing but the key?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestApplication {
    /// The key.
    pub key_id: HexKeyId,
    /// The nonceTPM of the policy session.
    pub nonce: Base64Bytes,
}

/// The gate's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// For how many seconds since the nonce was made it holds.
    pub expiration: i32,
    /// The gate's signature over nonce, expiration and cpHash: DER ECDSA-Sig-Value.
    pub signature: Base64Bytes,
}
