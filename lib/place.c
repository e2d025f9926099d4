/* Places. A path stands in logs and in the list of mail hosts, so it has no blanks and no control
 * characters; an address of IPv6 has brackets, or its last group would be taken for a port. */
#include "lib/place.h"

#include "lib/cidr.h"
#include "lib/route.h"

#define PREFIX "unix:"

const char *place_path(const char *host)
{
	return strncmp(host, PREFIX "/", sizeof(PREFIX)) == 0 ? host + sizeof(PREFIX) - 1 : NULL;
}

static bool is_shown_whole(const char *path)
{
	for (; *path; path++)
		if ((unsigned char)*path <= ' ' || *path == 0x7f)
			return false;
	return true;
}

static bool is_name(struct span host)
{
	return route_is_host(host) && !memchr(host.p, ':', host.n) && !memchr(host.p, '%', host.n);
}

const char *place_read(const char *value, struct place *ret)
{
	static const char allowed[] = "give HOST:PORT, [ADDRESS]:PORT or unix:/PATH";
	const char *path = place_path(value), *colon = strrchr(value, ':');
	struct cidr_address address;
	uint64_t port;

	if (path) {
		*ret = (struct place){ .host = span_str(value) };
		return strlen(path) <= PLACE_PATH_MAX && is_shown_whole(path)
			       ? NULL
			       : "give a path of at most 107 bytes, without blanks";
	}
	if (!colon || span_u64(span_str(colon + 1), 65535, &port) < 0 || port == 0)
		return allowed;
	*ret = (struct place){ { value, (size_t)(colon - value) }, (uint32_t)port };
	if (is_name(ret->host))
		return NULL;
	if (ret->host.n < 2 || value[0] != '[' || colon[-1] != ']')
		return allowed;
	ret->host = (struct span){ value + 1, ret->host.n - 2 };
	return memchr(ret->host.p, ':', ret->host.n) &&
			       cidr_address_parse(ret->host, &address) == 0
		       ? NULL
		       : allowed;
}
