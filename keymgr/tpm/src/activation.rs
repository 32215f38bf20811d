//! Credential activation: the TPM shows that its attestation key lives beside its endorsement key
//! (Part 1, section 24; Part 3, section 12.5).

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use undercroft_keymgr::{Activate, EndorsementKey, Error, ErrorKind, SessionThreads};
use undercroft_tpm_wire::endorsement::{CHAIN_INDICES, EndorsementKind};
use undercroft_tpm_wire::{PublicArea, PublicKind};

use crate::attestation_key;
use crate::esys::{Esys, Object};
use crate::key;
use crate::tpm::Session;

/// The persistent handles that are kept for endorsement keys ("TCG TPM v2.0 Provisioning Guidance", section 7.8).
const ENDORSEMENT_HANDLES: std::ops::RangeInclusive<u32> = 0x8101_0001..=0x8101_00ff;

/// The attestation key at a handle of a TPM, and the TPM's endorsement keys.
pub(crate) struct TpmActivation {
    device: String,
    threads: Arc<SessionThreads<Session>>,
    handle: u32,
}

impl TpmActivation {
    pub(crate) fn new(device: String, threads: Arc<SessionThreads<Session>>, handle: u32) -> Self {
        Self { device, threads, handle }
    }
}

#[async_trait]
impl Activate for TpmActivation {
    async fn attestation_key(&self) -> Result<Vec<u8>, Error> {
        let (handle, device) = (self.handle, self.device.clone());
        self.threads
            .run(move |session| {
                attestation_key::make(&mut session.esys, handle, &device)?;
                Ok(attestation_key::open(&mut session.esys, handle, &device)?.1)
            })
            .await
    }

    async fn endorsements(&self) -> Result<Vec<EndorsementKey>, Error> {
        let device = self.device.clone();
        self.threads.run(move |session| endorsements(&mut session.esys, EndorsementKind::ALL, &device)).await
    }

    async fn activate(
        &self,
        endorsement: &EndorsementKey,
        credential: &[u8],
        secret: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let (handle, device) = (self.handle, self.device.clone());
        let (endorsement, credential, secret) =
            (endorsement.public.clone(), credential.to_vec(), secret.to_vec());
        self.threads
            .run(move |session| {
                let esys = &mut session.esys;
                let (attests, _) = attestation_key::open(esys, handle, &device)?;
                open(esys, attests, &endorsement, &credential, &secret, &device)
            })
            .await
    }
}

/// The endorsement keys of these kinds that have a certificate, in their order.
pub(crate) fn endorsements(
    esys: &mut Esys,
    kinds: impl IntoIterator<Item = EndorsementKind>,
    device: &str,
) -> Result<Vec<EndorsementKey>, Error> {
    let mut found = Vec::new();
    let besides = certificates_besides(esys, device)?;
    for kind in kinds {
        let Some(certificate) = certificate(esys, kind, device)? else { continue };
        let read = |esys: &mut Esys, object| {
            let public = esys.read_public(object);
            public.map_err(|error| error.failed(format!("device `{device}`: an endorsement key")))
        };
        let public = with_key(esys, kind, device, read, &|public| is_in(public, &certificate))?;
        let chain = std::iter::once(certificate).chain(besides.iter().cloned()).collect();
        found.push(EndorsementKey { public, chain });
    }
    Ok(found)
}

/// Opens a credential for the attestation key `attests` with the endorsement key of this public area.
pub(crate) fn open(
    esys: &mut Esys,
    attests: Object,
    endorsement: &[u8],
    credential: &[u8],
    secret: &[u8],
    device: &str,
) -> Result<Vec<u8>, Error> {
    let kind = kind_of(endorsement).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, format!("device `{device}`: no such endorsement key"))
    })?;
    with_key(
        esys,
        kind,
        device,
        |esys, object| activate(esys, kind, attests, object, credential, secret, device),
        &|public| public == endorsement,
    )
}

fn activate(
    esys: &mut Esys,
    kind: EndorsementKind,
    attests: Object,
    endorsement: Object,
    credential: &[u8],
    secret: &[u8],
    device: &str,
) -> Result<Vec<u8>, Error> {
    let failed = || format!("device `{device}`: cannot activate the credential");
    if kind.by_password() {
        let opened = esys.activate(attests, endorsement, None, credential, secret);
        return opened.map_err(|error| error.failed(failed()));
    }
    let (session, _) = esys.start_policy_session().map_err(|error| error.failed(failed()))?;
    let opened = esys
        .policy_endorsement(session)
        .and_then(|()| esys.activate(attests, endorsement, Some(session), credential, secret))
        .map_err(|error| error.failed(failed()));
    // ESYS keeps policy sessions after their use, and a TPM has few.
    let ended = esys.end_session(session).map_err(|code| code.failed("cannot end a session"));
    opened.and_then(|secret| ended.map(|()| secret))
}

