//! What a node that attests needs of its TPM (`docs/node.md`): a key for its certificate, and the evidence for it.
//!
//! A connection is opened for one exchange. Nothing is made persistent: the attestation key is the primary key that its template
//! gives each time, and the certificate's key is kept outside as the TPM wrapped it.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use undercroft_keymgr::{EndorsementKey, Error, ErrorKind, ToSign};
use undercroft_keys::{KeyAlgorithm, PublicKey};
use undercroft_tpm_wire::attest::{Attest, Attested};
use undercroft_tpm_wire::endorsement::EndorsementKind;
use undercroft_tpm_wire::pcr::PcrSelection;
use undercroft_tpm_wire::{HashAlgorithm, ObjectAttributes, PublicArea};

use crate::activation;
use crate::esys::{Esys, Hierarchy, Object};
use crate::key;
use crate::template;

/// The kernel's resource manager, which gives each connection slots of its own.
const RESOURCE_MANAGER: &str = "/dev/tpmrm0";
/// The TPM itself, which has one user at a time.
const BARE: &str = "/dev/tpm0";

/// How often PCRs are read and quoted if they change in between.
const QUOTE_TRIES: usize = 5;

/// The values of PCRs that TPM2_PCR_Read gives at once (a TPML_DIGEST, Part 2, section 10.9.3).
const PCRS_AT_ONCE: usize = 8;

/// A TPM of a node, as long as a connection to it is open.
pub struct NodeTpm {
    tcti: String,
    esys: Esys,
    /// The attestation key, since it was first needed.
    attests: Option<Object>,
}

/// The key of a node's certificate: what it is, and its private part as the TPM has wrapped it, which no other TPM can load.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeKey {
    public: Vec<u8>,
    private: Vec<u8>,
    key: PublicKey,
}

/// What the TPM says, signed by its attestation key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// TPMS_ATTEST.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
}

/// A quote and the values that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeQuote {
    /// What the TPM says of them.
    pub signed: Statement,
    /// The values of the selected PCRs, in their order.
    pub values: Vec<Vec<u8>>,
}

impl NodeTpm {
    /// Connects to the TPM that a TCTI configuration names, or else to the one behind the kernel's resource manager.
    ///
    /// # Errors
    /// `Unavailable` or `NotFound`: there is no TPM, or we may not use it; with what is missing.
    pub fn open(tcti: Option<&str>) -> Result<Self, Error> {
        let tcti = match tcti {
            Some(tcti) => tcti.to_owned(),
            None => {
                is_usable(Path::new(RESOURCE_MANAGER), Path::new(BARE))?;
                format!("device:{RESOURCE_MANAGER}")
            }
        };
        let esys = Esys::connect(&tcti)?;
        Ok(Self { tcti, esys, attests: None })
    }

