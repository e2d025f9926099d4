/* Base64 (RFC 4648 section 4), as SASL uses it: strict, with padding, nothing else between. */
#ifndef LIB_BASE64_H
#define LIB_BASE64_H

#include "lib/span.h"

/* Decodes text into out (cap bytes). Returns the length, -EINVAL for anything that is not canonical
 * base64, -ENOBUFS. Empty text is empty. On error out may hold a part: wipe it if it was a secret.
 */
int base64_decode(struct span text, char *out, size_t cap);

/* Encodes bytes into out (cap bytes, no NUL). Returns the length or -ENOBUFS. */
int base64_encode(struct span bytes, char *out, size_t cap);

#endif
