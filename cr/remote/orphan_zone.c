/*
 * The dump's zone, mapped by the task itself, whose limits may leave no room for it.
 *
 * RLIMIT_DATA counts what is private and writable: then it is shared memory. RLIMIT_AS counts all; it is lifted
 * for the one call. A child of ours puts it back if we are killed meanwhile.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "remote/orphan.h"
#include "util/io.h"
#include "util/log.h"

static bool no_room(int64_t res)
{
	return res == -ENOMEM;
}

static int zone_call(struct task *leader, int share, int64_t *ret)
{
	/* Never writable and executable at once: PR_SET_MDWE would refuse that. */
	const uint64_t map[6] = { 0, ZONE_BYTES, PROT_READ | PROT_WRITE,
				  (uint64_t)share | MAP_ANONYMOUS, (uint64_t)-1, 0 };

	return orphan_call(leader, ret, SYS_mmap, map, true);
}

/* Until the other end of the pipe is closed, by us or by our end. */
static void limit_keeper(int fd, pid_t pid, const struct rlimit64 *old)
{
	sigset_t all;
	char c;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	while (read(fd, &c, 1) < 0 && errno == EINTR)
		;
	prlimit64(pid, RLIMIT_AS, old, NULL);
	_exit(0);
}

/* -EPERM: that takes CAP_SYS_RESOURCE. */
static int map_with_limit(struct task *leader, rlim64_t bytes, int64_t *ret)
{
	const struct rlimit64 as = { bytes, bytes };
	int r;

	if (prlimit64(leader->tid, RLIMIT_AS, &as, NULL) < 0)
		return neg_errno();
	r = zone_call(leader, MAP_PRIVATE, ret);
	if (r >= 0 && no_room(*ret))
		r = zone_call(leader, MAP_SHARED, ret);
	return r;
}

static int map_lifted(struct task *leader, const struct rlimit64 *old, int64_t *ret)
{
	int ends[2], r, e;
	pid_t keeper;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return neg_errno();
	keeper = fork();
	if (!keeper) {
		close(ends[1]);
		limit_keeper(ends[0], leader->tid, old);
	}
	r = keeper < 0 ? neg_errno() : 0;
	/* Without touching the hard limit nobody needs a privilege, to put it back neither. */
	if (r >= 0)
		r = map_with_limit(leader, old->rlim_max, ret);
	if (r >= 0 && no_room(*ret) && old->rlim_max != RLIM64_INFINITY)
		r = map_with_limit(leader, RLIM64_INFINITY, ret);
	e = prlimit64(leader->tid, RLIMIT_AS, old, NULL) < 0 ? neg_errno() : 0;
	close(ends[0]);
	close(ends[1]);
	while (keeper > 0 && waitpid(keeper, NULL, 0) < 0 && errno == EINTR)
		;
	if (e < 0 && r != -EPERM)
		return log_err(e, "cannot put RLIMIT_AS back to %llu bytes", (unsigned long long)old->rlim_cur);
	return r;
}

int orphan_map_zone(struct task *leader, int64_t *ret)
{
	struct rlimit64 as;
	int r = zone_call(leader, MAP_PRIVATE, ret);

	if (r >= 0 && no_room(*ret))
		r = zone_call(leader, MAP_SHARED, ret);
	if (r < 0 || !no_room(*ret))
		return r;
	if (prlimit64(leader->tid, RLIMIT_AS, NULL, &as) < 0 || as.rlim_cur == RLIM64_INFINITY)
		return 0;
	r = map_lifted(leader, &as, ret);
	if (r != -EPERM)
		return r;
	return log_obstacle("raise it before (LimitAS=, prlimit --pid PID --as=unlimited), or dump with CAP_SYS_RESOURCE",
			    "RLIMIT_AS, %llu bytes, leaves no room for the dump's 0x%x bytes",
			    (unsigned long long)as.rlim_cur, ZONE_BYTES);
}
