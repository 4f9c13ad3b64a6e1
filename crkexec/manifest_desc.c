#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/types.h>

#include "crkexec/manifest_desc.h"
#include "util/io.h"
#include "util/log.h"
#include "util/macro.h"

#define PID_LIMIT	4194304

#define AT(type, obj, off)	((type *)((char *)(obj) + (off)))
#define AT_C(type, obj, off)	((const type *)((const char *)(obj) + (off)))

void record_done(const struct record *rec, void *obj)
{
	for (const struct field *f = rec->fields; f->key; f++) {
		size_t *n = AT(size_t, obj, f->count_off);
		char **p = AT(char *, obj, f->off);

		switch (f->kind) {
		case FIELD_LIST:
			for (size_t i = 0; i < *n; i++)
				record_done(f->record, *p + i * f->record->bytes);
			break;
		case FIELD_STRINGS:
			for (size_t i = 0; i < *n; i++)
				free((*(char ***)p)[i]);
			break;
		case FIELD_RECORD:
			record_done(f->record, p);
			continue;
		case FIELD_TEXT:
			free(*p);
			*p = NULL;
			continue;
		default:
			continue;
		}
		free(*p);
		*p = NULL;
		*n = 0;
	}
}

static bool has_dot_component(const char *s)
{
	while (*s) {
		size_t n = strcspn(s, "/");

		if ((n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.'))
			return true;
		s += n;
		s += *s == '/';
	}
	return false;
}

static bool is_name(const char *s)
{
	return *s && !strchr(s, '/') && !has_dot_component(s);
}

static bool first_word_is_name(const char *s)
{
	_cleanup_free_ char *word = strndup(s, strcspn(s, " "));

	return word && is_name(word);
}

static bool text_is_good(const char *s, size_t n, enum text_rule rule)
{
	if (strlen(s) != n || n > TEXT_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < ' ' || s[i] == 0x7f)
			return false;
	switch (rule) {
	case TEXT_ANY:
		return true;
	case TEXT_PATH:
		return s[0] == '/' && !has_dot_component(s);
	case TEXT_RELATIVE:
		return s[0] && s[0] != '/' && !has_dot_component(s);
	case TEXT_NAME:
		return is_name(s);
	case TEXT_MODULE:
		return first_word_is_name(s);
	case TEXT_UNIT:
		return is_name(s) && n > 8 && n < 256 && !strcmp(s + n - 8, ".service");
	case TEXT_HEX16:
		return n == 16 && strspn(s, "0123456789abcdef") == 16;
	}
	return false;
}

/*
 * Only what can be read back is written: names and paths are refused, free text (reasons,
 * warnings: other programs' words) is made fit.
 */
static int text_to_json(const struct field *f, const char *s, struct json_object **ret)
{
	_cleanup_free_ char *fit = NULL;

	if (!s)
		return log_fail(-EINVAL, "manifest: %s is missing", f->key);
	if (!text_is_good(s, strlen(s), (enum text_rule)f->arg)) {
		if (f->arg != TEXT_ANY)
			return log_fail(-EINVAL, "manifest: %s must not be \"%s\"", f->key, s);
		fit = strndup(s, TEXT_MAX);
		if (!fit)
			return -ENOMEM;
		for (char *p = fit; *p; p++)
			if ((unsigned char)*p < ' ' || *p == 0x7f)
				*p = ' ';
		s = fit;
	}
	*ret = json_object_new_string(s);
	return *ret ? 0 : -ENOMEM;
}

static struct json_object *hex_to_json(uint64_t v)
{
	char s[20];

	snprintf(s, sizeof(s), "%llx", (unsigned long long)v);
	return json_object_new_string(s);
}

static int list_to_json(const struct field *f, const void *obj, struct json_object **ret)
{
	size_t n = *AT_C(size_t, obj, f->count_off);
	char *base = *(char *const *)((const char *)obj + f->off);
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; a && i < n; i++) {
		struct json_object *v = NULL;
		int r = 0;

		if (f->kind == FIELD_STRINGS)
			r = text_to_json(f, ((char **)base)[i], &v);
		else
			r = record_to_json(f->record, base + i * f->record->bytes, &v);
		if (r < 0 || !v || json_object_array_add(a, v) < 0) {
			json_object_put(v);
			json_object_put(a);
			return r < 0 ? r : -ENOMEM;
		}
	}
	*ret = a;
	return a ? 0 : -ENOMEM;
}

static int field_to_json(const struct field *f, const void *obj, struct json_object **ret)
{
	const char *p = (const char *)obj + f->off;

	*ret = NULL;
	switch (f->kind) {
	case FIELD_TEXT:
		if (!*(char *const *)p && (f->flags & FIELD_OPTIONAL))
			return 0;
		return text_to_json(f, *(char *const *)p, ret);
	case FIELD_BOOL:
		*ret = json_object_new_boolean(*(const bool *)p);
		break;
	case FIELD_U32:
		*ret = json_object_new_int64(*(const uint32_t *)p);
		break;
	case FIELD_INT:
		*ret = json_object_new_int64(*(const int *)p);
		break;
	case FIELD_PID:
		*ret = json_object_new_int64(*(const pid_t *)p);
		break;
	case FIELD_U64:
		*ret = json_object_new_uint64(*(const uint64_t *)p);
		break;
	case FIELD_I64:
		*ret = json_object_new_int64(*(const int64_t *)p);
		break;
	case FIELD_HEX:
		*ret = hex_to_json(*(const uint64_t *)p);
		break;
	case FIELD_ENUM:
		*ret = json_object_new_string(f->names[*(const unsigned int *)p]);
		break;
	case FIELD_RECORD:
		return record_to_json(f->record, p, ret);
	case FIELD_LIST:
	case FIELD_STRINGS:
		return list_to_json(f, obj, ret);
	}
	return *ret ? 0 : -ENOMEM;
}

int record_to_json(const struct record *rec, const void *obj, struct json_object **ret)
{
	struct json_object *o = json_object_new_object();

	if (!o)
		return -ENOMEM;
	for (const struct field *f = rec->fields; f->key; f++) {
		struct json_object *v;
		int r = field_to_json(f, obj, &v);

		if (r < 0) {
			json_object_put(o);
			return r;
		}
		if (v && json_object_object_add(o, f->key, v) < 0) {
			json_object_put(v);
			json_object_put(o);
			return -ENOMEM;
		}
	}
	*ret = o;
	return 0;
}

static int bad(const char *where, const struct field *f, const char *why)
{
	return log_fail(-EBADMSG, "%s: %s: %s", where, f->key, why);
}

static int text_from_json(const struct field *f, struct json_object *v, const char *where,
			  char **ret)
{
	const char *s;

	if (!json_object_is_type(v, json_type_string))
		return bad(where, f, "a string was expected");
	s = json_object_get_string(v);
	if (!text_is_good(s, (size_t)json_object_get_string_len(v), (enum text_rule)f->arg))
		return bad(where, f, "holds what it must not hold");
	*ret = strdup(s);
	return *ret ? 0 : -ENOMEM;
}

static int number_from_json(const struct field *f, struct json_object *v, int64_t min,
			    int64_t max, const char *where, int64_t *ret)
{
	if (!json_object_is_type(v, json_type_int))
		return bad(where, f, "a number was expected");
	errno = 0;
	*ret = json_object_get_int64(v);
	/* json-c clamps a number above INT64_MAX; only FIELD_U64 may be that large. */
	if (errno || *ret < min || *ret > max ||
	    (*ret == INT64_MAX && json_object_get_uint64(v) > INT64_MAX))
		return bad(where, f, "out of range");
	return 0;
}

static int u64_from_json(const struct field *f, struct json_object *v, const char *where,
			 uint64_t *ret)
{
	if (!json_object_is_type(v, json_type_int) ||
	    (json_object_get_int64(v) < 0))
		return bad(where, f, "a number of at least 0 was expected");
	*ret = json_object_get_uint64(v);
	return 0;
}

static int hex_from_json(const struct field *f, struct json_object *v, const char *where,
			 uint64_t *ret)
{
	const char *s = json_object_get_string(v);

	if (!json_object_is_type(v, json_type_string) || strlen(s) > 16 ||
	    strspn(s, "0123456789abcdef") != strlen(s) || parse_u64(s, 16, ret) < 0)
		return bad(where, f, "a hexadecimal number was expected");
	return 0;
}

static int enum_from_json(const struct field *f, struct json_object *v, const char *where,
			  unsigned int *ret)
{
	if (json_object_is_type(v, json_type_string))
		for (unsigned int i = 0; f->names[i]; i++)
			if (!strcmp(f->names[i], json_object_get_string(v))) {
				*ret = i;
				return 0;
			}
	return bad(where, f, "an unknown word");
}

static int list_from_json(const struct field *f, void *obj, struct json_object *v,
			  const char *where)
{
	size_t bytes = f->kind == FIELD_STRINGS ? sizeof(char *) : f->record->bytes;
	size_t *n = AT(size_t, obj, f->count_off), len;
	char *base;

	if (!json_object_is_type(v, json_type_array))
		return bad(where, f, "a list was expected");
	len = json_object_array_length(v);
	if (len > LIST_MAX)
		return bad(where, f, "too many entries");
	base = len ? calloc(len, bytes) : NULL;
	if (len && !base)
		return -ENOMEM;
	*AT(char *, obj, f->off) = base;
	for (size_t i = 0; i < len; i++) {
		struct json_object *e = json_object_array_get_idx(v, i);
		char place[160];
		int r;

		snprintf(place, sizeof(place), "%s: %s[%zu]", where, f->key, i);
		*n = i + 1;	/* what is filled so far belongs to record_done() */
		if (f->kind == FIELD_STRINGS)
			r = text_from_json(f, e, place, (char **)base + i);
		else
			r = record_from_json(f->record, base + i * bytes, e, place);
		if (r < 0)
			return r;
	}
	return 0;
}

static int field_from_json(const struct field *f, void *obj, struct json_object *v,
			   const char *where)
{
	char *p = (char *)obj + f->off;
	int64_t n = 0;
	int r = 0;

	switch (f->kind) {
	case FIELD_TEXT:
		return text_from_json(f, v, where, (char **)p);
	case FIELD_BOOL:
		if (!json_object_is_type(v, json_type_boolean))
			return bad(where, f, "true or false was expected");
		*(bool *)p = json_object_get_boolean(v);
		return 0;
	case FIELD_U32:
		r = number_from_json(f, v, 0, UINT32_MAX, where, &n);
		*(uint32_t *)p = (uint32_t)n;
		return r;
	case FIELD_INT:
		r = number_from_json(f, v, INT_MIN, INT_MAX, where, &n);
		*(int *)p = (int)n;
		return r;
	case FIELD_PID:
		r = number_from_json(f, v, f->arg, PID_LIMIT, where, &n);
		*(pid_t *)p = (pid_t)n;
		return r;
	case FIELD_I64:
		return number_from_json(f, v, INT64_MIN, INT64_MAX, where, (int64_t *)p);
	case FIELD_U64:
		return u64_from_json(f, v, where, (uint64_t *)p);
	case FIELD_HEX:
		return hex_from_json(f, v, where, (uint64_t *)p);
	case FIELD_ENUM:
		return enum_from_json(f, v, where, (unsigned int *)p);
	case FIELD_RECORD:
		return record_from_json(f->record, p, v, where);
	case FIELD_LIST:
	case FIELD_STRINGS:
		return list_from_json(f, obj, v, where);
	}
	return -EINVAL;
}

int record_from_json(const struct record *rec, void *obj, struct json_object *o,
		     const char *where)
{
	if (!json_object_is_type(o, json_type_object))
		return log_fail(-EBADMSG, "%s: an object was expected", where);
	for (const struct field *f = rec->fields; f->key; f++) {
		struct json_object *v;
		int r;

		if (!json_object_object_get_ex(o, f->key, &v) || !v) {
			/* Lists, numbers and words may be absent: nothing, 0, the first. A string may
			 * be only if it may be NULL, a pid if it may be 0. */
			if ((f->kind == FIELD_TEXT && !(f->flags & FIELD_OPTIONAL)) ||
			    (f->kind == FIELD_PID && f->arg))
				return bad(where, f, "is missing");
			continue;
		}
		r = field_from_json(f, obj, v, where);
		if (r < 0)
			return r;
	}
	return 0;
}
