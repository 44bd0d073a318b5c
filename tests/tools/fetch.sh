#!/bin/sh
# SPDX-License-Identifier: MIT
#
# fetch.sh PACKAGE SHA256 [SUITE [NAME]]
#
# Unpacks the upstream archive of a Debian source package of SUITE (trixie) to build/NAME (build/PACKAGE), if it is not
# there yet. The mirror is the one that apt is configured with, and the system's own lists stay as they are: this keeps
# its own, for each NAME, under build/apt. SHA256 is the sum of the archive; any other is refused.
set -eu
package=$1 wanted=$2 suite=${3:-trixie} name=${4:-$1}
here=$(cd "$(dirname "$0")/../.." && pwd)
apt=$here/build/apt/$name
stamp=$here/build/$name/.sha256
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && exit 0

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep '/debian/$' | sort -u | head -n 1)
[ -n "$mirror" ] || { echo "fetch.sh: apt knows no Debian mirror" >&2; exit 1; }
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/download" "$apt/parts"
key=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb-src [signed-by=$key] $mirror $suite main" >"$apt/sources.list"

own="-q -o Dir::Etc::sourcelist=$apt/sources.list -o Dir::Etc::sourceparts=$apt/parts -o Dir::State::lists=$apt/lists
     -o Dir::Cache=$apt/cache -o APT::Get::List-Cleanup=0 -o APT::Sandbox::User=root"
cd "$apt/download"
# shellcheck disable=SC2086
apt-get $own update
# shellcheck disable=SC2086
apt-get $own source --download-only "$package"

archive=$(ls -t "$package"_*.orig.tar.* | grep -v '\.asc$' | head -n 1)
sum=$(sha256sum "$archive" | cut -d' ' -f1)
[ "$sum" = "$wanted" ] || { echo "fetch.sh: $archive has SHA-256 $sum instead of $wanted" >&2; exit 1; }
part=$here/build/$name.part
rm -rf "$part" && mkdir "$part"
tar -xf "$archive" -C "$part" --strip-components=1
echo "$wanted" >"$part/.sha256"
rm -rf "$here/build/$name" && mv "$part" "$here/build/$name"
