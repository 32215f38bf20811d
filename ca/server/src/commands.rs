//! The command line.

mod activation;
mod admin;
mod bench;
mod client;
mod doctor;
mod exchange;
mod export;
mod keys;
mod recover;
mod request;
mod run;

use clap::{Parser, Subcommand};
use undercroft_cli::{Common, Failure, Meta, OutputFormat, Program, Terminal};

/// The CA beneath your SPIRE: the daemon, its clients and its administration.
#[derive(Debug, Parser)]
#[command(name = "undercroft", version, about, arg_required_else_help = true)]
pub struct Undercroft {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon.
    Serve(run::ServeArgs),
    /// Check a configuration against this machine: devices, keys, certificates, database.
    Doctor(doctor::DoctorArgs),
    /// Have a certificate issued.
    Issue(request::IssueArgs),
    /// Redeem an enrolment token for a first client certificate.
    Enrol(request::EnrolArgs),
    /// Make and list keys in devices.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Pack what a ceremony needs into one signed file that crosses the air gap.
    Request(exchange::RequestArgs),
    /// Show what a ceremony's response would change here, and take it in.
    Import(exchange::ImportArgs),
    /// Measure a token: signatures a second and how long each takes, by how many are asked for at once.
    Bench(bench::BenchArgs),
    /// Show what the daemon is doing.
    Status(admin::StatusArgs),
    /// Show the trust domains of the installation.
    #[command(subcommand)]
    Domain(admin::DomainCommand),
    /// Print the roots of a trust domain.
    Bundle(admin::BundleArgs),
    /// Let somebody in who has no certificate yet.
    #[command(subcommand)]
    Enrolment(admin::EnrolmentCommand),
    /// Go on after entries of a log were lost: with the daemon stopped.
    #[command(subcommand)]
    Recover(recover::RecoverCommand),
    /// Work with the logs.
    #[command(subcommand)]
    Log(export::LogCommand),
    #[command(flatten)]
    Meta(Meta),
}

impl Program for Undercroft {
    fn output(&self) -> OutputFormat {
        self.common.output
    }

    fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        match self.command {
            Command::Serve(args) => args.run(),
            Command::Doctor(args) => args.run(terminal),
            Command::Issue(args) => args.run(terminal),
            Command::Enrol(args) => args.run(terminal),
            Command::Keys(command) => command.run(terminal),
            Command::Request(args) => args.run(terminal),
            Command::Import(args) => args.run(terminal),
            Command::Bench(args) => args.run(terminal),
            Command::Status(args) => args.run(terminal),
            Command::Domain(command) => command.run(terminal),
            Command::Bundle(args) => args.run(terminal),
            Command::Enrolment(command) => command.run(terminal),
            Command::Recover(command) => command.run(terminal),
            Command::Log(command) => command.run(terminal),
            Command::Meta(meta) => meta.run::<Self>(terminal),
        }
    }
}
