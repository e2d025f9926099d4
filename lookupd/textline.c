/* The text formats that accounts come in. What is no record is passed over, as their own programs
 * do; a record that cannot be right is an error.
 */
#include "lookupd/textline.h"

#include <errno.h>
#include <stdio.h>

static bool is_comment(struct span line)
{
	while (line.n > 0 && (line.p[0] == ' ' || line.p[0] == '\t'))
		line = span_from(line, 1);
	return line.n == 0 || line.p[0] == '#';
}

static struct span without_cr(struct span line)
{
	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	return line;
}

/* Cuts everything up to the separator off the front; without one all of it. Empty parts count. */
static struct span cut_part(struct span *rest, char separator)
{
	const char *end = rest->n > 0 ? memchr(rest->p, separator, rest->n) : NULL;
	struct span part = { rest->p, end ? (size_t)(end - rest->p) : rest->n };

	*rest = span_from(*rest, part.n + (end != NULL));
	return part;
}

int textline_userdb(struct span line, struct span *ret_name, struct span *ret_fields)
{
	struct span rest = without_cr(line);

	if (is_comment(rest) || !memchr(rest.p, '\t', rest.n))
		return 0;
	*ret_name = cut_part(&rest, '\t');
	*ret_fields = rest;
	return ret_name->n > 0;
}

/* The value of a field; false: the record has none of this name. */
static bool find_field(struct span fields, const char *name, struct span *ret)
{
	while (fields.n > 0) {
		struct span value = cut_part(&fields, '|');
		struct span field = cut_part(&value, '=');

		if (span_eq(field, span_str(name))) {
			*ret = value;
			return true;
		}
	}
	return false;
}

/* The states for CRAM: those of the service, else those for all. */
static int take_hmacs(struct span fields, const char *service, struct account *a)
{
	struct span value;
	char own[60];
	int r = 0;

	for (size_t i = 0; r == 0 && i < HMACS; i++) {
		(void)snprintf(own, sizeof(own), "%s-hmac-%spw", service, account_hmac_name(i));
		if (find_field(fields, own, &value) ||
		    find_field(fields, own + strlen(service) + 1, &value))
			r = account_set_hmac(a, i, value);
	}
	return r;
}

int textline_userdb_account(struct span fields, const char *service, struct account *a)
{
	static const char *const required[] = { "uid", "gid", "home" };
	struct span value;
	char own[40];

	for (size_t i = 0; i < sizeof(required) / sizeof(required[0]); i++)
		if (!find_field(fields, required[i], &value))
			return 0;
	(void)snprintf(own, sizeof(own), "%spw", service);
	if ((find_field(fields, own, &value) || find_field(fields, "systempw", &value)) &&
	    account_set_hash(a, value) < 0)
		return -EINVAL;
	if (take_hmacs(fields, service, a) < 0)
		return -EINVAL;
	if (find_field(fields, "options", &value) && account_add_options(a, value) < 0)
		return -EINVAL;
	return 1;
}

int textline_enumerated(struct span line, struct span *ret_name, struct span *ret_options)
{
	struct span rest = without_cr(line);

	if (is_comment(rest) || span_eq(rest, SPAN(".")) || !memchr(rest.p, '\t', rest.n))
		return 0;
	*ret_name = cut_part(&rest, '\t');
	for (int i = 0; i < 4; i++) /* uid, gid, home, maildir */
		(void)cut_part(&rest, '\t');
	*ret_options = cut_part(&rest, '\t');
	return ret_name->n > 0;
}

/* A field in double quotes, "" within them is one. line begins behind the first quote. 0 or
 * -EINVAL.
 */
static int cut_quoted(struct span *line, char *room, struct span *ret)
{
	size_t n = 0;

	for (size_t i = 0; i < line->n; i++) {
		bool quote = line->p[i] == '"';
		bool twice = quote && i + 1 < line->n && line->p[i + 1] == '"';

		if (quote && !twice) {
			*ret = (struct span){ room, n };
			*line = span_from(*line, i + 1);
			return line->n == 0 || line->p[0] == ',' ? 0 : -EINVAL;
		}
		room[n++] = line->p[i];
		i += twice;
	}
	return -EINVAL;
}

int textline_csv(struct span line, char *room, struct span *ret_fields, size_t most)
{
	struct span rest = without_cr(line);
	size_t count = 0;
	bool more = true;

	while (more) {
		if (count == most)
			return -EINVAL;
		if (rest.n > 0 && rest.p[0] == '"') {
			rest = span_from(rest, 1);
			if (cut_quoted(&rest, room, &ret_fields[count]) < 0)
				return -EINVAL;
			room += ret_fields[count++].n;
			more = rest.n > 0;
			rest = span_from(rest, more);
		} else {
			more = rest.n > 0 && memchr(rest.p, ',', rest.n);
			ret_fields[count++] = cut_part(&rest, ',');
		}
	}
	return (int)count;
}
