/* lookupd/password: every form that passwords are stored in. What is stored was made by the
 * programs that sites use: doveadm pw, openssl passwd, slappasswd, argon2, crypt(3) itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "lookupd/password.h"

#define TYPED "Geh heim-7"

static char scheme[PASSWORD_SCHEME_MAX];

static enum password_verdict check(const char *stored, const char *typed)
{
	return password_check(span_str(stored), span_str(typed), scheme);
}

static const char *const right[] = {
	/* crypt(3) */
	"pPOfiGSpoFqlI",
	"_J9..k2XA8.wvwZzzhF6",
	"$1$ialeHf9c$EaNsqxpmV6meI5xPKrEer1",
	"$1$abcd$Pwjbt0vMUzY33P3IYgRhw0",
	"$5$abcd$1YNuwc/h8kB19QGMufcNRjp7HZw4qPxvBmLgKjM7VoA",
	"$5$rounds=1000$saltsalt$HkLXGb.nrQj73KpFBb.OZe/1ec2G3ONx4gG2NGOo0m0",
	"$6$abcd$QY6USV6djL4530pI8tKaN5Jgoakk49z0iBUXnl9ZjHm4N1rWHJ7cgktiizEPbwACHo5ssIFfwsxs"
	"e4yjiYSRD.",
	"$6$rounds=1000$saltsalt$DR3SHsFocUKslPJkaC5CKxRx5olebVC9kOMo36TQMDIX7hdDgGdHLSEm2wLV"
	"nj249RC2yQowLh7ms0FNHik2r0",
	"$2a$05$abcdefghijklmnopqrstuuFE2.NJy6d/wknUDPR6FWrisBP6DYq/2",
	"$2b$04$KBCwKxOzLha2MUDgW0PjXeN3GTlfrKNC.pL/bml.fUWwYSiUYU12e",
	"$2y$05$T/YPffvfK7K/1b8zalon9up5PcRfKUEWDeNjQ5HfZgGmUo36wmz8y",
	"$y$j9T$k2XAnEHBqQ1Ct2aMXFKNa/$/I.4goozNpK/uFywZRXLGqx4bblTkxxCWwijvSB.QK2",
	"$gy$j9T$k2XAnEHBqQ1Ct2aMXFKNa/$1OVV8Rl6s9IomcujVXDSJnEHwKjLVGOfy7nLjQcvmKA",
	"$7$CU..../....k2XAnEHBqQ1Ct2aMXFKNa/$SdS4PN7xsN/8RO1liL6pLrrPoI714GiHnwPvpAjnwGC",
	"$sha1$1000$saltsalt$pF6/D1kJ7w04Kd6jZzjElf8x2EPD",
	"$md5,rounds=100$saltsalt$$nqDeC2la0eKN3k0t/Ze0D.",
	"{CRYPT}$2y$05$T/YPffvfK7K/1b8zalon9up5PcRfKUEWDeNjQ5HfZgGmUo36wmz8y",
	"{crypt}$1$abcd$Pwjbt0vMUzY33P3IYgRhw0",
	"{MD5}$1$A.JjZfIj$mqk599sJTwqlh7ZWuAnJR.",
	"{MD5-CRYPT}$1$xX9ln31f$hi7Sz.gV9bvwiPyLoOPOe/",
	"{DES-CRYPT}7ds89jzNVw8Ys",
	"{BLF-CRYPT}$2y$05$.cwnPUfN03o0OVIpSQogd.s.PBxixl8p07TK3O5h77IzAkFOtgtJW",
	"{SHA256-CRYPT}$5$n5bv1IsjpUfnqsLf$RYSHH5CJ.5gFQUHono5LtOCvT7TfTOM.pgoQxIVzZz9",
	"{SHA512-CRYPT}$6$oaFMMC7n9EaBnVmU$lULmwrYgR4pnp1L6wbR7tTFfOT4iRZam44tec6Wzu0laNKnS/c"
	"9eH8hyDz5PAE03Mxw8u8v62CxHhWLq8Ejkz0",
	/* digests */
	"{MD5}5Z9S32f2/rgFMTRq9IFHFA==",
	"{md5}5Z9S32f2/rgFMTRq9IFHFA==",
	"{MD5}e59f52df67f6feb80531346af4814714",
	"{MD5RAW}e59f52df67f6feb80531346af4814714",
	"{PLAIN-MD5}e59f52df67f6feb80531346af4814714",
	"{LDAP-MD5}5Z9S32f2/rgFMTRq9IFHFA==",
	"{SMD5}2FdJW39uAXOipnC0/WK/tnnTwz4=",
	"{SHA}jEAazNDMyG1waZaaR3cThz5r7eE=",
	"{sha1}jEAazNDMyG1waZaaR3cThz5r7eE=",
	"{SHA.B64}jEAazNDMyG1waZaaR3cThz5r7eE=",
	"{SHA256}aTkt4wLwVTerJpgPqH6en4vhuCiSnbaYk7va4jVGkiQ=",
	"{SHA256.HEX}69392de302f05537ab26980fa87e9e9f8be1b828929db69893bbdae235469224",
	"{Sha256.hex}69392DE302F05537AB26980FA87E9E9F8BE1B828929DB69893BBDAE235469224",
	"{SHA512}OmeFm8Rfcf7AvBsOtlz7Q+ijrZ215mbEWs1gpK6T7ArcYxdLuSU9uPAiqCdt4N1bUI5hB8QEs93u"
	"cd+85wEODw==",
	"{SSHA}00ZuLWZ73A/xRVJqIElkjyMSvLyw/4OF",
	"{SSHA}ZjOgI4GSi7XyOZivQQdM3KbnITYAAQID",
	"{SSHA}M9Hgs6/vuTeZRRqDy/lRnsnF8JEAAQIDBAUGBw==",
	"{ssha}2/k7aYDk5q6gPwkC+wXeo4w4mFIAAQIDBAUGBwgJCgsMDQ4P",
	"{SSHA256}stIn8/Z/oFpaybww+K3z2RPRzctSNHLcYWKzd3j8qmOdek+q",
	"{SSHA512}i6ZWGLyG2N6m6CxRIRGTX6FdHs9OrVNdHsKlOldLXvYakqvMBFa1a0JzB7BalJxqDjadBS7+u5b"
	"+VEsiPE/Ydc22Idw=",
	"{SSHA512.HEX}13e01e456b098ac125d8e99a8ea9db0eb43fb2bd590929d1d2b84f55b8585f98d2c007d"
	"6cd6bd33dc438c090e6a88bdfd81f1592323a003d1f697c5603e160d7db4cbb45",
	"{PBKDF2}$1$p9OmN66Pz11uFCoA$5000$f01a95afe264d8b2880bfc0116dbbe71bf5e884e",
	"{PBKDF2-SHA256}1000$MDEyMzQ1Njc4OWFiY2RlZg$9fXbZ8WCVJSLRtUvwRBRWYfiAvb9llMwOTNX/2C06RQ",
	"{PBKDF2-SHA512}1000$MDEyMzQ1Njc4OWFiY2RlZg$DWDD1GUhfvvyZ0jiWYtWzbpwReqX87CzTmJT2I74q"
	"q1MigBWiF5HSauqFYhv56o6p9djVkgyR72Hr0AOZ.LZOQ",
	/* clear */
	"{PLAIN}" TYPED,
	"{Clear}" TYPED,
	"{CLEARTEXT}" TYPED,
	"{PLAIN.B64}R2VoIGhlaW0tNw==",
