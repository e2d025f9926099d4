/* Questions to lookupd's workers.
 *
 * A question that has been sent stays with its worker until the answer comes, even when nobody
 * waits for it any more, since the worker is busy until then. A worker that dies gives its question
 * back to the line (a reload replaces all workers). One with a password to be checked goes back
 * once only: it may be the stored hash that the worker died of. Its secret lies in the memory of
 * secrets.c until the answer is there or nobody waits for it.
 */
#include "cachebrokerd/lookup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cachebrokerd/secrets.h"
#include "cachebrokerd/traces.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/msgsock.h"

#define QUESTIONS_MOST 4096
#define ANSWER_TIMEOUT 10000 /* ms */
#define ASKED_MOST     2     /* times, with a secret */

struct question {
	struct lookup *lookup;
	struct question *next; /* in line */
	answer_fn *done;       /* NULL: nobody waits */
	void *context;
	struct timer *timer;
	struct msg m;
	enum msg_type expected;
	char text[512]; /* the question's text field */
	char client[64];
	struct secret *secret; /* NULL: there is none */
	unsigned asked;	       /* times */
};

struct worker {
	struct peer *peer;
	struct worker *next;
	struct question *question; /* being answered */
	uint32_t serial;
	bool ready;
};

struct lookup {
	struct broker *broker;
	struct worker *workers;
	struct question *first, **last;
	unsigned waiting;
};

int lookup_new(struct broker *b, struct lookup **ret)
{
	struct lookup *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->broker = b;
	l->last = &l->first;
	*ret = l;
	return 0;
}

static void free_question(struct question *q)
{
	timer_end(&q->timer);
	secret_wipe(&q->secret);
	free(q);
}

void lookup_free(struct lookup *l)
{
	if (!l)
		return;
	for (struct question *q = l->first; q; q = q->next)
		q->done = NULL;
	for (struct worker *w = l->workers; w; w = w->next)
		if (w->question)
			w->question->done = NULL;
	while (l->workers)
		peer_end(l->workers->peer); /* its question goes back into the line */
	while (l->first) {
		struct question *q = l->first;

		l->first = q->next;
		free_question(q);
	}
	free(l);
}

static void join_line(struct lookup *l, struct question *q)
{
	q->next = NULL;
	*l->last = q;
	l->last = &q->next;
	l->waiting++;
}

static struct question *leave_line(struct lookup *l)
{
	struct question *q = l->first;

	if (!q)
		return NULL;
	l->first = q->next;
	if (!l->first)
		l->last = &l->first;
	l->waiting--;
	return q;
}

/* 0, or -errno when the worker is gone, and the question is in line again. */
static int send_to(struct worker *w, struct question *q)
{
	if (!q->secret)
		return peer_send(w->peer, &q->m, -1);
	q->m.LOOKUP.secret = secret_span(q->secret);
	q->asked++;
	int r = peer_send(w->peer, &q->m, -1);

	traces_wipe();
	return r;
}

/* Gives waiting questions to free workers. */
static void serve_line(struct lookup *l)
{
	for (struct worker *w = l->workers; w; w = w->next) {
		if (!w->ready || w->question)
			continue;
		struct question *q = leave_line(l);

		while (q && !q->done) {
			free_question(q);
			q = leave_line(l);
		}
		if (!q)
			return;
		if (++w->serial == 0)
			w->serial = 1;
		q->m.serial = w->serial;
		w->question = q;
		if (send_to(w, q) < 0)
			return; /* the worker is gone, which has called this again */
	}
}

static void on_timeout(void *context)
{
	struct question *q = context;
	answer_fn *done = q->done;

	q->done = NULL; /* freed when it leaves the line, or when the answer comes */
	secret_wipe(&q->secret);
	if (done)
		done(q->context, NULL);
}

