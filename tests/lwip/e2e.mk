# SPDX-License-Identifier: MIT
#
# The desktop program on lwIP, at the end of a tap device in the network namespace of the tests: all end-to-end tests
# and a short soak, over both ports, with the sanitizers watching. Needs root for the namespace, as the other ones do.

HOST_STACKS = raw sockets
HOST = tests/lwip/desktop
HOST_OWN = $(addprefix $(HOST)/, shim.c net.c stack.c memp.c tap.c)
HOST_DESKTOP = $(wildcard examples/desktop/*.c) miniproxy.c port/miniproxy_sha256.c port/miniproxy_log.c port/miniproxy_watch.c
HOST_HEADERS = miniproxy.h $(wildcard examples/desktop/*.h port/*.h $(HOST)/*.h $(HOST)/port/*.h) Makefile \
               tests/lwip/e2e.mk
HOST_LWIP = $(LWIP_DIR)/src
HOST_INCLUDES = -I$(HOST) -I. -isystem $(HOST_LWIP)/include -isystem $(LWIP_DIR)/contrib/ports/unix/port/include

# As many sessions as the raw port has records for (its index has 8 bits; two each, and some for those that wait), and as
# netconns fit into an fd_set of libc, with those that wait at all listeners.
HOST_SESSIONS_raw = -DMINIPROXY_SESSIONS=100 -DMINIPROXY_RESERVED=8 -DMINIPROXY_LWIP_RAW_RECORDS=254 \
                    -DMINIPROXY_LWIP_RAW_LISTENERS=8 -DMINIPROXY_LWIP_RAW_BACKLOG=46
HOST_SESSIONS_sockets = -DMINIPROXY_SESSIONS=300 -DMINIPROXY_RESERVED=20 -DMINIPROXY_LWIP_SOCKETS_LISTENERS=8 \
                        -DMINIPROXY_LWIP_SOCKETS_BACKLOG=46
# the small build copies, so that buffers of the core can run out in tunnels too
HOST_SMALL_raw = -DMINIPROXY_LWIP_RAW_RELAY=0 -DMINIPROXY_LWIP_RAW_RECORDS=40 -DMINIPROXY_LWIP_RAW_LISTENERS=8
HOST_SMALL_sockets = -DMINIPROXY_LWIP_SOCKETS_LISTENERS=8
HOST_FLAGS_raw = -DSTACK_SOCKETS=0
HOST_FLAGS_sockets = -DSTACK_SOCKETS=1
# with TLS: for all clients, or for half of the small one's with little memory
HOST_TLS_raw = -DMINIPROXY_TLS_SESSIONS=109
HOST_TLS_sockets = -DMINIPROXY_TLS_SESSIONS=321
HOST_TLS_small = -DMINIPROXY_TLS_SESSIONS=2 -DMINIPROXY_TLS_HANDSHAKE_RAM=14336

# $(1) raw or sockets, $(2) "" or "-small", $(3) "" or "asan/", $(4) with TLS; lwIP itself is compiled without our warnings.
define HOST_PROGRAM
build/host/$(3)miniproxy-$(if $(4),tls-)lwip-$(1)$(2): $(HOST_OWN) $(HOST)/stack_$(1).c port/miniproxy_lwip_$(1).c $(HOST_DESKTOP) \
        build/host/$(3)lwip-$(1)$(2).o $(HOST_HEADERS) $(if $(4),port/miniproxy_tls.c $(TLS_LIB_36_ASAN))
	$$(CC) $$(ALL_CFLAGS) $(if $(3),$$(SANITIZE)) -Wno-pedantic $(HOST_FLAGS_$(1)) $(if $(2),-DSTACK_SMALL=1 $(FLAGS_miniproxy-small) \
	    $(HOST_SMALL_$(1)),$(HOST_SESSIONS_$(1))) -DMINIPROXY_CONFIG='"examples/desktop/config.h"' $(HOST_INCLUDES) \
	    $(if $(4),-DMINIPROXY_WITH_TLS=1 $(HOST_TLS_$(or $(2:-%=%),$(1))) $(TLS_CFLAGS_36)) $$(filter %.c %.o %.a,$$^) \
	    -pthread -o $$@ $$(LDFLAGS)
endef

# $(1) and $(2) likewise, $(3) "" or "asan/"
define HOST_LWIP_OBJECT
build/host/$(3)lwip-$(1)$(2).o: $(LWIP_FETCHED) $(HOST)/lwipopts.h $(HOST)/hooks.h tests/lwip/e2e.mk
	@mkdir -p $$(@D)/lwip-$(1)$(2)
	cd $$(@D)/lwip-$(1)$(2) && for f in $$(filter-out %/memp.c,$$(wildcard $(abspath $(HOST_LWIP))/core/*.c)) \
	    $(abspath $(HOST_LWIP))/core/ipv4/*.c $(abspath $(HOST_LWIP))/core/ipv6/*.c \
	    $(if $(filter sockets,$(1)),$(abspath $(HOST_LWIP))/api/*.c) $(abspath $(HOST_LWIP))/netif/ethernet.c \
	    $(abspath $(LWIP_DIR))/contrib/ports/unix/port/sys_arch.c; do \
	    $$(CC) -std=gnu11 -w $$(CFLAGS) $(if $(3),$$(SANITIZE)) $(HOST_FLAGS_$(1)) $(if $(2),-DSTACK_SMALL=1) \
	        -I$(CURDIR)/$(HOST) -I$(abspath $(HOST_LWIP))/include \
	        -I$(abspath $(LWIP_DIR))/contrib/ports/unix/port/include -c $$$$f || exit 1; done
	ld -r -o $$@ $$(@D)/lwip-$(1)$(2)/*.o
endef
$(foreach stack,$(HOST_STACKS),$(foreach small,/ -small,$(foreach asan,/ asan/, \
    $(eval $(call HOST_LWIP_OBJECT,$(stack),$(small:/=),$(filter-out /,$(asan)))) \
    $(eval $(call HOST_PROGRAM,$(stack),$(small:/=),$(filter-out /,$(asan)))))))
$(foreach stack,$(HOST_STACKS),$(foreach small,/ -small,$(eval $(call HOST_PROGRAM,$(stack),$(small:/=),asan/,tls))))

HOST_E2E = $(HOST_STACKS:%=e2e-lwip-%)
SUITES += $(HOST_E2E) $(HOST_STACKS:%=hostile-lwip-%)
# With the sanitizers in a whole stack everything takes longer; what they keep of freed memory is not the program's.
HOST_ENVIRONMENT = ASAN_OPTIONS=quarantine_size_mb=4 MINIPROXY_PATIENCE=20 MINIPROXY_TEST_SECONDS=150 \
                   MINIPROXY_STACK=lwip-$(1) MINIPROXY_BIN=$(CURDIR)/build/host/asan/miniproxy-$(2)lwip-$(1) \
                   MINIPROXY_SMALL_BIN=$(CURDIR)/build/host/asan/miniproxy-$(2)lwip-$(1)-small

$(HOST_STACKS:%=run-e2e-lwip-%): run-e2e-lwip-%: build/host/asan/miniproxy-lwip-% build/host/asan/miniproxy-lwip-%-small
	@MINIPROXY_SUITE=e2e-lwip-$* $(call HOST_ENVIRONMENT,$*) \
	    $(SUITE) e2e-lwip-$* 2400 $(PYTHON) -m pytest -q tests/e2e

$(HOST_STACKS:%=run-hostile-lwip-%): run-hostile-lwip-%: build/host/asan/miniproxy-lwip-% \
                                     build/host/asan/miniproxy-lwip-%-small
	@MINIPROXY_SUITE=hostile-lwip-$* $(call HOST_ENVIRONMENT,$*) \
	    $(SUITE) hostile-lwip-$* $$(($(SECONDS) + 120)) $(PYTHON) tests/e2e/hostile.py $(SECONDS)

# All tests of TLS itself, and of the others those in which a message or a stream has to keep its form on its way from and
# to a client, which reaches the proxy by TLS.
HOST_TLS_E2E = $(HOST_STACKS:%=e2e-tls-lwip-%)
SUITES += $(HOST_TLS_E2E)
HOST_TLS_TESTS = $(addprefix tests/e2e/test_, tls.py forwarding.py framing.py tunnels.py)
$(HOST_TLS_E2E:%=run-%): run-e2e-tls-lwip-%: build/host/asan/miniproxy-tls-lwip-% build/host/asan/miniproxy-tls-lwip-%-small
	@MINIPROXY_SUITE=e2e-tls-lwip-$* MINIPROXY_OVER_TLS=1 MINIPROXY_TLS="1.2 1.3" $(call HOST_ENVIRONMENT,$*,tls-) \
	    MINIPROXY_TLS_SMALL_BIN=$(CURDIR)/build/host/asan/miniproxy-tls-lwip-$*-small \
	    $(SUITE) e2e-tls-lwip-$* 900 $(PYTHON) -m pytest -q $(HOST_TLS_TESTS)

SUITES += $(HOST_STACKS:%=tls-chromium-lwip-%)
$(HOST_STACKS:%=run-tls-chromium-lwip-%): run-tls-chromium-lwip-%: build/host/asan/miniproxy-tls-lwip-%
	@$(call HOST_ENVIRONMENT,$*,tls-) $(SUITE) tls-chromium-lwip-$* 300 $(PYTHON) tests/tls/chromium.py tls-chromium-lwip-$* \
	    $(CURDIR)/$<

.PHONY: stacks
stacks:
	@$(PYTHON) tests/tools/stacks.py
