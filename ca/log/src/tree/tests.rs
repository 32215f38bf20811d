use proptest::prelude::*;

use super::*;

/// A tree that keeps every leaf and answers by the definition of RFC 6962.
struct Naive(Vec<Hash>);

impl Naive {
    fn of(size: usize) -> Self {
        Self((0..size).map(|n| leaf_hash(format!("entry-{n}").as_bytes())).collect())
    }

    fn root(&self, size: usize) -> Hash {
        fn mth(leaves: &[Hash]) -> Hash {
            match leaves {
                [] => Hash::empty_root(),
                [leaf] => *leaf,
                _ => {
                    let mut split = 1;
                    while split * 2 < leaves.len() {
                        split *= 2;
                    }
                    node_hash(&mth(&leaves[..split]), &mth(&leaves[split..]))
                }
            }
        }
        mth(&self.0[..size])
    }
}

impl Nodes for Naive {
    fn node(&self, level: u32, index: u64) -> Option<Hash> {
        let (start, length) = ((index << level) as usize, 1 << level);
        let leaves = self.0.get(start..start + length)?;
        Some(Self(leaves.to_vec()).root(length))
    }
}

fn grown(size: usize) -> GrowingTree {
    let mut tree = GrowingTree::new();
    Naive::of(size).0.into_iter().for_each(|leaf| tree.push(leaf));
    tree
}

fn hash(text: &str) -> Hash {
    text.parse().unwrap()
}

/// The reference page's worked example (audit-log.md §1.1, §1.3): leaves `entry-0` to `entry-6`.
#[test]
fn roots_of_the_worked_example() {
    assert_eq!(Hash::empty_root(), hash("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="));
    assert_eq!(grown(3).root(), hash("pkvybgkSj2/i/m+LLYyAHhZrV8BHp82bK4Ceepai8cs="));
    assert_eq!(grown(7).root(), hash("kTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0="));
}

/// audit-log.md §1.7 and §1.8.
#[test]
fn proofs_of_the_worked_example() {
    let consistency = [
        hash("BJ19zbVrz+vTEzBMmDnxlqPUtu873AsIKY+TrIGR8Kg="),
        hash("J0ebarMh0u5HdFL2i6UndI6GPK/o+9HfK/idFXDRtpc="),
        hash("LyelCCwdQq+kiKw1Cp/EOQwIT1T3Hs3/hZ6Y24QptHk="),
        hash("5CnFtcyqlSPDcpfxhGdm+QMTfoIZXFGZ5r5XEw0QBsg="),
    ];
    assert_eq!(consistency_proof(&grown(7), 3, 7).unwrap(), consistency);
    verify_consistency(3, 7, &grown(3).root(), &grown(7).root(), &consistency).unwrap();
    let inclusion = [
        hash("UUFYUnUVBkx7vTW0TJ8Rrdz8OLQ5VU/Juw2LfGYcPo8="),
        hash("DP2ldv9LKeozw6/a7tG9Y362VLKKBDAvyrX9fbB4Acw="),
        hash("JWueiCXl03CkrgBdCQHqKRl34pJ/XPjj5yZg3QlRnts="),
    ];
    assert_eq!(inclusion_proof(&grown(7), 4, 7).unwrap(), inclusion);
    verify_inclusion(4, 7, &leaf_hash(b"entry-4"), &inclusion, &grown(7).root()).unwrap();
}

#[test]
fn growth_recursion_and_definition_agree_over_tile_borders() {
    let naive = Naive::of(1030);
    let mut tree = GrowingTree::new();
    for size in 1..=1030 {
        tree.push(naive.0[size - 1]);
        if size < 20 || size % 256 < 3 || size % 256 > 253 {
            assert_eq!(tree.root(), naive.root(size), "{size}");
            assert_eq!(root(&tree, size as u64).unwrap(), tree.root(), "{size}");
        }
    }
    assert_eq!(tree.full_tiles_since(0).count(), 4);
    assert_eq!(tree.full_tiles_since(768).count(), 1);
    assert_eq!(tree.partial_tile(0).len(), 6);
    assert_eq!(tree.partial_tile(1).len(), 4);
}

#[test]
fn every_proof_of_small_trees_verifies_and_nothing_else_does() {
    let naive = Naive::of(40);
    for size in 1..=40u64 {
        let root = naive.root(size as usize);
        for index in 0..size {
            let proof = inclusion_proof(&naive, index, size).unwrap();
            let leaf = naive.0[index as usize];
            verify_inclusion(index, size, &leaf, &proof, &root).unwrap();
            assert!(verify_inclusion(index, size, &leaf_hash(b"other"), &proof, &root).is_err());
            assert!(verify_inclusion(index + 1, size, &leaf, &proof, &root).is_err());
            let mut longer = proof.clone();
            longer.push(root);
            assert!(verify_inclusion(index, size, &leaf, &longer, &root).is_err());
            if let Some((_, shorter)) = proof.split_last() {
                assert!(verify_inclusion(index, size, &leaf, shorter, &root).is_err());
            }
        }
        for old in 0..=size {
            let proof = consistency_proof(&naive, old, size).unwrap();
            let old_root = naive.root(old as usize);
            verify_consistency(old, size, &old_root, &root, &proof).unwrap();
            assert!(verify_consistency(old, size, &leaf_hash(b"other"), &root, &proof).is_err());
            if old > 0 {
                assert!(verify_consistency(old, size, &old_root, &leaf_hash(b"other"), &proof).is_err());
            }
            let mut longer = proof.clone();
            longer.push(root);
            assert!(verify_consistency(old, size, &old_root, &root, &longer).is_err());
        }
    }
}

