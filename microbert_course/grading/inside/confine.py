"""What a process gives up before it runs a stranger's code. Each step leaves less; none can be taken back."""

import ctypes
import errno
import os
import platform
import struct
import sys

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 36, 38
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = (
    0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
READ, READ_ONE, LIST = 0b1101, 0b0101, 0b1000  # execute, read a file, list a folder; a file knows no listing
WRITE_ONE = READ_ONE | 0b10 | 1 << 14          # write and truncate a file
FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}    # how many rights each version of Landlock knows


def libc():
    return ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int = 0, *more) -> bool:
    return libc().prctl(option, ctypes.c_ulong(value), *(more or (0, 0, 0))) == 0


def limit(limits: dict, count_processes: bool) -> None:
    "Limits that the kernel keeps; hard, so they cannot be raised."
    import resource

    mb = 2**20
    wanted = {"RLIMIT_CORE": 0, "RLIMIT_NOFILE": limits["files"], "RLIMIT_FSIZE": int(limits["file_mb"] * mb),
              "RLIMIT_CPU": int(limits["notebook_s"] + limits["exercise_s"]) * 2 + 5}
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            mapped = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        wanted["RLIMIT_AS"] = mapped + int(limits["memory_mb"] + 1024) * mb  # a poller watches what is resident
    if count_processes:
        wanted["RLIMIT_NPROC"] = limits["processes"]
    for name, value in wanted.items():
        resource.setrlimit(getattr(resource, name), (value, value))


def drop_user(uid: int | None) -> None:
    "From root to a user that owns nothing; with None, root stays root in name and loses all its powers."
    if os.geteuid() != 0:
        return
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    elif sys.platform == "linux":
        header = struct.pack("<Ii", 0x20080522, 0)
        if libc().capset(header, b"\0" * 24):
            raise OSError(ctypes.get_errno(), "capset")


def landlock_version() -> int:
    "0 where the kernel has none."
    return max(0, libc().syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))) if sys.platform == "linux" else 0


def landlock(readable: list[str], listable: list[str], writable: list[str]) -> None:
    """Nothing but these paths can be opened, no TCP, and no signal reaches a process outside, as far as this kernel knows how.

    Raises: OSError if the kernel refuses."""
    version, library = landlock_version(), libc()
    every = (1 << FS_RIGHTS.get(version, 16)) - 1
    attributes = [every, 3 if version >= 4 else 0, 3 if version >= 6 else 0][:1 if version < 4 else 2 if version < 6 else 3]
    packed = struct.pack(f"<{len(attributes)}Q", *attributes)
    rules = library.syscall(LANDLOCK_CREATE, packed, ctypes.c_size_t(len(packed)), ctypes.c_uint32(0))
    if rules < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    for path, rights, rights_of_file in [*((path, READ, READ_ONE) for path in readable), *((path, LIST, 0) for path in listable), *((path, every, WRITE_ONE) for path in writable)]:
        if os.path.exists(path):
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = struct.pack("<Qi", (rights if os.path.isdir(path) else rights_of_file) & every, descriptor)
            done = library.syscall(LANDLOCK_ADD, rules, 1, rule, ctypes.c_uint32(0))
            os.close(descriptor)
            if done:
                raise OSError(ctypes.get_errno(), f"landlock_add_rule {path}")
    if library.syscall(LANDLOCK_RESTRICT, rules, ctypes.c_uint32(0)):
        raise OSError(ctypes.get_errno(), "landlock_restrict_self")
    os.close(rules)


# system calls that no exercise needs and that would open a way around a limit, by machine: (x86_64, aarch64)
REFUSED = {
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180), "socket": (41, 198),
}
# what changes the modes, owners and times of files that the same user has elsewhere, which Landlock lets pass
CHANGES = {
    "chmod": (90, 53), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, 54), "fchown": (93, 55),
    "lchown": (94, 54), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16), "utime": (132, 88), "utimes": (235, 88), "futimesat": (261, 88), "utimensat": (280, 88),
}
CLONE, CLONE3, PRLIMIT = (56, 220), 435, (302, 261)
NAMESPACES = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | 0x2000000
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
LOAD, EQUAL, AT_LEAST, ANY_BIT, ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, EPERM, ENOSYS, PRETEND = 0x7FFF0000, 0x50001, 0x50026, 0x50000


