#!/bin/sh
# SPDX-License-Identifier: MIT
#
# fuzz.sh [SECONDS]
#
# Coverage-guided fuzzing of the core with clang's libFuzzer and sanitizers, from tests/fuzz/corpus on. What it learns
# stays in build/fuzz/corpus. The input that broke something is left in build/fuzz and shown.
seconds=${1:-60}
dir=build/fuzz
mkdir -p $dir/corpus build/results
result() { printf '%s\tfuzz\t%s\t-\n' "$1" "$2" >>build/results/fuzz.tsv; }
: >build/results/fuzz.tsv

if ! command -v clang >/dev/null; then
    result skip "fuzzing: clang is not installed"
    exit 0
fi
clang -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
    '-DMINIPROXY_CONFIG="tests/fuzz/config.h"' -I. tests/fuzz/exchange.c miniproxy.c -o $dir/exchange || exit 1
rm -f $dir/crash-* $dir/timeout-* $dir/oom-* $dir/leak-*
if $dir/exchange -max_total_time="$seconds" -timeout=10 -artifact_prefix=$dir/ -print_final_stats=1 \
    $dir/corpus tests/fuzz/corpus; then
    result pass "no input breaks the core in $seconds s"
    exit 0
fi
result fail "no input breaks the core in $seconds s"
for input in $dir/crash-* $dir/timeout-* $dir/oom-* $dir/leak-*; do
    [ -e "$input" ] && echo "$input:" && od -c "$input" | head -n 40
done
exit 1
