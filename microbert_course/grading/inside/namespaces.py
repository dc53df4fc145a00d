"""A world of one's own without bubblewrap: new namespaces as far as this user may make them."""

import ctypes
import os
import signal

from . import confine

MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 16384, 1 << 18


def enter(setup: dict) -> dict:  # whether the writable folders (mounts) and /proc (proc) are our own
    "Move this process into new namespaces; it comes back as the first process of the new PID namespace, or as it was."
    library = confine.libc()
    facts = {"mounts": False, "proc": False}
    confine.prctl(confine.PR_SET_PDEATHSIG, signal.SIGKILL)
    uid, gid = os.getuid(), os.getgid()
    wanted = confine.CLONE_NEWNS | confine.CLONE_NEWPID | confine.CLONE_NEWNET | confine.CLONE_NEWIPC | confine.CLONE_NEWUTS
    if not setup["unshare"] or library.unshare(wanted | (confine.CLONE_NEWUSER if uid else 0)):
        return facts
    if uid:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
    if first := os.fork():
        _wait_for(first)
    confine.prctl(confine.PR_SET_PDEATHSIG, signal.SIGKILL)
    if library.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0:
        size = f"size={int(setup['limits']['file_mb'] * 2)}m,mode=1777".encode()
        facts["mounts"] = all(library.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", MS_NOSUID | MS_NODEV, ctypes.c_char_p(size)) == 0
                              for folder in (setup["work"], "/dev/shm"))
        facts["proc"] = library.mount(b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV, None) == 0
    return facts


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _wait_for(first: int) -> None:
    "Stay outside until the inside has ended."
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    os.waitpid(first, 0)
    os._exit(0)
