//! The curves of card-verifiable certificates, known by their domain parameters, and signatures by keys on them.
//!
//! Parameters are compared with those of curves that are known and never computed with: a curve of somebody's own making
//! verifies whatever he likes.

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use bp256::r1::ecdsa::Signature;
use ecdsa::VerifyingKey;
use ecdsa::signature::hazmat::PrehashVerifier as _;
use sha2::{Digest as _, Sha256};

/// A curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    /// RFC 5639 section 3.4.
    BrainpoolP256r1,
    /// FIPS 186-4, D.1.2.3.
    P256,
    /// FIPS 186-4, D.1.2.4. For keys of CAs alone.
    P384,
}

/// p, a, b, the generator's coordinates, and its order, in hexadecimal.
const BRAINPOOL_P256R1: [&str; 6] = [
    "a9fb57dba1eea9bc3e660a909d838d726e3bf623d52620282013481d1f6e5377",
    "7d5a0975fc2c3057eef67530417affe7fb8055c126dc5c6ce94a4b44f330b5d9",
    "26dc5c6ce94a4b44f330b5d9bbd77cbf958416295cf7e1ce6bccdc18ff8c07b6",
    "8bd2aeb9cb7e57cb2c4b482ffc81b7afb9de27e1e3bd23c23a4453bd9ace3262",
    "547ef835c3dac4fd97f8461a14611dc9c27745132ded8e545c1d54c72f046997",
    "a9fb57dba1eea9bc3e660a909d838d718c397aa3b561a6f7901e0e82974856a7",
];
const P256: [&str; 6] = [
    "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
    "ffffffff00000001000000000000000000000000fffffffffffffffffffffffc",
    "5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b",
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
    "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
];
const P384: [&str; 6] = [
    "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff",
    "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000fffffffc",
    "b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef",
    "aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7",
    "3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f",
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
];

impl Curve {
    const ALL: [(Self, [&'static str; 6]); 3] =
        [(Self::BrainpoolP256r1, BRAINPOOL_P256R1), (Self::P256, P256), (Self::P384, P384)];

    /// The curve with exactly these p, a, b, generator (uncompressed) and order.
    pub(super) fn of([p, a, b, g, n]: [&[u8]; 5]) -> Option<Self> {
        let said = [p, a, b, g, n].map(hex::encode);
        let fits = |[p, a, b, x, y, n]: &[&str; 6]| {
            said == [(*p).to_owned(), (*a).to_owned(), (*b).to_owned(), format!("04{x}{y}"), (*n).to_owned()]
        };
        Self::ALL.iter().find(|(_, known)| fits(known)).map(|(curve, _)| *curve)
    }
}

/// A public key that verifies ECDSA with SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Point {
    curve: Curve,
    uncompressed: Vec<u8>,
}

impl Point {
    /// A key.
    pub(super) fn new(curve: Curve, uncompressed: &[u8]) -> Result<Self, NoPoint> {
        if uncompressed.len() != 65 || uncompressed.first() != Some(&0x04) || curve == Curve::P384 {
            return Err(NoPoint);
        }
        Ok(Self { curve, uncompressed: uncompressed.to_vec() })
    }

    /// The curve.
    pub(super) fn curve(&self) -> Curve {
        self.curve
    }

    /// Verifies a plain signature, r and s of 32 bytes each (BSI TR-03111, 5.2.1).
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), DoesNotVerify> {
        match self.curve {
            Curve::P256 => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.uncompressed)
                .verify(message, signature)
                .map_err(|_| DoesNotVerify),
            Curve::BrainpoolP256r1 => {
                let key = VerifyingKey::<bp256::BrainpoolP256r1>::from_sec1_bytes(&self.uncompressed)
                    .map_err(|_| DoesNotVerify)?;
                let signature = Signature::from_slice(signature).map_err(|_| DoesNotVerify)?;
                key.verify_prehash(&Sha256::digest(message), &signature).map_err(|_| DoesNotVerify)
            }
            Curve::P384 => Err(DoesNotVerify),
        }
    }
}

/// No key that certificates are verified by.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoPoint;

impl fmt::Display for NoPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is no uncompressed point of brainpoolP256r1 or P-256")
    }
}

/// A signature by somebody else, or a key that is not on its curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DoesNotVerify;

impl fmt::Display for DoesNotVerify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it does not verify")
    }
}
