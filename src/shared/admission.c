/*
 * admission.c
 *	  What is let into the inbox: limits of one submission, and of all that wait.
 *
 * A submission waits from the call that makes it until it is in the log, or
 * rolled back.  That is counted in words of the database's slot: by the
 * sessions, each for its own submissions, and by the sequencer for what it takes.
 *
 * Tenants are counted only for a submission made while there is a quota, so that
 * without one nobody takes a lock.  They are in a hash of all databases, under a
 * lock of its own, which is taken inside that of the slots or by itself, and
 * inside of which none is taken.  A tenant is in it as long as its count is not
 * zero.
 */
#include "compat.h"

#include "shared/admission.h"
#include "shared/database.h"
#include "shared/settings.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#define LWLOCK_TRANCHE "calvin_seq_tenants"

/* Tenants with something waiting at once, in all databases. */
#define MAX_TENANTS 8192

typedef struct TenantKey
{
	uint64		tenant_id;
	uint64		slot; /* the database's, by number; as wide as the other, so that
					   * nothing is between them */
} TenantKey;

typedef struct Tenant
{
	TenantKey	key;
	uint64		waiting; /* under the lock of tenants; not zero */
} Tenant;

static HTAB *tenants = NULL;
static LWLock *tenants_lock = NULL;

/*
 * Shared memory
 */

Size
admission_shmem_size(void)
{
	return hash_estimate_size(MAX_TENANTS, sizeof(Tenant));
}

void
admission_shmem_request(void)
{
	RequestAddinShmemSpace(admission_shmem_size());
	RequestNamedLWLockTranche(LWLOCK_TRANCHE, 1);
}

/* In every process that attaches, with AddinShmemInitLock held. */
void
admission_shmem_init(void)
{
	HASHCTL		info;

	memset(&info, 0, sizeof(info));
	info.keysize = sizeof(TenantKey);
	info.entrysize = sizeof(Tenant);
	tenants = compat_shmem_hash("calvin_seq tenants", MAX_TENANTS, &info,
								HASH_ELEM | HASH_BLOBS);
	tenants_lock = &(GetNamedLWLockTranche(LWLOCK_TRANCHE))->lock;
}

void
admission_slot_init(DatabaseSlot *slot)
{
	pg_atomic_init_u64(&slot->admission.rows, 0);
	pg_atomic_init_u64(&slot->admission.bytes, 0);
	for (int i = 0; i < ADMISSION_REASONS; i++)
		pg_atomic_init_u64(&slot->admission.rejected[i], 0);
}

void
admission_begin_locked(DatabaseSlot *slot)
{
	uint64		number = slot - Calvin->databases;
	HASH_SEQ_STATUS status;
	Tenant	   *tenant;

	pg_atomic_write_u64(&slot->admission.rows, 0);
	pg_atomic_write_u64(&slot->admission.bytes, 0);
	for (int i = 0; i < ADMISSION_REASONS; i++)
		pg_atomic_write_u64(&slot->admission.rejected[i], 0);

	LWLockAcquire(tenants_lock, LW_EXCLUSIVE);
	hash_seq_init(&status, tenants);
	while ((tenant = hash_seq_search(&status)) != NULL)
	{
		if (tenant->key.slot == number)
			(void) hash_search(tenants, &tenant->key, HASH_REMOVE, NULL);
	}
	LWLockRelease(tenants_lock);
}

/*
 * Counting
 */

static void
count_rejected(DatabaseSlot *slot, AdmissionReason reason)
{
	if (slot != NULL)
		pg_atomic_fetch_add_u64(&slot->admission.rejected[reason], 1);
}

/* Never below zero: see admission_begin_locked(). */
static void
take_off(pg_atomic_uint64 *word, uint64 count)
{
	uint64		known = pg_atomic_read_u64(word);

	while (known > 0 &&
		   !pg_atomic_compare_exchange_u64(word, &known, known - Min(known, count)))
		continue;
}

/* One more waits, unless as many as may do already; *waiting is how many did. */
static bool
add_row(DatabaseSlot *slot, uint64 most, uint64 *waiting)
{
	pg_atomic_uint64 *rows = &slot->admission.rows;

	if (most == 0)
	{
		*waiting = pg_atomic_fetch_add_u64(rows, 1);
		return true;
	}
	/* nobody is refused because of one that is refused itself */
	*waiting = pg_atomic_read_u64(rows);
	while (*waiting < most)
	{
		if (pg_atomic_compare_exchange_u64(rows, waiting, *waiting + 1))
			return true;
	}
	return false;
}

