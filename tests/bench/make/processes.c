/* N processes: a parent and its sleeping children, which share memory by copy-on-write. */
#include <sys/wait.h>

#include "bench.h"

int main(int argc, char **argv)
{
	long n = bench_begin(argc, argv, 1000) - 1, lost = 0;
	pid_t *child = calloc((size_t)n, sizeof(*child));

	bench_need(child != NULL, "calloc");
	for (long i = 0; i < n; i++) {
		child[i] = fork();
		bench_need(child[i] >= 0, "fork");
		if (child[i] == 0)
			for (;;)
				pause();
	}
	bench_say("ready\n");
	for (;;) {
		bench_wait();
		for (long i = 0; i < n; i++)
			lost += waitpid(child[i], NULL, WNOHANG) != 0;
		bench_say(lost ? "children are missing\n" : "ok\n");
	}
}
