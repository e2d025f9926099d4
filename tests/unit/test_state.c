/* The state file: what the broker's writer writes is what pimpstat's model reads, and nothing that
 * lies in the file's place does harm. The writer keeps the file open in this process, and LMDB
 * allows one opening per process; so while it is open, reading happens in a child.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cachebrokerd/state.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "pimpstat/model.h"

static char folder[64];
static char path[128];
static char lock_path[128];
static char log_path[128];
static int real_stderr = -1;

static void make_path(char *to, size_t cap, const char *name)
{
	assert_true((size_t)snprintf(to, cap, "%s/%s", folder, name) < cap);
}

/* A folder of its own for each test; log lines go to a file in it. */
static int set_up(void **unused)
{
	(void)unused;
	(void)snprintf(folder, sizeof(folder), "/tmp/keepwarm-state-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	make_path(path, sizeof(path), "stats");
	make_path(lock_path, sizeof(lock_path), "stats-lock");
	make_path(log_path, sizeof(log_path), "log");
	int fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	real_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	dup2(fd, STDERR_FILENO);
	close(fd);
	log_open("test", LOG_TO_STDERR);
	return 0;
}

static int tear_down(void **unused)
{
	static const char *const names[] = {"stats", "stats-lock", "stats.old", "log"};
	char name[128];

	(void)unused;
	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		make_path(name, sizeof(name), names[i]);
		if (unlink(name) < 0)
			(void)rmdir(name);
	}
	return rmdir(folder);
}

/* How many log lines contain this text. */
static int logged(const char *text)
{
	FILE *in = fopen(log_path, "re");
	char line[4096];
	int count = 0;

	assert_non_null(in);
	while (fgets(line, sizeof(line), in))
		count += strstr(line, text) != NULL;
	(void)fclose(in);
	return count;
}

static void write_file(const char *name, const char *bytes, size_t n)
{
	FILE *out = fopen(name, "we");

	assert_non_null(out);
	assert_int_equal(fwrite(bytes, 1, n, out), n);
	assert_int_equal(fclose(out), 0);
}

static void read_model(struct model *m)
{
	char why[512] = "";

	if (model_read(path, m, why, sizeof(why)) < 0)
		fail_msg("%s", why);
}

/* Does the file hold this, as another process sees it? */
static bool another_sees(bool (*holds)(const struct model *))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct model m;
		char why[512];
		int code = model_read(path, &m, why, sizeof(why)) == 0 && holds(&m) ? 0 : 1;

		model_wipe(&m);
		_exit(code);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Ticks until another process sees it; 5 s at most. now_ms runs at `speed`. */
static bool tick_until(struct state *s, bool (*holds)(const struct model *), int64_t speed)
{
	int64_t start = clock_ms();

	for (int i = 0; i < 250; i++) {
		state_tick(s, start + (clock_ms() - start) * speed);
		if (another_sees(holds))
			return true;
		usleep(20000);
	}
	return false;
}

static void add_session(struct state *s, uint64_t id, enum statefile_session_state what,
			const char *user)
{
	state_session(s, id, what, 1, span_str(user), SPAN("192.0.2.1:4711"),
		      SPAN("mail.example:143"));
}

static void figures_are_read_as_they_were_written(void **unused)
{
	struct model m;
	struct state *s = state_open(path, true);
	int64_t before = clock_wall();

	(void)unused;
	state_count(s, COUNTER_logins, 3);
	state_count(s, COUNTER_bytes_from_backends, 1ull << 40);
	state_count_end(s, END_LOGOUT);
	state_count_not_cached(s, NOT_CACHED_VERB);
	state_gauge(s, GAUGE_active, 7);
	state_gauge(s, GAUGE_active, 2);
	add_session(s, 5, STATEFILE_ACTIVE, "alice");
	add_session(s, 6, STATEFILE_LOGIN, "");
	state_close(s);

	read_model(&m);
	assert_int_equal(m.counters[COUNTER_logins], 3);
	assert_true(m.counters[COUNTER_bytes_from_backends] == 1ull << 40);
	assert_int_equal(m.ends[END_LOGOUT], 1);
	assert_int_equal(m.not_cached[NOT_CACHED_VERB], 1);
	assert_int_equal(m.gauges[GAUGE_active], 2);
	assert_int_equal(m.peaks[GAUGE_active].value, 7);
	assert_true(m.peaks[GAUGE_active].when >= before);
	assert_true(m.heartbeat >= before && m.started >= before);
	assert_string_equal(m.version, KEEPWARM_VERSION);
	assert_int_equal(m.session_count, 2);
	assert_int_equal(m.sessions[0].id, 5);
	assert_int_equal(m.sessions[0].state, STATEFILE_ACTIVE);
	assert_true(span_eq(m.sessions[0].user, SPAN("alice")));
	assert_true(span_eq(m.sessions[0].client, SPAN("192.0.2.1:4711")));
	assert_true(span_eq(m.sessions[0].host, SPAN("mail.example:143")));
	assert_true(m.sessions[0].since >= before);
	assert_int_equal(m.sessions[1].user.n, 0);
	model_wipe(&m);
	assert_int_equal(logged(""), 0);
}

