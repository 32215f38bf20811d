//! TPM 2.0 key files: a key that only its TPM can use, as OpenSSL's providers and engines read it
//! (draft-bottomley-tpm2-keys, "ASN.1 Specification for TPM 2.0 Key Files", section 3).

use der::asn1::OctetStringRef;
use der::oid::ObjectIdentifier;
use der::{Decode as _, Encode as _, Sequence};
use undercroft_ca::certificate::to_pem;
use undercroft_tpm::NodeKey;

const LABEL: &str = "TSS2 PRIVATE KEY";
/// id-loadablekey: a key that TPM2_Load takes.
const LOADABLE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.10.1.3");
/// TPM_RH_OWNER: below the primary key that the storage template of the owner hierarchy gives, which whoever loads the key makes.
const OWNER: u32 = 0x4000_0001;

/// TPMKey, as far as we write it: there is no policy, no secret and no description.
#[derive(Sequence)]
struct TpmKeyFile<'a> {
    kind: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    empty_auth: Option<bool>,
    parent: u32,
    public: &'a OctetStringRef,
    private: &'a OctetStringRef,
}

/// The key as a PEM file.
///
/// # Errors
/// It cannot be encoded: a part is longer than any of a TPM.
pub fn write(key: &NodeKey) -> Result<String, String> {
    let wrong = |error: der::Error| format!("the key cannot be encoded: {error}");
    let (public, private) = (sized(key.public())?, sized(key.private())?);
    let file = TpmKeyFile {
        kind: LOADABLE,
        empty_auth: Some(true),
        parent: OWNER,
        public: OctetStringRef::new(&public).map_err(wrong)?,
        private: OctetStringRef::new(&private).map_err(wrong)?,
    };
    to_pem(LABEL, &file.to_der().map_err(wrong)?).map_err(|error| error.to_string())
}

/// The key in a PEM file that [`write`] made.
///
/// # Errors
/// It is none of ours: another kind, parent or authorisation, damaged, or with something behind it.
pub fn read(pem: &str) -> Result<NodeKey, String> {
    let (label, der) = der::pem::decode_vec(pem.as_bytes()).map_err(|error| error.to_string())?;
    if label != LABEL {
        return Err(format!("it is a PEM file of `{label}` and not of `{LABEL}`"));
    }
    let file = TpmKeyFile::from_der(&der).map_err(|error| error.to_string())?;
    if file.kind != LOADABLE || file.empty_auth != Some(true) || file.parent != OWNER {
        return Err("it is no loadable key below the owner's storage key, without authorisation".to_owned());
    }
    let (public, private) = (content(file.public.as_bytes())?, content(file.private.as_bytes())?);
    NodeKey::new(public, private).map_err(|error| error.to_string())
}

/// TPM2B: the content with its size in front (Part 2, section 10.4).
fn sized(content: &[u8]) -> Result<Vec<u8>, String> {
    let size = u16::try_from(content.len()).map_err(|_| "a part of the key is too long".to_owned())?;
    Ok([&size.to_be_bytes(), content].concat())
}

fn content(sized: &[u8]) -> Result<Vec<u8>, String> {
    match sized.split_first_chunk() {
        Some((size, content)) if usize::from(u16::from_be_bytes(*size)) == content.len() => {
            Ok(content.to_vec())
        }
        _ => Err("a part of the key has another size than it says".to_owned()),
    }
}
