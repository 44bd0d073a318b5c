# SPDX-License-Identifier: MIT
#
# Included by Makefile. Firmware for two boards that qemu-system-arm emulates, on lwIP's raw API and on its sockets:
#
#   make firmware       four images, build/firmware/BOARD-API.elf, and their flash and RAM
#   make firmware-run   one of them in the emulator: its proxy at 127.0.0.1:3128 (PORT=), its console on the terminal
#   make firmware-ram   images for 4, 8 and 16 sessions in little RAM, and what takes it
#   make firmware-bench   throughput, side by side with a bare echo and a bare relay on the same image
#   make firmware-bench-tls   instructions of handshakes and for each octet, with TLS and without
#
# The policy is text, examples/policy/site.policy, which `build/miniproxy policy compile` makes C of: see POLICY below.
#
# FIRMWARE_SYSLOG=ADDRESS names a syslog server, LWIP_DIR= another lwIP, CROSS= another toolchain, FIRMWARE_FLAGS= further flags (-DFIRMWARE_ADDRESS='"…"').

.PHONY: firmware firmware-images firmware-tools firmware-run firmware-ram firmware-bench firmware-bench-tls firmware-ca

comma = ,

FIRMWARE = examples/firmware
FIRMWARE_OUT = build/firmware
CROSS ?= arm-none-eabi-
QEMU ?= qemu-system-arm
PORT ?= 3128

FIRMWARE_IMAGES = lm3s6965-raw lm3s6965-sockets mps2_an385-raw mps2_an385-sockets
FIRMWARE_TIGHT_IMAGES = lm3s6965-raw-4 lm3s6965-raw-8 lm3s6965-raw-16
# with console commands that make it fail
FIRMWARE_TEST_IMAGES = lm3s6965-raw-test mps2_an385-raw-test
# with a policy of the tests, twice: its list of names is in a flash partition, and there are two of these
FIRMWARE_WIRE_IMAGES = lm3s6965-raw-wire
# with another one, whose ways lead through parents
FIRMWARE_ROUTES_IMAGES = lm3s6965-raw-routes
# with a syslog server: the machine that runs the emulator
FIRMWARE_SYSLOG_IMAGES = lm3s6965-raw-syslog lm3s6965-sockets-syslog
# with TLS for clients on a second port, and some for origins: FIRMWARE_CLIENT_IMAGES. In the emulator alone: their random
# numbers come from the machine that runs it.
FIRMWARE_TLS_IMAGES = lm3s6965-raw-tls lm3s6965-sockets-tls mps2_an385-raw-tls mps2_an385-sockets-tls
# and where there is no source of them
FIRMWARE_WEAK_IMAGES = lm3s6965-raw-weak mps2_an385-sockets-weak
# those of them that speak TLS with origins, too
FIRMWARE_CLIENT_IMAGES = mps2_an385-raw-tls mps2_an385-raw-tlsbench
FIRMWARE_BENCH_IMAGES = lm3s6965-raw-bench mps2_an385-raw-bench
FIRMWARE_TLS_BENCH_IMAGES = lm3s6965-raw-tlsbench mps2_an385-raw-tlsbench

# ---- Sources

FIRMWARE_OWN = $(addprefix $(FIRMWARE)/,startup.c cpu.c console.c random.c net.c guard.c log.c logins.c syslog.c) \
    miniproxy.c port/miniproxy_sha256.c
# FIRMWARE_SYSLOG=ADDRESS: what is logged goes there too, and alerts
FIRMWARE_LOG = port/miniproxy_log.c port/miniproxy_watch.c
FIRMWARE_OWN += $(if $(FIRMWARE_SYSLOG),$(FIRMWARE_LOG))
FIRMWARE_OWN_raw = $(FIRMWARE)/main.c port/miniproxy_lwip_raw.c
FIRMWARE_OWN_sockets = $(addprefix $(FIRMWARE)/,main_sockets.c sys_arch.c) port/miniproxy_lwip_sockets.c
FIRMWARE_OWN_board = $(addprefix $(FIRMWARE)/boards/,$1/board.c $1/ethernet.c)
FIRMWARE_LWIP = $(addprefix core/,def.c dns.c inet_chksum.c init.c ip.c mem.c memp.c netif.c pbuf.c stats.c sys.c \
    tcp.c tcp_in.c tcp_out.c timeouts.c udp.c ipv4/dhcp.c ipv4/etharp.c ipv4/icmp.c ipv4/ip4.c ipv4/ip4_addr.c) \
    netif/ethernet.c
