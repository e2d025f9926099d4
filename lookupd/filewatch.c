/* Looking at files from outside. Depth and number of files are bounded: a link that leads back up
 * must not keep a worker busy for ever.
 */
#include "lookupd/filewatch.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DEPTH_MOST 8
#define FILES_MOST 100000
#define STILL_MS   1000

struct walk {
	struct filewatch *seen;
	filewatch_fn *each;
	void *context;
	struct why *why;
};

static void mix(struct filewatch *w, const void *data, size_t n)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < n; i++)
		w->digest = (w->digest ^ p[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
}

static int64_t ms_of(const struct timespec *t)
{
	return (int64_t)t->tv_sec * 1000 + t->tv_nsec / 1000000;
}

static void note(struct filewatch *w, const char *path, const struct stat *st)
{
	const int64_t facts[] = { (int64_t)st->st_ino, (int64_t)st->st_dev, st->st_size,
				  st->st_mtim.tv_sec, st->st_mtim.tv_nsec };

	mix(w, path, strlen(path));
	mix(w, facts, sizeof(facts));
	if (ms_of(&st->st_mtim) > w->newest)
		w->newest = ms_of(&st->st_mtim);
}

static int visit(struct walk *w, const char *path, int depth);

static int is_wanted(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static int visit_folder(struct walk *w, const char *path, int depth)
{
	struct dirent **entries;
	char below[4096];
	int count = scandir(path, &entries, is_wanted, alphasort);
	int r = 0;

	if (count < 0) {
		r = -errno;
		why_say(w->why, "%s: %s", path, strerror(-r));
		return r;
	}
	for (int i = 0; i < count; i++) {
		int n = snprintf(below, sizeof(below), "%s/%s", path, entries[i]->d_name);

		free(entries[i]);
		if (r == 0 && (size_t)n < sizeof(below))
			r = visit(w, below, depth + 1);
	}
	free(entries);
	return r;
}

static int visit(struct walk *w, const char *path, int depth)
{
	struct stat st;
	int r = 0;

	if (stat(path, &st) < 0 || (S_ISREG(st.st_mode) && access(path, R_OK) < 0))
		r = -errno;
	else if (depth > DEPTH_MOST || ++w->seen->files > FILES_MOST)
		r = -ELOOP;
	if (r < 0) {
		why_say(w->why, "%s: %s", path, strerror(-r));
		return r;
	}
	note(w->seen, path, &st);
	if (S_ISDIR(st.st_mode))
		return visit_folder(w, path, depth);
	if (!S_ISREG(st.st_mode) || (st.st_mode & S_IROTH)) {
		why_say(w->why,
			S_ISREG(st.st_mode) ? "%s: everybody may read it (chmod o-r)"
					    : "%s: is no file",
			path);
		return -EPERM;
	}
	return w->each ? w->each(w->context, path) : 0;
}

int filewatch_look(const char *path, struct filewatch *ret, filewatch_fn *each, void *context,
		   struct why *why)
{
	struct walk w = { ret, each, context, why };

	*ret = (struct filewatch){ .digest = UINT64_C(0xcbf29ce484222325) };
	return visit(&w, path, 0);
}

bool filewatch_is_still(const struct filewatch *w)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	int64_t age = ms_of(&now) - w->newest;

	return age >= STILL_MS || age < -STILL_MS; /* or the clocks differ */
}
