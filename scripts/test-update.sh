#!/bin/bash
#
# test-update.sh
#     From the version before this one to this one, with the library of each:
#     `make test-update`. It needs git's history, from which it builds that version.
#
# It takes what test.sh takes; the last line is "N passed, M failed".

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
exec env SUITES=tap PROVE_TESTS="${PROVE_TESTS:-t/020_upgrade.pl t/023_updated.pl}" RELEASED=needed bash "$here/test.sh"
