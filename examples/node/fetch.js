// Works for the group that is named: fetches, and does its work in the same transaction.
import { setTimeout } from 'node:timers/promises'
import pg from 'pg'

const group = process.argv[2]
for (;;) {
  const db = new pg.Client()
  db.on('error', () => {}) // the query that runs, or the next one, fails of it
  try {
    await db.connect()
    for (;;) {
      await db.query('BEGIN')
      const { rows } = await db.query("SELECT collection, payload FROM seq_fetch_json($1, 100, '5s')", [group])
      for (const { collection, payload } of rows)
        await db.query('INSERT INTO letters (reader, about, number) VALUES ($1, $2, $3)',
          [group, collection, payload.number])
      await db.query('COMMIT')
    }
  } catch (error) {
    // Nothing is to be cleaned up: what did not commit is fetched again.
    console.error(error.message)
    db.end().catch(() => {})
    await setTimeout(200)
  }
}
