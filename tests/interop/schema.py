"""Validates against herald.cddl with zcbor and with pycddl: a message matches if both say so.

Neither knows all of RFC 8610, and where they fall short they are lenient or need the text in
another form, so that the file itself stays plain. zcbor judges whole messages: it takes
enumerations as choices of numbers, and does not know `.regexp` and cuts. pycddl judges each item
by itself, as it tries a `.cbor` in an array on every item of the array; it finds a `.regexp`
anywhere in a text, and admits anything for `{}` and too many items in an array of arrays.
"""

import re

import cbor2
from pycddl import Schema as Rules
from pycddl import ValidationError
from zcbor import CddlValidationError, DataTranslator


class Schema:
    def __init__(self, path):
        self.text = path.read_text()
        Rules(self.text)

        def numbers(enumeration):
            return " / ".join(re.findall(r": (\d+)", enumeration[1]))

        whole = re.sub(r"&\((.*?)\)", numbers, self.text, flags=re.S)
        whole = re.sub(r' \.regexp ".*"', "", whole)
        self.whole = DataTranslator.from_cddl(whole, default_max_qty=1000).my_types

        flat = re.sub(r"bstr \.cbor [a-z0-9-]+", "bstr", self.text)
        self.flat = re.sub(r'\.regexp "(.*)"', r'.regexp "^(\1)$"', flat)
        self.rules = {}

    def codes(self, rule):
        """Gives the names of an enumeration by their numbers."""
        body = re.search(rf"^{rule} = &\((.*?)\)", self.text, re.M | re.S)[1]
        return {int(number): name for name, number in re.findall(r"([a-z-]+): (\d+)", body)}

    def matches(self, kind, data):
        """Validates a message: an order, a release file, or the envelope of any other message."""
        rules = {"order": "sealed-order", "release-file": "release-file"}
        rule = rules.get(kind, f"{kind}-envelope")
        try:
            self.whole[rule].validate_str(data)
        except CddlValidationError:
            return False
        return self._every_item_matches(kind, rule, data)

    def _every_item_matches(self, kind, rule, data):
        if not self._item_matches(rule, data):
            return False
        item = cbor2.loads(data)
        if kind == "order":
            release = self._every_item_matches("release", "release-envelope", item[1])
            return release and self._item_matches("target", item[2])
        if kind == "release-file":
            release = self._every_item_matches("release", "release-envelope", item[3])
            return release and all(self._item_matches("target", target) for target in item[4])
        protected, _, payload, end = item.value
        headers = [header for header, *_ in end] if isinstance(end, list) else [protected]
        known = all(self._item_matches("signer-header", header) for header in headers)
        return known and self._item_matches(kind, payload)

    def _item_matches(self, rule, data):
        if rule not in self.rules:
            self.rules[rule] = Rules(f"start = {rule}\n{self.flat}")
        try:
            self.rules[rule].validate_cbor(data)
        except ValidationError:
            return False
        return True
