/*
 * The smallest child: `child WRITE [READ]`, each one digit, a descriptor.
 *
 * Writes three bytes to WRITE; with READ, then waits for the end of file there,
 * which makes it a connection that the client can hold open. No libc: what is
 * left of a connection's cost is the adapter's and the kernel's, and the start
 * of a libc (hundreds of microseconds on some virtual machines) hides neither.
 */
#if defined(__x86_64__)
enum { READ = 0, WRITE = 1, EXIT = 60 };
__asm__(".globl _start\n_start: mov %rsp, %rdi\n\tand $-16, %rsp\n\tcall start\n");

static long call(long number, long a, const void *b, long c)
{
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c)
                   : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
enum { READ = 63, WRITE = 64, EXIT = 93 };
__asm__(".globl _start\n_start: mov x0, sp\n\tbl start\n");

static long call(long number, long a, const void *b, long c)
{
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register const void *x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
  return x0;
}
#else
#error "the benchmark's child is written for x86-64 and aarch64"
#endif

/* The kernel leaves argc and then argv on the stack. */
__attribute__((noreturn, used)) void start(const long *stack)
{
  const long argc = stack[0];
  char *const *argv = (char *const *)(stack + 1);
  char byte;

  if (argc < 2 || call(WRITE, argv[1][0] - '0', "ok\n", 3) != 3)
    call(EXIT, 1, 0, 0);
  if (argc > 2)
    while (call(READ, argv[2][0] - '0', &byte, 1) > 0) { }
  call(EXIT, 0, 0, 0);
  for (;;) { }
}
