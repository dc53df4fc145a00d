"""Runs a command where the only network is this machine's own: python tools/offline.py COMMAND ...

Linux alone: the command gets a network namespace that has loopback and nothing else. Where the system does not allow that, nothing is run."""

import ctypes
import errno
import os
import socket
import struct
import sys

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
ELSEWHERE = ("192.0.2.1", 80)  # an address that is kept for examples: no machine has it
NOT_ALLOWED = 3


class NotAllowed(Exception):
    "Why there is no network namespace to be had, in a sentence."


def enter() -> None:
    """Move this process into a network of its own, with loopback up.

    Raises: NotAllowed where the system refuses."""
    if sys.platform != "linux":
        raise NotAllowed(f"only Linux has network namespaces, and this is {sys.platform}")
    library, uid, gid = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()
    if uid or library.unshare(CLONE_NEWNET):  # a root without that power may still have it in a user namespace of its own
        if library.unshare(CLONE_NEWUSER | CLONE_NEWNET):
            raise NotAllowed(f"this system lets nobody but an unconfined root make a network namespace ({os.strerror(ctypes.get_errno())})")
        for name, text in (("setgroups", "deny"), ("gid_map", f"{gid} {gid} 1"), ("uid_map", f"{uid} {uid} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def prove() -> None:
    "Loopback answers, and no other address is to be reached: else an AssertionError."
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
        pass
    with socket.socket() as outward:
        reached = outward.connect_ex(ELSEWHERE)
    assert reached == errno.ENETUNREACH, f"connecting to {ELSEWHERE[0]} says {os.strerror(reached)}: this network is not closed"


def main(command: list[str]) -> int:
    if not command or command[0] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if command else 2
    try:
        enter()
    except NotAllowed as why:
        print(f"not run without a network: {why}.", file=sys.stderr)
        return NOT_ALLOWED
    prove()
    print(f"no network here but loopback: {os.path.basename(command[0])} {' '.join(command[1:4])} …", flush=True)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]} cannot be run ({error.strerror})", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
