/*
 * test_consumer.c
 *	  Consumers through the C interface: one in a background worker, as real
 *	  ones are, and one for a test to call step by step.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "extension/calvin_seq/calvin_seq.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#if PG_VERSION_NUM >= 170000
#include "utils/wait_event.h"
#endif

PG_MODULE_MAGIC;

#define WORKER_NAME "worker"
#define TXNS_A_COMMIT 1000

PG_FUNCTION_INFO_V1(test_api_version);
PG_FUNCTION_INFO_V1(test_subscribe);
PG_FUNCTION_INFO_V1(test_receive);
PG_FUNCTION_INFO_V1(test_receive_rolled_back);
PG_FUNCTION_INFO_V1(test_position);
PG_FUNCTION_INFO_V1(test_commit);
PG_FUNCTION_INFO_V1(test_rewind);
PG_FUNCTION_INFO_V1(test_unsubscribe);
PG_FUNCTION_INFO_V1(test_start_worker);

extern PGDLLEXPORT void test_consumer_main(Datum arg);

typedef struct WorkerArgs
{
	Oid			database;
	Oid			user;
	uint16		vshard;
} WorkerArgs;

static void
append_hex(StringInfo out, CalvinSlice bytes)
{
	appendStringInfoChar(out, '|');
	for (uint32 i = 0; i < bytes.len; i++)
		appendStringInfo(out, "%02x", bytes.data[i]);
}

/* A transaction as text, all of it. */
static void
append_txn(StringInfo out, const CalvinTxn *txn)
{
	appendStringInfo(out, "%u|" UINT64_FORMAT "|%u|" INT64_FORMAT "|" UINT64_FORMAT "|{",
					 txn->vshard, txn->key.epoch, txn->key.position,
					 txn->epoch_system_ms, txn->tenant_id);
	for (int i = 0; i < txn->vshard_count; i++)
		appendStringInfo(out, "%s%u", i > 0 ? "," : "", txn->vshards[i]);
	appendStringInfoChar(out, '}');
	append_hex(out, txn->plans);
	append_hex(out, txn->tx_class);
}

static uint16 *
vshards_argument(ArrayType *array, int *n)
{
	int32	   *elements = (int32 *) ARR_DATA_PTR(array);
	uint16	   *vshards;

	*n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	vshards = palloc(sizeof(uint16) * (*n + 1));
	for (int i = 0; i < *n; i++)
		vshards[i] = (uint16) elements[i];
	return vshards;
}

Datum
test_api_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(calvin_api_version());
}

/* (name text, vshards int[], epoch bigint, position int, queue_size bigint, bare bool) */
Datum
test_subscribe(PG_FUNCTION_ARGS)
{
	int			n;
	uint16	   *vshards = vshards_argument(PG_GETARG_ARRAYTYPE_P(1), &n);
	CalvinKey	from;
	CalvinOptions options = {0};

	from.epoch = (uint64) PG_GETARG_INT64(2);
	from.position = (uint32) PG_GETARG_INT32(3);
	/* -1 stands for "not given" */
	if (PG_GETARG_INT64(2) != -1)
		options.from = &from;
	options.queue_size = (Size) PG_GETARG_INT64(4);
	options.bare = PG_GETARG_BOOL(5);
	calvin_subscribe(text_to_cstring(PG_GETARG_TEXT_PP(0)), vshards, n,
					 &options);
	PG_RETURN_VOID();
}

