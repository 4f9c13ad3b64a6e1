"""What is dumped by one engine and restored by the other: our makers and programs of Debian.

A program is started in a session of its own, below a directory of its own. `before()` gives it
something to remember (a connection that stays open, a value), `after()` asks for it.
"""

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

from procs import Failure, proc_state, wait_for


class Skip(Exception):
    pass


def is_alive(pid):
    return proc_state(pid) not in (None, "Z")


class Program:
    options = ()
    pre_dumps = 0

    def __init__(self, directory):
        self.dir = Path(directory)
        self.popen = None
        self.pid = None

    def spawn(self, argv, **kwargs):
        with open(self.dir / "output", "wb") as out:
            self.popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out,
                                          stderr=subprocess.STDOUT, cwd=self.dir,
                                          start_new_session=True, **kwargs)
        self.pid = self.popen.pid

    def roots(self):
        return [self.pid] if self.pid else []

    def output(self):
        return (self.dir / "output").read_text(errors="replace")[-2000:]

    def check_started(self):
        if self.popen.poll() is not None:
            raise Failure(f"ended with status {self.popen.returncode}: {self.output()}")
        return True


class Maker(Program):
    """tests/live/make/NAME.c; its options are written in its head."""

    def __init__(self, directory, binary, options):
        super().__init__(directory)
        self.binary = binary
        self.options = [*options, *EXTRA.get(binary.name, [])]
        self.result = self.dir / "result"

    def said(self):
        return self.result.read_text(errors="replace") if self.result.exists() else ""

    def start(self):
        env = {**os.environ, "MAKER_PLAIN": "1"} if self.binary.name in PLAIN else None
        self.spawn([self.binary, self.result], env=env)
        wait_for(lambda: "ready" in self.said() or self.popen.poll() is not None, 120,
                 "ready")
        if self.popen.poll() == 77:
            raise Skip(self.said().replace("SKIP:", "").strip())
        self.check_started()

    def before(self):
        pass

    def after(self):
        os.kill(self.pid, signal.SIGUSR1)
        wait_for(lambda: re.search(r"^(ok|FAIL)", self.said(), re.M) or not is_alive(self.pid),
                 120, "its answer")
        if not re.search(r"^ok", self.said(), re.M) or "FAIL" in self.said():
            raise Failure(f"{self.said().strip()} {self.output()}")


class Server(Program):
    """Answers on a TCP port; one connection stays open all the time."""

    options = ("--tcp-established", "--ext-unix-sk", "--file-locks", "--link-remap")
    port = 0
    user = None

    def argv(self):
        raise NotImplementedError

    def prepare(self):
        pass

    def start(self):
        self.prepare()
        self.spawn(self.argv())
        self.sock = None
        wait_for(self.answers, 300, f"port {self.port}")

    def answers(self):
        self.check_started()
        try:
            self.sock = socket.create_connection(("127.0.0.1", self.port), 120)
        except OSError:
            return False
        return True

    def talk(self, request, until):
        self.sock.sendall(request)
        answer = b""
        while not until(answer):
            data = self.sock.recv(65536)
            if not data:
                raise Failure(f"the connection was closed after {answer[-200:]!r}")
            answer += data
        return answer

    def ask(self, request, wanted, ends=b"\n"):
        answer = self.talk(request, lambda a: a.endswith(ends))
        if wanted not in answer:
            raise Failure(f"{request!r} is answered {answer[:200]!r}, not {wanted!r}")

    def http_get(self, wanted, path="/"):
        def whole(answer):
            head, found, body = answer.partition(b"\r\n\r\n")
            size = re.search(rb"content-length: (\d+)", head, re.I)
            if size:
                return found and len(body) >= int(size[1])
            return found and body.endswith(b"0\r\n\r\n")
        answer = self.talk(b"GET %s HTTP/1.1\r\nHost: crk\r\n\r\n" % path.encode(), whole)
        if wanted not in answer:
            raise Failure(f"GET {path} is answered {answer[:200]!r}")


class Redis(Server):
    port = 7001

    def argv(self):
        return ["redis-server", "--port", str(self.port), "--save", "", "--dir", self.dir]

    def before(self):
        self.ask(b"SET key value\r\n", b"+OK")

    def after(self):
        self.ask(b"GET key\r\n", b"value\r\n", b"value\r\n")


class RedisPreDumped(Redis):
    """Two pre-dumps, with changes after each, and a dump of what is left."""
    port = 7009
    pre_dumps = 2
    turn = 0

    def between(self):
        self.turn += 1
        self.ask(b"SET key%d value\r\n" % self.turn, b"+OK")

    def after(self):
        values = b"$5\r\nvalue\r\n" * 3
        self.ask(b"MGET key key1 key2\r\n", values, values)


class Memcached(Server):
    port = 7002

    def argv(self):
        return ["memcached", "-u", "root", "-l", "127.0.0.1", "-p", str(self.port)]

    def before(self):
        self.ask(b"set key 0 0 5\r\nvalue\r\n", b"STORED")

    def after(self):
        self.ask(b"get key\r\n", b"value", b"END\r\n")


