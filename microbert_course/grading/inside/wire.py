"""How the grader and its sandbox talk: messages with a length in front, over pipes."""

import struct

HEAD = struct.Struct("<I")

ENDINGS = ("ended", "timeout", "memory", "processes", "output", "started")  # how a task's process came to its end; `started`: ready


def packed(message: bytes) -> bytes:
    return HEAD.pack(len(message)) + message


def read_message(file) -> bytes | None:  # None at the end
    "One message from an unbuffered binary file."
    head = _exactly(file, HEAD.size)
    return None if head is None else _exactly(file, HEAD.unpack(head)[0])


def _exactly(file, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = file.read(min(size - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)


def split(content: bytes, most: int | None = None) -> list[bytes]:
    "Messages that stand one behind the other, the first `most` of them; the last one may be cut short and is left out then."
    found, place = [], 0
    while place + HEAD.size <= len(content) and len(found) != most:
        size = HEAD.unpack_from(content, place)[0]
        if place + HEAD.size + size > len(content):
            break
        found.append(content[place + HEAD.size:place + HEAD.size + size])
        place += HEAD.size + size
    return found
