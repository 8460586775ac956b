"""What a checkpoint's bytes hold: the value that code saved, and the results of its steps.

A value alone stands as it is. Beside steps, and where it could be taken for one, it stands in an envelope, a JSON
object with the key `$heavylift`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heavylift.core import codec

KEY = "$heavylift"
VERSION = 1
_MARK = codec.encode(KEY)


@dataclass(frozen=True, slots=True)
class Saved:
    """`value` as JSON bytes, None if code saved none; the results of `steps` by name, as JSON bytes."""

    value: bytes | None = None
    steps: Mapping[str, bytes] = field(default_factory=dict)


def read(data: bytes | None) -> Saved:
    """What a checkpoint's bytes hold."""
    if data is None or _MARK not in data:
        return Saved(data)
    content = codec.decode(data)
    if not isinstance(content, dict) or content.get(KEY) != VERSION or not isinstance(content.get("steps"), dict):
        return Saved(data)
    value = codec.encode(content["value"]) if "value" in content else None
    return Saved(value, {name: codec.encode(result) for name, result in content["steps"].items()})


def written(saved: Saved) -> bytes:
    """The inverse of `read`."""
    if saved.value is not None and not saved.steps and _MARK not in saved.value:
        return saved.value
    steps = b",".join(b"%b:%b" % (codec.encode(name), result) for name, result in saved.steps.items())
    value = b"" if saved.value is None else b',"value":' + saved.value
    return b'{%b:%d,"steps":{%b}%b}' % (_MARK, VERSION, steps, value)
