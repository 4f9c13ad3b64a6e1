/*
 * BTF (the kernel's description of its own types, /sys/kernel/btf/vmlinux): as much of it as
 * finding a structure's member takes. Kernel: Documentation/bpf/btf.rst.
 */
#ifndef CR_KERNEL_BTF_H
#define CR_KERNEL_BTF_H

#include <stddef.h>
#include <stdint.h>

#include "util/macro.h"

struct btf {
	const uint8_t *types;
	const char *strings;	/* NUL-terminated as a whole */
	size_t strings_bytes;
	uint32_t *at;		/* where type id begins in types; heap */
	uint32_t n_types;	/* ids are 1..n_types - 1 */
};

/* Refers to data, which must outlive it. -EBADMSG on what no kernel writes. */
int btf_parse(const void *data, size_t bytes, struct btf *ret) _must_check_;
void btf_done(struct btf *b);
/* The first type of this kind (BTF_KIND_*) and name: its id, or -ENOENT. */
int btf_find(const struct btf *b, unsigned int kind, const char *name) _must_check_;
/*
 * Byte offset of a member, also inside anonymous structures, or of a member's member ("one.of.it");
 * -ENOENT. No bit fields.
 */
int btf_member(const struct btf *b, const char *structure, const char *member) _must_check_;

#endif
