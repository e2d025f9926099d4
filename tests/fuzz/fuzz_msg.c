/* The codec of the local messages under foreign bytes.
 *
 * An input is one byte of descriptors (0..3) and then a datagram, which is decoded as each role
 * would send it. What decodes must encode to the very same bytes: there is one form of every
 * message, and nothing that came in is lost or made up.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "lib/msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const enum msg_role roles[] = {
	ROLE_BROKER, ROLE_SESSION, ROLE_LISTENER, ROLE_DOOR, ROLE_LOOKUP, ROLE_ERRAND,
	ROLE_ADMIN,  ROLE_TLS,
};

static unsigned senders_of(enum msg_type type)
{
#define SENDERS(name, number, senders, ...) \
	if (type == MSG_##name) \
		return (unsigned)__builtin_popcount(senders);
	MSG_TABLE(SENDERS)
#undef SENDERS
	return 0;
}

static void check_round_trip(struct span datagram, const struct msg *m)
{
	char again[MSG_MAX];
	int n = msg_encode(m, again, sizeof(again));

	assert(n >= 0 && (size_t)n == datagram.n);
	assert(memcmp(again, datagram.p, datagram.n) == 0);
	assert(msg_name(m->type)[0] != '?');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;

	unsigned descriptors = data[0] & 3;
	struct span datagram = { (const char *)data + 1, size - 1 };
	unsigned accepted = 0, senders = 0;

	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
		struct msg m = { 0 };

		if (msg_decode(datagram, roles[i], descriptors, &m) < 0)
			continue;
		accepted++;
		senders = senders_of(m.type);
		assert(msg_descriptors(m.type) == descriptors);
		check_round_trip(datagram, &m);
	}
	assert(accepted == senders); /* all who may send it, and nobody else */
	return 0;
}
