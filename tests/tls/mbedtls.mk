# SPDX-License-Identifier: MIT
#
# Included by Makefile. mbedTLS as static libraries, all of it in each: a program takes what it calls. 3.6 comes from
# MBEDTLS_DIR, 2.28 from MBEDTLS_228_DIR. A program is built with the flags of its library and linked with it:
#
#   $(CC) $(ALL_CFLAGS) $(TLS_CFLAGS_36) … $(TLS_LIB_36) -pthread

TLS_OUT = build/tls
TLS_CONFIG = tests/tls/mbedtls_host.h
TLS_CFLAGS_36 = -isystem $(abspath $(MBEDTLS_DIR))/include -DMBEDTLS_CONFIG_FILE='"$(TLS_CONFIG)"'
TLS_CFLAGS_228 = -isystem $(abspath $(MBEDTLS_228_DIR))/include -DMBEDTLS_CONFIG_FILE='"$(TLS_CONFIG)"'
TLS_LIB_36 = $(TLS_OUT)/lib36/libmbedtls.a
TLS_LIB_36_ASAN = $(TLS_OUT)/lib36-asan/libmbedtls.a
TLS_LIB_228 = $(TLS_OUT)/lib228/libmbedtls.a

# $(1) tree, $(2) compiler and flags, $(3) ar; what is not ours is compiled without our warnings
tls_library = @rm -rf $(@D) && mkdir -p $(@D) && cd $(@D) && \
    printf '%s\n' $(abspath $(1))/library/*.c | xargs -P 2 -n 8 $(2) -w -I$(CURDIR) -c && $(3) rc $(@F) *.o
tls_host_library = $(call tls_library,$(1),$(CC) -std=c11 -D_GNU_SOURCE $(2),ar); \
    $(if $(AES_FLAGS),$(CC) -std=c11 -D_GNU_SOURCE $(2) $(AES_FLAGS) -w -I$(CURDIR) -c \
        $(foreach f,aes aesni gcm,$(abspath $(1))/library/$f.c) && ar r $(@F) aes.o aesni.o gcm.o)
# With intrinsics AES is a third faster, and gcc has them only when told so. mbedTLS asks the processor before it uses
# them.
AES_FLAGS = $(if $(filter x86_64%,$(shell $(CC) -dumpmachine)),-maes -mpclmul -mssse3)

$(TLS_LIB_36): $(MBEDTLS_FETCHED) $(TLS_CONFIG) tests/tls/mbedtls.mk
	$(call tls_host_library,$(MBEDTLS_DIR),$(CFLAGS) $(TLS_CFLAGS_36))
# It compares the names of a certificate that it could not read, NULL, over no octets.
$(TLS_LIB_36_ASAN): $(MBEDTLS_FETCHED) $(TLS_CONFIG) tests/tls/mbedtls.mk
	$(call tls_host_library,$(MBEDTLS_DIR),$(SANITIZE) -fno-sanitize=nonnull-attribute $(TLS_CFLAGS_36))
$(TLS_LIB_228): $(MBEDTLS_228_FETCHED) $(TLS_CONFIG) tests/tls/mbedtls.mk
	$(call tls_host_library,$(MBEDTLS_228_DIR),$(CFLAGS) $(TLS_CFLAGS_228))

# 3.6 for the boards of examples/firmware; the flags are also for what includes its headers
TLS_CONFIG_M3 = examples/firmware/mbedtls_config.h
TLS_CFLAGS_M3 = -isystem $(abspath $(MBEDTLS_DIR))/include -DMBEDTLS_CONFIG_FILE='"$(TLS_CONFIG_M3)"'
TLS_LIB_M3 = $(TLS_OUT)/lib-m3/libmbedtls.a
TLS_LIB_M3_CLIENT = $(TLS_OUT)/lib-m3-client/libmbedtls.a
$(TLS_LIB_M3_CLIENT): TLS_FLAGS_M3 = -DFIRMWARE_TLS_CLIENT=1
$(TLS_LIB_M3) $(TLS_LIB_M3_CLIENT): $(MBEDTLS_FETCHED) $(TLS_CONFIG_M3) tests/tls/mbedtls.mk | firmware-tools
	$(call tls_library,$(MBEDTLS_DIR),$(CROSS)gcc -std=c11 -mcpu=cortex-m3 -mthumb -Os -g -ffunction-sections \
	    -fdata-sections -fno-common --specs=nano.specs $(FIRMWARE_FLAGS) $(TLS_FLAGS_M3) $(TLS_CFLAGS_M3),$(CROSS)ar)

# What the port expects of mbedTLS, of each of them
SUITES += mbedtls-3.6 mbedtls-2.28
$(TLS_OUT)/smoke-3.6: tests/tls/smoke.c $(TLS_LIB_36_ASAN) Makefile
	$(CC) $(ALL_CFLAGS) -D_GNU_SOURCE $(SANITIZE) $(TLS_CFLAGS_36) $(filter %.c %.a,$^) -pthread -o $@
$(TLS_OUT)/smoke-2.28: tests/tls/smoke.c $(TLS_LIB_228) Makefile
	$(CC) $(ALL_CFLAGS) -D_GNU_SOURCE $(SANITIZE) $(TLS_CFLAGS_228) $(filter %.c %.a,$^) -pthread -o $@
run-mbedtls-3.6 run-mbedtls-2.28: run-mbedtls-%: $(TLS_OUT)/smoke-%
	@$(SUITE) mbedtls-$* 300 $< mbedtls-$* build/results/mbedtls-$*.tsv

# The port of TLS over a wire in memory, with the sanitizers in all of it
SUITES += unit_tls_36 unit_tls_228
TLS_PORT = tests/tls/port_test.c port/miniproxy_tls.c $(wildcard port/miniproxy_tls.h tests/unit/unit.h) miniproxy.h Makefile
TLS_PORT_FLAGS = -Wno-unused-function -D_GNU_SOURCE -DMINIPROXY_WITH_TLS=1 -DMINIPROXY_TLS_SESSIONS=4 -DMINIPROXY_TLS_COMMON_ARENA=32768 \
                 -DMINIPROXY_TLS_GENERATIONS=2 -include assert.h -DMINIPROXY_ASSERT=assert
tls_port = $(CC) $(ALL_CFLAGS) $(SANITIZE) $(TLS_PORT_FLAGS) -DTLS_GROUP='"$(@F)"' $(1) $< $(2) -lcmocka -pthread -o $@

$(TLS_OUT)/tls_36: $(TLS_PORT) $(TLS_LIB_36_ASAN)
	$(call tls_port,$(TLS_CFLAGS_36),$(TLS_LIB_36_ASAN))
$(TLS_OUT)/tls_228: $(TLS_PORT) $(TLS_LIB_228)
	$(call tls_port,$(TLS_CFLAGS_228),$(TLS_LIB_228))
run-unit_tls_36 run-unit_tls_228: run-unit_%: $(TLS_OUT)/%
	@$(SUITE) unit_$* 600 $<

# The simulated world over TLS: clients of mbedTLS's own, the port between the core and the simulated network
SUITES += sim-tls
SEEDS_TLS ?= 1..2001
SIM_TLS_FLAGS = $(TLS_CFLAGS_36) -Wl,--wrap=time,--wrap=mbedtls_ms_time -pthread

build/sim/sim-tls: $(SIM_DEPENDS) $(TLS_LIB_36) Makefile tests/tls/mbedtls.mk
	CC="$(CC)" LIBS="$(TLS_LIB_36)" sh tests/sim/build.sh $@ tls miniproxy.c -O2 $(SIM_TLS_FLAGS)
build/sim/sim-tls-asan: $(SIM_DEPENDS) $(TLS_LIB_36_ASAN) Makefile tests/tls/mbedtls.mk
	CC="$(CC)" LIBS="$(TLS_LIB_36_ASAN)" sh tests/sim/build.sh $@ tls miniproxy.c $(SANITIZE) $(SIM_TLS_FLAGS)
run-sim-tls: build/sim/sim-tls
	@$(SUITE) sim-tls 1200 $< --seeds $(SEEDS_TLS) --results build/results/sim-tls.tsv

.PHONY: tls-libraries
tls-libraries: $(TLS_LIB_36) $(TLS_LIB_36_ASAN) $(TLS_LIB_228)
