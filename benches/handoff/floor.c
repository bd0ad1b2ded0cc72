/*
 * The floor: `floor PATH DESCRIPTORS PROG [ARG...]`, the least that handing connections off can be.
 *
 * Starts PROG with one end of a SEQPACKET socketpair on 3, then accepts, asks who it is (and refuses nobody), and
 * sends one message of the size of doorward's with the connection and, where DESCRIPTORS is 3, both ends of a fresh
 * socketpair. It reports nothing that it has asked, counts nothing, and loses what a dead backend had queued.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CHANNEL = 3, MOST = 3, PAYLOAD = 160 };

static void fail(const char *what)
{
  perror(what);
  exit(111);
}

/* It ends with us: the other end of the channel, which is close-on-exec, hangs up. */
static void start_backend(int end, char **arguments)
{
  if (fork() != 0) return;
  if (end == CHANNEL) fcntl(end, F_SETFD, 0);
  else dup2(end, CHANNEL);
  execv(arguments[0], arguments);
  _exit(127);
}

static void hand_off(int channel, const int *descriptors, int count)
{
  static char payload[PAYLOAD];
  union { char bytes[CMSG_SPACE(MOST * sizeof(int))]; struct cmsghdr alignment; } control;
  struct iovec part = { payload, sizeof payload };
  struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control };
  struct cmsghdr *header;

  message.msg_controllen = CMSG_SPACE(count * sizeof(int));
  header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(count * sizeof(int));
  memcpy(CMSG_DATA(header), descriptors, count * sizeof(int));
  if (sendmsg(channel, &message, MSG_NOSIGNAL) < 0) fail("sendmsg");
}

int main(int argc, char **argv)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int channel[2], listening_socket, count;

  if (argc < 4 || strlen(argv[1]) >= sizeof address.sun_path) {
    fputs("usage: floor PATH 1|3 PROG [ARG...]\n", stderr);
    return 100;
  }
  count = atoi(argv[2]) == 1 ? 1 : MOST;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0) fail("socketpair");
  start_backend(channel[1], argv + 3);
  close(channel[1]);

  strcpy(address.sun_path, argv[1]);
  listening_socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listening_socket < 0 || bind(listening_socket, (void *)&address, sizeof address) < 0) fail(argv[1]);
  if (listen(listening_socket, SOMAXCONN) < 0) fail("listen");

  for (;;) {
    int descriptors[MOST];
    struct ucred peer;
    socklen_t length = sizeof peer;

    descriptors[0] = accept4(listening_socket, 0, 0, SOCK_CLOEXEC);
    if (descriptors[0] < 0) continue;
    if (getsockopt(descriptors[0], SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) fail("getsockopt");
    if (count == MOST && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, descriptors + 1) < 0) fail("socketpair");
    hand_off(channel[0], descriptors, count);
    for (int index = 0; index < count; index++) close(descriptors[index]);
  }
}
