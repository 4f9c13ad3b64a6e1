/* What the makers of namespaces share: what commands say of them, compared line by line. */
#ifndef TESTS_LIVE_SAID_COMMON_H
#define TESTS_LIVE_SAID_COMMON_H

#include "maker.h"

__attribute__((unused)) static void run(const char *command)
{
	int status = system(command);

	if (status)
		maker_fail("'%s' gives %d", command, status);
}

/* The output of all of them, one after the other. */
__attribute__((unused)) static void said(const char *const *commands, size_t n_commands, char *out,
					 size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < n_commands; i++) {
		FILE *f = popen(commands[i], "r");

		MAKER_MUST(f != NULL);
		n += fread(out + n, 1, size - 1 - n, f);
		pclose(f);
	}
	out[n] = '\0';
}

/* Names the first line that differs. */
__attribute__((unused)) static void same_lines(const char *is, const char *was)
{
	while (*is || *was) {
		size_t n = strcspn(is, "\n"), k = strcspn(was, "\n");

		if (n != k || strncmp(is, was, n))
			maker_fail("'%.*s', was '%.*s'", (int)n, is, (int)k, was);
		is += n + (is[n] == '\n');
		was += k + (was[k] == '\n');
	}
}

#endif
