#!/usr/bin/python3
"""A small service behind `doorward handoff`: keys and values that its clients set, read and watch.

    doorward handoff --bind /run/watch.sock --mode 0666 watch.py        started by doorward
    watch.py --listen /run/backend.sock                                 listening: doorward handoff --backend /run/backend.sock

The commands, events and bounds are those of ../README.md. Each client has a thread: who sends nothing or reads nothing keeps
its own waiting, and nobody else's.
"""

import argparse
import errno
import fcntl
import os
import pwd
import resource
import signal
import socket
import struct
import sys
import termios
import threading
import time

from doorward_backend import Backend, Dropped, Listener, ready

LONGEST_LINE = 4096
LONGEST_KEY = 64
KEYS_PER_USER = 1000
MOST_WATCHED = 64
GROUPS_SHOWN = 32
# How often to look whether a client has read what it was sent; only those that leave are looked at.
PAUSE = 0.05


class Refused(Exception):
    """The client's answer, after `error`."""


class Store:
    """Keys, values, whose they are, and who watches them. Every method may be called by any thread."""

    def __init__(self):
        self._lock = threading.Lock()
        self._entries = {}  # key: (value, owner)
        self._counts = {}  # owner: keys
        self._watchers = {}  # key: clients

    def get(self, key):
        with self._lock:
            return self._entries.get(key, (None, None))[0]

    def set(self, key, value, user):
        with self._lock:
            owner = self._entries.get(key, (None, None))[1]
            if owner is None:
                if self._counts.get(user, 0) >= KEYS_PER_USER:
                    raise Refused("too many keys")
                self._counts[user] = self._counts.get(user, 0) + 1
                owner = user
            elif user not in (0, owner):
                raise Refused("not yours")
            self._entries[key] = (value, owner)
            # Under the lock, so that all see the changes of a key in one order; it never waits.
            for client in self._watchers.get(key, ()):
                client.tell(b"changed %s %d %s\n" % (key, user, value))

    def watch(self, key, client):
        with self._lock:
            if client.notify is None:
                raise Refused("no notification socket")
            if key not in client.watched and len(client.watched) >= MOST_WATCHED:
                raise Refused("too many watched")
            client.watched.add(key)
            self._watchers.setdefault(key, set()).add(client)

    def forget(self, client):
        with self._lock:
            for key in client.watched:
                self._watchers[key].discard(client)
                if not self._watchers[key]:
                    del self._watchers[key]


class Client:
    """One connection, for as long as it lasts."""

    def __init__(self, handoff, store):
        self._handoff, self._store = handoff, store
        self.notify = handoff.notify
        self.watched = set()
        self._lost = 0

    def serve(self):
        """To the end, whatever that is; then everything is closed."""
        try:
            self._greet()
            self._answer_lines()
            self._leave()
        except OSError:
            pass  # the client is gone
        finally:
            self._store.forget(self)
            self._handoff.close()

    def _greet(self):
        while True:
            try:
                return self._handoff.greet()
            except OSError as error:
                # Too many descriptors of this service's user are under way, until clients read theirs.
                if error.errno != errno.ETOOMANYREFS:
                    raise
            time.sleep(PAUSE)

    def _answer_lines(self):
        connection, said = self._handoff.connection, b""
        while True:
            line, newline, rest = said.partition(b"\n")
            if newline:
                said = rest
                answer, stay = self._answer(line)
                connection.sendall(answer + b"\n")
                if not stay:
                    return
            elif len(said) >= LONGEST_LINE:
                connection.sendall(b"error too long\n")
                return
            else:
                more = connection.recv(LONGEST_LINE - len(said))
                if not more:
                    return
                said += more

    def _answer(self, line):
        """The answer, and whether the client stays."""
        if line == b"quit":
            return b"ok", False
        try:
            return self._obey(line), True
        except Refused as why:
            return b"error " + str(why).encode(), True

    def _obey(self, line):
        if any(byte < 0x20 or byte == 0x7F for byte in line):
            raise Refused("control characters")
        command, *words = line.split(b" ", 2)
        if words and not is_key(words[0]):
            raise Refused("not a key")
        if line == b"whoami":
            return self._whoami()
        if command == b"get" and len(words) == 1:
            value = self._store.get(words[0])
            return b"none" if value is None else b"ok " + value
        if command == b"set" and len(words) == 2:
            self._store.set(words[0], words[1], self._handoff.peer.uid)
            return b"ok"
        if command == b"watch" and len(words) == 1:
            self._store.watch(words[0], self)
            return b"ok"
        raise Refused("unknown command")

    def _whoami(self):
        peer = self._handoff.peer
        groups = ",".join(map(str, peer.groups[:GROUPS_SHOWN])) or "-"
        more = ",..." if len(peer.groups) > GROUPS_SHOWN else ""
        return f"ok uid={peer.uid} gid={peer.gid} pid={peer.pid or '-'} groups={groups}{more}".encode()

    def _leave(self):
        """The lease is held until the client has read everything, or is gone: what it leaves unread, the greeting's descriptor above
        all, is charged to this service's user."""
        connection = self._handoff.connection
        connection.shutdown(socket.SHUT_WR)
        while struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0" * 4))[0] > 0:
            time.sleep(PAUSE)

    def tell(self, event):
        """Sends a line, or drops it: the kernel takes one of this size whole or not at all. Called by one thread at a time."""
        if self.notify is None:
            return
        try:
            if self._lost:
                self._send(b"lost %d\n" % self._lost)
                self._lost = 0
            self._send(event)
        except BlockingIOError:
            self._lost += 1
        except OSError:
            self.notify = None  # the client has closed its end

    def _send(self, line):
        if self.notify.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) != len(line):
            raise OSError(errno.EPROTO, "half a line")


