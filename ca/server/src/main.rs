//! `undercroft`: the CA beneath your SPIRE.

use std::process::ExitCode;

fn main() -> ExitCode {
    undercroft_cli::main::<undercroft::commands::Undercroft>()
}
