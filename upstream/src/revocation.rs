//! The Revocation service, on the administration socket.

use tonic::{Request, Response, Status};
use undercroft_ca::serial::SerialNumber;
use undercroft_ca::service::{Certificates, RevokeRequest};
use undercroft_log::leaf::{Caller, Channel, Reason, RevocationEvent};
use undercroft_proto::v1;
use undercroft_proto::v1::revocation_server::Revocation;

use crate::admin::AdminApi;
use crate::issuance::to_its_end;
use crate::status::status;

/// Serves revocation to those who may administer.
#[derive(Clone)]
pub struct RevocationApi(AdminApi);

impl RevocationApi {
    /// Serves it to the users whom `admin` serves.
    pub fn new(admin: AdminApi) -> Self {
        Self(admin)
    }
}

#[tonic::async_trait]
impl Revocation for RevocationApi {
    async fn revoke(
        &self,
        request: Request<v1::RevokeRequest>,
    ) -> Result<Response<v1::RevokeResponse>, Status> {
        let uid = self.0.user(&request)?;
        let caller = Caller { id: format!("uid:{uid}"), by: Channel::UnixSocket };
        let message = request.into_inner();
        let (dry_run, request) = (message.dry_run, read(message)?);
        let ca = self.0.ca().clone();
        let revoked = to_its_end(async move { ca.revoke(caller, &request, dry_run).await });
        let decided = revoked.await?.map_err(status)?;
        let certificates = decided.certificates.into_iter().map(|found| v1::RevokedCertificate {
            serial: found.serial.as_bytes().to_vec(),
            issuer: found.issuer.to_string(),
            name: found.name,
            not_after: found.not_after.to_string(),
        });
        let certificates = certificates.collect();
        Ok(Response::new(v1::RevokeResponse { certificates, published: decided.is_published }))
    }
}

fn read(message: v1::RevokeRequest) -> Result<RevokeRequest, Status> {
    let event = match message.event() {
        v1::revoke_request::Event::Revoke => RevocationEvent::Revoke,
        v1::revoke_request::Event::Hold => RevocationEvent::Hold,
        v1::revoke_request::Event::Release => RevocationEvent::Release,
        v1::revoke_request::Event::Unspecified => {
            return Err(Status::invalid_argument("event: say whether to revoke, hold or release"));
        }
    };
    let serials = message.serials.into_iter().map(|serial| {
        serial.try_into().ok().and_then(SerialNumber::from_bytes).ok_or_else(|| {
            Status::invalid_argument("serials: a serial number of ours has 16 bytes, the first 0x01 to 0x7f")
        })
    });
    let serials: Vec<_> = serials.collect::<Result<_, _>>()?;
    let certificates = match (serials.is_empty(), message.spiffe_id.is_empty()) {
        (false, true) => Certificates::Serials(serials),
        (true, false) => Certificates::Named(message.spiffe_id),
        _ => return Err(Status::invalid_argument("give serials or spiffe_id, and not both")),
    };
    let reason = match message.reason.is_empty() {
        true => None,
        false => Some(message.reason.parse::<Reason>().map_err(Status::invalid_argument)?),
    };
    Ok(RevokeRequest {
        domain: message.domain,
        authority: (!message.authority.is_empty()).then_some(message.authority),
        certificates,
        event,
        reason,
    })
}
