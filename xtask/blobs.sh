#!/usr/bin/env bash
# Imports and checks the device-tree blobs of Debian's arm64 kernel, and counts the answers.
# usage: xtask/blobs.sh [FOLDER]    takes the blobs from FOLDER instead
#
# It needs Debian's apt-get and dpkg-deb, but no root: packages are listed and unpacked in
# target/blobs. Failures are: a command that panics, a tree that dtc refuses, and a board that is
# another one after it was written as a tree and read again. (Its map is compared by other tests:
# the aliases of a device become rules of their own.)
set -euo pipefail
cd "$(dirname "$0")/.."
work=$PWD/target/blobs

download() {
    local apt=(-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o "Dir::Cache=$work/cache"
        -o "Dir::State::Lists=$work/lists" -o Debug::NoLocking=1)
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    apt-get "${apt[@]}" -q update
    local package
    package=$(apt-cache "${apt[@]}" depends linux-image-arm64 | sed -n 's/ *Depends: //p' | head -n 1)
    (cd "$work" && apt-get "${apt[@]}" -q download "$package")
    dpkg-deb -x "$work/$package"_*.deb "$work/files"
    rm "$work/$package"_*.deb
}

folder=${1:-$work/files}
[ -d "$folder" ] || download
cargo build --quiet --package cma-cli
cma=$PWD/target/debug/cma
command -v dtc > /dev/null || echo "SKIPPED: no dtc (package device-tree-compiler), so no tree is written"

results=$(mktemp -d)
trap 'rm -r "$results"' EXIT
touch "$results"/{answers,remarks,findings.all}
blobs=0 failures=0

fail() {
    echo "FAILED: $1"
    sed 's/^/    /' "$results/errors"
    failures=$((failures + 1))
}

# A command of cma, with its output in the file $2 and its exit code counted as $1.
run() {
    local what=$1 output=$2 code=0
    shift 2
    "$cma" "$@" > "$results/$output" 2> "$results/errors" || code=$?
    echo "$what: exit code $code" >> "$results/answers"
    if [ "$code" -ge 100 ] || grep -q panicked "$results/errors"; then fail "cma $*"; fi
    return "$code"
}

without_map() { sed '/^map = \[/,/^\]/d' "$results/$1"; }

while IFS= read -r -d '' blob; do
    blobs=$((blobs + 1))
    run import board.toml import "$blob" || continue
    cat "$results/errors" >> "$results/remarks"
    if grep -q '^\[\[regions' "$results/board.toml"; then
        echo "boards with regions" >> "$results/answers"
    fi
    run "check of the blob" findings check --platform "$blob" || true
    grep -h '^  [^ a-z]' "$results/findings" "$results/errors" >> "$results/findings.all" || true
    run "check of its .toml" findings check --platform "$results/board.toml" || true

    run "import --as dts" board.dts import --as dts "$blob" || continue
    command -v dtc > /dev/null || continue
    if ! dtc -q -O dtb -o "$results/board.dtb" "$results/board.dts" 2> "$results/errors"; then
        fail "dtc, of the tree of $blob"
    elif run "import of that tree" again.toml import "$results/board.dtb" &&
        ! diff <(without_map board.toml) <(without_map again.toml) > "$results/errors"; then
        fail "the board of $blob is another one after it was written"
    fi
done < <(find "$folder" -name '*.dtb' -print0 | sort -z)

echo
echo "$blobs blobs, $failures failures"
sort "$results/answers" | uniq -c | sort -rn
# Without the names and numbers of each board.
classes() {
    sed -E 's/0x[0-9a-f]+(\+0x[0-9a-f]+)?/N/g; s/"[^"]*"/"..."/g; s/\/[^ ]*: /NODE: /; s/(NODE: [^:]*): .*/\1/' |
        sort | uniq -c | sort -rn | head -n 40
}
echo
echo "Remarks of import:"
classes < "$results/remarks"
echo
echo "Findings of check:"
classes < "$results/findings.all"
[ "$failures" = 0 ] && [ "$blobs" -gt 0 ]