def is_key(word):
    return 0 < len(word) <= LONGEST_KEY and all(0x21 <= byte <= 0x7E for byte in word)


class Server:
    """The threads of all clients, and what ends them."""

    def __init__(self, grace):
        self._grace = grace
        self._store = Store()
        self._change = threading.Condition()
        self._clients = 0
        self._backends = set()
        self._stopping = False

    def run(self, source):
        """Serves a Backend, or a Listener and the backends that it gives, until SIGTERM or SIGINT, or until doorward has gone."""
        stoppers = {signal.SIGTERM, signal.SIGINT}
        # Before there are threads, so that they all block them and sigwait() alone gets them.
        signal.pthread_sigmask(signal.SIG_BLOCK, stoppers)
        work = self._receive if isinstance(source, Backend) else self._accept
        threading.Thread(target=self._until_end, args=(work, source), daemon=True).start()
        ready()
        signal.sigwait(stoppers)
        source.stop()
        with self._change:
            self._stopping = True
            for backend in self._backends:
                backend.stop()
            # Whoever is being answered is answered; further connections stay in the channel, for whoever comes next.
            self._change.wait_for(lambda: not (self._clients or self._backends), self._grace)

    def _until_end(self, work, source):
        try:
            work(source)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    def _accept(self, listener):
        while (backend := listener.accept()) is not None:
            threading.Thread(target=self._receive, args=(backend,), daemon=True).start()
        listener.close()

    def _receive(self, backend):
        with self._change:
            self._backends.add(backend)
            if self._stopping:
                backend.stop()
        while (handoff := backend.recv()) is not None:
            with self._change:
                self._clients += 1
            try:
                threading.Thread(target=self._serve, args=(handoff,), daemon=True).start()
            except RuntimeError as why:
                log(f"dropped a connection: {why}")
                handoff.close()
                self._leave()
        with self._change:
            self._backends.discard(backend)
            backend.close()
            self._change.notify_all()

    def _serve(self, handoff):
        try:
            Client(handoff, self._store).serve()
        finally:
            self._leave()

    def _leave(self):
        with self._change:
            self._clients -= 1
            self._change.notify_all()


def log(text):
    """One line; nothing that a client has written is ever in it."""
    print(f"watch: {text}", file=sys.stderr, flush=True)


def user(word):
    """The uid of a user given by name or number."""
    if word.isdigit():
        return int(word)
    try:
        return pwd.getpwnam(word).pw_uid
    except KeyError:
        raise argparse.ArgumentTypeError(f"no such user: {word}") from None


def main():
    parser = argparse.ArgumentParser(description="keys and values to set, read and watch, behind doorward handoff")
    parser.add_argument("--listen", metavar="PATH", help="bind a SEQPACKET socket there, for doorward handoff --backend PATH")
    parser.add_argument("--allow-user", metavar="USER", type=user, action="append", default=[],
                        help="who may hand off to a listening backend beside root and this process's own user; repeatable")
    parser.add_argument("--grace", metavar="SECONDS", type=float, default=3, help="at SIGTERM clients may finish for so long (default: 3)")
    words = parser.parse_args()
    # Four descriptors a client; without room connections wait in the channel.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    threading.stack_size(256 * 1024)
    try:
        if words.listen is not None:
            source = Listener.bind(words.listen, words.allow_user, log)
        elif os.environ.get("LISTEN_FDNAMES") == "handoff":
            source = Backend.from_env(log)
        else:
            source = Listener.from_env(words.allow_user, log)
    except (Dropped, OSError) as why:
        log(f"unable to start: {why}")
        return 100 if isinstance(why, Dropped) else 111
    Server(words.grace).run(source)
    # Not through the interpreter's end, which would wait for what threads hold.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
