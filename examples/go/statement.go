// Works for the group that is named by single statements, as a pooler's statement mode needs it.
package main

import (
	"database/sql"
	"log"
	"os"
	"time"

	_ "github.com/lib/pq"
)

const work = `WITH m AS MATERIALIZED (SELECT * FROM seq_fetch_json($1, 100, '5s'))
	INSERT INTO letters (reader, about, number)
	SELECT $1, collection, (payload ->> 'number')::int FROM m`

func main() {
	// Without binary_parameters a statement is prepared in one round trip, and run in another.
	db, err := sql.Open("postgres", "binary_parameters=yes")
	if err != nil {
		log.Fatal(err)
	}
	for {
		if _, err := db.Exec(work, os.Args[1]); err != nil {
			log.Print(err)
			time.Sleep(200 * time.Millisecond)
		}
	}
}
