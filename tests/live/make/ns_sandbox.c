/*
 * A process with threads and a child in the sandbox of ns_sandbox.h, with less than root's rights:
 * mounts, names, id maps and what it may do are the same afterwards; files it had open are still
 * where they were; thread ids are the same, although none can be chosen inside a user namespace.
 */
#define _GNU_SOURCE
#include <grp.h>
#include <libgen.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/utsname.h>

#include "said_common.h"
#define NS_MUST MAKER_MUST
#include "ns_sandbox.h"

#define THREADS 5

static struct shared {
	pid_t tids[THREADS], seen[THREADS], child;
	int go;
	char child_says[64];
} *sh;

static char *mounts_now(void)
{
	int proc = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	char *text = sandbox_mounts_text(proc);

	close(proc);
	return text;
}

static void read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);

	if (n < 0)
		maker_fail("cannot read %s: %s", path, strerror(errno));
	buf[n] = '\0';
	close(fd);
}

static void check_map(const char *path, long id)
{
	long a, b, c, d, e, f;
	char text[256];

	read_file(path, text, sizeof(text));
	if (sscanf(text, "%ld %ld %ld %ld %ld %ld", &a, &b, &c, &d, &e, &f) != 6)
		maker_fail("%s is '%s'", path, text);
	if (a || b || c != 1 || d != id || e != id || f != 1)
		maker_fail("%s is '%s'", path, text);
}

static void check_rights(void)
{
	char path[16];

	if (open("/etc/shadow", O_RDONLY) >= 0 || errno != EACCES)
		maker_fail("an inaccessible file can be opened: %s", strerror(errno));
	if (open("/etc/new", O_CREAT | O_WRONLY, 0600) >= 0 || errno != EROFS)
		maker_fail("/etc can be written: %s", strerror(errno));
	if (open("/dev/new", O_CREAT | O_WRONLY, 0600) >= 0 || errno != EROFS)
		maker_fail("/dev can be written: %s", strerror(errno));
	snprintf(path, sizeof(path), "/tmp/new");
	MAKER_MUST(open(path, O_CREAT | O_WRONLY | O_EXCL, 0600) >= 0);
	MAKER_MUST(unlink(path) == 0);
	if (access("/proc/1/status", F_OK) == 0)
		maker_fail("hidepid=invisible is lost: /proc/1 shows");
	if (setuid(0) == 0)
		maker_fail("uid 0 can be taken");
}

static void check_names(void)
{
	struct utsname u;

	MAKER_MUST(uname(&u) == 0);
	if (strcmp(u.nodename, "sandboxed") || strcmp(u.domainname, "inside"))
		maker_fail("host is named %s.%s", u.nodename, u.domainname);
}

static void wait_for_go(void)
{
	while (!__atomic_load_n(&sh->go, __ATOMIC_ACQUIRE))
		usleep(2000);
}

static void *thread_main(void *arg)
{
	size_t i = (size_t)arg;

	__atomic_store_n(&sh->tids[i], maker_tid(), __ATOMIC_RELEASE);
	wait_for_go();
	sh->seen[i] = maker_tid();
	return NULL;
}

static void child_main(void)
{
	struct utsname u;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	wait_for_go();
	uname(&u);
	snprintf(sh->child_says, sizeof(sh->child_says), "%d %.20s %s", (int)getuid(), u.nodename,
		 access("/tmp/mine", F_OK) == 0 ? "private" : "public");
	_exit(0);
}

static void start_helpers(pthread_t *threads)
{
	pid_t pid = fork();

	MAKER_MUST(pid >= 0);
	if (!pid)
		child_main();
	sh->child = pid;
	for (size_t i = 0; i < THREADS; i++) {
		MAKER_MUST(pthread_create(&threads[i], NULL, thread_main, (void *)i) == 0);
		while (!__atomic_load_n(&sh->tids[i], __ATOMIC_ACQUIRE))
			usleep(1000);
	}
}