static void only_owner_and_group_may_read_and_the_group_may_lock(void **unused)
{
	struct stat st;

	(void)unused;
	mode_t before = umask(0);
	struct state *s = state_open(path, true);

	umask(before);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(stat(lock_path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0660);
	state_close(s);
}

static void a_restart_of_the_broker_keeps_counters_and_drops_sessions(void **unused)
{
	struct model m;
	struct state *s = state_open(path, true);

	(void)unused;
	state_count(s, COUNTER_logins, 3);
	state_count_end(s, END_LOGOUT);
	state_gauge(s, GAUGE_clients, 9);
	add_session(s, 5, STATEFILE_ACTIVE, "alice");
	state_close(s);
	s = state_open(path, false);
	state_count(s, COUNTER_logins, 1);
	state_close(s);

	read_model(&m);
	assert_int_equal(m.counters[COUNTER_logins], 4);
	assert_int_equal(m.ends[END_LOGOUT], 1);
	assert_int_equal(m.gauges[GAUGE_clients], 0);
	assert_int_equal(m.peaks[GAUGE_clients].value, 9);
	assert_int_equal(m.session_count, 0);
	model_wipe(&m);
}

static void a_fresh_start_begins_at_zero(void **unused)
{
	struct model m;
	struct state *s = state_open(path, true);

	(void)unused;
	state_count(s, COUNTER_logins, 3);
	state_gauge(s, GAUGE_clients, 9);
	state_close(s);
	state_close(state_open(path, true));

	read_model(&m);
	assert_int_equal(m.counters[COUNTER_logins], 0);
	assert_int_equal(m.peaks[GAUGE_clients].value, 0);
	assert_int_equal(m.session_count, 0);
	model_wipe(&m);
}

static bool has_three_logins_and_alice(const struct model *m)
{
	return m->counters[COUNTER_logins] == 3 && m->session_count == 1 &&
	       span_eq(m->sessions[0].user, SPAN("alice"));
}

static bool has_no_session(const struct model *m)
{
	return m->session_count == 0;
}

static void a_tick_brings_changes_to_readers_while_the_broker_runs(void **unused)
{
	struct state *s = state_open(path, true);

	(void)unused;
	state_count(s, COUNTER_logins, 3);
	add_session(s, 1, STATEFILE_ACTIVE, "alice");
	assert_true(tick_until(s, has_three_logins_and_alice, 1));
	add_session(s, 2, STATEFILE_ACTIVE, "bob");
	state_session_gone(s, 2);
	state_session_gone(s, 1);
	state_session_gone(s, 77);
	assert_true(tick_until(s, has_no_session, 1));
	state_close(s);
}

static int64_t heartbeat_before;

static bool has_newer_heartbeat(const struct model *m)
{
	return m->heartbeat > heartbeat_before;
}

static void the_heartbeat_is_renewed_when_nothing_changes(void **unused)
{
	struct state *s = state_open(path, true);

	(void)unused;
	heartbeat_before = clock_wall();
	assert_true(tick_until(s, has_newer_heartbeat, 1));
	assert_true(clock_wall() - heartbeat_before <= STATEFILE_HEARTBEAT + 1);
	state_close(s);
}

static void a_row_that_changes_often_is_written_as_it_is_last(void **unused)
{
	struct model m;
	struct state *s = state_open(path, true);

	(void)unused;
	for (int i = 0; i < 1000; i++) {
		add_session(s, 1, STATEFILE_LOGIN, "");
		add_session(s, 1, STATEFILE_ACTIVE, "alice");
		add_session(s, 1, STATEFILE_CACHED, "alice");
	}
	state_close(s);
	read_model(&m);
	assert_int_equal(m.session_count, 1);
	assert_int_equal(m.sessions[0].state, STATEFILE_CACHED);
	model_wipe(&m);
}

static void long_texts_are_cut(void **unused)
{
	static char text[5000];
	struct model m;
	struct state *s = state_open(path, true);
	struct span longer = {text, sizeof(text)};

	(void)unused;
	memset(text, 'x', sizeof(text));
	state_session(s, 1, STATEFILE_ACTIVE, 1, longer, longer, longer);
	state_close(s);
	read_model(&m);
	assert_int_equal(m.sessions[0].user.n, 512);
	assert_int_equal(m.sessions[0].host.n, 512);
	model_wipe(&m);
}

static void an_empty_file_made_beforehand_is_used(void **unused)
{
	struct model m;
	struct stat before, after;

	(void)unused;
	write_file(path, "", 0);
	assert_int_equal(stat(path, &before), 0);
	state_close(state_open(path, false));
	assert_int_equal(stat(path, &after), 0);
	assert_true(before.st_ino == after.st_ino);
	read_model(&m);
	model_wipe(&m);
}

static void the_old_programs_file_is_kept_under_another_name(void **unused)
{
	static const char old[72] = "old";
	struct model m;
	struct stat st;
	char kept[128];

	(void)unused;
	write_file(path, old, sizeof(old));
	state_close(state_open(path, true));
	make_path(kept, sizeof(kept), "stats.old");
	assert_true(stat(kept, &st) == 0 && st.st_size == 72);
	assert_int_equal(logged("up-imapproxy's statistics are kept as"), 1);
	write_file(path, old, sizeof(old));
	state_close(state_open(path, true));
	read_model(&m);
	model_wipe(&m);
	assert_int_equal(logged("in place of what had that name"), 1);
}

/* Replaces text in the file, in both places where a copy of it may lie. */
static void patch_file(const char *from, const char *to)
{
	static char bytes[1 << 20];
	FILE *in = fopen(path, "re");
	size_t n, length = strlen(from);
	int found = 0;

	assert_non_null(in);
	n = fread(bytes, 1, sizeof(bytes), in);
	(void)fclose(in);
	for (size_t i = 0; i + length <= n; i++)
		if (memcmp(bytes + i, from, length) == 0) {
			memcpy(bytes + i, to, length);
			found++;
		}
	assert_true(found > 0);
	write_file(path, bytes, n);
}

static void a_file_of_another_boot_is_made_anew(void **unused)
{
	struct model m;
	char boot_id[64] = "";
	FILE *in = fopen("/proc/sys/kernel/random/boot_id", "re");

	(void)unused;
	assert_non_null(in);
	assert_non_null(fgets(boot_id, sizeof(boot_id), in));
	(void)fclose(in);
	boot_id[strcspn(boot_id, "\n")] = '\0';

	struct state *s = state_open(path, true);

	state_count(s, COUNTER_logins, 3);
	state_close(s);
	patch_file(boot_id, "00000000-0000-0000-0000-000000000000");
	state_close(state_open(path, false));
	assert_int_equal(logged("made anew"), 1);
	read_model(&m);
	assert_int_equal(m.counters[COUNTER_logins], 0);
	model_wipe(&m);
}

static void a_file_last_written_before_this_boot_is_not_even_mapped(void **unused)
{
	static const struct timespec times[2] = {{.tv_sec = 86400}, {.tv_sec = 86400}};
	struct model m;
	struct state *s = state_open(path, true);

	(void)unused;
	state_count(s, COUNTER_logins, 3);
	state_close(s);
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	state_close(state_open(path, false));
	assert_int_equal(logged("made anew"), 1);
	read_model(&m);
	assert_int_equal(m.counters[COUNTER_logins], 0);
	model_wipe(&m);
}

/* The state counts in memory, the file is untouched, there is one warning with the path. */
static void assert_memory_only(void)
{
	struct state *s = state_open(path, true);

	assert_non_null(s);
	state_count(s, COUNTER_logins, 1);
	state_gauge(s, GAUGE_active, 1);
	add_session(s, 1, STATEFILE_ACTIVE, "alice");
	for (int64_t now = 0; now < 100000; now += 100)
		state_tick(s, now);
	state_session_gone(s, 1);
	state_close(s);
	assert_int_equal(logged(path), 1);
	assert_int_equal(logged(""), 1);
}

static void a_garbage_file_is_left_alone(void **unused)
{
	static char garbage[9000];
	char now[9000];
	FILE *in;

	(void)unused;
	memset(garbage, 0xa5, sizeof(garbage));
	write_file(path, garbage, sizeof(garbage));
	assert_memory_only();
	in = fopen(path, "re");
	assert_non_null(in);
	assert_int_equal(fread(now, 1, sizeof(now), in), sizeof(now));
	(void)fclose(in);
	assert_memory_equal(now, garbage, sizeof(now));
}

static void a_text_file_shorter_than_a_page_is_left_alone(void **unused)
{
	(void)unused;
	write_file(path, "precious\n", 9);
	assert_memory_only();
}

static void a_directory_in_its_place_is_one_warning(void **unused)
{
	(void)unused;
	assert_int_equal(mkdir(path, 0700), 0);
	assert_memory_only();
}

static void a_missing_directory_is_one_warning(void **unused)
{
	(void)unused;
	make_path(path, sizeof(path), "missing/stats");
	assert_memory_only();
}

static void a_fifo_in_its_place_is_one_warning_and_no_wait(void **unused)
{
	(void)unused;
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_memory_only();
}

static void a_file_cut_short_while_nobody_looked_is_made_anew(void **unused)
{
	struct model m;
	struct state *s = state_open(path, true);

	(void)unused;
	state_count(s, COUNTER_logins, 3);
	for (uint64_t i = 1; i < 500; i++)
		add_session(s, i, STATEFILE_ACTIVE, "alice");
	state_close(s);
	assert_int_equal(truncate(path, 8192), 0);
	s = state_open(path, false);
	state_count(s, COUNTER_logins, 1);
	state_close(s);
	assert_int_equal(logged("made anew"), 1);
	read_model(&m);
	assert_int_equal(m.counters[COUNTER_logins], 1);
	model_wipe(&m);
}

static void a_file_emptied_under_the_broker_costs_only_the_statistics(void **unused)
{
	struct state *s = state_open(path, true);

	(void)unused;
	assert_int_equal(truncate(path, 0), 0);
	for (int i = 0; i < 50 && logged(path) == 0; i++) {
		state_count(s, COUNTER_logins, 1);
		state_tick(s, clock_ms());
		usleep(20000);
	}
	state_close(s);
	assert_int_equal(logged("cannot be written"), 1);
}

static bool has_logins(const struct model *m)
{
	return m->counters[COUNTER_logins] > 0;
}

static void a_write_error_is_logged_once_and_tried_again_later(void **unused)
{
	struct rlimit before, small;
	struct state *s = state_open(path, true);
	int64_t start = clock_ms();

	(void)unused;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = before;
	small.rlim_cur = 16384;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	state_count(s, COUNTER_logins, 1);
	for (uint64_t i = 1; i < 2000; i++)
		add_session(s, i, STATEFILE_ACTIVE, "alice");
	for (int i = 0; i < 50; i++) {
		state_tick(s, start + i * 100);
		usleep(2000);
	}
	/* The limit holds for the log's file, too. */
	assert_int_equal(logged("cannot be written"), 1);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_false(another_sees(has_logins));
	assert_true(tick_until(s, has_logins, 20));
	state_close(s);
	assert_int_equal(logged("cannot be written"), 1);
	assert_int_equal(logged("written again"), 1);
}

static void a_full_map_costs_new_sessions_and_not_the_figures(void **unused)
{
	static char text[512];
	const struct span longest = {text, sizeof(text)};
	struct model m;
	struct state *s = state_open(path, true);

	(void)unused;
	memset(text, 'u', sizeof(text));
	state_count(s, COUNTER_logins, 5);
	for (uint64_t i = 1; i < 45000; i++)
		state_session(s, i, STATEFILE_ACTIVE, 1, longest, longest, longest);
	assert_true(tick_until(s, has_logins, 1));
	add_session(s, 50000, STATEFILE_ACTIVE, "alice");
	state_close(s);
	assert_int_equal(logged("is full"), 1);
	read_model(&m);
	assert_int_equal(m.counters[COUNTER_logins], 5);
	assert_int_equal(m.session_count, 1);
	model_wipe(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
		TEST(figures_are_read_as_they_were_written),
		TEST(only_owner_and_group_may_read_and_the_group_may_lock),
		TEST(a_restart_of_the_broker_keeps_counters_and_drops_sessions),
		TEST(a_fresh_start_begins_at_zero),
		TEST(a_tick_brings_changes_to_readers_while_the_broker_runs),
		TEST(the_heartbeat_is_renewed_when_nothing_changes),
		TEST(a_row_that_changes_often_is_written_as_it_is_last),
		TEST(long_texts_are_cut),
		TEST(an_empty_file_made_beforehand_is_used),
		TEST(the_old_programs_file_is_kept_under_another_name),
		TEST(a_file_of_another_boot_is_made_anew),
		TEST(a_file_last_written_before_this_boot_is_not_even_mapped),
		TEST(a_garbage_file_is_left_alone),
		TEST(a_text_file_shorter_than_a_page_is_left_alone),
		TEST(a_directory_in_its_place_is_one_warning),
		TEST(a_missing_directory_is_one_warning),
		TEST(a_fifo_in_its_place_is_one_warning_and_no_wait),
		TEST(a_write_error_is_logged_once_and_tried_again_later),
		TEST(a_full_map_costs_new_sessions_and_not_the_figures),
		/* These end in SIGBUS inside LMDB, whose environment is then given up as it is:
		 * not for a run that counts what is left open. */
		TEST(a_file_cut_short_while_nobody_looked_is_made_anew),
		TEST(a_file_emptied_under_the_broker_costs_only_the_statistics),
	};
	size_t count = sizeof(tests) / sizeof(tests[0]);

	if (getenv("KEEPWARM_LEAK_CHECK"))
		count -= 2;
	return _cmocka_run_group_tests("tests", tests, count, NULL, NULL);
}
