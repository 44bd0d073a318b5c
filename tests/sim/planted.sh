#!/bin/sh
# SPDX-License-Identifier: MIT
# Is the simulation able to find bugs? Each file of planted/ puts one into a copy of the core, each of planted/tls/ into
# a copy of the port of TLS, or of the core under it (core_*); each must be caught. planted.sh [RESULTS.tsv [SEEDS]],
# from the top directory. TLS_FLAGS and LIBS say how a program with mbedTLS is built; without them planted/tls/ is left out.
results=${1:-build/results/sim-planted.tsv} seeds=${2:-2000} missed=0
mkdir -p build/sim/planted "$(dirname "$results")"
: > "$results"
for plant in tests/sim/planted/*.sed ${TLS_FLAGS:+tests/sim/planted/tls/*.sed}; do
    name=$(basename "$plant" .sed)
    copy=build/sim/planted/$name.c
    variant=$(sed -n '3s/^# variant //p' "$plant")
    case $plant in
    */tls/core_*) victim=miniproxy.c variant=tls core=$copy port=port/miniproxy_tls.c ;;
    */tls/*) victim=port/miniproxy_tls.c variant=tls core=miniproxy.c port=$copy ;;
    *) victim=miniproxy.c core=$copy ;;
    esac
    sed -f "$plant" $victim > "$copy"
    set -- -O1 -w
    # shellcheck disable=SC2086 # several flags; the quotes in them are the compiler's
    [ "$variant" != tls ] || set -- "$@" $TLS_FLAGS -Iport "-DSIM_TLS_PORT=\"$port\""
    verdict=fail
    if cmp -s $victim "$copy"; then
        echo "$name: the place to plant it is gone"
    elif ! tests/sim/build.sh "build/sim/planted/$name" "${variant:-default}" "$core" "$@"; then
        echo "$name: does not build"
    elif "build/sim/planted/$name" --seeds 1.."$seeds" --jobs 2 --first --reports 0 \
        > "build/sim/planted/$name.log" 2>&1; then
        echo "$name: NOT CAUGHT within $seeds seeds"
    else
        verdict=pass
        echo "$name: caught: $(grep -m 1 -i -e '^violation' -e '^crash' "build/sim/planted/$name.log")"
    fi
    [ $verdict = pass ] || missed=$((missed + 1))
    printf '%s\tsim\tplanted bug is caught: %s\t-\n' $verdict "$(sed -n '2s/^# //p' "$plant")" >> "$results"
done
echo "$missed missed"
[ $missed = 0 ]
