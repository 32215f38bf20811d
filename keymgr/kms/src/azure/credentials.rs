//! Who we are to Azure: found by ourselves and not by a chain of the library's, so that it is known what was found.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::http::{ClientOptions, RetryOptions, Transport as AzureTransport};
use azure_core::time::OffsetDateTime;
use azure_identity::{
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use undercroft_keymgr::{Error, ErrorKind, Secrecy};

use super::transport::Transport;

/// Where credentials come from. It is shown, and holds none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Any token is good: a simulator on this machine.
    Simulator,
    /// A token that the cluster gives to this workload and changes by itself.
    WorkloadIdentity,
    /// The identity of the machine or the service.
    ManagedIdentity,
    /// A password in the environment.
    ClientSecret,
}

/// Finds credentials. `variable` reads the environment.
///
/// # Errors
/// `Denied` if what there is is not complete, or `secrecy` refuses it.
pub(super) fn find(
    simulator: bool,
    secrecy: Secrecy,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<(Source, Arc<dyn TokenCredential>), Error> {
    if simulator {
        return Ok((Source::Simulator, Arc::new(AnyToken)));
    }
    let text = |name: &str| {
        variable(name).and_then(|value| value.into_string().ok()).filter(|value| !value.is_empty())
    };
    let needed = |name: &str, by: &str| {
        text(name).ok_or_else(|| {
            Error::new(
                ErrorKind::Denied,
                format!("{by} is set, but {name} is not; Azure needs both to know who this is"),
            )
        })
    };
    let client_options = ClientOptions {
        transport: Some(AzureTransport::new(Arc::new(Transport::to_authorities()?))),
        // What is tried again is decided for the whole call.
        retry: RetryOptions::none(),
        ..ClientOptions::default()
    };
    if let Some(file) = text("AZURE_FEDERATED_TOKEN_FILE") {
        let credential = WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
            credential_options: ClientAssertionCredentialOptions { client_options },
            client_id: Some(needed("AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE")?),
            tenant_id: Some(needed("AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE")?),
            token_file_path: Some(PathBuf::from(file)),
        }));
        return Ok((Source::WorkloadIdentity, credential.map_err(refused("the workload's identity"))?));
    }
    if let Some(secret) = text("AZURE_CLIENT_SECRET") {
        if secrecy == Secrecy::Strict {
            return Err(Error::new(
                ErrorKind::Denied,
                "AZURE_CLIENT_SECRET holds a password that stays good until somebody changes it, and --strict refuses those; remove it and give this machine a managed identity, or its workload an identity",
            ));
        }
        let credential = ClientSecretCredential::new(
            &needed("AZURE_TENANT_ID", "AZURE_CLIENT_SECRET")?,
            needed("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")?,
            Secret::new(secret),
            Some(ClientSecretCredentialOptions { client_options }),
        );
        return Ok((Source::ClientSecret, credential.map_err(refused("AZURE_CLIENT_SECRET"))?));
    }
    let credential = ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
        user_assigned_id: text("AZURE_CLIENT_ID").map(UserAssignedId::ClientId),
        client_options,
    }));
    Ok((Source::ManagedIdentity, credential.map_err(refused("the managed identity"))?))
}

fn refused(what: &'static str) -> impl FnOnce(azure_core::Error) -> Error {
    move |error| Error::with_source(ErrorKind::Denied, format!("{what} cannot be used"), error)
}

/// What a simulator takes: it asks for a token, and not for whose.
#[derive(Debug)]
struct AnyToken;

#[async_trait]
impl TokenCredential for AnyToken {
    async fn get_token(
        &self,
        _scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        // The year 9999: nobody reads a clock for this token.
        let far = OffsetDateTime::from_unix_timestamp(253_402_300_799).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Ok(AccessToken::new("any", far))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(secrecy: Secrecy, environment: &[(&str, &str)]) -> Result<Source, Error> {
        let environment = environment.to_vec();
        find(false, secrecy, |name| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into())
        })
        .map(|(source, _)| source)
    }

    const TENANT: (&str, &str) = ("AZURE_TENANT_ID", "11111111-2222-3333-4444-555555555555");
    const CLIENT: (&str, &str) = ("AZURE_CLIENT_ID", "66666666-7777-8888-9999-000000000000");
    const SECRET: (&str, &str) = ("AZURE_CLIENT_SECRET", "pa55word");

    #[test]
    fn a_password_is_refused_where_only_ambient_identities_are_good() {
        assert_eq!(found(Secrecy::Lenient, &[TENANT, CLIENT, SECRET]).unwrap(), Source::ClientSecret);
        let refusal = found(Secrecy::Strict, &[TENANT, CLIENT, SECRET]).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::Denied);
        let refusal = format!("{refusal} {refusal:?}");
        assert!(refusal.contains("AZURE_CLIENT_SECRET") && refusal.contains("--strict"), "{refusal}");
        assert!(!refusal.contains("pa55word"), "{refusal}");
    }

    #[test]
    fn what_is_not_complete_is_refused_by_what_is_missing() {
        for (environment, missing) in [
            (&[TENANT, SECRET][..], "AZURE_CLIENT_ID"),
            (&[CLIENT, SECRET], "AZURE_TENANT_ID"),
            (&[CLIENT, ("AZURE_FEDERATED_TOKEN_FILE", "/var/token")], "AZURE_TENANT_ID"),
        ] {
            let refusal = found(Secrecy::Lenient, environment).unwrap_err();
            assert_eq!(refusal.kind(), ErrorKind::Denied);
            assert!(refusal.to_string().contains(&format!("{missing} is not")), "{refusal}");
            assert!(!format!("{refusal:?}").contains("pa55word"));
        }
        let gone = [TENANT, CLIENT, ("AZURE_FEDERATED_TOKEN_FILE", "/nonexistent/token")];
        assert_eq!(found(Secrecy::Strict, &gone).unwrap_err().kind(), ErrorKind::Denied);
    }

    #[test]
    fn without_anything_it_is_the_identity_of_the_machine() {
        assert_eq!(found(Secrecy::Strict, &[]).unwrap(), Source::ManagedIdentity);
        assert_eq!(found(Secrecy::Strict, &[CLIENT]).unwrap(), Source::ManagedIdentity);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "eyJ").unwrap();
        let workload = [TENANT, CLIENT, ("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap()), SECRET];
        // The password beside it is not looked at.
        assert_eq!(found(Secrecy::Strict, &workload).unwrap(), Source::WorkloadIdentity);
    }
}
