//! Rules in Rego, where TOML ends: pure functions of what is known of a node.
//!
//! `regorus` is linked without `std` and without the features that hold clocks, randomness and networks: what is not
//! linked cannot be called. There is no limit by the clock, since a verdict must not depend on the machine that repeats it.

use regorus::{Engine, Value};

/// The most bytes of a file.
const MAX_REGO: usize = 64 * 1024;
/// The package that it must be.
const PACKAGE: &str = "data.undercroft";
const ALLOW: &str = "data.undercroft.allow";
const REASONS: &str = "data.undercroft.reasons";
/// How many reasons are told.
const MAX_REASONS: usize = 10;

/// A file of Rego.
#[derive(Clone, Debug)]
pub(super) struct Rego {
    engine: Engine,
}

impl Rego {
    /// Reads a file, and runs it over nothing: what does not depend on the input shows then.
    pub(super) fn new(name: &str, content: &[u8]) -> Result<Self, String> {
        if content.len() > MAX_REGO {
            return Err(format!("it has {} bytes, more than {MAX_REGO}", content.len()));
        }
        let text = std::str::from_utf8(content).map_err(|_| "it is no text".to_owned())?;
        let mut engine = Engine::new();
        engine.set_strict_builtin_errors(true);
        // What is printed goes nowhere.
        engine.set_gather_prints(true);
        let package = engine.add_policy(name.to_owned(), text.to_owned()).map_err(said)?;
        if package != PACKAGE {
            return Err(format!("its package is `{package}`, and `{PACKAGE}` is wanted"));
        }
        let own = Self { engine };
        own.evaluate("{}")?;
        Ok(own)
    }

    /// Runs it over an input.
    ///
    /// # Errors
    /// Why not, in words: anything but `true`.
    pub(super) fn admit(&self, input: &serde_json::Value) -> Result<(), String> {
        let (allow, reasons) = self.evaluate(&input.to_string())?;
        match allow {
            Value::Bool(true) => Ok(()),
            Value::Bool(false) if reasons.is_empty() => Err("it does not allow the node".to_owned()),
            Value::Bool(false) => Err(reasons.join("; ")),
            Value::Undefined => Err("`allow` is undefined".to_owned()),
            _ => Err("`allow` is no boolean".to_owned()),
        }
    }

    fn evaluate(&self, input: &str) -> Result<(Value, Vec<String>), String> {
        // Evaluation leaves something behind in an engine.
        let mut engine = self.engine.clone();
        engine.set_input(Value::from_json_str(input).map_err(said)?);
        let allow = engine.eval_rule(ALLOW.to_owned()).map_err(said)?;
        // Reasons are optional, and a rule that is not there is an error.
        let reasons = engine.eval_rule(REASONS.to_owned()).unwrap_or(Value::Undefined);
        let some = |values: &mut dyn Iterator<Item = &Value>| -> Vec<String> {
            values
                .filter_map(|value| value.as_string().ok())
                .take(MAX_REASONS)
                .map(|text| text.to_string())
                .collect()
        };
        let reasons = match &reasons {
            Value::Set(set) => some(&mut set.iter()),
            Value::Array(list) => some(&mut list.iter()),
            _ => Vec::new(),
        };
        Ok((allow, reasons))
    }
}

/// In one line: errors of the engine show the place in the file over several.
fn said(error: impl std::fmt::Display) -> String {
    let text = error.to_string();
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" ")
}

#[cfg(test)]
mod tests;
