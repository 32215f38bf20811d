//! `undercroft node`: the nodes that are known by their TPMs.

use serde_json::json;
use undercroft_cli::{Failure, Terminal};
use undercroft_proto::node::nodes_client::NodesClient;
use undercroft_proto::node::{ListNodesRequest, Node, ReleaseNodeRequest};

use super::client::{AdminArgs, block_on, told};

/// `undercroft node …`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum NodeCommand {
    /// Show the nodes of a trust domain, and their TPMs.
    List(ListArgs),
    /// Give the TPM of a node free: it may attest as another node, and the node with another TPM.
    Release(ReleaseArgs),
}

/// Arguments of `node list`.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// The trust domain.
    #[arg(long)]
    domain: String,
}

/// Arguments of `node release`.
#[derive(Debug, clap::Args)]
pub(super) struct ReleaseArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// Its SPIFFE ID.
    spiffe_id: String,
}

impl NodeCommand {
    pub(super) fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        match self {
            Self::List(args) => args.run(terminal),
            Self::Release(args) => args.run(terminal),
        }
    }
}

impl ListArgs {
    fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        let nodes = block_on(async {
            let mut client = NodesClient::new(self.admin.connect().await?);
            let mut nodes: Vec<Node> = Vec::new();
            loop {
                let after = nodes.last().map(|node| node.spiffe_id.clone()).unwrap_or_default();
                let request = ListNodesRequest { domain: self.domain.clone(), after };
                let page = client.list_nodes(request).await.map_err(told)?.into_inner().nodes;
                match page.is_empty() {
                    true => return Ok(nodes),
                    false => nodes.extend(page),
                }
            }
        })?;
        let value = json!({ "domain": self.domain, "nodes": nodes.iter().map(shown).collect::<Vec<_>>() });
        terminal.result(&value, || {
            let line = |node: &Node| {
                let endorsement = hex::encode(&node.endorsement);
                format!(
                    "{}\n  TPM {endorsement}, {} resets, firmware {:016x}\n",
                    node.spiffe_id, node.resets, node.firmware
                )
            };
            match nodes.is_empty() {
                true => format!("no node has attested in `{}`\n", self.domain),
                false => nodes.iter().map(line).collect(),
            }
        })
    }
}

impl ReleaseArgs {
    fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        let node = block_on(async {
            let mut client = NodesClient::new(self.admin.connect().await?);
            let request = ReleaseNodeRequest { spiffe_id: self.spiffe_id.clone() };
            Ok(client.release_node(request).await.map_err(told)?.into_inner())
        })?;
        terminal.result(&shown(&node), || {
            format!(
                "the TPM {} is free; certificates of {} live on until they end: `undercroft revoke --spiffe-id {}` takes them back\n",
                hex::encode(&node.endorsement),
                node.spiffe_id,
                node.spiffe_id
            )
        })
    }
}

fn shown(node: &Node) -> serde_json::Value {
    json!({
        "spiffe-id": node.spiffe_id,
        "endorsement": hex::encode(&node.endorsement),
        "attestation-key": hex::encode(&node.attestation_key),
        "evidence": hex::encode(&node.evidence),
        "clock": { "milliseconds": node.milliseconds, "resets": node.resets, "restarts": node.restarts },
        "firmware": format!("{:016x}", node.firmware),
    })
}
