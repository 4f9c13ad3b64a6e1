"""New connections: tried all the time, also while nobody is there to answer.

NewConnections leaves the repeating to TCP, as any client does: every attempt must end in an
answer.  Prober measures: it gives up soon and tries again, so its pause is the service's and not
that of a doubled retransmission timer; it is the same for a kexec with lost connections.
"""

import errno
import os
import selectors
import socket
import time

from .base import PATIENCE, Client

PROTOCOLS = {
    "redis": (6379, "redis-server", b"PING\r\n", b"+PONG\r\n"),
    "nginx": (80, "nginx", b"GET /index.html HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n",
              b"crkexec test guest\n"),
}


class Attempt:
    def __init__(self, sock):
        self.sock, self.begin = sock, time.monotonic()
        self.asked = False
        self.answer = b""


class Connector(Client):
    """The loop: starts attempts, sends when connected, reads the answer."""

    period = 0.25
    give_up = None

    def __init__(self, vm, name, protocol, *address):
        self.port, self.service, self.question, self.expected = PROTOCOLS[protocol]
        super().__init__(vm, name, *address)
        self.attempts = {}
        self.selector = selectors.DefaultSelector()
        self.latencies = []

    def done(self, attempt, error):
        """One attempt is over; error is None or a text."""
        raise NotImplementedError

    def _start(self):
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        sock = self.vm.client_socket(family)
        sock.setblocking(False)
        attempt = Attempt(sock)
        self.attempts[sock] = attempt
        self.result.sent += 1
        code = sock.connect_ex((self.address, self.port))
        if code not in (0, errno.EINPROGRESS):
            self._end(attempt, os.strerror(code))
            return
        self.selector.register(sock, selectors.EVENT_WRITE, attempt)

    def _end(self, attempt, error):
        try:
            self.selector.unregister(attempt.sock)
        except KeyError:
            pass
        del self.attempts[attempt.sock]
        attempt.sock.close()
        self.done(attempt, error)

    def _ready(self, attempt):
        try:
            if not attempt.asked:
                code = attempt.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, os.strerror(code))
                attempt.sock.send(self.question)
                attempt.asked = True
                self.selector.modify(attempt.sock, selectors.EVENT_READ, attempt)
                return
            data = attempt.sock.recv(4096)
        except OSError as e:
            self._end(attempt, e.strerror or str(e))
            return
        attempt.answer += data
        if attempt.answer.endswith(self.expected):
            self.latencies.append(time.monotonic() - attempt.begin)
            self._end(attempt, None)
        elif not data:
            self._end(attempt, f"closed after {len(attempt.answer)} bytes of answer")

    def _expire(self, now):
        limit = self.give_up or PATIENCE
        for attempt in [a for a in self.attempts.values() if now - a.begin > limit]:
            self._end(attempt, f"no answer within {limit:.0f} s")

    def work(self):
        next_start = time.monotonic()
        while not self.ending.is_set() or self.attempts:
            now = time.monotonic()
            if now >= next_start and not self.ending.is_set():
                self._start()
                # No burst after a pause of our own.
                next_start = max(next_start + self.period, now)
            self._expire(now)
            for key, _ in self.selector.select(max(0.0, min(next_start - now, self.period))
                                               if not self.ending.is_set() else self.period):
                self._ready(key.data)
        self.selector.close()


class NewConnections(Connector):
    def done(self, attempt, error):
        self.result.connections += 1
        if error:
            self.result.error(f"attempt {self.result.connections}: {error}")
            return
        self.result.kept += 1
        self.result.answered += 1
        self.answer_came()
        self.ready.set()

    def verify(self):
        self.result.details["longest_attempt"] = round(max(self.latencies), 3)


class Prober(Connector):
    """For figures only: failed attempts are no errors."""

    period = 0.05
    give_up = 1.0

    def done(self, attempt, error):
        if error:
            self.result.sent -= 1
            return
        self.result.connections += 1
        self.result.kept += 1
        self.result.answered += 1
        self.answer_came()
        self.ready.set()

    def forget(self):
        """A new measurement begins."""
        self.result.gap = 0.0

    def answers_since(self, when):
        return self._last is not None and self._last > when
