# SPDX-License-Identifier: MIT
#
# Included by Makefile: the desktop program with TLS. make tls builds it with mbedTLS 3.6, make tls-system with the
# system's libmbedtls-dev, as build/tls/miniproxy and build/tls/miniproxy-system. Tests have more of them.

.PHONY: tls tls-system
tls: build/tls/miniproxy
tls-system: build/tls/miniproxy-system

DESKTOP_TLS = $(DESKTOP) port/miniproxy_tls.c
FLAGS_tls = $(DESKTOP_FLAGS) -DMINIPROXY_WITH_TLS=1
TLS_DEPENDS = $(DESKTOP_TLS) $(DESKTOP_HEADERS) examples/desktop/tls.mk Makefile

build/tls/miniproxy: $(TLS_DEPENDS) $(TLS_LIB_36)
	$(CC) $(ALL_CFLAGS) $(TLS_CFLAGS_36) $(FLAGS_tls) $(DESKTOP_TLS) $(TLS_LIB_36) -o $@ $(LDFLAGS)

build/tls/miniproxy-system: $(TLS_DEPENDS)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(FLAGS_tls) -DMINIPROXY_TLS_HEAP=1 $(DESKTOP_TLS) -o $@ -lmbedtls -lmbedx509 -lmbedcrypto $(LDFLAGS)

build/tls/miniproxy-228: $(TLS_DEPENDS) $(TLS_LIB_228)
	$(CC) $(ALL_CFLAGS) $(TLS_CFLAGS_228) $(FLAGS_tls) $(DESKTOP_TLS) $(TLS_LIB_228) -o $@ $(LDFLAGS)

# few sessions, of which half as many can speak TLS, each with little memory; or all, those in reserve, and one that is
# just accepted
FLAGS_tls-small = $(FLAGS_miniproxy-small) -DMINIPROXY_TLS_SESSIONS=2 -DMINIPROXY_TLS_HANDSHAKE_RAM=14336
FLAGS_tls-small-all = $(FLAGS_miniproxy-small) -DMINIPROXY_TLS_SESSIONS=6
build/tls/miniproxy-small build/tls/miniproxy-small-all: build/tls/miniproxy-%: $(TLS_DEPENDS) $(TLS_LIB_36)
	$(CC) $(ALL_CFLAGS) $(TLS_CFLAGS_36) $(FLAGS_tls) $(FLAGS_tls-$*) $(DESKTOP_TLS) $(TLS_LIB_36) -o $@ $(LDFLAGS)

build/asan/tls/miniproxy build/asan/tls/miniproxy-small-all: build/asan/tls/miniproxy%: $(TLS_DEPENDS) $(TLS_LIB_36_ASAN)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(SANITIZE) $(TLS_CFLAGS_36) $(FLAGS_tls) $(FLAGS_tls$*) $(DESKTOP_TLS) $(TLS_LIB_36_ASAN) -o $@ \
	    $(LDFLAGS)

# With both versions of mbedTLS, and with the sanitizers watching; what is not TLS's has its tests in e2e-epoll.
E2E_TLS = e2e-tls e2e-tls-228 e2e-tls-asan
SUITES += $(E2E_TLS)
BUILD_e2e-tls = build/tls/miniproxy
BUILD_e2e-tls-228 = build/tls/miniproxy-228
BUILD_e2e-tls-asan = build/asan/tls/miniproxy
VERSIONS_e2e-tls-228 = 1.2
run-e2e-tls: build/tls/miniproxy build/tls/miniproxy-small
run-e2e-tls-228: build/tls/miniproxy-228 build/tls/miniproxy-small
run-e2e-tls-asan: build/asan/tls/miniproxy build/tls/miniproxy-small
$(E2E_TLS:%=run-%): run-%:
	@MINIPROXY_SUITE=$* MINIPROXY_BIN=$(CURDIR)/$(BUILD_$*) MINIPROXY_TLS_SMALL_BIN=$(CURDIR)/build/tls/miniproxy-small \
	    MINIPROXY_TLS="$(or $(VERSIONS_$*),1.2 1.3)" $(SUITE) $* 600 $(PYTHON) -m pytest -q tests/e2e/test_tls.py

# All that e2e-epoll asks, of clients that reach the proxy by TLS. With the sanitizers it takes half as long again: not in
# make test, for e2e-tls-asan and those on lwIP have them too.
E2E_OVER_TLS = e2e-over-tls e2e-over-tls-asan
SUITES += e2e-over-tls
run-e2e-over-tls: build/tls/miniproxy build/tls/miniproxy-small-all
run-e2e-over-tls-asan: build/asan/tls/miniproxy build/asan/tls/miniproxy-small-all
$(E2E_OVER_TLS:%=run-%): run-%:
	@MINIPROXY_SUITE=$* MINIPROXY_OVER_TLS=1 MINIPROXY_BIN=$(CURDIR)/$(word 1,$^) \
	    MINIPROXY_SMALL_BIN=$(CURDIR)/$(word 2,$^) $(SUITE) $* 1500 $(PYTHON) -m pytest -q tests/e2e

# a browser whose proxy is an https:// one; tests/lwip/e2e.mk has more of them
SUITES += tls-chromium
run-tls-chromium: build/tls/miniproxy
	@$(SUITE) tls-chromium 300 $(PYTHON) tests/tls/chromium.py tls-chromium $(CURDIR)/$<
