/* The receiving end of `doorward handoff`, for Linux: this header is all of it. Define _GNU_SOURCE before the first #include.
 *
 * A backend that doorward starts:                    One that listens, and to which doorward connects:
 *
 *   doorward_backend_from_env(&backend, why)           listener = doorward_listener_from_env(why)
 *   doorward_notify("READY=1")                         doorward_notify("READY=1")
 *                                                      control = doorward_accept(listener, NULL, 0, why), wait for POLLIN on it
 *                                                      doorward_take_channel(control, &backend, why)
 *
 * and then both: wait for POLLIN on backend.channel and POLLRDHUP on backend.control, and call doorward_try_recv().
 *
 * `why` has DOORWARD_WHY bytes and is given a reason fit for a log wherever a call fails. Every descriptor that a call gives is the
 * caller's to close, and close-on-exec. Nothing here waits, and no flag of the channel is changed: other processes have it too. */
#ifndef DOORWARD_BACKEND_H
#define DOORWARD_BACKEND_H

#ifndef _GNU_SOURCE
#error "define _GNU_SOURCE before the first #include"
#endif

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>
#include <unistd.h>

#define DOORWARD_WHY 160
/* The longest payload; the most descriptors that doorward sends with one message; the most that the kernel passes. */
#define DOORWARD_LONGEST (16 * 1024)
#define DOORWARD_MOST_DESCRIPTORS 8
#define DOORWARD_MOST_PASSED 253

/* The channel, and the control connection that is a listening backend's sign of life (-1 in one that doorward started). */
struct doorward_backend {
    int channel, control;
};

/* Who connected, by the kernel's word. pid 0: unknown (of another pid namespace). */
struct doorward_peer {
    uid_t uid;
    gid_t gid;
    pid_t pid;
    gid_t *groups;
    size_t group_count;
};

/* One admitted connection; descriptors that are not there are -1. `notify` is our end of the notification socket and `notify_peer` the
 * client's, which doorward_greet() sends; `lease` holds the client's slot until it is closed. */
struct doorward_handoff {
    struct doorward_peer peer;
    int connection, notify, notify_peer, pidfd, lease;
    char *payload; /* for doorward_env() */
    size_t length;
};

enum doorward_next {
    DOORWARD_HANDOFF, /* a connection */
    DOORWARD_NOTHING, /* none waits */
    DOORWARD_NO_ROOM, /* no room for a message's descriptors: it stays in the channel; close something, or ask again in a while */
    DOORWARD_DROPPED, /* a message was not fit to be taken: all that came with it is closed, `why` says the reason */
    DOORWARD_GONE,    /* doorward has gone, and everything it had sent was received */
    DOORWARD_FAILED   /* the channel cannot be read, see errno and `why` */
};

static inline int doorward_fail(char why[DOORWARD_WHY], const char *text) {
    snprintf(why, DOORWARD_WHY, "%s", text);
    return -1;
}

static inline int doorward_fail_errno(char why[DOORWARD_WHY], const char *what) {
    int error = errno;
    snprintf(why, DOORWARD_WHY, "unable to %s: %s", what, strerror(error));
    errno = error;
    return -1;
}

static inline void doorward_close(int *descriptor) {
    if (*descriptor >= 0) close(*descriptor);
    *descriptor = -1;
}

/* 0 if it is a Unix socket, of this type unless that is 0, and listens as told. */
static inline int doorward_check_socket(int socket, int type, bool listening, char why[DOORWARD_WHY]) {
    int domain, actual, accepts;
    socklen_t size = sizeof(int);
    if (getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 || domain != AF_UNIX)
        return doorward_fail(why, "not a Unix socket");
    if (getsockopt(socket, SOL_SOCKET, SO_TYPE, &actual, &size) != 0 || (type != 0 && actual != type))
        return doorward_fail(why, "a socket of the wrong type");
    if (getsockopt(socket, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &size) != 0 || (accepts != 0) != listening)
        return doorward_fail(why, listening ? "not a listening socket" : "a listening socket in a connection's place");
    return 0;
}

