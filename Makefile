# SPDX-License-Identifier: MIT
#
#   make          build/miniproxy: needs a C compiler and make, nothing else
#   make run      build it and serve this machine's programs at 127.0.0.1:3128
#   make test     install what the tests need, run all of them, print a table
#
# More: poll small asan (other builds), unit e2e port-test sim hostile damage fuzz (one kind of test), size bench
# bench-hosts tunnels (measurements), requirements (which test proves which rule), clean.

ifeq ($(origin CC),default)
CC := $(firstword $(foreach c,cc gcc clang,$(shell command -v $(c))) cc)
endif
PYTHON ?= /usr/bin/python3
WARNINGS = -Wall -Wextra -Wconversion -Wpedantic -Werror
CFLAGS ?= -O2 -g
ALL_CFLAGS = -std=c11 $(WARNINGS) $(CFLAGS) -I.
# instrumented expressions change their type, which -Wconversion then sees
SANITIZE = -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -Wno-sign-conversion \
           -DMINIPROXY_DEBUG

CORE = miniproxy.c miniproxy.h
DESKTOP = $(wildcard examples/desktop/*.c) miniproxy.c port/miniproxy_posix.c port/miniproxy_sha256.c port/miniproxy_log.c \
          port/miniproxy_watch.c
DESKTOP_HEADERS = miniproxy.h $(wildcard examples/desktop/*.h port/*.h)
DESKTOP_FLAGS = -DMINIPROXY_CONFIG='"examples/desktop/config.h"' -pthread

export MINIPROXY_RESULTS = build/results
export PYTHONDONTWRITEBYTECODE = 1

# lwIP 2.2.1 and mbedTLS 3.6.6 and 2.28.3, fetched and checked by the build; LWIP_DIR=, MBEDTLS_DIR= and MBEDTLS_228_DIR=
# name other trees
FETCH = mkdir -p build/log && fetch() { sh tests/tools/fetch.sh "$$@" >build/log/fetch-$(@D:build/%=%).log 2>&1 || \
        { cat build/log/fetch-$(@D:build/%=%).log; exit 1; }; } && fetch
LWIP_SHA256 = 83729c274c499d3348e9fbbe043a3113f3fa8953e7efddc7c21c7fcbb1f2b7b1
MBEDTLS_SHA256 = 8fb65fae8dcae5840f793c0a334860a411f884cc537ea290ce1c52bb64ca007a
MBEDTLS_228_SHA256 = 3b4953aa55a681e084d31892d9904cc5328d6b4958ea57b90ae4b4f94ae69a8d
ifndef LWIP_DIR
LWIP_DIR = build/lwip
LWIP_FETCHED = build/lwip/.sha256
build/lwip/.sha256:
	@$(FETCH) lwip $(LWIP_SHA256)
endif
ifndef MBEDTLS_DIR
MBEDTLS_DIR = build/mbedtls
MBEDTLS_FETCHED = build/mbedtls/.sha256
build/mbedtls/.sha256:
	@$(FETCH) mbedtls $(MBEDTLS_SHA256)
endif
ifndef MBEDTLS_228_DIR
MBEDTLS_228_DIR = build/mbedtls-2.28
MBEDTLS_228_FETCHED = build/mbedtls-2.28/.sha256
build/mbedtls-2.28/.sha256:
	@$(FETCH) mbedtls $(MBEDTLS_228_SHA256) bookworm mbedtls-2.28
endif
FETCHED = $(LWIP_FETCHED) $(MBEDTLS_FETCHED) $(MBEDTLS_228_FETCHED)

.DELETE_ON_ERROR:
.PHONY: all run poll small asan test unit e2e port-test sim hostile damage fuzz size bench bench-hosts tunnels requirements clean

.DEFAULT_GOAL := all
all: build/miniproxy

# ---- The desktop program and its other builds

FLAGS_miniproxy =
FLAGS_miniproxy-poll = -DMINIPROXY_POSIX_POLL=1
FLAGS_miniproxy-small = -DMINIPROXY_SESSIONS=4 -DMINIPROXY_RESERVED=1 -DMINIPROXY_SESSIONS_PER_CLIENT=4 \
                        -DMINIPROXY_BUFFERS=5 -DMINIPROXY_BUFFER_SIZE=1024
PROGRAMS = miniproxy miniproxy-poll miniproxy-small

$(PROGRAMS:%=build/%): build/%: $(DESKTOP) $(DESKTOP_HEADERS) Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(DESKTOP_FLAGS) $(FLAGS_$*) $(DESKTOP) -o $@ $(LDFLAGS)

$(PROGRAMS:%=build/asan/%): build/asan/%: $(DESKTOP) $(DESKTOP_HEADERS) Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(SANITIZE) $(DESKTOP_FLAGS) $(FLAGS_$*) $(DESKTOP) -o $@ $(LDFLAGS)

build/musl/miniproxy build/musl/miniproxy-small: build/musl/%: $(DESKTOP) $(DESKTOP_HEADERS) Makefile
	@mkdir -p $(@D)
	musl-gcc $(ALL_CFLAGS) $(DESKTOP_FLAGS) $(FLAGS_$*) $(DESKTOP) -static -o $@ $(LDFLAGS)

run: build/miniproxy
	build/miniproxy

poll: build/miniproxy-poll
small: build/miniproxy-small
asan: $(PROGRAMS:%=build/asan/%)

# ---- Tests: one target run-NAME a suite, its results in build/results/NAME.tsv

SUITE = sh tests/tools/suite.sh

UNIT = $(patsubst tests/unit/test_%.c,%,$(wildcard tests/unit/test_*.c))
SUITES += $(UNIT:%=unit_%)

# most include miniproxy.c
UNIT_ALSO_partition = miniproxy.c examples/desktop/hostset.c
UNIT_FLAGS_partition = -DMINIPROXY_WITH_HOST_BLOBS=1
UNIT_ALSO_log = miniproxy.c port/miniproxy_log.c port/miniproxy_watch.c
UNIT_FLAGS_log = -DMINIPROXY_WITH_ROUTES=1 -DMINIPROXY_WITH_SOCKS5=1 -DMINIPROXY_WITH_HEADS=1
UNIT_ALSO_watch = port/miniproxy_watch.c
UNIT_FLAGS_watch = -DMINIPROXY_WITH_ROUTES=1 -DMINIPROXY_WITH_PAGES=1 -DMINIPROXY_WITH_MAINTENANCE=1 \
                   -DMINIPROXY_WATCH_CLIENTS=4 -DMINIPROXY_WATCH_HOPS=3
build/unit/log build/unit/watch: $(wildcard port/miniproxy_log.[ch] port/miniproxy_watch.[ch])
build/unit/partition: examples/desktop/hostset.c examples/desktop/policy.h

build/unit/%: tests/unit/test_%.c $(wildcard tests/unit/*.h) $(CORE) Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Wno-unused-function $(SANITIZE) $(UNIT_FLAGS_$*) $< $(UNIT_ALSO_$*) -o $@ -lcmocka

$(UNIT:%=run-unit_%): run-unit_%: build/unit/%
	@$(SUITE) unit_$* 600 $<

# The contract of a port, for each port, and SHA-256 beside it.
PORT_TESTS = port-epoll port-poll
SUITES += $(PORT_TESTS) port-sim sha256
PORT_SOURCES = tests/port/posix_test.c tests/port/posix_world.c tests/port/conformance.c port/miniproxy_posix.c
FLAGS_port-poll = -DMINIPROXY_POSIX_POLL=1
WRAPPED = getaddrinfo freeaddrinfo accept accept4 connect recv send socket pthread_create epoll_ctl
PORT_FLAGS = -D_GNU_SOURCE -DMINIPROXY_CONFIG='"tests/port/config.h"' -pthread $(WRAPPED:%=-Wl,--wrap=%)

$(PORT_TESTS:%=build/port/%): build/port/%: $(PORT_SOURCES) $(wildcard tests/port/*.h port/*.h) miniproxy.h Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(SANITIZE) $(PORT_FLAGS) $(FLAGS_$*) $(PORT_SOURCES) -o $@

# the simulated port of tests/sim keeps the contract too
SIM_PORT_SOURCES = tests/sim/conformance/conformance_sim.c tests/port/conformance.c tests/sim/port.c tests/sim/link.c \
                   tests/sim/time.c
build/port/port-sim: $(SIM_PORT_SOURCES) $(wildcard tests/sim/*.h tests/sim/conformance/*.h tests/port/*.h) miniproxy.h \
                     Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(SANITIZE) -D_GNU_SOURCE -DMINIPROXY_CONFIG='"tests/sim/conformance/config.h"' \
	    $(SIM_PORT_SOURCES) -o $@

build/port/sha256: tests/port/sha256_test.c port/miniproxy_sha256.c port/miniproxy_sha256.h miniproxy.h Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(SANITIZE) $(filter %.c,$^) -o $@

run-sha256 run-port-sim $(PORT_TESTS:%=run-%): run-%: build/port/%
	@$(SUITE) $* 600 $< build/results/$*.tsv

# A policy in text decides as a naive reading of it does; the language, its commands, and the C that it is compiled to.
SUITES += policy-reference policy
POLICY = $(filter-out %/main.c,$(DESKTOP))

build/policy/evaluate: tests/policy/evaluate.c $(POLICY) $(DESKTOP_HEADERS) Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(SANITIZE) $(DESKTOP_FLAGS) $< $(POLICY) -o $@

build/policy/parts.a: tests/policy/compare.c $(POLICY) $(DESKTOP_HEADERS) Makefile
	@rm -rf $(@D)/parts && mkdir -p $(@D)/parts
	cd $(@D)/parts && $(CC) $(ALL_CFLAGS) $(DESKTOP_FLAGS) -I$(CURDIR) -c $(addprefix $(CURDIR)/,$< $(POLICY))
	mv $(@D)/parts/compare.o $(@D)
	rm -f $@ && ar rc $@ $(@D)/parts/*.o

run-policy-reference: build/policy/evaluate
	@$(SUITE) policy-reference 1200 $(PYTHON) tests/policy/reference.py $< 1000000 $(SEED)

run-policy: build/miniproxy build/policy/evaluate build/policy/parts.a
	@MINIPROXY_BIN=$(CURDIR)/build/miniproxy $(SUITE) policy 900 $(PYTHON) -m pytest -q -p no:cacheprovider tests/policy

# What the audit of policies proves is what trying every request finds.
SUITES += audit
POLICIES ?= 10000
build/audit/brute: tests/audit/brute.c $(DESKTOP) $(DESKTOP_HEADERS) Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(SANITIZE) $(DESKTOP_FLAGS) tests/audit/brute.c $(filter-out %/main.c,$(DESKTOP)) -o $@

run-audit: build/miniproxy build/audit/brute
	@$(SUITE) audit 900 $(PYTHON) tests/audit/audit.py build/miniproxy build/audit/brute build/results/audit.tsv $(POLICIES)

# Blobs of host names, with public lists that apt and npm have.
SUITES += hosts
HOSTS_SOURCES = tests/hosts/hosts_test.c examples/desktop/hostset.c miniproxy.c
build/hosts/test build/hosts/asan: $(HOSTS_SOURCES) $(DESKTOP_HEADERS) Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -D_GNU_SOURCE $(if $(filter %asan,$@),$(SANITIZE)) $(DESKTOP_FLAGS) $(HOSTS_SOURCES) -o $@

run-hosts: build/hosts/asan
	@mkdir -p build/log
	@sh tests/tools/hostlists.sh >build/log/hostlists.log 2>&1 || true
	@$(SUITE) hosts 900 $< check build/results/hosts.tsv build/hosts/easylist.txt \
	    build/hosts/disposable.txt

bench-hosts: build/hosts/test
	@sh tests/tools/hostlists.sh
	@PYTHONPATH=tests/tools $(PYTHON) tests/bench/hosts.py

# The core in a simulated world, in several configurations, from many seeds.
VARIANTS = $(filter-out common tls,$(patsubst tests/sim/variants/%.h,%,$(wildcard tests/sim/variants/*.h)))
SIMS = $(VARIANTS:%=sim-%)
SUITES += $(SIMS) sim-split sim-asan sim-routes-asan sim-planted
SEEDS ?= 1..20000
SIM_DEPENDS = $(wildcard tests/sim/*.[ch] tests/sim/variants/*.h) tests/sim/build.sh $(CORE) $(wildcard port/miniproxy_tls.[ch])

$(SIMS:%=build/sim/%): build/sim/sim-%: $(SIM_DEPENDS) Makefile
	CC="$(CC)" sh tests/sim/build.sh $@ $*

build/sim/sim-asan build/sim/sim-routes-asan: $(SIM_DEPENDS) Makefile
	CC="$(CC)" sh tests/sim/build.sh $@ $(if $(findstring routes,$@),routes,default) miniproxy.c $(SANITIZE)

# Routes take their time, and in worlds with few buffers less is checked: not as many seeds, unless others are asked for.
run-sim-routes: SEEDS := $(if $(filter 1..20000,$(SEEDS)),1..12000,$(SEEDS))
run-sim-routes_few: SEEDS := $(if $(filter 1..20000,$(SEEDS)),1..8000,$(SEEDS))
$(SIMS:%=run-%): run-%: build/sim/%
	@$(SUITE) $* 1800 $< --seeds $(SEEDS) --results build/results/$*.tsv
run-sim-asan run-sim-routes-asan: run-%: build/sim/%
	@$(SUITE) $* 1800 $< --seeds 1..500 --results build/results/$*.tsv
run-sim-split: build/sim/sim-default
	@$(SUITE) sim-split 1800 $< --split --results build/results/sim-split.tsv

# Is the simulation able to find bugs?
run-sim-planted: $(SIM_DEPENDS) $(wildcard tests/sim/planted.sh tests/sim/planted/*.sed tests/sim/planted/*/*) build/sim/sim-tls
	@CC="$(CC)" LIBS="$(TLS_LIB_36)" TLS_FLAGS='$(subst ',,$(SIM_TLS_FLAGS))' $(SUITE) sim-planted 1800 sh tests/sim/planted.sh build/results/sim-planted.tsv

