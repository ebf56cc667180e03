// Subscribes, under a registered name, to the vshards that are named, and decodes framed batches.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"log"
	"os"
	"strings"
	"time"

	_ "github.com/lib/pq"
	"github.com/vmihailenco/msgpack/v5"
)

type txClass struct {
	_msgpack          struct{} `msgpack:",as_array"`
	ReadSet, WriteSet []keySet
	Plans             []byte
	Tenant            uint64
	DependentReads    msgpack.RawMessage
}

type keySet struct {
	_msgpack struct{} `msgpack:",as_array"`
	Engine   string
	Keys     struct {
		_msgpack   struct{} `msgpack:",as_array"`
		Collection string
		Elements   msgpack.RawMessage
	}
}

type frame struct {
	_msgpack          struct{} `msgpack:",as_array"`
	Vshard            uint16
	Epoch             uint64
	Position          uint32
	EpochMilliseconds int64
	Tx                txClass
}

func receive(session *sql.Conn, name string) error {
	ctx := context.Background()
	tx, err := session.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var batch []byte
	var frames []frame
	if err = tx.QueryRow("SELECT seq_receive_batch(1000, '5s', $1)", name).Scan(&batch); err != nil {
		return err
	}
	if err = msgpack.Unmarshal(batch, &frames); err != nil {
		return err
	}
	for _, f := range frames {
		var payload struct{ Number int }
		if err = json.Unmarshal(f.Tx.Plans, &payload); err != nil {
			return err
		}
		_, err = tx.Exec("INSERT INTO letters (reader, about, number) VALUES ($1, $2, $3)",
			name, f.Tx.WriteSet[0].Keys.Collection, payload.Number)
		if err != nil {
			return err
		}
	}
	if _, err = tx.Exec("SELECT seq_commit($1)", name); err != nil {
		return err
	}
	return tx.Commit()
}

func subscribe(db *sql.DB, name, vshards string) error {
	session, err := db.Conn(context.Background()) // a subscription is a session's
	if err != nil {
		return err
	}
	defer session.Close()
	_, err = session.ExecContext(context.Background(), "SELECT seq_subscribe($1, $2)", vshards, name)
	for err == nil {
		err = receive(session, name)
	}
	return err
}

func main() {
	db, err := sql.Open("postgres", "binary_parameters=yes")
	if err != nil {
		log.Fatal(err)
	}
	for { // the new session goes on at the durable cursor, which moved with the letters
		log.Print(subscribe(db, os.Args[1], "{"+strings.Join(os.Args[2:], ",")+"}"))
		time.Sleep(200 * time.Millisecond)
	}
}