/* SO_PEERCRED and SO_PEERGROUPS; the groups are the caller's to free. */
static inline int doorward_peer_of(int connection, struct doorward_peer *peer, char why[DOORWARD_WHY]) {
    struct ucred credentials;
    socklen_t size = sizeof credentials;
    if (getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
        return doorward_fail_errno(why, "ask who the peer is");
    if (credentials.uid == (uid_t)-1 || credentials.gid == (gid_t)-1) return doorward_fail(why, "not a connected socket");
    gid_t *groups = NULL;
    size = 0;
    /* Refused for want of room, it says how much it takes. */
    if (getsockopt(connection, SOL_SOCKET, SO_PEERGROUPS, NULL, &size) != 0) {
        if (errno != ERANGE) return doorward_fail_errno(why, "read the peer's groups");
        groups = malloc(size);
        if (groups == NULL || getsockopt(connection, SOL_SOCKET, SO_PEERGROUPS, groups, &size) != 0) {
            free(groups);
            return doorward_fail_errno(why, "read the peer's groups");
        }
    }
    pid_t pid = credentials.pid > 0 ? credentials.pid : 0;
    *peer = (struct doorward_peer){credentials.uid, credentials.gid, pid, groups, size / sizeof(gid_t)};
    return 0;
}

/* Checks that descriptor 3, and nothing else, was passed to this process, and takes it. */
static inline int doorward_activated(bool listening, char why[DOORWARD_WHY]) {
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    char own[32];
    snprintf(own, sizeof own, "%ld", (long)getpid());
    if (pid == NULL || strcmp(pid, own) != 0) return doorward_fail(why, "no descriptor was passed: LISTEN_PID is not this process");
    if (count == NULL || strcmp(count, "1") != 0) return doorward_fail(why, "LISTEN_FDS is not 1");
    if (doorward_check_socket(3, SOCK_SEQPACKET, listening, why) != 0) return -1;
    if (fcntl(3, F_SETFD, FD_CLOEXEC) != 0) return doorward_fail_errno(why, "set close-on-exec");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_PIDFDID");
    unsetenv("LISTEN_FDNAMES");
    return 3;
}

/* The channel of a backend that doorward has started: descriptor 3, LISTEN_FDNAMES=handoff. 0 or -1. */
static inline int doorward_backend_from_env(struct doorward_backend *backend, char why[DOORWARD_WHY]) {
    const char *names = getenv("LISTEN_FDNAMES");
    if (names == NULL || strcmp(names, "handoff") != 0) return doorward_fail(why, "LISTEN_FDNAMES is not handoff");
    *backend = (struct doorward_backend){doorward_activated(false, why), -1};
    return backend->channel < 0 ? -1 : 0;
}

/* The socket of a socket unit with ListenSequentialPacket=, on descriptor 3; or -1. */
static inline int doorward_listener_from_env(char why[DOORWARD_WHY]) {
    return doorward_activated(true, why);
}

/* Whether the kernel says of a socket's node that nobody serves it. (A datagram socket: no server hears of the attempt.) */
static inline bool doorward_is_stale(const struct sockaddr_un *address) {
    struct stat node;
    if (lstat(address->sun_path, &node) != 0 || !S_ISSOCK(node.st_mode)) return false;
    int probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0) return false;
    bool refused = connect(probe, (const struct sockaddr *)address, sizeof *address) != 0 && errno == ECONNREFUSED;
    close(probe);
    return refused;
}

/* Binds PATH, for our own user alone (0600); a node that nobody serves any more is replaced. The listening socket, or -1. */
static inline int doorward_listener_bind(const char *path, char why[DOORWARD_WHY]) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) return doorward_fail(why, "the path is too long for a socket");
    memcpy(address.sun_path, path, strlen(path) + 1);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener < 0) return doorward_fail_errno(why, "make a socket");
    int bound = fchmod(listener, 0600);
    if (bound == 0) bound = bind(listener, (struct sockaddr *)&address, sizeof address);
    if (bound != 0 && errno == EADDRINUSE && doorward_is_stale(&address) && unlink(path) == 0)
        bound = bind(listener, (struct sockaddr *)&address, sizeof address);
    if (bound != 0 || listen(listener, SOMAXCONN) != 0) {
        doorward_fail_errno(why, "bind the socket");
        close(listener);
        return -1;
    }
    return listener;
}

/* Accepts a doorward: of root, of our own effective user, or of those in `allowed`; others are hung up on. Call it when the listener is
 * readable. The control connection, or -1: with EPERM another user, with EAGAIN nobody any more. */
