//! RSA moduli that factor: the mistakes of real key generators, seen from outside.

use std::sync::LazyLock;

/// Why an RSA modulus is no modulus to trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weakness {
    /// It is even, or divisible by a small prime.
    SmallFactor(u32),
    /// It has the fingerprint of Infineon's RSALib (ROCA, CVE-2017-15361).
    Roca,
}

/// The bound of Boulder's goodkey and of OpenSSL's first trial divisions.
const SMALL: u32 = 752;

/// The odd primes of ROCA's fingerprint are those below.
const FINGERPRINT: u32 = 168;

/// Looks for the weaknesses that can be found in microseconds. `modulus` is big-endian.
pub(crate) fn weakness(modulus: &[u8]) -> Option<Weakness> {
    let remainders: Vec<_> = GROUPS.iter().flat_map(|group| group.remainders(modulus)).collect();
    if let Some((factor, _)) = remainders.iter().find(|(_, rest)| *rest == 0) {
        return Some(Weakness::SmallFactor(*factor));
    }
    // Primes of a ROCA key are k*M + (65537^a mod M), M the product of the first primes; hence the modulus lies
    // in the group that 65537 generates modulo each of them. For 38 primes at once that happens to a sound
    // modulus once in 2^27 (Nemec et al., "The Return of Coppersmith's Attack", 2017, section 3.1).
    let mut fingerprint = remainders.iter().skip(1).take_while(|(p, _)| *p < FINGERPRINT);
    fingerprint.all(|(p, rest)| generated_by_65537(*p, *rest)).then_some(Weakness::Roca)
}

/// Neighbouring primes whose product has 32 bits at the most: the modulus is divided once for all of them.
struct Group {
    product: u64,
    primes: Vec<u32>,
}

static GROUPS: LazyLock<Vec<Group>> = LazyLock::new(|| {
    let mut groups: Vec<Group> = Vec::new();
    for prime in primes_below(SMALL) {
        match groups.last_mut().filter(|group| group.product * u64::from(prime) <= u64::from(u32::MAX)) {
            Some(group) => {
                group.product *= u64::from(prime);
                group.primes.push(prime);
            }
            None => groups.push(Group { product: prime.into(), primes: vec![prime] }),
        }
    }
    groups
});

impl Group {
    /// Each prime, and the rest of the modulus.
    fn remainders(&self, modulus: &[u8]) -> impl Iterator<Item = (u32, u32)> {
        let (first, words) = modulus.as_rchunks::<4>();
        let first = first.iter().fold(0, |rest, byte| (rest << 8) | u64::from(*byte));
        let rest = words.iter().fold(first % self.product, |rest, word| {
            ((rest << 32) | u64::from(u32::from_be_bytes(*word))) % self.product
        });
        self.primes.iter().map(move |prime| (*prime, (rest % u64::from(*prime)) as u32))
    }
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

    /// Byte by byte, as one divides by hand.
    fn remainder(modulus: &[u8], p: u32) -> u32 {
        modulus.iter().fold(0, |rest, &byte| ((rest << 8) | u32::from(byte)) % p)
    }

    #[test]
    fn groups_have_each_prime_once_and_leave_the_rests_of_division() {
        let primes: Vec<_> = GROUPS.iter().flat_map(|group| group.primes.iter().copied()).collect();
        assert_eq!(primes, primes_below(SMALL).collect::<Vec<_>>());
        let sound = hex::decode(SOUND).unwrap();
        for length in [0, 1, 3, 4, 5, 7, 8, 9, 127, 128] {
            for modulus in [&sound[..length], &vec![0xff; length]] {
                for (prime, rest) in GROUPS.iter().flat_map(|group| group.remainders(modulus)) {
                    assert_eq!(rest, remainder(modulus, prime), "{length} bytes modulo {prime}");
                }
            }
        }
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
