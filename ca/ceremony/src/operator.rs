//! What the operator says between steps.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use undercroft_ca::plan::{Step, What};
use undercroft_cli::{ExitStatus, Failure};
use undercroft_log::leaf::CeremonyEvent;

use crate::transcript::Transcript;

/// The operator, who is asked before each step or has answered beforehand.
#[derive(Debug)]
pub(crate) struct Operator {
    asked: bool,
    done: Vec<String>,
}

/// What the operator wants.
pub(crate) enum Answer {
    /// The step is done.
    Go,
    /// The ceremony stops here, and goes on when it is run again.
    Pause,
    /// It is given up, for this reason.
    Abort(String),
}

impl Operator {
    /// `ask`: before each step, on standard input. Else steps are done without asking, and those that people do are those in
    /// `done`.
    pub(crate) fn new(ask: bool, done: Vec<String>) -> Self {
        Self { asked: ask || (io::stdin().is_terminal() && done.is_empty()), done }
    }

    /// Before a step: what the operator has written down on the way is in the transcript when this returns.
    pub(crate) async fn before(&self, step: &Step<'_>, transcript: &Transcript) -> Result<Answer, Failure> {
        let by_hand = matches!(step.what, What::Manual(_));
        if !self.asked {
            return match by_hand && !self.done.iter().any(|name| name == step.name()) {
                false => Ok(Answer::Go),
                true => Err(Failure::new(
                    ExitStatus::NotYet,
                    format!(
                        "step {} is done by people: {}. When it is done, run again with --done {}",
                        step.number,
                        step.in_words(),
                        step.name()
                    ),
                )),
            };
        }
        loop {
            let wanted = if by_hand { "done" } else { "yes" };
            let line = ask(&format!("  {wanted} to go on, note TEXT, pause, or abort REASON: "))?;
            let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match (word, rest.trim()) {
                ("note", text) if !text.is_empty() => {
                    transcript
                        .tell(CeremonyEvent::Note, format!("before step {}: {text}", step.number))
                        .await?;
                }
                ("pause", "") => return Ok(Answer::Pause),
                ("abort", reason) if !reason.is_empty() => return Ok(Answer::Abort(reason.to_owned())),
                (word, "") if word == wanted => return Ok(Answer::Go),
                _ => eprint_hint()?,
            }
        }
    }
}

fn ask(prompt: &str) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::failed(format!("cannot ask: {error}"));
    let mut stderr = io::stderr().lock();
    stderr.write_all(prompt.as_bytes()).and_then(|()| stderr.flush()).map_err(failed)?;
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line).map_err(failed)? {
        0 => Err(Failure::new(
            ExitStatus::NotYet,
            "nobody answers any more (standard input has ended); run again to go on",
        )),
        _ => Ok(line.trim().to_owned()),
    }
}

fn eprint_hint() -> Result<(), Failure> {
    let hint = b"  that is none of the answers; a note or an abort needs its text on the same line\n";
    io::stderr().lock().write_all(hint).map_err(|error| Failure::failed(format!("cannot ask: {error}")))
}
