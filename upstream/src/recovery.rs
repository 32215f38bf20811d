//! The Recovery service: freezing, backups, drills.

use std::io::Read as _;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use undercroft_ca::compromise::{Progress, Standing};
use undercroft_ca::freeze;
use undercroft_ca::names::parse_spiffe_id;
use undercroft_ca::service::{Brought, CertificateAuthority};
use undercroft_ca::time::Lifetime;
use undercroft_log::leaf::{Freezable, HexKeyId};
use undercroft_proto::recovery as v1;
use undercroft_proto::recovery::freezable::Kind;
use undercroft_proto::recovery::recovery_server::Recovery;

use crate::admin::{Administrators, caller};
use crate::issuance::to_its_end;
use crate::status::status;

/// Bytes of a backup in a message.
const CHUNK: usize = 256 * 1024;

/// How long an approval waits unless somebody says otherwise.
const WAIT: Lifetime = Lifetime::hours(24);

/// Copies the daemon's state. The joint to whatever keeps it.
#[tonic::async_trait]
pub trait TakeBackup: Send + Sync {
    /// A consistent copy.
    ///
    /// # Errors
    /// Why there is none, in words.
    async fn take(&self) -> Result<StateCopy, String>;
}

/// A consistent copy of the daemon's state.
#[derive(Debug)]
pub struct StateCopy {
    /// What is in it, JSON.
    pub manifest: String,
    /// The copy, to be read from its beginning. It is gone when this is closed.
    pub file: std::fs::File,
    /// Its length in bytes.
    pub length: u64,
}

/// What the service is made of.
#[derive(Clone)]
pub struct RecoverySetup {
    /// The CA.
    pub ca: Arc<CertificateAuthority>,
    /// The users who may administer.
    pub users: Administrators,
    /// Who copies the state.
    pub backup: Arc<dyn TakeBackup>,
}

/// Serves recovery on the Unix socket.
#[derive(Clone)]
pub struct RecoveryApi(Arc<RecoverySetup>);

impl RecoveryApi {
    /// Serves it.
    pub fn new(setup: RecoverySetup) -> Self {
        Self(Arc::new(setup))
    }
}

#[tonic::async_trait]
impl Recovery for RecoveryApi {
    async fn freeze(
        &self,
        request: Request<v1::FreezeRequest>,
    ) -> Result<Response<v1::FreezeResponse>, Status> {
        let caller = caller(self.0.users.who(&request)?);
        let message = request.into_inner();
        let ca = self.0.ca.clone();
        let what = freezable(&ca, message.what)?;
        let frozen = to_its_end(async move { ca.freeze(caller, what, &message.reason).await });
        let frozen = frozen.await?.map_err(status)?;
        Ok(Response::new(v1::FreezeResponse { already: frozen.already, frozen: Some(tell(&frozen.frozen)) }))
    }

    async fn list_freezes(
        &self,
        request: Request<v1::ListFreezesRequest>,
    ) -> Result<Response<v1::ListFreezesResponse>, Status> {
        self.0.users.who(&request)?;
        let freezes = self.0.ca.freezes().iter().map(tell).collect();
        Ok(Response::new(v1::ListFreezesResponse { freezes }))
    }

