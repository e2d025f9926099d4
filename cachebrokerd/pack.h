/* The pack: what a broker that is restarted leaves to its successor (restart.h). Pure: here is only
 * how it is written.
 *
 * A pack is a text and a row of descriptors. The text begins with PACK_PREFIX bytes that say whose
 * it is; then come records of pack_table.h, each its number (4 bytes), its fields (numbers 4 or 8
 * bytes, digests KEY_BYTES, texts a 4-byte length and their bytes, all in the machine's own byte
 * order) and the FNV-1a hash of all that (4 bytes): a record that was damaged is none, and no other
 * user's. Records that have a descriptor take the next one of the row.
 */
#ifndef CACHEBROKERD_PACK_H
#define CACHEBROKERD_PACK_H

#include "cachebrokerd/keys.h"
#include "cachebrokerd/pack_table.h"

/* Raised with every change of pack_table.h, and of what its fields mean. */
#define PACK_VERSION 4

#define PACK_PREFIX 16 /* bytes: "keepwarm", PACK_VERSION, MSG_VERSION */

/* No record is longer. */
#define PACK_RECORD_MAX 12800

enum pack_connection_flag {
	PACK_PROVEN = 1,
	PACK_CACHED = 2,
	PACK_SPARE = 4,
	PACK_UNWANTED = 8,
	PACK_MADE = 16,
	PACK_LISTED = 32, /* its capabilities are known */
};

enum pack_client_flag {
	PACK_BOUND = 1,
	PACK_ACCEPTED = 2,
	PACK_SWAPPED = 4,
	PACK_LIMITED = 8,
	PACK_MADE_ROOM = 16,
	PACK_SPARE_DIED = 32,
	PACK_MUST_REPEAT = 64,
	PACK_ORPHAN = 128,
	PACK_KNOCKED = 256,
	PACK_COUNTED = 512,
	PACK_JOINED = 1024,
	PACK_TLS_ASKED = 2048,
	PACK_PAID = 4096, /* its challenge was a login attempt that it may still make */
	PACK_OLD_IDENTITY = 8192,   /* its certificate was verified before a reload, */
	PACK_OLD_CHALLENGE = 16384, /* its challenge was */
};

enum pack_account_flag {
	PACK_OTHER_PASSWORD = 1,
	PACK_NONE = 2, /* there is no such account, or */
	PACK_REFUSED = 4, /* its password is not this one */
	PACK_PRIVATE = 8,
};

enum pack_type {
#define PACK_ENUM(name, number, ...) PACK_##name = number,
	PACK_TABLE(PACK_ENUM)
#undef PACK_ENUM
};

/* struct pack_HEAD and so on; a text is a span that borrows the pack's bytes. */
#define PACK_MEMBER_U32(N, name)	   uint32_t name;
#define PACK_MEMBER_U64(N, name)	   uint64_t name;
#define PACK_MEMBER_KEY(N, name)	   struct key name;
#define PACK_MEMBER_TEXT(N, name, longest) struct span name;
#define PACK_STRUCT(name, number, sockets, FIELDS) \
	struct pack_##name { \
		FIELDS(name, PACK_MEMBER_U32, PACK_MEMBER_U64, PACK_MEMBER_KEY, PACK_MEMBER_TEXT) \
	};
PACK_TABLE(PACK_STRUCT)
#undef PACK_STRUCT

struct pack_record {
	enum pack_type type;
	union {
#define PACK_UNION(name, ...) struct pack_##name name;
		PACK_TABLE(PACK_UNION)
#undef PACK_UNION
	};
};

/* Writes what every pack begins with. */
void pack_prefix(char data[PACK_PREFIX]);

/* Takes that off the front. 0; -EPROTONOSUPPORT: it is of another version, *ret_version (of the
 * pack) and *ret_messages say which; -EBADMSG: it is no pack. */
int pack_take_prefix(struct span *rest, uint32_t *ret_version, uint32_t *ret_messages);

/* Encodes a record. Returns its length; -ENOBUFS for a text that is longer than its row allows, or
 * when there is no room; -EINVAL for an unknown type. */
int pack_encode(const struct pack_record *record, char *data, size_t cap);

/* Takes the next record off the front. 1; 0 at the end; -EBADMSG for what is none. */
int pack_decode(struct span *rest, struct pack_record *ret);

/* How many descriptors a record of this type has. */
unsigned pack_sockets(enum pack_type type);

#endif
