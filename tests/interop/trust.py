"""Keys and trust files."""

import base64
import hashlib
import tomllib


class Key:
    """A public key, `name:base64`."""

    def __init__(self, text):
        self.name, encoded = text.strip().split(":")
        self.public = base64.b64decode(encoded, validate=True)
        if len(self.public) != 32:
            raise ValueError(f"the key {self.name} has {len(self.public)} bytes")
        self.id = hashlib.sha256(self.public).digest()


class Trust:
    """Whose signatures count, by key id, and how many different ones must be there."""

    def __init__(self, fleet, keys, threshold):
        self.fleet = fleet
        self.keys = {key.id: key for key in keys}
        self.threshold = threshold
        if len(self.keys) != len(keys) or not 1 <= threshold <= len(keys):
            raise ValueError("a key that stands twice, or a threshold that nobody can reach")

    @classmethod
    def parse(cls, text, role="release"):
        file = tomllib.loads(text)
        role = file[role]
        return cls(file["fleet"], [Key(key) for key in role["keys"]], role["threshold"])

    @classmethod
    def of_both(cls, fleet, token, key):
        """A token and the key that a request names; of one that is both there is only one."""
        both = cls(fleet, {one.id: one for one in (Key(token), Key(f"key:{key}"))}.values(), 1)
        both.threshold = 2
        return both

    @classmethod
    def pinned(cls, fleet, key):
        return cls(fleet, [Key(key)], 1)