# The same tests over epoll, over poll, with the sanitizers watching, and with musl, the libc of OpenWrt.
E2E = e2e-epoll e2e-poll e2e-asan e2e-musl
SUITES += $(E2E)
BUILD_e2e-epoll = build/miniproxy
BUILD_e2e-poll = build/miniproxy-poll
BUILD_e2e-asan = build/asan/miniproxy
SMALL_e2e-asan = build/asan/miniproxy-small
BUILD_e2e-musl = build/musl/miniproxy
SMALL_e2e-musl = build/musl/miniproxy-small

run-e2e-epoll: build/miniproxy build/miniproxy-small
run-e2e-poll: build/miniproxy-poll build/miniproxy-small
run-e2e-asan: build/asan/miniproxy build/asan/miniproxy-small
run-e2e-musl: build/musl/miniproxy build/musl/miniproxy-small
$(E2E:%=run-%): run-%:
	@MINIPROXY_SUITE=$* MINIPROXY_BIN=$(CURDIR)/$(BUILD_$*) \
	    MINIPROXY_SMALL_BIN=$(CURDIR)/$(or $(SMALL_$*),build/miniproxy-small) \
	    $(SUITE) $* 1500 $(PYTHON) -m pytest -q tests/e2e

# What can be seen of a proxy from inside: the metrics by a strict parser, the status page in Chromium.
SUITES += status
STATUS_SOURCES = tests/status/server.c miniproxy.c port/miniproxy_posix.c
FLAGS_server-bare = -DMINIPROXY_RECORDS=0
build/status/server build/status/server-bare: build/status/%: $(STATUS_SOURCES) tests/status/config.h port/miniproxy_posix.h miniproxy.h Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(SANITIZE) -DMINIPROXY_CONFIG='"tests/status/config.h"' $(FLAGS_$*) -pthread $(STATUS_SOURCES) -o $@

