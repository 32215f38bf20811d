//! TOML that is read strictly: unknown keys are errors that name the nearest known key.

use serde::de::DeserializeOwned;

/// How unlike two keys may be for one to be suggested for the other (Jaro-Winkler, 0 to 1).
const SIMILAR: f64 = 0.75;

/// Reads `text`, which stands in the file `name`.
///
/// Every type that is read must refuse unknown fields (`#[serde(deny_unknown_fields)]`), at every level.
///
/// # Errors
/// A syntax error, an unknown, missing or repeated key, or a value of another type, each with its line.
pub fn parse<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, TomlError> {
    toml::from_str(text).map_err(|error| {
        let (line, column) = error.span().map_or((0, 0), |span| position(text, span.start));
        let message = error.message().trim_end();
        TomlError {
            file: name.to_owned(),
            line,
            column,
            message: match nearest(message) {
                Some(known) => format!("{message}; did you mean `{known}`?"),
                None => message.to_owned(),
            },
        }
    })
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The known key that an unknown one resembles. serde names them all: "unknown field `a`, expected one of `b`, `c`".
fn nearest(message: &str) -> Option<String> {
    let mut names = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let unknown = names.next()?;
    names
        .map(|known| (strsim::jaro_winkler(unknown, known), known))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known.to_owned())
}

/// What is wrong with a TOML file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct TomlError {
    /// The file.
    pub file: String,
    /// The line, from 1; 0 if the whole file is meant.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Server {
        listen: String,
        admin_socket: Option<String>,
    }

    fn refusal(text: &str) -> String {
        parse::<Server>("server.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one() {
        let told = refusal("listen = \"a\"\n\nadmin-sokket = \"b\"\n");
        assert!(told.starts_with("server.toml:3:1: unknown field `admin-sokket`"), "{told}");
        assert!(told.ends_with("did you mean `admin-socket`?"), "{told}");
        assert!(!refusal("listen = \"a\"\nzzz = 1\n").contains("did you mean"));
    }

    #[test]
    fn other_mistakes_have_their_place() {
        assert!(refusal("listen = 7\n").starts_with("server.toml:1:10: "), "{}", refusal("listen = 7\n"));
        assert!(refusal("listen = \"a\"\nlisten = \"b\"\n").contains("duplicate key"));
        assert!(refusal("listen = ").starts_with("server.toml:1:"));
        assert!(refusal("").contains("missing field `listen`"));
    }
}
