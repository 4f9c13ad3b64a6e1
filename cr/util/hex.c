#include "util/hex.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *hex_text(const void *data, size_t bytes)
{
	char *text = malloc(2 * bytes + 1);

	for (size_t i = 0; text && i < bytes; i++)
		sprintf(text + 2 * i, "%02x", ((const uint8_t *)data)[i]);
	if (text)
		text[2 * bytes] = '\0';
	return text;
}

int hex_bytes(const char *text, void *buf, size_t size, size_t *ret_bytes)
{
	size_t n = strlen(text);

	if (n % 2 || strspn(text, "0123456789abcdef") != n)
		return -EBADMSG;
	if (n / 2 > size)
		return -E2BIG;
	for (size_t i = 0; i < n / 2; i++)
		if (sscanf(text + 2 * i, "%2hhx", (uint8_t *)buf + i) != 1)
			return -EBADMSG;
	*ret_bytes = n / 2;
	return 0;
}
