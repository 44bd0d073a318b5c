# SPDX-License-Identifier: MIT
#
# Included by Makefile, after examples/firmware/firmware.mk. The end-to-end tests against firmware in the emulator: images
# with the product's start-up, drivers, lwIP and ports, and the desktop's command line.
#
#   make run-e2e-lm3s-raw run-e2e-lm3s-sockets run-e2e-mps2-raw run-e2e-mps2-sockets

IMAGE = tests/firmware/image
IMAGE_OUT = build/firmware-test
IMAGE_BOARD_lm3s = lm3s6965
IMAGE_BOARD_mps2 = mps2_an385
IMAGE_TINY_lm3s = 1
IMAGE_TINY_mps2 = 0
IMAGE_STACK_lm3s = 3072
IMAGE_STACK_mps2 = 32768

# ---- Sources. The program depends on board, API and size, lwIP on the first two alone.

IMAGE_PROGRAM = $(addprefix $(FIRMWARE)/,startup.c cpu.c random.c net.c guard.c console.c) \
    $(addprefix $(IMAGE)/,entry.c posix.c syscalls.c device.c link.c no_policy.c) miniproxy.c port/miniproxy_sha256.c \
    port/miniproxy_log.c port/miniproxy_watch.c tests/lwip/desktop/shim.c tests/lwip/desktop/net.c \
    $(addprefix examples/desktop/,main.c worker.c options.c nets.c parents.c policy.c users.c log.c alerts.c tls.c tls_cert.c)
IMAGE_PROGRAM_raw = port/miniproxy_lwip_raw.c
IMAGE_PROGRAM_sockets = $(FIRMWARE)/sys_arch.c port/miniproxy_lwip_sockets.c
IMAGE_LWIP = $(filter-out core/ipv4/dhcp.c,$(FIRMWARE_LWIP)) \
    $(addprefix core/ipv6/,ethip6.c icmp6.c inet6.c ip6.c ip6_addr.c ip6_frag.c nd6.c)

# ---- Flags. The desktop's log.c and policy.c are not the product's.

IMAGE_CFLAGS = -std=c11 -mcpu=cortex-m3 -mthumb -Os -g -ffunction-sections -fdata-sections -fno-common \
    -I$(IMAGE) -I$(IMAGE)/posix -Itests/lwip/desktop -I. -I$(FIRMWARE) -Iexamples/desktop \
    -isystem $(LWIP_DIR)/src/include -D_POSIX_C_SOURCE=200809L -D_POSIX_TIMERS -D_POSIX_MONOTONIC_CLOCK -Dgetline=__getline \
    -DMINIPROXY_CONFIG='"tests/firmware/image/config.h"' -DFIRMWARE_SEMIHOSTING=1 -DFIRMWARE_ADDRESS='"0.0.0.0"' \
    -DFIRMWARE_NETMASK='"0.0.0.0"' -DFIRMWARE_GATEWAY='"0.0.0.0"' -DFIRMWARE_DNS='"0.0.0.0"'
IMAGE_CFLAGS_raw = -DNO_SYS=1
IMAGE_CFLAGS_sockets = -DNO_SYS=0 -DFD_SETSIZE=320

# ---- An image: $1 name, $2 board, $3 API, $4 "small" or nothing

define IMAGE_LWIP_RULES
$(IMAGE_OUT)/$1-$2/lwip/%.o: $(LWIP_DIR)/src/%.c $(IMAGE)/lwipopts.h $(IMAGE)/config.h $(FIRMWARE)/lwipopts.h | firmware-tools
	@mkdir -p $$(@D)
	@$(CROSS)gcc $$(IMAGE_CFLAGS) $$(IMAGE_CFLAGS_$2) -DIMAGE_TINY=$$(IMAGE_TINY_$1) -DIMAGE_SMALL=0 -MD -c $$< -o $$@
endef

define IMAGE_RULES
IMAGE_OBJECTS_$1 = $$(patsubst %.c,$(IMAGE_OUT)/$1/%.o,$(IMAGE_PROGRAM) $(IMAGE_PROGRAM_$3) \
    $(call FIRMWARE_OWN_board,$(IMAGE_BOARD_$2)))
