/* Internet socket addresses: from image words, as text, bind(2) with an explanation. */
#include <arpa/inet.h>
#include <net/if.h>
#include <string.h>

#include "kind/sk_inet.h"

int inet_addr_from_image(uint32_t family, const uint32_t *words, size_t n_words, uint32_t port,
			 const char *ifname, union inet_addr *ret)
{
	*ret = (union inet_addr){ 0 };
	if (port > UINT16_MAX)
		return -EBADMSG;
	if (family == AF_INET && n_words == 1) {
		ret->v4.sin_family = AF_INET;
		ret->v4.sin_port = htons((uint16_t)port);
		ret->v4.sin_addr.s_addr = words[0];
		return 0;
	}
	if (family != AF_INET6 || n_words != 4)
		return -EBADMSG;
	ret->v6.sin6_family = AF_INET6;
	ret->v6.sin6_port = htons((uint16_t)port);
	memcpy(&ret->v6.sin6_addr, words, sizeof(ret->v6.sin6_addr));
	if (!ifname || !ifname[0] || !IN6_IS_ADDR_LINKLOCAL(&ret->v6.sin6_addr))
		return 0;
	ret->v6.sin6_scope_id = if_nametoindex(ifname);
	return ret->v6.sin6_scope_id ? 0 : -ENODEV;
}

socklen_t inet_addr_len(const union inet_addr *a)
{
	return a->sa.sa_family == AF_INET ? sizeof(a->v4) : sizeof(a->v6);
}

uint16_t inet_addr_port(const union inet_addr *a)
{
	/* At the same place in both. */
	return ntohs(a->v4.sin_port);
}

bool inet_addr_is_any(const union inet_addr *a)
{
	return a->sa.sa_family == AF_INET ? a->v4.sin_addr.s_addr == htonl(INADDR_ANY)
					  : IN6_IS_ADDR_UNSPECIFIED(&a->v6.sin6_addr);
}

bool inet_addr_is_v4(const union inet_addr *a)
{
	return a->sa.sa_family == AF_INET || IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr);
}

void inet_addr_unmap(union inet_addr *a)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = a->v4.sin_port };

	if (a->sa.sa_family != AF_INET6 || !inet_addr_is_v4(a))
		return;
	memcpy(&v4.sin_addr, &a->v6.sin6_addr.s6_addr[12], sizeof(v4.sin_addr));
	a->v4 = v4;
}

const char *inet_addr_text(const union inet_addr *a, char *buf)
{
	char ip[INET6_ADDRSTRLEN] = "?", dev[IF_NAMESIZE + 1] = "%";

	if (a->sa.sa_family == AF_INET) {
		inet_ntop(AF_INET, &a->v4.sin_addr, ip, sizeof(ip));
		snprintf(buf, INET_ADDR_TEXT, "%s:%u", ip, inet_addr_port(a));
		return buf;
	}
	inet_ntop(AF_INET6, &a->v6.sin6_addr, ip, sizeof(ip));
	if (!a->v6.sin6_scope_id || !if_indextoname(a->v6.sin6_scope_id, dev + 1))
		dev[0] = '\0';
	snprintf(buf, INET_ADDR_TEXT, "[%s%s]:%u", ip, dev, inet_addr_port(a));
	return buf;
}

int inet_freebind_set(int fd, uint32_t family, bool on)
{
	int r = family == AF_INET6 ? sk_set_int(fd, SOL_IPV6, IPV6_FREEBIND, on)
				   : sk_set_int(fd, SOL_IP, IP_FREEBIND, on);

	/* IPv6 has it since 4.15; without, the address must be there already. */
	if (r == -ENOPROTOOPT)
		return 0;
	return r < 0 ? log_err(r, "cannot set IP_FREEBIND") : 0;
}

int inet_bind(int fd, const union inet_addr *a)
{
	const char *by = "another process uses it";
	char text[INET_ADDR_TEXT];
	int type;

	if (inet_addr_is_any(a) && !inet_addr_port(a))
		return 0;
	if (!bind(fd, &a->sa, inet_addr_len(a)))
		return 0;
	if (errno != EADDRINUSE)
		return log_err(neg_errno(), "cannot bind to %s", inet_addr_text(a, text));
	if (sk_get_int(fd, SOL_SOCKET, SO_TYPE, &type) >= 0 && type == SOCK_STREAM &&
	    tcp_time_wait_end(fd, a, &by) && !bind(fd, &a->sa, inet_addr_len(a)))
		return 0;
	return log_err(-EADDRINUSE, "cannot bind to %s: %s", inet_addr_text(a, text), by);
}