run-status: build/status/server build/status/server-bare build/miniproxy
	@$(SUITE) status 300 $(PYTHON) tests/status/status.py build/status/server build/status/server-bare

# Ways through other people's proxies, with the sanitizers watching.
SUITES += parents
run-parents: build/asan/tls/miniproxy
	@MINIPROXY_SUITE=parents MINIPROXY_PARENTS=1 MINIPROXY_BIN=$(CURDIR)/$< \
	    $(SUITE) parents 600 $(PYTHON) -m pytest -q tests/e2e/test_real_parents.py

# README's lines for clients, as they stand there.
SUITES += clients
run-clients: build/miniproxy build/tls/miniproxy
	@MINIPROXY_SUITE=clients MINIPROXY_CLIENTS=1 MINIPROXY_BIN=$(CURDIR)/build/miniproxy \
	    MINIPROXY_TLS_BIN=$(CURDIR)/build/tls/miniproxy $(SUITE) clients 900 $(PYTHON) -m pytest -q tests/e2e/test_clients.py

# For SECONDS each: everything that wears a proxy out, damaged messages from both sides over sockets, the same in the
# core alone.
SUITES += hostile damage fuzz
SECONDS ?= 40
run-hostile: build/miniproxy build/miniproxy-small
	@MINIPROXY_SUITE=hostile MINIPROXY_BIN=$(CURDIR)/build/miniproxy MINIPROXY_SMALL_BIN=$(CURDIR)/build/miniproxy-small \
	    $(SUITE) hostile $$(($(SECONDS) + 120)) $(PYTHON) tests/e2e/hostile.py $(SECONDS)

