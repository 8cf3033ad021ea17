// The file form of a layer's polynomials, attention and bounds, as model.json and a converted
// model's forms.json hold it.
#pragma once

#include <nlohmann/json.hpp>

#include "model/config.h"
#include "model/strict_json.h"

namespace polyveil::model {

// Whether a layer's polynomials, ranges and bounds are in the file, or only its attention.
enum class LayerFields { kAll, kAttention };

// Keeps the first fault in the reader's error, like every reader. Checks types, not values.
LayerConfig LayerFromJson(const JsonReader& at, LayerFields fields);
// One polynomial of an object's field, of which the reader keeps the first fault.
Approximant ReadApproximant(const JsonReader& at, const char* key);
nlohmann::ordered_json LayerToJson(const LayerConfig& layer, LayerFields fields);

// The checks of a layer's values: series valid and of degree <= kMaxDegree, bounds and seen ranges
// finite, powers even, one shift and one positive kappa a head, an activation exactly where one is
// wanted. Errors: kMismatch, kOutOfRange; `where` begins the message.
Status ValidateLayer(const LayerConfig& layer, int n_heads, bool activation, LayerFields fields,
                     const std::string& where);

// That channels' exponents, where there are some, are d_model of 0..kMaxChannelExponent. Errors:
// kMismatch, kOutOfRange (field, both values).
Status ValidateExponents(const LayerBounds& bounds, int d_model, const std::string& where);

}  // namespace polyveil::model