FIRMWARE_LWIP_sockets = $(addprefix api/,api_lib.c api_msg.c err.c netbuf.c netdb.c sockets.c tcpip.c)

# ---- Flags

FIRMWARE_CFLAGS = -std=c11 -mcpu=cortex-m3 -mthumb -Os -g -ffunction-sections -fdata-sections -fno-common \
    -fcallgraph-info=su --specs=nano.specs -I. -I$(FIRMWARE) -isystem $(LWIP_DIR)/src/include -DMINIPROXY_CONFIG='"config.h"' \
    -DFIRMWARE_SEMIHOSTING=0 $(if $(FIRMWARE_SYSLOG),-DFIRMWARE_SYSLOG='"$(FIRMWARE_SYSLOG)"') $(FIRMWARE_FLAGS)
FIRMWARE_CFLAGS_raw = -DNO_SYS=1
FIRMWARE_CFLAGS_sockets = -DNO_SYS=0
FIRMWARE_CFLAGS_test = -UFIRMWARE_SEMIHOSTING -DFIRMWARE_SEMIHOSTING=1 -DFIRMWARE_TEST=1
FIRMWARE_CFLAGS_4 = -DFIRMWARE_TIGHT=1 -DMINIPROXY_SESSIONS=4
FIRMWARE_CFLAGS_8 = -DFIRMWARE_TIGHT=1 -DMINIPROXY_SESSIONS=8
FIRMWARE_CFLAGS_16 = -DFIRMWARE_TIGHT=1 -DMINIPROXY_SESSIONS=16
FIRMWARE_OWN_tls = $(FIRMWARE)/tls.c port/miniproxy_tls.c $(FIRMWARE_OUT)/certificate.c
FIRMWARE_CFLAGS_tls = -DMINIPROXY_WITH_TLS=1 -UFIRMWARE_SEMIHOSTING -DFIRMWARE_SEMIHOSTING=1 -DFIRMWARE_HOST_RANDOM=1 \
    $(TLS_CFLAGS_M3)
# in 64 KB tight, but for heads as long as without TLS, and for what is sent by TLS: all of it is copied
FIRMWARE_CFLAGS_tls_lm3s6965 = -DFIRMWARE_TIGHT=1 -DMINIPROXY_SESSIONS=8 -DMINIPROXY_BUFFER_SIZE=2560 -DMEM_SIZE=4096
FIRMWARE_CFLAGS_tls_mps2_an385 = -DMINIPROXY_SESSIONS=20 -DMINIPROXY_TLS_SESSIONS=16
FIRMWARE_LIBS_tls = $(TLS_LIB_M3)
FIRMWARE_OWN_weak = $(FIRMWARE_OWN_tls)
FIRMWARE_CFLAGS_weak = $(FIRMWARE_CFLAGS_tls) -UFIRMWARE_HOST_RANDOM
FIRMWARE_LIBS_weak = $(FIRMWARE_LIBS_tls)
# with counters of what TLS costs
FIRMWARE_OWN_tlsbench = $(FIRMWARE_OWN_tls) tests/bench/firmware/tls.c
FIRMWARE_CFLAGS_tlsbench = $(FIRMWARE_CFLAGS_tls)
FIRMWARE_LIBS_tlsbench = $(FIRMWARE_LIBS_tls)
FIRMWARE_LDFLAGS_tlsbench = $(addprefix -Wl$(comma)--wrap=,cpu_sleep net_poll mbedtls_ssl_handshake_step miniproxy_tls_init \
    tls_counters)
$(foreach v,weak tlsbench,$(foreach b,lm3s6965 mps2_an385,$(eval FIRMWARE_CFLAGS_$v_$b = $(FIRMWARE_CFLAGS_tls_$b))))
# what images have of their own, by their whole names
define FIRMWARE_CLIENT
FIRMWARE_OWN_$1 = $(FIRMWARE_OUT)/authorities.c
FIRMWARE_CFLAGS_$1 = -DFIRMWARE_TLS_CLIENT=1
FIRMWARE_LIBS_$1 = $(TLS_LIB_M3_CLIENT)
# mbedTLS 2.28 uses 3,376
FIRMWARE_STACK_$1 = 4608
endef
$(foreach i,$(FIRMWARE_CLIENT_IMAGES),$(eval $(call FIRMWARE_CLIENT,$i)))
# with an echo and a relay beside the proxy, to compare with
FIRMWARE_OWN_bench = tests/bench/firmware/bare.c
FIRMWARE_CFLAGS_bench = -DMEMP_NUM_TCP_PCB_LISTEN=3
FIRMWARE_LDFLAGS_bench = -Wl,--wrap=lwip_init
FIRMWARE_OWN_syslog = $(if $(FIRMWARE_SYSLOG),,$(FIRMWARE_LOG))
FIRMWARE_CFLAGS_syslog = -UFIRMWARE_SYSLOG -DFIRMWARE_SYSLOG='"10.0.2.2"' -DFIRMWARE_SYSLOG_PORT=5514
# Octets of stack: the deepest use that was measured and a third more, which also covers an interrupt at that moment
# (72). tests/firmware/boot.py fails if less is left.
FIRMWARE_STACK = 1536
$(foreach n,4 8 16,$(eval FIRMWARE_STACK_$n = 1216))
FIRMWARE_STACK_tls = 2304
FIRMWARE_STACK_weak = $(FIRMWARE_STACK_tls)
FIRMWARE_STACK_tlsbench = $(FIRMWARE_STACK_tls)

