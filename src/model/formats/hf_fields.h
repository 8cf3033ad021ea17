// Fields of config.json that several families read alike; internal to this folder.
#pragma once

#include <optional>
#include <string_view>

#include "model/formats/architecture.h"
#include "model/strict_json.h"

namespace polyveil::model {

Activation ReadActivation(const JsonReader& at, const char* key, const char* fallback);

// Fails where the field has the other value than the one that is implemented.
void RequireBool(const JsonReader& at, const char* key, bool fallback, bool required);

// A number that files give under one of several names: those that are given must agree.
class AgreedNumber {
 public:
  void Take(const JsonReader& at, const char* key);
  double value_or(double fallback) const { return value_.value_or(fallback); }

 private:
  std::optional<double> value_;
  const char* key_ = nullptr;
};

// Rotary positions of heads of d_head elements: base and rotated part from the configuration itself
// under the family's names, or from rope_scaling or rope_parameters in it.
struct RotaryKeys {
  std::vector<const char*> base, part;
  double default_part = 1;
};
Rotary ReadRotary(const JsonReader& at, int d_head, const RotaryKeys& keys);

// The tokens that a query of some layer sees at most; nothing where every layer sees all.
std::optional<int> ReadSlidingWindow(const JsonReader& at, bool used, int fallback);

// That the field never changes what a released decoder or encoder computes from its tokens.
bool IsIrrelevantField(std::string_view key);

// One entry a model_type.
struct HuggingFaceFamily {
  void (*read)(const JsonReader& at, Architecture& architecture);
  const char* class_prefix;  // of the classes that may have written the file
};
const HuggingFaceFamily* FindHuggingFaceFamily(std::string_view model_type);

}  // namespace polyveil::model
