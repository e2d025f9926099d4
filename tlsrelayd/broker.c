/* The way to the broker: its socket `tls`.
 *
 * When it goes away the next one is looked for, as in lookupd: the pause grows from 50 ms to 1 s.
 * Open connections go on meanwhile; who waited for a handshake has gone with the broker.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "lib/fd.h"
#include "lib/log.h"
#include "lib/msgsock.h"
#include "tlsrelayd/master.h"

#define PAUSE_LEAST_MS 50
#define PAUSE_MOST_MS  1000
#define MESSAGES_ONCE  32

static void plan_retry(struct master *m)
{
	(void)sd_event_source_set_time_relative(m->retry_source, (uint64_t)m->pause_ms * 1000);
	(void)sd_event_source_set_enabled(m->retry_source, SD_EVENT_ONESHOT);
	m->pause_ms = m->pause_ms * 2 < PAUSE_MOST_MS ? m->pause_ms * 2 : PAUSE_MOST_MS;
}

static void lose_broker(struct master *m, int r)
{
	if (m->broker < 0)
		return;
	m->broker_source = sd_event_source_disable_unref(m->broker_source);
	fd_drop(&m->broker);
	seats_forget_requests(m);
	if (r != -ECONNRESET && r != -EPIPE)
		log_printf(LOG_WARNING, "the broker at %s: %s; connecting anew", m->socket_path,
			   strerror(-r));
	if (m->orphaned) {
		(void)sd_event_exit(m->event, 0);
		return;
	}
	m->pause_ms = PAUSE_LEAST_MS;
	plan_retry(m);
}

int broker_send(struct master *m, const struct msg *message, int fd)
{
	int r = m->broker < 0 ? -ENOTCONN : msgsock_send(m->broker, message, fd);

	/* -ETOOMANYREFS: descriptors in flight; the broker has to take some first */
	if (r == -ETOOMANYREFS)
		r = -EAGAIN;
	if (r == -EPIPE || r == -ECONNRESET)
		return r; /* its end is seen by on_broker() */
	if (r < 0 && r != -EAGAIN && r != -ENOTCONN)
		log_printf(LOG_ERR, "a message cannot be sent to the broker: %s", strerror(-r));
	return r;
}

void broker_wait(struct master *m)
{
	if (m->broker_source)
		(void)sd_event_source_set_io_events(m->broker_source,
						    m->has_all ? EPOLLOUT : EPOLLIN | EPOLLOUT);
}

/* Of a Unix socket that is shut down for reading what is in its queue can still be read, and its
 * peer's next send() fails with EPIPE: nothing is lost between the two. */
void broker_leave(struct master *m)
{
	m->has_all = m->broker < 0 || shutdown(m->broker, SHUT_RD) < 0;
}

void broker_introduce(struct master *m)
{
	const struct msg hello = { .type = MSG_RELAY,
				   .RELAY.serves = contexts_serve(m->contexts) };

	if (m->broker >= 0)
		(void)broker_send(m, &hello, -1);
}

static int take_message(struct master *m)
{
	static char data[MSG_MAX];
	struct msg request;
	AUTO_FD fd = -1;
	int r = msgsock_receive(m->broker, ROLE_BROKER, data, &request, &fd);

	if (r < 0)
		return r;
	if ((request.type != MSG_TLS_ACCEPT && request.type != MSG_TLS_CONNECT) ||
	    request.serial == 0)
		return -EBADMSG;
	seats_take(m, &request, take_fd(&fd));
	return 0;
}

static int on_broker(sd_event_source *source, int fd, uint32_t events, void *context)
{
	struct master *m = context;
	int r = 0;

	(void)fd;
	if (events & EPOLLOUT) {
		(void)sd_event_source_set_io_events(source, m->has_all ? 0 : EPOLLIN);
		seats_send_unsent(m);
	}
	for (int i = 0; i < MESSAGES_ONCE && r == 0 && m->broker >= 0; i++)
		r = take_message(m);
	if (r == -ECONNRESET && m->leaving && !m->has_all)
		/* the end that broker_leave() has made: there is nothing more to read, ever */
		m->has_all = sd_event_source_set_io_events(source, 0) >= 0;
	else if (r < 0 && r != -EAGAIN)
		lose_broker(m, r);
	return 0;
}

static int on_retry(sd_event_source *source, uint64_t usec, void *context)
{
	struct master *m = context;
	bool is_late = m->pause_ms == PAUSE_MOST_MS;
	AUTO_FD sock = msgsock_connect(m->socket_path);

	(void)source;
	(void)usec;
	if (m->leaving)
		return 0;
	if (m->orphaned)
		return sd_event_exit(m->event, 0); /* whoever that is, it is not our broker */
	if (sock < 0) {
		if (is_late && !m->missed_broker)
			log_printf(LOG_WARNING, "no broker at %s: %s; waiting for it",
				   m->socket_path, strerror(-sock));
		m->missed_broker = m->missed_broker || is_late;
		plan_retry(m);
		return 0;
	}
	if (m->missed_broker)
		log_printf(LOG_NOTICE, "the broker at %s is there", m->socket_path);
	m->missed_broker = false;
	int r = sd_event_add_io(m->event, &m->broker_source, sock, EPOLLIN, on_broker, m);

	if (r < 0)
		return r;
	m->broker = take_fd(&sock);
	m->told = (struct msg_TLS_STATE){ 0 };
	broker_introduce(m);
	return 0;
}

int broker_begin(struct master *m)
{
	m->broker = -1;
	m->pause_ms = PAUSE_LEAST_MS;
	return sd_event_add_time_relative(m->event, &m->retry_source, CLOCK_MONOTONIC, 0, 0,
					  on_retry, m);
}

void broker_end(struct master *m)
{
	m->broker_source = sd_event_source_disable_unref(m->broker_source);
	m->retry_source = sd_event_source_disable_unref(m->retry_source);
	fd_drop(&m->broker);
}
