/* A BIO method of our own. The descriptor came from another process, which may hold a copy of it:
 * whether it blocks must not be for that one to say.
 *
 * OpenSSL reads a record's header, then its body, then finds that there is no other: three calls.
 * Here one recv(2) brings all of that into a buffer that all connections share, and when it brought
 * less than there was room for, the next call is not made. SSL_CTX_set_read_ahead() would do the
 * same within OpenSSL, but there nobody could say how many records one step may work off: a peer
 * that sends tiny ones would keep all other connections waiting.
 *
 * A write that has failed for good would stay in OpenSSL as one to be tried again, and the next of
 * another kind (the answer to a KeyUpdate behind a close_notify) would be an error that ends the
 * reading, too. So such a write succeeds, and so does every further one: that nobody hears it is
 * found by reading, behind what the peer had said before.
 *
 * Trap: epoll knows nothing of what was read ahead (relay_wants()).
 */
#include "tlsrelayd/bio.h"

#include <errno.h>
#include <openssl/bio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define AHEAD (16384 + 256 + 5) /* one record of TLS 1.3 (RFC 8446 section 5.2) */

static BIO_METHOD *method;
static char shared[AHEAD];

static ssize_t receive(struct bio_end *end, char *to, size_t n)
{
	ssize_t r;

	do
		r = recv(end->fd, to, n, MSG_DONTWAIT);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		end->fin = true;
	else if (r < 0 && errno != EAGAIN)
		end->error = errno;
	return r;
}

/* Fills the shared buffer, which has nothing of this connection in it. As recv(2). */
static ssize_t read_ahead(struct bio_end *end)
{
	bio_drop(end);
	ssize_t r = receive(end, shared, sizeof(shared));

	end->empty = r > 0 ? r < (ssize_t)sizeof(shared) : r < 0 && end->error == 0;
	if (r > 0) {
		end->rest.data = shared;
		end->rest.len = (size_t)r;
	}
	return r;
}

static size_t take_rest(struct bio_end *end, char *to, size_t n)
{
	if (n > end->rest.len)
		n = end->rest.len;
	memcpy(to, end->rest.data + end->rest.off, n);
	end->rest.off += n;
	end->rest.len -= n;
	return n;
}

static int bio_receive(BIO *bio, char *to, int n)
{
	struct bio_end *end = BIO_get_data(bio);
	ssize_t r = 1;

	BIO_clear_retry_flags(bio);
	if (end->reads_left == 0 || (end->empty && end->rest.len == 0)) {
		BIO_set_retry_read(bio);
		return -1;
	}
	end->reads_left--;
	if (!end->ahead)
		r = receive(end, to, (size_t)n);
	else if (end->rest.len == 0)
		r = read_ahead(end);
	if (r > 0 && end->ahead)
		r = (ssize_t)take_rest(end, to, (size_t)n);
	else if (r < 0 && end->error == 0)
		BIO_set_retry_read(bio);
	return (int)r;
}

static int bio_send(BIO *bio, const char *from, int n)
{
	struct bio_end *end = BIO_get_data(bio);
	ssize_t r;

	BIO_clear_retry_flags(bio);
	if (end->deaf)
		return n;
	do
		r = send(end->fd, from, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	if (r < 0 && errno == EAGAIN)
		BIO_set_retry_write(bio);
	else if (r < 0 && end->ahead) {
		end->deaf = true;
		return n;
	} else if (r < 0)
		end->error = errno;
	return (int)r;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
	const struct bio_end *end = BIO_get_data(bio);

	(void)number;
	(void)pointer;
	switch (command) {
	case BIO_CTRL_FLUSH:
		return 1;
	case BIO_CTRL_EOF:
		return end->fin;
	default:
		return 0;
	}
}

int bio_setup(void)
{
	if (method)
		return 0;
	method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "connection");
	if (!method || !BIO_meth_set_read(method, bio_receive) ||
	    !BIO_meth_set_write(method, bio_send) || !BIO_meth_set_ctrl(method, bio_control))
		return -ENOMEM;
	return 0;
}

BIO *bio_new(struct bio_end *end)
{
	BIO *bio = BIO_new(method);

	if (bio) {
		BIO_set_data(bio, end);
		BIO_set_init(bio, 1);
	}
	return bio;
}

void bio_begin_step(struct bio_end *end, unsigned reads)
{
	end->reads_left = reads;
	end->empty = false;
}

int bio_end_step(struct bio_end *end)
{
	char *own;

	if (end->rest.len == 0)
		bio_drop(end);
	if (end->rest.data != shared)
		return 0;
	own = malloc(end->rest.len);
	if (own)
		memcpy(own, shared + end->rest.off, end->rest.len);
	else
		end->rest.len = 0;
	end->rest.data = own;
	end->rest.off = 0;
	return own ? 0 : -ENOMEM;
}

void bio_drop(struct bio_end *end)
{
	if (end->rest.data != shared)
		free(end->rest.data);
	end->rest.data = NULL;
	end->rest.off = end->rest.len = 0;
}
