/* A small service behind `doorward handoff`: keys and values that its clients set, read and watch.
 *
 *   cc -O2 -Wall -Wextra -o watch watch.c
 *   doorward handoff --bind /run/watch.sock --mode 0666 ./watch         started by doorward
 *   ./watch --listen /run/backend.sock                                  listening: doorward handoff --backend /run/backend.sock
 *
 * The commands, events and bounds are those of ../README.md. One thread and poll(2): nothing that a client does, or leaves undone,
 * makes it wait. */
#define _GNU_SOURCE
#include "doorward_backend.h"

#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>

#include <linux/sockios.h>

enum {
    LONGEST_LINE = 4096,
    LONGEST_KEY = 64,
    KEYS_PER_USER = 1000,
    MOST_WATCHED = 64,
    GROUPS_SHOWN = 32,
    BUCKETS = 4096,
    MOST_DOORS = 16,
    MOST_ALLOWED = 16,
    /* Milliseconds: how long a doorward may take to bring its channel (it does so at once); how soon to look again for what the kernel
     * has no event for. */
    PATIENCE = 5000,
    PAUSE = 50,
};

struct entry {
    struct entry *next;
    uid_t owner;
    char key[LONGEST_KEY + 1];
    char *value;
};

struct client {
    struct doorward_handoff handoff;
    /* To be greeted; talking; answered for good, and kept until it has read that; to be closed. */
    enum { NEW, TALKING, LEAVING, DONE } state;
    bool ended; /* it will say no more */
    char said[LONGEST_LINE];
    size_t said_length;
    char answer[LONGEST_LINE + 64];
    size_t answer_length, answer_sent;
    char watched[MOST_WATCHED][LONGEST_KEY + 1];
    size_t watched_count;
    unsigned long lost; /* events that did not fit since the last that did */
};

/* A doorward that hands off to us. */
struct door {
    struct doorward_backend backend; /* no channel yet: -1 */
    long long deadline;              /* by when there must be one */
};

static struct entry *buckets[BUCKETS];
static struct client **clients;
static size_t client_count, client_room;
static struct door doors[MOST_DOORS];
static size_t door_count;
static int listener = -1;
static uid_t allowed[MOST_ALLOWED];
static size_t allowed_count;

/* One line; nothing that a client has written is ever in it. */
static void log_line(const char *format, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    dprintf(2, "watch: %s\n", line);
}

/* Milliseconds since some time. */
static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

/* --- keys and values --- */

static bool is_key(const char *word, size_t length) {
    if (length == 0 || length > LONGEST_KEY) return false;
    for (size_t n = 0; n < length; n++)
        if (word[n] < 0x21 || word[n] > 0x7e) return false;
    return true;
}

static struct entry **bucket_of(const char *key) {
    unsigned hash = 2166136261u;
    for (; *key != '\0'; key++) hash = (hash ^ (unsigned char)*key) * 16777619u;
    return &buckets[hash % BUCKETS];
}

static struct entry *find(const char *key) {
    struct entry *entry = *bucket_of(key);
    while (entry != NULL && strcmp(entry->key, key) != 0) entry = entry->next;
    return entry;
}

static size_t keys_of(uid_t user) {
    size_t count = 0;
    for (size_t n = 0; n < BUCKETS; n++)
        for (struct entry *entry = buckets[n]; entry != NULL; entry = entry->next) count += entry->owner == user;
    return count;
}

/* NULL, or why not. */
static const char *set(const char *key, const char *value, uid_t user) {
    struct entry *entry = find(key);
    if (entry != NULL && user != 0 && user != entry->owner) return "not yours";
    if (entry == NULL && keys_of(user) >= KEYS_PER_USER) return "too many keys";
    char *copy = strdup(value);
    if (copy == NULL) return "no memory";
    if (entry == NULL) {
        entry = calloc(1, sizeof *entry);
        if (entry == NULL) {
            free(copy);
            return "no memory";
        }
        struct entry **bucket = bucket_of(key);
        strcpy(entry->key, key);
        entry->owner = user;
        entry->next = *bucket;
        *bucket = entry;
    }
    free(entry->value);
    entry->value = copy;
    return NULL;
}

