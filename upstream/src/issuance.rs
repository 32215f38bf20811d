//! The Issuance service.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};
use undercroft_ca::names::SpiffeId;
use undercroft_ca::policy::Refusal;
use undercroft_ca::service::{
    CertificateAuthority, EnrolmentToken, IssueRequest, IssuedCertificate, ServiceError, caller_id,
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
    /// Requests that are under way, whether their callers still wait or not.
    under_way: Arc<Semaphore>,
}

/// Requests that may be under way at once. A caller that resets its stream frees its place in the connection, and not
/// this one.
const UNDER_WAY: usize = 4096;

/// When to come back if there are as many.
const RETRY_AFTER: Duration = Duration::from_millis(200);

impl IssuanceApi {
    /// Serves those of `ca`.
    pub fn new(ca: Arc<CertificateAuthority>) -> Self {
        Self { ca, under_way: Arc::new(Semaphore::new(UNDER_WAY)) }
    }

    /// Runs a request to its end, even if its caller hangs up.
    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ServiceError>> + Send + 'static,
    ) -> Result<T, Status> {
        let permit = self.under_way.clone().try_acquire_owned();
        let permit = permit.map_err(|_| status(ServiceError::Busy { retry_after: RETRY_AFTER }))?;
        to_its_end(async move {
            let _permit = permit;
            work.await
        })
        .await?
        .map_err(status)
    }

    /// Who asks, and for what.
    fn authenticated(&self, request: Request<v1::IssueRequest>) -> Result<(SpiffeId, IssueRequest), Status> {
        let peer =
            request.extensions().get::<Peer>().and_then(|peer| Some((peer.spiffe_id.clone()?, peer.until?)));
        let (id, until) = peer.ok_or_else(|| {
            Status::unauthenticated(
                "no client certificate that we know; enrol first, and present the certificate that you got",
            )
        })?;
        if until < self.ca.now() {
            return Err(Status::unauthenticated(format!(
                "the client certificate of this connection ended at {until}; connect again with a new one"
            )));
        }
        let caller = caller_id(&id).map_err(|refusal| refused(&refusal))?;
        Ok((caller, asked(request.into_inner())))
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
        let (caller, asked) = self.authenticated(request)?;
        let (ca, domain) = (self.ca.clone(), asked.domain.clone());
        let issued = self.run(async move { ca.issue(&caller, &asked).await }).await?;
        Ok(Response::new(self.answer(&domain, issued)))
    }

    async fn preview(
        &self,
        request: Request<v1::IssueRequest>,
    ) -> Result<Response<v1::PreviewResponse>, Status> {
        let (caller, asked) = self.authenticated(request)?;
        let ca = self.ca.clone();
        let grant = self.run(async move { ca.preview(&caller, &asked).await }).await?;
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
        let issued = self.run(async move { ca.enrol(&token, &message.csr).await }).await?;
        Ok(Response::new(self.answer(self.ca.control().as_str(), issued)))
    }

    async fn get_bundle(
        &self,
        request: Request<v1::GetBundleRequest>,
    ) -> Result<Response<v1::Bundle>, Status> {
        let peer = request.extensions().get::<Peer>();
        let peer = peer.and_then(|peer| Some((caller_id(peer.spiffe_id.as_ref()?).ok()?, peer.until?)));
        let name = request.into_inner().domain;
        let domain = self.ca.domain(&name).ok_or_else(|| {
            refused(&Refusal::new(
                "domain-unknown",
                format!("the trust domain `{}` is not one of ours", cut(&name)),
            ))
        })?;
        let now = self.ca.now();
        let bundle = match peer.filter(|(_, until)| *until > now) {
            Some((caller, until)) => domain.bundle_for(&caller, until, now),
            None => domain.bundle(),
        };
        Ok(Response::new(v1::Bundle {
            domain: name,
            sequence: bundle.sequence(),
            roots: bundle.roots().iter().map(|root| root.der().to_vec()).collect(),
            tainted: bundle.roots().iter().map(|root| bundle.is_tainted(root)).collect(),
            refresh_hint: bundle.refresh_hint().as_seconds(),
            spiffe_bundle: bundle.to_json().to_string(),
            log_key: domain.log().key().to_string(),
        }))
    }
}

fn asked(message: v1::IssueRequest) -> IssueRequest {
    IssueRequest {
        domain: message.domain,
        profile: message.profile,
        csr: message.csr,
        spiffe_id: message.spiffe_id,
        dns_names: message.dns_names,
        lifetime: (message.lifetime_seconds > 0).then(|| Lifetime::seconds(message.lifetime_seconds)),
    }
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
