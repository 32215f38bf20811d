//! What the daemon answers in the end, and why it is believed.

use jiff::Timestamp;
use undercroft_attestors::exchange::{self, Wanted};
use undercroft_ca::certificate::AuthorityCertificate;
use undercroft_ca::names::parse_spiffe_id;
use undercroft_ca::time::Validity;
use undercroft_ca::verify::{chain, standing};
use undercroft_cli::Failure;
use undercroft_keys::PublicKey;
use undercroft_log::note::VerifierKey;
use undercroft_proto::node::Issued;

/// A certificate that was verified, with all that stands beside it.
#[derive(Clone, Debug)]
pub struct Received {
    /// The certificate and its issuers, leaf first, without the root; DER each.
    pub chain: Vec<Vec<u8>>,
    /// The roots of the trust domain; DER each.
    pub roots: Vec<Vec<u8>>,
    /// Its SPIFFE ID.
    pub spiffe_id: String,
    /// When it is valid.
    pub validity: Validity,
    /// The SPIFFE bundle document of the trust domain.
    pub bundle: String,
    /// That its intent stands in the log.
    pub tlog_proof: String,
    /// The intent.
    pub entry: Vec<u8>,
    /// The key of the log.
    pub log_key: VerifierKey,
    /// Which entry it is.
    pub index: u64,
    /// What to show next time.
    pub wanted: Wanted,
}

/// What an answer must agree with.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The trust domain.
    pub domain: &'a str,
    /// The key that was asked for.
    pub key: &'a PublicKey,
    /// The roots that are known.
    pub roots: &'a [AuthorityCertificate],
    /// The key of the log; any if none.
    pub log_key: Option<&'a VerifierKey>,
}

impl Received {
    /// Verifies an answer.
    ///
    /// # Errors
    /// Something in it is not what it should be: exit status 5.
    pub fn verify(issued: Issued, expected: &Expected<'_>, now: Timestamp) -> Result<Self, Failure> {
        let wrong = |what: String| Failure::tampered(format!("the daemon's answer: {what}"));
        let holder = chain(&issued.chain, expected.roots, now).map_err(|error| {
            wrong(format!("its chain does not lead to the roots that are known here: {error}"))
        })?;
        if holder.public_key != *expected.key {
            return Err(wrong("the certificate is for another key than the one in this TPM".to_owned()));
        }
        let id = match &holder.uris[..] {
            [uri] => parse_spiffe_id(uri).map_err(|error| wrong(error.to_string()))?,
            uris => return Err(wrong(format!("the certificate has {} URIs; an SVID has one", uris.len()))),
        };
        if id.trust_domain().as_str() != expected.domain || id.path().is_empty() {
            return Err(wrong(format!("{id} names no workload of the trust domain {}", expected.domain)));
        }
        if id.to_string() != issued.spiffe_id {
            return Err(wrong(format!("it says {} and the certificate says {id}", issued.spiffe_id)));
        }
        let log_key: VerifierKey =
            issued.log_key.trim_end().parse().map_err(|error| wrong(format!("the log's key: {error}")))?;
        if let Some(known) = expected.log_key
            && *known != log_key
        {
            return Err(wrong(format!("the log {} has another key than log-key says", log_key.name())));
        }
        let leaf = issued.chain.first().map(Vec::as_slice).unwrap_or_default();
        let standing = standing(leaf, &issued.entry, &issued.tlog_proof, &log_key)
            .map_err(|error| wrong(error.to_string()))?;
        if standing.intent.domain != expected.domain {
            return Err(wrong(format!("its intent is for the trust domain {}", standing.intent.domain)));
        }
        if issued.roots.is_empty() {
            return Err(wrong("it has no roots".to_owned()));
        }
        for root in &issued.roots {
            AuthorityCertificate::from_der(root).map_err(|error| wrong(format!("a root: {error}")))?;
        }
        let bundle: serde_json::Value = serde_json::from_str(&issued.spiffe_bundle)
            .map_err(|error| wrong(format!("the SPIFFE bundle: {error}")))?;
        if !bundle["keys"].is_array() {
            return Err(wrong("the SPIFFE bundle has no keys".to_owned()));
        }
        let wanted: Wanted = exchange::read(&issued.wanted)
            .map_err(|error| wrong(format!("what it wants next time: {error}")))?;
        Ok(Self {
            spiffe_id: issued.spiffe_id,
            validity: holder.validity,
            bundle: issued.spiffe_bundle,
            tlog_proof: issued.tlog_proof,
            index: standing.index,
            entry: issued.entry,
            chain: issued.chain,
            roots: issued.roots,
            log_key,
            wanted,
        })
    }
}
