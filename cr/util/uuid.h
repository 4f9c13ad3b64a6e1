/* RFC 9562: a random UUID (version 4) as text. */
#ifndef CR_UTIL_UUID_H
#define CR_UTIL_UUID_H

#include "util/macro.h"

#define UUID_TEXT_BYTES	37	/* with the NUL */

int uuid_random(char ret[UUID_TEXT_BYTES]) _must_check_;

#endif
