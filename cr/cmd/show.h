/*
 * `cr show`, inner interface: image -> JSON tree (show_image.c, show_message.c with the
 * display hints of show_hints.c) -> text (show_text.c) or JSON.
 */
#ifndef CR_CMD_SHOW_H
#define CR_CMD_SHOW_H

#include <json-c/json.h>
#include <stdbool.h>

#include "image/image.h"

struct show_style {
	bool json;	/* bytes in base64; otherwise as escaped text or hexadecimal */
};

/*
 * One image: {"file", "magic", "entries": […]}, with a last member "error" and -EBADMSG when
 * only the entries before some damage could be read. *ret is the caller's in both cases.
 */
int show_image(const struct show_style *style, const char *path, struct image_reader *r,
	       struct json_object **ret) _must_check_;
/* The message of an image's first or later entries; NULL: a raw image. */
const ProtobufCMessageDescriptor *show_descriptor(const struct image_type *t, bool first);

/* A message as an object; absent optional fields are left out. */
struct json_object *show_message(const struct show_style *style, const ProtobufCMessage *m);
/* Payload: its length and how it begins. */
struct json_object *show_bytes(const struct show_style *style, const void *p, size_t bytes,
			       size_t limit);
/* Text that is valid UTF-8 without control characters; the rest as \xNN. */
struct json_object *show_string(const char *s, size_t bytes);

enum hint_kind { HINT_NONE, HINT_HEX, HINT_DEV, HINT_ODEV, HINT_IP, HINT_FLAGS, HINT_DICT,
		 HINT_UNIX_NAME };
struct hint_value {
	uint64_t value;		/* HINT_FLAGS: bits */
	const char *name;
};
struct hint {
	const char *field;	/* "message.field" */
	enum hint_kind kind;
	const struct hint_value *values;	/* ends with a NULL name */
};
/* NULL when the field is shown as it is. */
const struct hint *show_hint(const char *message, const char *field);

/* Indented lines to stdout. */
void show_text(struct json_object *image);

int cmd_show(int argc, char **argv);

#endif
