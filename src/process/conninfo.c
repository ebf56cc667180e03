/*
 * conninfo.c
 *	  Where a source is, as libpq takes it.
 */
#include "compat.h"

#include <limits.h>

#include "lib/stringinfo.h"
#include "libpq-fe.h"
#include "process/conninfo.h"

/* Options that hold secrets, with those that libpq marks so, and those that are ours to set. */
static const char *const secrets[] = {"password", "sslpassword", "oauth_client_secret",
"scram_client_key", "scram_server_key"};
static const char *const own[] = {"client_encoding", "replication"};

static bool
is_among(const char *keyword, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(keyword, list[i]) == 0)
			return true;
	return false;
}

/* To be freed by PQconninfoFree(). */
static PQconninfoOption *
parse(const char *conninfo)
{
	char	   *error = NULL;
	PQconninfoOption *options = PQconninfoParse(conninfo, &error);

	if (options == NULL)
	{
		char	   *message = error == NULL ? pstrdup("out of memory") : pstrdup(error);

		PQfreemem(error);
		for (size_t len = strlen(message); len > 0 && message[len - 1] == '\n';)
			message[--len] = '\0';
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid connection string"),
				 errdetail_internal("%s", message)));
	}
	return options;
}

static bool
is_given(const PQconninfoOption *option)
{
	return option->val != NULL && option->val[0] != '\0';
}

void
conninfo_check(const char *conninfo)
{
	PQconninfoOption *options = parse(conninfo);
	const char *refused = NULL;
	bool		secret = false;
	bool		any = false;

	for (PQconninfoOption *option = options; option->keyword != NULL; option++)
	{
		if (!is_given(option))
			continue;
		any = true;
		secret = option->dispchar[0] == '*' ||
			is_among(option->keyword, secrets, lengthof(secrets));
		if (secret || is_among(option->keyword, own, lengthof(own)))
		{
			refused = pstrdup(option->keyword);
			break;
		}
	}
	PQconninfoFree(options);
	if (!any)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the connection string is empty"),
				 errhint("Say at least which host, and which database.")));
	if (refused == NULL)
		return;
	if (secret)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" cannot be in the connection string of a source", refused),
				 errdetail("It would be stored in a table, and in backups of it."),
				 errhint("Use a password file (passfile=...) or a service file (service=...) of the server's operating system user.")));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" cannot be in the connection string of a source", refused),
			 errdetail("The follower sets it itself.")));
}

static char *
find_value(PQconninfoOption *options, const char *keyword)
{
	for (PQconninfoOption *option = options; option->keyword != NULL; option++)
		if (strcmp(option->keyword, keyword) == 0)
			return is_given(option) ? pstrdup(option->val) : NULL;
	return NULL;
}

char *
conninfo_describe(const char *conninfo)
{
	PQconninfoOption *options = parse(conninfo);
	char	   *service = find_value(options, "service");
	char	   *database = find_value(options, "dbname");
	char	   *host = find_value(options, "host");
	char	   *port = find_value(options, "port");
	StringInfoData text;

	if (host == NULL)
		host = find_value(options, "hostaddr");
	PQconninfoFree(options);
	initStringInfo(&text);
	if (database != NULL)
		appendStringInfo(&text, "database \"%s\"", database);
	else
		appendStringInfoString(&text, "a database");
	if (host != NULL)
		appendStringInfo(&text, " on host \"%s\"", host);
	if (port != NULL)
		appendStringInfo(&text, ", port %s", port);
	if (service != NULL)
		appendStringInfo(&text, ", service \"%s\"", service);
	return text.data;
}

static int
count_parts(const char *list)
{
	int			n = 1;

	for (; *list != '\0'; list++)
		n += *list == ',';
	return n;
}

/* A list separated by commas, with the first "turn" of its parts at the end. */
static char *
rotate(const char *list, int turn)
{
	const char *rest = list;

	for (; turn > 0; turn--)
		rest = strchr(rest, ',') + 1;
	if (rest == list)
		return pstrdup(list);
	return psprintf("%s,%.*s", rest, (int) (rest - list) - 1, list);
}

/* The first "n" parts of such a list, or all of them if there are no more. */
static char *
first_parts(const char *list, int n)
{
	const char *end = list;

	for (int i = 0; i < n && *end != '\0'; i++)
		end += strcspn(end, ",") + (i + 1 < n && end[strcspn(end, ",")] != '\0');
	return pnstrdup(list, (Size) (end - list));
}

