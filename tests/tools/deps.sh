#!/bin/sh
# SPDX-License-Identifier: MIT
#
# deps.sh [bench]
#
# Installs what the tests (or the benchmarks) need, by apt as root or through sudo; says nothing when all is there.
# Writes build/results/deps.tsv: what is still missing afterwards is skipped, and fails where CI is set.
needs='
gcc gcc
clang clang
/usr/include/cmocka.h libcmocka-dev
/usr/bin/python3 python3
/usr/bin/pytest python3-pytest
curl curl
wget wget
git git
openssl openssl
ip iproute2
/usr/sbin/nginx nginx-light
tinyproxy tinyproxy-bin
/usr/sbin/squid squid
microsocks microsocks
ssh openssh-client
/usr/sbin/dropbear dropbear-bin
nc.openbsd netcat-openbsd
/usr/sbin/haproxy haproxy
/usr/sbin/nft nftables
/usr/bin/goaccess goaccess
/usr/bin/fail2ban-regex fail2ban
arm-none-eabi-gcc gcc-arm-none-eabi
riscv64-unknown-elf-gcc gcc-riscv64-unknown-elf
/usr/lib/arm-none-eabi/newlib/nano.specs libnewlib-arm-none-eabi
/usr/lib/picolibc/riscv64-unknown-elf/picolibc.specs picolibc-riscv64-unknown-elf
qemu-system-arm qemu-system-arm
chromium chromium
/usr/lib/python3/dist-packages/html5lib python3-html5lib
firefox-esr firefox-esr
certutil libnss3-tools
/usr/lib/python3/dist-packages/requests python3-requests
/usr/lib/python3/dist-packages/pip python3-pip
npm npm
node nodejs
gsettings libglib2.0-bin
/usr/share/glib-2.0/schemas/org.gnome.system.proxy.gschema.xml gsettings-desktop-schemas
dnsmasq dnsmasq-base
/usr/sbin/dhcpd isc-dhcp-server
/usr/sbin/kea-dhcp4 kea-dhcp4-server
/usr/lib/python3/dist-packages/prometheus_client/openmetrics/parser.py python3-prometheus-client
valgrind valgrind
musl-gcc musl-tools
'
mode=$1
[ "$mode" = bench ] && needs='
/usr/bin/python3 python3
valgrind valgrind
tinyproxy tinyproxy-bin
/usr/sbin/squid squid
openssl openssl
stunnel stunnel4
'

present() {
    case $1 in
    /*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

missing() {
    echo "$needs" | while read -r what package; do
        [ -z "$what" ] || present "$what" || echo "$package"
    done
    [ "$mode" = bench ] || { missing_fuzzer; missing_riscv; }
}

# the emulator of RISC-V has a package of its own in newer releases
missing_riscv() {
    command -v qemu-system-riscv32 >/dev/null && return
    if apt-cache show qemu-system-riscv >/dev/null 2>&1; then echo qemu-system-riscv; else echo qemu-system-misc; fi
}

# clang's fuzzer is in a package that is named by clang's version
missing_fuzzer() {
    command -v clang >/dev/null || return
    [ -e "$(clang -print-resource-dir)/lib/linux/libclang_rt.fuzzer-$(uname -m).a" ] ||
        echo "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev"
}

install() {
    if [ "$(id -u)" -eq 0 ]; then root=
    elif command -v sudo >/dev/null; then root="sudo -n"
    else return 1
    fi
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    $root apt-get -qq update
    keep_services_down
    # one by one, so that one unknown package does not keep the others away
    for package in "$@"; do
        $root apt-get -qq install -y --no-install-recommends "$package" || echo "could not install $package"
        case $package in
        squid | haproxy | nginx-light | fail2ban | isc-dhcp-server | kea-dhcp4-server)
            $root update-rc.d "${package%-light}" disable ;;
        esac
    done
}

# Tests start programs on their own: no service is to come up because one was installed.
keep_services_down() {
    [ -e /usr/sbin/policy-rc.d ] && return
    trap '$root rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' | $root tee /usr/sbin/policy-rc.d >/dev/null
    $root chmod 755 /usr/sbin/policy-rc.d
}

mkdir -p build/log build/results
for round in first second; do
    packages=$(missing)
    [ -n "$packages" ] && command -v apt-get >/dev/null || break
    echo "installing, $round round:" $packages
    # shellcheck disable=SC2086
    install $packages >build/log/deps.log 2>&1 || tail -n 5 build/log/deps.log
done
left=$(missing)
verdict=skip
[ -n "$CI" ] && verdict=fail
for package in $left; do
    echo "missing: $package (see build/log/deps.log)"
    printf '%s\tdeps\t%s is installed\t-\n' "$verdict" "$package"
done >build/results/deps.part
grep '^missing' build/results/deps.part
grep -v '^missing' build/results/deps.part >build/results/deps.tsv
rm -f build/results/deps.part
[ -n "$left" ] || printf 'pass\tdeps\teverything that the tests need is installed\t-\n' >build/results/deps.tsv
[ -z "$left" ] || [ "$verdict" = skip ]