run-damage: build/asan/miniproxy
	@$(SUITE) damage $$(($(SECONDS) + 120)) $(PYTHON) tests/tools/damage.py $(SECONDS) $(SEED)

run-fuzz: $(CORE) $(wildcard tests/fuzz/*.[ch])
	@$(SUITE) fuzz $$((2 * $(SECONDS) + 180)) sh tests/tools/fuzz.sh $(SECONDS)

# The core for every target and compiler, configurations that must and must not build, its size.
TOOLS = cross configs size readme
SUITES += $(TOOLS)
$(TOOLS:%=run-%): run-%:
	@$(SUITE) $* 900 $(PYTHON) tests/tools/$*.py

run-readme: build/miniproxy
run-size: firmware-images
run-size size: export IMAGES = $(SIZE_IMAGES)

include tests/tls/mbedtls.mk
include tests/lwip/lwip.mk
include tests/lwip/e2e.mk
include examples/desktop/tls.mk
include examples/firmware/firmware.mk
include tests/firmware/e2e.mk

unit: $(UNIT:%=run-unit_%)
port-test: $(PORT_TESTS:%=run-%) run-port-sim run-sha256
e2e: run-e2e-epoll
hostile:
	@$(MAKE) --no-print-directory SECONDS=$(or $(LONG_SECONDS),600) run-hostile
damage: run-damage
fuzz: run-fuzz
sim:
	@$(MAKE) --no-print-directory -k SEEDS=$(or $(LONG_SEEDS),1..100000) $(SIMS:%=run-%) run-sim-tls run-sim-split run-sim-asan run-sim-routes-asan run-sim-planted

test:
	@rm -f $(SUITES:%=build/results/%.tsv)
	@sh tests/tools/deps.sh || true
	@$(if $(strip $(FETCHED)),$(MAKE) -s --no-print-directory -k -j$(JOBS) $(FETCHED) || true)
	@$(MAKE) -s --no-print-directory -k -j$(JOBS) $(SUITES:%=run-%) || true
	@sh tests/tools/summary.sh deps $(SUITES)

JOBS ?= 3

bench: build/miniproxy build/tls/miniproxy build/bench/load
	@sh tests/tools/deps.sh bench
	@$(PYTHON) tests/bench/instructions.py
	@$(PYTHON) tests/bench/bench.py
	@$(PYTHON) tests/bench/tls.py
	@$(PYTHON) tests/bench/limits.py
	@$(PYTHON) tests/bench/parents.py

tunnels: build/miniproxy build/bench/load
	@$(PYTHON) tests/bench/bench.py tunnels

build/bench/load: tests/bench/load.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -pthread $< -o $@

size: firmware-images
	@$(PYTHON) tests/tools/size.py $(if $(UPDATE),--update)

requirements:
	@$(PYTHON) tests/tools/requirements.py

clean:
	rm -rf build
