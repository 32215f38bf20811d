//! The key by which a TPM attests: made once, at a persistent handle.

use undercroft_keymgr::{Error, ErrorKind};
use undercroft_tpm_wire::{ObjectAttributes, PublicArea};

use crate::esys::{Esys, Hierarchy, Object};
use crate::key;
use crate::template;

/// Makes the key if nothing is at `handle`; what is there must be one.
///
/// # Errors
/// The TPM refuses, or something else is there.
pub(crate) fn make(esys: &mut Esys, handle: u32, device: &str) -> Result<(), Error> {
    let failed = || doing(device, "make its attestation key");
    if esys.persistent(handle).map_err(|error| error.failed(failed()))?.is_some() {
        return open(esys, handle, device).map(drop);
    }
    let root = esys
        .create_primary(Hierarchy::Owner, &template::storage_root()?)
        .map_err(|error| error.failed(failed()))?;
    let template = template::attestation_key()?;
    key::with_transient(esys, root, |esys, root| {
        let created = esys.create(root, &template, &[]).map_err(|error| error.failed(failed()))?;
        let loaded = esys.load(root, &created).map_err(|error| error.failed(failed()))?;
        key::with_transient(esys, loaded, |esys, loaded| {
            esys.persist(loaded, handle).map_err(|error| error.failed(failed()))
        })
    })
}

/// The key and its public area, if it is one: restricted, made in this TPM and fixed to it.
///
/// # Errors
/// `NotFound` if nothing is there, `Denied` if it could sign what its TPM never said.
pub(crate) fn open(esys: &mut Esys, handle: u32, device: &str) -> Result<(Object, Vec<u8>), Error> {
    let object = esys
        .persistent(handle)
        .map_err(|error| error.failed(doing(device, "look for its attestation key")))?
        .ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!(
                    "device `{device}` has no attestation key at {handle:#010x}; run `undercroft keys provision` or `undercroft keys activate`"
                ),
            )
        })?;
    let public =
        esys.read_public(object).map_err(|error| error.failed(doing(device, "read its attestation key")))?;
    let wanted = ObjectAttributes::FIXED_TPM
        | ObjectAttributes::FIXED_PARENT
        | ObjectAttributes::SENSITIVE_DATA_ORIGIN
        | ObjectAttributes::RESTRICTED
        | ObjectAttributes::SIGN;
    match PublicArea::parse(&public) {
        Ok(area) if area.attributes.has(wanted) => Ok((object, public)),
        _ => Err(Error::new(
            ErrorKind::Denied,
            format!(
                "device `{device}`: the key at {handle:#010x} is no attestation key: it could sign what its TPM never said"
            ),
        )),
    }
}

fn doing(device: &str, what: &str) -> String {
    format!("device `{device}`: cannot {what}")
}
