"""A client of cr's RPC, as a container runtime is one: protobuf by hand, one message a packet."""
import os
import re
import socket
import subprocess
from pathlib import Path

from live import CR, ROOT, reap_orphans

EMPTY, DUMP, RESTORE, CHECK, PRE_DUMP, PAGE_SERVER, NOTIFY, CPUINFO_DUMP, CPUINFO_CHECK, \
    FEATURE_CHECK, VERSION, WAIT_PID, PAGE_SERVER_CHLD, SINGLE_PRE_DUMP = range(14)
PROTO = (ROOT / "cr/image/proto/rpc.proto").read_text()


def schema(message):
    body = re.search(rf"message {message} {{(.*?)\n}}", PROTO, re.S).group(1)
    return {name: (int(number), kind) for kind, name, number in
            re.findall(r"^\s*\w+ (\w+) (\w+) = (\d+)", body, re.M)}


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 0x7f:
        out.append(n & 0x7f | 0x80)
        n >>= 7
    return bytes(out + bytes([n]))


def encode(message, values):
    """{name: value or list of values}; nested messages are dictionaries."""
    out = b""
    fields = schema(message)
    for name, value in values.items():
        number, kind = fields[name]
        for v in value if isinstance(value, list) else [value]:
            if isinstance(v, dict):
                v = encode(kind, v)
            if isinstance(v, str):
                v = v.encode()
            if isinstance(v, bytes):
                out += varint(number << 3 | 2) + varint(len(v)) + v
            else:
                out += varint(number << 3) + varint(int(v))
    return out


def get_varint(data, at):
    n = shift = 0
    while True:
        n |= (data[at] & 0x7f) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return n, at


def decode(message, data):
    fields = {number: (name, kind) for name, (number, kind) in schema(message).items()}
    out, at = {}, 0
    while at < len(data):
        tag, at = get_varint(data, at)
        name, kind = fields[tag >> 3]
        n, at = get_varint(data, at)
        if tag & 7 == 2:
            raw, at = data[at:at + n], at + n
            n = raw.decode() if kind == "string" else decode(kind, raw)
        elif kind == "int32" and n >> 63:
            n -= 1 << 64
        out[name] = n
    return out


class Client:
    """A connection. refuse: events that are answered by false; more: opts of answers; hook: asked first.

    fds: descriptors that came with messages, ours to close."""
    def __init__(self, sock, process=None):
        self.sock = sock
        self.process = process
        self.sock.settimeout(60)
        self.events, self.refuse, self.more, self.fds = [], set(), {}, []
        self.hook = lambda event, pid: None

    def send(self, type, opts=None, **fields):
        if opts is not None:
            fields["opts"] = {"images_dir_fd": -1, **opts}
        self.sock.send(encode("criu_req", {"type": type, **fields}))

    def receive(self):
        """The next message; None: the other side has closed."""
        data, fds, _, _ = socket.recv_fds(self.sock, 1 << 16, 4)
        self.fds += fds
        return decode("criu_resp", data) if data else None

    def ask(self, type, opts=None, **fields):
        """The answer to a request; events are noted and answered meanwhile."""
        self.send(type, opts, **fields)
        while (r := self.receive()) and r["type"] == NOTIFY:
            name = r["notify"]["script"]
            self.events.append((name, r["notify"].get("pid")))
            self.hook(*self.events[-1])
            self.send(NOTIFY, self.more.get(name), notify_success=name not in self.refuse)
        return r

    def wait(self):
        self.sock.close()
        return self.process.wait(timeout=30)


def swrk(*options, **kw):
    """`cr swrk` as its own parent starts it."""
    reap_orphans()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.set_inheritable(theirs.fileno(), True)
    process = subprocess.Popen([CR, "swrk", str(theirs.fileno()), *options], stdin=subprocess.DEVNULL,
                               pass_fds=[theirs.fileno(), *kw.pop("pass_fds", ())], **kw)
    theirs.close()
    return Client(ours, process)


def places(images: Path, **more):
    """Options of a dump or restore, as runtimes give directories: by a number of ours."""
    fd = os.open(images, os.O_RDONLY | os.O_DIRECTORY)
    return {"images_dir_fd": fd, "log_level": 4, "log_file": "rpc.log", **more}