/* --- events, on the second socket --- */

/* The kernel takes a line of this size whole or not at all; false where the client has closed its end. */
static bool send_event(struct client *client, const char *line, size_t length, bool *fits) {
    ssize_t sent = send(client->handoff.notify, line, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    *fits = sent == (ssize_t)length;
    return *fits || (sent < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == EINTR));
}

/* Sends an event, or drops it and counts that. */
static void tell(struct client *client, const char *line, size_t length) {
    bool fits = true, there = true;
    if (client->lost > 0) {
        char text[32];
        there = send_event(client, text, (size_t)snprintf(text, sizeof text, "lost %lu\n", client->lost), &fits);
        if (fits) client->lost = 0;
    }
    if (there && fits) there = send_event(client, line, length, &fits);
    if (!fits) client->lost++;
    if (!there) doorward_close(&client->handoff.notify);
}

static bool watches(const struct client *client, const char *key) {
    for (size_t n = 0; n < client->watched_count; n++)
        if (strcmp(client->watched[n], key) == 0) return true;
    return false;
}

static void tell_watchers(const char *key, uid_t user, const char *value) {
    char line[LONGEST_LINE + LONGEST_KEY + 64];
    int length = snprintf(line, sizeof line, "changed %s %lu %s\n", key, (unsigned long)user, value);
    for (size_t n = 0; n < client_count; n++)
        if (clients[n]->handoff.notify >= 0 && watches(clients[n], key)) tell(clients[n], line, (size_t)length);
}

static const char *watch(struct client *client, const char *key) {
    if (client->handoff.notify < 0) return "no notification socket";
    if (watches(client, key)) return NULL;
    if (client->watched_count == MOST_WATCHED) return "too many watched";
    strcpy(client->watched[client->watched_count++], key);
    return NULL;
}

/* --- commands, on the connection --- */

static void answer(struct client *client, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(client->answer, sizeof client->answer - 1, format, arguments);
    va_end(arguments);
    if (length < 0 || length >= (int)sizeof client->answer - 1) length = sizeof client->answer - 2;
    client->answer[length] = '\n';
    client->answer_length = (size_t)length + 1;
    client->answer_sent = 0;
}

static void answer_whoami(struct client *client) {
    const struct doorward_peer *peer = &client->handoff.peer;
    char groups[GROUPS_SHOWN * 12 + 8] = "-", pid[16] = "-";
    size_t length = 0;
    for (size_t n = 0; n < peer->group_count && n < GROUPS_SHOWN; n++)
        length += (size_t)sprintf(groups + length, n == 0 ? "%lu" : ",%lu", (unsigned long)peer->groups[n]);
    if (peer->group_count > GROUPS_SHOWN) strcpy(groups + length, ",...");
    if (peer->pid > 0) snprintf(pid, sizeof pid, "%ld", (long)peer->pid);
    answer(client, "ok uid=%lu gid=%lu pid=%s groups=%s", (unsigned long)peer->uid, (unsigned long)peer->gid, pid, groups);
}

