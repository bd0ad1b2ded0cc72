/*
 * The floor: `floor PATH THREADS CHILD [ARG...]`, the least that an adapter can do.
 *
 * Accepts, creates a child with the connection on 6 and 7, closes, accepts again. It
 * checks nobody, counts nothing, reaps nothing (SIGCHLD ignored: the kernel does) and
 * passes its own environment on. Nothing that keeps a connection's promises can be
 * faster; how near an adapter comes is what the benchmark asks.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

extern char **environ;
static int listening_socket;
static char **child_arguments;

static void fail(const char *what)
{
  perror(what);
  exit(111);
}

static void *serve(void *unused)
{
  for (;;) {
    int connection = accept4(listening_socket, 0, 0, SOCK_CLOEXEC);
    if (connection < 0) continue;
    /* The child has a copy of the descriptors, but the memory is ours: it may only place and exec. */
    if (vfork() == 0) {
      dup2(connection, 6);
      dup2(connection, 7);
      execve(child_arguments[0], child_arguments, environ);
      _exit(127);
    }
    close(connection);
  }
  return unused;
}

int main(int argc, char **argv)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int null;

  if (argc < 4 || strlen(argv[1]) >= sizeof address.sun_path) {
    fputs("usage: floor PATH THREADS CHILD [ARG...]\n", stderr);
    return 100;
  }
  signal(SIGCHLD, SIG_IGN);
  child_arguments = argv + 3;
  strcpy(address.sun_path, argv[1]);
  listening_socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listening_socket < 0 || bind(listening_socket, (void *)&address, sizeof address) < 0) fail(argv[1]);

  /* No connection may get a number up to 7: dup2 onto itself would leave it close-on-exec. */
  do null = open("/dev/null", O_RDWR | O_CLOEXEC); while (null >= 0 && null < 7);
  if (null < 0) fail("/dev/null");

  if (listen(listening_socket, SOMAXCONN) < 0) fail("listen");
  for (int more = atoi(argv[2]) - 1; more > 0; more--) {
    pthread_t thread;
    if (pthread_create(&thread, 0, serve, 0)) fail("thread");
  }
  serve(0);
}
