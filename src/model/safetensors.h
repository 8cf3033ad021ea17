// safetensors, own bounded reader and writer: 8-byte little-endian header length, JSON header,
// data.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/element_type.h"

namespace polyveil::model {

using TensorType = ElementType;

struct Tensor {
  std::vector<std::int64_t> shape;
  std::vector<double> values;  // row-major, widened to double

  std::int64_t size() const;
};

using TensorMap = std::map<std::string, Tensor>;

struct SafetensorsLimits {
  std::uint64_t max_header_bytes = 1 << 20;
  std::uint64_t max_elements = 1 << 28;  // of all tensors together
  std::size_t max_tensors = 4096;
};

// Where a tensor stands: bytes [begin, end) of the file, row-major.
struct SafetensorsEntry {
  std::string name;
  TensorType type;
  std::vector<std::int64_t> shape;
  std::uint64_t begin, end;
};

// The tensors of a file in the order of their bytes, which are not read. Refuses: a header longer
// than the limit or the file, JSON that is no object of objects, duplicate names, unknown dtypes,
// negative or overflowing shapes, offsets out of the data, sizes that differ from shape x type,
// overlapping or uncovered bytes. Errors: kCorrupt or kOutOfRange, with the tensor's name and both
// values. Memory: the header's.
Result<std::vector<SafetensorsEntry>> ReadSafetensorsIndex(std::span<const std::uint8_t> bytes,
                                                           const SafetensorsLimits& limits = {});

// Reads all tensors. Beside an I8 matrix "NAME" stands "NAME.scale" [rows], by which each of its
// rows is multiplied. Refuses beside the above: I8 without its scale, other integers, values that
// are not finite.
Result<TensorMap> ParseSafetensors(std::span<const std::uint8_t> bytes,
                                   const SafetensorsLimits& limits = {});

// Tensors in name order, values rounded to `type` (F16, F32 or F64) or to what `types` names for
// them (I8 too: whole numbers in -127..127). Deterministic: equal input, equal bytes.
std::vector<std::uint8_t> FormatSafetensors(const TensorMap& tensors, TensorType type,
                                            const std::map<std::string, std::string>& metadata = {},
                                            const std::map<std::string, TensorType>& types = {});

// Rounds to nearest even to F16 and back; for tests and export checks.
double RoundToHalf(double x);

}  // namespace polyveil::model
