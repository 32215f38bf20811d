//! What a response would change.

use serde::Serialize;

use super::{Kind, PartName, Response};
use crate::certificate::{AuthorityCertificate, certificates_from_pem};

/// A part beside the file of its name that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// No file is there.
    New,
    /// The file is the same.
    Same,
    /// The file is another, and would be overwritten.
    Changed,
}

/// What would become of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its name.
    pub name: PartName,
    /// What it is.
    pub kind: Kind,
    /// What is there.
    pub state: State,
    /// What it says, a line each.
    pub says: Vec<String>,
}

/// What a response would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Each file.
    pub files: Vec<Change>,
    /// Roots that the installation does not have yet, by subject and key id.
    pub roots_added: Vec<String>,
    /// Roots whose file another one would take the place of.
    pub roots_removed: Vec<String>,
}

impl Difference {
    /// What would change where `existing` gives the files that are there, and `installed` the roots that the installation
    /// has.
    pub fn new<E>(
        response: &Response,
        installed: &[AuthorityCertificate],
        existing: impl Fn(&PartName) -> Result<Option<Vec<u8>>, E>,
    ) -> Result<Self, E> {
        let added = response.certificates.iter().filter_map(|certificate| certificate.root.as_ref());
        let added: Vec<&AuthorityCertificate> = added.filter(|root| !installed.contains(root)).collect();
        let mut removed = Vec::new();
        let mut files = Vec::new();
        for part in response.opened().message().parts() {
            let there = existing(&part.name)?;
            let state = match &there {
                None => State::New,
                Some(bytes) if *bytes == part.bytes => State::Same,
                Some(bytes) => {
                    removed
                        .extend(roots(bytes).into_iter().filter(|root| !roots(&part.bytes).contains(root)));
                    State::Changed
                }
            };
            files.push(Change {
                name: part.name.clone(),
                kind: part.kind,
                state,
                says: says(response, part),
            });
        }
        Ok(Self {
            files,
            roots_added: added.into_iter().map(named).collect(),
            roots_removed: removed.iter().map(named).collect(),
        })
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.files.iter().all(|file| file.state == State::Same)
    }
}

fn says(response: &Response, part: &super::Part) -> Vec<String> {
    let certificates = response.certificates.iter().filter(|certificate| certificate.name == part.name);
    let certificates = certificates.flat_map(|certificate| {
        let issuer = match &certificate.root {
            Some(_) => "itself: a root".to_owned(),
            None => certificate.issuer.clone(),
        };
        [
            format!("subject {}", certificate.subject),
            format!("issuer {issuer}"),
            format!("valid {}", certificate.validity),
            format!("key {}", certificate.public_key.id()),
        ]
    });
    let crls = response.crls.iter().filter(|crl| crl.name == part.name).flat_map(|crl| {
        [
            format!("issuer {}", crl.issuer),
            format!("number {}, {} revoked", crl.number, crl.revoked),
            format!("from {} to {}", crl.this_update, crl.next_update),
        ]
    });
    certificates.chain(crls).collect()
}

/// The roots in a file, if it is one of certificates.
fn roots(bytes: &[u8]) -> Vec<AuthorityCertificate> {
    let pem = std::str::from_utf8(bytes).unwrap_or_default();
    let ders = certificates_from_pem(pem).unwrap_or_default();
    let authorities = ders.iter().filter_map(|der| AuthorityCertificate::from_der(der).ok());
    authorities.filter(AuthorityCertificate::is_self_signed).collect()
}

fn named(root: &AuthorityCertificate) -> String {
    format!("{}, key {}", root.subject(), root.public_key().id())
}
