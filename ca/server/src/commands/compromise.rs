//! `undercroft recover plan` and `recover compromise`: an authority whose key is in other hands is replaced, by the quorum's
//! word. The daemon runs; everything may be repeated until nothing is open.

use std::path::{Path, PathBuf};

use serde_json::json;
use tonic::transport::Channel;
use undercroft_ca::approval::NAMESPACE;
use undercroft_ca::certificate::AuthorityCertificate;
use undercroft_ca::compromise::CompromisePlan;
use undercroft_ca::drill::{Live, LiveCertificates};
use undercroft_ca::time::Lifetime;
use undercroft_cli::system::SystemClock;
use undercroft_cli::{ExitStatus, Failure, Terminal, read_text, write_file};
use undercroft_keys::KeyId;
use undercroft_log::Clock as _;
use undercroft_log::leaf::{HexKeyId, MOST_SERIALS, Reason};
use undercroft_proto::recovery as v1;
use undercroft_proto::recovery::recovery_client::RecoveryClient;
use undercroft_proto::v1::admin_client::AdminClient;
use undercroft_proto::v1::revocation_client::RevocationClient;
use undercroft_proto::v1::revoke_request::Event;
use undercroft_proto::v1::{GetStatusRequest, RevokeRequest};

use super::client::{AdminArgs, block_on, told};
use super::drill::read_live;

/// Arguments of `recover plan`.
#[derive(Debug, clap::Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// The compromised authority, as DOMAIN/NAME.
    authority: String,
    /// The certificate (PEM) of the authority that replaces it, from a ceremony.
    #[arg(long)]
    replacement: PathBuf,
    /// The key id of a root that is compromised, too.
    #[arg(long = "tainted-root")]
    tainted_roots: Vec<String>,
    /// Why.
    #[arg(long)]
    reason: String,
    /// Who asks, by the name on the roster: whoever asks does not approve.
    #[arg(long)]
    requester: String,
    /// How long the approval may wait to be carried out.
    #[arg(long, default_value = "24h")]
    expires: Lifetime,
    /// The folder that plan and statement are written to.
    #[arg(long)]
    out: PathBuf,
}

/// Arguments of `recover compromise`.
#[derive(Debug, clap::Args)]
pub(super) struct CompromiseArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// The plan.
    #[arg(long)]
    plan: PathBuf,
    /// The statement that was signed.
    #[arg(long)]
    statement: PathBuf,
    /// A signature over it (`ssh-keygen -Y sign -n undercroft-approval-v1`); one for each person.
    #[arg(long = "approval", required = true)]
    approvals: Vec<PathBuf>,
    /// The file for the list of those who must come for another certificate, JSON.
    #[arg(long)]
    affected: PathBuf,
    /// Verify everything, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

impl PlanArgs {
    pub(super) fn run(&self, terminal: &Terminal) -> Result<(), Failure> {
        let replacement = AuthorityCertificate::from_pem(&read_text(&self.replacement)?)
            .map_err(|error| Failure::from(error).during(self.replacement.display()))?;
        let tainted = self.tainted_roots.iter().map(|id| key_id(id)).collect::<Result<Vec<_>, _>>()?;
        block_on(async {
            let channel = self.admin.connect().await?;
            let status = AdminClient::new(channel.clone()).get_status(GetStatusRequest {}).await;
            let domains = status.map_err(told)?.into_inner().domains;
            let found = domains
                .iter()
                .flat_map(|domain| domain.authorities.iter().map(move |authority| (domain, authority)))
                .find(|(domain, authority)| format!("{}/{}", domain.name, authority.name) == self.authority);
            let (domain, authority) = found.ok_or_else(|| {
                Failure::usage(format!("no authority `{}`; write DOMAIN/NAME", self.authority))
            })?;
            let plan = CompromisePlan::new(
                domain.name.clone(),
                key_id(&authority.key_id)?,
                &replacement,
                tainted,
                self.reason.clone(),
                SystemClock.now(),
            );
            let plan = plan.text().map_err(|error| Failure::usage(error.to_string()))?;
            let request = v1::StateRecoveryRequest {
                plan: plan.clone(),
                requester: self.requester.clone(),
                wait_seconds: self.expires.as_seconds(),
            };
            let stated = RecoveryClient::new(channel).state_recovery(request).await.map_err(told)?;
            let (plan_at, statement_at) = (self.out.join("plan.json"), self.out.join("statement.json"));
            write_file(&plan_at, plan.as_bytes())?;
            write_file(&statement_at, stated.into_inner().statement.as_bytes())?;
            terminal.result(&json!({ "plan": plan_at, "statement": statement_at }), || {
                let statement = statement_at.display();
                format!(
                    "read {}; then {statement} is to be signed by the quorum, each with `ssh-keygen -Y sign -f KEY -n {NAMESPACE} {statement}`\n",
                    plan_at.display()
                )
            })
        })
    }
}

