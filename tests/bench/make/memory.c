/* N MiB of private memory, every page touched and different. */
#include <stdint.h>
#include <sys/mman.h>

#include "bench.h"

#define PAGE	4096u

static uint64_t word_of(size_t page)
{
	return (page + 1) * 0x9e3779b97f4a7c15ull;
}

int main(int argc, char **argv)
{
	size_t bytes = (size_t)bench_begin(argc, argv, 1024) << 20;
	uint8_t *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t wrong = 0;

	bench_need(p != MAP_FAILED, "mmap");
	for (size_t i = 0; i < bytes / PAGE; i++)
		for (size_t k = 0; k < PAGE; k += 64)
			*(uint64_t *)(p + i * PAGE + k) = word_of(i) + k;
	bench_say("ready\n");
	for (;;) {
		bench_wait();
		for (size_t i = 0; i < bytes / PAGE; i++)
			wrong += *(uint64_t *)(p + i * PAGE + PAGE - 64) != word_of(i) + PAGE - 64;
		bench_say(wrong ? "pages differ\n" : "ok\n");
	}
}
