/* The same filters for all threads, shared. */
#define SECCOMP_MAKER_MODE "tsync"
#include "seccomp.c"