def refuse_system_calls(owns_others: bool) -> None:
    """New namespaces, sockets, other processes' memory and limits, memory that no limit counts: all answered EPERM (seccomp).

    With `owns_others`, where files of the grader's user are in reach, what changes a file's mode, owner or time is answered 0 and not done.
    Raises: OSError if the kernel refuses, or numbers its system calls in a way that is not known here."""
    if platform.machine() not in MACHINES:
        raise OSError(errno.ENOSYS, f"the system calls of {platform.machine()} are not known")
    column, architecture = MACHINES[platform.machine()]
    program = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, architecture), (ANSWER, 0, 0, EPERM), (LOAD, 0, 0, 0),
               (AT_LEAST, 0, 1, 0x40000000), (ANSWER, 0, 0, EPERM),  # the x32 numbers
               (EQUAL, 0, 1, CLONE3), (ANSWER, 0, 0, ENOSYS)]        # its flags are out of sight; libc falls back to clone
    for numbers in REFUSED.values():
        program += [(EQUAL, 0, 1, numbers[column]), (ANSWER, 0, 0, EPERM)]
    for numbers in CHANGES.values() if owns_others else ():
        program += [(EQUAL, 0, 1, numbers[column]), (ANSWER, 0, 0, PRETEND)]
    program += [(EQUAL, 0, 4, PRLIMIT[column]), (LOAD, 0, 0, 16), (EQUAL, 0, 1, 0), (ANSWER, 0, 0, ALLOW), (ANSWER, 0, 0, EPERM)]
    program += [(EQUAL, 0, 3, CLONE[column]), (LOAD, 0, 0, 16), (ANY_BIT, 0, 1, NAMESPACES), (ANSWER, 0, 0, EPERM), (ANSWER, 0, 0, ALLOW)]
    code = b"".join(struct.pack("<HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code)
    head = struct.pack("<H6xQ", len(program), ctypes.addressof(buffer))
    if not prctl(PR_SET_SECCOMP, 2, ctypes.c_char_p(head), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def watch(readable: list[str], listable: list[str], writable: list[str]) -> None:
    "The weak fence, inside Python itself: files elsewhere, sockets, other programs and C libraries are refused. It can be got around."
    readable, listable, writable = (set(map(os.path.realpath, paths)) for paths in (readable, listable, writable))
    refused = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.kill", "os.startfile", "resource.prlimit",
               "pty.", "ctypes.dlopen", "ctypes.dlsym", "ctypes.call_function", "signal.pthread_kill", "webbrowser.", "ftplib.", "smtplib.",
               "http.", "urllib.")
    reading = {"os.listdir", "os.scandir", "os.chdir"}
    writing = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate", "os.utime",
               "os.mkfifo", "os.mknod", "shutil.rmtree", "shutil.copyfile", "shutil.move"}
    realpath, separator, changing = os.path.realpath, os.sep, os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    busy = []

    def inside(path, folders) -> bool:
        if isinstance(path, int):
            return True
        path = realpath(os.fsdecode(path))
        while path not in folders:
            path, _, last = path.rpartition(separator)
            if not last:
                return False
        return True

    def hook(event, arguments):
        if busy or event == "marshal.loads":
            return
        if event.startswith(refused):
            raise PermissionError(f"{event} is not allowed in the grader")
        if event != "open" and event not in reading and event not in writing:
            return
        busy.append(event)
        try:
            paths = [argument for argument in arguments[:2] if isinstance(argument, str | bytes | os.PathLike)] if event in writing else arguments[:1]
            changes = event in writing or (event == "open" and isinstance(arguments[2], int) and arguments[2] & changing)
            allowed = all(path is None or inside(path, writable) or (not changes and inside(path, readable)) or
                          (event in reading and inside(path, listable)) for path in paths)
        finally:
            busy.pop()
        if not allowed:
            raise PermissionError(f"{event} outside the working folder is not allowed in the grader")

    sys.addaudithook(hook)
