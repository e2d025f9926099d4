/* Questions to lookupd's workers.
 *
 * A question that has been sent stays with its worker until the answer comes, even when nobody
 * waits for it any more, since the worker is busy until then. A worker that dies gives its question
 * back to the line. A reload ends all of them at once, so that a question may see as many deaths as
 * there are workers; one more, or one behind long work, shows that it is the question they die of
 * (of one with a password it may be the stored hash). One that is for this worker only is answered
 * with nothing.
 *
 * Accounts take turns: whoever asks about one again stands behind everybody else's first question,
 * and one account is never with more than half of the workers. Else a few guesses of a password
 * whose hash takes seconds, or of an account that its directory is slow with, would be everybody's
 * wait.
 *
 * The secret of a LOOKUP lies in the memory of secrets.c until the answer is there or nobody waits
 * for it.
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
#define WORK_LONG_MS   5000 /* a worker that ends behind so long was held up by the question */

struct question {
	struct lookup *lookup;
	struct question *next; /* in line, which is in the order of turns */
	uint64_t turn;
	answer_fn *done;       /* NULL: nobody waits */
	void *context;
	struct timer *timer;
	int64_t given; /* to its worker */
	unsigned deaths;
	bool hopeless; /* its timer says so in this moment */
	bool late;     /* its time is over: whatever holds its worker up, it is no hash */
	struct msg m;
	enum msg_type expected;
	uint64_t only;	       /* for this worker; 0: any */
	uint64_t *worker;      /* where its number is wanted, or NULL */
	struct secret *secret; /* LOOKUP's; NULL: there is none */
	size_t length;
	char texts[]; /* what the question's other texts borrow */
};

struct worker {
	struct peer *peer;
	struct worker *next;
	struct question *question; /* being answered */
	uint64_t number;	   /* never used twice */
	uint32_t serial;
	bool ready;
};

struct lookup {
	struct broker *broker;
	struct worker *workers;
	struct question *first;
	unsigned waiting;
	uint64_t turn; /* the highest that has come */
	uint64_t last_number;
	bool silent;
};

int lookup_new(struct broker *b, struct lookup **ret)
{
	struct lookup *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->broker = b;
	*ret = l;
	return 0;
}

static void free_question(struct question *q)
{
	timer_end(&q->timer);
	secret_wipe(&q->secret);
	explicit_bzero(q->texts, q->length);
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

/* Are both about the same account? */
static bool is_of_same(const struct question *a, const struct question *b)
{
	return a && a->m.type == MSG_LOOKUP && b->m.type == MSG_LOOKUP &&
	       span_eq(a->m.LOOKUP.user, b->m.LOOKUP.user);
}

/* Behind those of the same account that are there already, one turn each. */
static void give_turn(const struct lookup *l, struct question *q)
{
	q->turn = l->turn;
	for (const struct worker *w = l->workers; w; w = w->next)
		if (is_of_same(w->question, q) && w->question->turn >= q->turn)
			q->turn = w->question->turn + 1;
	for (const struct question *other = l->first; other; other = other->next)
		if (other->done && is_of_same(other, q) && other->turn >= q->turn)
			q->turn = other->turn + 1;
}

/* With its turn; those that have the same one in the order in which they came. */
static void join_line(struct lookup *l, struct question *q)
{
	struct question **at = &l->first;

	while (*at && (*at)->turn <= q->turn)
		at = &(*at)->next;
	q->next = *at;
	*at = q;
	l->waiting++;
}

/* Has the account as many workers as one may have? */
static bool has_its_share(const struct lookup *l, const struct question *q)
{
	unsigned ready = 0, its = 0;

	for (const struct worker *w = l->workers; w; w = w->next) {
		ready += w->ready;
		its += is_of_same(w->question, q) && !w->question->late;
	}
	return its > 0 && its >= ready / 2;
}

static void unlink_question(struct lookup *l, struct question **at)
{
	struct question *q = *at;

	*at = q->next;
	l->waiting--;
}

/* The first in line that this worker may answer; those for which nobody waits are dropped. */
static struct question *leave_line(struct lookup *l, const struct worker *w)
{
	for (struct question **at = &l->first, *q; (q = *at);) {
		if (q->done && (q->hopeless || (q->only != 0 && q->only != w->number) ||
				has_its_share(l, q))) {
			at = &q->next;
			continue;
		}
		unlink_question(l, at);
		if (q->done)
			return q;
		free_question(q);
	}
	return NULL;
}

/* 0, or -errno when the worker is gone, and the question is in line again. */
static int send_to(struct worker *w, struct question *q)
{
	if (!q->secret)
		return peer_send(w->peer, &q->m, -1);
	q->m.LOOKUP.secret = secret_span(q->secret);
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
		struct question *q = leave_line(l, w);

		if (!q)
			continue;
		if (++w->serial == 0)
			w->serial = 1;
		q->m.serial = w->serial;
		if (q->worker)
			*q->worker = w->number;
		w->question = q;
		if (q->turn > l->turn)
			l->turn = q->turn;
		q->given = clock_ms();
		if (send_to(w, q) < 0)
			return; /* the worker is gone, which has called this again */
	}
}

static void on_timeout(void *context)
{
	struct question *q = context;
	struct lookup *l = q->lookup;
	answer_fn *done = q->done;

	l->silent = q->late = true;
	q->done = NULL; /* freed when it leaves the line, or when the answer comes */
	q->worker = NULL;
	secret_wipe(&q->secret);
	if (done)
		done(q->context, NULL);
	serve_line(l); /* it is no part of its account's share any more */
}