impl CompromiseArgs {
    pub(super) fn run(&self, terminal: &Terminal) -> Result<(), Failure> {
        let plan = read_text(&self.plan)?;
        let parsed = CompromisePlan::parse(&plan)
            .map_err(|error| Failure::usage(format!("{}: {error}", self.plan.display())))?;
        let approvals = self.approvals.iter().map(|path| read_text(path)).collect::<Result<Vec<_>, _>>()?;
        let request = v1::RecoverRequest {
            plan,
            statement: read_text(&self.statement)?,
            approvals,
            dry_run: self.dry_run,
        };
        let (progress, live) = block_on(async {
            let channel = self.admin.connect().await?;
            let mut client = RecoveryClient::new(channel.clone());
            let progress = client.recover(request).await.map_err(told)?.into_inner();
            // After the freeze: nothing comes to it any more.
            let key = parsed.compromised.0;
            let live = read_live(&self.admin, &parsed.domain, key, SystemClock.now(), terminal).await?;
            if !self.dry_run {
                revoke(RevocationClient::new(channel), &parsed, &live).await?;
            }
            Ok((progress, live))
        })?;
        write_affected(&self.affected, &parsed, live.all())?;
        let (count, at) = (live.to_revoke().count(), self.affected.display());
        let revoked = if self.dry_run { "are to be revoked" } else { "were revoked" };
        let steps: Vec<_> = progress
            .steps
            .iter()
            .map(|step| json!({ "step": step.step, "done": step.done, "open": step.open }))
            .collect();
        let value = json!({
            "approved-by": progress.approved_by,
            "steps": steps,
            "live": live.len(),
            "revoked": if self.dry_run { 0 } else { count },
            "affected": self.affected,
        });
        terminal.result(&value, || {
            let mut text = format!("approved by {}\n", progress.approved_by.join(", "));
            for step in &progress.steps {
                text += &match step.done {
                    true => format!("  done  {}\n", step.step),
                    false => format!("  OPEN  {}: {}\n", step.step, step.open),
                };
            }
            text + &format!(
                "{count} certificates of the compromised key {revoked}; their callers must come for others. The list is in {at}\n"
            )
        })?;
        match (self.dry_run, progress.steps.iter().all(|step| step.done)) {
            (true, _) | (_, true) => Ok(()),
            (false, false) => Err(Failure::new(
                ExitStatus::NotYet,
                "the recovery is not complete: do what is open, and run the same command again",
            )),
        }
    }
}

/// Revokes whatever the compromised key has signed that is still good, as many serial numbers at once as an entry holds.
async fn revoke(
    mut client: RevocationClient<Channel>,
    plan: &CompromisePlan,
    live: &LiveCertificates,
) -> Result<(), Failure> {
    let serials: Vec<_> = live.to_revoke().map(|live| live.serial.as_bytes().to_vec()).collect();
    for serials in serials.chunks(MOST_SERIALS) {
        let request = RevokeRequest {
            domain: plan.domain.clone(),
            serials: serials.to_vec(),
            event: Event::Revoke.into(),
            reason: Reason::Superseded.to_string(),
            ..RevokeRequest::default()
        };
        client.revoke(request).await.map_err(told)?;
    }
    Ok(())
}

fn write_affected<'a>(
    path: &Path,
    plan: &CompromisePlan,
    live: impl Iterator<Item = &'a Live>,
) -> Result<(), Failure> {
    let live: Vec<_> = live
        .map(|live| {
            json!({
                "serial": live.serial.to_string(),
                "reason": Reason::Superseded.to_string(),
                "caller": live.caller,
                "spiffe-id": live.identity.uri,
                "profile": live.profile,
                "not-after": live.not_after.to_string(),
                "abandoned": live.abandoned,
            })
        })
        .collect();
    let list = json!({ "domain": plan.domain, "compromised": plan.compromised, "revoke": live });
    let text = serde_json::to_string_pretty(&list).map_err(|error| Failure::failed(error.to_string()))?;
    write_file(path, (text + "\n").as_bytes())
}

fn key_id(text: &str) -> Result<HexKeyId, Failure> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes)
        .map_err(|_| Failure::usage(format!("`{text}` is no key id: 64 hexadecimal digits")))?;
    Ok(HexKeyId(KeyId::from(bytes)))
}
