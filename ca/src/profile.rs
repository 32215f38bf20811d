//! Profiles: what one kind of certificate looks like and may contain.

use const_oid::ObjectIdentifier;
use serde::Deserialize;
use undercroft_keys::KeyType;

use crate::time::Lifetime;

/// The kinds of certificates that there are. Each has its shape in `tbs.rs` and its rules in `lint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An offline root, self-signed.
    Root,
    /// The online authority of one trust domain.
    Intermediate,
    /// The CA of a SPIRE server, under an intermediate.
    SpireCa,
    /// An X.509-SVID of a workload, a node or a caller.
    Svid,
    /// The certificate by which the daemon is known: an X.509-SVID with DNS names.
    Server,
    /// A root's key and name, certified by another root: the way from one root to the other.
    CrossCertificate,
    /// The certificate of an OCSP responder, to which an authority delegates (RFC 6960 section 4.2.2.2). No SPIFFE ID.
    OcspSigner,
    /// The certificate of a TPM's attestation key (WebAuthn level 2, section 8.3.1). It names a TPM and no workload.
    AttestationKey,
}

impl Kind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Root,
        Self::Intermediate,
        Self::SpireCa,
        Self::Svid,
        Self::Server,
        Self::OcspSigner,
        Self::CrossCertificate,
        Self::AttestationKey,
    ];

    /// Whether certificates of this kind sign others.
    pub const fn is_authority(self) -> bool {
        matches!(self, Self::Root | Self::Intermediate | Self::SpireCa | Self::CrossCertificate)
    }

    /// Its arc below the installation's policy arc. Numbers are never used again for something else.
    const fn arc(self) -> u32 {
        match self {
            Self::Root => 1,
            Self::Intermediate => 2,
            Self::SpireCa => 3,
            Self::Svid => 4,
            Self::Server => 5,
            Self::OcspSigner => 6,
            Self::CrossCertificate => 7,
            Self::AttestationKey => 8,
        }
    }

    /// The lifetime that a profile of this kind has unless it says otherwise, and the longest that it may say.
    const fn lifetimes(self) -> (Lifetime, Lifetime) {
        match self {
            Self::Root => (Lifetime::days(20 * 365), Lifetime::days(30 * 365)),
            Self::Intermediate => (Lifetime::days(365), Lifetime::days(366)),
            Self::SpireCa => (Lifetime::hours(24), Lifetime::days(7)),
            Self::Svid => (Lifetime::hours(1), Lifetime::days(7)),
            Self::Server | Self::OcspSigner => (Lifetime::hours(24), Lifetime::days(7)),
            Self::CrossCertificate => (Lifetime::days(5 * 365), Lifetime::days(15 * 365)),
            Self::AttestationKey => (Lifetime::days(7), Lifetime::days(90)),
        }
    }
}

/// How much a profile demands to be known of an intent before the key signs. It is the last arc of its certificate policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Assured {
    /// It is durable: arc 1. The key signs while the head over it is being signed, and who asked gets both together. Only for
    /// leaves, and only of authorities without gates, which want a signed checkpoint.
    Durable,
    /// It stands under a signed checkpoint: arc 2.
    #[default]
    Signed,
    /// And enough witnesses have cosigned that: arc 3.
    Witnessed,
}

impl Assured {
    const fn arc(self) -> u32 {
        match self {
            Self::Durable => 1,
            Self::Signed => 2,
            Self::Witnessed => 3,
        }
    }
}

/// A `[[profile]]` table as it is written. What is absent has the kind's default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProfileConfig {
    /// How rules call it.
    pub name: String,
    /// What kind of certificate it makes.
    pub kind: Kind,
    /// The lifetime of certificates for which nobody asked another.
    pub lifetime: Option<Lifetime>,
    /// The longest lifetime that may be asked for.
    pub max_lifetime: Option<Lifetime>,
    /// The kinds of keys that may be certified: `p256`, `p384`, `rsa`, `ed25519`.
    pub keys: Option<Vec<KeyFamily>>,
    /// `durable`, `signed`, or `witnessed`: then nothing of this profile is signed while witnesses are away.
    #[serde(default)]
    pub assurance: Assured,
}

/// Kinds of keys, as profiles list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyFamily {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// RSA of 2048 bits or more.
    Rsa,
    /// Ed25519.
    Ed25519,
}

