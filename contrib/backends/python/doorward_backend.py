"""The receiving end of `doorward handoff`, with the standard library alone (Python 3.9 or newer, Linux).

A backend that doorward starts:

    backend = Backend.from_env()
    ready()
    while (handoff := backend.recv()) is not None:
        with handoff:
            handoff.greet()
            handoff.connection.sendall(b"you are user %d\n" % handoff.peer.uid)

One that listens by itself, and to which doorward connects:

    listener = Listener.from_env()                  # from a socket unit with ListenSequentialPacket=
    ready()
    while (backend := listener.accept()) is not None:
        ...                                         # as above

A message that is malformed, cut short or forged costs its one connection: all that came with it is closed, and `log` is told why.
"""

import array
import collections
import errno
import fcntl
import os
import select
import socket
import stat
import struct
import time

# The longest payload, and the most descriptors that doorward sends with one message.
LONGEST = 16 * 1024
MOST_DESCRIPTORS = 8
# The kernel passes at most this many: with room for all of them it never has to cut a message short for our buffer's sake.
MOST_PASSED = 253
GREETING = b"doorward 1\n"
# How often to look for room in the descriptor table: the kernel has no event for it.
PAUSE = 0.02
# How long a doorward that has connected may take to bring its channel: it does so at once.
PATIENCE = 5.0
# <asm-generic/socket.h>: the socket module does not have it. (SPARC and PA-RISC number it otherwise.)
SO_PEERGROUPS = 59


class Dropped(Exception):
    """A message, or a control connection, that is not taken; its text is fit for a log."""


Peer = collections.namedtuple("Peer", "uid gid pid groups")
Peer.__doc__ = "Who connected, by the kernel's word: ids, pid (None: of a pid namespace that is not ours), supplementary groups."


class Handoff:
    """One admitted connection. What it holds is its own: `close()` closes all of it, and so does leaving its `with`.

    peer        who it is, read from the connection
    env         what doorward and its rules say of it: values as bytes, None for "to be unset"
    connection  a blocking socket
    notify      our end of the notification socket, or None
    notify_peer the client's end of it, to be sent on by greet(); None where doorward has sent it already
    pidfd       a descriptor of the client's process, or None
    lease       a descriptor that holds the client's slot until it is closed, or None
    """

    def __init__(self, payload, descriptors):
        """Takes `descriptors`, a list, and empties it; those that it does not know it closes."""
        names, self.env = parse(payload)
        if len(names) != len(descriptors):
            raise Dropped("HANDOFF_FDS names another number of descriptors than came")
        named = dict(zip(names, descriptors))
        if b"connection" not in named:
            raise Dropped("no connection")
        check_socket(named[b"connection"], None)
        self.peer = peer_of(named[b"connection"])
        self._check_claim()
        for name in (b"notify", b"notify-peer"):
            if name in named:
                check_socket(named[name], socket.SOCK_STREAM)
        descriptors.clear()
        self.connection = socket.socket(fileno=named.pop(b"connection"))
        self.notify = _socket(named.pop(b"notify", None))
        self.notify_peer = _socket(named.pop(b"notify-peer", None))
        self.pidfd = named.pop(b"pidfd", None)
        self.lease = named.pop(b"lease", None)
        for unknown in named.values():
            os.close(unknown)

    def _check_claim(self):
        """What the payload says must be what the connection says: a channel's other end might be anybody's doing."""
        proto = self.env.get(b"PROTO")
        if proto is None:
            raise Dropped("no PROTO")
        for name, actual in ((b"REMOTEEUID", self.peer.uid), (b"REMOTEEGID", self.peer.gid)):
            claimed = self.env.get(proto + name)
            if claimed is None:  # an unmapped peer has none
                continue
            if not claimed.isdigit() or len(claimed) > 10:
                raise Dropped("an id is no number")
            if int(claimed) != actual:
                raise Dropped(f"forged: it says {name[6:].decode().lower()} {int(claimed)}, the connection {actual}")

    def greet(self):
        """Sends the client its end of the notification socket, first thing on the connection; nothing if there is none to send.

        OSError: ETOOMANYREFS is worth another try, later; after any other the client takes no descriptors, or is gone.
        """
        if self.notify_peer is None:
            return
        rights = array.array("i", [self.notify_peer.fileno()])
        flags = socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT
        self.connection.sendmsg([GREETING], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], flags)
        self.notify_peer.close()
        self.notify_peer = None

    def close(self):
        """Closes everything, the lease last: the client's slot is free when nothing of it is left here."""
        for held in (self.connection, self.notify, self.notify_peer):
            if held is not None:
                held.close()
        for number in (self.pidfd, self.lease):
            if number is not None:
                os.close(number)
        self.notify = self.notify_peer = self.pidfd = self.lease = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class _Stoppable:
    """Waits for descriptors until told to stop, by a signal handler or by another thread."""

    def __init__(self):
        self._stopped = False
        self._woken, self._wake = os.pipe()

    def stop(self):
        """Makes the call that waits return None, and every later one."""
        self._stopped = True
        try:
            os.write(self._wake, b"x")
        except OSError:
            pass  # closed already: nobody waits any more

    def _poll(self, *descriptors, timeout=None):
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        for number, events in descriptors:
            poll.register(number, events)
        return dict(poll.poll(timeout))

    def close(self):
        self._stopped = True
        woken, wake = self._woken, self._wake
        self._woken = self._wake = -1
        os.close(woken)
        os.close(wake)