static TenantKey
tenant_key(DatabaseSlot *slot, uint64 tenant_id)
{
	TenantKey	key = {tenant_id, slot - Calvin->databases};

	return key;
}

typedef enum TenantVerdict
{
	TENANT_COUNTED,
	TENANT_AT_QUOTA,
	TENANT_TOO_MANY
} TenantVerdict;

/* One more of a tenant's waits, likewise. */
static TenantVerdict
add_tenant(DatabaseSlot *slot, uint64 tenant_id, uint64 most, uint64 *waiting)
{
	TenantKey	key = tenant_key(slot, tenant_id);
	TenantVerdict verdict = TENANT_COUNTED;
	Tenant	   *tenant;

	LWLockAcquire(tenants_lock, LW_EXCLUSIVE);
	tenant = hash_search(tenants, &key, HASH_FIND, NULL);
	*waiting = tenant != NULL ? tenant->waiting : 0;
	if (*waiting >= most)
		verdict = TENANT_AT_QUOTA;
	else if (tenant != NULL)
		tenant->waiting++;
	else
	{
		/* not beyond what was asked for, though the server may have more */
		if (hash_get_num_entries(tenants) < MAX_TENANTS)
			tenant = hash_search(tenants, &key, HASH_ENTER_NULL, NULL);
		if (tenant != NULL)
			tenant->waiting = 1;
		else
			verdict = TENANT_TOO_MANY;
	}
	LWLockRelease(tenants_lock);
	return verdict;
}

static void
take_off_tenant(DatabaseSlot *slot, uint64 tenant_id)
{
	TenantKey	key = tenant_key(slot, tenant_id);
	Tenant	   *tenant;

	LWLockAcquire(tenants_lock, LW_EXCLUSIVE);
	tenant = hash_search(tenants, &key, HASH_FIND, NULL);
	if (tenant != NULL && --tenant->waiting == 0)
		(void) hash_search(tenants, &key, HASH_REMOVE, NULL);
	LWLockRelease(tenants_lock);
}

static void
refuse_tenant(DatabaseSlot *slot, uint64 tenant_id, TenantVerdict verdict,
			  uint64 waiting, int quota)
{
	count_rejected(slot, ADMISSION_TENANT_QUOTA);
	if (verdict == TENANT_TOO_MANY)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many tenants have submissions waiting to be sequenced"),
				 errdetail("With a quota, at most %d tenants are counted at once, in all databases.",
						   MAX_TENANTS),
				 errhint("Try again when some are sequenced, or set calvin_seq.tenant_inbox_quota to 0.")));
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("inbox quota of tenant " UINT64_FORMAT " is used up", tenant_id),
			 errdetail(UINT64_FORMAT " of its submissions wait to be sequenced; at most %d may.",
					   waiting, quota),
			 errhint("Try again when some are sequenced, or raise calvin_seq.tenant_inbox_quota.")));
}

bool
admission_reserve(DatabaseSlot *slot, uint64 tenant_id, uint64 bytes)
{
	int			capacity = calvin_inbox_capacity;
	int			quota = calvin_tenant_inbox_quota;
	bool		counted = quota > 0;
	uint64		waiting;

	if (counted)
	{
		TenantVerdict verdict = add_tenant(slot, tenant_id, quota, &waiting);

		if (verdict != TENANT_COUNTED)
			refuse_tenant(slot, tenant_id, verdict, waiting, quota);
	}
	if (!add_row(slot, capacity, &waiting))
	{
		if (counted)
			take_off_tenant(slot, tenant_id);
		count_rejected(slot, ADMISSION_INBOX_FULL);
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("inbox is full"),
				 errdetail(UINT64_FORMAT " submissions wait to be sequenced; at most %d may.",
						   waiting, capacity),
				 errhint("Try again when some are sequenced, or raise calvin_seq.inbox_capacity.")));
	}
	pg_atomic_fetch_add_u64(&slot->admission.bytes, bytes);
	return counted;
}

void
admission_release(DatabaseSlot *slot, uint64 tenant_id, uint64 bytes, bool counted)
{
	if (counted)
		take_off_tenant(slot, tenant_id);
	admission_release_rows(slot, 1, bytes);
}

