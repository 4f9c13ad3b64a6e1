/*
 * A first process of a PID namespace with its own /proc; the runner's process stays outside of it and
 * is not dumped. Which of its pids outside is to be dumped is in the file RESULT.pid.
 */
#ifndef TESTS_LIVE_NS_PID_H
#define TESTS_LIVE_NS_PID_H

#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "maker.h"

/* Shared by all of them; of the maker's own size. */
static inline void *ns_pid_share(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	MAKER_MUST(p != MAP_FAILED);
	return p;
}

/*
 * Forks the first process, in mount and PID namespaces of its own: returns there when the file is
 * written. The runner's process calls outside() with its /proc directory, waits for it and ends.
 */
static inline void ns_pid_begin(const char *result, void (*outside)(int proc_dir))
{
	int go[2], dir;
	char path[400], byte;
	pid_t pid;
	FILE *f;

	MAKER_MUST(pipe2(go, O_CLOEXEC) == 0 && unshare(CLONE_NEWPID | CLONE_NEWNS) == 0);
	pid = fork();
	MAKER_MUST(pid >= 0);
	if (!pid) {
		close(go[1]);
		MAKER_MUST(read(go[0], &byte, 1) == 1);
		close(go[0]);
		MAKER_MUST(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0);
		MAKER_MUST(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0);
		MAKER_MUST(getpid() == 1);
		return;
	}
	close(go[0]);
	snprintf(path, sizeof(path), "%s.pid", result);
	f = fopen(path, "w");
	MAKER_MUST(f && fprintf(f, "%d\n", pid) > 0 && fclose(f) == 0);
	snprintf(path, sizeof(path), "/proc/%d", pid);
	dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	MAKER_MUST(dir >= 0 && write(go[1], "", 1) == 1);
	if (outside)
		outside(dir);
	waitpid(pid, NULL, 0);
	_exit(0);
}

#endif
