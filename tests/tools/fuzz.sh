#!/bin/sh
# SPDX-License-Identifier: MIT
#
# fuzz.sh [SECONDS]
#
# Coverage-guided fuzzing of the core, and of look-ups in blobs of host names, with clang's libFuzzer and sanitizers, from
# tests/fuzz/corpus* on. What it learns stays in build/fuzz/corpus*. The input that broke something is left in build/fuzz and shown.
seconds=${1:-60}
dir=build/fuzz
mkdir -p $dir/corpus build/results
result() { printf '%s\tfuzz\t%s\t-\n' "$1" "$2" >>build/results/fuzz.tsv; }
: >build/results/fuzz.tsv

if ! command -v clang >/dev/null; then
    result skip "fuzzing: clang is not installed"
    exit 0
fi
FLAGS="-std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -I."
rm -f $dir/crash-* $dir/timeout-* $dir/oom-* $dir/leak-*

# fuzz TARGET CORPUS WHAT SOURCE...
fuzz() {
    target=$1 corpus=$2 what=$3
    shift 3
    mkdir -p $dir/$corpus
    clang $FLAGS "$@" -o $dir/$target || exit 1
    if $dir/$target -max_total_time="$seconds" -timeout=10 -artifact_prefix=$dir/ -print_final_stats=1 \
        $dir/$corpus tests/fuzz/$corpus; then
        result pass "no input breaks $what in $seconds s"
    else
        result fail "no input breaks $what in $seconds s"
    fi
}

fuzz exchange corpus "the core" '-DMINIPROXY_CONFIG="tests/fuzz/config.h"' tests/fuzz/exchange.c miniproxy.c
fuzz hosts corpus-hosts "a look-up in a blob" tests/fuzz/hosts.c
status=0
for input in $dir/crash-* $dir/timeout-* $dir/oom-* $dir/leak-*; do
    [ -e "$input" ] && status=1 && echo "$input:" && od -c "$input" | head -n 40
done
exit $status
