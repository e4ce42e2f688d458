"""JSON that hurts: whole bodies, and values in the place of sound ones.

The table serves every route that takes JSON. What a body must not make a service repeat is
`SECRET`; it stands in many of them.
"""

from __future__ import annotations

import json
from typing import Any

SECRET = "73519.625"
DIGITS = b"73519"
_NAME = b'{"%s": 1}'

# By name: JSON text, or what is nearly JSON, for one value.
VALUES: dict[str, bytes] = {
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "minus Infinity": b"-Infinity",
    "1e400": b"1e400",
    "-1e400": b"-1e400",
    "exponent of 5,000 digits": b"1e" + b"9" * 5000,
    "denormal": b"5e-324",
    "less than a denormal": b"1e-400",
    "negative zero": b"-0.0",
    "out of range": SECRET.encode(),
    "5,000 digits": b"7" * 5000,
    "300,000 digits": b"7" * 300_000,
    "300,000 decimals": b"0." + b"7" * 300_000,
    "text": b'"73519.625"',
    "number as text": b'"5"',
    "empty text": b'""',
    "long text": b'"' + b"73519" * 20_000 + b'"',
    "escapes": b'"' + rb"\u0000" * 10_000 + b'"',
    "true": b"true",
    "false": b"false",
    "null": b"null",
    "list": b"[73519.625]",
    "empty list": b"[]",
    "object": b'{"73519.625": 73519.625}',
    "empty object": b"{}",
    "lone surrogate": rb'"\ud800"',
    "lone surrogate in a name": rb'{"\udfff": 1}',
    "surrogate in UTF-8": b'"\xed\xa0\x80"',
    "NUL": rb'"\u0000"',
    "text direction": '"a\u202eb"'.encode(),
    "line separators": '"a\u2028b"'.encode(),
    "100,000 lists": b"[" * 100_000 + b"]" * 100_000,
    "100,000 objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "plus sign": b"+1",
    "leading zero": b"017",
    "hexadecimal": b"0x17",
    "no digits after the point": b"17.",
    "word": b"undefined",
    "nothing": b"",
    "comma": b",",
}

# By name: a whole body.
BODIES: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n",
    "not JSON": b"{'mean_area': " + SECRET.encode(),
    "not UTF-8": b'{"id": "\xff' + SECRET.encode(),
    "a name that is not UTF-8": b'{"mean_are\xff": 73519.625}',
    "UTF-16": json.dumps({"features": [73519.625]}).encode("utf-16"),
    "UTF-32": json.dumps({"features": [73519.625]}).encode("utf-32"),
    "byte order mark": b'\xef\xbb\xbf{"features": []}',
    "NUL bytes": b"\0" * 100_000,
    "two documents": b"{}{}",
    "half a document": b'{"features": [1, 2',
    "number": SECRET.encode(),
    "NaN": b"NaN",
    "text": b'"73519.625"',
    "null": b"null",
    "true": b"true",
    "list": b"[73519.625]",
    "empty list": b"[]",
    "empty object": b"{}",
    "unknown name": b'{"aera": 73519.625}',
    "value for a name": b'{"73519.625": "mean_area"}',
    "surrogate name": _NAME % rb"\udfff",
    "surrogate id": rb'{"id": "\ud800"}',
    "name with control characters": _NAME % rb"\u001b[31m",
    "long name": _NAME % (b"73519" * 200_000),
    "a name twice": b'{"mean_area": 73519.625, "mean_area": 7}',
    "one name again and again": b"{" + b'"a":1,' * 170_000 + b'"b":1}',
    "100,000 names": b"{" + b",".join(b'"%05x":1' % at for at in range(100_000)) + b"}",
    "names that are nearly right": b"{"
    + b",".join(b'"mean_concave_point_of%d":1' % at for at in range(900))
    + b"}",
    "names that fold to one": b"{"
    + b",".join(b'"%smean_area":1' % (b" " * at) for at in range(900))
    + b"}",
    "500,000 numbers": b"[" + b"1," * 500_000 + b"1]",
    "300,000 texts": b"[" + b'"",' * 300_000 + b'""]',
    "300,000 lists": b"[" + b"[]," * 300_000 + b"[]]",
    "300,000 objects": b"[" + b"{}," * 300_000 + b"{}]",
    "deep lists": b"[" * 900_000,
    "deep objects": b'{"features":' * 80_000,
    "deep lists that end": b"[" * 100_000 + b"]" * 100_000,
    "deep objects that end": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a million digits": b"7" * 1_000_000,
    "a million spaces": b" " * 1_000_000 + b"{}",
    "a million escapes": b'"' + rb"\ud83d\ude00" * 80_000 + b'"',
    "unclosed text": b'"' + b"73519" * 200_000,
    "comment": b"{/* 73519 */}",
    "CSV": b"mean_area\n73519.625\n",
    "form": b"features=73519.625",
    "XML": b"<features>73519.625</features>",
}


def filled(body: Any, value: bytes) -> bytes:
    """A body as JSON, with a value in place of the text ``"<>"``."""
    return json.dumps(body).encode().replace(b'"<>"', value)
