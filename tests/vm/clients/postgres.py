"""A client of PostgreSQL: inserts rows all the time on one connection."""

import struct

from .base import Client

PORT = 5432


class PgError(Exception):
    """What the server answered instead of a result."""


class Wire:
    """PostgreSQL's protocol 3.0 on one connection: simple queries, no password."""

    def __init__(self, sock, user="postgres", database="postgres"):
        self.sock = sock
        self._buffer = b""
        words = ["user", user, "database", database, ""]
        body = struct.pack("!I", 3 << 16) + b"\0".join(w.encode() for w in words) + b"\0"
        sock.sendall(struct.pack("!I", len(body) + 4) + body)
        self._until_ready()

    def _bytes(self, n):
        while len(self._buffer) < n:
            data = self.sock.recv(1 << 16)
            if not data:
                raise ConnectionError("the guest closed the connection")
            self._buffer += data
        data, self._buffer = self._buffer[:n], self._buffer[n:]
        return data

    def _until_ready(self):
        """The rows of one query, as lists of texts."""
        rows, error = [], None
        while True:
            kind, size = struct.unpack("!cI", self._bytes(5))
            body = self._bytes(size - 4)
            if kind == b"Z":
                if error:
                    raise PgError(error)
                return rows
            if kind == b"E":
                error = body.replace(b"\0", b" ").decode(errors="replace")
            elif kind == b"D":
                rows.append(self._row(body))

    @staticmethod
    def _row(body):
        (n,), at, row = struct.unpack("!H", body[:2]), 2, []
        for _ in range(n):
            (size,) = struct.unpack("!i", body[at:at + 4])
            at += 4
            row.append(None if size < 0 else body[at:at + size].decode())
            at += max(size, 0)
        return row

    def query(self, text):
        body = text.encode() + b"\0"
        self.sock.sendall(b"Q" + struct.pack("!I", len(body) + 4) + body)
        return self._until_ready()


class PgClient(Client):
    service = "postgresql"

    def request(self, wire, text):
        self.result.sent += 1
        rows = wire.query(text)
        self.result.answered += 1
        self.answer_came()
        return rows


class PgCounter(PgClient):
    """One INSERT, one transaction; afterwards every acknowledged one must be there."""

    period = 0.02

    def work(self):
        self.table = "crk_" + self.name.replace(" ", "_")
        self.count = 0
        self.wire = Wire(self.connect(PORT))
        self.wire.query(f"CREATE TABLE {self.table} (n integer PRIMARY KEY)")
        self.pid = self.wire.query("SELECT pg_backend_pid()")
        while not self.ending.wait(self.period):
            self.request(self.wire, f"INSERT INTO {self.table} VALUES ({self.count})")
            self.count += 1
            self.ready.set()

    def verify(self):
        wanted = [[str(self.count), str(self.count - 1)]]
        for wire, what in ((self.wire, "the old connection"),
                           (Wire(self.connect(PORT)), "a new connection")):
            found = wire.query(f"SELECT count(*), max(n) FROM {self.table}")
            if found != wanted:
                raise ValueError(f"on {what}: {found} rows, acknowledged were {wanted}")
        if self.wire.query("SELECT pg_backend_pid()") != self.pid:
            raise ValueError("another process answers on the old connection")
        self.sockets.pop().close()


class PgOpen(PgClient):
    """A transaction that is open meanwhile, with a lock, a cursor, a temporary table and a prepared
    statement: all of it lives in the backend's memory only."""

    idle = True

    def work(self):
        self.wire = Wire(self.connect(PORT))
        for text in ("CREATE TABLE crk_open (n integer)", "CREATE TEMPORARY TABLE mine (n integer)",
                     "PREPARE twice(integer) AS SELECT $1 * 2",
                     "BEGIN", "LOCK TABLE crk_open IN EXCLUSIVE MODE",
                     "INSERT INTO crk_open VALUES (1)", "INSERT INTO mine VALUES (7)",
                     "DECLARE c CURSOR FOR SELECT generate_series(1, 1000)"):
            self.request(self.wire, text)
        self.seen = self.request(self.wire, "FETCH 10 FROM c")
        self.ready.set()
        self.ending.wait()
        rest = self.request(self.wire, "FETCH 990 FROM c")
        if [int(n) for n, in self.seen + rest] != list(range(1, 1001)):
            raise ValueError("the cursor went on somewhere else")
        for text, wanted in (("SELECT n FROM mine", [["7"]]), ("EXECUTE twice(21)", [["42"]]),
                             ("COMMIT", []), ("SELECT n FROM crk_open", [["1"]])):
            found = self.request(self.wire, text)
            if found != wanted:
                raise ValueError(f"{text}: {found}, not {wanted}")
