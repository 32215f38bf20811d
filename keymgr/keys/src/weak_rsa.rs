//! RSA moduli that factor: the mistakes of real key generators, seen from outside.

/// Why an RSA modulus is no modulus to trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weakness {
    /// It is even, or divisible by a small prime.
    SmallFactor(u32),
    /// It has the fingerprint of Infineon's RSALib (ROCA, CVE-2017-15361).
    Roca,
}

/// Looks for the weaknesses that can be found in microseconds. `modulus` is big-endian.
pub(crate) fn weakness(modulus: &[u8]) -> Option<Weakness> {
    // The bound of Boulder's goodkey and of OpenSSL's first trial divisions.
    if let Some(factor) = primes_below(752).find(|&p| remainder(modulus, p) == 0) {
        return Some(Weakness::SmallFactor(factor));
    }
    // Primes of a ROCA key are k*M + (65537^a mod M), M the product of the first primes; hence the modulus lies
    // in the group that 65537 generates modulo each of them. For 38 primes at once that happens to a sound
    // modulus once in 2^27 (Nemec et al., "The Return of Coppersmith's Attack", 2017, section 3.1).
    let roca = primes_below(168).skip(1).all(|p| generated_by_65537(p, remainder(modulus, p)));
    roca.then_some(Weakness::Roca)
}

fn generated_by_65537(p: u32, value: u32) -> bool {
    let generator = 65537 % p;
    let mut power = 1;
    for _ in 0..p {
        if power == value {
            return true;
        }
        power = power * generator % p;
    }
    false
}

fn remainder(modulus: &[u8], p: u32) -> u32 {
    modulus.iter().fold(0, |rest, &byte| ((rest << 8) | u32::from(byte)) % p)
}

fn primes_below(bound: u32) -> impl Iterator<Item = u32> {
    (2..bound).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sound modulus: that of the public key of RFC 8448's server (1024 bits; only its factors matter here).
    const SOUND: &str = "b4bb498f8279303d980836399b36c6988c0c68de55e1bdb826d3901a2461eafd2de49a91d015abbc9a95137ace6c1af19eaa6af98c7ced43120998e187a80ee0ccb0524b1b018c3e0b63264d449a6d38e22a5fda430846748030530ef0461c8ca9d9efbfae8ea6d1d03e2bd193eff0ab9a8002c47428a6d35a8d88d79f7f1e3f";

    fn product(a: &[u8], b: u32) -> Vec<u8> {
        let mut out = a.to_vec();
        let mut carry = 0u64;
        for byte in out.iter_mut().rev() {
            let sum = u64::from(*byte) * u64::from(b) + carry;
            *byte = (sum & 0xff) as u8;
            carry = sum >> 8;
        }
        while carry > 0 {
            out.insert(0, (carry & 0xff) as u8);
            carry >>= 8;
        }
        out
    }

    #[test]
    fn sound_modulus_passes() {
        assert_eq!(weakness(&hex::decode(SOUND).unwrap()), None);
    }

    #[test]
    fn small_factors_are_found() {
        let sound = hex::decode(SOUND).unwrap();
        for factor in [2, 3, 17, 751] {
            assert_eq!(weakness(&product(&sound, factor)), Some(Weakness::SmallFactor(factor)));
        }
    }

    #[test]
    fn roca_fingerprint_is_found() {
        // A product of powers of 65537 lies in every group that 65537 generates; so it has the fingerprint,
        // and no small factor.
        let mut modulus = vec![1];
        for _ in 0..128 {
            modulus = product(&modulus, 65537);
        }
        assert_eq!(weakness(&modulus), Some(Weakness::Roca));
        // Times 3 mod the same primes leaves the group for some of them.
        assert_ne!(weakness(&product(&modulus, 757)), Some(Weakness::Roca));
    }

    #[test]
    fn primes_are_the_primes() {
        assert_eq!(primes_below(30).collect::<Vec<_>>(), [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert_eq!(primes_below(168).count(), 39);
    }
}