impl KeyFamily {
    const fn has(self, key_type: KeyType) -> bool {
        matches!(
            (self, key_type),
            (Self::P256, KeyType::P256)
                | (Self::P384, KeyType::P384)
                | (Self::Rsa, KeyType::Rsa(_))
                | (Self::Ed25519, KeyType::Ed25519)
        )
    }
}

/// A profile whose fields agree with each other and with its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    name: String,
    kind: Kind,
    lifetime: Lifetime,
    max_lifetime: Lifetime,
    keys: Vec<KeyFamily>,
    assurance: Assured,
}

impl Profile {
    /// The profile of a kind with nothing but defaults, under the kind's own name.
    pub fn standard(kind: Kind) -> Self {
        let name = match kind {
            Kind::Root => "root",
            Kind::Intermediate => "intermediate",
            Kind::SpireCa => "spire-ca",
            Kind::Svid => "svid",
            Kind::Server => "server",
            Kind::CrossCertificate => "cross-certificate",
            Kind::OcspSigner => "ocsp-signer",
            Kind::AttestationKey => "attestation-key",
        };
        let (lifetime, max_lifetime) = kind.lifetimes();
        let keys = vec![KeyFamily::P256, KeyFamily::P384, KeyFamily::Rsa, KeyFamily::Ed25519];
        let assurance = Assured::default();
        Self { name: name.to_owned(), kind, lifetime, max_lifetime, keys, assurance }
    }

    /// The profile of OCSP signers below offline roots, whose ceremonies are held by the quarter: the most that a certificate
    /// may live of which nobody asks whether it is revoked (RFC 6960 section 4.2.2.2.1; `docs/ceremony.md`).
    pub fn ocsp_signer_of_root() -> Self {
        let lifetime = Lifetime::days(90);
        Self { lifetime, max_lifetime: lifetime, ..Self::standard(Kind::OcspSigner) }
    }

    /// Validates a table.
    ///
    /// # Errors
    /// Its lifetimes contradict each other or its kind, it takes no keys, or its assurance is too little for its kind.
    pub fn from_config(config: ProfileConfig) -> Result<Self, ProfileError> {
        let standard = Self::standard(config.kind);
        let refuse = |rule: String| ProfileError { profile: config.name.clone(), rule };
        let max_lifetime = config.max_lifetime.unwrap_or(standard.max_lifetime);
        let lifetime = config.lifetime.unwrap_or(standard.lifetime.min(max_lifetime));
        if max_lifetime > standard.max_lifetime {
            return Err(refuse(format!(
                "max-lifetime {max_lifetime} is more than {} certificates may have ({})",
                standard.name, standard.max_lifetime
            )));
        }
        if lifetime > max_lifetime {
            return Err(refuse(format!("lifetime {lifetime} is more than max-lifetime {max_lifetime}")));
        }
        let keys = config.keys.unwrap_or(standard.keys);
        if keys.is_empty() {
            return Err(refuse("keys is empty, so that nothing could be certified".into()));
        }
        let assurance = config.assurance;
        if assurance == Assured::Durable && config.kind.is_authority() {
            return Err(refuse("assurance is durable, and a CA certificate is `signed` at least".into()));
        }
        Ok(Self { name: config.name, kind: config.kind, lifetime, max_lifetime, keys, assurance })
    }

    /// How rules call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What kind of certificate it makes.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The lifetime of certificates for which nobody asked another.
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// The longest lifetime that may be asked for.
    pub fn max_lifetime(&self) -> Lifetime {
        self.max_lifetime
    }

    /// How much it demands to be known of an intent. Authorities' wait for witnesses besides, wherever there are any.
    pub fn assurance(&self) -> Assured {
        self.assurance
    }

    /// Whether a key of this kind may be certified.
    pub fn takes(&self, key_type: KeyType) -> bool {
        self.keys.iter().any(|family| family.has(key_type))
    }

    /// The certificate policies that its certificates carry (RFC 5280 section 4.2.1.4): anyPolicy in roots; the
    /// profile's own, and anyPolicy for what lies below, in other authorities; the profile's own alone in leaves.
    ///
    /// # Errors
    /// The arc leaves no room for two more numbers.
    pub fn policies(&self, arc: &PolicyArc) -> Result<Vec<ObjectIdentifier>, ProfileError> {
        const ANY_POLICY: ObjectIdentifier = const_oid::db::rfc5280::ANY_POLICY;
        let own = || {
            arc.0.push_arc(self.kind.arc()).and_then(|oid| oid.push_arc(self.assurance.arc())).map_err(
                |error| ProfileError { profile: self.name.clone(), rule: format!("policy arc: {error}") },
            )
        };
        match self.kind {
            Kind::Root => Ok(vec![ANY_POLICY]),
            Kind::Intermediate | Kind::SpireCa | Kind::CrossCertificate => Ok(vec![own()?, ANY_POLICY]),
            Kind::Svid | Kind::Server | Kind::OcspSigner | Kind::AttestationKey => Ok(vec![own()?]),
        }
    }
}

