#!/bin/sh
# SPDX-License-Identifier: MIT
#
# suite.sh NAME SECONDS COMMAND...
#
# Runs one suite. Its output goes to build/log/NAME.log, its results come from build/results/NAME.tsv. A suite that
# crashes, takes longer than SECONDS, writes no result or says with its exit status that something failed, has failed.
name=$1 seconds=$2
shift 2
results=build/results/$name.tsv log=build/log/$name.log
mkdir -p build/results build/log
rm -f "$results"
started=$(date +%s)
timeout -k 10 "$seconds" "$@" >"$log" 2>&1 </dev/null
status=$?
took=$(($(date +%s) - started))

count() { awk -F'\t' -v want="$1" '$1 == want { n++ } END { print n + 0 }' "$results"; }
blame() { printf 'fail\t%s\t%s\t-\n' "$name" "$1" >>"$results"; }

[ -s "$results" ] || blame "wrote results (exit status $status after $took s)"
awk -F'\t' 'NF != 4 || $1 !~ /^(pass|fail|skip)$/ { exit 1 }' "$results" || blame "wrote well-formed results"
if [ "$status" -ne 0 ] && [ "$(count fail)" -eq 0 ]; then
    blame "ended well (exit status $status after $took s)"
fi
failed=$(count fail)
echo "$name: $(count pass) passed, $failed failed, $(count skip) skipped ($took s)"
[ "$failed" -eq 0 ] && exit 0
awk -F'\t' '$1 == "fail" { print "    failed: " $3 }' "$results" | head -40
# pytest's own words for what went wrong stand far above the end
grep -nE '^(E  |tests/[^ ]*: |_{4,} )' "$log" | head -n 40 | cut -c 1-300 | sed 's/^/    | /'
echo "    see $log, which ends with:"
tail -n 25 "$log" | cut -c 1-300 | sed 's/^/    | /'
exit 1