/* The line, without its newline, is changed. */
static void obey(struct client *client, char *line, size_t length) {
    for (size_t n = 0; n < length; n++)
        if ((unsigned char)line[n] < 0x20 || line[n] == 0x7f) return answer(client, "error control characters");
    uid_t user = client->handoff.peer.uid;
    char *key = strchr(line, ' '), *value = NULL;
    if (key != NULL) {
        *key++ = '\0';
        value = strchr(key, ' ');
        if (value != NULL) *value++ = '\0';
        if (!is_key(key, strlen(key))) return answer(client, "error not a key");
    }
    const char *why = "unknown command";
    if (key == NULL && strcmp(line, "quit") == 0) {
        client->ended = true;
        client->said_length = 0;
        return answer(client, "ok");
    } else if (key == NULL && strcmp(line, "whoami") == 0) {
        return answer_whoami(client);
    } else if (key != NULL && value == NULL && strcmp(line, "get") == 0) {
        const struct entry *entry = find(key);
        return entry == NULL ? answer(client, "none") : answer(client, "ok %s", entry->value);
    } else if (value != NULL && strcmp(line, "set") == 0) {
        why = set(key, value, user);
        if (why == NULL) tell_watchers(key, user, value);
    } else if (key != NULL && value == NULL && strcmp(line, "watch") == 0) {
        why = watch(client, key);
    }
    if (why == NULL)
        answer(client, "ok");
    else
        answer(client, "error %s", why);
}

/* Sends what goes of the answer. */
static void send_answer(struct client *client) {
    size_t left = client->answer_length - client->answer_sent;
    ssize_t sent = send(client->handoff.connection, client->answer + client->answer_sent, left, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) client->answer_sent += (size_t)sent;
    if (sent < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS) client->state = DONE;
    if (client->answer_sent == client->answer_length) client->answer_length = client->answer_sent = 0;
}

/* Answers whole lines for as long as the answers go out: who does not read them is not listened to. */
static void answer_lines(struct client *client) {
    while (client->state == TALKING && client->answer_length == 0) {
        char *end = memchr(client->said, '\n', client->said_length);
        if (end == NULL) {
            if (client->said_length == sizeof client->said) {
                client->ended = true;
                client->said_length = 0;
                answer(client, "error too long");
                send_answer(client);
                continue;
            }
            if (client->ended) {
                shutdown(client->handoff.connection, SHUT_WR);
                client->state = LEAVING;
            }
            return;
        }
        size_t length = (size_t)(end - client->said);
        char line[LONGEST_LINE];
        memcpy(line, client->said, length);
        line[length] = '\0';
        client->said_length -= length + 1;
        memmove(client->said, end + 1, client->said_length);
        obey(client, line, length);
        send_answer(client);
    }
}

/* What a client's state asks for, when its connection is ready or, for the first and the last state, from time to time. */
static void serve(struct client *client, short events) {
    if (client->state == NEW) {
        if (doorward_greet(&client->handoff) == 0)
            client->state = TALKING;
        else if (errno != ETOOMANYREFS) /* else too many descriptors of our user are under way, until clients read theirs */
            client->state = DONE;
    } else if (client->state == LEAVING) {
        /* The lease is held until it has read everything, or is gone: what it leaves unread, the greeting's descriptor above all, is
         * charged to our user. */
        int unread;
        if (ioctl(client->handoff.connection, SIOCOUTQ, &unread) != 0 || unread == 0) client->state = DONE;
    } else if (events != 0 && client->answer_length > 0) {
        send_answer(client);
    } else if (events != 0) {
        ssize_t length = recv(client->handoff.connection, client->said + client->said_length, sizeof client->said - client->said_length,
                              MSG_DONTWAIT);
        if (length > 0) client->said_length += (size_t)length;
        if (length == 0) client->ended = true;
        if (length < 0 && errno != EAGAIN && errno != EINTR) client->state = DONE;
    }
    answer_lines(client);
}

static void add_client(struct doorward_handoff *handoff) {
    if (client_count == client_room) {
        size_t room = client_room * 2 + 16;
        struct client **more = realloc(clients, room * sizeof *clients);
        if (more != NULL) {
            clients = more;
            client_room = room;
        }
    }
    struct client *client = client_count < client_room ? calloc(1, sizeof *client) : NULL;
    if (client == NULL) {
        log_line("dropped a connection: no memory");
        doorward_handoff_close(handoff);
        return;
    }
    client->handoff = *handoff;
    clients[client_count++] = client;
    serve(client, 0);
}

