/*
 * submission.c
 *	  What this transaction has submitted, until it commits.
 *
 * Submissions are collected in memory, a level for each subtransaction that has
 * some, since what is rolled back to a savepoint takes them with it.  A level that
 * grows beyond SPILL_BYTES is written to the inbox as chunks, by the very
 * subtransaction it belongs to.  When the transaction commits, what is still in
 * memory is written too, under the stamp that is drawn then, with the row by which
 * the sequencer knows the packet as the last one: it becomes visible with the
 * transaction, or never.
 *
 * Nothing is locked by a call; what was written keeps its partition from being
 * emptied until the transaction ends.
 */
#include "compat.h"

#include "access/relation.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "log/attach.h"
#include "log/following.h"
#include "log/inbox.h"
#include "log/memory.h"
#include "log/numbers.h"
#include "log/record.h"
#include "log/submission.h"
#include "miscadmin.h"
#include "shared/admission.h"
#include "shared/database.h"
#include "shared/pause.h"
#include "shared/submitters.h"
#include "storage/ipc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* What of a level is in memory at most, but for a single submission. */
#define SPILL_BYTES (1024 * 1024)

/*
 * And of one that has got it from its children, before these are written themselves:
 * so many small ones do not make as many small chunks too soon.
 */
#define OUTER_BYTES (16 * 1024 * 1024)

/* A part of a packet: a chunk, or as many bytes of the level's memory. */
typedef struct Piece
{
	InboxPlace	place; /* INBOX_NOWHERE: in memory */
	uint32		len;
} Piece;

/* What a submission that was counted for its tenant gives back. */
typedef struct Reserved
{
	uint64		tenant_id;
	uint64		bytes;
} Reserved;

typedef struct Level
{
	struct Level *outer;
	SubTransactionId subid;
	char	   *memory;
	Size		used;
	Size		size;
	Piece	   *pieces;
	int			npieces;
	Size		pieces_size;
	Reserved   *reserved;
	int			nreserved;
	Size		reserved_size;
	uint64		rows;
	uint64		bytes;
} Level;

/* The innermost one that has something; in TopTransactionContext, as all of it. */
static Level *levels = NULL;

/* Where they are going to, from the first submission on. */
static Oid	extension;
static DatabaseSlot *slot = NULL;
static uint64 slot_life; /* of the slot: it may have become another database's */
static int	partition = -1; /* chosen with the first row */

/* What others do on commit may come behind us: it is written at once. */
static bool committing = false;

static bool numbered = false; /* numbers of this transaction are published */
static bool drawn = false; /* the sequencer waits for this transaction */

/* What is written under a stamp, and counts as waiting whether it commits or not. */
static Level *flushed = NULL;

static void
forget_all(void)
{
	levels = NULL;
	slot = NULL;
	partition = -1;
	committing = false;
	numbered = false;
	drawn = false;
	flushed = NULL;
}

static void
add_piece(Level *level, InboxPlace place, uint32 len)
{
	Piece	   *last = level->npieces == 0 ? NULL : &level->pieces[level->npieces - 1];

	if (place == INBOX_NOWHERE && last != NULL && last->place == INBOX_NOWHERE &&
		(uint64) last->len + len <= PG_UINT32_MAX)
	{
		last->len += len;
		return;
	}
	memory_grow(TopTransactionContext, (void **) &level->pieces, &level->pieces_size,
				level->npieces + 1, sizeof(Piece));
	level->pieces[level->npieces].place = place;
	level->pieces[level->npieces].len = len;
	level->npieces++;
}

static void
add_bytes(Level *level, const void *data, Size len)
{
	memory_grow(TopTransactionContext, (void **) &level->memory, &level->size,
				level->used + len, 1);
	memcpy(level->memory + level->used, data, len);
	level->used += len;
	add_piece(level, INBOX_NOWHERE, (uint32) len);
}

/* All but what is to be given back. */
static void
free_content(Level *level)
{
	if (level->memory != NULL)
		pfree(level->memory);
	if (level->pieces != NULL)
		pfree(level->pieces);
	level->memory = NULL;
	level->pieces = NULL;
}

static void
free_level(Level *level)
{
	free_content(level);
	if (level->reserved != NULL)
		pfree(level->reserved);
	pfree(level);
}

/* The level of the current subtransaction. */
static Level *
current_level(void)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	Level	   *level;

	if (levels != NULL && levels->subid == subid)
		return levels;
	level = MemoryContextAllocZero(TopTransactionContext, sizeof(Level));
	level->subid = subid;
	level->outer = levels;
	levels = level;
	return level;
}

/* What a level had reserved is not going to come. */
static void
give_back(const Level *level)
{
	uint64		rows = level->rows;
	uint64		bytes = level->bytes;

	for (int i = 0; i < level->nreserved; i++)
	{
		admission_release(slot, level->reserved[i].tenant_id,
						  level->reserved[i].bytes, true);
		rows--;
		bytes -= level->reserved[i].bytes;
	}
	admission_release_rows(slot, rows, bytes);
}

