/*
 * seccomp filters. SECCOMP_MAKER_MODE, or argv[2]: "nnp" filters after no_new_privs, "privileged"
 * without, "tsync" the same for all threads, "strict" in a second thread.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "maker.h"

#ifndef SECCOMP_MAKER_MODE
#define SECCOMP_MAKER_MODE "nnp"
#endif

static pthread_barrier_t before, after;
static const char *mode = SECCOMP_MAKER_MODE;
static int pipe_fds[2], second_tid;

static bool mode_is(const char *m)
{
	return !strcmp(mode, m);
}

/* System call nr fails with error, all others pass. */
static long deny(int nr, int error, unsigned int flags)
{
	struct sock_filter insns[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned int)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { 4, insns };

	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
}

static void check_denied(const char *who, int nr, int error)
{
	errno = 0;
	if (syscall(nr, -1, -1, -1, -1, -1) != -1 || errno != error)
		maker_fail("%s: system call %d gave error %d, not %d", who, nr, errno, error);
}

static void strict_thread(void)
{
	char c;

	pthread_barrier_wait(&before);
	if (maker_sets_up() && syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0))
		syscall(SYS_exit, 1);
	while (syscall(SYS_read, pipe_fds[0], &c, 1) != 1)
		;
	syscall(SYS_exit, 0);
}

static void *second(void *arg)
{
	(void)arg;
	second_tid = maker_tid();
	if (mode_is("strict"))
		strict_thread();
	if (maker_sets_up() && mode_is("nnp")) {
		MAKER_MUST(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
		MAKER_MUST(!deny(SYS_getxattr, EXDEV, 0));
	}
	pthread_barrier_wait(&before);
	pthread_barrier_wait(&after);
	if (mode_is("nnp")) {
		check_denied("thread", SYS_getxattr, EXDEV);
		/* The leader's filters are not the thread's. */
		if (syscall(SYS_setxattr, -1, -1, -1, -1, -1) != -1 || errno == EXDEV)
			maker_fail("thread: setxattr is denied by a filter: %s", strerror(errno));
	}
	if (mode_is("tsync")) {
		check_denied("thread", SYS_setxattr, EXDEV);
		check_denied("thread", SYS_getxattr, ENODEV);
	}
	return NULL;
}

static void leader_set_up(void)
{
	unsigned int flags = mode_is("tsync") ? SECCOMP_FILTER_FLAG_TSYNC : 0;

	if (mode_is("strict"))
		return;
	if (!mode_is("privileged"))
		MAKER_MUST(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	/* The newest of equally strong verdicts wins: the order shows in the error. */
	MAKER_MUST(!deny(SYS_setxattr, EDOM, flags));
	MAKER_MUST(!deny(SYS_getxattr, ENODEV, flags | SECCOMP_FILTER_FLAG_LOG));
	MAKER_MUST(!deny(SYS_setxattr, EXDEV, flags));
	if (mode_is("privileged"))
		MAKER_MUST(!syscall(SYS_setresuid, 1234, 1234, 1234));
}

static void leader_verify(void)
{
	if (mode_is("strict")) {
		MAKER_SAME("mode of the thread", maker_status(second_tid, "Seccomp", 10), 1);
		return;
	}
	check_denied("leader", SYS_setxattr, EXDEV);
	check_denied("leader", SYS_getxattr, ENODEV);
	MAKER_SAME("filters", maker_status(maker_tid(), "Seccomp_filters", 10), 3);
	MAKER_SAME("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), !mode_is("privileged"));
	/* Threads that share their filters may share one more, others may not. */
	if (mode_is("tsync"))
		MAKER_SAME("one more for all",
			   deny(SYS_listxattr, EXDEV, SECCOMP_FILTER_FLAG_TSYNC), 0);
	if (mode_is("privileged"))
		MAKER_SAME("uid", getuid(), 1234);
}

int main(int argc, char **argv)
{
	pthread_t t;

	maker_begin(argc, argv);
	if (argc > 2)
		mode = argv[2];
	MAKER_MUST(!pipe(pipe_fds));
	pthread_barrier_init(&before, NULL, 2);
	pthread_barrier_init(&after, NULL, 2);
	MAKER_MUST(!pthread_create(&t, NULL, second, NULL));
	if (mode_is("tsync") && maker_sets_up())
		leader_set_up();
	pthread_barrier_wait(&before);
	if (!mode_is("tsync") && maker_sets_up())
		leader_set_up();
	maker_ready();
	maker_wait();
	if (!mode_is("strict"))
		pthread_barrier_wait(&after);
	leader_verify();
	if (mode_is("strict"))
		MAKER_MUST(write(pipe_fds[1], "x", 1) == 1);
	pthread_join(t, NULL);
	maker_ok();
}
