/*
 * For LD_PRELOAD: takes the place of one function of skalibs 2.10 to 2.14, which sends its descriptor again and again until its time is
 * up. This one sends it once. The types are the library's own; they are passed through, so that their names suffice.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

struct textmessage_sender_s;
struct tain_s;
extern int ancil_send_fd(int, int, char);
extern int fd_write(int, char const *, size_t);
/* A sender is a bufalloc and nothing else. */
extern void bufalloc_init(struct textmessage_sender_s *, int (*)(int, char const *, size_t), int);
extern int textmessage_put(struct textmessage_sender_s *, char const *, size_t);
extern int textmessage_sender_timed_flush(struct textmessage_sender_s *, struct tain_s const *, struct tain_s *);

int textmessage_create_send_channel(int sock, struct textmessage_sender_s *sender, char const *banner, size_t length,
	struct tain_s const *deadline, struct tain_s *stamp)
{
	int ends[2];
	int sent;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) == -1) return 0;
	/* Nothing was written to this socket yet, so there is room. */
	sent = ancil_send_fd(sock, ends[0], '|') > 0;
	close(ends[0]);
	if (!sent) {
		close(ends[1]);
		return 0;
	}
	bufalloc_init(sender, fd_write, ends[1]);
	return textmessage_put(sender, banner, length) && textmessage_sender_timed_flush(sender, deadline, stamp);
}