/* What a subtransaction submitted becomes its parent's, behind what that had. */
static void
merge(Level *child, Level *parent)
{
	Size		at = 0;

	for (int i = 0; i < child->npieces; i++)
	{
		const Piece *piece = &child->pieces[i];

		if (piece->place == INBOX_NOWHERE)
		{
			add_bytes(parent, child->memory + at, piece->len);
			at += piece->len;
		}
		else
			add_piece(parent, piece->place, piece->len);
	}
	if (child->nreserved > 0)
	{
		memory_grow(TopTransactionContext, (void **) &parent->reserved,
					&parent->reserved_size, parent->nreserved + child->nreserved,
					sizeof(Reserved));
		memcpy(parent->reserved + parent->nreserved, child->reserved,
			   child->nreserved * sizeof(Reserved));
		parent->nreserved += child->nreserved;
	}
	parent->rows += child->rows;
	parent->bytes += child->bytes;
}

/* The partition that this transaction writes to, all of it to one. */
static Relation
open_partition(void)
{
	if (partition < 0)
		partition = (int) submitters_partition(slot);
	return inbox_open((uint32) partition, extension, RowExclusiveLock);
}

/* Write what a level has in memory as chunks, one after the other. */
static void
spill(Level *level)
{
	Relation	rel = open_partition();
	Piece	   *pieces = level->pieces;
	int			npieces = level->npieces;
	Size		at = 0;

	level->pieces = NULL;
	level->npieces = 0;
	level->pieces_size = 0;
	for (int i = 0; i < npieces; i++)
	{
		if (pieces[i].place != INBOX_NOWHERE)
		{
			add_piece(level, pieces[i].place, pieces[i].len);
			continue;
		}
		for (uint32 done = 0; done < pieces[i].len;)
		{
			uint32		len = Min(pieces[i].len - done, INBOX_ROW_BYTES);

			CHECK_FOR_INTERRUPTS();
			add_piece(level,
					  inbox_insert(rel, (uint32) partition, INBOX_KIND_CHUNK, 0, 0,
								   0, level->memory + at, len, 0),
					  len);
			at += len;
			done += len;
		}
	}
	relation_close(rel, NoLock);
	if (pieces != NULL)
		pfree(pieces);
	level->used = 0;
	/* a single large one may have made it so */
	if (level->size > 2 * SPILL_BYTES)
	{
		pfree(level->memory);
		level->memory = NULL;
		level->size = 0;
	}
}

/*
 * The row by which a packet of chunks is known names them all; the first ones in
 * rows of their own, if they are many.
 */
static InboxPlace
insert_directory(Relation rel, const Level *level, uint64 stamp, int64 at)
{
	const int	max = (INBOX_ROW_BYTES - INBOX_DIRECTORY_HEAD) / sizeof(InboxPlace);
	const int	head = INBOX_DIRECTORY_HEAD / sizeof(uint64);
	uint64	   *data = palloc(INBOX_ROW_BYTES);
	InboxPlace *chunks = data + head;
	InboxPlace	before = INBOX_NOWHERE;
	int			n = 0;

	data[0] = level->rows;
	data[1] = level->bytes;
	for (int i = 0; i < level->npieces; i++)
	{
		if (n == max)
		{
			CHECK_FOR_INTERRUPTS();
			before = inbox_insert(rel, (uint32) partition, INBOX_KIND_EXTENSION, 0,
								  0, before, chunks, n * sizeof(InboxPlace), 0);
			n = 0;
		}
		chunks[n++] = level->pieces[i].place;
	}
	return inbox_insert(rel, (uint32) partition, INBOX_KIND_DIRECTORY, stamp, at,
						before, data,
						INBOX_DIRECTORY_HEAD + n * sizeof(InboxPlace), 0);
}

/* Write the packet.  From here on the sequencer waits for this transaction. */
static void
flush(void)
{
	Level	   *level = levels;
	int64		at = GetCurrentTimestamp();
	Relation	rel;
	uint64		stamp;
	InboxPlace	place;
	bool		small;

	Assert(level->outer == NULL);
	if (level->rows == 0)
		return;
	small = level->npieces == 1 && level->pieces[0].place == INBOX_NOWHERE &&
		level->used <= INBOX_ROW_BYTES;
	if (!small)
		spill(level);
	rel = open_partition();
	drawn = true;
	stamp = submitters_draw(slot);
	PAUSE_POINT("submission: stamp drawn");
	place = small ?
		inbox_insert(rel, (uint32) partition, INBOX_KIND_PACKET, stamp, at,
					 level->rows, level->memory, (uint32) level->used, 0) :
		insert_directory(rel, level, stamp, at);
	submitters_note_place(slot, stamp, place, at);
	relation_close(rel, NoLock);
	levels = NULL;
	level->outer = flushed;
	flushed = level;
	free_content(level);
	PAUSE_POINT("submission: written");
}

