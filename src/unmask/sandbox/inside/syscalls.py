"""System calls that a sandboxed program is refused, as a seccomp filter: EPERM, on x86_64 and aarch64.

Namespaces and limits leave gaps that these calls would use: System V memory counts against no limit, `prlimit` and
signals reach other processes of the same user, and without a mount namespace a program could truncate files. What the
kernel may not have by that name or number is listed for one architecture only. Numbers: the kernel's tables,
arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

# Name -> number on x86_64 and on aarch64; None where the call does not exist.
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # Processes and threads, and what acts on those of others.
    "clone": (56, 220), "clone3": (435, 435), "fork": (57, None), "vfork": (58, None), "execve": (59, 221),
    "execveat": (322, 281), "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "prlimit64": (302, 261), "setpriority": (141, 140),
    "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118),
    "sched_setattr": (314, 274), "ioprio_set": (251, 30), "migrate_pages": (256, 238), "move_pages": (279, 239),
    # Network, kernel memory that no limit counts, and interfaces with a history of escapes.
    "socket": (41, 198), "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190),
    "mq_open": (240, 180), "memfd_create": (319, 279), "memfd_secret": (447, 447), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "bpf": (321, 280), "userfaultfd": (323, 282),
    "perf_event_open": (298, 241), "io_uring_setup": (425, 425),
    # Namespaces and mounts.
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "chroot": (161, 51),
    # Changes of files.
    "creat": (85, None), "openat2": (437, 437), "truncate": (76, 45), "ftruncate": (77, 46), "fallocate": (285, 47),
    "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276),
    "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None), "link": (86, None), "linkat": (265, 37),
    "symlink": (88, None), "symlinkat": (266, 36), "mknod": (133, None), "mknodat": (259, 33), "chmod": (90, None),
    "fchmod": (91, 52), "fchmodat": (268, 53), "chown": (92, None), "fchown": (93, 55), "lchown": (94, None),
    "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None), "futimesat": (261, None),
    "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
}  # fmt: skip
# Calls that open files, with the place of their flags among the arguments: refused if the flags ask to write.
OPENS = {"open": (2, None, 1), "openat": (257, 56, 2)}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column of the table, and the kernel's constant
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF instructions
ALLOW, ERROR, KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
NUMBER, MACHINE, ARGUMENTS = 0, 4, 16  # offsets in the kernel's seccomp_data
X32 = 0x40000000  # numbers of the x32 interface, another door to the same calls
SET_SECCOMP, FILTER = 22, 2


def program(machine: str) -> bytes:
    """Return the filter of an architecture as BPF instructions of 8 bytes. Raises OSError for an unknown one."""
    if machine not in MACHINES:
        raise OSError(f"no list of system calls for {machine}, only for {', '.join(MACHINES)}")
    column, constant = MACHINES[machine]
    found = [_step(LOAD, MACHINE), _step(EQUAL, constant, 1, 0), _step(RETURN, KILL), _step(LOAD, NUMBER)]
    if machine == "x86_64":
        found += [_step(AT_LEAST, X32, 0, 1), _step(RETURN, KILL)]
    for numbers in REFUSED.values():
        if numbers[column] is not None:
            found += [_step(EQUAL, numbers[column], 0, 1), _step(RETURN, ERROR)]

    # The number is loaded again after each look at the flags, which took its place.
    for first, second, place in OPENS.values():
        number = (first, second)[column]
        if number is not None:
            found += [
                _step(EQUAL, number, 0, 4),
                _step(LOAD, ARGUMENTS + 8 * place),
                _step(ANY_BIT, WRITES, 0, 1),
                _step(RETURN, ERROR),
                _step(RETURN, ALLOW),
            ]
    return b"".join([*found, _step(RETURN, ALLOW)])


def install(libc: ctypes.CDLL) -> None:
    """Refuse these calls to this process from now on, which needs no privilege. Raises OSError if it fails."""
    instructions = program(os.uname().machine)
    buffer = ctypes.create_string_buffer(instructions, len(instructions))

    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]

    whole = Filter(len(instructions) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    if libc.prctl(SET_SECCOMP, FILTER, ctypes.byref(whole), 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")


def _step(code: int, value: int | None, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