static void remove_clients_that_are_done(void) {
    for (size_t n = client_count; n-- > 0;) {
        if (clients[n]->state != DONE) continue;
        doorward_handoff_close(&clients[n]->handoff);
        free(clients[n]);
        clients[n] = clients[--client_count];
    }
}

/* --- where connections come from --- */

static void remove_door(struct door *door) {
    doorward_backend_close(&door->backend);
    *door = doors[--door_count];
}

/* Takes a connection, or the channel; false where it has to wait for room. */
static bool serve_door(struct door *door) {
    char why[DOORWARD_WHY];
    struct doorward_handoff handoff;
    if (door->backend.channel < 0) {
        struct pollfd control = {door->backend.control, POLLIN, 0};
        if (!doorward_has_room(door->backend.control)) return false;
        if (poll(&control, 1, 0) == 1) {
            if (doorward_take_channel(door->backend.control, &door->backend, why) == 0) return true;
            log_line("refused a control connection: %s", why);
        } else if (now() < door->deadline) {
            return true;
        } else {
            log_line("refused a control connection: it brought no channel");
        }
        remove_door(door);
        return true;
    }
    switch (doorward_try_recv(&door->backend, &handoff, why)) {
    case DOORWARD_HANDOFF:
        add_client(&handoff);
        return true;
    case DOORWARD_DROPPED:
        log_line("dropped a connection: %s", why);
        return true;
    case DOORWARD_NO_ROOM:
        return false;
    case DOORWARD_NOTHING:
        return true;
    case DOORWARD_FAILED:
        log_line("%s", why);
        break;
    case DOORWARD_GONE:
        break;
    }
    remove_door(door);
    return true;
}

/* False where it has to wait for room. */
static bool accept_door(void) {
    char why[DOORWARD_WHY];
    int control = doorward_accept(listener, allowed, allowed_count, why);
    if (control >= 0) {
        doors[door_count++] = (struct door){{-1, control}, now() + PATIENCE};
        return true;
    }
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return true;
    bool passes = errno == EPERM;
    log_line("refused a control connection: %s", why);
    return passes;
}

/* --- the loop --- */

/* Until a signal, or until nobody can hand anything off any more; then for `grace` milliseconds, while there are clients. */
static void run(int signals, long long grace) {
    struct pollfd *watched = NULL;
    size_t watched_room = 0;
    bool stopping = false, full = false;
    long long deadline = 0;
    while (!stopping || (client_count > 0 && now() < deadline)) {
        size_t needed = 2 + 2 * MOST_DOORS + client_count;
        if (needed > watched_room) {
            struct pollfd *more = realloc(watched, needed * 2 * sizeof *watched);
            if (more == NULL) {
                log_line("no memory");
                break;
            }
            watched = more;
            watched_room = needed * 2;
        }
        size_t count = 0;
        int timeout = full ? PAUSE : -1;
        watched[count++] = (struct pollfd){signals, POLLIN, 0};
        watched[count++] = (struct pollfd){full || door_count == MOST_DOORS ? -1 : listener, POLLIN, 0};
        for (size_t n = 0; n < door_count; n++) {
            const struct doorward_backend *backend = &doors[n].backend;
            bool waits = backend->channel < 0;
            watched[count++] = (struct pollfd){full ? -1 : backend->channel, POLLIN, 0};
            watched[count++] = (struct pollfd){full ? -1 : backend->control, waits ? POLLIN : POLLRDHUP, 0};
            if (waits) timeout = PAUSE;
        }
        size_t first = count, doors_watched = door_count, clients_watched = client_count;
        for (size_t n = 0; n < client_count; n++) {
            bool talks = clients[n]->state == TALKING;
            short events = clients[n]->answer_length > 0 ? POLLOUT : POLLIN;
            watched[count++] = (struct pollfd){talks ? clients[n]->handoff.connection : -1, events, 0};
            if (!talks) timeout = PAUSE;
        }
        if (stopping && (timeout < 0 || timeout > deadline - now())) timeout = deadline > now() ? (int)(deadline - now()) : 0;
        if (poll(watched, count, timeout) < 0 && errno != EINTR) {
            log_line("unable to wait: %s", strerror(errno));
            break;
        }
        for (size_t n = 0; n < clients_watched; n++) serve(clients[n], watched[first + n].revents);
        remove_clients_that_are_done();
        if (stopping) continue;
        bool looked = full;
        full = false;
        /* Backwards, for one that goes is replaced by the last. */
        for (size_t n = doors_watched; n-- > 0;) {
            bool waits = doors[n].backend.channel < 0;
            if (looked || waits || watched[2 + 2 * n].revents != 0 || watched[3 + 2 * n].revents != 0) full |= !serve_door(&doors[n]);
        }
        if (listener >= 0 && door_count < MOST_DOORS && (looked || watched[1].revents != 0)) full |= !accept_door();
        if (watched[0].revents != 0 || (listener < 0 && door_count == 0)) {
            /* What was received is served; the rest stays in the channel, for whoever comes next. */
            stopping = true;
            deadline = now() + grace;
            while (door_count > 0) remove_door(&doors[door_count - 1]);
            doorward_close(&listener);
        }
    }
    free(watched);
}

