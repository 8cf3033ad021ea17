// What a form of attention costs: depths, operations, bootstraps and estimated latency, from the
// compiler's own program of a model. For tables that compare forms.
#pragma once

#include <vector>

#include "base/result.h"
#include "compile/cost_model.h"
#include "compile/graph.h"
#include "model/bundle.h"

namespace polyveil::compile {

struct FormLatency {
  int keys = 0;                  // that a token sees
  double attention_seconds = 0;  // scores to head outputs, bootstraps inside included
  double token_seconds = 0;      // the whole step, all layers
  int bootstraps = 0;            // of the whole step
};

struct FormReport {
  int nonlinearity_depth =
      0;                    // levels from the scores to the normalised head outputs, A x V included
  int attention_depth = 0;  // from the block's input to the residual after attention
  int block_depth = 0;      // longest path through one layer
  int bootstraps = 0;       // of a step, all layers
  // Of one layer outside bootstraps; a series' products by Paterson-Stockmeyer.
  int products = 0, plain_products = 0, rotations = 0;
  std::vector<FormLatency> latency;
};

// The program at the last position of the context, bootstraps placed. lengths: numbers of keys; one
// ciphertext holds half a block's slots of keys, so a longer text repeats what is indexed by keys
// (scores, powers, products with values, bootstraps of those) once for every such part and adds
// before the sums. The placement is the one for the model's own context. Errors: those of LowerStep
// and PlaceBootstraps.
Result<FormReport> ReportForm(const model::BodyBundle& bundle, const ckks::ParametersPtr& params,
                              const MachineSpeed& speed, const std::vector<int>& lengths);

// By node: whether its slots are indexed by keys, so that more keys mean more ciphertexts.
std::vector<bool> IndexedByKeys(const Graph& graph);

}  // namespace polyveil::compile
