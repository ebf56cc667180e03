/*
 * batches.h
 *	  Walking the transactions of a range of epochs in the log.
 *
 * Entries are fetched in blocks, each by an index scan of its own, so that
 * nothing stays open between calls: the walk may be left standing for any
 * time, and small entries still cost little.  Memory is bounded by the block,
 * or by one entry where that is larger.
 */
#ifndef CALVIN_LOG_BATCHES_H
#define CALVIN_LOG_BATCHES_H

#include "compat.h"

#include "log/access.h"
#include "log/delivery.h"
#include "wire/wire.h"

typedef struct BatchWalk BatchWalk;

/*
 * Lives in the current memory context, with all its memory.  "consumer" is the
 * name of the subscription it is for, for errors, or NULL; it has to stay.
 */
extern BatchWalk *batch_walk_create(const char *consumer);

/*
 * It is of this seq_log only: an error if there is another one by the time it is
 * read.
 */
extern void batch_walk_bind(BatchWalk *walk, Oid log);

/* Begin with from_epoch; batches above to_epoch are not visited. */
extern void batch_walk_start(BatchWalk *walk, uint64 from_epoch,
							 uint64 to_epoch);

/*
 * What was truncated is passed over: nothing of it is for the group that the walk is
 * for, or the group would have been marked (registry_mark_lost()).  Since the mark may be
 * younger than the last look at it, the walk tells, once, if it has come upon epochs that
 * are not there.
 */
extern void batch_walk_for_group(BatchWalk *walk);
extern bool batch_walk_lacks(BatchWalk *walk);

/* What has been read stays, to be come back to; batch_walk_stop() frees it. */
extern void batch_walk_keep(BatchWalk *walk);

/* What was kept of another seq_log than this one is forgotten. */
extern void batch_walk_set_log(BatchWalk *walk, Oid log);

/* As batch_walk_start(), but what was kept is not read again. */
extern void batch_walk_seek(BatchWalk *walk, uint64 from_epoch, uint64 to_epoch);

/* Bytes that are kept. */
extern Size batch_walk_kept(const BatchWalk *walk);

/*
 * The next transaction, valid until the next call, or false after the last.
 * A block is read with a snapshot of that kind, taken for it.
 * Raises an error if the walk has come to what was truncated.
 */
extern bool batch_walk_next(BatchWalk *walk, AccessSnapshot kind, WireTxn *txn);

/* The batch that the last transaction is of. */
extern const WireEntry *batch_walk_entry(const BatchWalk *walk);

/* When that was appended. */
extern TimestampTz batch_walk_appended_at(const BatchWalk *walk);

/* The last transaction as its vshard's consumer gets it. */
extern void batch_walk_deliver(BatchWalk *walk, const WireTxn *txn,
							   uint16 vshard, Delivery *delivery);

/* Free what the walk holds of the log. */
extern void batch_walk_stop(BatchWalk *walk);

#endif							/* CALVIN_LOG_BATCHES_H */
