/*
 * A client made with skarnet's library alone, which knows nothing of doorward: skaclient PATH NOTE. It starts the session, pins NOTE to
 * the board, and prints the answer and the first note that comes on the second socket.
 */

#include <stdio.h>
#include <string.h>
#include <skalibs/skaclient.h>
#include <skalibs/tai.h>
#include <skalibs/unixmessage.h>

#define BEFORE "board 1 (b)\n"
#define AFTER "board 1 (a)\n"

static int failed(char const *what)
{
	perror(what);
	return 111;
}

int main(int argc, char **argv)
{
	static skaclient_buffer buffers;
	skaclient board = SKACLIENT_ZERO;
	unixmessage note;
	unsigned char code = 255;
	tain deadline;

	if (argc != 3) return 100;
	tain_now_set_stopwatch_g();
	tain_addsec_g(&deadline, 15);
	if (!skaclient_start_b_g(&board, &buffers, argv[1], 0, BEFORE, strlen(BEFORE), AFTER, strlen(AFTER), &deadline))
		return failed("start");
	if (!skaclient_send_g(&board, argv[2], strlen(argv[2]), &skaclient_default_cb, &code, &deadline))
		return failed("send");
	printf("answer %u\n", (unsigned int)code);
	if (unixmessage_timed_receive(&board.asyncin, &note, &deadline, &STAMP) <= 0)
		return failed("receive");
	printf("note %.*s\n", (int)note.len, note.s);
	skaclient_end(&board);
	return 0;
}
