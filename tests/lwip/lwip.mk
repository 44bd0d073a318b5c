# SPDX-License-Identifier: MIT
#
# Tests of the ports on lwIP, on this machine. lwIP comes from LWIP_DIR.

LWIP_CORE = $(addprefix $(abspath $(LWIP_DIR))/src/core/, def.c dns.c inet_chksum.c init.c ip.c mem.c memp.c netif.c \
            pbuf.c stats.c tcp.c tcp_in.c tcp_out.c timeouts.c udp.c ipv4/icmp.c ipv4/ip4.c ipv4/ip4_addr.c ipv6/icmp6.c \
            ipv6/inet6.c ipv6/ip6.c ipv6/ip6_addr.c ipv6/nd6.c)

# ---- The raw API: two stacks in one program, the port's under test and that of its peers

# variants of the stack under test: with limits, IPv4 alone in as little memory as goes, from malloc so that the
# sanitizer sees what is used after it was freed, without zero-copy
LWIP_RAW_VARIANTS = default small malloc copy
LWIP_RAW_FLAGS_small = -DTEST_SMALL -DLWIP_IPV6=0 -DMINIPROXY_WITH_IPV6=0
LWIP_RAW_FLAGS_malloc = -DMEM_LIBC_MALLOC=1 -DMEMP_MEM_MALLOC=1 -DTCP_QUEUE_OOSEQ=1
LWIP_RAW_FLAGS_copy = -DMINIPROXY_LWIP_RAW_RELAY=0
LWIP_RAW_SUITES = $(LWIP_RAW_VARIANTS:%=port-lwip-raw-%) $(LWIP_RAW_VARIANTS:%=lwip-raw-own-%)
SUITES += $(LWIP_RAW_SUITES)

