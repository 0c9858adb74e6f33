"""Merkle trees of RFC 6962 section 2.1 over SHA-256."""

from hashlib import sha256


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


class Tree:
    """A tree that grows leaf by leaf and keeps only the roots of its full subtrees."""

    def __init__(self):
        self.size = 0
        self.full: list[bytes] = []

    def push(self, hash_of_leaf: bytes) -> None:
        # One merge for each full subtree this leaf completes.
        merges = self.size
        while merges & 1:
            hash_of_leaf = node_hash(self.full.pop(), hash_of_leaf)
            merges >>= 1
        self.full.append(hash_of_leaf)
        self.size += 1

    def root(self) -> bytes:
        if not self.full:
            return sha256(b"").digest()
        root = self.full[-1]
        for left in reversed(self.full[:-1]):
            root = node_hash(left, root)
        return root


def root_by_path(index: int, size: int, hash_of_leaf: bytes, path: list[bytes]) -> bytes | None:
    """The root that an audit path gives, or None if it is not as long as the tree is high."""
    root, last, rest = hash_of_leaf, size - 1, list(path)
    while last > 0:
        # The last node of a level with an odd count has no sibling and rises as it is.
        if index & 1 or index < last:
            if not rest:
                return None
            sibling = rest.pop(0)
            root = node_hash(sibling, root) if index & 1 else node_hash(root, sibling)
        index >>= 1
        last >>= 1
    return None if rest else root