/// The OID below which an installation's certificate policies lie, `<arc>.<kind>.<assurance>`. It belongs to the
/// operator; 1.3.6.1.4.1.32473 is for examples (RFC 5612).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyArc(ObjectIdentifier);

impl std::fmt::Display for PolicyArc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for PolicyArc {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl std::str::FromStr for PolicyArc {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            format!("`{text}` is no object identifier; write the arc of your organisation, such as 1.3.6.1.4.1.32473.1")
        })
    }
}

/// A profile that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("profile `{profile}`: {rule}")]
pub struct ProfileError {
    profile: String,
    rule: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_authority_is_signed_at_least() {
        for kind in Kind::ALL {
            let durable = ProfileConfig { assurance: Assured::Durable, ..config(kind) };
            let refusal = Profile::from_config(durable).map_err(|error| error.to_string());
            assert_eq!(refusal.is_err(), kind.is_authority(), "{refusal:?}");
        }
    }

    fn config(kind: Kind) -> ProfileConfig {
        ProfileConfig {
            name: "p".into(),
            kind,
            lifetime: None,
            max_lifetime: None,
            keys: None,
            assurance: Assured::Signed,
        }
    }

    #[test]
    fn defaults_are_those_of_the_design() {
        for (kind, lifetime, max) in [
            (Kind::SpireCa, Lifetime::hours(24), Lifetime::days(7)),
            (Kind::Svid, Lifetime::hours(1), Lifetime::days(7)),
            (Kind::Intermediate, Lifetime::days(365), Lifetime::days(366)),
        ] {
            let profile = Profile::from_config(config(kind)).unwrap();
            assert_eq!((profile.lifetime(), profile.max_lifetime()), (lifetime, max));
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let refusal = |change: fn(&mut ProfileConfig)| {
            let mut config = config(Kind::SpireCa);
            change(&mut config);
            Profile::from_config(config).unwrap_err().to_string()
        };
        assert!(refusal(|c| c.max_lifetime = Some(Lifetime::days(8))).contains("may have (7d)"));
        assert!(
            refusal(|c| {
                c.lifetime = Some(Lifetime::hours(3));
                c.max_lifetime = Some(Lifetime::hours(2));
            })
            .contains("more than max-lifetime 2h")
        );
        assert!(refusal(|c| c.keys = Some(Vec::new())).contains("keys is empty"));
    }

    #[test]
    fn a_shorter_maximum_shortens_the_default() {
        let profile = Profile::from_config(ProfileConfig {
            max_lifetime: Some(Lifetime::seconds(600)),
            ..config(Kind::Svid)
        })
        .unwrap();
        assert_eq!(profile.lifetime(), Lifetime::seconds(600));
    }

    #[test]
    fn policies_lie_below_the_arc() {
        let arc = "1.3.6.1.4.1.32473.1".parse().unwrap();
        let policies = |kind| {
            let oids = Profile::standard(kind).policies(&arc).unwrap();
            oids.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(policies(Kind::Root), ["2.5.29.32.0"]);
        assert_eq!(policies(Kind::Intermediate), ["1.3.6.1.4.1.32473.1.2.2", "2.5.29.32.0"]);
        assert_eq!(policies(Kind::Svid), ["1.3.6.1.4.1.32473.1.4.2"]);
        let config = ProfileConfig { assurance: Assured::Witnessed, ..config(Kind::Svid) };
        let oids = Profile::from_config(config).unwrap().policies(&arc).unwrap();
        assert_eq!(oids[0].to_string(), "1.3.6.1.4.1.32473.1.4.3");
        assert!("1.3.6.".parse::<PolicyArc>().is_err());
    }

    #[test]
    fn keys_are_taken_by_family() {
        let profile =
            Profile::from_config(ProfileConfig { keys: Some(vec![KeyFamily::P256]), ..config(Kind::Svid) })
                .unwrap();
        assert!(profile.takes(KeyType::P256));
        assert!(!profile.takes(KeyType::P384));
        assert!(!profile.takes(KeyType::Ed25519));
    }
}
