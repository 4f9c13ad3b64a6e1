/*
 * The tree as indented lines. An object without inner structure takes one line, so a list of
 * mappings, pages or descriptors reads as a table.
 */
#include <stdio.h>

#include "cmd/show.h"
#include "util/macro.h"

static bool is_leaf(struct json_object *o)
{
	return !json_object_is_type(o, json_type_object) &&
	       !json_object_is_type(o, json_type_array);
}

static bool is_flat(struct json_object *o)
{
	if (json_object_is_type(o, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(o); i++)
			if (!is_leaf(json_object_array_get_idx(o, i)))
				return false;
		return true;
	}
	if (json_object_is_type(o, json_type_object)) {
		json_object_object_foreach(o, key, val) {
			(void)key;
			if (!is_leaf(val))
				return false;
		}
	}
	return true;
}

static void put_leaf(struct json_object *o)
{
	/* NULL is json-c's null: memory ran out for this value. */
	fputs(o ? json_object_get_string(o) : "?", stdout);
}

static void put_flat(struct json_object *o)
{
	const char *sep = "";

	if (json_object_is_type(o, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(o); i++) {
			fputs(sep, stdout);
			put_leaf(json_object_array_get_idx(o, i));
			sep = ", ";
		}
	} else if (json_object_is_type(o, json_type_object)) {
		json_object_object_foreach(o, key, val) {
			printf("%s%s: ", sep, key);
			put_leaf(val);
			sep = "  ";
		}
	} else {
		put_leaf(o);
	}
}

static void put_member(const char *key, struct json_object *o, int depth);

static void put_members(struct json_object *o, int depth)
{
	json_object_object_foreach(o, key, val)
		put_member(key, val, depth);
}

static void put_member(const char *key, struct json_object *o, int depth)
{
	bool flat = is_flat(o);

	if (flat || json_object_is_type(o, json_type_object)) {
		printf("%*s%s:%s", depth * 2, "", key, flat ? " " : "");
		if (flat)
			put_flat(o);
		putchar('\n');
		if (!flat)
			put_members(o, depth + 1);
		return;
	}
	for (size_t i = 0; i < json_object_array_length(o); i++) {
		char name[128];

		snprintf(name, sizeof(name), "%s[%zu]", key, i);
		put_member(name, json_object_array_get_idx(o, i), depth);
	}
}

void show_text(struct json_object *image)
{
	struct json_object *file = NULL, *magic = NULL, *list = NULL, *error = NULL, *raw = NULL;

	json_object_object_get_ex(image, "file", &file);
	json_object_object_get_ex(image, "magic", &magic);
	printf("%s: %s", json_object_get_string(file), json_object_get_string(magic));
	if (json_object_object_get_ex(image, "entries", &list)) {
		size_t n = json_object_array_length(list);

		printf(", %zu entr%s\n", n, n == 1 ? "y" : "ies");
		for (size_t i = 0; i < n; i++) {
			char name[32];

			snprintf(name, sizeof(name), "[%zu]", i);
			put_member(name, json_object_array_get_idx(list, i), 1);
		}
	} else {
		putchar('\n');
	}
	if (json_object_object_get_ex(image, "payload", &raw))
		put_member("payload", raw, 1);
	if (json_object_object_get_ex(image, "error", &error))
		printf("  %s\n", json_object_get_string(error));
}
