//! Who may vouch for clients: each domain's published roots, and its own authorities below them.
//!
//! It is asked at each handshake and changes with a rotation, so what was built is kept until a bundle is another one.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::CertificateDer;
use undercroft_ca::bundle::Bundle;
use undercroft_ca::service::{CertificateAuthority, Domain};
use undercroft_proto::identity::DomainAnchors;
use undercroft_upstream::acceptor::Anchors;

/// The anchors of every domain, as they are at the moment of the question.
pub fn of(ca: Arc<CertificateAuthority>) -> Anchors {
    let kept = Mutex::new(Built::of(&ca));
    Arc::new(move || {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.is_of_now(&ca) {
            *kept = Built::of(&ca);
        }
        kept.anchors.clone()
    })
}

/// What was built, and of which bundles. The bundles are held, so that another one cannot be at the same address.
struct Built {
    bundles: Vec<Arc<Bundle>>,
    anchors: Arc<[DomainAnchors]>,
}

impl Built {
    fn of(ca: &CertificateAuthority) -> Self {
        let bundles: Vec<_> = ca.domains().iter().map(Domain::bundle).collect();
        let anchors = ca.domains().iter().zip(&bundles).map(|(domain, bundle)| {
            DomainAnchors::new(
                domain.name().as_str(),
                bundle.roots().iter().map(|root| owned(root.der())).collect(),
                domain.authorities().iter().map(|authority| owned(authority.certificate().der())).collect(),
            )
        });
        let anchors = anchors.collect();
        Self { bundles, anchors }
    }

    fn is_of_now(&self, ca: &CertificateAuthority) -> bool {
        ca.domains().iter().zip(&self.bundles).all(|(domain, bundle)| Arc::ptr_eq(&domain.bundle(), bundle))
    }
}

fn owned(der: &[u8]) -> CertificateDer<'static> {
    CertificateDer::from(der.to_vec())
}
