/* A growing list of strings it owns. All zero is empty; released by scope. */
#ifndef CRKEXEC_STRV_H
#define CRKEXEC_STRV_H

#include <stdbool.h>

#include "util/macro.h"

struct strv {
	char **v;	/* not NULL-terminated */
	size_t n;
};
#define _cleanup_strv_ _cleanup_(strv_done)

/* A copy of s; -ENOMEM, also when s is NULL: strv_add_take(l, str_fmt(...)) needs no test. */
int strv_add(struct strv *l, const char *s) _must_check_;
int strv_add_take(struct strv *l, char *s) _must_check_;
/* Only when it is not there yet. */
int strv_add_once(struct strv *l, const char *s) _must_check_;
bool strv_has(const struct strv *l, const char *s);
void strv_sort(struct strv *l);
/* "a, b, c": for messages, never NULL; "none" when empty. Static buffer, long lists are cut. */
const char *strv_text(const struct strv *l);
void strv_done(struct strv *l);

#endif
