//! The command line.

mod activation;
mod admin;
mod attest;
mod backup;
mod bench;
mod client;
mod compromise;
mod doctor;
mod drill;
mod exchange;
mod export;
mod freeze;
mod keys;
mod node;
mod recover;
mod request;
mod restore;
mod revoke;
mod rotate;
mod run;
mod stated;

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
    /// Revoke certificates, put them on hold, or release them.
    Revoke(revoke::RevokeArgs),
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
    /// Work with the nodes that are known by their TPMs.
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Learn from the evidence of nodes, explain verdicts, and try a policy before it is enabled.
    #[command(subcommand)]
    Attest(attest::AttestCommand),
    /// Have roots and intermediates take the place of others.
    #[command(subcommand)]
    Rotate(rotate::RotateCommand),
    /// Stop certificates of an authority, a domain or a caller, at once.
    Freeze(freeze::FreezeArgs),
    /// Let what is frozen go on, by the quorum's word.
    Unfreeze(freeze::UnfreezeArgs),
    /// Copy the running daemon's state into a folder.
    Backup(backup::BackupArgs),
    /// Put a backup into an empty database: with the daemon stopped.
    Restore(restore::RestoreArgs),
    /// Rehearse what something would need, on simulated tokens.
    #[command(subcommand)]
    Drill(drill::DrillCommand),
    /// Go on after entries of a log were lost, with the daemon stopped; or after a compromise, while it runs.
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
            Command::Revoke(args) => args.run(terminal),
            Command::Keys(command) => command.run(terminal),
            Command::Request(args) => args.run(terminal),
            Command::Import(args) => args.run(terminal),
            Command::Bench(args) => args.run(terminal),
            Command::Status(args) => args.run(terminal),
            Command::Domain(command) => command.run(terminal),
            Command::Bundle(args) => args.run(terminal),
            Command::Enrolment(command) => command.run(terminal),
            Command::Node(command) => command.run(terminal),
            Command::Attest(command) => command.run(terminal),
            Command::Rotate(command) => command.run(terminal),
            Command::Freeze(args) => args.run(terminal),
            Command::Unfreeze(args) => args.run(terminal),
            Command::Backup(args) => args.run(terminal),
            Command::Restore(args) => args.run(terminal),
            Command::Drill(command) => command.run(terminal),
            Command::Recover(command) => command.run(terminal),
            Command::Log(command) => command.run(terminal),
            Command::Meta(meta) => meta.run::<Self>(terminal),
        }
    }
}
