/*
 * Records described by tables: how the manifest's structures become JSON, come back, and are
 * freed. Private to manifest*.c.
 */
#ifndef CRKEXEC_MANIFEST_DESC_H
#define CRKEXEC_MANIFEST_DESC_H

#include <stddef.h>
#include <stdint.h>

struct json_object;

enum field_kind {
	FIELD_TEXT, FIELD_BOOL, FIELD_U32, FIELD_INT, FIELD_U64, FIELD_I64, FIELD_HEX, FIELD_PID,
	FIELD_ENUM, FIELD_RECORD, FIELD_LIST, FIELD_STRINGS
};

/* What a string may hold, beyond "no control characters, at most TEXT_MAX bytes". */
enum text_rule {
	TEXT_ANY,
	TEXT_PATH,		/* absolute, no "." or ".." component */
	TEXT_RELATIVE,		/* the same, relative and not empty */
	TEXT_NAME,		/* one path component */
	TEXT_MODULE,		/* the same without a blank; then perhaps a blank and TEXT_ANY */
	TEXT_UNIT,		/* TEXT_NAME that ends in .service */
	TEXT_HEX16
};
#define TEXT_MAX	4096u
#define LIST_MAX	262144u

#define FIELD_OPTIONAL	1u

struct record;

struct field {
	const char *key;
	enum field_kind kind;
	size_t off;
	uint32_t arg;			/* TEXT, STRINGS: rule; PID: smallest value allowed */
	uint32_t flags;
	size_t count_off;		/* LIST, STRINGS: a size_t */
	const struct record *record;	/* RECORD, LIST */
	const char *const *names;	/* ENUM */
};

struct record {
	size_t bytes;
	const struct field *fields;
};

#define F_(s, m, k, ...)	{ .key = #m, .kind = (k), .off = offsetof(s, m), ##__VA_ARGS__ }
#define F_TEXT(s, m, rule, fl)	F_(s, m, FIELD_TEXT, .arg = (rule), .flags = (fl))
#define F_BOOL(s, m)		F_(s, m, FIELD_BOOL)
#define F_U32(s, m)		F_(s, m, FIELD_U32)
#define F_INT(s, m)		F_(s, m, FIELD_INT)
#define F_U64(s, m)		F_(s, m, FIELD_U64)
#define F_I64(s, m)		F_(s, m, FIELD_I64)
#define F_HEX(s, m)		F_(s, m, FIELD_HEX)
#define F_PID(s, m, min)	F_(s, m, FIELD_PID, .arg = (min))
#define F_ENUM(s, m, n)		F_(s, m, FIELD_ENUM, .names = (n))
#define F_RECORD(s, m, r)	F_(s, m, FIELD_RECORD, .record = &(r))
#define F_LIST(s, m, c, r)	F_(s, m, FIELD_LIST, .count_off = offsetof(s, c), .record = &(r))
#define F_STRINGS(s, m, c, rule) \
	F_(s, m, FIELD_STRINGS, .count_off = offsetof(s, c), .arg = (rule))
#define F_END			{ .key = NULL }

/* Frees what the members own and clears them. */
void record_done(const struct record *rec, void *obj);
int record_to_json(const struct record *rec, const void *obj, struct json_object **ret);
/* Fills a zeroed object. On failure (-EBADMSG, logged with its place) it may be partly filled. */
int record_from_json(const struct record *rec, void *obj, struct json_object *o,
		     const char *where);

#endif
