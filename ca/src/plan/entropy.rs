//! The random bytes of a plan, from which its serial numbers come.
//!
//! They are drawn when the plan is written and reviewed with it, so that a rehearsal and the ceremony sign the same bytes.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::serial::{Entropy, NoEntropy};

/// 32 random bytes.
#[derive(Clone)]
pub(super) struct PlanEntropy([u8; 32]);

impl PlanEntropy {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| {
            "it must be 32 random bytes in hexadecimal; `openssl rand -hex 32` makes them".to_owned()
        })?;
        match bytes.iter().all(|byte| *byte == bytes[0]) {
            true => Err("its bytes are all the same; `openssl rand -hex 32` makes random ones".into()),
            false => Ok(Self(bytes)),
        }
    }

    /// The bytes for one attempt at one artefact: HMAC-SHA-256 over the artefact's name, the attempt and a counter.
    pub(super) fn of<'a>(&'a self, artefact: &'a str, attempt: u32) -> ArtefactEntropy<'a> {
        ArtefactEntropy { key: Key::new(HMAC_SHA256, &self.0), artefact, attempt, drawn: AtomicU32::new(0) }
    }
}

impl std::fmt::Debug for PlanEntropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PlanEntropy")
    }
}

pub(super) struct ArtefactEntropy<'a> {
    key: Key,
    artefact: &'a str,
    attempt: u32,
    drawn: AtomicU32,
}

impl Entropy for ArtefactEntropy<'_> {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
        let draw = self.drawn.fetch_add(1, Ordering::Relaxed);
        let message =
            [self.artefact.as_bytes(), b"\0", &self.attempt.to_be_bytes(), &draw.to_be_bytes()].concat();
        let tag = sign(&self.key, &message);
        match tag.as_ref().get(..buffer.len()) {
            Some(bytes) => buffer.copy_from_slice(bytes),
            None => return Err(NoEntropy(format!("a plan gives 32 bytes at once and not {}", buffer.len()))),
        }
        Ok(())
    }
}
