/* What a broker that was taken over cannot do: it holds all connections and digests of passwords,
 * so the least that it could still reach is the point. The filter is made at build time
 * (jail/make_filter.c). Neither file's key is changed by a reload, so the places may be fixed.
 */
#include "cachebrokerd/jail.h"

#include <linux/filter.h>

#include "broker_filter.h"
#include "lib/confine.h"

int jail_enter_broker(const char *stat_filename, const char *protocol_log)
{
	static const struct sock_filter steps[] = { BROKER_FILTER };
	const char *const files[] = { stat_filename, protocol_log };
	int r = confine_rights(0);

	if (r == 0)
		r = confine_writes(files, sizeof(files) / sizeof(files[0]));
	return r < 0 ? r : confine_calls(steps, sizeof(steps) / sizeof(steps[0]));
}
