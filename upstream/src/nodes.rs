//! The Nodes service, on the administration socket.

use tonic::{Request, Response, Status};
use undercroft_ca::store::NodeFact;
use undercroft_proto::node;
use undercroft_proto::node::nodes_server::Nodes;

use crate::admin::AdminApi;
use crate::issuance::to_its_end;
use crate::status::status;

/// Nodes in a page.
const PAGE: u32 = 1000;

/// Serves what is known of nodes to those who may administer.
#[derive(Clone)]
pub struct NodesApi(AdminApi);

impl NodesApi {
    /// Serves it to the users whom `admin` serves.
    pub fn new(admin: AdminApi) -> Self {
        Self(admin)
    }
}

#[tonic::async_trait]
impl Nodes for NodesApi {
    async fn list_nodes(
        &self,
        request: Request<node::ListNodesRequest>,
    ) -> Result<Response<node::ListNodesResponse>, Status> {
        self.0.user(&request)?;
        let node::ListNodesRequest { domain, after } = request.into_inner();
        let nodes = self.0.ca().nodes_after(&domain, &after, PAGE).await.map_err(status)?;
        Ok(Response::new(node::ListNodesResponse { nodes: nodes.into_iter().map(told).collect() }))
    }

    async fn release_node(
        &self,
        request: Request<node::ReleaseNodeRequest>,
    ) -> Result<Response<node::Node>, Status> {
        let caller = self.0.caller(&request)?;
        let node::ReleaseNodeRequest { spiffe_id } = request.into_inner();
        let ca = self.0.ca().clone();
        let released = to_its_end(async move { ca.release_node(caller, &spiffe_id).await });
        Ok(Response::new(told(released.await?.map_err(status)?)))
    }
}

fn told(fact: NodeFact) -> node::Node {
    node::Node {
        spiffe_id: fact.spiffe_id,
        endorsement: fact.endorsement.0.to_vec(),
        attestation_key: fact.attestation_key,
        evidence: fact.evidence.0.to_vec(),
        resets: fact.clock.resets,
        restarts: fact.clock.restarts,
        milliseconds: fact.clock.milliseconds,
        firmware: fact.clock.firmware,
    }
}
