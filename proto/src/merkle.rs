//! The tree of a release's targets, and the proof that one target is in it (RFC 9162 §2.1).

use ct_merkle::{InclusionProof, RootHash, mem_backed_tree::MemoryBackedTree};
use sha2::Sha256;

use crate::id::MerkleHash;

/// The most targets that one release has.
pub const MAX_TARGETS: u64 = 1 << 20;

/// The tree over the targets' bytes, in the order in which they were added.
pub struct TargetTree(MemoryBackedTree<Sha256, Vec<u8>>);

impl TargetTree {
    /// Builds the tree.
    pub fn new(targets: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut tree = MemoryBackedTree::new();
        targets.into_iter().for_each(|target| tree.push(target));
        Self(tree)
    }

    /// Gives the root, which the release names.
    pub fn root(&self) -> MerkleHash {
        MerkleHash::from_bytes((*self.0.root().as_bytes()).into())
    }

    /// Gives the number of targets.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Gives the targets' bytes in their order.
    pub fn targets(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.0.items().iter().map(Vec::as_slice)
    }

    /// Gives each target with its proof, from the leaf's sibling up to the root's child.
    pub fn proofs(&self) -> impl Iterator<Item = (&[u8], Vec<MerkleHash>)> {
        self.0.items().iter().enumerate().map(|(index, target)| {
            let proof = self.0.prove_inclusion(index);
            let hashes = proof.as_bytes().as_chunks::<32>().0;
            (target.as_slice(), hashes.iter().copied().map(MerkleHash::from_bytes).collect())
        })
    }
}

/// Tells whether `target` is the `index`-th of `count` targets under `root`.
pub fn proves(
    root: &MerkleHash,
    count: u64,
    index: u64,
    target: &[u8],
    proof: &[MerkleHash],
) -> bool {
    if count > MAX_TARGETS || index >= count {
        return false;
    }
    let root = RootHash::<Sha256>::new((*root.as_bytes()).into(), count);
    let hashes = proof.iter().flat_map(|hash| *hash.as_bytes()).collect();
    let Ok(proof) = InclusionProof::try_from_bytes(hashes) else {
        return false;
    };
    root.verify_inclusion(&target, index, &proof).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tree(count: u8) -> TargetTree {
        TargetTree::new((0..count).map(|n| vec![n; 3]))
    }

    #[test]
    fn a_tree_of_one_is_the_hash_of_its_leaf() {
        // RFC 9162 section 2.1.1: SHA-256(0x00 || leaf).
        use sha2::Digest as _;
        let expected: [u8; 32] = Sha256::digest([0, 9, 9, 9]).into();
        assert_eq!(TargetTree::new([vec![9; 3]]).root().as_bytes(), &expected);
    }

    proptest! {
        #[test]
        fn a_proof_holds_for_its_target_and_for_nothing_else(count in 1u8..70, at in 0u8..70, other in 0u8..70) {
            prop_assume!(at < count && other < count);
            let tree = tree(count);
            let (root, total) = (tree.root(), tree.count());
            let (target, proof) = tree.proofs().nth(usize::from(at)).unwrap();
            prop_assert!(proves(&root, total, u64::from(at), target, &proof));
            if other != at {
                prop_assert!(!proves(&root, total, u64::from(other), target, &proof));
                prop_assert!(!proves(&root, total, u64::from(at), &[other; 3], &proof));
            }
            let mut longer = proof.clone();
            longer.push(root);
            prop_assert!(!proves(&root, total, u64::from(at), target, &longer));
            if !proof.is_empty() {
                prop_assert!(!proves(&root, total, u64::from(at), target, &proof[1..]));
            }
        }
    }

    #[test]
    fn absurd_counts_and_indices_are_refused_without_a_panic() {
        let root = tree(3).root();
        for (count, index) in [(0, 0), (3, 3), (u64::MAX, u64::MAX - 1), (MAX_TARGETS + 1, 0)] {
            assert!(!proves(&root, count, index, &[0; 3], &[]), "{count} {index}");
        }
    }
}
