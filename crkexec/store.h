/*
 * Where images live from the dump until the new kernel has read them. A store is a table of
 * functions; the upgrade's phases call them in the order in which they stand here.
 *
 *   tmpfs  a tmpfs of its own in the old kernel, then the next kernel's initramfs
 *   pmem   physical memory that the next kernel's command line leaves alone
 *
 * The trap: for dumps tree_open() and tree_done() run in a forked child, one for each unit, several at
 * once. What they learn goes into the manifest's tree (which travels back to the parent), not
 * into the store's own memory; what they write goes to files or shared mappings.
 */
#ifndef CRKEXEC_STORE_H
#define CRKEXEC_STORE_H

#include <stdint.h>

#include "crkexec/manifest.h"
#include "image/image.h"

struct upgrade;
struct store;

/* How much room a unit's tree needs, by today's estimate: an upper bound is wanted. */
struct store_need {
	uint64_t bytes;
	uint64_t rest_bytes;		/* after a pre-dump; 0: none is wanted */
	uint64_t swapped_bytes;		/* more memory than now, in a kernel that has no swap yet */
};

/*
 * ROOM_ALL takes all of a tree: its pre-dump, if there is ROOM_REST for what has been written since,
 * else the dump.
 */
enum store_room { ROOM_ALL, ROOM_REST };

struct store_ops {
	const char *name;
	enum store_kind kind;
	/*
	 * Phase plan. Can this machine do it, and is there room for needs[unit]? Changes nothing. 0, or an error
	 * with *ret_why (heap, with the numbers: "needs 1.2 GiB, 800 MiB are available").
	 */
	int (*plan)(struct store *s, const struct store_need *needs, size_t n, char **ret_why);
	/* Phase store, before the freeze: takes the memory. Undone by undo_push() lines. */
	int (*prepare)(struct store *s, const struct store_need *needs, size_t n);
	/*
	 * What the next kernel's command line must say besides "crkexec=ID": "memmap=...", "" if
	 * nothing (heap). And what is appended to "crkexec=ID": ",store=pmem:...", "" if nothing.
	 */
	int (*cmdline)(struct store *s, char **ret_words, char **ret_suffix);
	/*
	 * Phase load: the kernel is loaded with the initramfs as far as it is known then: for tmpfs
	 * a trial, which finds a bad kernel before anything is frozen; for pmem the real one.
	 */
	int (*load)(struct store *s);
	/* After prepare(): there is ROOM_REST. NULL: never. */
	bool (*has_rest)(struct store *s, size_t unit);
	/*
	 * Phase dump, in the child, and before for a pre-dump, in the upgrade's own process. *ret stays
	 * valid until tree_done(). What was in that room before is gone.
	 */
	int (*tree_open)(struct store *s, size_t unit, enum store_room room, struct image_store **ret);
	/* Closes it and fills t's images or bundle members. Also after a failed dump (t NULL). */
	int (*tree_done)(struct store *s, struct image_store *images, struct manifest_tree *t);
	/* Phase commit: the sealed manifest; afterwards the jump may follow. */
	int (*commit)(struct store *s, const char *text, size_t bytes);
	/* Frees memory of this process only; what the machine holds is in the undo log. */
	void (*done)(struct store *s);
};

struct store {
	const struct store_ops *ops;
	struct upgrade *u;		/* borrowed */
	void *state;
	char *why;			/* why it was chosen, for the report; heap */
};

/* store_table.c: in the order in which auto tries them; ends with NULL. */
extern const struct store_ops *const store_table[];
extern const struct store_ops store_tmpfs, store_pmem;

/*
 * Chooses by opt->store; auto takes the first of store_table that can, and store.why says why.
 * Logs a problem when none can.
 */
int store_choose(struct upgrade *u, const struct store_need *needs, size_t n) _must_check_;
/*
 * Phase store. With auto, a store that looked possible but is not (memory in small pieces) is
 * given up for the next one that is.
 */
int store_prepare(struct upgrade *u, const struct store_need *needs, size_t n) _must_check_;
void store_done(struct store *s);

/*
 * The initramfs of this upgrade as a file descriptor fit for kexec_file_load(2): early program
 * or the distribution's initrd in front, modules, manifest (may be NULL), images (-1: none).
 */
int store_build_initramfs(struct upgrade *u, const char *manifest, size_t manifest_bytes,
			  int images_fd, int *ret_fd) _must_check_;

#endif