# ---- Policy
#
# A program of this machine, build/miniproxy, turns the text into tables that go to flash, and the compiler says which
# options of config.h they need. FIRMWARE_POLICY= names another text. Without this makefile the step is
#
#   miniproxy policy compile site.policy --name policy --hits -o site_policy.c
#
# and site_policy.c goes into the build, with miniproxy.h and config.h as for miniproxy.c.

FIRMWARE_POLICY = examples/policy/site.policy
$(foreach n,4 8 16 tls_lm3s6965 weak_lm3s6965 tlsbench_lm3s6965,$(eval FIRMWARE_POLICY_$n = examples/policy/tight.policy))
FIRMWARE_POLICY_wire = tests/firmware/wire.policy
FIRMWARE_POLICY_routes = tests/firmware/routes.policy
FIRMWARE_CFLAGS_routes = -DMINIPROXY_WITH_ROUTES=1
FIRMWARE_POLICIES = $(sort $(FIRMWARE_POLICY) $(foreach n,4 8 16 wire routes,$(FIRMWARE_POLICY_$n)))
FIRMWARE_TABLES = $(patsubst %.policy,$(FIRMWARE_OUT)/%_policy.c,$(notdir $1))

# A list of names that is updated without the program stays out of the tables: --blob SET=FILE. The linker is told where
# it is, the compiler how much room there is, and FILE is what goes there.
FIRMWARE_OWN_wire = tests/firmware/update.c $(FIRMWARE_OUT)/wire_b_policy.c
FIRMWARE_CFLAGS_wire = -DPOLICY_ADS_ROOM=0x1000 -DPOLICY_B_ADS_ROOM=0x1000
FIRMWARE_LDFLAGS_wire = -Wl,--defsym=policy_ads_blob=0x3e000,--defsym=policy_b_ads_blob=0x3f000 \
    -Wl,--wrap=miniproxy_init,--wrap=board_uart_get
FIRMWARE_BLOBS_wire = --blob ads=$(FIRMWARE_OUT)/wire_ads.bin

