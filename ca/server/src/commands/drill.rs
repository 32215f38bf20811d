//! `undercroft drill compromise`: what the compromise of an authority would need, rehearsed on simulated tokens and
//! measured. Nothing of the installation is touched but one entry of the control log.

mod live;
mod rehearsal;

pub(super) use live::read as read_live;

use std::path::PathBuf;

use serde_json::{Value, json};
use undercroft_ca::drill::{Live, Summary};
use undercroft_cli::system::SystemClock;
use undercroft_cli::{Environment, Failure, StrictArgs, Terminal, write_file};
use undercroft_log::Clock as _;
use undercroft_log::leaf::HexKeyId;
use undercroft_proto::recovery as v1;
use undercroft_proto::recovery::recovery_client::RecoveryClient;

use super::bench::best_rate;
use super::client::{AdminArgs, block_on, told};
use crate::config::{Authority, Config, Domain};

/// Drills.
#[derive(Debug, clap::Subcommand)]
pub(super) enum DrillCommand {
    /// Rehearse the compromise of an authority, and say how long recovery would take and whom it concerns.
    Compromise(CompromiseArgs),
}

/// Arguments of `drill compromise`.
#[derive(Debug, clap::Args)]
pub(super) struct CompromiseArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// The authority, as DOMAIN/NAME, or by its name alone if no other domain has one of that name.
    authority: String,
    /// The daemon's configuration.
    #[arg(long, env = "UNDERCROFT_CONFIG")]
    config: PathBuf,
    /// The environment file of simulated devices, which `hsm-sim up` has written.
    #[arg(long)]
    environment: PathBuf,
    /// The simulated device to use, if it is not the first.
    #[arg(long)]
    device: Option<String>,
    /// The folder that everything is written to. It must be empty.
    #[arg(long)]
    out: PathBuf,
    /// How long to measure the attached token, in seconds.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    #[command(flatten)]
    strict: StrictArgs,
}

impl DrillCommand {
    pub(super) fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        let Self::Compromise(args) = self;
        args.run(terminal)
    }
}

impl CompromiseArgs {
    fn run(&self, terminal: &Terminal) -> Result<(), Failure> {
        let backends = || crate::backends(self.strict.secrecy());
        let config = Config::read(&self.config, self.strict.secrecy(), backends())?;
        let (domain, authority) = find(&config, &self.authority)?;
        let environment = Environment::read(&self.environment, self.strict.secrecy(), backends())?;
        if !environment.development {
            return Err(Failure::usage(format!(
                "{}: it does not say `development = true`, and a drill is for simulated devices alone; start some with `hsm-sim up`",
                self.environment.display()
            )));
        }
        let device =
            match &self.device {
                Some(name) => environment.tokens.device(name)?,
                None => environment.tokens.devices().first().ok_or_else(|| {
                    Failure::usage(format!("{} has no [[device]]", self.environment.display()))
                })?,
            };
        is_empty(&self.out)?;
        let begun = SystemClock.now();
        let key = HexKeyId(authority.certificate.public_key().id());
        let live = block_on(read_live(&self.admin, domain.name.as_str(), key.0, begun, terminal))?;
        let name = format!("{}/{}", domain.name.as_str(), authority.name);
        let mut summary = Summary::new(
            domain.name.as_str().to_owned(),
            authority.name.clone(),
            key,
            begun,
            live.len() as u64,
        );
        let manager = environment.tokens.manager(device)?;
        let rehearsal = rehearsal::Rehearsal { config: &config, domain, authority, manager, out: &self.out };
        summary.steps = rehearsal.run(&live, begun, terminal)?;
        let attached = config.tokens.locate(&authority.key).map_err(Failure::from).and_then(|(device, _)| {
            best_rate(device, authority.algorithm, self.seconds, self.strict, terminal)
        });
        let not_measured = match attached {
            Ok(rate) => {
                summary.estimate(rate);
                None
            }
            // A cloud has no throwaway keys, and a token may be away: the drill is worth something all the same.
            Err(failure) => Some(failure.to_string()),
        };
        let affected: Vec<_> = live.all().map(describe).collect();
        let table = table(&name, &summary, not_measured.as_deref(), live.all());
        let list =
            serde_json::to_string_pretty(&json!({ "drill": true, "authority": name, "affected": affected }))
                .map_err(|error| Failure::failed(error.to_string()))?;
        write_file(&self.out.join("DRILL-affected.json"), (list + "\n").as_bytes())?;
        write_file(&self.out.join("DRILL-report.txt"), table.as_bytes())?;
        let text = serde_json::to_string(&summary).map_err(|error| Failure::failed(error.to_string()))?;
        let index = block_on(async {
            let mut client = RecoveryClient::new(self.admin.connect().await?);
            let request = v1::RecordDrillRequest { summary: text };
            Ok(client.record_drill(request).await.map_err(told)?.into_inner().index)
        })?;
        let value = json!({
            "drill": true,
            "authority": name,
            "summary": summary,
            "not-measured": not_measured,
            "affected": affected,
            "entry": index,
            "out": self.out,
        });
        terminal.result(&value, || {
            format!("{table}\nEntry {index} of the control log says that the drill was held. Everything is in {}\n", self.out.display())
        })
    }
}

