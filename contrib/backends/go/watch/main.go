// watch is a small service behind `doorward handoff`: keys and values that its clients set, read and watch.
//
//	go build -o watch-go ./watch
//	doorward handoff --bind /run/watch.sock --mode 0666 ./watch-go     started by doorward
//	./watch-go --listen /run/backend.sock                              listening: doorward handoff --backend /run/backend.sock
//
// The commands, events and bounds are those of ../../README.md. Each client has a goroutine: who sends nothing or reads nothing keeps
// its own waiting, and nobody else's.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	backend "doorward.invalid/backend"
)

const (
	longestLine = 4096
	longestKey  = 64
	keysPerUser = 1000
	mostWatched = 64
	groupsShown = 32
	// How often to look whether a client has read what it was sent; only those that leave are looked at.
	pause = 50 * time.Millisecond
)

type entry struct {
	value string
	owner uint32
}

// store has keys, values, whose they are, and who watches them.
type store struct {
	lock     sync.Mutex
	entries  map[string]entry
	counts   map[uint32]int
	watchers map[string]map[*client]bool
}

func (s *store) get(key string) (string, bool) {
	s.lock.Lock()
	defer s.lock.Unlock()
	found, there := s.entries[key]
	return found.value, there
}

func (s *store) set(key, value string, user uint32) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	found, there := s.entries[key]
	switch {
	case !there && s.counts[user] >= keysPerUser:
		return errors.New("too many keys")
	case !there:
		s.counts[user]++
		found.owner = user
	case user != 0 && user != found.owner:
		return errors.New("not yours")
	}
	found.value = value
	s.entries[key] = found
	// Under the lock, so that all see the changes of a key in one order; it never waits.
	for watcher := range s.watchers[key] {
		watcher.tell(fmt.Sprintf("changed %s %d %s\n", key, user, value))
	}
	return nil
}

func (s *store) watch(key string, c *client) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	if c.handoff.Notify == nil || c.deaf {
		return errors.New("no notification socket")
	}
	if !c.watched[key] && len(c.watched) >= mostWatched {
		return errors.New("too many watched")
	}
	c.watched[key] = true
	if s.watchers[key] == nil {
		s.watchers[key] = make(map[*client]bool)
	}
	s.watchers[key][c] = true
	return nil
}

func (s *store) forget(c *client) {
	s.lock.Lock()
	defer s.lock.Unlock()
	for key := range c.watched {
		delete(s.watchers[key], c)
		if len(s.watchers[key]) == 0 {
			delete(s.watchers, key)
		}
	}
}

// client is one connection, for as long as it lasts. The store's lock covers watched, lost and deaf.
type client struct {
	handoff *backend.Handoff
	store   *store
	watched map[string]bool
	lost    int
	deaf    bool
}

// serve serves it to the end, whatever that is; then everything is closed.
func (c *client) serve() {
	defer c.handoff.Close()
	defer c.store.forget(c)
	if c.greet() == nil && c.answerLines() == nil {
		c.leave()
	}
}

func (c *client) greet() error {
	for {
		err := c.handoff.Greet()
		// Too many descriptors of this service's user are under way, until clients read theirs.
		if err != syscall.ETOOMANYREFS {
			return err
		}
		time.Sleep(pause)
	}
}

func (c *client) answerLines() error {
	reader := bufio.NewReaderSize(c.handoff.Connection, longestLine)
	for {
		line, err := reader.ReadSlice('\n')
		answer, stay := "error too long", false
		switch {
		case err == io.EOF:
			return nil
		case err == nil:
			answer, stay = c.obey(string(line[:len(line)-1]))
		case err != bufio.ErrBufferFull:
			return err
		}
		if _, err := io.WriteString(c.handoff.Connection, answer+"\n"); err != nil {
			return err
		}
		if !stay {
			return nil
		}
	}
}

// obey gives the answer, and whether the client stays.
func (c *client) obey(line string) (string, bool) {
	for n := 0; n < len(line); n++ {
		if line[n] < 0x20 || line[n] == 0x7f {
			return "error control characters", true
		}
	}
	words := strings.SplitN(line, " ", 3)
	if len(words) > 1 && !isKey(words[1]) {
		return "error not a key", true
	}
	err := errors.New("unknown command")
	switch {
	case line == "quit":
		return "ok", false
	case line == "whoami":
		return c.whoami(), true
	case words[0] == "get" && len(words) == 2:
		if value, there := c.store.get(words[1]); there {
			return "ok " + value, true
		}
		return "none", true
	case words[0] == "set" && len(words) == 3:
		err = c.store.set(words[1], words[2], c.handoff.Peer.UID)
	case words[0] == "watch" && len(words) == 2:
		err = c.store.watch(words[1], c)
	}
	if err != nil {
		return "error " + err.Error(), true
	}
	return "ok", true
}

func (c *client) whoami() string {
	peer, pid, groups := c.handoff.Peer, "-", "-"
	if peer.Pid > 0 {
		pid = strconv.Itoa(peer.Pid)
	}
	var texts []string
	for n, group := range peer.Groups {
		if n == groupsShown {
			texts = append(texts, "...")
			break
		}
		texts = append(texts, strconv.FormatUint(uint64(group), 10))
	}
	if len(texts) > 0 {
		groups = strings.Join(texts, ",")
	}
	return fmt.Sprintf("ok uid=%d gid=%d pid=%s groups=%s", peer.UID, peer.GID, pid, groups)
}

