//! Who we are to Google: what the library's Application Default Credentials would find, found by ourselves, since the
//! library does not tell whether it found an identity of this machine or a key that somebody left in a file.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use google_cloud_auth::credentials::{
    Credentials, anonymous, external_account, impersonated, mds, service_account, user_account,
};
use serde_json::Value;
use undercroft_keymgr::{Error, ErrorKind, Secrecy};

/// What a token is for, where a token is for something.
const SCOPE: &str = "https://www.googleapis.com/auth/cloudkms";

/// The most bytes of a credentials file that are read.
const MAX_FILE: usize = 64 * 1024;

/// Where credentials come from. It is shown, and holds none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Nobody is asked who he is: a simulator on this machine.
    Simulator,
    /// The metadata server of the machine or the cluster.
    MetadataServer,
    /// A file that says how another identity is exchanged for one of Google's; it holds no key.
    Federation(PathBuf),
    /// A file with a key or a person's token in it.
    Static(PathBuf, String),
}

/// Finds credentials. `variable` reads the environment.
///
/// # Errors
/// `Denied` if a file is there that cannot be read or understood, or `secrecy` refuses what it holds.
pub(super) fn find(
    simulator: bool,
    secrecy: Secrecy,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<(Source, Credentials), Error> {
    if simulator {
        return Ok((Source::Simulator, anonymous::Builder::new().build()));
    }
    let Some(path) = file(&variable) else {
        let found = mds::Builder::default().build().map_err(refused("the metadata server"))?;
        return Ok((Source::MetadataServer, found));
    };
    let shown = format!("the Google credentials in {}", path.display());
    let unreadable = |error: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Denied, format!("{shown} cannot be read: {error}"))
    };
    let text = fs::read(&path).map_err(|error| unreadable(&error))?;
    if text.len() > MAX_FILE {
        return Err(unreadable(&format!("it has more than {MAX_FILE} bytes")));
    }
    let value: Value = serde_json::from_slice(&text).map_err(|error| unreadable(&error.classify_only()))?;
    let source = source(&value, path).map_err(|error| unreadable(&error))?;
    if let Source::Static(path, kind) = &source
        && secrecy == Secrecy::Strict
    {
        return Err(Error::new(
            ErrorKind::Denied,
            format!(
                "{} holds a {kind}, a key that stays good until somebody changes it, and --strict refuses those; remove it and give this machine a service account, or its workload an identity",
                path.display()
            ),
        ));
    }
    let kind = value["type"].as_str().unwrap_or_default().to_owned();
    let scopes = [SCOPE];
    let built = match kind.as_str() {
        "external_account" => external_account::Builder::new(value).with_scopes(scopes).build(),
        "impersonated_service_account" => impersonated::Builder::new(value).with_scopes(scopes).build(),
        "authorized_user" => user_account::Builder::new(value).with_scopes(scopes).build(),
        _ => service_account::Builder::new(value)
            .with_access_specifier(service_account::AccessSpecifier::from_scopes(scopes))
            .build(),
    };
    Ok((source, built.map_err(refused(&shown))?))
}

/// The file that the environment names, or the one that `gcloud` leaves.
fn file(variable: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(path) = variable("GOOGLE_APPLICATION_CREDENTIALS").filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    let well_known =
        PathBuf::from(variable("HOME")?).join(".config/gcloud/application_default_credentials.json");
    well_known.exists().then_some(well_known)
}

fn source(value: &Value, path: PathBuf) -> Result<Source, String> {
    match value["type"].as_str() {
        Some("external_account") => Ok(Source::Federation(path)),
        // It is as good as what it starts from.
        Some("impersonated_service_account") => match source(&value["source_credentials"], path)? {
            Source::Static(path, kind) => {
                Ok(Source::Static(path, format!("{kind} that impersonates another")))
            }
            ambient => Ok(ambient),
        },
        Some("service_account") => Ok(Source::Static(path, "key of a service account".into())),
        Some("authorized_user") => Ok(Source::Static(path, "person's refresh token".into())),
        Some(other) => Err(format!("credentials of the type `{other}` are not taken")),
        None => Err("it has no `type`".into()),
    }
}

fn refused<E: std::error::Error + Send + Sync + 'static>(shown: &str) -> impl FnOnce(E) -> Error {
    let message = format!("{shown} cannot be used");
    move |error| Error::with_source(ErrorKind::Denied, message, error)
}

/// What a parser says without what it has read: a credential must not get into a message.
trait ClassifyOnly {
    fn classify_only(&self) -> String;
}

impl ClassifyOnly for serde_json::Error {
    fn classify_only(&self) -> String {
        format!("it is no JSON (line {}, column {})", self.line(), self.column())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Secrecy = Secrecy::Strict;

    fn with_file(text: &str, secrecy: Secrecy) -> Result<Source, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        fs::write(&path, text).unwrap();
        find(false, secrecy, |name| (name == "GOOGLE_APPLICATION_CREDENTIALS").then(|| path.clone().into()))
            .map(|(source, _)| source)
    }

    #[test]
    fn keys_in_files_are_refused_where_only_ambient_identities_are_good() {
        let person = r#"{"type":"authorized_user","client_id":"i","client_secret":"s3cret","refresh_token":"r3fresh"}"#;
        assert!(matches!(with_file(person, Secrecy::Lenient).unwrap(), Source::Static(..)));
        let impersonated = format!(
            r#"{{"type":"impersonated_service_account","source_credentials":{person},"service_account_impersonation_url":"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@b.iam.gserviceaccount.com:generateAccessToken"}}"#
        );
        let key = r#"{"type":"service_account","private_key":"s3cret","client_email":"a@b","private_key_id":"1","project_id":"p"}"#;
        for text in [person, &impersonated, key] {
            let refusal = with_file(text, STRICT).unwrap_err();
            assert_eq!(refusal.kind(), ErrorKind::Denied);
            let refusal = refusal.to_string();
            assert!(refusal.contains("key.json") && refusal.contains("--strict"), "{refusal}");
            assert!(!refusal.contains("s3cret") && !refusal.contains("r3fresh"), "{refusal}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_refused_and_never_shown() {
        for text in
            ["s3cret", "{}", r#"{"type":"s"}"#, r#"{"type":"service_account","private_key":"s3cret"}"#]
        {
            let refusal = with_file(text, Secrecy::Lenient).unwrap_err();
            assert_eq!(refusal.kind(), ErrorKind::Denied, "{text}");
            assert!(!format!("{refusal} {refusal:?}").contains("s3cret"), "{refusal:?}");
        }
        let gone = find(false, Secrecy::Lenient, |name| {
            (name == "GOOGLE_APPLICATION_CREDENTIALS").then(|| "/nonexistent/key.json".into())
        });
        assert!(gone.unwrap_err().to_string().contains("/nonexistent/key.json"));
    }

    #[test]
    fn without_a_file_the_metadata_server_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let home = |name: &str| (name == "HOME").then(|| folder.path().into());
        assert_eq!(find(false, STRICT, home).unwrap().0, Source::MetadataServer);
        let gcloud = folder.path().join(".config/gcloud");
        fs::create_dir_all(&gcloud).unwrap();
        fs::write(gcloud.join("application_default_credentials.json"), r#"{"type":"authorized_user"}"#)
            .unwrap();
        assert!(find(false, STRICT, home).unwrap_err().to_string().contains("refresh token"));
    }
}