class Backend(_Stoppable):
    """The channel, from which connections come. `log` is called with a text for each message that is dropped."""

    def __init__(self, channel, control=None, log=None):
        """Takes both sockets. `control` is the control connection of a listening backend: it stays open as our sign of life."""
        super().__init__()
        self._channel, self._control, self._log = channel, control, log or (lambda text: None)

    @classmethod
    def from_env(cls, log=None):
        """The channel of a backend that doorward has started: descriptor 3, LISTEN_FDNAMES=handoff. Else Dropped."""
        if os.environ.get("LISTEN_FDNAMES") != "handoff":
            raise Dropped("LISTEN_FDNAMES is not handoff")
        check_socket(_activated(), socket.SOCK_SEQPACKET)
        return cls(_take_activated(), log=log)

    def recv(self):
        """Waits for a connection and gives its Handoff; None after stop(), or when doorward has gone and all it had sent was received."""
        while not self._stopped:
            # Not one message sooner than its descriptors fit: the kernel would give the rest of it without them.
            if not self._has_room():
                self._poll(timeout=PAUSE * 1000)
                continue
            watched = [(self._channel.fileno(), select.POLLIN)]
            if self._control is not None:
                watched.append((self._control.fileno(), select.POLLRDHUP))
            events = self._poll(*watched)
            if self._stopped:
                return None
            # What was sent before the hang-up is in the channel by the time that it shows: so the channel is emptied first.
            gone = self._control is not None and self._control.fileno() in events
            try:
                message = receive(self._channel)
            except ConnectionResetError:  # told once; what was sent before is still there
                continue
            except BlockingIOError:  # another worker was first, or it was the hang-up alone
                if gone:
                    return None
                continue
            if message is None:
                return None
            try:
                payload, descriptors, whole = message
                if not whole:
                    raise Dropped("it was cut short")
                return Handoff(payload, descriptors)
            except (Dropped, OSError) as why:
                self._log(f"dropped a connection: {why}")
            finally:
                _close_all(descriptors)
        return None

    def _has_room(self):
        copies = []
        try:
            for _ in range(MOST_DESCRIPTORS):
                copies.append(fcntl.fcntl(self._channel, fcntl.F_DUPFD_CLOEXEC, 0))
            return True
        except OSError:
            return False
        finally:
            _close_all(copies)

    def close(self):
        """Closes the channel, and the control connection: doorward then knows that nobody is here."""
        super().close()
        self._channel.close()
        if self._control is not None:
            self._control.close()


class Listener(_Stoppable):
    """A listening SEQPACKET socket to which doorwards connect: of root or our own effective user, or of those in `allow_uids`."""

    def __init__(self, listening, allow_uids=(), log=None):
        super().__init__()
        self._socket, self._log = listening, log or (lambda text: None)
        self._allowed = {0, os.geteuid(), *allow_uids}
        listening.setblocking(False)

    @classmethod
    def from_env(cls, allow_uids=(), log=None):
        """The socket of a socket unit with ListenSequentialPacket=, on descriptor 3. Else Dropped."""
        check_socket(_activated(), socket.SOCK_SEQPACKET, listening=True)
        return cls(_take_activated(), allow_uids, log)

    @classmethod
    def bind(cls, path, allow_uids=(), log=None):
        """Binds PATH, for our own user alone (0600); a node that nobody serves any more is replaced. OSError."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        os.fchmod(listening.fileno(), 0o600)
        try:
            listening.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_stale(path):
                raise
            os.unlink(path)
            listening.bind(path)
        listening.listen()
        return cls(listening, allow_uids, log)

    def accept(self):
        """Waits for a doorward and gives the Backend that receives from it; None after stop()."""
        while not self._stopped:
            events = self._poll((self._socket.fileno(), select.POLLIN))
            if self._stopped or self._socket.fileno() not in events:
                continue
            try:
                control, _ = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as why:
                self._log(f"unable to accept a control connection: {why}")
                time.sleep(1)
                continue
            try:
                return Backend(self._receive_channel(control), control, self._log)
            except (Dropped, OSError) as why:
                self._log(f"refused a control connection: {why}")
                control.close()
        return None

    def _receive_channel(self, control):
        uid = peer_of(control.fileno()).uid
        if uid not in self._allowed:
            raise Dropped(f"uid {uid} may not hand off to this backend")
        if control.fileno() not in self._poll((control.fileno(), select.POLLIN), timeout=PATIENCE * 1000):
            raise Dropped("it brought no channel")
        message = receive(control)
        if message is None:
            raise Dropped("it brought no channel")
        payload, descriptors, whole = message
        try:
            if not whole:
                raise Dropped("it was cut short")
            names, _ = parse(payload)
            if len(names) != len(descriptors) or b"channel" not in names:
                raise Dropped("it brought no channel")
            check_socket(descriptors[names.index(b"channel")], socket.SOCK_SEQPACKET)
            return socket.socket(fileno=descriptors.pop(names.index(b"channel")))
        finally:
            _close_all(descriptors)

    def close(self):
        super().close()
        self._socket.close()


def ready(text="READY=1"):
    """Tells the service manager, or doorward, by NOTIFY_SOCKET; nothing without one. See sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(text.encode(), address)


