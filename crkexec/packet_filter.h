/* Parts of packet_filter.c. Rules are lines as the manifest holds them. */
#ifndef CRKEXEC_PACKET_FILTER_H
#define CRKEXEC_PACKET_FILTER_H

#include "crkexec/manifest.h"
#include "crkexec/strv.h"

/* Before the names of the tables that are carried. Others have no business with such names. */
#define PACKET_FILTER_PREFIX	"crkexec_"

/* packet_filter_text.c */
/*
 * What nft lists (eaten) as lines for the manifest, with tables of our own names. -E2BIG: a line or a table's
 * name that is too long; -EBADMSG: a table that is not shown as we know it.
 */
int packet_filter_rename(char *rules, struct strv *lines) _must_check_;
/* Of these lines the tables of our own, "inet crkexec_NAME". */
int packet_filter_ours(char *const *lines, size_t n, struct strv *ret) _must_check_;

/* packet_filter_check.c */
/*
 * 1: nft does not load them where only the links of m are, *ret_why in its words, the caller's to free. 0: it does,
 * or that cannot be found out.
 */
int packet_filter_check(char *const *lines, size_t n, const struct manifest *m, char **ret_why) _must_check_;

#endif