LWIP_RAW = tests/lwip/raw
LWIP_RAW_OUT = build/lwip-raw
LWIP_RAW_INCLUDES = -I. -I$(LWIP_RAW) -isystem $(LWIP_DIR)/src/include
LWIP_RAW_HEADERS = $(wildcard $(LWIP_RAW)/*.h $(LWIP_RAW)/*/*.h tests/port/*.h port/miniproxy_lwip_raw.h) miniproxy.h \
                   Makefile tests/lwip/lwip.mk
LWIP_RAW_CONFIG = -DMINIPROXY_CONFIG='"tests/lwip/raw/config.h"'
LWIP_RAW_WORLD = examples/firmware/guard.c $(LWIP_RAW)/wire.c $(LWIP_RAW)/raw_world.c \
    tests/port/conformance.c port/miniproxy_lwip_raw.c

# what is not ours is compiled without our warnings
lwip_compile = mkdir -p $@.d && cd $@.d && \
    $(CC) -std=c11 -w $(SANITIZE) $(1) -isystem $(abspath $(LWIP_DIR))/src/include -c $(LWIP_CORE)

$(LWIP_RAW_VARIANTS:%=$(LWIP_RAW_OUT)/stack-%.o): $(LWIP_RAW_OUT)/stack-%.o: $(LWIP_FETCHED) $(LWIP_RAW)/lwipopts.h \
        $(LWIP_RAW)/arch/cc.h tests/lwip/lwip.mk
	$(call lwip_compile,$(LWIP_RAW_FLAGS_$*) -I$(CURDIR)/$(LWIP_RAW))
	ld -r -o $@ $@.d/*.o

$(LWIP_RAW_OUT)/peer.o: $(LWIP_FETCHED) $(wildcard $(LWIP_RAW)/peer/*) $(LWIP_RAW)/arch/cc.h miniproxy.h \
        tests/lwip/lwip.mk
	$(call lwip_compile,-I$(CURDIR)/$(LWIP_RAW)/peer -I$(CURDIR)/$(LWIP_RAW))
	$(CC) $(ALL_CFLAGS) $(SANITIZE) $(LWIP_RAW_CONFIG) -I$(LWIP_RAW)/peer $(LWIP_RAW_INCLUDES) \
	    -c $(LWIP_RAW)/peer/peer.c -o $@.d/peer.o
	ld -r -o $@ $@.d/*.o
	objcopy --wildcard --keep-global-symbol='peer_*' $@

lwip_raw_link = $(CC) $(ALL_CFLAGS) $(SANITIZE) $(LWIP_RAW_CONFIG) $(LWIP_RAW_FLAGS_$*) $(LWIP_RAW_INCLUDES) \
    $(filter %.c %.o,$^) -o $@

$(LWIP_RAW_VARIANTS:%=$(LWIP_RAW_OUT)/port-%): $(LWIP_RAW_OUT)/port-%: $(LWIP_RAW)/raw_test.c $(LWIP_RAW_WORLD) \
        $(LWIP_RAW_OUT)/stack-%.o $(LWIP_RAW_OUT)/peer.o $(LWIP_RAW_HEADERS)
	$(lwip_raw_link)
$(LWIP_RAW_VARIANTS:%=$(LWIP_RAW_OUT)/own-%): $(LWIP_RAW_OUT)/own-%: $(LWIP_RAW)/own_test.c $(LWIP_RAW_WORLD) \
        $(LWIP_RAW_OUT)/stack-%.o $(LWIP_RAW_OUT)/peer.o $(LWIP_RAW_HEADERS)
	$(lwip_raw_link)

$(LWIP_RAW_VARIANTS:%=run-port-lwip-raw-%): run-port-lwip-raw-%: $(LWIP_RAW_OUT)/port-%
	@$(SUITE) port-lwip-raw-$* 600 $< port-lwip-raw-$* build/results/port-lwip-raw-$*.tsv
$(LWIP_RAW_VARIANTS:%=run-lwip-raw-own-%): run-lwip-raw-own-%: $(LWIP_RAW_OUT)/own-%
	@$(SUITE) lwip-raw-own-$* 600 $< lwip-raw-own-$* build/results/lwip-raw-own-$*.tsv

lwip-raw: $(LWIP_RAW_SUITES:%=run-%)
.PHONY: lwip-raw

# ---- Sockets: lwIP's unix port, its thread and its core lock; then without that lock, as on some boards, and by select

LWIP_SOCKETS_TESTS = port-lwip-poll port-lwip-select
SUITES += $(LWIP_SOCKETS_TESTS)

LWIP_SOCKETS = tests/lwip/sockets
LWIP_SOCKETS_OUT = build/lwip-sockets
FLAGS_port-lwip-poll = -DWORLD_SUITE='"poll"' -DWORLD_CORE_LOCKING=1
FLAGS_port-lwip-select = -DWORLD_SUITE='"select"' -DWORLD_CORE_LOCKING=0 -DWORLD_FULLDUPLEX=1 -DLWIP_COMPAT_SOCKETS=1 \
                         -DMINIPROXY_LWIP_SOCKETS_SELECT=1
LWIP_SOCKETS_INCLUDES = -I$(LWIP_SOCKETS) -isystem $(LWIP_DIR)/src/include \
                        -isystem $(LWIP_DIR)/contrib/ports/unix/port/include
LWIP_SOCKETS_SOURCES = $(LWIP_SOCKETS)/sockets_test.c $(LWIP_SOCKETS)/world.c tests/port/conformance.c \
                       port/miniproxy_lwip_sockets.c
LWIP_SOCKETS_HEADERS = $(wildcard $(LWIP_SOCKETS)/*.h tests/port/*.h) port/miniproxy_lwip_sockets.h miniproxy.h \
                       Makefile tests/lwip/lwip.mk
LWIP_THREADED = $(wildcard $(addprefix $(abspath $(LWIP_DIR))/,src/core/*.c src/core/ipv4/*.c src/core/ipv6/*.c \
                src/api/*.c src/netif/ethernet.c contrib/ports/unix/port/sys_arch.c))

$(LWIP_SOCKETS_TESTS:%=$(LWIP_SOCKETS_OUT)/%.o): $(LWIP_SOCKETS_OUT)/%.o: $(LWIP_FETCHED) $(LWIP_SOCKETS)/lwipopts.h \
                                                                       tests/lwip/lwip.mk
	@mkdir -p $(LWIP_SOCKETS_OUT)/$*-lwip
	cd $(LWIP_SOCKETS_OUT)/$*-lwip && for f in $(LWIP_THREADED); do \
	    $(CC) -w -D_GNU_SOURCE $(SANITIZE) $(FLAGS_$*) -I$(CURDIR)/$(LWIP_SOCKETS) -I$(abspath $(LWIP_DIR))/src/include \
	        -I$(abspath $(LWIP_DIR))/contrib/ports/unix/port/include -c $$f || exit 1; done
	ld -r -o $@ $(LWIP_SOCKETS_OUT)/$*-lwip/*.o

$(LWIP_SOCKETS_TESTS:%=$(LWIP_SOCKETS_OUT)/%): $(LWIP_SOCKETS_OUT)/%: $(LWIP_SOCKETS_OUT)/%.o $(LWIP_SOCKETS_SOURCES) \
                                               $(LWIP_SOCKETS_HEADERS)
	$(CC) $(ALL_CFLAGS) $(SANITIZE) -D_GNU_SOURCE $(FLAGS_$*) -DMINIPROXY_CONFIG='"$(LWIP_SOCKETS)/config.h"' \
	    $(LWIP_SOCKETS_INCLUDES) $(LWIP_SOCKETS_SOURCES) $< -pthread -lrt -o $@

$(LWIP_SOCKETS_TESTS:%=run-%): run-%: $(LWIP_SOCKETS_OUT)/%
	@$(SUITE) $* 600 $< build/results/$*.tsv $(SEED)

# Which configurations of lwIP the port takes, and what it says of others
SUITES += lwip-configs
run-lwip-configs: $(LWIP_FETCHED)
	@$(SUITE) lwip-configs 900 $(PYTHON) tests/lwip/configs/check.py $(LWIP_DIR)