    /// The endorsement keys that have a certificate, those of elliptic curves first.
    ///
    /// # Errors
    /// `NotFound` if there is none; otherwise the TPM does not answer, or a key is not where its certificate says.
    pub fn endorsements(&mut self) -> Result<Vec<EndorsementKey>, Error> {
        let kinds = [
            EndorsementKind::P256,
            EndorsementKind::P384,
            EndorsementKind::Rsa2048,
            EndorsementKind::Rsa3072,
        ];
        let found = activation::endorsements(&mut self.esys, kinds, &self.tcti)?;
        match found.is_empty() {
            false => Ok(found),
            true => Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "the TPM `{}` holds no certificate for an endorsement key, so that nobody vouches for it; some makers have it fetched: write it to NV index {:#010x}",
                    self.tcti,
                    EndorsementKind::P256.certificate()
                ),
            )),
        }
    }

    /// TPMT_PUBLIC of the attestation key, a primary key of the endorsement hierarchy.
    ///
    /// # Errors
    /// The TPM refuses to make it.
    pub fn attestation_key(&mut self) -> Result<Vec<u8>, Error> {
        let attests = self.attests()?;
        self.esys.read_public(attests).map_err(|error| error.failed(self.doing("read its attestation key")))
    }

    /// What is in a credential (the contents of TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET) for the attestation key.
    ///
    /// # Errors
    /// `Denied` if it was made for another attestation or endorsement key.
    pub fn activate(
        &mut self,
        endorsement: &EndorsementKey,
        credential: &[u8],
        secret: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let attests = self.attests()?;
        activation::open(&mut self.esys, attests, &endorsement.public, credential, secret, &self.tcti)
    }

    /// Makes a key for a certificate: P-256, fixed to this TPM, without an authValue.
    ///
    /// # Errors
    /// The TPM refuses.
    pub fn create_key(&mut self) -> Result<NodeKey, Error> {
        let failed = self.doing("make a key");
        // Nobody can guess what there is not, and a lockout that others caused must not stop the node.
        let template = template::node_key()?;
        let (public, private) = self.below_root(|esys, root| {
            let created = esys.create(root, &template, &[]).map_err(|error| error.failed(&failed))?;
            created.parts()
        })?;
        NodeKey::new(public, private)
    }

    /// Signs a message with ECDSA and SHA-256: a signature as X.509 carries it, verified under the key.
    ///
    /// # Errors
    /// `Denied` if the key is not of this TPM, or of one that was cleared since.
    pub fn sign(&mut self, key: &NodeKey, message: &[u8]) -> Result<Vec<u8>, Error> {
        let algorithm = KeyAlgorithm::EcdsaP256;
        let (subject, input) = (self.doing("sign"), ToSign::Message(message.to_vec()));
        let signature =
            self.with_key(key, |esys, object| key::sign(esys, object, algorithm, &input, &subject))?;
        input.verify(&key.key, algorithm, &signature).map_err(|_| {
            Error::new(ErrorKind::Fault, format!("{subject}: its signature does not verify under its key"))
        })?;
        Ok(signature)
    }

    /// TPM2_Certify of a key by the attestation key.
    ///
    /// # Errors
    /// As [`NodeTpm::sign`].
    pub fn certify(&mut self, key: &NodeKey, qualifying: &[u8; 32]) -> Result<Statement, Error> {
        let (attests, failed) = (self.attests()?, self.doing("certify a key"));
        let (attest, signature) = self.with_key(key, |esys, object| {
            esys.certify(object, attests, qualifying).map_err(|error| error.failed(&failed))
        })?;
        Ok(Statement { attest, signature })
    }

    /// TPM2_Quote, with the values that are in it: read again if something was measured between the two commands.
    ///
    /// # Errors
    /// `Unsupported` if this TPM does not have one of the PCRs, `Unavailable` if they do not stand still.
    pub fn quote(&mut self, selection: &PcrSelection, qualifying: &[u8; 32]) -> Result<NodeQuote, Error> {
        let attests = self.attests()?;
        let encoded = selection.encode();
        for _ in 0..QUOTE_TRIES {
            let values = self.read(selection)?;
            let (attest, signature) = self
                .esys
                .quote(attests, qualifying, &encoded)
                .map_err(|error| error.failed(self.doing("quote PCRs")))?;
            let said = Attest::parse(&attest)
                .map_err(|error| Error::with_source(ErrorKind::Fault, self.doing("quote PCRs"), error))?;
            // By the hash of the attestation key's scheme (Part 3, section 18.4).
            let digest = HashAlgorithm::Sha256.digest(&values.concat());
            if matches!(&said.attested, Attested::Quote { digest: quoted, .. } if *quoted == digest) {
                return Ok(NodeQuote { signed: Statement { attest, signature }, values });
            }
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("{}: they changed {QUOTE_TRIES} times while they were read", self.doing("quote PCRs")),
        ))
    }

    fn read(&mut self, selection: &PcrSelection) -> Result<Vec<Vec<u8>>, Error> {
        let all: Vec<_> = selection.iter().collect();
        let mut values = Vec::with_capacity(all.len());
        for one_bank in all.chunk_by(|a, b| a.0 == b.0) {
            for some in one_bank.chunks(PCRS_AT_ONCE) {
                let (bank, pcrs) = (some[0].0, some.iter().map(|(_, pcr)| *pcr).collect::<Vec<_>>());
                let missing = || {
                    let what = format!("{}: it has not all of {bank:?} {pcrs:?}", self.tcti);
                    Error::new(ErrorKind::Unsupported, what)
                };
                let selection = PcrSelection::of(bank, &pcrs).ok_or_else(missing)?;
                let read = self.esys.read_pcrs(&selection.encode());
                let read = read.map_err(|error| error.failed(self.doing("read PCRs")))?;
                if read.len() != pcrs.len() {
                    return Err(missing());
                }
                values.extend(read);
            }
        }
        Ok(values)
    }

    fn attests(&mut self) -> Result<Object, Error> {
        if let Some(attests) = self.attests {
            return Ok(attests);
        }
        let attests = self
            .esys
            .create_primary(Hierarchy::Endorsement, &template::attestation_key()?)
            .map_err(|error| error.failed(self.doing("make its attestation key")))?;
        self.attests = Some(attests);
        Ok(attests)
    }

    /// Runs `job` with a loaded key.
    fn with_key<T>(
        &mut self,
        key: &NodeKey,
        job: impl FnOnce(&mut Esys, Object) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let failed = self.doing("load the certificate's key");
        let loaded = self.below_root(|esys, root| {
            esys.load_kept(root, &key.public, &key.private).map_err(|error| error.failed(&failed))
        })?;
        key::with_transient(&mut self.esys, loaded, job)
    }

    fn below_root<T>(&mut self, job: impl FnOnce(&mut Esys, Object) -> Result<T, Error>) -> Result<T, Error> {
        let root = self
            .esys
            .create_primary(Hierarchy::Owner, &template::storage_root()?)
            .map_err(|error| error.failed(self.doing("make its storage root key")))?;
        key::with_transient(&mut self.esys, root, job)
    }

    fn doing(&self, what: &str) -> String {
        format!("the TPM `{}` cannot {what}", self.tcti)
    }
}

