// Reads "customer number" lines; each is an order, and its message, in one transaction.
package main

import (
	"database/sql"
	"fmt"
	"log"
	"time"

	_ "github.com/lib/pq"
)

func publish(db *sql.DB, customer string, number int) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	order, err := tx.Exec("INSERT INTO orders VALUES ($1, $2) ON CONFLICT DO NOTHING", customer, number)
	if err != nil {
		return err
	}
	if n, _ := order.RowsAffected(); n == 1 {
		payload := fmt.Sprintf(`{"number": %d}`, number)
		if _, err = tx.Exec("SELECT seq_send($1, $2)", "orders/"+customer, payload); err != nil {
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
	for customer, number := "", 0; ; {
		if _, err := fmt.Scan(&customer, &number); err != nil {
			return
		}
		// Lost in Commit it may have committed: at the next try the key of orders tells.
		for err := publish(db, customer, number); err != nil; err = publish(db, customer, number) {
			log.Print(err)
			time.Sleep(200 * time.Millisecond)
		}
	}
}
