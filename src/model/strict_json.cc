#include "model/strict_json.h"

#include <cmath>
#include <set>

#include "base/printable.h"

namespace polyveil::model {
namespace {

using Json = nlohmann::json;

// The library keeps the last of equal keys and nests without bound; both are refused instead.
class StrictKeys : public nlohmann::json_sax<Json> {
 public:
  explicit StrictKeys(int max_depth) : max_depth_(max_depth) {}

  std::string failure = "is no JSON";
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override {
    seen_.emplace_back();
    return Deepen();
  }
  bool key(string_t& name) override {
    if (seen_.back().insert(name).second) return true;
    failure = fmt::format("key \"{}\" stands twice", Printable(name, 64));
    return false;
  }
  bool end_object() override {
    seen_.pop_back();
    --depth_;
    return true;
  }
  bool start_array(std::size_t) override { return Deepen(); }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception&) override {
    return false;
  }

 private:
  bool Deepen() {
    if (++depth_ <= max_depth_) return true;
    failure = fmt::format("is nested {} deep > {}", depth_, max_depth_);
    return false;
  }

  int max_depth_, depth_ = 0;
  std::vector<std::set<std::string>> seen_;
};

}  // namespace

Result<Json> ParseStrictJson(std::string_view text, std::string_view what,
                             const JsonLimits& limits) {
  if (text.size() > limits.max_bytes)
    return MakeError(ErrorCode::kOutOfRange, "{}: {} bytes of JSON > {}", what, text.size(),
                     limits.max_bytes);
  StrictKeys keys(limits.max_depth);
  if (!Json::sax_parse(text.begin(), text.end(), &keys))
    return MakeError(ErrorCode::kCorrupt, "{}: {}", what, keys.failure);
  return Json::parse(text.begin(), text.end(), nullptr, false);
}

int JsonReader::Int(const char* key) const {
  const Json* field = Find(key);
  if (!field) return 0;
  if (field->is_number_integer()) {
    const auto value = field->get<std::int64_t>();
    if (value >= 0 && value <= 1 << 24) return static_cast<int>(value);
  }
  Fail(key, "is no count below 2^24");
  return 0;
}

std::uint64_t JsonReader::Count(const char* key) const {
  const Json* field = Find(key);
  if (field && field->is_number_unsigned()) return field->get<std::uint64_t>();
  if (field) Fail(key, "is no count");
  return 0;
}

double JsonReader::Number(const char* key) const {
  const Json* field = Find(key);
  if (field && field->is_number() && std::isfinite(field->get<double>()))
    return field->get<double>();
  if (field) Fail(key, "is no finite number");
  return 0;
}

bool JsonReader::Bool(const char* key) const {
  const Json* field = Find(key);
  if (field && field->is_boolean()) return field->get<bool>();
  if (field) Fail(key, "is neither true nor false");
  return false;
}

std::string JsonReader::Text(const char* key) const {
  const Json* field = Find(key);
  if (field && field->is_string()) return field->get<std::string>();
  if (field) Fail(key, "is no string");
  return {};
}

std::vector<double> JsonReader::Numbers(const char* key) const {
  const Json* field = Find(key);
  if (!field) return {};
  if (!field->is_array() || field->size() > 4096) {
    Fail(key, "is no short array");
    return {};
  }
  std::vector<double> out;
  for (const Json& value : *field) {
    if (!value.is_number() || !std::isfinite(value.get<double>())) {
      Fail(key, "holds a value that is no finite number");
      return {};
    }
    out.push_back(value.get<double>());
  }
  return out;
}

JsonReader JsonReader::Object(const char* key) const {
  static const Json kEmpty = Json::object();
  const Json* field = Find(key);
  if (field && !field->is_object()) Fail(key, "is no object");
  return {field && field->is_object() ? *field : kEmpty, where_ + "." + key, error_};
}

bool JsonReader::Given(const char* key) const { return Has(key) && !json_.find(key)->is_null(); }

const Json* JsonReader::Find(const char* key) const {
  if (Has(key)) return &*json_.find(key);
  Fail(key, "is missing");
  return nullptr;
}

void JsonReader::Fail(const char* key, std::string_view what) const {
  if (error_.empty()) error_ = fmt::format("{}.{} {}", where_, key, what);
}

}  // namespace polyveil::model
