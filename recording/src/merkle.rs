//! RFC 6962 trees over SHA-256: the root of a recording's chunks and of the ledger's entries (FORMAT.md section 4.4).
//!
//! Hashes of complete subtrees are addressed by `(level, index)`: level 0 are leaves, and the subtree `(level, index)`
//! covers leaves `index << level ..` of which there are `1 << level`. This is how C2SP tlog-tiles stores them.

use sha2::{Digest, Sha256};

/// A node or leaf hash.
pub type Hash = [u8; 32];

/// Hash of a leaf: `SHA-256(0x00 || data)`.
pub fn leaf_hash(data: &[u8]) -> Hash {
    let mut h = Sha256::new();
    h.update([0]);
    h.update(data);
    h.finalize().into()
}

/// Hash of an inner node: `SHA-256(0x01 || left || right)`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut h = Sha256::new();
    h.update([1]);
    h.update(left);
    h.update(right);
    h.finalize().into()
}

/// Root of the empty tree.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The right edge of a tree: enough to append and to give the root, in `O(log n)` memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Range {
    size: u64,
    /// Roots of the complete subtrees, largest first: one for each bit set in `size`.
    peaks: Vec<Hash>,
}

impl Range {
    /// Takes up where a tree of `size` leaves ended: `hashes(level, index)` reads complete subtrees.
    pub fn resume<E>(size: u64, mut hashes: impl FnMut(u32, u64) -> Result<Hash, E>) -> Result<Range, E> {
        let peaks = peaks_of(0, size)
            .map(|(level, index)| hashes(level, index))
            .collect::<Result<_, E>>()?;
        Ok(Range { size, peaks })
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf by its hash. `store(level, index, hash)` sees every subtree that this completes, leaf first.
    pub fn append(&mut self, leaf: Hash, mut store: impl FnMut(u32, u64, Hash)) {
        let (mut level, mut index, mut hash) = (0, self.size, leaf);
        store(level, index, hash);
        while index & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            (level, index, hash) = (level + 1, index >> 1, node_hash(&left, &hash));
            store(level, index, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root.
    pub fn root(&self) -> Hash {
        fold(&self.peaks).unwrap_or_else(empty_root)
    }
}

fn fold(peaks: &[Hash]) -> Option<Hash> {
    peaks
        .iter()
        .rev()
        .copied()
        .reduce(|right, left| node_hash(&left, &right))
}

/// The complete subtrees that cover leaves `start..end`, left to right, where `start` is a multiple of the largest
/// power of two below `end - start`, as it is for every range an RFC 6962 proof asks for.
fn peaks_of(start: u64, end: u64) -> impl Iterator<Item = (u32, u64)> {
    let mut at = start;
    std::iter::from_fn(move || {
        let left = end.checked_sub(at).filter(|n| *n > 0)?;
        let level = left.ilog2();
        let peak = (level, at >> level);
        at += 1 << level;
        Some(peak)
    })
}

fn subtree<E>(start: u64, end: u64, hashes: &mut impl FnMut(u32, u64) -> Result<Hash, E>) -> Result<Hash, E> {
    let peaks = peaks_of(start, end)
        .map(|(level, index)| hashes(level, index))
        .collect::<Result<Vec<_>, E>>()?;
    Ok(fold(&peaks).unwrap_or_else(empty_root))
}

/// Proof that leaf `index` is in the tree of `size` leaves (RFC 6962 section 2.1.1). `None` if it is not.
pub fn inclusion_proof<E>(
    index: u64,
    size: u64,
    mut hashes: impl FnMut(u32, u64) -> Result<Hash, E>,
) -> Result<Option<Vec<Hash>>, E> {
    if index >= size {
        return Ok(None);
    }
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            proof.push(subtree(middle, end, &mut hashes)?);
            end = middle;
        } else {
            proof.push(subtree(start, middle, &mut hashes)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(Some(proof))
}

/// Proof that the tree of `new` leaves continues the one of `old` (RFC 6962 section 2.1.2). `None` unless
/// `old <= new`; empty if `old` is 0 or equal to `new`.
pub fn consistency_proof<E>(
    old: u64,
    new: u64,
    mut hashes: impl FnMut(u32, u64) -> Result<Hash, E>,
) -> Result<Option<Vec<Hash>>, E> {
    if old > new {
        return Ok(None);
    }
    let mut proof = Vec::new();
    if old == 0 || old == new {
        return Ok(Some(proof));
    }
    let (mut start, mut end, mut whole) = (0, new, true);
    while end != old {
        let middle = start + split(end - start);
        if old <= middle {
            proof.push(subtree(middle, end, &mut hashes)?);
            end = middle;
        } else {
            proof.push(subtree(start, middle, &mut hashes)?);
            (start, whole) = (middle, false);
        }
    }
    if !whole {
        proof.push(subtree(start, end, &mut hashes)?);
    }
    proof.reverse();
    Ok(Some(proof))
}

/// Largest power of two below `n`, for `n > 1`.
fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// Whether `proof` shows leaf `index` in the tree of `size` leaves with this root (RFC 9162 section 2.1.3.2).
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, root: &Hash, proof: &[Hash]) -> bool {
    if index >= size {
        return false;
    }
    let (mut fn_, mut sn, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if sn == 0 {
            return false;
        }
        if fn_ & 1 == 1 || fn_ == sn {
            hash = node_hash(sibling, &hash);
            while fn_ & 1 == 0 && fn_ != 0 {
                fn_ >>= 1;
                sn >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        fn_ >>= 1;
        sn >>= 1;
    }
    sn == 0 && hash == *root
}

/// Whether `proof` shows that the tree `new` continues the tree `old` (RFC 9162 section 2.1.4.2).
pub fn verify_consistency(old: u64, new: u64, old_root: &Hash, new_root: &Hash, proof: &[Hash]) -> bool {
    if old > new {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    let mut path = proof.iter();
    let first = if old.is_power_of_two() {
        Some(old_root)
    } else {
        path.next()
    };
    let Some(first) = first else { return false };
    let (mut fn_, mut sn) = (old - 1, new - 1);
    while fn_ & 1 == 1 {
        fn_ >>= 1;
        sn >>= 1;
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in path {
        if sn == 0 {
            return false;
        }
        if fn_ & 1 == 1 || fn_ == sn {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while fn_ & 1 == 0 && fn_ != 0 {
                fn_ >>= 1;
                sn >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        fn_ >>= 1;
        sn >>= 1;
    }
    sn == 0 && old_hash == *old_root && new_hash == *new_root
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::convert::Infallible;

    /// RFC 6962 section 2.1, word for word.
    fn naive(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
                node_hash(&naive(left), &naive(right))
            }
        }
    }

    #[test]
    fn every_proof_in_every_small_tree() {
        const N: u64 = 40;
        let leaves: Vec<Hash> = (0..N).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let mut stored = HashMap::new();
        let mut range = Range::default();
        let mut roots = vec![range.root()];
        for (i, leaf) in leaves.iter().enumerate() {
            range.append(*leaf, |level, index, hash| {
                stored.insert((level, index), hash);
            });
            assert_eq!(range.root(), naive(&leaves[..=i]));
            roots.push(range.root());
        }
        let read = |level, index| Ok::<_, Infallible>(stored[&(level, index)]);
        for size in 1..=N {
            assert_eq!(Range::resume(size, read).unwrap().root(), roots[size as usize]);
            for index in 0..size {
                let proof = inclusion_proof(index, size, read).unwrap().unwrap();
                let root = &roots[size as usize];
                assert!(verify_inclusion(&leaves[index as usize], index, size, root, &proof));
                assert!(!verify_inclusion(&leaves[index as usize], index + 1, size, root, &proof) || size == 1);
                let mut longer = proof.clone();
                longer.push([0; 32]);
                assert!(!verify_inclusion(&leaves[index as usize], index, size, root, &longer));
                if !proof.is_empty() {
                    assert!(!verify_inclusion(
                        &leaves[index as usize],
                        index,
                        size,
                        root,
                        &proof[1..]
                    ));
                }
            }
            for old in 0..=size {
                let proof = consistency_proof(old, size, read).unwrap().unwrap();
                let (a, b) = (&roots[old as usize], &roots[size as usize]);
                assert!(verify_consistency(old, size, a, b, &proof), "{old} {size}");
                let mut longer = proof.clone();
                longer.push([0; 32]);
                assert!(!verify_consistency(old, size, a, b, &longer));
                assert!(old == 0 || !verify_consistency(old, size, &[9; 32], b, &proof));
                assert!(old == size || !verify_consistency(old, size, a, &[9; 32], &proof) || old == 0);
            }
        }
    }

    #[test]
    fn known_answers_of_rfc6962_reference() {
        let root = |n: usize| {
            let inputs: [&[u8]; 3] = [&[], &[0x00], &[0x10]];
            let mut r = Range::default();
            inputs[..n].iter().for_each(|i| r.append(leaf_hash(i), |_, _, _| {}));
            r.root().iter().map(|b| format!("{b:02x}")).collect::<String>()
        };
        assert_eq!(
            root(0),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            root(1),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        assert_eq!(
            root(2),
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
        );
        assert_eq!(
            root(3),
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
        );
    }
}
