//! `undercroft rotate`: roots and intermediates that take the place of others (`docs/rotation.md`).

mod page;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use undercroft_ca::certificate::AuthorityCertificate;
use undercroft_ca::time::Lifetime;
use undercroft_cli::{ExitStatus, Failure, Terminal, read_text, write_file};
use undercroft_proto::v1;
use undercroft_proto::v1::admin_client::AdminClient;

use super::client::{AdminArgs, block_on, told};

/// Commands about rotations.
#[derive(Debug, clap::Subcommand)]
pub(super) enum RotateCommand {
    /// Plan the rotation of a root or of intermediates, or give one that is under way another schedule.
    Plan {
        #[command(flatten)]
        admin: AdminArgs,
        /// The trust domain.
        domain: String,
        /// An authority and the one that takes its place, as old=new; once for each.
        #[arg(long, required = true, value_parser = replacement)]
        replace: Vec<(String, String)>,
        /// The certificate of the new root (PEM); without it, intermediates alone are rotated.
        #[arg(long)]
        new_root: Option<PathBuf>,
        /// How much time it takes itself.
        #[arg(long, value_enum, default_value_t = ScheduleArg::Planned)]
        schedule: ScheduleArg,
        #[command(flatten)]
        statement: StatementArgs,
        /// Decide everything, and log and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show the newest rotation: its phases on the calendar, and what it waits for.
    Status {
        #[command(flatten)]
        admin: AdminArgs,
        /// The trust domain.
        domain: String,
        /// Draw the calendar on a page of its own, too, which needs no other file (HTML).
        #[arg(long)]
        page: Option<PathBuf>,
        #[command(flatten)]
        statement: StatementArgs,
    },
    /// Enter the next phase. If it is too early, say why and until when, with exit status 6.
    Advance {
        #[command(flatten)]
        admin: AdminArgs,
        /// The trust domain.
        domain: String,
        /// A cross-certificate (PEM), for `cross-sign`; once for each direction.
        #[arg(long)]
        cross: Vec<PathBuf>,
        /// The statement that was signed, where the phase changes the published roots.
        #[arg(long, requires = "approvals")]
        statement: Option<PathBuf>,
        /// A signature over it (`ssh-keygen -Y sign -n undercroft-approval-v1`); one for each person.
        #[arg(long = "approval", requires = "statement")]
        approvals: Vec<PathBuf>,
        /// Decide and verify everything, and log and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Give a rotation up that has not switched, and take its new root out of the published bundle.
    Abandon {
        #[command(flatten)]
        admin: AdminArgs,
        /// The trust domain.
        domain: String,
        /// Who asks for the statement, by the name on the roster: that person does not approve.
        #[arg(long, requires = "out")]
        requester: Option<String>,
        /// Write the statement that the quorum signs to this file, and do nothing else.
        #[arg(long, requires = "requester", conflicts_with_all = ["statement", "dry_run"])]
        out: Option<PathBuf>,
        /// How long it may be carried out.
        #[arg(long, default_value = "7d")]
        expires: Lifetime,
        /// The statement that was signed, where a published root is taken out.
        #[arg(long, requires = "approvals")]
        statement: Option<PathBuf>,
        /// A signature over it (`ssh-keygen -Y sign -n undercroft-approval-v1`); one for each person.
        #[arg(long = "approval", requires = "statement")]
        approvals: Vec<PathBuf>,
        /// Decide and verify everything, and log and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// The statement that the quorum signs.
#[derive(Debug, clap::Args)]
pub(super) struct StatementArgs {
    /// Write the statement that the next phase needs to this file.
    #[arg(long, requires = "requester")]
    statement: Option<PathBuf>,
    /// Who asks for it, by the name on the roster: that person does not approve.
    #[arg(long)]
    requester: Option<String>,
    /// How long it may be carried out.
    #[arg(long, default_value = "7d")]
    expires: Lifetime,
}

/// How much time a rotation takes itself.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum ScheduleArg {
    /// Nothing is wrong.
    Planned,
    /// An algorithm or a token is not trusted much longer.
    Accelerated,
    /// The old key is in the wrong hands.
    Emergency,
}

fn replacement(text: &str) -> Result<(String, String), String> {
    let (old, new) = text.split_once('=').ok_or_else(|| format!("`{text}` is not old=new"))?;
    Ok((old.to_owned(), new.to_owned()))
}

impl RotateCommand {
    pub(super) fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        match self {
            Self::Plan { admin, domain, replace, new_root, schedule, statement, dry_run } => {
                let request = v1::PlanRotationRequest {
                    domain: domain.clone(),
                    schedule: match schedule {
                        ScheduleArg::Planned => "planned",
                        ScheduleArg::Accelerated => "accelerated",
                        ScheduleArg::Emergency => "emergency",
                    }
                    .to_owned(),
                    replace: replace.into_iter().map(|(old, new)| v1::Replacement { old, new }).collect(),
                    new_root: new_root.map(|path| certificate(&path)).transpose()?.unwrap_or_default(),
                    dry_run,
                };
                if dry_run && statement.statement.is_some() {
                    return Err(Failure::usage(
                        "--statement: a dry run plans nothing that could be approved; leave one of them out",
                    ));
                }
                let planned = block_on(async {
                    let mut client = AdminClient::new(admin.connect().await?);
                    Ok(client.plan_rotation(request).await.map_err(told)?.into_inner())
                })?;
                let written = statement.write(&admin, &domain)?;
                let what = if dry_run { "would be planned" } else { "is planned" };
                terminal.result(&describe(&planned), || text(&planned, what) + &written)
            }
            Self::Status { admin, domain, page, statement } => {
                let rotation = get(&admin, &domain, None, false)?;
                let mut written = statement.write(&admin, &domain)?;
                if let Some(page) = page {
                    write_file(&page, page::html(&rotation)?.as_bytes())?;
                    written += &format!("{} shows it\n", page.display());
                }
                terminal.result(&describe(&rotation), || text(&rotation, "stands") + &written)
            }
            Self::Advance { admin, domain, cross, statement, approvals, dry_run } => {
                let request = v1::AdvanceRotationRequest {
                    domain,
                    cross_certificates: cross
                        .iter()
                        .map(|path| certificate(path))
                        .collect::<Result<_, _>>()?,
                    statement: statement.map(|path| read_text(&path)).transpose()?.unwrap_or_default(),
                    signatures: approvals.iter().map(|path| read_text(path)).collect::<Result<_, _>>()?,
                    dry_run,
                };
                let rotation = block_on(async {
                    let mut client = AdminClient::new(admin.connect().await?);
                    Ok(client.advance_rotation(request).await.map_err(told)?.into_inner())
                })?;
                advanced(&rotation, dry_run, terminal)
            }
            Self::Abandon { admin, domain, requester, out, expires, statement, approvals, dry_run } => {
                if let (Some(requester), Some(out)) = (requester, out) {
                    return state_abandonment(&admin, &domain, (&requester, expires), &out, terminal);
                }
                let request = v1::AbandonRotationRequest {
                    domain,
                    statement: statement.map(|path| read_text(&path)).transpose()?.unwrap_or_default(),
                    signatures: approvals.iter().map(|path| read_text(path)).collect::<Result<_, _>>()?,
                    dry_run,
                };
                let rotation = block_on(async {
                    let mut client = AdminClient::new(admin.connect().await?);
                    Ok(client.abandon_rotation(request).await.map_err(told)?.into_inner())
                })?;
                if !rotation.abandoned {
                    return not_yet(&rotation, "be abandoned", terminal);
                }
                let what = if dry_run { "would be given up" } else { "was given up" };
                terminal.result(&describe(&rotation), || text(&rotation, what))
            }
        }
    }
}

/// Tells what came of it.
fn advanced(rotation: &v1::Rotation, dry_run: bool, terminal: &Terminal) -> Result<(), Failure> {
    if rotation.advanced {
        let what = if dry_run { "would go on" } else { "has gone on" };
        return terminal.result(&describe(rotation), || text(rotation, what));
    }
    not_yet(rotation, &format!("enter `{}`", rotation.next), terminal)
}

/// Programs read the blockers as data; people read them in the failure.
fn not_yet(rotation: &v1::Rotation, what: &str, terminal: &Terminal) -> Result<(), Failure> {
    terminal.result(&describe(rotation), String::new)?;
    let blockers: Vec<_> = rotation.blockers.iter().map(blocker).collect();
    Err(Failure::new(
        ExitStatus::NotYet,
        format!(
            "rotation {} of {} may not {what} yet: {}",
            rotation.number,
            rotation.domain,
            blockers.join("; ")
        ),
    ))
}

/// Writes the statement by which a rotation is abandoned.
fn state_abandonment(
    admin: &AdminArgs,
    domain: &str,
    asked: (&str, Lifetime),
    out: &Path,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let rotation = get(admin, domain, Some(asked), true)?;
    if rotation.statement.is_empty() {
        return Err(Failure::usage("--out: this takes no published root out, and needs no approval"));
    }
    write_file(out, rotation.statement.as_bytes())?;
    terminal.result(&json!({ "statement": out }), || to_sign(out))
}

fn to_sign(statement: &Path) -> String {
    format!(
        "{0} is what the quorum signs: ssh-keygen -Y sign -n undercroft-approval-v1 -f KEY {0}\n",
        statement.display()
    )
}

impl StatementArgs {
    /// Writes the statement, if it was asked for. Gives what there is to say.
    fn write(&self, admin: &AdminArgs, domain: &str) -> Result<String, Failure> {
        let (Some(path), Some(requester)) = (&self.statement, &self.requester) else {
            return Ok(String::new());
        };
        let rotation = get(admin, domain, Some((requester, self.expires)), false)?;
        if rotation.statement.is_empty() {
            return Err(Failure::usage(format!(
                "--statement: the next phase ({}) changes no root, and needs no approval",
                rotation.next
            )));
        }
        write_file(path, rotation.statement.as_bytes())?;
        Ok(to_sign(path))
    }
}

fn get(
    admin: &AdminArgs,
    domain: &str,
    statement: Option<(&str, Lifetime)>,
    to_abandon: bool,
) -> Result<v1::Rotation, Failure> {
    let request = v1::GetRotationRequest {
        domain: domain.to_owned(),
        requester: statement.map(|(requester, _)| requester.to_owned()).unwrap_or_default(),
        statement_seconds: statement.map(|(_, expires)| expires.as_seconds()).unwrap_or_default(),
        to_abandon,
    };
    block_on(async {
        let mut client = AdminClient::new(admin.connect().await?);
        Ok(client.get_rotation(request).await.map_err(told)?.into_inner())
    })
}

/// Reads a certificate of an authority.
fn certificate(path: &std::path::Path) -> Result<Vec<u8>, Failure> {
    let certificate = AuthorityCertificate::from_pem(&read_text(path)?)
        .map_err(|error| Failure::from(error).during(path.display()))?;
    Ok(certificate.der().to_vec())
}

fn describe(rotation: &v1::Rotation) -> Value {
    let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "domain": rotation.domain,
        "number": rotation.number,
        "schedule": rotation.schedule,
        "phase": known(&rotation.phase),
        "next": known(&rotation.next),
        "abandoned": rotation.abandoned,
        "planned": rotation.planned,
        "replace": rotation.replace.iter().map(|pair| json!({ "old": pair.old, "new": pair.new })).collect::<Vec<_>>(),
        "old-root": known(&rotation.old_root),
        "new-root": known(&rotation.new_root),
        "calendar": rotation.calendar.iter().map(|span| json!({
            "phase": span.phase,
            "from": span.from,
            "until": known(&span.until),
            "begun": span.begun,
        })).collect::<Vec<_>>(),
        "blockers": rotation.blockers.iter().map(|blocker| json!({
            "rule": blocker.rule,
            "text": blocker.text,
            "until": known(&blocker.until),
        })).collect::<Vec<_>>(),
        "consumers": rotation.consumers.iter().map(|consumer| json!({
            "id": consumer.id,
            "holds": (consumer.holds > 0).then_some(consumer.holds),
            "spire-server": consumer.spire_server,
        })).collect::<Vec<_>>(),
        "bundle-sequence": rotation.bundle_sequence,
        "to-approve": known(&rotation.to_approve),
        "now": rotation.now,
    })
}