/* (name text, max int) -> a line for each transaction */
Datum
test_receive(PG_FUNCTION_ARGS)
{
	CalvinConsumer *consumer = calvin_begin(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	StringInfoData out;
	CalvinTxn	txn;

	initStringInfo(&out);
	for (int i = 0; i < PG_GETARG_INT32(1) && calvin_next(consumer, &txn); i++)
	{
		append_txn(&out, &txn);
		appendStringInfoChar(&out, '\n');
	}
	calvin_end(consumer);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

/*
 * (name text, max int) -> lines: of them, every second one in a subtransaction
 * that is rolled back, so that it comes again.
 */
Datum
test_receive_rolled_back(PG_FUNCTION_ARGS)
{
	CalvinConsumer *consumer = calvin_begin(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	StringInfoData out;
	CalvinTxn	txn;

	initStringInfo(&out);
	for (int i = 0; i < PG_GETARG_INT32(1); i++)
	{
		MemoryContext context = CurrentMemoryContext;
		ResourceOwner owner = CurrentResourceOwner;

		BeginInternalSubTransaction(NULL);
		MemoryContextSwitchTo(context);
		(void) calvin_next(consumer, &txn);
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (!calvin_next(consumer, &txn))
			break;
		append_txn(&out, &txn);
		appendStringInfoChar(&out, '\n');
	}
	calvin_end(consumer);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

/* (name text, vshard int) -> epoch.position, or null */
Datum
test_position(PG_FUNCTION_ARGS)
{
	CalvinKey	next;

	if (!calvin_position(text_to_cstring(PG_GETARG_TEXT_PP(0)),
						 (uint16) PG_GETARG_INT32(1), &next))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(psprintf(UINT64_FORMAT ".%u", next.epoch,
											  next.position)));
}

Datum
test_commit(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(calvin_commit(text_to_cstring(PG_GETARG_TEXT_PP(0))));
}

Datum
test_rewind(PG_FUNCTION_ARGS)
{
	calvin_rewind(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_VOID();
}

/* (name text, vshards int[]): all with an empty array */
Datum
test_unsubscribe(PG_FUNCTION_ARGS)
{
	int			n;
	uint16	   *vshards = vshards_argument(PG_GETARG_ARRAYTYPE_P(1), &n);

	PG_RETURN_INT32(calvin_unsubscribe(text_to_cstring(PG_GETARG_TEXT_PP(0)),
									   n == 0 ? NULL : vshards, n));
}

/* (library text, vshard int) -> pid */
Datum
test_start_worker(PG_FUNCTION_ARGS)
{
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *handle;
	WorkerArgs	args = {MyDatabaseId, GetUserId(), (uint16) PG_GETARG_INT32(1)};
	pid_t		pid;

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_library_name, text_to_cstring(PG_GETARG_TEXT_PP(0)),
			sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "test_consumer_main",
			sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, "test consumer", sizeof(worker.bgw_name));
	strlcpy(worker.bgw_type, "test consumer", sizeof(worker.bgw_type));
	memcpy(worker.bgw_extra, &args, sizeof(args));
	if (!RegisterDynamicBackgroundWorker(&worker, &handle) ||
		WaitForBackgroundWorkerStartup(handle, &pid) != BGWH_STARTED)
		elog(ERROR, "the worker did not start");
	PG_RETURN_INT32((int32) pid);
}

static void
begin_transaction(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit_transaction(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* Executing a transaction is writing it down. */
static void
execute(const CalvinTxn *txn)
{
	StringInfoData line;
	Oid			types[] = {TEXTOID};
	Datum		values[1];

	initStringInfo(&line);
	append_txn(&line, txn);
	values[0] = CStringGetTextDatum(line.data);
	if (SPI_execute_with_args("INSERT INTO public.effects (line) VALUES ($1)", 1,
							  types, values, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write an effect");
	pfree(line.data);
}

/* One transaction's worth; false if there was nothing. */
static bool
work(void)
{
	CalvinConsumer *consumer;
	CalvinTxn	txn;
	int			n = 0;

	begin_transaction();
	consumer = calvin_begin(WORKER_NAME);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	while (n < TXNS_A_COMMIT && calvin_next(consumer, &txn))
	{
		execute(&txn);
		n++;
	}
	calvin_end(consumer);
	SPI_finish();
	if (n > 0)
		(void) calvin_commit(WORKER_NAME);
	commit_transaction();
	return n > 0;
}

/* An error ends the process; the postmaster starts it again. */
void
test_consumer_main(Datum arg)
{
	WorkerArgs	args;

	memcpy(&args, MyBgworkerEntry->bgw_extra, sizeof(args));
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(args.database, args.user, 0);

	begin_transaction();
	calvin_subscribe(WORKER_NAME, &args.vshard, 1, NULL);
	commit_transaction();
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (work())
			continue;
		pgstat_report_activity(STATE_IDLE, "waiting for transactions");
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1L,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}