    async fn state_unfreeze(
        &self,
        request: Request<v1::StateUnfreezeRequest>,
    ) -> Result<Response<v1::StateUnfreezeResponse>, Status> {
        self.0.users.who(&request)?;
        let message = request.into_inner();
        let ca = &self.0.ca;
        let wait = wait(message.wait_seconds);
        let what = freezable(ca, message.what)?;
        let statement = ca.unfreeze_statement(&what, &message.requester, wait).map_err(status)?;
        let statement = statement.text().map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(v1::StateUnfreezeResponse { statement }))
    }

    async fn unfreeze(
        &self,
        request: Request<v1::UnfreezeRequest>,
    ) -> Result<Response<v1::UnfreezeResponse>, Status> {
        let caller = caller(self.0.users.who(&request)?);
        let v1::UnfreezeRequest { what, statement, approvals, dry_run } = request.into_inner();
        let ca = self.0.ca.clone();
        let what = freezable(&ca, what)?;
        let brought = Brought { statement, signatures: approvals };
        let released = to_its_end(async move { ca.unfreeze(caller, what, &brought, dry_run).await });
        Ok(Response::new(v1::UnfreezeResponse { approved_by: released.await?.map_err(status)? }))
    }

    type BackupStream = Pin<Box<dyn Stream<Item = Result<v1::BackupChunk, Status>> + Send>>;

    async fn backup(
        &self,
        request: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let uid = self.0.users.who(&request)?;
        let copy = self.0.backup.take().await.map_err(Status::unavailable)?;
        tracing::info!(uid, bytes = copy.length, "a backup is taken");
        let (sender, receiver) = mpsc::channel(4);
        // Files block. It ends when the reader goes away.
        tokio::task::spawn_blocking(move || {
            let first = v1::BackupChunk { manifest: copy.manifest, length: copy.length, bytes: Vec::new() };
            let mut alive = sender.blocking_send(Ok(first)).is_ok();
            let mut file = copy.file;
            while alive {
                let mut bytes = vec![0; CHUNK];
                let chunk = match file.read(&mut bytes) {
                    Ok(0) => break,
                    Ok(read) => {
                        bytes.truncate(read);
                        Ok(v1::BackupChunk { bytes, ..v1::BackupChunk::default() })
                    }
                    Err(error) => Err(Status::unavailable(format!("the copy cannot be read: {error}"))),
                };
                let whole = chunk.is_ok();
                alive = sender.blocking_send(chunk).is_ok() && whole;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn state_recovery(
        &self,
        request: Request<v1::StateRecoveryRequest>,
    ) -> Result<Response<v1::StateRecoveryResponse>, Status> {
        self.0.users.who(&request)?;
        let message = request.into_inner();
        let wait = wait(message.wait_seconds);
        let statement =
            self.0.ca.recovery_statement(&message.plan, &message.requester, wait).map_err(status)?;
        let statement = statement.text().map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(v1::StateRecoveryResponse { statement }))
    }

    async fn recover(
        &self,
        request: Request<v1::RecoverRequest>,
    ) -> Result<Response<v1::RecoverResponse>, Status> {
        let caller = caller(self.0.users.who(&request)?);
        let v1::RecoverRequest { plan, statement, approvals, dry_run } = request.into_inner();
        let ca = self.0.ca.clone();
        let brought = Brought { statement, signatures: approvals };
        let progress =
            to_its_end(async move { ca.recover_compromise(caller, &plan, &brought, dry_run).await });
        let Progress { approved_by, steps } = progress.await?.map_err(status)?;
        let steps = steps.into_iter().map(|(step, standing)| {
            let (done, open) = match standing {
                Standing::Done => (true, String::new()),
                Standing::Open(open) => (false, open),
            };
            v1::RecoveryStep { step: step.name().to_owned(), done, open }
        });
        Ok(Response::new(v1::RecoverResponse { approved_by, steps: steps.collect() }))
    }

    async fn record_drill(
        &self,
        request: Request<v1::RecordDrillRequest>,
    ) -> Result<Response<v1::RecordDrillResponse>, Status> {
        self.0.users.who(&request)?;
        let message = request.into_inner();
        let ca = self.0.ca.clone();
        let noted = to_its_end(async move { ca.note_drill(&message.summary).await });
        Ok(Response::new(v1::RecordDrillResponse { index: noted.await?.map_err(status)? }))
    }
}

fn wait(seconds: u64) -> Lifetime {
    match seconds {
        0 => WAIT,
        seconds => Lifetime::seconds(seconds),
    }
}

fn tell(frozen: &freeze::Frozen) -> v1::Frozen {
    let kind = match frozen.what {
        Freezable::Authority(_) => Kind::Authority,
        Freezable::Domain(_) => Kind::Domain,
        Freezable::Caller(_) => Kind::Caller,
    };
    let (_, name) = freeze::words(&frozen.what);
    v1::Frozen {
        what: Some(v1::Freezable { kind: kind.into(), name }),
        by: frozen.by.clone(),
        since: frozen.since.to_string(),
        reason: frozen.reason.clone(),
        entry: frozen.entry.map(|entry| entry.to_string()).unwrap_or_default(),
    }
}

/// What somebody means.
fn freezable(ca: &CertificateAuthority, named: Option<v1::Freezable>) -> Result<Freezable, Status> {
    let named = named.ok_or_else(|| Status::invalid_argument("it names nothing to freeze"))?;
    let (kind, name) = (named.kind(), named.name);
    match kind {
        Kind::Unspecified => Err(Status::invalid_argument("it is neither authority, domain nor caller")),
        Kind::Domain => match ca.domain(&name) {
            Some(_) => Ok(Freezable::Domain(name)),
            None => Err(Status::not_found(format!("no domain `{name}`; see `undercroft domain list`"))),
        },
        Kind::Caller => match parse_spiffe_id(&name) {
            Ok(id) if !id.path().is_empty() => Ok(Freezable::Caller(id.to_string())),
            Ok(id) => Err(Status::not_found(format!(
                "{id} is the ID of a trust domain, and nobody calls with it; freeze the domain"
            ))),
            Err(error) => Err(Status::not_found(format!("no caller `{name}`: {error}"))),
        },
        Kind::Authority => authority(ca, &name),
    }
}

/// An authority by `domain/name`, by its name alone, or by its key id. One that is frozen is found by its key id even if it
/// is in service no more.
fn authority(ca: &CertificateAuthority, named: &str) -> Result<Freezable, Status> {
    let all: Vec<_> = ca
        .domains()
        .iter()
        .flat_map(|domain| domain.authorities().iter().map(move |authority| (domain, authority)))
        .map(|(domain, authority)| {
            let key = HexKeyId(authority.certificate().public_key().id());
            (format!("{}/{}", domain.name().as_str(), authority.name()), authority.name(), key)
        })
        .collect();
    let frozen = ca.freezes().into_iter().map(|frozen| frozen.what);
    let mut frozen = frozen.filter(|what| matches!(what, Freezable::Authority(_)));
    if let Some(what) = frozen.find(|what| freeze::words(what).1 == named) {
        return Ok(what);
    }
    let is_meant = |(full, name, key): &&(String, &str, HexKeyId)| {
        full == named || *name == named || key.0.to_string() == named
    };
    let found: Vec<_> = all.iter().filter(is_meant).collect();
    let listed = |some: &[&(String, &str, HexKeyId)]| {
        some.iter().map(|(full, ..)| &**full).collect::<Vec<_>>().join(", ")
    };
    match found[..] {
        [(_, _, key)] => Ok(Freezable::Authority(*key)),
        [] => {
            let known = listed(&all.iter().collect::<Vec<_>>());
            Err(Status::not_found(format!("no authority `{named}`; known are {known}")))
        }
        _ => Err(Status::not_found(format!("`{named}` may be {}; say which", listed(&found)))),
    }
}
