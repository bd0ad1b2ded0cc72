// Package backend is the receiving end of `doorward handoff`, with the standard library alone (Linux on 64 bits).
//
// A backend that doorward starts:
//
//	b, err := backend.FromEnv()
//	backend.Notify("READY=1")
//	for {
//		handoff, err := b.Recv() // io.EOF: doorward has gone
//		...
//		go serve(handoff) // handoff.Greet(), handoff.Connection, handoff.Notify, handoff.Close()
//	}
//
// One that listens, and to which doorward connects, has ListenerFromEnv (a socket unit with ListenSequentialPacket=) or Bind, whose
// Accept gives such backends.
//
// A message that is malformed, cut short or forged costs its one connection: all that came with it is closed, and Log is told why.
package backend

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

const (
	// The longest payload, and the most descriptors that the kernel passes with one.
	longest    = 16 * 1024
	mostPassed = 253
	// Those that doorward sends with one message (8 at most), and a few that the runtime opens when it first meets a socket.
	roomNeeded = 12
	// How often to look for room in the descriptor table: the kernel has no event for it.
	pause = 20 * time.Millisecond
	// How long a doorward that has connected may take to bring its channel, in milliseconds: it does so at once.
	patience = 5000
	greeting = "doorward 1\n"
	// <asm-generic/socket.h>, <fcntl.h>, <sys/epoll.h>: what the syscall package does not have.
	soDomain     = 39
	soPeerGroups = 59
	dupCloexec   = 1030
	pollRdhup    = 0x2000
)

// Log is told of each message, and each control connection, that was not taken. Nothing that a client has written is in it.
var Log = func(text string) {}

// ErrStopped is what waits end with after Stop.
var ErrStopped = errors.New("stopped")

// Peer is who connected, by the kernel's word. Pid 0: unknown (of another pid namespace).
type Peer struct {
	UID, GID uint32
	Pid      int
	Groups   []uint32
}

// Handoff is one admitted connection. Close closes all of it.
type Handoff struct {
	Peer Peer
	// Env has what doorward and its rules say of the connection; Unset the names that are to be removed.
	Env        map[string]string
	Unset      []string
	Connection *net.UnixConn
	// Notify is our end of the notification socket; nil if there is none.
	Notify *net.UnixConn
	// Descriptors of the client's end, which Greet sends, of the client's process, and of the slot, which is taken until this is
	// closed; -1: absent.
	notifyPeer, Pidfd, Lease int
}

