/*
 * A memfd on huge pages, not mapped while it is saved: only mapping reaches what it holds.
 *
 * huge-pages: 6
 */
#include "files_common.h"

#include <sys/vfs.h>

#define HUGE (2l << 20)

static char *map_it(int fd)
{
	char *map = mmap(NULL, 3 * HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return map == MAP_FAILED ? NULL : map;
}

int main(int argc, char **argv)
{
	struct fd_look was;
	struct statfs fs;
	struct stat st;
	char *map;
	int fd;

	maker_begin(argc, argv);
	fd = memfd_create("huge", MFD_HUGETLB | MFD_CLOEXEC);
	if (fd < 0 && errno == ENOSYS)
		maker_skip("the kernel has no huge pages (CONFIG_HUGETLBFS): %s", strerror(errno));
	MAKER_MUST(fd >= 0 && !ftruncate(fd, 3 * HUGE));
	map = map_it(fd);
	if (!map && errno == ENOMEM)
		maker_skip("no memory for 6 huge pages (vm.nr_hugepages): %s", strerror(errno));
	MAKER_MUST(map);
	strcpy(map + 12345, "in the first");
	strcpy(map + 3 * HUGE - 20, "at the end");
	MAKER_MUST(!munmap(map, 3 * HUGE));
	was = fd_look(fd);

	maker_ready();
	maker_wait();

	fd_same("memfd", &was);
	MAKER_MUST(!fstat(fd, &st) && !fstatfs(fd, &fs));
	MAKER_SAME("size", st.st_size, 3 * HUGE);
	MAKER_SAME("page size", fs.f_bsize, HUGE);
	MAKER_MUST(map = map_it(fd));
	if (strcmp(map + 12345, "in the first") || strcmp(map + 3 * HUGE - 20, "at the end"))
		maker_fail("other contents");
	MAKER_SAME("hole", map[HUGE + 1], 0);
	maker_ok();
}
