/* What is wrong, for people. Pure. */
#include <stdarg.h>
#include <stdio.h>

#include "lookupd/driver.h"

void why_say(struct why *w, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(w->text, sizeof(w->text), format, args);
	va_end(args);
	/* Libraries' messages have line ends in them, and may have anything. */
	for (char *p = w->text; *p; p++)
		if ((unsigned char)*p < ' ' || (unsigned char)*p >= 0x7f)
			*p = ' ';
}
