//! The Admin service.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status};
use undercroft_ca::service::{CertificateAuthority, RotateError, RotationStatus};
use undercroft_ca::time::Lifetime;
use undercroft_log::leaf::{Caller, Channel, Digest};
use undercroft_log::store::LogReader;
use undercroft_proto::v1;
use undercroft_proto::v1::admin_server::Admin;

use crate::issuance::to_its_end;
use crate::rotation;
use crate::status::status;

/// How long a token waits unless somebody says otherwise.
const TOKEN_LIFETIME: Lifetime = Lifetime::hours(1);

/// Entries that are read at once: a full bundle.
const CHUNK: u64 = 256;

/// Bytes of entries in a message: well below what gRPC clients take, 4 MiB, and more than any one entry has.
const CHUNK_BYTES: usize = 1024 * 1024;

/// The users who may administer.
#[derive(Clone, Debug)]
pub struct Administrators(pub BTreeSet<u32>);

impl Administrators {
    /// The user at the other end, if it may administer. The kernel says who it is.
    pub(crate) fn who<T>(&self, request: &Request<T>) -> Result<u32, Status> {
        let uid = request
            .extensions()
            .get::<UdsConnectInfo>()
            .and_then(|info| info.peer_cred)
            .map(|credentials| credentials.uid())
            .ok_or_else(|| Status::unauthenticated("administration is by the Unix socket alone"))?;
        match self.0.contains(&uid) {
            true => Ok(uid),
            false => {
                tracing::warn!(uid, "a user who may not administer tried to");
                Err(Status::permission_denied(format!(
                    "user {uid} may not administer; add it to admin-users in the configuration"
                )))
            }
        }
    }
}

/// How the log calls a user of the socket.
pub(crate) fn caller(uid: u32) -> Caller {
    Caller { id: format!("uid:{uid}"), by: Channel::UnixSocket }
}

/// What the administration service is made of.
#[derive(Clone)]
pub struct AdminSetup {
    /// The CA.
    pub ca: Arc<CertificateAuthority>,
    /// The log of each domain, by the domain's name.
    pub logs: Vec<(String, Arc<dyn LogReader>)>,
    /// The users who may administer.
    pub users: Administrators,
    /// The version of the program.
    pub version: String,
    /// Whether software keys are accepted.
    pub development: bool,
}

/// Serves administration on the Unix socket.
#[derive(Clone)]
pub struct AdminApi(Arc<AdminSetup>);

impl AdminApi {
    /// Serves it.
    pub fn new(setup: AdminSetup) -> Self {
        Self(Arc::new(setup))
    }

    /// The CA.
    pub(crate) fn ca(&self) -> &Arc<CertificateAuthority> {
        &self.0.ca
    }

    /// The user at the other end, if it may administer.
    pub(crate) fn user<T>(&self, request: &Request<T>) -> Result<u32, Status> {
        self.0.users.who(request)
    }

    /// The same, as entries name it.
    pub(crate) fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let uid = self.user(request)?;
        Ok(Caller { id: format!("uid:{uid}"), by: Channel::UnixSocket })
    }

    fn log(&self, domain: &str) -> Result<Arc<dyn LogReader>, Status> {
        self.0
            .logs
            .iter()
            .find(|(name, _)| name == domain)
            .map(|(_, log)| log.clone())
            .ok_or_else(|| Status::not_found(format!("no domain `{domain}`; see `undercroft domain list`")))
    }
}

#[tonic::async_trait]
impl Admin for AdminApi {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::Status>, Status> {
        self.user(&request)?;
        let ca = &self.0.ca;
        let domains = ca
            .domains()
            .iter()
            .map(|domain| {
                let checkpoint = domain.log().checkpoint();
                v1::DomainStatus {
                    name: domain.name().as_str().to_owned(),
                    log_key: domain.log().key().to_string(),
                    log_size: checkpoint.as_ref().map_or(0, |signed| signed.checkpoint().size),
                    checkpoint: checkpoint.map(|signed| signed.note().to_string()).unwrap_or_default(),
                    bundle_sequence: domain.bundle().sequence(),
                    authorities: domain
                        .authorities()
                        .iter()
                        .map(|authority| v1::AuthorityStatus {
                            name: authority.name().to_owned(),
                            subject: authority.certificate().subject().to_string(),
                            not_after: authority.certificate().validity().not_after().to_string(),
                            key_id: authority.certificate().public_key().id().to_string(),
                            algorithm: authority.algorithm().to_string(),
                        })
                        .collect(),
                }
            })
            .collect();
        Ok(Response::new(v1::Status {
            version: self.0.version.clone(),
            development: self.0.development,
            control: ca.control().as_str().to_owned(),
            policy: ca.policy().digest().to_string(),
            rules: ca.policy().rules() as u64,
            domains,
        }))
    }

