"""Clients of nginx: a slow download in the middle of which the kernel changes, and a connection
that is idle meanwhile."""

import hashlib
import socket
import time

import vm_image

from .base import Client

PORT = 80
_digest = None


def big_file_digest():
    global _digest
    if _digest is None:
        _digest = hashlib.sha256(vm_image.big_file()).digest()
    return _digest


class WebClient(Client):
    service = "nginx"

    def ask(self, sock, path):
        self.result.sent += 1
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: guest\r\n\r\n".encode())

    def read_head(self, sock):
        """Reads an answer's head; returns its Content-Length and what followed the head."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = sock.recv(4096)
            if not more:
                raise ConnectionError("the guest closed the connection")
            data += more
        head, body = data.split(b"\r\n\r\n", 1)
        status, *fields = head.decode("latin-1").split("\r\n")
        if status.split(" ")[1] != "200":
            raise ValueError(f"nginx answered {status}")
        lengths = [f.split(":")[1] for f in fields if f.lower().startswith("content-length:")]
        return int(lengths[0]), body

    def get_small(self, sock):
        self.ask(sock, "/index.html")
        length, body = self.read_head(sock)
        while len(body) < length:
            more = sock.recv(4096)
            if not more:
                raise ConnectionError("the guest closed the connection")
            body += more
        if body != b"crkexec test guest\n":
            raise ValueError(f"nginx sent {body!r}")
        self.result.answered += 1
        self.answer_came()


class SlowDownload(WebClient):
    """Reads /big.bin slowly through a small receive buffer, so that the guest's send queue is
    full all the time; at full speed when asked to end."""

    bytes_per_second = 160_000
    piece = 8192

    def __init__(self, *args):
        super().__init__(*args)
        self.received = 0
        self.at_end_request = None

    def work(self):
        sock = self.connect(PORT, receive_buffer=16384)
        self.ask(sock, "/big.bin")
        length, body = self.read_head(sock)
        if length != vm_image.BIG_FILE_BYTES:
            raise ValueError(f"Content-Length is {length}")
        digest = hashlib.sha256(body)
        self.received = len(body)
        while self.received < length:
            data = sock.recv(min(self.piece, length - self.received))
            if not data:
                raise ConnectionError(f"the guest closed the connection after {self.received} "
                                      f"of {length} bytes")
            digest.update(data)
            self.received += len(data)
            self.answer_came()
            self.ready.set()
            if self.at_end_request is None and self.ending.wait(len(data) / self.bytes_per_second):
                self._hurry(sock)
        self.result.answered += 1
        if self.at_end_request is None:
            raise ValueError("the download was over before the upgrade was")
        if digest.digest() != big_file_digest():
            raise ValueError("checksum of the download is wrong")
        # The connection is in order after the last byte, too.
        self.get_small(sock)
        self.result.details.update(bytes=self.received, bytes_before_the_end=self.at_end_request)

    def _hurry(self, sock):
        self.at_end_request = self.received
        self.piece = 1 << 18
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)


class KeepAlive(WebClient):
    """A connection used before and after, and idle (but for TCP's probes) in between. nginx
    closes such a connection after 600 s, by its own clock."""

    idle = True

    def work(self):
        self.sock = self.connect(PORT)
        self.probe_when_idle(self.sock)
        self.get_small(self.sock)
        self.ready.set()
        self.ending.wait()

    def touch(self):
        self.get_small(self.sock)
        self.used_at = time.monotonic()

    def verify(self):
        self.get_small(self.sock)
        self.result.gap = 0.0