void
admission_release_rows(DatabaseSlot *slot, uint64 rows, uint64 bytes)
{
	take_off(&slot->admission.rows, rows);
	take_off(&slot->admission.bytes, bytes);
}

void
admission_count_found(DatabaseSlot *slot, uint64 rows, uint64 bytes)
{
	pg_atomic_fetch_add_u64(&slot->admission.rows, rows);
	pg_atomic_fetch_add_u64(&slot->admission.bytes, bytes);
}

void
admission_view(DatabaseSlot *slot, AdmissionView *view)
{
	view->rows = pg_atomic_read_u64(&slot->admission.rows);
	view->bytes = pg_atomic_read_u64(&slot->admission.bytes);
	for (int i = 0; i < ADMISSION_REASONS; i++)
		view->rejected[i] = pg_atomic_read_u64(&slot->admission.rejected[i]);
}

const char *
admission_reason_name(AdmissionReason reason)
{
	switch (reason)
	{
		case ADMISSION_NO_PARTICIPANTS:
			return "no_participants";
		case ADMISSION_PLANS_BYTES:
			return "plans_bytes";
		case ADMISSION_PARTICIPANTS:
			return "participating_vshards";
		case ADMISSION_DEPENDENT_BYTES:
			return "dependent_read_bytes";
		case ADMISSION_DEPENDENT_PASSIVES:
			return "dependent_read_passives";
		case ADMISSION_TOO_LARGE:
			return "too_large";
		case ADMISSION_TENANT_QUOTA:
			return "tenant_quota";
		case ADMISSION_INBOX_FULL:
			return "inbox_full";
	}
	return "unknown";
}

/*
 * Limits of one submission
 */

void
admission_check(const WireTxClassFigures *figures, uint64 bytes)
{
	DatabaseSlot *slot = database_mine();

	if (figures->participants == 0)
	{
		count_rejected(slot, ADMISSION_NO_PARTICIPANTS);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("submission has no participating vshards"),
				 errdetail("Its write set is empty, and it has no dependent reads: nobody would get it."),
				 errhint("Name at least one collection in write_set.")));
	}
	if (figures->plans_bytes > (uint64) calvin_max_plans_bytes_per_txn)
	{
		count_rejected(slot, ADMISSION_PLANS_BYTES);
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("plans of the submission are too large"),
				 errdetail("They have " UINT64_FORMAT " bytes; at most %d are allowed.",
						   figures->plans_bytes, calvin_max_plans_bytes_per_txn),
				 errhint("Split the payload, or raise calvin_seq.max_plans_bytes_per_txn.")));
	}
	if (figures->participants > (uint32) calvin_max_participating_vshards_per_txn)
	{
		count_rejected(slot, ADMISSION_PARTICIPANTS);
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("submission has too many participating vshards"),
				 errdetail("It has %u; at most %d are allowed.",
						   figures->participants, calvin_max_participating_vshards_per_txn),
				 errhint("Write fewer collections at once, or raise calvin_seq.max_participating_vshards_per_txn.")));
	}
	if (figures->dependent_read_bytes > (uint64) calvin_max_dependent_read_bytes_per_txn)
	{
		count_rejected(slot, ADMISSION_DEPENDENT_BYTES);
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("dependent reads of the submission are too large"),
				 errdetail("Their key sets have " UINT64_FORMAT " bytes; at most %d are allowed.",
						   figures->dependent_read_bytes, calvin_max_dependent_read_bytes_per_txn),
				 errhint("Read fewer keys, or raise calvin_seq.max_dependent_read_bytes_per_txn.")));
	}
	if (figures->dependent_read_passives > (uint32) calvin_max_dependent_read_passives_per_txn)
	{
		count_rejected(slot, ADMISSION_DEPENDENT_PASSIVES);
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("dependent reads of the submission name too many vshards"),
				 errdetail("They name %u; at most %d are allowed.",
						   figures->dependent_read_passives,
						   calvin_max_dependent_read_passives_per_txn),
				 errhint("Read from fewer vshards, or raise calvin_seq.max_dependent_read_passives_per_txn.")));
	}
	if (bytes > WIRE_MAX_TX_CLASS)
	{
		count_rejected(slot, ADMISSION_TOO_LARGE);
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("submission is too large for an entry of the log"),
				 errdetail("It has " UINT64_FORMAT " bytes; at most %u fit.",
						   bytes, WIRE_MAX_TX_CLASS),
				 errhint("Split it.")));
	}
}