#ifdef HAVE_LIBARGON2
	"{ARGON2ID}$argon2id$v=19$m=1024,t=2,p=2$c2FsdHNhbHRzYWx0$KeJmiuKmx4D5pmtEfYNoEGwNa+i"
	"CYHxrm4hXHDnuEqQ",
	"{argon2i}$argon2i$v=19$m=1024,t=2,p=1$c2FsdHNhbHRzYWx0$5QzaULsTx89pnoRaNZ+gNjXVj7Rjp"
	"FxRGD8Wqj4Zqrc",
	"{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$6vDFopGCiq0U9M/vH+ygMA$DINDyTW1qFzIgYoJJH8C"
	"doREfEtWcnfIJYxdJiQzrFQ",
	"$argon2i$v=19$m=32768,t=4,p=1$XUzMC4ri7+rBRbvmm4K+tg$HkQ+3CmMecqawb118kVdD2QFyflIIiD"
	"JY/BscfWd3wo",
#endif
};

static void every_form_takes_its_password_and_no_other(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
		if (check(right[i], TYPED) != PASSWORD_RIGHT)
			fail_msg("%s", right[i]);
		/* the first byte: some methods do not look at all of them */
		assert_int_equal(check(right[i], "geh heim-7"), PASSWORD_WRONG);
		assert_int_equal(check(right[i], "Geh hei"), PASSWORD_WRONG);
		assert_int_equal(check(right[i], ""), PASSWORD_WRONG);
	}
}

