/*
 * System V shared memory: written by one process and seen by another, at the same addresses; one
 * read-only attachment, one segment that is marked for removal, one locked, one with holes and
 * an owner of its own; keys, ids and modes.
 */
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>

#include "sysv_common.h"

#define BIG	((5u << 20) + 123)

static void *attach(int id, int flags)
{
	void *p = shmat(id, NULL, flags);

	if (p == (void *)-1)
		maker_fail("shmat: %s", strerror(errno));
	return p;
}

static struct shmid_ds stat_of(int id)
{
	struct shmid_ds ds;

	if (shmctl(id, IPC_STAT, &ds) < 0)
		maker_fail("segment %d: %s", id, strerror(errno));
	return ds;
}

int main(int argc, char **argv)
{
	/* Of one run; what a failed test left has it only if it had our pid. */
	const key_t key = 0x43500000 + maker_number();
	struct shmid_ds ds;
	int keyed, dest, big;
	volatile int *shared, *gone;
	volatile char *data;
	const volatile char *ro;
	pid_t child;

	maker_begin(argc, argv);
	shmctl(shmget(key, 0, 0), IPC_RMID, NULL);
	keyed = sysv_made("shm", shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0640));
	dest = sysv_made("shm", shmget(IPC_PRIVATE, 100, 0600));
	big = sysv_made("shm", shmget(IPC_PRIVATE, BIG, 0600));
	shared = attach(keyed, 0);
	gone = attach(dest, 0);
	data = attach(big, 0);
	ro = attach(big, SHM_RDONLY);
	ds = stat_of(keyed);
	sysv_give(&ds.shm_perm, 0640);
	if (shmctl(keyed, IPC_SET, &ds) < 0 || shmctl(dest, IPC_RMID, NULL) < 0)
		maker_fail("shmctl: %s", strerror(errno));
	data[0] = 'a';
	data[3u << 20] = 'b';
	data[BIG - 1] = 'c';
	*shared = 100;
	*gone = 200;
	child = fork();
	if (!child) {
		/* A second attachment of its own besides the inherited ones. */
		volatile int *again = attach(keyed, 0);

		for (;;) {
			*gone = *again + 1;
			usleep(1000);
		}
	}
	while (stat_of(keyed).shm_nattch != 3)
		usleep(1000);
	maker_ready();
	maker_wait();

	ds = stat_of(keyed);
	sysv_given(&ds.shm_perm, key, 0640);
	MAKER_SAME("attached", ds.shm_nattch, 3);
	MAKER_SAME("size", ds.shm_segsz, 4096);
	if (shmget(key, 4096, 0) != keyed)
		maker_fail("the key leads elsewhere");
	ds = stat_of(dest);
	if (!(ds.shm_perm.mode & SHM_DEST) || ds.shm_nattch != 2 || ds.shm_segsz != 100)
		maker_fail("removed: mode 0%o, %lu attached", ds.shm_perm.mode,
			   (unsigned long)ds.shm_nattch);
	ds = stat_of(big);
	if (ds.shm_nattch != 4 || ds.shm_segsz != BIG)
		maker_fail("big: %lu attached", (unsigned long)ds.shm_nattch);
	if (data[0] != 'a' || ro[3u << 20] != 'b' || ro[BIG - 1] != 'c' || ro[1u << 20])
		maker_fail("the contents changed");
	data[7] = 'x';
	if (ro[7] != 'x' || mprotect((void *)(uintptr_t)ro, 4096, PROT_READ | PROT_WRITE) == 0)
		maker_fail("the read-only attachment is another's, or not read-only");
	*shared = 500;
	for (int i = 0; *gone != 501; i++) {
		if (i > 2000)
			maker_fail("the child sees other memory: %d", *gone);
		usleep(1000);
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	shmctl(keyed, IPC_RMID, NULL);
	shmctl(big, IPC_RMID, NULL);
	maker_ok();
}
