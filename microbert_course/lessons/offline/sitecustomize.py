"""Refuses the network in a lesson's kernel, and in the Python programs that the kernel starts; at quick sizes, collects garbage rarely.

Python imports a module of this name at its start if it finds one; the harness puts this folder on PYTHONPATH and names a file in
MICROBERT_NETWORK_LOG. Every attempt is noted there before it is refused, so a lesson that swallows the error is found as well.
Sockets inside this machine pass. It keeps honest lessons honest; it is no jail."""

import os
import re
import sys

LOOKUPS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}
SENDS = {"socket.connect", "socket.sendto", "socket.sendmsg"}
PROGRAMS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn"}
DOWNLOAD = re.compile(r"\b(?:curl|wget)\s|(?:https?|ftp|ssh|git)://(?!localhost|127\.|\[::1\])|\bgit@")


def is_local(host) -> bool:
    "Whether the name or address means this machine."
    import ipaddress
    import socket

    name = host.decode("utf-8", "replace") if isinstance(host, bytes | bytearray) else str(host or "localhost")
    if name.lower() in ("localhost", "localhost.localdomain", "ip6-localhost", socket.gethostname().lower()):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def far_end(event: str, args: tuple) -> str | None:
    "Where outside this machine an audited event wants to go; None if nowhere."
    if event in LOOKUPS:
        return None if is_local(args[0]) else str(args[0])
    if event in SENDS:
        import socket

        sock, address = args[:2]
        if sock.family not in (socket.AF_INET, socket.AF_INET6) or not address or is_local(address[0]):
            return None
        return f"{address[0]} port {address[1]}"
    if event in PROGRAMS:
        words = [word if isinstance(word, list | tuple) else [word] for word in args[:2] if word is not None]
        command = " ".join(os.fsdecode(word) for part in words for word in part if isinstance(word, str | bytes | os.PathLike))
        is_python = os.path.basename(command.partition(" ")[0]).startswith("python")  # it has this hook itself
        return command[:200] if not is_python and DOWNLOAD.search(command + " ") else None
    return None


def refuse(event: str, args: tuple) -> None:
    "The audit hook."
    if event not in LOOKUPS and event not in SENDS and event not in PROGRAMS:
        return
    target = far_end(event, args)
    if target is None:
        return
    log = os.open(os.environ["MICROBERT_NETWORK_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(log, f"{event} {target}\n".replace("\n", " ").strip().encode() + b"\n")
    os.close(log)
    raise OSError(101, f"lessons run offline, and this one reached for {target}")


if __name__ == "sitecustomize" and os.environ.get("MICROBERT_NETWORK_LOG"):
    sys.addaudithook(refuse)

if __name__ == "sitecustomize" and os.environ.get("MICROBERT_RARE_COLLECTIONS"):
    import gc

    gc.set_threshold(100_000, 20, 20)  # imports make a million objects that stay: looking through them every 700 is a tenth of a short lesson