static void what_ends_a_text_elsewhere_is_in_no_password(void **unused)
{
	static const struct span bad[] = { SPAN(TYPED "\nX"), SPAN(TYPED "\r"), SPAN(TYPED "\0x"),
					   SPAN(TYPED "\0"),  SPAN("\n" TYPED), SPAN("") };

	(void)unused;
	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++)
		for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++)
			assert_int_equal(password_check(span_str(right[i]), bad[k], scheme),
					 PASSWORD_WRONG);
	assert_int_equal(password_check(SPAN("{PLAIN}a\nb"), SPAN("a\nb"), scheme), PASSWORD_WRONG);
	assert_false(password_same(SPAN("a\nb"), SPAN("a\nb")));
}

static void what_is_cut_off_is_nobodys(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
		size_t n = strlen(right[i]);

		for (size_t k = 0; k < n; k += 1 + n / 5)
			if (right[i][k] != '=' && /* padding may be left out */
			    password_check((struct span){ right[i], k }, SPAN(TYPED), scheme) ==
				    PASSWORD_RIGHT)
				fail_msg("%.*s", (int)k, right[i]);
		if (right[i][n - 1] != '=')
			assert_int_not_equal(password_check((struct span){ right[i], n - 1 },
							    SPAN(TYPED), scheme),
					     PASSWORD_RIGHT);
	}
}

static void nothing_stored_matches_nothing(void **unused)
{
	static const char *const empty[] = {
		"",	     "{PLAIN}", "{SHA}",       "{SSHA}", "{CRYPT}",
		"{MD5}",     "{}",	"{PLAIN.HEX}", "*0",	 "*1",
		"{CRYPT}*0", "*",	"!",	       "x",	 "{ARGON2ID}",
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++) {
		assert_int_not_equal(check(empty[i], ""), PASSWORD_RIGHT);
		assert_int_not_equal(check(empty[i], empty[i]), PASSWORD_RIGHT);
		assert_int_not_equal(check(empty[i], TYPED), PASSWORD_RIGHT);
	}
	assert_false(password_same(SPAN(""), SPAN("")));
	assert_false(password_same(SPAN(""), SPAN("x")));
	assert_false(password_same(SPAN("x"), SPAN("")));
	assert_true(password_same(SPAN("x"), SPAN("x")));
	assert_false(password_same(SPAN("x"), SPAN("xy")));
}

