#!/bin/sh
# check-library.sh liblorasc.so.1 lorasc.h: exports what the header declares and nothing else,
# has its SONAME, and needs no Swift on the machine.
set -eu
library=$1
header=$2
declared=$(grep -oE '\blorasc_[a-z_]+\(' "$header" | tr -d '(' | sort -u)
exported=$(nm -D --defined-only "$library" | awk '{ print $3 }' | sort -u)
if [ "$declared" != "$exported" ]; then
  echo "$library: exports and $header differ (declared, exported only on one side):" >&2
  printf '%s\n' "$declared" "$exported" | sort | uniq -u >&2
  exit 1
fi
objdump -p "$library" | grep -q 'SONAME *liblorasc.so.1$' || { echo "$library: wrong SONAME" >&2; exit 1; }
if ldd "$library" | grep -i swift >&2; then echo "$library: needs Swift's libraries" >&2; exit 1; fi
echo "$library: $(printf '%s\n' "$exported" | wc -l) functions exported as declared, no Swift needed"
