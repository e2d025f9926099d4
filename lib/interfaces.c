/* Own addresses, by getifaddrs(3). To try bind(2) would be simpler, but where
 * net.ipv4.ip_nonlocal_bind is set, as on machines that take over each other's addresses, it works
 * with every address there is. */
#include "lib/interfaces.h"

#include <ifaddrs.h>
#include <netinet/in.h>

#include "lib/clock.h"

#define BELIEVED_MS 1000

static struct ifaddrs *known;
static int64_t known_until;

static void renew(void)
{
	const int64_t now = clock_ms();

	if (known_until > 0 && now < known_until)
		return;
	known_until = now + BELIEVED_MS;
	if (known)
		freeifaddrs(known);
	known = NULL;
	if (getifaddrs(&known) < 0)
		known = NULL;
}

bool interfaces_have(const struct cidr_address *address)
{
	struct cidr_address a;

	if (cidr_list_has(SPAN("127.0.0.0/8 ::1"), address))
		return true;
	renew();
	for (const struct ifaddrs *i = known; i; i = i->ifa_next)
		if (i->ifa_addr && cidr_address_of(i->ifa_addr, &a) == 0 &&
		    memcmp(&a, address, sizeof(a)) == 0)
			return true;
	return false;
}
