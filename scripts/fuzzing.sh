# shellcheck shell=bash disable=SC2154
# fuzzing.sh
#     The fuzzers of test/fuzz, for `make fuzz` and `make test`. To be sourced
#     after cluster.sh, and used after copy_sources; fuzz_json needs the
#     private server too.
#
# Everything lies in $work/fuzz: what is built, corpus/NAME, NAME.log, and in
# found/ the inputs that made something fail.

# Sets fuzz_clang; false if there is no clang that can build a fuzzer.
find_fuzzer_clang() {
	fuzz_clang=$(command -v "${CLANG:-clang}") || return 1
	printf 'int LLVMFuzzerTestOneInput(const char *d, long n) { return d && n ? 0 : 0; }\n' |
		as_user "$fuzz_clang" -fsanitize=fuzzer,address -x c -o "$work/tmp/fuzzer" - 2>/dev/null
}

fuzz_make() {
	as_user env -C "$work/tree" make -s -j "$jobs" -C test/fuzz "BUILD=$work/fuzz" \
		"CC=${CC:-gcc}" "CLANG=${fuzz_clang:-}" "$@"
}

# The programs, and what the runs begin with.
fuzz_prepare() {
	as_user mkdir -p "$work/fuzz/corpus" "$work/fuzz/found"
	fuzz_clang=
	if find_fuzzer_clang; then
		guarded fuzz_make drive fuzzers || return 1
	else
		fuzz_clang=
		guarded fuzz_make drive || return 1
	fi
	as_user perl "$work/tree/test/fuzz/make_corpus.pl" "$work/tree/test/vectors" "$work/fuzz/corpus"
	as_user tar -xzf "$work/tree/test/fuzz/corpus.tar.gz" -C "$work/fuzz/corpus"
	as_user cp -R "$work/tree/test/fuzz/regress/." "$work/fuzz/corpus"
}

# fuzz_run NAME SECONDS: one fuzzer, or without clang the plain driver.
fuzz_run() {
	local name=$1 seconds=$2 status=0 log=$work/fuzz/$1.log most=1024 rounds
	[ "$name" != machine ] || most=512
	: >"$log"
	if [ -n "$fuzz_clang" ]; then
		guarded as_user env -C "$work/fuzz" ASAN_OPTIONS=allocator_may_return_null=1 \
			"./fuzz_$name" "-max_total_time=$seconds" "-max_len=$most" -timeout=25 -print_final_stats=1 \
			"-artifact_prefix=found/$name-" "corpus/$name" >"$log" 2>&1 || status=$?
		executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
	else
		rounds=$((seconds * 3000))
		# shellcheck disable=SC2016
		guarded as_user env -C "$work/fuzz" sh -c \
			'exec timeout "$1" ./drive "$2" -r "$3" -o "found/$2-plain" corpus/"$2"/*' sh \
			"$((seconds * 20 + 60))" "$name" "$rounds" >"$log" 2>&1 || status=$?
		executions=$(sed -n 's/^\([0-9]*\) executions$/\1/p' "$log")
	fi
	executions=${executions:-0}
	[ "$status" -eq 0 ] || tail -n 40 "$log"
	return "$status"
}

# fuzz_json ROUNDS: entries to JSON and back, by one query over a table.
fuzz_json() {
	local rounds=$1 result
	local pairs=$work/fuzz/json.tsv
	# shellcheck disable=SC2016
	guarded as_user env -C "$work/fuzz" sh -c \
		'./drive json -r "$1" -s "$1" corpus/codec/* >json.tsv' sh "$rounds" || return 1
	cluster_init fuzz_json </dev/null
	cluster_start fuzz_json
	cluster_psql fuzz_json -qAt -v ON_ERROR_STOP=1 -d postgres \
		-f "$work/tree/test/fuzz/json_identity.sql" <"$pairs" >"$work/fuzz/json.log" 2>&1 || true
	cluster_stop fuzz_json immediate
	result=$(tail -n 1 "$work/fuzz/json.log")
	if [[ $result =~ ^json:\ ([0-9]+)\ entries,\ ([0-9]+)\ refused,\ 0\ wrong$ ]] && [ "${BASH_REMATCH[1]}" -ge "$((rounds / 20))" ]; then
		executions=${BASH_REMATCH[1]}
		return 0
	fi
	executions=0
	tail -n 40 "$work/fuzz/json.log"
	return 1
}
