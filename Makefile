# Keepwarm. `make` builds every program into build/; `make SAN=1` builds them with ASan and UBSan into
# build/san/; `make check-unit`, `make fuzz`, `make chaos`, `make lint` do what they say; `make install` installs
# programs and manuals, `make install-conf` the sample configuration, `make install-init` what init systems start;
# `make pkg` makes a Debian package of them.
# The test suite as a whole is ./check.

VERSION  := 0.1.0
PREFIX   ?= /usr/local
SBINDIR  ?= $(PREFIX)/sbin
MANDIR   ?= $(PREFIX)/share/man
SYSCONFDIR  ?= /etc
UNITDIR     ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d

B        := $(if $(SAN),build/san,build)
CC       ?= gcc
PKG      := pkg-config

PROGRAMS := proxyd cachebrokerd lookupd tlsrelayd pimpstat in.imapproxyd

# --- flags --------------------------------------------------------------------------------------
WARN     := -Wall -Wextra -Wshadow -Wconversion -Wformat=2 -Wstrict-prototypes -Wmissing-prototypes \
            -Wvla -Wundef -Wwrite-strings -Wcast-qual -Wnull-dereference
WARN     += $(if $(CI)$(WERROR),-Werror)
HARDEN   := -fstack-protector-strong -fstack-clash-protection -fcf-protection=full \
            -ftrivial-auto-var-init=zero
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CPPFLAGS += -I. -D_GNU_SOURCE= -DKEEPWARM_VERSION='"$(VERSION)"'
CFLAGS   ?= -O2 -g
# The folder that it was built in stands nowhere: the same source makes the same programs.
BASE     := -std=c17 $(WARN) $(HARDEN) -MMD -MP -ffile-prefix-map=$(CURDIR)=.
HOSTED   := $(BASE) -fPIE $(if $(SAN),$(SANITIZE),-D_FORTIFY_SOURCE=3)
LDHOST   := -pie -Wl,-z,relro,-z,now $(if $(SAN),$(SANITIZE))

# proxyd is static: with musl where musl-gcc is installed, else with glibc; a sanitizer build is neither.
MUSL_GCC := $(if $(SAN),,$(shell command -v musl-gcc 2>/dev/null))
TRIPLET  := $(shell $(CC) -print-multiarch)
ifdef MUSL_GCC
CC_PROXY := $(MUSL_GCC)
C_PROXY  := $(BASE) -fno-pie -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables -idirafter /usr/include -idirafter /usr/include/$(TRIPLET)
# Fewer segments, fewer pages: each costs every session at its fork and its exit (RELRO and a separate
# read-only segment alone 8 % of its CPU). --sort-section: see lib/large.h.
LD_PROXY := -static -no-pie -Wl,-z,norelro,-z,noseparate-code,--gc-sections,--sort-section=name
else
CC_PROXY := $(CC)
C_PROXY  := $(HOSTED)
LD_PROXY := $(if $(SAN),$(LDHOST),-static-pie -Wl,-z,relro,-z,now)
endif

# --- lookupd's drivers, each built if its library is there: KIND=LIBRARY; and so a form of passwords -----
DRIVER_LIBS    := http=libcurl ldap=ldap pgsql=libpq mysql=libmariadb
FORM_LIBS      := argon2=libargon2
library_of      = $(word 2,$(subst =, ,$(1)))
DRIVERS        := $(foreach d,$(DRIVER_LIBS),$(if $(shell $(PKG) --exists $(call library_of,$(d)) && echo 1),$(d)))
DRIVERS_C      := lookupd/driver_static.c lookupd/driver_userdb.c lookupd/driver_lmdb.c lookupd/driver_authdaemon.c \
                  $(foreach d,$(DRIVERS),lookupd/driver_$(word 1,$(subst =, ,$(d))).c)
FORMS          := $(foreach f,$(FORM_LIBS),$(if $(shell $(PKG) --exists $(call library_of,$(f)) && echo 1),$(f)))
FORMS_C        := $(foreach f,$(FORMS),lookupd/password_$(word 1,$(subst =, ,$(f))).c)
DRIVERS_PKG    := $(foreach d,$(DRIVERS) $(FORMS),$(call library_of,$(d)))
DRIVERS_FLAGS  := $(foreach l,$(DRIVERS_PKG),-DHAVE_$(shell echo $(l) | tr a-z A-Z)) \
                  $(if $(DRIVERS_PKG),$(shell $(PKG) --cflags $(DRIVERS_PKG)))

