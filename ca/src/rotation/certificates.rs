//! The certificates of a root's rotation: that each is what it is given for.

use jiff::Timestamp;

use super::RotationError;
use crate::certificate::{AuthorityCertificate, Constraints};

/// The old and the new root of a rotation, and each certified by the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// The old root.
    pub old: AuthorityCertificate,
    /// The new root.
    pub new: AuthorityCertificate,
    /// The new root's name and key, certified by the old root.
    pub new_by_old: Option<AuthorityCertificate>,
    /// The old root's name and key, certified by the new root.
    pub old_by_new: Option<AuthorityCertificate>,
}

impl Roots {
    /// An old root and the one that takes its place.
    ///
    /// # Errors
    /// One is no root, they are not for the same domain, or they share a name or a key: verifiers find issuers by name and
    /// key identifier, and would take one for the other.
    pub fn new(old: AuthorityCertificate, new: AuthorityCertificate) -> Result<Self, RotationError> {
        for (which, root) in [("old", &old), ("new", &new)] {
            if !root.is_self_signed() {
                return wrong(format!("the {which} root {} is not signed by itself", root.subject()));
            }
        }
        if new.path_length().is_some() {
            return wrong(format!(
                "the new root {} has a path length, which would break cross-certification; make it without",
                new.subject()
            ));
        }
        if old.uris() != new.uris() {
            return wrong(format!(
                "the old root is for {:?} and the new one for {:?}",
                old.uris(),
                new.uris()
            ));
        }
        for (what, same) in [
            ("key", old.public_key() == new.public_key()),
            ("name", old.subject() == new.subject()),
            ("key identifier", old.subject_key_identifier() == new.subject_key_identifier()),
        ] {
            if same {
                return wrong(format!(
                    "the new root has the {what} of the old one; make a root with its own"
                ));
            }
        }
        Ok(Self { old, new, new_by_old: None, old_by_new: None })
    }

    /// Takes a cross-certificate, for the direction that it is of. `below` is the longest path length of the
    /// intermediates: between them and a cross-certificate, another may stand.
    ///
    /// # Errors
    /// It stands for neither root, is not signed by the other, has constraints, or no path length that leaves room.
    pub fn with_cross(
        mut self,
        cross: AuthorityCertificate,
        below: u8,
        now: Timestamp,
    ) -> Result<Self, RotationError> {
        let stands_for = |root: &AuthorityCertificate| {
            cross.subject() == root.subject()
                && cross.public_key() == root.public_key()
                && cross.subject_key_identifier() == root.subject_key_identifier()
        };
        let of_new = match (stands_for(&self.new), stands_for(&self.old)) {
            (true, _) => true,
            (_, true) => false,
            _ => {
                return wrong(format!(
                    "{} has name, key and key identifier of neither root, so that it stands for none",
                    cross.subject()
                ));
            }
        };
        let issuer = if of_new { &self.old } else { &self.new };
        if cross.is_self_signed() || !cross.is_issued_by(issuer) {
            return wrong(format!(
                "the certificate of {} is not signed by {}",
                cross.subject(),
                issuer.subject()
            ));
        }
        if *cross.constraints() != Constraints::None {
            return wrong(format!(
                "the cross-certificate of {} has name constraints, which many verifiers refuse (docs/name-constraints.md); the root that it stands for has none",
                cross.subject()
            ));
        }
        if cross.uris() != issuer.uris() {
            return wrong(format!("the cross-certificate of {} is for {:?}", cross.subject(), cross.uris()));
        }
        let least = below.saturating_add(2);
        match cross.path_length() {
            Some(length) if length >= least => {}
            found => {
                return wrong(format!(
                    "the cross-certificate of {} has the path length {}, and needs {least} at least: 3 and as much as intermediates are nested",
                    cross.subject(),
                    found.map_or("none".to_owned(), |length| length.to_string())
                ));
            }
        }
        if cross.validity().not_after() < now {
            return wrong(format!("the cross-certificate of {} has ended", cross.subject()));
        }
        match of_new {
            true => self.new_by_old = Some(cross),
            false => self.old_by_new = Some(cross),
        }
        Ok(self)
    }
}

fn wrong<T>(what: String) -> Result<T, RotationError> {
    Err(RotationError(what))
}
