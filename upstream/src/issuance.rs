//! The Issuance service.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use undercroft_ca::names::SpiffeId;
use undercroft_ca::policy::Refusal;
use undercroft_ca::service::{
    CertificateAuthority, EnrolmentToken, IssueRequest, IssuedCertificate, caller_id,
};
use undercroft_ca::time::Lifetime;
use undercroft_proto::v1;
use undercroft_proto::v1::issuance_server::Issuance;

use crate::acceptor::Peer;
use crate::status::{refused, status};

/// Serves certificates and bundles.
#[derive(Clone)]
pub struct IssuanceApi {
    ca: Arc<CertificateAuthority>,
}

impl IssuanceApi {
    /// Serves those of `ca`.
    pub fn new(ca: Arc<CertificateAuthority>) -> Self {
        Self { ca }
    }

    fn answer(&self, domain: &str, issued: IssuedCertificate) -> v1::IssueResponse {
        let log_key = self.ca.domain(domain).map(|domain| domain.log().key().to_string());
        v1::IssueResponse {
            chain: issued.chain.iter().map(|der| der.to_vec()).collect(),
            roots: issued.roots,
            tlog_proof: issued.receipt.proof().to_string(),
            entry: issued.receipt.leaf().to_vec(),
            log_key: log_key.unwrap_or_default(),
        }
    }
}

#[tonic::async_trait]
impl Issuance for IssuanceApi {
    async fn issue(&self, request: Request<v1::IssueRequest>) -> Result<Response<v1::IssueResponse>, Status> {
        let (caller, asked) = authenticated(request)?;
        let (ca, domain) = (self.ca.clone(), asked.domain.clone());
        let issued = to_its_end(async move { ca.issue(&caller, &asked).await }).await?.map_err(status)?;
        Ok(Response::new(self.answer(&domain, issued)))
    }

    async fn preview(
        &self,
        request: Request<v1::IssueRequest>,
    ) -> Result<Response<v1::PreviewResponse>, Status> {
        let (caller, asked) = authenticated(request)?;
        let ca = self.ca.clone();
        let grant = to_its_end(async move { ca.preview(&caller, &asked).await }).await?.map_err(status)?;
        Ok(Response::new(v1::PreviewResponse {
            rule: grant.rule().to_owned(),
            spiffe_id: grant.identity().uri.clone().unwrap_or_default(),
            dns_names: grant.identity().dns_names.iter().map(|name| name.as_str().to_owned()).collect(),
            lifetime_seconds: grant.lifetime().as_seconds(),
            withheld: grant.withheld().to_vec(),
        }))
    }

    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::IssueResponse>, Status> {
        let message = request.into_inner();
        let token = EnrolmentToken::presented(message.token);
        let ca = self.ca.clone();
        let issued =
            to_its_end(async move { ca.enrol(&token, &message.csr).await }).await?.map_err(status)?;
        Ok(Response::new(self.answer(self.ca.control().as_str(), issued)))
    }

    async fn get_bundle(
        &self,
        request: Request<v1::GetBundleRequest>,
    ) -> Result<Response<v1::Bundle>, Status> {
        let name = request.into_inner().domain;
        let domain = self.ca.domain(&name).ok_or_else(|| {
            refused(&Refusal::new(
                "domain-unknown",
                format!("the trust domain `{}` is not one of ours", cut(&name)),
            ))
        })?;
        let bundle = domain.bundle();
        Ok(Response::new(v1::Bundle {
            domain: name,
            sequence: bundle.sequence(),
            roots: bundle.roots().iter().map(|root| root.der().to_vec()).collect(),
            spiffe_bundle: bundle.to_json().to_string(),
            log_key: domain.log().key().to_string(),
        }))
    }
}

/// Who asks, and for what.
fn authenticated(request: Request<v1::IssueRequest>) -> Result<(SpiffeId, IssueRequest), Status> {
    let peer =
        request.extensions().get::<Peer>().and_then(|peer| peer.spiffe_id.clone()).ok_or_else(|| {
            Status::unauthenticated(
                "no client certificate that we know; enrol first, and present the certificate that you got",
            )
        })?;
    let caller = caller_id(&peer).map_err(|refusal| refused(&refusal))?;
    let message = request.into_inner();
    let asked = IssueRequest {
        domain: message.domain,
        profile: message.profile,
        csr: message.csr,
        spiffe_id: message.spiffe_id,
        dns_names: message.dns_names,
        lifetime: (message.lifetime_seconds > 0).then(|| Lifetime::seconds(message.lifetime_seconds)),
    };
    Ok((caller, asked))
}

/// Runs an issuance to its end even if the caller hangs up: an intent must not be left without an outcome because
/// somebody closed a connection.
pub(crate) async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Status> {
    tokio::spawn(work).await.map_err(|error| {
        tracing::error!(%error, "a request panicked");
        Status::internal("a bug; it has been reported in the daemon's log")
    })
}

fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}
