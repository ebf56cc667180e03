# shellcheck shell=bash
# demo-story.sh
#     What `make demo` tells; demo.sh says what can be used here.

story() {
	say "The extension makes its log, and an applier for this database starts."
	psql_run "CREATE EXTENSION calvin_seq"
	psql_run "SELECT * FROM seq_state"
}
