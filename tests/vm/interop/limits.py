"""What one engine cannot do for the other, and how it says so: {(program, direction): Limit}.

Directions are those with Debian 13's criu; testing's (4.2.1) fails in the same places and words."""

from typing import NamedTuple

# By CRIU: "criu" is Debian 13's, "testing" that of Debian testing.
WAYS = {"criu": ("cr-criu", "criu-cr"), "testing": ("cr-testing", "testing-cr")}


class Limit(NamedTuple):
    step: str           # "criu dump", "criu restore", or "program": restored, but not as it was
    pattern: str        # of what the step said
    why: str            # for the table


DUMP, RESTORE, PROGRAM = "criu dump", "criu restore", "program"
HOST_ROOT = "CRIU restores a mount namespace only below --root"


def limits(name, to_criu, from_criu):
    """The limit of each direction; None: there is none."""
    pairs = zip(WAYS["criu"], (to_criu, from_criu))
    return {(name, way): Limit(*limit) for way, limit in pairs if limit}


LIMITS = {
    **limits("two_trees",
             (RESTORE, r"Parent missed on non-root task", "CRIU's images have one root"),
             (PROGRAM, r"the other tree was not dumped", "CRIU dumps the last -t only")),
    **limits("aios", None,
             (PROGRAM, r"the waiting thread got no event|the reader gets no events",
              "CRIU's dump ends every waiting io_getevents with EINTR, and saves that")),
    **limits("files_mntns",
             (RESTORE, r"BUG at criu/mount\.c", HOST_ROOT),
             (DUMP, r"Can't parse \d+'s mountinfo", "CRIU cannot dump a process in a chroot")),
    **limits("hugepages",
             (RESTORE, r"Can't read pages data \(-9\)",
              "CRIU cannot read huge pages from a parent directory, where those shared by "
              "copy-on-write are"),
             None),
    **limits("main_ended",
             (RESTORE, r"Unexpected EOF on \(empty-image\)",
              "CRIU misses the credentials of a main thread that has ended"),
             (DUMP, r"Zombies with threads are not supported",
              "CRIU refuses a process whose main thread has ended")),
    **limits("memory_state",
             (PROGRAM, r"area \d+ was", "CRIU keeps no memory seals"),
             (PROGRAM, r"area \d+ was", "CRIU keeps no memory seals")),
    **limits("mqueues",
             (RESTORE, r"files-ext\.c.*Unable to restore 0x", "CRIU has no POSIX message queues"),
             (DUMP, r"Can't lookup mount=\d+ for fd=\d+ path=/crk-test",
              "CRIU has no POSIX message queues")),
    **limits("multicast",
             (PROGRAM, r"by number is -1", "CRIU restores no memberships of UDP sockets"),
             (DUMP, r"Multiple MC membership not supported",
              "CRIU refuses several memberships of a packet socket")),
    **limits("ns_sandbox",
             (RESTORE, r"Unable to create the proc file system: Operation not permitted",
              "CRIU mounts a proc of its own, which a user namespace without a PID namespace may not"),
             (DUMP, r"Can't setns 7/uts: Operation not permitted",
              "CRIU refuses a uts namespace that is not of the user namespace")),
    **limits("ns_tree",
             (RESTORE, r"BUG at criu/mount\.c", HOST_ROOT),
             (DUMP, r"Can't lookup mount=\d+ for fd=-3 path=.*/ns_tree",
              "CRIU cannot dump a program that was started on a mount outside the namespace")),
    **limits("pty_session",
             (PROGRAM, r"reading in the background",
              "CRIU gives the terminal to a session's leader, not to its members"),
             (DUMP, r"ctty inheritance detected",
              "CRIU refuses members of a session that hold no file of its terminal")),
    **limits("ptys_own",
             (RESTORE, r"is autodetected external mount", HOST_ROOT),
             (DUMP, r"FS mnt .* unsupported id", "CRIU's dump knows not all file systems of the host")),
    **limits("sk_cgroup",
             (PROGRAM, r"another group's listener is", "CRIU keeps no control groups of sockets"),
             (PROGRAM, r"another group's listener is", "CRIU keeps no control groups of sockets")),
    **limits("stopped",
             (PROGRAM, r"SIGCHLD is \d+ .*, not \d", "CRIU tells the parent of stops that it knows of"),
             (DUMP, r"unsupported stop signal",
              "CRIU refuses processes stopped by other signals than SIGSTOP")),
    **limits("sysv_shm",
             (RESTORE, r"Can't find sysv shmem for",
              "CRIU has no System V segments of the host's namespace"),
             (DUMP, r"SysVIPC shmem map .* doesn't live in IPC ns",
              "CRIU has no System V segments of the host's namespace")),
    **limits("unix_external",
             (RESTORE, r"Peer \d+ unresolved for", "CRIU has no streams whose peer is outside"),
             (DUMP, r"Can't dump half of stream unix connection",
              "CRIU has no streams whose peer is outside")),
    **limits("unix_peercred",
             (PROGRAM, r"listener of an ended process: pid \d+",
              "whom SO_PEERCRED names is the restorer's process after CRIU"),
             (DUMP, r"skqueue: Control messages in queue, not supported",
              "CRIU refuses queued messages that carry credentials")),
}


def limit_of(name, way):
    """The limit of a direction, or None. Testing's criu has those of Debian 13's."""
    return LIMITS.get((name, way.replace("testing", "criu")))