class Http(Server):
    wanted = b"200 OK"
    path = "/"

    def before(self):
        self.http_get(self.wanted, self.path)

    after = before


class Nginx(Http):
    """Master and two workers."""
    port = 7003
    wanted = b"kept by nginx"

    def prepare(self):
        (self.dir / "index.html").write_text("kept by nginx\n")
        (self.dir / "nginx.conf").write_text(f"""
            user root; daemon off; worker_processes 2; pid {self.dir}/pid;
            events {{}}
            http {{ access_log {self.dir}/access.log; client_body_temp_path {self.dir};
                    keepalive_timeout 1h; keepalive_requests 1000;
                    server {{ listen 127.0.0.1:{self.port}; root {self.dir}; }} }}""")

    def argv(self):
        return ["nginx", "-p", self.dir, "-e", self.dir / "error.log", "-c",
                self.dir / "nginx.conf"]


class Node(Http):
    port = 7004
    wanted = b"request"

    def argv(self):
        return ["node", "-e", "let n = 0; require('http').createServer({keepAliveTimeout: 3.6e6},"
                "(q, a) => a.end(`request ${++n}`)).listen(%d, '127.0.0.1')" % self.port]

    def after(self):
        self.http_get(b"request 2")


class Python(Server):
    """asyncio with threads: epoll, a socketpair, futexes."""
    port = 7005
    program = """
import asyncio, threading, time
n = 0
def tick():
    global n
    while True:
        time.sleep(0.01)
        n += 1
for _ in range(3):
    threading.Thread(target=tick, daemon=True).start()
async def serve(r, w):
    kept = []
    while line := await r.readline():
        before = n
        while n < before + 3:
            await asyncio.sleep(0.01)
        kept.append(line.strip())
        w.write(b" ".join(kept) + b"\\n")
async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", %d) as s:
        await s.serve_forever()
asyncio.run(main())
"""

    def argv(self):
        return ["python3", "-c", self.program % self.port]

    def before(self):
        self.ask(b"one\n", b"one\n")

    def after(self):
        self.ask(b"two\n", b"one two\n")


class Go(Http):
    """Debian's prometheus-node-exporter: Go's runtime with its threads, signals and netpoller."""
    port = 7006
    path = "/metrics"
    wanted = b"go_goroutines"

    def argv(self):
        return ["prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{self.port}",
                "--collector.disable-defaults", "--collector.loadavg", "--collector.time"]


class Java(Http):
    """The JDK's own file server: JIT, garbage collector, two dozen threads."""
    port = 7007
    wanted = b"kept by java"

    def prepare(self):
        (self.dir / "index.html").write_text("kept by java\n")

    def argv(self):
        return ["java", "-Xmx64m", "-m", "jdk.httpserver", "-b", "127.0.0.1", "-p",
                str(self.port), "-d", self.dir]


class Postgres(Server):
    """Six processes with System V and POSIX shared memory, in an IPC namespace of their own."""
    port = 7008

    def prepare(self):
        self.bin = max(Path("/usr/lib/postgresql").iterdir()) / "bin"
        subprocess.run(["chown", "postgres", self.dir], check=True)
        self.as_user([self.bin / "initdb", "-D", self.dir / "data", "-A", "trust", "-N"])

    def as_user(self, argv):
        done = subprocess.run(["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups",
                               *argv], capture_output=True, text=True, cwd=self.dir, check=False)
        if done.returncode:
            raise Failure(f"{argv[0]}: {done.stdout}{done.stderr}")

    def argv(self):
        return ["unshare", "--ipc", "setpriv", "--reuid=postgres", "--regid=postgres",
                "--clear-groups", self.bin / "postgres", "-D", self.dir / "data", "-p",
                str(self.port), "-k", self.dir]

    def answers(self):
        """It takes connections before it is ready for queries, and ends them."""
        if not super().answers():
            return False
        self.sock.sendall(startup_message("postgres"))
        answer = b""
        while data := self.sock.recv(65536):
            answer += data
            if pg_ready(answer):
                return True
        return False

    def before(self):
        self.query("create table kept (n int); insert into kept values (4711)", b"INSERT")
        self.query("begin; update kept set n = n + 1", b"UPDATE")

    def after(self):
        self.query("select n from kept", b"4712")

    def query(self, sql, wanted):
        text = sql.encode() + b"\0"
        answer = self.talk(b"Q" + (len(text) + 4).to_bytes(4, "big") + text, pg_ready)
        if wanted not in answer:
            raise Failure(f"{sql} is answered {answer!r}")


def startup_message(user):
    text = (196608).to_bytes(4, "big") + b"user\0" + user.encode() + b"\0\0"
    return (len(text) + 4).to_bytes(4, "big") + text


def pg_ready(answer):
    """ReadyForQuery, and nothing behind it."""
    return answer[-6:-1] == b"Z\0\0\0\5"


