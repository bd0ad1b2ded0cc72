/*
 * The plainest backend: `backend` takes connections from the channel on descriptor 3, one message at a time;
 * `backend PATH` accepts by itself. Either way it writes three bytes to each connection and closes all that came.
 *
 * It takes the first descriptor for the connection, which a real backend must not: HANDOFF_FDS says which is which.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CHANNEL = 3, MOST = 8, LONGEST = 16 * 1024 };

static const char answer[] = "ok\n";

static int take(void)
{
  static char payload[LONGEST];
  union { char bytes[CMSG_SPACE(MOST * sizeof(int))]; struct cmsghdr alignment; } control;

  for (;;) {
    struct iovec part = { payload, sizeof payload };
    struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control,
    };
    struct cmsghdr *header;
    int descriptors[MOST], count;

    if (recvmsg(CHANNEL, &message, MSG_CMSG_CLOEXEC) <= 0) return 0;
    header = CMSG_FIRSTHDR(&message);
    if (header == 0 || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) return 1;
    count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(descriptors, CMSG_DATA(header), count * sizeof(int));
    if (send(descriptors[0], answer, sizeof answer - 1, MSG_NOSIGNAL) < 0) perror("send");
    for (int index = 0; index < count; index++) close(descriptors[index]);
  }
}

static int accept_by_itself(const char *path)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int listening_socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  if (strlen(path) >= sizeof address.sun_path) return 100;
  strcpy(address.sun_path, path);
  if (bind(listening_socket, (void *)&address, sizeof address) < 0 || listen(listening_socket, SOMAXCONN) < 0) {
    perror(path);
    return 111;
  }
  for (;;) {
    int connection = accept4(listening_socket, 0, 0, SOCK_CLOEXEC);
    if (connection < 0) continue;
    if (send(connection, answer, sizeof answer - 1, MSG_NOSIGNAL) < 0) perror("send");
    close(connection);
  }
}

int main(int argc, char **argv)
{
  return argc > 1 ? accept_by_itself(argv[1]) : take();
}
