/* What says who is calling, under foreign bytes: PROXY headers, ID lists, XCLIENT. An address that
 * is taken is one, and what is told on can be read again.
 */
#include <assert.h>
#include <stdint.h>

#include "lib/cidr.h"
#include "proxyd/caller.h"
#include "proxyd/imap_args.h"
#include "proxyd/proxy_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MOST 8192

static void assert_address(struct span text)
{
	struct cidr_address parsed;

	assert(cidr_address_parse(text, &parsed) == 0 && span_is_printable(text));
}

/* Until it is complete each beginning wants more; behind that nothing changes it. */
static void check_header(struct span input)
{
	struct proxy_header whole, part;
	int length = proxy_header_read(input, &whole);

	assert(length <= (int)input.n && length <= PROXY_HEADER_MAX);
	assert(length != 0 || input.n < PROXY_HEADER_MAX);
	if (length <= 0)
		return;
	for (size_t n = 0; n < (size_t)length; n++)
		assert(proxy_header_read((struct span){ input.p, n }, &part) == 0);
	assert(proxy_header_read((struct span){ input.p, (size_t)length }, &part) == length);
	assert(whole.own == part.own && whole.client_port <= UINT16_MAX &&
	       whole.local_port <= UINT16_MAX);
	if (whole.own)
		return;
	assert_address(span_str(whole.client));
	assert_address(span_str(whole.local));
}

static void check_said(const struct caller_said *said)
{
	if (said->address_length > 0)
		assert_address((struct span){ said->address, said->address_length });
	assert(said->port <= UINT16_MAX && said->hops <= 5);
}

/* What is kept is a list without a proxy's fields; it is told to the next one and read there. */
static void check_id(struct span input)
{
	char bytes[INPUT_MOST], more[INPUT_MOST], again[INPUT_MOST];
	struct buf list = BUF_OVER(bytes), kept = BUF_OVER(more), same = BUF_OVER(again);
	struct caller_said said, none;

	if (imap_read_id(input, &list) < 0)
		return;
	assert(caller_read_id(buf_span(&list), &said, &kept) == 0);
	check_said(&said);
	assert(imap_read_id(buf_span(&kept), &same) == 0);
	assert(span_eq(buf_span(&kept), buf_span(&same)));
	same.len = 0;
	assert(caller_read_id(buf_span(&kept), &none, &same) == 0);
	assert(none.address_length == 0 && none.port == 0 && none.hops == 0);
	assert(span_eq(buf_span(&kept), buf_span(&same)));
}

static void check_told(struct span input)
{
	struct caller_facts facts = { .tell = true, .client = input, .local = input };
	char bytes[CALLER_OUT_MAX], more[CALLER_OUT_MAX];
	struct buf out = BUF_OVER(bytes), kept = BUF_OVER(more);
	struct caller_said said;

	assert(caller_add_id(&facts, &out) == 0);
	assert(!memchr(bytes, '\r', out.len) && !memchr(bytes, '\n', out.len));
	assert(caller_read_id(buf_span(&out), &said, &kept) == 0);
	assert(said.hops == 1 && span_eq(buf_span(&kept), SPAN("()")));
	out.len = 0;
	assert(caller_add_xclient(&facts, true, &out) == 0);
	assert(memchr(bytes, '\n', out.len) == bytes + out.len - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span input = { (const char *)data, size };
	struct caller_said said;

	if (size > INPUT_MOST)
		return 0;
	check_header(input);
	check_id(input);
	check_told(input);
	caller_read_xclient(input, &said);
	check_said(&said);
	return 0;
}
