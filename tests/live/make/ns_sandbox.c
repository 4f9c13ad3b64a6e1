/*
 * A process in the sandbox of ns_sandbox.h, with less than root's rights: mounts, names, id maps
 * and what it may do are the same afterwards; files it had open are still where they were.
 */
#define _GNU_SOURCE
#include <grp.h>
#include <libgen.h>
#include <sys/prctl.h>
#include <sys/utsname.h>

#include "maker.h"
#define NS_MUST MAKER_MUST
#include "ns_sandbox.h"

static char *mounts_now(void)
{
	int proc = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	char *text = sandbox_mounts_text(proc);

	close(proc);
	return text;
}

static void same_mounts(const char *was, const char *is)
{
	while (*is || *was) {
		size_t n = strcspn(is, "\n"), k = strcspn(was, "\n");

		if (n != k || strncmp(is, was, n))
			maker_fail("mount is '%.*s', was '%.*s'", (int)n, is, (int)k, was);
		is += n + (is[n] == '\n');
		was += k + (was[k] == '\n');
	}
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
	int host_null, null, data, cwd, device;
	struct stat before, after;
	struct sandbox s;
	gid_t groups[4];
	char *was;

	maker_begin(argc, argv);
	if (geteuid())
		maker_skip("needs root to make namespaces");
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
	device = before.st_dev != 0;
	check_rights();
	maker_ready();
	maker_wait();

	same_mounts(was, mounts_now());
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
		maker_fail("the sandbox's /dev/null has become the host's (%d)", device);
	MAKER_MUST(lseek(data, 0, SEEK_CUR) == 6);
	MAKER_MUST(pread(data, text, sizeof(text), 0) == 6 && !memcmp(text, "abcdef", 6));
	cwd = open(".", O_PATH | O_DIRECTORY);
	MAKER_MUST(cwd >= 0 && faccessat(cwd, "open", F_OK, 0) == 0);
	MAKER_MUST(getcwd(text, sizeof(text)) && !strcmp(text, "/var/tmp"));
	maker_ok();
}