#[test]
fn what_lies_beyond_the_tree_has_no_proof() {
    let tree = grown(7);
    assert_eq!(inclusion_proof(&tree, 7, 7), Err(MissingNode { level: 0, index: 7 }));
    assert_eq!(consistency_proof(&tree, 8, 7), Err(MissingNode { level: 0, index: 7 }));
    assert_eq!(verify_inclusion(7, 7, &leaf_hash(b""), &[], &tree.root()), Err(ProofError::OutOfRange(7, 7)));
    let (small, large) = (grown(3).root(), grown(7).root());
    assert_eq!(verify_consistency(7, 3, &large, &small, &[]), Err(ProofError::OutOfRange(7, 3)));
    assert_eq!(verify_consistency(0, 7, &small, &large, &[]), Err(ProofError::WrongRoot));
}

#[test]
fn an_edge_restores_the_tree_and_a_wrong_one_is_refused() {
    let tree = grown(70_000);
    assert_eq!(GrowingTree::levels(70_000), 3);
    let levels: Vec<_> = (0..3).map(|level| tree.partial_tile(level).to_vec()).collect();
    assert_eq!(levels.iter().map(Vec::len).collect::<Vec<_>>(), [112, 17, 1]);
    let mut restored = GrowingTree::from_edge(70_000, &levels).unwrap();
    assert_eq!(restored.root(), tree.root());
    let mut original = tree;
    for n in 0..600 {
        let leaf = leaf_hash(&[n as u8]);
        original.push(leaf);
        restored.push(leaf);
    }
    assert_eq!(restored.root(), original.root());
    assert!(GrowingTree::from_edge(70_001, &levels).is_err());
}

/// A tree that has forgotten its full tiles still proves what was added since, which is all the sequencer needs.
#[test]
fn new_leaves_are_proven_without_old_tiles() {
    let naive = Naive::of(1000);
    for (before, after) in [(0, 1), (255, 256), (255, 257), (300, 700), (256, 1000), (511, 513), (999, 1000)]
    {
        let mut tree = grown(before);
        tree.forget_before(before as u64);
        naive.0[before..after].iter().for_each(|leaf| tree.push(*leaf));
        let root = naive.root(after);
        assert_eq!(super::root(&tree, after as u64).unwrap(), root);
        for index in before..after {
            let proof = inclusion_proof(&tree, index as u64, after as u64).unwrap();
            verify_inclusion(index as u64, after as u64, &naive.0[index], &proof, &root).unwrap();
        }
    }
}

proptest! {
    #[test]
    fn proofs_verify_at_any_place(size in 1u64..3000, seed in any::<u64>()) {
        let tree = grown(size as usize);
        let index = seed % size;
        let root = tree.root();
        let proof = inclusion_proof(&tree, index, size).unwrap();
        let leaf = leaf_hash(format!("entry-{index}").as_bytes());
        verify_inclusion(index, size, &leaf, &proof, &root).unwrap();
        let old = seed / 7 % (size + 1);
        let proof = consistency_proof(&tree, old, size).unwrap();
        verify_consistency(old, size, &grown(old as usize).root(), &root, &proof).unwrap();
    }
}

/// Whoever has hashed a tile elsewhere adds its root alone, and comes to the same tree.
#[test]
fn tiles_are_as_good_as_their_leaves() {
    for size in [256, 700, 65_536, 66_000] {
        let leaves = Naive::of(size).0;
        let mut tree = GrowingTree::new();
        for tile in leaves.chunks(TILE_WIDTH) {
            match tile_root(tile) {
                Some(root) => tree.push_tile(root).unwrap(),
                None => tile.iter().for_each(|leaf| tree.push(*leaf)),
            }
        }
        assert_eq!((tree.size(), tree.root()), (size as u64, grown(size).root()));
        for level in 1..GrowingTree::levels(size as u64) {
            assert_eq!(tree.partial_tile(level), grown(size).partial_tile(level), "level {level} of {size}");
        }
    }
    let inside = grown(3).push_tile(Hash::empty_root());
    assert_eq!(
        inside.unwrap_err().to_string(),
        "tile level 0 of the right edge has 3 hashes and should have 0"
    );
}
