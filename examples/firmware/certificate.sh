#!/bin/sh
# SPDX-License-Identifier: MIT
#
# certificate.sh OUT.c NAMES
#
# Makes a key and a certificate that vouches for itself, for NAMES ("DNS:proxy.test,IP:127.0.0.1"), and writes them as
# tables of C, in DER. OUT.pem, beside it, is what clients are told to trust (curl --proxy-cacert).
#
# For trying it out: whoever has the image has the key.
set -e
out=$1 names=$2 base=${1%.c}
umask 077
openssl ecparam -name prime256v1 -genkey -noout -outform DER -out "$base.key.der"
openssl req -x509 -new -key "$base.key.der" -keyform DER -sha256 -days 825 -subj "/CN=miniproxy" \
    -addext "subjectAltName=$names" -addext "keyUsage=critical,digitalSignature" \
    -addext "extendedKeyUsage=serverAuth" -out "$base.pem"
openssl x509 -in "$base.pem" -outform DER -out "$base.der"

# Certificates differ by an octet or two in length, images with them do not.
table() {
    len=$(wc -c <"$2")
    echo "const uint8_t $1[$(((len + 63) / 64 * 64))] = {"
    od -An -v -tx1 "$2" | sed 's/ \(..\)/0x\1, /g'
    echo "};"
    echo "const size_t ${1}_len = $((len));"
}

{
    echo '#include "certificate.h"'
    table certificate "$base.der"
    table certificate_key "$base.key.der"
} >"$out"
rm -f "$base.key.der" "$base.der"
