#!/bin/sh
# SPDX-License-Identifier: MIT
#
# summary.sh FILE...
#
# A table of build/results/FILE.tsv by suite, what passed only at a second try, what failed and why, then one line with
# the sums. A file that is missing, because the suite did not build or did not run, counts as a failure.
mkdir -p build/results && cd build/results || exit 1
for file in "$@"; do
    [ -s "$file.tsv" ] || printf 'fail\t%s\tbuilt and ran\t-\n' "$file" >"$file.tsv"
    cat "$file.tsv"
done | awk -F'\t' '
    { sum[$1]++; by[$2, $1]++; if (!($2 in seen)) { seen[$2] = 1; order[n++] = $2 } }
    $1 == "fail" { broken[b++] = $2 ": " $3 }
    $1 == "skip" { left[s++] = $2 ": " $3 }
    END {
        for (i = 0; i < s && i < 30; i++) print "skipped  " left[i]
        printf "\n%-24s %8s %8s %8s\n", "suite", "passed", "failed", "skipped"
        for (i = 0; i < n; i++)
            printf "%-24s %8d %8d %8d\n", order[i], by[order[i], "pass"], by[order[i], "fail"], by[order[i], "skip"]
        print ""
        for (i = 0; i < n; i++) {
            fflush()
            system("sed -n \"s/^PASSED ONLY AT THE SECOND TRY: /second try  " order[i] ": /p\" ../log/" order[i] ".log 2>/dev/null")
        }
        for (i = 0; i < b && i < 100; i++) {
            print "failed   " broken[i]
            suite = broken[i]
            sub(/: .*/, "", suite)
            fflush()
            logs = "../log/" suite ".log ../log/" suite "_*.log" # those of unit tests have a name each
            if (!(suite in told)) system("grep -hE \"^(E  |tests/[^ ]*: |.  (ERROR|.LINE))\" " logs " 2>/dev/null | cut -c 1-200 | tail -n 12")
            told[suite] = 1
        }
        printf "\n%d passed, %d failed", sum["pass"], sum["fail"]
        if (sum["skip"] > 0) printf ", %d skipped", sum["skip"]
        print ""
        exit sum["fail"] > 0 || sum["pass"] == 0
    }'