# --- sources, one folder per program --------------------------------------------------------------
LIB_C    := $(wildcard lib/*.c)
SRC_proxyd         := $(wildcard proxyd/*.c)
SRC_cachebrokerd   := $(wildcard cachebrokerd/*.c)
SRC_lookupd        := $(filter-out lookupd/driver_%.c lookupd/password_argon2.c,$(wildcard lookupd/*.c)) $(DRIVERS_C) $(FORMS_C)
SRC_tlsrelayd      := $(wildcard tlsrelayd/*.c)
SRC_pimpstat       := $(wildcard pimpstat/*.c)
SRC_in.imapproxyd  := $(wildcard imapproxyd/*.c)

# --- outside libraries, per program ---------------------------------------------------------------
LIBS_cachebrokerd  = $(shell $(PKG) --libs libcrypto lmdb libsystemd) -lpthread
LIBS_lookupd       = $(shell $(PKG) --libs libcrypto libcrypt lmdb $(DRIVERS_PKG))
LIBS_tlsrelayd     = $(shell $(PKG) --libs libssl libcrypto libsystemd)
LIBS_pimpstat      = $(shell $(PKG) --libs lmdb jansson ncursesw)

objects   = $(patsubst %.c,$(B)/obj/%.o,$(1))
proxyobjs = $(patsubst %.c,$(B)/static/%.o,$(1))

.PHONY: all check-unit fuzz fuzz-corpus lint install install-conf install-init pkg clean
all: $(addprefix $(B)/,$(PROGRAMS))

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(HOSTED) $(CFLAGS) -c $< -o $@

$(B)/obj/lookupd/%.o $(B)/obj/tests/unit/%.o: CPPFLAGS += $(DRIVERS_FLAGS)

$(B)/static/%.o: %.c
	@mkdir -p $(@D)
	$(CC_PROXY) $(CPPFLAGS) $(C_PROXY) $(CFLAGS) -c $< -o $@

# What says its version is compiled anew for another one.
STAMP    := $(B)/gen/version
ifneq ($(VERSION),$(shell cat $(STAMP) 2>/dev/null))
$(shell mkdir -p $(B)/gen && echo '$(VERSION)' >$(STAMP))
endif
$(B)/static/proxyd/admin.o $(B)/obj/proxyd/admin.o $(B)/obj/imapproxyd/main.o $(B)/obj/cachebrokerd/state_db.o \
	$(B)/obj/pimpstat/model.o: $(STAMP)

# Filters of system calls are made at build time, so that no program links anything for them: NAME, made by,
# for, and the header with the numbers of descriptors that it goes by.
CPPFLAGS += -I$(B)/gen $(if $(SAN),-DKEEPWARM_SANITIZED)
define call_filter
$(B)/gen/make_$(1): $(2) lib/filter/rules.c lib/filter/rules.h $(4)
	@mkdir -p $$(@D)
	$$(CC) -I. -D_GNU_SOURCE= -std=c17 $$(WARN) $$(CFLAGS) $$(filter %.c,$$^) $$(shell $$(PKG) --libs libseccomp) -o $$@
$(B)/gen/$(1).h: $(B)/gen/make_$(1)
	$$< >$$@.new && mv $$@.new $$@
$(addprefix $(B)/,$(3)): $(B)/gen/$(1).h
endef
$(eval $(call call_filter,jail_filter,proxyd/jail/make_filter.c,static/proxyd/jail.o obj/proxyd/jail.o,proxyd/jail.h))
$(eval $(call call_filter,relay_filter,tlsrelayd/sandbox/make_filter.c,obj/tlsrelayd/sandbox.o,tlsrelayd/sandbox.h))
$(eval $(call call_filter,relay_master_filter,tlsrelayd/sandbox/make_master_filter.c,obj/tlsrelayd/sandbox_master.o))
$(eval $(call call_filter,broker_filter,cachebrokerd/jail/make_filter.c,obj/cachebrokerd/jail.o))
$(eval $(call call_filter,lookup_filter,lookupd/jail/make_filter.c,obj/lookupd/jail.o))

$(B)/proxyd: $(call proxyobjs,$(SRC_proxyd) $(LIB_C))
	$(CC_PROXY) $(CFLAGS) $(LD_PROXY) $^ -o $@

define program
$(B)/$(1): $(call objects,$(SRC_$(1)) $(LIB_C))
	$$(CC) $$(CFLAGS) $$(LDHOST) $$^ $$(LIBS_$(1)) -o $$@
endef
$(foreach p,cachebrokerd lookupd tlsrelayd pimpstat in.imapproxyd,$(eval $(call program,$(p))))

# --- unit tests: each links what it needs out of one archive per folder -----------------------------
UNIT_C    := $(wildcard tests/unit/test_*.c)
UNITS     := $(patsubst tests/unit/%.c,$(B)/unit/%,$(UNIT_C))
ARCHIVES  := $(addprefix $(B)/obj/,proxyd.a cachebrokerd.a lookupd.a tlsrelayd.a pimpstat.a imapproxyd.a lib.a)
UNIT_LIBS  = $(shell $(PKG) --libs cmocka libssl libcrypto lmdb libsystemd jansson) $(LIBS_lookupd) -lpthread

not_main = $(filter-out %/main.c,$(1))
$(B)/obj/proxyd.a: $(call objects,$(call not_main,$(SRC_proxyd)))
$(B)/obj/cachebrokerd.a: $(call objects,$(call not_main,$(SRC_cachebrokerd)))
$(B)/obj/lookupd.a: $(call objects,$(call not_main,$(SRC_lookupd)))
$(B)/obj/tlsrelayd.a: $(call objects,$(call not_main,$(SRC_tlsrelayd)))
$(B)/obj/pimpstat.a: $(call objects,$(call not_main,$(SRC_pimpstat)))
$(B)/obj/imapproxyd.a: $(call objects,$(call not_main,$(SRC_in.imapproxyd)))
$(B)/obj/lib.a: $(call objects,$(LIB_C))
%.a:
	@rm -f $@
	ar rcs $@ $^

$(B)/unit/%: $(B)/obj/tests/unit/%.o $(ARCHIVES)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDHOST) $< -Wl,--start-group $(ARCHIVES) -Wl,--end-group $(UNIT_LIBS) -o $@

.PHONY: units
units: $(UNITS)

check-unit: units
	@set -e; for t in $(UNITS); do echo "== $$t"; $$t; done

# --- a proxyd whose session, once logged in, tries what the jail forbids; never installed -------------
INTRUDER  := $(B)/test/proxyd-intruder
$(INTRUDER): $(call proxyobjs,tests/jail/intruder.c $(filter-out proxyd/relay%.c,$(SRC_proxyd)) $(LIB_C))
	@mkdir -p $(@D)
	$(CC_PROXY) $(CFLAGS) $(LD_PROXY) $^ -o $@

# The same for a worker of tlsrelayd.
TLS_INTRUDER := $(B)/test/tlsrelayd-intruder
$(TLS_INTRUDER): $(call objects,tests/jail/tls_intruder.c $(filter-out tlsrelayd/relay.c,$(SRC_tlsrelayd)) $(LIB_C))
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDHOST) $^ $(LIBS_tlsrelayd) -o $@

# And for the broker and a worker of lookupd.
BROKER_INTRUDER := $(B)/test/cachebrokerd-intruder
$(BROKER_INTRUDER): $(call objects,tests/jail/broker_intruder.c $(filter-out cachebrokerd/probe.c,$(SRC_cachebrokerd)) $(LIB_C))
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDHOST) $^ $(LIBS_cachebrokerd) -o $@

LOOKUP_INTRUDER := $(B)/test/lookupd-intruder
$(LOOKUP_INTRUDER): $(call objects,tests/jail/lookup_intruder.c $(filter-out lookupd/resolve.c,$(SRC_lookupd)) $(LIB_C))
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDHOST) $^ $(LIBS_lookupd) -o $@

.PHONY: intruder
intruder: $(INTRUDER) $(TLS_INTRUDER) $(BROKER_INTRUDER) $(LOOKUP_INTRUDER)

# --- fuzz targets: libFuzzer with clang (make fuzz), or a plain program that runs a corpus ------------
FUZZ_C    := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_RUN  := $(patsubst tests/fuzz/%.c,$(B)/fuzz/%,$(FUZZ_C))
FUZZERS   := $(patsubst tests/fuzz/%.c,build/fuzzers/%,$(FUZZ_C))
FUZZ_SECONDS ?= 60

$(B)/fuzz/%: $(B)/obj/tests/fuzz/%.o $(B)/obj/tests/fuzz/run_corpus.o $(ARCHIVES)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDHOST) $< $(B)/obj/tests/fuzz/run_corpus.o $(addprefix $(B)/obj/,proxyd.a lookupd.a cachebrokerd.a lib.a) -o $@

fuzz-corpus: $(FUZZ_RUN)

# Of lookupd and the broker what is pure.
FUZZ_LOOKUPD := $(addprefix lookupd/,account.c authrc.c cram.c ldapquery.c scram.c sqlquery.c textline.c why.c)

FUZZ_BROKER  := cachebrokerd/pack.c

build/fuzzers/%: tests/fuzz/%.c $(SRC_proxyd) $(FUZZ_LOOKUPD) $(FUZZ_BROKER) $(LIB_C) $(B)/gen/jail_filter.h
	@mkdir -p $(@D)
	clang -std=c17 -O1 -g -I. -I$(B)/gen -D_GNU_SOURCE= -DKEEPWARM_VERSION='"fuzz"' -fsanitize=fuzzer,address,undefined $< \
		$(call not_main,$(SRC_proxyd)) $(FUZZ_LOOKUPD) $(FUZZ_BROKER) $(LIB_C) -o $@

fuzz: $(FUZZERS)
	@set -e; for f in $(FUZZERS); do n=$$(basename $$f); mkdir -p build/corpus/$$n; \
		$$f -max_total_time=$(FUZZ_SECONDS) build/corpus/$$n tests/fuzz/corpus/$$n; done

# --- chaos: clients and mail host abort at random bytes; ./check runs a short one -----------------------
CHAOS_ABORTS ?= 100000
.PHONY: chaos
chaos: all
	cd tests && KEEPWARM_BUILD=$(B) KEEPWARM_CHAOS_ABORTS=$(CHAOS_ABORTS) PYTHONDONTWRITEBYTECODE=1 \
		/usr/bin/python3 -m pytest -q --tb=short scenarios/test_chaos.py

# --- bench: what it costs beside its peers (root; takes minutes) -------------------------------------
BENCHES   := $(addprefix $(B)/bench/,$(filter-out hist stream,$(patsubst bench/%.c,%,$(wildcard bench/*.c))))

$(B)/bench/%: $(B)/obj/bench/%.o $(B)/obj/bench/hist.o $(B)/obj/bench/stream.o $(B)/obj/lib.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDHOST) $^ $(shell $(PKG) --libs libssl libcrypto) -o $@

.PHONY: bench bench-programs
bench-programs: $(BENCHES)
bench: all bench-programs
	bench/run

# --- the rules of the house -------------------------------------------------------------------------
lint: all
	tests/lint $(B)

install: all
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(MANDIR)/man5 $(DESTDIR)$(MANDIR)/man8
	install -m 0755 $(addprefix $(B)/,$(PROGRAMS)) $(DESTDIR)$(SBINDIR)
	install -m 0644 man/*.5 $(DESTDIR)$(MANDIR)/man5
	install -m 0644 man/*.8 $(DESTDIR)$(MANDIR)/man8
	ln -sf in.imapproxyd $(DESTDIR)$(SBINDIR)/imapproxyd
	ln -sf in.imapproxyd.8 $(DESTDIR)$(MANDIR)/man8/imapproxyd.8

# A configuration that is there is never touched.
install-conf:
	install -d $(DESTDIR)$(SYSCONFDIR)
	@if [ -e $(DESTDIR)$(SYSCONFDIR)/imapproxy.conf ] || [ -L $(DESTDIR)$(SYSCONFDIR)/imapproxy.conf ]; then \
		echo "$(DESTDIR)$(SYSCONFDIR)/imapproxy.conf is there and stays as it is"; \
	else \
		install -m 0644 conf/imapproxy.conf $(DESTDIR)$(SYSCONFDIR)/imapproxy.conf; \
	fi

# Nothing is enabled or started. The places in the files become those of this installation.
# First those that stand there as they are: a place of this installation may hold one of them.
PLACES   := sed -e 's,/usr/local/sbin/,$(SBINDIR)/,' -e 's,/etc/imapproxy.conf,$(SYSCONFDIR)/imapproxy.conf,' \
            -e 's,@SBINDIR@,$(SBINDIR),g' -e 's,@SYSCONFDIR@,$(SYSCONFDIR),g'
install-init:
	install -d $(DESTDIR)$(SYSCONFDIR)/init.d $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSUSERSDIR) $(DESTDIR)$(TMPFILESDIR)
	$(PLACES) init.d/in.imapproxyd >$(DESTDIR)$(SYSCONFDIR)/init.d/in.imapproxyd
	chmod 0755 $(DESTDIR)$(SYSCONFDIR)/init.d/in.imapproxyd
	set -e; for unit in $(notdir $(wildcard units/*.service units/*.socket units/*.target)); do \
		$(PLACES) units/$$unit >$(DESTDIR)$(UNITDIR)/$$unit; chmod 0644 $(DESTDIR)$(UNITDIR)/$$unit; done
	install -m 0644 units/keepwarm.sysusers $(DESTDIR)$(SYSUSERSDIR)/keepwarm.conf
	install -m 0644 units/keepwarm.tmpfiles $(DESTDIR)$(TMPFILESDIR)/keepwarm.conf

# build/keepwarm_VERSION_ARCH.deb, without root; `make pkg VERSION=...` for another one. See pkg/.
STAGE    := $(B)/pkg
pkg: all
	rm -rf $(STAGE)
	umask 022; $(MAKE) -s install install-init VERSION=$(VERSION) B=$(B) DESTDIR=$(STAGE) PREFIX=/usr SYSCONFDIR=/etc \
		UNITDIR=/lib/systemd/system
	pkg/build $(STAGE) $(VERSION) $(B)

clean:
	rm -rf build

-include $(shell find $(B) -type f -name '*.d' 2>/dev/null)