// Greet sends the client its end of the notification socket, first thing on the connection; nothing if there is none to send. ETOOMANYREFS
// is worth another try, later; after any other error the client takes no descriptors, or is gone.
func (h *Handoff) Greet() error {
	if h.notifyPeer < 0 {
		return nil
	}
	raw, err := h.Connection.SyscallConn()
	if err != nil {
		return err
	}
	rights := syscall.UnixRights(h.notifyPeer)
	var sent error
	err = raw.Control(func(fd uintptr) {
		sent = syscall.Sendmsg(int(fd), []byte(greeting), rights, nil, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
	})
	if err == nil {
		err = sent
	}
	if err == nil {
		syscall.Close(h.notifyPeer)
		h.notifyPeer = -1
	}
	return err
}

// Close closes everything, the lease last: the slot is free when nothing of the client is left here.
func (h *Handoff) Close() {
	h.Connection.Close()
	if h.Notify != nil {
		h.Notify.Close()
	}
	for _, fd := range []*int{&h.notifyPeer, &h.Pidfd, &h.Lease} {
		if *fd >= 0 {
			syscall.Close(*fd)
			*fd = -1
		}
	}
}

// Backend is the channel, from which connections come.
type Backend struct {
	waiter
	channel, control int
}

// FromEnv takes the channel of a backend that doorward has started: descriptor 3, LISTEN_FDNAMES=handoff.
func FromEnv() (*Backend, error) {
	if os.Getenv("LISTEN_FDNAMES") != "handoff" {
		return nil, errors.New("LISTEN_FDNAMES is not handoff")
	}
	channel, err := activated(false)
	if err != nil {
		return nil, err
	}
	return newBackend(channel, -1)
}

func newBackend(channel, control int) (*Backend, error) {
	b := &Backend{channel: channel, control: control}
	err := b.watch(channel, syscall.EPOLLIN)
	if err == nil && control >= 0 {
		err = b.watch(control, pollRdhup)
	}
	if err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// Recv waits for a connection. io.EOF: doorward has gone, and everything it had sent was received. One goroutine at a time.
func (b *Backend) Recv() (*Handoff, error) {
	for {
		// Not one message sooner than its descriptors fit: the kernel would give the rest of it without them.
		for !hasRoom(b.channel) {
			if b.stopped() {
				return nil, ErrStopped
			}
			time.Sleep(pause)
		}
		ready, err := b.wait(-1)
		if err != nil {
			return nil, err
		}
		m, err := receive(b.channel)
		switch {
		case err == syscall.EAGAIN && ready[b.control]:
			// What was sent before the hang-up is in the channel by the time that it shows, and now it is empty.
			return nil, io.EOF
		case err == syscall.EAGAIN || err == syscall.ECONNRESET:
			// Another worker was first; a reset is told once, and what was sent before is still there.
			continue
		case err != nil:
			return nil, err
		}
		h, err := m.handoff()
		m.close()
		if err == nil {
			return h, nil
		}
		Log("dropped a connection: " + err.Error())
	}
}

// Close closes the channel, and the control connection: doorward then knows that nobody is here. Not while another goroutine is in Recv.
func (b *Backend) Close() {
	b.waiter.close()
	syscall.Close(b.channel)
	if b.control >= 0 {
		syscall.Close(b.control)
	}
}

// Listener is a listening SEQPACKET socket to which doorwards connect: of root or our own effective user, or of those in Allow.
type Listener struct {
	waiter
	socket int
	Allow  []uint32
}

// ListenerFromEnv takes the socket of a socket unit with ListenSequentialPacket=, on descriptor 3.
func ListenerFromEnv() (*Listener, error) {
	socket, err := activated(true)
	if err != nil {
		return nil, err
	}
	return newListener(socket)
}

// Bind binds PATH, for our own user alone (0600); a node that nobody serves any more is replaced.
func Bind(path string) (*Listener, error) {
	socket, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	address := &syscall.SockaddrUnix{Name: path}
	err = syscall.Fchmod(socket, 0600)
	if err == nil {
		err = syscall.Bind(socket, address)
	}
	if err == syscall.EADDRINUSE && isStale(path) && syscall.Unlink(path) == nil {
		err = syscall.Bind(socket, address)
	}
	if err == nil {
		err = syscall.Listen(socket, syscall.SOMAXCONN)
	}
	if err != nil {
		syscall.Close(socket)
		return nil, fmt.Errorf("bind %s: %w", path, err)
	}
	return newListener(socket)
}

func newListener(socket int) (*Listener, error) {
	l := &Listener{socket: socket}
	if err := l.watch(socket, syscall.EPOLLIN); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Accept waits for a doorward and gives the Backend that receives from it.
func (l *Listener) Accept() (*Backend, error) {
	for {
		ready, err := l.wait(-1)
		if err != nil {
			return nil, err
		}
		if !ready[l.socket] {
			continue
		}
		control, _, err := syscall.Accept4(l.socket, syscall.SOCK_CLOEXEC)
		if err == syscall.EAGAIN || err == syscall.EINTR || err == syscall.ECONNABORTED {
			continue
		}
		if err != nil {
			Log("unable to accept a control connection: " + err.Error())
			time.Sleep(time.Second)
			continue
		}
		channel, err := l.channel(control)
		if err != nil {
			Log("refused a control connection: " + err.Error())
			syscall.Close(control)
			continue
		}
		return newBackend(channel, control)
	}
}

// channel looks who connected, and receives what it brings.
func (l *Listener) channel(control int) (int, error) {
	credentials, err := syscall.GetsockoptUcred(control, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	if err != nil {
		return -1, err
	}
	trusted := credentials.Uid == 0 || credentials.Uid == uint32(os.Geteuid())
	for _, uid := range l.Allow {
		trusted = trusted || credentials.Uid == uid
	}
	if !trusted || credentials.Uid == ^uint32(0) {
		return -1, fmt.Errorf("uid %d may not hand off to this backend", credentials.Uid)
	}
	var one waiter
	defer one.close()
	if err := one.watch(control, syscall.EPOLLIN); err != nil {
		return -1, err
	}
	ready, err := one.wait(patience)
	if err != nil {
		return -1, err
	}
	if !ready[control] {
		return -1, errors.New("it brought no channel")
	}
	m, err := receive(control)
	if err != nil {
		return -1, err
	}
	defer m.close()
	if _, _, err := m.parse(); err != nil {
		return -1, err
	}
	channel := m.take("channel")
	if channel < 0 {
		return -1, errors.New("it brought no channel")
	}
	if err := checkSocket(channel, syscall.SOCK_SEQPACKET, false); err != nil {
		syscall.Close(channel)
		return -1, err
	}
	return channel, nil
}

// Close closes the listening socket. Not while another goroutine is in Accept.
func (l *Listener) Close() {
	l.waiter.close()
	syscall.Close(l.socket)
}

// Notify tells the service manager, or doorward, by NOTIFY_SOCKET; nothing without one. See sd_notify(3).
func Notify(text string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	// The net package takes a leading @ for the abstract namespace, as this variable means it.
	sender, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer sender.Close()
	_, err = sender.Write([]byte(text))
	return err
}

// waiter waits for descriptors, and for the order to stop. Not by the runtime's poller: that makes descriptors non-blocking, and the
// channel's flags belong to doorward and to other workers as well.
type waiter struct {
	epoll, woken, wake int
	open               bool
}

func (w *waiter) start() error {
	if w.open {
		return nil
	}
	var pipe [2]int
	if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return err
	}
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		syscall.Close(pipe[0])
		syscall.Close(pipe[1])
		return err
	}
	*w = waiter{epoll, pipe[0], pipe[1], true}
	return w.watch(w.woken, syscall.EPOLLIN)
}

func (w *waiter) watch(fd int, events uint32) error {
	if err := w.start(); err != nil {
		return err
	}
	return syscall.EpollCtl(w.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: events, Fd: int32(fd)})
}

// Stop makes the call that waits, and every later one, end with ErrStopped. Any goroutine may call it, but not after Close.
func (w *waiter) Stop() {
	syscall.Write(w.wake, []byte{1})
}

func (w *waiter) stopped() bool {
	_, err := w.wait(0)
	return err == ErrStopped
}

// wait gives the descriptors on which something happened within so many milliseconds (-1: however long it takes).
func (w *waiter) wait(milliseconds int) (map[int]bool, error) {
	events := make([]syscall.EpollEvent, 3)
	count, err := syscall.EpollWait(w.epoll, events, milliseconds)
	if err == syscall.EINTR {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	ready := make(map[int]bool)
	for _, event := range events[:count] {
		ready[int(event.Fd)] = true
	}
	if ready[w.woken] {
		return nil, ErrStopped
	}
	return ready, nil
}

func (w *waiter) close() {
	if w.open {
		syscall.Close(w.epoll)
		syscall.Close(w.woken)
		syscall.Close(w.wake)
		w.open = false
	}
}

// message is one received message; take and close dispose of its descriptors.
type message struct {
	payload     []byte
	descriptors []int
	names       []string
	whole       bool
}

// receive gives io.EOF at the end of file.
func receive(socket int) (*message, error) {
	payload := make([]byte, longest+1)
	control := make([]byte, syscall.CmsgSpace(mostPassed*4))
	length, size, flags, _, err := syscall.Recvmsg(socket, payload, control, syscall.MSG_DONTWAIT|syscall.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, err
	}
	m := &message{payload: payload[:length]}
	m.whole = flags&(syscall.MSG_TRUNC|syscall.MSG_CTRUNC) == 0 && length <= longest
	headers, err := syscall.ParseSocketControlMessage(control[:size])
	if err != nil {
		return nil, err
	}
	for _, header := range headers {
		if header.Header.Level == syscall.SOL_SOCKET && header.Header.Type == syscall.SCM_RIGHTS {
			if fds, err := syscall.ParseUnixRights(&header); err == nil {
				m.descriptors = append(m.descriptors, fds...)
			}
		}
	}
	if length == 0 && len(m.descriptors) == 0 {
		return nil, io.EOF
	}
	return m, nil
}

func (m *message) close() {
	for _, fd := range m.descriptors {
		if fd >= 0 {
			syscall.Close(fd)
		}
	}
	m.descriptors = nil
}

// take gives the descriptor of a name, which is the caller's from now on; -1 if there is none.
func (m *message) take(name string) int {
	for n, known := range m.names {
		if known == name {
			fd := m.descriptors[n]
			m.descriptors[n] = -1
			return fd
		}
	}
	return -1
}

// parse checks the form of the payload, and gives its variables.
func (m *message) parse() (map[string]string, []string, error) {
	if !m.whole {
		return nil, nil, errors.New("it was cut short")
	}
	if !bytes.HasSuffix(m.payload, []byte{0}) {
		return nil, nil, errors.New("the payload does not end in a zero byte")
	}
	entries := strings.Split(string(m.payload[:len(m.payload)-1]), "\x00")
	if entries[0] != "HANDOFF=1" {
		return nil, nil, errors.New("HANDOFF=1 does not come first")
	}
	if len(entries) < 2 || !strings.HasPrefix(entries[1], "HANDOFF_FDS=") {
		return nil, nil, errors.New("HANDOFF_FDS does not come second")
	}
	m.names = strings.Split(strings.TrimPrefix(entries[1], "HANDOFF_FDS="), ":")
	seen := make(map[string]bool)
	for _, name := range m.names {
		if name == "" || seen[name] {
			return nil, nil, errors.New("a descriptor's name is empty or repeated")
		}
		seen[name] = true
	}
	if len(m.names) != len(m.descriptors) {
		return nil, nil, errors.New("HANDOFF_FDS names another number of descriptors than came")
	}
	env := make(map[string]string)
	var unset []string
	seen = make(map[string]bool)
	for _, entry := range entries[2:] {
		name, value, set := strings.Cut(entry, "=")
		if name == "" || seen[name] {
			return nil, nil, errors.New("a variable's name is empty or repeated")
		}
		seen[name] = true
		switch {
		case strings.HasPrefix(name, "HANDOFF"):
			// What a later doorward says to backends is no variable of the connection.
		case set:
			env[name] = value
		default:
			unset = append(unset, name)
		}
	}
	return env, unset, nil
}

func (m *message) handoff() (*Handoff, error) {
	env, unset, err := m.parse()
	if err != nil {
		return nil, err
	}
	connection := m.take("connection")
	if connection < 0 {
		return nil, errors.New("no connection")
	}
	if err := checkSocket(connection, 0, false); err != nil {
		syscall.Close(connection)
		return nil, err
	}
	peer, err := peerOf(connection)
	if err == nil {
		err = checkClaim(env, peer)
	}
	if err != nil {
		syscall.Close(connection)
		return nil, err
	}
	h := &Handoff{Peer: *peer, Env: env, Unset: unset, notifyPeer: -1, Pidfd: -1, Lease: -1}
	if h.Connection, err = unixConn(connection); err != nil {
		return nil, err
	}
	if notify := m.take("notify"); notify >= 0 {
		if h.Notify, err = notifySocket(notify); err != nil {
			h.Close()
			return nil, err
		}
	}
	h.notifyPeer, h.Pidfd, h.Lease = m.take("notify-peer"), m.take("pidfd"), m.take("lease")
	if h.notifyPeer >= 0 {
		if err := checkSocket(h.notifyPeer, syscall.SOCK_STREAM, false); err != nil {
			h.Close()
			return nil, err
		}
	}
	return h, nil
}

// checkClaim: what the payload says must be what the connection says. An unmapped peer has no such variable.
func checkClaim(env map[string]string, peer *Peer) error {
	proto, there := env["PROTO"]
	if !there {
		return errors.New("no PROTO")
	}
	for _, id := range []struct {
		name   string
		actual uint32
	}{{"EUID", peer.UID}, {"EGID", peer.GID}} {
		text, there := env[proto+"REMOTE"+id.name]
		if !there {
			continue
		}
		claimed, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return errors.New("an id is no number")
		}
		if uint32(claimed) != id.actual {
			return fmt.Errorf("forged: it says %s %d, the connection %d", strings.ToLower(id.name), claimed, id.actual)
		}
	}
	return nil
}

// peerOf reads SO_PEERCRED and SO_PEERGROUPS.
func peerOf(socket int) (*Peer, error) {
	credentials, err := syscall.GetsockoptUcred(socket, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	if err != nil {
		return nil, err
	}
	if credentials.Uid == ^uint32(0) || credentials.Gid == ^uint32(0) {
		return nil, errors.New("not a connected socket")
	}
	peer := &Peer{UID: credentials.Uid, GID: credentials.Gid}
	if credentials.Pid > 0 {
		peer.Pid = int(credentials.Pid)
	}
	// Refused for want of room, it says how much it takes.
	groups := make([]uint32, 1)
	for {
		size := uint32(4 * len(groups))
		_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, uintptr(socket), syscall.SOL_SOCKET, soPeerGroups,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		if errno == 0 {
			peer.Groups = groups[:size/4]
			return peer, nil
		}
		if errno != syscall.ERANGE || size/4 <= uint32(len(groups)) {
			return nil, fmt.Errorf("unable to read the peer's groups: %w", errno)
		}
		groups = make([]uint32, size/4)
	}
}

// unixConn takes a socket; it is closed if that fails.
func unixConn(socket int) (*net.UnixConn, error) {
	file := os.NewFile(uintptr(socket), "connection")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	if conn, is := conn.(*net.UnixConn); is {
		return conn, nil
	}
	conn.Close()
	return nil, errors.New("not a Unix socket")
}

func notifySocket(socket int) (*net.UnixConn, error) {
	if err := checkSocket(socket, syscall.SOCK_STREAM, false); err != nil {
		syscall.Close(socket)
		return nil, err
	}
	return unixConn(socket)
}

// checkSocket: a Unix socket, of this type unless that is 0, that listens or does not.
func checkSocket(socket, kind int, listening bool) error {
	option := func(name int) (int, error) { return syscall.GetsockoptInt(socket, syscall.SOL_SOCKET, name) }
	if domain, err := option(soDomain); err != nil || domain != syscall.AF_UNIX {
		return errors.New("not a Unix socket")
	}
	if actual, err := option(syscall.SO_TYPE); err != nil || (kind != 0 && actual != kind) {
		return errors.New("a socket of the wrong type")
	}
	if accepts, err := option(syscall.SO_ACCEPTCONN); err != nil || (accepts != 0) != listening {
		return errors.New("a listening socket in a connection's place, or the other way round")
	}
	return nil
}

// hasRoom tells whether the descriptors of a message would fit.
func hasRoom(any int) bool {
	var copies []int
	defer func() {
		for _, fd := range copies {
			syscall.Close(fd)
		}
	}()
	for len(copies) < roomNeeded {
		fd, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(any), dupCloexec, 0)
		if errno != 0 {
			return false
		}
		copies = append(copies, int(fd))
	}
	return true
}

// activated takes the one descriptor that was passed to this process.
func activated(listening bool) (int, error) {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return -1, errors.New("no descriptor was passed: LISTEN_PID is not this process")
	}
	if os.Getenv("LISTEN_FDS") != "1" {
		return -1, errors.New("LISTEN_FDS is not 1")
	}
	if err := checkSocket(3, syscall.SOCK_SEQPACKET, listening); err != nil {
		return -1, err
	}
	syscall.CloseOnExec(3)
	for _, name := range []string{"LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	return 3, nil
}

// isStale tells whether the kernel says of a socket's node that nobody serves it. (A datagram socket: no server hears of the attempt.)
func isStale(path string) bool {
	node, err := os.Lstat(path)
	if err != nil || node.Mode()&os.ModeSocket == 0 {
		return false
	}
	probe, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer syscall.Close(probe)
	return syscall.Connect(probe, &syscall.SockaddrUnix{Name: path}) == syscall.ECONNREFUSED
}