IMAGE_LWIP_OBJECTS_$1 = $$(patsubst %.c,$(IMAGE_OUT)/$2-$3/lwip/%.o,$(IMAGE_LWIP) $(FIRMWARE_LWIP_$3))
$(IMAGE_OUT)/$1/%.o: %.c tests/firmware/e2e.mk | firmware-tools $(LWIP_FETCHED)
	@mkdir -p $$(@D)
	@$(CROSS)gcc $$(IMAGE_CFLAGS) $$(WARNINGS) $$(IMAGE_CFLAGS_$3) -DIMAGE_TINY=$$(IMAGE_TINY_$2) \
	    -DIMAGE_SMALL=$(if $4,1,0) $$(if $$(findstring desktop/main.c,$$<),-Dmain=desktop_main -Dopen_memstream=posix_open_stderr) -MD -c $$< -o $$@
$(IMAGE_OUT)/bin/$1.elf: $$(IMAGE_OBJECTS_$1) $$(IMAGE_LWIP_OBJECTS_$1) $(FIRMWARE)/common.ld $(IMAGE)/$2.ld
	@mkdir -p $$(@D)
	@$(CROSS)gcc -mcpu=cortex-m3 -mthumb -nostartfiles -L$(FIRMWARE) -Wl,--gc-sections -Wl,-Map=$(IMAGE_OUT)/$1.map \
	    -Wl,--defsym=STACK_SIZE=$(IMAGE_STACK_$2) -T $(IMAGE)/$2.ld $$(IMAGE_OBJECTS_$1) $$(IMAGE_LWIP_OBJECTS_$1) \
	    -u _printf_float -Wl,--wrap=ethernet_receive,--wrap=ethernet_pending,--wrap=cpu_sleep -o $$@
$(IMAGE_OUT)/bin/$1: $(IMAGE_OUT)/launcher $(IMAGE_OUT)/bin/$1.elf
	@rm -f $$@ && cp $$< $$@
-include $$(IMAGE_OBJECTS_$1:%.o=%.d)
endef

IMAGES = $(foreach b,lm3s mps2,$(foreach a,raw sockets,$b-$a $b-$a-small))
$(foreach b,lm3s mps2,$(foreach a,raw sockets,$(eval $(call IMAGE_LWIP_RULES,$b,$a))))
$(foreach i,$(IMAGES),$(eval $(call \
    IMAGE_RULES,$i,$(call FIRMWARE_PART,$i,1),$(call FIRMWARE_PART,$i,2),$(call FIRMWARE_PART,$i,3))))

$(IMAGE_OUT)/launcher: tests/firmware/launcher.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $< -o $@

# ---- Suites

IMAGE_SUITES = e2e-lm3s-raw e2e-lm3s-sockets e2e-mps2-raw e2e-mps2-sockets
SUITES += $(IMAGE_SUITES)

.PHONY: firmware-e2e
firmware-e2e: $(IMAGE_SUITES:%=run-%)

$(foreach s,$(IMAGE_SUITES),$(eval run-$s: $(s:e2e-%=$(IMAGE_OUT)/bin/%) $(s:e2e-%=$(IMAGE_OUT)/bin/%-small)))
$(IMAGE_SUITES:%=run-%): run-e2e-%:
	@MINIPROXY_SUITE=e2e-$* MINIPROXY_STACK=$* MINIPROXY_BIN=$(CURDIR)/$(IMAGE_OUT)/bin/$* \
	    MINIPROXY_PATIENCE=40 MINIPROXY_TEST_SECONDS=240 \
	    MINIPROXY_SMALL_BIN=$(CURDIR)/$(IMAGE_OUT)/bin/$*-small \
	    $(SUITE) e2e-$* 1800 $(PYTHON) -m pytest -q tests/e2e

# Small pools, a bad cable, attackers; on both APIs at the same time. In `make test` for a minute, `make abuse` until the
# proxy has accepted 100,000 connections on each, at least for LONG_SECONDS.

.PHONY: abuse
ABUSE_IMAGES = $(IMAGE_OUT)/bin/lm3s-raw $(IMAGE_OUT)/bin/lm3s-sockets
ABUSE_SECONDS ?= 60
SUITES += abuse

run-abuse: $(ABUSE_IMAGES)
	@MINIPROXY_SUITE=abuse $(SUITE) abuse $$(($(ABUSE_SECONDS) + 900)) $(PYTHON) tests/firmware/abuse.py $(ABUSE_SECONDS) 0 \
	    $(SEED)

abuse: $(ABUSE_IMAGES)
	@MINIPROXY_SUITE=abuse-long $(SUITE) abuse-long 20000 $(PYTHON) tests/firmware/abuse.py $(or $(LONG_SECONDS),60) \
	    $(or $(CONNECTIONS),100000) $(SEED); status=$$?; cat build/log/abuse-long.log; exit $$status
