/* What shall be read next is complete before a byte of it is put in place of the old: a missing key
 * file must not leave a configuration behind that needs it, nor may one program go on with the
 * settings of before while the others take the new ones.
 */
#include "imapproxyd/reload.h"

#include <errno.h>
#include <string.h>

#include "imapproxyd/configtext.h"
#include "imapproxyd/report.h"
#include "imapproxyd/tlscheck.h"
#include "imapproxyd/tlsfiles.h"
#include "lib/config_tls.h"
#include "lib/fd.h"

static void report_restart_keys(const struct config *old, const struct config *fresh)
{
	struct config_key key;

	for (size_t i = 0; config_key_at(i, &key); i++)
		if (!key.reload && !config_key_same(old, fresh, i))
			report(LOG_NOTICE, "%s: the new value counts from the next start",
			       key.name);
}

/* Checks the file as it is now, and fills *fresh. Returns a descriptor of its text or -errno,
 * reported. */
static int read_new_text(const struct settings *old, struct settings *fresh)
{
	AUTO_FD text = configtext_read(old->config_path, false);

	if (text < 0) {
		report(LOG_ERR, "%s: cannot be read: %s; going on with the old settings",
		       old->config_path, strerror(-text));
		return text;
	}
	if (settings_load(fresh, old->config_path, text, NULL, false) != 0) {
		report(LOG_ERR, "%s: has errors; going on with the old settings", old->config_path);
		return -EINVAL;
	}
	return take_fd(&text);
}

static int replace(struct supervisor *s, int text, int files)
{
	int r = tlsfiles_replace(s->tls_files, files);

	if (r == 0)
		r = configtext_replace(s->config_text, text);
	if (r < 0)
		report(LOG_ERR, "the new settings cannot be passed on: %s", strerror(-r));
	return r;
}

int reload_settings(struct supervisor *s, bool *ret_tls)
{
	const struct settings *old = s->setup.settings;
	struct settings fresh;
	AUTO_FD text = read_new_text(old, &fresh);

	if (text < 0)
		return text;
	AUTO_FD files = tlsfiles_copy(&fresh.config, old->config_path);
	int r = files < 0 ? files : 0;

	if (r == 0 && config_tls_used(&fresh.config))
		r = tlscheck_run(&s->setup, text, files);
	if (r == 0)
		r = replace(s, text, files);
	if (r == 0) {
		log_limits((int)fresh.config.syslog_facility,
			   (int)fresh.config.syslog_prioritymask);
		report_restart_keys(&old->config, &fresh.config);
		report(LOG_NOTICE, "%s is read again", old->config_path);
		*ret_tls = config_tls_used(&fresh.config);
	} else {
		report(LOG_ERR, "%s: going on with the old settings", old->config_path);
	}
	settings_wipe(&fresh);
	return r;
}