def receive(channel):
    """One message: payload, descriptors (a list of numbers, close-on-exec, the caller's), whether it is whole; None at the end of file."""
    room = socket.CMSG_SPACE(MOST_PASSED * struct.calcsize("i"))
    flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
    payload, control, flags, _ = channel.recvmsg(LONGEST + 1, room, flags)
    numbers = array.array("i")
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    if not payload and not numbers:
        return None
    whole = not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) and len(payload) <= LONGEST
    return payload, list(numbers), whole


def parse(payload):
    """The names of the descriptors, in their order, and the variables. Dropped if it is not as doorward writes it."""
    if not payload.endswith(b"\0"):
        raise Dropped("the payload does not end in a zero byte")
    entries = payload[:-1].split(b"\0")
    if entries[0] != b"HANDOFF=1":
        raise Dropped("HANDOFF=1 does not come first")
    if len(entries) < 2 or not entries[1].startswith(b"HANDOFF_FDS="):
        raise Dropped("HANDOFF_FDS does not come second")
    names = entries[1][len(b"HANDOFF_FDS="):].split(b":")
    if not all(names) or len(set(names)) != len(names):
        raise Dropped("a descriptor's name is empty or repeated")
    env = {}
    for entry in entries[2:]:
        name, equals, value = entry.partition(b"=")
        if not name or name in env:
            raise Dropped("a variable's name is empty or repeated")
        env[name] = value if equals else None
    # What a later doorward says to backends is no variable of the connection.
    return names, {name: value for name, value in env.items() if not name.startswith(b"HANDOFF")}


def peer_of(number):
    """SO_PEERCRED and SO_PEERGROUPS of a connected Unix socket, lent by its number."""
    with socket.socket(fileno=fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 0)) as lent:
        credentials = lent.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
        pid, uid, gid = struct.unpack("iII", credentials)
        if 0xFFFFFFFF in (uid, gid):  # a socket without a peer
            raise Dropped("not a connected socket")
        try:
            # The most that this method reads: 256 groups.
            groups = lent.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 1024)
        except OSError as error:
            if error.errno != errno.ERANGE:
                raise Dropped(f"unable to read the peer's groups: {error}") from None
            groups = _many_groups(lent)
        return Peer(uid, gid, pid if pid > 0 else None, struct.unpack(f"{len(groups) // 4}I", groups))


def _many_groups(lent):
    try:
        import ctypes  # large, and seldom needed

        libc = ctypes.CDLL(None, use_errno=True)
    except (ImportError, OSError, MemoryError) as error:
        # A sandbox may forbid it; this connection is dropped then, not the service.
        raise Dropped(f"unable to read the peer's groups: {error}") from None
    groups = ctypes.create_string_buffer(65536 * 4)
    length = ctypes.c_uint(len(groups))
    if libc.getsockopt(lent.fileno(), socket.SOL_SOCKET, SO_PEERGROUPS, groups, ctypes.byref(length)) != 0:
        raise Dropped(f"unable to read the peer's groups: {os.strerror(ctypes.get_errno())}")
    return groups.raw[: length.value]


def check_socket(number, kind, listening=False):
    """Dropped unless this is a Unix socket, of type `kind` if it is not None, that listens or does not. The number is lent."""
    try:
        with socket.socket(fileno=fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 0)) as lent:
            option = lent.getsockopt
            if option(socket.SOL_SOCKET, socket.SO_DOMAIN) != socket.AF_UNIX:
                raise Dropped("not a Unix socket")
            if kind is not None and option(socket.SOL_SOCKET, socket.SO_TYPE) != kind:
                raise Dropped("a socket of the wrong type")
            if bool(option(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)) != listening:
                raise Dropped("a listening socket in a connection's place" if not listening else "not a listening socket")
    except OSError as error:
        raise Dropped(f"not a socket: {error}") from None


def _activated():
    """The number of the one descriptor that was passed to this process."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise Dropped("no descriptor was passed: LISTEN_PID is not this process")
    if os.environ.get("LISTEN_FDS") != "1":
        raise Dropped("LISTEN_FDS is not 1")
    return 3


def _take_activated():
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    os.set_inheritable(3, False)
    return socket.socket(fileno=3)


def _is_stale(path):
    """Whether this is a socket of which the kernel says that nobody serves it."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
        # A datagram socket: a server never hears of the attempt.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as probe:
            probe.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        pass
    return False


def _socket(number):
    return None if number is None else socket.socket(fileno=number)


def _close_all(numbers):
    while numbers:
        os.close(numbers.pop())