impl Drop for NodeTpm {
    fn drop(&mut self) {
        if let Some(attests) = self.attests.take() {
            // A resource manager does so anyway, and without one there is nobody left to be told.
            let _ = self.esys.flush(attests);
        }
    }
}

impl NodeKey {
    /// A key from what was kept: its TPMT_PUBLIC, and the content of its TPM2B_PRIVATE.
    ///
    /// # Errors
    /// It is no P-256 key that was made in a TPM and stays there.
    pub fn new(public: Vec<u8>, private: Vec<u8>) -> Result<Self, Error> {
        let other = |what: &str| Error::new(ErrorKind::Denied, format!("the certificate's key {what}"));
        let area = PublicArea::parse(&public).map_err(|error| {
            Error::with_source(ErrorKind::Denied, "the certificate's key has a malformed public area", error)
        })?;
        let held = ObjectAttributes::FIXED_TPM
            | ObjectAttributes::FIXED_PARENT
            | ObjectAttributes::SENSITIVE_DATA_ORIGIN
            | ObjectAttributes::SIGN;
        if !area.attributes.has(held) || area.attributes.has(ObjectAttributes::RESTRICTED) {
            return Err(other("could leave its TPM, or is no signing key"));
        }
        let key = area.public_key().map_err(|error| {
            Error::with_source(ErrorKind::Denied, "the certificate's key cannot be read", error)
        })?;
        match key.key_type() == KeyAlgorithm::EcdsaP256.key_type() {
            true => Ok(Self { public, private, key }),
            false => Err(other("is no P-256 key")),
        }
    }

    /// TPMT_PUBLIC.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The content of TPM2B_PRIVATE.
    pub fn private(&self) -> &[u8] {
        &self.private
    }

    /// The public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.key
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.key.id())
    }
}

impl fmt::Debug for NodeTpm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the TPM `{}`", self.tcti)
    }
}

/// Whether a TPM can be used through its resource manager; otherwise what is missing.
fn is_usable(managed: &Path, bare: &Path) -> Result<(), Error> {
    let at = managed.display();
    let error = match OpenOptions::new().read(true).write(true).open(managed) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    let (kind, advice) = match (error.kind(), bare.exists()) {
        (io::ErrorKind::PermissionDenied, _) => {
            (ErrorKind::Unavailable, "the process must be in its group, `tss` on most systems".to_owned())
        }
        (io::ErrorKind::NotFound, true) => (
            ErrorKind::NotFound,
            format!("there is {}, but no resource manager: it needs Linux 4.12 with TPM 2.0, or tcti = \"tabrmd\"", bare.display()),
        ),
        (io::ErrorKind::NotFound, false) => (
            ErrorKind::NotFound,
            "this machine shows no TPM: switch it on in the firmware (fTPM, PTT), give the virtual machine one, or load its module (tpm_tis, tpm_crb)".to_owned(),
        ),
        _ => (ErrorKind::Unavailable, "somebody else may hold it".to_owned()),
    };
    Err(Error::with_source(kind, format!("cannot open {at}: {error}; {advice}"), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_for_a_tpm_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (managed, bare) = (folder.path().join("tpmrm0"), folder.path().join("tpm0"));
        let told = is_usable(&managed, &bare).unwrap_err();
        assert!(told.kind() == ErrorKind::NotFound && told.to_string().contains("shows no TPM"), "{told}");
        std::fs::write(&bare, "").unwrap();
        let told = is_usable(&managed, &bare).unwrap_err();
        assert!(told.to_string().contains("no resource manager"), "{told}");
        std::fs::write(&managed, "").unwrap();
        is_usable(&managed, &bare).unwrap();
    }
}
