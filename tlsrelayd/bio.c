/* A BIO method of our own. The descriptor came from another process, which may hold a copy of it:
 * whether it blocks must not be for that one to say. */
#include "tlsrelayd/bio.h"

#include <errno.h>
#include <openssl/bio.h>
#include <sys/socket.h>

static BIO_METHOD *method;

static int bio_receive(BIO *bio, char *to, int n)
{
	struct bio_end *end = BIO_get_data(bio);
	ssize_t r;

	BIO_clear_retry_flags(bio);
	if (end->reads_left == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	end->reads_left--;
	do
		r = recv(end->fd, to, (size_t)n, MSG_DONTWAIT);
	while (r < 0 && errno == EINTR);
	if (r > 0)
		return (int)r;
	if (r == 0)
		end->fin = true;
	else if (errno == EAGAIN)
		BIO_set_retry_read(bio);
	else
		end->error = errno;
	return (int)r;
}

static int bio_send(BIO *bio, const char *from, int n)
{
	struct bio_end *end = BIO_get_data(bio);
	ssize_t r;

	BIO_clear_retry_flags(bio);
	do
		r = send(end->fd, from, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	if (r < 0 && errno == EAGAIN)
		BIO_set_retry_write(bio);
	else if (r < 0)
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
