"""Clients of redis: one that counts, one that never stops sending, idle and blocked ones."""

import hashlib
import threading
import time

from .base import Client

PORT = 6379


class Resp:
    """Redis' protocol on one connection."""

    def __init__(self, sock):
        self.sock = sock
        self._buffer = b""

    @staticmethod
    def encode(*words):
        words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)

    def _fill(self):
        data = self.sock.recv(1 << 16)
        if not data:
            raise ConnectionError("the guest closed the connection")
        self._buffer += data

    def _line(self):
        while b"\r\n" not in self._buffer:
            self._fill()
        line, self._buffer = self._buffer.split(b"\r\n", 1)
        return line

    def _bytes(self, n):
        while len(self._buffer) < n + 2:
            self._fill()
        data, self._buffer = self._buffer[:n], self._buffer[n + 2:]
        return data

    def read(self):
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._bytes(int(rest))
        if kind == b"*":
            return None if rest == b"-1" else [self.read() for _ in range(int(rest))]
        raise ValueError(f"redis answered {line!r}")

    def command(self, *words):
        self.sock.sendall(self.encode(*words))
        return self.read()


class RedisClient(Client):
    service = "redis-server"

    def key(self, what):
        return f"crk:{self.name.replace(' ', '-')}:{what}"

    def request(self, resp, *words):
        self.result.sent += 1
        reply = resp.command(*words)
        self.result.answered += 1
        self.answer_came()
        return reply


class RedisCounter(RedisClient):
    """Writes all the time on one connection; afterwards every acknowledged write must be there."""

    period = 0.004

    def __init__(self, *args):
        super().__init__(*args)
        self.count = 0          # acknowledged INCRs
        self.written = 0        # acknowledged SETs
        self.resp = None

    @staticmethod
    def value(n):
        return hashlib.md5(b"%d" % n).hexdigest().encode()

    def work(self):
        self.resp = Resp(self.connect(PORT))
        while not self.ending.wait(self.period):
            if self.count <= self.written:
                reply = self.request(self.resp, "INCR", self.key("count"))
                if reply != self.count + 1:
                    raise ValueError(f"INCR gave {reply} after {self.count}")
                self.count += 1
            else:
                reply = self.request(self.resp, "SET", self.key(self.written),
                                     self.value(self.written))
                if reply != b"OK":
                    raise ValueError(f"SET gave {reply!r}")
                self.written += 1
            self.ready.set()

    def verify(self):
        """On the same connection, and on a new one."""
        self._verify_on(self.resp, "the old connection")
        kept = self.sockets[:]
        self._verify_on(Resp(self.connect(PORT)), "a new connection")
        self.sockets.pop().close()
        assert self.sockets == kept
        self.result.details["writes"] = self.count + self.written

    def _verify_on(self, resp, where):
        count = resp.command("GET", self.key("count"))
        if count != b"%d" % self.count:
            self.result.error(f"{where}: the counter is {count!r}, {self.count} were acknowledged")
        for first in range(0, self.written, 500):
            numbers = range(first, min(first + 500, self.written))
            values = resp.command("MGET", *(self.key(n) for n in numbers))
            for n, value in zip(numbers, values):
                if value != self.value(n):
                    self.result.error(f"{where}: acknowledged write {n} reads {value!r}")


