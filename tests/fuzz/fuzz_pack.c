/* What a broker finds in the supervisor's store: the prefix, then records. What decodes must encode
 * to the very same bytes. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "cachebrokerd/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span rest = { (const char *)data, size };
	struct pack_record record = { 0 };
	static char again[PACK_RECORD_MAX];
	uint32_t version, messages;

	if (pack_take_prefix(&rest, &version, &messages) < 0)
		return 0;
	assert(rest.n == size - PACK_PREFIX);
	for (const char *at = rest.p; pack_decode(&rest, &record) == 1; at = rest.p) {
		int n = pack_encode(&record, again, sizeof(again));

		assert(n > 0 && at + n == rest.p);
		assert(memcmp(again, at, (size_t)n) == 0);
		assert(pack_sockets(record.type) <= 1);
	}
	return 0;
}
