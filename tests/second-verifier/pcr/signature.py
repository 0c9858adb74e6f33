"""Ed25519 (RFC 8032) as strictly as 4.2 says, and the domains of 4.1."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

BYTES = 64

# The field, the curve's constant d, and the order of the base point (RFC 8032 section 5.1).
P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
ORDER = 2**252 + 27742317777372353535851937790883648493


def sound_point(encoded: bytes) -> bool:
    """Whether this is a canonical encoding, and not of a point of small order.

    That it is a point at all is for the verification to find out. Of small order are the points
    with y = 1 (order 1), -1 (2), 0 (4), and those whose double has y = 0 (8): with x^2 from the
    curve's equation that is d*y^4 + 2*y^2 = 1. Points with x = 0, whose sign would be free, are
    among them.
    """
    y = int.from_bytes(encoded, "little") & (1 << 255) - 1
    if y >= P or y in (0, 1, P - 1):
        return False
    return (D * y**4 + 2 * y**2 - 1) % P != 0


def verifies(key: bytes, message: bytes, signature: bytes) -> bool:
    if len(key) != 32 or len(signature) != BYTES:
        return False
    commitment, scalar = signature[:32], signature[32:]
    if not (sound_point(key) and sound_point(commitment)):
        return False
    if int.from_bytes(scalar, "little") >= ORDER:
        return False
    try:
        # Without the cofactor: compares the commitment's bytes with those of S*B - k*A.
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def signed_in(domain: str, key: bytes, statement: bytes, signature: bytes) -> bool:
    message = b"portcullis-recording/v1 " + domain.encode() + b"\0" + statement
    return verifies(key, message, signature)
