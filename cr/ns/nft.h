/* nft.c: packet filter rules of the caller's network namespace. */
#ifndef CR_NS_NFT_H
#define CR_NS_NFT_H

#include <stdbool.h>
#include <stddef.h>

#include "util/macro.h"

struct nft_seen {
	unsigned int tables;	/* of nftables; 0 also where the kernel has none */
	bool compat;		/* rules of iptables-nft with extensions, which nft(8) shows but cannot read again */
};
int nft_look(struct nft_seen *ret) _must_check_;

/* Where iptables-legacy has its tables, below /proc/PID/net. */
#define NFT_LEGACY_FILES 3
extern const char *const nft_legacy_files[NFT_LEGACY_FILES];
/* 1: the name of a file's first table, the caller's to free; 0: there is none. */
int nft_legacy_table(const char *file, char **ret) _must_check_;

/* The whole ruleset as text, the caller's to free. -ENOPKG: there is no nft(8). */
int nft_list(char **ret) _must_check_;
/* The tables' names: lines "table inet NAME". */
int nft_list_tables(char **ret) _must_check_;
/* Adds these rules to those there are. */
int nft_load(const void *rules, size_t bytes) _must_check_;
/* Would nft_load() take them? -EIO: it would not, and err_fd holds why, in nft's words. */
int nft_check(const void *rules, size_t bytes, int err_fd) _must_check_;
/* Lines as the text that the two take, the caller's to free. NULL: no memory. */
char *nft_join(char *const *lines, size_t n, size_t *ret_bytes);

#endif
