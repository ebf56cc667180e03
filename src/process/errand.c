/*
 * errand.c
 *	  A connection to a source for one question, beside the one that the log comes by.
 */
#include "compat.h"

#include "process/errand.h"
#include "process/source_state.h"
#include "storage/latch.h"

void
errand_ready(Errand *errand, int events)
{
	errand->ready = true;
	if (events & WL_SOCKET_READABLE)
		source_heard(&errand->source);
}

void
errand_end(Errand *errand)
{
	source_close(&errand->source);
	errand->phase = ERRAND_NONE;
}

void
errand_begin(Errand *errand)
{
	errand->phase = ERRAND_CONNECTING;
	errand->ready = false;
}

static ErrandNext
fail(Errand *errand, char *message, char **text)
{
	*text = message;
	errand_end(errand);
	return ERRAND_FAILED;
}

static ErrandNext
waits(Errand *errand, char **text, SourceWait *wait)
{
	if (source_is_silent(&errand->source))
		return fail(errand, source_error(&errand->source), text);
	source_wait(&errand->source, wait);
	return ERRAND_WAITS;
}

static ErrandNext
connecting(Errand *errand, char **text, SourceWait *wait)
{
	SourceStatus status = SOURCE_WAITS;

	if (errand->ready)
		status = source_connect(&errand->source);
	errand->ready = false;
	if (status == SOURCE_WAITS)
		return waits(errand, text, wait);
	if (status == SOURCE_FAILED || source_settle(&errand->source) == SOURCE_FAILED)
		return fail(errand, source_error(&errand->source), text);
	errand->phase = ERRAND_SETTLING;
	return ERRAND_AGAIN;
}

static ErrandNext
answered(Errand *errand, PGresult **answer, char **text, SourceWait *wait)
{
	PGresult   *rows;
	SourceStatus status = source_results(&errand->source, &rows);
	const char *error;
	char	   *message;

	if (status == SOURCE_WAITS)
		return waits(errand, text, wait);
	if (status == SOURCE_FAILED || PQresultStatus(rows) != PGRES_TUPLES_OK)
	{
		error = PQresultErrorField(rows, PG_DIAG_MESSAGE_PRIMARY);
		message = error != NULL ? source_text(error) : source_error(&errand->source);
		PQclear(rows);
		return fail(errand, message, text);
	}
	if (errand->phase == ERRAND_ASKING)
	{
		*answer = rows;
		errand_end(errand);
		return ERRAND_ANSWERED;
	}
	*text = source_schema(rows);
	PQclear(rows);
	return *text != NULL ? ERRAND_ARRIVED :
		fail(errand, pstrdup("It does not answer as this version does."), text);
}

ErrandNext
errand_some(Errand *errand, PGresult **answer, char **text, SourceWait *wait)
{
	return errand->phase == ERRAND_CONNECTING ? connecting(errand, text, wait) :
		answered(errand, answer, text, wait);
}

void
errand_ask(Errand *errand, const char *schema, const char *what, const MachineState *here)
{
	/* what is not sent is found out when the answer is read */
	(void) source_send(&errand->source,
					   psprintf("SELECT %s %s", what, source_with_our_log(schema, here)));
	errand->phase = ERRAND_ASKING;
}