class TwoTrees(Program):
    """Two roots in one set of images. The last -t, which is all CRIU takes, is the first one's."""

    def start(self):
        self.spawn(["sleep", "100000"])
        self.other = subprocess.Popen(["sleep", "100000"], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                      start_new_session=True)

    def roots(self):
        return [self.other.pid, self.pid]

    def before(self):
        pass

    def after(self):
        if self.other.poll() is None:
            raise Failure("the other tree was not dumped")
        if not is_alive(self.other.pid):
            raise Failure("the other tree is not there")


# tests/live/make/NAME.c, without those that want the machine for themselves, that need io_uring, or
# whose objects of the host's namespaces are there whether an engine saves them or not.
MAKERS = """
aios altstack cow creds creds_no_new_privs epolls eventfds fd_sharing fifos files_link_remap
files_mntns files_regular files_unlinked fowns hugepages inotifies itimers locks main_ended memfds
memfds_huge memory memory_state mqueues multicast names netlinks ns_cgroup ns_cgroupns ns_clock
ns_ipc ns_links ns_net ns_sandbox ns_tree nsfiles packets pidfds pipes posix_sems posix_timers prctl
pty_session ptys ptys_own rlimits robust_list rseq sched seccomp seccomp_privileged seccomp_strict
seccomp_tsync sigactions signalfds sigpending sk_cgroup sock_timeouts stopped sysv_shm tcp_handshake tcp_listen
tcp_peer tcp_states threads timerfds timers_late udp_sockets unix_external unix_named unix_pairs
unix_peercred waits
""".split()
# Each wants the pseudo terminals' numbers that the others had before it.
ONE_BY_ONE = {"pty_session", "ptys", "ptys_own"}
HUGE_PAGES = 64     # what hugepages and memfds_huge want, both at a time
# What a maker leaves out (maker_is_plain()) because CRIU cannot bring it back: measured with CRIU
# on both sides.
PLAIN = {
    "cow": "without a look at what is shared, which was not all once after CRIU",
    "creds": "without SECBIT_NO_CAP_AMBIENT_RAISE, which CRIU sets too early",
    "creds_no_new_privs": "without SECBIT_NO_CAP_AMBIENT_RAISE",
    "eventfds": "without EFD_SEMAPHORE and counters beyond 32 bits",
    "files_regular": "without O_DIRECTORY, which CRIU drops",
    "files_unlinked": "without files in a removed directory, extended attributes, O_TMPFILE",
    "fowns": "without threads as owners",
    "hugepages": "without a removed file on hugetlbfs",
    "inotifies": "without IN_ONESHOT, which CRIU drops",
    "memfds": "without a program that runs from one",
    "netlinks": "without NETLINK_EXT_ACK, which CRIU drops",
    "ns_cgroupns": "without a mount of cgroup2 inside",
    "ns_ipc": "without a mount of mqueue inside, POSIX message queues, segments of huge pages and SHM_LOCK",
    "ns_links": "without a dummy device, settings of bridge and ports, queue lengths, neighbours, the order "
                "of routes",
    "ns_net": "without a mount of sysfs inside, sockets of the namespace outside, the packet filter, "
              "routes of other tables than main, rules of IPv6, and settings",
    "prctl": "without PR_SET_MEMORY_MERGE and PR_THP_DISABLE_EXCEPT_ADVISED, which CRIU drops",
    "ptys": "without speeds, TIOCEXCL, output processing, canonical input, packet mode, hung up ones",
    "sched": "without a thread's processors, which CRIU drops",
    "sigactions": "without an ignored SIGTRAP, which CRIU's dump resets",
    "sock_timeouts": "calls may end with EINTR, without a connection that nobody has accepted",
    "tcp_listen": "without Multipath TCP, and options that CRIU drops (TCP_DEFER_ACCEPT, "
                  "TCP_FASTOPEN, TCP_USER_TIMEOUT, SO_LINGER, IPV6_TCLASS)",
    "tcp_states": "without the errors of reset and refused connections, TCP_USER_TIMEOUT, TCP_MAXSEG",
    "threads": "poll and epoll_wait may end with EINTR, a sleep may begin anew",
    "timerfds": "of a periodic timer's unread ticks CRIU sees one; without alarm clocks",
    "udp_sockets": "without connected raw sockets, SO_PEEK_OFF, IP_RECVERR, IP_MULTICAST_TTL, "
                   "IPV6_UNICAST_HOPS",
    "unix_named": "without the names of connected sockets, which CRIU drops",
    "unix_pairs": "without SO_PEEK_OFF, empty datagrams and bytes in front of passed descriptors",
    "waits": "epoll_wait may end with EINTR",
}
# Mounts that come from outside the tree's namespace, which cr finds out by itself; semaphores
# whose names are removed, which for CRIU are files that have lost theirs.
EXTRA = {name: ["--external", "mnt[]:ms"] for name in ("files_mntns", "ns_sandbox", "ns_tree")}
EXTRA["posix_sems"] = ["--link-remap"]
SERVERS = {"redis": Redis, "redis_pre_dumped": RedisPreDumped, "memcached": Memcached,
           "nginx": Nginx, "node": Node, "python": Python, "go": Go, "java": Java,
           "postgres": Postgres}
PROGRAMS = SERVERS | {"two_trees": TwoTrees}
