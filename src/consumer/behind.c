/*
 * behind.c
 *	  How old the first thing is that each consumer by name has not processed.
 *
 * Of a consumer that has nothing to come the traffic (shared/traffic.h) says so, and
 * of one that is behind the log has the answer near where it stands.  What remains is
 * one for which nothing has come for long, and of which the traffic does not know: the
 * log is walked for it.  Who watches asks again and again, so the session remembers
 * how far that was, and what was found, as long as the consumer stands where it stood.
 */
#include "compat.h"

#include "common/hashfn.h"
#include "consumer/behind.h"
#include "log/table.h"
#include "miscadmin.h"
#include "shared/database.h"
#include "shared/traffic.h"
#include "utils/hsearch.h"

/* How often all is looked for anew since the log was truncated meanwhile. */
#define MAX_TRIES 10

/* More than there are consumers by so many: some have gone, and are forgotten. */
#define MAX_GONE 64

typedef struct Looked
{
	NameData	name;		/* the key */
	uint64		stands;		/* where it stood, as one number */
	uint64		epoch;		/* nothing before it is for it */
	TimestampTz oldest;		/* what was found, 0: nothing yet */
} Looked;

static HTAB *known = NULL;

static uint64
mix(uint64 hash, uint64 a, uint64 b)
{
	uint64		words[2] = {a, b};

	return hash_bytes_extended((const unsigned char *) words, sizeof(words), hash);
}

/* Where a consumer stands, in which log: another number if anything of it changes. */
static uint64
place_of(const Backlog *backlog, Oid log)
{
	uint64		hash = mix(0, log, backlog->registration == NULL ? 0 :
						   backlog->registration->id);

	for (int v = 0; v < WIRE_VSHARDS; v++)
	{
		GroupKey	next = backlog->next[v];

		if (backlog->wanted[v])
			hash = mix(hash, next.epoch,
					   (uint64) next.position << 32 | (uint64) next.vshard << 16 | v);
	}
	for (int i = 0; i < backlog->nparked; i++)
		hash = mix(hash, backlog->parked[i].key.epoch,
				   (uint64) backlog->parked[i].key.position << 32 |
					   backlog->parked[i].key.vshard);
	return hash;
}

static void
forget_gone(int n)
{
	if (known != NULL && hash_get_num_entries(known) > n + MAX_GONE)
	{
		hash_destroy(known);
		known = NULL;
	}
	if (known == NULL)
	{
		HASHCTL		control = {0};

		control.keysize = NAMEDATALEN;
		control.entrysize = sizeof(Looked);
		known = hash_create("calvin_seq consumers behind", 64, &control,
							HASH_ELEM | HASH_STRINGS);
	}
}

static void
find_oldest(Backlog *backlog, Oid log, uint64 kept, BatchWalk *walk)
{
	uint64		stands = place_of(backlog, log);
	bool		found;
	Looked	   *looked = hash_search(known, NameStr(backlog->name), HASH_ENTER, &found);

	if (!found || looked->stands != stands)
	{
		looked->stands = stands;
		looked->epoch = 0;
		looked->oldest = 0;
	}
	/* a walk that is cancelled has told how far it was */
	if (looked->oldest == 0)
	{
		backlog_find_first(backlog, kept, walk, &looked->epoch);
		looked->oldest = backlog->oldest;
	}
	else
		backlog_find_lost(backlog, kept);
	backlog->oldest = looked->oldest;
}

int
behind_list(Backlog **backlogs)
{
	DatabaseSlot *slot = database_mine();
	Oid			log = log_table_require()->log;
	BatchWalk  *walk = batch_walk_create(NULL);
	uint64		kept = backlog_kept();

	if (slot != NULL)
		traffic_want(slot);
	/* as backlog_count_all() does */
	for (int tries = 1;; tries++)
	{
		int			n = backlog_list(backlogs);
		uint64		before = kept;

		forget_gone(n);
		for (int i = 0; i < n; i++)
			find_oldest(&(*backlogs)[i], log, before, walk);
		kept = backlog_kept();
		if (kept == before || tries == MAX_TRIES)
			return n;
	}
}
