/* What a traced session tells the protocol log's writer (docs/PROTOCOL.md): records on a
 * SOCK_SEQPACKET socket of its own, each a head and bytes of one side. Who the session is, the
 * writer knows; nothing it says of itself counts. */
#ifndef LIB_TRACE_H
#define LIB_TRACE_H

#include <stdint.h>

enum trace_side {
	TRACE_CLIENT = 1, /* from the client, on its way to the mail host */
	TRACE_SERVER,	  /* from the mail host */
	TRACE_PROXY,	  /* from the proxy itself, to the client */
};

struct trace_head {
	uint8_t side;	   /* enum trace_side */
	uint8_t continued; /* the last record of this side did not end its line: this goes on */
	uint16_t zero;
	uint32_t lost; /* so many records before this one found no room */
};

/* Most bytes behind the head; a longer line is cut. */
#define TRACE_BYTES 8000

#endif
