/*
 * System V shared memory of huge pages: a segment with a key and a size that is no multiple of a huge page,
 * attached twice and by a child; one made by another user; one read-only that is marked for removal.
 *
 * huge-pages: 8
 */
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#include "sysv_common.h"

#define HUGE	(2l << 20)
#define SIZE	(2 * HUGE + 123)
#define OTHER	1234

static char *attach(int id, int flags)
{
	char *p = shmat(id, NULL, flags);

	MAKER_MUST(p != (void *)-1);
	return p;
}

static int make(key_t key, size_t size)
{
	int id = shmget(key, size, IPC_CREAT | IPC_EXCL | SHM_HUGETLB | 0640);

	if (id < 0 && (errno == ENOMEM || errno == ENOSYS))
		maker_skip("no memory for 8 huge pages (vm.nr_hugepages): %s", strerror(errno));
	return sysv_made("shm", id);
}

/* Huge pages are for those who may lock memory. */
static int make_as_other(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };
	int status, id, ends[2];
	pid_t pid;

	MAKER_MUST(!pipe(ends));
	pid = fork();
	if (!pid) {
		MAKER_MUST(!prctl(PR_SET_KEEPCAPS, 1) && !setresgid(OTHER, OTHER, OTHER) &&
			   !setresuid(OTHER, OTHER, OTHER) && !syscall(SYS_capget, &head, data));
		data[0].effective = 1u << CAP_IPC_LOCK;
		MAKER_MUST(!syscall(SYS_capset, &head, data));
		id = make(IPC_PRIVATE, HUGE);
		MAKER_MUST(write(ends[1], &id, sizeof(id)) == sizeof(id));
		_exit(0);
	}
	MAKER_MUST(waitpid(pid, &status, 0) == pid && !status);
	MAKER_MUST(read(ends[0], &id, sizeof(id)) == sizeof(id));
	close(ends[0]);
	close(ends[1]);
	return id;
}

static struct shmid_ds stat_of(int id)
{
	struct shmid_ds ds;

	MAKER_MUST(!shmctl(id, IPC_STAT, &ds));
	return ds;
}

static bool is_huge(const void *p)
{
	char line[512];
	FILE *f = fopen("/proc/self/smaps", "r");
	bool here = false;
	long kib = 0;

	MAKER_MUST(f);
	while (!kib && fgets(line, sizeof(line), f)) {
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx %*4s %*x", &start, &end) == 2)
			here = start == (unsigned long)p;
		if (here)
			sscanf(line, "KernelPageSize: %ld", &kib);
	}
	fclose(f);
	return kib == 2048;
}

int main(int argc, char **argv)
{
	const key_t key = 0x43600000 + maker_number();
	volatile char *data, *again, *others, *gone;
	struct shmid_ds ds;
	int keyed, other, dest;
	pid_t child;

	maker_begin(argc, argv);
	keyed = make(key, SIZE);
	other = make_as_other();
	dest = make(IPC_PRIVATE, HUGE);
	data = attach(keyed, 0);
	again = attach(keyed, 0);
	others = attach(other, 0);
	gone = attach(dest, 0);
	gone[HUGE / 2] = 'g';
	MAKER_MUST(!shmdt((void *)(uintptr_t)gone));
	gone = attach(dest, SHM_RDONLY);
	MAKER_MUST(!shmctl(dest, IPC_RMID, NULL));
	data[0] = 'a';
	/* Behind the size, in the last huge page. */
	data[3 * HUGE - 1] = 'z';
	others[5] = 'o';
	child = fork();
	if (!child)
		for (;;) {
			data[HUGE + 1] = (char)(data[HUGE] + 1);
			usleep(1000);
		}
	maker_ready();
	maker_wait();

	if (data[0] != 'a' || again[3 * HUGE - 1] != 'z' || others[5] != 'o' || gone[HUGE / 2] != 'g')
		maker_fail("the contents changed");
	if (!is_huge((void *)(uintptr_t)data) || !is_huge((void *)(uintptr_t)again) ||
	    !is_huge((void *)(uintptr_t)others) || !is_huge((void *)(uintptr_t)gone))
		maker_fail("it consists of small pages now");
	again[HUGE] = 40;
	for (int i = 0; data[HUGE + 1] != 41; i++) {
		if (i > 5000)
			maker_fail("the child sees other memory");
		usleep(1000);
	}
	ds = stat_of(keyed);
	MAKER_SAME("size", ds.shm_segsz, SIZE);
	MAKER_SAME("attached", ds.shm_nattch, 4);
	MAKER_SAME("the key's segment", shmget(key, SIZE, 0), keyed);
	ds = stat_of(other);
	MAKER_SAME("creator", ds.shm_perm.cuid, OTHER);
	ds = stat_of(dest);
	MAKER_SAME("marked for removal", ds.shm_perm.mode & SHM_DEST, SHM_DEST);
	MAKER_SAME("protection", mprotect((void *)(uintptr_t)gone, HUGE, PROT_READ | PROT_WRITE), -1);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	shmctl(keyed, IPC_RMID, NULL);
	shmctl(other, IPC_RMID, NULL);
	maker_ok();
}