class RedisSender(RedisClient):
    """Never waits for answers: data is under way at every moment, and sent again by TCP until
    the guest is back.  The stream must arrive exactly: nothing lost, doubled or moved."""

    period = 0.005

    def __init__(self, *args):
        super().__init__(*args)
        self.stream = hashlib.sha256()
        self.stream_bytes = 0
        self.expected = []      # length of the string after each command
        self.in_flight = 0      # most at any time
        self.writer_error = None
        self.all_sent = threading.Event()
        self.resp = None

    def _write(self, sock):
        try:
            while not self.ending.wait(self.period):
                n = self.result.sent
                chunk = b"%08d" % n + hashlib.sha512(b"%d" % n).digest()
                self.stream.update(chunk)
                self.stream_bytes += len(chunk)
                self.expected.append(self.stream_bytes)
                self.result.sent += 1
                self.in_flight = max(self.in_flight, self.result.sent - self.result.answered)
                sock.sendall(Resp.encode("APPEND", self.key("stream"), chunk))
        except OSError as e:
            self.writer_error = f"sending: {e}"
        finally:
            self.all_sent.set()

    def work(self):
        sock = self.connect(PORT)
        self.probe_when_idle(sock)
        self.resp = Resp(sock)
        writer = threading.Thread(target=self._write, args=(sock,), daemon=True)
        writer.start()
        while True:
            # Waits for an answer only while one is owed: the writer may end at any moment.
            if self.result.answered == self.result.sent:
                if self.all_sent.wait(self.period) and self.result.answered == self.result.sent:
                    break
                continue
            reply = self.resp.read()
            expected = self.expected[self.result.answered]
            if reply != expected:
                raise ValueError(f"answer {self.result.answered}: length {reply}, not {expected}")
            self.result.answered += 1
            self.answer_came()
            self.ready.set()
            if self.writer_error:
                raise ConnectionError(self.writer_error)
        writer.join()

    def verify(self):
        value = self.resp.command("GET", self.key("stream"))
        if hashlib.sha256(value or b"").digest() != self.stream.digest():
            self.result.error(f"redis has {len(value or b'')} bytes that differ from the "
                              f"{self.stream_bytes} sent")
        self.result.details.update(bytes=self.stream_bytes, in_flight_at_most=self.in_flight)


class RedisIdle(RedisClient):
    """A connection on which nothing happens but TCP's keepalive probes."""

    idle = True

    def work(self):
        sock = self.connect(PORT)
        self.probe_when_idle(sock)
        self.resp = Resp(sock)
        self._ping()
        self.ready.set()
        self.ending.wait()

    def _ping(self):
        reply = self.request(self.resp, "PING")
        if reply != b"PONG":
            raise ValueError(f"PING gave {reply!r}")

    def verify(self):
        self._ping()
        # There was nothing to answer in between.
        self.result.gap = 0.0


class RedisBlocked(RedisClient):
    """Waits in BLPOP with a time limit, again and again: the one that was under way over the
    jump must end when its time is over, by the clock of redis that goes on. Of one such client
    the jump may come just between two rounds."""

    # redis counts by the wall clock, which an emulated machine without an invariant TSC sets from
    # its RTC: whole seconds.
    early = 1.3
    late = 6.0          # redis looks ten times a second; busy machines are slow

    def __init__(self, vm, name, limit):
        super().__init__(vm, name)
        self.limit = limit      # seconds
        self.rounds = []        # (begin, end), monotonic

    def work(self):
        resp = Resp(self.connect(PORT))
        while not self.ending.is_set():
            begin = time.monotonic()
            resp.sock.sendall(Resp.encode("BLPOP", self.key("none"), self.limit))
            self.result.sent += 1
            self.ready.set()
            reply = resp.read()
            self.result.answered += 1
            self.rounds.append((begin, time.monotonic()))
            if reply is not None:
                raise ValueError(f"BLPOP gave {reply!r}")

    def verify(self):
        self.result.details["took"] = [round(end - begin, 2) for begin, end in self.rounds]

    def check_times(self, back_at=0.0):
        """back_at: when redis answered again. No round may end early, or late without reason."""
        for begin, end in self.rounds:
            due = begin + self.limit
            if end < due - self.early:
                self.result.error(f"BLPOP {self.limit} ended after {end - begin:.2f} s")
            # A limit that passed in the blackout is noticed right after it.
            due = max(due, back_at if begin < back_at else 0)
            if end > due + self.late:
                self.result.error(f"BLPOP {self.limit} ended {end - due:.2f} s late")
