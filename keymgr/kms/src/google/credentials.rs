//! Who we are to Google: what the library's Application Default Credentials would find, found by ourselves, since the
//! library does not tell whether it found an identity of this machine or a key that somebody left in a file.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use google_cloud_auth::credentials::{
    Credentials, anonymous, external_account, impersonated, mds, service_account, user_account,
};
use serde_json::Value;
use undercroft_keymgr::{Error, ErrorKind, Secrecy, Sighting};

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

/// Credentials that were found, and not used yet.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) source: Source,
    /// What is in the file.
    value: Value,
}

/// Finds credentials. `variable` reads the environment.
///
/// # Errors
/// `Denied` if a file is there that cannot be read or understood, or `secrecy` refuses what it holds.
pub(super) fn find(
    simulator: bool,
    secrecy: Secrecy,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Found, Error> {
    if simulator {
        return Ok(Found { source: Source::Simulator, value: Value::Null });
    }
    let Some(path) = file(&variable) else {
        return Ok(Found { source: Source::MetadataServer, value: Value::Null });
    };
    let unreadable = |error: &dyn std::fmt::Display| {
        let message = format!("the Google credentials in {} cannot be read: {error}", path.display());
        Error::new(ErrorKind::Denied, message)
    };
    let text = fs::read(&path).map_err(|error| unreadable(&error))?;
    if text.len() > MAX_FILE {
        return Err(unreadable(&format!("it has more than {MAX_FILE} bytes")));
    }
    let value: Value = serde_json::from_slice(&text).map_err(|error| {
        // Where, and not what: a credential must not get into a message.
        unreadable(&format!("it is no JSON (line {}, column {})", error.line(), error.column()))
    })?;
    let source = source(&value, path.clone()).map_err(|error| unreadable(&error))?;
    match &source {
        Source::Static(path, kind) if secrecy == Secrecy::Strict => Err(Error::new(
            ErrorKind::Denied,
            format!(
                "{} holds a {kind}, which stays good until somebody changes it, and --strict refuses those; remove it and give this machine a service account, or its workload an identity",
                path.display()
            ),
        )),
        _ => Ok(Found { source, value }),
    }
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Found({:?})", self.source)
    }
}

impl Found {
    /// The credentials. Called by a thread of the runtime, on which they are renewed from then on.
    ///
    /// # Errors
    /// `Denied` if the library does not take them.
    pub(super) fn use_them(&self) -> Result<Credentials, Error> {
        let (value, scopes) = (self.value.clone(), [SCOPE]);
        let built = match &self.source {
            Source::Simulator => return Ok(anonymous::Builder::new().build()),
            Source::MetadataServer => mds::Builder::default().build(),
            Source::Federation(_) | Source::Static(..) => match value["type"].as_str() {
                Some("external_account") => external_account::Builder::new(value).with_scopes(scopes).build(),
                Some("impersonated_service_account") => {
                    impersonated::Builder::new(value).with_scopes(scopes).build()
                }
                Some("authorized_user") => user_account::Builder::new(value).with_scopes(scopes).build(),
                _ => service_account::Builder::new(value)
                    .with_access_specifier(service_account::AccessSpecifier::from_scopes(scopes))
                    .build(),
            },
        };
        built.map_err(|error| {
            let message = format!("the Google credentials of {:?} cannot be used", self.source);
            Error::with_source(ErrorKind::Denied, message, error)
        })
    }
}

/// Says which credentials there are. Nobody is asked whether they are good.
pub(super) fn survey(secrecy: Secrecy, variable: impl Fn(&str) -> Option<OsString>) -> Sighting {
    let what = "credentials for Google Cloud KMS";
    match find(false, secrecy, variable).map(|found| found.source) {
        // A metadata server is assumed where nothing else is, and not on this word alone.
        Ok(Source::Simulator | Source::MetadataServer) => Sighting::wanting(
            what,
            "no file of credentials; on a machine of Google's the metadata server gives them: try gcpkms:project=…;location=…;key-ring=…",
        ),
        Ok(Source::Federation(path) | Source::Static(path, _)) => Sighting::wanting(
            format!("{what} in {}", path.display()),
            "a project, a location and a key ring: write gcpkms:project=…;location=…;key-ring=…",
        ),
        Err(error) => Sighting::wanting(what, error.to_string()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Secrecy = Secrecy::Strict;

    fn with_file(text: &str, secrecy: Secrecy) -> Result<Source, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        fs::write(&path, text).unwrap();
        find(false, secrecy, |name| (name == "GOOGLE_APPLICATION_CREDENTIALS").then(|| path.clone().into()))
            .map(|found| found.source)
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
        for text in ["s3cret", "{}", r#"{"type":"kind"}"#] {
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
        assert_eq!(find(false, STRICT, home).unwrap().source, Source::MetadataServer);
        let gcloud = folder.path().join(".config/gcloud");
        fs::create_dir_all(&gcloud).unwrap();
        fs::write(gcloud.join("application_default_credentials.json"), r#"{"type":"authorized_user"}"#)
            .unwrap();
        assert!(find(false, STRICT, home).unwrap_err().to_string().contains("refresh token"));
    }

    #[tokio::test]
    async fn credentials_that_the_library_does_not_take_are_refused_without_being_shown() {
        let value = serde_json::json!({"type": "service_account", "private_key": "s3cret"});
        let found = Found { source: Source::Static("key.json".into(), "key".into()), value };
        let refusal = found.use_them().map(|_| ()).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::Denied);
        assert!(refusal.to_string().contains("key.json"), "{refusal}");
        assert!(!format!("{refusal} {refusal:?}").contains("s3cret"), "{refusal:?}");
        // Those of a machine are there as soon as they are asked for, and are asked for later.
        Found { source: Source::MetadataServer, value: Value::Null }.use_them().unwrap();
    }
}