/* What is given of where hosts are, in the order of libpq's options. */
typedef struct Hosts
{
	char	   *host;
	char	   *hostaddr;
	char	   *port;
	int			n;
} Hosts;

static void
find_hosts(PQconninfoOption *options, Hosts *hosts)
{
	const char *names;

	hosts->host = find_value(options, "host");
	hosts->hostaddr = find_value(options, "hostaddr");
	hosts->port = find_value(options, "port");
	names = hosts->hostaddr != NULL ? hosts->hostaddr : hosts->host;
	hosts->n = names == NULL ? 1 : count_parts(names);
}

/*
 * Where a service leads to: what libpq has made of the options, when it has refused to
 * connect because of one that it looks at before it does anything.
 */
static void
find_hosts_of_service(const ConninfoParams *params, int n, Hosts *hosts)
{
	const char **keywords = palloc0(sizeof(char *) * (n + 2));
	const char **values = palloc0(sizeof(char *) * (n + 2));
	PQconninfoOption *options;
	PGconn	   *conn;

	memcpy(keywords, params->keywords, sizeof(char *) * n);
	memcpy(values, params->values, sizeof(char *) * n);
	keywords[n] = "sslmode";
	values[n] = "none, and no connection";
	conn = PQconnectStartParams(keywords, values, false);
	options = conn == NULL ? NULL : PQconninfo(conn);
	if (options != NULL)
		find_hosts(options, hosts);
	PQconninfoFree(options);
	PQfinish(conn);
}

static void
set(ConninfoParams *params, int *n, const char *keyword, const char *value)
{
	int			i = 0;

	while (i < *n && strcmp(params->keywords[i], keyword) != 0)
		i++;
	params->keywords[i] = keyword;
	params->values[i] = value;
	*n = Max(*n, i + 1);
}

/* One port is that of all hosts. */
static void
set_turned(ConninfoParams *params, int *n, const char *keyword, const char *list,
		   const Hosts *hosts, int turn, int most)
{
	if (list != NULL && count_parts(list) == hosts->n)
		set(params, n, keyword, first_parts(rotate(list, turn % hosts->n), most));
}

/* What is given of the options, and the hosts that they lead to; how many options. */
static int
find_params(const char *conninfo, bool look_up, ConninfoParams *params, Hosts *hosts)
{
	PQconninfoOption *options = parse(conninfo);
	bool		service = find_value(options, "service") != NULL;
	int			most = 0;
	int			n = 0;

	for (PQconninfoOption *option = options; option->keyword != NULL; option++)
		most++;
	params->keywords = palloc0(sizeof(char *) * (most + 7));
	params->values = palloc0(sizeof(char *) * (most + 7));
	for (PQconninfoOption *option = options; option->keyword != NULL; option++)
	{
		if (!is_given(option))
			continue;
		params->keywords[n] = pstrdup(option->keyword);
		params->values[n++] = pstrdup(option->val);
	}
	find_hosts(options, hosts);
	PQconninfoFree(options);
	if (service && look_up)
		find_hosts_of_service(params, n, hosts);
	return n;
}

void
conninfo_params(const char *conninfo, int turn, int most, bool primary,
				ConninfoParams *params)
{
	Hosts		hosts;
	int			n = find_params(conninfo, turn > 0 || most < INT_MAX, params, &hosts);

	set_turned(params, &n, "host", hosts.host, &hosts, turn, most);
	set_turned(params, &n, "hostaddr", hosts.hostaddr, &hosts, turn, most);
	set_turned(params, &n, "port", hosts.port, &hosts, turn, most);
	if (primary)
		set(params, &n, "target_session_attrs", "primary");
	set(params, &n, "client_encoding", "UTF8");
	set(params, &n, "fallback_application_name", "calvin_seq follower");
}

int
conninfo_hosts(const char *conninfo)
{
	ConninfoParams params;
	Hosts		hosts;

	(void) find_params(conninfo, true, &params, &hosts);
	return hosts.n;
}

int
conninfo_number(const char *conninfo, const char *keyword, int otherwise)
{
	PQconninfoOption *options = parse(conninfo);
	char	   *value = find_value(options, keyword);

	PQconninfoFree(options);
	return value == NULL ? otherwise : (int) strtol(value, NULL, 10);
}
