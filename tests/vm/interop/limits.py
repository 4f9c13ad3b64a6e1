"""What one engine cannot do for the other, and how it says so: {(program, direction): Limit}."""

from typing import NamedTuple

WAYS = ("cr-criu", "criu-cr")


class Limit(NamedTuple):
    pattern: str        # of the outcome: "criu dump: Error (...): ..."
    why: str            # for the table


def limit(name, way, pattern, why):
    return {(name, way): Limit(pattern, why)}


def both(name, pattern_to_criu, pattern_from_criu, why):
    return (limit(name, "cr-criu", pattern_to_criu, why)
            | limit(name, "criu-cr", pattern_from_criu, why))


LIMITS = {
    **limit("aios", "criu-cr", "no event", "CRIU saves a waiting io_getevents as interrupted"),
    **both("files_mntns", r"criu restore: .*mount\.c", "criu dump: .*Can't parse .*mountinfo",
           "a mount namespace over the host's root: CRIU refuses to dump one, and restores "
           "mounts only below --root"),
    **both("multicast", "program: .*by number", "criu dump: .*Multiple MC membership",
           "CRIU keeps no memberships of UDP sockets"),
    **both("ns_sandbox", r"criu restore: .*", "criu dump: .*Can't setns 7/uts",
           "a service's sandbox (user, uts and mount namespaces over the host's root)"),
    **both("ns_tree", r"criu restore: .*mount\.c", "criu dump: .*(unreachable sharing|lookup mount)",
           "processes in several mount namespaces over the host's root"),
    **both("stopped", "program: .*SIGCHLD", "criu dump: .*unsupported stop signal",
           "processes stopped by other signals than SIGSTOP"),
    **both("sysv_shm", "criu restore: .*sysv shmem", "criu dump: .*",
           "System V segments of the host's namespace: CRIU refuses them"),
    **both("unix_external", "criu restore: .*unresolved", "criu dump: .*half of stream",
           "streams whose peer is outside: CRIU refuses them"),
    **both("unix_peercred", "program: .*listener of an ended process", "criu dump: .*|program: .*",
           "whom SO_PEERCRED names is the restorer's process after CRIU"),
}
