/* Credentials and no_new_privs, which another thread does not have. */
#define CREDS_MAKER_NNP true
#include "creds.c"
