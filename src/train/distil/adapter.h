// Conversions that leave the original's weights as they are: updates of low rank beside them, and
// the folder that they become.
#pragma once

#include "train/distil/config.h"
#include "train/distil/export.h"

namespace polyveil::train {

// What trains a tensor of a student.
enum class TensorRole {
  kFrozen,
  kWeight,  // matrices and what belongs to them; of an adapter its updates
  kGain,    // norms beside an adapter
  kForm,    // shifts, kappas and the ranges' centres
};
TensorRole RoleOf(const std::string& name, bool adapter);

// The teacher's tensors, shared, under forms; its norms copied, updates whose b is 0. The same seed
// gives the same updates.
Transformer AdaptedStudent(const Transformer& teacher, const Shape& forms,
                           const AdapterOptions& options, std::uint64_t seed);

// Writes adapter.safetensors (updates in F16, norms in F32), forms.json, README.md and a link to
// the base: docs/formats/adapter.md. Errors: kIo; those of CheckForms.
Status WriteAdapterFolder(const Transformer& model, const model::Checkpoint& source,
                          const std::vector<int>& prefix, const DistilCalibration& calibration,
                          const std::string& folder);

// Updates, norms, shifts and kappas of such a folder, to go on from; its polynomials are not read.
// Errors: those of LoadAdapter; kMismatch for another base (both digests), rank, site or power.
Status ReadAdapterFolder(const std::string& folder, const model::Checkpoint& source,
                         const Transformer& student);

}  // namespace polyveil::train
