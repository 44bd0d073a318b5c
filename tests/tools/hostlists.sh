#!/bin/sh
# SPDX-License-Identifier: MIT
#
# hostlists.sh
#
# Public lists of host names, one name a line, in build/hosts if they are not there yet: easylist.txt, the names that the
# lists of Debian's uBlock Origin (EasyList, EasyPrivacy and smaller ones) block with all below them, in whichever version
# apt has and verifies; disposable.txt, the domains of throw-away mail addresses, an npm package of one version.
set -eu
cd "$(dirname "$0")/../.."
dir=$PWD/build/hosts
part=$dir/part
npm_package=disposable-email-domains@1.0.62
npm_sha256=f221b2fd3d3b2429141f7f5856a59cfea2745f165c420ab4a48bb5697edaea00
names='^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?([.][a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)+$'
mkdir -p "$dir"

easylist() {
    package=webext-ublock-origin-chromium
    cd "$part"
    apt-get -q -o APT::Sandbox::User=root download $package ||
        { apt-get -q update && apt-get -q -o APT::Sandbox::User=root download $package; }
    dpkg-deb -x $package*.deb .
    find usr -name '*.txt' -exec cat {} + | tr -d '\r' | sed -n 's/^||\([a-z0-9_.-]*\)^.*/\1/p'
}

disposable() {
    cd "$part"
    npm pack --silent "$npm_package" >/dev/null
    echo "$npm_sha256  $(ls disposable-email-domains-*.tgz)" | sha256sum -c >&2
    tar -xzf disposable-email-domains-*.tgz
    tr -d ' ",[]' <package/index.json
}

for list in easylist disposable; do
    [ -s "$dir/$list.txt" ] && continue
    rm -rf "$part" && mkdir "$part"
    ($list) >"$part/names" || { echo "hostlists.sh: $list is not to be had" >&2; continue; }
    grep -E "$names" "$part/names" | LC_ALL=C sort -u >"$part/sorted"
    mv "$part/sorted" "$dir/$list.txt"
done
rm -rf "$part"
[ -s "$dir/easylist.txt" ] || [ -s "$dir/disposable.txt" ]