/// Runs `job` with the endorsement key of a kind whose public area is `right`: the primary key of its template, or a key that
/// the manufacturer or the firmware left at a persistent handle.
fn with_key<T>(
    esys: &mut Esys,
    kind: EndorsementKind,
    device: &str,
    job: impl FnOnce(&mut Esys, Object) -> Result<T, Error>,
    right: &dyn Fn(&[u8]) -> bool,
) -> Result<T, Error> {
    let failed = || format!("device `{device}`: cannot make the endorsement key {kind:?}");
    let primary =
        esys.create_endorsement(&kind.template().encode()).map_err(|error| error.failed(failed()))?;
    let mut job = Some(job);
    let tried = key::with_transient(esys, primary, |esys, object| {
        let public = esys.read_public(object).map_err(|error| error.failed(failed()))?;
        match (right(&public), job.take()) {
            (true, Some(job)) => job(esys, object).map(Some),
            (_, untouched) => {
                job = untouched;
                Ok(None)
            }
        }
    })?;
    if let Some(done) = tried {
        return Ok(done);
    }
    let handles = esys.handles(*ENDORSEMENT_HANDLES.start()).map_err(|error| error.failed(failed()))?;
    for handle in handles.into_iter().filter(|handle| ENDORSEMENT_HANDLES.contains(handle)) {
        let Ok(Some(object)) = esys.persistent(handle) else { continue };
        let public = esys.read_public(object).map_err(|error| error.failed(failed()))?;
        if right(&public)
            && let Some(job) = job.take()
        {
            return job(esys, object);
        }
    }
    Err(Error::new(
        ErrorKind::NotFound,
        format!(
            "device `{device}` has a certificate for an endorsement key {kind:?}, but neither the key of its template nor one at {:#x} to {:#x} is the one that it certifies",
            ENDORSEMENT_HANDLES.start(),
            ENDORSEMENT_HANDLES.end()
        ),
    ))
}

/// The certificate of the endorsement key of a kind, without what may follow it in its index.
fn certificate(esys: &mut Esys, kind: EndorsementKind, device: &str) -> Result<Option<Vec<u8>>, Error> {
    let failed = || format!("device `{device}`: cannot read the certificate at {:#010x}", kind.certificate());
    let index = esys.persistent(kind.certificate()).map_err(|error| error.failed(failed()))?;
    let Some(index) = index else { return Ok(None) };
    let content = esys.read_index(index).map_err(|error| error.failed(failed()))?;
    Ok(sequences(&content).next().map(<[u8]>::to_vec))
}

/// The certificates above those of endorsement keys, if the manufacturer left any.
fn certificates_besides(esys: &mut Esys, device: &str) -> Result<Vec<Vec<u8>>, Error> {
    let failed = || format!("device `{device}`: cannot read the certificates of its manufacturer");
    let mut content = Vec::new();
    let handles = esys.handles(*CHAIN_INDICES.start()).map_err(|error| error.failed(failed()))?;
    for handle in handles.into_iter().filter(|handle| CHAIN_INDICES.contains(handle)) {
        if let Some(index) = esys.persistent(handle).map_err(|error| error.failed(failed()))? {
            content.extend(esys.read_index(index).map_err(|error| error.failed(failed()))?);
        }
    }
    Ok(sequences(&content).map(<[u8]>::to_vec).collect())
}

/// The DER SEQUENCEs that some bytes begin with, one after the other (X.690 section 8.1). They are read elsewhere.
fn sequences(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = match *bytes {
            [0x30, 0x82, high, low, ..] => 4 + (usize::from(high) << 8 | usize::from(low)),
            [0x30, 0x81, length, ..] => 3 + usize::from(length),
            [0x30, length @ ..=0x7f, ..] => 2 + usize::from(length),
            _ => return None,
        };
        let (sequence, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        Some(sequence)
    })
}

/// Whether the numbers of a key stand in a certificate. That it is the certificate's key is for others to judge.
fn is_in(public: &[u8], certificate: &[u8]) -> bool {
    let Ok(area) = PublicArea::parse(public) else { return false };
    let number = match area.kind {
        PublicKind::Rsa(rsa) => rsa.modulus,
        PublicKind::Ecc(ecc) => ecc.x,
    };
    !number.is_empty() && certificate.windows(number.len()).any(|window| window == number)
}

/// The kind of endorsement key that a public area is of.
fn kind_of(public: &[u8]) -> Option<EndorsementKind> {
    let area = PublicArea::parse(public).ok()?;
    EndorsementKind::ALL.into_iter().find(|kind| {
        let template = kind.template();
        let same_kind = match (&template.kind, &area.kind) {
            (PublicKind::Rsa(template), PublicKind::Rsa(own)) => template.bits == own.bits,
            (PublicKind::Ecc(template), PublicKind::Ecc(own)) => template.curve == own.curve,
            _ => false,
        };
        same_kind && template.attributes == area.attributes
    })
}

impl fmt::Debug for TpmActivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the attestation key {:#010x} of device `{}`", self.handle, self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_cut_out_of_what_an_index_holds() {
        let two = [0x30, 1, 9, 0x30, 0x81, 2, 7, 8, 0xff, 0xff];
        let found: Vec<_> = sequences(&two).collect();
        assert_eq!(found, [&[0x30, 1, 9][..], &[0x30, 0x81, 2, 7, 8]]);
        for none in [&[][..], &[0], &[0x30], &[0x30, 5, 1], &[0x30, 0x82, 0xff, 0xff, 1], &[0x30, 0x80, 0, 0]]
        {
            assert_eq!(sequences(none).count(), 0, "{none:?}");
        }
    }
}
