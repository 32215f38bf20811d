//! What a log is about, as its origin says.

use undercroft_ca::log_key::{CEREMONY, CONTROL, ORIGIN_PART, REHEARSAL};
use undercroft_log::note::KeyName;

/// What a log is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// The installation, and the control domain's certificates.
    Control,
    /// One trust domain.
    Domain,
    /// A ceremony, or the rehearsal of one.
    Ceremony,
    /// Something that we have no name for.
    Unknown,
}

/// A log's place among the logs of its installation.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) about: About,
    /// Whether it continues no other log: what is not in it never was.
    pub(super) first_epoch: bool,
    /// The origin up to its epoch, and the epoch.
    origin: Option<(String, u64)>,
    /// The one domain that it is for. The control log's is the first that it speaks of.
    domain: Option<String>,
}

impl Place {
    pub(super) fn of(origin: &KeyName) -> Self {
        let (about, epoch, domain) = match origin.as_str().split('/').collect::<Vec<_>>()[..] {
            [_, ORIGIN_PART, CONTROL, epoch] => (About::Control, epoch, None),
            [_, ORIGIN_PART, domain, epoch] => (About::Domain, epoch, Some(domain.to_owned())),
            [_, ORIGIN_PART, CEREMONY | REHEARSAL, _, epoch] => (About::Ceremony, epoch, None),
            _ => (About::Unknown, "", None),
        };
        Self { about, first_epoch: epoch == "1", origin: split(origin), domain }
    }

    /// Whether this log is a later epoch of the one with this origin.
    pub(super) fn continues(&self, earlier: &KeyName) -> bool {
        match (&self.origin, split(earlier)) {
            (Some((own, epoch)), Some((other, earlier))) => *own == other && *epoch > earlier,
            _ => false,
        }
    }

    /// Whether something for `domain` may stand here; the domain that the log is for if not.
    pub(super) fn takes(&mut self, domain: &str) -> Result<(), String> {
        if matches!(self.about, About::Ceremony | About::Unknown) {
            return Ok(());
        }
        let own = self.domain.get_or_insert_with(|| domain.to_owned());
        if own == domain { Ok(()) } else { Err(own.clone()) }
    }

    /// Whether the policies that its entries name stand in it. Those of domains stand in the control log.
    pub(super) fn has_policies(&self) -> bool {
        matches!(self.about, About::Control | About::Ceremony)
    }
}

fn split(origin: &KeyName) -> Option<(String, u64)> {
    let (log, epoch) = origin.as_str().rsplit_once('/')?;
    Some((log.to_owned(), epoch.parse().ok()?))
}
