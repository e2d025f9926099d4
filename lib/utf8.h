/* UTF-8 (RFC 3629). Pure. */
#ifndef LIB_UTF8_H
#define LIB_UTF8_H

#include "lib/span.h"

/* Is it UTF-8 throughout, in its shortest form, without control characters (C0, DEL, C1) and
 * surrogates? The empty text is. */
bool utf8_is_text(struct span s);

#endif
