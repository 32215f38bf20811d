//! The ledger of a TPM: an audit over its commands and a counter, both attested (`docs/ledger.md`).

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use undercroft_keymgr::{Attestation, CommandNumber, Error, ErrorKind, Ledger, LedgerPlaces, SessionThreads};
use undercroft_tpm_wire::attest::{Attest, Attested, counter};
use undercroft_tpm_wire::command::CommandCode;

use crate::attestation_key;
use crate::esys::{Esys, Object};
use crate::tpm::Session;

/// The ledger at some places of a TPM.
pub(crate) struct TpmLedger {
    name: String,
    threads: Arc<SessionThreads<Session>>,
    places: LedgerPlaces,
}

impl TpmLedger {
    pub(crate) fn new(name: String, threads: Arc<SessionThreads<Session>>, places: LedgerPlaces) -> Self {
        Self { name, threads, places }
    }

    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Session, &Places) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let places = Places { at: self.places, device: self.name.clone() };
        self.threads.run(move |session| job(session, &places)).await
    }
}

#[async_trait]
impl Ledger for TpmLedger {
    async fn provision(&self) -> Result<(), Error> {
        self.run(|session, places| {
            let esys = &mut session.esys;
            attestation_key::make(esys, places.at.attestation_key, &places.device)?;
            places.make_counter(esys)?;
            places.audit(esys)
        })
        .await
    }

    async fn attestation_key(&self) -> Result<Vec<u8>, Error> {
        self.run(|session, places| Ok(places.attestation_key(&mut session.esys)?.1)).await
    }

    async fn audited(&self) -> Result<Vec<u32>, Error> {
        self.run(|session, places| places.audited(&mut session.esys)).await
    }

    async fn close_epoch(&self, qualifying: [u8; 32]) -> Result<Attestation, Error> {
        self.run(move |session, places| {
            let (signer, _) = places.attestation_key(&mut session.esys)?;
            let (attest, signature) = session
                .esys
                .command_audit_digest(signer, &qualifying)
                .map_err(|error| error.failed(places.doing("have it attest to its commands")))?;
            let read = Attest::parse(&attest).map_err(|error| {
                Error::with_source(ErrorKind::Fault, places.doing("read what it attests to"), error)
            })?;
            let Attested::CommandAudit { epoch, .. } = read.attested else {
                return Err(Error::new(ErrorKind::Fault, places.doing("make it attest to its commands")));
            };
            // Reading the digest ends the epoch, and being audited itself begins the next (Part 3, section 18.9).
            Ok(Attestation { command: session.begin_epoch(epoch + 1), attest, signature })
        })
        .await
    }

    async fn counter(&self) -> Result<u64, Error> {
        self.run(|session, places| {
            let counter = places.counter(&mut session.esys)?;
            session.esys.read_counter(counter).map_err(|error| error.failed(places.doing("read its counter")))
        })
        .await
    }

    async fn increment(&self) -> Result<CommandNumber, Error> {
        self.run(|session, places| {
            let counter = places.counter(&mut session.esys)?;
            session
                .esys
                .increment(counter)
                .map_err(|error| error.failed(places.doing("count its counter up")))?;
            session.count().ok_or_else(|| places.no_epoch())
        })
        .await
    }

    async fn certify_counter(&self, qualifying: [u8; 32]) -> Result<Attestation, Error> {
        self.run(move |session, places| {
            let (signer, _) = places.attestation_key(&mut session.esys)?;
            let counter = places.counter(&mut session.esys)?;
            let (attest, signature) = session
                .esys
                .certify_counter(signer, counter, &qualifying)
                .map_err(|error| error.failed(places.doing("have it attest to its counter")))?;
            let command = session.count().ok_or_else(|| places.no_epoch())?;
            Ok(Attestation { command, attest, signature })
        })
        .await
    }
}

/// The places, and whose they are.
struct Places {
    at: LedgerPlaces,
    device: String,
}

impl Places {
    fn doing(&self, what: &str) -> String {
        format!("device `{}`: cannot {what}", self.device)
    }

    fn no_epoch(&self) -> Error {
        Error::new(ErrorKind::Fault, self.doing("count a command: no epoch of the ledger was begun"))
    }

    /// A new counter begins above the highest that any counter of the TPM ever had, so that undefining one and defining
    /// it again does not set it back (Part 1, section 37.2.4).
    fn make_counter(&self, esys: &mut Esys) -> Result<(), Error> {
        let index = self.at.counter;
        let failed = || self.doing(&format!("define a counter at {index:#010x}"));
        if esys.persistent(index).map_err(|error| error.failed(failed()))?.is_none() {
            esys.define_counter(index, counter::ATTRIBUTES & !counter::WRITTEN)
                .map_err(|error| error.failed(failed()))?;
            // It has no value, and not its final Name, before it was counted up for the first time.
            let counter = esys.persistent(index).map_err(|error| error.failed(failed()))?;
            if let Some(counter) = counter {
                esys.increment(counter).map_err(|error| error.failed(failed()))?;
            }
        }
        self.counter(esys).map(drop)
    }

    fn audit(&self, esys: &mut Esys) -> Result<(), Error> {
        let is_audited = |codes: &[u32]| CommandCode::REQUIRED.iter().all(|code| codes.contains(&code.0));
        if !is_audited(&esys.audited().map_err(|error| error.failed(self.doing("ask what it audits")))?) {
            esys.audit(&CommandCode::AUDITED.map(|code| code.0))
                .map_err(|error| error.failed(self.doing("have it audit its commands")))?;
        }
        self.audited(esys).map(drop)
    }

    fn audited(&self, esys: &mut Esys) -> Result<Vec<u32>, Error> {
        let codes = esys.audited().map_err(|error| error.failed(self.doing("ask what it audits")))?;
        match CommandCode::REQUIRED.iter().find(|code| !codes.contains(&code.0)) {
            None => Ok(codes),
            Some(missing) => Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "device `{}` does not audit the command {:#x}: run `undercroft keys provision`, or this TPM cannot keep a ledger",
                    self.device, missing.0
                ),
            )),
        }
    }

    /// The attestation key and its public area.
    fn attestation_key(&self, esys: &mut Esys) -> Result<(Object, Vec<u8>), Error> {
        attestation_key::open(esys, self.at.attestation_key, &self.device)
    }

    /// The counter, if it is one of ours.
    fn counter(&self, esys: &mut Esys) -> Result<Object, Error> {
        let index = self.at.counter;
        let object = esys
            .persistent(index)
            .map_err(|error| error.failed(self.doing("look for its counter")))?
            .ok_or_else(|| self.absent(&format!("counter at {index:#010x}")))?;
        let name =
            esys.counter_name(object).map_err(|error| error.failed(self.doing("read its counter's Name")))?;
        match name == counter::name(index).as_bytes() {
            true => Ok(object),
            false => Err(Error::new(
                ErrorKind::Exists,
                format!(
                    "device `{}`: what is at {index:#010x} is not a counter as we make them; choose another index",
                    self.device
                ),
            )),
        }
    }

    fn absent(&self, what: &str) -> Error {
        Error::new(
            ErrorKind::NotFound,
            format!("device `{}` has no {what}; run `undercroft keys provision`", self.device),
        )
    }
}

impl fmt::Debug for TpmLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the ledger of device `{}` ({:x?})", self.name, self.places)
    }
}
