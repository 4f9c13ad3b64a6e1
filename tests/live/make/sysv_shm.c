/*
 * System V shared memory: written by one process and seen by another, at the same addresses; one
 * read-only attachment, one segment that is marked for removal, one locked, one with holes and
 * an owner of its own; keys, ids and modes.
 */
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>

#include "maker.h"

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
	/* Other makers, and those a test was killed with, have keys of their own. */
	const key_t key = 0x43500000 + getpid();
	struct shmid_ds ds;
	int keyed, dest, big;
	volatile int *shared, *gone;
	volatile char *data;
	const volatile char *ro;
	pid_t child;

	maker_begin(argc, argv);
	keyed = maker_ipc("shm", shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0640));
	dest = maker_ipc("shm", shmget(IPC_PRIVATE, 100, 0600));
	big = maker_ipc("shm", shmget(IPC_PRIVATE, BIG, 0600));
	shared = attach(keyed, 0);
	gone = attach(dest, 0);
	data = attach(big, 0);
	ro = attach(big, SHM_RDONLY);
	ds = stat_of(keyed);
	ds.shm_perm.uid = 1234;
	ds.shm_perm.gid = 4321;
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
	maker_ready();
	maker_wait();

	ds = stat_of(keyed);
	if (ds.shm_perm.__key != key || (ds.shm_perm.mode & 0777) != 0640 || ds.shm_nattch != 3 ||
	    ds.shm_perm.uid != 1234 || ds.shm_perm.gid != 4321 || ds.shm_segsz != 4096)
		maker_fail("keyed: key 0x%x, mode 0%o, %lu attached, owner %u:%u",
			   (unsigned int)ds.shm_perm.__key, ds.shm_perm.mode,
			   (unsigned long)ds.shm_nattch, ds.shm_perm.uid, ds.shm_perm.gid);
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