// leave holds the lease until the client has read everything, or is gone: what it leaves unread, the greeting's descriptor above all, is
// charged to this service's user.
func (c *client) leave() {
	raw, err := c.handoff.Connection.SyscallConn()
	if err != nil || c.handoff.Connection.CloseWrite() != nil {
		return
	}
	for {
		var unread int32
		errno := syscall.EBADF
		raw.Control(func(fd uintptr) {
			_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&unread)))
		})
		if errno != 0 || unread == 0 {
			return
		}
		time.Sleep(pause)
	}
}

// tell sends a line, or drops it: the kernel takes one of this size whole or not at all. Under the store's lock.
func (c *client) tell(line string) {
	if c.deaf {
		return
	}
	var err error
	if c.lost > 0 {
		if err = c.send(fmt.Sprintf("lost %d\n", c.lost)); err == nil {
			c.lost = 0
		}
	}
	if err == nil {
		err = c.send(line)
	}
	switch err {
	case nil:
	case syscall.EAGAIN, syscall.EINTR, syscall.ENOBUFS:
		c.lost++
	default: // the client has closed its end
		c.deaf = true
	}
}

func (c *client) send(line string) error {
	raw, err := c.handoff.Notify.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	// Done whatever comes of it: this must not wait.
	err = raw.Control(func(fd uintptr) {
		sent = syscall.Sendmsg(int(fd), []byte(line), nil, nil, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
	})
	if err == nil {
		err = sent
	}
	return err
}

func isKey(word string) bool {
	for n := 0; n < len(word); n++ {
		if word[n] < 0x21 || word[n] > 0x7e {
			return false
		}
	}
	return 0 < len(word) && len(word) <= longestKey
}

// server has the goroutines of all clients and of all doorwards that hand off to us.
type server struct {
	store    *store
	clients  sync.WaitGroup
	lock     sync.Mutex
	stopping bool
	backends map[*backend.Backend]bool
}

func (s *server) accept(listener *backend.Listener) {
	for {
		b, err := listener.Accept()
		if err == backend.ErrStopped {
			listener.Close()
			return
		}
		if err != nil {
			log("unable to accept: " + err.Error())
			time.Sleep(time.Second)
			continue
		}
		s.clients.Add(1)
		go func() {
			defer s.clients.Done()
			s.receive(b)
		}()
	}
}

func (s *server) receive(b *backend.Backend) {
	s.lock.Lock()
	s.backends[b] = true
	if s.stopping {
		b.Stop()
	}
	s.lock.Unlock()
	for {
		handoff, err := b.Recv()
		if err != nil {
			if err != io.EOF && err != backend.ErrStopped {
				log("unable to receive: " + err.Error())
			}
			break
		}
		s.clients.Add(1)
		go func() {
			defer s.clients.Done()
			(&client{handoff: handoff, store: s.store, watched: make(map[string]bool)}).serve()
		}()
	}
	s.lock.Lock()
	delete(s.backends, b)
	b.Close()
	s.lock.Unlock()
}

// stop ends the receiving: further connections stay in the channel, for whoever comes next.
func (s *server) stop() {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.stopping = true
	for b := range s.backends {
		b.Stop()
	}
}

// log writes one line; nothing that a client has written is ever in it.
func log(text string) {
	fmt.Fprintln(os.Stderr, "watch: "+text)
}

// users are uids given by name or number.
type users []uint32

func (u *users) String() string { return "" }

func (u *users) Set(word string) error {
	number, err := strconv.ParseUint(word, 10, 32)
	if err != nil {
		found, err := user.Lookup(word)
		if err != nil {
			return err
		}
		if number, err = strconv.ParseUint(found.Uid, 10, 32); err != nil {
			return err
		}
	}
	*u = append(*u, uint32(number))
	return nil
}

func main() {
	var allow users
	path := flag.String("listen", "", "bind a SEQPACKET socket at `PATH`, for doorward handoff --backend PATH")
	grace := flag.Float64("grace", 3, "at SIGTERM clients may finish for so many `SECONDS`")
	flag.Var(&allow, "allow-user", "`USER` who may hand off to a listening backend beside root and this process's own; repeatable")
	flag.Parse()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	signal.Ignore(syscall.SIGPIPE)
	backend.Log = log

	s := &server{backends: make(map[*backend.Backend]bool)}
	s.store = &store{entries: make(map[string]entry), counts: make(map[uint32]int), watchers: make(map[string]map[*client]bool)}
	ended := make(chan bool)
	var listener *backend.Listener
	var started *backend.Backend
	var err error
	switch {
	case *path != "":
		listener, err = backend.Bind(*path)
	case os.Getenv("LISTEN_FDNAMES") == "handoff":
		started, err = backend.FromEnv()
	default:
		listener, err = backend.ListenerFromEnv()
	}
	if err != nil {
		log("unable to start: " + err.Error())
		os.Exit(100)
	}
	go func() {
		if started != nil {
			s.receive(started)
		} else {
			listener.Allow = allow
			s.accept(listener)
		}
		close(ended)
	}()
	if err := backend.Notify("READY=1"); err != nil {
		log("unable to tell that it is ready: " + err.Error())
	}
	select {
	case <-signals:
	case <-ended:
	}
	if listener != nil {
		listener.Stop()
	}
	s.stop()
	finished := make(chan bool)
	go func() {
		<-ended
		s.clients.Wait()
		close(finished)
	}()
	select {
	case <-finished:
	case <-time.After(time.Duration(*grace * float64(time.Second))):
	}
}
