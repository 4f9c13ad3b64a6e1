/*
 * Huge pages, mapped: private and shared anonymous ones, read-only, with holes; private and shared
 * mappings of a memfd; a removed file on hugetlbfs; a child that has them copy-on-write, has
 * changed one and discarded another.
 *
 * huge-pages: 40
 */
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "files_common.h"

#define HUGE	(2l << 20)
#define AREA	(4 * HUGE)

static char *priv, *ro, *shared, *fd_shared, *fd_private, *removed;
static pid_t child;

static char *area(int prot, int flags, int fd)
{
	char *p = mmap(NULL, AREA, prot, flags, fd, 0);

	if (p == MAP_FAILED && errno == ENOMEM)
		maker_skip("no memory for 40 huge pages (vm.nr_hugepages): %s", strerror(errno));
	MAKER_MUST(p != MAP_FAILED);
	return p;
}

/* Of a file system of our own, gone from sight at once. */
static char *removed_file(void)
{
	int fd;
	char *p;

	if (mkdir("huge", 0700) < 0 || mount("none", "huge", "hugetlbfs", 0, NULL) < 0)
		return NULL;
	fd = open("huge/removed", O_RDWR | O_CREAT, 0600);
	MAKER_MUST(fd >= 0 && !ftruncate(fd, AREA));
	p = area(PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	close(fd);
	MAKER_MUST(!unlink("huge/removed") && !umount2("huge", MNT_DETACH));
	return p;
}

static char page_kind(const char *p)
{
	char line[512], path[8] = "";
	FILE *f = fopen("/proc/self/smaps", "r");
	bool here = false;
	long kib = 0;

	MAKER_MUST(f);
	while (!kib && fgets(line, sizeof(line), f)) {
		unsigned long start;

		if (sscanf(line, "%lx-%*x %4s", &start, path) == 2 && strchr(line, '-') < line + 13)
			here = start == (unsigned long)p;
		if (here)
			sscanf(line, "KernelPageSize: %ld", &kib);
	}
	fclose(f);
	return kib == 2048 ? 'h' : '?';
}

static int look(bool in_child)
{
	char *const all[] = { priv, ro, shared, fd_shared, fd_private };

	for (size_t i = 0; i < 5; i++)
		if (page_kind(all[i]) != 'h')
			return 10 + (int)i;
	if (strcmp(priv, in_child ? "the child's own" : "private") || priv[HUGE] ||
	    strcmp(priv + 3 * HUGE - 20, in_child ? "" : "at an end"))
		return 1;
	if (strcmp(ro + 5, "read only") || strcmp(shared + 2 * HUGE, "shared"))
		return 2;
	if (strcmp(fd_shared + 7, "in the memfd") || strcmp(fd_private + 7, "over the memfd") ||
	    strcmp(fd_private + 3 * HUGE, "shown through"))
		return 3;
	if (removed && strcmp(removed + HUGE, "no name"))
		return 4;
	if (shared[0] != 42)
		return 5;
	return 0;
}

static void child_main(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	strcpy(priv, "the child's own");
	MAKER_MUST(!madvise(priv + 2 * HUGE, HUGE, MADV_DONTNEED));
	shared[1] = 1;
	maker_wait();
	_exit(look(true));
}

int main(int argc, char **argv)
{
	int fd, status;

	maker_begin(argc, argv);
	fd = memfd_create("huge", MFD_HUGETLB | MFD_CLOEXEC);
	if (fd < 0 && errno == ENOSYS)
		maker_skip("the kernel has no huge pages (CONFIG_HUGETLBFS): %s", strerror(errno));
	MAKER_MUST(fd >= 0 && !ftruncate(fd, AREA));
	priv = area(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
	ro = area(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
	shared = area(PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1);
	fd_shared = area(PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	fd_private = area(PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
	removed = maker_is_plain() ? NULL : removed_file();
	strcpy(priv, "private");
	strcpy(priv + 3 * HUGE - 20, "at an end");
	strcpy(ro + 5, "read only");
	MAKER_MUST(!mprotect(ro, AREA, PROT_READ));
	strcpy(shared + 2 * HUGE, "shared");
	strcpy(fd_private + 7, "over the memfd");
	strcpy(fd_shared + 7, "in the memfd");
	strcpy(fd_shared + 3 * HUGE, "shown through");
	if (removed)
		strcpy(removed + HUGE, "no name");
	child = fork();
	if (!child)
		child_main();
	while (!((volatile char *)shared)[1])
		usleep(1000);
	shared[0] = 42;

	maker_ready();
	maker_wait();

	status = look(false);
	if (status)
		maker_fail("it differs: %d", status);
	kill(child, SIGUSR1);
	MAKER_MUST(waitpid(child, &status, 0) == child);
	MAKER_SAME("what the child finds", status, 0);
	maker_ok();
}