static void unknown_schemes_are_named_and_their_values_are_not(void **unused)
{
	static const struct {
		const char *stored;
		enum password_verdict verdict;
		const char *scheme;
	} cases[] = {
		{ "{SCRAM-SHA-256}4096,6WJCnIc=,kcxI=,cKr0=", PASSWORD_UNKNOWN, "SCRAM-SHA-256" },
		{ "{DIGEST-MD5}f01a95afe264d8b2880bfc0116dbbe71", PASSWORD_UNKNOWN, "DIGEST-MD5" },
		{ "{SHA.XYZ}jEAazNDMyG1waZaaR3cThz5r7eE=", PASSWORD_UNKNOWN, "SHA" },
		{ "Geh heim-7", PASSWORD_UNKNOWN, "crypt" },
		{ "$apr1$abcd$Pwjbt0vMUzY33P3IYgRhw0", PASSWORD_UNKNOWN, "crypt" },
		{ "thirteen+char", PASSWORD_UNKNOWN, "crypt" },
		{ "{my secret}x", PASSWORD_UNKNOWN, "?" },
		{ "{secret$1}x", PASSWORD_UNKNOWN, "?" },
		{ "{AVERYLONGNAMEOFASCHEMETHATISNONE}x", PASSWORD_UNKNOWN, "?" },
		{ "{no brace", PASSWORD_UNKNOWN, "crypt" },
		{ "{SHA}*", PASSWORD_BROKEN, "SHA" },
		{ "{MD5}jEAazNDMyG1waZaaR3cThz5r7eE=", PASSWORD_BROKEN, "MD5" },
		{ "{SSHA}AAAA", PASSWORD_BROKEN, "SSHA" },
		{ "{CRYPT}clear", PASSWORD_BROKEN, "CRYPT" },
		{ "{PBKDF2-SHA256}x$MDEy$MDEyMzQ1Njc4OWFiY2RlZg", PASSWORD_BROKEN,
		  "PBKDF2-SHA256" },
		{ "{PBKDF2-SHA256}0$MDEy$MDEyMzQ1Njc4OWFiY2RlZg", PASSWORD_BROKEN,
		  "PBKDF2-SHA256" },
		{ "$2y$05$T/YPffvfK7K/1b8zalon9up5PcRfKUEWDeNjQ5HfZgGmUo36wmz8yy", PASSWORD_BROKEN,
		  "crypt" },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(check(cases[i].stored, TYPED), cases[i].verdict);
		assert_string_equal(scheme, cases[i].scheme);
	}
}

static int64_t now_ms(void)
{
	struct timespec t;

	assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t), 0);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void what_would_take_minutes_is_not_begun(void **unused)
{
	static const char *const monstrous[] = {
		"$2y$31$T/YPffvfK7K/1b8zalon9up5PcRfKUEWDeNjQ5HfZgGmUo36wmz8y",
		"$2b$16$T/YPffvfK7K/1b8zalon9up5PcRfKUEWDeNjQ5HfZgGmUo36wmz8y",
		"{BLF-CRYPT}$2y$20$T/YPffvfK7K/1b8zalon9up5PcRfKUEWDeNjQ5HfZgGmUo36wmz8y",
		"$5$rounds=999999999$saltsalt$HkLXGb.nrQj73KpFBb.OZe/1ec2G3ONx4gG2NGOo0m0",
		"$6$rounds=99999999999999999999999$saltsalt$x",
		"$6$rounds=1000001$saltsalt$x",
		"_zzzzk2XA8.wvwZzzhF6",
		"$y$jFT$k2XAnEHBqQ1Ct2aMXFKNa/$/I.4goozNpK/uFywZRXLGqx4bblTkxxCWwijvSB.QK2",
		"$y$jzT$k2XAnEHBqQ1Ct2aMXFKNa/$/I.4goozNpK/uFywZRXLGqx4bblTkxxCWwijvSB.QK2",
		"$gy$j9Tzz$k2XAnEHBqQ1Ct2aMXFKNa/$/I.4goozNpK/uFywZRXLGqx4bblTkxxCWwijvSB.QK2",
		"$7$MU..../....k2XAnEHBqQ1Ct2aMXFKNa/$SdS4PN7xsN/8RO1liL6pLrrPoI714GiHnwPvpAjnwGC",
		"$7$CUzzzz/....k2XAnEHBqQ1Ct2aMXFKNa/$SdS4PN7xsN/8RO1liL6pLrrPoI714GiHnwPvpAjnwGC",
		"$7$CU..../zzzzk2XAnEHBqQ1Ct2aMXFKNa/$SdS4PN7xsN/8RO1liL6pLrrPoI714GiHnwPvpAjnwGC",
		"$sha1$4294967295$saltsalt$pF6/D1kJ7w04Kd6jZzjElf8x2EPD",
		"$md5,rounds=4294967295$saltsalt$$nqDeC2la0eKN3k0t/Ze0D.",
		"$md5$rounds=4294963199$saltsalt$$nqDeC2la0eKN3k0t/Ze0D.",
		"{PBKDF2}$1$p9OmN66Pz11uFCoA$4000000000$f01a95afe264d8b2880bfc0116dbbe71bf5e884e",
		"{PBKDF2-SHA256}99999999999999999999$MDEyMzQ1Njc4OWFiY2RlZg$9fXbZ8WCVJSLRtUvw"
		"RBRWYfiAvb9llMwOTNX/2C06RQ",
#ifdef HAVE_LIBARGON2
		"{ARGON2ID}$argon2id$v=19$m=4294967295,t=1,p=1$c2FsdHNhbHRzYWx0$KeJmiuKmx4D5p"
		"mtEfYNoEGwNa+iCYHxrm4hXHDnuEqQ",
		"{ARGON2ID}$argon2id$v=19$m=1024,t=4294967295,p=1$c2FsdHNhbHRzYWx0$KeJmiuKmx4"
		"D5pmtEfYNoEGwNa+iCYHxrm4hXHDnuEqQ",
		"{ARGON2ID}$argon2id$v=19$m=262144,t=1,p=16777215$c2FsdHNhbHRzYWx0$KeJmiuKmx4"
		"D5pmtEfYNoEGwNa+iCYHxrm4hXHDnuEqQ",
#endif
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(monstrous) / sizeof(monstrous[0]); i++) {
		int64_t began = now_ms();

		if (check(monstrous[i], TYPED) != PASSWORD_COSTLY)
			fail_msg("%s", monstrous[i]);
		assert_true(now_ms() - began < 1000);
	}
}