static int usage(void) {
    dprintf(2, "usage: watch [--listen PATH] [--allow-user USER]... [--grace SECONDS]\n");
    return 100;
}

/* The uid of a user given by name or number. */
static bool find_user(const char *word, uid_t *uid) {
    char *end;
    errno = 0;
    unsigned long number = strtoul(word, &end, 10);
    if (*word >= '0' && *word <= '9' && *end == '\0' && errno == 0 && number < (uid_t)-1) {
        *uid = (uid_t)number;
        return true;
    }
    const struct passwd *user = getpwnam(word);
    if (user != NULL) *uid = user->pw_uid;
    return user != NULL;
}

int main(int argc, char **argv) {
    const char *path = NULL;
    double grace = 3;
    for (int n = 1; n < argc; n += 2) {
        char *end;
        if (n + 1 == argc) return usage();
        if (strcmp(argv[n], "--listen") == 0) {
            path = argv[n + 1];
        } else if (strcmp(argv[n], "--allow-user") == 0) {
            if (allowed_count == MOST_ALLOWED || !find_user(argv[n + 1], &allowed[allowed_count++])) {
                log_line("no such user, or too many: %s", argv[n + 1]);
                return 100;
            }
        } else if (strcmp(argv[n], "--grace") == 0) {
            grace = strtod(argv[n + 1], &end);
            if (*end != '\0' || !(grace >= 0 && grace <= 86400)) return usage();
        } else {
            return usage();
        }
    }
    sigset_t stoppers;
    sigemptyset(&stoppers);
    sigaddset(&stoppers, SIGTERM);
    sigaddset(&stoppers, SIGINT);
    sigprocmask(SIG_BLOCK, &stoppers, NULL);
    signal(SIGPIPE, SIG_IGN);
    int signals = signalfd(-1, &stoppers, SFD_CLOEXEC);
    /* Four descriptors a client; without room connections wait in the channel. */
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    char why[DOORWARD_WHY];
    const char *names = getenv("LISTEN_FDNAMES");
    bool started = path == NULL && names != NULL && strcmp(names, "handoff") == 0;
    if (started && doorward_backend_from_env(&doors[0].backend, why) == 0)
        door_count = 1;
    else if (!started)
        listener = path != NULL ? doorward_listener_bind(path, why) : doorward_listener_from_env(why);
    if (signals < 0 || (door_count == 0 && listener < 0)) {
        log_line("unable to start: %s", signals < 0 ? "no signalfd" : why);
        return path != NULL || signals < 0 ? 111 : 100;
    }
    if (doorward_notify("READY=1") != 0) log_line("unable to tell that it is ready: %s", strerror(errno));
    run(signals, (long long)(grace * 1000));
    return 0;
}
