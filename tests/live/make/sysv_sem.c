/*
 * System V semaphores: values, owner and mode, who used them last, whether anybody ever did, what
 * is given back when a process ends (SEM_UNDO, both signs and the ends of its range), and a process
 * that waits.
 */
#include <pthread.h>
#include <sys/sem.h>
#include <sys/wait.h>

#include "sysv_common.h"

#define N	5

/* Of one run; what a failed test left has it only if it had our pid. */
static key_t key;

static int sem_get(key_t k, int n)
{
	return sysv_made("sem", semget(k, n, IPC_CREAT | IPC_EXCL | 0600));
}

static void sem_do(int id, unsigned short num, int by, int flags)
{
	struct sembuf op = { num, (short)by, (short)flags };

	MAKER_MUST(!semop(id, &op, 1));
}

/* An adjustment of any size, without changing the value. */
static void undo_set(int id, unsigned short num, int adj)
{
	for (; adj > 0; adj -= adj > 30000 ? 30000 : adj) {
		int by = adj > 30000 ? 30000 : adj;

		sem_do(id, num, by, 0);
		sem_do(id, num, -by, SEM_UNDO);
	}
	for (; adj < 0; adj += adj < -30000 ? 30000 : -adj) {
		int by = adj < -30000 ? 30000 : -adj;

		sem_do(id, num, by, SEM_UNDO);
		sem_do(id, num, -by, 0);
	}
}

/* A thread's adjustments are its process's. */
static void *thread(void *arg)
{
	int id = *(int *)arg;

	undo_set(id, 1, 32767);
	undo_set(id, 2, -32768);
	sem_do(id, 2, 9, 0);
	while (arg)
		pause();
	return NULL;
}

static struct semid_ds stat_of(int id)
{
	struct semid_ds ds;

	if (semctl(id, 0, IPC_STAT, &ds) < 0)
		maker_fail("set %d: %s", id, strerror(errno));
	return ds;
}

static int val(int id, int num)
{
	return semctl(id, num, GETVAL);
}

int main(int argc, char **argv)
{
	int keyed, set_only;
	struct semid_ds ds;
	pid_t undoer, waiter;
	pthread_t other;
	int status;

	maker_begin(argc, argv);
	key = 0x43000000 + maker_number();
	semctl(semget(key, 0, 0), 0, IPC_RMID);
	keyed = sem_get(key, N);
	set_only = sem_get(IPC_PRIVATE, 2);
	ds = stat_of(keyed);
	sysv_give(&ds.sem_perm, 0642);
	MAKER_MUST(!semctl(keyed, 0, IPC_SET, &ds));
	MAKER_MUST(!semctl(set_only, 1, SETVAL, 32767));
	MAKER_MUST(!semctl(keyed, 0, SETVAL, 100));
	sem_do(keyed, 0, -7, SEM_UNDO);		/* 93, and 7 to give back */
	undoer = fork();
	if (!undoer) {
		sem_do(keyed, 0, -3, SEM_UNDO);	/* 90 */
		MAKER_MUST(!pthread_create(&other, NULL, thread, &keyed));
		for (;;)
			pause();
	}
	waiter = fork();
	if (!waiter) {
		sem_do(keyed, 4, 0, 0);		/* so that its pid is there */
		sem_do(keyed, 4, -2, 0);
		_exit(17);
	}
	while (semctl(keyed, 4, GETNCNT) != 1 || val(keyed, 2) != 9)
		usleep(1000);
	maker_ready();
	maker_wait();

	ds = stat_of(keyed);
	sysv_given(&ds.sem_perm, key, 0642);
	MAKER_SAME("size", ds.sem_nsems, N);
	MAKER_MUST(ds.sem_otime);
	MAKER_SAME("the key's id", semget(key, N, 0), keyed);
	MAKER_SAME("value 0", val(keyed, 0), 90);
	MAKER_SAME("value 1", val(keyed, 1), 0);
	MAKER_SAME("value 2", val(keyed, 2), 9);
	MAKER_SAME("last of 0", semctl(keyed, 0, GETPID), undoer);
	MAKER_SAME("last of 2", semctl(keyed, 2, GETPID), undoer);
	MAKER_SAME("last of 3", semctl(keyed, 3, GETPID), 0);
	MAKER_SAME("last of 4", semctl(keyed, 4, GETPID), waiter);
	/* Nobody has operated on these: programs take that for "not initialised". */
	MAKER_SAME("operation on the set that was only set", stat_of(set_only).sem_otime, 0);
	MAKER_SAME("its value", val(set_only, 1), 32767);
	MAKER_SAME("who set it", semctl(set_only, 1, GETPID), getpid());
	MAKER_SAME("who set the other", semctl(set_only, 0, GETPID), 0);

	/* Whose end gives what back: 3, 32767, and -32768, of which 9 are there. */
	kill(undoer, SIGKILL);
	MAKER_MUST(waitpid(undoer, NULL, 0) == undoer);
	MAKER_SAME("value 0 after the end", val(keyed, 0), 93);
	MAKER_SAME("value 1 after the end", val(keyed, 1), 32767);
	MAKER_SAME("value 2 after the end", val(keyed, 2), 0);
	MAKER_MUST(!waitpid(waiter, &status, WNOHANG));
	sem_do(keyed, 4, 2, 0);
	maker_ends_with(waiter, 17);
	/* The maker's own seven: less than eight are left until its end. */
	undoer = fork();
	if (!undoer)
		_exit(0);	/* has no list of its own: gives nothing back */
	MAKER_MUST(waitpid(undoer, NULL, 0) == undoer);
	MAKER_SAME("value 0 after a fork", val(keyed, 0), 93);
	sem_do(keyed, 0, 7, SEM_UNDO);
	MAKER_SAME("value 0 given back", val(keyed, 0), 100);
	MAKER_MUST(!semctl(keyed, 0, IPC_RMID));
	MAKER_MUST(!semctl(set_only, 0, IPC_RMID));
	maker_ok();
}
