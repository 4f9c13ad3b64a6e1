"""Clients outside the guest: they load its services through an upgrade and tell what it cost.

    load = Load(vm)                     # one client of each kind, IPv4 and IPv6
    load.start()
    …the upgrade…                       # load.touch() shortly before the freeze
    for result in load.finish():        # everything acknowledged is read back
        assert result.ok, result.errors

Each client is a thread with a socket of the VM's network namespace.  Requests are counted as
sent, answered and lost; the longest time without an answer is the pause a client sees.
"""

import time

from .base import PATIENCE, Client, Result
from .connect import NewConnections, Prober
from .postgres import PgCounter, PgOpen
from .redis import RedisBlocked, RedisCounter, RedisIdle, RedisSender
from .web import KeepAlive, SlowDownload

__all__ = ["Client", "Result", "Load", "NewConnections", "PgCounter", "PgOpen", "Prober",
           "RedisBlocked", "RedisCounter",
           "RedisIdle", "RedisSender", "KeepAlive", "SlowDownload"]

V6 = "fd77::2"


class Load:
    """A set of clients that start and end together."""

    def __init__(self, vm, services=("redis-server", "nginx"), only=None):
        """only: names of clients, if not all of the services' are wanted."""
        self.clients = []
        if "redis-server" in services:
            self.clients += [
                RedisCounter(vm, "redis counter"),
                RedisCounter(vm, "redis counter v6", V6),
                RedisSender(vm, "redis sender"),
                RedisSender(vm, "redis sender v6", V6),
                RedisIdle(vm, "redis idle"),
                RedisIdle(vm, "redis idle v6", V6),
                RedisBlocked(vm, "redis BLPOP 30", 30),
                RedisBlocked(vm, "redis BLPOP 25", 25),
                NewConnections(vm, "redis new", "redis"),
            ]
        if "postgresql" in services:
            self.clients += [
                PgCounter(vm, "postgres counter"),
                PgCounter(vm, "postgres counter v6", V6),
                PgOpen(vm, "postgres transaction"),
            ]
        if "nginx" in services:
            self.clients += [
                SlowDownload(vm, "nginx download"),
                SlowDownload(vm, "nginx download v6", V6),
                KeepAlive(vm, "nginx keep-alive"),
                KeepAlive(vm, "nginx keep-alive v6", V6),
                NewConnections(vm, "nginx new", "nginx"),
                NewConnections(vm, "nginx new v6", "nginx", V6),
            ]
        if only is not None:
            self.clients = [c for c in self.clients if c.name in only]

    def __getitem__(self, name):
        return next(c for c in self.clients if c.name == name)

    def start(self):
        for client in self.clients:
            client.begin()

    def touch(self):
        """The last moment before the freeze: what waits idly shows that it still works."""
        for client in self.clients:
            client.touch()

    def finish(self):
        """Ends all clients and verifies; their results in the order of the clients."""
        for client in self.clients:
            client.ask_to_end()
        # One limit for all: a guest that is lost should not cost it for each client.
        deadline = time.monotonic() + PATIENCE
        # Idle ones first: nginx closes them when they wait for others' troubles.
        for client in sorted(self.clients, key=lambda c: not c.idle):
            client.finish(deadline)
        return [client.result for client in self.clients]

    def abandon(self):
        """Ends all clients without a word about what they found."""
        for client in self.clients:
            client.abandon()
