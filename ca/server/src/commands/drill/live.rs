//! Reading the live log, for what an authority has issued.

use jiff::Timestamp;
use undercroft_ca::drill::LiveCertificates;
use undercroft_cli::{Failure, Terminal};
use undercroft_keys::KeyId;
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::Leaf;
use undercroft_log::note::VerifierKey;
use undercroft_log::tree::{GrowingTree, leaf_hash};
use undercroft_proto::v1;
use undercroft_proto::v1::admin_client::AdminClient;

use crate::commands::client::{AdminArgs, told};

/// What the authority with this key has issued and is still good, by the whole log of the domain, under its newest
/// checkpoint.
pub(in crate::commands) async fn read(
    admin: &AdminArgs,
    domain: &str,
    authority: KeyId,
    now: Timestamp,
    terminal: &Terminal,
) -> Result<LiveCertificates, Failure> {
    let mut client = AdminClient::new(admin.connect().await?);
    let status = client.get_status(v1::GetStatusRequest {}).await.map_err(told)?.into_inner();
    let status = status.domains.into_iter().find(|status| status.name == domain);
    let size = status.as_ref().map_or(0, |status| status.log_size);
    let key: VerifierKey = status
        .ok_or_else(|| Failure::usage(format!("the daemon has no domain `{domain}`")))?
        .log_key
        .parse()
        .map_err(|error| Failure::tampered(format!("the log's key: {error}")))?;
    let progress = terminal.progress(size, "reading the log");
    let request = v1::ReadLogRequest { domain: domain.to_owned(), start: 0 };
    let mut stream = client.read_log(request).await.map_err(told)?.into_inner();
    let (mut tree, mut live, mut note) =
        (GrowingTree::new(), LiveCertificates::new(authority, now), String::new());
    while let Some(chunk) = stream.message().await.map_err(told)? {
        for entry in &chunk.entries {
            tree.push(leaf_hash(entry));
            let leaf = Leaf::parse(entry).map_err(|error| Failure::tampered(error.to_string()))?;
            live.read(&leaf).map_err(Failure::tampered)?;
        }
        progress.advance(chunk.entries.len() as u64);
        note += &chunk.checkpoint;
    }
    let head = Checkpoint::open(&note, &key).map_err(|error| Failure::tampered(error.to_string()))?;
    match (head.size, head.root) == (tree.size(), tree.root()) {
        true => Ok(live),
        false => Err(Failure::tampered("the log's entries are not those that its checkpoint covers")),
    }
}