static void long_passwords_are_taken_whole(void **unused)
{
	/* crypt(3) takes 511 bytes; of these the dearest of them cost 3 s */
	static const char *const slow[] = {
		"$5$rounds=1000000$saltsalt$HkLXGb.nrQj73KpFBb.OZe/1ec2G3ONx4gG2NGOo0m0",
		"$6$rounds=1000000$saltsalt$x",
		"{SHA512-CRYPT}$6$rounds=1000000$saltsalt$x",
	};
	char typed[PASSWORD_TYPED_MAX + 1], stored[PASSWORD_TYPED_MAX + 20];

	(void)unused;
	memset(typed, 'a', sizeof(typed));
	memcpy(stored, "{PLAIN}", 7);
	memset(stored + 7, 'a', sizeof(stored) - 7);
	const struct span whole = { typed, PASSWORD_TYPED_MAX };

	assert_int_equal(password_check((struct span){ stored, 7 + whole.n }, whole, scheme),
			 PASSWORD_RIGHT);
	assert_int_equal(password_check((struct span){ stored, 7 + whole.n + 1 },
					(struct span){ typed, whole.n + 1 }, scheme),
			 PASSWORD_WRONG);
	/* crypt(3) does not take so much; it must not take a part of it for all */
	for (size_t i = 0; i < sizeof(slow) / sizeof(slow[0]); i++) {
		int64_t began = now_ms();

		assert_int_equal(password_check(span_str(slow[i]), whole, scheme), PASSWORD_LONG);
		assert_int_equal(
			password_check(span_str(slow[i]), (struct span){ typed, 512 }, scheme),
			PASSWORD_LONG);
		assert_true(now_ms() - began < 100);
	}
	assert_int_equal(password_check(span_str(right[2]), (struct span){ typed, 511 }, scheme),
			 PASSWORD_WRONG);
	/* a stored form that is too long for anything */
	memcpy(stored, "{SSHA}", 6);
	assert_int_equal(password_check((struct span){ stored, sizeof(stored) }, whole, scheme),
			 PASSWORD_BROKEN);
	memcpy(stored, "$1$aaa", 6);
	assert_int_equal(password_check((struct span){ stored, sizeof(stored) }, whole, scheme),
			 PASSWORD_BROKEN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_form_takes_its_password_and_no_other),
		cmocka_unit_test(what_ends_a_text_elsewhere_is_in_no_password),
		cmocka_unit_test(what_is_cut_off_is_nobodys),
		cmocka_unit_test(nothing_stored_matches_nothing),
		cmocka_unit_test(unknown_schemes_are_named_and_their_values_are_not),
		cmocka_unit_test(what_would_take_minutes_is_not_begun),
		cmocka_unit_test(long_passwords_are_taken_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
