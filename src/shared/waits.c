/*
 * waits.c
 *	  What our processes wait for, by name in pg_stat_activity.
 */
#include "compat.h"

#include "shared/waits.h"
#include "utils/wait_event.h"

#if PG_VERSION_NUM >= 170000
static const char *const names[] = {
	[WAIT_APPLIED] = "CalvinSeqApplied",
	[WAIT_APPLIER] = "CalvinSeqApplier",
	[WAIT_ATTACH] = "CalvinSeqAttach",
	[WAIT_COMPLETION] = "CalvinSeqCompletion",
	[WAIT_EPOCH] = "CalvinSeqEpoch",
	[WAIT_FETCH] = "CalvinSeqFetch",
	[WAIT_FLUSH] = "CalvinSeqFlush",
	[WAIT_HANDLER] = "CalvinSeqHandler",
	[WAIT_HOLD_OFF] = "CalvinSeqHoldOff",
	[WAIT_LAUNCHER] = "CalvinSeqLauncher",
	[WAIT_RECEIVE] = "CalvinSeqReceive",
	[WAIT_RETRY] = "CalvinSeqRetry",
	[WAIT_SEQUENCER] = "CalvinSeqSequencer",
	[WAIT_SOURCE] = "CalvinSeqSource",
	[WAIT_SUBMISSION] = "CalvinSeqSubmission",
};

StaticAssertDecl(lengthof(names) == WAITS, "every wait has a name");

uint32
wait_event(CalvinWait wait)
{
	static uint32 events[WAITS];

	/* the server gives each name one number, whoever asks first */
	if (events[wait] == 0)
		events[wait] = WaitEventExtensionNew(names[wait]);
	return events[wait];
}
#else
uint32
wait_event(CalvinWait wait)
{
	return PG_WAIT_EXTENSION;
}
#endif
