// Works for the group that is named: fetches, and does its work in the same transaction.
package main

import (
	"database/sql"
	"log"
	"os"
	"time"

	_ "github.com/lib/pq"
)

func work(db *sql.DB, group string) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	rows, err := tx.Query("SELECT collection, (payload ->> 'number')::int FROM seq_fetch_json($1, 100, '5s')", group)
	if err != nil {
		return err
	}
	var abouts []string
	var numbers []int
	for rows.Next() {
		var about string
		var number int
		if err = rows.Scan(&about, &number); err != nil {
			return err
		}
		abouts, numbers = append(abouts, about), append(numbers, number)
	}
	if err = rows.Err(); err != nil { // what is not all there must not be committed
		return err
	}
	for i := range abouts {
		_, err = tx.Exec("INSERT INTO letters (reader, about, number) VALUES ($1, $2, $3)", group, abouts[i], numbers[i])
		if err != nil {
			return err
		}
	}
	return tx.Commit()
}

func main() {
	db, err := sql.Open("postgres", "binary_parameters=yes")
	if err != nil {
		log.Fatal(err)
	}
	for { // nothing is to be cleaned up: what did not commit is fetched again
		if err := work(db, os.Args[1]); err != nil {
			log.Print(err)
			time.Sleep(200 * time.Millisecond)
		}
	}
}