/// The authority that is meant.
fn find<'a>(config: &'a Config, named: &str) -> Result<(&'a Domain, &'a Authority), Failure> {
    let all = config
        .domains
        .iter()
        .flat_map(|domain| domain.authorities.iter().map(move |authority| (domain, authority)));
    let full =
        |(domain, authority): &(&Domain, &Authority)| format!("{}/{}", domain.name.as_str(), authority.name);
    let all: Vec<_> = all.collect();
    let found: Vec<_> = all.iter().filter(|it| full(it) == named || it.1.name == named).collect();
    let listed = |some: &[String]| some.join(", ");
    match found[..] {
        [found] => Ok(*found),
        [] => {
            let known: Vec<_> = all.iter().map(full).collect();
            Err(Failure::usage(format!("no authority `{named}`; known are {}", listed(&known))))
        }
        _ => {
            let several: Vec<_> = found.iter().map(|it| full(it)).collect();
            Err(Failure::usage(format!("`{named}` may be {}; say which", listed(&several))))
        }
    }
}

fn is_empty(folder: &std::path::Path) -> Result<(), Failure> {
    let mut there = match std::fs::read_dir(folder) {
        Ok(there) => there,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::usage(format!("{}: {error}", folder.display()))),
    };
    match there.next() {
        None => Ok(()),
        Some(_) => Err(Failure::usage(format!(
            "{} is not empty, and a drill overwrites nothing; choose another folder",
            folder.display()
        ))),
    }
}

fn describe(live: &Live) -> Value {
    json!({
        "caller": live.caller,
        "spiffe-id": live.identity.uri,
        "profile": live.profile,
        "serial": live.serial.to_string(),
        "not-after": live.not_after.to_string(),
        "abandoned": live.abandoned,
        "entry": live.index,
    })
}

fn table<'a>(
    name: &str,
    summary: &Summary,
    not_measured: Option<&str>,
    live: impl Iterator<Item = &'a Live>,
) -> String {
    let mut text = format!(
        "DRILL: the compromise of {name} (key {}), begun {}\n\n| step | signatures | ms |\n| --- | ---: | ---: |\n",
        summary.key_id.0, summary.begun
    );
    for step in &summary.steps {
        text += &format!("| {} | {} | {} |\n", step.step, step.signatures, step.ms);
    }
    let simulated: u64 = summary.steps.iter().map(|step| step.ms).sum();
    text += &format!("\nDRILL: {simulated} ms on simulated tokens.\n");
    text += &match (summary.attached_rate, summary.recovery_ms, not_measured) {
        (Some(rate), Some(ms), _) => format!(
            "DRILL: the attached token makes {rate:.0} signatures a second; recovery would take {:.1} s, and the time that people need.\n",
            ms as f64 / 1e3
        ),
        (.., why) => {
            format!("DRILL: the attached token was not measured: {}\n", why.unwrap_or("it signed nothing"))
        }
    };
    text += &format!("\nDRILL: {} certificates are affected\n", summary.live);
    for live in live {
        let abandoned = if live.abandoned { " (abandoned: nobody was given it)" } else { "" };
        text += &format!(
            "  {}  until {}  {}  for {}{abandoned}\n",
            live.serial,
            live.not_after,
            live.identity.uri.as_deref().unwrap_or("(no ID)"),
            live.caller
        );
    }
    text
}