static void check_helpers(pthread_t *threads)
{
	char says[64];
	int status;

	__atomic_store_n(&sh->go, 1, __ATOMIC_RELEASE);
	for (size_t i = 0; i < THREADS; i++) {
		MAKER_MUST(pthread_join(threads[i], NULL) == 0);
		MAKER_SAME("thread id", sh->seen[i], sh->tids[i]);
	}
	MAKER_MUST(waitpid(sh->child, &status, 0) == sh->child && status == 0);
	snprintf(says, sizeof(says), "%d sandboxed private", SANDBOX_UID);
	if (strcmp(sh->child_says, says))
		maker_fail("the child says '%s'", sh->child_says);
}

static void give_up_rights(void)
{
	gid_t groups[1] = { SANDBOX_GID };

	MAKER_MUST(setgroups(1, groups) == 0);
	sandbox_user();
	MAKER_MUST(setresgid(SANDBOX_GID, SANDBOX_GID, SANDBOX_GID) == 0);
	MAKER_MUST(setresuid(SANDBOX_UID, SANDBOX_UID, SANDBOX_UID) == 0);
}

int main(int argc, char **argv)
{
	char base[256], path[320], text[64];
	int host_null, null, data, cwd;
	pthread_t threads[THREADS];
	struct stat before, after;
	struct sandbox s;
	gid_t groups[4];
	char *was;

	maker_begin(argc, argv);
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MAKER_MUST(sh != MAP_FAILED);
	snprintf(base, sizeof(base), "%.200s/ns_sandbox.d", dirname(strdup(argv[1])));
	sandbox_host_side(&s, base);
	snprintf(path, sizeof(path), "%s/covered/below/dump.rdb", base);
	host_null = open("/dev/null", O_RDWR);	/* stays on the host's mount */
	sandbox_mounts_build(&s);
	null = open("/dev/null", O_RDWR);
	snprintf(path, sizeof(path), "/var/tmp/open");
	data = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	MAKER_MUST(host_null >= 0 && null >= 0 && data >= 0);
	MAKER_MUST(fchown(data, SANDBOX_UID, SANDBOX_GID) == 0 && write(data, "abcdef", 6) == 6);
	MAKER_MUST(chdir("/var/tmp") == 0);
	give_up_rights();
	MAKER_MUST(prctl(PR_SET_DUMPABLE, 1) == 0);
	was = mounts_now();
	MAKER_MUST(fstat(host_null, &before) == 0);
	start_helpers(threads);
	check_rights();
	maker_ready();
	maker_wait();

	check_helpers(threads);
	same_lines(mounts_now(), was);
	check_names();
	check_map("/proc/self/uid_map", SANDBOX_UID);
	check_map("/proc/self/gid_map", SANDBOX_GID);
	MAKER_SAME("uid", getuid(), SANDBOX_UID);
	MAKER_SAME("gid", getegid(), SANDBOX_GID);
	MAKER_SAME("number of groups", getgroups(4, groups), 1);
	MAKER_SAME("group", groups[0], SANDBOX_GID);
	check_rights();
	MAKER_MUST(fstat(host_null, &after) == 0);
	MAKER_SAME("device of the host's /dev", after.st_dev, before.st_dev);
	MAKER_MUST(fstat(null, &after) == 0);
	if (after.st_dev == before.st_dev)
		maker_fail("the sandbox's /dev/null has become the host's");
	MAKER_MUST(lseek(data, 0, SEEK_CUR) == 6);
	MAKER_MUST(pread(data, text, sizeof(text), 0) == 6 && !memcmp(text, "abcdef", 6));
	cwd = open(".", O_PATH | O_DIRECTORY);
	MAKER_MUST(cwd >= 0 && faccessat(cwd, "open", F_OK, 0) == 0);
	MAKER_MUST(getcwd(text, sizeof(text)) && !strcmp(text, "/var/tmp"));
	maker_ok();
}