static bool
has_submissions(void)
{
	for (const Level *level = levels; level != NULL; level = level->outer)
		if (level->rows > 0)
			return true;
	return false;
}

/* The transaction is over, and what became of it can be seen. */
static void
at_end(bool committed)
{
	bool		serving = slot != NULL && submitters_life(slot) == slot_life;

	for (Level *level = flushed; serving && level != NULL; level = level->outer)
	{
		if (committed)
			submitters_count_submitted(slot, level->rows, level->bytes);
		else
			give_back(level);
	}
	for (Level *level = levels; serving && level != NULL; level = level->outer)
		give_back(level);
	if (drawn || numbered)
	{
		PAUSE_POINT("submission: before clearing");
		submitters_clear(slot);
	}
	if (drawn)
		submitters_wake(slot);
	forget_all();
}

static void
at_xact_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			committing = true;
			if (levels != NULL)
				flush();
			break;
		case XACT_EVENT_PRE_PREPARE:
			if (drawn || has_submissions())
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has submitted something"),
						 errdetail("Its place in the order is found when it commits."),
						 errhint("Submit in a transaction of its own, after COMMIT PREPARED.")));
			break;
		case XACT_EVENT_COMMIT:
			at_end(true);
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			at_end(false);
			break;
		default:
			break;
	}
}

static void
at_subxact_event(SubXactEvent event, SubTransactionId subid,
				 SubTransactionId parent, void *arg)
{
	Level	   *level = levels;
	Level	   *outer;

	if (level == NULL || level->subid != subid)
		return;
	outer = level->outer;
	switch (event)
	{
		case SUBXACT_EVENT_PRE_COMMIT_SUB:
			/* what the parent has in memory must not grow with its children */
			if (outer != NULL && outer->subid == parent &&
				outer->used + level->used > OUTER_BYTES)
				spill(level);
			break;
		case SUBXACT_EVENT_COMMIT_SUB:
			if (outer == NULL || outer->subid != parent)
			{
				level->subid = parent;
				break;
			}
			merge(level, outer);
			levels = outer;
			free_level(level);
			break;
		case SUBXACT_EVENT_ABORT_SUB:
			if (submitters_life(slot) == slot_life)
				give_back(level);
			levels = outer;
			free_level(level);
			break;
		default:
			break;
	}
}

void
submission_init(void)
{
	RegisterXactCallback(at_xact_event, NULL);
	RegisterSubXactCallback(at_subxact_event, NULL);
}

/* So that nothing can fail between a reservation and its being remembered. */
static Level *
prepare_level(void)
{
	Level	   *level = current_level();

	memory_grow(TopTransactionContext, (void **) &level->reserved,
				&level->reserved_size, level->nreserved + 1, sizeof(Reserved));
	return level;
}

void
submission_begin(const char *function)
{
	const LogTable *table;
	DatabaseSlot *serving;

	shmem_require();
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s during recovery", function),
				 errhint("Submit on the primary.")));
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
	table = log_table_require();
	if (slot != NULL)
	{
		if (extension != table->extension)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("extension %s was created anew after this transaction had submitted to it",
							EXTENSION_NAME),
					 errhint("Run the transaction again.")));
		return;
	}
	if (table->created_here)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot submit in the transaction that creates the extension"),
				 errhint("Commit CREATE EXTENSION first.")));
	serving = attach_database();
	following_refuse_submission(serving);
	slot = serving;
	slot_life = submitters_life(slot);
	extension = table->extension;
}

/* The next number; with the last of a block, another one is reserved. */
static uint64
next_number(void)
{
	uint64		number;

	while (!submitters_take_number(slot, &number))
		numbers_reserve(slot);
	return number;
}

int64
submission_add(const uint8 *tx_class, Size size, uint64 plans_bytes,
			   uint64 tenant_id)
{
	Level	   *level = prepare_level();
	bool		counted = admission_reserve(slot, tenant_id, size);
	RecordHead	head = {0};

	level->rows++;
	level->bytes += size;
	if (counted)
	{
		level->reserved[level->nreserved].tenant_id = tenant_id;
		level->reserved[level->nreserved].bytes = size;
		level->nreserved++;
	}
	PAUSE_POINT("submission: counted");
	/* counted, so that seq_follow() sees it; or it is seen here */
	following_refuse_submission(slot);
	head.number = next_number();
	if (!numbered)
		submitters_begin_numbers(head.number);
	numbered = true;
	head.size = (uint32) size;
	head.plans = (uint32) plans_bytes;
	head.flags = counted ? RECORD_COUNTED : 0;
	add_bytes(level, &head, sizeof(head));
	add_bytes(level, tx_class, size);
	if (committing)
		flush();
	else if (level->used >= SPILL_BYTES)
		spill(level);
	return (int64) head.number;
}