static inline int doorward_accept(int listener, const uid_t *allowed, size_t count, char why[DOORWARD_WHY]) {
    struct pollfd waiting = {listener, POLLIN, 0};
    if (poll(&waiting, 1, 0) != 1) {
        errno = EAGAIN;
        return doorward_fail(why, "nobody connects");
    }
    int control = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (control < 0) return doorward_fail_errno(why, "accept a control connection");
    struct ucred who = {0, (uid_t)-1, (gid_t)-1};
    socklen_t size = sizeof who;
    bool known = getsockopt(control, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 && who.uid != (uid_t)-1;
    bool trusted = known && (who.uid == 0 || who.uid == geteuid());
    for (size_t n = 0; known && n < count; n++) trusted |= who.uid == allowed[n];
    if (trusted) return control;
    close(control);
    snprintf(why, DOORWARD_WHY, "uid %ld may not hand off to this backend", (long)who.uid);
    errno = EPERM;
    return -1;
}

/* One received message. */
struct doorward_message {
    char payload[DOORWARD_LONGEST + 1];
    size_t length;
    int descriptors[DOORWARD_MOST_PASSED];
    size_t count;
    bool whole;
};

/* 1: a message, whose descriptors are the caller's; 0: the end of file; -1: see errno. */
static inline int doorward_receive(int socket, struct doorward_message *message) {
    union {
        char bytes[CMSG_SPACE(DOORWARD_MOST_PASSED * sizeof(int))];
        struct cmsghdr header;
    } control;
    struct iovec part = {message->payload, sizeof message->payload};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t length;
    do length = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (length < 0 && errno == EINTR);
    if (length < 0) return -1;
    message->length = (size_t)length;
    message->count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&header); c != NULL; c = CMSG_NXTHDR(&header, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        size_t bytes = c->cmsg_len - CMSG_LEN(0);
        for (size_t at = 0; at + sizeof(int) <= bytes && message->count < DOORWARD_MOST_PASSED; at += sizeof(int))
            memcpy(&message->descriptors[message->count++], CMSG_DATA(c) + at, sizeof(int));
    }
    message->whole = (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 && message->length <= DOORWARD_LONGEST;
    return message->length > 0 || message->count > 0;
}

static inline void doorward_close_message(struct doorward_message *message) {
    for (size_t n = 0; n < message->count; n++) doorward_close(&message->descriptors[n]);
    message->count = 0;
}

/* Checks the form of a payload: entries that end in NUL, HANDOFF=1, HANDOFF_FDS with a name for each descriptor, each name once. */
static inline int doorward_check_payload(const struct doorward_message *message, char why[DOORWARD_WHY]) {
    static const char first[] = "HANDOFF=1", second[] = "HANDOFF_FDS=";
    const char *payload = message->payload, *end = payload + message->length;
    if (!message->whole) return doorward_fail(why, "it was cut short");
    if (message->length == 0 || end[-1] != '\0') return doorward_fail(why, "the payload does not end in a zero byte");
    if (strcmp(payload, first) != 0) return doorward_fail(why, "HANDOFF=1 does not come first");
    const char *names = payload + sizeof first;
    if (names >= end || strncmp(names, second, sizeof second - 1) != 0) return doorward_fail(why, "HANDOFF_FDS does not come second");
    const char *list = names + sizeof second - 1;
    size_t count = 0;
    for (const char *name = list;; name++) {
        size_t length = strcspn(name, ":");
        bool repeated = length == 0;
        for (const char *other = list; other < name; other += strcspn(other, ":") + 1)
            repeated |= strcspn(other, ":") == length && memcmp(other, name, length) == 0;
        if (repeated) return doorward_fail(why, "a descriptor's name is empty or repeated");
        count++;
        name += length;
        if (*name == '\0') break;
    }
    if (count != message->count) return doorward_fail(why, "HANDOFF_FDS names another number of descriptors than came");
    const char *variables = names + strlen(names) + 1;
    for (const char *entry = variables; entry < end; entry += strlen(entry) + 1) {
        size_t length = strcspn(entry, "=");
        bool repeated = length == 0;
        for (const char *other = variables; other < entry; other += strlen(other) + 1)
            repeated |= strcspn(other, "=") == length && memcmp(other, entry, length) == 0;
        if (repeated) return doorward_fail(why, "a variable's name is empty or repeated");
    }
    return 0;
}

/* Takes the descriptor of this name out of a message that was checked: -1 if there is none. */
static inline int doorward_take_named(struct doorward_message *message, const char *wanted) {
    const char *name = message->payload + sizeof "HANDOFF=1" + strlen("HANDOFF_FDS=");
    for (size_t n = 0; n < message->count; n++) {
        size_t length = strcspn(name, ":");
        if (length == strlen(wanted) && memcmp(name, wanted, length) == 0) {
            int taken = message->descriptors[n];
            message->descriptors[n] = -1;
            return taken;
        }
        name += length + 1;
    }
    return -1;
}

/* What a doorward that was accepted brings: the channel. `control` is taken, and closed if this fails. 0 or -1. */
static inline int doorward_take_channel(int control, struct doorward_backend *backend, char why[DOORWARD_WHY]) {
    struct doorward_message message;
    int result = doorward_receive(control, &message);
    if (result < 0) doorward_fail_errno(why, "receive the channel");
    if (result == 0) doorward_fail(why, "it brought no channel");
    backend->channel = -1;
    if (result > 0 && doorward_check_payload(&message, why) == 0) {
        backend->channel = doorward_take_named(&message, "channel");
        if (backend->channel < 0)
            doorward_fail(why, "it brought no channel");
        else if (doorward_check_socket(backend->channel, SOCK_SEQPACKET, false, why) != 0)
            doorward_close(&backend->channel);
    }
    if (result > 0) doorward_close_message(&message);
    backend->control = control;
    if (backend->channel < 0) doorward_close(&backend->control);
    return backend->channel < 0 ? -1 : 0;
}

static inline void doorward_backend_close(struct doorward_backend *backend) {
    doorward_close(&backend->channel);
    doorward_close(&backend->control);
}

/* The value of a variable that doorward or its rules gave for the connection; NULL: none, or to be unset. */
static inline const char *doorward_env(const struct doorward_handoff *handoff, const char *name) {
    const char *end = handoff->payload + handoff->length;
    for (const char *entry = handoff->payload; entry < end; entry += strlen(entry) + 1)
        if (strncmp(entry, name, strlen(name)) == 0 && entry[strlen(name)] == '=') return entry + strlen(name) + 1;
    return NULL;
}

/* What the payload says must be what the connection says. An unmapped peer has no such variable. */
static inline int doorward_check_claim(const struct doorward_handoff *handoff, const char *name, const char *id, unsigned long actual,
                                       char why[DOORWARD_WHY]) {
    const char *proto = doorward_env(handoff, "PROTO");
    char full[256], *end;
    if (proto == NULL || snprintf(full, sizeof full, "%s%s", proto, name) >= (int)sizeof full) return doorward_fail(why, "no PROTO");
    const char *value = doorward_env(handoff, full);
    if (value == NULL) return 0;
    if (*value == '\0' || strspn(value, "0123456789") != strlen(value) || strlen(value) > 10)
        return doorward_fail(why, "an id is no number");
    unsigned long long claimed = strtoull(value, &end, 10);
    if (claimed == actual) return 0;
    snprintf(why, DOORWARD_WHY, "forged: it says %s %llu, the connection %lu", id, claimed, actual);
    return -1;
}

/* Closes everything, the lease last: the slot is free when nothing of the client is left here. */
static inline void doorward_handoff_close(struct doorward_handoff *handoff) {
    doorward_close(&handoff->connection);
    doorward_close(&handoff->notify);
    doorward_close(&handoff->notify_peer);
    doorward_close(&handoff->pidfd);
    doorward_close(&handoff->lease);
    free(handoff->peer.groups);
    free(handoff->payload);
    handoff->peer.groups = NULL;
    handoff->payload = NULL;
}

static inline int doorward_take_handoff(struct doorward_message *message, struct doorward_handoff *handoff, char why[DOORWARD_WHY]) {
    if (doorward_check_payload(message, why) != 0) return -1;
    handoff->connection = doorward_take_named(message, "connection");
    handoff->notify = doorward_take_named(message, "notify");
    handoff->notify_peer = doorward_take_named(message, "notify-peer");
    handoff->pidfd = doorward_take_named(message, "pidfd");
    handoff->lease = doorward_take_named(message, "lease");
    if (handoff->connection < 0) return doorward_fail(why, "no connection");
    if (doorward_check_socket(handoff->connection, 0, false, why) != 0) return -1;
    if (handoff->notify >= 0 && doorward_check_socket(handoff->notify, SOCK_STREAM, false, why) != 0) return -1;
    if (handoff->notify_peer >= 0 && doorward_check_socket(handoff->notify_peer, SOCK_STREAM, false, why) != 0) return -1;
    if (doorward_peer_of(handoff->connection, &handoff->peer, why) != 0) return -1;
    handoff->payload = malloc(message->length);
    if (handoff->payload == NULL) return doorward_fail_errno(why, "keep the payload");
    memcpy(handoff->payload, message->payload, message->length);
    handoff->length = message->length;
    if (doorward_check_claim(handoff, "REMOTEEUID", "euid", handoff->peer.uid, why) != 0) return -1;
    return doorward_check_claim(handoff, "REMOTEEGID", "egid", handoff->peer.gid, why);
}

/* Whether a message's descriptors would fit: without room the kernel gives it without them, and the connection is lost. */
static inline bool doorward_has_room(int any) {
    int copies[DOORWARD_MOST_DESCRIPTORS];
    size_t count = 0;
    while (count < DOORWARD_MOST_DESCRIPTORS && (copies[count] = fcntl(any, F_DUPFD_CLOEXEC, 0)) >= 0) count++;
    bool room = count == DOORWARD_MOST_DESCRIPTORS;
    while (count > 0) close(copies[--count]);
    return room;
}

/* Receives one connection, if one waits. */
static inline enum doorward_next doorward_try_recv(struct doorward_backend *backend, struct doorward_handoff *handoff,
                                                   char why[DOORWARD_WHY]) {
    struct doorward_message message;
    if (!doorward_has_room(backend->channel)) return DOORWARD_NO_ROOM;
    /* Looked at first: what was sent before the hang-up is in the channel by the time that it shows. */
    struct pollfd control = {backend->control, POLLRDHUP, 0};
    bool gone = backend->control >= 0 && poll(&control, 1, 0) == 1;
    int result;
    /* A reset is told once, and what was sent before is still there. */
    do result = doorward_receive(backend->channel, &message);
    while (result < 0 && errno == ECONNRESET);
    if (result == 0) return DOORWARD_GONE;
    if (result < 0 && errno == EAGAIN) return gone ? DOORWARD_GONE : DOORWARD_NOTHING;
    if (result < 0) {
        doorward_fail_errno(why, "receive from the channel");
        return DOORWARD_FAILED;
    }
    *handoff = (struct doorward_handoff){.connection = -1, .notify = -1, .notify_peer = -1, .pidfd = -1, .lease = -1};
    result = doorward_take_handoff(&message, handoff, why);
    doorward_close_message(&message);
    if (result == 0) return DOORWARD_HANDOFF;
    doorward_handoff_close(handoff);
    return DOORWARD_DROPPED;
}

/* Sends the client its end of the notification socket, first thing on the connection; nothing if there is none to send. 0 or -1:
 * ETOOMANYREFS is worth another try, later; after any other error the client takes no descriptors, or is gone. */
static inline int doorward_greet(struct doorward_handoff *handoff) {
    static const char greeting[] = "doorward 1\n";
    if (handoff->notify_peer < 0) return 0;
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr header;
    } control;
    memset(&control, 0, sizeof control);
    struct iovec part = {(void *)greeting, sizeof greeting - 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &handoff->notify_peer, sizeof(int));
    if (sendmsg(handoff->connection, &message, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof greeting - 1) return -1;
    doorward_close(&handoff->notify_peer);
    return 0;
}

/* Tells the service manager, or doorward, by NOTIFY_SOCKET; nothing without one. 0 or -1. See sd_notify(3). */
static inline int doorward_notify(const char *text) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path == NULL || *path == '\0') return 0;
    size_t length = strlen(path);
    if (length > sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, length);
    if (*path == '@') address.sun_path[0] = '\0';
    int sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sender < 0) return -1;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    ssize_t sent = sendto(sender, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address, size);
    int error = errno;
    close(sender);
    errno = error;
    return sent < 0 ? -1 : 0;
}

#endif
