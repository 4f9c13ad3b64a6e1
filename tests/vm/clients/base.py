"""What all clients share: life, counting, the longest pause.

The trap: a client never reconnects behind the test's back.  Any error of its connection is its
result, and the connection counts as not kept.
"""

import os
import socket
import threading
import time
from dataclasses import dataclass, field

GUEST_V4 = "10.77.0.2"
# How long one answer may take: a blackout, and the peer's doubled retransmission after it.
PATIENCE = 180 * float(os.environ.get("CRK_VM_TIMEOUT_SCALE", "1"))


@dataclass
class Result:
    name: str
    service: str
    connections: int = 0        # opened
    kept: int = 0               # of them, those never reset or closed by the guest
    sent: int = 0               # requests
    answered: int = 0
    gap: float = 0.0            # longest time without an answer, in seconds
    gap_end: float = 0.0        # when it was over, monotonic time of this machine
    errors: list = field(default_factory=list)
    details: dict = field(default_factory=dict)

    @property
    def lost(self):
        return self.sent - self.answered

    @property
    def ok(self):
        return not self.errors and self.lost == 0 and self.kept == self.connections > 0

    def error(self, text):
        if len(self.errors) < 10:
            self.errors.append(text)

    def as_json(self):
        return {**self.__dict__, "lost": self.lost, "ok": self.ok}


class Client:
    service = None      # name of the unit
    idle = False        # nothing happens on its connection meanwhile

    def __init__(self, vm, name, address=GUEST_V4):
        self.vm, self.name, self.address = vm, name, address
        self.result = Result(name, self.service)
        self.ready = threading.Event()
        self.ending = threading.Event()
        self.sockets = []
        self._last = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    # --- what a kind of client defines --------------------------------------------------

    def work(self):
        """The thread: calls self.ready.set() when it is under way, returns after self.ending."""
        raise NotImplementedError

    def touch(self):
        """Called shortly before the freeze."""

    def verify(self):
        """After work() has returned: is everything there?"""

    # --- life ---------------------------------------------------------------------------

    def begin(self, timeout=60):
        self._thread.start()
        if not self.ready.wait(timeout) or self.result.errors:
            raise RuntimeError(f"client {self.name} did not start: {self.result.errors}")

    def _run(self):
        try:
            self.work()
        except Exception as e:          # whatever it is, it is this client's result
            self.result.error(f"{type(e).__name__}: {e}")
        finally:
            self.ready.set()

    def ask_to_end(self):
        self.ending.set()

    def finish(self, deadline=None):
        """Its result; deadline: monotonic time until which it may wait for answers."""
        self.ending.set()
        limit = PATIENCE if deadline is None else max(1, deadline - time.monotonic())
        self._thread.join(limit)
        if self._thread.is_alive():
            self.result.error(f"still waits for an answer: {self.result.answered} of "
                              f"{self.result.sent}")
        elif not self.result.errors:
            try:
                self.verify()
            except Exception as e:
                self.result.error(f"when verifying: {type(e).__name__}: {e}")
        self._count_kept()
        self.abandon()
        return self.result

    def _count_kept(self):
        if self.result.connections == 0:
            self.result.connections = len(self.sockets)
            self.result.kept = 0 if self.result.errors else len(self.sockets)

    def abandon(self):
        self.ending.set()
        for sock in self.sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()
        if self._thread.ident:
            self._thread.join(10)

    # --- for work() -----------------------------------------------------------------------

    def connect(self, port, receive_buffer=None):
        """The connection that has to survive."""
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        sock = self.vm.client_socket(family)
        sock.settimeout(PATIENCE)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect((self.address, port))
        self.sockets.append(sock)
        return sock

    def answer_came(self):
        """Notes the time; the longest pause between two answers is kept."""
        now = time.monotonic()
        if self._last is not None and now - self._last > self.result.gap:
            self.result.gap, self.result.gap_end = now - self._last, now
        self._last = now

    def probe_when_idle(self, sock):
        """TCP keepalive every second: a guest that forgot the connection answers with a reset."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 120)
