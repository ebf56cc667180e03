/*
 * model.h
 *	  What an entry means, found a second time and in another way: msgpack-c
 *	  parses it into objects, and the grammar is laid over those.
 *
 * Nothing here is shared with src/wire, so that the two can judge each other.
 */
#ifndef CALVIN_FUZZ_MODEL_H
#define CALVIN_FUZZ_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_VSHARDS 1024

typedef struct ModelBytes
{
	uint8_t    *data;
	size_t		len;
	size_t		size;
} ModelBytes;

typedef struct ModelTxn
{
	/* offsets into the input; plans only where it is a bin */
	size_t		tx_class;
	size_t		tx_class_len;
	size_t		plans;
	size_t		plans_len;
	/* of the canonical TxClass, in Model.canonical */
	size_t		canonical;
	size_t		canonical_len;
	uint64_t	tenant_id;
	bool		vshards[MODEL_VSHARDS];
	/* what dependent reads name, and the bytes of that in canonical form */
	uint32_t	dependents;
	size_t		dependent_bytes;
} ModelTxn;

typedef enum ModelKind
{
	MODEL_REFUSED,
	MODEL_NOOP,
	MODEL_BATCH,
	MODEL_ACK
} ModelKind;

/* Which forms are taken: the log reader's, or those of seq_append. */
typedef enum ModelMode
{
	MODEL_STRICT,
	MODEL_LENIENT
} ModelMode;

typedef struct Model
{
	ModelKind	kind;
	uint64_t	epoch;
	int64_t		epoch_system_ms;
	uint32_t	position;
	uint32_t	vshard_id;
	size_t		length;			/* bytes used of the input */
	uint32_t	txn_count;
	ModelTxn   *txns;
	ModelBytes	canonical;		/* the whole entry's canonical form */
	bool		own_numbers;	/* each txn's own epoch and position are its
								 * batch's and its index */
	bool		has_nul;		/* in a collection's name */
	/* not NULL: msgpack-c and the walker see different values */
	const char *broken;
} Model;

extern bool model_is_utf8(const uint8_t *s, size_t len);
extern uint32_t model_vshard(const uint8_t *name, size_t len);

/* To be freed in any case. */
extern void model_read(Model *model, const uint8_t *data, size_t len,
					   ModelMode mode);
extern void model_free(Model *model);

#endif							/* CALVIN_FUZZ_MODEL_H */
