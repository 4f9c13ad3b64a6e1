/*
 * A tree with two mount namespaces: threads and a worker in the root's, a second worker in one of
 * its own.
 */
#define _GNU_SOURCE
#include <grp.h>
#include <libgen.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/utsname.h>

#include "maker.h"
#define NS_MUST MAKER_MUST
#include "ns_sandbox.h"

#define THREADS 5

struct shared {
	pid_t tids[THREADS], workers[2];
	int go, seen[THREADS], worker_ok[2];
	char worker_error[2][200];
};

static struct shared *sh;

static void *thread_main(void *arg)
{
	size_t i = (size_t)arg;

	__atomic_store_n(&sh->tids[i], maker_tid(), __ATOMIC_RELEASE);
	while (!__atomic_load_n(&sh->go, __ATOMIC_ACQUIRE))
		usleep(2000);
	sh->seen[i] = maker_tid();
	return NULL;
}

static char *mounts_now(void)
{
	int proc = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	char *text = sandbox_mounts_text(proc);

	close(proc);
	return text;
}

static void worker_main(int i)
{
	char *was = mounts_now(), *is;
	struct utsname u;

	__atomic_store_n(&sh->worker_ok[i], 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&sh->go, __ATOMIC_ACQUIRE))
		usleep(2000);
	is = mounts_now();
	uname(&u);
	if (strcmp(was, is))
		snprintf(sh->worker_error[i], sizeof(sh->worker_error[i]), "other mounts");
	else if (strcmp(u.nodename, "sandboxed"))
		snprintf(sh->worker_error[i], sizeof(sh->worker_error[i]), "host %s", u.nodename);
	else if (i && access("/opt/mine", F_OK) != 0)
		snprintf(sh->worker_error[i], sizeof(sh->worker_error[i]), "own bind lost");
	else if (!i && access("/opt/mine", F_OK) == 0)
		snprintf(sh->worker_error[i], sizeof(sh->worker_error[i]), "the other's bind");
	__atomic_store_n(&sh->worker_ok[i], 2, __ATOMIC_RELEASE);
	for (;;)
		pause();
}

static void await(const int *what, int value, const char *name)
{
	for (int i = 0; i < 2500; i++) {
		if (__atomic_load_n(what, __ATOMIC_ACQUIRE) == value)
			return;
		usleep(2000);
	}
	maker_fail("%s did not answer", name);
}

static void small_sandbox(const char *base)
{
	struct sandbox s;

	sandbox_host_side(&s, base);
	NS_MUST(unshare(CLONE_NEWNS | CLONE_NEWUTS) == 0);
	NS_MUST(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0);
	sandbox_bind("/usr", "/usr", MS_RDONLY | MS_NODEV);
	sandbox_bind_in(&s, "nothing", "/root", MS_RDONLY);
	NS_MUST(mount("tmpfs", "/mnt", "tmpfs", MS_NOSUID, "size=64k,mode=0755") == 0);
	sandbox_file("/mnt", "kept", 0644, "kept");
	NS_MUST(sethostname("sandboxed", 9) == 0);
}

static void start_worker(int i, const char *base)
{
	pid_t pid = fork();
	char path[320];

	MAKER_MUST(pid >= 0);
	if (pid) {
		sh->workers[i] = pid;
		return;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (i) {
		snprintf(path, sizeof(path), "%s/tmp", base);
		MAKER_MUST(unshare(CLONE_NEWNS) == 0);
		MAKER_MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
		MAKER_MUST(umount2("/mnt", MNT_DETACH) == 0);
		sandbox_bind(path, "/opt", MS_RDONLY);
	}
	worker_main(i);
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	char base[256], *was;

	maker_begin(argc, argv);
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MAKER_MUST(sh != MAP_FAILED);
	snprintf(base, sizeof(base), "%.200s/ns_tree.d", dirname(strdup(argv[1])));
	small_sandbox(base);
	for (int i = 0; i < 2; i++) {
		start_worker(i, base);
		await(&sh->worker_ok[i], 1, "a worker");
	}
	for (size_t i = 0; i < THREADS; i++)
		MAKER_MUST(pthread_create(&threads[i], NULL, thread_main, (void *)i) == 0);
	for (size_t i = 0; i < THREADS; i++)
		while (!__atomic_load_n(&sh->tids[i], __ATOMIC_ACQUIRE))
			usleep(1000);
	was = mounts_now();
	maker_ready();
	maker_wait();

	__atomic_store_n(&sh->go, 1, __ATOMIC_RELEASE);
	for (size_t i = 0; i < THREADS; i++) {
		MAKER_MUST(pthread_join(threads[i], NULL) == 0);
		MAKER_SAME("thread id", sh->seen[i], sh->tids[i]);
	}
	if (strcmp(was, mounts_now()))
		maker_fail("the root has other mounts");
	for (int i = 0; i < 2; i++) {
		await(&sh->worker_ok[i], 2, i ? "the second worker" : "the first worker");
		if (*sh->worker_error[i])
			maker_fail("worker %d: %s", i, sh->worker_error[i]);
		MAKER_MUST(kill(sh->workers[i], SIGKILL) == 0);
	}
	maker_ok();
}