/* The texts of a question, which the caller's message only borrows; without a LOOKUP's secret. */
static size_t texts_of(struct msg *m, struct span **ret)
{
	size_t n = 0;

	switch (m->type) {
	case MSG_LOOKUP:
		ret[n++] = &m->LOOKUP.client;
		ret[n++] = &m->LOOKUP.user;
		break;
	case MSG_AUTH_STEP:
		ret[n++] = &m->AUTH_STEP.client;
		ret[n++] = &m->AUTH_STEP.user;
		ret[n++] = &m->AUTH_STEP.why;
		ret[n++] = &m->AUTH_STEP.data;
		break;
	default:
		ret[n++] = &m->RESOLVE.host;
	}
	return n;
}

static int64_t answer_seconds(const struct msg *m)
{
	if (m->type == MSG_RESOLVE)
		return RESOLVE_SECONDS;
	return m->type == MSG_LOOKUP && m->LOOKUP.check == CHECK_PASSWORD
		       ? LOOKUP_SECONDS + PASSWORD_SECONDS
		       : LOOKUP_SECONDS;
}

static struct question *make_question(const struct msg *m)
{
	struct msg copy = *m;
	struct span *texts[4];
	const size_t count = texts_of(&copy, texts);
	size_t length = 0, at = 0;

	for (size_t i = 0; i < count; i++)
		length += texts[i]->n;
	struct question *q = calloc(1, sizeof(*q) + length);

	if (!q)
		return NULL;
	q->m = copy;
	if (m->type == MSG_LOOKUP && m->LOOKUP.secret.n > 0) {
		q->secret = secret_keep(m->LOOKUP.secret);
		if (!q->secret) {
			free(q);
			return NULL;
		}
		q->m.LOOKUP.secret = SPAN_NONE; /* until it is sent */
	}
	q->length = length;
	(void)texts_of(&q->m, texts);
	for (size_t i = 0; i < count; i++) {
		if (texts[i]->n > 0)
			memcpy(q->texts + at, texts[i]->p, texts[i]->n);
		texts[i]->p = q->texts + at;
		at += texts[i]->n;
	}
	q->expected = m->type == MSG_LOOKUP	 ? MSG_ACCOUNT
		      : m->type == MSG_AUTH_STEP ? MSG_AUTH_STEP
						 : MSG_ADDRESSES;
	return q;
}

static bool is_there(const struct lookup *l, uint64_t number)
{
	const struct worker *w = l->workers;

	while (w && w->number != number)
		w = w->next;
	return w != NULL;
}

int lookup_ask_worker(struct lookup *l, uint64_t *worker, const struct msg *m, answer_fn *done,
		      void *context, struct question **ret)
{
	if (l->waiting >= QUESTIONS_MOST)
		return -EAGAIN;
	if (worker && *worker != 0 && !is_there(l, *worker))
		return -ESRCH;
	struct question *q = make_question(m);

	if (!q)
		return -ENOMEM;
	q->lookup = l;
	q->done = done;
	q->context = context;
	q->only = worker ? *worker : 0;
	q->worker = worker;
	int r = loop_timer(l->broker->loop, 1000 * answer_seconds(m), on_timeout, q, &q->timer);

	if (r < 0) {
		free_question(q);
		return r;
	}
	*ret = q;
	give_turn(l, q);
	join_line(l, q);
	serve_line(l);
	return 0;
}

int lookup_ask(struct lookup *l, const struct msg *m, answer_fn *done, void *context,
	       struct question **ret)
{
	return lookup_ask_worker(l, NULL, m, done, context, ret);
}

bool lookup_is_silent(const struct lookup *l)
{
	return l->silent;
}

bool lookup_is_stuck(const struct lookup *l)
{
	for (const struct worker *w = l->workers; w; w = w->next)
		if (w->ready && !w->question)
			return false;
	return l->silent;
}

void question_drop(struct question **q)
{
	if (*q) {
		(*q)->done = NULL;
		(*q)->worker = NULL;
		secret_wipe(&(*q)->secret);
	}
	*q = NULL;
}

static int on_message(struct peer *p, const struct msg *m, int *fd)
{
	struct worker *w = p->owner;
	struct question *q = w->question;

	(void)fd;
	w->peer->broker->lookup->silent = false;
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

/* Nobody else can answer what was for this worker only. */
static void answer_with_nothing(struct lookup *l, uint64_t number)
{
	for (struct question **at = &l->first, *q; (q = *at);) {
		if (q->only != number) {
			at = &q->next;
			continue;
		}
		answer_fn *done = q->done;
		void *context = q->context;

		unlink_question(l, at);
		free_question(q);
		if (done)
			done(context, NULL);
		at = &l->first; /* that may have changed the line */
	}
}

/* Who asked must not be told while it is still asking: serve_line() may be at work for it. */
static void give_up_soon(struct question *q)
{
	if (!q->done)
		return;
	timer_end(&q->timer);
	q->hopeless = loop_timer(q->lookup->broker->loop, 0, on_timeout, q, &q->timer) == 0;
}

static void on_gone(struct peer *p)
{
	struct lookup *l = p->broker->lookup;
	struct worker *w = p->owner, **at = &l->workers;

	while (*at && *at != w)
		at = &(*at)->next;
	if (*at)
		*at = w->next;
	if (w->question) {
		struct question *q = w->question;

		if (++q->deaths > l->broker->config.lookup_processes ||
		    clock_ms() - q->given >= WORK_LONG_MS)
			give_up_soon(q);
		join_line(l, q);
	}
	answer_with_nothing(l, w->number);
	free(w);
	serve_line(l);
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
	w->number = ++l->last_number;
	w->next = l->workers;
	l->workers = w;
	p->owner = w;
}
