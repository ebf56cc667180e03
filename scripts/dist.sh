#!/bin/bash
#
# dist.sh
#     What is released, from what is committed: `make dist`. Makes
#     dist/calvin_seq-VERSION.zip, which is for PGXN, and .tar.gz.

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

cd "$top"
perl scripts/meta-check.pl || die "META.json is not right"
[ "$(git rev-parse --show-toplevel 2>/dev/null)" = "$top" ] || die "make dist needs a clone: it packs what is committed"
version=$(perl -MJSON::PP -0777 -ne 'print decode_json($_)->{version}' META.json)
[ -z "$(git status --porcelain)" ] || echo "note: there are changes that are not committed, and not packed" >&2

mkdir -p dist
for form in zip tar.gz; do
	git archive --format="$form" --prefix="calvin_seq-$version/" --output="dist/calvin_seq-$version.$form" HEAD
	echo "dist/calvin_seq-$version.$form"
done
