//! `undercroft freeze` and `unfreeze` (`docs/freeze.md`): one person stops certificates, the quorum lets them go on.

use std::path::PathBuf;

use serde_json::{Value, json};
use undercroft_ca::approval::NAMESPACE;
use undercroft_ca::time::Lifetime;
use undercroft_cli::{Failure, Terminal, read_text, write_file};
use undercroft_proto::recovery as v1;
use undercroft_proto::recovery::freezable::Kind;
use undercroft_proto::recovery::recovery_client::RecoveryClient;

use super::client::{AdminArgs, block_on, told};

/// What is meant.
#[derive(Debug, clap::Args)]
struct WhatArgs {
    /// What kind of thing it is.
    kind: What,
    /// An authority as DOMAIN/NAME, by its name alone or by its key id; a trust domain; a SPIFFE ID.
    name: String,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum What {
    /// An authority: its key signs no certificates.
    Authority,
    /// A trust domain: nothing is issued for it.
    Domain,
    /// A caller: nothing is issued to it.
    Caller,
}

impl WhatArgs {
    fn message(&self) -> v1::Freezable {
        let kind = match self.kind {
            What::Authority => Kind::Authority,
            What::Domain => Kind::Domain,
            What::Caller => Kind::Caller,
        };
        v1::Freezable { kind: kind.into(), name: self.name.clone() }
    }
}

/// Arguments of `freeze`.
#[derive(Debug, clap::Args)]
pub(super) struct FreezeArgs {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    what: WhatArgs,
    /// Why, for those whose requests are refused and for the log.
    #[arg(long)]
    reason: String,
}

/// Arguments of `unfreeze`.
#[derive(Debug, clap::Args)]
pub(super) struct UnfreezeArgs {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    what: WhatArgs,
    /// First step: write the statement that the quorum signs to this file.
    #[arg(long, conflicts_with_all = ["statement", "approvals", "dry_run"], required_unless_present = "statement")]
    out: Option<PathBuf>,
    /// Who asks, by the name on the roster: whoever asks does not approve.
    #[arg(long, required_unless_present = "statement", conflicts_with = "statement")]
    requester: Option<String>,
    /// How long the approval may wait to be carried out.
    #[arg(long, default_value = "24h", conflicts_with = "statement")]
    expires: Lifetime,
    /// Second step: the statement that was signed.
    #[arg(long, requires = "approvals")]
    statement: Option<PathBuf>,
    /// A signature over it (`ssh-keygen -Y sign -n undercroft-approval-v1`); one for each person.
    #[arg(long = "approval", id = "approvals")]
    approvals: Vec<PathBuf>,
    /// Verify everything, and release nothing.
    #[arg(long)]
    dry_run: bool,
}

impl FreezeArgs {
    pub(super) fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        let response = block_on(async {
            let mut client = RecoveryClient::new(self.admin.connect().await?);
            let request = v1::FreezeRequest { what: Some(self.what.message()), reason: self.reason.clone() };
            Ok(client.freeze(request).await.map_err(told)?.into_inner())
        })?;
        let frozen = response.frozen.unwrap_or_default();
        let mut value = describe(&frozen);
        value["already"] = json!(response.already);
        terminal.result(&value, || match response.already {
            true => format!("it was frozen already: {}\n", line(&frozen)),
            false => format!("frozen: {}\n", line(&frozen)),
        })
    }
}

impl UnfreezeArgs {
    pub(super) fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        match (&self.statement, &self.out) {
            (Some(statement), _) => self.carry_out(&read_text(statement)?, terminal),
            (None, Some(out)) => self.state(out, terminal),
            (None, None) => {
                Err(Failure::usage("give --out for the statement, or --statement with --approval"))
            }
        }
    }

    fn state(&self, out: &std::path::Path, terminal: &Terminal) -> Result<(), Failure> {
        let request = v1::StateUnfreezeRequest {
            what: Some(self.what.message()),
            requester: self.requester.clone().unwrap_or_default(),
            wait_seconds: self.expires.as_seconds(),
        };
        let statement = block_on(async {
            let mut client = RecoveryClient::new(self.admin.connect().await?);
            Ok(client.state_unfreeze(request).await.map_err(told)?.into_inner().statement)
        })?;
        write_file(out, statement.as_bytes())?;
        terminal.result(&json!({ "statement": out }), || {
            let out = out.display();
            format!("{out} is to be signed by the quorum, each with `ssh-keygen -Y sign -f KEY -n {NAMESPACE} {out}`\n")
        })
    }

    fn carry_out(&self, statement: &str, terminal: &Terminal) -> Result<(), Failure> {
        let approvals = self.approvals.iter().map(|path| read_text(path)).collect::<Result<Vec<_>, _>>()?;
        let request = v1::UnfreezeRequest {
            what: Some(self.what.message()),
            statement: statement.to_owned(),
            approvals,
            dry_run: self.dry_run,
        };
        let who = block_on(async {
            let mut client = RecoveryClient::new(self.admin.connect().await?);
            Ok(client.unfreeze(request).await.map_err(told)?.into_inner().approved_by)
        })?;
        terminal.result(&json!({ "approved-by": who, "released": !self.dry_run }), || {
            let who = who.join(", ");
            match self.dry_run {
                true => format!("approved by {who}; nothing was released\n"),
                false => format!("released, approved by {who}\n"),
            }
        })
    }
}

/// What is frozen now.
pub(super) fn freezes(admin: &AdminArgs) -> Result<Vec<v1::Frozen>, Failure> {
    block_on(async {
        let mut client = RecoveryClient::new(admin.connect().await?);
        Ok(client.list_freezes(v1::ListFreezesRequest {}).await.map_err(told)?.into_inner().freezes)
    })
}

pub(super) fn describe(frozen: &v1::Frozen) -> Value {
    let (kind, name) = words(frozen);
    json!({
        "kind": kind,
        "name": name,
        "by": frozen.by,
        "since": frozen.since,
        "reason": frozen.reason,
        "entry": frozen.entry,
    })
}

pub(super) fn line(frozen: &v1::Frozen) -> String {
    let (kind, name) = words(frozen);
    format!("{kind} {name}, by {} since {} ({})", frozen.by, frozen.since, frozen.reason)
}

fn words(frozen: &v1::Frozen) -> (&'static str, String) {
    let what = frozen.what.clone().unwrap_or_default();
    let kind = match what.kind() {
        Kind::Authority => "authority",
        Kind::Domain => "domain",
        Kind::Caller => "caller",
        Kind::Unspecified => "unknown",
    };
    (kind, what.name)
}
