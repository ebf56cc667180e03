// Works for the group that is named by single statements, as a pooler's statement mode needs it.
import { setTimeout } from 'node:timers/promises'
import pg from 'pg'

const work = `WITH m AS MATERIALIZED (SELECT * FROM seq_fetch_json($1, 100, '5s'))
  INSERT INTO letters (reader, about, number)
  SELECT $1, collection, (payload ->> 'number')::int FROM m`
for (;;) {
  const db = new pg.Client()
  db.on('error', () => {}) // the query that runs, or the next one, fails of it
  try {
    await db.connect()
    for (;;) await db.query(work, [process.argv[2]])
  } catch (error) {
    console.error(error.message)
    db.end().catch(() => {})
    await setTimeout(200)
  }
}
