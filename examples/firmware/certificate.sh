#!/bin/sh
# SPDX-License-Identifier: MIT
#
# certificate.sh own OUT.c NAMES          a key and a certificate that vouches for itself, for NAMES
#                                         ("DNS:proxy.test,IP:127.0.0.1"), as tables of C, in DER. OUT.pem, beside it, is
#                                         what clients are told to trust (curl --proxy-cacert). For trying it out: whoever
#                                         has the image has the key.
# certificate.sh trust OUT.c FILE.pem...  all certificates in these files as one table: who may vouch for origins
# certificate.sh authority OUT.pem KIND   a certificate of an authority for tests and its key, OUT.key. KIND: ec, rsa
set -e
umask 077

# Certificates differ by an octet or two in length, images with them do not.
table() {
    len=$(wc -c <"$2")
    echo "const uint8_t $1[$(((len + 63) / 64 * 64))] = {"
    od -An -v -tx1 "$2" | sed 's/ \(..\)/0x\1, /g'
    echo "};"
    echo "const size_t ${1}_len = $((len));"
}

own() {
    out=$1 names=$2 base=${1%.c}
    openssl ecparam -name prime256v1 -genkey -noout -outform DER -out "$base.key.der"
    openssl req -x509 -new -key "$base.key.der" -keyform DER -sha256 -days 825 -subj "/CN=miniproxy" \
        -addext "subjectAltName=$names" -addext "keyUsage=critical,digitalSignature" \
        -addext "extendedKeyUsage=serverAuth" -out "$base.pem"
    openssl x509 -in "$base.pem" -outform DER -out "$base.der"
    {
        echo '#include "certificate.h"'
        table certificate "$base.der"
        table certificate_key "$base.key.der"
    } >"$out"
    rm -f "$base.key.der" "$base.der"
}

trust() {
    out=$1 der=${1%.c}.der
    shift
    awk -v der="openssl x509 -outform DER" '
        /^-----BEGIN CERTIFICATE-----/ { inside = 1; count++ }
        inside { print | der }
        /^-----END CERTIFICATE-----/ { inside = 0; if (close(der) != 0) exit failed = 1 }
        END { if (failed || inside || count == 0) { print "no certificates, or broken ones" >"/dev/stderr"; exit 1 } }
        ' "$@" >"$der"
    {
        echo '#include "certificate.h"'
        table authorities "$der"
    } >"$out"
    rm -f "$der"
}

authority() {
    case $2 in ec) kind="ec -pkeyopt ec_paramgen_curve:P-256" ;; *) kind=$2:4096 ;; esac
    # shellcheck disable=SC2086
    openssl req -x509 -newkey $kind -nodes -sha256 -days 825 -subj "/CN=authority for tests, $2" \
        -addext "keyUsage=critical,keyCertSign,cRLSign" -keyout "${1%.pem}.key" -out "$1"
}

"$@"
