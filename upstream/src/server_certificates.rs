//! The daemon's own certificates: one for each domain, picked by the name that a client asks for.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The certificates that the acceptor presents. They are replaced while it runs; open connections keep theirs.
#[derive(Default)]
pub struct ServerCertificates {
    /// The first is for clients that ask for no name that we know.
    held: RwLock<Vec<(Vec<String>, Arc<CertifiedKey>)>>,
}

/// A certificate chain and its key, and the names that it is presented for.
pub struct CertificateForNames {
    /// DNS names.
    pub names: Vec<String>,
    /// Leaf first, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key, which lives in this process and nowhere else.
    pub key: PrivateKeyDer<'static>,
}

impl ServerCertificates {
    /// Presents a certificate from now on, in place of the one for the same names if there is one.
    ///
    /// # Errors
    /// Its key is of a kind that TLS cannot use.
    pub fn present(&self, certificate: CertificateForNames) -> Result<(), rustls::Error> {
        let key = any_supported_type(&certificate.key)?;
        let key = Arc::new(CertifiedKey::new(certificate.chain, key));
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        match held.iter_mut().find(|(names, _)| *names == certificate.names) {
            Some((_, held)) => *held = key,
            None => held.push((certificate.names, key)),
        }
        Ok(())
    }
}

impl ResolvesServerCert for ServerCertificates {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let asked = client_hello.server_name();
        let by_name =
            held.iter().find(|(names, _)| asked.is_some_and(|asked| names.iter().any(|name| name == asked)));
        by_name.or(held.first()).map(|(_, key)| key.clone())
    }
}

impl fmt::Debug for ServerCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerCertificates")
    }
}
