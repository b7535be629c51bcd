"""Which 32 bytes are an Ed25519 key for which not everybody can sign (RFC 8032 section 5.1)."""

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def point(key):
    """Gives the point that 32 bytes stand for, if they stand for one."""
    number = int.from_bytes(key, "little")
    y, negative = number % 2**255 % P, number >> 255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P:
        return None
    return (P - x) % P if x % 2 != negative else x, y


def add(one, other):
    (a, b), (c, d) = one, other
    product = D * a * b * c * d % P
    x = (a * d + b * c) * pow(1 + product, -1, P) % P
    y = (b * d + a * c) * pow(1 - product, -1, P) % P
    return x, y


def is_usable(key):
    """Tells whether bytes are a point, and none of small order."""
    found = point(key)
    if found is None:
        return False
    for _ in range(3):
        found = add(found, found)
    return found != (0, 1)
