#include <string.h>

#include "crkexec/strv.h"

int strv_add_take(struct strv *l, char *s)
{
	char **v = s ? reallocarray(l->v, l->n + 1, sizeof(*v)) : NULL;

	if (!v) {
		free(s);
		return -ENOMEM;
	}
	l->v = v;
	l->v[l->n++] = s;
	return 0;
}

int strv_add(struct strv *l, const char *s)
{
	return strv_add_take(l, s ? strdup(s) : NULL);
}

bool strv_has(const struct strv *l, const char *s)
{
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->v[i], s))
			return true;
	return false;
}

int strv_add_once(struct strv *l, const char *s)
{
	return strv_has(l, s) ? 0 : strv_add(l, s);
}

static int compare(const void *a, const void *b)
{
	return strverscmp(*(char *const *)a, *(char *const *)b);
}

void strv_sort(struct strv *l)
{
	if (l->n)
		qsort(l->v, l->n, sizeof(*l->v), compare);
}

const char *strv_text(const struct strv *l)
{
	static char text[1000];
	size_t used = 0;

	if (!l->n)
		return "none";
	text[0] = '\0';
	for (size_t i = 0; i < l->n; i++) {
		size_t room = sizeof(text) - used;
		int n = snprintf(text + used, room, "%s%s", i ? ", " : "", l->v[i]);

		if (n < 0 || (size_t)n >= room) {
			strcpy(text + sizeof(text) - 5, " ...");
			break;
		}
		used += (size_t)n;
	}
	return text;
}

void strv_done(struct strv *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
	*l = (struct strv){ 0 };
}
