/*
 * check_codec.c
 *	  src/wire against the model: the same verdict, the same values in the same
 *	  places, the same canonical form.
 */
#include <stdlib.h>
#include <string.h>

#include "consistent.h"
#include "fuzz.h"
#include "model.h"

#define REQUIRE(condition, what) \
	do { \
		if (!(condition)) \
			return what; \
	} while (0)

/* The TxClass by itself, as it is submitted: its figures, and its canonical form. */
static const char *
compare_alone(const WireTxn *txn, const uint8_t *canonical, const ModelTxn *wanted)
{
	uint8_t    *copy = exact_copy(canonical, wanted->canonical_len);
	const char *wrong = NULL;
	WireTxClassFigures figures;
	WireBuffer	out;
	WireError	error;
	bool		is_canonical;

	new_buffer(&out);
	if (!wire_examine_tx_class(txn->tx_class.data, txn->tx_class.len, &figures,
							   &is_canonical, &error) || is_canonical != txn->canonical)
		wrong = "another verdict about a TxClass alone";
	else if (!wire_examine_tx_class(copy, wanted->canonical_len, &figures,
									&is_canonical, &error) || !is_canonical)
		wrong = "the canonical form of a TxClass is not canonical alone";
	else if (figures.participants != txn->vshard_count ||
			 figures.plans_bytes != wanted->plans_len ||
			 figures.tenant_id != wanted->tenant_id ||
			 figures.dependent_read_passives != wanted->dependents ||
			 figures.dependent_read_bytes != wanted->dependent_bytes)
		wrong = "other figures of a TxClass";
	else if (!wire_canonicalise_tx_class(txn->tx_class.data, txn->tx_class.len,
										 &out, &error) ||
			 !same_bytes(&out, copy, wanted->canonical_len))
		wrong = "another canonical form of a TxClass alone";
	wire_buffer_free(&out);
	free(copy);
	return wrong;
}

static const char *
compare_txn(const uint8_t *data, const WireTxn *txn, const Model *model,
			const ModelTxn *wanted)
{
	const uint8_t *canonical = model->canonical.data + wanted->canonical;
	uint32_t	count = 0;
	uint32_t	found = 0;
	WireBuffer	out;
	WireError	error;
	uint32_t	plans_end;
	bool		same;

	REQUIRE(txn->tx_class.data == data + wanted->tx_class &&
			txn->tx_class.len == wanted->tx_class_len,
			"the TxClass stands elsewhere");
	REQUIRE(txn->plans.data == data + wanted->plans &&
			txn->plans.len == wanted->plans_len, "the plans stand elsewhere");
	REQUIRE(txn->tenant_id == wanted->tenant_id, "another tenant");
	for (uint32_t vshard = 0; vshard < MODEL_VSHARDS; vshard++)
		count += wanted->vshards[vshard];
	for (; found < txn->vshard_count; found++)
		REQUIRE(txn->vshards[found] < MODEL_VSHARDS &&
				wanted->vshards[txn->vshards[found]] &&
				(found == 0 || txn->vshards[found - 1] < txn->vshards[found]),
				"other participants");
	REQUIRE(found == count, "fewer participants");
	REQUIRE(txn->canonical ==
			(wanted->canonical_len == wanted->tx_class_len &&
			 memcmp(canonical, txn->tx_class.data, txn->tx_class.len) == 0),
			"wrong about being canonical");

	new_buffer(&out);
	same = wire_deliverable_tx_class(txn->tx_class, &out, &plans_end, &error) &&
		same_bytes(&out, canonical, wanted->canonical_len) &&
		plans_end <= out.len && plans_end >= txn->plans.len &&
		(txn->plans.len == 0 ||
		 memcmp(out.data + plans_end - txn->plans.len, txn->plans.data,
				txn->plans.len) == 0);
	wire_buffer_free(&out);
	REQUIRE(same, "another TxClass to be delivered");
	return compare_alone(txn, canonical, wanted);
}

static const char *
compare(WireDecoder *decoder, bool decoded, const uint8_t *data,
		const Model *model)
{
	const WireEntry *entry = &decoder->entry;
	WireBuffer	canonical;
	WireTxn		txn;
	bool		same;

	REQUIRE(decoded == (model->kind != MODEL_REFUSED),
			decoded ? "accepted, but refused by the model" :
			"refused, but accepted by the model");
	if (!decoded)
		return NULL;
	REQUIRE(entry->kind == (model->kind == MODEL_NOOP ? WIRE_NOOP :
							model->kind == MODEL_BATCH ? WIRE_EPOCH_BATCH :
							WIRE_COMPLETION_ACK), "another kind of entry");
	if (entry->kind == WIRE_NOOP)
		return NULL;
	REQUIRE(entry->epoch == model->epoch &&
			entry->epoch_system_ms == model->epoch_system_ms &&
			entry->position == model->position &&
			entry->vshard_id == model->vshard_id &&
			entry->txn_count == model->txn_count &&
			entry->length == model->length, "another value in an entry");

	wire_rewind(decoder);
	while (wire_next_txn(decoder, &txn))
	{
		const char *wrong;

		REQUIRE(txn.position < model->txn_count, "too many transactions");
		wrong = compare_txn(data, &txn, model, &model->txns[txn.position]);
		if (wrong != NULL)
			return wrong;
	}

	new_buffer(&canonical);
	same = reencode(decoder, &canonical) &&
		same_bytes(&canonical, model->canonical.data, model->canonical.len);
	wire_buffer_free(&canonical);
	REQUIRE(same, "another canonical form");
	return NULL;
}

static const char *
compare_lenient(const uint8_t *data, size_t len, const Model *model)
{
	bool		wanted = model->kind != MODEL_REFUSED &&
		model->length == len && model->own_numbers;
	WireBuffer	out;
	WireEntry	entry;
	WireError	error;
	const char *wrong = NULL;

	new_buffer(&out);
	if (wire_canonicalise(data, len, &out, &entry, &error) != wanted)
		wrong = wanted ? "not canonicalised, but accepted by the model" :
			"canonicalised, but refused by the model";
	else if (wanted &&
			 !same_bytes(&out, model->canonical.data, model->canonical.len))
		wrong = "canonicalised to something else";
	wire_buffer_free(&out);
	return wrong;
}

const char *
codec_check(const uint8_t *data, size_t len)
{
	static WireDecoder *decoder = NULL;
	uint8_t    *copy = exact_copy(data, len);
	bool		accepted;
	Model		model;
	const char *wrong;

	if (decoder == NULL)
		decoder = new_decoder(16, ROOM_VSHARDS);

	wrong = consistent(copy, len, &accepted);
	if (wire_vshard(copy, len) != model_vshard(copy, len))
		wrong = "another vshard";
	if (wire_utf8_valid(copy, len) != model_is_utf8(copy, len))
		wrong = "UTF-8 to one, and not to the other";
	if (wrong == NULL)
	{
		model_read(&model, copy, len, MODEL_STRICT);
		wrong = model.broken;
		if (wrong == NULL)
			wrong = compare(decoder, wire_decode(decoder, copy, len), copy,
							&model);
		model_free(&model);
	}
	if (wrong == NULL)
	{
		model_read(&model, copy, len, MODEL_LENIENT);
		wrong = model.broken;
		if (wrong == NULL)
			wrong = compare_lenient(copy, len, &model);
		model_free(&model);
	}
	free(copy);
	return wrong;
}
