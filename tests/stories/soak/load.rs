//! Clients that ask as fast as they are answered, until the daemon is gone.

use std::error::Error as _;

use e2e::request;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tonic::Code;
use undercroft_ca::csr::der_from_pem;
use undercroft_proto::connect::{Credentials, Server, connect};
use undercroft_proto::identity::DomainAnchors;
use undercroft_proto::v1::issuance_client::IssuanceClient;
use undercroft_proto::v1::{IssueRequest, IssueResponse};

use crate::place::Place;

/// Connections, and requests that each has under way.
const CLIENTS: usize = 3;
const AT_ONCE: usize = 4;

/// Who asks, and for what.
pub(super) struct Load {
    runtime: Runtime,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    root: CertificateDer<'static>,
    csr: Vec<u8>,
}

/// Clients that have begun.
pub(super) struct Begun<'a> {
    runtime: &'a Runtime,
    clients: JoinSet<Vec<IssueResponse>>,
}

impl Load {
    pub(super) fn new(place: &Place) -> Self {
        let (_, csr) = request(&place.path("load"), "leaf", "P-256", None).unwrap();
        let chain = CertificateDer::pem_file_iter(&place.operator.cert).unwrap();
        Self {
            runtime: Runtime::new().unwrap(),
            chain: chain.map(Result::unwrap).collect(),
            key: PrivateKeyDer::from_pem_file(&place.operator.key).unwrap(),
            root: CertificateDer::from_pem_file(place.path("control/root.pem")).unwrap(),
            csr: der_from_pem(&std::fs::read_to_string(csr).unwrap()).unwrap(),
        }
    }

    /// Has clients ask the daemon at `address`.
    pub(super) fn begin(&self, address: &str) -> Begun<'_> {
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let server = Server {
                address: address.to_owned(),
                spiffe_id: "spiffe://control.example/undercroft/server".into(),
                anchors: DomainAnchors::new("control.example", vec![self.root.clone()], Vec::new()),
            };
            let client = client(server, (self.chain.clone(), self.key.clone_key()), self.csr.clone());
            clients.spawn_on(client, self.runtime.handle());
        }
        Begun { runtime: &self.runtime, clients }
    }
}

impl Begun<'_> {
    /// Every answer that arrived, once the daemon is gone.
    pub(super) fn answers(self) -> Vec<IssueResponse> {
        self.runtime.block_on(self.clients.join_all()).into_iter().flatten().collect()
    }
}

async fn client(server: Server, credentials: Credentials, csr: Vec<u8>) -> Vec<IssueResponse> {
    // It may be killed before anybody is connected.
    let Ok(channel) = connect(server, Some(credentials)).await else { return Vec::new() };
    let mut asking = JoinSet::new();
    for n in 0..AT_ONCE {
        let mut client = IssuanceClient::new(channel.clone());
        // One of them asks for what it may not have: refusals are entries, too.
        let id = if n == 0 { "spiffe://prod.example/no/rule" } else { "spiffe://prod.example/ns/a/sa/b" };
        let request = IssueRequest {
            domain: "prod.example".into(),
            profile: "svid".into(),
            csr: csr.clone(),
            spiffe_id: id.into(),
            ..IssueRequest::default()
        };
        asking.spawn(async move {
            let mut answers = Vec::new();
            loop {
                match client.issue(request.clone()).await {
                    Ok(answer) => answers.push(answer.into_inner()),
                    Err(status) if n == 0 && status.code() == Code::PermissionDenied => {}
                    // A status with a source was made on this side: the connection broke. While it stops by itself it
                    // says so.
                    Err(status) if status.source().is_some() || status.code() == Code::Unavailable => {
                        return answers;
                    }
                    Err(status) => panic!("the daemon answered {status:?}"),
                }
            }
        });
    }
    asking.join_all().await.into_iter().flatten().collect()
}
