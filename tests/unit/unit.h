/*
 * The frame of the unit tests: files that include this header, linked with unit.c, which
 * brings main().
 *
 *	TEST("a missing file reads as empty")
 *	{
 *		ASSERT_EQ(r, 0);
 *	}
 *
 * Each test runs in a process of its own, with umask 022 and in the order of the file, so a crash
 * is one failed test and nothing a test does stays. Output is TAP on stdout. Arguments select tests by a
 * part of their name or of their file's. To print or to log on stderr is harmless.
 */
#ifndef TESTS_UNIT_UNIT_H
#define TESTS_UNIT_UNIT_H

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct unit_test {
	const char *name, *file;
	void (*run)(void);
	struct unit_test *next;
};
void unit_add(struct unit_test *t);

/* Ends the test as failed. */
__attribute__((noreturn, format(printf, 3, 4)))
void unit_fail(const char *file, int line, const char *fmt, ...);
/* Ends the test: it cannot run here, and why. */
__attribute__((noreturn, format(printf, 1, 2)))
void unit_skip(const char *fmt, ...);
/* An empty directory, removed after the test. The same one at every call. */
const char *unit_tmpdir(void);

#define UNIT_CAT2(a, b)	a##b
#define UNIT_CAT(a, b)	UNIT_CAT2(a, b)
#define TEST(sentence)	UNIT_TEST(sentence, UNIT_CAT(unit_test_, __LINE__))
#define UNIT_TEST(sentence, fn)							\
	static void fn(void);							\
	__attribute__((constructor)) static void UNIT_CAT(fn, _add)(void)	\
	{									\
		static struct unit_test t = {					\
			.name = sentence, .file = __FILE__, .run = fn,		\
		};								\
										\
		unit_add(&t);							\
	}									\
	static void fn(void)

#define ASSERT(cond)								\
	do {									\
		if (!(cond))							\
			unit_fail(__FILE__, __LINE__, "not true: %s", #cond);	\
	} while (0)
#define UNIT_COMPARE(a, op, b)							\
	do {									\
		intmax_t _ua = (intmax_t)(a), _ub = (intmax_t)(b);		\
		if (!(_ua op _ub))						\
			unit_fail(__FILE__, __LINE__, "%s is %jd, not " #op	\
				  " %jd (%s)", #a, _ua, _ub, #b);		\
	} while (0)
#define ASSERT_EQ(a, b)	UNIT_COMPARE(a, ==, b)
#define ASSERT_NE(a, b)	UNIT_COMPARE(a, !=, b)
#define ASSERT_LT(a, b)	UNIT_COMPARE(a, <, b)
#define ASSERT_GE(a, b)	UNIT_COMPARE(a, >=, b)
#define ASSERT_OK(r)	UNIT_COMPARE(r, >=, 0)
#define ASSERT_STREQ(a, b)							\
	do {									\
		const char *_ua = (a), *_ub = (b);				\
		if (!_ua || strcmp(_ua, _ub))					\
			unit_fail(__FILE__, __LINE__, "%s is \"%s\", not \"%s\"",	\
				  #a, _ua ? _ua : "(null)", _ub);		\
	} while (0)
#define ASSERT_CONTAINS(text, part)						\
	do {									\
		const char *_ua = (text), *_ub = (part);			\
		if (!strstr(_ua, _ub))						\
			unit_fail(__FILE__, __LINE__, "no \"%s\" in \"%s\"", _ub, _ua); \
	} while (0)
#define ASSERT_MEM_EQ(a, b, n)							\
	do {									\
		if (memcmp(a, b, n))						\
			unit_fail(__FILE__, __LINE__, "%s and %s differ", #a, #b); \
	} while (0)

#endif