fn text(rotation: &v1::Rotation, what: &str) -> String {
    let phase = match &*rotation.phase {
        _ if rotation.abandoned => "abandoned",
        "" => "planned",
        phase => phase,
    };
    let mut text = format!(
        "rotation {} of {} ({}) {what}: {phase}\n",
        rotation.number, rotation.domain, rotation.schedule
    );
    if !rotation.new_root.is_empty() {
        text += &format!("  root         {} -> {}\n", rotation.old_root, rotation.new_root);
    }
    for pair in &rotation.replace {
        text += &format!("  authority    {} -> {}\n", pair.old, pair.new);
    }
    text += &format!("  bundle       {}\n", rotation.bundle_sequence);
    for span in &rotation.calendar {
        let mark = match (span.begun, span.until.is_empty()) {
            _ if span.begun && span.phase == rotation.phase => ">",
            (true, _) => "x",
            (false, _) => " ",
        };
        let until = if span.until.is_empty() { String::new() } else { format!(" to {}", span.until) };
        let earliest = if span.begun { "" } else { "  (at the earliest)" };
        text += &format!("{mark} {:<12} {}{until}{earliest}\n", span.phase, span.from);
    }
    for consumer in &rotation.consumers {
        let kind = if consumer.spire_server { "SPIRE server" } else { "consumer" };
        let holds = match consumer.holds {
            0 => "no bundle that we remember".to_owned(),
            holds => format!("bundle {holds}"),
        };
        text += &format!("  {kind} {}: {holds}\n", consumer.id);
    }
    for found in &rotation.blockers {
        text += &format!("  waits for {}\n", blocker(found));
    }
    if !rotation.to_approve.is_empty() {
        text += &format!(
            "  {} changes the published roots: the quorum approves {} (--statement)\n",
            rotation.next, rotation.to_approve
        );
    }
    text
}

fn blocker(blocker: &v1::RotationBlocker) -> String {
    match blocker.until.is_empty() {
        true => format!("{}: {}", blocker.rule, blocker.text),
        false => format!("{}: {}; until {}", blocker.rule, blocker.text, blocker.until),
    }
}
