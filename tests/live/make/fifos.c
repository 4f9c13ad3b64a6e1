/* Named fifos: contents, both ends, a name that was removed. */
#include "files_common.h"

int main(int argc, char **argv)
{
	int r, w, rw, gone_r, gone_w, n = 0;
	struct fd_look was[5];
	char buf[32] = "";

	maker_begin(argc, argv);
	work_dir(argv[1]);
	MAKER_MUST((!mkfifo("fifo", 0600) || errno == EEXIST) &&
		   (!mkfifo("gone", 0600) || errno == EEXIST));
	MAKER_MUST((r = open("fifo", O_RDONLY | O_NONBLOCK)) >= 0);
	MAKER_MUST((w = open("fifo", O_WRONLY | O_CLOEXEC)) >= 0);
	MAKER_MUST((rw = open("fifo", O_RDWR)) >= 0);
	MAKER_MUST(write(w, "in the fifo", 11) == 11);
	MAKER_MUST((gone_r = open("gone", O_RDONLY | O_NONBLOCK)) >= 0);
	MAKER_MUST((gone_w = open("gone", O_WRONLY)) >= 0);
	MAKER_MUST(write(gone_w, "no name", 7) == 7 && !unlink("gone"));
	was[n++] = fd_look(r);
	was[n++] = fd_look(w);
	was[n++] = fd_look(rw);
	was[n++] = fd_look(gone_r);
	was[n++] = fd_look(gone_w);

	maker_ready();
	maker_wait();

	for (int i = 0; i < n; i++) {
		char what[32];

		snprintf(what, sizeof(what), "case %d", i);
		fd_same(what, &was[i]);
	}
	MAKER_SAME("read", read(r, buf, sizeof(buf)), 11);
	if (memcmp(buf, "in the fifo", 11))
		maker_fail("read \"%s\"", buf);
	MAKER_SAME("empty", read(r, buf, 1), -1);
	MAKER_SAME("write", write(w, "more", 4), 4);
	MAKER_SAME("read", read(rw, buf, sizeof(buf)), 4);
	MAKER_SAME("read", read(gone_r, buf, sizeof(buf)), 7);
	MAKER_MUST(!close(gone_w));
	MAKER_SAME("end of file", read(gone_r, buf, 1), 0);
	MAKER_SAME("no name left", access("gone", F_OK), -1);
	maker_ok();
}
