#!/bin/sh
# SPDX-License-Identifier: MIT
# build.sh OUTPUT VARIANT [CORE.c [FLAGS...]]: the simulation in one variant (variants/VARIANT.h). LIBS: what it is linked
# with.
# To be called from the top directory.
set -e
output=$1 variant=$2 core=${3:-miniproxy.c}
[ $# -gt 3 ] && shift 3 || set -- -O2
mkdir -p "$(dirname "$output")"
exec ${CC:-gcc} -std=c11 -D_GNU_SOURCE -g "-DMINIPROXY_CONFIG=\"tests/sim/variants/$variant.h\"" -I. \
    -Wall -Wextra -Wconversion -Wpedantic -Werror "$@" -o "$output" tests/sim/[a-z]*.c "$core" ${LIBS:-}
