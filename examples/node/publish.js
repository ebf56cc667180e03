// Reads "customer number" lines; each is an order, and its message, in one transaction.
import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'
import pg from 'pg'

let db = null

async function publish(customer, number) {
  if (!db) {
    db = new pg.Client()
    db.on('error', () => {}) // the query that runs, or the next one, fails of it
    await db.connect()
  }
  await db.query('BEGIN')
  const order = await db.query('INSERT INTO orders VALUES ($1, $2) ON CONFLICT DO NOTHING', [customer, number])
  if (order.rowCount === 1)
    await db.query('SELECT seq_send($1, $2)', [`orders/${customer}`, { number }])
  await db.query('COMMIT')
}

for await (const line of createInterface({ input: process.stdin })) {
  const [customer, number] = line.split(' ')
  for (let done = false; !done;) {
    try {
      await publish(customer, Number(number))
      done = true
    } catch (error) {
      // Lost in COMMIT it may have committed: at the next try the key of orders tells.
      console.error(error.message)
      db.end().catch(() => {})
      db = null
      await setTimeout(200)
    }
  }
}
await db?.end()