/* What else a LOOKUP has. */
static int keep_check(struct question *q, const struct msg_LOOKUP *m)
{
	if (m->client.n > sizeof(q->client))
		return -EINVAL;
	memcpy(q->client, m->client.p, m->client.n);
	q->m.LOOKUP.client = (struct span){ q->client, m->client.n };
	q->m.LOOKUP.secret = SPAN_NONE;
	if (m->secret.n == 0)
		return 0;
	q->secret = secret_keep(m->secret);
	return q->secret ? 0 : -EAGAIN;
}

/* The texts of the question, which the caller's message only borrows. */
static int keep_text(struct question *q, const struct msg *m)
{
	struct span text = m->type == MSG_LOOKUP ? m->LOOKUP.user : m->RESOLVE.host;

	if (text.n > sizeof(q->text))
		return -EINVAL;
	memcpy(q->text, text.p, text.n);
	q->m = *m;
	*(m->type == MSG_LOOKUP ? &q->m.LOOKUP.user : &q->m.RESOLVE.host) =
		(struct span){ q->text, text.n };
	q->expected = m->type == MSG_LOOKUP ? MSG_ACCOUNT : MSG_ADDRESSES;
	return m->type == MSG_LOOKUP ? keep_check(q, &m->LOOKUP) : 0;
}

int lookup_ask(struct lookup *l, const struct msg *m, answer_fn *done, void *context,
	       struct question **ret)
{
	if (l->waiting >= QUESTIONS_MOST)
		return -EAGAIN;
	struct question *q = calloc(1, sizeof(*q));

	if (!q)
		return -ENOMEM;
	q->lookup = l;
	q->done = done;
	q->context = context;
	int r = keep_text(q, m);

	if (r == 0)
		r = loop_timer(l->broker->loop, ANSWER_TIMEOUT, on_timeout, q, &q->timer);
	if (r < 0) {
		free_question(q);
		return r;
	}
	*ret = q;
	join_line(l, q);
	serve_line(l);
	return 0;
}

void question_drop(struct question **q)
{
	if (*q) {
		(*q)->done = NULL;
		secret_wipe(&(*q)->secret);
	}
	*q = NULL;
}

static int on_message(struct peer *p, const struct msg *m, int *fd)
{
	struct worker *w = p->owner;
	struct question *q = w->question;

	(void)fd;
	if (m->type == MSG_WORKER) {
		if (w->ready)
			return -EPROTO;
		w->ready = true;
	} else {
		if (!q || m->serial != w->serial || m->type != q->expected)
			return -EPROTO;
		w->question = NULL;
		answer_fn *done = q->done;
		void *context = q->context;

		free_question(q);
		if (done)
			done(context, m);
	}
	serve_line(p->broker->lookup);
	return 0;
}

/* Its worker is gone, and it is not asked any more. */
static void give_up(struct question *q)
{
	answer_fn *done = q->done;
	void *context = q->context;

	free_question(q);
	if (done)
		done(context, NULL);
}

static void on_gone(struct peer *p)
{
	struct lookup *l = p->broker->lookup;
	struct worker *w = p->owner, **at = &l->workers;

	while (*at && *at != w)
		at = &(*at)->next;
	if (*at)
		*at = w->next;
	struct question *q = w->question;

	free(w);
	if (q && q->asked < ASKED_MOST)
		join_line(l, q);
	serve_line(l);
	if (q && q->asked >= ASKED_MOST)
		give_up(q);
}

const struct peer_kind lookup_peer_kind = { ROLE_LOOKUP, on_message, on_gone };

static void ignore_gone(struct peer *p)
{
	(void)p;
}

void lookup_peer_new(struct peer *p)
{
	static const struct peer_kind rejected = { ROLE_LOOKUP, on_message, ignore_gone };
	struct lookup *l = p->broker->lookup;
	struct worker *w = calloc(1, sizeof(*w));

	if (!w) {
		p->kind = &rejected;
		peer_end(p);
		return;
	}
	w->peer = p;
	w->next = l->workers;
	l->workers = w;
	p->owner = w;
}
