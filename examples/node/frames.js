// Subscribes, under a registered name, to the vshards that are named, and decodes framed batches.
import { setTimeout } from 'node:timers/promises'
import { decode } from '@msgpack/msgpack'
import pg from 'pg'

const [name, ...vshards] = process.argv.slice(2)
for (;;) {
  const db = new pg.Client()
  db.on('error', () => {}) // the query that runs, or the next one, fails of it
  try {
    await db.connect()
    await db.query('SELECT seq_subscribe($1, $2)', [vshards, name])
    for (;;) {
      await db.query('BEGIN')
      const { rows } = await db.query("SELECT seq_receive_batch(1000, '5s', $1) AS batch", [name])
      for (const [vshard, epoch, position, ms, txClass] of decode(rows[0].batch)) {
        const [readSet, writeSet, plans, tenant, dependentReads] = txClass
        const [engine, [about, surrogates]] = writeSet[0]
        await db.query('INSERT INTO letters (reader, about, number) VALUES ($1, $2, $3)',
          [name, about, JSON.parse(Buffer.from(plans)).number])
      }
      await db.query('SELECT seq_commit($1)', [name])
      await db.query('COMMIT')
    }
  } catch (error) {
    // The new session goes on at the durable cursor, which moved with the letters.
    console.error(error.message)
    db.end().catch(() => {})
    await setTimeout(200)
  }
}
