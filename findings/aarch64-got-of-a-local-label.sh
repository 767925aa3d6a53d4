#!/usr/bin/env bash
# A label that is not global, reached through the global offset table on AArch64: GNU binutils 2.40 assemble and link it
# without a word, and the table has the address of the section's beginning.
#
# Where it is met: bytes of a file that are put into a program by .incbin in top-level asm, and named in C++ by `extern`. On
# x86-64 that works, since nothing goes through the table there; for AArch64 the compiler takes the table for every extern
# symbol, as it cannot know that the asm beside it defines the label. The assembler then writes the relocation against the section
# with the label's distance as its addend, and GNU ld makes one entry a symbol and drops the addend. Every such label reads the
# first one's bytes. lld 14 links the same object too, to addresses outside the section; clang's assembler of LLVM 18 keeps the
# label, and the program is right. `.globl` with `.hidden`, and hidden visibility in C++, avoids the table.
#
# Seen: GNU as and ld 2.40 (Debian 12, binutils-aarch64-linux-gnu 2.40-2): the entry is .rodata, and the label is .rodata + 8.
# This fails where the table has the label's address.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get -qq download binutils-aarch64-linux-gnu=2.40-2 binutils-common=2.40-2 2> /dev/null
for package in *.deb; do dpkg-deb -x "$package" root; done
bin=$PWD/root/usr/bin/aarch64-linux-gnu
export LD_LIBRARY_PATH=$PWD/root/usr/lib/x86_64-linux-gnu

cat > labels.s << 'ASM'
.section .rodata
.balign 8
first: .quad 11
second: .quad 22
.text
.globl _start
_start:
  adrp x1, :got:second
  ldr x1, [x1, :got_lo12:second]
  ldr x0, [x1]
ASM
"$bin-as" --version | head -n 1
"$bin-as" labels.s -o labels.o
"$bin-readelf" --relocs --wide labels.o | grep GOT
"$bin-ld" --fatal-warnings -static labels.o -o labels

rodata=$((16#$("$bin-readelf" --sections --wide labels | awk '$2 == ".rodata" || $3 == ".rodata" {for (i = 1; i <= NF; ++i) if ($i == "PROGBITS") print $(i + 1)}')))
entries=$("$bin-objdump" --full-contents --section=.got labels | awk '/^ [0-9a-f]+ / {for (i = 2; i <= 5; ++i) printf "%s ", $i}')
# The words of the table, little-endian.
found=none
set -- $entries
while [ $# -ge 2 ]; do
  value=$((16#${2:6:2}${2:4:2}${2:2:2}${2:0:2}${1:6:2}${1:4:2}${1:2:2}${1:0:2}))
  [ "$value" != "$rodata" ] || found=section
  [ "$value" != $((rodata + 8)) ] || found=label
  shift 2
done
echo "the label is .rodata + 8; the table's entry is the address of the $found's beginning"
[ "$found" = section ] || { echo "not as it was: $entries" >&2; exit 1; }
