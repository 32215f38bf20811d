//! Giving a rotation up, as long as no new authority has signed in the place of an old one (`docs/rotation.md`).

use jiff::Timestamp;
use undercroft_log::leaf::{Body, Caller, Digest, RotationEvent};

use super::{CertificateAuthority, Domain, RotateError, RotationStatus, object, whole_second};
use crate::approval::Approved;
use crate::bundle::Bundle;
use crate::rotation::{Blocker, Rotation};
use crate::store::Effect;
use crate::time::Lifetime;

/// The statement that was signed, and the signatures.
type Approval = (String, Vec<String>);

impl CertificateAuthority {
    /// The statement that the quorum signs so that the rotation of a domain may be abandoned; nothing if that changes no
    /// root.
    ///
    /// # Errors
    /// There is nothing that could be abandoned, or nobody may approve it.
    pub async fn abandonment_statement(
        &self,
        domain: &str,
        requester: &str,
        lifetime: Lifetime,
    ) -> Result<Option<String>, RotateError> {
        let domain = self.rotated(domain)?;
        let rotation = domain.rotation_to_go_on()?;
        rotation.abandoned()?;
        match rotation.bundle_without(&domain.bundle()) {
            Some(bundle) => self.bundle_statement(domain, object(&bundle)?, requester, lifetime).map(Some),
            None => Ok(None),
        }
    }

    /// Abandons the rotation of a domain: everything is as it was before, and the next one has the next number.
    ///
    /// A new root that is published is taken out of the bundle by the quorum's word, logged and published first.
    ///
    /// # Errors
    /// See [`RotateError`]. That it was too late, or too early, is in the log.
    pub async fn abandon_rotation(
        &self,
        caller: Caller,
        domain: &str,
        approval: Option<&Approval>,
        dry_run: bool,
    ) -> Result<RotationStatus, RotateError> {
        let domain = self.rotated(domain)?;
        let _turn = domain.rotating.lock().await;
        self.publish_what_is_logged(domain, dry_run).await?;
        let now = whole_second(self.clock.now());
        let rotation = domain.rotation_to_go_on()?;
        let refused = async |caller: Caller, blockers: &[Blocker]| match dry_run {
            true => Ok(()),
            false => {
                let entry = rotation.entry(RotationEvent::Refused, caller, blockers, None);
                domain.log_rotation(Body::Rotation(entry), Vec::new()).await
            }
        };
        let abandoned = match rotation.abandoned() {
            Ok(abandoned) => abandoned,
            Err(error) => {
                let blocker = Blocker { rule: "switched", text: error.to_string(), until: None };
                refused(caller, &[blocker]).await?;
                return Err(error.into());
            }
        };
        let published = domain.bundle();
        let bundle = rotation.bundle_without(&published);
        if bundle.is_some()
            && let Some(blocker) = self.lives_below_new(domain, &rotation, now).await?
        {
            refused(caller, std::slice::from_ref(&blocker)).await?;
            return Err(RotateError::NotYet(vec![blocker]));
        }
        let approved = match &bundle {
            Some(bundle) => Some(self.approved(domain, bundle, approval, now)?),
            None => None,
        };
        if dry_run {
            return self.status_of(domain, abandoned, now).await;
        }
        if let (Some(bundle), Some(approved)) = (bundle, &approved) {
            self.publish_approved(domain, bundle, Some(approved)).await?;
        }
        let approval = approved.map(|approved| Digest::of(approved.text().as_bytes()));
        let entry = abandoned.entry(RotationEvent::Abandoned, caller, &[], approval);
        domain.log_rotation(Body::Rotation(entry.clone()), vec![Effect::Rotation(entry)]).await?;
        domain.set_rotation(abandoned.clone());
        self.status_of(domain, abandoned, now).await
    }

    /// What still lives under a new root, which was published for others before.
    async fn lives_below_new(
        &self,
        domain: &Domain,
        rotation: &Rotation,
        now: Timestamp,
    ) -> Result<Option<Blocker>, RotateError> {
        let new_root = rotation.roots().map(|roots| &roots.new);
        let below = domain.authorities.iter().filter(|authority| Some(authority.root()) == new_root);
        let new: Vec<_> = below.map(|authority| authority.certificate().public_key().id()).collect();
        let last = self.facts.ends_last(&new).await?.filter(|last| last.not_after >= now);
        Ok(last.map(|last| Blocker {
            rule: "longest-live",
            text: format!("a certificate under the new root lives, of {}", last.name),
            until: last.not_after.checked_add(jiff::SignedDuration::from_secs(1)).ok(),
        }))
    }

    /// Logs a bundle behind its approval, if it needs one, and publishes it.
    pub(super) async fn publish_approved(
        &self,
        domain: &Domain,
        bundle: Bundle,
        approved: Option<&Approved>,
    ) -> Result<(), RotateError> {
        if let Some(approved) = approved {
            domain.log_rotation(Body::Approval(approved.entry()), Vec::new()).await?;
        }
        let entry = bundle.entry();
        domain.log_witnessed(Body::Bundle(entry.clone()), vec![Effect::Bundle(entry)]).await?;
        domain.set_bundle(bundle);
        Ok(())
    }
}