$(FIRMWARE_OUT)/wire_b_policy.c: build/miniproxy tests/firmware/wire.policy $(wildcard examples/policy/*)
	@mkdir -p $(@D)
	@build/miniproxy policy compile tests/firmware/wire.policy --name policy_b --hits $(FIRMWARE_BLOBS_wire) -o $@

define FIRMWARE_COMPILE_POLICY
$(call FIRMWARE_TABLES,$1): build/miniproxy $1 $$(wildcard $(dir $1)*)
	@mkdir -p $$(@D)
	@build/miniproxy policy compile $1 --name policy --hits $$(FIRMWARE_BLOBS_$(notdir $(basename $1))) -o $$@
endef
$(foreach p,$(FIRMWARE_POLICIES),$(eval $(call FIRMWARE_COMPILE_POLICY,$p)))

# ---- The certificate of the TLS image: self-signed, made once in each build directory

FIRMWARE_TLS_NAMES = IP:127.0.0.1,DNS:localhost,DNS:miniproxy
$(FIRMWARE_OUT)/certificate.c: $(FIRMWARE)/certificate.sh
	@mkdir -p $(@D)
	@sh $< own $@ $(FIRMWARE_TLS_NAMES) 2>$(@D)/certificate.log || { cat $(@D)/certificate.log >&2; exit 1; }

# ---- Whom origins must have their certificates from: FIRMWARE_CA=FILE.pem, or several, with one certificate or many in
# each. Without it two authorities that the tests know the keys of, made as the certificate above is.

FIRMWARE_CA = $(FIRMWARE_OUT)/authority_ec.pem $(FIRMWARE_OUT)/authority_rsa.pem
$(FIRMWARE_OUT)/authority_%.pem: $(FIRMWARE)/certificate.sh
	@mkdir -p $(@D)
	@sh $< authority $@ $* 2>$(@:.pem=.log) || { cat $(@:.pem=.log) >&2; exit 1; }

$(FIRMWARE_OUT)/authorities.c: $(FIRMWARE)/certificate.sh $(FIRMWARE_CA) $(FIRMWARE_OUT)/authorities.names
	@sh $< trust $@ $(FIRMWARE_CA)
# other files than last time
$(FIRMWARE_OUT)/authorities.names: firmware-ca
	@mkdir -p $(@D)
	@echo '$(FIRMWARE_CA)' | cmp -s - $@ || echo '$(FIRMWARE_CA)' >$@
firmware-ca:

# ---- An image: $1 name, $2 board, $3 API, $4 variant or nothing

define FIRMWARE_IMAGE
FIRMWARE_OBJECTS_$1 = $$(patsubst %.c,$(FIRMWARE_OUT)/$1/%.o,$(FIRMWARE_OWN) $(FIRMWARE_OWN_$3) $(FIRMWARE_OWN_$4) \
    $(FIRMWARE_OWN_$1) $$(call FIRMWARE_TABLES,$$(or $$(FIRMWARE_POLICY_$4_$2),$$(FIRMWARE_POLICY_$4),$$(FIRMWARE_POLICY))) \
    $(call FIRMWARE_OWN_board,$2) $(addprefix lwip/,$(FIRMWARE_LWIP) $(FIRMWARE_LWIP_$3)))
FIRMWARE_CFLAGS_of_$1 = $$(FIRMWARE_CFLAGS_$3) $$(FIRMWARE_CFLAGS_$4) $$(FIRMWARE_CFLAGS_$4_$2) $$(FIRMWARE_CFLAGS_$1)
FIRMWARE_LIBS_of_$1 = $(or $(FIRMWARE_LIBS_$1),$(FIRMWARE_LIBS_$4))
FIRMWARE_STACK_of_$1 = $$(or $$(FIRMWARE_STACK_$1),$$(FIRMWARE_STACK_$4),$$(FIRMWARE_STACK))
$(FIRMWARE_OUT)/$1/lwip/%.o: $(LWIP_DIR)/src/%.c
	@mkdir -p $$(@D)
	@$(CROSS)gcc $$(FIRMWARE_CFLAGS) $$(FIRMWARE_CFLAGS_of_$1) -MD -c $$< -o $$@
$(FIRMWARE_OUT)/$1/%.o: %.c $(FIRMWARE)/firmware.mk
	@mkdir -p $$(@D)
	@$(CROSS)gcc $$(FIRMWARE_CFLAGS) $$(WARNINGS) $$(FIRMWARE_CFLAGS_of_$1) -MD -c $$< -o $$@
$(FIRMWARE_OUT)/$1.elf: $$(FIRMWARE_OBJECTS_$1) $$(FIRMWARE_LIBS_of_$1) $(FIRMWARE)/common.ld $(FIRMWARE)/boards/$2/memory.ld
	@$(CROSS)gcc -mcpu=cortex-m3 -mthumb --specs=nano.specs -nostartfiles -L$(FIRMWARE) -Wl,--gc-sections \
	    -Wl,-Map=$(FIRMWARE_OUT)/$1.map -Wl,--defsym=STACK_SIZE=$$(FIRMWARE_STACK_of_$1) \
	    -T $(FIRMWARE)/boards/$2/memory.ld $$(FIRMWARE_LDFLAGS_$4) $$(FIRMWARE_OBJECTS_$1) $$(FIRMWARE_LIBS_of_$1) -o $$@
-include $$(FIRMWARE_OBJECTS_$1:%.o=%.d)
$$(FIRMWARE_OBJECTS_$1): | firmware-tools $(LWIP_FETCHED) $$(FIRMWARE_LIBS_of_$1)
endef
FIRMWARE_PART = $(word $2,$(subst -, ,$1))
$(foreach i,$(FIRMWARE_IMAGES) $(FIRMWARE_TIGHT_IMAGES) $(FIRMWARE_TEST_IMAGES) \
    $(FIRMWARE_WIRE_IMAGES) $(FIRMWARE_ROUTES_IMAGES) $(FIRMWARE_BENCH_IMAGES) $(FIRMWARE_TLS_IMAGES) \
    $(FIRMWARE_SYSLOG_IMAGES) $(FIRMWARE_WEAK_IMAGES) $(FIRMWARE_TLS_BENCH_IMAGES),$(eval $(call \
    FIRMWARE_IMAGE,$i,$(call FIRMWARE_PART,$i,1),$(call FIRMWARE_PART,$i,2),$(call FIRMWARE_PART,$i,3))))

$(FIRMWARE_OUT)/%.d: ;

# lwIP's sources exist once they have been fetched
$(LWIP_DIR)/src/%.c: $(LWIP_FETCHED)
	@:

firmware-tools:
	@command -v $(CROSS)gcc >/dev/null || \
	    { echo "firmware: $(CROSS)gcc is missing: apt install gcc-arm-none-eabi" >&2; exit 1; }
	@echo '#include <string.h>' | $(CROSS)gcc --specs=nano.specs -E - >/dev/null 2>&1 || { \
	    echo "firmware: newlib is missing: apt install libnewlib-arm-none-eabi" >&2; exit 1; }

# make size looks at these, whatever else is built
SIZE_IMAGES = $(FIRMWARE_IMAGES) $(FIRMWARE_TIGHT_IMAGES) $(FIRMWARE_ROUTES_IMAGES) $(FIRMWARE_TLS_IMAGES)
firmware-images: $(SIZE_IMAGES:%=$(FIRMWARE_OUT)/%.elf)

firmware: $(FIRMWARE_IMAGES:%=$(FIRMWARE_OUT)/%.elf)
	@$(PYTHON) tests/firmware/memory.py $^

firmware-ram: $(FIRMWARE_TIGHT_IMAGES:%=$(FIRMWARE_OUT)/%.elf)
	@$(PYTHON) tests/firmware/memory.py --parts $^

firmware-run: $(FIRMWARE_OUT)/lm3s6965-raw.elf
	@sh $(FIRMWARE)/run.sh $< $(PORT)

firmware-bench: $(FIRMWARE_BENCH_IMAGES:%=$(FIRMWARE_OUT)/%.elf)
	@$(PYTHON) tests/bench/firmware.py $(FIRMWARE_BENCH_IMAGES)

firmware-bench-tls: $(FIRMWARE_TLS_BENCH_IMAGES:%=$(FIRMWARE_OUT)/%.elf)
	@$(PYTHON) tests/bench/firmware_tls.py $(FIRMWARE_TLS_BENCH_IMAGES)

# ---- Tests

SUITES += firmware-boot firmware-tls firmware-chromium policy-wire firmware-routes firmware-status firmware-syslog

run-firmware-boot: $(FIRMWARE_IMAGES:%=$(FIRMWARE_OUT)/%.elf) $(FIRMWARE_TIGHT_IMAGES:%=$(FIRMWARE_OUT)/%.elf) \
        $(FIRMWARE_TEST_IMAGES:%=$(FIRMWARE_OUT)/%.elf)
	@$(SUITE) firmware-boot 1500 $(PYTHON) tests/firmware/boot.py

run-firmware-tls: $(FIRMWARE_TLS_IMAGES:%=$(FIRMWARE_OUT)/%.elf) $(FIRMWARE_WEAK_IMAGES:%=$(FIRMWARE_OUT)/%.elf)
	@$(SUITE) firmware-tls 600 $(PYTHON) tests/firmware/tls.py

CHROMIUM_IMAGES = lm3s6965-raw lm3s6965-raw-tls mps2_an385-raw-tls mps2_an385-sockets-tls
run-firmware-chromium: $(CHROMIUM_IMAGES:%=$(FIRMWARE_OUT)/%.elf)
	@$(SUITE) firmware-chromium 300 $(PYTHON) tests/firmware/chromium.py

run-policy-wire: build/miniproxy $(FIRMWARE_OUT)/lm3s6965-raw-test.elf $(FIRMWARE_WIRE_IMAGES:%=$(FIRMWARE_OUT)/%.elf)
	@$(SUITE) policy-wire 600 $(PYTHON) tests/firmware/policy_wire.py

run-firmware-routes: build/miniproxy $(FIRMWARE_ROUTES_IMAGES:%=$(FIRMWARE_OUT)/%.elf)
	@$(SUITE) firmware-routes 300 $(PYTHON) tests/firmware/routes.py

STATUS_IMAGES = lm3s6965-raw mps2_an385-sockets
run-firmware-status: $(STATUS_IMAGES:%=$(FIRMWARE_OUT)/%.elf)
	@$(SUITE) firmware-status 600 $(PYTHON) tests/firmware/status.py $(STATUS_IMAGES)

run-firmware-syslog: $(FIRMWARE_SYSLOG_IMAGES:%=$(FIRMWARE_OUT)/%.elf)
	@$(SUITE) firmware-syslog 300 $(PYTHON) tests/firmware/syslog_lines.py
