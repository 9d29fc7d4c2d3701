#!/bin/sh
# Fails when an object of one CPU level has a weak symbol that another object could replace or be
# replaced by, or when baseline objects contain wide registers or fused multiply-adds.
# Usage: check_symbols.sh [scratch path]; builds the kernel targets in release.
set -eu
cd "$(dirname "$0")/../.."
scratch=${1:-.build}
for target in Kernels KernelsAVX2 KernelsAVX512 KernelsBF16; do
  swift build -c release --scratch-path "$scratch" --target "$target" >/dev/null
done
status=0
for target in Kernels KernelsAVX2 KernelsAVX512 KernelsBF16; do
  objects=$(find "$scratch/release/$target.build" -name '*.swift.o')
  [ -n "$objects" ] || { echo "no objects of $target in $scratch"; exit 1; }
  # Mangled names start with the length and name of their module. A `got.` symbol holds the address
  # of a type's descriptor: data, the same from every object.
  own="\$s${#target}$target"
  # shellcheck disable=SC2086
  shared=$(nm $objects | awk 'NF >= 2 && $(NF-1) ~ /^[WVuwv]$/ {print $NF}' | sort -u |
    grep -v -e '^__swift_reflection_version$' -e "^\\$own[^a-zA-Z_]" \
      -e "^\\${own}MXM$" -e '^got\.' || true)
  if [ -n "$shared" ]; then
    echo "$target has weak symbols that are not its own:"
    echo "$shared"
    status=1
  fi
done
if [ "$(uname -m)" = x86_64 ]; then
  # shellcheck disable=SC2046
  wide=$(objdump -d --no-show-raw-insn $(find "$scratch/release/Kernels.build" -name '*.swift.o') |
    grep -cE '%[yz]mm|vfn?m(add|sub)' || true)
  if [ "$wide" -ne 0 ]; then
    echo "baseline objects contain $wide wide or fused instructions"
    status=1
  fi
  # shellcheck disable=SC2046
  wide=$(objdump -d --no-show-raw-insn $(find "$scratch/release/KernelsAVX512.build" -name '*.swift.o') |
    grep -c '%zmm' || true)
  if [ "$wide" -eq 0 ]; then
    echo "the AVX-512 objects were not compiled for AVX-512"
    status=1
  fi
fi
[ "$status" -ne 0 ] || echo "symbols of the kernel targets are their own"
exit "$status"