    async fn create_enrolment(
        &self,
        request: Request<v1::CreateEnrolmentRequest>,
    ) -> Result<Response<v1::CreateEnrolmentResponse>, Status> {
        let caller = self.caller(&request)?;
        let message = request.into_inner();
        let lifetime = match message.lifetime_seconds {
            0 => TOKEN_LIFETIME,
            seconds => Lifetime::seconds(seconds),
        };
        let ca = self.0.ca.clone();
        let made = to_its_end(async move { ca.create_enrolment(caller, &message.spiffe_id, lifetime).await });
        let (token, expires) = made.await?.map_err(status)?;
        Ok(Response::new(v1::CreateEnrolmentResponse {
            token: token.expose().to_owned(),
            expires: expires.to_string(),
        }))
    }

    type ReadLogStream = Pin<Box<dyn Stream<Item = Result<v1::LogChunk, Status>> + Send>>;

    async fn read_log(
        &self,
        request: Request<v1::ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        self.user(&request)?;
        let message = request.into_inner();
        let log = self.log(&message.domain)?;
        let domain = self
            .0
            .ca
            .domain(&message.domain)
            .ok_or_else(|| Status::not_found(format!("no domain `{}`", message.domain)))?;
        let log_key = domain.log().key().to_string();
        let checkpoint = domain.log().checkpoint().ok_or_else(|| {
            Status::unavailable("the log has no signed checkpoint yet; try again in a moment")
        })?;
        let size = checkpoint.checkpoint().size;
        if message.start > size {
            return Err(Status::out_of_range(format!("the log has {size} entries")));
        }
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(async move {
            let first = v1::LogChunk { log_key, ..v1::LogChunk::default() };
            let mut alive = sender.send(Ok(first)).await.is_ok();
            let mut start = message.start;
            while alive && start < size {
                let end = size.min((start / CHUNK + 1) * CHUNK);
                match log.entries(start..end).await {
                    Ok(entries) => {
                        for entries in in_messages(entries) {
                            let chunk = v1::LogChunk { entries, ..v1::LogChunk::default() };
                            alive = alive && sender.send(Ok(chunk)).await.is_ok();
                        }
                    }
                    Err(error) => {
                        // A reader that went away need not be told.
                        let _ = sender.send(Err(Status::unavailable(error.to_string()))).await;
                        alive = false;
                    }
                }
                start = end;
            }
            if alive {
                let last =
                    v1::LogChunk { checkpoint: checkpoint.note().to_string(), ..v1::LogChunk::default() };
                // A reader that went away needs no checkpoint.
                let _ = sender.send(Ok(last)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn get_blob(
        &self,
        request: Request<v1::GetBlobRequest>,
    ) -> Result<Response<v1::GetBlobResponse>, Status> {
        self.user(&request)?;
        let message = request.into_inner();
        let digest: [u8; 32] =
            message.sha256.try_into().map_err(|_| Status::invalid_argument("sha256 must have 32 bytes"))?;
        let blob = self
            .log(&message.domain)?
            .blob(Digest(digest))
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?
            .ok_or_else(|| Status::not_found(format!("no blob {}", Digest(digest))))?;
        Ok(Response::new(v1::GetBlobResponse { blob }))
    }

    async fn plan_rotation(
        &self,
        request: Request<v1::PlanRotationRequest>,
    ) -> Result<Response<v1::Rotation>, Status> {
        let caller = self.caller(&request)?;
        let message = request.into_inner();
        let order = rotation::order(&message)?;
        let ca = self.0.ca.clone();
        let planned =
            to_its_end(
                async move { ca.plan_rotation(caller, &message.domain, order, message.dry_run).await },
            );
        Ok(Response::new(rotation::told(&planned.await?.map_err(rotation::failed)?)))
    }

    async fn get_rotation(
        &self,
        request: Request<v1::GetRotationRequest>,
    ) -> Result<Response<v1::Rotation>, Status> {
        self.user(&request)?;
        let message = request.into_inner();
        let (ca, domain) = (&self.0.ca, &message.domain);
        let standing = ca.rotation_status(domain).await.map_err(rotation::failed)?;
        let standing =
            standing.ok_or_else(|| Status::not_found(format!("`{domain}` has never been rotated")))?;
        let mut told = rotation::told(&standing);
        if !message.requester.is_empty() {
            let lifetime = Lifetime::seconds(message.statement_seconds);
            let requester = &message.requester;
            let statement = match message.to_abandon {
                true => ca.abandonment_statement(domain, requester, lifetime).await,
                false => ca.rotation_statement(domain, requester, lifetime).await,
            };
            told.statement = statement.map_err(rotation::failed)?.unwrap_or_default();
        }
        Ok(Response::new(told))
    }

    async fn advance_rotation(
        &self,
        request: Request<v1::AdvanceRotationRequest>,
    ) -> Result<Response<v1::Rotation>, Status> {
        let caller = self.caller(&request)?;
        let message = request.into_inner();
        let domain = message.domain.clone();
        let given = rotation::advance(message);
        let ca = self.0.ca.clone();
        let of_domain = domain.clone();
        let advanced =
            to_its_end(async move { ca.advance_rotation(caller, &of_domain, given).await }).await?;
        match advanced {
            Ok(standing) => Ok(Response::new(v1::Rotation { advanced: true, ..rotation::told(&standing) })),
            Err(RotateError::NotYet(blockers)) => {
                let standing = self.0.ca.rotation_status(&domain).await.map_err(rotation::failed)?;
                let standing = standing.ok_or_else(|| Status::internal("a rotation that is gone"))?;
                // Those of the attempt, which may have come with cross-certificates.
                Ok(Response::new(rotation::told(&RotationStatus { blockers, ..standing })))
            }
            Err(error) => Err(rotation::failed(error)),
        }
    }

    async fn abandon_rotation(
        &self,
        request: Request<v1::AbandonRotationRequest>,
    ) -> Result<Response<v1::Rotation>, Status> {
        let caller = self.caller(&request)?;
        let v1::AbandonRotationRequest { domain, statement, signatures, dry_run } = request.into_inner();
        let approval = (!statement.is_empty()).then_some((statement, signatures));
        let (ca, of_domain) = (self.0.ca.clone(), domain.clone());
        let abandoned =
            to_its_end(
                async move { ca.abandon_rotation(caller, &of_domain, approval.as_ref(), dry_run).await },
            );
        match abandoned.await? {
            Ok(standing) => Ok(Response::new(rotation::told(&standing))),
            Err(RotateError::NotYet(blockers)) => {
                let standing = self.0.ca.rotation_status(&domain).await.map_err(rotation::failed)?;
                let standing = standing.ok_or_else(|| Status::internal("a rotation that is gone"))?;
                Ok(Response::new(rotation::told(&RotationStatus { blockers, ..standing })))
            }
            Err(error) => Err(rotation::failed(error)),
        }
    }
}

/// Entries, as many together as a message may have.
fn in_messages(entries: Vec<Vec<u8>>) -> Vec<Vec<Vec<u8>>> {
    let mut messages: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut bytes = CHUNK_BYTES;
    for entry in entries {
        bytes += entry.len();
        match messages.last_mut() {
            Some(message) if bytes <= CHUNK_BYTES => message.push(entry),
            _ => {
                bytes = entry.len();
                messages.push(vec![entry]);
            }
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_short_and_nothing_is_lost() {
        let entries: Vec<Vec<u8>> = (0..256u32).map(|n| vec![n as u8; 65_535]).collect();
        let messages = in_messages(entries.clone());
        assert!(messages.iter().all(|message| message.iter().map(Vec::len).sum::<usize>() <= CHUNK_BYTES));
        assert!(messages.len() < 20);
        assert_eq!(messages.concat(), entries);
        assert!(in_messages(Vec::new()).is_empty());
    }
}
