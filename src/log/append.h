/*
 * append.h
 *	  Appending to seq_log: the order of appends, and their wake-up.
 */
#ifndef CALVIN_LOG_APPEND_H
#define CALVIN_LOG_APPEND_H

#include "compat.h"

#include "datatype/timestamp.h"
#include "wire/wire.h"

/* The most that seq_append(..., force => true) may skip, in epochs. */
#define APPEND_MAX_JUMP (1 << 20)

/* Called once, by _PG_init(). */
extern void append_init(void);

/*
 * Queue behind the other appenders: returns when this transaction may
 * append, and keeps them waiting until it ends.  Served by lock_timeout,
 * deadlock detection and query cancel.
 */
extern void append_lock(void);

/* The epoch that follows the log's last, as append_lock() just found it. */
extern uint64 append_next_epoch(void);

/* Where the log ends, as append_lock() just found it. */
extern int64 append_current_end(void);

/*
 * When a batch is that is made now, right after append_lock(): by the wall clock
 * in milliseconds since 1970, but never before the log's last batch.
 */
extern int64 append_batch_ms(void);

/*
 * The highest log_index, and the highest epoch (-1 for none), committed now,
 * whatever the isolation level.  What this transaction itself has appended
 * does not count.
 */
extern int64 append_committed_end(void);
extern int64 append_committed_epoch(void);

/* Where a row goes that is about to be inserted, and what it is. */
typedef struct AppendPlace
{
	int64		log_index;
	int64		epoch; /* -1: null */
	const char *kind;
} AppendPlace;

/*
 * For the table's triggers: lock the log's end, and find a row its place.  "final":
 * no other trigger can give it another one.
 */
extern void append_place_row(bool is_explicit, int64 wanted,
							 struct varlena *entry, bool final,
							 AppendPlace *place);

/* And after the statement: by now it is known which rows really went in. */
extern void append_end_statement(void);

/* Is it this module itself that updates the log now? */
extern bool append_is_correcting(void);

/*
 * Insert a checked, canonical entry, which "what" describes, right after
 * append_lock(); returns its log_index.
 */
extern int64 append_insert(bytea *entry, const WireEntry *what);

/* A row that another server's log has. */
typedef struct CopiedRow
{
	int64		log_index;
	TimestampTz appended_at;
	bytea	   *entry;
} CopiedRow;

/* What it costs beside its entry, where it is bounded how much is sent at once. */
#define COPIED_ROW_BYTES 64

/*
 * Insert such rows, ascending and all behind the log's end, right after append_lock(),
 * as they are: also where the log is nobody's to append to.
 */
extern void append_copies(const CopiedRow *rows, int n);

#endif							/* CALVIN_LOG_APPEND_H */
