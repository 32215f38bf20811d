//! Serial numbers and randomness.

use std::fmt;

use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Gives random bytes. Where none may be drawn, tests pass one that fails.
pub trait Entropy: Send + Sync {
    /// Fills `buffer` with bytes that nobody can predict.
    ///
    /// # Errors
    /// The source is not available.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy>;
}

/// The source of randomness is not available.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no random bytes: {0}")]
pub struct NoEntropy(pub String);

/// A certificate's serial number: 16 random bytes whose first is 0x01 to 0x7f, so that it is positive, never zero and
/// always 16 bytes long in DER (RFC 5280 section 4.1.2.2). Uniqueness comes from its 126 random bits and never from a
/// database that can be restored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SerialNumber([u8; 16]);

impl SerialNumber {
    /// None is smaller.
    pub const SMALLEST: Self = Self([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

    /// Draws a serial number.
    ///
    /// # Errors
    /// The source gives no bytes, or a hundred times in a row one that must not begin a serial number.
    pub fn random(entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        // Drawn again instead of bent into range, so that every serial is as likely as any other. Half of all draws
        // are good; a hundred bad ones in a row are a broken source.
        for _ in 0..100 {
            let mut bytes = [0; 16];
            entropy.fill(&mut bytes)?;
            if (0x01..=0x7f).contains(&bytes[0]) {
                return Ok(Self(bytes));
            }
        }
        Err(NoEntropy("a hundred draws gave no positive number; the source is broken".into()))
    }

    /// A serial number that was drawn earlier; nothing if these bytes cannot be one of ours.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        (0x01..=0x7f).contains(&bytes[0]).then_some(Self(bytes))
    }

    /// That of a certificate (DER), if it can be one of ours.
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        certificate.raw_serial().try_into().ok().and_then(Self::from_bytes)
    }

    /// The next one; nothing after the largest.
    pub fn next(&self) -> Option<Self> {
        u128::from_be_bytes(self.0).checked_add(1).and_then(|next| Self::from_bytes(next.to_be_bytes()))
    }

    /// The bytes, big-endian: the content of the DER INTEGER.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Lower-case hexadecimal, 32 digits.
impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SerialNumber({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    struct Counting(AtomicU8);

    impl Entropy for Counting {
        fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
            buffer.fill(self.0.fetch_add(0x81, Ordering::Relaxed));
            Ok(())
        }
    }

    struct Stuck(u8);

    impl Entropy for Stuck {
        fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
            buffer.fill(self.0);
            Ok(())
        }
    }

    #[test]
    fn serials_are_positive_and_sixteen_bytes_long() {
        let source = Counting(AtomicU8::new(0x7e));
        let serials: Vec<_> = (0..4).map(|_| SerialNumber::random(&source).unwrap().as_bytes()[0]).collect();
        // 0xff, 0x80 and so on are drawn in between and thrown away.
        assert_eq!(serials, [0x7e, 0x01, 0x03, 0x05]);
    }

    #[test]
    fn a_stuck_source_is_an_error_and_not_a_serial() {
        for stuck in [0x00, 0x80, 0xff] {
            assert!(SerialNumber::random(&Stuck(stuck)).is_err());
            assert_eq!(SerialNumber::from_bytes([stuck; 16]), None);
        }
    }
}
