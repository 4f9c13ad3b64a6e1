/*
 * A test's stand-in for the engine: a cr_restore() that makes no tree from images but starts
 * a program of the root filesystem with the pid, the place and the output that the tree would
 * have. Linked instead of libcr's into build/test/crkexec-early-standin; the product holds
 * none of this.
 *
 * The image directory has a file "standin.img" with one line: the program's path. Its
 * arguments: the tree's pid. A line "fail" or "crash" or "hang" does that instead; "end" makes a process that
 * ends between its restore and its adoption.
 */
#include <fcntl.h>
#include <glob.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "cr/cr.h"
#include "image/image.h"
#include "util/io.h"
#include "util/log.h"

static pid_t clone_as(pid_t pid)
{
	uint64_t tid = pid;
	struct clone_args args = {
		.flags = CLONE_PARENT, .set_tid = (uint64_t)&tid, .set_tid_size = 1,
	};

	return syscall(SYS_clone3, &args, sizeof(args));
}

/* The real init's generators have run: its units are not yet started. */
static void wait_for_dropins(void)
{
	glob_t found;

	while (glob("/run/systemd/generator*/*.service.d/zzz-crkexec.conf", 0, NULL, &found)) {
		globfree(&found);
		usleep(5000);
	}
}

static void __attribute__((noreturn)) be_tree(const struct cr_opts *o, const char *program)
{
	char pid[16];
	int null = open("/dev/null", O_RDWR);
	int out = o->n_externals ? o->externals[0].fd : null;

	snprintf(pid, sizeof(pid), "%d", getpid());
	setsid();
	dup2(null, 0);
	dup2(out, 1);
	dup2(out, 2);
	closefrom(3);
	if (!strcmp(program, "end")) {
		wait_for_dropins();
		dprintf(1, "last words of %s\n", pid);
		_exit(1);
	}
	execl(program, program, pid, NULL);
	_exit(127);
}

static int read_program(const struct cr_opts *o, char *buf, size_t bytes)
{
	static const struct image_type type = { "standin", "standin.img", 0, IMAGE_RAW };
	struct image_reader r;
	const void *text;
	int ret = image_open(o->store, &type, &r);

	if (ret < 0)
		return log_err(ret, "cannot open standin.img");
	ret = r.bytes < bytes ? image_get_raw(&r, r.bytes, &text) : -EFBIG;
	if (ret == 0) {
		memcpy(buf, text, r.bytes);
		buf[r.bytes] = '\0';
		buf[strcspn(buf, "\n")] = '\0';
	}
	image_reader_done(&r);
	return ret;
}

int cr_restore(const struct cr_opts *o, pid_t *ret_root, struct cr_stats *ret_stats _unused_)
{
	char program[4096];
	pid_t pid;
	int r = read_program(o, program, sizeof(program));

	if (r < 0)
		return r;
	if (!strcmp(program, "crash"))
		raise(SIGKILL);
	if (!strcmp(program, "hang"))
		pause();
	if (!strcmp(program, "fail"))
		return log_fail(-EINVAL, "this stand-in fails as told");
	pid = clone_as(o->pid);
	if (pid < 0)
		return log_err(neg_errno(), "cannot make pid %d", o->pid);
	if (pid == 0)
		be_tree(o, program);
	*ret_root = pid;
	return 0;
}
